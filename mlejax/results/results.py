"""The frozen result of a fit: all methods of its topics, and its tables and files."""

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
    """Estimates with their covariance, as returned by ``model.fit``.

    Entries are labelled by names such as ``mu``, ``beta[2]`` or ``beta[age]``, on the natural scale; the
    log-likelihood is a sum over rows or units.

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
        """Return the table of the fit; it prints as text and shows as HTML in notebooks.

        Args:
            alpha: one minus the coverage.
            eform: if True, show exp(coefficient) for formulas with a log, logit or softmax link (ratios of rates
                or scales, odds ratios, relative-risk ratios), intercepts included; or a list of the names of coefficients
                to exponentiate.  Standard errors are exp(coef) times those of the coefficient, intervals exp of its limits;
                z and p still test that the coefficient is 0 (the ratio 1).
            rename: dict from the name of an entry to the name that is shown.
            keep, drop: rows to show, or to leave out: names of entries, of whole parameters (``"mu"``) or patterns
                (``"mu[C(size)*"``).
            order: names of rows that come first.
            labels: ``"address"`` shows the names of entries; ``"readable"`` shows ``size: M`` for ``mu[C(size)[T.M]]``.
            digits: decimals of estimates, errors and limits; by default chosen by the size of the standard errors.
            show: ``"se"`` (errors and p), ``"t"`` (statistics and p) or ``"ci"`` (intervals); all of them by default.
            stars: if True, mark p < 0.05, 0.01 and 0.001 by stars.
            extra: further lines of the header, ``{"Region": "north"}``.
            null: if True, a model with formulas is also fitted with intercepts alone (McFadden's R2, likelihood-ratio test), and
                any model with the value 0 for each parameter of one entry whose support ends at 0 and includes it
                (likelihood-ratio test by half of chi2(1), unless another parameter is at a bound).  Where the fit allows no such
                test, a note says why.
            date: if True, the header has the date and time of the table.

        Raises:
            ValueError: an option names a row that the table does not have; ``eform=True`` without such a formula, or a
                coefficient to exponentiate that is not on a log scale; or ``alpha`` is not in (0, 0.5].

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
        r"""Return the table for LaTeX's booktabs package; ``caption`` is the title by default, ``label`` is for ``\ref``.

        ``alpha`` and ``options`` are those of :meth:`summary`, and so are the errors; ValueError also for a ``label`` with
        characters that LaTeX does not allow there.
        """
        return self.summary(alpha, **options).to_latex(caption=caption, label=label)

    def to_markdown(self, alpha: float = 0.05, **options: Any) -> str:
        """Return the table in GitHub's Markdown; arguments and errors are those of :meth:`summary`."""
        return self.summary(alpha, **options).to_markdown()

    def tidy(self, alpha: float = 0.05, *, exponentiate: bool | Sequence[str] = False) -> Data:
        """Return one row per parameter entry, with the columns term, estimate, std_error, statistic, p_value, conf_low,
        conf_high (as in R's broom) and note.

        A number that does not exist is NaN, and ``note`` says why.  Without a note, statistic and p_value are NaN where 0 is not
        an interior point of the entry's support (a standard deviation).
        ``alpha`` is one minus the coverage; ``exponentiate`` is as ``eform`` of :meth:`summary`.

        Returns:
            A polars, pyarrow or DuckDB table if the data were one, otherwise a pandas DataFrame.

        Raises:
            ValueError: ``alpha`` is not above 0 and at most 0.5, or as :meth:`summary` because of ``exponentiate``.
        """
        return like(self._fit.loaded.source, report.tidy(reporting.terms(self._entries, alpha, exponentiate)))

    def glance(self) -> Data:
        """Return one row with the properties of the whole fit, in a table of the same kind as the data: nobs, n_units,
        df_model, llf, aic, bic (missing where they are not defined), converged, verdict, n_steps, cov_type.
        """
        return like(self._fit.loaded.source, report.glance(reporting.glance(self._entries)))

    def plot(self, ax: Axes | None = None, *, alpha: float = 0.05, **options: Any) -> Axes:
        """Plot the estimates with their confidence intervals; arguments and return value as for
        :func:`mlejax.plot.coefficients`.
        """
        return plot.coefficients(self, ax, alpha=alpha, **options)

    def save(self, path: files.PathLike) -> None:
        """Write the result to a file that :func:`mlejax.load` reads on any machine, without the data or the model.

        The file is a JSON document with a checksum (``docs/file-format.md``): estimates, covariance, information, verdict,
        labels, formulas as strings, versions; no code.  Of the data it holds a fingerprint, and for formulas the levels of
        categories and six rows, by which ``mle.load(path, model=reg)`` checks the formulas of the model.

        Args:
            path: an existing file is replaced only when the new one is complete; its mode is kept and a symbolic link is
                followed.  Threads and processes may save to the same path: one complete file remains.

        Raises:
            OSError: the folder does not exist, there is no permission, or the path is not that of a file.
            FileError: the result exceeds the limits of a file, such as 200,000 labels, or has effects of ``mle.Real(by=...)``
                whose levels are neither strings nor numbers.

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
        files.save(path, files.ResultParts(self._model.likelihood.name, self.cov_type, self._fit, self._cov))

    @property
    def saved_with(self) -> Mapping[str, str] | None:
        """Versions of mlejax, jax, numpy, formulaic and python that made a loaded result; None for a result of this
        session.
        """
        known = self._fit.loaded.remembered
        return None if known is None else known.versions

    def __repr__(self) -> str:
        unbounded = self.verdict.code == "no_finite_maximum" and self.verdict.supremum is None
        known = "rises without bound" if unbounded else f"= {self.llf:.6g}"
        return f"<mlejax results of {self._model.likelihood.name}: {self.verdict.code}, llf {known}>"

    def _repr_html_(self) -> str:
        return self.summary().to_html()
