"""Logistic regression: low birth weight and the mother's age, weight, race, smoking and health.

The coefficients are log odds ratios; odds ratios with their intervals come from the same fit.

    python examples/logistic.py
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

import mlejax as mle

X = ["age", "lwt", "black", "other", "smoke", "ht", "ui"]


@mle.model(intercept=mle.Real(), beta=mle.Real(columns=X))
def logit(params, data):
    """Log-probability of every outcome, (n,)."""
    eta = params["intercept"] + jnp.stack([data[x] for x in X], axis=1) @ params["beta"]
    return jax.nn.log_sigmoid(jnp.where(data["low"] > 0, eta, -eta))


def main() -> None:
    """Fit, print, and turn coefficients into odds ratios."""
    df = pd.read_csv(Path(__file__).parent / "data" / "birthwt.csv")
    df = df.assign(black=1.0 * (df["race"] == "black"), other=1.0 * (df["race"] == "other"))

    res = logit.fit(df)
    print(res.summary())

    odds = np.exp(pd.DataFrame(res.conf_int()).set_axis(["lower", "upper"], axis=1))
    odds.insert(0, "odds ratio", np.exp(res.params))
    print("\n" + odds.drop(index="intercept").to_string(float_format="{:.3f}".format))

    print("\nDoes race matter, the other risks given?")
    print(res.wald_test("beta[black] = 0, beta[other] = 0"))

    print("\nThe mother's weight (in pounds) that outweighs smoking, with its standard error:")
    print(res.nlcom(lambda p: {"pounds": -p["beta"][4] / p["beta"][1]}))


if __name__ == "__main__":
    main()
