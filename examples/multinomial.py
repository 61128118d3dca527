"""A multinomial logit: how satisfied tenants are, by influence, type of housing and contact with neighbours.

The log-likelihood is written for one vector of probabilities; regressed, each row has its own.

    python examples/multinomial.py
"""

from pathlib import Path

import jax.numpy as jnp
import pandas as pd

import mlejax as mle

LEVELS = ["low", "medium", "high"]


@mle.model(p=mle.Simplex(shape=3, labels=LEVELS))
def satisfaction(params, data):
    """Log-probability of every answer, (n,)."""
    return jnp.log(params["p"][data["level"]])


def main() -> None:
    """Fit to a table of counts, print relative risk ratios, and predict shares for the best and the worst off."""
    df = pd.read_csv(Path(__file__).parent / "data" / "housing.csv")
    df["level"] = pd.Categorical(df["satisfaction"], LEVELS).codes

    reg = satisfaction.regress(p="influence + type + contact")
    res = reg.fit(df, weights="count", weight_kind="frequency")
    print(res.summary(eform=True))

    print("\nDoes contact with neighbours matter, for medium and for high satisfaction?")
    print(res.wald_test("p[medium][contact[T.low]] = 0, p[high][contact[T.low]] = 0"))

    homes = pd.DataFrame({"influence": ["high", "low"], "type": ["tower", "terrace"], "contact": ["high", "low"]})
    print("\nShares of the satisfied, with errors:")
    print(res.predict(homes).to_string(float_format="{:.3f}".format))


if __name__ == "__main__":
    main()
