"""The candidates among starting values of :mod:`mlejax.fit.starts`, for many data sets at once.

Each data set gets the candidates that a fit of it alone would get, and ranks them on its own rows, so that its estimates do
not depend on its company.  Here the arithmetic is laid out over lanes; a test holds it to the one for a single data set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

from mlejax import transforms
from mlejax.data import Prepared
from mlejax.fit import regression, starts
from mlejax.fit.regression import Designs
from mlejax.parameters import Leaf, Space

STEPPED = 8192  # rows from which on statistics are taken of a part of them


class _Laid(NamedTuple):
    """Rows of some lanes (L, N, ...), their numbers (L,), which are in use (None: all), and the axes before a value's own."""

    rows: list[np.ndarray]
    counts: np.ndarray
    inside: np.ndarray | None
    lead: int

    @property
    def parts(self) -> list[list[np.ndarray]]:
        """The rows in use, lane by lane."""
        return [[leaf[i, :n] for leaf in self.rows] for i, n in enumerate(self.counts)]


def _laid(data: Prepared, n_lanes: int) -> _Laid:
    units = data.mode == "units"
    rows = [np.asarray(leaf)[:n_lanes] for leaf in data.rows]
    counts = np.asarray(data.n)[:n_lanes]
    n = rows[0].shape[1]
    inside = np.arange(n)[None, :] < counts[:, None] if data.mode != "whole" and (counts < n).any() else None
    if units:
        inside = (True if inside is None else inside[:, :, None]) & rows[-1]
    return _Laid(rows, counts, inside, 3 if units else 2)


def _stepped(data: Prepared) -> bool:
    return data.mode != "units" and data.rows[0].shape[1] >= STEPPED


def statistics(data: Prepared, n_lanes: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Mean and standard deviation (L, K) of every numeric column of one dimension, and how many such columns there are."""
    laid = _laid(data, n_lanes)
    columns = [a for a in laid.rows if a.ndim == laid.lead and a.dtype.kind in "fi"]
    if _stepped(data):
        means = np.full((n_lanes, min(len(columns), starts.MAX_COLUMNS)), np.nan)
        sds = np.zeros_like(means)
        for i, part in enumerate(laid.parts):
            found, _ = starts.column_statistics(part)
            means[i, : len(found)], sds[i, : len(found)] = (
                (np.array(x) for x in zip(*found, strict=True)) if found else ((), ())
            )
        return means, sds, len(columns)
    moments = [_moments(a.astype(np.float64), laid.inside) for a in columns[: starts.MAX_COLUMNS]]
    means = np.stack([m for m, _ in moments], axis=1) if moments else np.zeros((n_lanes, 0))
    sds = np.stack([s for _, s in moments], axis=1) if moments else np.zeros((n_lanes, 0))
    return means, sds, len(columns)


def largest_scale(data: Prepared, n_lanes: int) -> np.ndarray:
    """(L,) ``starts.largest_scale`` of every lane."""
    laid = _laid(data, n_lanes)
    if _stepped(data):
        return np.array([starts.largest_scale(part) for part in laid.parts])
    scale = np.ones(n_lanes)
    for a in laid.rows:
        if a.dtype.kind in "fi" and a.size:
            wide = a.astype(np.float64, copy=False).reshape(*a.shape[: laid.lead], -1)
            if laid.inside is None:
                mean = np.einsum("lnk,lnk->l", *(wide.reshape(n_lanes, -1, wide.shape[-1]),) * 2) / (
                    wide.size // n_lanes
                )
            else:
                mean = _mean(np.einsum("...k,...k->...", wide, wide) / wide.shape[-1], laid.inside)
            root = np.sqrt(mean)
            scale = np.maximum(scale, np.where(np.isfinite(root), root, 1.0))
    return scale


def _mean(a: np.ndarray, inside: np.ndarray | None) -> np.ndarray:
    axes = tuple(range(1, a.ndim))
    if inside is None:
        return np.asarray(a.mean(axis=axes))
    return np.asarray(np.where(inside, a, 0.0).sum(axis=axes) / np.maximum(inside.sum(axis=axes), 1))


def _moments(a: np.ndarray, inside: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    mean = _mean(a, inside)
    # a constant column must give exactly 0, which the difference from a rounded mean does not
    centred = a - mean.reshape(-1, *(1,) * (a.ndim - 1))
    flat = a.reshape(len(a), -1)
    first = flat[:, :1]
    same = (flat == first) if inside is None else (flat == first) | ~np.asarray(inside).reshape(len(a), -1)
    sd = np.sqrt(_mean(np.square(centred), inside))
    return mean, np.where(same.all(axis=1), 0.0, sd)


def guesses(means: np.ndarray, sds: np.ndarray, small: np.ndarray, n_columns: int) -> np.ndarray:
    """(L, G, 4): location, scale, spread of scalars, spread of vectors; as in ``starts.candidates``."""
    n_lanes, k = means.shape
    plain = np.stack([np.zeros(n_lanes), np.ones(n_lanes), small, small], axis=-1)
    total = 1 + starts.GUESSES_PER_COLUMN * min(n_columns, starts.MAX_COLUMNS)
    out = np.repeat(plain[:, None, :], total, axis=1)
    if not k:
        return out
    valid = np.isfinite(means) & np.isfinite(sds) & (sds > 0)
    order = np.argsort(~valid, axis=1, kind="stable")
    means, sds, valid = (np.take_along_axis(a, order, axis=1) for a in (means, sds, valid))
    with np.errstate(all="ignore"):
        size = np.where(means > 0, means, np.abs(means) + sds)
        zero, one, tiny = np.zeros_like(sds), np.ones_like(sds), np.broadcast_to(small[:, None], sds.shape)
        rows = [
            (means, sds, sds, tiny), (zero, sds, tiny, tiny), (means, sds, sds, sds), (means, 1.0 / sds, sds, tiny),
            (means, sds * sds, sds, tiny), (np.log(size), one, 0.1 * one, tiny), (zero, size, tiny, tiny),
            (zero, 1.0 / size, tiny, tiny),
        ]  # fmt: skip
    table = np.stack([np.stack(row, axis=-1) for row in rows], axis=2)  # (L, K, 8, 4)
    table = np.where(valid[:, :, None, None], table, plain[:, None, None, :])
    out[:, 1 : 1 + 8 * k] = table.reshape(n_lanes, 8 * k, 4)
    return out


def candidates(
    space: Space,
    given: Sequence[np.ndarray | None],
    own: Sequence[bool],
    lanes: np.ndarray,
    data: Prepared,
    seed: int = 0,
    designs: Designs | None = None,
    declared: Mapping[str, Any] | None = None,
) -> list[np.ndarray]:
    """Candidate starts of some lanes, one array a leaf, natural scale, (L, m, ...).

    Args:
        given: for each leaf its value, with a leading axis over all data sets where ``own`` says so, or None.
        designs, declared: of regressed parameters, whose coefficients start as in ``regression.candidates``.
    """
    if designs is not None:
        open_ = regression.natural_given(designs, declared or {}, given)
        natural = candidates(designs.natural, open_, own, lanes, _read_by_function(data, designs), seed)
        set_apart = [np.expand_dims(np.asarray(v)[lanes], 1) if mine else v for v, mine in zip(given, own, strict=True)]
        return regression.with_coefficients(designs, space, natural, set_apart)
    n = len(lanes)
    means, sds, n_columns = statistics(data, n)
    small = 0.01 / largest_scale(data, n)
    table = guesses(means, sds, small, n_columns)
    total = table.shape[1]
    rank = starts._ranks(space)
    rng = np.random.default_rng(seed)
    wides = [0.3 if i % 2 else 1.0 for i in range(starts.N_RANDOM)]
    draws: list[list[np.ndarray]] = [[] for _ in space.leaves]
    for _ in range(starts.N_RANDOM):
        for k, (leaf, value) in enumerate(zip(space.leaves, given, strict=True)):
            if value is None:
                draws[k].append(rng.standard_normal(leaf.size))
    which = [i % total for i in range(starts.N_RANDOM)]
    out = []
    for k, (leaf, value) in enumerate(zip(space.leaves, given, strict=True)):
        if value is not None:
            each = np.asarray(value)[lanes] if own[k] else np.broadcast_to(value, (n, *leaf.shape))
            out.append(np.repeat(each[:, None], total + starts.N_RANDOM, axis=1))
            continue
        plain = _fill(leaf, table, rank[k])
        cloud = _scatter(leaf, table[:, which], small, np.array(wides), np.stack(draws[k]))
        out.append(np.concatenate([plain, cloud], axis=1))
    return out


FirstGuess = Callable[[Prepared, int], list[np.ndarray]]


def first_guesses(
    space: Space, given: Sequence[np.ndarray | None], designs: Designs | None, declared: Mapping[str, Any]
) -> FirstGuess | None:
    """``starts.first_guess`` over lanes: from a chunk of data and its number of lanes, one array a leaf (L, ...).

    None where a search among candidates should not be left out.
    """
    natural = space if designs is None else designs.natural
    known = given if designs is None else regression.natural_given(designs, declared, given)
    if any(v is not None for v in given) or not starts.plain_will_do(natural, known):
        return None
    rank = starts._ranks(natural)

    def guess(data: Prepared, n_lanes: int) -> list[np.ndarray]:
        if designs is not None:
            data = _read_by_function(data, designs)
        small = 0.01 / largest_scale(data, n_lanes)
        table = np.stack([np.zeros(n_lanes), np.ones(n_lanes), small, small], axis=-1)[:, None, :]
        values = [
            np.zeros((n_lanes, *leaf.shape)) if leaf.all_fixed else _fill(leaf, table, r)[:, 0]
            for leaf, r in zip(natural.leaves, rank, strict=True)
        ]
        return values if designs is None else regression.with_coefficients(designs, space, values, given)

    return guess


def _read_by_function(data: Prepared, designs: Designs) -> Prepared:
    """The rows without the designs."""
    n_read = len(designs.rows.leaves)
    return replace(data, rows=(*data.rows[:n_read], *(data.rows[-1:] if data.mode == "units" else ())))


def _fill(leaf: Leaf, table: np.ndarray, rank: np.ndarray) -> np.ndarray:
    location, scale, scalar, vector = (table[..., i] for i in range(4))
    if leaf.shape == ():
        return _default(leaf, location, scale, 0.5 * scalar[..., None] * rank, rank)
    return _default(leaf, np.where(vector == scale, location, 0.0), scale, vector[..., None] * rank, rank)


def _positive(t: Any) -> bool:
    return isinstance(t, transforms.Log) or (isinstance(t, transforms.Box) and t.lo == 0.0 and math.isinf(t.hi))


def _default(leaf: Leaf, location: Any, scale: Any, offset: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """``starts.leaf_default`` for location, scale (L, m) and offset (L, m, size)."""
    t, lead = leaf.transform, location.shape
    if isinstance(t, transforms.Identity):
        return (location[..., None] + offset).reshape(*lead, *leaf.shape)
    if _positive(t):
        return (scale[..., None] * np.exp(0.1 * rank)).reshape(*lead, *leaf.shape)
    if isinstance(t, (transforms.Logit, transforms.Box, transforms.HalfOpen)):
        values = t.lo + (t.hi - t.lo) * (0.5 + 0.02 * rank)
        return np.broadcast_to(values, (*lead, leaf.size)).reshape(*lead, *leaf.shape)
    k = leaf.shape[-1]
    apart = (...,) + (None,) * len(leaf.shape)
    if isinstance(t, transforms.Ordered):
        return np.broadcast_to(location[apart] + scale[apart] * np.linspace(-1.0, 1.0, k), (*lead, *leaf.shape)).copy()
    if isinstance(t, transforms.Simplex):
        weights = 1.0 + 0.05 * np.linspace(-1.0, 1.0, k)
        return np.broadcast_to(weights / weights.sum(), (*lead, *leaf.shape)).copy()
    square = scale[apart] ** 2 if isinstance(t, transforms.Covariance) else np.ones(lead)[apart]
    return np.broadcast_to(np.eye(k) * square, (*lead, *leaf.shape)).copy()


def _scatter(leaf: Leaf, table: np.ndarray, small: np.ndarray, wide: np.ndarray, draw: np.ndarray) -> np.ndarray:
    """``starts._scatter`` for a table (L, m, 4), widths (m,) and draws (m, size)."""
    location, scale = table[..., 0], table[..., 1]
    t, lead = leaf.transform, location.shape
    wide_, shaped = wide[:, None], (*lead, *leaf.shape)
    if isinstance(t, transforms.Identity):
        spread = scale if leaf.shape == () else np.broadcast_to(10.0 * small[:, None], lead)
        return ((location * (leaf.shape == ()))[..., None] + (wide * spread)[..., None] * draw).reshape(shaped)
    if _positive(t):
        return (scale[..., None] * np.exp(2.0 * wide_ * draw)).reshape(shaped)
    if isinstance(t, (transforms.Logit, transforms.Box, transforms.HalfOpen)):
        values = t.lo + (t.hi - t.lo) / (1.0 + np.exp(-2.0 * wide_ * draw))
        return np.broadcast_to(values, (*lead, leaf.size)).reshape(shaped)
    apart = (...,) + (None,) * len(leaf.shape)
    each = draw.reshape(len(draw), *leaf.shape)
    if isinstance(t, transforms.Ordered):
        return np.sort(location[apart] + (scale * wide)[apart] * each, axis=-1)
    if isinstance(t, transforms.Simplex):
        weights = np.exp(wide_ * draw).reshape(len(draw), *leaf.shape)
        return np.broadcast_to(weights / weights.sum(-1, keepdims=True), shaped).copy()
    return _default(leaf, location, scale * np.exp(wide * draw[:, 0]), np.zeros(1), np.zeros(1))


def sample(n_sampled: int) -> Any:
    """A few hundred rows of every data set, spread over it, as a fit of it alone takes them to rank its candidates."""

    def of(data: Prepared) -> Prepared:
        if data.mode == "whole" or data.weights.shape[1] <= n_sampled:
            return data
        n = np.asarray(data.n)
        index = np.stack([np.linspace(0, m - 1, n_sampled).astype(np.int64) for m in n])
        lane = np.arange(len(n))[:, None]
        return Prepared(
            jax.tree.map(lambda a: a[lane, index], data.rows), data.shared, np.take_along_axis(data.weights, index, axis=1),
            np.full(len(n), n_sampled), data.statics, data.mode, n_sampled,
        )  # fmt: skip

    return of
