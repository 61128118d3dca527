"""The layout of all parameters and the conversions between params, theta and u."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.execution import evaluated, float64
from mlejax.parameters import addresses
from mlejax.parameters.addresses import near
from mlejax.parameters.constraints.curved_ties import CurvedTies
from mlejax.parameters.constraints.ties import Ties, solve_ties, support_of
from mlejax.parameters.coordinates import split_constants
from mlejax.parameters.leaf import Group, Leaf
from mlejax.shapes import Either, Float, Params, PyTree, Reduced


@dataclass(frozen=True)
class Space:
    """The layout of all parameters: hashable, without data; converts between params, theta and u.

    With ``ties``, theta and u are the coordinates that these keep, and the others follow
    (:mod:`mlejax.parameters.constraints.ties`; with :mod:`mlejax.parameters.constraints.curved_ties` near a point that is
    kept among the fixed values).
    With ``mapped``, u and theta are affine functions of the coordinates of a search, and the numbers of the map stand behind
    the fixed values (:mod:`mlejax.parameters.coordinates`); the search's own coordinates then take the places of u and theta.
    """

    groups: tuple[Group, ...]
    leaves: tuple[Leaf, ...]
    ties: Ties | CurvedTies | None = None
    mapped: bool = False

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.groups, self.leaves, self.ties, self.mapped))

    def __reduce__(self) -> Reduced:
        # without the hash: the hash of a text differs between processes
        return Space, (self.groups, self.leaves, self.ties, self.mapped)

    @cached_property
    def own(self) -> Space:
        """The same layout in u and theta, without a map."""
        return replace(self, mapped=False) if self.mapped else self

    @cached_property
    def untied(self) -> Space:
        """The same layout without constraints."""
        return replace(self, ties=None)

    def in_own(self, point: Either, constants: Either | None, of_theta: bool = False) -> tuple[Any, Any]:
        """A point (..., n_free) of the search's coordinates in u (or of its theta in theta), and the fixed values."""
        if not self.mapped:
            return point, constants
        assert constants is not None
        coordinates, fixed = split_constants(constants, self.n_free)
        return (coordinates.in_theta(self) if of_theta else coordinates).to_u(point), fixed

    # ---- sizes and offsets

    @cached_property
    def n_free(self) -> int:
        """Length of u and of theta."""
        return sum(leaf.n_free for leaf in self.leaves) if self.ties is None else len(self.ties.kept)

    @cached_property
    def n_values(self) -> int:
        """Number of all entries of params: the length of the vector of fixed values."""
        return sum(leaf.size for leaf in self.leaves)

    @cached_property
    def n_reported(self) -> int:
        return sum(len(leaf.reported_index) for leaf in self.leaves)

    @cached_property
    def u_slices(self) -> tuple[slice, ...]:
        """Where each leaf has its coordinates among all of them, those that follow from others included."""
        return _slices([leaf.n_free for leaf in self.leaves])

    @cached_property
    def value_slices(self) -> tuple[slice, ...]:
        return _slices([leaf.size for leaf in self.leaves])

    @cached_property
    def reported_slices(self) -> tuple[slice, ...]:
        return _slices([len(leaf.reported_index) for leaf in self.leaves])

    # ---- conversions

    def build(self, values: Sequence[Any]) -> Params:
        """Arrays, one a leaf, -> the user's structure."""
        tree: dict[str, Any] = {}
        position = 0
        for group in self.groups:
            part = list(values[position : position + group.n_leaves])
            position += group.n_leaves
            whole = part[0] if group.treedef is None else jax.tree.unflatten(group.treedef, part)
            if group.name is None:
                return whole
            tree[group.name] = whole
        return tree

    def split(self, params: PyTree) -> list[Any]:
        """The user's structure -> its arrays, one a leaf, shapes checked."""
        values: list[Any] = []
        if any(g.name is not None for g in self.groups):
            if not isinstance(params, Mapping):
                raise TypeError(
                    f"expected a dict of parameters with keys {[g.name for g in self.groups]}, got {type(params).__name__}"
                )
            names = [str(g.name) for g in self.groups]
            missing = [n for n in names if n not in params]
            extra = [str(k) for k in params if k not in names]
            if missing or extra:
                raise ValueError(
                    f"expected the parameters {names}; missing: {missing or 'none'}, unknown: {extra or 'none'}"
                    + near(extra[0] if extra else "", names)
                )
        for group in self.groups:
            values.extend(group.split(params if group.name is None else params[group.name]))
        for leaf, value in zip(self.leaves, values, strict=True):
            if np.shape(value) != leaf.shape:
                raise ValueError(f"{leaf.name}: expected shape {leaf.shape}, got {np.shape(value)}")
        return values

    def at_fixed(self, values: Float[Either, " n_values"]) -> Params:
        """Params of the vector that fixed values stand in."""
        parts = [jnp.reshape(values[at], lf.shape) for at, lf in zip(self.value_slices, self.leaves, strict=True)]
        return self.build(parts)

    def params_from_u(self, u: Float[Either, " n_free"], fixed: Either | None = None) -> Params:
        """u (n_free,) and fixed values (n_values,) -> params, differentiably."""
        if self.mapped:
            return self.own.params_from_u(*self.in_own(u, fixed))
        if isinstance(self.ties, CurvedTies):
            assert fixed is not None
            return self.untied.params_from_u(self.ties.in_u(self.untied, u, fixed), fixed)
        if self.ties is not None:
            return self.params_from_theta(self.theta_from_u(u, fixed), fixed)
        return self.build(self._values(u, fixed, "value"))

    def params_from_theta(self, theta: Float[Either, " n_free"], fixed: Either | None = None) -> Params:
        """theta (n_free,) and fixed values (n_values,) -> params, affine in both."""
        if self.mapped:
            return self.own.params_from_theta(*self.in_own(theta, fixed, of_theta=True))
        if isinstance(self.ties, CurvedTies):
            assert fixed is not None
            return self.untied.params_from_theta(self.ties.in_theta(self.untied, theta, fixed), fixed)
        if self.ties is not None:
            theta = self.ties.offset + self.ties.matrix @ theta
        return self.build(self._values(theta, fixed, "from_theta"))

    def _values(self, x: Either, fixed: Either | None, route: str) -> list[Any]:
        out = []
        for leaf, at, where in zip(self.leaves, self.u_slices, self.value_slices, strict=True):
            values = None if leaf.free is None or fixed is None else fixed[where]
            if leaf.free is not None and values is None:
                raise ValueError(f"{leaf.name} is fixed, but no fixed values came")
            out.append(getattr(leaf, route)(x[at], values))
        return out

    def theta_from_u(self, u: Float[Either, " n_free"], fixed: Either | None = None) -> Either:
        """u -> theta, both (n_free,)."""
        if isinstance(self.ties, CurvedTies) and not all(leaf.transform.elementwise for leaf in self.leaves):
            assert fixed is not None
            return self.untied.theta_from_u(self.ties.in_u(self.untied, u, fixed))[self.ties.index]
        if self.ties is not None:
            return self.untied.theta_from_u(self.spread(u))[self.ties.index]
        parts = []
        for leaf, at in zip(self.leaves, self.u_slices, strict=True):
            if leaf.n_free:
                parts.append(leaf.transform.free(leaf.transform.forward(u[at], leaf.working_shape)))
        return self._concatenate(parts)

    def u_from_params(self, params: PyTree) -> Either:
        """params (in the interior of their supports) -> u (n_free,); coordinates that follow from others are not used."""
        if self.ties is not None:
            return self.untied.u_from_params(params)[self.ties.index]
        return self._concatenate(
            [
                leaf.transform.inverse(leaf.working(v))
                for leaf, v in zip(self.leaves, self.split(params), strict=True)
                if leaf.n_free
            ]
        )

    def spread(self, u: Float[Either, " n_free"]) -> Either:
        """u (n_free,) among all coordinates; those that follow from others are 0."""
        if self.ties is None:
            return u
        return jnp.zeros((self.ties.n,), jnp.result_type(u)).at[self.ties.index].set(u)

    def reported(self, params: PyTree) -> np.ndarray:
        """params -> the distinct entries that tables show (n_reported,), on the host."""
        parts = [
            np.asarray(v, dtype=np.float64).reshape(-1)[leaf.reported_index]
            for leaf, v in zip(self.leaves, self.split(params), strict=True)
        ]
        return np.concatenate(parts) if parts else np.zeros(0)

    @staticmethod
    def _concatenate(parts: Sequence[Either]) -> Either:
        dtype = jnp.result_type(float)
        if not parts:
            return jnp.zeros((0,), dtype)
        return jnp.concatenate([jnp.reshape(jnp.asarray(x, dtype), (-1,)) for x in parts])

    # ---- facts on every coordinate, on the host

    @cached_property
    def lower(self) -> np.ndarray:
        """Lower bounds of u (n_free,); -inf where there is none."""
        return self._bounds(0)

    @cached_property
    def upper(self) -> np.ndarray:
        """Upper bounds of u (n_free,); inf where there is none."""
        return self._bounds(1)

    @cached_property
    def boxed(self) -> bool:
        return bool(np.isfinite(self.lower).any() or np.isfinite(self.upper).any())

    def _bounds(self, side: int) -> np.ndarray:
        parts = [
            np.asarray(leaf.transform.bounds(leaf.working_shape)[side], np.float64)
            for leaf in self.leaves
            if leaf.n_free
        ]
        full = np.concatenate(parts) if parts else np.zeros(0)
        return full if self.ties is None else full[self.ties.index]

    @cached_property
    def leaf_numbers(self) -> np.ndarray:
        """Which leaf each coordinate of u belongs to (n_free,)."""
        full = np.repeat(np.arange(len(self.leaves)), [leaf.n_free for leaf in self.leaves])
        return full if self.ties is None else full[self.ties.index]

    @cached_property
    def reported_matrix(self) -> np.ndarray:
        """D (n_reported, n_free): derivative of the reported entries with respect to theta (constant).

        Probabilities beside those that are 0 at the estimate are reported with these held there.
        """
        if self.ties is not None:
            return np.asarray(self.untied.reported_matrix @ self.ties.matrix)
        matrix = np.zeros((self.n_reported, self.n_free))
        for leaf, at, row in zip(self.leaves, self.u_slices, self.reported_slices, strict=True):
            if leaf.n_free:
                leaf.write_reported(matrix[row, at])
        return matrix

    @cached_property
    def reported_as_theta(self) -> np.ndarray | None:
        """Position in theta of every reported entry (n_reported,), where each of them is an entry of theta; else None."""
        matrix = self.reported_matrix
        own = matrix == 1.0
        return own.argmax(axis=1) if (own.sum(axis=1) == 1).all() and np.count_nonzero(matrix) == own.sum() else None

    @cached_property
    def theta_labels(self) -> tuple[str, ...]:
        """One address for each entry of theta (and of u)."""
        out = [label for leaf in self.leaves if leaf.n_free for label in leaf.theta_labels]
        return tuple(out) if self.ties is None else tuple(out[j] for j in self.ties.kept)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """One address for each reported entry."""
        return tuple(label for leaf in self.leaves for label in leaf.entry_labels)

    @cached_property
    def reported_fixed(self) -> np.ndarray:
        """Flags (n_reported,) of the entries that are fixed, by ``fixed=`` or by a linear constraint."""
        if isinstance(self.ties, CurvedTies):  # a derivative of 0 may be that of a maximum
            return self.untied.reported_fixed
        if self.ties is not None:
            determined = ~(self.reported_matrix != 0.0).any(axis=1)
            return np.asarray(self.untied.reported_fixed | determined)
        parts = []
        for leaf in self.leaves:
            flags = np.zeros(leaf.size, bool) if leaf.free is None else ~np.asarray(leaf.free)
            parts.append(flags[leaf.reported_index])
        return np.concatenate(parts) if parts else np.zeros(0, bool)

    @cached_property
    def links(self) -> tuple[Any, ...]:
        """For each reported entry the elementwise bijection on whose scale intervals are made."""
        out: list[Any] = []
        for leaf in self.leaves:
            out.extend(leaf.transform.interval_links(leaf.shape))
        return tuple(out)

    @cached_property
    def zero_is_interior(self) -> np.ndarray:
        """Flags (n_reported,): 0 is an interior point of the support, so that z and p have a meaning."""
        flags = [support.low < 0.0 < support.high for leaf in self.leaves for support in leaf.supports]
        return np.asarray(flags, dtype=bool)

    @cached_property
    def closed_edges(self) -> tuple[np.ndarray, np.ndarray]:
        """Closed lower and upper edges of the reported entries (n_reported,) each; infinite where there is none."""
        supports = [support for leaf in self.leaves for support in leaf.supports]
        lower = np.array([s.low if s.low_closed else -np.inf for s in supports], np.float64)
        upper = np.array([s.high if s.high_closed else np.inf for s in supports], np.float64)
        return lower, upper

    # ---- addresses

    def locate(self, address: str) -> addresses.Located:
        """An address -> (leaf number, flat positions in that leaf, or None for all of it)."""
        return addresses.locate(self.leaves, address)

    def resolve(self, address: str) -> np.ndarray:
        """An address -> indices into the reported entries.

        Raises:
            AddressError: no such parameter; the message lists near matches.
        """
        parts = []
        for i, flat in self.locate(address):
            leaf, begin = self.leaves[i], self.reported_slices[i].start
            inside = np.arange(len(leaf.reported_index))
            parts.append(begin + (inside if flat is None else inside[np.isin(leaf.reported_index, flat)]))
        return np.concatenate(parts)

    def tie(
        self, R: np.ndarray, r: np.ndarray, labels: Sequence[str], fixed: Either | None
    ) -> tuple[Space, tuple[str, ...]]:
        """The same layout under linear restrictions R reported = r, and the labels of those that follow from the others.

        Raises:
            ValueError: restrictions that contradict each other, touch structures, or may leave a support.
        """
        with float64():
            at_zero = self.reported(evaluated(lambda t: self.params_from_theta(t, fixed), np.zeros(self.n_free)))
        owners = [self.leaves[i] for i in self.leaf_numbers]
        solved = solve_ties(
            R @ self.reported_matrix,
            r - R @ at_zero,
            labels,
            self.theta_labels,
            [support_of(leaf.transform) for leaf in owners],
            [leaf.kind for leaf in owners],
        )
        return replace(self, ties=solved.ties), solved.redundant

    def fix(self, fixed: Sequence[str]) -> Space:
        """The same layout with the addressed parameters or entries fixed.

        Raises:
            AddressError: unknown address.
            ValueError: single entries of a structured parameter (a simplex, a covariance), which cannot be fixed alone.
        """
        if self.ties is not None:
            raise ValueError("fixed= comes before constraints=, not after")
        leaves = list(self.leaves)
        for address in fixed:
            for i, flat in self.locate(address):
                leaf = leaves[i]
                free = np.ones(leaf.size, bool) if leaf.free is None else np.array(leaf.free)
                if flat is None:
                    free[:] = False
                elif leaf.transform.elementwise:
                    free[flat] = False
                else:
                    raise ValueError(
                        f"fixed={address!r}: single entries of {leaf.kind} cannot be fixed, because the others depend "
                        f"on them; fix the whole of {leaf.name!r}, or declare its entries as parameters of their own"
                    )
                leaves[i] = replace(leaf, free=tuple(free.tolist()))
        return Space(self.groups, tuple(leaves))


def _slices(sizes: Sequence[int]) -> tuple[slice, ...]:
    ends = np.cumsum([0, *sizes])
    return tuple(slice(int(a), int(b)) for a, b in itertools.pairwise(ends))
