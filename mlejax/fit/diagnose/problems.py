"""Input and output of the diagnosis: the data sets (`Problems`), and the final point of each with its findings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from mlejax.fit.prepare.loaded import Loaded
from mlejax.objective import Evaluator, SingleEvaluator, Spec
from mlejax.optimize import Method, OptimizeResult
from mlejax.parameters import Space
from mlejax.shapes import Float, Host
from mlejax.verdict import Findings

TOGETHER = 1024  # data sets that are diagnosed at one time, at most


@dataclass(frozen=True, eq=False)
class Problems:
    """L >= 1 data sets of one model, with functions that provide the parts of each on demand.

    Attributes:
        method: the optimiser.
        fixed: values under ``fixed=``, (k,), or None.
        seed: seed of random starts.
        loaded: number of a data set -> its checked data.
        one: (evaluator of all, number) -> evaluator of one data set.
        given: number -> for each parameter array (leaf) the value under ``start=``, or None.
        start_anew: (evaluator of one, checked data, given values) -> another start u (p,), chosen on all rows.
        scattered: (layout, checked data, given values, final point) -> random starts in u, (N_SCATTERED, p).
        candidates: (specification, checked data, given values) -> candidates among which a start is chosen, in u, (n, p).
        together: most data sets diagnosed at one time.
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
    """The diagnosis of one data set.

    Attributes:
        spec: the specification; with a differenced Hessian if JAX's second derivatives were missing, inaccurate or not finite.
        end: its final point, perhaps after further searches.
        findings: what was found there.
        note: a remark on its start, for the user; may be empty.
    """

    spec: Spec
    end: OptimizeResult
    findings: Findings
    note: str = ""
