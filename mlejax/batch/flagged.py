"""The data sets whose end is not clean: ray tests, restarts and verdicts, as in a fit of each alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mlejax.batch.engine import Ends
from mlejax.batch.reading import DataSets
from mlejax.fit import recipe
from mlejax.fit.search import Found, search
from mlejax.objective import Spec
from mlejax.parameters import Space
from mlejax.status import End

__all__ = ["search", "settle"]


def settle(
    spec: Spec, algorithm: Any, sets: DataSets, held: Any, u0: np.ndarray, ends: Ends, given: list[Any], own: list[bool],
    lanes: list[int], seed: int, codes: np.ndarray, statements: dict[int, str], found_of: dict[int, Found], notes: dict[int, str],
    alone: Callable[[DataSets, int, Space], Any],
) -> None:  # fmt: skip
    """Writes verdicts, and ends where a restart went further, into the arrays."""
    from mlejax.batch.fitting import ended_of

    p = spec.space.n_free
    for i in lanes:
        loaded = alone(sets, i, spec.space)
        _, ended, found = search(spec, algorithm, loaded, u0[i], held, None, ended_of(ends, i, algorithm, p))
        if ended.end == End.START_NOT_FINITE:
            mine = [v[i] if one else v for v, one in zip(given, own, strict=True)]
            opened = [v if leaf.kind == "Free" else None for v, leaf in zip(mine, spec.space.leaves, strict=True)]
            other = recipe._first_point(spec, loaded, opened, held, seed, thorough=True)
            _, again, found_there = search(spec, algorithm, loaded, other, held, None)
            if again.end != End.START_NOT_FINITE:
                notes[i] = f"The first start was not usable ({found.rows}); started elsewhere."
                ended, found = again, found_there
        verdict = recipe._finish(spec, loaded, held, ended, found, algorithm).verdict
        codes[i], statements[i], found_of[i] = verdict.code, verdict.statement, found
        write(ends, i, ended)


def write(ends: Ends, i: int, ended: Any) -> None:
    """One data set's end into the arrays."""
    ends.u[i], ends.loglik[i], ends.score[i] = ended.u, ended.loglik, ended.score
    ends.n_steps[i], ends.end[i] = ended.n_steps, int(ended.end)
    if ended.information is not None:
        ends.information[i] = ended.information
        ends.decrements[i] = ended.decrements
