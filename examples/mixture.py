"""A mixture of two normal distributions, by Newton's method and by EM: waiting times between eruptions of Old Faithful.

Three things to know about the likelihood of a normal mixture. It has a saddle where both classes coincide, so no search begins
there. Exchanging the classes does not change it, so every maximum comes twice: labels are put in order of the first parameter.
And it has no upper bound: with one mean on an observation and that sigma near 0 it is as high as you like. The estimate of
interest is a local maximum with both sigmas away from 0, and a search that collapses says so.

    python examples/mixture.py
"""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from jax.scipy.stats import norm

import mlejax as mle


@mle.model(mu=mle.Real(shape=2), sigma=mle.Positive(shape=2), z=mle.Discrete(2))
def mixture(params, data):
    """Log-density of every waiting time in its class, (n,); the class itself is summed over."""
    return norm.logpdf(data["waiting"], params["mu"][params["z"]], params["sigma"][params["z"]])


def main() -> None:
    """Fit by both methods, print, and look at a start that collapses."""
    df = pd.read_csv(Path(__file__).parent / "data" / "faithful.csv")

    res = mixture.fit(df)
    print(res.summary())

    start = {"mu": [50.0, 80.0], "sigma": [10.0, 10.0], "z_probs": [0.5, 0.5]}
    methods = {"Newton": "newton", "EM": mle.EM(accelerate=False), "EM, extrapolated": "em"}
    paths = {name: mixture.fit(df, start=start, method=method).path for name, method in methods.items()}
    print("\nLog-likelihood after each step, from one start (EM ends with two steps of Newton's method):")
    print(pd.DataFrame(paths).head(14).round(6).to_string(na_rep=""))
    print("steps in all: " + ", ".join(f"{name} {len(path) - 1}" for name, path in paths.items()))

    print("\nThe class of each eruption given its waiting time; most are clear:")
    print(res.latent().assign(waiting=df["waiting"]).sort_values("waiting").iloc[60:121:15].round(3).to_string())

    p = res.params
    counts, edges = np.histogram(df["waiting"], bins=np.arange(40, 101, 5))
    cdf = sum(p[f"z_probs[{k}]"] * norm.cdf(edges, p[f"mu[{k}]"], p[f"sigma[{k}]"]) for k in range(2))
    print("\nminutes  observed  expected")
    for low, high, seen, fitted in zip(edges, edges[1:], counts, len(df) * np.diff(cdf), strict=False):
        print(f"{low:3.0f}-{high:<3.0f}  {seen:8d}  {fitted:8.1f}  {'#' * (seen // 2)}".rstrip())

    print("\nMinutes between the two means:")
    print(res.nlcom(lambda q: {"mu[1] - mu[0]": q["mu"][1] - q["mu"][0]}))

    print("\nA start with the first class on the shortest wait (43):")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mle.ConvergenceWarning)  # the verdict is printed instead
        other = mixture.fit(df, start={"mu": [43.0, 70.9], "sigma": [0.01, 13.57]})
    print(f"log-likelihood {other.llf:.4f} against {res.llf:.4f} above\n  {other.verdict}")


if __name__ == "__main__":
    main()
