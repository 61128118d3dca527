"""A location-scale model: both the mean and the spread of stopping distances depend on the speed.

python examples/location_scale.py
"""

from pathlib import Path

import jax.numpy as jnp
import pandas as pd
from jax.scipy.stats import norm

import mlejax as mle


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def distance(params, data):
    """Log-density of every stopping distance, (n,)."""
    return norm.logpdf(data["dist"], params["mu"], params["sigma"])


def main() -> None:
    """Fit with a constant and with a regressed spread, compare, and predict an interval of distances."""
    df = pd.read_csv(Path(__file__).parent / "data" / "cars.csv")

    constant = distance.regress(mu="speed").fit(df)
    res = distance.regress(mu="speed", sigma="speed").fit(df)
    print(res.summary())

    print("\nIs the spread constant?")
    print(res.lr_test(constant))

    print("\nEvery mile per hour multiplies the standard deviation by:")
    print(res.nlcom(lambda p: {"factor": jnp.exp(p["sigma[speed]"])}))

    speeds = pd.DataFrame({"speed": [5, 15, 25]})
    print("\nStandard deviation, and the distance that one driver in twenty exceeds, in feet:")
    for name, table in (
        ("sigma", res.predict(speeds, param="sigma")),
        ("95th percentile", res.predict(lambda p, data: p["mu"] + norm.ppf(0.95) * p["sigma"], speeds)),
    ):
        print(name)
        print(speeds.join(table).to_string(index=False, float_format="{:.2f}".format))


if __name__ == "__main__":
    main()
