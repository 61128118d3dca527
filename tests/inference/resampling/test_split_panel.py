"""The half-panel jackknife against its closed form: the spread of normal outcomes with fixed effects."""

import numpy as np
import pytest
from jax.scipy.stats import norm

import mlejax as mle


@mle.model(sigma=mle.Positive(), alpha=mle.Real(by="firm"))
def spread(params, data):
    return norm.logpdf(data["y"], params["alpha"], params["sigma"])


def panel(periods: int) -> dict:
    rng = np.random.default_rng(4)
    firm, year = np.repeat(np.arange(12), periods), np.tile(2000 + np.arange(periods), 12)
    return {"y": rng.standard_normal(firm.size) + firm, "firm": firm, "year": year}


def within(data: dict, rows: np.ndarray) -> float:
    """The root of the mean square about the means of the firms."""
    y, firm = data["y"][rows], data["firm"][rows]
    means = np.bincount(firm, y) / np.bincount(firm)
    return float(np.sqrt(np.mean((y - means[firm]) ** 2)))


@pytest.mark.parametrize("periods", [4, 5])
def test_twice_the_estimate_minus_the_mean_of_the_halves(periods):
    """An odd number of periods is halved both ways, each half with its share of them (Dhaene & Jochmans 2015)."""
    data = panel(periods)
    found = spread.fit(data).split_panel("year", n=5, seed=1)
    whole, parts = within(data, data["year"] > 0), []
    for half in {periods // 2, (periods + 1) // 2}:
        late = data["year"] >= 2000 + half
        parts.append(half / periods * within(data, ~late) + (1 - half / periods) * within(data, late))
    np.testing.assert_allclose(found.corrected["sigma"], 2 * whole - np.mean(parts), rtol=1e-9)
    np.testing.assert_allclose(found.bias["sigma"], np.mean(parts) - whole, rtol=1e-8)
    copies = np.random.default_rng(1).integers(0, 12, 12)  # the first resample, of whole firms
    rows = np.concatenate([np.flatnonzero(data["firm"] == firm) for firm in copies])
    drawn = {"y": data["y"][rows], "firm": np.repeat(np.arange(12), periods), "year": data["year"][rows]}
    parts = []
    for half in {periods // 2, (periods + 1) // 2}:
        late = drawn["year"] >= 2000 + half
        parts.append(half / periods * within(drawn, ~late) + (1 - half / periods) * within(drawn, late))
    np.testing.assert_allclose(
        found.replicates["sigma"][0], 2 * within(drawn, rows >= 0) - np.mean(parts), rtol=1e-8
    )
    assert found.bse["sigma"] == pytest.approx(found.replicates["sigma"].std())
    statistic, df, _ = found.halves_test
    wanted = (found.halves["second"] - found.halves["first"]) ** 2 / found.differences.var(ddof=1)
    np.testing.assert_allclose(statistic, wanted["sigma"])
    assert df == 1
    assert "Half-panel jackknife of spread" in str(found)


def test_what_has_no_halves_is_refused():
    data = panel(4)
    res = spread.fit(data)
    with pytest.raises(ValueError, match="at least 4 periods in 'year', got 2"):
        spread.fit({**data, "year": data["year"] // 2}).split_panel("year")
    with pytest.raises(ValueError, match="does not support penalties; fit without penalty="):
        spread.fit(data, penalty=mle.l2(1.0, "sigma")).split_panel("year")
    with pytest.raises(AttributeError, match="no llf"):
        _ = res.split_panel("year", n=2).llf
