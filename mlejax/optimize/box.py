"""The box [lower, upper] of u. Most problems have none; then nothing of it is compiled."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from mlejax.optimize.arrays import namespace
from mlejax.optimize.method import Point, Setting
from mlejax.shapes import Bool, Either, Float, Scalar

__all__ = ["active_bounds", "clip", "outside", "setting_of"]


def setting_of(u: Float[Either, " p"], lower: Any, upper: Any, scale: Scalar) -> Setting:
    """Box and scale of a run; no box where both edges are None, or known to be infinite when the program is built."""
    xp = namespace(u)
    sides = []
    for edge, infinite in ((lower, -np.inf), (upper, np.inf)):
        concrete = not isinstance(edge, jax.core.Tracer)
        none = edge is None or (concrete and bool(np.all(np.asarray(edge) == infinite)))
        sides.append((none, xp.broadcast_to(xp.asarray(infinite if none else edge, u.dtype), u.shape)))
    if all(none for none, _ in sides):
        return Setting(None, None, xp.asarray(scale, u.dtype))
    return Setting(sides[0][1], sides[1][1], xp.asarray(scale, u.dtype))


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
