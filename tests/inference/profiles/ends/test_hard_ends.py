"""Ends of profiles that are not regular: each is right by a closed form or a root found by SciPy, or it is named."""

import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import cauchy, norm
from scipy.optimize import brentq, minimize, minimize_scalar
from scipy.stats import chi2

import mlejax as mle
from tests.cases import Case, supports

CUT = float(chi2.ppf(0.95, 1))
HALF = float(chi2.ppf(0.90, 1))


@mle.model(p=mle.Interval(0, 1, closed="both"))
def bernoulli(params: Any, data: Any) -> Any:
    return jnp.log(jnp.where(data["y"] > 0, params["p"], 1 - params["p"]))


@mle.model(mu=mle.NonNegative())
def half_line(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["mu"], 1.0)


@mle.model(a=mle.Real(), b=mle.Real())
def two_means(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], jnp.where(data["g"] == 0, params["a"], params["b"]), 1.0)


@mle.model(theta=mle.Real())
def location(params: Any, data: Any) -> Any:
    return cauchy.logpdf(data["y"], params["theta"])


@mle.model(beta=mle.Real(shape=2), sigma=mle.Positive())
def line(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["beta"][0] + params["beta"][1] * data["x"], params["sigma"])


@mle.model(mean=mle.Real(shape=2), sd=mle.Positive(shape=2), R=mle.Correlation(2))
def bivariate(params: Any, data: Any) -> Any:
    a, b = ((data[k] - params["mean"][i]) / params["sd"][i] for i, k in enumerate("xy"))
    r = params["R"][0, 1]
    q = (a * a - 2 * r * a * b + b * b) / (1 - r * r)
    return -0.5 * q - jnp.log(params["sd"]).sum() - 0.5 * jnp.log1p(-r * r) - jnp.log(2 * jnp.pi)


@mle.model(mu=mle.Real(), sigma=mle.Positive(), nu=mle.Positive(start=5.0))
def student(params: Any, data: Any) -> Any:
    return mle.special.t_logpdf(data["y"], params["nu"], params["mu"], params["sigma"])


def ends(res: Any, what: Any, **options: Any) -> Any:
    profile = res.profile(what, **options)
    for end in (profile.lower, profile.upper):
        if end.status.startswith("finite"):
            assert abs(end.gap) <= 1e-8
            assert abs(end.decrement) <= 1e-8
    return profile


# ---- edges of a support


def test_an_estimate_on_its_edge_has_an_upper_end_in_closed_form() -> None:
    n = 7
    found = ends(bernoulli.fit({"y": np.zeros(n)}), "p")
    assert (found.lower.value, found.lower.status) == (0.0, "on the boundary")
    assert found.upper.value == pytest.approx(1 - np.exp(-CUT / (2 * n)), rel=1e-9)
    assert "belongs to the interval" in found.lower.note
    found = ends(bernoulli.fit({"y": np.ones(n)}), "p")
    assert found.lower.value == pytest.approx(np.exp(-CUT / (2 * n)), rel=1e-9)
    assert (found.upper.value, found.upper.status) == (1.0, "on the boundary")


@pytest.mark.parametrize("ratio", [1.0, 3.2, 5.0])
def test_half_chi_squared_decides_only_on_the_edge_itself(ratio: float) -> None:
    n = 16
    mean = np.sqrt(ratio / n)
    res = half_line.fit({"y": mean + np.linspace(-1, 1, n)})
    found = ends(res, "mu")
    assert found.upper.value == pytest.approx(mean + np.sqrt(CUT / n), abs=1e-9)
    if ratio > CUT:
        assert found.lower.status == "finite"
        assert found.lower.value == pytest.approx(mean - np.sqrt(CUT / n), abs=1e-9)
    else:
        assert (found.lower.value, found.lower.status) == (0.0, "on the boundary")
        assert ("does not belong" in found.lower.note) == (ratio > HALF)


# ---- profiles that level off


@pytest.mark.parametrize(("ma", "mb"), [(2.0, 3.0), (2.0, 0.4), (0.2, 0.3), (-1.0, 0.5)])
def test_fiellers_intervals_of_a_ratio(ma: float, mb: float) -> None:
    """The ratio of two means with known variance: {c: n (ma - c mb)^2 <= q (1 + c^2)}, an interval, its complement, or all."""
    n = 10
    y = np.concatenate([ma + np.linspace(-1, 1, n), mb + np.linspace(-1, 1, n)])
    found = ends(two_means.fit({"y": y, "g": np.repeat([0.0, 1.0], n)}), lambda p: p["a"] / p["b"])
    A, B, C = mb**2 - CUT / n, -2 * ma * mb, ma**2 - CUT / n
    inside = B * B - 4 * A * C
    roots = np.sort(np.roots([A, B, C]).real) if inside > 0 else np.array([-np.inf, np.inf])
    if A > 0:
        assert found.conf_int() == pytest.approx(tuple(roots), rel=1e-8)
        assert found.flags == ()
    elif inside <= 0:
        assert found.conf_int() == (-np.inf, np.inf)
        assert found.flags == ("infinite",)
        assert f"{n * mb**2:.3g}" in found.upper.note  # the likelihood ratio at b = 0
    else:
        assert set(found.flags) == {"infinite", "several pieces"}
        assert len(found.pieces) == 2
        assert found.pieces[0] == pytest.approx((-np.inf, roots[0]), rel=1e-7)
        assert found.pieces[1] == pytest.approx((roots[1], np.inf), rel=1e-7)
        assert found.conf_int() in found.pieces


def test_degrees_of_freedom_have_no_upper_end_where_the_normal_is_as_good() -> None:
    y = norm_quantiles(40) + np.where(np.arange(40) % 13 == 0, 0.4, 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        res = student.fit({"y": np.append(y, [3.5, -3.6])})
    if not res.converged:  # its own estimate at infinity: no profile is shown
        with pytest.raises(ValueError, match="did not end at a maximum"):
            res.profile("nu")
        return
    found = ends(res, "nu")
    assert found.upper.status == "infinite"
    assert found.upper.value == np.inf
    assert found.lower.status == "finite"


def norm_quantiles(n: int) -> np.ndarray:
    from scipy.stats import norm as normal

    return normal.ppf((np.arange(n) + 0.5) / n)


# ---- several modes


def cauchy_loglik(theta: float, y: np.ndarray) -> float:
    return float(-np.log1p((y - theta) ** 2).sum() - y.size * np.log(np.pi))


def test_two_modes_are_two_pieces() -> None:
    y = np.array([-12.0, -11.0, -11.5, 11.0, 11.4, 12.0])
    res = location.fit({"y": y}, start={"theta": 11.4})
    top = max((minimize_scalar(lambda t: -cauchy_loglik(t, y), bounds=b, method="bounded", options={"xatol": 1e-12})
               for b in ((-13, -10), (10, 13))), key=lambda r: -r.fun)  # fmt: skip
    level = lambda t: cauchy_loglik(t, y) - res.llf + CUT / 2
    found = ends(res, "theta")
    if -top.fun > res.llf + 1e-6:
        assert found.better is not None
        assert found.better.llf == pytest.approx(-top.fun, abs=1e-8)
        with pytest.raises(ValueError, match="higher than the fit's"):
            found.conf_int()
    else:
        assert found.flags == ("several pieces",)
        right = brentq(level, 5, 11.3, xtol=1e-13), brentq(level, 11.6, 20, xtol=1e-13)
        left = brentq(level, -20, -11.7, xtol=1e-13), brentq(level, -11.3, -5, xtol=1e-13)
        assert found.pieces == (pytest.approx(left, abs=1e-7), pytest.approx(right, abs=1e-7))
        assert found.conf_int() == pytest.approx(right, abs=1e-9)


def test_a_higher_maximum_is_found_and_no_interval_is_given() -> None:
    y = np.array([-6.0, -5.5, -5.2, 6.0, 6.2, 6.3, 5.8])
    res = location.fit({"y": y}, start={"theta": -5.5})
    assert res.params["theta"] < 0
    before = res.llf
    found = res.profile("theta")
    assert "higher maximum found" in found.flags
    assert found.better.params["theta"] == pytest.approx(6.08, abs=0.1)
    assert found.better.llf > res.llf == before
    assert found.better.converged
    with pytest.raises(ValueError, match=r"profile\.better is the fit that starts at the higher point"):
        found.conf_int()
    assert "no interval" in str(found)


@pytest.mark.parametrize(("depth", "pieces"), [(1.0, 1), (3.0, 2)])
def test_a_dip_above_the_cut_is_inside_and_one_below_it_parts_the_interval(depth: float, pieces: int) -> None:
    @mle.model(theta=mle.Real())
    def wells(params: Any, data: Any) -> Any:
        return -data["k"] * (params["theta"] ** 2 - 1) ** 2

    res = wells.fit({"k": np.full(2, depth / 2)}, start={"theta": 0.9})
    found = ends(res, "theta")
    root = np.sqrt(CUT / 2 / depth)
    assert found.upper.value == pytest.approx(np.sqrt(1 + root), abs=1e-9)
    assert len(found.pieces) == pieces
    low = -np.sqrt(1 + root) if pieces == 1 else np.sqrt(1 - root)
    assert found.lower.value == pytest.approx(low, abs=1e-9)
    if pieces == 2:
        assert found.pieces[0] == pytest.approx((-np.sqrt(1 + root), -np.sqrt(1 - root)), abs=1e-7)


# ---- ridges


@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_a_ridge_of_intercept_and_slope(shift: float) -> None:
    """Normal regression: beta_j ± s_j sqrt(n (exp(q / n) - 1)), s_j the maximum-likelihood error."""
    n = 12
    x = np.linspace(-1, 1, n) + shift
    y = 0.3 * (x - shift) + np.cos(np.arange(n) * 2.0)
    res = line.fit({"y": y, "x": x})
    X = np.stack([np.ones(n), x - shift], axis=1)
    b, rss = np.linalg.lstsq(X, y, rcond=None)[:2]
    V = np.linalg.inv(X.T @ X) * rss[0] / n
    reach = np.sqrt(n * np.expm1(CUT / n))
    found = ends(res, "beta[1]")
    se = np.sqrt(V[1, 1])
    assert [found.lower.value, found.upper.value] == pytest.approx(
        [b[1] - reach * se, b[1] + reach * se], abs=1e-6 * se
    )
    T = np.array([[1.0, -shift], [0.0, 1.0]])
    intercept, error = b[0] - shift * b[1], np.sqrt((T @ V @ T.T)[0, 0])
    found = ends(res, "beta[0]")
    wanted = [intercept - reach * error, intercept + reach * error]
    assert [found.lower.value, found.upper.value] == pytest.approx(wanted, abs=1e-6 * error)
    fitted = lambda p: p["beta"][0] + p["beta"][1] * (shift + 0.5)
    found = ends(res, fitted)
    at = np.array([1.0, 0.5])
    error = np.sqrt(at @ V @ at)
    assert [found.lower.value, found.upper.value] == pytest.approx(
        [at @ b - reach * error, at @ b + reach * error], abs=1e-5 * error
    )


@pytest.mark.parametrize("n", [4, 30])
def test_a_correlation_near_one(n: int) -> None:
    """LR(rho) = n log[(1 - rho r)^2 / ((1 - rho^2)(1 - r^2))]."""
    t = np.linspace(-1, 1, n)
    data = {"x": t, "y": t + 0.02 * np.cos(np.arange(n) * 2.5)}
    r = float(np.corrcoef(data["x"], data["y"])[0, 1])
    ratio = lambda z: n * np.log((1 - np.tanh(z) * r) ** 2 / ((1 - np.tanh(z) ** 2) * (1 - r * r))) - CUT
    z = np.arctanh(r)
    wanted = np.tanh([brentq(ratio, z - 6, z, xtol=1e-14), brentq(ratio, z, z + 6, xtol=1e-14)])
    res = bivariate.fit(data)
    found = ends(res, "R[0,1]")
    assert np.arctanh([found.lower.value, found.upper.value]) == pytest.approx(np.arctanh(wanted), abs=1e-7)
    other = ends(res, lambda p: jnp.arctanh(p["R"][0, 1]))
    assert [other.lower.value, other.upper.value] == pytest.approx(np.arctanh(wanted), abs=1e-7)


def test_one_observation_of_an_exponential() -> None:
    @mle.model(rate=mle.Positive())
    def exponential(params: Any, data: Any) -> Any:
        return jnp.log(params["rate"]) - params["rate"] * data["t"]

    found = ends(exponential.fit({"t": [2.0]}), "rate")
    drop = lambda u: 2 * (np.exp(u) - 1 - u) - CUT  # u = log(rate / estimate)
    wanted = 0.5 * np.exp([brentq(drop, -10, -1e-3, xtol=1e-14), brentq(drop, 1e-3, 10, xtol=1e-14)])
    assert [found.lower.value, found.upper.value] == pytest.approx(wanted, rel=1e-9)
    far = ends(exponential.fit({"t": [2.0]}), "rate", alpha=1e-10)
    wide = float(chi2.isf(1e-10, 1))
    drop_wide = lambda u: 2 * (np.exp(u) - 1 - u) - wide
    assert far.upper.value == pytest.approx(0.5 * np.exp(brentq(drop_wide, 1e-3, 10, xtol=1e-14)), rel=1e-8)
    assert far.lower.value == pytest.approx(0.5 * np.exp(brentq(drop_wide, -60, -1e-3, xtol=1e-14)), rel=1e-8)


def test_a_variance_on_its_edge_and_those_beside_it() -> None:
    """Box & Tiao's second dyestuff data: SciPy maximises over the others, bounded, and finds the crossings."""
    case = Case("dyestuff2_boundary")
    res = mle.model(params=supports(case), rowwise=case.rowwise)(case.loglik).fit(case.data, start=case.init)
    r = case.data["yield"].reshape(6, 5)

    def minus_loglik(mu: float, u: float, s: float) -> float:
        d, e = s**2 + 5 * u**2, r - mu
        quad = (e**2).sum(1) / s**2 - u**2 * e.sum(1) ** 2 / (s**2 * d)
        return float(0.5 * (5 * np.log(2 * np.pi) + 4 * np.log(s**2) + np.log(d) + quad).sum())

    def drop(which: int, value: float) -> float:
        others = [i for i in range(3) if i != which]

        def inner(v: np.ndarray) -> float:
            at = np.empty(3)
            at[which], at[others] = value, v
            return minus_loglik(*at)

        bounds = [[(0.0, 12.0), (0.0, 8.0), (0.5, 12.0)][i] for i in others]
        start = [[5.6, 1e-3, 3.65][i] for i in others]
        starts = start, [[5.6, 1.0, 3.65][i] for i in others]
        best = min(
            minimize(inner, s, bounds=bounds, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-10}).fun
            for s in starts
        )
        return 2 * (best + res.llf) - CUT

    found = res.conf_int(method="profile")
    assert found.loc["mu", "lower"] == pytest.approx(brentq(lambda v: drop(0, v), 3.5, 5.0, xtol=1e-9), abs=2e-5)
    assert found.loc["mu", "upper"] == pytest.approx(brentq(lambda v: drop(0, v), 6.0, 8.0, xtol=1e-9), abs=2e-5)
    assert found.loc["sigma_u", "upper"] == pytest.approx(brentq(lambda v: drop(1, v), 1.0, 4.0, xtol=1e-9), abs=2e-5)
    assert found.loc["sigma", "lower"] == pytest.approx(brentq(lambda v: drop(2, v), 2.0, 3.5, xtol=1e-9), abs=2e-5)
    assert found.loc["sigma", "upper"] == pytest.approx(brentq(lambda v: drop(2, v), 4.0, 6.0, xtol=1e-9), abs=2e-5)
    assert (found.loc["sigma_u", "lower"], found.loc["sigma_u", "lower_status"]) == (0.0, "on the boundary")
    for name in ("mu", "sigma"):
        assert found.loc[name, "lower_status"] == found.loc[name, "upper_status"] == "finite, nuisance at a bound"


def test_a_log_likelihood_that_ends_inside_the_interval_is_named() -> None:
    @mle.model(rate=mle.Positive())
    def limited(params: Any, data: Any) -> Any:
        inside = params["rate"] < data["limit"]
        return jnp.where(inside, jnp.log(params["rate"]) - params["rate"] * data["t"], -jnp.inf)

    res = limited.fit({"t": np.array([1.0, 2.0, 3.0, 2.5]), "limit": np.full(4, 0.6)}, start={"rate": 0.5})
    found = res.profile("rate")
    assert found.upper.status == "not computable"
    assert "no constrained maximum was found beyond 0.59" in found.upper.note
    assert found.lower.status == "finite"
    with pytest.raises(ValueError, match="not computable"):
        found.conf_int()
