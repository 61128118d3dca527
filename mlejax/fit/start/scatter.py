"""Random further starts, around the final point of a first search and on the scales of the data."""

from __future__ import annotations

import numpy as np

from mlejax import transforms
from mlejax.data import Prepared
from mlejax.fit.finish.natural import to_u
from mlejax.fit.start.given import Given
from mlejax.fit.start.summaries import columns_of, small_effect
from mlejax.fit.start.supports import random
from mlejax.linalg import diagonal_each
from mlejax.parameters import Space
from mlejax.shapes import Float, Host


def scatter(
    space: Space,
    data: Prepared,
    given: Given,
    u: Float[Host, "sets p"],
    information: Float[Host, "sets p p"] | None,
    n: int,
    seed: int,
) -> Float[Host, "sets n p"]:
    """Draw n random starts in u for each of L data sets, (L, n, p): half near u, half as widely spread as the data.

    The draws depend on the seed and on the data set's own rows, not on the other data sets.

    Near u the standard deviation of a coordinate is the larger of 3 standard errors and half its own size; for logarithms and
    logits it is between 1 and 2; each draw is multiplied by 0.3, 1 or 3.  Parameters with a given start are drawn as well.
    Entries of a structure (kind "Free") vary around their given start by about half their size.  All starts are projected
    onto the bounds.

    Args:
        space: layout of the parameters.
        data: the data sets, arrays (L, N, ...).
        given: for each leaf its given start or None, from `given_values`; used for structures.
        u, information: final point of the first search and the information there (None if not known); if that search went to
            infinity, its start instead.
        n: number of starts.
        seed: seed of the draws.
    """
    n_sets, p = u.shape
    rng = np.random.default_rng([seed, 1])
    n_near = (n + 1) // 2
    scale = _scale_near(space, u, information)
    steps = rng.standard_normal((n_near, p)) * rng.choice([0.3, 1.0, 3.0], (n_near, 1))
    near = u[:, None] + scale[:, None] * steps
    out = np.concatenate([near, _wide(space, data, n_sets, n - n_near, rng)], axis=1)
    free = np.array([leaf.kind == "Free" for leaf in space.leaves])[space.leaf_numbers]
    if free.any():
        values = [np.zeros(leaf.shape) if v is None else v for v, leaf in zip(given, space.leaves, strict=True)]
        base = np.asarray(to_u(space, values))
        moved = base * (1.0 + 0.5 * rng.standard_normal((n, 1))) + 0.1 * rng.standard_normal((n, p))
        out = np.where(free, moved, out)
    return np.clip(out, space.lower, space.upper)


def _scale_near(space: Space, u: np.ndarray, information: np.ndarray | None) -> np.ndarray:
    """Return the standard deviations, (L, p), of random starts near u (see `scatter`)."""
    errors = np.ones_like(u)
    if information is not None:
        diagonal = diagonal_each(information)
        good = np.isfinite(diagonal) & (diagonal > 0)
        most = 1e3 * np.maximum(1.0, np.abs(u))
        errors = np.where(good, np.minimum(1.0 / np.sqrt(np.where(good, diagonal, 1.0)), most), 1.0)
    own = np.maximum(3.0 * errors, 0.5 * np.abs(u))
    straight = [isinstance(leaf.transform, transforms.Identity) for leaf in space.leaves]
    return np.where(np.array(straight)[space.leaf_numbers], own, np.clip(own, 1.0, 2.0))


def _wide(space: Space, data: Prepared, n_sets: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw n random starts in u for each of the first ``n_sets`` data sets, (L, n, p).

    Starts alternate between two kinds: around 0 with unit scale, and with the location and scale of a column of the data. Every
    third one has twice the standard deviation.
    """
    columns, small = columns_of(data, n_sets), small_effect(data, n_sets)
    zero, one = np.zeros((n_sets, 1)), np.ones((n_sets, 1))
    location = np.concatenate([zero, np.where(columns.varies, columns.mean, 0.0)], axis=1)
    scale = np.concatenate([one, np.where(columns.varies, columns.sd, 1.0)], axis=1)
    which = (np.arange(n) + 1) % location.shape[1]
    width = np.where(np.arange(n) % 3 == 2, 2.0, 1.0)
    values = []
    for leaf in space.leaves:
        normal = rng.standard_normal((n, leaf.size))
        values.append(random(leaf, location[:, which], scale[:, which], small[:, None], width, normal))
    points = [to_u(space, [v[i, j] for v in values]) for i in range(n_sets) for j in range(n)]
    return np.asarray(points, np.float64).reshape(n_sets, n, space.n_free)
