"""Effects of 25 firms beside two covariates: counts with one effect a firm, errors by firm, and the firms themselves.

The table is simulated (tests/references/effects.csv, seed 7).

    python examples/firm_effects.py
"""

from pathlib import Path

import jax.numpy as jnp
import pandas as pd
from jax.scipy.stats import poisson

import mlejax as mle

DATA = Path(__file__).parent.parent / "tests" / "references" / "effects.csv"


@mle.model(beta=mle.Real(columns=["x1", "x2"]), alpha=mle.Real(by="firm"))
def counts(params, data):
    eta = params["beta"][0] * data["x1"] + params["beta"][1] * data["x2"] + params["alpha"]
    return poisson.logpmf(data["y"], jnp.exp(eta))


def main():
    table = pd.read_csv(DATA)
    res = counts.fit(table, cov_type="cluster", cov_kwds={"groups": "firm", "correction": "ssc"})
    print(res.summary())
    print(res.with_cov().effects().sort_values("estimate").tail(3))
    return res


if __name__ == "__main__":
    main()
