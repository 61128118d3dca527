"""What the diagnosis is given, and what it gives: the data sets, and the end of each with what was found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from mlejax.fit.diagnose.ends import Findings
from mlejax.fit.prepare.loaded import Loaded
from mlejax.objective import Evaluator, SingleEvaluator, Spec
from mlejax.optimize import Method, OptimizeResult
from mlejax.parameters import Space
from mlejax.shapes import Float, Host

TOGETHER = 1024  # data sets that are diagnosed at one time, at most


@dataclass(frozen=True, eq=False)
class Problems:
    """L >= 1 data sets of one declaration, as the recipe and the diagnosis see them.

    Attributes:
        method: the optimiser.
        fixed: values under ``fixed=``, or None.
        seed: of random candidates among starts.
        loaded: number of a data set -> its checked data.
        one: (evaluator of all, number) -> evaluator of one data set.
        given: number -> for each leaf its given start or None.
        start_anew: (evaluator of one, checked data, given starts) -> another start u (p,), chosen on all rows.
        scattered: (layout, checked data, given starts, end) -> further starts in u, (N_SCATTERED, p).
        candidates: (declaration, checked data, given starts) -> the points among which a start is chosen, in u, (n, p).
        together: data sets diagnosed at one time, at most.
    """

    method: Method
    fixed: Host | None
    seed: int
    loaded: Callable[[int], Loaded]
    one: Callable[[Evaluator, int], SingleEvaluator]
    given: Callable[[int], list[Any]]
    start_anew: Callable[[SingleEvaluator, Loaded, list[Any]], Float[Host, " p"]]
    scattered: Callable[[Space, Loaded, list[Any], OptimizeResult], Float[Host, "n p"]]
    candidates: Callable[[Spec, Loaded, list[Any]], Float[Host, "n p"]]
    together: int = TOGETHER


class Diagnosed(NamedTuple):
    """One data set after its diagnosis: its final end, what was found, and a remark on its start."""

    spec: Spec
    end: OptimizeResult
    findings: Findings
    note: str = ""
