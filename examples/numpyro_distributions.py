"""Any likelihood from `numpyro.distributions`: mlejax takes whatever JAX can differentiate.

NumPyro is not needed by mlejax: install it with `pip install numpyro`. Its `log_prob` is the log-likelihood of a row.

    python examples/numpyro_distributions.py
"""

import jax.numpy as jnp
import numpy as np

import mlejax as mle

try:
    import numpyro.distributions as dist
except ImportError:
    dist = None


@mle.model(intercept=mle.Real(), slope=mle.Real(), gate=mle.Interval(0.0, 1.0))
def zero_inflated(params, data):
    """Zero-inflated Poisson counts with a covariate: log-likelihood of every row, (n,)."""
    rate = dist.Poisson(jnp.exp(params["intercept"] + params["slope"] * data["x"]))
    return dist.ZeroInflatedDistribution(rate, gate=params["gate"]).log_prob(data["y"])


def main() -> None:
    """Fit to simulated counts, or say what is missing."""
    if dist is None:
        print("skipped: this example needs NumPyro (pip install numpyro)")
        return
    rng = np.random.default_rng(1)
    x = rng.normal(size=500)
    y = np.where(rng.uniform(size=500) < 0.3, 0, rng.poisson(np.exp(0.5 + 0.4 * x)))
    print(zero_inflated.fit({"x": x, "y": y}).summary())


if __name__ == "__main__":
    main()
