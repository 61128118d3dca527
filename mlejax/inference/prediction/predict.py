"""Predictions for rows with delta-method standard errors: parameters with a formula, or any function of params and data.

For a parameter with linear predictor eta = x' beta + offset and value g^-1(eta),

    se(value) = |d g^-1 / d eta| se(eta),    interval = g^-1( eta -+ z se(eta) ),

so that intervals stay inside the support; intervals of a simplex's entries are computed on the logit scale of each entry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import jax
import numpy as np

from mlejax import data as data_room
from mlejax.companions import companion
from mlejax.covariance import CovarianceResult, Factored
from mlejax.data.formulas import Design, Designs
from mlejax.execution import evaluated, float64
from mlejax.fit import Fit
from mlejax.inference.checking.last_layer import last_layer_of
from mlejax.inference.effect_errors import EffectErrors, effect_errors, why_without
from mlejax.inference.intervals import DeltaResult, confidence_intervals, nlcom
from mlejax.inference.normal import critical_value
from mlejax.inference.prediction.latents import over_latents
from mlejax.inference.prediction.row_functions import ParamsAt, check_arguments, of_theta
from mlejax.inference.row_effects import ByRow, Random, RowModes, check_random, row_effects
from mlejax.inference.tables.effect_estimates import RowEffects
from mlejax.parameters import Link
from mlejax.shapes import Data
from mlejax.transforms import Log, Logit

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ["estimate", "std_error", "conf_low", "conf_high"]


def predict(
    fit: Fit,
    cov: CovarianceResult,
    function: Callable[..., Any] | str | Data = None,
    data: Data = None,
    *,
    param: str | None = None,
    scale: Literal["natural", "link"] = "natural",
    support: tuple[float | None, float | None] | None = None,
    random: Random = "integrate",
    errors: Literal["all", "last-layer"] = "all",
    layer: str | Sequence[str] | None = None,
    damping: float = 0.0,
    alpha: float = 0.05,
    reason: str = "",
) -> Data:
    """Predict for the rows of new data, with delta-method standard errors.

    ``res.predict(data)`` predicts the value of a parameter with a formula, ``link^-1(x beta + offset)``, with the transforms
    and levels of the fit; ``res.predict(f, data)`` any function of params and data, in which parameters with a formula
    have one value for each row, as in the log-likelihood.

    Args:
        function: ``f(params, data)`` -> (n,), for instance the mean that the model implies; pure JAX.  ``"mean"`` or
            ``"cdf"``: the function declared by :meth:`Model.mean` or :meth:`Model.cdf`.  If left out, the first argument is
            the data.  In models with random effects the function may read these.
        data: a dict of arrays or a table of any kind; offsets and exposures are read from it too.
        param: name of the parameter with a formula to predict, if there are several.
        scale: ``"natural"``, or ``"link"`` for linear predictors.
        support: lower and upper bound of the values of ``f``, None for no bound: ``(0, 1)`` for a probability, ``(0, None)``
            for a mean of counts.  Intervals are computed on the logit or log scale and mapped back, so that they stay inside;
            without it, they are estimate -+ z times the standard error (t, if the covariance has degrees of freedom).
        random: for models with random effects: ``"integrate"`` averages over their distribution, which predicts for new
            units; ``"mode"`` uses the modes of the effects of units in the fit, with their conditional variance in the
            standard errors; ``"zero"`` uses effects of 0.
        errors: ``"all"``, or ``"last-layer"`` for neural networks: errors from the parameters of the last layer given all
            others (Laplace's approximation).
        layer: names of the parameters of that layer; by default the subtree that holds the last array of the last
            ``mle.Free``.
        damping: a ridge added to the information of that layer, which is often singular without it.
        alpha: one minus the coverage.

    Returns:
        Table of the same kind as ``data`` with one row for each of its rows (and each entry of a vector); columns ``estimate``,
        ``std_error``, ``conf_low``, ``conf_high``, and ``note`` if a standard error or a limit is missing (NaN).  The limits are
        confidence limits of the predicted quantity, for parameters computed on the link scale.

    Raises:
        DataError: a level, or with ``random="mode"`` a unit, that was not in the data of the fit, or missing values.
        MissingColumnError: the data lack a column that is read.
        ValueError: a prediction is outside of ``support``; another value of an option; several parameters have a formula and
            ``param`` names none of them, or it names one without; ``random="mode"`` with random effects of several grouping
            columns; or a last layer without errors (as in `subset_errors`).
        TypeError: no data; no function, and no parameter has a formula; or options that belong to the other kind of call.
        CompanionError: ``"mean"`` or ``"cdf"`` is not declared.

    Example:
        >>> import mlejax as mle
        >>> from jax.scipy.stats import norm
        >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
        ... def gaussian(params, data):
        ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
        >>> res = gaussian.regress(mu="x").fit({"y": [1.0, 2.0, 6.0, 3.0], "x": [0, 1, 2, 0]})
        >>> round(float(res.predict({"x": [3]})["estimate"].iloc[0]), 4)
        7.0909
        >>> above = lambda params, data: norm.sf(4.0, params["mu"], params["sigma"])
        >>> res.predict(above, {"x": [0, 2]}, support=(0, 1)).round(3)
           estimate  std_error  conf_low  conf_high
        0     0.016      0.041     0.000      0.718
        1     0.875      0.204     0.153      0.996
    """
    if not callable(function) and not (isinstance(function, str) and function in ("mean", "cdf")) and data is None:
        function, data = None, function
    likelihood, designs = fit.spec.likelihood, fit.loaded.designs
    data = None if data is None else data_room.with_observed(data_room.ingest(data), likelihood.open_columns)
    if isinstance(function, str):
        if function not in ("mean", "cdf"):
            raise ValueError(
                f"predict expected a function of params and data, 'mean' or 'cdf', got {function!r}; for the values of a "
                f"parameter with a formula write res.predict(data, param={function!r})"
            )
        function = companion(likelihood, function, f"predict({function!r}, data)")
    elif function is not None:
        check_arguments(function, "predict")
    if data is None:
        raise TypeError("predict expected new data: res.predict(data), or res.predict(f, data) for a function f")
    options: dict[str, Any] = {"alpha": alpha, "reason": reason, "df": cov.df}
    if fit.loaded.effects is not None:
        options["own"] = effect_errors(fit, cov) or why_without(fit, cov.kind)
    if errors == "last-layer":
        known = last_layer_of(fit, layer, damping)
        at, options["reason"] = (data, known.params_at, known.theta, known.cov), ""
    elif errors == "all" and layer is None and not damping:
        at = (data, lambda theta: fit.spec.space.params_from_theta(theta, fit.fixed), fit.theta, cov.full)
    elif errors == "all":
        raise ValueError("predict: layer= and damping= need errors='last-layer'; give that, or leave them out")
    else:
        raise ValueError(f"errors={errors!r}: expected 'all' or 'last-layer'")
    if function is not None:
        if param is not None or scale != "natural":
            raise TypeError("predict: param= and scale= are for res.predict(data); leave them out when you give a function")
        function, by_row = over_latents(function, likelihood, random), row_effects(fit, data, random)
        return data_room.like(data, predict_function(function, *at, designs, by_row=by_row, support=support, **options))
    if support is not None:
        raise TypeError("predict: support= is for functions; leave it out, the link of a parameter has its support already")
    if designs is None:
        raise TypeError(
            f"predict: {likelihood.name} has no parameter with a formula, so give a function to predict: "
            "res.predict(lambda params, data: ..., data), or res.predict('mean', data) if the model declares its mean"
        )
    check_random(random, likelihood)
    return data_room.like(data, _of_parameter(fit, _design_of(designs, param), designs, at, scale, random, options))


def _of_parameter(
    fit: Fit,
    design: Design,
    designs: Designs,
    at: tuple[Any, Any, Any, Any],
    scale: Literal["natural", "link"],
    random: Random,
    options: Mapping[str, Any],
) -> pd.DataFrame:
    """Return predictions of a parameter with a formula for new data.

    Args:
        fit: the fit.
        design: design of the parameter.
        designs: designs of all parameters with a formula.
        at: data, function from theta to params, theta and its covariance.
        scale: ``"natural"`` or ``"link"``.
        random: random coefficients in the formula are averaged over ("integrate"), at their modes ("mode") or 0 ("zero").
        options: ``alpha``, ``reason``, ``df`` and, if the model has effects of levels, ``own`` of `predict_function`.
    """
    p, linear = design.predictor, scale == "link"
    if not design.random or random == "zero" or (linear and random == "integrate"):
        return predict_parameter(design, *at, designs, scale=scale, **options)
    value = lambda params, data: p.link.link(params[p.name]) if linear else params[p.name]
    function = over_latents(value, fit.spec.likelihood, random)
    by_row = row_effects(fit, at[0], random)
    support = None if linear else p.link.support
    return predict_function(function, *at, designs, by_row=by_row, support=support, **options)


def predict_function(
    function: Callable[[Any, Any], Any],
    data: Data,
    params_at: ParamsAt,
    theta: np.ndarray,
    cov: np.ndarray | Factored,
    designs: Designs | None,
    *,
    alpha: float = 0.05,
    reason: str = "",
    df: float = np.inf,
    by_row: ByRow | None = None,
    own: EffectErrors | str = "",
    support: tuple[float | None, float | None] | None = None,
) -> pd.DataFrame:
    """Return ``function(params, data)`` at the estimates with standard errors, one row for each value that it returns.

    Args:
        function: ``f(params, data)``; parameters with a formula have one value for each row, as in the log-likelihood.
        data: new data; with the columns of the formulas, if there are any.
        params_at: function from theta (p,) to params, which hold coefficients.
        theta, cov: estimates (p,) and their covariance (p, p).
        designs: designs of the parameters with a formula, or None.
        alpha: one minus the coverage.
        reason: why there is no covariance, if there is none.
        df: degrees of freedom of Student's t, inf for the normal distribution.
        by_row: effects of the rows' levels (``mle.Real(by=...)``) or units (random effects at their modes), or None.
        own: how effects of levels vary together with theta, or why there are no standard errors with them.
        support: lower and upper bound of the function's values, None for no bound; or None.

    Returns:
        Columns ``estimate``, ``std_error``, ``conf_low``, ``conf_high``, and ``note`` if one of them is missing; the index of
        the data if the function returns one value for each row.

    Raises:
        ValueError: ``support`` is not two bounds in order, a value is outside of it, ``alpha`` is not above 0 and at most 0.5,
            or, with effects of levels, the function does not return the same number of values for each row.
        TypeError: the function does not return numbers, or JAX cannot differentiate it.
    """
    with float64():
        if by_row is None:
            made = of_theta(function, data, params_at, theta, designs)
            found = nlcom(made, theta, cov, alpha=alpha, reason=reason, df=df)
            return _table(inside_support(found, support), data)
        k = by_row.n_more
        extended = np.append(theta, np.zeros(k))
        one = of_theta(function, data, lambda t: params_at(t[:-k]), extended, designs, by_row.at)
        wide = np.pad(np.asarray(cov), (0, k))
        if isinstance(by_row, RowEffects) and isinstance(own, str):
            wide, reason = np.full_like(wide, np.nan), reason or own
        if isinstance(by_row, RowModes):
            wide[-k:, -k:] = np.eye(k)
        found = nlcom(one, extended, wide, alpha=alpha, reason=reason, df=df)
    if isinstance(by_row, RowEffects) and isinstance(own, EffectErrors):
        found = by_row.with_own_variance(found, alpha, own)
    return _table(inside_support(found, support), data)


def inside_support(found: DeltaResult, support: tuple[float | None, float | None] | None) -> DeltaResult:
    """Return ``found`` with the intervals computed on the log scale (one bound) or logit scale (two bounds) of ``support``;
    unchanged if ``support`` is None or has no bound.

    Raises:
        ValueError: ``support`` is not two bounds in order, or a value is outside of them.
    """
    if support is None:
        return found
    wrong = f"support={support!r}: expected two numbers or None, the first below the second, as (0, 1) or (0, None)"
    try:
        lower, upper = (end if x is None else float(x) for x, end in zip(support, (-np.inf, np.inf), strict=True))
    except (TypeError, ValueError):
        raise ValueError(wrong) from None
    if not lower < upper:
        raise ValueError(wrong)
    if np.isinf([lower, upper]).all():
        return found
    outside = np.flatnonzero((found.params < lower) | (found.params > upper))
    if outside.size:
        i = int(outside[0])
        raise ValueError(
            f"support={support!r}: value {i} of the function is {found.params[i]:.6g}, which is outside; correct "
            "the function, or leave out support="
        )
    one_sided = np.isinf(lower) or np.isinf(upper)
    sign = -1.0 if np.isinf(lower) else 1.0
    bound = (upper if sign < 0 else lower) if one_sided else 0.0  # values are bound + sign * something positive
    link = Log() if one_sided else Logit(lower, upper)
    made = confidence_intervals(
        sign * (found.params - bound), found.bse, links=[link] * found.params.size, alpha=found.alpha, df=found.df
    )
    ends = [bound + sign * made.low, bound + sign * made.high]
    notes = tuple(old or new for old, new in zip(found.notes, made.notes, strict=True))
    return replace(found, conf_low=np.minimum(*ends), conf_high=np.maximum(*ends), notes=notes)


def _design_of(designs: Designs, name: str | None) -> Design:
    """Return the design of the parameter ``name``; None: of the only parameter with a formula.

    Raises:
        ValueError: several parameters have a formula, or that one has none.
    """
    names = [d.predictor.name for d in designs.designs]
    if name is None and len(names) > 1:
        choices = " or ".join(f"param={name!r}" for name in names)
        raise ValueError(f"predict: several parameters have a formula; choose one: {choices}")
    wanted = names[0] if name is None else name
    if wanted not in names:
        raise ValueError(f"predict: param={wanted!r} has no formula; choose one that has: {', '.join(names)}")
    return designs.designs[names.index(wanted)]


def predict_parameter(
    design: Design,
    data: Data,
    params_at: ParamsAt,
    theta: np.ndarray,
    cov: np.ndarray | Factored,
    designs: Designs,
    *,
    scale: str = "natural",
    alpha: float = 0.05,
    reason: str = "",
    df: float = np.inf,
) -> pd.DataFrame:
    """Return a parameter with a formula for every row of new data: columns ``estimate``, ``std_error``, ``conf_low``,
    ``conf_high``, and ``note`` if one of them is missing.

    ``scale="link"`` returns linear predictors; ValueError: another scale.  Limits are those of the linear predictor, transformed
    (softmax: of each probability's logit).  A vector or simplex parameter has one line for each row and entry (on the link scale
    without the baseline of a simplex).  ``design``: that of the parameter; others as in :func:`predict_function`.
    """
    if scale not in ("natural", "link"):
        raise ValueError(f"scale={scale!r}: expected 'natural' or 'link'")
    p, source = design.predictor, data_room.ingest(data)
    wanted = p.name
    with float64():
        matrix, offset = design.again(source, None)[:2]
        options: dict[str, Any] = {"alpha": alpha, "reason": reason, "df": df}
        linear = nlcom(lambda t: p.linear_predictor(params_at(t)[wanted], matrix, offset), theta, cov, **options)
        n = len(matrix)
        leaf = next(leaf for leaf in designs.natural.leaves if leaf.name == wanted)
        if scale == "link":
            labels = leaf.entry_labels if leaf.shape else ()
            if p.link.name == "softmax":
                last = np.arange(leaf.size).reshape(leaf.shape) % leaf.shape[-1]
                labels = tuple(x for x, j in zip(labels, last.ravel(), strict=True) if j != p.link.baseline)
            return _table(linear, data, n, labels)
        found = nlcom(lambda t: p.value(params_at(t)[wanted], matrix, offset), theta, cov, **options)
        low, high = _limits(p.link, found, linear, alpha)
    table = _table(found, data, n, leaf.entry_labels if leaf.shape else ())
    table["conf_low"], table["conf_high"] = low, high
    return table


def _limits(link: Link, found: DeltaResult, linear: DeltaResult, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Return lower and upper limits of the values of a parameter: those of the linear predictor, transformed by the inverse link;
    for a softmax link those of each probability's logit, NaN at 0 and 1.

    ``found``: the values and their errors; ``linear``: the linear predictors and theirs.
    """
    z = critical_value(alpha, found.df)
    if link.name == "softmax":
        p, error = found.params, found.bse
        with np.errstate(all="ignore"):
            center, reach = np.log(p) - np.log1p(-p), z * error / (p * (1.0 - p))
        return _expit(center - reach), _expit(center + reach)
    ends = [evaluated(link.inverse, linear.params + s * z * linear.bse) for s in (-1.0, 1.0)]
    return np.minimum(*ends), np.maximum(*ends)


def _expit(x: np.ndarray) -> np.ndarray:
    return np.asarray(jax.nn.sigmoid(x))


def _table(found: DeltaResult, data: Data, n: int | None = None, labels: Sequence[str] = ()) -> pd.DataFrame:
    """Return the estimates with standard errors as a DataFrame.

    It has a column ``note``, which says why a number is missing, only if one is.  The index is that of a pandas DataFrame
    ``data`` if there is one value for each of its rows; with the ``labels`` of k entries for each of n rows, it has two
    levels, row and entry.
    """
    import pandas as pd

    table = found.frame()
    missing = np.isnan(found.bse).any() or np.isnan(found.conf_low).any()
    columns = [*_COLUMNS, "note"] if missing else _COLUMNS
    out = table[columns].reset_index(drop=True)
    raw = data.raw if isinstance(data, data_room.Table) else data
    index = raw.index if hasattr(raw, "index") and hasattr(raw, "iloc") else None
    if labels and n is not None:
        rows = index if index is not None else pd.RangeIndex(n)
        out.index = pd.MultiIndex.from_product([rows, list(labels)], names=[getattr(rows, "name", None), "entry"])
    elif index is not None and len(index) == len(out):
        out.index = index
    return out
