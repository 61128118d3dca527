"""Error bars of log-likelihood, score and information: bounds of the rounding errors of the user's formula.

The weighted sum over a sample of rows, its gradient and its Hessian are traced once for a structure of data, and run with a
first-order bound of their rounding (`mlejax.execution.trace.rounding`).  The bound of the log-likelihood alone is not enough:
when a negative binomial loses digits, its log-likelihood is right to 1e-7 while its score is wrong by 50.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.data import Prepared, blocks
from mlejax.execution import cached
from mlejax.execution.trace.jaxprs import Closed
from mlejax.execution.trace.rounding.adjoint_rounding import AdjointBound
from mlejax.execution.trace.rounding.forward_rounding import RunningBound
from mlejax.execution.trace.rounding.rounding_rules import sum_units
from mlejax.objective import derivatives
from mlejax.objective.objective import Objective
from mlejax.objective.sampling import sample_of_one
from mlejax.objective.specification import Spec
from mlejax.shapes import Either, Float, Host, Int, PyTree

__all__ = ["MOST_ROWS", "ErrorBars", "Unknown", "error_bars", "loglik_bar"]

MOST_ROWS = 512  # most rows that are evaluated with bounds
FORWARD_NUMBERS = 1 << 21  # rows times squared parameters, most that are differentiated twice forward
MOST_WHOLE = 20_000  # most terms of a model with rowwise=False, of which no sample can be taken


class ErrorBars(NamedTuple):
    """Bounds of the absolute rounding errors of sums over all rows, in log-likelihood units, without penalty.

    Attributes:
        loglik: bound for the log-likelihood.
        score: bounds for its gradient in u (p,).
        information: bounds for minus its Hessian in u (p, p).

    A bound is inf if the value itself is not finite.
    """

    loglik: float
    score: Float[Host, " p"]
    information: Float[Host, "p p"]


class Unknown(NamedTuple):
    """The rounding error is not known.

    Attributes:
        primitives: names of JAX primitives without a rule for bounds, such as ``"scan"``; empty for a model with
            ``rowwise=False`` that has too many terms, and where a derivative is not a number.
    """

    primitives: tuple[str, ...]


def error_bars(
    spec: Spec,
    data: Prepared,
    u: Float[Either, " p"],
    fixed: Any,
    rows: Int[Host, " m"] | None = None,
    n_rows: int | None = None,
) -> ErrorBars | Unknown:
    """Return error bars at u, for the sums over all rows.

    Args:
        spec: the likelihood and its parameters.
        data: one data set on the host.
        u: the point (p,).
        fixed: values under ``fixed=``, or None.
        rows: numbers of rows (or units) that must be in the sample, such as those of the largest terms.  Of more than 512 rows
            (fewer for long units) a sample is evaluated; its other rows are spread evenly and weighted to represent all rows.
        n_rows: number of all rows, if ``data`` is a sample that represents them; default: the number of rows of ``data``.

    Raises:
        TypeError: keys of random numbers among the constants of the function.
        NotImplementedError: JAX has no second derivative.
    """
    if data.mode == "whole" and data.n_padded > MOST_WHOLE:
        return Unknown(())
    sample = _sample(data, rows, spec.space.n_free if spec.space.mapped else 1)
    program = _program(spec, sample, fixed)
    if program.unknown:
        return Unknown(program.unknown)
    result = program(_arguments(sample, u, fixed), _row_units(data, n_rows))
    value, score, *more = (
        np.where(np.isfinite(out) & ~np.isnan(bar), bar, np.inf)
        for out, bar in zip(result.outputs, result.bounds, strict=True)
    )
    information = more[0] if more else _of_differences(score, np.asarray(u))
    return ErrorBars(float(value), score, np.maximum(information, information.T))


def loglik_bar(
    spec: Spec,
    data: Prepared,
    u: Float[Either, " p"],
    fixed: Any,
    rows: Int[Host, " m"] | None = None,
    n_rows: int | None = None,
) -> float | Unknown:
    """Return the error bar of the log-likelihood alone, from one reverse pass, inf if the log-likelihood is not finite; supports
    recursions, factorisations and solves too.

    The first call compiles a program.  Arguments are those of `error_bars`.
    """
    if data.mode == "whole" and data.n_padded > MOST_WHOLE:
        return Unknown(())
    sample = _sample(data, rows, 1)
    key = ("rounding of the value", *_structure(spec, sample, fixed))
    program = cached(spec.likelihood, key, lambda: AdjointBound(_traced(spec.plain, sample, fixed, 0), sample.n_padded))
    if program.unknown:
        return Unknown(program.unknown)
    value, bar = program(_arguments(sample, u, fixed), _row_units(data, n_rows))
    if np.isfinite(value) and np.isnan(bar):  # by a branch of jnp.where that is not used: it says nothing of the value
        return Unknown(())
    return bar if np.isfinite(value) and np.isfinite(bar) else np.inf


def _arguments(sample: Prepared, u: Either, fixed: Any) -> list[Any]:
    point = [np.asarray(u, np.float64)] if fixed is None else [np.asarray(u, np.float64), np.asarray(fixed)]
    return [*point, *sample.rows, *sample.shared, sample.weights]


def _row_units(data: Prepared, n_rows: int | None = None) -> float | None:
    """Return the rounding error, in units of 2**-53 of the sum of the absolute terms, of a sum over all rows (``n_rows``; None:
    those of ``data``) that is taken block by block; None for a model of the whole data.
    """
    n_blocks, size = (data.n_blocks, data.block) if n_rows is None else blocks(n_rows)
    return None if data.mode == "whole" else sum_units(size) + n_blocks


def _of_differences(score: Float[Host, " p"], u: Float[Host, " p"]) -> Float[Host, "p p"]:
    """Return the error bars of a Hessian by `derivatives.differenced`, which adds scores with weights of total 18 / (12 h).

    ``score``: error bars of the score at u, (p,).
    """
    h = 1e-3 * np.maximum(1.0, np.abs(u))
    return 1.5 * score[None, :] / h[:, None]


def _structure(spec: Spec, sample: Prepared, fixed: Any) -> tuple[Any, ...]:
    arrays = [*sample.rows, *sample.shared, sample.weights]
    shapes = tuple((np.shape(a), np.result_type(a)) for a in arrays)
    return spec.space, sample.statics, sample.mode, np.shape(fixed), shapes


def _program(spec: Spec, sample: Prepared, fixed: Any) -> RunningBound:
    """Return the program of the bounds for value, gradient and (if JAX has second derivatives) Hessian of the weighted sum over
    the rows of ``sample``, without the penalty.
    """
    order = 1 if spec.hessian == "differenced" else 2
    key = ("rounding", order, *_structure(spec, sample, fixed))
    return cached(
        spec.likelihood, key, lambda: RunningBound(_traced(spec.plain, sample, fixed, order), sample.n_padded)
    )


def _traced(spec: Spec, sample: Prepared, fixed: Any, order: int) -> Closed:
    """Return the closed jaxpr of the weighted sum over the rows of ``sample`` and its derivatives in u up to an order, 0 to 2."""

    def sums(u: Either, fixed: Any, rows: PyTree, shared: PyTree, weights: Either) -> tuple[Any, ...]:
        data = replace(sample, rows=rows, shared=shared, weights=weights)
        loglik = Objective(spec, data, fixed, None, 1.0).loglik
        if order == 0:
            return (loglik(u),)
        if spec.space.mapped:  # forward, so that a column far from 0 is centred row by row, before bounds are added up
            once = jax.jacfwd(loglik)
            return (loglik(u), once(u)) if order == 1 else (loglik(u), once(u), jax.jacfwd(once)(u))
        return jax.value_and_grad(loglik)(u) if order == 1 else derivatives.value_grad_hessian(loglik, u)

    u = jax.ShapeDtypeStruct((spec.space.n_free,), jnp.result_type(float))
    return jax.make_jaxpr(sums)(u, fixed, sample.rows, sample.shared, sample.weights)


def _sample(data: Prepared, rows: Int[Host, " m"] | None, p: int) -> Prepared:
    """Return the rows that are evaluated with bounds, in one block, without arrays precomputed from the data.

    ``p``: parameters, if derivatives are taken forward, with p x p numbers for every operation on a row; else 1.
    """
    leaves = data.rows[: data.statics.n_leaves]
    most = min(MOST_ROWS, max(FORWARD_NUMBERS // p**2, 32))
    most = max(most // leaves[0].shape[1], 8) if data.mode == "units" and leaves else most
    some = sample_of_one(replace(data, rows=leaves), most, rows)
    own, weights = tuple(np.asarray(leaf[:]) for leaf in some.rows), np.asarray(some.weights)
    return replace(some, rows=own, weights=weights, n=np.int64(some.n_padded), block=some.n_padded)
