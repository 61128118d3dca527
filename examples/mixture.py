"""A mixture of two normal distributions: waiting times between eruptions of Old Faithful.

The likelihood of a mixture has more than one maximum, a saddle where both components coincide, and no bound at all
where one component sits on a single point: so it is started from two distinct components.

    python examples/mixture.py
"""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.scipy.stats import norm

import mlejax as mle


@mle.model(w=mle.Interval(0, 1), mu=mle.Ordered(shape=2), sigma=mle.Positive(shape=2))
def mixture(params, data):
    """Log-density of every waiting time, (n,); ordered means keep the components from trading places."""
    y, (mu1, mu2), (sigma1, sigma2) = data["waiting"], params["mu"], params["sigma"]
    short = jnp.log(params["w"]) + norm.logpdf(y, mu1, sigma1)
    long = jnp.log1p(-params["w"]) + norm.logpdf(y, mu2, sigma2)
    return jnp.logaddexp(short, long)


def main() -> None:
    """Fit, print, and draw the fitted density beside a histogram, in text."""
    df = pd.read_csv(Path(__file__).parent / "data" / "faithful.csv")

    res = mixture.fit(df, start={"w": 0.5, "mu": [50.0, 80.0], "sigma": [10.0, 10.0]})
    print(res.summary())

    w, mu, sigma = res.params_tree["w"], res.params_tree["mu"], res.params_tree["sigma"]
    counts, edges = np.histogram(df["waiting"], bins=np.arange(40, 101, 5))
    cdf = lambda x: w * norm.cdf(x, mu[0], sigma[0]) + (1 - w) * norm.cdf(x, mu[1], sigma[1])
    expected = len(df) * np.diff(np.asarray(cdf(edges.astype(float))))
    print("\n minutes  observed  expected")
    for low, high, seen, fitted in zip(edges, edges[1:], counts, expected, strict=False):
        print(f"{low:4.0f}-{high:<4.0f} {seen:8d} {fitted:9.1f}  {'#' * (seen // 2)}")

    print("\nMinutes between the two kinds of waiting time:")
    print(res.nlcom(lambda p: p["mu"][1] - p["mu"][0]))

    print("\nStarted beside the saddle where both components coincide, and where the score is all but zero:")
    other = mixture.fit(df, start={"w": 0.5, "mu": [70.897, 70.898], "sigma": [13.57, 13.57]})
    print(f"log-likelihood {other.llf:.6f}, against {res.llf:.6f} above; {other.verdict}")


if __name__ == "__main__":
    main()
