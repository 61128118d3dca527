"""Candidate starts, made from the columns of the data, for parameters without a given start; the likeliest one is used.

A log-likelihood does not say which column a parameter describes, so the candidates are: no effects and unit scales; for
every numeric column, locations at its mean (or the logarithm) with scales at its standard deviation (or the inverse); the
same with one location or threshold, one scale, and shapes that do not depend on the units (:mod:`mlejax.fit.start.roles`);
and seeded random points.  Parameters with the same declaration start at different values, because equal values are often a
saddle point (the components of a mixture), and no real scalar starts at 0, where many functions are symmetric or replaced by
a limit.  Declared and given starts are the same in every candidate.

All functions take many data sets (L); the candidates of a data set depend on its own rows only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from mlejax import transforms
from mlejax.data import Prepared
from mlejax.data.formulas import Design, Designs
from mlejax.execution import float64
from mlejax.fit.start.given import Given
from mlejax.fit.start.roles import lone_shape, role_candidates
from mlejax.fit.start.summaries import ColumnStatistics, columns_of, small_effect
from mlejax.fit.start.supports import at_guess, random, ranks
from mlejax.parameters import Declaration, Space
from mlejax.shapes import Bool, Float, Host, Int

N_RANDOM = 24
SHAPE = 0.01  # a single real scalar besides a scale may be a shape, which does not depend on the units of the data
OFF_GUARDS = 1e-7  # real scalars are at least so large: formulas with a limit at 0 switch below 1e-8
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
    """Return m candidate starts of each of L data sets, natural scale, one array (L, m, ...) for each leaf.

    m depends on the layout and on the number of columns only, because compiled programs depend on it.

    Args:
        space: layout of the parameters.
        given: for each leaf its given start, natural scale, or None.
        own: for each leaf whether its given start has a leading axis over all data sets.
        which: numbers of the L data sets.
        data: their data, arrays (L, N, ...), or more data sets, of which the first L are used.
        seed: seed of the random candidates.
        designs, declared: designs of the parameters that have formulas, and the declarations of all.  Candidates for
            coefficients are an intercept that gives the candidate of the model without predictors, and slopes of 0.
    """
    if designs is not None:
        known = natural_given(designs, declared or {}, given)
        natural = candidates(designs.natural, known, own, which, without_designs(data, designs), seed)
        fixed = [v[which][:, None] if mine and v is not None else v for v, mine in zip(given, own, strict=True)]
        return with_coefficients(designs, space, natural, fixed)
    n_sets = len(which)
    small, columns = small_effect(data, n_sets), columns_of(data, n_sets)
    guesses = _guesses(columns, small, SHAPE if lone_shape(space) else OFF_GUARDS)
    roles = role_candidates(space, columns, small)
    total = guesses.shape[1]
    from_guess = np.arange(N_RANDOM) % total
    width = np.where(np.arange(N_RANDOM) % 2, 0.3, 1.0)
    rng = np.random.default_rng(seed)
    sizes = [leaf.size if value is None else 0 for leaf, value in zip(space.leaves, given, strict=True)]
    draws = np.split(rng.standard_normal((N_RANDOM, sum(sizes))), np.cumsum(sizes)[:-1], axis=1)
    out = []
    parts = zip(space.leaves, given, own, ranks(space), roles, draws, strict=True)
    for leaf, value, mine, rank, role, normal in parts:
        if value is not None:
            each = value[which] if mine else np.broadcast_to(value, (n_sets, *leaf.shape))
            out.append(np.repeat(each[:, None], total + role.shape[1] + N_RANDOM, axis=1))
            continue
        location, scale = guesses[:, from_guess, 0], guesses[:, from_guess, 1]
        cloud = random(leaf, location, scale, small[:, None], width, normal)
        out.append(np.concatenate([at_guess(leaf, guesses, rank), role, cloud], axis=1))
    return out


def first_guess(
    space: Space,
    given: Given,
    designs: Designs | None = None,
    declared: Mapping[str, Declaration] | None = None,
) -> FirstGuess | None:
    """Return a function that makes only the first of the `candidates`, if that may be used without comparing it with others.

    Arguments as in `candidates`.

    Returns:
        A function (data, number L of data sets) -> natural values, one array (L, ...) for each leaf.  None if a start is
        given, if a parameter is neither real nor positive, or if parameters could be exchanged for one another (two scalars, or
        two vectors, of equal declaration, or a vector of positive numbers).  The start must also pass `acceptable`.
    """
    natural = space if designs is None else designs.natural
    known = given if designs is None else natural_given(designs, declared or {}, given)
    if any(v is not None for v in (*given, *known)) or not _all_distinct(natural):
        return None

    def guess(data: Prepared, n_sets: int) -> list[np.ndarray]:
        small = small_effect(data if designs is None else without_designs(data, designs), n_sets)
        table = _plain(small)
        values = [
            np.zeros((n_sets, *leaf.shape)) if leaf.all_fixed else at_guess(leaf, table, rank)
            for leaf, rank in zip(natural.leaves, ranks(natural), strict=True)
        ]
        return values if designs is None else with_coefficients(designs, space, values, given)

    return guess


def acceptable(
    score: Float[Host, "sets p"], information: Float[Host, "sets p p"], scale: Float[Host, " sets"]
) -> Bool[Host, " sets"]:
    """Return a boolean mask, (sets,), of starts at which the log-likelihood is concave and the Newton decrement, score'
    information^-1 score, is at most ``scale``.

    Concave: the least eigenvalue of the information, scaled to unit diagonal, is above 1e-4.

    Args:
        score, information: of the summed log-likelihood with respect to u; a start where they are not finite is not acceptable.
        scale: number of rows, or sum of their weights.
    """
    with np.errstate(all="ignore"):
        root = np.sqrt(information.diagonal(axis1=1, axis2=2))
        scaled, direction = information / root[:, :, None] / root[:, None, :], score / root
        finite = np.isfinite(scaled).all(axis=(1, 2)) & np.isfinite(direction).all(axis=1)
        scaled[~finite] = np.eye(score.shape[1])
        values, vectors = np.linalg.eigh(scaled)
        decrement = ((direction[:, None, :] @ vectors)[:, 0] ** 2 / values).sum(axis=1)
        return np.asarray(finite & (values[:, 0] > CONCAVE) & (decrement <= scale))


def without_designs(data: Prepared, designs: Designs) -> Prepared:
    """Return the data with only the columns that the user's function reads, without design matrices."""
    n_read = len(designs.rows.leaves)
    mask = (data.rows[data.statics.position("mask")],) if data.mode == "units" else ()
    return replace(data, rows=(*data.rows[:n_read], *mask))


@lru_cache(maxsize=256)
def _all_distinct(space: Space) -> bool:
    """True if all free parameters are real or positive, vectors are real, and no two have the same declaration and kind."""
    leaves = [leaf for leaf in space.leaves if not leaf.all_fixed]
    kinds = [(leaf.kind, leaf.shape == ()) for leaf in leaves]
    real = all(isinstance(leaf.transform, transforms.Identity) or leaf.shape == () for leaf in leaves)
    known = all(isinstance(leaf.transform, (transforms.Identity, transforms.Log)) for leaf in leaves)
    return real and known and len(set(kinds)) == len(kinds)


def _plain(small: np.ndarray) -> np.ndarray:
    """Return the guess of no effects and unit scale, (L, 4): columns as in `_guesses`, locations nearly 0."""
    return np.stack([np.maximum(small, OFF_GUARDS), np.ones_like(small), small, small], axis=-1)


def _guesses(columns: ColumnStatistics, small: np.ndarray, least: float) -> np.ndarray:
    """Make G guesses for each data set, (L, G, 4): location, scale, and spread of scalars and of vectors.

    ``least``: smallest location of guesses "no location", except the first.
    """
    plain = _plain(small)[:, None]
    mean, sd = columns.mean, columns.sd
    zero, one, tiny = (np.broadcast_to(plain[..., k], sd.shape) for k in range(3))
    zero = np.maximum(zero, least)
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
    return np.concatenate([plain, table.reshape(len(small), -1, 4)], axis=1)


def natural_given(designs: Designs, declared: Mapping[str, Declaration], given: Given) -> list[np.ndarray | None]:
    """Return, for each leaf of the model without formulas, a start on the natural scale or None.

    It is the given start for a parameter without a formula, and the declared start for a parameter with one.
    """
    regressed = {d.predictor.name for d in designs.designs}
    out: list[np.ndarray | None] = []
    for leaf, value in zip(designs.natural.leaves, given, strict=True):
        if leaf.name in regressed:
            start = declared[leaf.name].start
            value = None if start is None else np.array(np.broadcast_to(np.asarray(start, np.float64), leaf.shape))
        out.append(value)
    return out


def with_coefficients(designs: Designs, space: Space, natural: Sequence[np.ndarray], given: Given) -> list[np.ndarray]:
    """Replace the natural values of parameters that have formulas by coefficients (see `_coefficients`), for each leaf.

    ``natural`` may have leading axes; ``given`` coefficients are kept.
    """
    by_name = {d.predictor.name: d for d in designs.designs}
    return [
        _coefficients(by_name[leaf.name], value, stands) if leaf.name in by_name else value
        for leaf, value, stands in zip(space.leaves, natural, given, strict=True)
    ]


def _coefficients(design: Design, value: Float[Host, "*values"], given: np.ndarray | None) -> Float[Host, "*lead k"]:
    """Return the coefficients, (*lead, k), whose linear predictor gives the natural value ``value`` in every row, at the mean
    offset.

    They are 0 where the link of the value is not finite. Entries of ``given`` that are not NaN are used instead.
    """
    with float64(), np.errstate(all="ignore"):
        eta = np.asarray(design.predictor.link.link(value), np.float64) - design.mean_offset
    out = np.multiply.outer(np.where(np.isfinite(eta), eta, 0.0), design.constant)
    return out if given is None else np.where(np.isnan(given), out, given)
