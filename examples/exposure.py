"""Negative binomial regression with exposure: road deaths per driver in American states.

python examples/exposure.py
"""

from pathlib import Path

import jax.numpy as jnp
import pandas as pd
from jax.scipy.special import gammaln

import mlejax as mle


@mle.model(mu=mle.Positive(), theta=mle.Positive())
def negative_binomial(params, data):
    """Log-probability of every count, (n,); variance mu + mu^2 / theta."""
    y, mu, theta = data["deaths"], params["mu"], params["theta"]
    ways = gammaln(y + theta) - gammaln(theta) - gammaln(y + 1.0)
    return ways + theta * jnp.log(theta / (theta + mu)) + y * jnp.log(mu / (theta + mu))


def main() -> None:
    """Rate ratios with an exposure, a robust covariance, and the deaths expected for a million drivers."""
    df = pd.read_csv(Path(__file__).parent / "data" / "road.csv")
    df["density"] = df["popden"] / 1000  # thousands a square mile

    reg = negative_binomial.regress(mu=mle.Linear("density + rural + temp", exposure="drivers"))
    res = reg.fit(df)
    print(res.summary(eform=True))

    print("\nThe same ratios with errors that hold for another variance too:")
    robust = res.with_cov("HC0").tidy(exponentiate=True).set_index("term").drop(index="theta")
    print(robust[["estimate", "std_error", "p_value", "conf_low", "conf_high"]].to_string(float_format="{:.4f}".format))

    million = pd.DataFrame({"density": [0.05, 0.5], "rural": 50, "temp": 40, "drivers": 100})
    print("\nDeaths expected for a million drivers (exposure 100 times 10,000), thinly and densely populated:")
    print(million[["density"]].join(res.predict(million)).to_string(index=False, float_format="{:.2f}".format))


if __name__ == "__main__":
    main()
