"""Starting values, where the user gives none: candidates scaled by the data, of which the best is taken.

A log-likelihood does not say which column a parameter describes, so several guesses are laid side by side and the
log-likelihood itself picks among them: all effects zero; locations at a column's mean (or its logarithm) with scales
at its standard deviation (or their inverses), for every numeric column that is read; and a seeded cloud around them.
Parameters of equal declaration start deliberately unequal, because all-equal starts sit on saddle points (two
components of a mixture).  Declared and given starts are kept in every candidate.

Everything here is on the host; the batch of candidates is evaluated by the caller in one compiled call.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from mlejax import transforms
from mlejax.parameters import COEFFICIENTS, Declaration, FreeParameter, Leaf, Parameter, Space, start_value

Array = Any
N_RANDOM = 24
MAX_COLUMNS = 8
GUESSES_PER_COLUMN = 8


def given_values(space: Space, declared: Mapping[str, Declaration] | None, start: Any) -> list[np.ndarray | None]:
    """Declared starts overlaid by ``start``: for each leaf its value (natural scale, float64) or None.

    ``start`` may be a whole ``params`` structure, or a dict of names and addresses (``{"mu": 1.0, "beta[2]": 0.5}``);
    what it leaves out falls back on the declaration.

    Raises:
        ValueError, TypeError: wrong shape, value outside its support, unknown address.
    """
    values: list[np.ndarray | None] = [None] * len(space.leaves)
    for name, parameter in (declared or {}).items():
        where = [i for i, leaf in enumerate(space.leaves) if leaf.name == name or leaf.name.startswith(name + ".")]
        if space.leaves[where[0]].kind == COEFFICIENTS:
            continue  # a start on the natural scale, for the search of the coefficients
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
        parts = group.split(value)
        for i, part in enumerate(parts):
            values[first + i] = _checked(space.leaves[first + i], part)
    for address, value in entries.items():
        _set_entry(space, values, address, value)
    return values


def _set_entry(space: Space, values: list[np.ndarray | None], address: str, value: Any) -> None:
    for i, flat in space.locate(address):
        leaf = space.leaves[i]
        if flat is None:
            values[i] = _checked(leaf, value)
            continue
        current = values[i]
        if current is None and leaf.kind == COEFFICIENTS:
            current = np.full(leaf.shape, np.nan)  # the rest is searched
        elif current is None:
            current = leaf_default(leaf, 0.0, 1.0, np.zeros(leaf.size), np.zeros(leaf.size))
        current = np.array(current)
        current.reshape(-1)[flat] = np.asarray(value, np.float64)
        problem = leaf.transform.problem(current.reshape(-1)[flat] if leaf.kind == COEFFICIENTS else current)
        if problem is not None:
            raise ValueError(f"start={address!r}: {leaf.name} is declared {leaf.kind}: {problem}")
        values[i] = current


def _checked(leaf: Leaf, value: Any) -> np.ndarray:
    if leaf.kind == COEFFICIENTS and np.shape(value) != leaf.shape:
        raise ValueError(
            f"start of {leaf.name}: expected its coefficients, shape {leaf.shape}, got shape {np.shape(value)}; "
            f"{leaf.name} is regressed, so name them one by one, {{{leaf.entry_labels[0]!r}: ...}}"
        )
    parameter = Parameter(leaf.kind, leaf.transform, leaf.shape)
    return start_value(parameter, value, f"start of {leaf.name}")


def _sampled(leaf: np.ndarray, limit: int = 4096) -> np.ndarray:
    """At most about ``limit`` rows, spread over all of them."""
    return np.asarray(leaf[:: max(1, leaf.shape[0] // limit)], np.float64)


def column_statistics(rows: Any) -> tuple[list[tuple[float, float]], int]:
    """(mean, standard deviation) of one-dimensional numeric columns that vary, and how many columns there are."""
    leaves = [x for x in jax.tree.leaves(rows) if getattr(x, "ndim", 0) == 1 and x.dtype.kind in "fi"]
    out = []
    for leaf in leaves[:MAX_COLUMNS]:
        part = _sampled(leaf)
        with np.errstate(over="ignore", invalid="ignore"):
            mean, scale = float(part.mean()), float(part.std())
        if math.isfinite(mean) and math.isfinite(scale) and scale > 0:
            out.append((mean, scale))
    return out, len(leaves)


def largest_scale(rows: Any) -> float:
    """The largest root mean square among all numeric columns: what a unit coefficient may be multiplied by."""
    sizes = [1.0]
    for leaf in jax.tree.leaves(rows):
        if getattr(leaf, "ndim", 0) >= 1 and leaf.dtype.kind in "fi" and leaf.size:
            with np.errstate(over="ignore"):
                squares = np.square(_sampled(leaf))
                sizes.append(math.sqrt(np.add.reduce(squares, axis=None) / squares.size))
    return max(s for s in sizes if math.isfinite(s))


def candidates(space: Space, given: Sequence[np.ndarray | None], rows: Any, seed: int = 0) -> list[list[np.ndarray]]:
    """Candidate starts, each a list of natural values, one a leaf; the plain ones first."""
    columns, n_columns = column_statistics(rows)
    small = 0.01 / largest_scale(rows)
    guesses: list[tuple[float, float, float, float]] = [
        (0.0, 1.0, small, small)
    ]  # location, scale, spreads (scalar, vector)
    for mean, sd in columns:
        guesses += [
            (mean, sd, sd, small),
            (0.0, sd, small, small),
            (mean, sd, sd, sd),
            (mean, 1.0 / sd, sd, small),
            (mean, sd * sd, sd, small),
        ]
        size = mean if mean > 0 else abs(mean) + sd
        guesses += [(math.log(size), 1.0, 0.1, small), (0.0, size, small, small), (0.0, 1.0 / size, small, small)]
    # the number of candidates depends on the structure of the data alone: it is part of what is compiled
    guesses += [guesses[0]] * (1 + GUESSES_PER_COLUMN * min(n_columns, MAX_COLUMNS) - len(guesses))
    rank = _ranks(space)
    out = [
        [_fill(leaf, value, guess, r) for leaf, value, r in zip(space.leaves, given, rank, strict=True)]
        for guess in guesses
    ]
    rng = np.random.default_rng(seed)
    for i in range(N_RANDOM):
        location, scale, *_ = guesses[i % len(guesses)]
        wide = 0.3 if i % 2 else 1.0
        out.append(
            [
                _scatter(leaf, value, location, scale, small, wide, rng)
                for leaf, value in zip(space.leaves, given, strict=True)
            ]
        )
    return out


def plain_will_do(space: Space, given: Sequence[np.ndarray | None]) -> bool:
    """Nothing is given, and no parameter could be exchanged for another: see `first_guess`."""
    return all(v is None for v in given) and _all_distinct(space)


@lru_cache(maxsize=256)
def _all_distinct(space: Space) -> bool:
    """No two free parameters are declared alike, but for the entries of a vector of real numbers."""
    leaves = [leaf for leaf in space.leaves if not leaf.all_fixed]
    kinds = [(leaf.kind, leaf.shape == ()) for leaf in leaves]
    real = all(isinstance(leaf.transform, transforms.Identity) or leaf.shape == () for leaf in leaves)
    known = all(isinstance(leaf.transform, (transforms.Identity, transforms.Log)) for leaf in leaves)
    return real and known and len(set(kinds)) == len(kinds)


def first_guess(space: Space, given: Sequence[np.ndarray | None], rows: Any) -> list[np.ndarray] | None:
    """The first of the `candidates` alone; None where parameters might be exchanged for one another, or are not all open.

    Two scalars of one kind, or the entries of a positive vector, may be components of a mixture, of which equal ones are a
    saddle point that looks like a maximum; a vector of real numbers is most often one of effects.
    """
    return plain_values(space, smallness(rows)) if plain_will_do(space, given) else None


def smallness(rows: Any) -> float:
    """An effect whose product with any column of the data is small."""
    return 0.01 / largest_scale(rows)


def plain_values(space: Space, small: float) -> list[np.ndarray]:
    """`first_guess` for data of a given scale; on the real line it is a multiple of ``small``, elsewhere it is constant."""
    pairs = zip(space.leaves, _ranks(space), strict=True)
    return [
        _fill(leaf, np.zeros(leaf.shape) if leaf.all_fixed else None, (0.0, 1.0, small, small), r) for leaf, r in pairs
    ]


def _ranks(space: Space) -> list[np.ndarray]:
    """For each leaf the positions of its entries among all free entries of equal declaration, in [-1, 1]."""
    kinds: dict[tuple[str, bool], int] = {}
    places = []
    for leaf in space.leaves:
        key = (leaf.kind, leaf.shape == ())
        begin = kinds.get(key, 0)
        n = leaf.size if leaf.shape == () or leaf.transform.elementwise else 1
        places.append((key, begin, n))
        kinds[key] = begin + n
    out = []
    for (key, begin, n), leaf in zip(places, space.leaves, strict=True):
        total = kinds[key]
        index = begin + np.arange(n if leaf.transform.elementwise else leaf.size)
        out.append(
            (2.0 * index - (total - 1)) / max(total - 1, 1)
            if leaf.transform.elementwise
            else np.linspace(-1.0, 1.0, leaf.size)
        )
    return out


def _fill(
    leaf: Leaf, value: np.ndarray | None, guess: tuple[float, float, float, float], rank: np.ndarray
) -> np.ndarray:
    if value is not None:
        return value
    location, scale, scalar_spread, vector_spread = guess
    if leaf.shape == ():
        return leaf_default(leaf, location, scale, 0.5 * scalar_spread * rank, rank)
    center = location if vector_spread == scale else 0.0
    return leaf_default(leaf, center, scale, vector_spread * rank, rank)


def leaf_default(leaf: Leaf, location: float, scale: float, offset: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """One leaf's start: near ``location`` on the real line, near ``scale`` where it is positive, central else."""
    t = leaf.transform
    if isinstance(t, transforms.Identity):
        return (location + offset).reshape(leaf.shape)
    if isinstance(t, transforms.Log) or (isinstance(t, transforms.Box) and t.lo == 0.0 and math.isinf(t.hi)):
        return (scale * np.exp(0.1 * rank)).reshape(leaf.shape)
    if isinstance(t, (transforms.Logit, transforms.Box, transforms.HalfOpen)):
        return (t.lo + (t.hi - t.lo) * (0.5 + 0.02 * rank)).reshape(leaf.shape)
    k = leaf.shape[-1]
    if isinstance(t, transforms.Ordered):
        return np.broadcast_to(location + scale * np.linspace(-1.0, 1.0, k), leaf.shape).copy()
    if isinstance(t, transforms.Simplex):
        weights = 1.0 + 0.05 * np.linspace(-1.0, 1.0, k)
        return np.broadcast_to(weights / weights.sum(), leaf.shape).copy()
    square = np.eye(k) * (scale**2 if isinstance(t, transforms.Covariance) else 1.0)
    return np.broadcast_to(square, leaf.shape).copy()


def scatter(space: Space, rows: Any, n: int, rng: np.random.Generator) -> list[list[np.ndarray]]:
    """n random starts on the scales of the data's columns, each a list of natural values, one a leaf."""
    columns, _ = column_statistics(rows)
    small = 0.01 / largest_scale(rows)
    scales = [(0.0, 1.0), *columns]
    out = []
    for i in range(n):
        location, scale = scales[(i + 1) % len(scales)]
        wide = 2.0 if i % 3 == 2 else 1.0
        out.append([_scatter(leaf, None, location, scale, small, wide, rng) for leaf in space.leaves])
    return out


def _scatter(
    leaf: Leaf,
    value: np.ndarray | None,
    location: float,
    scale: float,
    small: float,
    wide: float,
    rng: np.random.Generator,
) -> np.ndarray:
    if value is not None:
        return value
    draw = rng.standard_normal(leaf.size)
    t = leaf.transform
    if isinstance(t, transforms.Identity):
        spread = scale if leaf.shape == () else 10 * small
        return (location * (leaf.shape == ()) + wide * spread * draw).reshape(leaf.shape)
    if isinstance(t, transforms.Log) or (isinstance(t, transforms.Box) and t.lo == 0.0 and math.isinf(t.hi)):
        return (scale * np.exp(2.0 * wide * draw)).reshape(leaf.shape)
    if isinstance(t, (transforms.Logit, transforms.Box, transforms.HalfOpen)):
        return (t.lo + (t.hi - t.lo) / (1.0 + np.exp(-2.0 * wide * draw))).reshape(leaf.shape)
    if isinstance(t, transforms.Ordered):
        return np.sort(location + scale * wide * draw.reshape(leaf.shape), axis=-1)
    if isinstance(t, transforms.Simplex):
        weights = np.exp(wide * draw).reshape(leaf.shape)
        return weights / weights.sum(-1, keepdims=True)
    return leaf_default(leaf, location, scale * float(np.exp(wide * draw[0])), draw, draw)
