"""Names for annotating arrays: where an array lives, combined with a dtype and a shape of jaxtyping.

    def scores(u: Float[Host, " p"], rows: Float[Either, "n k"]) -> Float[Host, "n p"]: ...

``Host`` is NumPy, ``Device`` is JAX (traced arrays included), ``Either`` is whichever the caller works with; ``Scalar`` is a
number or an array without axes.  Shapes stand on functions and NamedTuples.  Fields of pytree dataclasses carry none: JAX
fills such fields with other objects inside ``tree.map`` and ``vmap``.
"""

from __future__ import annotations

from typing import TypeAlias

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, PyTree, Shaped

__all__ = ["Bool", "Device", "Either", "Float", "Host", "Int", "PyTree", "Scalar", "Shaped"]

Host: TypeAlias = np.ndarray
Device: TypeAlias = jax.Array
Either: TypeAlias = np.ndarray | jax.Array
Scalar: TypeAlias = float | np.floating | np.ndarray | jax.Array
