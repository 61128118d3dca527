"""The parameter space: all parameters, and the conversions between params, theta and u."""

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
    """All parameters of a model, without values: hashable; converts between params, theta and u.

    Attributes:
        groups: the top-level entries of params.
        leaves: all arrays of params, in the order of tables.
        ties: constraints between parameters, or None. With them theta and u have only the kept coordinates, which determine the
            others; of nonlinear ones near a reference point that is stored in the vector of fixed values.
        mapped: True if points are given in the coordinates of :mod:`mlejax.parameters.coordinates`, whose map is appended to the
            vector of fixed values.
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
        """The same space with ``mapped`` False."""
        return replace(self, mapped=False) if self.mapped else self

    @cached_property
    def untied(self) -> Space:
        """The same space without constraints."""
        return replace(self, ties=None)

    def in_own(self, point: Either, constants: Either | None, of_theta: bool = False) -> tuple[Any, Any]:
        """Return a point (..., n_free) in the coordinates of this space as u (or theta if ``of_theta``), and the fixed values
        without the map; ``point`` and ``constants`` unchanged if the space is not mapped.
        """
        if not self.mapped:
            return point, constants
        assert constants is not None
        coordinates, fixed = split_constants(constants, self.n_free)
        return (coordinates.in_theta(self) if of_theta else coordinates).to_u(point), fixed

    # ---- sizes and offsets

    @cached_property
    def n_free(self) -> int:
        """The length of u and of theta."""
        return sum(leaf.n_free for leaf in self.leaves) if self.ties is None else len(self.ties.kept)

    @cached_property
    def n_values(self) -> int:
        """The number of all entries of params, which is the length of the vector of fixed values."""
        return sum(leaf.size for leaf in self.leaves)

    @cached_property
    def n_reported(self) -> int:
        return sum(len(leaf.reported_index) for leaf in self.leaves)

    @cached_property
    def u_slices(self) -> tuple[slice, ...]:
        """The slice of each array's coordinates in u (and theta) without constraints, one for each leaf."""
        return _slices([leaf.n_free for leaf in self.leaves])

    @cached_property
    def value_slices(self) -> tuple[slice, ...]:
        return _slices([leaf.size for leaf in self.leaves])

    @cached_property
    def reported_slices(self) -> tuple[slice, ...]:
        return _slices([len(leaf.reported_index) for leaf in self.leaves])

    # ---- conversions

    def build(self, values: Sequence[Any]) -> Params:
        """Return params in the user's structure from arrays, one for each leaf."""
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
        """Return the arrays of params in the user's structure, one for each leaf; ValueError or TypeError if structure or
        shapes are wrong.
        """
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
        """Return params in the user's structure from one vector of all entries, free and fixed, natural scale (n_values,)."""
        parts = [jnp.reshape(values[at], lf.shape) for at, lf in zip(self.value_slices, self.leaves, strict=True)]
        return self.build(parts)

    def params_from_u(self, u: Float[Either, " n_free"], fixed: Either | None = None) -> Params:
        """Return params, in the user's structure, from u (n_free,) and fixed values (n_values,); differentiable. ValueError if an
        entry is fixed and ``fixed`` is None.
        """
        if self.mapped:
            return self.own.params_from_u(*self.in_own(u, fixed))
        if isinstance(self.ties, CurvedTies):
            assert fixed is not None
            return self.untied.params_from_u(self.ties.in_u(self.untied, u, fixed), fixed)
        if self.ties is not None:
            return self.params_from_theta(self.theta_from_u(u, fixed), fixed)
        return self.build(self._values(u, fixed, "value"))

    def params_from_theta(self, theta: Float[Either, " n_free"], fixed: Either | None = None) -> Params:
        """Return params, in the user's structure, from theta (n_free,) and fixed values (n_values,); affine in both unless
        constraints are nonlinear; errors as in `params_from_u`.
        """
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
                raise ValueError(f"{leaf.name} is fixed: expected the vector of fixed values, got None")
            out.append(getattr(leaf, route)(x[at], values))
        return out

    def theta_from_u(self, u: Float[Either, " n_free"], fixed: Either | None = None) -> Either:
        """Return theta of u, both (n_free,); ``fixed`` (n_values,) is needed only with nonlinear constraints."""
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
        """Return u (n_free,) of params inside their supports (at an end only if it belongs to the support), without fixed
        entries and coordinates that constraints determine. Errors as in `split`.
        """
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
        """Return u (n_free,) among all coordinates, 0 for those that constraints determine; unchanged without constraints."""
        if self.ties is None:
            return u
        return jnp.zeros((self.ties.n,), jnp.result_type(u)).at[self.ties.index].set(u)

    def reported(self, params: PyTree) -> np.ndarray:
        """Return the entries of params that tables show (n_reported,), a NumPy array; errors as in `split`."""
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
        """Lower bounds of u (n_free,); -inf for coordinates without a bound."""
        return self._bounds(0)

    @cached_property
    def upper(self) -> np.ndarray:
        """Upper bounds of u (n_free,); inf for coordinates without a bound."""
        return self._bounds(1)

    @cached_property
    def boxed(self) -> bool:
        return bool(np.isfinite(self.lower).any() or np.isfinite(self.upper).any())

    def _bounds(self, side: int) -> np.ndarray:
        parts = [np.asarray(leaf.transform.bounds(leaf.working_shape)[side], float) for leaf in self.leaves if leaf.n_free]
        full = np.concatenate(parts) if parts else np.zeros(0)
        return full if self.ties is None else full[self.ties.index]

    @cached_property
    def leaf_numbers(self) -> np.ndarray:
        """The number of the array that each coordinate of u belongs to (n_free,)."""
        full = np.repeat(np.arange(len(self.leaves)), [leaf.n_free for leaf in self.leaves])
        return full if self.ties is None else full[self.ties.index]

    @cached_property
    def reported_matrix(self) -> np.ndarray:
        """D (n_reported, n_free): the constant derivative of the entries in tables with respect to theta; that of a probability
        that is 1 minus others is 0 in those that are 0 at the estimate.
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
        """The position in theta of each entry in tables (n_reported,) if each is an entry of theta, else None."""
        matrix = self.reported_matrix
        own = matrix == 1.0
        return own.argmax(axis=1) if (own.sum(axis=1) == 1).all() and np.count_nonzero(matrix) == own.sum() else None

    @cached_property
    def theta_labels(self) -> tuple[str, ...]:
        """The name of each entry of theta (and of u)."""
        out = [label for leaf in self.leaves if leaf.n_free for label in leaf.theta_labels]
        return tuple(out) if self.ties is None else tuple(out[j] for j in self.ties.kept)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The name of each entry that tables show."""
        return tuple(label for leaf in self.leaves for label in leaf.entry_labels)

    @cached_property
    def reported_fixed(self) -> np.ndarray:
        """True for entries (n_reported,) that are constant: under ``fixed=``, or determined by linear constraints alone."""
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
        """For each entry in tables (n_reported), the elementwise transform on whose scale confidence intervals are computed."""
        out: list[Any] = []
        for leaf in self.leaves:
            out.extend(leaf.transform.interval_links(leaf.shape))
        return tuple(out)

    @cached_property
    def zero_is_interior(self) -> np.ndarray:
        """True for entries (n_reported,) whose support has 0 as an interior point, so that a Wald test of the value 0 is valid.
        """
        flags = [support.low < 0.0 < support.high for leaf in self.leaves for support in leaf.supports]
        return np.asarray(flags, dtype=bool)

    @cached_property
    def closed_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The lower and the upper ends of the supports of the entries in tables, (n_reported,) each; -inf and inf where an end
        does not belong to the support.
        """
        supports = [support for leaf in self.leaves for support in leaf.supports]
        lower = np.array([s.low if s.low_closed else -np.inf for s in supports], np.float64)
        upper = np.array([s.high if s.high_closed else np.inf for s in supports], np.float64)
        return lower, upper

    # ---- addresses

    def locate(self, address: str) -> addresses.Located:
        """Return (leaf number, positions in its flattened array or None for all) for each array that an address names."""
        return addresses.locate(self.leaves, address)

    def resolve(self, address: str) -> np.ndarray:
        """Return the positions, among the entries that tables show, of those that an address names.

        Raises:
            AddressError: there is no parameter or entry of this name; the message lists similar names.
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
        """Return the same space under linear constraints R x = r on the entries x that tables show, and the labels of redundant
        constraints.

        Args:
            R, r: (m, n_reported) and (m,).
            labels: the m constraints as the user wrote them.
            fixed: the fixed values (n_values,), or None.

        Raises:
            ValueError: as in `solve_ties`.
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
        """Return the same space with parameters or entries fixed, given by their addresses; their values are not part of it.
        AddressError for an unknown one, ValueError for an entry of a structured parameter or a space with constraints.
        """
        if self.ties is not None:
            raise ValueError("parameters must be fixed before constraints are added: call fix before tie")
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
