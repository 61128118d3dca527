"""Models that can be imported, for pickles; the results that files and pickles are tested on."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.scipy.stats import norm

import mlejax as mle
from tests.zoo import BIVARIATE, FAMILY, MULTINOMIAL, NET, REGRESSION


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def gaussian(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["mu"], params["sigma"])


@mle.model(a=mle.Real(), b=mle.Real())
def logit(params: Any, data: Any) -> Any:
    eta = params["a"] + params["b"] * data["x"]
    return -jnp.logaddexp(0.0, jnp.where(data["y"] > 0, -eta, eta))


@mle.model(w=mle.Free(start={"one": np.zeros(510), "more": [np.zeros(1), (np.zeros(2),)]}))
def many(params: Any, data: Any) -> Any:
    w = params["w"]
    return norm.logpdf(data["y"], w["one"].mean() + w["more"][0][0] * data["x"] + w["more"][1][0].sum(), 1.0)


def square(params: Any) -> Any:
    return params["mu"] ** 2


@functools.cache
def table() -> pd.DataFrame:
    rng = np.random.default_rng(8)
    n = 60
    frame = pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "x": rng.normal(size=n),
            "log pop": rng.uniform(1, 3, n),
            "w": rng.integers(0, 3, n).astype(float),
            "g": pd.Series(list("abcd") * 15, dtype=object),
            "c": pd.Categorical(list("xyz") * 20, categories=["z", "y", "x"]),
            "b": np.arange(n) % 2 == 0,
            "k": np.arange(n) % 3 + 1,
        }
    )
    frame.loc[3, "x"] = np.nan
    return frame


FORMULAS = {
    "mu": "C(g) + center(x) + c:`log pop`",
    "sigma": mle.Linear("bs(`log pop`, df=4)", offset="np.log(`log pop`)"),
}


def _zoo(member: Any, **options: Any) -> mle.Results:
    return member.plain.fit(member.make(13), start=member.start, **options)


def _quiet(model: Any, data: Any, **options: Any) -> mle.Results:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mle.ConvergenceWarning)
        return model.fit(data, **options)


def _edge() -> mle.Results:
    return FAMILY.plain.fit(FAMILY.bounded[0].shift(FAMILY.make(13)), start=FAMILY.start)


MAKERS: dict[str, Callable[[], mle.Results]] = {
    "regression": lambda: _zoo(REGRESSION),
    "cluster": lambda: _zoo(REGRESSION, cov_type="cluster", cov_kwds={"groups": "village"}),
    "fixed": lambda: _zoo(REGRESSION, fixed={"beta[1]": 0.5}),
    "units": lambda: _zoo(FAMILY),
    "boundary": _edge,
    "simplex": lambda: _zoo(MULTINOMIAL),
    "covariance": lambda: _zoo(BIVARIATE),
    "net": lambda: _zoo(NET),
    "separated": lambda: _quiet(logit, {"x": np.arange(6.0), "y": np.array([0, 0, 0, 1, 1, 1])}),
    "not_computable": lambda: _quiet(
        gaussian, {"y": np.arange(5.0)}, start={"mu": 0.0, "sigma": 1e-200}, method=mle.Newton(max_steps=1)
    ),
    "dropped": lambda: gaussian.regress(mu="x").fit(table(), missing="drop"),
    "formulas": lambda: gaussian.regress(FORMULAS).fit(table(), missing="drop"),
    "own_link": lambda: gaussian.regress(sigma=mle.Linear("k", link=(jnp.log, jnp.exp))).fit(table()),
    "weights": lambda: gaussian.fit(table(), weights="w", weight_kind="sampling"),
    "frequency": lambda: gaussian.fit(table(), weights="w", weight_kind="frequency"),
    "penalty": lambda: gaussian.fit(table(), penalty=square),
    "reduced": lambda: _zoo(REGRESSION, bias_reduction="jeffreys"),
    "constraints": lambda: _zoo(REGRESSION, constraints="beta[0] = 2*beta[1]"),
    "trained": lambda: _quiet(
        many, table()[["y", "w"]].rename(columns={"w": "x"}), method=mle.Adam(batch_size=16, epochs=3), validation=0.2
    ),
}


@functools.cache
def result(name: str) -> mle.Results:
    return MAKERS[name]()
