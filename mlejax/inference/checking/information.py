r"""The information of a few of very many parameters, by Hessian-vector products: the whole matrix is never formed.

With S the chosen parameters, O the others and I the information (minus the Hessian of the penalised log-likelihood, in
natural coordinates), the covariance of S

    given O:      (I_SS)^-1,
    O estimated:  (I_SS - I_SO I_OO^-1 I_OS)^-1, the block of I^-1,

where I_OO^-1 I_OS is found column by column by conjugate gradients (Hestenes & Stiefel 1952), each of whose steps costs
one product I v. They stop at a direction of negative curvature: there is no inverse then. They are preconditioned by the
diagonal of I, because parameters can have very different scales; above 2,000 parameters it is estimated by the
mean of z * Iz over random signs z (Bekas, Kokiopoulou & Saad 2007).

Pearlmutter (1994), Fast exact multiplication by the Hessian, Neural Computation 6.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mlejax.data import Prepared
from mlejax.execution import compiled
from mlejax.objective import Spec, sum_over_blocks
from mlejax.shapes import Bool, Device, Either, Float, Host, Int, PyTree, Scalar

SIGNS = 32  # random vectors for the diagonal of more parameters than these
EXACT = 2000
PROBE_STEPS = 100  # of conjugate gradients from a random vector, to meet curvature that no column would
COLUMNS = 8  # solved side by side in one dispatch, so that Ctrl-C is heard


class Information(NamedTuple):
    """Information of the chosen parameters S, with what conjugate gradients reported.

    Attributes:
        block: I_SS, damping included, (m, m).
        score: gradient of the (penalised) log-likelihood with respect to S, (m,).
        lost: I_SO I_OO^-1 I_OS (m, m), NaN in columns that were not solved; None if the other parameters are taken as known,
            or ``negative`` was found before any column was solved.
        n_steps: conjugate gradient steps, the largest number over columns; 0 if there were none.
        most_steps: most steps that a column may take.
        residual: largest relative residual of a column; 0 if none was solved.
        negative: the smallest curvature v'Iv / v'v that conjugate gradients found, if it is not positive, damping included
            (``block`` and ``lost`` are incomplete then); else None.
    """

    block: Float[Host, "m m"]
    score: Float[Host, " m"]
    lost: Float[Host, "m m"] | None
    n_steps: int = 0
    residual: float = 0.0
    negative: float | None = None
    most_steps: int = 0


class InformationPoint(NamedTuple):
    """The point at which the information is evaluated: estimates in theta, data, values of the fixed entries (None without
    fixed entries), and hyperparameters of the penalty (None without).
    """

    theta: Float[Either, " p"]
    data: Prepared
    fixed: Host | None
    hyper: PyTree


class _Solved(NamedTuple):
    """Solutions x of k linear systems by conjugate gradients, and for each the number of steps, the relative residual, and
    the smallest curvature d'Id / d'd along a search direction (inf without a step).
    """

    x: Float[Either, "k p"]
    n_steps: Int[Either, " k"]
    residual: Float[Either, " k"]
    curvature: Float[Either, " k"]


def _gradient(spec: Spec, at: InformationPoint, theta: Float[Device, " p"]) -> Float[Device, " p"]:
    """Return the score of the penalised log-likelihood with respect to theta, (p,); weights divided by their scale."""
    data = at.data

    def block(rows: PyTree, weights: Device, t: Device) -> Device:
        params = spec.space.params_from_theta(t, at.fixed)
        return jnp.sum(weights * spec.likelihood.contributions(params, rows, data.shared, data.statics))

    score = lambda rows, weights: jax.grad(lambda t: block(rows, weights, t))(theta)
    total = sum_over_blocks(score, data.rows, data.weights, data.n_blocks)
    if spec.penalty is not None:
        more = () if at.hyper is None else (at.hyper,)
        penalty = spec.penalty
        total = total - jax.grad(lambda t: penalty(spec.space.params_from_theta(t, at.fixed), *more))(theta)
    return total


@partial(compiled, static=("spec",))
def _products(
    spec: Spec, at: InformationPoint, vectors: Float[Either, "k p"]
) -> tuple[Float[Device, "k p"], Float[Device, " p"]]:
    """Return the products I v of the information at the point ``at`` with several vectors (k, p), and the score there (p,)."""
    score, along = jax.linearize(partial(_gradient, spec, at), at.theta)
    return -jax.vmap(along)(vectors), score


@partial(compiled, static=("spec",))
def _solve(
    spec: Spec,
    at: InformationPoint,
    b: Float[Either, "k p"],
    others: Bool[Either, " p"],
    diagonal: Float[Either, " p"],
    damping: Scalar,
    tol: Scalar,
    max_steps: Scalar,
) -> _Solved:
    """Solve (I_OO + damping) x = b by conjugate gradients for several right-hand sides b (k, p), which are 0 outside O.

    Each stops at a relative residual of ``tol``, after ``max_steps``, or at a direction without positive curvature.

    Args:
        spec, at: the model and the point, as in `information_of`.
        b: right-hand sides.
        others: True for the coordinates O.
        diagonal: positive diagonal of the preconditioner.
        damping, tol, max_steps: as in `information_of`.
    """
    _, along = jax.linearize(partial(_gradient, spec, at), at.theta)

    def product(v: Device) -> Device:
        return jnp.where(others, -along(v) + damping * v, 0.0)

    def one(rhs: Either) -> _Solved:
        """Solve for one right-hand side (p,) by conjugate gradients with the diagonal as preconditioner.

        They end at the relative residual ``tol``, after ``max_steps``, at a direction whose curvature is not positive, or
        at a number that is not finite; the residual returned is computed anew from the solution.
        """
        size = jnp.sum(rhs * rhs / diagonal)

        def more(state: PyTree) -> Device:
            _, _, _, rr, n, least = state
            return (rr > tol**2 * size) & (n < max_steps) & (least > 0) & jnp.isfinite(rr)

        def step(state: PyTree) -> PyTree:
            x, r, d, rr, n, least = state
            q = product(d)
            curvature = jnp.sum(d * q)
            ratio = curvature / jnp.sum(d * d)
            alpha = jnp.where(ratio > 0, rr / jnp.where(ratio > 0, curvature, 1.0), 0.0)
            r = r - alpha * q
            new = jnp.sum(r * r / diagonal)
            return x + alpha * d, r, r / diagonal + (new / rr) * d, new, n + 1, jnp.minimum(least, ratio)

        zero = jnp.zeros((), jnp.int32)
        start = (jnp.zeros_like(rhs), rhs, rhs / diagonal, size, zero, jnp.full((), jnp.inf, rhs.dtype))
        x, _, _, _, n, least = lax.while_loop(more, step, start)
        true = rhs - product(x)  # the residual of the recursion drifts from the true one
        return _Solved(x, n, jnp.sqrt(jnp.sum(true * true / diagonal) / jnp.where(size > 0, size, 1.0)), least)

    return jax.vmap(one)(b)


def information_of(
    spec: Spec,
    at: InformationPoint,
    chosen: Int[Host, " m"],
    others: Bool[Either, " p"] | None,
    *,
    damping: float = 0.0,
    tol: float = 1e-8,
    max_steps: int | None = None,
) -> Information:
    """Return the information of the chosen entries of theta; to be called inside ``float64()``.

    The log-likelihood is that of the optimiser, whose weights are divided by their scale (sampling weights have mean 1).

    Args:
        spec: specification of the fitted model.
        at: estimates, data, fixed values and hyperparameters of the fit.
        chosen: positions of the entries in theta, (m,).
        others: True for the other entries that count as estimated, (p,); None takes all others as known.
        damping: added to the diagonal of the information.
        tol: relative residual at which a column counts as solved.
        max_steps: most conjugate gradient steps for a column; by default twice the number of others plus 10, at most 10,000.
    """
    p, m = np.size(at.theta), chosen.size
    at = at._replace(data=jax.device_put(at.data))
    block, score = np.empty((m, m)), np.zeros(p)
    lost: np.ndarray | None = None
    slowest, worst, least, limit = 0, 0.0, np.inf, 0
    diagonal, across = np.ones(p), np.empty((m, p))
    if others is not None:
        lost = np.full((m, m), np.nan)
        limit = min(2 * int(others.sum()) + 10, 10_000) if max_steps is None else max_steps
        diagonal = _diagonal(spec, at, damping)
        least = _least_curvature(spec, at, others, diagonal, damping, min(limit, PROBE_STEPS))
        if least <= 0:
            return Information(block, score[chosen], None, negative=least)
    for begin in range(0, m, COLUMNS):
        part = chosen[begin : begin + COLUMNS]
        end = begin + part.size
        unit = np.zeros((COLUMNS, p))
        unit[np.arange(part.size), part] = 1.0
        rows, score = (np.asarray(a) for a in _products(spec, at, unit))
        rows = rows + damping * unit
        block[begin:end] = rows[: part.size, chosen]
        if others is None or lost is None:
            continue
        b = np.where(others, rows, 0.0)
        numbers = np.float64(damping), np.float64(tol), np.int32(limit)
        found = _Solved(*map(np.asarray, _solve(spec, at, b, others, diagonal, *numbers)))
        slowest, worst = max(slowest, int(found.n_steps.max())), max(worst, float(found.residual.max()))
        least = min(least, float(found.curvature.min()))
        if least <= 0 or not np.isfinite(found.x).all():
            break
        across[begin:end] = b[: part.size]
        corner = np.asarray(found.x)[: part.size] @ across[:end].T  # of the columns so far; the others by symmetry
        lost[begin:end, :end] = corner
        lost[:end, begin:end] = corner.T
    negative = float(least) if least <= 0 else None
    return Information(0.5 * (block + block.T), score[chosen], lost, slowest, worst, negative, limit)


def _least_curvature(
    spec: Spec,
    at: InformationPoint,
    others: Bool[Either, " p"],
    diagonal: Float[Either, " p"],
    damping: float,
    n_steps: int,
) -> float:
    """Return the smallest curvature of the information of the other parameters that at most ``n_steps`` conjugate gradient
    steps from a random vector (seed 0) find; arguments as in `_solve`.

    The columns of I_OS alone do not show the curvature in parameters that are uncorrelated with S.
    """
    b = np.zeros((COLUMNS, others.size))
    b[0] = np.where(others, np.random.default_rng(0).standard_normal(others.size), 0.0)
    numbers = np.float64(damping), np.float64(1e-12), np.int32(n_steps)
    return float(np.asarray(_solve(spec, at, b, others, diagonal, *numbers).curvature)[0])


def _diagonal(spec: Spec, at: InformationPoint, damping: float) -> Float[Host, " p"]:
    """Return a positive approximation of the diagonal of the information plus ``damping`` (p,), used for preconditioning.

    Exact up to 2,000 parameters, else estimated by 32 products; entries that are not positive and finite are replaced by the
    median of the others.
    """
    p = np.size(at.theta)
    found = np.full(p, damping)
    rng = np.random.default_rng(0)
    for begin in range(0, p if p <= EXACT else SIGNS, COLUMNS):
        if p <= EXACT:
            vectors = np.eye(COLUMNS, p, begin)  # ones from that column on
        else:
            vectors = rng.choice([-1.0, 1.0], (COLUMNS, p)) / np.sqrt(SIGNS)
        found += (vectors * np.asarray(_products(spec, at, vectors)[0])).sum(axis=0)
    usable = np.isfinite(found) & (found > 0)
    typical = float(np.median(found[usable])) if usable.any() else 1.0
    return np.where(usable, np.maximum(found, 1e-12 * found[usable].max(initial=0.0)), typical)
