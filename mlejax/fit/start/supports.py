"""Start values inside the support of each kind of parameter: central ones and random ones, with any leading axes."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from mlejax import transforms
from mlejax.parameters import Leaf, Space
from mlejax.shapes import Float, Host


def positive(leaf: Leaf) -> bool:
    """True if the support of the leaf is (0, inf) or [0, inf)."""
    t = leaf.transform
    return isinstance(t, transforms.Log) or (isinstance(t, transforms.Box) and t.lo == 0.0 and math.isinf(t.hi))


def place(
    leaf: Leaf,
    location: Float[Host, "*lead"],
    scale: Float[Host, "*lead"],
    offset: Float[Host, ...],
    deviation: Float[Host, ...],
) -> Float[Host, "*values"]:
    """Return values of a leaf, (\\*lead, \\*shape), around a location and a scale, inside its support.

    Real entries are ``location + offset``, positive ones ``scale exp(2 d)``, bounded ones ``lo + (hi - lo) logistic(2 d)``,
    ordered ones the sorted ``location + scale d``; a simplex is the softmax of d. A matrix is diagonal, and all its entries use
    the first d: a Cholesky factor has ``scale exp(d)`` on the diagonal, a covariance its square, a correlation 1.

    Args:
        leaf: the parameter.
        location, scale: location and scale, (\\*lead,).
        offset: added to real entries, (\\*lead, size).
        deviation: d, (\\*lead, size); 0 for central values, standard normal for random ones.
    """
    t, lead = leaf.transform, location.shape
    shape = (*lead, *leaf.shape)
    if isinstance(t, transforms.Identity):
        return (location[..., None] + offset).reshape(shape)
    if positive(leaf):
        return (scale[..., None] * np.exp(2.0 * deviation)).reshape(shape)
    if isinstance(t, (transforms.Logit, transforms.Box, transforms.HalfOpen)):
        values = t.lo + (t.hi - t.lo) / (1.0 + np.exp(-2.0 * deviation))
        return np.broadcast_to(values, (*lead, leaf.size)).reshape(shape)
    over = (..., *(None,) * len(leaf.shape))
    each = np.broadcast_to(deviation, (*lead, leaf.size)).reshape(shape)
    if isinstance(t, transforms.Ordered):
        return np.sort(location[over] + scale[over] * each, axis=-1)
    if isinstance(t, transforms.Simplex):
        weights = np.exp(each)
        return weights / weights.sum(-1, keepdims=True)
    one = scale * np.exp(each.reshape(*lead, leaf.size)[..., 0])
    power = 2 if isinstance(t, transforms.Covariance) else 1 if isinstance(t, transforms.Cholesky) else 0
    size = one[over] ** power
    return np.broadcast_to(np.eye(leaf.shape[-1]) * size, shape).copy()


def central(
    leaf: Leaf,
    location: Float[Host, "*lead"],
    scale: Float[Host, "*lead"],
    offset: Float[Host, ...],
    rank: Float[Host, " size"],
) -> Float[Host, "*values"]:
    r"""Return central values of a leaf, (\*lead, \*shape), that differ slightly between parameters of equal declaration.

    ``rank``: position of each entry among those of equal declaration, in [-1, 1], (size,); other arguments as in `place`.
    """
    if leaf.transform.elementwise:
        return place(leaf, location, scale, offset, 0.05 * rank)
    along = np.broadcast_to(np.linspace(-1.0, 1.0, leaf.shape[-1]), leaf.shape).reshape(-1)
    width = (
        1.0 if isinstance(leaf.transform, transforms.Ordered) else 0.05 * isinstance(leaf.transform, transforms.Simplex)
    )
    return place(leaf, location, scale, offset, width * along)


def at_guess(leaf: Leaf, guess: Float[Host, "*lead 4"], rank: Float[Host, " size"]) -> Float[Host, "*values"]:
    r"""Return values of a leaf, (\*lead, \*shape), for guesses (\*lead, 4): location, scale, spread of scalars, spread of
    vectors.

    ``rank``: as in `central`. A vector is placed at the location only if its spread equals the scale, else at 0.
    """
    location, scale, scalar, vector = (guess[..., i] for i in range(4))
    if leaf.shape == ():
        return central(leaf, location, scale, 0.5 * scalar[..., None] * rank, rank)
    return central(leaf, np.where(vector == scale, location, 0.0), scale, vector[..., None] * rank, rank)


@lru_cache(maxsize=256)
def ranks(space: Space) -> tuple[np.ndarray, ...]:
    """Return for each leaf the positions of its entries among all entries of equal declaration, scaled to [-1, 1], (size,)."""
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
    r"""Draw random values of a leaf, (\*lead, m, \*shape), inside its support.

    Real scalars vary around the location by ``scale``; real vectors vary around 0 by ten times ``small``.

    Args:
        leaf: the parameter.
        location, scale: locations and scales.
        small: a small coefficient, from `small_effect`.
        width: factor on the standard normal draws.
        normal: standard normal draws.
    """
    deviation = width[:, None] * normal
    if leaf.shape == ():
        return place(leaf, location, scale, scale[..., None] * deviation, deviation)
    center = 0.0 * location if isinstance(leaf.transform, transforms.Identity) else location
    return place(leaf, center, scale, 10.0 * small[..., None] * deviation, deviation)
