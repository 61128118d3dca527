"""The delta method against R and closed forms, and what it says where it cannot answer."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlejax as mle
from mlejax.inference import nlcom
from mlejax.inference.intervals import linearise

# R 4, library(MASS), budworm data of ?dose.p: fit <- glm(SF ~ sex + ldose - 1, family = binomial)
# coef(fit); vcov(fit); d <- dose.p(fit, cf = c(1, 3), p = 1:3/4); c(d); c(attr(d, "SE"))
THETA = np.array([-3.4731553070866998, -2.3724119440915503, 1.0642139699192437])
COV = np.array(
    [
        [0.219511212333241362, 0.120758436460768448, -0.052507473315858144],
        [0.120758436460768448, 0.148618561292899382, -0.039514121348949986],
        [-0.052507473315858144, -0.039514121348949986, 0.017181297912909142],
    ]
)
DOSE = [2.2312646568610437, 3.2635874037156789, 4.2959101505703137]
DOSE_SE = [0.24990890647872629, 0.22975386507683493, 0.27468743448359567]


def lethal_dose(t):
    p = jnp.array([0.25, 0.5, 0.75])
    return (jnp.log(p / (1 - p)) - t[0]) / t[2]


def test_lethal_dose_against_r():
    out = nlcom(lethal_dose, THETA, COV)
    np.testing.assert_allclose(out.params, DOSE, rtol=1e-13)
    np.testing.assert_allclose(out.bse, DOSE_SE, rtol=1e-12)
    np.testing.assert_allclose(np.sqrt(np.diag(out.cov_params())), DOSE_SE, rtol=1e-12)
    np.testing.assert_array_equal(out.cov_params(), out.cov_params().T)


def test_results_are_float64_numpy_with_the_global_flag_off():
    assert not jax.config.jax_enable_x64
    out = nlcom(lethal_dose, THETA, COV)
    assert type(out.params) is np.ndarray
    assert out.params.dtype == out.bse.dtype == np.float64


def test_a_linear_function_is_exact():
    A = np.array([[1.0, 2.0, 0.0], [0.0, -1.0, 3.0]])
    out = nlcom(lambda t: jnp.asarray(A) @ t, THETA, COV)
    np.testing.assert_allclose(out.params, A @ THETA, rtol=1e-14)
    np.testing.assert_allclose(out.cov_params(), A @ COV @ A.T, rtol=1e-13)


def test_labels_follow_the_users_own_order():
    out = linearise(
        lambda t: {"z": t[0], "a": {"x": t[:2], "m": t[:2, None] * t[None, :2]}, "l": (t[0], [t[1]])}, THETA
    )
    assert out.labels == (
        *("z", "a.x[0]", "a.x[1]", "a.m[0,0]", "a.m[0,1]", "a.m[1,0]", "a.m[1,1]"),
        *("l[0]", "l[1][0]"),
    )
    assert out.values[2] == THETA[1]
    assert linearise(lambda t: t[0] * t[1], THETA).labels == ("value",)


def test_nlcom_table_and_joint_test():
    out = nlcom(lambda t: {"ld50": lethal_dose(t)[1], "slope": t[2]}, THETA, COV, value=[3.0, 1.0])
    table = out.frame()
    assert list(table.columns) == ["estimate", "std_error", "statistic", "p_value", "conf_low", "conf_high", "note"]
    assert list(table.index) == ["ld50", "slope"]
    row = table.loc["ld50"]
    assert row["std_error"] == pytest.approx(DOSE_SE[1], rel=1e-12)
    assert row["statistic"] == pytest.approx((DOSE[1] - 3.0) / DOSE_SE[1], rel=1e-12)
    # R: qnorm(0.975) = 1.9599639845400536
    assert row["conf_high"] == pytest.approx(DOSE[1] + 1.9599639845400536 * DOSE_SE[1], rel=1e-13)
    test = out.wald_test()
    gap = out.params - [3.0, 1.0]
    assert test.statistic == pytest.approx(gap @ np.linalg.solve(out.cov_params(), gap), rel=1e-10)
    assert test.df == 2
    assert test.restrictions == ("ld50 = 3", "slope = 1")


def test_two_functions_of_one_parameter_have_rank_one():
    test = nlcom(lambda t: jnp.stack([jnp.exp(t[2]), t[2] ** 2]), THETA, COV, value=1.0).wald_test(
        [np.exp(THETA[2]), THETA[2] ** 2]
    )
    assert test.df == 1
    assert test.statistic == pytest.approx(0.0, abs=1e-12)


def test_nan_covariance_spoils_only_what_depends_on_it():
    cov = COV.copy()
    cov[2, :] = cov[:, 2] = np.nan
    out = nlcom(lambda t: {"diff": t[0] - t[1], "dose": -t[0] / t[2]}, THETA, cov, reason="slope is not identified")
    expected = np.sqrt(COV[0, 0] + COV[1, 1] - 2 * COV[0, 1])
    assert out.bse[0] == pytest.approx(expected, rel=1e-12)
    assert np.isnan(out.bse[1])
    assert out.notes == ("", "slope is not identified")
    refused = out.wald_test()
    assert np.isnan(refused.statistic)
    assert refused.reason == "slope is not identified"


def test_a_constant_has_standard_error_zero_and_says_so():
    out = nlcom(lambda t: {"pi": jnp.pi, "slope": t[2]}, THETA, COV)
    assert out.bse[0] == 0.0
    assert "does not depend" in out.notes[0]
    assert np.isnan(out.tvalues[0])
    assert np.isnan(out.pvalues[0])
    assert out.bse[1] > 0


def test_a_stationary_point_is_not_a_constant():
    out = nlcom(lambda t: {"square": (t[2] - THETA[2]) ** 2}, THETA, COV)
    assert np.isnan(out.bse[0])
    assert "derivative is 0" in out.notes[0]
    assert np.isnan(out.wald_test().statistic)


def test_values_and_derivatives_that_are_not_finite_carry_their_reason():
    out = nlcom(lambda t: {"log": jnp.log(t[0]), "root": jnp.sqrt(t[2] - THETA[2]), "ok": t[2]}, THETA, COV)
    assert "value" in out.notes[0]
    assert "derivative" in out.notes[1]
    assert np.isnan(out.bse).tolist() == [True, True, False]


def test_no_parameters_at_all():
    out = nlcom(lambda t: {"c": 2.0}, np.zeros(0), np.zeros((0, 0)))
    assert out.params.tolist() == [2.0]
    assert out.bse.tolist() == [0.0]


@pytest.mark.parametrize("function", [lambda t: np.exp(t[0]), lambda t: math.exp(t[0]), lambda t: 2.0 * float(t[0])])
def test_functions_of_concrete_numbers_are_refused(function):
    with pytest.raises(TypeError, match=r"write jnp.exp and not np.exp or math.exp, and leave out float\(\)"):
        linearise(function, [1.0, 2.0])


def test_a_condition_on_a_parameter_is_not_refused():
    assert linearise(lambda t: t[0] if t[0] > 1 else 2 * t[0], [1.5, 2.0]).jacobian.tolist() == [[1.0, 0.0]]


def test_misuse_is_refused():
    with pytest.raises(ValueError, match="returns no numbers"):
        nlcom(lambda t: {}, THETA, COV)
    with pytest.raises(ValueError, match=r"expected shape \(3, 3\)"):
        nlcom(lambda t: t, THETA, np.eye(2))
    with pytest.raises(ValueError, match="expected a vector"):
        nlcom(lambda t: t, COV, COV)
    with pytest.raises(TypeError, match="got str at name"):
        nlcom(lambda t: {"name": "a"}, THETA, COV)
    with pytest.raises(ValueError, match="labels: expected 3"):
        nlcom(lambda t: t, THETA, COV, labels=["a"])
    with pytest.raises(ValueError, match="alpha"):
        nlcom(lambda t: t, THETA, COV, alpha=5)


def test_the_summary_shows_the_numbers():
    text = nlcom(lambda t: {"ld50": lethal_dose(t)[1]}, THETA, COV).summary()
    assert "ld50" in text
    assert "3.264" in text
    assert "0.230" in text


def test_many_values_need_no_square_matrix():
    """A prediction for 200,000 rows: its covariance would hold 320 GB, its standard errors do not need it."""
    x = np.linspace(0.0, 5.0, 200_000)
    out = nlcom(lambda t: t[0] + t[2] * x, THETA, COV)
    expected = np.sqrt(COV[0, 0] + 2 * x * COV[0, 2] + x**2 * COV[2, 2])
    np.testing.assert_allclose(out.bse, expected, rtol=1e-12)


def test_addresses_and_slips():
    """Entries answer to their addresses; NumPy and text in the place of a function are named, with what to write."""

    @mle.model(mu=mle.Real(), sigma=mle.Positive())
    def gaussian(params, data):
        return jax.scipy.stats.norm.logpdf(data["y"], params["mu"], params["sigma"])

    rng = np.random.default_rng(0)
    res = gaussian.regress(mu="x").fit({"y": rng.normal(2, 1, 50), "x": np.arange(50.0)})
    slope = res.nlcom(lambda p: {"slope": p["mu[x]"], "ratio": p["mu[x]"] / p["sigma"]})
    assert slope.params[0] == res.params["mu[x]"]
    assert slope.bse[0] == pytest.approx(res.bse["mu[x]"], rel=1e-12)
    with pytest.raises(TypeError, match=r"jnp\.exp and not np\.exp"):
        res.nlcom(lambda p: np.exp(p["sigma"]))
    with pytest.raises(TypeError, match="a function of params, such as lambda p"):
        res.nlcom("sigma*2")
    with pytest.raises(mle.AddressError, match="sigm"):
        res.nlcom(lambda p: p["sigm"])
