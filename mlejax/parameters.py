"""Declared parameters and the only conversions between the three spaces.

``params`` is the user's own named structure on its natural scale; ``theta`` the vector of free natural
coordinates (a simplex without its last entry, the lower triangle of a covariance matrix); ``u`` the flat vector
that optimisers see, unconstrained or boxed where a support is closed.  ``theta`` and ``u`` have the same length.
Tables show the *reported* entries, every distinct number of ``params``; they are an affine function of ``theta``,

    reported = D theta + constant,

so that a covariance of ``theta`` carries over exactly: Cov(reported) = D Cov(theta) D'.

A :class:`Space` is hashable and holds no data: it is part of the compilation key.  Values that are held fixed
travel beside it as an ordinary array, so that one can differentiate with respect to them.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mlejax import transforms

Array = Any
_LABEL_LIMIT = 20_000


class AddressError(ValueError):
    """An address such as ``beta[2]`` that names no parameter of the model."""


@dataclass(frozen=True, eq=False, repr=False)
class Parameter:
    """One declared parameter: where it may lie, its shape, its labels and where to start.

    Made by :func:`Real`, :func:`Positive` and their siblings, not directly.
    """

    kind: str
    transform: Any
    shape: tuple[int, ...] | None = ()
    columns: str | tuple[str, ...] | None = None
    start: Any = None
    labels: tuple[str, ...] | None = None
    arguments: str = ""

    def __repr__(self) -> str:
        parts = [self.arguments] if self.arguments else []
        if self.columns is not None:
            parts.append(f"columns={self.columns!r}")
        elif self.shape:
            parts.append(f"shape={self.shape}")
        if self.start is not None:
            parts.append("start=...")
        return f"{self.kind}({', '.join(parts)})"


@dataclass(frozen=True, eq=False, repr=False)
class FreeParameter:
    """A parameter of any structure (a pytree of arrays), unconstrained."""

    start: Any

    def __repr__(self) -> str:
        n = sum(int(np.size(x)) for x in jax.tree.leaves(self.start))
        return f"Free({len(jax.tree.leaves(self.start))} arrays, {n} numbers)"


Declaration = Parameter | FreeParameter


def _declare(
    kind: str,
    transform: Any,
    shape: int | Sequence[int] | None,
    columns: str | Sequence[str] | None,
    start: Any,
    labels: Sequence[str] | None,
    arguments: str = "",
) -> Parameter:
    if shape is not None and columns is not None:
        raise ValueError(f"{kind}: give shape= or columns=, not both (got shape={shape!r}, columns={columns!r})")
    if isinstance(shape, (int, np.integer)):
        shape = (int(shape),)
    square = isinstance(transform, (transforms.Covariance, transforms.Correlation))
    if columns is not None:
        resolved = None
        if not isinstance(columns, str):
            columns = tuple(columns)
            labels = tuple(str(c) for c in columns) if labels is None else labels
            resolved = (len(columns),) * (2 if square else 1)
    else:
        resolved = () if shape is None else tuple(int(s) for s in shape)
        if square and len(resolved) == 1:
            resolved = resolved * 2
    if resolved is not None and any(s < 1 for s in resolved):
        raise ValueError(f"{kind}: shape must be positive, got {resolved}")
    if resolved is not None and not transform.elementwise:
        if not resolved:
            raise ValueError(f"{kind} needs shape= (the number of entries) or columns=, e.g. mle.{kind}(shape=3)")
        if square and (len(resolved) < 2 or resolved[-1] != resolved[-2]):
            raise ValueError(f"{kind}: expected shape=d or (d, d), got {resolved}")
        if resolved[-1] < 2 and not isinstance(transform, transforms.Covariance):
            raise ValueError(f"{kind}: expected at least 2 entries on the last axis, got shape={resolved}")
    if labels is not None:
        labels = tuple(str(x) for x in labels)
        if len(set(labels)) != len(labels):
            raise ValueError(f"{kind}: labels must differ from one another, got {labels}")
        if resolved is not None and (not resolved or len(labels) != resolved[-1]):
            raise ValueError(f"{kind}: expected {resolved[-1] if resolved else 0} labels for shape {resolved}, got {labels}")
    parameter = Parameter(kind, transform, resolved, columns, start, labels, arguments)
    if start is not None and resolved is not None:
        start_value(parameter, start, kind)
    return parameter


def Real(shape: Any = None, *, columns: Any = None, start: Any = None, labels: Any = None) -> Parameter:
    """Declare an unconstrained real parameter.

    Args:
        shape: ``()`` by default; an integer or a tuple for vectors and matrices.
        columns: instead of ``shape``, the name of a matrix among the data, or a list of column names: one entry
            each, labelled by them.
        start: natural scale; a number or an array that broadcasts to the shape.
        labels: names for the entries of the last axis.

    Example:
        >>> import mlejax as mle
        >>> mle.Real(shape=3)
        Real(shape=(3,))
    """
    return _declare("Real", transforms.Identity(), shape, columns, start, labels)


def Positive(shape: Any = None, *, columns: Any = None, start: Any = None, labels: Any = None) -> Parameter:
    """Declare a parameter in the open interval (0, inf), optimised on the log scale.  Arguments as in :func:`Real`."""
    return _declare("Positive", transforms.Log(), shape, columns, start, labels)


def NonNegative(shape: Any = None, *, columns: Any = None, start: Any = None, labels: Any = None) -> Parameter:
    """Declare a parameter in [0, inf) whose estimate may lie on the edge 0 (a variance component, say).

    Optimised on its own scale under a bound.  Arguments as in :func:`Real`.
    """
    return _declare("NonNegative", transforms.Box(0.0, math.inf), shape, columns, start, labels)


def Interval(
    lo: float,
    hi: float,
    shape: Any = None,
    *,
    closed: str = "neither",
    columns: Any = None,
    start: Any = None,
    labels: Any = None,
) -> Parameter:
    """Declare a parameter between ``lo`` and ``hi``.

    Args:
        lo, hi: finite ends, ``lo < hi``.
        closed: ``"neither"`` (scaled logit), ``"both"``, ``"left"`` or ``"right"``: the ends at which the estimate
            may lie.
        shape, columns, start, labels: as in :func:`Real`.
    """
    lo, hi = float(lo), float(hi)
    if not (math.isfinite(lo) and math.isfinite(hi) and lo < hi):
        raise ValueError(
            f"Interval expected two finite ends with lo < hi, got ({lo}, {hi}); "
            "for a half-line use Positive() or NonNegative()"
        )
    if closed not in ("neither", "both", "left", "right"):
        raise ValueError(f"Interval: closed must be 'neither', 'both', 'left' or 'right', got {closed!r}")
    transform: Any
    if closed == "neither":
        transform = transforms.Logit(lo, hi)
    elif closed == "both":
        transform = transforms.Box(lo, hi)
    else:
        transform = transforms.HalfOpen(lo, hi, closed=closed)
    arguments = f"{lo:g}, {hi:g}" + ("" if closed == "neither" else f", closed={closed!r}")
    return _declare("Interval", transform, shape, columns, start, labels, arguments)


def Simplex(shape: Any = None, *, columns: Any = None, start: Any = None, labels: Any = None) -> Parameter:
    """Declare probabilities that sum to one along the last axis.  Arguments as in :func:`Real`.

    In ``theta`` the last entry is left out; tables show every entry.
    """
    return _declare("Simplex", transforms.Simplex(), shape, columns, start, labels)


def Ordered(shape: Any = None, *, columns: Any = None, start: Any = None, labels: Any = None) -> Parameter:
    """Declare a strictly increasing vector (cut points).  Arguments as in :func:`Real`."""
    return _declare("Ordered", transforms.Ordered(), shape, columns, start, labels)


def Covariance(shape: Any = None, *, columns: Any = None, start: Any = None, labels: Any = None) -> Parameter:
    """Declare a symmetric positive definite matrix; ``shape=d`` or ``(d, d)``.  Arguments as in :func:`Real`.

    ``theta`` and tables hold the lower triangle with the diagonal.
    """
    return _declare("Covariance", transforms.Covariance(), shape, columns, start, labels)


def Correlation(shape: Any = None, *, columns: Any = None, start: Any = None, labels: Any = None) -> Parameter:
    """Declare a correlation matrix; ``shape=d`` or ``(d, d)``.  Arguments as in :func:`Real`.

    ``theta`` and tables hold the strict lower triangle.
    """
    return _declare("Correlation", transforms.Correlation(), shape, columns, start, labels)


def Free(start: Any) -> FreeParameter:
    """Declare a parameter of any structure: a pytree of real arrays, the weights of a network, say.

    Args:
        start: the structure with its starting values (natural scale, unconstrained).
    """
    leaves = jax.tree.leaves(start)
    if not leaves:
        raise ValueError("Free(start=...) expected a pytree with at least one array, got an empty one")
    for leaf in leaves:
        if np.asarray(leaf).dtype.kind not in "fiu":
            raise TypeError(f"Free(start=...) expected arrays of real numbers, got {np.asarray(leaf).dtype}")
    return FreeParameter(start)


def start_value(parameter: Parameter, value: Any, name: str) -> np.ndarray:
    """Check one starting or fixed value against its declaration; returns float64 of the full shape (host)."""
    shape = parameter.shape or ()
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected numbers of shape {shape}, got {value!r}") from error
    if parameter.transform.elementwise:
        try:
            array = np.broadcast_to(array, shape)
        except ValueError as error:
            raise ValueError(f"{name}: expected shape {shape}, got {array.shape}") from error
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
    problem = parameter.transform.problem(array)
    if problem is not None:
        raise ValueError(f"{name} is declared {parameter!r}: {problem}")
    return np.array(array)


def parameter_names(declared: Mapping[str, Declaration]) -> str:
    """One line for reprs: ``mu=Real(), sigma=Positive()``."""
    return ", ".join(f"{name}={value!r}" for name, value in declared.items())


@dataclass(frozen=True)
class Leaf:
    """One array of ``params``: its address, its transform, its shape, and which entries are free.

    ``free`` is None when all entries are free, else one flag for each entry of the flattened array.
    """

    name: str
    kind: str
    transform: Any
    shape: tuple[int, ...]
    labels: tuple[str, ...] | None = None
    free: tuple[bool, ...] | None = None

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
        """The shape that the transform sees: the whole array, or the free entries of a partly fixed one."""
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

    def suffix(self, flat: int) -> str:
        if not self.shape:
            return ""
        ix = np.unravel_index(flat, self.shape)
        parts = [str(int(i)) for i in ix]
        if self.labels is not None:
            parts[-1] = self.labels[int(ix[-1])]
            if isinstance(self.transform, (transforms.Covariance, transforms.Correlation)):
                parts[-2] = self.labels[int(ix[-2])]
        return f"[{','.join(parts)}]"

    def value(self, u: Array, fixed: Array) -> Array:
        """u of this leaf (n_free,) and fixed values (size,) -> natural value (shape)."""
        if self.all_fixed:
            return jnp.reshape(fixed, self.shape)
        value = self.transform.forward(u, self.working_shape)
        if self.partly_fixed:
            value = jnp.reshape(jnp.asarray(fixed).at[self.free_index].set(value), self.shape)
        return value

    def from_theta(self, theta: Array, fixed: Array) -> Array:
        if self.all_fixed:
            return jnp.reshape(fixed, self.shape)
        value = self.transform.expand(theta, self.working_shape)
        if self.partly_fixed:
            value = jnp.reshape(jnp.asarray(fixed).at[self.free_index].set(value), self.shape)
        return value

    def working(self, value: Array) -> Array:
        """The part of a natural value that the transform sees."""
        return jnp.reshape(value, (-1,))[self.free_index] if self.partly_fixed else jnp.asarray(value)


@dataclass(frozen=True)
class Group:
    """One top-level entry of ``params``: a single array (``treedef`` None) or a pytree of ``n_leaves`` arrays."""

    name: str | None
    treedef: Any
    n_leaves: int


@dataclass(frozen=True)
class Space:
    """The layout of all parameters: hashable, without data; converts between params, theta and u."""

    groups: tuple[Group, ...]
    leaves: tuple[Leaf, ...]

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.groups, self.leaves))

    # ---- sizes and offsets

    @cached_property
    def n_free(self) -> int:
        """Length of u and of theta."""
        return sum(leaf.n_free for leaf in self.leaves)

    @cached_property
    def n_values(self) -> int:
        """Number of all entries of params: the length of the vector of fixed values."""
        return sum(leaf.size for leaf in self.leaves)

    @cached_property
    def n_reported(self) -> int:
        return sum(len(leaf.reported_index) for leaf in self.leaves)

    @cached_property
    def has_fixed(self) -> bool:
        return any(leaf.free is not None for leaf in self.leaves)

    @cached_property
    def u_slices(self) -> tuple[slice, ...]:
        return _slices([leaf.n_free for leaf in self.leaves])

    @cached_property
    def value_slices(self) -> tuple[slice, ...]:
        return _slices([leaf.size for leaf in self.leaves])

    @cached_property
    def reported_slices(self) -> tuple[slice, ...]:
        return _slices([len(leaf.reported_index) for leaf in self.leaves])

    # ---- conversions

    def build(self, values: Sequence[Any]) -> Any:
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

    def split(self, params: Any) -> list[Any]:
        """The user's structure -> its arrays, one a leaf, shapes checked."""
        values: list[Any] = []
        if any(g.name is not None for g in self.groups):
            if not isinstance(params, Mapping):
                raise TypeError(f"expected a dict of parameters with keys {[g.name for g in self.groups]}, got {type(params).__name__}")
            names = [str(g.name) for g in self.groups]
            missing = [n for n in names if n not in params]
            extra = [str(k) for k in params if k not in names]
            if missing or extra:
                raise ValueError(
                    f"expected the parameters {names}; missing: {missing or 'none'}, unknown: {extra or 'none'}"
                    + near(extra[0] if extra else "", names)
                )
        for group in self.groups:
            part = params if group.name is None else params[group.name]
            if group.treedef is None:
                values.append(part)
                continue
            leaves, treedef = jax.tree.flatten(part)
            if treedef != group.treedef:
                raise ValueError(f"{group.name or 'params'}: expected the structure {group.treedef}, got {treedef}")
            values.extend(leaves)
        for leaf, value in zip(self.leaves, values, strict=True):
            if np.shape(value) != leaf.shape:
                raise ValueError(f"{leaf.name}: expected shape {leaf.shape}, got {np.shape(value)}")
        return values

    def params_from_u(self, u: Array, fixed: Array | None = None) -> Any:
        """u (n_free,) and fixed values (n_values,) -> params, differentiably."""
        return self.build(self._values(u, fixed, "value"))

    def params_from_theta(self, theta: Array, fixed: Array | None = None) -> Any:
        """theta (n_free,) and fixed values (n_values,) -> params, affine in both."""
        return self.build(self._values(theta, fixed, "from_theta"))

    def _values(self, x: Array, fixed: Array | None, route: str) -> list[Any]:
        out = []
        for leaf, at, where in zip(self.leaves, self.u_slices, self.value_slices, strict=True):
            held = None if leaf.free is None or fixed is None else fixed[where]
            if leaf.free is not None and held is None:
                raise ValueError(f"{leaf.name} is fixed, but no fixed values came")
            out.append(getattr(leaf, route)(x[at], held))
        return out

    def theta_from_params(self, params: Any) -> Array:
        """params -> theta (n_free,)."""
        return self._concatenate(
            [leaf.transform.free(leaf.working(v)) for leaf, v in zip(self.leaves, self.split(params), strict=True) if leaf.n_free]
        )

    def theta_from_u(self, u: Array, fixed: Array | None = None) -> Array:
        """u -> theta, both (n_free,)."""
        parts = []
        for leaf, at in zip(self.leaves, self.u_slices, strict=True):
            if leaf.n_free:
                parts.append(leaf.transform.free(leaf.transform.forward(u[at], leaf.working_shape)))
        return self._concatenate(parts)

    def u_from_params(self, params: Any) -> Array:
        """params (in the interior of their supports) -> u (n_free,)."""
        return self._concatenate(
            [leaf.transform.inverse(leaf.working(v)) for leaf, v in zip(self.leaves, self.split(params), strict=True) if leaf.n_free]
        )

    def flatten(self, params: Any) -> Array:
        """params -> all entries in order (n_values,)."""
        return self._concatenate([jnp.reshape(jnp.asarray(v), (-1,)) for v in self.split(params)])

    def reported(self, params: Any) -> np.ndarray:
        """params -> the distinct entries that tables show (n_reported,), on the host."""
        parts = [np.asarray(v, dtype=np.float64).reshape(-1)[leaf.reported_index] for leaf, v in zip(self.leaves, self.split(params), strict=True)]
        return np.concatenate(parts) if parts else np.zeros(0)

    @staticmethod
    def _concatenate(parts: list[Array]) -> Array:
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
        parts = [np.asarray(leaf.transform.bounds(leaf.working_shape)[side], np.float64) for leaf in self.leaves if leaf.n_free]
        return np.concatenate(parts) if parts else np.zeros(0)

    @cached_property
    def reported_matrix(self) -> np.ndarray:
        """D (n_reported, n_free): derivative of the reported entries with respect to theta (constant)."""
        matrix = np.zeros((self.n_reported, self.n_free))
        for leaf, at, row in zip(self.leaves, self.u_slices, self.reported_slices, strict=True):
            if not leaf.n_free:
                continue
            if leaf.transform.elementwise:
                index = leaf.free_index if leaf.partly_fixed else np.arange(leaf.size)
                matrix[row.start + index, at.start + np.arange(leaf.n_free)] = 1.0
            else:
                with jax.enable_x64(True):
                    basis = np.vstack([np.zeros(leaf.n_free), np.eye(leaf.n_free)])
                    values = np.asarray(jax.vmap(lambda t, lf=leaf: jnp.reshape(lf.transform.expand(t, lf.shape), (-1,)))(basis))
                matrix[row, at] = (values[1:] - values[0]).T[leaf.reported_index]
        return matrix

    @cached_property
    def theta_labels(self) -> tuple[str, ...]:
        """One address for each entry of theta (and of u)."""
        out: list[str] = []
        for leaf in self.leaves:
            if not leaf.n_free:
                continue
            if leaf.partly_fixed:
                out.extend(leaf.name + leaf.suffix(int(i)) for i in leaf.free_index)
            else:
                with jax.enable_x64(True):
                    where = np.arange(leaf.size, dtype=np.float64).reshape(leaf.shape)
                    flat = np.asarray(leaf.transform.free(jnp.asarray(where))).astype(int)
                out.extend(leaf.name + leaf.suffix(int(i)) for i in flat)
        return tuple(out)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """One address for each reported entry."""
        return tuple(label for leaf in self.leaves for label in leaf.entry_labels)

    @cached_property
    def reported_fixed(self) -> np.ndarray:
        """Flags (n_reported,) of the entries that are held fixed."""
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
        flags: list[bool] = []
        for leaf in self.leaves:
            edges = leaf.transform if leaf.transform.elementwise else None
            for link in leaf.transform.interval_links(leaf.shape):
                owner = edges if edges is not None else link
                lo = 0.0 if isinstance(owner, transforms.Log) else getattr(owner, "lo", -math.inf)
                flags.append(bool(lo < 0.0 < getattr(owner, "hi", math.inf)))
        return np.asarray(flags, dtype=bool)

    @cached_property
    def closed_edges(self) -> tuple[np.ndarray, np.ndarray]:
        """Closed lower and upper edges of the reported entries (n_reported,) each; infinite where there is none."""
        lower = np.full(self.n_reported, -np.inf)
        upper = np.full(self.n_reported, np.inf)
        for leaf, row in zip(self.leaves, self.reported_slices, strict=True):
            t = leaf.transform
            if isinstance(t, transforms.Box) or (isinstance(t, transforms.HalfOpen) and t.closed == "left"):
                lower[row] = t.lo
            if isinstance(t, transforms.Box) or (isinstance(t, transforms.HalfOpen) and t.closed == "right"):
                upper[row] = t.hi
        return lower, upper

    # ---- addresses

    def resolve(self, address: str) -> np.ndarray:
        """An address -> indices into the reported entries.

        ``mu``, ``beta`` (all of it), ``beta[2]``, ``beta[age]``, ``Sigma[0,1]``, ``net.layer0.w[3,1]``, ``net``.

        Raises:
            AddressError: no such parameter; the message lists near matches.
        """
        return self._resolve(address)[0]

    def locate(self, address: str) -> list[tuple[int, np.ndarray | None]]:
        """An address -> (leaf number, flat positions in that leaf, or None for all of it)."""
        return self._resolve(address)[1]

    def _resolve(self, address: str) -> tuple[np.ndarray, list[tuple[int, np.ndarray | None]]]:
        text = str(address).strip()
        whole = [i for i, leaf in enumerate(self.leaves) if leaf.name == text or leaf.name.startswith(text + ".")]
        if whole:
            index = np.concatenate([np.arange(self.reported_slices[i].start, self.reported_slices[i].stop) for i in whole])
            return index, [(i, None) for i in whole]
        for i, leaf in enumerate(self.leaves):
            if text.startswith(leaf.name + "[") and text.endswith("]"):
                flat = self._entry(leaf, text[len(leaf.name) + 1 : -1])
                if flat is not None:
                    at = np.flatnonzero(leaf.reported_index == flat)
                    if at.size == 0:
                        raise AddressError(f"{text} is not a free entry of {leaf.name} ({leaf.kind}); its entries: {', '.join(leaf.entry_labels[:8])}")
                    return self.reported_slices[i].start + at, [(i, np.array([flat]))]
        raise AddressError(f"no parameter {text!r}" + near(text, self._known()) + f"; the parameters are {', '.join(self._known(8))}")

    def _known(self, limit: int = _LABEL_LIMIT) -> list[str]:
        names = [leaf.name for leaf in self.leaves]
        entries = list(self.labels) if self.n_reported <= limit else []
        return list(dict.fromkeys(entries + names)) if entries else names[:limit]

    @staticmethod
    def _entry(leaf: Leaf, inner: str) -> int | None:
        """The text between brackets -> a position in the flattened array, or None."""
        if not leaf.shape:
            return None
        wanted = re.sub(r"\s*,\s*", ",", inner.strip())
        square = isinstance(leaf.transform, (transforms.Covariance, transforms.Correlation))
        parts = wanted.split(",")
        candidates = [parts, parts[:-2] + parts[-2:][::-1]] if square and len(parts) >= 2 else [parts]
        for order in candidates:
            label = f"[{','.join(order)}]"
            for i in leaf.reported_index:
                if leaf.size <= _LABEL_LIMIT and re.sub(r"\s*,\s*", ",", leaf.suffix(int(i))) == label:
                    return int(i)
            try:
                ix = tuple(int(x) for x in order)
            except ValueError:
                continue
            if len(ix) == len(leaf.shape) and all(-s <= i < s for i, s in zip(ix, leaf.shape, strict=True)):
                flat = int(np.ravel_multi_index(tuple(i % s for i, s in zip(ix, leaf.shape, strict=True)), leaf.shape))
                if flat in leaf.reported_index:
                    return flat
        return None

    def fix(self, addresses: Sequence[str]) -> Space:
        """The same layout with the addressed parameters or entries held fixed.

        Raises:
            AddressError: unknown address.
            ValueError: single entries of a structured parameter (a simplex, a covariance), which cannot be held alone.
        """
        flags: dict[int, np.ndarray] = {}
        for address in addresses:
            for i, flat in self._resolve(address)[1]:
                leaf = self.leaves[i]
                held = flags.setdefault(i, np.zeros(leaf.size, bool) if leaf.free is None else ~np.asarray(leaf.free))
                if flat is None:
                    held[:] = True
                elif leaf.transform.elementwise:
                    held[flat] = True
                else:
                    raise ValueError(
                        f"fixed={address!r}: single entries of {leaf.kind} cannot be held fixed, because the others depend "
                        f"on them; fix the whole of {leaf.name!r}, or declare its entries apart"
                    )
        leaves = list(self.leaves)
        for i, held in flags.items():
            leaf = leaves[i]
            leaves[i] = Leaf(leaf.name, leaf.kind, leaf.transform, leaf.shape, leaf.labels, tuple((~held).tolist()))
        return Space(self.groups, tuple(leaves))


def near(text: str, known: Sequence[str]) -> str:
    """`` (did you mean ...?)`` with the nearest known names, or an empty string."""
    matches = difflib.get_close_matches(text, known, n=3, cutoff=0.5) if text else []
    return f" (did you mean {' or '.join(matches)}?)" if matches else ""


def _slices(sizes: Sequence[int]) -> tuple[slice, ...]:
    ends = np.cumsum([0, *sizes])
    return tuple(slice(int(a), int(b)) for a, b in zip(ends[:-1], ends[1:], strict=True))


def tree_space(start: Any, name: str | None) -> tuple[Group, list[Leaf]]:
    """A pytree of arrays -> its group and leaves, addresses from its paths (``net.layer0.w``)."""
    paths, treedef = jax.tree_util.tree_flatten_with_path(start)
    leaves = []
    for path, value in paths:
        parts = ([name] if name is not None else []) + [_key(k) for k in path]
        leaves.append(Leaf(".".join(parts) or "params", "Free", transforms.Identity(), np.shape(value)))
    return Group(name, treedef, len(leaves)), leaves


def _key(key: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def make_space(declared: Mapping[str, Declaration], columns: Mapping[str, tuple[Sequence[str] | None, int]]) -> Space:
    """Declarations -> layout.

    Args:
        declared: name -> declaration, in the order in which tables show them.
        columns: for each parameter declared with ``columns="X"``: (labels or None, number of columns) of the data.
    """
    groups: list[Group] = []
    leaves: list[Leaf] = []
    for name, parameter in declared.items():
        if isinstance(parameter, FreeParameter):
            group, more = tree_space(parameter.start, name)
            groups.append(group)
            leaves.extend(more)
            continue
        shape, labels = parameter.shape, parameter.labels
        if shape is None:
            found, k = columns[name]
            square = isinstance(parameter.transform, (transforms.Covariance, transforms.Correlation))
            shape = (k,) * (2 if square else 1)
            if labels is None and found is not None:
                labels = tuple(str(x) for x in found)
            if labels is not None and len(labels) != k:
                raise ValueError(f"{name}: {len(labels)} labels for {k} columns of {parameter.columns!r}")
        groups.append(Group(name, None, 1))
        leaves.append(Leaf(name, repr(parameter) if parameter.arguments else parameter.kind, parameter.transform, shape, labels))
    return Space(tuple(groups), tuple(leaves))
