"""A tobit regression written by hand: number of affairs, left-censored at zero.

The latent y* is normal with mean intercept + x beta and standard deviation sigma, and y = max(0, y*). A row at zero
contributes log P(y* <= 0), any other its normal log-density. That is the whole model; estimates, standard errors,
tests and the check that the answer can be trusted come from mlejax. R's survival::survreg gives the same digits.

    python examples/quickstart.py
"""

import json
from pathlib import Path

import jax.numpy as jnp
import pandas as pd
from jax.scipy.stats import norm

import mlejax as mle

HERE = Path(__file__).parent
X = ["age", "yearsmarried", "religiousness", "occupation", "rating"]


@mle.model(intercept=mle.Real(), beta=mle.Real(columns=X), sigma=mle.Positive())
def tobit(params, data):
    """Log-likelihood of every row, (n,)."""
    y, sigma = data["affairs"], params["sigma"]
    mean = params["intercept"] + jnp.stack([data[x] for x in X], axis=1) @ params["beta"]
    return jnp.where(y <= 0, norm.logcdf(-mean / sigma), norm.logpdf(y, mean, sigma))


def main() -> None:
    """Fit, print, and lay R's numbers beside."""
    df = pd.read_csv(HERE / "data" / "affairs.csv")

    res = tobit.fit(df)
    print(res.summary())

    # The same model by R: survreg(Surv(affairs, affairs > 0, type = "left") ~ ..., dist = "gaussian").
    r = json.loads((HERE.parent / "tests" / "references" / "tobit.json").read_text())
    table = pd.DataFrame({"coef": res.params, "coef (R)": r["params"], "std err": res.bse, "std err (R)": r["se"]})
    print(f"\nBeside R {r['software']['R']}, survival {r['software']['survival']}:\n")
    print(table.loc[list(r["params"])].to_string(float_format="{:.9f}".format))
    apart = max((table[column] / table[f"{column} (R)"] - 1).abs().max() for column in ("coef", "std err"))
    print(f"\nlog-likelihood {res.llf:.9f}, R {r['loglik']:.9f}; largest relative difference in the table {apart:.0e}")
    if not apart < 1e-6:
        raise SystemExit("these numbers should agree with R's")

    # What one asks next.
    print("\nDo occupation and age matter? Wald:")
    print(res.wald_test("beta[occupation] = 0, beta[age] = 0"))
    restricted = tobit.fit(df, fixed={"beta[occupation]": 0.0, "beta[age]": 0.0})
    print("\nand by the likelihood ratio:")
    print(res.lr_test(restricted))
    print("\nMarried years that one point of marital rating outweighs, by the delta method:")
    print(res.nlcom(lambda p: {"years per point": -p["beta"][4] / p["beta"][1]}))


if __name__ == "__main__":
    main()
