"""Groups of one long table: any sizes in few compiled programs, labels, missing values, units, whole models."""

from __future__ import annotations

import pickle
import re
import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm

import mlejax as mle
from mlejax.batch import grouped
from mlejax.data import DataError
from tests.batch.test_fit_batch import gaussian, same
from tests.test_compilations import compilations

BEGIN = {"mu": 0.0, "sigma": 1.0}


def table(sizes: list[int], seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    store = np.repeat([f"store {i}" for i in range(len(sizes))], sizes)
    frame = pd.DataFrame({"store": store, "y": rng.normal(2.0, 3.0, sum(sizes)), "x": rng.normal(size=sum(sizes))})
    return frame.sample(frac=1.0, random_state=1).reset_index(drop=True)


def test_groups_equal_single_fits_and_are_labelled() -> None:
    frame = table([5, 30, 200, 31, 700, 12])
    res = gaussian.fit_groups(frame, by="store", start=BEGIN)
    assert set(res) == set(frame["store"])
    assert res.params.index.name == "store"
    by = frame.groupby("store")["y"]
    np.testing.assert_allclose(res.params["mu"], by.mean()[res.params.index], rtol=1e-9)
    np.testing.assert_allclose(res.params["sigma"], by.std(ddof=0)[res.params.index], rtol=1e-9)
    assert res.nobs["store 4"] == 700
    one = gaussian.fit(frame[frame["store"] == "store 3"], BEGIN)
    same(res, "store 3", one)
    printed = [re.sub(r"[0-9.]+e-2[0-9]\)", "rounding)", str(r.summary())) for r in (res["store 3"], one)]  # of the decrement
    assert printed[0] == printed[1]
    assert list(res.tidy().columns[:2]) == ["store", "term"]
    with pytest.raises(KeyError, match="store 3"):
        res["store3"]


def test_any_sizes_in_few_compiled_programs() -> None:
    """40 different sizes from 9 to 500 rows are two programs (of sizes 32, 128 and 512), not one each."""

    @mle.model(rate=mle.Positive())
    def exponential(params: Any, data: Any) -> Any:
        return jnp.log(params["rate"]) - params["rate"] * data["y"]

    rng = np.random.default_rng(0)
    sizes = rng.choice(np.arange(9, 501), 40, replace=False)
    frame = pd.DataFrame({"g": np.repeat(np.arange(40), sizes), "y": rng.exponential(2.0, sizes.sum())})
    with compilations() as first:
        res = exponential.fit_groups(frame, by="g", start={"rate": 1.0})
    np.testing.assert_allclose(res.params["rate"], 1 / frame.groupby("g")["y"].mean(), rtol=1e-9)
    assert first[0] <= 3 + 4, "three sizes, and four small programs: start, check of rows, description (twice at most)"
    with compilations() as second:
        more = exponential.fit_groups(frame[frame["g"] % 3 != 0], by="g", start={"rate": 0.5})
    assert second[0] == 0
    assert len(more) == 26


def test_several_columns_labels_and_arrays() -> None:
    frame = table([40, 40, 40])
    frame["half"] = np.where(np.arange(120) % 2, "odd", "even")
    res = gaussian.fit_groups(frame, by=["store", "half"], start=BEGIN)
    assert len(res) == 6
    assert res.params.index.names == ["store", "half"]
    mine = frame[(frame["store"] == "store 1") & (frame["half"] == "odd")]["y"]
    assert res.params.loc[("store 1", "odd"), "mu"] == pytest.approx(mine.mean(), rel=1e-9)
    assert res[("store 1", "odd")].nobs == len(mine)
    assert list(res.glance().columns[:3]) == ["store", "half", "nobs"]
    by_array = gaussian.fit_groups({"y": frame["y"].to_numpy()}, by=frame["store"].to_numpy(), start=BEGIN)
    assert by_array.params.loc["store 2", "mu"] == pytest.approx(
        frame[frame["store"] == "store 2"]["y"].mean(), rel=1e-9
    )


def test_missing_values_by_group() -> None:
    frame = table([30, 30, 30])
    frame.loc[frame.index[frame["store"] == "store 1"][:4], "y"] = np.nan
    with pytest.warns(mle.ConvergenceWarning, match=r"1 of 3 data sets .* \(1 not_computable\)"):
        res = gaussian.fit_groups(frame, by="store", start=BEGIN)
    assert res.failed.index.tolist() == ["store 1"]
    first = int(frame.index[frame["store"] == "store 1"][0])
    assert (
        f"column 'y': 4 missing values (NaN or NA), at rows 0, 1, 2, 3 (index labels {first}, "
        in res.failed.loc["store 1", "reason"]
    )
    assert res.failed.loc["store 1", "reason"].endswith("missing='drop' leaves such rows out")
    dropped = gaussian.fit_groups(frame, by="store", start=BEGIN, missing="drop")
    assert dropped.nobs["store 1"] == 26
    assert dropped.converged.all()
    assert dropped["store 1"].n_dropped == 4
    frame.loc[3, "store"] = None
    with pytest.raises(DataError, match="labels are missing"):
        gaussian.fit_groups(frame, by="store", start=BEGIN)


def test_a_group_too_small_for_its_parameters_says_so() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mle.ConvergenceWarning)
        res = gaussian.fit_groups(table([1, 50]), by="store", start=BEGIN)
    assert res.verdict["store 0"] == "no_finite_maximum"
    assert "sigma -> 0" in res.failed.loc["store 0", "reason"]
    assert res.verdict["store 1"] == "verified"


def test_units_within_groups() -> None:
    @mle.model(mu=mle.Real(), between=mle.Positive(), unit="subject")
    def random_intercept(params: Any, data: Any) -> Any:
        n = jnp.sum(data["mask"])
        e = jnp.where(data["mask"], data["y"] - params["mu"], 0.0)
        v = params["between"] ** 2
        quadratic = jnp.sum(e**2) - v / (1 + n * v) * jnp.sum(e) ** 2
        return -0.5 * (n * jnp.log(2 * jnp.pi) + jnp.log1p(n * v) + quadratic)

    rng = np.random.default_rng(1)
    parts = []
    for g in range(3):
        for s in range(12 + g):
            y = rng.normal() + rng.normal(size=rng.integers(2, 6))
            parts.append(pd.DataFrame({"g": g, "subject": s, "y": y}))  # the same labels in every group
    frame = pd.concat(parts, ignore_index=True)
    begin = {"mu": 0.1, "between": 1.0}
    res = random_intercept.fit_groups(frame, by="g", start=begin)
    assert res.converged.all()
    one = random_intercept.fit(frame[frame["g"] == 1], begin)
    same(res, 1, one)
    assert res[1].n_units == 13
    np.testing.assert_allclose(res.with_cov("HC0").bse.loc[1], one.with_cov("HC0").bse, rtol=1e-8)


def test_whole_models_keep_their_exact_lengths() -> None:
    @mle.model(phi=mle.Real(), sigma=mle.Positive(), rowwise=False)
    def ar1(params: Any, data: Any) -> Any:
        return norm.logpdf(data["y"][1:], params["phi"] * data["y"][:-1], params["sigma"])

    rng = np.random.default_rng(2)
    sizes = [20, 20, 23]
    frame = pd.DataFrame({"g": np.repeat(np.arange(3), sizes), "y": rng.normal(size=63)})
    begin = {"phi": 0.0, "sigma": 1.0}
    res = ar1.fit_groups(frame, by="g", start=begin)
    for g in range(3):
        y = frame[frame["g"] == g]["y"].to_numpy()
        assert res.params.loc[g, "phi"] == pytest.approx(y[1:] @ y[:-1] / (y[:-1] @ y[:-1]), rel=1e-8)
    assert res.nobs.tolist() == [19, 19, 22]
    same(res, 2, ar1.fit(frame[frame["g"] == 2], begin))
    with pytest.raises(ValueError, match="missing='drop' is not supported"):
        ar1.fit_groups(frame, by="g", missing="drop")
    with pytest.raises(ValueError, match="can be pooled"):
        ar1.fit_groups(frame, by="g", start="pooled")


def test_blocks_of_rows_are_summed_only_where_there_are_rows() -> None:
    """Long and short groups in one program: the sums must not see what stands behind a group's last row."""
    frame = table([130, 500, 131, 300])
    sets = grouped(gaussian.likelihood, frame, "store", None, "raise")
    assert set(sets.sizes) == {512}
    assert sets.fetch(np.array([0]), 1).n_blocks == 16
    res = gaussian.fit_groups(frame, by="store", start=BEGIN)
    by = frame.groupby("store")["y"]
    np.testing.assert_allclose(res.params["mu"], by.mean()[res.params.index], rtol=1e-9)


def test_a_level_that_a_group_lacks_is_nan_there_with_the_reason() -> None:
    frame = table([60, 80, 70])
    rng = np.random.default_rng(3)
    frame["region"] = rng.choice(["east", "north", "west"], len(frame))
    frame.loc[(frame["store"] == "store 1") & (frame["region"] == "north"), "region"] = "west"
    reg = gaussian.regress(mu="C(region) + scale(x)")
    with pytest.warns(mle.ConvergenceWarning, match="1 not_identified"):
        res = reg.fit_groups(frame, by="store")
    name = "mu[C(region)[T.north]]"
    assert res.params[name].isna().tolist() == [label == "store 1" for label in res]
    assert "does not depend on it" in res.failed.loc["store 1", "reason"]
    tidy = res.tidy().set_index(["store", "term"])
    assert "does not depend on it" in tidy.loc[("store 1", name), "note"]
    assert np.isnan(tidy.loc[("store 1", name), "std_error"])
    # the others are those of least squares without that level, x scaled over all stores
    mine = frame[frame["store"] == "store 1"]
    x = (mine["x"] - frame["x"].mean()) / frame["x"].std()
    design = np.column_stack([np.ones(len(mine)), mine["region"] == "west", x]).astype(float)
    expected = np.linalg.lstsq(design, mine["y"], rcond=None)[0]
    names = ["mu[Intercept]", "mu[C(region)[T.west]]", "mu[scale(x)]"]
    np.testing.assert_allclose(res.params.loc["store 1", names], expected, rtol=1e-6)
    assert np.isfinite(res.bse.loc["store 1", names]).all()


def test_a_group_too_small_for_a_covariance_keeps_its_estimates() -> None:
    frame = table([2, 40, 30])
    frame["part"] = np.where(frame["store"] == "store 0", 0, np.arange(len(frame)) % 5)
    small = frame[frame["store"] == "store 0"]
    for kind, kwds, said, short in (
        (
            "HC1",
            None,
            "needs more rows or units than free parameters, got n=2 and k=2",
            "no more rows or units than free parameters",
        ),
        ("cluster", {"groups": "part"}, "needs at least two clusters, got 1", "fewer than two clusters"),
    ):
        many = gaussian.fit_groups(frame, by="store", start=BEGIN, cov_type=kind, cov_kwds=kwds)
        with pytest.raises(ValueError, match=said):  # alone, what was asked for cannot be given
            gaussian.fit(small, BEGIN, cov_type=kind, cov_kwds=kwds)
        one = many["store 0"]
        np.testing.assert_allclose(one.params, many.params.loc["store 0"], rtol=1e-14)
        assert one.bse.isna().all()
        assert said in " ".join(str(one.summary()).split())
        notes = many.tidy().set_index("store").loc["store 0", "note"]
        assert list(one.tidy()["note"]) == list(notes)
        assert short in notes.iloc[0]
        assert np.isfinite(many["store 1"].bse).all()
        np.testing.assert_allclose(many["store 1"].bse, many.bse.loc["store 1"], rtol=1e-9)


@pytest.mark.parametrize("what", ["groups", "stack", "formula", "weights"])
def test_results_of_many_fits_pickle(what: str) -> None:
    frame = table([12, 30, 25]).assign(w=lambda d: 1.0 + np.arange(len(d)) % 3)
    frame.loc[frame["store"] == "store 1", "y"] = 3.5  # no maximum
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mle.ConvergenceWarning)
        if what == "stack":
            res = gaussian.fit_batch({"y": frame["y"].to_numpy()[:60].reshape(3, 20)}, BEGIN)
        elif what == "formula":
            res = gaussian.regress(mu="x").fit_groups(frame, by="store")
        else:
            kwds = {"weights": "w", "weight_kind": "frequency"} if what == "weights" else {}
            res = gaussian.fit_groups(frame, by="store", start=BEGIN, **kwds)
    back = pickle.loads(pickle.dumps(res))
    for name in ("params", "bse"):
        pd.testing.assert_frame_equal(getattr(back, name), getattr(res, name))
    pd.testing.assert_frame_equal(back.tidy(), res.tidy())
    pd.testing.assert_frame_equal(back.failed, res.failed)
    for label in res:
        assert str(back[label].summary()) == str(res[label].summary())
    pd.testing.assert_frame_equal(back.with_cov("HC0").bse, res.with_cov("HC0").bse)


@pytest.mark.slow
def test_intervals_of_many_small_data_sets_cover() -> None:
    """4,000 groups of 12 to 60 rows: the share of intervals with the truth, and the spread in standard errors."""
    rng = np.random.default_rng(11)
    sizes = rng.integers(12, 61, 4000)
    g = np.repeat(np.arange(4000), sizes)
    frame = pd.DataFrame({"g": g, "y": rng.normal(2.0, 3.0, len(g))})
    res = gaussian.fit_groups(frame, by="g", start=BEGIN)
    assert res.converged.all()
    tidy = res.tidy().set_index(["term", "g"])
    mu = tidy.loc["mu"]
    covered = ((mu["conf_low"] <= 2.0) & (mu["conf_high"] >= 2.0)).mean()
    # exactly: the t distribution with the biased standard deviation, averaged over the sizes
    from scipy import stats

    expected = np.mean([2 * stats.t.cdf(1.959964 * np.sqrt((n - 1) / n), n - 1) - 1 for n in sizes])
    assert abs(covered - expected) < 3.5 * np.sqrt(expected * (1 - expected) / 4000)
    y_bar, spread = frame.groupby("g")["y"].mean(), frame.groupby("g")["y"].std(ddof=0)
    np.testing.assert_allclose(res.params["mu"], y_bar, rtol=1e-8)
    np.testing.assert_allclose(res.params["sigma"], spread, rtol=1e-8)
    np.testing.assert_allclose(res.bse["sigma"], spread / np.sqrt(2 * sizes), rtol=1e-7)


def test_a_group_whose_scores_span_too_little_is_told_so_and_not_of_an_edge() -> None:
    """Two rows and two parameters, HAC: the scores span one direction; a scale that must be positive has no edge to be on."""
    frame = table([40, 2])
    res = gaussian.fit_groups(frame, by="store", start=BEGIN, cov_type="HAC")
    notes = res.tidy().set_index(["store", "term"])["note"]
    assert (notes.loc["store 0"] == "").all()
    assert "span fewer directions than there are parameters" in " ".join(notes.loc["store 1"])
    assert "edge" not in " ".join(notes.loc["store 1"])
    assert list(res["store 1"].tidy()["note"]) == list(notes.loc["store 1"])


def test_what_no_data_set_can_have_is_refused_at_once() -> None:
    @mle.model(mu=mle.Real(), unit="u")
    def units(params: Any, data: Any) -> Any:
        return -0.5 * jnp.sum(jnp.where(data["mask"], (data["y"] - params["mu"]) ** 2, 0.0))

    frame = table([40, 40])
    frame["u"] = np.arange(80) // 4
    with pytest.raises(ValueError, match="which have no order"):
        units.fit_groups(frame, by="store", start={"mu": 0.0}, cov_type="HAC")


def test_labels_that_do_not_exist_are_answered_by_those_that_do() -> None:
    res = gaussian.fit_groups(table([30, 30]), by="store", start=BEGIN)
    with pytest.raises(KeyError, match="did you mean"):
        res["store 7"]
    with pytest.raises(KeyError, match=r"the labels are 'store [01]', 'store [01]'"):
        res["GE"]
