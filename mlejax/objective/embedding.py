"""A model with ``fixed=`` evaluated as a point of the model without it, so that both use the same compiled programs.

A likelihood-ratio test fits a model twice, the second time with a value fixed.  The score and information of the second fit are
rows and columns of those of the full model at the fixed values, so that nothing is compiled again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from mlejax.execution import compiled
from mlejax.objective.specification import Spec
from mlejax.parameters import Space
from mlejax.shapes import Either, Float, Host, Int, PyTree

MOST_COORDINATES = 40  # largest full model for which this is done, since derivatives by fixed coordinates are wasted


@partial(compiled, static=("space",))
def _to_u(space: Space, values: list[Any]) -> Either:
    return space.u_from_params(space.build(values))


@dataclass(frozen=True, eq=False)
class Embedding:
    """The free coordinates u of a model with fixed values, as some of the coordinates of the full model.

    Attributes:
        spec: specification of the full model.
        base: coordinates (P,) of the full model, with the fixed values in place.
        free: positions (p,) of u among the coordinates of the full model.
    """

    spec: Spec
    base: Float[Host, " P"]
    free: Int[Host, " p"]

    def full(self, u: Float[Host, "*m p"]) -> Float[Host, "*m P"]:
        """Return all coordinates of the full model: u in those that are free, the fixed values in the others."""
        out = np.broadcast_to(self.base, (*np.shape(u)[:-1], self.base.size)).copy()
        out[..., self.free] = u
        return out

    def of_free(self, value: PyTree, score: PyTree, hessian: PyTree) -> tuple[Any, Any, Any]:
        """Return value, gradient and Hessian in u from those of the full model: the entries of the free coordinates."""
        return value, score[self.free], hessian[np.ix_(self.free, self.free)]


def embedding(spec: Spec, fixed: Either | None) -> Embedding | None:
    """Return the embedding of a model with fixed values; None if the full model has more than 40 coordinates or is not suitable.

    Not suitable are bias reduction, which depends on which coordinates are free, constraints, centred coordinates, and fixed
    values at a bound, of no parameter (``fixed`` is None) or of all.
    """
    space = spec.space
    if fixed is None or space.mapped or space.ties is not None or spec.reduction is not None or not space.n_free:
        return None
    whole = replace(space, leaves=tuple(replace(leaf, free=None) for leaf in space.leaves))
    if whole.n_free > MOST_COORDINATES:
        return None
    free: list[Any] = []
    for leaf, at in zip(space.leaves, whole.u_slices, strict=True):
        if leaf.n_free:
            free.append(at.start + (leaf.free_index if leaf.partly_fixed else np.arange(at.stop - at.start)))
    values = [np.reshape(fixed[at], leaf.shape) for leaf, at in zip(space.leaves, space.value_slices, strict=True)]
    positions = np.concatenate(free)
    base = np.array(_to_u(whole, values))
    base[positions] = 0.0
    if not np.isfinite(base).all():
        return None
    return Embedding(replace(spec, space=whole), base, positions)
