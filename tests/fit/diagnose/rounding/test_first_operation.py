"""Statements on rows that are not finite: the rows by their numbers in the user's table, and the operation that makes them so.

The truth is by construction: one row has z = 0, at which the function, or its derivative, is not finite.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm

import mlejax as mle

pytestmark = pytest.mark.filterwarnings("ignore::mlejax.ConvergenceWarning")

N, GAP, BAD = 60, 3, 50  # rows; the one with a missing value, and the one with z = 0


def table(labels: bool = False) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"y": rng.normal(size=N), "x": rng.normal(size=N), "z": np.ones(N), "g": np.arange(N) // 2 + 100})
    frame.loc[GAP, "x"], frame.loc[BAD, "z"] = np.nan, 0.0
    return frame.set_axis([f"r{i}" for i in range(N)]) if labels else frame


def line(p: Any, d: Any) -> Any:
    return norm.logpdf(d["y"], p["a"] + p["b"] * d["x"], 1.0)


def log_of_zero(p: Any, d: Any) -> Any:
    return norm.logpdf(d["y"], p["a"] + p["b"] * d["x"] + jnp.log(d["z"]), 1.0)


def outside(p: Any, d: Any) -> Any:
    return line(p, d) + jnp.where(d["z"] > 0, 0.0, -jnp.inf)


def beside_a_guarded_log(p: Any, d: Any) -> Any:
    """A logarithm of 0 that is not used, and an exponential that overflows in the same row."""
    return line(p, d) + jnp.where(d["z"] > 0, jnp.log(d["z"]), 0.0) + jnp.exp(800.0 * (1.0 - d["z"]) + p["a"])


def log_beside_a_range(p: Any, d: Any) -> Any:
    """An operation without operands, the range of whole numbers, in the function."""
    return log_of_zero(p, d) + p["a"] * jnp.sum(jnp.arange(3.0) - 1.0)


def root_of_zero(p: Any, d: Any) -> Any:
    return line(p, d) - 1e-3 * jnp.abs(d["z"] * p["a"]) ** 0.5


def unused_branch(p: Any, d: Any) -> Any:
    return line(p, d) + jnp.where(d["z"] > 0, 1e-3 * jnp.sqrt(d["z"] * p["b"] ** 2), 0.0)


def fitted(function: Callable[..., Any], data: Any, **options: Any) -> Any:
    return mle.model(a=mle.Real(), b=mle.Real())(function).fit(data, start={"a": 0.1, "b": 0.2}, **options)


VALUES = [
    (log_of_zero, "because a logarithm is taken of 0 or less there"),
    (log_beside_a_range, "because a logarithm is taken of 0 or less there"),
    (outside, f"(row {BAD}; first: -inf)"),  # no operation: it came so
    (beside_a_guarded_log, "because exp overflows there"),
]
SCORES = [
    (root_of_zero, "parameters a; the derivative of pow is not finite there"),
    (unused_branch, "parameters b; the derivative of sqrt is not finite there, in a branch of jnp.where that is not used"),
]


@pytest.mark.parametrize(("function", "words"), VALUES + SCORES)
def test_the_row_of_the_users_table_and_the_operation_are_named(function: Callable[..., Any], words: str) -> None:
    verdict = fitted(function, table(), missing="drop").verdict
    assert verdict.code == "not_computable", verdict
    assert f"1 of {N - 1} rows (row {BAD}" in verdict.statement
    assert verdict.statement.removesuffix(": put a safe value there too").endswith(words), verdict


def test_a_function_with_a_derivative_of_its_own_is_named_by_its_name() -> None:
    @jax.custom_jvp
    def steep(x: Any) -> Any:
        return jnp.zeros_like(x)

    steep.defjvp(lambda at, ways: (jnp.zeros_like(at[0]), ways[0] / at[0]))
    verdict = fitted(lambda p, d: line(p, d) + steep(d["z"] + 0.0 * p["a"]), table(), missing="drop").verdict
    assert "the derivative of steep is not finite there" in verdict.statement


def test_labels_of_rows_are_named_and_rows_of_weight_zero_are_not() -> None:
    statement = fitted(log_of_zero, table(True), missing="drop").verdict.statement
    assert f"(row {BAD} (index label 'r{BAD}'); first: -inf)" in statement
    frame = table().assign(w=1.0)
    frame.loc[BAD, "w"] = 0.0
    assert fitted(log_of_zero, frame, missing="drop", weights="w", weight_kind="frequency").verdict.code == "verified"
    frame.loc[BAD - 1, "z"] = 0.0
    verdict = fitted(log_of_zero, frame, missing="drop", weights="w", weight_kind="frequency").verdict
    assert f"1 of {N - 2} rows (row {BAD - 1}; first: -inf)" in verdict.statement


def test_units_are_named_by_their_labels() -> None:
    @mle.model(a=mle.Real(), b=mle.Real(), unit="g")
    def model(p: Any, d: Any) -> Any:
        return jnp.sum(jnp.where(d["mask"], log_of_zero(p, d), 0.0))

    statement = model.fit(table(), missing="drop", start={"a": 0.1, "b": 0.2}).verdict.statement
    assert f"1 of {N // 2} units (g {100 + BAD // 2}; first: -inf)" in statement


def test_data_sets_of_a_batch_count_their_own_rows_with_those_that_were_dropped() -> None:
    frame = table().assign(h=np.arange(N) % 2)
    frame.loc[BAD - 1, "z"] = 0.0  # row 24 of the odd rows, of which GAP is the second
    model = mle.model(a=mle.Real(), b=mle.Real())(log_of_zero)
    for group, lost in ((0, 0), (1, 1)):
        statement = model.fit_groups(frame, by="h", missing="drop")[group].verdict.statement
        assert f"1 of {N // 2 - lost} rows (row {(BAD - 1) // 2 + (group == 0)}; first: -inf)" in statement


def test_scores_of_a_stream_are_named_by_partition(tmp_path: Path) -> None:
    whole = table().drop(index=GAP).reset_index(drop=True)
    for i, part in enumerate((whole[:20], whole[20:])):
        part.to_parquet(tmp_path / f"{i}.parquet")
    verdict = fitted(root_of_zero, mle.Parquet(str(tmp_path / "*.parquet"))).verdict
    assert verdict.code == "not_computable"
    assert f"1 of {N - 1} rows (1.parquet, row group 0, row {BAD - 1 - 20}), parameters a" in verdict.statement
    assert "the derivative of pow is not finite there" in verdict.statement


def test_check_names_the_same() -> None:
    model = mle.model(a=mle.Real(), b=mle.Real())(root_of_zero)
    (found,) = model.check(table(), missing="drop").findings
    assert found.code == "where_guard"
    assert f"(row {BAD}), parameters a; the derivative of pow" in found.statement


def test_dependent_rows_are_named_by_their_number_in_the_users_table() -> None:
    frame = table()
    frame.loc[:GAP, "x"] = np.nan
    model = mle.model(a=mle.Real(), b=mle.Real())(lambda p, d: line(p, {**d, "y": d["y"] - d["y"].mean()}))
    with pytest.raises(mle.LikelihoodError, match=rf"the log-likelihood of row {GAP + 1} \(counted from 0\)"):
        model.fit(frame, missing="drop")


def test_values_that_vary_in_a_unit_are_named_by_their_rows() -> None:
    @mle.model(a=mle.Real(), b=mle.Real(), unit="g")
    def model(p: Any, d: Any) -> Any:
        return jnp.sum(jnp.where(d["mask"], line(p, d), 0.0))

    frame = table().assign(w=1.0)
    frame.loc[BAD + 1, "w"] = 2.0
    with pytest.raises(mle.DataError, match=f"1.0 in row {BAD} and 2.0 in row {BAD + 1} "):
        model.fit(frame, missing="drop", weights="w", weight_kind="frequency")


def test_an_exposure_that_is_not_positive_is_named_by_its_row() -> None:
    model = mle.model(mu=mle.Positive())(lambda p, d: d["y"] ** 2 * jnp.log(p["mu"]) - p["mu"])
    with pytest.raises(mle.DataError, match=f"first row {BAD} with 0"):
        model.regress(mu=mle.Linear("x", link="log", exposure="z")).fit(table(), missing="drop")
