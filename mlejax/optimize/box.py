"""The box [lower, upper] of u, which most problems do not have: then nothing of it is compiled."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from mlejax.optimize.arrays import arrays
from mlejax.optimize.contract import Setting

__all__ = ["clip", "outward", "setting_of"]


def setting_of(u: jax.Array, lower: Any, upper: Any, scale: Any) -> Setting:
    """What stays the same over a run; without a box where both edges are None, or known to be infinite when traced."""
    xp = arrays(u)
    sides = []
    for edge, infinite in ((lower, -np.inf), (upper, np.inf)):
        known = edge is None or (not isinstance(edge, jax.core.Tracer) and bool(np.all(np.asarray(edge) == infinite)))
        sides.append(None if known else xp.asarray(edge, u.dtype))
    if sides[0] is not None or sides[1] is not None:
        shape = u.shape
        sides[0] = xp.full(shape, -np.inf, u.dtype) if sides[0] is None else xp.broadcast_to(sides[0], shape)
        sides[1] = xp.full(shape, np.inf, u.dtype) if sides[1] is None else xp.broadcast_to(sides[1], shape)
    return Setting(sides[0], sides[1], xp.scalar(scale, u.dtype))


def clip(u: jax.Array, setting: Setting) -> jax.Array:
    """The nearest point of the box, shape (p,)."""
    return u if setting.lower is None else arrays(u).clip(u, setting.lower, setting.upper)


def outward(u: jax.Array, g: jax.Array, setting: Setting) -> jax.Array:
    """Coordinates at an edge that descent along -g would push out of the box, shape (p,), bool."""
    if setting.lower is None or setting.upper is None:
        return arrays(u).zeros(u.shape, bool)
    return ((u <= setting.lower) & (g > 0)) | ((u >= setting.upper) & (g < 0))
