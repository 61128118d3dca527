"""Rows that provably do not mix: what is proved, and above all what is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy import special
from jax.scipy.special import logsumexp
from jax.scipy.stats import norm

import mlejax as mle
from mlejax.execution.trace import rows_apart
from mlejax.special import gammaln, log_gammaincc, softplus

PARAMS = {"b": jax.ShapeDtypeStruct((4,), float), "s": jax.ShapeDtypeStruct((), float)}
CAPTURED = np.linspace(0.0, 1.0, 3)


def proved(function: Callable[[Any, Any, Any, Any], Any]) -> bool:
    """Of f(params, X (N, 4), y (N,), group (N,) of integers)."""

    def rows(n: int) -> list[Any]:
        return [jax.ShapeDtypeStruct(s, t) for s, t in (((n, 4), float), ((n,), float), ((n,), int))]

    with jax.enable_x64(True):
        return rows_apart(lambda p, r, _: function(p, *r), PARAMS, rows, [])


def _steps(body: Callable[..., Any], begin: Any) -> Any:
    end, each = jax.lax.scan(body, begin, jnp.arange(4.0))
    return end + each.sum(axis=0)


APART: dict[str, Callable[..., Any]] = {
    "normal": lambda p, X, y, g: norm.logpdf(y, X @ p["b"], jnp.exp(p["s"])),
    "logit": lambda p, X, y, g: y * (X @ p["b"]) - softplus(X @ p["b"]),
    "probit": lambda p, X, y, g: norm.logcdf((2 * y - 1) * (X @ p["b"])),
    "counts": lambda p, X, y, g: gammaln(y + p["s"]) - gammaln(p["s"]) - jnp.exp(X @ p["b"]),
    "jax gammaln": lambda p, X, y, g: jax.scipy.special.gammaln(y + p["s"]) * jnp.where(y > 0, X[:, 0], X[:, 1]),
    "mixture": lambda p, X, y, g: logsumexp(norm.logpdf(y[:, None], p["b"], 1.0) + jax.nn.log_softmax(p["b"]), axis=1),
    "look-up": lambda p, X, y, g: norm.logpdf(y, p["b"][g], 1.0),
    "multinomial": lambda p, X, y, g: jax.nn.log_softmax(X * p["b"], axis=1)[:, 0] + jnp.sum(X * X, axis=1) * p["s"],
    "columns": lambda p, X, y, g: jnp.stack([jnp.ones_like(y), y, y**2, X[:, 2]], axis=1) @ p["b"],
    "vmap": lambda p, X, y, g: jax.vmap(lambda x, t: t * jnp.tanh(x @ p["b"]))(X, y),
    "joined": lambda p, X, y, g: jnp.concatenate([X, y[:, None]], axis=1).sum(1) - jnp.cumsum(X, axis=1)[:, -1],
    "quadratic form": lambda p, X, y, g: jnp.einsum("ni,ij,nj->n", X, jnp.outer(p["b"], p["b"]), X),
    "filled": lambda p, X, y, g: y + jnp.full(y.shape, 2.0) * p["s"],
    "integers": lambda p, X, y, g: jnp.where(g > 0, y, p["s"]) * (g // 2 + 1),
    "incomplete gamma": lambda p, X, y, g: log_gammaincc(jnp.exp(p["s"]), y / jnp.exp(X @ p["b"])),
    "beside a row of numbers": lambda p, X, y, g: jnp.sum(y[:, None] * (jnp.arange(5.0)[None] + p["s"]), axis=1),
    "normal probabilities": lambda p, X, y, g: jnp.log(norm.cdf(y * p["s"]) + special.ndtri(norm.cdf(X @ p["b"])) ** 2),
    "powers of two": lambda p, X, y, g: jnp.log2(1.0 + y**2 * p["s"]) + jnp.sinc(y + p["s"]),
    "steps that keep rows": lambda p, X, y, g: _steps(lambda c, t: (c * p["s"] + y * t, c), jnp.zeros_like(y)),
    "steps over columns": lambda p, X, y, g: jax.lax.scan(lambda c, x: (c * p["s"] + x, None), y, X.T)[0],
}

MIXED: dict[str, Callable[..., Any]] = {
    "centred": lambda p, X, y, g: (y - y.mean()) * p["s"],
    "scaled": lambda p, X, y, g: y / jnp.max(jnp.abs(y)),
    "running": lambda p, X, y, g: jnp.cumsum(y),
    "lagged": lambda p, X, y, g: y - p["s"] * jnp.roll(y, 1),
    "turned": lambda p, X, y, g: y[::-1],
    "sorted": lambda p, X, y, g: jnp.sort(y),
    "from the first": lambda p, X, y, g: y - y[0],
    "numbered": lambda p, X, y, g: y * jnp.arange(y.shape[0]),
    "in steps": lambda p, X, y, g: y * jnp.linspace(0.0, 1.0, y.shape[0]),
    "divided by the number": lambda p, X, y, g: y / y.shape[0],
    "by a number counted": lambda p, X, y, g: y / jnp.ones_like(y).sum(),
    "by a number summed": lambda p, X, y, g: y / jnp.sum(jnp.broadcast_to(p["s"], y.shape)),
    "to the power of the number": lambda p, X, y, g: y ** y.shape[0],
    "times the number": lambda p, X, y, g: jnp.broadcast_to(y[:, None], (y.shape[0], y.shape[0])).sum(axis=1),
    "pairwise": lambda p, X, y, g: jnp.exp(-((y[:, None] - y[None, :]) ** 2)).sum(axis=1),
    "gram": lambda p, X, y, g: (X @ X.T).sum(axis=1),
    "softmax over rows": lambda p, X, y, g: jax.nn.log_softmax(y),
    "scan": lambda p, X, y, g: jax.lax.scan(lambda c, t: (p["s"] * c + t, c), 0.0, y)[1],
    "a scan of rows": lambda p, X, y, g: _steps(lambda c, t: (c * p["s"] + jnp.mean(y) * t, c), jnp.zeros_like(y)),
    "a scan that shifts": lambda p, X, y, g: _steps(lambda c, t: (jnp.roll(c, 1) + t * p["s"], c), y),
    "a scan that mixes late": lambda p, X, y, g: _steps(lambda c, t: (c[::-1] + y, c), jnp.zeros_like(y)),
    "a carried sum": lambda p, X, y, g: y + jax.lax.scan(lambda c, t: (c + y.sum() * t, None), p["s"], jnp.arange(3.0))[0],
    "other rows looked up": lambda p, X, y, g: y[g],
    "captured": lambda p, X, y, g: y * jnp.resize(jnp.asarray(CAPTURED), y.shape),
    "if many": lambda p, X, y, g: y if y.shape[0] < 100 else y * p["s"],
    "constant": lambda p, X, y, g: jnp.ones(y.shape) * p["s"],
    "a loop as long as a column says": lambda p, X, y, g: jax.lax.fori_loop(0, jnp.max(g), lambda i, c: c + y, p["s"] * y),
    "a loop that ends together": lambda p, X, y, g: log_gammaincc(jnp.exp(p["s"]), y) + jax.lax.while_loop(
        lambda c: jnp.any(c < 1.0), lambda c: c + jnp.exp(y), y
    ),
}  # fmt: skip


@jax.custom_jvp
def badly_differentiated(x: Any) -> Any:
    return jnp.sin(x)


@badly_differentiated.defjvp
def _badly_differentiated_jvp(primals: Any, tangents: Any) -> Any:
    (x,), (t,) = primals, tangents
    return jnp.sin(x), jnp.cos(x) * jnp.mean(t)


MIXED["a rule that mixes"] = lambda p, X, y, g: badly_differentiated(y * p["s"])
MIXED["pairs of rows"] = lambda p, X, y, g: (y.reshape(-1, 2) * p["s"]).reshape(-1)


@pytest.mark.parametrize("name", APART)
def test_proved(name: str) -> None:
    assert proved(APART[name])


@pytest.mark.parametrize("name", MIXED)
def test_not_proved(name: str) -> None:
    assert not proved(MIXED[name])


def test_what_is_not_proved_is_evaluated() -> None:
    @mle.model(mu=mle.Real(), b=mle.Real())
    def centred(params: Any, data: Any) -> Any:
        return norm.logpdf(data["y"], params["mu"] + params["b"] * (data["x"] - data["x"].mean()), 1.0)

    rng = np.random.default_rng(0)
    with pytest.raises(mle.LikelihoodError, match="its entries use other rows"):
        centred.fit({"y": rng.normal(size=40), "x": rng.normal(size=40)})
