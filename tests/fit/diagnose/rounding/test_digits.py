"""Limits where the usual formulas lose their digits: the simpler model's log-likelihood is what they level off at."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import betaln, gammaln, i0
from jax.scipy.stats import norm
from scipy import optimize, stats

import mlejax as mle

pytestmark = [
    pytest.mark.filterwarnings("ignore::mlejax.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*special.betaln:RuntimeWarning"),
]


def negative_binomial(p: Any, d: Any) -> Any:
    y, mu, r = d["y"], p["mu"], 1 / p["alpha"]
    return (
        gammaln(y + r) - gammaln(r) - gammaln(y + 1.0) + r * jnp.log(r / (r + mu)) + y * jnp.log(mu / (r + mu))
    )  # fmt: skip


nb2 = mle.model(mu=mle.Positive(), alpha=mle.Positive())(negative_binomial)
nb2_from_0 = mle.model(mu=mle.Positive(), alpha=mle.NonNegative())(negative_binomial)


@mle.model(mu=mle.Real(), s=mle.Positive(), df=mle.Positive())
def student(p: Any, d: Any) -> Any:
    v, s = p["df"], p["s"]
    z = (d["y"] - p["mu"]) / s
    constant = gammaln((v + 1) / 2) - gammaln(v / 2) - 0.5 * jnp.log(v * jnp.pi) - jnp.log(s)
    return constant - (v + 1) / 2 * jnp.log1p(z * z / v)


@pytest.mark.parametrize("seed", [0, 2, 17, 19, 23])
def test_a_negative_binomial_of_poisson_counts_levels_off_at_the_poisson(seed: int) -> None:
    """Levin & Reeds 1977: it has a maximum just where the variance exceeds the mean."""
    y = np.random.default_rng(seed).poisson(3.0, size=200).astype(float)
    assert y.var() < y.mean()
    verdict = nb2.fit({"y": y}).verdict
    assert verdict.code == "no_finite_maximum"
    assert "alpha -> 0" in verdict.statement
    assert verdict.evidence["supremum"] == pytest.approx(stats.poisson.logpmf(y, y.mean()).sum(), abs=0.01)


@pytest.mark.parametrize("seed", [0, 2, 17, 19, 23])
def test_with_a_closed_edge_it_ends_on_the_edge_though_the_formula_is_not_a_number_there(seed: int) -> None:
    """The limit is the Poisson: its estimate, error and log-likelihood."""
    y = np.random.default_rng(seed).poisson(3.0, size=200).astype(float)
    res = nb2_from_0.fit({"y": y})
    assert res.verdict.code == "boundary"
    assert res.params["alpha"] == 0.0
    assert res.llf == pytest.approx(stats.poisson.logpmf(y, y.mean()).sum(), abs=1e-6)
    assert res.params["mu"] == pytest.approx(y.mean(), rel=1e-6)
    assert res.bse["mu"] == pytest.approx(np.sqrt(y.mean() / 200), rel=1e-4)
    assert np.isnan(res.bse["alpha"])


@mle.model(mu=mle.Positive())
def poisson(p: Any, d: Any) -> Any:
    return d["y"] * jnp.log(p["mu"]) - p["mu"] - gammaln(d["y"] + 1.0)


@pytest.mark.parametrize("model", [nb2, nb2_from_0], ids=["positive", "nonnegative"])
def test_likelihood_ratio_and_aic_use_the_supremum(model: mle.Model) -> None:
    y = np.random.default_rng(0).poisson(3.0, size=200).astype(float)
    full, simple = model.fit({"y": y}), poisson.fit({"y": y})
    test = full.lr_test(simple, boundary=1)
    assert (test.statistic, test.pvalue) == (0.0, 1.0)
    assert full.aic == pytest.approx(simple.aic + 2.0, abs=0.02)
    assert "the limit that it approaches" in test.summary()


@pytest.mark.parametrize("model", [nb2, nb2_from_0], ids=["positive", "nonnegative"])
@pytest.mark.parametrize("seed", [1, 18])
def test_where_the_variance_exceeds_the_mean_it_has_a_maximum(model: mle.Model, seed: int) -> None:
    y = np.random.default_rng(seed).poisson(3.0, size=200).astype(float)
    assert y.var() > y.mean()
    res = model.fit({"y": y})
    assert res.verdict.code == "verified"
    assert res.llf > stats.poisson.logpmf(y, y.mean()).sum()
    assert res.params["mu"] == pytest.approx(y.mean(), rel=1e-8)


@pytest.mark.parametrize("seed", [101, 103, 111, 112])
def test_students_t_of_light_tails_levels_off_at_the_normal(seed: int) -> None:
    y = np.random.default_rng(seed).normal(size=100)
    assert stats.kurtosis(y) < 0
    verdict = student.fit({"y": y}).verdict
    assert verdict.code == "no_finite_maximum"
    assert verdict.evidence["supremum"] == pytest.approx(stats.norm.logpdf(y, y.mean(), y.std()).sum(), abs=0.01)


def test_a_batch_says_the_same() -> None:
    y = np.random.default_rng(7).poisson(3.0, size=(12, 200)).astype(float)
    found = nb2.fit_batch({"y": y})
    over = y.var(axis=1) > y.mean(axis=1)
    assert [found[i].verdict.code for i in range(12)] == ["verified" if o else "no_finite_maximum" for o in over]


def test_a_formula_whose_rounding_is_not_known_is_fitted_all_the_same() -> None:
    """Random keys among its constants; and a start so far away that digits are looked at."""
    key = jax.random.key(0)

    @mle.model(mu=mle.Real(), s=mle.Positive())
    def noisy(p: Any, d: Any) -> Any:
        return jax.scipy.stats.norm.logpdf(d["y"], p["mu"], p["s"]) + 0.0 * jax.random.uniform(key)

    y = np.random.default_rng(0).normal(size=50)
    with pytest.warns(RuntimeWarning, match="random"):
        res = noisy.fit({"y": y}, start={"mu": 0.0, "s": 1e4})
    assert res.verdict.code == "verified"
    assert res.params["s"] == pytest.approx(y.std(), rel=1e-8)


@pytest.mark.parametrize(
    ("model", "y"),
    [
        (nb2_from_0, np.random.default_rng(17).poisson(3.0, size=200).astype(float)),
        (student, np.random.default_rng(117).normal(size=100)),
    ],
    ids=["negative binomial", "t"],
)
def test_several_starts_find_no_maxima_of_rounding(model: mle.Model, y: np.ndarray) -> None:
    """Of ten starts some end in clean maxima of the rounding noise, up to 5 units above the supremum."""
    res = model.fit({"y": y}, n_starts=10)
    simpler = (stats.poisson(y.mean()).logpmf if model is nb2_from_0 else stats.norm(y.mean(), y.std()).logpdf)(y).sum()
    assert res.verdict.code == ("boundary" if model is nb2_from_0 else "no_finite_maximum")
    assert (res.verdict.supremum or res.llf) == pytest.approx(simpler, abs=0.01)
    assert "digits lost" in set(res.modes["kind"])
    assert not (res.modes["llf"] > simpler + 0.1).any()


def test_what_is_known_of_the_rounding_is_evidence() -> None:
    """A scan has a rule in the reverse pass alone, which bounds the log-likelihood: that is said, and not taken for exact."""

    @mle.model(mu=mle.Real(), s=mle.Positive())
    def scanned(p: Any, d: Any) -> Any:
        each = lambda total, y: (total + jax.scipy.stats.norm.logpdf(y, p["mu"], p["s"]), None)
        return jax.lax.scan(each, 0.0, d["y"])[0]

    y = np.random.default_rng(0).normal(size=50)
    whole = mle.model(params=scanned.likelihood.parameters, rowwise=False)(scanned.likelihood.function)
    far = {"mu": 0.0, "s": 1e4}
    said = whole.fit({"y": y}, start=far).verdict.evidence["rounding"]
    assert said.startswith("error bar of the log-likelihood")
    assert said.endswith("of its derivatives not known: no rule for scan")
    known = student.fit({"y": np.random.default_rng(101).normal(size=100)}).verdict.evidence
    assert known["rounding"].startswith("error bar of the log-likelihood")


@pytest.mark.parametrize(
    ("model", "y", "start"),
    [
        (nb2, np.random.default_rng(17).poisson(3.0, size=200).astype(float), {"mu": 3.0, "alpha": 1e-9}),
        (student, np.random.default_rng(101).normal(size=100), {"mu": 0.0, "s": 1.0, "df": 1e13}),
    ],
    ids=["negative binomial", "t"],
)
def test_a_start_among_lost_digits_gives_no_maximum(model: mle.Model, y: np.ndarray, start: dict[str, float]) -> None:
    res = model.fit({"y": y}, start=start)
    assert res.verdict.code != "verified"
    assert not res.converged


def test_refits_among_lost_digits_have_failed() -> None:
    """Of these 400 resamples 26 end in clean maxima of rounding, at an alpha of about 1e-7."""
    y = np.random.default_rng(1).poisson(3.0, size=200).astype(float)
    with pytest.warns(mle.ConvergenceWarning, match="refits failed"):
        refits = nb2_from_0.fit({"y": y}).bootstrap(400, seed=1)
    alpha = refits.replicates["alpha"].dropna()
    assert len(alpha) > 200
    assert not ((alpha > 0) & (alpha < 1e-5)).any()


@mle.model(mu=mle.Real(), log_alpha=mle.Real())
def nb_of_log_alpha(p: Any, d: Any) -> Any:
    """The logarithm is the user's own: a real parameter to mlejax."""
    return negative_binomial({"mu": jnp.exp(p["mu"]), "alpha": jnp.exp(p["log_alpha"])}, d)


@mle.model(mu=mle.Real(), s=mle.Positive(), log_df=mle.Real())
def student_of_log_df(p: Any, d: Any) -> Any:
    return student.likelihood.function({"mu": p["mu"], "s": p["s"], "df": jnp.exp(p["log_df"])}, d)


@pytest.mark.parametrize("seed", [0, 2, 17, 19])
def test_a_logarithm_that_is_the_users_own(seed: int) -> None:
    """Six of eight such samples ended in verified maxima of rounding at log_alpha of about -17."""
    y = np.random.default_rng(seed).poisson(3.0, size=200).astype(float)
    verdict = nb_of_log_alpha.fit({"y": y}).verdict
    assert verdict.code == "no_finite_maximum"
    assert "log_alpha -> -inf" in verdict.statement
    assert verdict.evidence["supremum"] == pytest.approx(stats.poisson.logpmf(y, y.mean()).sum(), abs=0.01)


@pytest.mark.parametrize("seed", [101, 103])
def test_a_logarithm_of_degrees_of_freedom(seed: int) -> None:
    y = np.random.default_rng(seed).normal(size=100)
    verdict = student_of_log_df.fit({"y": y}).verdict
    assert verdict.code == "no_finite_maximum"
    assert verdict.evidence["supremum"] == pytest.approx(stats.norm.logpdf(y, y.mean(), y.std()).sum(), abs=0.01)


@mle.model(m=mle.Real(), s=mle.Positive(), tau=mle.Positive())
def exponentially_modified_normal(p: Any, d: Any) -> Any:
    z, k = d["y"] - p["m"], p["s"] / p["tau"]
    return -jnp.log(p["tau"]) + 0.5 * k**2 - z / p["tau"] + jax.scipy.stats.norm.logcdf(z / p["s"] - k)


@pytest.mark.parametrize("seed", [4, 7])
def test_a_modified_normal_of_normal_data_levels_off_at_the_normal(seed: int) -> None:
    """Skewed to the left, so that the exponential part vanishes; the formula has lost its digits at tau = 0.01."""
    y = np.random.default_rng(seed).normal(3.0, 2.0, size=200)
    y = y if stats.skew(y) < 0 else -y
    verdict = exponentially_modified_normal.fit({"y": y}).verdict
    assert verdict.code == "no_finite_maximum"
    assert "tau -> 0" in verdict.statement
    assert verdict.evidence["supremum"] == pytest.approx(stats.norm.logpdf(y, y.mean(), y.std()).sum(), abs=0.01)


@mle.model(a=mle.Positive(), b=mle.Positive())
def beta_binomial(p: Any, d: Any) -> Any:
    a, b, y, n = p["a"], p["b"], d["y"], 10.0
    logs = gammaln(n + 1) - gammaln(y + 1) - gammaln(n - y + 1)
    return betaln(y + a, n - y + b) - betaln(a, b) + logs


@pytest.mark.parametrize("seed", [1, 2, 5])
def test_a_beta_binomial_of_binomial_counts_rises_to_the_binomial(seed: int) -> None:
    """Both shapes run away together; far out the log-likelihood is noise, up to 1,200 above the supremum."""
    y = np.random.default_rng(seed).binomial(10, 0.3, size=200).astype(float)
    q = y.mean() / 10
    assert y.var() < 10 * q * (1 - q)
    verdict = beta_binomial.fit({"y": y}).verdict
    assert verdict.code == "no_finite_maximum"
    assert "a -> +inf" in verdict.statement
    assert "b -> +inf" in verdict.statement
    assert verdict.evidence["supremum"] == pytest.approx(stats.binom.logpmf(y, 10, q).sum(), abs=0.01)


def test_a_formula_that_overflows_on_the_way_is_not_said_to_rise_without_bound() -> None:
    """exp(kappa) overflows at 713; the maximum is at 1e10."""

    @mle.model(mu=mle.Real(), kappa=mle.Positive())
    def von_mises(p: Any, d: Any) -> Any:
        return p["kappa"] * jnp.cos(d["y"] - p["mu"]) - jnp.log(2 * jnp.pi * i0(p["kappa"]))

    verdict = von_mises.fit({"y": np.random.default_rng(0).normal(0.0, 1e-5, size=100)}).verdict
    assert verdict.code == "not_computable"
    assert "kappa -> +inf" in verdict.statement
    assert "mle.special" in verdict.advice


def test_where_only_second_derivatives_lose_digits_they_are_differenced() -> None:
    """Beside its guard the generalised Pareto's information is rounding (xi^-3), while its score has digits."""
    from scipy.optimize import brentq

    @mle.model(s=mle.Positive(), xi=mle.Real())
    def gpd(p: Any, d: Any) -> Any:
        xi = jnp.where(jnp.abs(p["xi"]) < 1e-8, 1.0, p["xi"])
        z = d["y"] / p["s"]
        long = jnp.where(jnp.abs(p["xi"]) < 1e-8, z, (1 + 1 / xi) * jnp.log(jnp.where(1 + xi * z > 0, 1 + xi * z, 1.0)))
        return -jnp.log(p["s"]) - jnp.where(1 + p["xi"] * z > 0, long, jnp.inf)

    @mle.model(s=mle.Positive(), xi=mle.Real())
    def stable(p: Any, d: Any) -> Any:
        return mle.special.gpd_logpdf(d["y"], p["s"], p["xi"])

    y = np.random.default_rng(0).exponential(size=150)
    # a power of the sample whose shape is nearly 0
    shape = lambda power: float(stable.fit({"y": y**power}).params["xi"])
    y = y ** brentq(lambda power: shape(power) - 1e-5, 0.7, 1.4, xtol=1e-9)
    usual, right = gpd.fit({"y": y}), stable.fit({"y": y})
    assert abs(right.params["xi"]) < 3e-5
    assert usual.verdict.code == "verified"
    assert "differences" in usual.summary().as_text()
    np.testing.assert_allclose(usual.bse, right.bse, rtol=1e-4)


@mle.model(a=mle.Positive(), s=mle.Positive())
def gamma(p: Any, d: Any) -> Any:
    return (p["a"] - 1.0) * jnp.log(d["y"]) - d["y"] / p["s"] - p["a"] * jnp.log(p["s"]) - gammaln(p["a"])


@mle.model(a=mle.Positive(), m=mle.Positive())
def stable_gamma(p: Any, d: Any) -> Any:
    return mle.special.gamma_logpdf(d["y"], p["m"], p["a"])


def test_a_gamma_of_nearly_constant_data_has_too_few_digits_and_points_to_the_stable_form() -> None:
    """The shape is 9e9: terms of 1e11 cancel.  The truth is the root of log(a) - digamma(a) by mpmath at 50 digits."""
    y = 5.0 * (1.0 + 1e-5 * np.random.default_rng(3).normal(size=100))
    plain = gamma.fit({"y": y}).verdict
    assert plain.code in ("stopped_early", "not_computable")
    assert "digits" in plain.statement
    assert "gamma_logpdf" in plain.advice
    stable = stable_gamma.fit({"y": y})
    assert stable.verdict.code == "verified"
    assert stable.params["a"] == pytest.approx(8794783029.4787927, rel=1e-8)
    assert stable.llf == pytest.approx(842.03364446428982, abs=1e-6)


@mle.model(b=mle.Real(), cut=mle.Ordered(3))
def ordered_probit(p: Any, d: Any) -> Any:
    """With open ends as textbooks write them: the cutpoints below the first and above the last class are infinite."""
    cut = jnp.concatenate([jnp.array([-jnp.inf]), p["cut"], jnp.array([jnp.inf])])
    low, high = (norm.cdf(cut[d["y"] + k] - p["b"] * d["x"]) for k in (0, 1))
    return jnp.log(high - low)


def test_infinite_cutpoints_have_all_digits_and_an_empty_class_levels_off_at_the_model_without_it() -> None:
    """The truth of three classes is by Nelder and Mead; the empty fourth has probability 0 in the limit."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=80)
    z = x + rng.normal(size=80)
    full = ordered_probit.fit({"x": x, "y": np.digitize(z, [-0.5, 0.2, 0.7])}).verdict
    assert full.code == "verified", full
    assert full.evidence["error_bars"]["loglik"] < 1e-9
    three = np.digitize(z, [-0.5, 0.7])

    def minus(q: np.ndarray) -> float:
        cut = np.array([-np.inf, q[1], q[1] + np.exp(q[2]), np.inf])
        return -np.log(stats.norm.cdf(cut[three + 1] - q[0] * x) - stats.norm.cdf(cut[three] - q[0] * x)).sum()

    best = optimize.minimize(minus, [1.0, -0.5, 0.2], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12})
    empty = ordered_probit.fit({"x": x, "y": np.array([0, 2, 3])[three]}).verdict
    assert empty.code == "no_finite_maximum", empty
    assert "cut[1] - cut[0] -> 0" in empty.statement
    assert empty.evidence["supremum"] == pytest.approx(-best.fun, abs=1e-6)


NODES, SHARES = np.polynomial.legendre.leggauss(40)


@mle.model(h=mle.Real(), k=mle.Real(), z=mle.Real())
def tetrachoric(p: Any, d: Any) -> Any:
    """The four probabilities of two dichotomised normals whose correlation is tanh(z), by quadrature along the correlation."""
    h, k, angle = p["h"], p["k"], jnp.arcsin(jnp.tanh(p["z"]))
    s = 0.5 * angle * (NODES + 1.0)
    density = jnp.exp(-(h * h + k * k - 2.0 * h * k * jnp.sin(s)) / (2.0 * jnp.cos(s) ** 2))
    first, second = norm.cdf(h), norm.cdf(k)
    both = first * second + jnp.sum(SHARES * density) * angle / (4.0 * jnp.pi)
    return jnp.log(jnp.stack([both, first - both, second - both, 1.0 - first - second + both]))[d["cell"]]


@pytest.mark.parametrize("counts", [(22, 0, 13, 15), (20, 0, 9, 21), (16, 0, 15, 19), (17, 0, 16, 17)])
def test_a_parameter_that_levels_off_is_not_said_to_be_without_effect(counts: tuple[int, ...]) -> None:
    """With an empty cell the correlation goes to 1, and the log-likelihood levels off at the multinomial's.

    The step on which it is seen to fall is a thousand units long, and the formula has no digits at its end.
    """
    full = np.array([n for n in counts if n], float)
    verdict = tetrachoric.fit({"cell": np.repeat(np.arange(4), counts)}).verdict
    assert verdict.code == "no_finite_maximum", verdict
    assert verdict.evidence["supremum"] == pytest.approx(float(full @ np.log(full / full.sum())), abs=1e-6)
