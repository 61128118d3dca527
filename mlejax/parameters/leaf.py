"""One array of ``params``: its transform, its labels, and its free entries."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mlejax import transforms
from mlejax.execution import evaluated, float64
from mlejax.parameters.constraints.ties import REAL, Support, support_of
from mlejax.shapes import Device, Either, Float, Reduced
from mlejax.transforms import Transform

COEFFICIENTS = "Coefficients"  # the kind of the array of coefficients that replaces a parameter with a formula


@dataclass(frozen=True)
class Leaf:
    """One array of ``params``, without values; hashable.

    Attributes:
        name: its name, such as ``beta`` or ``net.layer0.w``.
        kind: its declaration, such as "Positive" or "Interval(0, 1)"; "Coefficients" for those of a formula.
        transform: the map between its natural values and unconstrained coordinates.
        shape: its shape.
        labels: names of the entries along the last axis, or None for numbers.
        free: one flag for each entry of the flattened array, False if it is fixed; None if all entries are free.
        entries: for the coefficients (*entries, k) of an array with a formula, the names of that array's entries, flattened;
            otherwise None.
    """

    name: str
    kind: str
    transform: Transform
    shape: tuple[int, ...]
    labels: tuple[str, ...] | None = None
    free: tuple[bool, ...] | None = None
    entries: tuple[str, ...] | None = None

    @cached_property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @cached_property
    def all_fixed(self) -> bool:
        return self.free is not None and not any(self.free)

    @cached_property
    def partly_fixed(self) -> bool:
        return self.free is not None and any(self.free)

    @cached_property
    def free_index(self) -> np.ndarray:
        assert self.free is not None
        return np.flatnonzero(np.asarray(self.free))

    @cached_property
    def working_shape(self) -> tuple[int, ...]:
        """The shape of the natural value that the transform gives: that of the whole array, or (number of free entries,) if some,
        but not all, entries are fixed.
        """
        return (len(self.free_index),) if self.partly_fixed else self.shape

    @cached_property
    def n_free(self) -> int:
        return 0 if self.all_fixed else int(self.transform.n_free(self.working_shape))

    @cached_property
    def reported_index(self) -> np.ndarray:
        """Positions in the flattened array of the entries that tables show."""
        if self.transform.elementwise:
            return np.arange(self.size)
        pairs = self.transform.reported(self.shape)
        return np.array([np.ravel_multi_index(ix, self.shape) for ix in pairs], dtype=np.int64)

    @cached_property
    def entry_labels(self) -> tuple[str, ...]:
        return tuple(self.name + self.suffix(int(i)) for i in self.reported_index)

    @cached_property
    def theta_labels(self) -> tuple[str, ...]:
        """The names of the entries of theta that belong to this array; one that is fixed as a whole has none in theta."""
        if self.partly_fixed:
            flat = self.free_index
        else:
            with float64():
                where = np.arange(self.size, dtype=np.float64).reshape(self.shape)
                flat = evaluated(self.transform.free, where).astype(int)
        return tuple(self.name + self.suffix(int(i)) for i in flat)

    @cached_property
    def supports(self) -> tuple[Support, ...]:
        """The support of each entry that tables show; of an entry of a structured array that of its interval's scale, such as
        (0, inf) for a variance.
        """
        links = self.transform.interval_links(self.shape)
        return tuple(support_of(self.transform) or support_of(link) or REAL for link in links)

    def write_reported(self, out: np.ndarray) -> None:
        """Write the constant derivative of this array's entries in tables with respect to its theta into ``out``.

        Args:
            out: zeros (n_reported, n_free), overwritten. Rows of fixed entries stay 0. The probability that is 1 minus the others
                has derivative 0 in those that are 0 at the estimate (`ClosedSimplex.derivative_mask`).
        """
        if self.transform.elementwise:
            out[self.free_index if self.partly_fixed else np.arange(self.size), np.arange(self.n_free)] = 1.0
            return
        with float64():
            basis = np.vstack([np.zeros(self.n_free), np.eye(self.n_free)])
            values = evaluated(jax.vmap(lambda t: jnp.reshape(self.transform.expand(t, self.shape), (-1,))), basis)
        out[:] = (values[1:] - values[0]).T[self.reported_index]
        if isinstance(self.transform, transforms.ClosedSimplex):
            out *= self.transform.derivative_mask(self.shape)

    def suffix(self, flat: int) -> str:
        if not self.shape:
            return ""
        if self.entries is not None:
            assert self.labels is not None
            entry, column = divmod(flat, self.shape[-1])
            return f"[{self.entries[entry]}][{self.labels[column]}]"
        ix = np.unravel_index(flat, self.shape)
        parts = [str(int(i)) for i in ix]
        if self.labels is not None:
            parts[-1] = self.labels[int(ix[-1])]
            if isinstance(self.transform, transforms.Triangular):
                parts[-2] = self.labels[int(ix[-2])]
        return f"[{','.join(parts)}]"

    def value(self, u: Float[Device, " n_free"], fixed: Either | None) -> Device:
        """Return the natural value (*shape) from u of this array (n_free,) and its fixed values (size,), which may be None if no
        entry is fixed.
        """
        return self._placed(None if self.all_fixed else self.transform.forward(u, self.working_shape), fixed)

    def from_theta(self, theta: Float[Device, " n_free"], fixed: Either | None) -> Device:
        """Return the natural value (*shape) from theta of this array (n_free,) and its fixed values (size,), which may be None
        if no entry is fixed.
        """
        return self._placed(None if self.all_fixed else self.transform.expand(theta, self.working_shape), fixed)

    def _placed(self, value: Any, fixed: Any) -> Device:
        """Return the whole array (*shape): ``value``, the free entries, put among the fixed values (size,), or ``value`` itself
        if no entry is fixed.
        """
        if self.free is None:
            return value
        if value is not None:
            fixed = jnp.asarray(fixed).at[self.free_index].set(value)
        return jnp.reshape(fixed, self.shape)

    def working(self, value: Either) -> Device:
        """Return the part of a natural value that the transform represents: its free entries, a vector, if some but not all
        entries are fixed, else all of it.
        """
        return jnp.reshape(value, (-1,))[self.free_index] if self.partly_fixed else jnp.asarray(value)


@dataclass(frozen=True)
class Group:
    """One top-level entry of ``params``, or all of it.

    Attributes:
        name: its key; None if it is all of ``params``, which is then no dict of declared parameters.
        treedef: its structure; None for a single array.
        n_leaves: its number of arrays.
    """

    name: str | None
    treedef: jax.tree_util.PyTreeDef
    n_leaves: int

    def __reduce__(self) -> Reduced:
        # a structure with the user's own classes pickles as long as these do
        numbers = None if self.treedef is None else jax.tree.unflatten(self.treedef, range(self.n_leaves))
        return _group, (self.name, self.treedef is None, numbers, self.n_leaves)

    def split(self, value: Either) -> list[Any]:
        """Return the arrays of a value of this entry, in the order of `Space.leaves`; shapes are not checked.

        Raises:
            ValueError: the value does not have the declared structure.
        """
        if self.treedef is None:
            return [value]
        leaves, treedef = jax.tree.flatten(value)
        if treedef != self.treedef:
            raise ValueError(
                f"{self.name or 'params'}: expected a pytree with the structure of its start value, {self.treedef}, got {treedef}"
            )
        return leaves


def _group(name: str | None, single: bool, numbers: Any, n_leaves: int) -> Group:
    return Group(name, None if single else jax.tree.structure(numbers), n_leaves)
