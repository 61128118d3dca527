"""The trust-region subproblem: minimise g's + s'Hs / 2 subject to |s|_D <= radius and the bounds.

Without bounds, s solves (H + tD) s = -g for the t >= 0 that meets the radius (More & Sorensen 1983), through the eigenvalues
of D^-1/2 H D^-1/2; for a zero gradient and an indefinite H the step is along the eigenvector of the smallest eigenvalue. The step
is shortened along directions of negative curvature that hardly reduce the quadratic model.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlejax.linalg import pivot_floor
from mlejax.optimize.arrays import eigh, namespace, norm, where, while_loop
from mlejax.optimize.box import clip, outside
from mlejax.optimize.method import Flag, Point, Setting
from mlejax.shapes import Bool, Either, Float, Scalar

__all__ = ["bounded_step", "without"]

FAINT = 0.01  # share of the reduction below which a direction of negative curvature is not followed to the radius
BISECTIONS = 30


def without(x: Float[Either, " p"], active: Bool[Either, " p"] | None) -> Float[Either, " p"]:
    """Return x, (p,), with 0 for the active coordinates, those where the mask ``active`` is True; x itself if it is None."""
    return x if active is None else where(active, 0.0, x)


def bounded_step(
    model: Point,
    active: Bool[Either, " p"] | None,
    otherwise: tuple[Flag, Float[Either, " p"]],
    weight: Float[Either, " p"],
    radius: Scalar,
    setting: Setting,
) -> Float[Either, " p"]:
    """Return the trust-region step subject to the bounds, shape (p,).

    Coordinates that would cross a bound are set to it and the others are solved for again, at most p times.

    Args:
        model: the kept point, with gradient and Hessian of the quadratic model.
        active: mask, True for coordinates that do not move, (p,); None without bounds.
        otherwise: whether the subproblem must be solved, (), and the step (p,) to return if not.
        weight: square root of the diagonal scaling D, shape (p,).
        radius: radius of the trust region, ().
        setting: the bounds.
    """
    u, _, g, H = model
    needed, newton = otherwise
    xp, p = namespace(u), u.shape[0]

    def solve(state: tuple[Any, ...]) -> tuple[Any, ...]:
        _, passes, H, fixed, s = state
        free = ~fixed
        gradient = where(free, (g + H @ where(fixed, s, 0.0)) / weight, 0.0)
        both = free[:, None] & free[None, :]
        scaled = where(both, H / weight[:, None] / weight[None, :], xp.eye(p, dtype=u.dtype))
        s = where(free, _within_radius(scaled, gradient, radius) / weight, s)
        crossing = free & outside(u + s, setting)
        s = where(crossing, clip(u + s, setting) - u, s)
        again = crossing.any() & (passes < p)
        # H is carried and cleared at the end: XLA moves what depends on unchanging arrays only out of a loop, and would
        # compute it whether or not the loop runs
        return again, passes + 1, where(again, H, 0.0), fixed | crossing, s

    start = where(needed, xp.zeros(u.shape, u.dtype), newton)
    fixed = xp.zeros(u.shape, bool) if active is None else active
    return while_loop(lambda state: state[0], solve, (needed, xp.zeros((), np.int32), H, fixed, start))[4]


def _within_radius(A: Float[Either, "p p"], g: Float[Either, " p"], radius: Scalar) -> Float[Either, " p"]:
    """Return the minimiser s, (p,), of g's + s'As/2 over |s| <= radius, with A and g modified as in `_tamed`.

    Args:
        A: a symmetric matrix whose eigenvalues are at most about 1 in size, since the diagonal is scaled.
        g: the gradient.
        radius: the radius.
    """
    xp = namespace(A)
    values, vectors = eigh(A)
    values, slopes = _tamed(values, vectors.T @ g, radius, pivot_floor(A.shape[0], A.dtype))
    tiny = np.finfo(A.dtype).tiny
    lowest = values.min()
    gaps = values - lowest

    # (A + (t - lowest) I) s = -g; t is bracketed by the slope along the lowest eigenvalue alone, and by all of the slope
    floor = xp.maximum(lowest, tiny)
    low = xp.log(xp.maximum(where(gaps <= 0, xp.abs(slopes), 0.0).max() / radius, floor))
    high = xp.maximum(xp.log(xp.maximum(norm(slopes) / radius, tiny)), low)

    def halve(bracket: tuple[Any, ...]) -> tuple[Any, ...]:
        turns, low, high = bracket
        middle = 0.5 * (low + high)
        long = norm(slopes / (gaps + xp.exp(middle))) > radius
        return turns + 1, where(long, middle, low), where(long, high, middle)

    none = xp.zeros((), np.int32)
    _, low, high = while_loop(lambda bracket: bracket[0] < BISECTIONS, halve, (none, low, high))
    interior = (lowest > 0) & (norm(slopes / (gaps + floor)) <= radius)
    return vectors @ (-slopes / (gaps + where(interior, floor, xp.exp(high))))


def _tamed(
    values: Float[Either, " p"], slopes: Float[Either, " p"], radius: Scalar, rounding: float
) -> tuple[Float[Either, " p"], Float[Either, " p"]]:
    """Return the eigenvalues of the Hessian and the gradient along its eigenvectors (slopes), modified so that steps are robust.

    Directions whose curvature and slope are rounding errors get no step; negative curvature that hardly reduces the model is
    made positive; a vanishing slope along the most negative curvature gets a small value.

    Args:
        values: eigenvalues, (p,).
        slopes: gradient in the basis of eigenvectors, (p,).
        radius: radius of the trust region.
        rounding: size of rounding errors in the eigenvalues.

    Returns:
        The modified eigenvalues and slopes, (p,) each.
    """
    xp = namespace(values)
    size = norm(slopes)
    # neither slope nor curvature beyond rounding: do not move along such a direction
    blank = (xp.abs(values) <= 10.0 * rounding) & (xp.abs(slopes) <= rounding * xp.maximum(1.0, size))
    values = where(blank, 1.0, values)
    slopes = where(blank, 0.0, slopes)
    # negative curvature is followed to the radius only where that pays: a plateau, whose curvature is negative but
    # small, would otherwise be crossed at full length while the reduction comes from elsewhere
    height = xp.abs(slopes)
    reach = height * radius + 0.5 * xp.abs(values) * radius**2
    convex = where(values > 0, xp.minimum(0.5 * height**2 / where(values > 0, values, 1.0), height * radius), 0.0)
    faint = (values < 0) & (reach < FAINT * convex.sum())
    values = where(faint, xp.maximum(-values, height / radius), values)
    lowest = values.min()
    # at a saddle the slope along the most negative curvature may vanish: give it a little, with the sign it has
    push = 1e-6 * xp.maximum(size, -lowest * radius)
    most = (values == lowest) & (lowest < 0) & (xp.abs(slopes) < push)
    return values, where(most, where(slopes < 0, -push, push), slopes)
