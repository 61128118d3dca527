"""The box [lower, upper] of u. Most problems have none; then nothing of it is compiled."""

from __future__ import annotations

import jax
import numpy as np

from mlejax.optimize.arrays import namespace, scalar
from mlejax.optimize.method import Point, Setting
from mlejax.shapes import Bool, Either, Float, Scalar

__all__ = ["active_bounds", "clip", "outside", "setting_of"]


def setting_of(u: Float[Either, " p"], lower: Either | None, upper: Either | None, scale: Scalar) -> Setting:
    """Box and scale of a run; no box where both edges are None, or known to be infinite when the program is built."""
    xp, scale = namespace(u), scalar(scale, u.dtype)
    if _infinite(lower) and _infinite(upper):
        return Setting(None, None, scale)
    low, high = (
        xp.broadcast_to(xp.asarray(infinite if edge is None else edge, u.dtype), u.shape)
        for edge, infinite in ((lower, -np.inf), (upper, np.inf))
    )
    return Setting(low, high, scale)


def _infinite(edge: Either | None) -> bool:
    """Whether there is no edge, as far as is known when the program is built."""
    return edge is None or (not isinstance(edge, jax.core.Tracer) and bool(np.isinf(edge).all()))


def clip(u: Float[Either, " p"], setting: Setting) -> Float[Either, " p"]:
    """The nearest point of the box, shape (p,)."""
    return u if setting.lower is None else namespace(u).clip(u, setting.lower, setting.upper)


def outside(u: Float[Either, " p"], setting: Setting) -> Bool[Either, " p"]:
    """Coordinates outside the box, shape (p,)."""
    if setting.lower is None or setting.upper is None:
        return namespace(u).zeros(u.shape, bool)
    return (u < setting.lower) | (u > setting.upper)


def active_bounds(point: Point, setting: Setting) -> Bool[Either, " p"]:
    """Coordinates on an edge that descent along -g would push out of the box, shape (p,)."""
    u, _, g, _ = point
    if setting.lower is None or setting.upper is None:
        return namespace(u).zeros(u.shape, bool)
    return ((u <= setting.lower) & (g > 0)) | ((u >= setting.upper) & (g < 0))
