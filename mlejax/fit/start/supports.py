"""Values inside every kind of support: central ones, and random ones, with any leading axes."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from mlejax import transforms
from mlejax.parameters import Leaf, Space
from mlejax.shapes import Float, Host


def positive(leaf: Leaf) -> bool:
    """Whether the leaf's support is the positive half-line, open or closed."""
    t = leaf.transform
    return isinstance(t, transforms.Log) or (isinstance(t, transforms.Box) and t.lo == 0.0 and math.isinf(t.hi))


def central(
    leaf: Leaf,
    location: Float[Host, "*lead"],
    scale: Float[Host, "*lead"],
    offset: Float[Host, "*any size"],
    rank: Float[Host, " size"],
) -> Float[Host, "*values"]:
    """A leaf's values (\\*lead, \\*shape): near ``location`` if real, near ``scale`` if positive, else in the middle.

    Args:
        offset: what is added to the location of each entry of a real leaf.
        rank: position of each entry among the parameters of equal declaration, in [-1, 1]; it keeps their starts apart.
    """
    t, shape = leaf.transform, (*location.shape, *leaf.shape)
    if isinstance(t, transforms.Identity):
        return (location[..., None] + offset).reshape(shape)
    if positive(leaf):
        return (scale[..., None] * np.exp(0.1 * rank)).reshape(shape)
    if isinstance(t, (transforms.Logit, transforms.Box, transforms.HalfOpen)):
        values = t.lo + (t.hi - t.lo) * (0.5 + 0.02 * rank)
        return np.broadcast_to(values, (*location.shape, leaf.size)).reshape(shape)
    k, over = leaf.shape[-1], (..., *(None,) * len(leaf.shape))
    if isinstance(t, transforms.Ordered):
        return np.broadcast_to(location[over] + scale[over] * np.linspace(-1.0, 1.0, k), shape).copy()
    if isinstance(t, transforms.Simplex):
        weights = 1.0 + 0.05 * np.linspace(-1.0, 1.0, k)
        return np.broadcast_to(weights / weights.sum(), shape).copy()
    size = scale[over] ** 2 if isinstance(t, transforms.Covariance) else 1.0
    return np.broadcast_to(np.eye(k) * size, shape).copy()


def at_guess(leaf: Leaf, guess: Float[Host, "*lead 4"], rank: Float[Host, " size"]) -> Float[Host, "*values"]:
    """A leaf's values (\\*lead, \\*shape) at guesses: location, scale, spread of scalars, spread of vectors."""
    location, scale, scalar, vector = (guess[..., i] for i in range(4))
    if leaf.shape == ():
        return central(leaf, location, scale, 0.5 * scalar[..., None] * rank, rank)
    return central(leaf, np.where(vector == scale, location, 0.0), scale, vector[..., None] * rank, rank)


@lru_cache(maxsize=256)
def ranks(space: Space) -> tuple[np.ndarray, ...]:
    """For each leaf the positions (size,) of its entries among all entries of equal declaration, in [-1, 1]."""
    totals: dict[tuple[str, bool], int] = {}
    places = []
    for leaf in space.leaves:
        key = (leaf.kind, leaf.shape == ())
        places.append((key, totals.get(key, 0)))
        totals[key] = totals.get(key, 0) + (leaf.size if leaf.transform.elementwise else 1)
    return tuple(
        (2.0 * (begin + np.arange(leaf.size)) - (totals[key] - 1)) / max(totals[key] - 1, 1)
        if leaf.transform.elementwise
        else np.linspace(-1.0, 1.0, leaf.size)
        for (key, begin), leaf in zip(places, space.leaves, strict=True)
    )


def random(
    leaf: Leaf,
    location: Float[Host, "*lead m"],
    scale: Float[Host, "*lead m"],
    small: Float[Host, "*lead 1"],
    width: Float[Host, " m"],
    normal: Float[Host, "m size"],
) -> Float[Host, "*values"]:
    """A leaf's random values (\\*lead, m, \\*shape) from standard normal draws.

    Args:
        small: an effect whose product with any column of the data is small; vectors of real numbers are ten times as wide.
        width: multiplies the scale of the draws (of logarithms and logits, outside the real line).
    """
    t, lead = leaf.transform, location.shape
    shape, wide = (*lead, *leaf.shape), width[:, None]
    if isinstance(t, transforms.Identity):
        center, spread = (location, scale) if leaf.shape == () else (0.0 * location, 10.0 * small)
        return (center[..., None] + (width * spread)[..., None] * normal).reshape(shape)
    if positive(leaf):
        return (scale[..., None] * np.exp(2.0 * wide * normal)).reshape(shape)
    if isinstance(t, (transforms.Logit, transforms.Box, transforms.HalfOpen)):
        values = t.lo + (t.hi - t.lo) / (1.0 + np.exp(-2.0 * wide * normal))
        return np.broadcast_to(values, (*lead, leaf.size)).reshape(shape)
    over, each = (..., *(None,) * len(leaf.shape)), normal.reshape(len(normal), *leaf.shape)
    if isinstance(t, transforms.Ordered):
        return np.sort(location[over] + (scale * width)[over] * each, axis=-1)
    if isinstance(t, transforms.Simplex):
        weights = np.exp(width[over] * each)
        return np.broadcast_to(weights / weights.sum(-1, keepdims=True), shape).copy()
    zero = np.zeros(leaf.size)
    return central(leaf, location, scale * np.exp(width * normal[:, 0]), zero, zero)
