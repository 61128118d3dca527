"""Logistic regression by formula: odds ratios of a low birth weight, and predicted risks with their errors.

python examples/odds_ratios.py
"""

from pathlib import Path

import jax.numpy as jnp
import pandas as pd

import mlejax as mle


@mle.model(p=mle.Interval(0, 1))
def low_weight(params, data):
    """Log-probability of every outcome, (n,): one probability for all, until it is regressed."""
    return jnp.where(data["low"] > 0, jnp.log(params["p"]), jnp.log1p(-params["p"]))


def main() -> None:
    """Regress the probability, print odds ratios, test race, and predict for four mothers."""
    df = pd.read_csv(Path(__file__).parent / "data" / "birthwt.csv")

    risk = low_weight.regress(p="age + lwt + C(race, contr.treatment('white')) + smoke + ht + ui")
    res = risk.fit(df)
    print(res.summary(eform=True))

    print("\nDoes race matter, the other risks given?  Against the model without it:")
    print(res.lr_test(low_weight.regress(p="age + lwt + smoke + ht + ui").fit(df)))

    print("\nRisk of four mothers of 25 years and 130 pounds:")
    mothers = pd.DataFrame({"age": 25, "lwt": 130, "race": "white", "smoke": [0, 1, 0, 1], "ht": [0, 0, 1, 1], "ui": 0})
    print(mothers[["smoke", "ht"]].join(res.predict(mothers)).to_string(index=False, float_format="{:.3f}".format))


if __name__ == "__main__":
    main()
