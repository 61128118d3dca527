"""Profile-likelihood intervals that others have published or computed: R, Coles (2001), logistf, iminuit, and the cases."""

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm
from scipy.optimize import brentq, minimize

import mlejax as mle
from tests.cases import Case, all_cases, supports

TESTS = Path(__file__).parents[2]
R = json.loads((TESTS / "references" / "profile.json").read_text())
LOGISTF = json.loads((TESTS / "references" / "logistf.json").read_text())
SLOW = {"cbpp_laplace", "dem2gbp_garch11", "faithful_mix2", "mammals_bvn", "nile_local_level", "nist_mgh09", "nist_rat42",
        "petrol_beta", "quine_negbin", "salinity_intcens", "sleepstudy_ri", "affairs_tobit", "nist_boxbod"}  # fmt: skip
PROFILED = [c.name for c in all_cases("mle") if "profile_ci_95" in c.reference] + ["cauchy_location", "tiny_normal_n2"]


@mle.model(eta=mle.Real())
def logit(params: Any, data: Any) -> Any:
    return data["y"] * params["eta"] - data["n"] * jnp.logaddexp(0.0, params["eta"])


@mle.model(rate=mle.Positive())
def counts(params: Any, data: Any) -> Any:
    return data["y"] * jnp.log(params["rate"]) - params["rate"]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in dict.fromkeys(PROFILED)]
)
def test_the_cases(name: str) -> None:
    """Ends by bisection with the others maximised by exact Newton steps: within 1e-6 standard errors."""
    case = Case(name)
    res = mle.model(params=supports(case), rowwise=case.rowwise)(case.loglik).fit(case.data, start=case.init)
    found = res.conf_int(method="profile")
    wanted = case.reference["profile_ci_95"]["intervals"]
    order = case.reference.get("param_order") or list(wanted)
    for label, (_, row), se in zip(order, found.iterrows(), case.vector(case.se("oim")), strict=True):
        if label in wanted:
            for side in ("lower", "upper"):
                assert row[f"{side}_status"] == "finite"
                assert row[side] == pytest.approx(wanted[label][side]["value"], abs=1e-6 * se), (label, side)


def _regression(name: str) -> tuple[Any, Any, str]:
    if name == "budworm":
        dead = [1, 4, 9, 13, 18, 20, 0, 2, 6, 10, 12, 16]
        data = {"ldose": list(range(6)) * 2, "sexM": [1] * 6 + [0] * 6, "y": dead, "n": [20] * 12}
        return logit, pd.DataFrame(data), "sexM * ldose"
    data = pd.read_csv(TESTS.parent / "examples" / "data" / f"{name}.csv")
    if name == "birthwt":
        data = data.assign(black=1 * (data.race == "black"), other=1 * (data.race == "other"), y=data.low, n=1)
        return logit, data, "age + lwt + black + other + smoke + ht + ui"
    return counts, data.assign(y=data.breaks), "wool_b + tension_m + tension_h"


@pytest.mark.parametrize("name", ["budworm", "birthwt", "warpbreaks"])
def test_r(name: str) -> None:
    model, data, formula = _regression(name)
    param = "eta" if model is logit else "rate"
    found = model.regress(**{param: formula}).fit(data).conf_int(method="profile")
    wanted = R[name]
    for label, se in wanted["se"].items():
        row = found.loc[f"{param}[{'Intercept' if label == '(Intercept)' else label}]"]
        for side in ("lower", "upper"):
            assert row[side] == pytest.approx(wanted[side][label], abs=1e-6 * se)
            assert row[side] == pytest.approx(wanted[f"confint_{side}"][label], abs=2e-3 * se)


def test_logistf_sex2() -> None:
    """logistf::sexagg; the printed intervals are 0.77 to 8.03 for dia, and so on."""
    rows = np.array([[int(c) for c in row] for row in SEX2.split()])
    weights = np.array(SEX2_COUNT)
    names = ["age", "oc", "vic", "vicl", "vis", "dia"]
    data = {"y": rows[:, 0], "n": np.ones(len(rows)), "w": weights, **{k: rows[:, j + 1] for j, k in enumerate(names)}}
    reg = logit.regress(eta=" + ".join(names))
    res = reg.fit(data, weights="w", weight_kind="frequency", bias_reduction="jeffreys")
    found = res.conf_int(method="profile")
    assert found.loc["eta[dia]", ["lower", "upper"]].tolist() == pytest.approx([0.77, 8.03], abs=5e-3)
    for label in LOGISTF["params"]:
        row = found.loc[f"eta[{'Intercept' if label == '(Intercept)' else label}]"]
        assert row["lower"] == pytest.approx(LOGISTF["lower"][label], abs=2e-6)
        assert row["upper"] == pytest.approx(LOGISTF["upper"][label], abs=2e-6)


# case age oc vic vicl vis dia, and how many women
SEX2 = (
    "0000010 0001000 0001010 0001100 0001110 0010000 0010010 0011000 0011100 0011110 0101100 0101110 0110000 0110010 0111000 "
    "0111110 1000010 1001000 1001010 1001100 1001110 1001111 1010000 1010001 1011000 1011001 1011010 1011100 1011110 1101000 "
    "1101010 1101011 1101100 1101111 1110000 1111000"
)
SEX2_COUNT = [
    1,
    2,
    1,
    8,
    18,
    42,
    1,
    1,
    5,
    6,
    2,
    4,
    14,
    1,
    1,
    2,
    1,
    14,
    3,
    10,
    12,
    1,
    44,
    3,
    15,
    1,
    2,
    7,
    3,
    2,
    1,
    1,
    1,
    1,
    5,
    3,
]


def _gev(theta: np.ndarray, y: np.ndarray) -> float:
    mu, sigma, xi = theta
    t = 1 + xi * (y - mu) / sigma
    if sigma <= 0 or (t <= 0).any():
        return np.inf
    return float(y.size * np.log(sigma) + (1 + 1 / xi) * np.log(t).sum() + (t ** (-1 / xi)).sum())


@pytest.mark.slow
def test_port_piries_hundred_year_level() -> None:
    """Coles (2001), section 3.4.1: about 4.50 to 5.27 read off the profile; here also by SciPy, the others maximised."""
    case = Case("portpirie_gev")
    res = mle.model(params=supports(case), rowwise=case.rowwise)(case.loglik).fit(case.data, start=case.init)
    year = -np.log1p(-0.01)
    level = lambda p: p["loc"] + p["scale"] / p["shape"] * (year ** (-p["shape"]) - 1)
    found = res.profile(level)
    assert found.conf_int() == (pytest.approx(4.50, abs=0.015), pytest.approx(5.27, abs=0.015))
    y = next(v for k, v in case.data.items() if len(v) == 65)

    def drop(z: float) -> float:
        at = lambda v: np.array([z - np.exp(v[0]) / v[1] * (year ** (-v[1]) - 1), np.exp(v[0]), v[1]])
        start = [np.log(0.2), -0.05 if z < 4.8 else 0.1]
        options = {"xatol": 1e-11, "fatol": 1e-13, "maxiter": 10_000, "maxfev": 10_000}
        best = minimize(lambda v: _gev(at(v), y), start, method="Nelder-Mead", options=options)
        return 2 * (best.fun + res.llf) - 3.841458820694124

    wanted = brentq(drop, 4.45, 4.55, xtol=1e-9), brentq(drop, 5.2, 5.35, xtol=1e-9)
    assert found.conf_int() == pytest.approx(wanted, abs=1e-6)


def test_iminuits_tutorial() -> None:
    """The straight line of iminuit's basic tutorial: Minos gives a = 1.02 +- 0.06, b = 2.00 +- 0.10 at one standard deviation."""
    rng = np.random.default_rng(1)
    x = np.linspace(0, 1, 10)
    y = rng.normal(1 + 2 * x, 0.1)

    @mle.model(a=mle.Real(), b=mle.Real())
    def line(params: Any, data: Any) -> Any:
        return norm.logpdf(data["y"], params["a"] + params["b"] * data["x"], 0.1)

    res = line.fit({"x": x, "y": y})
    found = res.conf_int(0.31731050786291415, method="profile")
    assert res.params.round(2).tolist() == [1.02, 2.0]
    assert ((found["upper"] - found["lower"]) / 2).round(2).tolist() == [0.06, 0.10]
    wald = res.conf_int(0.31731050786291415)  # a quadratic log-likelihood: both are the same
    assert np.allclose(found[["lower", "upper"]], wald, rtol=0, atol=1e-9)
    one = res.contour("a", "b", alpha=0.31731050786291415, joint=False)
    assert one.x.max() == pytest.approx(found.loc["a", "upper"], abs=2e-3)
