"""A batch equals the loop of single fits, whatever the order and company; one bad data set costs its own row."""

from __future__ import annotations

import re
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm

import mlejax as mle

L, N = 40, 60


@mle.model(beta=mle.Real(shape=3))
def logit(params: Any, data: Any) -> Any:
    eta = data["X"] @ params["beta"]
    return data["y"] * eta - jnp.logaddexp(0.0, eta)


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def gaussian(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["mu"], params["sigma"])


START = {"beta": np.zeros(3)}


def logits(n_sets: int = L, n: int = N, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_sets, n, 3))
    X[..., 0] = 1.0
    y = (rng.random((n_sets, n)) < 1 / (1 + np.exp(-(X @ [0.2, 0.8, -0.5])))).astype(float)
    return {"X": X, "y": y, "g": rng.integers(0, 8, (n_sets, n))}


def awkward() -> dict[str, np.ndarray]:
    """Five data sets that cannot be fitted among many that can."""
    data = logits()
    data["y"][3, 5] = np.nan
    data["y"][7] = (data["X"][7, :, 1] > 0).astype(float)  # separated
    data["X"][11, :, 2] = data["X"][11, :, 1]  # collinear
    data["y"][19] = 1.0
    data["X"][23, 0, 1] = np.inf
    return data


def quietly(function: Any, *args: Any, **kwds: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mle.ConvergenceWarning)
        return function(*args, **kwds)


@pytest.fixture(scope="module")
def mixed() -> mle.BatchResults:
    return quietly(logit.fit_batch, awkward(), START)


def same(a: mle.BatchResults, i: Any, res: mle.Results) -> None:
    """The promise: llf to 1e-10, estimates to 1e-7 standard errors, errors to 1e-6."""
    assert a.verdict[i] == res.verdict.code
    assert a.llf[i] == pytest.approx(res.llf, rel=1e-10)
    if res.converged:
        assert (np.abs(a.params.loc[i] - res.params) <= 1e-7 * res.bse).all()
        np.testing.assert_allclose(a.bse.loc[i], res.bse, rtol=1e-6)


def test_batch_equals_the_loop_also_where_a_fit_fails(mixed: mle.BatchResults) -> None:
    data = awkward()
    expected = {7: "no_finite_maximum", 11: "not_identified", 19: "no_finite_maximum"}
    for i in [0, 1, 7, 11, 19, 39]:
        res = quietly(logit.fit, {k: v[i] for k, v in data.items()}, START)
        assert res.verdict.code == expected.get(i, "verified")
        same(mixed, i, res)
        assert mixed.n_steps[i] == res.n_steps
        np.testing.assert_allclose(mixed.bse.loc[i], res.bse, rtol=1e-6)  # NaN in the same places
        if i in expected:
            assert mixed.failed.loc[i, "reason"] == res.verdict.statement
            assert mixed[i].verdict.statement == res.verdict.statement


def test_one_bad_data_set_costs_its_own_row(mixed: mle.BatchResults) -> None:
    assert mixed.failed.index.tolist() == [3, 7, 11, 19, 23]
    assert "column 'y': 1 missing values (NaN or NA), at row 5" in mixed.failed.loc[3, "reason"]
    assert "column 'X': 1 infinite values, at row 0 (column 1 of the matrix)" in mixed.failed.loc[23, "reason"]
    assert mixed.verdict[3] == mixed.verdict[23] == "not_computable"
    assert mixed.params.loc[3].isna().all()
    assert mixed.converged.sum() == L - 5
    assert np.isfinite(mixed.bse[mixed.converged]).all().all()
    with pytest.raises(mle.DataError, match="missing values"):
        mixed[3]


def test_order_and_company_do_not_matter(mixed: mle.BatchResults) -> None:
    data = awkward()
    order = np.random.default_rng(1).permutation(L)
    shuffled = quietly(logit.fit_batch, {k: v[order] for k, v in data.items()}, START)
    some = np.array([5, 7, 11, 30])
    few = quietly(logit.fit_batch, {k: v[some] for k, v in data.items()}, START)
    for other, rows in ((shuffled, order), (few, some)):
        assert other.verdict.tolist() == mixed.verdict[rows].tolist()
        np.testing.assert_allclose(other.llf, mixed.llf[rows], rtol=1e-12)
        good = mixed.converged.to_numpy()[rows]
        np.testing.assert_allclose(other.params[good], mixed.params.iloc[rows][good], rtol=1e-9, atol=1e-12)


def test_without_a_start_every_data_set_searches_its_own() -> None:
    rng = np.random.default_rng(2)
    y = rng.normal(rng.normal(0, 50, 12)[:, None], rng.lognormal(0, 2, 12)[:, None], (12, 30))
    y[4] = 2.5  # constant: the scale shrinks to 0
    res = quietly(gaussian.fit_batch, {"y": y})
    assert res.verdict[4] == "no_finite_maximum"
    good = [i for i in range(12) if i != 4]
    np.testing.assert_allclose(res.params["mu"][good], y[good].mean(axis=1), rtol=1e-9)
    np.testing.assert_allclose(res.params["sigma"][good], y[good].std(axis=1), rtol=1e-9)
    np.testing.assert_allclose(res.bse["mu"][good], y[good].std(axis=1) / np.sqrt(30), rtol=1e-8)
    same(res, 0, gaussian.fit({"y": y[0]}))


def test_starts_one_each_from_a_frame_and_pooled(mixed: mle.BatchResults) -> None:
    data = logits()
    cold = logit.fit_batch(data, START)
    each = logit.fit_batch(data, {"beta": cold.params.to_numpy()})
    assert (each.n_steps <= 1).all()
    frame = logit.fit_batch(data, cold.params)
    pooled = logit.fit_batch(data, "pooled")
    for warm in (each, frame, pooled):
        np.testing.assert_allclose(warm.params, cold.params, rtol=0, atol=1e-8)
    with pytest.raises(ValueError, match="expected a dict from parameter names to starts"):
        logit.fit_batch(data, "warm")
    with pytest.raises(ValueError, match="finite numbers for every data set"):
        logit.fit_batch(data, {"beta": np.full((L, 3), np.nan)})


def test_fixed_values_and_other_methods() -> None:
    data = logits(8)
    held = logit.fit_batch(data, START, {"beta[2]": -0.5})
    single = logit.fit({k: v[2] for k, v in data.items()}, START, {"beta[2]": -0.5})
    same_ = held.params.loc[2]
    assert same_["beta[2]"] == -0.5
    assert np.isnan(held.bse.loc[2, "beta[2]"])
    np.testing.assert_allclose(same_, single.params, rtol=1e-9)
    np.testing.assert_allclose(held.bse.loc[2], single.bse, rtol=1e-8)


def test_covariances_equal_those_of_single_fits(mixed: mle.BatchResults) -> None:
    data = awkward()
    one = logit.fit({k: v[2] for k, v in data.items()}, START)
    for kind, kwds in (
        ("HC0", None),
        ("HC1", None),
        ("opg", None),
        ("cluster", {"groups": "g"}),
        ("HAC", {"maxlags": 2}),
    ):
        many = mixed.with_cov(kind, kwds)
        np.testing.assert_allclose(many.bse.loc[2], one.with_cov(kind, kwds).bse, rtol=1e-9)
        assert many.bse.loc[7].isna().all()
        np.testing.assert_allclose(many[2].bse, many.bse.loc[2], rtol=1e-9)


def test_tables_of_a_batch(mixed: mle.BatchResults, tmp_path: Any) -> None:
    import pandas as pd

    one = mixed[2]
    tidy = mixed.tidy()
    assert list(tidy.columns) == [
        "group", "term", "estimate", "std_error", "statistic", "p_value", "conf_low", "conf_high", "note",
    ]  # fmt: skip
    mine = tidy[tidy["group"] == 2].reset_index(drop=True)
    single = one.tidy()
    for name in ("estimate", "std_error", "statistic", "p_value", "conf_low", "conf_high"):
        np.testing.assert_allclose(mine[name], single[name], rtol=1e-8)
    assert set(tidy[tidy["group"] == 7]["note"]) == {"no standard error: no finite maximum"}
    assert set(tidy[tidy["group"] == 11]["note"]) == {"", "not identified: no standard error"}
    glance = mixed.glance()
    assert list(glance.columns) == ["group", "nobs", "llf", "aic", "converged", "verdict", "n_steps"]
    assert glance["aic"][2] == pytest.approx(one.aic, rel=1e-12)
    assert glance["aic"][11] == pytest.approx(mixed[11].aic, rel=1e-12)
    assert np.isnan(glance["aic"][7])
    mixed.to_parquet(tmp_path / "fits.parquet")
    back = pd.read_parquet(tmp_path / "fits.parquet")
    assert [p.name for p in tmp_path.iterdir()] == ["fits.parquet"]
    with pytest.raises(FileNotFoundError, match="expected an existing folder"):
        mixed.to_parquet(tmp_path / "none" / "fits.parquet")
    assert len(back) == 3 * L
    np.testing.assert_array_equal(back["estimate"], tidy["estimate"])
    assert len(mixed) == L
    assert "40 data sets of logit: 35 converged" in repr(mixed)
    assert "verified: 35" in mixed.summary()


def test_missing_rows_are_dropped_by_data_set() -> None:
    rng = np.random.default_rng(3)
    y = rng.normal(0, 1, (6, 40))
    holed = y.copy()
    holed[1, :7] = np.nan
    holed[2] = np.nan
    res = quietly(gaussian.fit_batch, {"y": holed}, {"mu": 0.0, "sigma": 1.0}, missing="drop")
    assert res.nobs.tolist() == [40, 33, 0, 40, 40, 40]
    assert res.params["mu"][1] == pytest.approx(y[1, 7:].mean(), rel=1e-9)
    assert res.params["mu"][5] == pytest.approx(y[5].mean(), rel=1e-9)
    assert "leaves no row" in res.failed.loc[2, "reason"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"y": np.zeros(5)}, "expected an array"),
        ({"y": np.zeros((5, 4)), "x": np.zeros((4, 4))}, "differ in their first two axes"),
        ({"y": np.zeros((0, 4))}, "at least one data set"),
        ({}, r"got none\n"),
        ({"k": mle.Shared([1.0, 2.0])}, "got only mle.Shared and mle.Static"),
    ],
)
def test_what_is_no_stack_is_refused(data: Any, said: str) -> None:
    with pytest.raises(mle.DataError, match=said):
        gaussian.fit_batch(data)


def test_a_table_is_pointed_to_fit_groups() -> None:
    import pandas as pd

    with pytest.raises(mle.DataTypeError, match="fit_groups"):
        gaussian.fit_batch(pd.DataFrame({"y": [1.0, 2.0]}))


def test_a_limit_on_memory_cuts_the_batch() -> None:
    data = logits()
    whole = logit.fit_batch(data, START)
    cut = logit.fit_batch(data, START, memory_limit=200_000)
    np.testing.assert_allclose(cut.params, whole.params, rtol=1e-12, atol=1e-14)
    with pytest.raises(ValueError, match="are too few for one data set of 60 rows") as refused:
        logit.fit_batch(data, START, memory_limit=1000)
    enough = float(str(refused.value).split("at least ")[1])
    alone = logit.fit_batch(data, START, memory_limit=1.01 * enough)  # for one thread, on however many cores
    np.testing.assert_allclose(alone.params, whole.params, rtol=1e-12, atol=1e-14)
    for wrong in (-1, np.inf):
        with pytest.raises(ValueError, match="positive, finite number of bytes"):
            logit.fit_batch(data, START, memory_limit=wrong)


@pytest.mark.parametrize("kind", ["frequency", "sampling", "importance"])
def test_weighted_batches_equal_weighted_fits(kind: str) -> None:
    data = logits(6)
    data["h"] = np.broadcast_to(np.arange(N) % 7, (6, N))
    w = np.random.default_rng(5).integers(0, 4, (6, N)).astype(float)
    w = w if kind == "frequency" else w * 0.7
    bad = w.copy()
    bad[4, 3] = -1.0
    bad[5] = 0.0
    many = quietly(logit.fit_batch, data, START, weights=bad, weight_kind=kind)
    assert many.failed.index.tolist() == [4, 5]
    assert "weights: 1 of 60 are negative" in many.failed.loc[4, "reason"]
    assert "all 60 are zero" in many.failed.loc[5, "reason"]
    for i in (0, 3):
        one = logit.fit({k: v[i] for k, v in data.items()}, START, weights=w[i], weight_kind=kind)
        same(many, i, one)
        assert many.nobs[i] == one.nobs
        np.testing.assert_allclose(many[i].bse, one.bse, rtol=1e-9)
        for cov, kwds in (("HC0", None), ("HC1", None), ("cluster", {"groups": "g"})):
            np.testing.assert_allclose(many.with_cov(cov, kwds).bse.loc[i], one.with_cov(cov, kwds).bse, rtol=1e-8)
        own = [("cluster", {"groups": ("g", "h")})]  # made by each fit, of weights as they are given
        if kind != "frequency":
            own += [("HC2", None), ("HC3", None), ("HC4", None), ("CR2", {"groups": "g"})]
        for cov, kwds in own:
            np.testing.assert_allclose(many.with_cov(cov, kwds).bse.loc[i], one.with_cov(cov, kwds).bse, rtol=1e-8)
    assert many.cov_type == ("HC0" if kind == "sampling" else "nonrobust")
    assert np.isnan(many.glance()["aic"][0]) == (kind == "sampling")


def test_penalties_of_one_strength_or_one_each() -> None:
    data = logits(6)
    data["y"][5] = 1.0  # without a penalty there would be no maximum
    strengths = np.array([0.1, 1.0, 2.0, 5.0, 10.0, 3.0])
    each = logit.fit_batch(data, START, penalty=mle.l2(None, "beta"), hyper=strengths)
    assert each.converged.all()
    for i in (0, 3, 5):
        one = logit.fit({k: v[i] for k, v in data.items()}, START, penalty=mle.l2(strengths[i], "beta"))
        same(each, i, one)
        assert each.glance()["aic"][i] == pytest.approx(one.aic, rel=1e-10)
        assert each[i].llf_penalized == pytest.approx(one.llf_penalized, rel=1e-10)
        for kind in ("bayes", "HC0"):
            np.testing.assert_allclose(each.with_cov(kind).bse.loc[i], one.with_cov(kind).bse, rtol=1e-8)
    common = logit.fit_batch(data, START, penalty=mle.l2(2.0, "beta"))
    np.testing.assert_allclose(common.params.loc[2], each.params.loc[2], rtol=1e-9)
    with pytest.raises(ValueError, match="expected finite numbers for every data set, got nan"):
        logit.fit_batch(data, START, penalty=mle.l2(None, "beta"), hyper=np.where(strengths > 9, np.nan, strengths))
    with pytest.raises(ValueError, match="not possible with a hyper= for each"):
        logit.fit_batch(data, "pooled", penalty=mle.l2(None, "beta"), hyper=strengths)
    with pytest.raises(ValueError, match="'bayes' is the inverse"):
        logit.fit_batch(data, START, cov_type="bayes")


def test_a_penalty_with_a_kink_gives_no_errors_where_it_bites() -> None:
    data = logits(2)
    lasso = lambda params: 12.0 * jnp.sum(jnp.abs(params["beta"][1:]))
    many = quietly(logit.fit_batch, data, START, penalty=lasso)
    for i in range(2):
        one = quietly(logit.fit, {k: v[i] for k, v in data.items()}, START, penalty=lasso)
        assert many.verdict[i] == one.verdict.code
        np.testing.assert_allclose(many.bse.loc[i], one.bse, rtol=1e-6)


def test_estimates_on_closed_edges() -> None:
    @mle.model(shift=mle.NonNegative(), sigma=mle.Positive())
    def shifted(params: Any, data: Any) -> Any:
        return norm.logpdf(data["y"], params["shift"], params["sigma"])

    rng = np.random.default_rng(7)
    y = rng.normal(np.linspace(-0.6, 0.9, 12)[:, None], 1.0, (12, 40))
    y[5] -= y[5].mean()  # the unbounded maximum is the edge itself
    many = quietly(shifted.fit_batch, {"y": y}, {"shift": 0.5, "sigma": 1.0})
    assert set(many.verdict) == {"verified", "boundary"}
    for i in range(12):
        one = quietly(shifted.fit, {"y": y[i]}, {"shift": 0.5, "sigma": 1.0})
        same(many, i, one) if one.verdict.code == "verified" else None
        assert many.verdict[i] == one.verdict.code
        np.testing.assert_allclose(many.params.loc[i], one.params, rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(many.bse.loc[i], one.bse, rtol=1e-6)
        np.testing.assert_allclose(many.with_cov("HC0").bse.loc[i], one.with_cov("HC0").bse, rtol=1e-6)


def test_several_starts_for_each_data_set() -> None:
    @mle.model(a=mle.Real(), b=mle.Real())
    def mixture(params: Any, data: Any) -> Any:
        both = norm.logpdf(data["y"], params["a"], 1.0), norm.logpdf(data["y"], params["b"], 1.0)
        return jnp.logaddexp(*both) - jnp.log(2.0)

    rng = np.random.default_rng(8)
    y = np.where(rng.random((3, 60)) < 0.5, -3.0, 3.0) + rng.normal(size=(3, 60))
    poor = {"a": 2.0, "b": 2.1}
    many = quietly(mixture.fit_batch, {"y": y}, poor, n_starts=6)
    for i in range(3):
        one = quietly(mixture.fit, {"y": y[i]}, poor, n_starts=6)
        same(many, i, one)
        assert many[i].modes["kind"].tolist() == one.modes["kind"].tolist()
        words = [re.sub(r"g'H\^-1 g = \S+,", "", str(res.verdict)) for res in (many[i], one)]  # the number is rounding
        assert words[0] == words[1]


def test_a_second_batch_compiles_nothing() -> None:
    """Neither other numbers nor another number of data sets."""
    from tests.test_compilations import compilations

    logit.fit_batch(logits(50, seed=9), START)
    with compilations() as count:
        logit.fit_batch(logits(50, seed=10), START)
        logit.fit_batch(logits(23, seed=11), {"beta": np.full(3, 0.1)})
    assert count[0] == 0


def test_vmap_over_solve_gives_the_same() -> None:
    data = logits(7, seed=12)
    batch = logit.fit_batch(data, START)
    one = logit.prepare({"X": data["X"][0], "y": data["y"][0]})

    def fit(X: Any, y: Any) -> Any:
        from dataclasses import replace

        size = len(one.data.rows[0])  # rows are padded to a size of their class, and those of padding have no weight
        X, y = (jnp.concatenate([a, jnp.repeat(a[:1], size - len(a), axis=0)]) for a in (X, y))
        rows = (X, y) if one.data.rows[0].ndim == 2 else (y, X)
        best = mle.solve(logit, replace(one, data=replace(one.data, rows=rows)), START)
        return best.params["beta"], best.llf, best.converged

    with jax.enable_x64(True):
        beta, llf, converged = (np.asarray(a) for a in jax.jit(jax.vmap(fit))(data["X"], data["y"]))
    assert converged.all()
    np.testing.assert_allclose(beta, batch.params, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(llf, batch.llf, rtol=1e-12)


def test_a_list_of_tables_is_refused_with_what_to_do() -> None:
    @mle.model(rate=mle.Positive())
    def model(params: Any, data: Any) -> Any:
        return jnp.log(params["rate"]) - params["rate"] * data["t"]

    table = pd.DataFrame({"t": [1.0, 2.0]})
    for several in ([table, table], {"first": table, "second": table}):
        with pytest.raises(mle.DataTypeError, match=r"of 2 tables\.  Concatenate them .* fit_groups"):
            model.fit_batch(several)


@mle.model(rate=mle.Positive(), sigma=mle.Positive())
def line(params: Any, data: Any) -> Any:
    return norm.logpdf(data["v"], params["rate"] * data["c"], params["sigma"])


def test_a_grid_common_to_all_data_sets_is_repeated() -> None:
    """The message says what to write, and that works; mle.Shared is for what is not by row."""
    c, v = np.linspace(1.0, 2.0, 10), np.random.default_rng(0).normal(3.0, 1.0, (20, 10))
    with pytest.raises(mle.DataError, match=r"np\.broadcast_to\(values, \(20, 10\)\)"):
        line.fit_batch({"c": c, "v": v})
    fits = line.fit_batch({"c": np.broadcast_to(c, (20, 10)), "v": v})
    np.testing.assert_allclose(fits.params["rate"], v @ c / (c @ c), rtol=1e-6)  # least squares
    with pytest.raises(mle.DataError, match=r"not by row .* mle\.Shared"):
        line.fit_batch({"c": np.float64(1.0), "v": v})
