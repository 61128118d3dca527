"""A model with ``fixed=`` as a point of the model without it: the same compiled programs serve both.

A likelihood-ratio test fits a model twice, the second time with a value fixed.  Its score and information are rows and
columns of those of the whole model at the point where the fixed coordinates have their values, so that nothing is compiled
again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from mlejax.execution import compiled
from mlejax.objective.objective import Spec
from mlejax.parameters import Space
from mlejax.shapes import Either, Float, Host, Int, PyTree

MOST_COORDINATES = 40  # of the whole model: derivatives by fixed coordinates are computed and not used


@partial(compiled, static=("space",))
def _to_u(space: Space, values: list[Any]) -> Either:
    return space.u_from_params(space.build(values))


@dataclass(frozen=True, eq=False)
class Embedding:
    """The coordinates u of a model with fixed values among those of the whole model.

    Attributes:
        spec: of the whole model.
        base: coordinates (P,) of the whole model, right at the fixed ones.
        free: positions (p,) of u among them.
    """

    spec: Spec
    base: Float[Host, " P"]
    free: Int[Host, " p"]

    def full(self, u: Float[Host, "*m p"]) -> Float[Host, "*m P"]:
        """Coordinates of the whole model."""
        out = np.broadcast_to(self.base, (*np.shape(u)[:-1], self.base.size)).copy()
        out[..., self.free] = u
        return out

    def of_free(self, value: PyTree, score: PyTree, hessian: PyTree) -> tuple[Any, Any, Any]:
        """Value, gradient and Hessian in u from those of the whole model."""
        return value, score[self.free], hessian[np.ix_(self.free, self.free)]


def embedding(spec: Spec, fixed: Either | None) -> Embedding | None:
    """The embedding of a model with fixed values; None where the whole model is too large or its coordinates do not do.

    Bias reduction is a function of the free coordinates, and constraints mix them.
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
