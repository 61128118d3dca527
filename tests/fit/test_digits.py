"""Limits where the usual formulas lose their digits: the simpler model's log-likelihood is what they level off at."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import gammaln
from scipy import stats

import mlejax as mle

pytestmark = pytest.mark.filterwarnings("ignore::mlejax.ConvergenceWarning")


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


@pytest.mark.parametrize("model", [nb2, nb2_from_0], ids=["positive", "nonnegative"])
@pytest.mark.parametrize("seed", [0, 2, 17, 19, 23])
def test_a_negative_binomial_of_poisson_counts_levels_off_at_the_poisson(model: mle.Model, seed: int) -> None:
    """Levin & Reeds 1977: it has a maximum just where the variance exceeds the mean."""
    y = np.random.default_rng(seed).poisson(3.0, size=200).astype(float)
    assert y.var() < y.mean()
    verdict = model.fit({"y": y}).verdict
    assert verdict.code == "no_finite_maximum"
    assert "alpha -> 0" in verdict.statement
    assert verdict.evidence["supremum"] == pytest.approx(stats.poisson.logpmf(y, y.mean()).sum(), abs=0.01)


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
    assert res.verdict.code == "no_finite_maximum"
    assert res.verdict.evidence["supremum"] == pytest.approx(simpler, abs=0.01)
    assert "digits lost" in set(res.modes["kind"])
    assert not (res.modes["llf"] > simpler + 0.1).any()


def test_what_is_known_of_the_rounding_is_evidence() -> None:
    """A scan has no rule in the forward bound: that is said, and not taken for exact."""

    @mle.model(mu=mle.Real(), s=mle.Positive())
    def scanned(p: Any, d: Any) -> Any:
        each = lambda total, y: (total + jax.scipy.stats.norm.logpdf(y, p["mu"], p["s"]), None)
        return jax.lax.scan(each, 0.0, d["y"])[0]

    y = np.random.default_rng(0).normal(size=50)
    whole = mle.model(params=scanned.likelihood.parameters, rowwise=False)(scanned.likelihood.function)
    far = {"mu": 0.0, "s": 1e4}
    assert whole.fit({"y": y}, start=far).verdict.evidence["rounding"] == "error bars not known: no rule for scan"
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
