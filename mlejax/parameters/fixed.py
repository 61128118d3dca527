"""``fixed=``: parameters, or entries of them, that are fixed at given values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.parameters.leaf import COEFFICIENTS, Leaf
from mlejax.parameters.space import Space
from mlejax.shapes import PyTree


def fix(space: Space, fixed: Mapping[str, Any] | None) -> tuple[Space, Any]:
    """Apply ``fixed=`` (name -> value, natural scale; values may be traced).

    Returns:
        The layout with those entries fixed, and a vector with one value for each entry of the parameters, (k,), 0 for those
        that are not fixed; None instead of the vector if nothing is fixed.

    Raises:
        ValueError: unknown names, an entry that is given twice, values of another shape or outside the support.
    """
    if not fixed:
        return space, None
    layout = space.fix(list(fixed))
    seen: set[tuple[int, int]] = set()
    values: list[Any] = [jnp.zeros((leaf.size,), jnp.result_type(float)) for leaf in space.leaves]
    for address, value in fixed.items():
        located = space.locate(address)
        parts = _parts(space, address, value, len(located))
        for (i, flat), part in zip(located, parts, strict=True):
            leaf = space.leaves[i]
            entries = {(i, int(j)) for j in (range(leaf.size) if flat is None else flat)}
            if entries & seen:
                raise ValueError(f"fixed={address!r}: this entry of {leaf.name!r} is given twice; leave one of them out")
            seen |= entries
            _check_support(leaf, part, flat)
            if flat is None:
                if leaf.kind == COEFFICIENTS and leaf.size > 1 and np.shape(part) != leaf.shape:
                    raise ValueError(
                        f"fixed={address!r}: {leaf.name} has a formula; expected an array of its coefficients, shape "
                        f"{leaf.shape}, got shape {np.shape(part)}.  Give single coefficients by name: "
                        f"{{{leaf.entry_labels[0]!r}: ...}}"
                    )
                try:
                    values[i] = jnp.reshape(jnp.broadcast_to(jnp.asarray(part, values[i].dtype), leaf.shape), (-1,))
                except (ValueError, TypeError) as error:
                    raise ValueError(f"fixed={address!r}: expected shape {leaf.shape}, got {np.shape(part)}") from error
            else:
                values[i] = values[i].at[flat].set(jnp.asarray(part, values[i].dtype))
    return layout, jnp.concatenate(values)


def _check_support(leaf: Leaf, value: PyTree, flat: np.ndarray | None) -> None:
    """Raise ValueError if a value (not a tracer) lies outside the support of its parameter or is not a number.

    Values of another shape pass; their caller refuses them.

    ``flat``: positions of the entries that it fixes; None for the whole array.
    """
    if any(isinstance(part, jax.core.Tracer) for part in jax.tree.leaves(value)):
        return
    try:
        array = np.broadcast_to(np.asarray(value, np.float64), leaf.shape if flat is None else (flat.size,))
    except OverflowError:
        raise ValueError(f"fixed: {leaf.name}: expected numbers in the range of float64, got an integer beyond 1.8e308") from None
    except (TypeError, ValueError):
        if not all(
            isinstance(part, (bool, int, float, np.ndarray, np.generic, jax.Array)) for part in jax.tree.leaves(value)
        ):
            raise ValueError(f"fixed: {leaf.name}: expected numbers, got {value!r}") from None
        return  # the shape is refused with a message of its own
    problem = leaf.transform.problem(array)
    if problem is not None:
        raise ValueError(f"fixed: {leaf.name} is declared {leaf.kind}: {problem}")


def _parts(space: Space, address: str, value: PyTree, n: int) -> list[Any]:
    """Split one value under ``fixed=`` into n arrays, one for each leaf that the name ``address`` refers to.

    Raises:
        ValueError: the value has another number of arrays, or another structure than the parameter.
    """
    group = next((g for g in space.groups if g.name == address), None)
    if group is not None:
        return group.split(value)
    parts = jax.tree.leaves(value) if n > 1 else [value]
    if len(parts) != n:
        raise ValueError(f"fixed={address!r}: expected {n} arrays, got {len(parts)}")
    return parts
