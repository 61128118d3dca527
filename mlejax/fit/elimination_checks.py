"""Effects by index around a search: levels without a finite effect, a redundant one, and what is known of them at the end."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from mlejax import data as data_room
from mlejax import optimize
from mlejax.covariance import NULL_EIGENVALUE
from mlejax.fit.diagnose.ends import curved, is_clean
from mlejax.fit.prepare.loaded import Effects, Loaded
from mlejax.fit.prepare.loading import leave_out
from mlejax.likelihood import Likelihood, eliminating
from mlejax.objective import ChunkedEvaluator, EffectsEvaluator, RowTerms, Spec, row_terms, separated_rows
from mlejax.optimize import MethodLike, OptimizeResult
from mlejax.parameters import CurvedTies
from mlejax.shapes import Bool, Data, Float, Host, Int, PyTree
from mlejax.status import End
from mlejax.verdict import SEVERAL_STARTS, Verdict

SEPARATED = ("report", "drop", "raise")
SHOWN = 5
CONSTANT = 1e-6  # spread of the effects' change along a direction, relative to it, that is none
SAME = 1e-9  # change of the log-likelihood along it, relative, that is none

class Settling(NamedTuple):
    """The data that a search is made on.

    Attributes:
        loaded: without the rows of levels that have no finite effect.
        evaluator: of these, with a redundant level's effect given.
        left_out: the levels that were left out: labels, signs, rows.
        remark: what a reader should know.
        told: the levels that were left out are part of the verdict.
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
    """Raise ValueError for options that effects by index do not have, and for ``separated=`` without effects."""
    if separated not in SEPARATED:
        raise ValueError(f"separated={separated!r}: expected one of {', '.join(map(repr, SEPARATED))}")
    if not likelihood.effects:
        if separated != "report":
            raise ValueError(
                f"separated={separated!r} is about levels of effects, and {likelihood.name} has none: declare one with "
                "mle.Real(by=...)"
            )
        return
    key = likelihood.effects[0]
    what = f"with effects of {key.by}"
    if not isinstance(method, optimize.Newton):
        raise ValueError(f"method= is refused {what}: they are eliminated within Newton's method; leave it out")
    if bias_reduction is not None:
        raise ValueError(f"bias_reduction= is refused {what}: its adjustment needs the whole information as a matrix")
    if n_starts > 1:
        raise ValueError(f"n_starts= is refused {what}: give the start of the other parameters with start=")
    for name, given in (("start", start), ("fixed", fixed)):
        named = [a for a in given if str(a).partition("[")[0] == key.parameter] if isinstance(given, Mapping) else []
        if named:
            raise ValueError(
                f"{name}={{{named[0]!r}: ...}}: the effects of {key.by} are eliminated, and none of them can be given; "
                f"{'leave them out' if name == 'start' else 'make an offset of it, a column of the data'}"
            )


def with_more_levels_eliminated(likelihood: Likelihood, data: Data) -> Likelihood:
    """The likelihood which eliminates the effects of the column with most levels."""
    if not likelihood.coded:
        return likelihood
    import pandas as pd

    table = data_room.ingest(data)
    keys = [*likelihood.effects, *likelihood.coded]
    return eliminating(likelihood, max(keys, key=lambda key: len(pd.unique(np.asarray(table.column(key.by))))))


def refuse_effects(likelihood: Likelihood, what: str, instead: str) -> None:
    """Raise ValueError if the likelihood has effects by index, for what does not eliminate them."""
    if likelihood.effects:
        key = likelihood.effects[0]
        raise ValueError(
            f"{what} is not offered with {key.parameter}=Real(by={key.by!r}), whose effects would have to be found anew each "
            f"time; {instead}"
        )


def effects_evaluator_of(spec: Spec, loaded: Loaded, fixed: Host | None) -> EffectsEvaluator:
    """The evaluator of a data set with effects by index, at those of the estimate if there is one."""
    assert loaded.levels is not None
    given = None if loaded.effects is None else loaded.effects.given
    made = EffectsEvaluator(spec, loaded.problem.data, fixed, loaded.hyper, levels=loaded.levels, given=given)
    return made if loaded.effects is None else made.near(loaded.effects.values)


def terms_of_rows(spec: Spec, loaded: Loaded, fixed: Host | None, u: Float[Host, " p"]) -> RowTerms:
    """What each contribution of data in memory adds at u; scores with the effects by index partialled out."""
    if loaded.levels is None:
        return row_terms(ChunkedEvaluator(spec, loaded.problem.data, fixed), u)
    return effects_evaluator_of(spec, loaded, fixed).row_terms(u)


def settled_levels(evaluator: EffectsEvaluator, loaded: Loaded, u0: Float[Host, " p"], separated: str) -> Settling:
    """Leave out the levels that have no finite effect, and give the effect of a redundant one.

    Args:
        evaluator: of all rows.
        loaded: the same.
        u0: the start.
        separated: "report", "drop" or "raise".

    Raises:
        DataError: levels without a finite effect under "raise"; nothing else than those.
    """
    key = evaluator.spec.likelihood.effects[0]
    evaluator.eliminated(u0)
    gone = evaluator.signs != 0
    if gone.any():
        before, space, loaded = evaluator, loaded.problem.space, _without(loaded, evaluator, separated)
        if loaded.problem.space != space:
            names = ", ".join(one.key.by for one in loaded.coded)
            raise data_room.DataError(
                f"levels of {key.by} without a finite effect tie levels of {names} together: {_listed(loaded.left_out[0])}. Drop "
                "their rows beforehand"
            )
        evaluator = effects_evaluator_of(evaluator.spec, loaded, evaluator.fixed).near(before.nearest[~gone])
    left_out = loaded.left_out
    evaluator, remark = _without_redundant(evaluator, u0)
    told = separated == "report" and bool(left_out[2].size)
    if left_out[2].size and not told:
        remark = f"{_left_out_in_words(key.by, left_out)}. {remark}".strip()
    return Settling(loaded, evaluator, left_out, remark, told)


def without_open_levels(likelihood: Likelihood, loaded: Loaded, separated: str) -> Loaded:
    """The data without the rows of levels that have no finite effect, whatever the other parameters.

    Without them levels of other effects may fall apart or be gone, so that the parameters are not known before.

    Args:
        likelihood: with effects of several columns.
        loaded: all data.
        separated: "report", "drop" or "raise".
    """
    while True:
        spec = Spec(likelihood, loaded.problem.space)
        evaluator = effects_evaluator_of(spec, loaded, None)
        evaluator.eliminated(np.zeros(spec.space.n_free))
        if not evaluator.signs.any():
            return loaded
        loaded = _without(loaded, evaluator, separated)


def _without(loaded: Loaded, evaluator: EffectsEvaluator, separated: str) -> Loaded:
    """The data without the rows of levels whose effect is infinite."""
    levels, likelihood, gone = evaluator.levels, evaluator.spec.likelihood, evaluator.signs != 0
    more = levels.labels[gone], evaluator.signs[gone], evaluator.grouped.counts[gone]
    _check_separated(likelihood.effects[0].by, more, len(levels), separated)
    labels, signs, counts = (np.concatenate(parts) for parts in zip(loaded.left_out, more, strict=True))
    return replace(leave_out(loaded, gone[levels.codes], likelihood.mode), left_out=(labels, signs, counts))


def _check_separated(by: str, left_out: tuple[np.ndarray, ...], n_levels: int, separated: str) -> None:
    labels, signs, counts = left_out
    shown = _listed(labels)
    what = (
        f"{len(labels)} of {n_levels} levels of {by} ({int(counts.sum())} rows) have no finite effect: within each of them the "
        f"log-likelihood rises all the way to {'-inf' if (signs < 0).all() else 'inf' if (signs > 0).all() else '-inf or inf'} "
        f"(all outcomes zero, or all one): {shown}"
    )
    if len(labels) == n_levels:
        raise data_room.DataError(f"{what}. No level is left to estimate from")
    if separated == "raise":
        raise data_room.DataError(
            f"{what}. separated='report' leaves their rows out, which changes no other estimate, and says so; or drop them "
            "beforehand"
        )


def _listed(labels: Sequence[Hashable] | Host) -> str:
    return ", ".join(str(label) for label in labels[:SHOWN]) + (", ..." if len(labels) > SHOWN else "")


def _left_out_in_words(by: str, left_out: tuple[np.ndarray, ...]) -> str:
    labels, _, counts = left_out
    one = len(labels) == 1
    return (
        f"{len(labels)} level{'' if one else 's'} of {by} ({int(counts.sum())} rows) without a finite effect "
        f"{'was' if one else 'were'} left out: {_listed(labels)}"
    )


def _without_redundant(evaluator: EffectsEvaluator, u0: Float[Host, " p"]) -> tuple[EffectsEvaluator, str]:
    """With the effect of the first level given as 0, where adding a number to all effects is what another parameter does."""
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
        f"{with_it} and a number added to every effect of {key.by} are the same thing, so that the effect of {key.by} "
        f"{labels[first]} is 0 and the others are differences from it."
    )
    return evaluator.with_given(np.arange(len(labels)) == first), remark


def with_effects_at_end(
    evaluator: EffectsEvaluator, loaded: Loaded, u: Host, jacobian: Host | None, settling: Settling
) -> Loaded:
    """The data with what is known of the effects at the estimate."""
    at = evaluator.eliminated(u)
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
    )
    return replace(loaded, effects=effects)


def with_levels_told(verdict: Verdict, evaluator: EffectsEvaluator, u: Host, settling: Settling) -> Verdict:
    """The verdict with what the levels add to it: those without a maximum, those left out."""
    by, at = evaluator.spec.likelihood.effects[0].by, evaluator.eliminated(u)
    if not u.size:
        verdict = replace(verdict, statement=f"a local maximum: effects of {by} alone are estimated")
    open_: Bool[Host, " levels"] = at.open | (evaluator.signs != 0)
    if open_.any() and verdict.converged:
        return replace(
            verdict,
            code="no_finite_maximum",
            statement=(
                f"the effects of {int(open_.sum())} levels of {by} have no maximum where the others have theirs: "
                f"{_listed(evaluator.levels.labels[open_])}"
            ),
            advice=f"Look at the rows of these levels of {by}; leave them out, or bound or penalise what varies there.",
        )
    alone = (at.information.diagonal() == 0) & (at.arrow.head.diagonal() > 0)
    if verdict.code == "not_identified" and alone.any():
        names = [evaluator.spec.space.theta_labels[i] for i in np.flatnonzero(alone)]
        one = len(names) == 1
        verdict = replace(
            verdict,
            statement=f"{', '.join(names)} {'is' if one else 'are'} not identified: the effects of {by} do all that "
            f"{'it does' if one else 'they do'}, as with a covariate that is constant within each level of {by}",
            advice=f"Leave {'it' if one else 'them'} out, or leave out the effects.",
        )
    verdict = replace(verdict, advice=verdict.advice.replace(SEVERAL_STARTS, ""))  # these are refused
    if settling.told:
        return replace(verdict, statement=f"{verdict.statement}; {_left_out_in_words(by, settling.left_out)}")
    return verdict


class Separation(NamedTuple):
    """Rows that parameters and effects together fit ever better.

    Attributes:
        rows: their numbers in the user's data, (m,).
        statement: what happened, in words.
    """

    rows: Int[Host, " m"]
    statement: str


def separation_of(
    evaluator: EffectsEvaluator, loaded: Loaded, u0: Float[Host, " p"], reached: OptimizeResult, separated: str
) -> Separation | None:
    """The rows that are separated where a search did not end at a clean maximum, or None.

    Args:
        evaluator: of all rows.
        loaded: these.
        u0: the start.
        reached: the end of the search.
        separated: "report", "drop" or "raise".

    Raises:
        DataError: there are such rows under "raise".
    """
    spec, space = evaluator.spec, evaluator.spec.space
    ended = int(reached.status[0]) != int(End.INTERRUPTED)
    if not ended or is_clean(reached.of(0), space) or spec.penalty is not None or isinstance(space.ties, CurvedTies):
        return None
    straight = ~curved(space) & np.isneginf(space.lower) & np.isposinf(space.upper)
    found = separated_rows(evaluator, u0, straight)
    if found is None:
        return None
    kept = np.arange(loaded.rows.n) if loaded.rows.kept is None else loaded.rows.kept
    index = kept if loaded.rows.index is None else np.asarray(loaded.rows.index)
    size = np.abs(found.direction)
    ways = [
        f"{space.theta_labels[i]} -> {'-inf' if found.direction[i] < 0 else 'inf'}"
        for i in np.flatnonzero(size > 1e-6 * size.max(initial=0.0))
    ]
    one, by = len(found.rows) == 1, spec.likelihood.effects[0].by
    what = f"{len(found.rows)} row{'' if one else 's'} ({_listed(index[found.rows].tolist())})"
    why = (
        f"as {_listed(ways) or 'infinity is approached'}, with effects of {by} that follow, the log-likelihood of "
        f"{'this row' if one else 'these rows'} rises all the way and that of no other row changes"
    )
    if separated == "raise":
        raise data_room.DataError(
            f"{what} {'is' if one else 'are'} separated: {why}. separated='report' leaves {'it' if one else 'them'} out, which "
            "changes no estimate that is finite, and says so; or drop them beforehand"
        )
    left = f"{what} {'is' if one else 'are'} separated and {'was' if one else 'were'} left out: {why}"
    return Separation(kept[found.rows], left)


def without_rows(loaded: Loaded, rows: Sequence[int], mode: str) -> Loaded:
    """The data without rows, by their numbers in the user's data."""
    if not len(rows):
        return loaded
    kept = np.arange(loaded.rows.n) if loaded.rows.kept is None else loaded.rows.kept
    return leave_out(loaded, np.isin(kept, np.asarray(rows)), mode)


def with_separated_told(fit: Any, separation: Separation, separated: str) -> Any:
    """The fit of the other rows, whose verdict (or note) tells of the separated ones."""
    if separated == "drop":
        return replace(fit, note=f"{separation.statement}. {fit.note}".strip())
    return replace(fit, verdict=replace(fit.verdict, statement=f"{fit.verdict.statement}; {separation.statement}"))
