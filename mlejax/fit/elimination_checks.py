"""Fixed effects of ``mle.Real(by=...)``: levels without a finite effect, a redundant level, and the effects at the estimate."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from mlejax import data as data_room
from mlejax import optimize
from mlejax.covariance import NULL_EIGENVALUE
from mlejax.fit.effects_evaluation import effects_evaluator_of
from mlejax.fit.prepare.loaded import Effects, Loaded
from mlejax.fit.prepare.loading import leave_out
from mlejax.fit.prepare.streaming import without_levels
from mlejax.likelihood import Likelihood, eliminating
from mlejax.objective import EffectsEvaluator, Spec
from mlejax.optimize import MethodLike
from mlejax.shapes import Bool, Data, Float, Host, PyTree
from mlejax.verdict import Verdict

SEPARATED = ("report", "drop", "raise")
SHOWN = 5
CONSTANT = 1e-6  # spread of the effects' change along a direction, relative to it, that is none
SAME = 1e-9  # change of the log-likelihood along it, relative, that is none


class Settling(NamedTuple):
    """The data on which a search with fixed effects is made.

    Attributes:
        loaded: the data without the rows of levels that have no finite effect.
        evaluator: evaluator of these data, with the effect of a redundant level fixed at 0.
        left_out: the levels that were left out: labels, signs of their infinite effects, and numbers of rows.
        remark: a note for the user; may be empty.
        told: the statement of the verdict mentions the levels left out (else the remark does).
    """

    loaded: Loaded
    evaluator: EffectsEvaluator
    left_out: tuple[np.ndarray, np.ndarray, np.ndarray]
    remark: str
    told: bool


def check_options(
    likelihood: Likelihood,
    separated: str,
    method: MethodLike,
    bias_reduction: str | None,
    n_starts: int,
    start: PyTree,
    fixed: Mapping[str, Any] | None,
) -> None:
    """Raise ValueError for an unknown ``separated=``, any but "report" in a model without fixed effects, and options that are not
    supported with them: methods other than Newton's, bias reduction, ``n_starts`` above 1, and values of the effects in
    ``start`` or ``fixed``.
    """
    if separated not in SEPARATED:
        raise ValueError(f"separated={separated!r}: expected one of {', '.join(map(repr, SEPARATED))}")
    if not likelihood.effects:
        if separated != "report":
            raise ValueError(
                f"separated={separated!r} sets what to do with levels whose effect has no finite estimate, but "
                f"{likelihood.name} has no effects: leave separated= out, or declare them with mle.Real(by=...)"
            )
        return
    key = likelihood.effects[0]
    what = f"with effects of {key.by}"
    if not isinstance(method, optimize.Newton):
        raise ValueError(f"method= is not supported {what}: Newton's method eliminates them; leave method= out")
    if bias_reduction is not None:
        raise ValueError(
            f"bias_reduction= is not supported {what}: its adjustment needs the information of all parameters as a matrix; "
            "leave it out"
        )
    if n_starts > 1:
        raise ValueError(f"n_starts= is not supported {what}: give a start of the other parameters with start= instead")
    for name, given in (("start", start), ("fixed", fixed)):
        named = [a for a in given if str(a).partition("[")[0] == key.parameter] if isinstance(given, Mapping) else []
        if named:
            raise ValueError(
                f"{name}={{{named[0]!r}: ...}}: the effects of {key.by} are eliminated from the search, so their values cannot "
                f"be given; {'leave them out' if name == 'start' else 'add the known effect as an offset, a column of the data'}"
            )


def with_more_levels_eliminated(likelihood: Likelihood, data: Data) -> Likelihood:
    """Return the likelihood with the fixed effects of one column eliminated: the column that has most levels in the data.

    The effects of the other columns become coefficients.  Unchanged unless there are fixed effects of several columns.
    """
    if not likelihood.coded:
        return likelihood
    import pandas as pd

    table = data_room.ingest(data)
    keys = [*likelihood.effects, *likelihood.coded]
    return eliminating(likelihood, max(keys, key=lambda key: len(pd.unique(np.asarray(table.column(key.by))))))


def settled_levels(evaluator: EffectsEvaluator, loaded: Loaded, u0: Float[Host, " p"], separated: str) -> Settling:
    """Leave out the levels that have no finite effect, and fix the effect of a redundant level at 0.

    Args:
        evaluator: evaluator of all rows.
        loaded: all rows.
        u0: start of the other parameters, (p,).
        separated: "report", "drop" or "raise".

    Raises:
        DataError: there are levels without a finite effect and ``separated`` is "raise"; or no level has a finite effect; or
            without their rows the levels of the other columns are no longer connected.
    """
    key = evaluator.spec.likelihood.effects[0]
    gone = evaluator.diverging(u0) != 0
    if gone.any():
        before, space, loaded = evaluator, loaded.problem.space, _without(loaded, evaluator, separated)
        if loaded.problem.space != space:
            names = ", ".join(one.key.by for one in loaded.coded)
            raise data_room.DataError(
                f"levels of {key.by} have no finite effect, and without their rows the levels of {names} are no longer "
                f"connected: {listed(loaded.left_out[0])}. Drop their rows beforehand"
            )
        if loaded.stream is None and loaded.weights is None:  # which are scaled by the number of rows
            assert loaded.levels is not None
            evaluator = before.without_levels(gone, loaded.problem.data, loaded.levels, u0)
        else:
            evaluator = effects_evaluator_of(evaluator.spec, loaded, evaluator.fixed).near(before.nearest[~gone])
    left_out = loaded.left_out
    evaluator, remark = _without_redundant(evaluator, u0)
    told = separated == "report" and bool(left_out[2].size)
    if left_out[2].size and not told:
        remark = f"{_left_out_in_words(key.by, left_out)}. {remark}".strip()
    return Settling(loaded, evaluator, left_out, remark, told)


def without_open_levels(likelihood: Likelihood, loaded: Loaded, separated: str) -> Loaded:
    """Leave out the rows of levels that have no finite effect, repeatedly, in models with fixed effects of several columns.

    Without those rows, levels of other columns may be gone or no longer connected, which changes the parameters.

    Args:
        likelihood: the model, with fixed effects of several columns.
        loaded: all data.
        separated: "report", "drop" or "raise".

    Raises:
        DataError: there are such levels and ``separated`` is "raise", or no level has a finite effect.
    """
    while True:
        spec = Spec(likelihood, loaded.problem.space)
        evaluator = effects_evaluator_of(spec, loaded, None)
        evaluator.eliminated(np.zeros(spec.space.n_free))
        if not evaluator.signs.any():
            return loaded
        loaded = _without(loaded, evaluator, separated)


def _without(loaded: Loaded, evaluator: EffectsEvaluator, separated: str) -> Loaded:
    """Return the data without the rows of levels whose effect is infinite; DataError as in `_check_separated`."""
    levels, gone = evaluator.levels, evaluator.signs != 0
    more = levels.labels[gone], evaluator.signs[gone], evaluator.grouped.counts[gone]
    _check_separated(evaluator.spec.likelihood.effects[0].by, more, len(levels), separated)
    labels, signs, counts = (np.concatenate(parts) for parts in zip(loaded.left_out, more, strict=True))
    rest = leave_out(loaded, gone[levels.codes]) if loaded.stream is None else without_levels(loaded, gone)
    return replace(rest, left_out=(labels, signs, counts))


def _check_separated(by: str, left_out: tuple[np.ndarray, ...], n_levels: int, separated: str) -> None:
    """Raise DataError if all levels of the column ``by`` have infinite effects, or some and ``separated`` is "raise".

    ``left_out``: labels of the levels with infinite effects, signs of these, and numbers of rows; ``n_levels``: of all levels.
    """
    labels, signs, counts = left_out
    shown = listed(labels)
    what = (
        f"{len(labels)} of {n_levels} levels of {by} ({int(counts.sum())} rows) have no finite effect: within each of them the "
        f"log-likelihood rises all the way to {'-inf' if (signs < 0).all() else 'inf' if (signs > 0).all() else '-inf or inf'}: "
        f"{shown}"
    )
    if len(labels) == n_levels:
        raise data_room.DataError(f"{what}. No level is left to estimate from")
    if separated == "raise":
        raise data_room.DataError(
            f"{what}. Use separated='report', which leaves their rows out (this changes no other estimate) and mentions it in "
            "the verdict; or drop them beforehand"
        )


def listed(labels: Sequence[Hashable] | Host) -> str:
    """Return the first five labels as text, separated by commas, followed by ", ..." if there are more."""
    return ", ".join(str(label) for label in labels[:SHOWN]) + (", ..." if len(labels) > SHOWN else "")


def _left_out_in_words(by: str, left_out: tuple[np.ndarray, ...]) -> str:
    """Return a phrase on the levels that were left out: "2 levels of firm (10 rows) without a finite effect were left out:
    ...".

    Arguments as in `_check_separated`.
    """
    labels, _, counts = left_out
    one = len(labels) == 1
    return (
        f"{len(labels)} level{'' if one else 's'} of {by} ({int(counts.sum())} rows) without a finite effect "
        f"{'was' if one else 'were'} left out: {listed(labels)}"
    )


def _without_redundant(evaluator: EffectsEvaluator, u0: Float[Host, " p"]) -> tuple[EffectsEvaluator, str]:
    """Fix the effect of the first level at 0 if adding a constant to all effects is equivalent to changing another parameter.

    Returns the evaluator (unchanged if there is no such parameter) and a note for the user.
    """
    at = evaluator.eliminated(u0)
    root = np.sqrt(np.abs(at.arrow.head.diagonal()))
    root = np.where(root > 0, root, 1.0)
    scaled = at.information / np.outer(root, root)
    if at.open.any() or not np.isfinite(scaled).all():
        return evaluator, ""
    values, vectors = np.linalg.eigh(scaled)
    null = vectors[:, np.abs(values) <= NULL_EIGENVALUE] / root[:, None]
    if not null.size:
        return evaluator, ""
    moves = -at.arrow.lever @ null  # of the effects along these directions
    ones = np.ones(len(moves))
    mix = np.linalg.lstsq(moves, -ones, rcond=1e-8)[0]
    if not np.abs(moves @ mix + ones).max() <= CONSTANT:
        return evaluator, ""
    direction = null @ mix
    there = evaluator.logliks({0: (u0 + direction)[None]})[0][0]
    if not abs(there - at.loglik) <= SAME * (1.0 + abs(at.loglik)):
        return evaluator, ""
    labels, key = evaluator.levels.labels, evaluator.spec.likelihood.effects[0]
    try:
        first = min(range(len(labels)), key=lambda i: labels[i])
    except TypeError:  # text among numbers
        first = min(range(len(labels)), key=lambda i: str(labels[i]))
    names = evaluator.spec.space.theta_labels
    size = np.abs(direction) * root
    with_it = ", ".join(names[i] for i in np.flatnonzero(size > 1e-6 * size.max())[:SHOWN])
    remark = (
        f"A change of {with_it} is equivalent to adding a constant to every effect of {key.by}: the effect of {key.by} "
        f"{labels[first]} is fixed at 0, and the others are differences from it."
    )
    return evaluator.with_given(np.arange(len(labels)) == first), remark


def with_effects_at_end(
    evaluator: EffectsEvaluator, loaded: Loaded, u: Host, jacobian: Host | None, settling: Settling
) -> Loaded:
    """Return the data with the estimated fixed effects and their curvature.

    Args:
        evaluator: evaluator with fixed effects.
        loaded: its data.
        u: the estimate, (p,).
        jacobian: d theta / d u, (p, p), or None if theta equals u.
        settling: the levels left out.
    """
    at = evaluator.exactly(u)
    lever = at.arrow.lever if jacobian is None else np.linalg.solve(jacobian.T, at.arrow.lever.T).T
    effects = Effects(
        key=evaluator.spec.likelihood.effects[0],
        levels=evaluator.levels,
        values=at.effects,
        counts=evaluator.grouped.counts,
        given=evaluator.given,
        curvature=loaded.scale * at.arrow.shaft,
        lever=lever,
        left_out=settling.left_out,
        at=at,
    )
    return replace(loaded, effects=effects)


def with_levels_told(verdict: Verdict, evaluator: EffectsEvaluator, u: Host, settling: Settling) -> Verdict:
    """Return the verdict at the estimate u, (p,), changed or extended by what is known of the fixed effects.

    It becomes "no_finite_maximum" if the effects of some levels have no finite maximum there; a verdict "not_identified" names
    covariates that are collinear with the effects; and levels that were left out (``settling``) are mentioned.
    """
    by, at = evaluator.spec.likelihood.effects[0].by, evaluator.eliminated(u)
    if not u.size:
        verdict = verdict.amended(statement=f"a local maximum: effects of {by} alone are estimated")
    open_: Bool[Host, " levels"] = at.open | (evaluator.signs != 0)
    if open_.any() and verdict.converged:
        return verdict.amended(
            "no_finite_maximum",
            f"the effects of {int(open_.sum())} levels of {by} have no finite maximum at the estimates of the other "
            f"parameters: {listed(evaluator.levels.labels[open_])}",
            f"Look at the rows of these levels of {by}; leave them out, or bound or penalise the parameters involved.",
        )
    alone = (at.information.diagonal() == 0) & (at.arrow.head.diagonal() > 0)
    if verdict.code == "not_identified" and alone.any():
        names = [evaluator.spec.space.theta_labels[i] for i in np.flatnonzero(alone)]
        one = len(names) == 1
        verdict = verdict.amended(
            statement=f"{', '.join(names)} {'is' if one else 'are'} not identified: collinear with the effects of "
            f"{by}, as a covariate that is constant within each level of {by}",
            advice=f"Leave {'it' if one else 'them'} out, or leave out the effects.",
        )
    note = _left_out_in_words(by, settling.left_out) if settling.told else ""
    return verdict.amended(note=note, starts=False)  # several starts are refused
