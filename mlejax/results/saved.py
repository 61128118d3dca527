"""Results loaded from files, and comparisons of results."""

from __future__ import annotations

import os
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
    """The model of a result that was loaded without it: its name and formulas, but not its function.

    Attributes:
        likelihood: the declaration, as far as it is in the file; its function raises AbsentError.
        endog_names, exog_names: names of the outcome and of the estimates.
    """

    likelihood: Likelihood
    endog_names: str = ""
    exog_names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<mlejax model {self.likelihood.name}, from a file, without its function>"

    def __call__(self, params: PyTree, data: Data) -> Device:
        """Raise AbsentError: the file does not contain the function."""
        return self.likelihood.function(params, data)

    def fit(self, *_: object, **__: object) -> Device:
        """Raise AbsentError: the file does not contain the function."""
        return self.likelihood.function(None, None)


@misuse.door
def load(path: files.PathLike, *, model: Any = None) -> Results:
    """Read a result that :meth:`Results.save` wrote.  No code in the file is run.

    Tables, intervals, tests, comparisons and ``nlcom`` need only the file.  Predictions for new data evaluate formulas,
    so they need the model: ``mle.load(path, model=reg)``.  Methods that evaluate the likelihood again (``score_obs``, sandwich
    covariances, ``subset_errors``) need the data and raise an error.

    Args:
        path: the file.
        model: the model of the fit, with its formulas; formulas, parameters, supports, ``rowwise=`` and ``unit=`` must be those
            of the file.

    Returns:
        :class:`Results`; its ``saved_with`` has the versions that made it.

    Raises:
        FileError: the file is not one of mlejax, is damaged, truncated or too large, or was written by a newer version; or
            ``model`` differs from that of the file (the message prints both), or its formulas give other values for the rows in
            the file.  FileError is a ValueError.
        TypeError: ``model`` is not a model.
        OSError: the file cannot be read.

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
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"mle.load expected the path of a file, got {path!r:.60}")
    likelihood = getattr(model, "likelihood", None)
    if model is not None and not isinstance(likelihood, Likelihood):
        raise TypeError(f"mle.load(model=...) expected a model made by @mle.model, got a {type(model).__name__}")
    parts = files.load(path, likelihood)
    made = Results(model or SavedModel(parts.fit.spec.likelihood), parts.cov_type, parts.fit, parts.cov)
    try:
        str(made.summary())  # finds what no field shows by itself
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise files.FileError(f"{path}: the content is not a valid result ({said}); save it again") from None
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
    r"""Return a table of fits side by side: estimates with standard errors in parentheses, log-likelihoods, criteria,
    verdicts.

    AIC and BIC are left out, with the reason, if the fits have different data (numbers of rows, or
    sums and sums of squares of a column that two of them use), and for a fit whose log-likelihood was not maximised or
    is a pseudolikelihood; a penalised fit has AIC only. Verdicts are shown if one of them is not ``verified``.

    Args:
        *results: two or more results.
        names: column headings; the models' names by default.
        criteria: any of ``"aic"``, ``"aicc"``, ``"bic"``, ``"hqic"``; by default AIC and BIC if they can be compared.
            ``()`` for none.
        rename, keep, drop, order, labels, digits, stars: as in :meth:`Results.summary`.
        show: numbers shown below an estimate: ``"se"``, ``"t"`` (statistics) or ``"ci"`` (95 % intervals).
        extra: further rows, ``{"Controls": ["no", "yes"]}``.

    Returns:
        :class:`mlejax.report.Comparison`: prints as text, shows as HTML; ``to_latex()``, ``to_markdown()``, ``tidy()``,
        ``glance()``, ``weights()``.

    Raises:
        ValueError: ``criteria`` is given, but the fits have different data; fewer than two results; or an option is not valid.
        TypeError: an argument is not the result of a fit.

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
                f"compare expected results of fits, mle.compare(res1, res2), got {type(result).__name__} as argument {i + 1}"
            )
    wanted = report.Presentation(rename or {}, keep, drop, order, labels, digits, show, stars)
    columns = [reporting.column(r._entries) for r in results]
    return report.compare(columns, names=names, criteria=criteria, presentation=wanted, extra=extra)
