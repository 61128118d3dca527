"""Tables of some of the user's columns and of further columns, such as design matrices, offsets and effects."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any

from mlejax.data.read.table import Table


def joined(table: Table, names: Iterable[Hashable], more: Mapping[Any, Any]) -> Table:
    """Return a table of some columns of another table, in its order, and of further columns.

    Args:
        table: a table of kind "mapping".
        names: names of its columns to keep; those that it does not have are ignored.
        more: the further columns by key; they come last.
    """
    wanted = frozenset(names)
    keys = tuple(key for key in table.keys if key in wanted)
    return Table("mapping", _Joined(table.raw, keys, more), (*keys, *more))


class _Joined(Mapping[Any, Any]):
    """A mapping of some of the user's columns and of further columns, for `joined`."""

    def __init__(self, raw: Any, keys: tuple[Hashable, ...], more: Mapping[Any, Any]) -> None:
        self.raw, self.columns, self.more = raw, keys, more

    def __getitem__(self, key: Hashable) -> Any:
        return self.more[key] if key in self.more else self.raw[key]

    def __iter__(self) -> Iterator[Any]:
        return iter((*self.columns, *self.more))

    def __len__(self) -> int:
        return len(self.columns) + len(self.more)
