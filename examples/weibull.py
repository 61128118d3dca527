"""Weibull regression with right censoring: survival of patients with advanced lung cancer.

log T = intercept + x beta + sigma W with W standard minimum extreme value. A death contributes its log-density; a
patient still alive at the end contributes the log-probability of having survived that long.

    python examples/weibull.py
"""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pandas as pd

import mlejax as mle

X = ["age", "female", "ph_ecog"]


@mle.model(intercept=mle.Real(start=5.0), beta=mle.Real(columns=X), sigma=mle.Positive())
def weibull(params, data):
    """Log-likelihood of every patient, (n,): log f = w - log sigma - log t - e^w, log S = -e^w."""
    log_t, sigma = jnp.log(data["time"]), params["sigma"]
    w = (log_t - params["intercept"] - jnp.stack([data[x] for x in X], axis=1) @ params["beta"]) / sigma
    return jnp.where(data["event"] > 0, w - jnp.log(sigma) - log_t, 0.0) - jnp.exp(w)


def main() -> None:
    """Fit, print, and read the coefficients as time ratios and hazard ratios."""
    df = pd.read_csv(Path(__file__).parent / "data" / "lung.csv")
    print(f"{len(df)} patients, {int(df['event'].sum())} deaths observed, {int((1 - df['event']).sum())} censored\n")

    res = weibull.fit(df)
    print(res.summary())

    print("\nWomen live longer by a factor of (95 % interval)")
    low, high = np.exp(np.asarray(pd.DataFrame(res.conf_int()).loc["beta[female]"]))
    print(f"{np.exp(res.params['beta[female]']):.3f}  [{low:.3f}, {high:.3f}]")

    print("\nand the logarithm of their hazard, relative to men's, is -beta / sigma:")
    print(res.nlcom(lambda p: {"log hazard ratio": -p["beta"][1] / p["sigma"]}))

    print("\nIs the hazard constant (sigma = 1, the exponential distribution)?")
    print(res.lr_test(weibull.fit(df, fixed={"sigma": 1.0})))

    print("\nStandard errors that allow for patients of one institution being alike:")
    print(weibull.fit(df, cov_type="cluster", cov_kwds={"groups": "inst"}).bse.to_string())


if __name__ == "__main__":
    main()
