"""The doors to profiles: what they print, draw and refuse; many fits at once; adjusted profiles; regions."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import multivariate_normal, norm
from scipy.optimize import brentq
from scipy.stats import chi2, poisson

import mlejax as mle

CUT = float(chi2.ppf(0.95, 1))


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def gaussian(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["mu"], params["sigma"])


@mle.model(beta=mle.Real(columns=["one", "x"]))
def logit(params: Any, data: Any) -> Any:
    eta = params["beta"][0] * data["one"] + params["beta"][1] * data["x"]
    return data["y"] * eta - jnp.logaddexp(0.0, eta)


Y = np.array([1.0, 2.0, 6.0, 3.0, 2.5])


def of_mean(y: np.ndarray, alpha: float = 0.05) -> list[float]:
    """Of a normal mean: s sqrt(exp(q / n) - 1) to both sides, s the maximum-likelihood standard deviation."""
    reach = y.std() * np.sqrt(np.expm1(chi2.isf(alpha, 1) / y.size))
    return [y.mean() - reach, y.mean() + reach]


def of_sigma(y: np.ndarray) -> list[float]:
    drop = lambda u: y.size * (2 * u + np.expm1(-2 * u)) - CUT  # u = log(sigma / estimate)
    return (y.std() * np.exp([brentq(drop, -5, -1e-9, xtol=1e-15), brentq(drop, 1e-9, 9, xtol=1e-15)])).tolist()


def logit_data(n: int = 60) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    x = rng.normal(size=n)
    return {"one": np.ones(n), "x": x, "y": (rng.random(n) < 1 / (1 + np.exp(-x))).astype(float)}


def test_closed_forms() -> None:
    res = gaussian.fit({"y": Y})
    found = res.conf_int(method="profile")
    assert found.loc["mu", ["lower", "upper"]].tolist() == pytest.approx(of_mean(Y), abs=1e-9)
    assert found.loc["sigma", ["lower", "upper"]].tolist() == pytest.approx(of_sigma(Y), rel=1e-9)
    assert res.conf_int(0.2, method="profile").loc["mu"].tolist()[:2] == pytest.approx(of_mean(Y, 0.2), abs=1e-9)
    fixed = gaussian.fit({"y": Y}, fixed={"sigma": 2.0}).conf_int(method="profile")
    reach = 2.0 * np.sqrt(CUT / Y.size)
    assert fixed.loc["mu", ["lower", "upper"]].tolist() == pytest.approx([Y.mean() - reach, Y.mean() + reach], abs=1e-9)
    assert fixed.loc["sigma", "lower_status"] == "fixed"
    assert np.isnan(fixed.loc["sigma", "lower"])


def test_a_profile_tells_what_was_verified() -> None:
    res = gaussian.fit({"y": Y})
    found = res.profile("sigma")
    frame = found.frame()
    ends = frame[frame["kind"].isin(["lower", "upper"])]
    assert ends["value"].tolist() == pytest.approx(of_sigma(Y), rel=1e-9)
    assert (ends["gap"].abs() <= 1e-8).all()
    assert (frame["decrement"].abs() <= 1e-8).all()
    assert frame["value"].is_monotonic_increasing
    sigma, n = frame["sigma"].to_numpy(), Y.size  # the profile in closed form
    wanted = -0.5 * n * np.log(2 * np.pi) - n * np.log(sigma) - 0.5 * n * Y.var() / sigma**2
    assert np.allclose(frame["loglik"], wanted, rtol=1e-9, atol=1e-8)
    assert np.allclose(frame["root"] ** 2, 2 * (res.llf - wanted), atol=1e-7, rtol=1e-7)
    assert "finite, l - cut" in str(found)
    assert found.flags == ()


def test_pictures() -> None:
    res = gaussian.fit({"y": Y})
    found, region = res.profile("sigma"), res.contour("mu", "sigma")
    ax = found.plot()
    assert found.plot_root(ax) is ax
    assert "sigma" in ax.get_xlabel()
    assert region.plot().get_ylabel() == "sigma"
    lines = {line.get_label() for line in ax.get_lines()}
    assert {"profile", "quadratic approximation"} <= lines


def test_a_region_in_closed_form() -> None:
    """2 (l - l(mu, sigma)) = n (2 log(sigma / s) + (s^2 + (mean - mu)^2) / sigma^2 - 1)."""
    res = gaussian.fit({"y": Y})
    for joint, cut in ((True, chi2.ppf(0.95, 2)), (False, CUT)):
        region = res.contour("mu", "sigma", joint=joint, n=16)
        ratio = Y.size * (2 * np.log(region.y / Y.std()) + (Y.var() + (Y.mean() - region.x) ** 2) / region.y**2 - 1)
        assert set(region.status) == {"finite"}
        assert np.allclose(ratio, cut, atol=1e-7)
        assert len(region.frame()) == 16
    assert "joint region" in str(res.contour("mu", lambda p: p["mu"] / p["sigma"], n=8))


def test_many_fits_are_those_one_by_one() -> None:
    rng = np.random.default_rng(5)
    y = rng.normal(2.0, 1.5, size=(7, 12))
    y[3] = 4.0  # a constant response has no maximum
    with pytest.warns(mle.ConvergenceWarning):
        many = gaussian.fit_batch({"y": y})
    found = many.conf_int(method="profile")
    for i in (0, 1, 2, 4, 5, 6):
        assert found.loc[(i, "mu"), ["lower", "upper"]].tolist() == pytest.approx(of_mean(y[i]), abs=1e-8)
        assert found.loc[(i, "sigma"), ["lower", "upper"]].tolist() == pytest.approx(of_sigma(y[i]), rel=1e-8)
        assert found.loc[(i, "mu"), "lower_status"] == "finite"
    assert found.loc[(3, "mu"), "lower_status"] == "no_finite_maximum"
    assert np.isnan(found.loc[(3, "mu"), "lower"])
    wald = many.conf_int()
    assert wald.loc[(0, "mu")].tolist() == pytest.approx(many[0].conf_int().loc["mu"].tolist())


def test_pseudolikelihoods_are_refused_unless_adjusted() -> None:
    """With one weight for all rows the robust variance of a mean is s^2 / n, and the interval that without weights."""
    data = {"y": Y, "w": np.full(5, 3.0)}
    res = gaussian.fit(data, weights="w", weight_kind="sampling")
    with pytest.raises(ValueError, match=r"Rotnitzky & Jewell 1990"):
        res.conf_int(method="profile")
    with pytest.raises(ValueError, match="sampling weights"):
        res.contour("mu", "sigma")
    found = res.profile("mu", adjusted=True)
    assert found.factor == pytest.approx(3.0, rel=1e-9)  # the log-likelihood counts every row three times
    assert found.conf_int() == pytest.approx(tuple(of_mean(Y)), abs=1e-8)
    robust = gaussian.fit({"y": Y}, cov_type="HC0")
    with pytest.raises(ValueError, match=r"cov_type='HC0'"):
        robust.profile("sigma")
    found = robust.profile("sigma", adjusted=True)  # Var(sigma) = (m4 - s^4) / (4 s^2 n), the model's s^2 / (2 n)
    m4 = ((Y - Y.mean()) ** 4).mean()
    factor = (m4 - Y.var() ** 2) / (2 * Y.var() ** 2)
    assert found.factor == pytest.approx(factor, rel=1e-8)
    drop = lambda u: Y.size * (2 * u + np.expm1(-2 * u)) - CUT * factor
    wanted = Y.std() * np.exp([brentq(drop, -5, -1e-9), brentq(drop, 1e-9, 9)])
    assert found.conf_int() == pytest.approx(tuple(wanted), rel=1e-7)
    assert "V_robust / V_model" in str(found)


def test_frequency_weights_are_repeated_rows() -> None:
    w = np.array([1, 2, 1, 3, 1])
    found = gaussian.fit({"y": Y, "w": w}, weights="w", weight_kind="frequency").conf_int(method="profile")
    assert found.loc["mu", ["lower", "upper"]].tolist() == pytest.approx(of_mean(np.repeat(Y, w)), abs=1e-9)


def test_wrong_input_is_told() -> None:
    res = gaussian.fit({"y": Y})
    with pytest.raises(ValueError, match=r"no parameter 'sigm' \(did you mean sigma"):
        res.profile("sigm")
    with pytest.raises(TypeError, match=r"profile: expected the name of an entry, such as 'mu'"):
        res.profile(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="profile: expected a function that returns one number, got 2"):
        res.profile(lambda p: jnp.stack([p["mu"], p["sigma"]]))
    for function, what in ((lambda p: jnp.log(p["mu"] - p["mu"]), "value"), (lambda p: jnp.sqrt(p["mu"] - 2.9), "derivative")):
        with pytest.raises(ValueError, match=f"its {what} at the estimate is not finite, so that it has no profile"):
            gaussian.fit({"y": np.array([2.9, 2.9 + 1.0, 2.9 - 1.0])}).profile(function)
    with pytest.raises(ValueError, match="its derivative with respect to the parameters is 0"):
        res.profile(lambda p: (p["mu"] - Y.mean()) ** 2)
    with pytest.raises(TypeError, match=r"write jnp\.exp"):
        res.profile(lambda p: np.exp(p["mu"]))
    with pytest.raises(ValueError, match="twice"):
        res.contour("mu", "mu")
    with pytest.raises(ValueError, match="at least 8 directions"):
        res.contour("mu", "sigma", n=3)
    with pytest.raises(ValueError, match="'wald', 'profile' or one of"):
        res.conf_int(method="lr")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"leave out scale="):
        res.conf_int(method="profile", scale="natural")
    with pytest.raises(ValueError, match="is for method='profile'"):
        res.conf_int(adjusted=True)
    with pytest.raises(ValueError, match="alpha is 1 - coverage"):
        res.profile("mu", alpha=0.95)
    with pytest.raises(ValueError, match="'mu' is fixed"):
        gaussian.fit({"y": Y}, fixed={"mu": 2.0}).profile("mu")


def test_fits_without_a_profile_say_why() -> None:
    data = logit_data()
    many = logit.fit(data)
    with pytest.raises(ValueError, match=r"expected one entry, but 'beta' has 2: beta\[one\], beta\[x\]"):
        many.profile("beta")
    penalised = logit.fit(data, penalty=mle.l2(1.0))
    with pytest.raises(ValueError, match="not at its maximum"):
        penalised.conf_int(method="profile")
    with pytest.raises(ValueError, match="use 'jeffreys'"):
        logit.fit(data, bias_reduction="empirical").profile("beta[x]")
    separated = {**data, "y": (data["x"] > 0).astype(float)}
    with pytest.warns(mle.ConvergenceWarning):
        res = logit.fit(separated)
    with pytest.raises(ValueError, match="did not end at a maximum \\(no_finite_maximum"):
        res.profile("beta[x]")


def test_a_separated_logit_has_a_penalised_profile() -> None:
    data = logit_data()
    res = logit.fit({**data, "y": (data["x"] > 0).astype(float)}, bias_reduction="jeffreys")
    found = res.profile("beta[x]")
    assert found.lower.status == "finite"
    assert abs(found.lower.gap) <= 1e-8
    top = res.llf_penalized
    assert found.llf == pytest.approx(top)
    at = found.frame().set_index("kind").loc["lower"]
    held = logit.fit({**data, "y": (data["x"] > 0).astype(float)}, start=res.params_tree, bias_reduction="jeffreys")
    assert held.llf_penalized == pytest.approx(top)
    assert top - at["loglik"] == pytest.approx(CUT / 2, abs=1e-8)


def test_advice_names_the_call() -> None:
    @mle.model(mu=mle.NonNegative())
    def half_line(params: Any, data: Any) -> Any:
        return norm.logpdf(data["y"], params["mu"], 1.0)

    near = half_line.fit({"y": np.array([0.2, 0.5, -0.1])})
    assert "method='profile'" in near.tidy()["note"][0]
    on = half_line.fit({"y": np.array([-0.2, -0.5, -0.1])})
    assert "method='profile'" in on.verdict.advice


def test_entries_of_structures_and_tied_entries() -> None:
    """A probability of a simplex has the binomial's interval; a variance that of one variable; tied means that of their pool."""

    @mle.model(pi=mle.Simplex(3))
    def multinomial(params: Any, data: Any) -> Any:
        return jnp.log(params["pi"])[data["k"]]

    x, n = 3, 40
    found = multinomial.fit({"k": np.repeat([0, 1, 2], [x, 10, 27])}).conf_int(method="profile")
    drop = lambda q: 2 * (x * np.log(x / n / q) + (n - x) * np.log((1 - x / n) / (1 - q))) - CUT
    wanted = [brentq(drop, 1e-9, x / n, xtol=1e-14), brentq(drop, x / n, 0.9, xtol=1e-14)]
    assert found.loc["pi[0]", ["lower", "upper"]].tolist() == pytest.approx(wanted, abs=1e-8)

    @mle.model(m=mle.Real(shape=2), S=mle.Covariance(2))
    def bivariate(params: Any, data: Any) -> Any:
        return multivariate_normal.logpdf(data["X"], params["m"], params["S"])

    X = np.random.default_rng(0).normal(size=(25, 2)) @ np.array([[1.0, 0.5], [0.0, 1.0]])
    found = bivariate.fit({"X": X}).conf_int(method="profile")
    drop = lambda u: 25 * (u + np.expm1(-u)) - CUT
    wanted = X[:, 0].var() * np.exp([brentq(drop, -4, -1e-9, xtol=1e-15), brentq(drop, 1e-9, 5, xtol=1e-15)])
    assert found.loc["S[0,0]", ["lower", "upper"]].tolist() == pytest.approx(wanted, rel=1e-8)

    @mle.model(mu=mle.Real(shape=2))
    def two(params: Any, data: Any) -> Any:
        return norm.logpdf(data["y"], params["mu"][data["g"]], 1.0)

    y = np.arange(6.0)
    found = two.fit({"y": y, "g": np.repeat([0, 1], 3)}, constraints="mu[0] = mu[1]").conf_int(method="profile")
    reach = np.sqrt(CUT / 6)
    for name in ("mu[0]", "mu[1]"):
        assert found.loc[name, ["lower", "upper"]].tolist() == pytest.approx([2.5 - reach, 2.5 + reach], abs=1e-9)


def test_an_open_edge_at_which_the_profile_levels_off() -> None:
    """A dispersion that could be 0: the profile levels off at the Poisson's log-likelihood, and 0 is the end."""

    @mle.model(mu=mle.Positive(), alpha=mle.Positive(start=0.1))
    def negbin(params: Any, data: Any) -> Any:
        return mle.special.nb2_logpmf(data["y"], params["mu"], params["alpha"])

    y = np.array([0.0, 1, 2, 2, 3, 3, 4, 5, 7, 10])
    res = negbin.fit({"y": y})
    assert res.converged
    found = res.profile("alpha")
    at_zero = 2 * (res.llf - poisson.logpmf(y, y.mean()).sum())
    assert 0 < at_zero < CUT
    assert (found.lower.value, found.lower.status) == (0.0, "on the boundary")
    assert f"levels off at a likelihood ratio of {at_zero:.3g}" in found.lower.note
    assert found.upper.status == "finite"
