"""Rolling windows: how the persistence of a series changes, from 400 overlapping windows fitted in one call.

y_t = m + phi y_{t-1} + sigma e_t, with phi rising from 0.1 to 0.8 halfway.  The windows are a view of the series, stacked
along a new leading axis; the model sees a whole window at once (rowwise=False), because its rows depend on one another.

    python examples/rolling_windows.py
"""

import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

import mlejax as mle

WINDOW, WINDOWS = 120, 400


@mle.model(m=mle.Real(start=0.0), phi=mle.Real(start=0.0), sigma=mle.Positive(start=1.0), rowwise=False)
def ar1(params, data):
    """Log-density of y_t given y_{t-1}, (n - 1,)."""
    y = data["y"]
    return norm.logpdf(y[1:], params["m"] + params["phi"] * y[:-1], params["sigma"])


def simulate(seed=0):
    """A series of WINDOW + WINDOWS - 1 values whose persistence changes halfway."""
    rng = np.random.default_rng(seed)
    n = WINDOW + WINDOWS - 1
    y = np.zeros(n)
    for t in range(1, n):
        y[t] = (0.1 if t < n // 2 else 0.8) * y[t - 1] + rng.normal()
    return y


def main() -> None:
    """Fit all windows and print the path of phi."""
    y = simulate()
    windows = np.lib.stride_tricks.sliding_window_view(y, WINDOW)
    res = ar1.fit_batch({"y": windows})
    print(res.summary())

    print("\nwindow ends at   phi   std err")
    for i in range(0, WINDOWS, 57):
        phi, error = res.params.loc[i, "phi"], res.bse.loc[i, "phi"]
        print(f"{i + WINDOW - 1:14d} {phi:6.2f} {error:8.2f}  {'':{int(40 * max(phi, 0.0))}}*")

    x, z = windows[200][:-1], windows[200][1:]
    slope = np.cov(x, z, bias=True)[0, 1] / np.var(x)
    print(f"\nleast squares in window 200: {slope:.6f}, here {res.params.loc[200, 'phi']:.6f}")
    assert jnp.isclose(slope, res.params.loc[200, "phi"], rtol=1e-5)


if __name__ == "__main__":
    main()
