"""Starts given by the user: declared with the parameters, or under ``start=``, for one data set or many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mlejax.fit.start.supports import central
from mlejax.parameters import COEFFICIENTS, Declaration, FreeParameter, Leaf, Parameter, Space, start_value
from mlejax.shapes import Host, PyTree

Given = Sequence[np.ndarray | None]


def given_values(space: Space, declared: Mapping[str, Declaration] | None, start: PyTree) -> list[np.ndarray | None]:
    """Return the given start of every leaf: the declared one, overridden by ``start``.

    Args:
        space: layout of the parameters.
        declared: name -> declaration, or None for a model without declarations.
        start: a whole ``params`` structure, or a dict of parameter and entry names, ``{"mu": 1.0, "beta[2]": 0.5}``.

    Returns:
        For each leaf an array of its shape, natural scale, float64, or None.  If only some coefficients are given, the others
        are NaN.

    Raises:
        ValueError, TypeError: wrong shape, value outside its support, unknown name.
    """
    values: list[np.ndarray | None] = [None] * len(space.leaves)
    for name, parameter in (declared or {}).items():
        where = [i for i, leaf in enumerate(space.leaves) if leaf.name == name or leaf.name.startswith(name + ".")]
        if space.leaves[where[0]].kind == COEFFICIENTS:
            continue  # the declared start is on the natural scale: the candidates of the coefficients use it
        if isinstance(parameter, FreeParameter):
            for i, leaf_value in zip(where, jax.tree.leaves(parameter.start), strict=True):
                values[i] = np.asarray(leaf_value, np.float64)
        elif parameter.start is not None:
            values[where[0]] = _checked(space.leaves[where[0]], parameter.start)
    if start is None:
        return values
    if space.groups[0].name is None:
        return [_checked(leaf, v) for leaf, v in zip(space.leaves, space.split(start), strict=True)]
    if not isinstance(start, Mapping):
        raise TypeError(
            f"start= expected a dict of parameters, {{'{space.groups[0].name}': ...}}, or res.params_tree, "
            f"got {type(start).__name__}"
        )
    entries: dict[str, Any] = {}
    for key, value in start.items():
        group = next((g for g in space.groups if g.name == key), None)
        if group is None:
            entries[str(key)] = value
            continue
        first = sum(g.n_leaves for g in space.groups[: space.groups.index(group)])
        for i, part in enumerate(group.split(value)):
            values[first + i] = _checked(space.leaves[first + i], part)
    for address, value in entries.items():
        _set_entry(space, values, address, value)
    return values


def unused_starts(space: Space, starts: Sequence[PyTree], values: Host | None) -> str:
    """Return a note for the user that names the fixed entries for which ``start=`` gives another value; "" if there are none.

    Args:
        space: layout of the parameters, with the fixed entries.
        starts: starts given by the user, as in `given_values`; None is no start.
        values: fixed values, one for each entry of the parameters, (k,); None if nothing is fixed.
    """
    if values is None or space.groups[0].name is None:  # params without names need a start of every entry
        return ""
    each = [given_values(space, None, start) for start in starts if start is not None]
    names: list[str] = []
    parts = np.split(values, np.cumsum([leaf.size for leaf in space.leaves])[:-1])
    for i, (leaf, value) in enumerate(zip(space.leaves, parts, strict=True)):
        if leaf.free is None:
            continue
        differs = np.zeros(leaf.size, bool)
        for wanted in (given[i] for given in each):
            if wanted is not None:
                differs |= np.isfinite(np.ravel(wanted)) & ~np.isclose(np.ravel(wanted), value, rtol=1e-12, atol=0.0)
        entries = np.flatnonzero(differs & ~np.asarray(leaf.free))
        names += [leaf.name] if entries.size == leaf.size else [leaf.name + leaf.suffix(int(k)) for k in entries]
    if not names:
        return ""
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"start= is not used for {shown}, fixed at {'another value' if len(names) == 1 else 'other values'}."


def given_for_each(
    space: Space, n_sets: int, start: PyTree, declared: Mapping[str, Declaration] | None
) -> tuple[list[np.ndarray | None], list[bool]]:
    """Return the given starts of many data sets, from one value for all or one for each.

    Args:
        space: layout of the parameters.
        n_sets: L, the number of data sets.
        start: as in `given_values`, where a value may have a leading axis (L, ...); or a DataFrame with one row for each data
            set and parameter names as columns, such as the estimates of another batch.
        declared: name -> declaration.

    Returns:
        ``(given, own)``: for each leaf its start or None, and whether that start has a leading axis over all L data sets.

    Raises:
        ValueError, TypeError: as `given_values`; a start of one data set that is not finite; another number of rows.
    """
    if hasattr(start, "columns") and hasattr(start, "to_numpy"):
        if len(start) != n_sets:
            raise ValueError(f"start=: expected one row for each of {n_sets} data sets, got {len(start)}")
        start = {str(c): start[c].to_numpy(dtype=float) for c in start.columns}
    common, each = start, {}
    if isinstance(start, Mapping) and all(isinstance(key, str) for key in start):
        shapes = {key: _shape_at(space, key) for key in start}
        each = {
            key: np.asarray(value, np.float64)
            for key, value in start.items()
            if shapes[key] is not None and np.shape(value) == (n_sets, *shapes[key])  # type: ignore[misc]
        }
        common = {key: each[key][0] if key in each else value for key, value in start.items()}
    for key, values in each.items():
        if not np.isfinite(values).all():
            raise ValueError(f"start={key!r}: expected finite numbers for every data set")
    given = given_values(space, declared, common)
    own = [False] * len(given)
    for key, values in each.items():
        for i, flat in space.locate(key):
            if not own[i]:
                given[i], own[i] = np.repeat(np.asarray(given[i])[None], n_sets, axis=0), True
            entries = np.asarray(given[i]).reshape(n_sets, -1)
            entries[:, slice(None) if flat is None else flat] = values.reshape(n_sets, -1)
    for leaf, value, mine in zip(space.leaves, given, own, strict=True):
        problem = leaf.transform.problem(np.asarray(value)) if mine and leaf.transform.elementwise else None
        if problem is not None:
            raise ValueError(f"start: {leaf.name} is declared {leaf.kind}: {problem}")
    return given, own


def _shape_at(space: Space, address: str) -> tuple[int, ...] | None:
    """Return the shape of the leaf, or of the entries, that the name ``address`` refers to; None if it refers to several
    leaves.

    Raises:
        AddressError: no parameter or entry has this name.
    """
    located = space.locate(address)
    if len(located) != 1:
        return None
    i, flat = located[0]
    if flat is None:
        return space.leaves[i].shape
    return () if len(flat) == 1 else (len(flat),)


def _set_entry(space: Space, values: list[np.ndarray | None], address: str, value: PyTree) -> None:
    """Set, in place, the start of the leaf or entries with the name ``address``.

    Other entries of the same leaf that have no start get central values; if they are coefficients of a formula, NaN.

    Raises:
        ValueError: an unknown name, or a value outside the support.
    """
    for i, flat in space.locate(address):
        leaf = space.leaves[i]
        if flat is None:
            values[i] = _checked(leaf, value)
            continue
        current = values[i]
        if current is None and leaf.kind == COEFFICIENTS:
            current = np.full(leaf.shape, np.nan)  # the candidates fill the rest
        elif current is None:
            zero = np.zeros(leaf.size)
            current = central(leaf, np.zeros(()), np.ones(()), zero, zero)
        current = np.array(current)
        current.reshape(-1)[flat] = np.asarray(value, np.float64)
        problem = leaf.transform.problem(current.reshape(-1)[flat] if leaf.kind == COEFFICIENTS else current)
        if problem is not None:
            raise ValueError(f"start={address!r}: {leaf.name} is declared {leaf.kind}: {problem}")
        values[i] = current


def _checked(leaf: Leaf, value: Any) -> np.ndarray:
    """Return a start of a leaf as a float64 array of its shape; ValueError if it has another shape or lies outside the support.
    """
    if leaf.kind == COEFFICIENTS and np.shape(value) != leaf.shape:
        raise ValueError(
            f"{leaf.name} has a formula; expected an array of its coefficients, shape {leaf.shape}, got shape "
            f"{np.shape(value)}.  Give single coefficients by name: {{{leaf.entry_labels[0]!r}: ...}}"
        )
    parameter = Parameter(leaf.kind, leaf.transform, leaf.shape)
    return start_value(parameter, value, f"start of {leaf.name}")
