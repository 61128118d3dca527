"""The user's data as they came, and their way to validated arrays.

`ingest` keeps what it gets; nothing is looked at before it is used. The user's function is then traced with the
abstract arrays of `Source.abstract`, read through `Source.view`, which records the columns it reads; only these are
checked and converted by `Source.convert`. So a text column, a NaN or a wrong length in an unused column does no harm.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, MutableSet
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import numpy as np

from .convert import Rows, common_length, convert_leaves
from .errors import DataError, DataTypeError, listing, missing_column, type_name
from .held import Held, hold, is_leaf, shift
from .layout import MASK_TAKEN, ROOT, UNIT_NEEDS_NAMES, Entry, Layout, Shared, Static, build
from .leaves import NUMERIC, Leaf, is_pandas, probe, probe_dtype
from .refusals import TRACER, refusal
from .view import View


@dataclass(frozen=True, eq=False)
class Source:
    """Data as the user passed them, unconverted. Made by `ingest`.

    Attributes:
        kind: "mapping" (a dict, Mapping or DataFrame) or "tree" (anything else: a tuple, a named tuple, one array).
        raw: the user's object.
        keys: the names of the columns; ``(None,)`` for a tree.
    """

    kind: str
    raw: Any = field(repr=False)
    keys: tuple[Hashable, ...]
    _held: dict[Hashable, Held] = field(default_factory=dict, repr=False)

    @cached_property
    def _is_frame(self) -> bool:
        return is_pandas(self.raw, "DataFrame")

    @cached_property
    def _key_set(self) -> frozenset[Hashable]:
        return frozenset(self.keys)

    @cached_property
    def _duplicates(self) -> frozenset[Hashable]:
        if not self._is_frame or self.raw.columns.is_unique:
            return frozenset()
        return frozenset(self.raw.columns[self.raw.columns.duplicated()])

    @cached_property
    def _frame_kinds(self) -> dict[Hashable, str]:
        """What the columns of a DataFrame are, by their dtypes: a wide table need not become as many Series."""
        dtypes = list(self.raw.dtypes.array)
        kinds = {dtype: probe_dtype(dtype) for dtype in set(dtypes)}
        return {key: kinds[dtype] for key, dtype in zip(self.raw.columns, dtypes, strict=True)}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._key_set

    def held(self, key: Hashable) -> Held:
        """The leaves under a key. Raises MissingColumnError, or DataError for a duplicated name."""
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = self._hold(key)
        return held

    def _hold(self, key: Hashable) -> Held:
        if key not in self._key_set:
            raise missing_column(key, () if self.kind == "tree" else self.keys)
        if key in self._duplicates:
            raise DataError(
                f"column {key!r}: {int((self.raw.columns == key).sum())} columns of the DataFrame have this name; "
                "expected it once: rename or drop the others"
            )
        return hold(self.raw if self.kind == "tree" else self.raw[key], key, self.kind)

    def _readable(self, key: Hashable) -> bool:
        if key in self._duplicates:
            return False
        return self.held(key).readable

    def refusal(self, key: Hashable) -> Exception:
        """The error for a column that a function cannot read."""
        try:
            held = self.held(key)
        except (DataError, DataTypeError, KeyError) as error:
            return error
        for leaf in (*held.rows, *held.shared):
            if leaf.probe.kind not in NUMERIC:
                return refusal(leaf)
        raise AssertionError(f"column {key!r} is readable")

    @cached_property
    def _open(self) -> tuple[Hashable, ...]:
        """The keys that a function may read."""
        if self._is_frame:
            kinds = self._frame_kinds
            return tuple(key for key in self.keys if kinds[key] in NUMERIC and key not in self._duplicates)
        return tuple(key for key in self.keys if self._readable(key))

    @cached_property
    def n_rows(self) -> int:
        """The number of rows, by all columns. Raises DataError if they differ in length."""
        return self.length(self.keys)

    def length(self, names: Iterable[Hashable]) -> int:
        """The number of rows of these columns. Raises DataError if they differ in length, or if there are none."""
        if self._is_frame:
            return len(self.raw)
        leaves = [leaf for key in names for leaf in self.held(key).rows]
        return common_length(leaves)

    @cached_property
    def signature(self) -> Hashable:
        """What decides which columns a function can read and how they look, without the number of rows. Hashable."""
        if self._is_frame:
            return self.kind, self.keys, tuple(self._frame_kinds.values()), self._duplicates
        parts: list[Hashable] = []
        for key in self.keys:
            held = self.held(key)
            row_kinds = tuple([(leaf.probe.kind, leaf.probe.shape[1:]) for leaf in held.rows])
            parts.append((key, held.treedef, held.slots, row_kinds, tuple([leaf.probe for leaf in held.shared])))
        return self.kind, tuple(parts)

    def abstract(self, n_rows: int | None = None) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Shapes and dtypes of everything that a function may read, to be traced with; nothing is converted.

        Args:
            n_rows: the leading axis to pretend; None for each column's own.

        Returns:
            One struct per array, in the order that `view` expects.
        """
        structs: list[jax.ShapeDtypeStruct] = []
        if self._is_frame:
            n = len(self.raw) if n_rows is None else n_rows
            kinds = self._frame_kinds
            return tuple(jax.ShapeDtypeStruct((n,), NUMERIC[kinds[key]]) for key in self._open)
        for key in self._open:
            held = self.held(key)
            for leaf in held.rows:
                kind, shape = leaf.probe
                lead = shape[:1] if n_rows is None else (n_rows,)
                structs.append(jax.ShapeDtypeStruct((*lead, *shape[1:]), NUMERIC[kind]))
            structs += [jax.ShapeDtypeStruct(leaf.probe.shape, NUMERIC[leaf.probe.kind]) for leaf in held.shared]
        return tuple(structs)

    def view(self, arrays: Iterable[Any], reads: MutableSet[Any], extra: Mapping[Any, Any] | None = None) -> Any:
        """What to hand to the user's function: arrays (tracers) in the place of the data, reads being recorded.

        Args:
            arrays: as many as `abstract` gave structs, in that order.
            reads: a set; the names read are added to it (of a tree: everything, as the key None).
            extra: further entries that are no columns, ``{"mask": ...}`` for models of units; reading them is not
                recorded. Mappings only.

        Returns:
            A read-only mapping for data of kind "mapping"; else the user's structure.
        """
        iterator = iter(arrays)
        values: dict[Hashable, Any] = {}
        for key in self._open:
            if self._is_frame:
                values[key] = next(iterator)
                continue
            held = self.held(key)
            rows = [next(iterator) for _ in held.rows]
            values[key] = build(held.treedef, held.slots, rows, [next(iterator) for _ in held.shared])
        if self.kind == "mapping":
            if extra and not self._key_set.isdisjoint(extra):
                raise DataError(MASK_TAKEN)
            return View(values, self.keys, self.refusal, reads, extra)
        if extra:
            raise DataError(UNIT_NEEDS_NAMES)
        if ROOT not in values:
            raise self.refusal(ROOT)
        reads.add(ROOT)
        return values[ROOT]

    def convert(
        self,
        names: Iterable[Hashable] | None = None,
        missing: str = "raise",
        others: Iterable[Hashable] = (),
        beside: Iterable[tuple[str, Any]] = (),
    ) -> Rows:
        """The columns read, checked and converted: float64, int64 or bool, all of one length, finite.

        Args:
            names: the columns, as recorded by `view`, in any order; None for all. A tree is always taken whole.
            missing: "raise" refuses missing values; "drop" leaves out the rows that have one in any of the columns,
                `others` included, and counts them.
            others: further columns used elsewhere (in formulas, groups, weights), of any type; they are not converted,
                but their length and their missing values count.
            beside: (name, values) that are no columns of the data (an array of weights), treated like `others`.

        Raises:
            MissingColumnError, DataError, DataTypeError: each with what was expected, what came and what to do.

        >>> ingest({"x": [1, 2], "name": ["a", "b"]}).convert(["x"]).leaves
        (array([1, 2]),)
        """
        if missing not in ("raise", "drop"):
            raise DataError(f"missing={missing!r}: expected 'raise' or 'drop'")
        wanted = self._key_set if names is None or self.kind == "tree" else frozenset(names)
        unknown = wanted - self._key_set
        if unknown:
            raise missing_column(next(iter(unknown)), self.keys)
        keys = self.keys if len(wanted) == len(self.keys) else tuple(k for k in self.keys if k in wanted)
        entries: list[Entry] = []
        rows: list[Leaf] = []
        shared: list[Leaf] = []
        for key in keys:
            held = self.held(key)
            if not held.readable:
                raise self.refusal(key)
            entries.append(Entry(key, held.treedef, shift(held.slots, len(rows), len(shared))))
            rows += held.rows
            shared += held.shared
        rest = [leaf for key in others for leaf in self.held(key).rows if key not in wanted]
        rest += [Leaf(values, name) for name, values in beside]
        return convert_leaves(Layout.of(self.kind, tuple(entries)), rows, shared, rest, missing)

    def column_labels(self, names: Any) -> tuple[tuple[str, ...] | None, int]:
        """See `mlejax.data.column_labels`."""
        return column_labels(self, names)

    def column(self, key: Hashable) -> Any:
        """The raw column under a name, for formulas and groups. Raises MissingColumnError, DataError."""
        self.held(key)
        return self.raw[key]


def ingest(data: Any) -> Source:
    """Data as the user has them, ready to be read by a traced function. Nothing is converted or checked yet.

    Args:
        data: a dict (or other Mapping) of columns, a pandas DataFrame, or any tree (tuple, named tuple, one array) of
            arrays with a leading row axis. A column is a NumPy or JAX array, a list, a pandas Series, or a DataFrame (a
            matrix with labels); a dict or tuple of such is a column too. `Shared` and `Static` mark what is not by row.

    Raises:
        DataTypeError: not data at all (a string, a number, None, a table of an unknown kind).

    >>> source = ingest({"height": [1.0, 2.0], "k": Static(3)})
    >>> source.kind, source.keys, source.n_rows
    ('mapping', ('height', 'k'), 2)
    """
    if isinstance(data, Source):
        return data
    if isinstance(data, dict):
        return Source("mapping", data, tuple(data))
    if is_pandas(data, "DataFrame"):
        return Source("mapping", data, tuple(data.columns.unique()))
    if isinstance(data, Mapping):
        return Source("mapping", data, tuple(data))
    _refuse_foreign(data)
    return Source("tree", data, (ROOT,))


def _refuse_foreign(data: Any) -> None:
    if isinstance(data, jax.core.Tracer):
        raise DataTypeError(f"the data: {TRACER}")
    if isinstance(data, (np.ndarray, jax.Array, list, tuple)) or is_pandas(data, "Series", "Index"):
        if isinstance(data, np.ndarray) and data.dtype.names is not None:
            raise refusal(Leaf(data, "the data"))
        return
    if isinstance(data, (Shared, Static)):
        raise DataTypeError(f"the data: a bare {type_name(data)} has no rows; expected a dict that also holds columns")
    known = probe(data).kind
    leaves = jax.tree_util.tree_leaves(data, is_leaf=is_leaf)
    if known == "unknown" and not (len(leaves) == 1 and leaves[0] is data):
        return  # a registered tree
    if known in NUMERIC and np.ndim(data):
        return
    raise DataTypeError(
        f"the data: expected a dict of arrays, a pandas DataFrame or a tree of arrays, got a {type_name(data)}. "
        "For another kind of table write {name: np.asarray(table[name]) for name in its columns}, "
        "or use its method to_pandas()"
    )


def column_labels(source: Source, names: Any) -> tuple[tuple[str, ...] | None, int]:
    """Labels and length of a parameter vector that goes with columns of the data.

    Args:
        source: the data.
        names: the name of a matrix (n, k) in the data, or a list of names of single columns.

    Returns:
        The labels (those of a DataFrame, or the names listed; None for a matrix without labels) and k.

    Raises:
        MissingColumnError: no such column. DataError: not a matrix, or not single columns. DataTypeError: not numeric.

    >>> column_labels(ingest({"X": np.zeros((5, 2)), "a": [1.0] * 5}), "X")
    (None, 2)
    >>> column_labels(ingest({"a": [1.0], "b": [2.0]}), ["a", "b"])
    (('a', 'b'), 2)
    """
    if isinstance(names, list) or (isinstance(names, tuple) and names not in source):
        if not names:
            raise DataError("columns=[]: expected at least one name")
        for name in names:
            leaf = _single_leaf(source, name)
            if len(leaf.probe.shape) != 1:
                raise DataError(
                    f"columns={listing(names)}: expected single columns, but {leaf.where} has shape "
                    f"{leaf.probe.shape}; write columns={name!r} for a matrix"
                )
        return tuple(str(name) for name in names), len(names)
    leaf = _single_leaf(source, names)
    if len(leaf.probe.shape) != 2:
        raise DataError(
            f"columns={names!r}: expected a matrix of shape (n, k), got shape {leaf.probe.shape}; "
            f"write columns=[{names!r}] for one column"
        )
    labels = tuple(str(c) for c in leaf.raw.columns) if is_pandas(leaf.raw, "DataFrame") else None
    return labels, leaf.probe.shape[1]


def _single_leaf(source: Source, name: Hashable) -> Leaf:
    if source.kind != "mapping":
        raise DataError(
            f"columns={name!r} needs data with names (a dict or a DataFrame), got a {type_name(source.raw)}"
        )
    held = source.held(name)
    if not held.readable:
        raise source.refusal(name)
    leaves = held.rows or held.shared
    if held.treedef is not None or len(leaves) != 1:
        raise DataError(f"columns={name!r}: expected an array, got a {type_name(source.raw[name])}")
    return leaves[0]
