"""Rises that end where the numbers of a row end: said to be not computable, with row and operation, and never without bound.

The truth is the logit's own maximum, by Newton's method in NumPy with np.logaddexp.
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

import mlejax as mle

pytestmark = pytest.mark.filterwarnings("ignore::mlejax.ConvergenceWarning")

FAR = 17  # the row with a value far from the others


def quotient(eta: Any, y: Any) -> Any:
    q = jnp.exp(eta) / (1.0 + jnp.exp(eta))
    return jnp.log(jnp.where(y > 0, q, 1.0 - q))


def reciprocal(eta: Any, y: Any) -> Any:
    q = 1.0 / (1.0 + jnp.exp(-eta))
    return y * jnp.log(q) + (1.0 - y) * jnp.log(1.0 - q)


def plain(eta: Any, y: Any) -> Any:
    return y * eta - jnp.log(1.0 + jnp.exp(eta))


def by_sigmoid(eta: Any, y: Any) -> Any:
    q = jax.nn.sigmoid(eta)
    return y * jnp.log(q) + (1.0 - y) * jnp.log(1.0 - q)


def one_by_sigmoid(eta: Any, y: Any) -> Any:
    q = jax.nn.sigmoid(eta)
    return jnp.where(y > 0, jnp.log(q), jnp.log(1.0 - q))


def difference(eta: Any, y: Any) -> Any:
    return jnp.where(y > 0, eta - jnp.log(1.0 + jnp.exp(eta)), -jnp.log1p(jnp.exp(eta)))


def softmax(eta: Any, y: Any) -> Any:
    p = jnp.exp(jnp.stack([0.0 * eta, eta]))
    return jnp.log(jnp.where(y > 0, p[1], p[0]) / p.sum(axis=0))


def by_tanh(eta: Any, y: Any) -> Any:
    return jnp.log(0.5 * (1.0 + jnp.where(y > 0, 1.0, -1.0) * jnp.tanh(0.5 * eta)))


def by_cosh(eta: Any, y: Any) -> Any:
    return (y - 0.5) * eta - jnp.log(2.0 * jnp.cosh(0.5 * eta))


def product(eta: Any, y: Any) -> Any:
    return jnp.log((jnp.exp(eta) / (1.0 + jnp.exp(eta))) ** y * (1.0 / (1.0 + jnp.exp(eta))) ** (1.0 - y))


LOGITS = (quotient, reciprocal, plain, by_sigmoid, one_by_sigmoid, difference, softmax, by_tanh, by_cosh, product)


def declared(density: Callable[..., Any]) -> mle.Model:
    @mle.model(a=mle.Real(), b=mle.Real())
    def model(params: Any, data: Any) -> Any:
        return density(params["a"] + params["b"] * data["x"], data["y"])

    return model


def sample(far: float, n: int = 300, slope: float = 0.3) -> dict[str, np.ndarray]:
    """Rows of a logit, of which one has x = ``far`` and the outcome that is the likelier the steeper the slope."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=n)
    y = (rng.random(n) < 1.0 / (1.0 + np.exp(-slope * x))) * 1.0
    x[FAR], y[FAR] = far, float(far > 0)
    return {"x": x, "y": y}


def truth(data: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Estimates and standard errors of the logit."""
    X, y, b = np.column_stack([np.ones_like(data["x"]), data["x"]]), data["y"], np.zeros(2)
    for _ in range(60):
        p = np.exp(-np.logaddexp(0.0, -X @ b))
        information = (X * (p * (1.0 - p))[:, None]).T @ X
        step = np.linalg.solve(information, X.T @ (y - p))
        b = b + step * min(1.0, 0.2 / np.abs(step).max())
    return b, np.sqrt(np.linalg.inv(information).diagonal())


def says_what_to_do(verdict: mle.Verdict, row: str = f"row {FAR}") -> None:
    assert verdict.code == "not_computable", verdict
    assert f"1 of 300 rows ({row};" in verdict.statement
    assert "exp overflows" in verdict.statement
    assert "mle.special.log_sigmoid" in verdict.advice


def test_a_logit_by_its_quotient_is_not_computable_beyond_the_largest_number() -> None:
    says_what_to_do(declared(quotient).fit(sample(2e4)).verdict)


def test_a_search_that_creeps_towards_the_end_of_the_numbers_names_row_and_operation() -> None:
    """The sigmoid is 1 from e = 37 on, and 0 times the logarithm of 1 - 1 is NaN; the maximum is beyond."""
    data = sample(2e3)
    assert truth(data)[0] @ [1.0, 2e3] > 37.0
    verdict = declared(by_sigmoid).fit(data).verdict
    assert verdict.code == "not_computable", verdict
    assert f"1 of 300 rows (row {FAR};" in verdict.statement
    assert "a logarithm is taken of 0 or less" in verdict.statement
    assert "mle.special.log_sigmoid" in verdict.advice


@pytest.mark.slow
def test_it_is_so_in_batches_and_streams(tmp_path: Path) -> None:
    model, bad, good = declared(quotient), sample(2e4), sample(3.0)
    many = model.fit_batch({k: np.stack([bad[k], good[k]]) for k in bad})
    says_what_to_do(many[0].verdict)
    assert many[1].verdict.code == "verified"
    np.testing.assert_allclose(many[1].params.to_numpy(), truth(good)[0], rtol=1e-6)
    for i, part in enumerate((slice(0, 100), slice(100, 300))):
        pd.DataFrame({k: v[part] for k, v in bad.items()}).to_parquet(tmp_path / f"{i}.parquet")
    says_what_to_do(model.fit(mle.Parquet(str(tmp_path / "*.parquet"))).verdict, f"0.parquet, row group 0, row {FAR}")


@pytest.mark.parametrize(("far", "n"), [(1500.0, 300), pytest.param(1000.0, 4000, marks=pytest.mark.slow)])
def test_curvature_that_underflows_in_one_row_leaves_estimates_and_errors_right(far: float, n: int) -> None:
    """Second derivatives of log(1 + exp(e)) have exp(-2 e) = 0 times exp(2 e) once e exceeds 355."""
    data = sample(far, n, slope=0.5)
    estimates, errors = truth(data)
    assert 355.0 < far * estimates[1] < 700.0
    res = declared(plain).fit(data)
    assert res.verdict.code == "verified", res.verdict
    np.testing.assert_allclose(res.params.to_numpy(), estimates, rtol=1e-5)
    np.testing.assert_allclose(res.bse.to_numpy(), errors, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("density", LOGITS)
def test_no_logit_with_a_far_row_is_clean_and_wrong_or_said_to_rise(density: Callable[..., Any]) -> None:
    sets = [sample(far) for far in (30.0, 300.0, 1e3, 3e3, 2e4, -500.0, -2e4)]
    found = declared(density).fit_batch({k: np.stack([s[k] for s in sets]) for k in ("x", "y")})
    for i, one in enumerate(sets):
        verdict = found[i].verdict
        assert verdict.code in ("verified", "not_computable"), verdict
        if verdict.code == "not_computable":
            assert f"1 of 300 rows (row {FAR}" in verdict.statement, verdict
        else:
            estimates, errors = truth(one)
            np.testing.assert_allclose(found[i].params.to_numpy(), estimates, atol=1e-3 * errors.min())
            np.testing.assert_allclose(found[i].bse.to_numpy(), errors, rtol=1e-2)


def test_terms_that_are_finite_and_whose_sum_is_not() -> None:
    @mle.model(a=mle.Real(start=0.0))
    def huge(params: Any, data: Any) -> Any:
        return 1e308 * data["x"] - (params["a"] - 1.0) ** 2

    verdict = huge.fit({"x": np.ones(3)}, start={"a": 0.0}).verdict
    assert "the log-likelihood of every term is finite at a = 0, but the sum over the terms overflows" in verdict.statement
