"""Start candidates in which one real scalar is a location or threshold, one positive scalar the scale, and the others are shapes.

Shape parameters do not depend on the units of the data: a shape on the scale of the data (xi of an
extreme-value distribution at the mean of its outcome) is far from any maximum, and often outside the support of the data.
For every column, and for every choice of the location and the scale among the scalars, the candidates are:

* location at the mean, scale at the standard deviation;
* threshold a little below the least value, scale at the distance of the mean from there;
* no location, scale at the size of the mean;
* location one standard deviation from the mean, scale 1.4 of them, and a skewed shape;

with the other real scalars near 0.1 or -0.1 (inside the unit circle too, for recursions), 2 or -2 in the last kind, and the
other positive ones near 1.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from mlejax import transforms
from mlejax.fit.start.summaries import ColumnStatistics
from mlejax.fit.start.supports import at_guess, positive, ranks
from mlejax.parameters import Space
from mlejax.shapes import Float, Host

SHAPES = (0.1, -0.1)
MOST_SCALARS = 3  # choices of the location, and of the scale, at most
MOST_COLUMNS = 4


class Role(NamedTuple):
    """One kind of start candidate: which scalar parameter is the location and which the scale.

    Attributes:
        kind: number of the placement: 0 to 2 for the first three in the list of the module docstring, 3 and 4 for the last
            (location below and above the mean).
        location, scale: positions of their leaves, -1 for none.
        shape: start of the other real scalars.
    """

    kind: int
    location: int
    scale: int
    shape: float


def _scalars(space: Space) -> tuple[list[int], list[int]]:
    """Return the positions of the free scalar leaves: (real ones, positive ones)."""
    scalars = [(i, leaf) for i, leaf in enumerate(space.leaves) if leaf.shape == () and not leaf.all_fixed]
    real = [i for i, leaf in scalars if isinstance(leaf.transform, transforms.Identity)]
    return real, [i for i, leaf in scalars if positive(leaf)]


@lru_cache(maxsize=256)
def lone_shape(space: Space) -> bool:
    """True if there is exactly one real scalar, and at least one positive one, so that the real one may be a shape."""
    real, scales = _scalars(space)
    return len(real) == 1 and len(scales) > 0


@lru_cache(maxsize=256)
def _roles(space: Space) -> tuple[Role, ...]:
    """Return the assignments of location and scale to the free scalar parameters, one for each start candidate that a data
    column gives.

    The tuple is empty if there is no real scalar and fewer than two positive ones.
    """
    real, scales = _scalars(space)
    out = []
    for scale in scales[:MOST_SCALARS] or [-1]:
        for location in real[:MOST_SCALARS]:
            shapes = SHAPES if len(real) > 1 else SHAPES[:1]
            if len(real) > 1 or len(scales) > 1:  # else it is one of the other candidates
                out += [Role(0, location, scale, shape) for shape in shapes]
            out += [Role(1, location, scale, shape) for shape in shapes]
            if len(real) > 1:
                out += [Role(3, location, scale, 2.0), Role(4, location, scale, -2.0)]
        if scales and real:
            out += [Role(2, -1, scale, shape) for shape in SHAPES]
        elif len(scales) > 1:
            out += [Role(2, -1, scale, 0.0), Role(0, -1, scale, 0.0)]
    return tuple(out)


def role_candidates(
    space: Space, columns: ColumnStatistics, small: Float[Host, " sets"]
) -> list[Float[Host, "*values"]]:
    """Return the start candidates of all columns, natural scale, one array (L, m, ...) for each leaf.

    Real vectors are nearly 0 in them.  m depends on the layout and the number of columns only.

    Args:
        space: layout of the parameters.
        columns: statistics of the columns of L data sets.
        small: a small coefficient for each data set, (L,), from `small_effect`.
    """
    roles, n_sets = _roles(space), len(small)
    mean, sd, low = (a[:, :MOST_COLUMNS, None] for a in (columns.mean, columns.sd, columns.low))
    varies = columns.varies[:, :MOST_COLUMNS, None]
    n = len(roles)
    kind = np.array([role.kind for role in roles], np.int64)
    with np.errstate(all="ignore"):
        threshold = low - 0.1 * sd
        size = np.where(mean > 0, mean, np.abs(mean) + sd)
        places = np.concatenate([mean, threshold, 0.0 * mean, mean - sd, mean + sd], axis=2)
        sizes = np.concatenate([sd, mean - threshold, size, 1.4 * sd, 1.4 * sd], axis=2)
    location = np.where(varies, places, 0.0)[:, :, kind]
    scale = np.where(varies, sizes, 1.0)[:, :, kind]
    shape = np.array([role.shape for role in roles])
    tiny = np.broadcast_to(small[:, None, None], location.shape)
    none = np.stack([tiny, scale, tiny, tiny], axis=-1)
    out = []
    for i, (leaf, rank) in enumerate(zip(space.leaves, ranks(space), strict=True)):
        if leaf.shape == () and isinstance(leaf.transform, transforms.Identity):
            chosen = np.array([role.location == i for role in roles], bool)
            value = np.where(chosen, location, shape * (1.0 + 0.25 * rank))
        elif leaf.shape == () and positive(leaf):
            chosen = np.array([role.scale == i for role in roles], bool)
            value = np.where(chosen, scale, np.exp(0.1 * rank))
        else:
            value = at_guess(leaf, none, rank)
        out.append(value.reshape(n_sets, n * location.shape[1], *leaf.shape))
    return out
