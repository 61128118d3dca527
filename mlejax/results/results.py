"""The frozen result of a fit: its doors to inference, a topic a class, and to reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from mlejax import files, misuse, plot, report
from mlejax.data import like
from mlejax.results.adapters import OtherNames
from mlejax.results.doors import reporting
from mlejax.results.doors.postestimation import Postestimation
from mlejax.results.doors.testing import Testing
from mlejax.shapes import Data

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@misuse.doors
@dataclass(frozen=True, eq=False, repr=False)
class Results(Postestimation, Testing, OtherNames):
    """Estimates with their covariance: what ``model.fit`` returns.

    Entries are labelled by addresses such as ``mu``, ``beta[2]`` or ``beta[age]``, on the natural scale; the
    log-likelihood is summed over contributions and maximised.

    Attributes:
        cov_type: the kind of covariance, ``"nonrobust"`` by default.
    """

    def summary(
        self,
        alpha: float = 0.05,
        *,
        eform: bool | Sequence[str] = False,
        rename: Mapping[str, str] | None = None,
        keep: str | Sequence[str] | None = None,
        drop: str | Sequence[str] = (),
        order: str | Sequence[str] = (),
        labels: Literal["address", "readable"] = "address",
        digits: int | None = None,
        show: Literal["se", "t", "ci"] | None = None,
        stars: bool = False,
        extra: Mapping[str, object] | None = None,
        null: bool = False,
        date: bool = False,
    ) -> report.Summary:
        """The table; prints as text and shows as HTML in notebooks.

        Args:
            alpha: one minus the coverage.
            eform: True shows exp(coefficient) of regressed parameters with a log, logit or softmax link (ratios of rates
                or scales, odds ratios, relative-risk ratios), intercepts included; or the addresses of coefficients
                to be shown so.  Standard errors are exp(coef) times those of the coefficient, intervals exp of its ends;
                z and p still test a coefficient of 0, a ratio of 1.
            rename: address -> what it is called.
            keep, drop: which rows: addresses, whole parameters (``"mu"``) or patterns (``"mu[C(size)*"``).
            order: rows that come first.
            labels: ``"readable"`` writes ``size: M`` for ``mu[C(size)[T.M]]``.
            digits: decimals of estimates, errors and limits; by default as many as the standard errors make meaningful.
            show: ``"se"`` (errors and p), ``"t"`` (statistics and p) or ``"ci"`` (intervals); all of them by default.
            stars: mark p < 0.05, 0.01 and 0.001.
            extra: further lines of the header, ``{"Region": "north"}``.
            null: compare with intercepts alone (McFadden's R2, likelihood ratio), and parameters whose support ends at 0 with 0
                (half of chi2(1)), each by one more fit.
            date: say when the table was made.

        Example:
            >>> import mlejax as mle
            >>> from jax.scipy.stats import norm
            >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
            ... def gaussian(params, data):
            ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
            >>> res = gaussian.regress(mu="C(g)").fit({"y": [1.0, 2.0, 6.0, 3.0], "g": list("aabb")})
            >>> [term.name for term in res.summary(keep="mu", labels="readable").terms]
            ['Intercept', 'g: b']
        """
        wanted = report.Presentation(rename or {}, keep, drop, order, labels, digits, show, stars)
        lines = {**(extra or {}), **({"Date": f"{datetime.now():%Y-%m-%d %H:%M}"} if date else {})}
        return reporting.summary(self._entries, alpha, eform, wanted, lines, null)

    def to_latex(
        self, alpha: float = 0.05, *, caption: str | None = None, label: str | None = None, **options: Any
    ) -> str:
        r"""The table for LaTeX's booktabs package; ``caption`` is the title by default, ``label`` is for ``\ref``.

        ``options`` are those of :meth:`summary`.
        """
        return self.summary(alpha, **options).to_latex(caption=caption, label=label)

    def to_markdown(self, alpha: float = 0.05, **options: Any) -> str:
        """The table as Markdown of GitHub's flavour; ``options`` are those of :meth:`summary`."""
        return self.summary(alpha, **options).to_markdown()

    def tidy(self, alpha: float = 0.05, *, exponentiate: bool | Sequence[str] = False) -> Data:
        """One row a term, broom's columns: term, estimate, std_error, statistic, p_value, conf_low, conf_high, note.

        ``exponentiate``: as ``eform`` of :meth:`summary`.

        Returns:
            A table of the kind that was fitted: of polars, pyarrow or DuckDB, else a pandas DataFrame.
        """
        return like(self._fit.loaded.source, report.tidy(reporting.terms(self._entries, alpha, exponentiate)))

    def glance(self) -> Data:
        """One row for the whole fit, a table of the kind that was fitted."""
        return like(self._fit.loaded.source, report.glance(reporting.glance(self._entries)))

    def plot(self, ax: Axes | None = None, *, alpha: float = 0.05, **options: Any) -> Axes:
        """The estimates with their intervals as a picture; arguments and returns as :func:`mlejax.plot.coefficients`."""
        return plot.coefficients(self, ax, alpha=alpha, **options)

    def save(self, path: files.PathLike) -> None:
        """Write the result to a plain file, which :func:`mlejax.load` reads on any machine, without data or model.

        A JSON document with a checksum (``docs/file-format.md``): estimates, covariance, information, verdict, labels, the
        text of formulas, versions; no code.  Of the data it holds a fingerprint, and for formulas the levels of categories
        and six rows, on which ``mle.load(path, model=reg)`` tries the formulas of your model.

        Args:
            path: a file there is replaced as a whole, once the new one is complete; its mode is kept and a symbolic link is
                followed.  Threads and processes may save to one path: one whole file is left.

        Raises:
            OSError: no such folder, no permission.
            FileError: something that a file cannot hold, such as more than 200,000 labels.

        Example:
            >>> import os, tempfile
            >>> import mlejax as mle
            >>> from jax.scipy.stats import norm
            >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
            ... def gaussian(params, data):
            ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
            >>> res = gaussian.fit({"y": [1.0, 2.0, 6.0, 3.0]})
            >>> path = os.path.join(tempfile.mkdtemp(), "gaussian.json")
            >>> res.save(path)
            >>> str(mle.load(path).summary()) == str(res.summary())
            True
        """
        self._refuse_effects("save", "pickle it, or save effects() as a table beside summary()")
        files.save(path, files.ResultParts(self._model.likelihood.name, self.cov_type, self._fit, self._cov))

    @property
    def saved_with(self) -> Mapping[str, str] | None:
        """Versions (mlejax, jax, numpy, formulaic, python) that made a loaded result; None for one made here."""
        known = self._fit.loaded.remembered
        return None if known is None else known.versions

    def __repr__(self) -> str:
        return f"<mlejax results of {self._model.likelihood.name}: {self.verdict.code}, llf = {self.llf:.6g}>"

    def _repr_html_(self) -> str:
        return self.summary().to_html()
