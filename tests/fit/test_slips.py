"""The commonest slips: minus the log-likelihood, a text where a result or a seed belongs, Ctrl-C before anything is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from jax.scipy.stats import expon, norm

import mlejax as mle
from mlejax.status import End
from mlejax.verdict import Evidence, judge

DATA = {"y": np.random.default_rng(0).normal(2.0, 1.0, 50)}


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def normal(p: Any, d: Any) -> Any:
    return norm.logpdf(d["y"], p["mu"], p["sigma"])


def test_minus_the_log_likelihood_is_asked_about() -> None:
    negative = mle.model(mu=mle.Real(), sigma=mle.Positive())(lambda p, d: -normal(p, d))
    with pytest.warns(mle.ConvergenceWarning, match="leave out the minus sign"):
        assert negative.fit(DATA).verdict.code == "no_finite_maximum"

    @mle.model(scale=mle.Positive())
    def exponential(p: Any, d: Any) -> Any:
        return -expon.logpdf(d["y"], scale=p["scale"])

    with pytest.warns(mle.ConvergenceWarning, match="leave out the minus sign"):
        exponential.fit({"y": np.abs(DATA["y"])})


def test_a_log_likelihood_without_bound_is_not_taken_for_minus_one() -> None:
    """A constant outcome: sigma -> 0."""
    with pytest.warns(mle.ConvergenceWarning) as caught:
        res = normal.fit({"y": np.full(9, 3.0)})
    assert res.verdict.code == "no_finite_maximum"
    assert "minus sign" not in str(caught[0].message)


def test_a_text_is_no_restricted_result() -> None:
    with pytest.raises(TypeError, match=r"lr_test expected the result of a fit .* got 'x'"):
        normal.fit(DATA).lr_test("x")  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", ["x", 1.5, -1, True])
def test_seeds_are_whole_numbers(seed: Any) -> None:
    expected = pytest.raises(ValueError, match="seed= expected a whole number of at least 0")
    with expected:
        normal.fit(DATA, seed=seed)
    with expected:
        normal.check(DATA, seed=seed)
    with expected:
        normal.fit_batch({"y": DATA["y"].reshape(5, 10)}, seed=seed)


def test_ctrl_c_before_the_first_step_says_so() -> None:
    @mle.model(mu=mle.Real())
    def interrupted(p: Any, d: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(
        KeyboardInterrupt, match="interrupted: interrupted before the first step; nothing was estimated"
    ):
        interrupted.fit(DATA)


def test_an_interrupted_search_is_not_called_collinear() -> None:
    for n_steps, said in (
        (0, "before the first step; the values are those of the start"),
        (3, "interrupted after 3 steps"),
    ):
        verdict = judge(Evidence(End.INTERRUPTED, np.nan, (), np.nan, np.nan, definite=False, n_steps=n_steps))
        assert verdict.code == "stopped_early"
        assert said in verdict.statement
        assert "collinear" not in verdict.statement
