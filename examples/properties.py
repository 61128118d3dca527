"""What maximum likelihood promises, as numbers: a simulation study of a normal mean and variance.

The textbook says that the estimates are consistent (the error falls as 1/sqrt(n)), asymptotically normal, efficient (no unbiased
estimator varies less), and that the variance is estimated sigma^2/n too small, because the mean is estimated too. Each line
printed below is one of these, from 10,000 data sets of each size.

    python examples/properties.py
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

import mlejax as mle

TRUTH = {"mu": 1.0, "var": 4.0}
SIZES = [10, 50, 250]


@mle.model(mu=mle.Real(), var=mle.Positive())
def gaussian(params, data):
    """Log-density of every row, (n,)."""
    return norm.logpdf(data["y"], params["mu"], jnp.sqrt(params["var"]))


@gaussian.simulator
def _(key, params, data):
    """A data set: the column that is drawn."""
    return {"y": params["mu"] + jnp.sqrt(params["var"]) * jax.random.normal(key, (data.n_rows,))}


def main() -> None:
    """Run the study, print it, and read the properties off it."""
    study = mle.simulation_study(gaussian, TRUTH, SIZES, n_reps=10_000, seed=1)
    print(study)

    table = study.frame().set_index(["n", "term"])
    print("\nConsistency: rmse x sqrt(n) settles")
    for n in SIZES:
        mu, var = (table.loc[(n, term), "rmse"] * np.sqrt(n) for term in ("mu", "var"))
        print(f"  n = {n:3d}   mu {mu:.3f} (2 in theory)   var {var:.3f} (5.657 in the limit)")

    print("\nBias of the variance: n x bias is -sigma^2 = -4 at every n")
    for n in SIZES:
        row = table.loc[(n, "var")]
        print(f"  n = {n:3d}   {n * row['bias']:.2f}, Monte Carlo error {n * row['bias_mc']:.2f}")

    print("\nAsymptotic normality: largest gap between the distribution of (estimate - truth) / std err and the normal")
    for n in SIZES:
        z = (study.params(n) - TRUTH) / study.bse(n)
        gaps = {}
        for term in z:
            ordered = np.sort(z[term])
            expected = np.asarray(norm.cdf(ordered))
            gaps[term] = np.abs(expected - (np.arange(len(ordered)) + 0.5) / len(ordered)).max()
        print(f"  n = {n:3d}   mu {gaps['mu']:.3f}   var {gaps['var']:.3f}")

    print("\nEfficiency: the Cramer-Rao bound over the variance of the estimates tends to 1")
    for n in SIZES:
        mu, var = (table.loc[(n, term), "efficiency"] for term in ("mu", "var"))
        print(f"  n = {n:3d}   mu {mu:.3f}   var {var:.3f}")
    print("  (above 1 for the variance at small n: the bound is for unbiased estimators, and this one gives up bias)")


if __name__ == "__main__":
    main()
