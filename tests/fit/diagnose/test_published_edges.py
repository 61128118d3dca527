"""Published data near an edge: a frontier, skew-normal laws, and moving averages with a unit root."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm
from scipy import integrate

import mlejax as mle

REFERENCES = Path(__file__).parents[2] / "references"
R = json.loads((REFERENCES / "published.json").read_text())


@mle.model(mu=mle.Real(), s2=mle.Positive(), gamma=mle.Interval(0, 1, closed="left"))
def production(p: Any, d: Any) -> Any:
    """Half-normal frontier in the coordinates of FRONTIER 4.1: s2 = var(v) + var(u), gamma = var(u) / s2."""
    s, e = jnp.sqrt(p["s2"]), d["y"] - p["mu"]
    return jnp.log(2.0) + norm.logpdf(e, 0.0, s) + norm.logcdf(-jnp.sqrt(p["gamma"] / (1 - p["gamma"])) * e / s)


@mle.model(xi=mle.Real(), omega=mle.Positive(), alpha=mle.Real())
def skew_normal(p: Any, d: Any) -> Any:
    z = (d["y"] - p["xi"]) / p["omega"]
    return jnp.log(2.0) + norm.logpdf(z) - jnp.log(p["omega"]) + norm.logcdf(p["alpha"] * z)


# After a sine transform of the series its rows are independent, of variances sigma^2 (1 + theta^2 - 2 theta cos(pi k / (n + 1)))
@mle.model(theta=mle.Interval(-1, 1, closed="both"), sigma=mle.Positive())
def moving_average(p: Any, d: Any) -> Any:
    return norm.logpdf(d["y"], 0.0, p["sigma"] * jnp.sqrt(1 + p["theta"] ** 2 - 2 * p["theta"] * d["cosine"]))


def test_sixty_firms_of_coelli() -> None:
    """T. Coelli's example 1 of FRONTIER 4.1 (CEPA working paper 96/07), as R's frontier has its output in inst/front41/EG1.OUT.

    The data are those of R's frontier (front41Data, GPL >= 2), from PyPI's pystoned 0.7.5 (41Firm.csv, GPL-3).  The program stops
    at relative changes of 1e-5 and has its errors from the updates of its search: hence the tolerances.
    """
    firms = pd.read_csv(REFERENCES / "front41.csv")
    data = {"y": np.log(firms["output"]), "capital": np.log(firms["capital"]), "labour": np.log(firms["labour"])}
    res = production.regress(mu="capital + labour").fit(data)
    assert res.verdict.code == "verified"
    assert res.llf == pytest.approx(-17.027229, abs=1e-5)
    assert res.llf >= -17.027229
    order = ["mu[Intercept]", "mu[capital]", "mu[labour]", "s2", "gamma"]
    np.testing.assert_allclose(res.params[order], [0.56161963, 0.28110205, 0.53647981, 0.21700046, 0.79720730], atol=5e-6)
    np.testing.assert_allclose(res.bse[order], [0.20261668, 0.047643365, 0.045251553, 0.063909106, 0.13642399], rtol=0.02)
    none = production.regress(mu="capital + labour").fit(data, fixed={"gamma": 0.0})
    X = np.column_stack([np.ones(60), data["capital"], data["labour"]])
    rest = data["y"] - X @ np.linalg.lstsq(X, data["y"], rcond=None)[0]
    assert none.llf == pytest.approx(-30 * (np.log(2 * np.pi * np.mean(rest**2)) + 1), rel=1e-12)
    assert none.llf == pytest.approx(-18.446849, abs=1e-5)  # the closed form is 8e-6 above what the program prints
    assert 2 * (res.llf - none.llf) == pytest.approx(2.8392402, abs=2e-5)


@pytest.mark.parametrize("start", [pytest.param(None, marks=pytest.mark.slow), "normal"])
@pytest.mark.parametrize("who", ["athletes", "women"])
def test_athletes_of_cook_and_weisberg(who: str, start: str | None) -> None:
    """Body mass of Australian athletes, sn::ais (GPL-2 or GPL-3; Cook & Weisberg 1994), against sn::selm.

    At alpha = 0, a singular stationary point of every sample (Azzalini 1985), the search may start and may not end.
    """
    table = pd.read_csv(REFERENCES / "ais.csv")
    y = (table if who == "athletes" else table[table["female"] == 1])["bmi"].to_numpy()
    at = {"xi": y.mean(), "omega": y.std(), "alpha": 0.0} if start else None
    res = skew_normal.fit({"y": y}, start=at)
    assert res.verdict.code == "verified"
    assert res.llf == pytest.approx(R[who]["loglik"], rel=1e-12)
    errors = np.array(list(R[who]["se"].values()))
    np.testing.assert_allclose((res.params[list(R[who]["params"])] - list(R[who]["params"].values())) / errors, 0, atol=1e-8)
    np.testing.assert_allclose(res.bse[list(R[who]["se"])], errors, rtol=1e-8)


@pytest.mark.slow
def test_a_skewness_without_a_maximum() -> None:
    """sn::frontier (GPL-2 or GPL-3), with its "estimate on the frontier": half-normal from the least value on."""
    y = pd.read_csv(REFERENCES / "skew_frontier.csv")["y"].to_numpy()
    with pytest.warns(mle.ConvergenceWarning, match=r"keeps rising towards -47\.0369 along alpha"):
        res = skew_normal.fit({"y": y})
    assert res.verdict.code == "no_finite_maximum"
    omega = np.sqrt(np.mean((y - y.min()) ** 2))
    limit = len(y) * (np.log(2.0) - 0.5 * np.log(2 * np.pi) - np.log(omega) - 0.5)
    assert res.llf == pytest.approx(limit, abs=1e-3)
    assert res.params["xi"] == pytest.approx(y.min(), abs=1e-4)
    assert res.params["omega"] == pytest.approx(omega, abs=1e-4)


def share_at_one(n: int) -> float:
    """P(theta = 1 is a local maximum) for the moving average with a unit root, by Imhof (1961, Biometrika 48, 419).

    The derivative of the profile log-likelihood is 0 at theta = 1; its second is n sum(z^2 / v) / sum(z^2) - sum(1 / v) with
    v = 2 - 2 cos(pi k / (n + 1)) and z independent standard normals, negative where sum((1 / v - mean(1 / v)) z^2) is (Sargan &
    Bhargava 1983, Econometrica 51, 799).
    """
    inverse = 1 / (2 - 2 * np.cos(np.pi * np.arange(1, n + 1) / (n + 1)))
    a = (inverse - inverse.mean()) / inverse.max()
    integrand = lambda u: np.sin(0.5 * np.arctan(a * u).sum()) / u * np.exp(-0.25 * np.log1p((a * u) ** 2).sum())
    return 0.5 - integrate.quad(integrand, 0, np.inf, limit=2000)[0] / np.pi


def test_the_limit_of_the_share_at_one() -> None:
    """Davis & Dunsmuir (1996, Econometric Theory 12, 1): 0.657, P(sum (pi k)^-2 z^2 < 1/6), of the law of Cramer and von Mises.

    That law is at hand by its series (Csorgo & Faraway 1996, J. R. Stat. Soc. B 58, 221): mpmath, 30 digits.
    """
    import mpmath as mp

    x = mp.mpf(1) / 6
    terms = lambda k: (
        mp.gamma(k + 0.5) / (mp.gamma(0.5) * mp.factorial(k)) * mp.sqrt(4 * k + 1) * mp.exp(-((4 * k + 1) ** 2) / (16 * x))
        * mp.besselk(0.25, (4 * k + 1) ** 2 / (16 * x))
    )
    limit = float(mp.nsum(lambda k: terms(int(k)), [0, 20]) / (mp.pi * mp.sqrt(x)))
    assert limit == pytest.approx(0.657442, abs=1e-6)
    assert share_at_one(2000) == pytest.approx(limit, abs=2e-4)


@pytest.mark.slow
def test_moving_averages_pile_up_at_one() -> None:
    """Differences of white noise: as many end at 1 as in theory, and none where the log-likelihood is clearly higher inside."""
    n, B = 50, 400
    k = np.arange(1, n + 1)
    cosine, sine = np.cos(np.pi * k / (n + 1)), np.sqrt(2 / (n + 1)) * np.sin(np.pi * np.outer(k, k) / (n + 1))
    noise = np.random.default_rng(0).normal(size=(B, n + 1))
    y = np.diff(noise, axis=1) @ sine
    many = moving_average.fit_batch({"y": y, "cosine": np.tile(cosine, (B, 1))})
    theta, verdict = many.params["theta"].to_numpy(), many.verdict.to_numpy()
    at_one = theta == 1.0
    np.testing.assert_array_equal(verdict, np.where(at_one, "boundary", "verified"))

    def profile(t: np.ndarray) -> np.ndarray:
        """Log-likelihoods (B, k) with sigma at its maximum, at k values of theta for each series."""
        v = 1 + t[..., None] ** 2 - 2 * t[..., None] * cosine
        return -0.5 * n * (np.log(2 * np.pi) + 1 + np.log((y[:, None] ** 2 / v).mean(-1))) - 0.5 * np.log(v).sum(-1)

    np.testing.assert_allclose(many.llf, profile(theta[:, None])[:, 0], rtol=1e-9)
    around = theta[:, None] + np.linspace(-0.02, 0.02, 41)
    gain = (profile(np.clip(around, -1, 1)) - profile(theta[:, None])).max(1)
    assert gain[~at_one].max() < 1e-9
    v = 2 - 2 * cosine
    a_maximum = n * (y**2 / v**2).sum(1) < (y**2 / v).sum(1) * (1 / v).sum()
    share = share_at_one(n)
    assert (at_one & a_maximum).mean() == pytest.approx(share, abs=3 * np.sqrt(share * (1 - share) / B))
    # where 1 is called an edge the log-likelihood near it is not higher, to within what the verdict says
    near = 1.0 - np.concatenate([[0.0], 0.5 ** np.arange(3.0, 14.0, 0.25)])
    inside = (profile(np.tile(near, (B, 1))) - profile(np.ones((B, 1)))).max(1)
    assert inside[at_one & ~a_maximum].max(initial=0.0) < 3e-6
