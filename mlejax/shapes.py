"""Names for annotating arrays: where an array lives, combined with a dtype and a shape of jaxtyping.

    def scores(u: Float[Host, " p"], rows: Float[Either, "n k"]) -> Float[Host, "n p"]: ...

``Host`` is a NumPy array, ``Device`` a JAX array (traced arrays included), ``Either`` one of both; ``Scalar`` is a real number
or an array without axes, ``Count`` a whole number and ``Flag`` a truth value.  ``Params`` is the user's tree of parameters on
the natural scale; ``Data`` is the data argument of a likelihood, or a table from which it is made.  Functions and NamedTuples
are annotated with shapes.  Fields of pytree dataclasses are not: JAX fills such fields with other objects inside ``tree.map``
and ``vmap``.

jaxtyping is only imported where annotations are read: by type checkers, and by what checks shapes at run time, which has imported
jaxtyping before mlejax. Everywhere else its names stand for `Any`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import numpy as np
from numpy.typing import DTypeLike

if TYPE_CHECKING or "jaxtyping" in sys.modules:
    from jaxtyping import Bool, Float, Int, PyTree, Shaped
else:

    class Shaped:
        """Stands for an array type of jaxtyping, ``Float[Host, "n p"]``, where nothing reads it."""

        def __class_getitem__(cls, _: object) -> Any:
            return Any

    Bool = Float = Int = Shaped
    PyTree = Any

# fmt: off
__all__ = [
    "Bool", "Count", "DTypeLike", "Data", "Device", "Either", "Flag", "Float", "Host", "Int", "Params", "PyTree", "Reduced",
    "Scalar", "Shaped",
]
# fmt: on

Host: TypeAlias = np.ndarray
Device: TypeAlias = jax.Array
Either: TypeAlias = np.ndarray | jax.Array
Scalar: TypeAlias = float | np.floating | np.ndarray | jax.Array
Flag: TypeAlias = bool | np.bool_ | np.ndarray | jax.Array
Count: TypeAlias = int | np.integer | np.ndarray | jax.Array
Params: TypeAlias = PyTree
Data: TypeAlias = PyTree
Reduced: TypeAlias = tuple[
    Callable[..., Any], tuple[Any, ...]
]  # what ``__reduce__`` gives: how to make the object again
