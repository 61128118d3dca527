"""Parameters on covariates: against R (numbers and scripts in ``tests/references``), closed forms, and by-hand models."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.special import gammaln
from jax.scipy.stats import norm, poisson

import mlejax as mle

ROOT = Path(__file__).parent.parent


def r_numbers(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "tests" / "references" / f"regress_{name}.json").read_text())


@functools.cache
def table(name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / "examples" / "data" / f"{name}.csv")


@mle.model(p=mle.Interval(0, 1))
def bernoulli(params: Any, data: Any) -> Any:
    return jnp.where(data["low"] > 0, jnp.log(params["p"]), jnp.log1p(-params["p"]))


@mle.model(rate=mle.Positive())
def counts(params: Any, data: Any) -> Any:
    return poisson.logpmf(data["incidents"], params["rate"])


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def weibull(params: Any, data: Any) -> Any:
    z = (jnp.log(data["time"]) - params["mu"]) / params["sigma"]
    return data["event"] * (z - jnp.log(params["sigma"] * data["time"])) - jnp.exp(z)


@mle.model(mu=mle.Positive(), theta=mle.Positive())
def negbin(params: Any, data: Any) -> Any:
    y, mu, theta = data["deaths"], params["mu"], params["theta"]
    constant = gammaln(y + theta) - gammaln(theta) - gammaln(y + 1.0)
    return constant + theta * jnp.log(theta / (theta + mu)) + y * jnp.log(mu / (theta + mu))


SATISFACTION = ("low", "medium", "high")


@mle.model(p=mle.Simplex(labels=SATISFACTION, shape=3))
def multinomial(params: Any, data: Any) -> Any:
    """Written for one vector of probabilities, without a thought of covariates."""
    return data["count"] * jnp.log(params["p"][data["level"]])


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def normal(params: Any, data: Any) -> Any:
    return norm.logpdf(data["dist"], params["mu"], params["sigma"])


def housing() -> pd.DataFrame:
    df = table("housing")
    return df.assign(level=df["satisfaction"].map({s: i for i, s in enumerate(SATISFACTION)}))


def known_offset() -> pd.DataFrame:
    df = table("birthwt")
    return df.assign(known=0.01 * (df["lwt"] - 130))


REGRESSIONS = {
    "logit": (bernoulli.regress(p=mle.Linear("age + C(race) + smoke", offset="known")), known_offset),
    "poisson": (
        counts.regress(rate=mle.Linear("type + C(year) + C(period)", offset="log(service)")),
        lambda: table("ships"),
    ),
    "weibull": (weibull.regress(mu="age + female + ph_ecog"), lambda: table("lung")),
    "weibull_scale": (weibull.regress(mu="age + female + ph_ecog", sigma="female"), lambda: table("lung")),
    "negbin": (negbin.regress(mu=mle.Linear("popden + rural + temp", exposure="drivers")), lambda: table("road")),
    "multinom": (
        multinomial.regress(p="C(influence) + C(type) + C(contact)"),
        housing,
    ),
    "scale": (normal.regress(mu="speed", sigma="speed"), lambda: table("cars")),
}


@functools.cache
def fitted(name: str) -> mle.Results:
    model, data = REGRESSIONS[name]
    return model.fit(data())


# ---- numbers


def in_r_order(name: str, label: str) -> str:
    """R's first level of a factor without its own order is the first by name, as formulaic's is."""
    label = label.replace("C(influence)", "influence").replace("C(type)", "type").replace("C(contact)", "contact")
    return label if name == "poisson" else label.replace("C(race)", "race")


@pytest.mark.parametrize("name", REGRESSIONS)
def test_agrees_with_r(name: str) -> None:
    """Estimates to 1e-6 standard errors, standard errors to 1e-6, the log-likelihood to 1e-10; from mlejax's own start."""
    res, r = fitted(name), r_numbers(name)
    ours = res.params.rename(lambda label: in_r_order(name, label))
    assert set(ours.index) == set(r["params"])
    want, errors = pd.Series(r["params"])[ours.index], pd.Series(r["se"])[ours.index]
    assert res.verdict.code == "verified"
    assert float(np.max(np.abs(ours - want) / errors)) < 1e-6
    assert float(np.max(np.abs(res.bse.to_numpy() / errors - 1))) < 1e-6
    assert res.llf == pytest.approx(r["loglik"], rel=1e-10)
    if "se_hc0" in r:
        robust = pd.Series(r["se_hc0"])[ours.index].to_numpy()
        assert np.max(np.abs(res.with_cov("HC0").bse.to_numpy() / robust - 1)) < 1e-6
