"""`model.check`: each defect is found and named, and sound models pass."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm

import mlejax as mle
from tests.cases import Case, all_cases, supports

RNG = np.random.default_rng(5)
Y = RNG.normal(size=24)
X = RNG.normal(size=24)


def gaussian(params, data):
    return norm.logpdf(data["y"], params["mu"], params["sigma"])


GAUSSIAN = mle.model(mu=mle.Real(), sigma=mle.Positive())(gaussian)


def test_a_sound_model_passes() -> None:
    found = GAUSSIAN.check({"y": Y})
    assert found.ok
    assert found.codes == ()
    assert str(found) == "gaussian: nothing found"


def test_what_fit_refuses_is_a_finding_with_the_same_words() -> None:
    for data in ({"z": Y}, {"y": [*Y[:-1], np.nan]}, {"y": ["a", "b"]}):
        with pytest.raises((ValueError, TypeError, KeyError)) as caught:
            GAUSSIAN.fit(data)
        found = GAUSSIAN.check(data)
        assert found.codes == ("data",)
        assert not found.ok
        assert found.findings[0].statement[:40] in str(caught.value)
    assert GAUSSIAN.check({"y": Y}, fixed={"nu": 1.0}).codes == ("address",)


def test_ignored_parameters_and_combinations_are_named() -> None:
    @mle.model(a=mle.Real(), b=mle.Real(), spare=mle.Real(), s=mle.Positive())
    def model(params, data):
        return norm.logpdf(data["y"], params["a"] + params["b"], params["s"])

    found = model.check({"y": Y})
    assert set(found.codes) == {"ignored_parameter", "not_identified"}
    by_code = {f.code: f.statement for f in found.findings}
    assert "does not depend on spare" in by_code["ignored_parameter"]
    assert by_code["not_identified"] == "a - b is not identified; a + b is"
    assert model.check({"y": Y}, fixed={"spare": 0.0, "b": 0.0}).ok


def test_collinear_columns_are_named() -> None:
    @mle.model(beta=mle.Real(columns="X"), s=mle.Positive())
    def model(params, data):
        return norm.logpdf(data["y"], data["X"] @ params["beta"], params["s"])

    frame = pd.DataFrame({"one": 1.0, "male": X > 0, "female": X <= 0, "x": X}).astype(float)
    found = model.check({"X": frame, "y": Y})
    assert found.codes == ("not_identified",)
    for name in ("beta[one]", "beta[male]", "beta[female]"):
        assert name in found.findings[0].statement
    assert "beta[x]" not in found.findings[0].statement


def test_rows_that_use_other_rows() -> None:
    @mle.model(b=mle.Real())
    def model(params, data):
        return norm.logpdf(data["y"], (data["x"] - data["x"].mean()) * params["b"], 1.0)

    assert "dependent_rows" in model.check({"y": Y, "x": X}).codes


def test_an_unguarded_where() -> None:
    @mle.model(b=mle.Real(start=0.5))
    def unguarded(params, data):
        return jnp.where(data["x"] > 0, -jnp.sqrt(data["x"] * jnp.exp(params["b"])), -jnp.exp(params["b"]))

    x = np.where(X > 0.5, X, 0.0)
    found = unguarded.check({"x": x})
    assert found.codes[0] == "where_guard"
    assert f"{int((x == 0).sum())} of {x.size} rows" in found.findings[0].statement
    assert "safe value inside the branch" in found.findings[0].advice

    @mle.model(b=mle.Real(start=0.5))
    def guarded(params, data):
        safe = jnp.where(data["x"] > 0, data["x"], 1.0)
        return jnp.where(data["x"] > 0, -jnp.sqrt(safe * jnp.exp(params["b"])), -jnp.exp(params["b"]))

    assert guarded.check({"x": x}).ok


def test_a_start_outside_the_support_of_some_rows() -> None:
    @mle.model(top=mle.Positive())
    def uniform(params, data):
        return jnp.where(data["y"] <= params["top"], -jnp.log(params["top"]), -jnp.inf)

    y = np.array([1.0, 2.0, 3.0, 9.0])
    found = uniform.check({"y": y}, start={"top": 5.0})
    assert found.codes[0] == "start_not_finite"
    assert "(row 3; first: -inf)" in found.findings[0].statement
    assert found.findings[0].level == "error"


def test_lost_precision() -> None:
    found = GAUSSIAN.check({"y": Y.astype(np.float32)})
    assert found.codes == ("float32_column",)
    assert "'y'" in found.findings[0].statement

    assert "y came as float32" in str(GAUSSIAN.fit({"y": Y.astype(np.float32)}).summary())
    assert "float32" not in str(GAUSSIAN.fit({"y": Y}).summary())

    narrow = jnp.asarray(X, jnp.float32)

    @mle.model(b=mle.Real(), s=mle.Positive())
    def constant(params, data):
        return norm.logpdf(data["y"], params["b"] * jnp.mean(narrow), params["s"])

    with pytest.warns(RuntimeWarning, match="constant uses float32 constants .*: narrow"):
        found = constant.check({"y": Y})
    assert "float32_constant" in found.codes

    @mle.model(b=mle.Real(), s=mle.Positive())
    def cast(params, data):
        return norm.logpdf(data["y"], (params["b"] * data["x"]).astype(jnp.float32), params["s"])

    assert "float32_arithmetic" in cast.check({"y": Y, "x": X}).codes

    @mle.model(b=mle.Real(), s=mle.Positive())
    def inside(params, data):
        half = jax.jit(lambda v: v.astype(jnp.float16))
        return norm.logpdf(data["y"], params["b"] * half(data["x"]), params["s"])

    assert "float32_arithmetic" in inside.check({"y": Y, "x": X}).codes


def test_captured_arrays_and_compilations() -> None:
    knots = np.linspace(0.0, 1.0, 500)

    @mle.model(rowwise=False, b=mle.Real(), s=mle.Positive())
    def model(params, data):
        return norm.logpdf(data["y"], params["b"] + jnp.interp(0.3, knots, knots), params["s"])

    found = model.check({"y": Y})
    assert set(found.codes) == {"captured_array", "compiles_per_length"}
    assert [f.level for f in found.findings] == ["warning", "note"]
    assert "mle.Shared" in found.findings[0].advice


def test_fewer_rows_than_parameters() -> None:
    @mle.model(beta=mle.Real(columns="X"), s=mle.Positive())
    def model(params, data):
        return norm.logpdf(data["y"], data["X"] @ params["beta"], params["s"])

    assert model.check({"X": RNG.normal(size=(4, 6)), "y": Y[:4]}).codes == ("few_rows",)


def test_a_regressed_model_can_be_checked() -> None:
    frame = pd.DataFrame({"y": Y, "x": X, "twice": 2.0 * X})
    assert GAUSSIAN.regress(mu="x").check(frame).ok
    found = GAUSSIAN.regress(mu="x + twice").check(frame)
    assert found.codes == ("not_identified",)
    assert "mu[twice]" in found.findings[0].statement


QUICK = ("affairs_tobit", "mammals_bvn")


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in (c.name for c in all_cases("mle"))]
)
def test_no_false_alarm_on_the_reference_cases(name: str) -> None:
    case = Case(name)
    model = mle.model(params=supports(case), rowwise=case.rowwise)(case.loglik)
    found = model.check(case.data, start=case.init)
    assert found.ok, str(found)
