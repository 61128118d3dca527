"""Construction of a parameter space from declarations, or from a pytree of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mlejax import transforms
from mlejax.parameters.declare import Declaration, FreeParameter
from mlejax.parameters.leaf import Group, Leaf
from mlejax.parameters.space import Space
from mlejax.shapes import Params


def tree_space(start: Params, name: str | None) -> tuple[Group, list[Leaf]]:
    """Return the group and the leaves of a pytree of unconstrained arrays.

    Args:
        start: the pytree, of which the structure and the shapes are used.
        name: name of the parameter, the beginning of the names of its arrays (``net.layer0.w``); None if the pytree is all of
            ``params``, whose arrays have their paths as names, and ``params`` if it is one array.
    """
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
    """Return the parameter space of declarations.

    Args:
        declared: declarations by name, in the order of tables.
        columns: for each parameter declared with ``columns="X"``: the labels of the columns (or None) and their number in the
            data; labels that were declared go before these.

    Raises:
        ValueError: there is not one declared label for each column.
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
            square = isinstance(parameter.transform, transforms.Triangular)
            shape = (k,) * (2 if square else 1)
            if labels is None and found is not None:
                labels = tuple(str(x) for x in found)
            if labels is not None and len(labels) != k:
                raise ValueError(
                    f"{name}: expected one label for each of the {k} columns of {parameter.columns!r}, got {len(labels)} labels; "
                    "correct labels=, or leave it out for the names of the columns"
                )
        groups.append(Group(name, None, 1))
        leaves.append(
            Leaf(name, repr(parameter) if parameter.arguments else parameter.kind, parameter.transform, shape, labels)
        )
    return Space(tuple(groups), tuple(leaves))
