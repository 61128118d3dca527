"""Data sets without a clean end: their rays are followed together, and words wait until somebody asks."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import mlejax as mle
from mlejax import batch
from mlejax.batch import flagged
from mlejax.execution import chunking
from mlejax.fit import words
from mlejax.verdict import Direction
from tests.batch.test_fit_batch import START, awkward, logit, logits, quietly


def broken(n_bad: int, n_sets: int = 60) -> dict[str, np.ndarray]:
    """The first are separated and collinear in turn."""
    data = logits(n_sets)
    for i in range(0, n_bad, 2):
        data["y"][i] = (data["X"][i, :, 1] > 0).astype(float)
        data["X"][i + 1, :, 2] = data["X"][i + 1, :, 1]
    return data


def fit(data: Any) -> batch.Batch:
    sets = batch.stacked(logit.likelihood, data, None, "raise")
    return batch.fit_many(logit.likelihood, sets, start=START, limits=chunking.Budget(10**9, 1, False))


def test_more_flagged_data_sets_take_no_more_calls_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, real = [0], flagged.loglik_lanes

    def counted(*args: Any, **kwds: Any) -> Any:
        calls[0] += 1
        return real(*args, **kwds)

    monkeypatch.setattr(flagged, "loglik_lanes", counted)
    seen = []
    for n_bad in (4, 40):
        calls[0] = 0
        found = fit(broken(n_bad))
        assert found.codes[:n_bad].tolist() == ["no_finite_maximum", "not_identified"] * (n_bad // 2)
        assert found.converged[n_bad:].all()
        seen.append(calls[0])
    assert 0 < seen[1] <= seen[0]


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


def test_words_are_found_when_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, real = [0], words.describe_movement

    def counted(*args: Any, **kwds: Any) -> Any:
        calls[0] += 1
        return real(*args, **kwds)

    monkeypatch.setattr(words, "describe_movement", counted)
    res = quietly(logit.fit_batch, awkward(), START)
    assert res.verdict[7] == "no_finite_maximum"
    assert calls[0] == 0
    assert "beta[1] -> +inf" in res.failed.loc[7, "reason"]
    assert calls[0] > 0


def test_a_direction_keeps_its_words_in_a_pickle() -> None:
    waiting = Direction("rises", np.ones(2), 1.5, 3.0, lambda: ("a -> +inf", ("a",)), bounded=False)
    back = pickle.loads(pickle.dumps(waiting))
    assert (back.behaviour, back.gain, back.supremum, back.bounded) == ("rises", 1.5, 3.0, False)
    assert (back.movement, back.names) == ("a -> +inf", ("a",))


def test_a_search_is_bounded_by_memory_too(monkeypatch: pytest.MonkeyPatch) -> None:
    together, real = [], flagged.evidence.answer_together

    def noted(asks: Any, loglik: Any) -> Any:
        together.append(len(asks))
        return real(asks, loglik)

    monkeypatch.setattr(flagged.evidence, "answer_together", noted)
    data = broken(12)
    whole = quietly(logit.fit_batch, data, START)
    assert together == [12]
    together.clear()
    cut = quietly(logit.fit_batch, data, START, memory_limit=20_000)
    assert max(together) < 12
    assert sum(together) == 12
    assert cut.verdict.tolist() == whole.verdict.tolist()
    assert isinstance(cut, mle.BatchResults)
