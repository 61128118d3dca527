"""The reference cases hold together: data, log-likelihood in JAX and the numbers from outside agree, without mlejax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.cases import Case, all_cases, as_params, supports


def name(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("case", all_cases(), ids=name)
def test_case_is_complete(case: Case) -> None:
    """Shapes, counts and constraints are consistent."""
    reference = case.reference
    assert {len(column) for column in case.data.values()} == {reference["n_rows"]}
    assert all(column.dtype == np.float64 for column in case.data.values())
    assert sum(value.size for value in case.init.values()) == reference["n_params"] == len(reference["param_order"])
    assert set(case.constraints) <= set(case.init)
    for start in case.hard_inits.values():
        assert {k: v.shape for k, v in start.items()} == {k: v.shape for k, v in case.init.items()}
    out = jax.eval_shape(case.loglik, case.init, case.data)
    assert out.shape == (reference["n_units"],)
    if case.rowwise:
        assert reference["n_units"] == reference["n_rows"]


@pytest.mark.parametrize("case", all_cases("mle"), ids=name)
def test_estimate_is_the_maximum(case: Case) -> None:
    """At the estimate: the log-likelihood, a score of 0 in units of standard errors, variances on the diagonal."""
    with jax.enable_x64(True):
        data = {key: jnp.asarray(value) for key, value in case.data.items()}
        value, score = jax.jit(jax.value_and_grad(lambda p: jnp.sum(case.loglik(p, data))))(case.estimates)
        g = case.vector({key: np.asarray(entry) for key, entry in score.items()})
    assert float(value) == pytest.approx(case.llf, rel=1e-10)
    assert np.sqrt(max(g @ case.vcov @ g, 0.0)) < 1e-5
    np.testing.assert_allclose(np.sqrt(np.diag(case.vcov)), case.vector(case.se("oim")), rtol=1e-10)


@pytest.mark.parametrize("case", [case for case in all_cases() if case.kind != "mle"], ids=name)
def test_pathology_is_as_described(case: Case) -> None:
    """The log-likelihood at the points listed for the cases without an ordinary maximum."""
    for point in case.reference["evaluate"]:
        data = case.data
        if point.get("drop_nan_rows"):
            keep = np.isfinite(np.stack(list(data.values()))).all(axis=0)
            assert (~keep).sum() == case.reference["reference"]["n_bad_rows"]
            data = {key: value[keep] for key, value in data.items()}
        with jax.enable_x64(True):
            total = float(jnp.sum(case.loglik(as_params(point["params"]), data)))
        expected = as_params({"loglik": point["loglik"]})["loglik"]
        np.testing.assert_allclose(total, expected, rtol=point.get("rtol", 1e-9), atol=point.get("rtol", 1e-9))


def test_unknown_case_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="affairs_tobit"):
        Case("affairs")


def test_selection() -> None:
    assert len(all_cases()) == 30
    assert {case.kind for case in all_cases()} == {"mle", "no_mle", "not_identified", "boundary", "bad_data"}
    assert name(all_cases("boundary")[0]) == "dyestuff2_boundary"
    assert "dem2gbp_garch11" in map(name, all_cases(tag="time-series"))
    assert all("nist" not in case.tags for case in all_cases("mle", without="nist"))
    assert not Case("dem2gbp_garch11").rowwise
    assert Case("affairs_tobit").rowwise


def test_supports_are_declared_with_the_shape_of_the_start() -> None:
    declared = supports(Case("housing_ologit"))
    assert {name: repr(declaration) for name, declaration in declared.items()} == {
        "beta": "Real(shape=(6,))",
        "cut": "Ordered(shape=(2,))",
    }
    for case in all_cases():
        assert set(supports(case)) == set(case.init)
