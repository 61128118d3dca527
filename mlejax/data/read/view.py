"""The mapping that the user's function gets while it is traced, which records the columns that it reads.

It behaves like the plain dict that the function gets at run time. Iteration and `len` count as reading all columns, and `in` as
reading the column if it exists, so that the dict of the columns read gives the same answers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, MutableSet
from typing import Any

import jax

from mlejax.data.errors import DataTypeError, MissingColumnError, listing, missing_column, near_matches
from mlejax.misuse import linked

MASKS = "observed"  # the name of the masks of columns with missing or infinite entries


class Part(dict[Any, Any]):
    """A dict of the columns under one key of the data; its error for a name that does not exist lists the names that do.

    Args:
        values: the columns.
        where: the dict in messages, ``data['observed']``.
    """

    def __init__(self, values: Mapping[Any, Any], where: str) -> None:
        super().__init__(values)
        self.where = where

    def __missing__(self, name: Hashable) -> Any:
        near = near_matches(name, self)
        hint = f" Near matches: {listing(near)}." if near else ""
        text = f"no column {name!r} in {self.where}.{hint} It has the columns {listing(self)}."
        raise linked(MissingColumnError(text, name), "no-column")


class View(Mapping[Any, Any]):
    """A read-only mapping of traced columns that records which of them are read.

    Args:
        values: the columns that can be read (numeric ones), by key.
        keys: the keys of all columns, in order, including those that cannot be read.
        refuse: function from the key of a column that cannot be read to the error that reading it raises.
        reads: a set to which the keys of the columns read are added.
        extra: further entries, which are not columns of the data (the mask of a unit); reading them is not recorded.

    Raises:
        MissingColumnError: a key that does not exist is read.
        DataTypeError: an unhashable key is read (a list of names), or the data are written to.
    """

    __slots__ = ("_extra", "_keys", "_reads", "_refuse", "_values")

    def __init__(
        self,
        values: Mapping[Any, Any],
        keys: tuple[Hashable, ...],
        refuse: Callable[[Any], Exception],
        reads: MutableSet[Any],
        extra: Mapping[Any, Any] | None = None,
    ):
        self._values, self._keys, self._refuse, self._reads = values, keys, refuse, reads
        self._extra = dict(extra or {})

    def __getitem__(self, key: Hashable) -> Any:
        try:
            if key in self._extra:
                return self._extra[key]
            if key in self._values:
                self._reads.add(key)
                return self._values[key]
        except TypeError:
            raise DataTypeError(
                f"data[{key!r}]: expected the name of one column. For several columns write "
                "jnp.stack([data['a'], data['b']], axis=-1), or pass a matrix as one entry of the data"
            ) from None
        if key in self._keys:
            raise self._refuse(key)
        own = [name for name in self._keys if name != MASKS or not isinstance(self._values.get(name), Part)]
        raise missing_column(key, (*own, *self._extra))

    def __contains__(self, key: object) -> bool:
        if key in self._extra:
            return True
        if key not in self._keys:
            return False
        self[key]  # recorded, so that the answer is the same at run time
        return True

    @property
    def names(self) -> tuple[Hashable, ...]:
        """The keys of all columns; none of them counts as read."""
        return self._keys

    def __iter__(self) -> Iterator[Any]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def _all(self, why: str = "iteration, len, ** or dict()") -> tuple[Any, ...]:
        """Return all keys, those of ``extra`` included, and count each column as read.

        Raises the error of ``refuse`` if a column cannot be read; ``why`` names the operation in its message.
        """
        for key in self._keys:
            if key not in self._values:
                error = self._refuse(key)
                raise type(error)(
                    f"the function reads all columns of the data ({why}), and {error}. Or pass only the columns that the "
                    "function needs, data[['a', 'b']]"
                )
        self._reads |= set(self._keys)
        return (*self._keys, *self._extra)

    def get(self, key: Hashable, default: Any = None) -> Any:
        if key not in self:  # an unreadable column is an error also here, never the default
            return default
        return self[key]

    def __or__(self, other: Mapping[Any, Any]) -> dict[Any, Any]:
        return {**self, **other}

    def __ror__(self, other: Mapping[Any, Any]) -> dict[Any, Any]:
        return {**other, **self}

    def without(self, hidden: Collection[Any]) -> View:
        """Return a view without the columns of these keys; reads are recorded in the same set."""
        values = {key: value for key, value in self._values.items() if key not in hidden}
        keys = tuple(key for key in self._keys if key not in hidden)
        return View(values, keys, self._refuse, self._reads, self._extra)

    def replacing(self, names: Collection[Any], change: Callable[[Any], Any]) -> View:
        """Return a view in which ``change`` is applied to the columns ``names``; reads are recorded in the same set."""
        values = {key: change(value) if key in names else value for key, value in self._values.items()}
        return View(values, self._keys, self._refuse, self._reads, self._extra)

    def copy(self) -> dict[Any, Any]:
        """Return a plain dict of all columns and further entries; all columns count as read."""
        return dict(self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise linked(
            AttributeError(f'the data have no attribute {name!r}; a column is read as data["{name}"]'), "attributes"
        )

    def __setitem__(self, key: Hashable, value: object) -> None:
        raise DataTypeError(f"data[{key!r}] = ...: the data cannot be changed; write {{**data, {key!r}: value}}")

    def __delitem__(self, key: Hashable) -> None:
        raise DataTypeError(f"del data[{key!r}]: the data cannot be changed; read only the columns needed")

    def __repr__(self) -> str:
        return f"<data with the columns {', '.join(map(repr, (*self._keys, *self._extra)))}>"


def _flatten(view: View) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    keys = view._all(
        "jax.jit, jax.vmap or jax.tree.map takes all of them; leave out jax.jit of the function, since mlejax compiles it"
    )
    return tuple(view[key] for key in keys), keys


# So that a function may hand its data on to jax.vmap, jax.tree.map or lax.scan, as it may with the dict at run time.
_unflatten: Callable[..., Any] = lambda keys, values: dict(zip(keys, values, strict=True))
jax.tree_util.register_pytree_node(View, _flatten, _unflatten)
jax.tree_util.register_pytree_node(Part, lambda part: (tuple(part.values()), tuple(part)), _unflatten)
