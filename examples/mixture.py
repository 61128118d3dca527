"""A mixture of two normal distributions: waiting times between eruptions of Old Faithful.

Three things to know about the likelihood of a normal mixture. It has a saddle where both components coincide, so a start
needs two distinct ones. Exchanging the components does not change it, so every maximum comes twice: ordered means keep
one of the two. And it has no upper bound: with one mean on an observation and that sigma near 0 it is as high as you like.
The estimate of interest is a local maximum with both sigmas away from 0.

    python examples/mixture.py
"""

import warnings
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.scipy.stats import norm

import mlejax as mle


@mle.model(w=mle.Interval(0, 1), mu=mle.Ordered(shape=2), sigma=mle.Positive(shape=2))
def mixture(params, data):
    """Log-density of every waiting time, (n,): w is the share of the first component, the one with the smaller mean."""
    y, (mu1, mu2), (sigma1, sigma2) = data["waiting"], params["mu"], params["sigma"]
    short = jnp.log(params["w"]) + norm.logpdf(y, mu1, sigma1)
    long = jnp.log1p(-params["w"]) + norm.logpdf(y, mu2, sigma2)
    return jnp.logaddexp(short, long)


def main() -> None:
    """Fit, print, and look at other starts."""
    df = pd.read_csv(Path(__file__).parent / "data" / "faithful.csv")

    res = mixture.fit(df, start={"w": 0.5, "mu": [50.0, 80.0], "sigma": [10.0, 10.0]})
    print(res.summary())

    w, mu, sigma = res.params_tree["w"], res.params_tree["mu"], res.params_tree["sigma"]
    counts, edges = np.histogram(df["waiting"], bins=np.arange(40, 101, 5))
    cdf = lambda x: w * norm.cdf(x, mu[0], sigma[0]) + (1 - w) * norm.cdf(x, mu[1], sigma[1])
    expected = len(df) * np.diff(np.asarray(cdf(edges.astype(float))))
    print("\nminutes  observed  expected")
    for low, high, seen, fitted in zip(edges, edges[1:], counts, expected, strict=False):
        print(f"{low:3.0f}-{high:<3.0f}  {seen:8d}  {fitted:8.1f}  {'#' * (seen // 2)}".rstrip())

    print("\nMinutes between the two means:")
    print(res.nlcom(lambda p: {"mu[1] - mu[0]": p["mu"][1] - p["mu"][0]}))

    print(
        "\nOther starts: beside the saddle of equal components, and with the first component on the shortest wait (43):"
    )
    starts = {
        "beside the saddle": {"w": 0.5, "mu": [70.897, 70.898], "sigma": [13.57, 13.57]},
        "on one observation": {"w": 0.005, "mu": [43.0, 70.9], "sigma": [0.01, 13.57]},
    }
    for name, start in starts.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", mle.ConvergenceWarning)  # the verdict is printed instead
            other = mixture.fit(df, start=start)
        print(f"{name}: log-likelihood {other.llf:.4f} against {res.llf:.4f} above\n  {other.verdict}")
        print("  " + ", ".join(f"{address} {value:.4g}" for address, value in other.params.items()))


if __name__ == "__main__":
    main()
