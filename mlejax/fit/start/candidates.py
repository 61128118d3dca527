"""Candidate starts where the user gives none, made from the data's columns; the log-likelihood picks the best of them.

A log-likelihood does not say which column a parameter describes, so the candidates are: no effects and unit scales; for
every numeric column, locations at its mean (or the logarithm) with scales at its standard deviation (or the inverse); and
seeded random points around these.  Parameters of equal declaration start at different values, because equal values are
often a saddle point (the components of a mixture).  Declared and given starts stay as they are in every candidate.

All functions take many data sets, a single one being a batch of one.  The candidates of a data set depend on its own rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from mlejax import transforms
from mlejax.data import Prepared
from mlejax.fit.regression import Designs
from mlejax.fit.start.coefficients import natural_given, with_coefficients
from mlejax.fit.start.columns import columns_of, small_effect
from mlejax.fit.start.given import Given
from mlejax.fit.start.supports import central, random
from mlejax.parameters import Declaration, Leaf, Space
from mlejax.shapes import Bool, Float, Host, Int

N_RANDOM = 24
GUESSES_PER_COLUMN = 8
CONCAVE = 1e-4  # least eigenvalue of the information, scaled to unit diagonal, of an acceptable first guess

FirstGuess = Callable[[Prepared, int], list[np.ndarray]]


def candidates(
    space: Space,
    given: Given,
    own: Sequence[bool],
    which: Int[Host, " sets"],
    data: Prepared,
    seed: int = 0,
    designs: Designs | None = None,
    declared: Mapping[str, Declaration] | None = None,
) -> list[np.ndarray]:
    """Candidate starts of some data sets, natural scale, one array (L, m, ...) for each leaf; the plain ones first.

    m depends on the layout and on the number of columns only, because it is part of what is compiled.

    Args:
        given: for each leaf its start or None; with a leading axis over all data sets where ``own`` says so.
        which: numbers of the L data sets.
        data: theirs, (L, N, ...), or more of which the first L are used.
        designs, declared: of regressed parameters.  Their coefficients give every row what the candidate of the model
            without covariates says: an intercept, and slopes of 0.  Given coefficients stand.
    """
    if designs is not None:
        known = natural_given(designs, declared or {}, given)
        natural = candidates(designs.natural, known, own, which, without_designs(data, designs), seed)
        fixed = [v[which][:, None] if mine and v is not None else v for v, mine in zip(given, own, strict=True)]
        return with_coefficients(designs, space, natural, fixed)
    n_sets = len(which)
    small = small_effect(data, n_sets)
    guesses = _guesses(data, n_sets, small)
    total = guesses.shape[1]
    from_guess = np.arange(N_RANDOM) % total
    width = np.where(np.arange(N_RANDOM) % 2, 0.3, 1.0)
    rng = np.random.default_rng(seed)
    sizes = [leaf.size if value is None else 0 for leaf, value in zip(space.leaves, given, strict=True)]
    draws = np.split(rng.standard_normal((N_RANDOM, sum(sizes))), np.cumsum(sizes)[:-1], axis=1)
    out = []
    for leaf, value, mine, rank, normal in zip(space.leaves, given, own, ranks(space), draws, strict=True):
        if value is not None:
            each = value[which] if mine else np.broadcast_to(value, (n_sets, *leaf.shape))
            out.append(np.repeat(each[:, None], total + N_RANDOM, axis=1))
            continue
        location, scale = guesses[:, from_guess, 0], guesses[:, from_guess, 1]
        cloud = random(leaf, location, scale, small[:, None], width, normal)
        out.append(np.concatenate([_at_guess(leaf, guesses, rank), cloud], axis=1))
    return out


def first_guess(
    space: Space,
    given: Given,
    designs: Designs | None = None,
    declared: Mapping[str, Declaration] | None = None,
) -> FirstGuess | None:
    """The first of the `candidates` alone, where it may do without a comparison with the others.

    Returns:
        None if a start is given, or if parameters could be exchanged for one another (no two scalars of equal declaration,
        no vector but of real numbers, whose entries are most often effects), or if a parameter is neither real nor
        positive.  Else a function of a chunk of data and its number of data sets that gives natural values, one array
        (L, ...) for each leaf.  See `acceptable` for the second condition.
    """
    natural = space if designs is None else designs.natural
    known = given if designs is None else natural_given(designs, declared or {}, given)
    if any(v is not None for v in (*given, *known)) or not _all_distinct(natural):
        return None

    def guess(data: Prepared, n_sets: int) -> list[np.ndarray]:
        small = small_effect(data if designs is None else without_designs(data, designs), n_sets)
        table = np.stack([np.zeros(n_sets), np.ones(n_sets), small, small], axis=-1)
        values = [
            np.zeros((n_sets, *leaf.shape)) if leaf.all_fixed else _at_guess(leaf, table, rank)
            for leaf, rank in zip(natural.leaves, ranks(natural), strict=True)
        ]
        return values if designs is None else with_coefficients(designs, space, values, given)

    return guess


def acceptable(
    score: Float[Host, "sets p"], information: Float[Host, "sets p p"], scale: Float[Host, " sets"]
) -> Bool[Host, " sets"]:
    """Accept a start only if the log-likelihood is concave there and the Newton decrement is below one unit per row.

    Args:
        score, information: of the log-likelihood in u; where they are not finite the start is not acceptable.
        scale: the number of rows, or the sum of their weights.
    """
    with np.errstate(all="ignore"):
        root = np.sqrt(np.einsum("lii->li", information))
        scaled, direction = information / root[:, :, None] / root[:, None, :], score / root
        finite = np.isfinite(scaled).all(axis=(1, 2)) & np.isfinite(direction).all(axis=1)
        scaled[~finite] = np.eye(score.shape[1])
        values, vectors = np.linalg.eigh(scaled)
        decrement = (np.einsum("lij,li->lj", vectors, direction) ** 2 / values).sum(axis=1)
        return np.asarray(finite & (values[:, 0] > CONCAVE) & (decrement <= scale))


def without_designs(data: Prepared, designs: Designs) -> Prepared:
    """The columns that the user's function reads, without the designs."""
    n_read = len(designs.rows.leaves)
    return replace(data, rows=(*data.rows[:n_read], *(data.rows[-1:] if data.mode == "units" else ())))


@lru_cache(maxsize=256)
def _all_distinct(space: Space) -> bool:
    """Whether no two free parameters are declared alike, except entries of real vectors, and all are real or positive."""
    leaves = [leaf for leaf in space.leaves if not leaf.all_fixed]
    kinds = [(leaf.kind, leaf.shape == ()) for leaf in leaves]
    real = all(isinstance(leaf.transform, transforms.Identity) or leaf.shape == () for leaf in leaves)
    known = all(isinstance(leaf.transform, (transforms.Identity, transforms.Log)) for leaf in leaves)
    return real and known and len(set(kinds)) == len(kinds)


@lru_cache(maxsize=256)
def ranks(space: Space) -> tuple[np.ndarray, ...]:
    """For each leaf the positions (size,) of its entries among all entries of equal declaration, in [-1, 1]."""
    totals: dict[tuple[str, bool], int] = {}
    places = []
    for leaf in space.leaves:
        key = (leaf.kind, leaf.shape == ())
        places.append((key, totals.get(key, 0)))
        totals[key] = totals.get(key, 0) + (leaf.size if leaf.transform.elementwise else 1)
    return tuple(
        (2.0 * (begin + np.arange(leaf.size)) - (totals[key] - 1)) / max(totals[key] - 1, 1)
        if leaf.transform.elementwise
        else np.linspace(-1.0, 1.0, leaf.size)
        for (key, begin), leaf in zip(places, space.leaves, strict=True)
    )


def _guesses(data: Prepared, n_sets: int, small: np.ndarray) -> np.ndarray:
    """Location, scale, and spread of scalars and of vectors, of every guess, (L, G, 4)."""
    plain = np.stack([np.zeros(n_sets), np.ones(n_sets), small, small], axis=-1)[:, None]
    columns = columns_of(data, n_sets)
    mean, sd, tiny = columns.mean, columns.sd, np.broadcast_to(small[:, None], columns.sd.shape)
    zero, one = np.zeros_like(sd), np.ones_like(sd)
    with np.errstate(all="ignore"):
        size = np.where(mean > 0, mean, np.abs(mean) + sd)
        rows = [
            (mean, sd, sd, tiny),
            (zero, sd, tiny, tiny),
            (mean, sd, sd, sd),
            (mean, 1.0 / sd, sd, tiny),
            (mean, sd * sd, sd, tiny),
            (np.log(size), one, 0.1 * one, tiny),
            (zero, size, tiny, tiny),
            (zero, 1.0 / size, tiny, tiny),
        ]
    table = np.stack([np.stack(row, axis=-1) for row in rows], axis=2)  # (L, K, 8, 4)
    table = np.where(columns.varies[:, :, None, None], table, plain[:, None])
    return np.concatenate([plain, table.reshape(n_sets, -1, 4)], axis=1)


def _at_guess(leaf: Leaf, guess: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """The values (\\*lead, \\*shape) of a leaf at guesses (\\*lead, 4)."""
    location, scale, scalar, vector = (guess[..., i] for i in range(4))
    if leaf.shape == ():
        return central(leaf, location, scale, 0.5 * scalar[..., None] * rank, rank)
    return central(leaf, np.where(vector == scale, location, 0.0), scale, vector[..., None] * rank, rank)
