"""Rows that are read in passes give what the same rows in memory give; what changes between passes, or cannot be, is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import mlejax as mle
from mlejax.data import DataError, DataTypeError
from mlejax.execution import limits, use_limits
from tests.data.streams.samples import N, frame, logit, outcome, parts, same, same_covariances, small_scale, write

_small_scale = small_scale(block_rows=256)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> mle.Parquet:
    return write(tmp_path_factory.mktemp("rows"), parts())


START = {
    "a": 0.0,
    "b": [0.0, 0.0],
}  # from one start both take the same steps; from others they end within the tolerance


@pytest.mark.parametrize("weights", [None, "frequency", "importance", "sampling"])
def test_every_covariance_with_weights_and_without(files: mle.Parquet, weights: Any) -> None:
    options: dict[str, Any] = {} if weights is None else {"weights": "w", "weight_kind": weights}
    options["start"] = START
    streamed, memory = logit.fit(files, **options), logit.fit(frame(), **options)
    same(streamed, memory, 1e-12)
    same_covariances(streamed, memory, weights)


FORMULAS = ["x0 + C(g) + x0:x1", "g * x0 + log(c + 1)", "bs(x0, df=4) + scale(x1)"]


@pytest.mark.parametrize("formula", FORMULAS)
def test_formulas_with_levels_and_knots(files: mle.Parquet, formula: str) -> None:
    model = outcome.regress(eta=formula)
    streamed, memory = model.fit(files, cov_type="HC1"), model.fit(frame(), cov_type="HC1")
    same(streamed, memory, 1e-9)
    new = frame().head(5)
    np.testing.assert_allclose(streamed.predict(new), memory.predict(new), rtol=1e-9)


@pytest.mark.parametrize("how", ["pandas", "polars", "arrow", "dicts"])
def test_readers_of_every_kind(how: str) -> None:
    table = frame()
    batches = {
        "pandas": lambda: [table.iloc[a : a + 900] for a in range(0, N, 900)],
        "polars": lambda: (pl.DataFrame(p) for p in parts()),
        "arrow": lambda: pa.Table.from_pandas(table).to_reader(max_chunksize=777),
        "dicts": lambda: [{k: p[k].to_numpy() for k in p} for p in parts()],
    }[how]
    same(logit.fit(mle.Stream(batches), cov_type="HC1"), logit.fit(table, cov_type="HC1"), 1e-9)


def test_filters_and_folders_are_pushed_down(tmp_path: Path) -> None:
    table = frame()
    for year in (2024, 2025):
        folder = tmp_path / f"year={year}"
        folder.mkdir()
        write(folder, [table[table["c2"] == year - 2020]])
    of_2025 = mle.Parquet(tmp_path, filters=[("year", "==", 2025), ("c", "<", 20)])
    assert {partition.name.split("/")[0] for partition in of_2025.partitions()} == {"year=2025"}
    same(logit.fit(of_2025), logit.fit(table[(table["c2"] == 5) & (table["c"] < 20)]), 1e-9)


def test_bitwise_equal_for_any_number_of_threads(files: mle.Parquet) -> None:
    results = []
    for n in (1, 3):
        with use_limits(replace(limits(), cores=n)):
            results.append(logit.fit(files, cov_type="cluster", cov_kwds={"groups": "c"}))
    np.testing.assert_array_equal(*(r.params for r in results))
    np.testing.assert_array_equal(*(r.bse for r in results))


def test_penalties_fixed_values_constraints_and_starts(files: mle.Parquet) -> None:
    for options in (
        {"penalty": mle.l2(5.0, "b")},
        {"penalty": mle.l2(5.0, "b"), "weights": "w", "weight_kind": "sampling", "cov_type": "HC0"},
        {"fixed": {"a": 0.3}},
        {"constraints": "b[x0] + b[x1] = 0"},
        {"start": {"a": 0.1, "b": [0.0, 0.0]}},
        {"method": "bhhh"},
        {"n_starts": 3},
    ):
        same(logit.fit(files, **options), logit.fit(frame(), **options), 1e-7 if "method" in options else 1e-9)


def test_tests_and_intervals(files: mle.Parquet) -> None:
    streamed, memory = logit.fit(files), logit.fit(frame())
    less = [logit.fit(data, fixed={"b[x1]": 0.0}) for data in (files, frame())]
    assert streamed.lr_test(less[0]).statistic == pytest.approx(memory.lr_test(less[1]).statistic, rel=1e-8)
    np.testing.assert_allclose(streamed.conf_int(), memory.conf_int(), rtol=1e-9)
    assert "Observations:" in str(streamed.summary())


def test_likelihood_ratio_of_formulas(files: mle.Parquet) -> None:
    """In memory and in files alike; columns that the larger fit does not have cannot be compared in files, and a note says so."""
    sources = (files, frame())
    large = [outcome.regress(eta="x0 + x1").fit(data) for data in sources]
    small = [outcome.regress(eta="x0").fit(data) for data in sources]
    wanted = large[1].lr_test(small[1]).statistic
    for one, other in ((large[0], small[0]), (large[0], small[1]), (large[1], small[0])):
        test = one.lr_test(other)
        assert test.statistic == pytest.approx(wanted, rel=1e-7)
        assert "was not checked" not in str(test.summary())
    other = large[0].lr_test(outcome.regress(eta="np.exp(x0)").fit(files))
    assert "eta[np.exp(x0)] of one is not in the other, and their rows cannot be compared" in str(other.summary())
    assert mle.compare(large[0], small[0]).weights("aic")["weight"].sum() == pytest.approx(1.0)
    with pytest.raises(ValueError, match="the fits are of different data"):
        large[0].lr_test(outcome.regress(eta="x0").fit(mle.Stream(lambda: [frame().assign(y=lambda d: 1 - d["y"])])))


def test_a_fit_makes_few_passes(files: mle.Parquet) -> None:
    """Its last one sums products of scores too."""
    made = [logit.fit(files, cov_type=kind)._fit.loaded.stream.n_passes for kind in ("nonrobust", "opg", "HC1")]
    assert made[0] == made[1] == made[2] <= 4


def test_ends_without_a_maximum() -> None:
    table = frame()
    double = outcome.regress(eta="x0 + I(2 * x0)")
    with pytest.warns(mle.ConvergenceWarning):
        res = double.fit(mle.Stream(lambda: parts()))
    assert res.verdict.code == "not_identified"
    few = table.assign(s=(np.arange(N) < 4) * 1.0)
    few.loc[:3, "y"] = 1
    with pytest.warns(mle.ConvergenceWarning):
        res = outcome.regress(eta="x0 + s").fit(mle.Stream(lambda: [few.iloc[:2500], few.iloc[2500:]]))
    assert res.verdict.code == "no_finite_maximum"
    assert "rows 0, 1, 2, 3" in str(res.verdict)


# ---- values and files that cannot be used


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("model", [logit, outcome.regress(eta="x0 + x1")], ids=["columns", "formula"])
def test_a_bad_value_is_named_by_file_and_row(tmp_path: Path, value: float, model: Any) -> None:
    frames = parts()
    frames[3] = frames[3].assign(x1=np.where(np.arange(len(frames[3])) == 2345, value, frames[3]["x1"]))
    what = "infinite" if np.isinf(value) else "missing"
    with pytest.raises(
        DataError, match=rf"^part-3.parquet, row group 2: column 'x1': 1 {what} values.* row 345.*filters="
    ):
        model.fit(write(tmp_path, frames))


def test_a_log_likelihood_that_is_not_finite_is_named_by_file_and_row(tmp_path: Path) -> None:
    frames = parts()
    frames[3] = frames[3].assign(x1=np.where(np.arange(len(frames[3])) == 2345, -50.0, frames[3]["x1"]))

    @mle.model(a=mle.Real())
    def undefined(params: Any, data: Any) -> Any:
        return -0.5 * (data["x0"] - params["a"]) ** 2 + 0.0 * jnp.log(data["x1"] + 40.0)

    with pytest.warns(mle.ConvergenceWarning, match=r"1 of 6011 rows \(part-3.parquet, row group 2, row 345; first: nan\)"):
        res = undefined.fit(write(tmp_path, frames))
    assert res.verdict.code == "not_computable"


def test_bad_weights_are_named(tmp_path: Path) -> None:
    frames = parts()
    frames[4] = frames[4].assign(w=np.where(np.arange(len(frames[4])) == 7, -1, frames[4]["w"]))
    with pytest.raises(
        DataError, match=r"^part-4.parquet, row group 0: weights column 'w': 1 of 811 are negative, at row 7"
    ):
        logit.fit(write(tmp_path, frames), weights="w", weight_kind="frequency")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    source = write(tmp_path, parts())
    (tmp_path / "part-9.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataError, match=r"^part-9.parquet: the file cannot be read as Parquet"):
        logit.fit(source)
    other = tmp_path / "other"
    other.mkdir()
    frames = parts()
    frames[3] = frames[3].drop(columns="x1")
    with pytest.raises(DataError, match=r"^part-3.parquet, row group 0: the file has no column 'x1'"):
        logit.fit(write(other, frames))
    frames[3] = frames[3].assign(x1="text")
    with pytest.raises(DataError, match=r"^part-3.parquet, row group 0: the file cannot be read.*'text'"):
        logit.fit(write(other, frames))


def test_sources_that_are_none(tmp_path: Path, files: mle.Parquet) -> None:
    with pytest.raises(DataError, match="no file matches"):
        logit.fit(mle.Parquet(str(tmp_path / "*.parquet")))
    with pytest.raises(DataError, match="no row passes filters"):
        logit.fit(mle.Parquet(files.path, filters=[("c", ">", 1000)]))
    with pytest.raises(mle.MissingColumnError, match="no column 'year'"):
        logit.fit(mle.Parquet(files.path, filters=[("year", "==", 2025)]))


def test_a_reader_that_can_be_read_once_is_refused() -> None:
    reader = iter(parts())
    with pytest.raises(DataTypeError, match="can be read only once"):
        mle.Stream(reader)  # type: ignore[arg-type]
    with pytest.raises(DataTypeError, match="the same reader twice"):
        logit.fit(mle.Stream(lambda: reader))


@pytest.mark.parametrize("change", ["order", "values", "fewer", "more"])
def test_data_that_change_between_passes_stop_the_fit(change: str) -> None:
    table, turn = frame(), iter(range(1000))

    def batches() -> Iterator[Any]:
        i = next(turn)
        late = i > 3
        for at in range(0, N, 1000):
            part = table.iloc[at : at + 1000]
            if at == 3000 and change == "order":
                part = part.sample(frac=1.0, random_state=i)
            if at == 3000 and change == "values" and late:
                part = part.assign(x0=part["x0"] + 1e-3)
            if at == 3000 and change == "fewer" and late:
                part = part.iloc[:-1]
            yield part
        if change == "more" and late:
            yield part

    with pytest.raises(DataError, match=r"[Ww]rite the data to Parquet once") as error:
        logit.fit(mle.Stream(batches))
    if change in ("order", "values"):
        assert str(error.value).startswith(
            "batch 3 is not what it was in the first pass: other values, or rows in another"
        )


@mle.model(m=mle.Real(), rowwise=False)
def whole(params: Any, data: Any) -> Any:
    return -jnp.sum((data["x0"] - params["m"]) ** 2)


@mle.model(m=mle.Real(), s=mle.NonNegative(), u=mle.Latent(by="c"), v=mle.Latent(by="c2"))
def crossed(params: Any, data: Any) -> Any:
    return -((data["x0"] - params["m"] - params["s"] * params["u"] - params["v"]) ** 2)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (whole, {}, "rowwise=False need their data in memory"),
        (crossed, {}, r"nested or crossed latents \(of 'c', 'c2'\) are not supported for a stream"),
        (logit, {"missing": "drop"}, "missing='drop' is not supported"),
        (logit, {"method": "lbfgs"}, "method='lbfgs' is not supported for a stream"),
        (logit, {"weights": np.ones(N), "weight_kind": "frequency"}, "expected the name of a column, got ndarray"),
        (logit, {"bias_reduction": "jeffreys"}, "bias_reduction="),
        (logit, {"cov_type": "HAC"}, "cov_type='HAC' needs the rows in memory"),
        (logit, {"cov_type": "cluster", "cov_kwds": {"groups": np.zeros(N)}}, "expected the name of a column of it"),
    ],
)
def test_what_needs_all_rows_is_refused_by_name(files: mle.Parquet, model: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.fit(files, **options)


@pytest.mark.parametrize(
    "ask",
    [
        lambda r: r.score_obs,
        lambda r: r.margins("x0", of=lambda p, d: d["x0"]),
        lambda r: r.profile("a"),
    ],
    ids=["scores", "margins", "profile"],
)
def test_later_questions_about_rows_are_refused(files: mle.Parquet, ask: Any) -> None:
    res = logit.fit(files)
    with pytest.raises(ValueError, match="needs all rows in memory, and the data are a stream"):
        ask(res)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda r: r.bootstrap(n=10), "approximate='one-step' is needed for a stream"),
        (lambda r: r.jackknife("c"), "approximate='one-step' is needed for a stream"),
        (lambda r: r.jackknife(approximate="one-step"), "each row in turn keeps an estimate for every row.*cov_type='HC3'"),
        (lambda r: r.jackknife(np.zeros(N), approximate="one-step"), "expected the name of a column of it, got labels"),
    ],
    ids=["bootstrap", "jackknife", "rows", "labels"],
)
def test_resamples_that_need_all_rows_are_refused(files: mle.Parquet, ask: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask(logit.fit(files))


def test_errors_by_leverage_are_those_of_steps_without_each_row(files: mle.Parquet) -> None:
    """What the refusal of the jackknife says: the step is I^-1 (1 - h)^-1 s; their mean and the factor (n - 1) / n are left."""
    short = logit.fit(frame()).jackknife(approximate="one-step")
    steps = short.replicates - short.params
    np.testing.assert_allclose(np.sqrt((steps**2).sum()), logit.fit(files, cov_type="HC3").bse, rtol=1e-6)
    np.testing.assert_allclose(short.bse, logit.fit(files, cov_type="HC3").bse, rtol=2.0 / N)


@pytest.mark.parametrize("options", [{}, {"weights": "w", "weight_kind": "sampling"}], ids=["plain", "weighted"])
def test_groups_are_resampled_as_in_memory(files: mle.Parquet, options: Any) -> None:
    streamed, memory = (logit.fit(data, start=START, **options) for data in (files, frame()))
    for ask in (
        lambda r: r.jackknife("c", approximate="one-step"),
        lambda r: r.bootstrap(70, "cluster", groups="c", approximate="one-step"),
        lambda r: r.bootstrap(70, "bayesian", groups="c", approximate="one-step"),
    ):
        mine, theirs = ask(streamed), ask(memory)
        np.testing.assert_allclose(mine.replicates, theirs.replicates, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(mine.bse, theirs.bse, rtol=1e-9)
    interval = streamed.bootstrap(70, "cluster", groups="c", approximate="one-step").conf_int("bca", alpha=0.2)
    assert (interval["lower"] < streamed.params).all()
    assert (interval["upper"] > streamed.params).all()


@pytest.mark.parametrize(
    "options", [{}, {"weights": "w", "weight_kind": "frequency"}], ids=["plain", "frequency weights"]
)
@pytest.mark.parametrize("kind", ["case", "bayesian"])
def test_resampled_rows_have_the_variance_of_the_sandwich(files: mle.Parquet, kind: Any, options: Any) -> None:
    """Independent weights of mean 1 and variance 1 give sum s s' between two inverses of the information (here 2 % of noise)."""
    res = logit.fit(files, **options)
    boot = res.bootstrap(1500, kind, approximate="one-step", seed=3)
    np.testing.assert_allclose(boot.bse, res.with_cov("HC0").bse, rtol=0.08)
    assert (np.abs(boot.bias) < 0.15 * boot.bse).all()


def test_resampled_rows_depend_on_the_seed_alone(files: mle.Parquet) -> None:
    found = []
    for threads, n in ((1, 70), (3, 70), (2, 3)):
        with use_limits(replace(limits(), cores=threads)):
            found.append(logit.fit(files).bootstrap(n, approximate="one-step", seed=1).replicates)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found[0][:3], found[2], rtol=1e-12)
    other = logit.fit(files).bootstrap(3, approximate="one-step", seed=2).replicates
    assert (np.abs(other - found[2]) > 1e-6).all().all()


def test_results_are_saved_and_pickled(files: mle.Parquet, tmp_path: Path) -> None:
    import pickle

    res = logit.fit(files, cov_type="HC0")
    res.save(tmp_path / "fit.json")
    np.testing.assert_array_equal(mle.load(tmp_path / "fit.json").bse, res.bse)
    again = pickle.loads(pickle.dumps(res))
    np.testing.assert_allclose(again.with_cov("HC1").bse, res.with_cov("HC1").bse, rtol=1e-12)


# ---- interrupted


def test_ctrl_c_leaves_an_interrupted_result() -> None:
    passes = iter(range(100))

    def batches() -> Iterator[Any]:
        if next(passes) == 5:
            raise KeyboardInterrupt
        yield from parts()

    with pytest.warns(mle.ConvergenceWarning):
        res = logit.fit(mle.Stream(batches), start={"a": 2.0, "b": [1.0, -1.0]})
    assert res.verdict.code == "stopped_early"
    assert "interrupt" in str(res.verdict).lower()


def test_an_error_in_the_users_function_comes_through() -> None:
    @mle.model(m=mle.Real())
    def broken(params: Any, data: Any) -> Any:
        raise ZeroDivisionError("in the model")

    with pytest.raises(ZeroDivisionError, match="in the model"):
        broken.fit(mle.Stream(parts))
