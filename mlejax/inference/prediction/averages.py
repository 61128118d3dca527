r"""Averages over rows of predictions, slopes and contrasts, with gradients with respect to theta and influence functions.

With m = sum_i w_i h_i(theta) / sum w, the delta method has Var m = G V G', G = dm/dtheta.  Where the rows are a sample too, the
influence of row i is

.. math:: \psi_i = w_i (h_i - m) / W + G A^{-1} s_i, \qquad Var\, m = \sum_g \psi_g \psi_g',

with W = sum w, A the information and s_i the scores; psi_g is the sum over a row or cluster g.  Both parts and their covariance
count, as in ``vce(unconditional)`` of Stata's ``margins``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.covariance import KINDS, CovarianceResult, summed_by_cluster
from mlejax.data.packing.layout import Layout
from mlejax.execution import compiled
from mlejax.fit import Fit
from mlejax.inference.covariances.covariances import covariance_of
from mlejax.inference.covariances.products_of_scores import cluster_codes, weighted_scores
from mlejax.inference.prediction.row_functions import InParts, evaluated_rows
from mlejax.inference.row_effects import ByRow
from mlejax.parameters import Predictor, Space, looked_up
from mlejax.shapes import Device, Either, Float, Host, Int, PyTree


class Average(NamedTuple):
    """One average over rows (a margin) at the estimates.

    Attributes:
        value: the average, a scalar.
        gradient: its gradient with respect to theta (p,).
        rows: the values that were averaged (n,).
        own: derivatives with respect to standardised errors (variance 1) of the effects of levels or units (k,); None if
            rows have no effects.
    """

    value: float
    gradient: Float[Host, " p"]
    rows: Float[Either, " n"]
    own: Float[Host, " k"] | None = None


@partial(compiled, static=("function", "predictors", "form", "layout", "space"))
def _predicted(
    function: Callable[..., Any], predictors: Sequence[Predictor], form: str, layout: Layout | None, space: Space,
    theta: Either, fixed: Either | None, made: PyTree, leaves: PyTree, shared: PyTree, weights: Either,
    effects: dict[str, Either], codes: dict[str, Either],
) -> PyTree:  # fmt: skip
    """Return ((mean, values (n,)), (gradient in theta (p,), derivatives in the rows' effects)) of a function of rows.

    Args:
        function, predictors, form, layout, made, leaves, shared: as in `InParts`.
        space, theta, fixed: parameters; estimates (p,); values of fixed entries, or None.
        weights: weights of the mean (n,), with sum 1.
        effects: name -> effects of the rows (n, ...), with respect to which derivatives are taken.
        codes: name -> level of each row, for effects that are coefficients in theta.
    """

    def mean(t: Device, own: dict[str, Device]) -> PyTree:
        params = space.params_from_theta(t, fixed)
        more = own | {name: looked_up(params[name], code) for name, code in codes.items()}
        rows = jnp.ravel(evaluated_rows(function, predictors, form, layout, params, made, leaves, shared, more))
        return weights @ rows, rows

    return jax.value_and_grad(mean, argnums=(0, 1), has_aux=True)(theta, effects)


@partial(compiled, static=("function", "predictors", "form", "layout", "space", "column", "elasticity"))
def _sloped(
    function: Callable[..., Any], predictors: Sequence[Predictor], form: str, layout: Layout | None, space: Space,
    column: int | None, elasticity: str | None,
    theta: Either, fixed: Either | None, made: PyTree, leaves: PyTree, shared: PyTree, weights: Either,
    effects: dict[str, Either], codes: dict[str, Either], moved: PyTree, x: Either,
) -> PyTree:  # fmt: skip
    """Return ((mean, slopes (n,)), (gradient in theta (p,), derivatives in the rows' effects)) of the slopes, or elasticities, of
    a function of rows in one column.

    Args (others as in `_predicted`):
        column: position of the column among ``leaves``; None if the function reads it through formulas only.
        elasticity: "eyex", "dyex", "eydx" or None, as in `margins`.
        moved: derivatives of the designs ``made`` with respect to the column.
        x: values of the column (n,).
    """
    leaves = tuple(a.astype(weights.dtype) if i == column else a for i, a in enumerate(leaves))
    still = lambda a: np.zeros(a.shape, a.dtype if jnp.issubdtype(a.dtype, jnp.floating) else jax.dtypes.float0)
    along = tuple(jnp.ones_like(a) if i == column else still(a) for i, a in enumerate(leaves))

    def mean(t: Device, own: dict[str, Device]) -> PyTree:
        params = space.params_from_theta(t, fixed)
        more = own | {name: looked_up(params[name], code) for name, code in codes.items()}
        rows = lambda m, a: jnp.ravel(evaluated_rows(function, predictors, form, layout, params, m, a, shared, more))
        y, slope = jax.jvp(rows, (made, leaves), (moved, along))
        slope = slope * x if elasticity in ("eyex", "dyex") else slope
        slope = slope / y if elasticity in ("eyex", "eydx") else slope
        return weights @ slope, slope

    return jax.value_and_grad(mean, argnums=(0, 1), has_aux=True)(theta, effects)


def predicted(fit: Fit, o: InParts, by_row: ByRow | None, weights: Float[Host, " n"]) -> Average:
    """Return the mean of a function over rows with ``weights`` that sum to 1.

    Args:
        fit: the fit, at whose estimates it is taken.
        o: the function, prepared for the rows.
        by_row: effects of the rows' levels or units, or None.
        weights: weights (n,).
    """
    statics = (o.function, o.predictors, o.form, o.layout, fit.spec.space)
    rows = (o.made, o.leaves, o.shared, weights, *_effects_of(by_row))
    return _average(_predicted(*statics, fit.theta, fit.fixed, *rows), by_row)


def sloped(
    fit: Fit,
    o: InParts,
    weights: Float[Host, " n"],
    name: str,
    x: Float[Host, " n"],
    moved: PyTree,
    elasticity: str | None,
    by_row: ByRow | None = None,
) -> Average:
    """Return the mean of slopes or elasticities of a function in the column ``name``, with ``weights`` that sum to 1.

    Args:
        fit, o, weights, by_row: as in `predicted`.
        name: name of the column.
        x: its values (n,).
        moved: derivatives of the designs with respect to it.
        elasticity: "eyex", "dyex", "eydx", or None for slopes.
    """
    statics = (o.function, o.predictors, o.form, o.layout, fit.spec.space, o.columns.get(name), elasticity)
    rows = (o.made, o.leaves, o.shared, weights, *_effects_of(by_row))
    return _average(_sloped(*statics, fit.theta, fit.fixed, *rows, moved, x), by_row)


def _effects_of(by_row: ByRow | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return two dicts, both empty without effects: name -> effects of the rows (n, ...), and name -> level of each row for
    effects that are coefficients in theta.
    """
    return ({}, {}) if by_row is None else (by_row.values, dict(by_row.codes))


def contrast(one: Average, other: Average) -> Average:
    """Return ``one`` minus ``other``, two averages over the same rows; ``own`` is None if one of them has none."""
    own = None if one.own is None or other.own is None else one.own - other.own
    return Average(one.value - other.value, one.gradient - other.gradient, one.rows - other.rows, own)


def _average(found: PyTree, by_row: ByRow | None) -> Average:
    """Return the `Average` from the result of `_predicted` or `_sloped`; the gradient includes the change of the rows'
    effects with theta (chain rule).
    """
    (value, rows), (gradient, by_effect) = found
    if by_row is None:
        return Average(float(value), np.asarray(gradient), rows)
    through, own = by_row.chained({name: np.asarray(a) for name, a in by_effect.items()})
    return Average(float(value), np.asarray(gradient) + through, rows, own)


def unconditional_covariance(
    fit: Fit, cov: CovarianceResult, found: Sequence[Average], rows: Sequence[Int[Host, " n"]], weights: Sequence[Any]
) -> Float[Host, "m m"]:
    """Return the covariance of margins (m, m) when the rows are a random sample too.

    Args:
        fit, cov: the fit and its sandwich covariance.
        found: the m margins.
        rows: for each margin, positions of the rows of the fit that it averages over.
        weights: for each margin, the weights of these rows, with sum 1.

    Raises:
        ValueError: the covariance is not HC0, HC1, stata or one-way cluster, or a parameter has no standard error.
    """
    if not KINDS[cov.kind].unadjusted_sandwich or len(cov.groups) > 1:
        raise ValueError(
            f"margins(unconditional=True) needs cov_type='HC0', 'HC1', 'stata' or one-way 'cluster', got {cov.kind!r}: write "
            "res.with_cov('HC0').margins(..., unconditional=True)"
        )
    bread = covariance_of(fit, "nonrobust" if fit.penalised is None else "bayes", {}).matrix
    if np.isnan(bread).any():
        raise ValueError(
            "margins(unconditional=True) needs standard errors of all parameters; res.tidy()['note'] says why one is missing: "
            "leave out unconditional="
        )
    loaded, scores = fit.loaded, weighted_scores(fit)
    influence = scores @ bread @ np.array([one.gradient for one in found]).T
    for j, (one, at, w) in enumerate(zip(found, rows, weights, strict=True)):
        units = at if loaded.unit_codes is None else loaded.unit_codes[at]
        np.add.at(influence[:, j], units, w * (np.asarray(one.rows) - one.value))
    parts = [influence, scores @ bread]
    used = loaded.weights
    if cov.groups:
        codes = cluster_codes(fit, cov.groups[0])
        parts = [summed_by_cluster(part if used is None else part[used.used], codes) for part in parts]
    elif used is not None and used.kind == "frequency":
        root = np.sqrt(np.where(used.used, used.values, 1.0))[:, None]
        parts = [part / root for part in parts]
    factor = np.trace(cov.matrix) / np.trace(parts[1].T @ parts[1])  # for small samples, as the fit's own
    return np.asarray(factor * parts[0].T @ parts[0])
