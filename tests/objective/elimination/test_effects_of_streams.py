"""Effects by index of a stream are those of the same rows in memory, whatever the order of the rows and of the labels."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from jax.scipy.stats import poisson

import mlejax as mle
from mlejax.data import DataError
from mlejax.execution import Limits, use_limits
from tests.objective.elimination.test_effects import FIRMS, FRAME, PAIRS, POISSON, REFERENCES, two_ways, with_constant

SMALL = Limits(chunk_rows=64, block_rows=32)
LOGIT = PAIRS["logit"][0]


@pytest.fixture(autouse=True)
def _small_scale() -> Iterator[None]:
    with use_limits(SMALL):
        yield


def batches(frame: pd.DataFrame) -> mle.Stream:
    """Batches of no row, of one, and of most."""
    n = len(frame)
    ends = (0, 0, n // 3, n // 3 + 1, n - n // 5, n)
    return mle.Stream(lambda: [frame.iloc[a:b] for a, b in itertools.pairwise(ends)])


def files(folder: Path, frame: pd.DataFrame) -> mle.Parquet:
    pa.parquet.write_table(pa.Table.from_pandas(frame, preserve_index=False), folder / "rows.parquet", row_group_size=90)
    return mle.Parquet(folder / "rows.parquet")


def same(streamed: Any, memory: Any, rtol: float = 1e-12) -> None:
    assert streamed.verdict.code == memory.verdict.code
    assert streamed.verdict.statement == memory.verdict.statement
    assert list(streamed.params.index) == list(memory.params.index)
    np.testing.assert_allclose(streamed.params, memory.params, rtol=rtol, atol=1e-14)
    np.testing.assert_allclose(streamed.bse, memory.bse, rtol=rtol)
    np.testing.assert_allclose(streamed.llf, memory.llf, rtol=rtol)
    assert (streamed.nobs, streamed.n_dropped, streamed.df_model) == (memory.nobs, memory.n_dropped, memory.df_model)
    mine, theirs = streamed.effects(), memory.effects()
    assert mine.index.equals(theirs.index)
    assert mine.index.dtype == theirs.index.dtype
    np.testing.assert_allclose(mine["estimate"], theirs["estimate"], rtol=rtol, atol=1e-12)
    if memory.cov_type == "nonrobust":
        np.testing.assert_allclose(mine["std_error"], theirs["std_error"], rtol=rtol)
    else:  # sandwiches of effects need the rows in memory
        assert mine["std_error"].isna().all()
    assert (mine["rows"] == theirs["rows"]).all()
    assert (mine["note"] == theirs["note"]).all()


COVARIANCES: list[tuple[str, Any]] = [
    ("HC0", None),
    ("HC1", None),
    ("cluster", {"groups": "year"}),
    ("cluster", {"groups": "firm", "correction": "ssc"}),
    ("cluster", {"groups": "year", "correction": "ssc"}),
    ("cluster", {"groups": ("firm", "year"), "correction": "ssc"}),
]


def covariances_too(streamed: Any, memory: Any) -> None:
    for kind, options in COVARIANCES:
        a, b = streamed.with_cov(kind, options), memory.with_cov(kind, options)
        np.testing.assert_allclose(a.cov_params(), b.cov_params(), rtol=1e-11, atol=1e-16)
        assert a.cov_type == b.cov_type


@pytest.mark.parametrize("name", ["poisson", "logit", "normal"])
def test_a_stream_gives_what_memory_gives(name: str) -> None:
    model = PAIRS[name][0]
    streamed, memory = model.fit(batches(FRAME)), model.fit(FRAME)
    same(streamed, memory)
    covariances_too(streamed, memory)
    few = ["beta[x1]", "alpha[f03]", "alpha[f00]"]
    np.testing.assert_allclose(streamed.cov_params(few), memory.cov_params(few), rtol=1e-12)


def test_from_a_start_and_from_a_sample_without_most_levels(tmp_path: Path) -> None:
    """A start is where the search begins; rows sorted by level have few levels in the sample."""
    memory = POISSON.fit(FRAME)
    same(POISSON.fit(files(tmp_path, FRAME), start={"beta": [1.0, -1.0]}), memory)
    in_order = FRAME.sort_values("firm")
    same(POISSON.fit(files(tmp_path, in_order)), POISSON.fit(in_order))


@pytest.mark.parametrize("name", ["poisson", "logit"])
def test_pyfixest_has_the_same_errors(tmp_path: Path, name: str) -> None:
    """references/effects.py: pyfixest 0.60, its small-sample corrections, to the tolerance of its own iterations."""
    wanted = json.loads((REFERENCES / "effects.json").read_text())[name]
    res = PAIRS[name][0].fit(files(tmp_path, FRAME))
    np.testing.assert_allclose(res.params, wanted["params"], rtol=1e-7)
    np.testing.assert_allclose(res.with_cov("HC1").bse, wanted["hetero"], rtol=1e-6)
    for kind, groups in (("firm", "firm"), ("year", "year"), ("two", ("firm", "year"))):
        of = res.with_cov("cluster", {"groups": groups, "correction": "ssc"})
        np.testing.assert_allclose(of.bse, wanted[kind], rtol=1e-6)


@pytest.mark.parametrize("kind", ["frequency", "sampling", "importance"])
def test_weights(kind: str) -> None:
    """With a level whose weights are all 0, and one that has no finite effect."""
    w = np.arange(len(FRAME)) % 4
    w[FRAME["firm"] == FIRMS[2]] = 0
    y = np.where((FRAME["firm"] == FIRMS[4]) & (w > 0), 0, FRAME["y"])
    w[FRAME["firm"] == FIRMS[4]] = 2
    frame = FRAME.assign(w=w, y=np.where(FRAME["firm"] == FIRMS[4], 0, y))
    options: Any = {"weights": "w", "weight_kind": kind}
    streamed, memory = POISSON.fit(batches(frame), **options), POISSON.fit(frame, **options)
    same(streamed, memory)
    if kind != "sampling":
        covariances_too(streamed, memory)


def test_levels_without_a_finite_effect() -> None:
    empty = FRAME["firm"].isin(FIRMS[[1, 5]])
    frame = FRAME.assign(y=np.where(empty, 0, FRAME["y"]), z=np.where(empty, 1, FRAME["z"]))
    for model in (POISSON, LOGIT):
        streamed, memory = model.fit(batches(frame)), model.fit(frame)
        same(streamed, memory)
        assert f"2 levels of firm ({empty.sum()} rows) without a finite effect were left out" in streamed.verdict.statement
        covariances_too(streamed, memory)
    quiet = POISSON.fit(batches(frame), separated="drop")
    same(quiet, POISSON.fit(frame, separated="drop"))
    assert "left out" in str(quiet.summary())
    with pytest.raises(DataError, match="2 of 25 levels of firm"):
        POISSON.fit(batches(frame), separated="raise")
    with pytest.raises(DataError, match="No level is left"):
        POISSON.fit(batches(FRAME.assign(y=0)))


def test_sorted_rows_of_a_level_without_a_finite_effect_move_no_cluster() -> None:
    """A whole chunk of rows that are left out, before the clusters of other rows."""
    frame = pd.concat([FRAME, FRAME.assign(firm="f99", y=0)]).sort_values(["firm"], ascending=False, kind="stable")
    same(POISSON.fit(batches(frame)), POISSON.fit(frame))
    covariances_too(POISSON.fit(batches(frame)), POISSON.fit(frame))


def test_a_redundant_level() -> None:
    streamed, memory = with_constant.fit(batches(FRAME)), with_constant.fit(FRAME)
    same(streamed, memory)
    covariances_too(streamed, memory)
    assert "the effect of firm f00 is fixed at 0" in str(streamed.summary()).replace("\n", " ")


@pytest.mark.filterwarnings("ignore::mlejax.ConvergenceWarning")
def test_a_covariate_that_is_constant_within_levels() -> None:
    frame = FRAME.assign(x2=FRAME.groupby("firm")["x2"].transform("mean"))
    streamed, memory = POISSON.fit(batches(frame)), POISSON.fit(frame)
    assert streamed.verdict.code == memory.verdict.code == "not_identified"
    assert streamed.verdict.statement == memory.verdict.statement
    np.testing.assert_allclose(streamed.bse, memory.bse, rtol=1e-10)


@pytest.mark.filterwarnings("ignore::mlejax.ConvergenceWarning")
def test_separated_rows() -> None:
    """Where d = 1 everybody has an event: the direction and the rows are found as in memory, and named by batch and row."""
    d = np.arange(400) % 13 == 5
    frame = FRAME.assign(x2=d * 1.0, z=np.where(d, 1, FRAME["z"]))
    streamed, memory = LOGIT.fit(batches(frame)), LOGIT.fit(frame)
    assert "separated and were left out" in memory.verdict.statement
    unnamed = re.compile(r"rows \(.*?\) are separated")
    assert unnamed.sub("", streamed.verdict.statement) == unnamed.sub("", memory.verdict.statement)
    assert re.search(r"\(batch 1, row 5; batch 1, row 18; ", streamed.verdict.statement)
    # the other coefficient is not identified, so that the searches end at different points within the tolerance
    np.testing.assert_allclose(streamed.params["beta[x1]"], memory.params["beta[x1]"], rtol=1e-9)
    assert (streamed.nobs, streamed.n_dropped) == (memory.nobs, memory.n_dropped)
    with pytest.raises(DataError, match=r"batch 1, row 5; .* are separated"):
        LOGIT.fit(batches(frame), separated="raise")
    quiet = LOGIT.fit(batches(frame), separated="drop")
    assert "left out" not in quiet.verdict.statement


@pytest.mark.parametrize("labels", ["integers", "categories", "dates", "halves"])
def test_labels_of_every_kind(tmp_path: Path, labels: str) -> None:
    number = FRAME["firm"].str[1:].astype(int)
    made = {
        "integers": number.astype(np.int32) * 7 - 11,
        "categories": FRAME["firm"].astype("category"),
        "dates": pd.Timestamp("2020-01-01") + pd.to_timedelta(number, "D"),
        "halves": number / 2,
    }[labels]
    frame = FRAME.assign(firm=made)
    same(POISSON.fit(files(tmp_path, frame)), POISSON.fit(frame))


def test_missing_labels_are_named() -> None:
    frame = FRAME.assign(firm=FRAME["firm"].where(np.arange(400) != 300))
    with pytest.raises(DataError, match=r"batch 3: column 'firm': 1 missing values .*, at row 166 "):
        POISSON.fit(batches(frame))


@pytest.mark.filterwarnings("ignore::mlejax.ConvergenceWarning")
def test_a_log_likelihood_that_is_not_finite_is_named_by_batch_and_row() -> None:
    @mle.model(b=mle.Real(), alpha=mle.Real(by="firm"))
    def undefined(params: Any, data: Any) -> Any:
        return -0.5 * (data["y"] - params["b"] * data["x1"] - params["alpha"]) ** 2 + 0.0 * jnp.log(data["x2"] + 9.0)

    res = undefined.fit(batches(FRAME.assign(x2=np.where(np.arange(400) == 150, -10.0, 0.0))))
    assert res.verdict.code == "not_computable"
    assert "1 of 400 rows (batch 3, row 16; first: nan)" in str(res.verdict)


def test_labels_that_come_later_stop_the_fit() -> None:
    turns = itertools.count()

    def changing() -> Any:
        late = next(turns) > 3
        return [FRAME.assign(firm=np.where((np.arange(400) == 7) & late, "other", FRAME["firm"]))]

    with pytest.raises(DataError, match=r"batch 0: column 'firm' has a label that it did not have .*: 'other'"):
        POISSON.fit(mle.Stream(changing))


def test_formulas_beside_effects() -> None:
    @mle.model(mu=mle.Real(), alpha=mle.Real(by="firm"))
    def counts(params: Any, data: Any) -> Any:
        return poisson.logpmf(data["y"], jnp.exp(params["mu"] + params["alpha"]))

    model = counts.regress(mu="x1 + C(year) + x2:x1")
    same(model.fit(batches(FRAME)), model.fit(FRAME))


def test_factors_of_many_levels_in_formulas() -> None:
    """They take codes in place of dummy columns, as in memory."""

    @mle.model(mu=mle.Real())
    def counts(params: Any, data: Any) -> Any:
        return poisson.logpmf(data["y"], jnp.exp(params["mu"]))

    model = counts.regress(mu="x1 + C(firm) + x2")
    streamed, memory = model.fit(batches(FRAME), cov_type="HC1"), model.fit(FRAME, cov_type="HC1")
    np.testing.assert_allclose(streamed.params, memory.params, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(streamed.bse, memory.bse, rtol=1e-10)
    assert list(streamed.params.index) == list(memory.params.index)
    assert streamed.verdict.code == memory.verdict.code == "verified"
    new = FRAME.head(5)
    np.testing.assert_allclose(streamed.predict(new), memory.predict(new), rtol=1e-9)


def test_constraints_penalties_and_fixed_values() -> None:
    for options in (
        {"constraints": "beta[x1] = beta[x2]"},
        {"fixed": {"beta[x2]": 0.1}},
        {"penalty": mle.l2(30.0, "beta")},
    ):
        streamed, memory = POISSON.fit(batches(FRAME), **options), POISSON.fit(FRAME, **options)
        same(streamed, memory, 1e-11)


def test_afterwards(tmp_path: Path) -> None:
    """Predictions for new rows, tests, files and pickles."""
    import pickle

    streamed, memory = POISSON.fit(files(tmp_path, FRAME)), POISSON.fit(FRAME)
    mean = lambda p, d: jnp.exp(p["beta"][0] * d["x1"] + p["alpha"])
    new = FRAME.iloc[[3, 50, 200]]
    np.testing.assert_allclose(streamed.predict(mean, new), memory.predict(mean, new), rtol=1e-10)
    smaller = [POISSON.fit(data, fixed={"beta[x2]": 0.0}) for data in (batches(FRAME), FRAME)]
    assert streamed.lr_test(smaller[0]).statistic == pytest.approx(memory.lr_test(smaller[1]).statistic, rel=1e-9)
    streamed.save(tmp_path / "fit.json")
    pd.testing.assert_frame_equal(mle.load(tmp_path / "fit.json").effects(), streamed.effects())
    again = pickle.loads(pickle.dumps(streamed))
    np.testing.assert_allclose(again.with_cov("HC1").bse, memory.with_cov("HC1").bse, rtol=1e-11)


def test_what_is_refused_is_named() -> None:
    with pytest.raises(ValueError, match="a stream supports effects of one column, and two_ways has effects of"):
        two_ways.fit(batches(FRAME))
    res = POISSON.fit(batches(FRAME))
    for kind in ("CR2", "CR3"):
        with pytest.raises(ValueError, match=f"cov_type='{kind}' needs the rows in memory"):
            res.with_cov(kind, {"groups": "year"})
    for ask in (lambda: res.score_obs, res.simulate, lambda: res.split_panel("year"), lambda: res.cross_validate(3)):
        with pytest.raises(ValueError, match="stream"):
            ask()
