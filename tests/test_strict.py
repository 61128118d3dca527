"""Fits where the user's JAX refuses implicit promotion of types and ranks and implicit transfers, and computes in float64.

Whoever develops models under these settings keeps them while mlejax fits; and they show promotions that nobody meant.
Run by ``make test-strict``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

import mlejax as mle

pytestmark = [pytest.mark.slow, pytest.mark.strict]
N = 60
RNG = np.random.default_rng(0)
X = RNG.standard_normal(N)
TABLE = {"x": X, "y": 1.0 + 0.5 * X + RNG.standard_normal(N), "g": np.arange(N) % 6, "w": 1.0 + np.arange(N) % 2}


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def gauss(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["mu"], params["sigma"])


@mle.model(
    a=mle.Real(shape=2),
    s=mle.Interval(0.0, 1.0),
    p=mle.Simplex(shape=3),
    S=mle.Covariance(shape=2),
    e=mle.NonNegative(),
)
def supports(params: Any, data: Any) -> Any:
    away = jnp.sum((params["p"] - 0.3) ** 2) + jnp.sum((params["S"] - jnp.eye(2)) ** 2) + (params["e"] - 0.5) ** 2
    return -0.5 * (data["y"] - params["a"][0] - params["a"][1] * data["x"]) ** 2 - 0.01 * (away + params["s"] ** 2)


@mle.model(mu=mle.Real(), tau=mle.Positive(), unit="g")
def by_unit(params: Any, data: Any) -> Any:
    each = norm.logpdf(jnp.where(data["mask"], data["y"], 0.0), params["mu"], params["tau"])
    return jnp.sum(jnp.where(data["mask"], each, 0.0))


@mle.model(phi=mle.Real(), rowwise=False)
def autoregression(params: Any, data: Any) -> Any:
    before = jnp.concatenate([jnp.zeros(1), data["y"][:-1]])
    return norm.logpdf(data["y"], params["phi"] * before, 1.0)


REGRESSED = gauss.regress(mu="x + C(g)", sigma="x")


@pytest.fixture(autouse=True)
def _strict() -> Iterator[None]:
    with (
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
        jax.transfer_guard("disallow"),
        jax.enable_x64(True),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", mle.ConvergenceWarning)  # a direction without effect, an epoch of training
        yield


@pytest.mark.parametrize("method", ["newton", "bhhh", "lbfgs", "adam"])
def test_methods_find_the_mean_and_the_standard_deviation(method: str) -> None:
    found = gauss.fit(TABLE, method=method).params_tree
    chex.assert_trees_all_close(found, {"mu": TABLE["y"].mean(), "sigma": TABLE["y"].std()}, rtol=1e-7)


FITS: dict[str, Callable[[], Any]] = {
    "minibatches": lambda: gauss.fit(TABLE, method=mle.Adam(batch_size=16, epochs=3)),
    "supports": lambda: supports.fit(TABLE),
    "units": lambda: by_unit.fit(TABLE),
    "whole": lambda: autoregression.fit(TABLE, cov_type="HAC").bse,
    "weights": lambda: gauss.fit(TABLE, weights="w", weight_kind="sampling").bse,
    "penalty": lambda: REGRESSED.fit(TABLE, penalty=mle.l2(0.1, "mu")).bse,
    "jeffreys": lambda: gauss.fit(TABLE, bias_reduction="jeffreys"),
    "empirical": lambda: gauss.fit(TABLE, bias_reduction="empirical"),
    "constraints": lambda: REGRESSED.fit(TABLE, constraints="mu[x] = 0.5"),
    "several starts": lambda: gauss.fit(TABLE, n_starts=4),
    "groups": lambda: gauss.fit_groups(TABLE, "g").bse,
    "clusters": lambda: gauss.fit(TABLE, cov_type="cluster", cov_kwds={"groups": "g"}).bse,
    "profile": lambda: gauss.fit(TABLE).profile("mu"),
    "bootstrap": lambda: gauss.fit(TABLE).bootstrap(20).bse,
    "jackknife": lambda: gauss.fit(TABLE).jackknife().bse,
    "likelihood ratio": lambda: gauss.fit(TABLE).lr_test(gauss.fit(TABLE, fixed={"mu": 0.0})),
    "subset": lambda: gauss.fit(TABLE).subset_errors("mu"),
    "predict": lambda: REGRESSED.fit(TABLE).predict(TABLE, param="mu"),
    "summary": lambda: REGRESSED.fit(TABLE).summary(),
}


@pytest.mark.parametrize("name", FITS)
def test_nothing_is_promoted(name: str) -> None:
    """The strict settings raise where something is; what comes back is what comes back without them."""
    strict = FITS[name]()
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        plain = FITS[name]()
    same = [x for x in (strict, plain) if hasattr(x, "llf")]
    assert len({float(np.sum(x.llf)) for x in same}) <= 1
    assert type(strict) is type(plain)


def test_the_pure_core() -> None:
    prepared = gauss.prepare(TABLE)
    found = jax.jit(lambda start: mle.solve(gauss, prepared, start).params)(
        jax.device_put({"mu": np.float64(0.0), "sigma": np.float64(1.0)})
    )
    chex.assert_trees_all_close(found, {"mu": TABLE["y"].mean(), "sigma": TABLE["y"].std()}, rtol=1e-7)
