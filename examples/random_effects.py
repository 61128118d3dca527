"""Epileptic seizures: a Poisson regression in which every patient has a rate of its own, integrated out.

Thall & Vail's trial of progabide: four counts for each of 59 patients.  A Poisson regression without random effects finds
effects that are not there, because the counts of a patient are alike; sandwich errors by patient say so, and a random
intercept models it.

    python examples/random_effects.py
"""

from pathlib import Path

import jax.numpy as jnp
import pandas as pd
from jax.scipy.stats import poisson

import mlejax as mle

DATA = Path(__file__).parent / "data" / "epil.csv"


@mle.model(rate=mle.Positive(), sd=mle.NonNegative(), u=mle.Latent(by="subject"))
def seizures(params, data):
    """Log-likelihood of every count given the patient's effect u ~ N(0, 1), (n,)."""
    return poisson.logpmf(data["y"], params["rate"] * jnp.exp(params["sd"] * params["u"]))


def main() -> None:
    """Fit with and without the effect, with model-based and with sandwich errors; look at the patients."""
    epil = pd.read_csv(DATA)
    model = seizures.regress(rate="lbase * trt + lage + V4")
    res = model.fit(epil)
    print(res.summary())

    none = model.fit(epil, fixed={"sd": 0.0})
    print(f"\nWithout differences between patients: {res.lr_test(none, boundary=1)}")

    errors = pd.DataFrame(
        {
            "no effects": none.bse,
            "no effects, sandwich": none.with_cov("HC0").bse,
            "effects": res.bse,
            "effects, sandwich": res.with_cov("HC0").bse,
        }
    )
    print("\nStandard errors (one contribution is a patient):")
    print(errors.drop(index="sd").round(4).to_string())

    effects = res.latent().set_index("subject")
    extreme = effects.loc[effects["mean"].abs().nlargest(5).index]
    print("\nThe five patients farthest from their covariates, in standard deviations:")
    print(extreme.round(3).to_string())


if __name__ == "__main__":
    main()
