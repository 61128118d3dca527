"""Score and Hessian of integrals from derivatives of rows equal those that JAX takes of the whole integral."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import bernoulli, norm, poisson

import mlejax as mle
from mlejax.fit.prepare.loading import load
from mlejax.latent import integrated
from mlejax.objective import Spec, objective_of


@mle.model(rate=mle.Positive())
def counts(params, data):
    """Poisson log-likelihood of every row, (n,)."""
    return poisson.logpmf(data["y"], params["rate"])


@mle.model(p=mle.Interval(0.0, 1.0))
def binary(params, data):
    """Bernoulli log-likelihood of every row, (n,)."""
    return bernoulli.logpmf(data["y"], params["p"])


@mle.model(mu=mle.Positive(), alpha=mle.Positive())
def overdispersed(params, data):
    """Negative binomial log-likelihood of every row, (n,)."""
    return mle.special.nb2_logpmf(data["y"], params["mu"], params["alpha"])


@mle.model(sigma=mle.Positive(), mu=mle.Real(), shift=mle.Real(shape=2))
def measured(params, data):
    """Normal log-likelihood of every row, (n,), with two more parameters in the mean."""
    mean = params["mu"] + params["shift"][0] * jnp.sin(params["mu"]) + jnp.tanh(params["shift"][1]) * data["w"]
    return norm.logpdf(data["y"], mean, params["sigma"] * jnp.exp(0.1 * params["mu"]))


def columns(n_units=12):
    """Columns of units of 2 to 6 rows, which are padded."""
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(n_units), rng.integers(2, 7, n_units))
    x, w, a = rng.normal(size=(3, len(g)))
    return {"y": (rng.random(len(g)) < 0.4).astype(float), "x": x, "w": w, "a": 0.3 * a, "g": g}


def both(model, points, u, data, fixed_mode=False):
    """Value, score and information at u without and with the formulas, per unit of weight."""
    how = mle.Quadrature(points)
    likelihood = integrated(model.likelihood, replace(how, fixed_mode=fixed_mode))
    with jax.enable_x64(True):
        loaded = load(likelihood, data, None, "raise", (), "v", "frequency")
        spec, packed = Spec(likelihood, loaded.problem.space), loaded.problem.data
        whole = lambda last: jax.jit(lambda t, d: replace(objective_of(spec, d, None, None), last=last).with_hessian(t))
        programs = [whole(last) for last in (False, True)]
        assert len(str(jax.make_jaxpr(programs[1])(u, packed))) != len(str(jax.make_jaxpr(programs[0])(u, packed)))
        return [jax.tree.map(np.asarray, program(u, packed)) for program in programs]


CASES = {
    "intercept, Laplace": (counts, "rate", "x", "1 | g", 1, False, [0.2, -0.4, 0.8]),
    "intercept of variance 0": (counts, "rate", "x", "1 | g", 5, False, [0.2, -0.4, 0.0]),
    "intercept, fixed points": (binary, "p", "x", "1 | g", 5, True, [0.2, -0.4, 0.8]),
    "correlated, Laplace": (binary, "p", "x", "1 + x | g", 1, False, [0.2, -0.4, 0.8, -0.3, 0.6]),
    "correlated": (binary, "p", "x", "1 + x | g", 3, False, [0.2, -0.4, 0.8, -0.3, 0.6]),
    "correlated, fixed points": (binary, "p", "x", "1 + x | g", 3, True, [0.2, -0.4, 0.8, -0.3, 0.6]),
    "singular": (binary, "p", "x", "1 + x | g", 3, False, [0.2, -0.4, 0.8, -0.3, 0.0]),
    "independent": (counts, "rate", "x", "1 + x || g", 4, False, [0.2, -0.4, 0.8, 0.5]),
    "of another column": (counts, "rate", "x + I(x**2)", "0 + w | g", 4, False, [0.2, -0.4, 0.1, 0.8]),
    "negative binomial, Laplace": (overdispersed, "mu", "x", "1 + x | g", 1, False, [0.2, -0.4, -0.3, 0.8, -0.3, 0.6]),
    "negative binomial": (overdispersed, "mu", "x", "1 + x | g", 3, False, [0.2, -0.4, -0.3, 0.8, -0.3, 0.6]),
    "common parameters, Laplace": (measured, "mu", "x", "1 + x | g", 1, False, [0.3, 0.2, -0.4, 0.1, 0.2, 0.8, -0.3, 0.6]),
    "common parameters": (measured, "mu", "x", "1 + x || g", 3, False, [0.3, 0.2, -0.4, 0.1, 0.2, 0.8, 0.6]),
    "common parameters, fixed points": (measured, "mu", "x", "1 | g", 5, True, [0.3, 0.2, -0.4, 0.1, 0.2, 0.8]),
    "three": (counts, "rate", "x", "1 + x + w | g", 2, False, [0.2, -0.4, 0.8, -0.3, 0.6, 0.1, 0.2, 0.4]),
}
QUICK = ("intercept of variance 0", "correlated")


@pytest.mark.parametrize("name", [c if c in QUICK else pytest.param(c, marks=pytest.mark.slow) for c in CASES])
def test_derivatives_equal_those_of_the_whole_integral(name):
    """Far from the maximum, with padding, weights and an offset.

    Both find modes up to Newton decrements of 1e-13, which points that do not move with the parameters keep.
    """
    model, parameter, formula, random, points, fixed_mode, u = CASES[name]
    data = columns()
    data["v"] = 1.0 + (data["g"] % 3)
    model = model.regress(**{parameter: mle.Linear(formula, random=random, offset="a")})
    plain, mine = both(model, points, np.array(u), data, fixed_mode)
    for a, b, rtol in zip(plain, mine, (1e-10, 1e-6, 1e-6) if fixed_mode else (1e-12, 1e-8, 1e-7), strict=True):
        np.testing.assert_allclose(b, a, rtol=rtol, atol=rtol * np.abs(a).max())


@pytest.mark.slow
def test_score_and_hessian_are_differences_of_the_value():
    """Central differences of a log-likelihood that other code computes, of fits with all parameters fixed."""
    data = columns()
    model = binary.regress(p=mle.Linear("x", random="1 + x | g"))
    at = {"p": np.array([0.2, -0.4]), "chol(p|g)": np.array([[0.8, 0.0], [-0.3, 0.6]])}
    data["v"] = np.ones(len(data["y"]))
    _, (value, gradient, _) = both(model, 3, np.array([0.2, -0.4, 0.8, -0.3, 0.6]), data)
    n_units = len(np.unique(data["g"]))

    def llf(step):
        moved = {**at, "p": at["p"] + step}
        return model.fit(data, fixed=moved, integrate=mle.Quadrature(3)).llf

    np.testing.assert_allclose(-value * n_units, llf(np.zeros(2)), rtol=1e-12)
    h = 1e-4
    slopes = [(llf(h * e) - llf(-h * e)) / (2 * h) for e in np.eye(2)]
    np.testing.assert_allclose(-gradient[:2] * n_units, slopes, rtol=1e-6, atol=1e-6)
