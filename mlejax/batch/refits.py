"""One data set, many weight vectors: what resampling, deletion and the Bayesian bootstrap are made of.

The rows are shared: they are neither copied nor gathered for a refit, so that over the lanes of a block the linear
predictors are one matrix product, and their memory is that of the weights alone.  A row of weight 0 is evaluated where it
stands, times 0; a refit that does not end cleanly is run again with such rows replaced by a row of positive weight (0 times
infinity is NaN: the row that a resample leaves out may be the one that sets the support).

The one-step approximation takes a single Newton step from the estimate,

    u_b = u + ( sum_i w_bi H_i )^-1 sum_i w_bi s_i,

with s_i the scores and H_i minus the Hessians of the rows there: for all refits together two matrix products.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import lax

from mlejax import optimize
from mlejax.batch.describing import described, surely_clean
from mlejax.batch.engine import Ends, optimise
from mlejax.batch.fitting import budget_for_largest, ended_of
from mlejax.batch.programs import natural
from mlejax.batch.sets import DataSets
from mlejax.data import Prepared
from mlejax.execution import compiled
from mlejax.execution.chunking import Budget, ChunkSource
from mlejax.fit.blocks import budget_for
from mlejax.fit.common import POLISH_LIMIT, POLISH_STEPS, objective_of
from mlejax.fit.programs import Ended
from mlejax.fit.standing import at_an_edge, clean, definiteness, interior
from mlejax.objective import Spec
from mlejax.parameters import Space
from mlejax.status import End

Array = Any
AT_ONCE = (
    1e-16  # a decrement this small after two steps or less: the start was the maximum, and nothing is left to fall
)
FALLEN = (1.0, 1e-3, 1e-12, 1e-24)
_PUSHED = 1e6
FIRST_STEP_LIMIT = 20_000_000  # numbers in the derivatives of all rows


@dataclass(frozen=True, eq=False)
class Refits:
    """Many refits of one data set, on the host; leading axis B.

    Attributes:
        u, theta: estimates in the optimiser's and in natural free coordinates (B, p).
        params: the user's structure, natural scale, leading axis B.
        llf: weighted log-likelihoods (B,).
        clean: converged to a maximum by the test of a single fit, without ray tests (B,).
        end: ``End`` codes (B,).
        n_steps: (B,).
        finished: nothing was cut short by the keyboard; what was not run has end INTERRUPTED.
    """

    u: np.ndarray
    theta: np.ndarray
    params: Any
    llf: np.ndarray
    clean: np.ndarray
    end: np.ndarray
    n_steps: np.ndarray
    finished: bool = True


Weights = np.ndarray | Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class _Weighted:
    """Lanes that differ in their weights alone."""

    data: Prepared
    weights: Weights
    n: int
    own_rows: bool = False
    in_place: bool = False
    unweighted: bool = False

    @property
    def sizes(self) -> np.ndarray:
        return np.full(self.n, self.data.n_padded, np.int64)

    @property
    def lengths(self) -> None:
        """All use the same rows."""
        return None

    def viewable_run(self, capacity: int) -> tuple[int, int]:
        """None: there is no table of lanes."""
        return 0, 0

    def data_set_bytes(self, size: int) -> int:
        rows = sum(8 * int(np.prod(leaf.shape, dtype=np.int64)) for leaf in self.data.rows)
        return 8 * size + (rows if self.own_rows else 0)

    def fetch(self, lanes: np.ndarray, capacity: int, *, views: bool = False) -> Prepared:
        given = self.weights(lanes) if callable(self.weights) else self.weights[lanes]
        weights = np.zeros((capacity, self.data.n_padded))
        weights[: len(lanes), : given.shape[1]] = given
        weights[len(lanes) :] = weights[0]
        n = np.full(capacity, int(self.data.n))
        if not self.own_rows:
            return replace(self.data, weights=weights, n=n)
        donor = np.argmax(weights > 0, axis=1)[:, None]
        source = np.where(weights > 0, np.arange(weights.shape[1])[None, :], donor)
        return replace(
            self.data, rows=jax.tree.map(lambda a: np.asarray(a)[source], self.data.rows), weights=weights, n=n
        )


def refit(
    spec: Spec,
    method: Any,
    data: Prepared,
    weights: Weights,
    n_refits: int,
    u0: np.ndarray,
    fixed: Any,
    limits: Budget,
    hyper: Any = None,
) -> Refits:
    """Maximise the log-likelihood of one data set under many weight vectors.

    Args:
        spec: of the fit (``Fit.spec``).
        method: an optimiser object.
        data: of the fit (``Fit.loaded.problem.data``), one data set.
        weights: (B, n) >= 0, one for each contribution (a padded tail may be left out), the fit's own weights included; or
            a function ``lanes (k,) -> (k, n)``, so that they need not all be in memory.
        n_refits: B.
        u0: starts, (p,) for all or (B, p): ``Fit.u`` for warm starts.
        fixed: values held fixed (n_values,), or None.
        limits: of ``mlejax.batch.limits(memory_limit, progress)``.
        hyper: second argument of the penalty, common to all.
    """
    p = spec.space.n_free
    with jax.enable_x64(True):
        starts = np.broadcast_to(np.asarray(u0, np.float64), (n_refits, p))
        lanes = np.arange(n_refits)
        shared = _Weighted(jax.tree.map(np.asarray, data), weights, n_refits)
        limits = budget_for(spec, shared.data, shared.data_set_bytes(data.n_padded), fixed, hyper, limits)
        near = _first_steps(spec, method, shared, u0, fixed)
        ends, finished = _to_the_end(
            spec, method, shared, lanes, starts if near is None else near, fixed, limits, hyper
        )
        good = _clean(spec, method, ends, fixed, limits)
        again = np.flatnonzero(~good & (ends.end != int(End.INTERRUPTED)))
        if again.size and finished and data.mode != "whole":
            apart = replace(shared, own_rows=True)
            more, finished = _to_the_end(spec, method, apart, again, starts, fixed, limits, hyper)
            for name in ("u", "loglik", "score", "information", "decrements", "n_steps", "end"):
                getattr(ends, name)[again] = getattr(more, name)[again]
            good = _clean(spec, method, ends, fixed, limits)
        theta, params = (jax.tree.map(np.asarray, a) for a in natural(spec, ends.u, fixed))
    return Refits(ends.u, theta, params, ends.loglik, good, ends.end, ends.n_steps, finished)


def refit_data(
    spec: Spec, method: Any, sets: DataSets, u0: np.ndarray, fixed: Any, limits: Budget, hyper: Any = None
) -> Refits:
    """Maximise the log-likelihood of many data sets from one start u0 (p,), without ray tests or other starts.

    Args:
        spec, method, fixed, limits, hyper: as in :func:`refit`.
        sets: the data; what cannot be used has end START_NOT_FINITE.
    """
    n = len(sets)
    with jax.enable_x64(True):
        starts = np.broadcast_to(np.asarray(u0, np.float64), (n, spec.space.n_free))
        limits = budget_for_largest(spec, sets, fixed, limits) if sets.usable.size else limits
        ends, finished = _to_the_end(spec, method, sets, sets.usable, starts, fixed, limits, hyper)
        ends.end[list(sets.bad)] = int(End.START_NOT_FINITE)
        good = _clean(spec, method, ends, fixed, limits)
        theta, params = (jax.tree.map(np.asarray, a) for a in natural(spec, ends.u, fixed))
    return Refits(ends.u, theta, params, ends.loglik, good, ends.end, ends.n_steps, finished)


def _first_steps(spec: Spec, method: Any, work: _Weighted, u0: np.ndarray, fixed: Any) -> np.ndarray | None:
    """From one start for all, where the first Newton step leads (B, p): a matrix product in the place of an evaluation.

    Steps that a quadratic does not promise to be good (a decrement far beyond p) are not taken.  None where this is not
    possible or does not pay.
    """
    data, p = work.data, spec.space.n_free
    rows = data.n_padded * p * p
    if np.ndim(u0) != 1 or not isinstance(method, optimize.Newton) or data.mode == "whole" or rows > FIRST_STEP_LIMIT:
        return None
    if spec.adjusted or spec.space.boxed or spec.hessian != "autodiff" or rows > work.n * data.n_padded:
        return None
    scores, hessians = row_derivatives(spec, u0, data, fixed)
    columns = np.concatenate([scores, hessians.reshape(-1, p * p)], axis=1)
    out = np.empty((work.n, p))
    for begin in range(0, work.n, 1024):
        lanes = np.arange(begin, min(begin + 1024, work.n))
        given = work.weights(lanes) if callable(work.weights) else work.weights[lanes]
        steps, decrement = _steps(given[:, : len(columns)] @ columns, p)
        out[lanes] = u0 + np.where((decrement <= 20.0 + 10.0 * p)[:, None], steps, 0.0)
    return out


def _steps(sums: np.ndarray, p: int) -> tuple[np.ndarray, np.ndarray]:
    """Newton steps (B, p) and decrements (B,) from sums of scores and information; 0 and inf where it is not definite."""
    gradient, information = sums[:, :p], sums[:, p:].reshape(-1, p, p)
    diagonal = np.einsum("bii->bi", information)
    good = np.isfinite(sums).all(axis=1) & (diagonal > 0).all(axis=1)
    root = np.sqrt(np.where(good[:, None], diagonal, 1.0))
    scaled = np.where(good[:, None, None], information / root[:, :, None] / root[:, None, :], np.eye(p))
    good &= np.linalg.eigvalsh(scaled)[:, 0] > p * 1e-13
    scaled = np.where(good[:, None, None], scaled, np.eye(p))
    slope = np.where(good[:, None], gradient / root, 0.0)
    x = np.linalg.solve(scaled, slope[:, :, None])[:, :, 0]
    return x / root, np.where(good, (x * slope).sum(axis=1), np.inf)


def _to_the_end(
    spec: Spec,
    method: Any,
    work: ChunkSource,
    lanes: np.ndarray,
    starts: np.ndarray,
    fixed: Any,
    limits: Budget,
    hyper: Any,
) -> tuple[Ends, bool]:
    ends, finished = optimise(spec, method, work, lanes, starts, fixed, limits, hyper=hyper)
    if isinstance(method, optimize.Newton) or spec.space.n_free > POLISH_LIMIT or not finished:
        return ends, finished
    polish = optimize.Newton(max_steps=POLISH_STEPS)
    more, finished = optimise(spec, polish, work, lanes, ends.u, fixed, limits, hyper=hyper)
    more.n_steps += ends.n_steps
    return more, finished


def _clean(spec: Spec, method: Any, ends: Ends, fixed: Any, limits: Budget) -> np.ndarray:
    """As ``fit.standing.clean``; an end at the start itself has no decrements to compare, and counts if it is definite."""
    space = spec.space
    if ends.information.shape[-1] != space.n_free:
        return np.zeros(len(ends.u), bool)
    if space.boxed:
        with np.errstate(invalid="ignore", divide="ignore"):
            errors = 1.0 / np.sqrt(np.maximum(np.einsum("lii->li", ends.information), 0.0))
            near = at_an_edge(ends.u, np.where(np.isfinite(errors), errors, 0.0), space)
        ends.u[:] = np.where(
            near, np.where(ends.u - space.lower < space.upper - ends.u, space.lower, space.upper), ends.u
        )
    with np.errstate(invalid="ignore"):
        inside = (ends.u > space.lower) & (ends.u < space.upper)
    good = surely_clean(space, ends, described(spec, ends, fixed, limits), inside)
    for i in np.flatnonzero(~good & (ends.end == int(End.CONVERGED))).tolist():
        ended = ended_of(ends, i, method, space.n_free)
        if ended.n_steps <= 2 and 0 <= ended.decrement <= AT_ONCE:
            ended = ended._replace(decrements=FALLEN)
        good[i] = clean(ended, space) or _on_edge(ended, space)
    return good


def _on_edge(ended: Ended, space: Space) -> bool:
    """A maximum on an edge where the score vanishes by symmetry (a standard deviation at 0): the log-likelihood falls inward.

    Clean but for that, and of positive definite information in the coordinates on the edge too.
    """
    if ended.information is None or interior(space, ended.u).all():
        return False
    pushing = np.where(ended.u <= space.lower, -ended.score, ended.score)[~interior(space, ended.u)]
    scale = np.sqrt(np.abs(np.diag(ended.information)))[~interior(space, ended.u)] + 1e-300
    definite = definiteness(ended.information, np.ones(ended.u.size, bool))[2]
    inside = ended._replace(
        score=np.where(interior(space, ended.u), ended.score, _PUSHED * np.sign(_inward(ended.u, space)))
    )
    return bool((pushing > -1e-6 * scale).all() and definite and clean(inside, space))


def _inward(u: np.ndarray, space: Space) -> np.ndarray:
    """-1 at lower edges and 1 at upper ones, the sign of a score that pushes outward."""
    return np.where(u <= space.lower, -1.0, 1.0)


@partial(compiled, static=("spec",))
def _row_derivatives(spec: Spec, u: Array, data: Prepared, fixed: Any) -> tuple[Array, Array]:
    objective = objective_of(spec, data, fixed, None)

    def one(row: Any) -> tuple[Array, Array]:
        alone = jax.tree.map(lambda a: a[None], row)
        value = lambda t: objective.contributions(t, alone)[0]
        return jax.grad(value)(u), -jax.hessian(value)(u)

    return lax.map(one, data.rows, batch_size=min(256, data.block))


def row_derivatives(spec: Spec, u: np.ndarray, data: Prepared, fixed: Any) -> tuple[np.ndarray, np.ndarray]:
    """Scores (n, p) in u and minus the Hessians (n, p, p) of every contribution, unweighted (rows or units)."""
    with jax.enable_x64(True):
        scores, hessians = (np.asarray(a) for a in _row_derivatives(spec, u, data, fixed))
    n = int(data.n)
    return scores[:n], hessians[:n]


def one_step(
    spec: Spec,
    u: np.ndarray,
    data: Prepared,
    weights: np.ndarray,
    fixed: Any,
    derivatives: tuple[np.ndarray, np.ndarray] | None = None,
) -> Refits:
    """One Newton step from u under many weight vectors (B, n): an approximation of :func:`refit`, for rows or units.

    ``derivatives``: of :func:`row_derivatives` at u, where they are known.

    Raises:
        ValueError: a model of the whole data, whose contributions have no Hessians of their own.
    """
    if data.mode == "whole":
        raise ValueError("one step needs contributions that stand alone; with rowwise=False use the exact refits")
    scores, hessians = row_derivatives(spec, u, data, fixed) if derivatives is None else derivatives
    p = len(u)
    sums = weights[:, : len(scores)] @ np.concatenate([scores, hessians.reshape(-1, p * p)], axis=1)
    steps, decrement = _steps(sums, p)
    good = np.isfinite(decrement)
    steps = np.where(good[:, None], steps, np.nan)
    points = u + steps
    with jax.enable_x64(True):
        theta, params = (jax.tree.map(np.asarray, a) for a in natural(spec, points, fixed))
    nothing = np.full(len(points), np.nan)
    return Refits(
        points, theta, params, nothing, good, np.full(len(points), int(End.RUNNING)), np.ones(len(points), np.int64)
    )
