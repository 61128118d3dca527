"""Data sets without a clean end: their rays are tested together, and their verdicts are those of single fits."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from mlejax import batch
from mlejax.execution import chunking
from mlejax.verdict import Direction
from tests.batch.test_fit_batch import START, logit, logits, quietly


def broken(n_bad: int, n_sets: int = 60) -> dict[str, np.ndarray]:
    """The first are separated and collinear in turn."""
    data = logits(n_sets)
    for i in range(0, n_bad, 2):
        data["y"][i] = (data["X"][i, :, 1] > 0).astype(float)
        data["X"][i + 1, :, 2] = data["X"][i + 1, :, 1]
    return data


def fit(data: Any) -> batch.Batch:
    sets = batch.stacked(logit.likelihood, data, None, "raise")
    return batch.fit_many(logit.likelihood, sets, start=START, budget=chunking.Budget(10**9, 1, False))


def test_rays_in_company_are_those_of_a_fit_alone() -> None:
    data = broken(12)
    many = quietly(logit.fit_batch, data, START)
    for i in (0, 1, 7, 10):
        mine = {k: v[i] for k, v in data.items()}
        one = quietly(logit.fit, mine, START).verdict
        single = quietly(logit.fit_batch, {k: v[i : i + 1] for k, v in data.items()}, START)
        for verdict in (many[i].verdict, single[0].verdict):
            assert verdict.statement == one.statement
            for mine_, its in zip(verdict.evidence["directions"], one.evidence["directions"], strict=True):
                assert (mine_[0], sorted(mine_[1])) == (its[0], sorted(its[1]))
                assert mine_[2] == pytest.approx(its[2], rel=1e-6, abs=1e-8)


def test_a_direction_keeps_its_words_in_a_pickle() -> None:
    waiting = Direction("rises", np.ones(2), 1.5, 3.0, lambda: ("a -> +inf", ("a",)), bounded=False)
    back = pickle.loads(pickle.dumps(waiting))
    assert (back.behaviour, back.gain, back.supremum, back.bounded) == ("rises", 1.5, 3.0, False)
    assert (back.movement, back.names) == ("a -> +inf", ("a",))


def test_verdicts_do_not_depend_on_the_memory_limit() -> None:
    data = broken(12)
    whole = quietly(logit.fit_batch, data, START)
    small = quietly(logit.fit_batch, data, START, memory_limit=20_000)
    assert small.verdict.tolist() == whole.verdict.tolist()
