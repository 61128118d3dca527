r"""The information of some parameters among very many, by Hessian-vector products: the whole matrix is never formed.

With S the chosen parameters, O the others and I the information (minus the Hessian of the penalised log-likelihood, in
natural coordinates), the covariance of S

    given O:      (I_SS)^-1,
    O estimated:  (I_SS - I_SO I_OO^-1 I_OS)^-1, the block of I^-1,

where I_OO^-1 I_OS is found column by column by conjugate gradients (Hestenes & Stiefel 1952), each of whose steps costs
one product I v. A direction of negative curvature that they meet ends them: there is no inverse then. They are scaled by
the diagonal of I, so that parameters of very different scales do no harm; above 2,000 parameters it is estimated by the
mean of z * Iz over random signs z (Bekas, Kokiopoulou & Saad 2007).

Pearlmutter (1994), Fast exact multiplication by the Hessian, Neural Computation 6.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mlejax.data import Prepared
from mlejax.execution import compiled
from mlejax.objective import Spec, sum_over_blocks

Array = Any
SIGNS = 32  # random vectors for the diagonal of more parameters than these
EXACT = 2000
PROBE_STEPS = 100  # of conjugate gradients from a random vector, to meet curvature that no column would
COLUMNS = 8  # solved side by side in one dispatch, so that Ctrl-C is heard


class Curvature(NamedTuple):
    """The information of S.

    Attributes:
        block: I_SS (m, m), damping included.
        score: gradient of the (penalised) log-likelihood by S (m,).
        lost: I_SO I_OO^-1 I_OS (m, m), or None if the others are taken as given.
        n_steps: conjugate gradient steps of the slowest column.
        residual: largest relative residual of a column.
        negative: least curvature v'Iv / v'v met where it was not positive, else None.
    """

    block: np.ndarray
    score: np.ndarray
    lost: np.ndarray | None
    n_steps: int = 0
    residual: float = 0.0
    negative: float | None = None


def _gradient(spec: Spec, data: Prepared, fixed: Any, hyper: Any, theta: Array) -> Array:
    """Score of the penalised log-likelihood in theta (p,)."""

    def block(rows: Any, weights: Array, t: Array) -> Array:
        params = spec.space.params_from_theta(t, fixed)
        return jnp.sum(weights * spec.likelihood.contributions(params, rows, data.shared, data.statics))

    total = sum_over_blocks(
        lambda rows, weights: jax.grad(lambda t: block(rows, weights, t))(theta),
        data.rows,
        data.weights,
        data.n_blocks,
    )
    if spec.penalty is not None:

        def penalty(t: Array) -> Array:
            assert spec.penalty is not None
            params = spec.space.params_from_theta(t, fixed)
            return spec.penalty(params) if hyper is None else spec.penalty(params, hyper)

        total = total - jax.grad(penalty)(theta)
    return total


@partial(compiled, static=("spec",))
def _products(spec: Spec, theta: Array, vectors: Array, data: Prepared, fixed: Any, hyper: Any) -> tuple[Array, Array]:
    """I v for several v (k, p), and the score (p,)."""
    score, along = jax.linearize(lambda t: _gradient(spec, data, fixed, hyper, t), theta)
    return -jax.vmap(along)(vectors), score


@partial(compiled, static=("spec",))
def _solve(
    spec: Spec,
    theta: Array,
    b: Array,
    others: Array,
    diagonal: Array,
    damping: Array,
    tol: Array,
    max_steps: Array,
    data: Prepared,
    fixed: Any,
    hyper: Any,
) -> tuple[Array, Array, Array, Array]:
    """Conjugate gradients for I_OO x = b, several b (k, p), 0 outside O, scaled by a positive diagonal (p,).

    Returns:
        x (k, p), steps (k,), relative residuals in that scale (k,), least curvature met (k,).
    """
    _, along = jax.linearize(lambda t: _gradient(spec, data, fixed, hyper, t), theta)

    def product(v: Array) -> Array:
        return jnp.where(others, -along(v) + damping * v, 0.0)

    def one(rhs: Array) -> tuple[Array, Array, Array, Array]:
        size = jnp.sum(rhs * rhs / diagonal)

        def more(state: Any) -> Array:
            _, _, _, rr, n, least = state
            return (rr > tol**2 * size) & (n < max_steps) & (least > 0) & jnp.isfinite(rr)

        def step(state: Any) -> Any:
            x, r, d, rr, n, least = state
            q = product(d)
            curvature = jnp.sum(d * q)
            ratio = curvature / jnp.sum(d * d)
            good = ratio > 0
            alpha = jnp.where(good, rr / jnp.where(good, curvature, 1.0), 0.0)
            r = r - alpha * q
            new = jnp.sum(r * r / diagonal)
            return x + alpha * d, r, r / diagonal + (new / rr) * d, new, n + 1, jnp.minimum(least, ratio)

        zero = jnp.zeros((), jnp.int32)
        start = (jnp.zeros_like(rhs), rhs, rhs / diagonal, size, zero, jnp.full((), jnp.inf, rhs.dtype))
        x, _, _, _, n, least = lax.while_loop(more, step, start)
        # the residual that the recursion keeps drifts from the true one
        true = rhs - product(x)
        return x, n, jnp.sqrt(jnp.sum(true * true / diagonal) / jnp.where(size > 0, size, 1.0)), least

    return jax.vmap(one)(b)


def curvature_of(
    spec: Spec,
    theta: np.ndarray,
    data: Prepared,
    fixed: Any,
    hyper: Any,
    chosen: np.ndarray,
    others: np.ndarray | None,
    *,
    damping: float = 0.0,
    tol: float = 1e-8,
    max_steps: int | None = None,
) -> Curvature:
    """The information of the chosen entries of theta; call inside ``jax.enable_x64(True)``.

    Args:
        spec, data, fixed, hyper: of the fit.
        theta: estimates (p,), natural scale.
        chosen: positions (m,) in theta.
        others: flags (p,) of the entries that are estimated beside them; None to take all others as given.
        damping: added to the diagonal of the information.
        tol: relative residual at which a column is solved.
        max_steps: of conjugate gradients for a column; twice the number of others by default, 10,000 at most.
    """
    p, m = theta.size, chosen.size
    data = jax.device_put(data)
    block = np.empty((m, m))
    lost = None if others is None else np.empty((m, m))
    score = np.zeros(p)
    slowest, worst, least = 0, 0.0, np.inf
    limit = min(2 * int(others.sum()) + 10, 10_000) if others is not None and max_steps is None else max_steps
    diagonal = np.ones(p)
    if others is not None:
        diagonal = _diagonal(spec, theta, data, fixed, hyper, damping)
        least = _probe(spec, theta, data, fixed, hyper, others, diagonal, damping, min(limit or 0, PROBE_STEPS))
        if least <= 0:
            return Curvature(block, score[chosen], None, negative=least)
    across = np.empty((0 if others is None else m, p))
    for begin in range(0, m, COLUMNS):
        part = chosen[begin : begin + COLUMNS]
        end = begin + part.size
        unit = np.zeros((COLUMNS, p))
        unit[np.arange(part.size), part] = 1.0
        rows, score = (np.asarray(a) for a in _products(spec, theta, unit, data, fixed, hyper))
        rows = rows + damping * unit
        block[begin:end] = rows[: part.size, chosen]
        if others is None or lost is None:
            continue
        b = np.where(others, rows, 0.0)
        numbers = np.float64(damping), np.float64(tol), np.int32(limit or 0)
        found = _solve(spec, theta, b, others, diagonal, *numbers, data, fixed, hyper)
        x, n, residual, curved = (np.asarray(a) for a in found)
        slowest, worst = max(slowest, int(n.max())), max(worst, float(residual.max()))
        least = min(least, float(curved.min()))
        if least <= 0 or not np.isfinite(x).all():
            break
        across[begin:end] = b[: part.size]
        corner = x[: part.size] @ across[:end].T  # of the columns solved so far; the others follow by symmetry
        lost[begin:end, :end] = corner
        lost[:end, begin:end] = corner.T
    negative = least if least <= 0 else None
    return Curvature(0.5 * (block + block.T), score[chosen], lost, slowest, worst, negative)


def _probe(
    spec: Spec,
    theta: np.ndarray,
    data: Prepared,
    fixed: Any,
    hyper: Any,
    others: np.ndarray,
    diagonal: np.ndarray,
    damping: float,
    n_steps: int,
) -> float:
    """Least curvature among the others met from a random vector: a column looks only where it couples."""
    b = np.zeros((COLUMNS, theta.size))
    b[0] = np.where(others, np.random.default_rng(0).standard_normal(theta.size), 0.0)
    numbers = np.float64(damping), np.float64(1e-12), np.int32(n_steps)
    return float(np.asarray(_solve(spec, theta, b, others, diagonal, *numbers, data, fixed, hyper)[3])[0])


def _diagonal(spec: Spec, theta: np.ndarray, data: Prepared, fixed: Any, hyper: Any, damping: float) -> np.ndarray:
    """About the diagonal of the information (p,), positive: a scale to compute in."""
    p = theta.size
    found = np.full(p, damping)
    rng = np.random.default_rng(0)
    for begin in range(0, p if p <= EXACT else SIGNS, COLUMNS):
        if p <= EXACT:
            vectors = np.eye(COLUMNS, p, begin)  # ones from that column on
        else:
            vectors = rng.choice([-1.0, 1.0], (COLUMNS, p)) / np.sqrt(SIGNS)
        found += (vectors * np.asarray(_products(spec, theta, vectors, data, fixed, hyper)[0])).sum(axis=0)
    usable = np.isfinite(found) & (found > 0)
    typical = float(np.median(found[usable])) if usable.any() else 1.0
    return np.where(usable, np.maximum(found, 1e-12 * found[usable].max(initial=0.0)), typical)
