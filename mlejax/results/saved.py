"""Results from files, and beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlejax import files, misuse, report
from mlejax.likelihood import Likelihood
from mlejax.results.doors import reporting
from mlejax.results.results import Results
from mlejax.shapes import Data, Device, PyTree


@dataclass(frozen=True, eq=False, repr=False)
class SavedModel:
    """Stands where the model was, in a result that was loaded without one: its name and formulas, without its function.

    Attributes:
        likelihood: the declaration, as far as the file has it.
        endog_names, exog_names: as of any model of a result.
    """

    likelihood: Likelihood
    endog_names: str = ""
    exog_names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<mlejax model {self.likelihood.name}, from a file, without its function>"

    def __call__(self, params: PyTree, data: Data) -> Device:
        """AbsentError."""
        return self.likelihood.function(params, data)

    def fit(self, *_: object, **__: object) -> Device:
        """AbsentError."""
        return self.likelihood.function(None, None)


@misuse.door
def load(path: files.PathLike, *, model: Any = None) -> Results:
    """Read a result that :meth:`Results.save` wrote.  Nothing in the file is evaluated.

    Tables, intervals, tests, comparisons and ``nlcom`` work from the file alone.  Predictions for new data evaluate formulas,
    so they take your own model: ``mle.load(path, model=reg)``.  What evaluates the likelihood again (``score_obs``, sandwich
    covariances, ``subset_errors``) needs the data and says so.

    Args:
        path: the file.
        model: the model of the fit, as it was regressed; its formulas, parameters and supports must be those of the file.

    Returns:
        :class:`Results`; ``saved_with`` has the versions that made it.

    Raises:
        FileError: a foreign, damaged, truncated, oversized or newer file.
        ValueError: ``model`` has other formulas or parameters than the file; the message prints both.

    Example:
        >>> import os, tempfile
        >>> import mlejax as mle
        >>> from jax.scipy.stats import norm
        >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
        ... def gaussian(params, data):
        ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
        >>> reg = gaussian.regress(mu="x")
        >>> path = os.path.join(tempfile.mkdtemp(), "reg.json")
        >>> reg.fit({"y": [1.0, 2.0, 6.0, 3.0], "x": [0, 1, 2, 0]}).save(path)
        >>> round(float(mle.load(path, model=reg).predict({"x": [3]})["estimate"].iloc[0]), 4)
        7.0909
    """
    likelihood = getattr(model, "likelihood", None)
    if model is not None and not isinstance(likelihood, Likelihood):
        raise TypeError(f"mle.load(model=...) expected a model made by @mle.model, got a {type(model).__name__}")
    parts = files.load(path, likelihood)
    made = Results(model or SavedModel(parts.fit.spec.likelihood), parts.cov_type, parts.fit, parts.cov)
    try:
        str(made.summary())  # finds what no field shows by itself
    except Exception as error:
        raise files.FileError(f"{path}: the content is not a valid result ({type(error).__name__}: {error})") from None
    return made


@misuse.door
def compare(
    *results: Results,
    names: Sequence[str] | None = None,
    criteria: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
    keep: str | Sequence[str] | None = None,
    drop: str | Sequence[str] = (),
    order: str | Sequence[str] = (),
    labels: Literal["address", "readable"] = "address",
    digits: int | None = None,
    show: Literal["se", "t", "ci"] = "se",
    stars: bool = False,
    extra: Mapping[str, Sequence[object]] | None = None,
) -> report.Comparison:
    r"""Fits side by side: estimates with standard errors in parentheses, log-likelihoods, criteria, verdicts.

    AIC and BIC are left out, and the table says why, where the fits are of different data (numbers of rows, or
    sums and sums of squares of a column that two of them use), and for a fit whose log-likelihood was not maximised or
    is a pseudolikelihood. A fit that did not converge is marked with its verdict; where all did, verdicts are left out.

    Args:
        *results: two or more.
        names: heads of the columns; the models' names by default.
        criteria: any of ``"aic"``, ``"aicc"``, ``"bic"``, ``"hqic"``; by default AIC and BIC where they can be compared.
            ``()`` for none.
        rename, keep, drop, order, labels, digits, stars: as in :meth:`Results.summary`.
        show: what stands below an estimate: ``"se"``, ``"t"`` (statistics) or ``"ci"`` (intervals of 95 %).
        extra: further rows, ``{"Controls": ["no", "yes"]}``.

    Returns:
        :class:`mlejax.report.Comparison`: prints as text, shows as HTML; ``to_latex()``, ``to_markdown()``, ``tidy()``,
        ``glance()``, ``weights()``.

    Raises:
        ValueError: criteria asked for by name, but the fits are of different data.

    Example:
        >>> import mlejax as mle
        >>> from jax.scipy.stats import norm
        >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
        ... def gaussian(params, data):
        ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
        >>> data = {"y": [1.0, 2.0, 6.0, 3.0]}
        >>> both = mle.compare(gaussian.fit(data), gaussian.fit(data, fixed={"mu": 0.0}), names=["free", "at 0"])
        >>> print(both.glance()[["model", "df_model", "llf"]].round(3).to_string(index=False))
        model  df_model     llf
         free         2  -8.181
         at 0         1 -10.727
    """
    for i, result in enumerate(results):
        if not isinstance(result, Results):
            raise TypeError(
                f"compare takes results of fits, mle.compare(res1, res2), got {type(result).__name__} as number {i + 1}"
            )
    wanted = report.Presentation(rename or {}, keep, drop, order, labels, digits, show, stars)
    columns = [reporting.column(r._entries) for r in results]
    return report.compare(columns, names=names, criteria=criteria, presentation=wanted, extra=extra)
