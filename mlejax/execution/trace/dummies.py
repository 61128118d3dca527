"""Products with matrices of data, some of which are of dummy variables and stored as codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mlejax.shapes import Device, Float, Int


class Dummies(NamedTuple):
    """A matrix (N, k) of dummy variables, one 1 in each row, stored as the column of the 1.

    Attributes:
        codes: column of the 1 in each row (N,).
        k: number of columns.
        fill: as in `Lookup`.
    """

    codes: Int[Device, " n"]
    k: int
    fill: bool

    def times(self, beta: Float[Device, " k"]) -> Float[Device, " n"]:
        """Return X beta (N,)."""
        return beta.at[self.codes].get(mode="fill" if self.fill else "clip", fill_value=jnp.nan)

    def sums(self, rows: Float[Device, "n m"]) -> Float[Device, "k m"]:
        """Return X' rows (k, m): sums of the rows by code, without rows whose code is out of range."""
        return jnp.zeros((self.k, *rows.shape[1:]), rows.dtype).at[self.codes].add(rows, mode="drop")


def times(x: jax.Array | Dummies, beta: jax.Array, shared: bool = False) -> jax.Array:
    """Return X beta (N,); ``shared`` computes beta X' instead, faster if one X meets many beta under ``vmap``."""
    return x.times(beta) if isinstance(x, Dummies) else beta @ x.T if shared else x @ beta


def rows_times(rows: Float[Device, "m n"], x: jax.Array | Dummies) -> Float[Device, "m k"]:
    """Return the matrix product rows X (m, k)."""
    return x.sums(rows.T).T if isinstance(x, Dummies) else rows @ x


def crossed(a: jax.Array | Dummies, w: jax.Array, b: jax.Array | Dummies, plain: Callable[..., jax.Array]) -> jax.Array:
    """Return A' diag(w) B (k, l), by ``plain`` if neither is of dummies; for dummies with themselves its diagonal (k,)."""
    if isinstance(a, Dummies) and isinstance(b, Dummies):
        if a is b:
            return a.sums(w)
        return jnp.zeros((a.k, b.k), w.dtype).at[a.codes, b.codes].add(w, mode="drop")
    if isinstance(a, Dummies):
        return a.sums(jnp.asarray(b) * w[:, None])
    return b.sums(a * w[:, None]).T if isinstance(b, Dummies) else plain(a, w, b)
