"""Bounds lower <= u <= upper on the unconstrained coordinates. Most problems have none, and then no code for them is compiled."""

from __future__ import annotations

import jax
import numpy as np

from mlejax.optimize.arrays import namespace, scalar
from mlejax.optimize.method import Point, Setting
from mlejax.shapes import Bool, Either, Float, Scalar

__all__ = ["active_bounds", "clip", "outside", "setting_of"]


def setting_of(u: Float[Either, " p"], lower: Either | None, upper: Either | None, scale: Scalar) -> Setting:
    """The `Setting` of a run: its bounds and scale.

    Args:
        u: any point, for shape (p,) and dtype.
        lower, upper: bounds, broadcast to (p,); None for no bound.
        scale: what the log-likelihood is divided by, ().

    Returns:
        `Setting`; its bounds are None if all are None or infinite when the program is built.
    """
    xp, scale = namespace(u), scalar(scale, u.dtype)
    if _infinite(lower) and _infinite(upper):
        return Setting(None, None, scale)
    low, high = (
        xp.broadcast_to(xp.asarray(infinite if edge is None else edge, u.dtype), u.shape)
        for edge, infinite in ((lower, -np.inf), (upper, np.inf))
    )
    return Setting(low, high, scale)


def _infinite(edge: Either | None) -> bool:
    """True if a bound is None, or an array (not traced) whose entries are all infinite."""
    return edge is None or (not isinstance(edge, jax.core.Tracer) and bool(np.isinf(edge).all()))


def clip(u: Float[Either, " p"], setting: Setting) -> Float[Either, " p"]:
    """Project u onto the bounds, (p,)."""
    return u if setting.lower is None else namespace(u).clip(u, setting.lower, setting.upper)


def outside(u: Float[Either, " p"], setting: Setting) -> Bool[Either, " p"]:
    """Boolean mask, (p,), of the coordinates that violate a bound."""
    if setting.lower is None or setting.upper is None:
        return namespace(u).zeros(u.shape, bool)
    return (u < setting.lower) | (u > setting.upper)


def active_bounds(point: Point, setting: Setting) -> Bool[Either, " p"]:
    """Boolean mask, (p,), of the active coordinates: at a bound, and -g points across it (f is minimised, g its gradient)."""
    u, _, g, _ = point
    if setting.lower is None or setting.upper is None:
        return namespace(u).zeros(u.shape, bool)
    return ((u <= setting.lower) & (g > 0)) | ((u >= setting.upper) & (g < 0))
