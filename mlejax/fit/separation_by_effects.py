"""Separated rows: rows whose log-likelihood keeps rising as parameters and fixed effects go to infinity together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from mlejax import data as data_room
from mlejax.data.streams import RowOfLevel
from mlejax.fit.diagnose.ends import curved, is_clean
from mlejax.fit.elimination_checks import SHOWN, listed
from mlejax.fit.prepare.loaded import Loaded
from mlejax.fit.prepare.loading import leave_out
from mlejax.objective import EffectsEvaluator, separated_rows, too_many_to_test
from mlejax.optimize import OptimizeResult
from mlejax.parameters import CurvedTies
from mlejax.shapes import Float, Host, Int
from mlejax.status import End


class Separation(NamedTuple):
    """Separated rows: their log-likelihood keeps rising as parameters and fixed effects go to infinity together.

    Attributes:
        rows: row numbers in the user's data (m); those of a stream as `RowOfLevel`.
        statement: a sentence for the verdict.
    """

    rows: Sequence[Any]
    statement: str


def separation_of(
    evaluator: EffectsEvaluator, loaded: Loaded, u0: Float[Host, " p"], reached: OptimizeResult, separated: str
) -> Separation | None:
    """Find separated rows, if a search did not end at a clear maximum.

    Return None if there are none. Return None without a test if the search was interrupted, if there is a penalty or a
    nonlinear constraint, or if the rows of a stream are too many to be tested.

    Args:
        evaluator: evaluator of all rows.
        loaded: all rows.
        u0: start of the search, (p,).
        reached: its final point.
        separated: "report", "drop" or "raise".

    Raises:
        DataError: there are such rows and ``separated`` is "raise".
    """
    spec, space = evaluator.spec, evaluator.spec.space
    ended = int(reached.status[0]) != int(End.INTERRUPTED)
    if not ended or is_clean(reached.of(0), space) or spec.penalty is not None or isinstance(space.ties, CurvedTies):
        return None
    straight = ~curved(space) & np.isneginf(space.lower) & np.isposinf(space.upper)
    places: list[tuple[str, Host]] = []
    if evaluator.streamed is not None:
        if too_many_to_test(evaluator.grouped.n_rows, u0.size):
            return None
        evaluator, places = evaluator.in_memory()
    found = separated_rows(evaluator, u0, straight)
    if found is None:
        return None
    rows, shown = _separated_in_words(evaluator, loaded, places, found.rows)
    size = np.abs(found.direction)
    ways = [
        f"{space.theta_labels[i]} -> {'-inf' if found.direction[i] < 0 else 'inf'}"
        for i in np.flatnonzero(size > 1e-6 * size.max(initial=0.0))
    ]
    one, by = len(found.rows) == 1, spec.likelihood.effects[0].by
    what = f"{len(found.rows)} row{'' if one else 's'} ({shown})"
    why = (
        f"as {listed(ways) or 'parameters go to infinity'}, together with effects of {by}, the log-likelihood of "
        f"{'this row' if one else 'these rows'} keeps rising and that of no other row changes"
    )
    if separated == "raise":
        raise data_room.DataError(
            f"{what} {'is' if one else 'are'} separated: {why}. Use separated='report', which leaves {'it' if one else 'them'} "
            "out (this changes no finite estimate) and mentions it in the verdict; or drop them beforehand"
        )
    left = f"{what} {'is' if one else 'are'} separated and {'was' if one else 'were'} left out: {why}"
    return Separation(rows, left)


def _separated_in_words(
    evaluator: EffectsEvaluator, loaded: Loaded, places: Sequence[tuple[str, Host]], rows: Int[Host, " m"]
) -> tuple[Sequence[Any], str]:
    """Return the separated rows as in `Separation.rows`, and a phrase that lists the first five.

    Args:
        evaluator: evaluator of the rows in memory.
        loaded: all rows.
        places: for a stream, the name of each partition and the numbers in it of the evaluator's rows; empty for data in
            memory.
        rows: positions of the separated rows in the evaluator (m,).
    """
    if not places:
        kept = np.arange(loaded.rows.n) if loaded.rows.kept is None else loaded.rows.kept
        index = kept if loaded.rows.index is None else np.asarray(loaded.rows.index)
        return kept[rows].tolist(), listed(index[rows].tolist())
    names = [name for name, numbers in places for _ in numbers]
    numbers, levels = np.concatenate([numbers for _, numbers in places]), evaluator.levels
    weights = np.asarray(evaluator.data.weights) * loaded.scale
    found = [RowOfLevel(names[i], int(numbers[i]), levels.labels[levels.codes[i]], float(weights[i])) for i in rows]
    shown = "; ".join(f"{row.partition}, row {row.number}" for row in found[:SHOWN])
    return found, shown + ("; ..." if len(found) > SHOWN else "")


def without_rows(loaded: Loaded, rows: Sequence[int]) -> Loaded:
    """Return the data of a row-wise model without the given rows (their numbers in the user's data); unchanged if none is
    given.
    """
    if not len(rows):
        return loaded
    kept = np.arange(loaded.rows.n) if loaded.rows.kept is None else loaded.rows.kept
    return leave_out(loaded, np.isin(kept, np.asarray(rows)))


def with_separated_told(fit: Any, separation: Separation, separated: str) -> Any:
    """Return the fit of the other rows, with the statement of ``separation`` on the separated ones appended to its verdict; if
    ``separated`` is "drop", with the statement in its note instead.
    """
    if separated == "drop":
        return replace(fit, note=f"{separation.statement}. {fit.note}".strip())
    return replace(fit, verdict=fit.verdict.amended(note=separation.statement))
