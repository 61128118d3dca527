"""Data of more than 256 MB are read in chunks where they lie; here the limit is lowered."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest

import mlejax as mle
from mlejax.data import DataError, StreamedColumn
from mlejax.execution import Limits, use_limits


@mle.model(beta=mle.Real(columns="X"))
def logit(params: Any, data: Any) -> Any:
    eta = data["X"] @ params["beta"]
    return data["y"] * eta - jax.nn.softplus(eta)


N = 30_001


def draws(n: int = N, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = np.column_stack([np.ones(n), rng.standard_normal((n, 3))])
    return {"X": X, "y": (rng.random(n) < 1 / (1 + np.exp(-X @ [0.3, -0.5, 0.2, 0.4]))).astype(float)}


SMALL = Limits(streamed_bytes=100_000, sampled_rows=20_000, chunk_rows=4_096)


@pytest.fixture(autouse=True)
def _small_scale() -> Iterator[None]:
    with use_limits(SMALL):
        yield


def columns_of(res: Any) -> tuple[Any, ...]:
    return res._fit.loaded.problem.data.rows


def plainly(data: Any, **kwds: Any) -> Any:
    with use_limits(replace(SMALL, streamed_bytes=1 << 40)):
        return logit.fit(data, **kwds)


def test_a_fit_copies_nothing_and_gives_the_same() -> None:
    data = draws()
    res, plain = logit.fit(data), plainly(data)
    assert all(isinstance(column, StreamedColumn) and not column.copied for column in columns_of(res))
    assert all(np.shares_memory(column.values, data[name]) for column, name in zip(columns_of(res), "Xy", strict=True))
    np.testing.assert_array_equal(res.params, plain.params)
    np.testing.assert_array_equal(res.bse, plain.bse)
    assert res.llf == plain.llf
    assert res.verdict.code == "verified"
    np.testing.assert_array_equal(res.with_cov("HC0").bse, plain.with_cov("HC0").bse)


def test_without_a_sample_and_with_weights() -> None:
    data = draws()
    w = np.random.default_rng(1).integers(1, 4, N).astype(float)
    kwds: dict[str, Any] = {"start": {"beta": np.zeros(4)}, "weights": w, "weight_kind": "frequency"}
    res, plain = logit.fit(data, **kwds), plainly(data, **kwds)
    assert not any(column.copied for column in columns_of(res))
    np.testing.assert_array_equal(res.params, plain.params)
    np.testing.assert_array_equal(res.bse, plain.bse)


def test_rows_of_weight_zero_never_reach_the_function() -> None:
    data = draws()
    w = np.ones(N)
    w[::7] = 0.0
    res = logit.fit(data, weights=w, weight_kind="frequency")
    assert not any(isinstance(column, StreamedColumn) for column in columns_of(res))
    kept = logit.fit({name: column[w > 0] for name, column in data.items()})
    np.testing.assert_allclose(res.params, kept.params, rtol=0, atol=1e-8)


@pytest.mark.parametrize("method", ["lbfgs", "bhhh"])
def test_other_methods(method: str) -> None:
    data = draws()
    res, plain = logit.fit(data, method=method), plainly(data, method=method)
    np.testing.assert_allclose(res.params, plain.params, rtol=0, atol=1e-8)
    np.testing.assert_allclose(res.bse, plain.bse, rtol=1e-8)


def test_what_is_computed_later_is_of_the_data_that_were_fitted() -> None:
    data = draws()
    res = logit.fit(data)
    plain = plainly(data).with_cov("HC0").bse
    np.testing.assert_array_equal(res.with_cov("HC0").bse, plain)  # and from here on there is a copy
    data["X"][:, 1] *= 2.0
    np.testing.assert_allclose(res.with_cov("HC1").bse, plain * np.sqrt(N / (N - 4)), rtol=1e-12)


@pytest.mark.parametrize("change", ["one value", "order", "pairs"])
def test_data_that_were_changed_since_are_refused(change: str) -> None:
    data = draws()
    res = logit.fit(data)
    if change == "one value":
        data["X"][17, 2] += 1e-3
    elif change == "pairs":  # whose sums, and sums by position, are as before
        at = np.flatnonzero(
            (data["y"][:-3] == 1) & (data["y"][1:-2] == 0) & (data["y"][2:-1] == 0) & (data["y"][3:] == 1)
        )[0]
        data["y"][at : at + 4] = [0.0, 1.0, 1.0, 0.0]
    else:
        data["X"][:] = data["X"][::-1].copy()
    with pytest.raises(DataError, match="changed in place after the fit"):
        res.with_cov("HC0")


def test_data_without_a_maximum_are_told_as_ever() -> None:
    data = draws()
    data["y"] = (data["X"][:, 1] > 0).astype(float)
    with pytest.warns(mle.ConvergenceWarning):
        res = logit.fit(data)
    assert res.verdict.code == "no_finite_maximum"


def test_a_value_that_cannot_be_is_named_by_its_row() -> None:
    data = draws()
    data["X"][29_000, 1] = np.nan
    with pytest.raises(DataError, match="29000"):
        logit.fit(data)


def test_formulas_copy_their_designs_no_second_time() -> None:
    data = draws()
    frame = pd.DataFrame(data["X"][:, 1:], columns=["a", "b", "c"]).assign(y=data["y"])
    base = mle.model(eta=mle.Real())(lambda p, d: d["y"] * p["eta"] - jax.nn.softplus(p["eta"]))
    res = base.regress(eta="~ a + b + c").fit(frame)
    assert not any(column.copied for column in columns_of(res))
    np.testing.assert_allclose(res.params, logit.fit(data).params, rtol=0, atol=1e-9)


def test_likelihood_ratio_tests_know_their_data() -> None:
    data = draws()
    base = mle.model(beta=mle.Real(columns="X"))(
        lambda p, d: d["y"] * (d["X"] @ p["beta"]) - jax.nn.softplus(d["X"] @ p["beta"])
    )
    full, less = base.fit(data), base.fit(data, fixed={"beta[1]": 0.0})
    assert full.lr_test(less).df == 1
    other = draws(seed=1)
    with pytest.raises(ValueError):
        full.lr_test(base.fit(other, fixed={"beta[1]": 0.0}))


def test_the_column_itself() -> None:
    column = StreamedColumn(np.arange(10.0).reshape(5, 2), 8)
    assert column.shape == (8, 2)
    assert len(column) == 8
    assert column.ndim == 2
    np.testing.assert_array_equal(column[3:7], [[6.0, 7.0], [8.0, 9.0], [0.0, 1.0], [0.0, 1.0]])
    np.testing.assert_array_equal(column[6:8], [[0.0, 1.0], [0.0, 1.0]])
    assert np.shares_memory(column[1:4], column.values)
    assert not column.copied
    leaves = jax.tree.leaves({"x": column})
    assert column.copied
    assert leaves[0] is np.asarray(column)
    assert leaves[0].shape == (8, 2)


def test_huge_values_are_no_change() -> None:
    column = StreamedColumn(np.resize([-1e306, 1.7e306], 200_001), 200_704)
    assert np.asarray(column).shape == (200_704,)


def test_a_pickle_holds_the_values_once_and_as_they_were() -> None:
    values = np.arange(50_000.0)
    column = StreamedColumn(values, 50_176)
    bare = len(pickle.dumps(column))
    np.asarray(column)
    values[3] = -1.0
    again = pickle.loads(pickle.dumps(column))
    assert len(pickle.dumps(column)) < 1.01 * bare
    np.testing.assert_array_equal(np.asarray(again), np.asarray(column))
    assert again.values[3] == 3.0


@pytest.mark.parametrize("dtype", [np.bool_, np.int64, np.float64])
def test_columns_of_every_kind_are_told_from_changed_ones(dtype: Any) -> None:
    values = np.asarray(np.random.default_rng(0).integers(0, 2, (70_000, 3)), dtype)
    column = StreamedColumn(values, 70_001)
    column.check()
    values[[5, 6]] = values[[6, 5]][:, ::-1]
    with pytest.raises(DataError):
        column.check()


def test_a_likelihood_ratio_of_reordered_data_is_refused() -> None:
    @mle.model(a=mle.Real(), b=mle.Real())
    def line(params: Any, data: Any) -> Any:
        return -0.5 * (data["y"] - params["a"] - params["b"] * data["x"]) ** 2

    rng = np.random.default_rng(0)
    x = rng.standard_normal(N)
    y = 1.0 + 0.5 * x + rng.standard_normal(N)
    less = line.fit({"x": x, "y": y}, fixed={"b": 0.0})
    y[:] = rng.permutation(y)
    with pytest.raises(DataError, match="changed in place"):
        line.fit({"x": x, "y": y}).lr_test(less)


def test_the_pure_core_has_plain_arrays() -> None:
    problem = logit.prepare(draws())
    again = jax.tree.map(lambda a: a, problem)
    assert jax.tree.structure(again) == jax.tree.structure(problem)
    assert not problem.data.streamed
