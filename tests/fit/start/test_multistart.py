"""Several starts: the modes of a multimodal likelihood, exchanged labels, spikes; truth from outside the optimiser."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm
from scipy.optimize import brentq

import mlejax as mle
from mlejax.fit.start.modes import exchange_key
from tests.cases import Case, supports

Y = np.array([-5.0, -4.8, -5.3, 6.0, 6.2, 5.8, 5.9])


@mle.model(m=mle.Real())
def cauchy(params, data):
    return -jnp.log(jnp.pi) - jnp.log1p((data["y"] - params["m"]) ** 2)


def stationary_points() -> list[float]:
    """Roots of the Cauchy score between grid points, maxima only."""
    score = lambda m: float(np.sum(2 * (Y - m) / (1 + (Y - m) ** 2)))
    grid = np.linspace(-10, 10, 4001)
    values = [score(m) for m in grid]
    return [
        brentq(score, a, b, xtol=1e-14)
        for a, b, fa, fb in zip(grid, grid[1:], values, values[1:], strict=False)
        if fa > 0 > fb
    ]


def test_both_modes_of_a_cauchy_sample_are_found_from_the_lower_one() -> None:
    low, high = stationary_points()
    alone = cauchy.fit({"y": Y}, start={"m": -5.0})
    assert alone.params["m"] == pytest.approx(low, rel=1e-9)
    assert "n_starts=" in str(alone.summary())
    assert alone.modes["kind"].tolist() == ["maximum"]
    res = cauchy.fit({"y": Y}, start={"m": -5.0}, n_starts=24)
    assert res.params["m"] == pytest.approx(high, rel=1e-9)
    assert res.modes["kind"].tolist() == ["maximum", "maximum"]
    np.testing.assert_allclose(res.modes["m"], [high, low], rtol=1e-7)
    assert res.modes["n_starts"].sum() == 24
    assert res.modes["llf"].is_monotonic_decreasing
    assert res.verdict.code == "verified"
    assert (
        f"the highest of 2 maxima found from 24 starts ({res.modes['n_starts'][0]} reached it)" in res.verdict.statement
    )
    assert res.bse["m"] == pytest.approx(cauchy.fit({"y": Y}, start={"m": high}).bse["m"], rel=1e-6)
    again = cauchy.fit({"y": Y}, start={"m": -5.0}, n_starts=24)
    assert again.modes.equals(res.modes)


def test_a_list_of_starts_is_run_as_given() -> None:
    low, high = stationary_points()
    res = cauchy.fit({"y": Y}, start=[{"m": -5.0}, {"m": -6.0}, {"m": 7.0}])
    np.testing.assert_allclose(res.modes["m"], [high, low], rtol=1e-7)
    assert res.modes["n_starts"].tolist() == [1, 2]


def test_label_switched_copies_and_spikes_of_a_mixture_are_told_apart() -> None:
    case = Case("faithful_mix2")
    mixture = mle.model(params=supports(case))(case.loglik)
    swapped = dict(zip(case.init, (case.init[k] for k in ("w", "mu2", "sigma2", "mu1", "sigma1")), strict=True))
    swapped["w"] = 1.0 - np.asarray(case.init["w"])
    res = mixture.fit(case.data, start=[case.init, swapped, case.hard_inits["near_degenerate"]])
    kinds = res.modes["kind"].tolist()
    assert kinds[:2] == ["maximum", "copy"]
    assert res.modes["copy_of"].tolist()[1] == 0
    assert kinds[2] == "spike"
    assert "sigma1 -> 0" in res.modes["statement"][2]
    assert res.llf == pytest.approx(case.llf, rel=1e-9)
    first, second = res.modes.iloc[0], res.modes.iloc[1]
    assert first["w"] == pytest.approx(1 - second["w"], rel=1e-6)
    assert first["mu1"] == pytest.approx(second["mu2"], rel=1e-6)
    assert "the only maximum found from 3 starts (2 reached it, copies with exchanged labels included)" in str(
        res.verdict
    )
    assert "1 ran into a spike" in str(res.verdict)


def test_no_start_finds_a_maximum_where_there_is_none() -> None:
    case = Case("iris_separated")
    logit = mle.model(params=supports(case))(case.loglik)
    with pytest.warns(mle.ConvergenceWarning, match="no_finite_maximum"):
        res = logit.fit(case.data, start=case.init, n_starts=9)
    assert "maximum" not in set(res.modes["kind"])
    assert res.modes["n_starts"].sum() == 9
    assert res.bse.isna().all()


def test_exchange_key_sees_exchanges_only() -> None:
    @mle.model(w=mle.Simplex(3), mu=mle.Real(shape=3), a=mle.Real(), b=mle.Real())
    def model(params, data):
        return norm.logpdf(data["y"], params["a"] + params["b"] + params["mu"] @ params["w"], 1.0)

    space = model.prepare({"y": [1.0, 2.0]}).space
    key = lambda w, mu, a, b: exchange_key(space, [np.array(w), np.array(mu), np.array(a), np.array(b)])
    one = key([0.2, 0.3, 0.5], [1.0, 2.0, 3.0], 4.0, 5.0)
    np.testing.assert_array_equal(one, key([0.5, 0.3, 0.2], [3.0, 2.0, 1.0], 5.0, 4.0))
    assert not np.allclose(one, key([0.5, 0.3, 0.2], [3.0, 2.0, 1.5], 5.0, 4.0))
    assert not np.allclose(one, key([0.2, 0.3, 0.5], [4.0, 2.0, 3.0], 1.0, 5.0))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n_starts": 0}, "at least 1"),
        ({"n_starts": 2.5}, "whole number"),
        ({"n_starts": True}, "whole number"),
        ({"start": []}, "empty list"),
        ({"start": [{"m": 1.0}, {"m": 2.0}], "n_starts": 1}, "less than the 2 starts"),
        ({"start": [{"m": 1.0}, {"x": 2.0}]}, "x"),
    ],
)
def test_bad_options_are_refused(options: dict, said: str) -> None:
    with pytest.raises((ValueError, TypeError), match=said):
        cauchy.fit({"y": Y}, **options)
