"""Ten thousand shops in one call: how many of each one's customers a price change wins or loses.

Every shop has a price elasticity and a size of its own, and 20 to 80 weeks of sales.  A few shops never changed their price,
and some sold nothing: they cost their own row, with the reason, and nothing else.  The data are simulated below, so that the
answers can be compared with the truth.

    python examples/shops.py
"""

import time
import warnings

import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.scipy.special import gammaln

import mlejax as mle

SHOPS = 10_000


@mle.model(size=mle.Real(start=2.0), elasticity=mle.Real(start=-1.0))
def demand(params, data):
    """Log-likelihood of every week, (n,): sales are Poisson with mean exp(size + elasticity log(price))."""
    eta = params["size"] + params["elasticity"] * data["log_price"]
    return data["sold"] * eta - jnp.exp(eta) - gammaln(data["sold"] + 1.0)


def simulate(seed=0):
    """One long table, a row a week, and each shop's true elasticity."""
    rng = np.random.default_rng(seed)
    weeks = rng.integers(20, 81, SHOPS)
    size, elasticity = rng.normal(2.0, 0.7, SHOPS), rng.normal(-1.2, 0.4, SHOPS)
    shop = np.repeat(np.arange(SHOPS), weeks)
    log_price = rng.normal(0.0, 0.25, len(shop)).round(2)
    log_price[shop % 500 == 499] = 0.0  # shops that never change their price
    sold = rng.poisson(np.exp(size[shop] + elasticity[shop] * log_price))
    sold[shop % 1000 == 998] = 0  # shops that are closed
    labels = np.array([f"shop {i}" for i in range(SHOPS)])
    return pd.DataFrame({"shop": labels[shop], "log_price": log_price, "sold": sold}), elasticity


def main() -> None:
    """Fit all shops; look at the whole, at failures and at one shop."""
    frame, truth = simulate()
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mle.ConvergenceWarning)  # res.failed has them
        res = demand.fit_groups(frame, by="shop")
    print(f"{len(frame)} weeks of {len(res)} shops in {time.perf_counter() - began:.1f} s, compilation included\n")
    print(res.summary())

    print("\nShops without a maximum, and why:")
    print(res.failed["verdict"].value_counts().to_string())
    print(*res.failed.groupby("verdict")["reason"].first(), sep="\n")

    good = res.converged.to_numpy()
    error = (res.params["elasticity"][good] - truth[good]) / res.bse["elasticity"][good]
    print("\nErrors in units of their standard error: mean, spread, share beyond 1.96 (0, 1 and 0.05 expected)")
    print(f"{error.mean():.3f}  {error.std():.3f}  {(error.abs() > 1.96).mean():.3f}")

    print("\nOne shop, with its whole inference:")
    one = res["shop 7"]
    print(one.summary())
    print(one.wald_test("elasticity = -1"))


if __name__ == "__main__":
    main()
