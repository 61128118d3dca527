"""Link functions between linear predictors and values of parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from mlejax import transforms
from mlejax.portable import reduced
from mlejax.shapes import Either, Reduced

LINKS = ("identity", "log", "logit", "probit", "cloglog", "inverse", "softmax")


@dataclass(frozen=True)
class Link:
    """A link function and its inverse, elementwise, or along the last axis for a simplex.

    Attributes:
        name: one of `LINKS`, or "custom" for the user's functions.
        lo, hi: ends of the value's interval for logit, probit and cloglog.
        baseline: for a softmax, the position of the entry whose linear predictor is 0.
        pair: the user's functions (link, inverse), or None.
    """

    name: str
    lo: float = 0.0
    hi: float = 1.0
    baseline: int = 0
    pair: tuple[Callable[[Either], Either], Callable[[Either], Either]] | None = None

    def __reduce__(self) -> Reduced:
        return reduced(self, "pair")

    def inverse(self, eta: Either) -> Either:
        """Return the value at a linear predictor, of the same shape (for a simplex one more entry on the last axis)."""
        eta = jnp.asarray(eta)
        if self.pair is not None:
            return self.pair[1](eta)
        if self.name == "log":
            return jnp.exp(eta)
        if self.name == "logit":
            return transforms.Logit(self.lo, self.hi).forward(eta, eta.shape)
        if self.name == "probit":
            return self._between(jax.scipy.special.ndtr(eta))
        if self.name == "cloglog":
            return self._between(-jnp.expm1(-jnp.exp(eta)))
        if self.name == "inverse":
            return 1.0 / eta
        if self.name == "softmax":
            flat = jnp.reshape(eta, (-1, eta.shape[-1]))
            shape = (flat.shape[0], eta.shape[-1] + 1)
            value = transforms.Simplex().forward(flat, shape)  # its last entry is the baseline
            value = jnp.concatenate([value[:, : self.baseline], value[:, -1:], value[:, self.baseline : -1]], axis=1)
            return jnp.reshape(value, (*eta.shape[:-1], shape[1]))
        return eta

    @property
    def support(self) -> tuple[float | None, float | None] | None:
        """The interval of the possible values (lower, upper): (0, None) of a log link, (lo, hi) of logit, probit and cloglog;
        None for other links.
        """
        if self.name == "log":
            return (0.0, None)
        return (self.lo, self.hi) if self.name in ("logit", "probit", "cloglog") else None

    def _between(self, p: Either) -> Either:
        """Return probabilities scaled to the interval (lo, hi), after they are clipped to differ from 0 and 1 by float
        rounding, so that logarithms are finite; derivatives are those without clipping.
        """
        tiny = jnp.finfo(p.dtype).eps
        kept = p + jax.lax.stop_gradient(jnp.clip(p, tiny, 1.0 - tiny) - p)
        return self.lo + (self.hi - self.lo) * kept

    def link(self, value: Either) -> Either:
        """Return the linear predictor of a value, of the same shape (for a simplex one entry fewer on the last axis): the
        inverse of :meth:`inverse`. Infinite or NaN for values that are not inside the support.
        """
        if self.name == "log":
            return np.log(value) if isinstance(value, np.ndarray) else jnp.log(value)
        value = jnp.asarray(value, jnp.result_type(float))
        if self.pair is not None:
            return self.pair[0](value)
        if self.name == "logit":
            return jnp.reshape(transforms.Logit(self.lo, self.hi).inverse(value), value.shape)
        if self.name in ("probit", "cloglog"):
            share = (value - self.lo) / (self.hi - self.lo)
            return jax.scipy.special.ndtri(share) if self.name == "probit" else jnp.log(-jnp.log1p(-share))
        if self.name == "inverse":
            return 1.0 / value
        if self.name == "softmax":
            logs = jnp.log(value)
            rest = jnp.delete(logs, self.baseline, axis=-1)
            return rest - logs[..., self.baseline : self.baseline + 1]
        return value

    @property
    def ratio(self) -> str:
        """The name of exp(coefficient): "ratios" (log), "odds ratios" (logit of a probability) or "relative-risk ratios"
        (softmax); an empty string for other links.
        """
        if self.name == "log":
            return "ratios"
        if self.name == "logit" and (self.lo, self.hi) == (0.0, 1.0):
            return "odds ratios"
        return "relative-risk ratios" if self.name == "softmax" else ""
