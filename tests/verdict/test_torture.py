"""The verdicts on data sets whose truth is known by construction (`tests/verdict/torture.py`), alone and in batches.

Never `verified`: what has no maximum, a flat direction, or its maximum on an edge; a bad start may end at a true local
maximum, which is checked by moving every parameter.  At most one clean fit in a hundred is flagged.
"""

from __future__ import annotations

import collections
import json
import warnings
from collections.abc import Iterable

import jax
import numpy as np
import pytest

import mlejax as mle
from benchmarks.recorded import RESULTS
from tests.verdict.torture import Problem, problems

HONEST = {
    "none": {"no_finite_maximum", "stopped_early"},
    "flat": {"not_identified"},
    "edge": {"boundary"},
    "hard": {"verified", "no_finite_maximum", "stopped_early", "saddle", "not_computable"},
}


def fitted(problem: Problem) -> mle.Results:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mle.ConvergenceWarning)
        return problem.model.fit(problem.data, start=problem.start)


def local_maximum(problem: Problem, res: mle.Results) -> bool:
    """Every coordinate moved by half a standard error, either way, lowers the log-likelihood."""
    with jax.enable_x64(True):
        here = float(np.sum(problem.model(res.params_tree, problem.data)))
        for key, value in res.params_tree.items():
            for i in np.ndindex(np.shape(value)):
                label = key if not i else f"{key}[{','.join(map(str, i))}]"
                for sign in (-0.5, 0.5):
                    moved = {k: np.array(v) for k, v in res.params_tree.items()}
                    moved[key][i] += sign * res.bse[label]
                    there = float(np.sum(problem.model(moved, problem.data)))
                    if there > here + 1e-9 * abs(here):
                        return False
    return True


def verdicts(these: Iterable[Problem]) -> tuple[collections.Counter, list[str]]:
    """Counts of (truth, code), and what is dishonest or does not name what it should."""
    counts: collections.Counter = collections.Counter()
    wrong = []
    for problem in these:
        res = fitted(problem)
        code = res.verdict.code
        counts[problem.truth, code] += 1
        if problem.truth != "clean" and code not in HONEST[problem.truth]:
            wrong.append(f"{problem.name}: {res.verdict}")
        elif code in ("no_finite_maximum", "not_identified", "boundary"):
            missing = [n for n in problem.names if n not in res.verdict.statement]
            if missing:
                wrong.append(f"{problem.name}: {missing} not named: {res.verdict}")
        if problem.truth == "hard" and code == "verified" and not local_maximum(problem, res):
            wrong.append(f"{problem.name}: verified, but not a maximum: {res.params.to_dict()}")
        if not res.converged and code != "not_identified" and res.bse.notna().any():
            wrong.append(f"{problem.name}: standard errors without a maximum")
    return counts, wrong


def check(counts: collections.Counter, wrong: list[str]) -> None:
    assert not wrong, "\n".join(wrong)
    clean = {code: n for (truth, code), n in counts.items() if truth == "clean"}
    assert clean["verified"] >= 0.99 * sum(clean.values()), clean
    none = {code: n for (truth, code), n in counts.items() if truth == "none"}
    assert none["no_finite_maximum"] >= 0.85 * sum(none.values()), none  # the others lose their digits


def test_the_record_has_no_untrue_statement() -> None:
    record = json.loads((RESULTS / "torture.json").read_text())
    assert record["fits"] >= 2000
    assert record["untrue"] == 0
    assert record["right"] >= 0.95 * record["fits"]
    assert record["false alarms"] <= 0.005 * record["clean"]


def test_one_of_each() -> None:
    check(*verdicts(problems([0], [60])))


@pytest.mark.slow
def test_a_thousand() -> None:
    counts, wrong = verdicts(problems(range(1, 11)))
    assert sum(counts.values()) >= 1000
    check(counts, wrong)


def stacks(seeds: Iterable[int], size: int) -> dict[str, list[Problem]]:
    """The problems without a start of their own by name, for batches of one shape."""
    out: dict[str, list[Problem]] = {}
    for problem in problems(seeds, [size]):
        if problem.start is None and problem.model.likelihood.unit is None:
            out.setdefault(problem.name.split(", n=")[0], []).append(problem)
    return out


def batch_equals_single(these: dict[str, list[Problem]]) -> int:
    count = 0
    for name, group in these.items():
        data = {k: np.stack([np.asarray(p.data[k]) for p in group]) for k in group[0].data}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", mle.ConvergenceWarning)
            res = group[0].model.fit_batch(data)
        codes = res.glance()["verdict"].tolist()
        for problem, code in zip(group, codes, strict=True):
            if problem.truth == "clean":
                assert code == "verified", (name, codes)
            else:
                assert code in HONEST[problem.truth], (name, codes)
            count += 1
    return count


def test_batches_of_a_few() -> None:
    some = stacks(range(3), 60)
    chosen = [k for k in some if k in ("clean: logit", "none: logit, separation", "flat: a + b")]
    assert batch_equals_single({k: some[k] for k in chosen}) == 9


@pytest.mark.slow
def test_a_thousand_in_batches() -> None:
    assert batch_equals_single(stacks(range(20), 60)) >= 700
    assert batch_equals_single(stacks(range(20, 30), 300)) >= 350
