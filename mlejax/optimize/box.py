"""Bounds lower <= u <= upper on the unconstrained coordinates. Most problems have none, and then no code for them is compiled."""

from __future__ import annotations

import jax
import numpy as np

from mlejax.optimize.arrays import namespace, scalar
from mlejax.optimize.method import Point, Setting
from mlejax.shapes import Bool, Either, Float, Scalar

__all__ = ["active_bounds", "clip", "outside", "setting_of"]


def setting_of(u: Float[Either, " p"], lower: Either | None, upper: Either | None, scale: Scalar) -> Setting:
    """Return the `Setting` of a run: its bounds and scale.

    Args:
        u: any point, (p,); its dtype is that of the bounds and the scale.
        lower, upper: bounds, which broadcast to (p,); None for no bound.
        scale: what the log-likelihood is divided by, ().

    Returns:
        `Setting` with bounds (p,); both None if each of them is None or known (not traced) to have infinite entries only.
    """
    xp, scale = namespace(u), scalar(scale, u.dtype)
    if _infinite(lower) and _infinite(upper):
        return Setting(None, None, scale)
    low, high = (
        xp.broadcast_to(xp.asarray(infinite if bound is None else bound, u.dtype), u.shape)
        for bound, infinite in ((lower, -np.inf), (upper, np.inf))
    )
    return Setting(low, high, scale)


def _infinite(bound: Either | None) -> bool:
    """True if a bound is None, or an array (not traced) whose entries are all infinite."""
    return bound is None or (not isinstance(bound, jax.core.Tracer) and bool(np.isinf(bound).all()))


def clip(u: Float[Either, " p"], setting: Setting) -> Float[Either, " p"]:
    """Return u (p,) with coordinates beyond a bound of the setting replaced by that bound."""
    return u if setting.lower is None else namespace(u).clip(u, setting.lower, setting.upper)


def outside(u: Float[Either, " p"], setting: Setting) -> Bool[Either, " p"]:
    """Return a mask (p,), True for the coordinates of u beyond a bound of the setting; those on a bound are not."""
    if setting.lower is None or setting.upper is None:
        return namespace(u).zeros(u.shape, bool)
    return (u < setting.lower) | (u > setting.upper)


def active_bounds(point: Point, setting: Setting) -> Bool[Either, " p"]:
    """Return a mask (p,), True for the active coordinates of a point: on a bound, where f would fall only beyond it (at a lower
    bound g > 0, at an upper one g < 0, g being the gradient of f, which is minimised).
    """
    u, _, g, _ = point
    if setting.lower is None or setting.upper is None:
        return namespace(u).zeros(u.shape, bool)
    return ((u <= setting.lower) & (g > 0)) | ((u >= setting.upper) & (g < 0))
