"""The normal distribution: heights of students, against the closed form.

Maximum likelihood has its textbook answer here: mu is the mean, sigma^2 is the residual sum of squares divided by n, and
the standard errors are sigma / sqrt(n) and sigma / sqrt(2 n). Dividing by n makes the variance too small on average, by
the factor (n - 1) / n: the price of estimating mu from the same data. Maximum likelihood does not correct for that.

    python examples/gaussian.py
"""

from pathlib import Path

import numpy as np
import pandas as pd
from jax.scipy.stats import norm

import mlejax as mle


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def gaussian(params, data):
    """Log-density of every height, (n,)."""
    return norm.logpdf(data["height"], params["mu"], params["sigma"])


def main() -> None:
    """Fit, print, and compare with the closed form."""
    df = pd.read_csv(Path(__file__).parent / "data" / "heights.csv")
    y = df["height"].to_numpy()
    n = len(y)

    res = gaussian.fit(df)
    print(res.summary())

    mu, sigma = y.mean(), y.std(ddof=0)
    table = pd.DataFrame({"coef": res.params, "closed form": [mu, sigma]})
    table["std err"], table["its closed form"] = res.bse, [sigma / np.sqrt(n), sigma / np.sqrt(2 * n)]
    print("\n" + table.to_string(float_format="{:.12f}".format))

    print("\nThe variance, by the delta method, and what it would be without bias (sum of squares over n - 1):")
    variance = res.nlcom(lambda p: {"sigma^2": p["sigma"] ** 2})
    print(variance)
    print(f"unbiased: {y.var(ddof=1):.4f} = {variance.params[0]:.4f} * {n} / {n - 1}")

    print("\nIs a standard deviation of 10 cm compatible with these data? Fixed, and compared:")
    print(res.lr_test(gaussian.fit(df, fixed={"sigma": 10.0})))

    print("\nStandard errors that do not trust the normal distribution (HC0):")
    print(res.with_cov("HC0").bse.to_string())


if __name__ == "__main__":
    main()
