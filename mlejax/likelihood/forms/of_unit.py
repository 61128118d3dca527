"""A function of one unit that gets a single value of each column that is constant within units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from mlejax.data import View
from mlejax.portable import reduced
from mlejax.shapes import Data, PyTree, Reduced


@dataclass(frozen=True, eq=False)
class OfUnit:
    """The user's function of one unit; columns that are constant within units are passed as single values.

    Attributes:
        function: the user's function.
        per_unit: names of the constant columns.
    """

    function: Callable[[Any, Any], jax.Array]
    per_unit: tuple[str, ...]

    def __reduce__(self) -> Reduced:
        return reduced(self, "function")

    @property
    def __name__(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    @property
    def __wrapped__(self) -> Callable[[Any, Any], jax.Array]:
        return self.function

    def __call__(self, params: PyTree, data: Data) -> jax.Array:
        """Return ``function(params, data)``, where each column of ``per_unit`` is replaced by its first entry."""
        if isinstance(data, View):
            return self.function(params, data.replacing(self.per_unit, lambda a: a[0]))
        return self.function(params, {k: v[0] if k in self.per_unit else v for k, v in data.items()})
