"""Rough estimates where a search for random effects begins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import bernoulli, norm, poisson

import mlejax as mle
from mlejax.fit.prepare.loading import load
from mlejax.fit.start import acceptable, rough_estimate
from mlejax.objective import ChunkedEvaluator, Spec


@mle.model(mu=mle.Real())
def measured(params, data):
    """Normal log-likelihood with standard deviation 1 of every row, (n,)."""
    return norm.logpdf(data["y"], params["mu"])


@mle.model(rate=mle.Positive())
def counts(params, data):
    """Poisson log-likelihood of every row, (n,)."""
    return poisson.logpmf(data["y"], params["rate"])


@mle.model(p=mle.Interval(0.0, 1.0))
def binary(params, data):
    """Bernoulli log-likelihood of every row, (n,)."""
    return bernoulli.logpmf(data["y"], params["p"])


def evaluator_of(model, data, fixed=None):
    """An evaluator of all rows."""
    loaded = load(model.likelihood, data, None, "raise", (), None, None)
    spec = Spec(model.likelihood, loaded.problem.space)
    return ChunkedEvaluator(spec, loaded.problem.data, fixed), loaded


def rough(model, data, given=(None, None)):
    """The rough estimate in u (p,), and score and information there."""
    with jax.enable_x64(True):
        evaluator, loaded = evaluator_of(model, data)
        u = rough_estimate(evaluator, list(given), loaded.designs, 1_000)
        return u, None if u is None else evaluator.evaluate(u[None], 2)


def slopes(family, units=200, rows=20, variances=(0.5, 0.2)):
    """Columns with intercepts and slopes of units, predictor 0.3 + b0 + (0.5 + b1) x."""
    rng = np.random.default_rng(5)
    g, x = np.repeat(np.arange(units), rows), rng.normal(size=units * rows)
    b = rng.normal(size=(units, 2)) * np.sqrt(variances)
    eta = 0.3 + b[g, 0] + (0.5 + b[g, 1]) * x
    y = rng.poisson(np.exp(eta)) if family == "poisson" else rng.random(len(g)) < 1.0 / (1.0 + np.exp(-eta))
    return {"y": y.astype(float), "x": x, "g": g}


def test_normal_rows_of_known_variance_give_the_maximum_itself():
    """With m rows in each unit it is the mean of all, and the variance of the units' means minus 1 / m (Searle, Casella and
    McCulloch 1992, Variance Components, section 3.7).
    """
    rng = np.random.default_rng(1)
    y = 0.7 + rng.normal(size=(40, 1)) + rng.normal(size=(40, 5))
    data = {"y": y.ravel(), "g": np.repeat(np.arange(40), 5)}
    (mean, sd), at = rough(measured.regress(mu=mle.Linear("1", random="1 | g")), data)
    variance = np.mean((y.mean(axis=1) - y.mean()) ** 2) - 1.0 / 5.0
    np.testing.assert_allclose([mean, sd**2], [y.mean(), variance], rtol=1e-9)
    np.testing.assert_allclose(at.score, 0.0, atol=1e-7)


@pytest.mark.parametrize("family", ["poisson", pytest.param("binomial", marks=pytest.mark.slow)])
def test_it_is_near_the_truth_and_a_start(family):
    """Coefficients within 0.2, standard deviations within a third, and a point where the log-likelihood is concave."""
    model = (counts if family == "poisson" else binary).regress(
        **{"rate" if family == "poisson" else "p": mle.Linear("x", random="1 + x | g")}
    )
    u, at = rough(model, slopes(family))
    np.testing.assert_allclose(u[:2], [0.3, 0.5], atol=0.2)
    factor = np.array([[u[2], 0.0], [u[3], u[4]]])
    np.testing.assert_allclose(np.sqrt(np.diag(factor @ factor.T)), np.sqrt([0.5, 0.2]), rtol=0.34)
    assert acceptable(at.score, at.information, np.array([200.0])).all()


def test_a_variance_of_nothing_starts_above_zero():
    """The moments are negative where units differ less than by chance: the estimate stays inside the support."""
    data = {"y": np.tile([0.0, 1.0, 2.0, 1.0], 30), "g": np.repeat(np.arange(30), 4)}
    (_, sd), _ = rough(counts.regress(rate=mle.Linear("1", random="1 | g")), data)
    assert 0.01 < sd < 1.0


def test_there_is_none_where_values_are_given():
    data = slopes("poisson", units=20)
    model = counts.regress(rate=mle.Linear("x", random="1 | g"))
    assert rough(model, data, (np.zeros(2), None))[0] is None
    started = mle.model(rate=mle.Positive(start=2.0))(lambda p, d: poisson.logpmf(d["y"], p["rate"]))
    assert rough(started.regress(rate=mle.Linear("x", random="1 | g")), data)[0] is None


@mle.model(b=mle.Real(), sd=mle.NonNegative(), u=mle.Latent(by="g"))
def written(params, data):
    """Poisson log-likelihood with an effect of the function's own, (n,)."""
    return poisson.logpmf(data["y"], jnp.exp(params["b"] + params["sd"] * params["u"]))


def test_there_is_none_without_formulas():
    assert rough(written, slopes("poisson", units=20))[0] is None


def test_outcomes_that_no_coefficient_fits_end_as_from_other_starts():
    """All outcomes alike: the intercept runs to infinity, and the verdict says so whatever the start."""
    data = {"y": np.ones(60), "x": np.linspace(-1.0, 1.0, 60), "g": np.repeat(np.arange(12), 5)}
    model = binary.regress(p=mle.Linear("x", random="1 | g"))
    with pytest.warns(mle.ConvergenceWarning):
        res = model.fit(data, integrate="laplace")
    assert not res.verdict.converged
