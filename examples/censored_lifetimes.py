"""Densities that come with JAX and with mlejax: lifetimes with right censoring as lognormal, Weibull and generalised gamma.

`jax.scipy.stats` has SciPy's names and arguments for densities without limits of their own; `mle.special` has the
densities that must hold through one. The generalised gamma is the lognormal at q = 0 and the Weibull at q = 1: its fit
tells which of the two the data prefer.

    python examples/censored_lifetimes.py
"""

from pathlib import Path

import jax.numpy as jnp
import pandas as pd
from jax.scipy.stats import norm

import mlejax as mle


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def lognormal(params, data):
    """Log-likelihood of every patient, (n,), as SciPy's users write it."""
    z = (jnp.log(data["time"]) - params["mu"]) / params["sigma"]
    density = norm.logpdf(z) - jnp.log(params["sigma"] * data["time"])
    return jnp.where(data["event"] > 0, density, norm.logsf(z))


@mle.model(mu=mle.Real(), sigma=mle.Positive(), q=mle.Real())
def generalised_gamma(params, data):
    """The same with the shape q."""
    arguments = data["time"], params["mu"], params["sigma"], params["q"]
    density, survival = mle.special.gengamma_logpdf(*arguments), mle.special.gengamma_logsf(*arguments)
    return jnp.where(data["event"] > 0, density, survival)


def main() -> None:
    """Fit both; at q = 0 the larger model is the smaller one."""
    df = pd.read_csv(Path(__file__).parent / "data" / "lung.csv")
    smaller, larger = lognormal.fit(df), generalised_gamma.fit(df)
    print(larger.summary())
    at_zero = generalised_gamma.fit(df, fixed={"q": 0.0})
    print(f"\nlognormal {smaller.llf:.8f}, generalised gamma at q = 0 {at_zero.llf:.8f}")
    print(larger.lr_test(at_zero).summary())
    print(f"Weibull: {larger.wald_test('q = 1')}")


if __name__ == "__main__":
    main()
