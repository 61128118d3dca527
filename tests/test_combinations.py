"""Options in combination, where a reviewer once got a wrong number or a wrong refusal out."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm

import mlejax as mle

RNG = np.random.default_rng(0)


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def normal(params, data):
    return norm.logpdf(data["y"], params["mu"], params["sigma"])


@pytest.mark.parametrize("missing", ["raise", "drop"])
def test_clusters_by_the_column_of_a_table_sorted_in_place_are_refused(missing: str) -> None:
    table = pd.DataFrame({"y": RNG.normal(size=40), "g": RNG.permutation(40) // 4})
    if missing == "drop":
        table.loc[3, "y"] = np.nan
    res = normal.fit(table, missing=missing)
    assert np.isfinite(res.with_cov("cluster", {"groups": "g"}).bse).all()
    table[["y", "g"]] = table[["y", "g"]].sort_values("g").to_numpy()
    with pytest.raises(ValueError, match="changed since the fit"):
        res.with_cov("cluster", {"groups": "g"})


@pytest.mark.parametrize(
    ("larger", "smaller"),
    [
        ({"constraints": "mu = sigma"}, {"fixed": {"mu": 1.5, "sigma": 0.8}}),
        ({"fixed": {"mu": 1.0}}, {"fixed": {"mu": 1.5, "sigma": 0.9}}),
    ],
)
def test_a_ratio_of_fits_that_are_not_nested_is_refused(larger: dict, smaller: dict) -> None:
    data = {"y": RNG.normal(1.4, 0.9, size=40)}
    full = normal.fit(data, **larger)
    with pytest.raises(ValueError, match="not nested"):
        full.lr_test(normal.fit(data, **smaller))


def test_a_nested_pair_with_something_held_in_both_is_tested() -> None:
    data = {"y": RNG.normal(1.4, 0.9, size=40)}
    full, small = normal.fit(data, fixed={"mu": 1.5}), normal.fit(data, fixed={"mu": 1.5, "sigma": 0.9})
    assert full.lr_test(small).statistic == pytest.approx(2 * (full.llf - small.llf))


def table_of_groups() -> pd.DataFrame:
    """Two groups; the first has a constant covariate."""
    x = np.r_[np.zeros(20), RNG.normal(size=20)]
    return pd.DataFrame({"s": np.repeat(["a", "b"], 20), "y": RNG.normal(size=40), "x": x, "w": RNG.integers(1, 4, 40)})


def test_a_batch_gives_no_error_to_what_only_the_penalty_holds() -> None:
    table = table_of_groups()
    many = normal.regress(mu="x").fit_groups(table, by="s", penalty=mle.l2(2.0, "mu"))
    alone = normal.regress(mu="x").fit(table[table["s"] == "a"], penalty=mle.l2(2.0, "mu"))
    assert alone.bse.isna().tolist() == many.bse.loc["a"].isna().tolist() == [False, True, False]


@pytest.mark.filterwarnings("ignore::mlejax.ConvergenceWarning")
def test_weights_by_column_reach_regressed_groups() -> None:
    table = table_of_groups()
    many = normal.regress(mu="x").fit_groups(table, by="s", weights="w", weight_kind="frequency")
    alone = normal.regress(mu="x").fit(table[table["s"] == "b"], weights="w", weight_kind="frequency")
    np.testing.assert_allclose(many.bse.loc["b"], alone.bse, rtol=1e-8)
    np.testing.assert_allclose(many["b"].bse, alone.bse, rtol=1e-8)
    assert many["a"].verdict.code == "not_identified"


def test_a_bootstrap_keeps_replicates_on_an_edge_with_zero_score() -> None:
    """mu enters by its square, so that the replicate's estimate is the root of the positive part of a slope."""

    @mle.model(b=mle.Real(), mu=mle.NonNegative(), s=mle.Positive())
    def square(params, data):
        return norm.logpdf(data["y"], params["b"] + params["mu"] ** 2 * data["x"], params["s"])

    x = np.random.default_rng(2).normal(size=40)
    noise = np.random.default_rng(3).normal(size=40)
    data = {"x": x, "y": noise + (0.15 - np.polyfit(x, noise, 1)[0]) * x}  # the slope is 0.15, about one standard error
    found = square.fit(data).bootstrap(400, seed=1)
    rng = np.random.default_rng(4)
    slopes = []
    for _ in range(4000):
        i = rng.integers(0, 40, 40)
        slopes.append(np.cov(x[i], data["y"][i])[0, 1] / np.var(x[i], ddof=1))
    share = np.mean(np.array(slopes) <= 0)
    estimates = np.sqrt(np.maximum(slopes, 0))
    low, high = found.conf_int().loc["mu"]
    assert 0.02 < share < 0.98
    assert low == pytest.approx(np.quantile(estimates, 0.025), abs=0.05)
    assert high == pytest.approx(np.quantile(estimates, 0.975), abs=0.08)
    assert found.conf_int().notna().all().all()


def test_modes_list_what_was_maximised() -> None:
    x = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])

    @mle.model(a=mle.Real(), b=mle.Real())
    def logit(params, data):
        eta = params["a"] + params["b"] * data["x"]
        return -jnp.log1p(jnp.exp(jnp.where(data["y"] > 0, -eta, eta)))

    res = logit.fit({"x": x, "y": [0, 0, 0, 1, 1, 1]}, bias_reduction="jeffreys", n_starts=4)
    assert res.modes["llf"][0] == pytest.approx(res.llf_penalized, rel=1e-9)


def test_a_ratio_over_rows_in_another_company_is_refused() -> None:
    @mle.model(a=mle.Real(), b=mle.Real(), s=mle.Positive())
    def line(params, data):
        return norm.logpdf(data["y"], params["a"] + params["b"] * data["x"], params["s"])

    x = RNG.normal(size=50)
    y = x + RNG.normal(size=50)
    w = RNG.integers(1, 5, 50)
    options = {"weight_kind": "frequency"}
    full = line.fit({"x": x, "y": y}, weights=w, **options)
    order = RNG.permutation(50)
    same = line.fit({"x": x[order], "y": y[order]}, fixed={"b": 0.0}, weights=w[order], **options)
    assert full.lr_test(same).df == 1
    with pytest.raises(ValueError, match="not in the same rows"):
        full.lr_test(line.fit({"x": x, "y": y}, fixed={"b": 0.0}, weights=w[order], **options))
    with pytest.raises(ValueError, match="not in the same rows"):
        full.lr_test(line.fit({"x": x, "y": y[order]}, fixed={"b": 0.0}, weights=w, **options))
