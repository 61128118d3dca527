"""Products with matrices of data, some of which are of dummy variables and stored as codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.shapes import Device, Float, Int

NARROW = 14  # columns up to which one product with a few more rows is no slower than two


class Dummies(NamedTuple):
    """A matrix (N, k) of dummy variables, at most one 1 in each row, stored as the column of the 1.

    Attributes:
        codes: column of the 1 in each row (N,); with ``reference`` 0 for a row of zeros, and the other columns from 1 on.
        k: number of columns.
        fill: True if codes out of range give NaN, False if they are clipped to the last coefficient.
        reference: True if code 0 stands for a row of zeros and the columns have the codes from 1 on.
    """

    codes: Int[Device, " n"]
    k: int
    fill: bool
    reference: bool

    def times(self, beta: Float[Device, " k"]) -> Float[Device, " n"]:
        """Return X beta (N,)."""
        beta = jnp.concatenate([jnp.zeros(1, beta.dtype), beta]) if self.reference else beta
        return beta.at[self.codes].get(mode="fill" if self.fill else "clip", fill_value=jnp.nan)

    def sums(self, rows: Float[Device, "n m"]) -> Float[Device, "k m"]:
        """Return X' rows (k, m): sums of the rows by code, without rows whose code is out of range."""
        skip = int(self.reference)
        return jnp.zeros((self.k + skip, *rows.shape[1:]), rows.dtype).at[self.codes].add(rows, mode="drop")[skip:]

    def placed(self, to: Float[Device, "p n"], at: np.ndarray, values: Float[Device, " n"]) -> Float[Device, "p n"]:
        """Return ``to`` with the value of every row added in its column, at the row of its coefficient; ``at``: rows of the
        coefficients (k,).
        """
        values = jnp.where(self.codes > 0, values, 0.0) if self.reference else values
        codes = jnp.maximum(self.codes - int(self.reference), 0)
        return to.at[jnp.asarray(at)[codes], jnp.arange(values.shape[0])].add(values)


class PredictorSums(NamedTuple):
    """Sums of derivatives over blocks of rows, from which `assemble` makes score and Hessian.

    Attributes:
        value: the weighted log-likelihood ().
        grad: gradient in u with the predictors held constant (p,).
        betas: X_a' dl/deta_a, (k_a,) for each predictor a.
        pairs: X_a' diag(h_ab) X_b for a <= b, (k_a, k_b) each; for dummies with themselves the diagonal (k_a,).
        crosses: X_a' d^2l / deta_a dtheta', (k_a, s) for each predictor a.
        theta: rows of the Hessian for theta, with the predictors held constant (s, p).
    """

    value: Float[Device, ""]
    grad: Float[Device, " p"]
    betas: list[Float[Device, " k_a"]]
    pairs: list[Float[Device, "k_a k_b"]]
    crosses: list[Float[Device, "k_a s"]]
    theta: Float[Device, "s p"]


def times(x: jax.Array | Dummies, beta: jax.Array, shared: bool = False) -> jax.Array:
    """Return X beta (N,); ``shared`` computes beta X' instead, which is faster if one X is multiplied by many beta under
    ``vmap``.
    """
    return x.times(beta) if isinstance(x, Dummies) else beta @ x.T if shared else x @ beta


def rows_times(rows: Float[Device, "m n"], x: jax.Array | Dummies) -> Float[Device, "m k"]:
    """Return the matrix product rows X (m, k)."""
    return x.sums(rows.T).T if isinstance(x, Dummies) else rows @ x


def crossed(a: jax.Array | Dummies, w: jax.Array, b: jax.Array | Dummies, plain: Callable[..., jax.Array]) -> jax.Array:
    """Return A' diag(w) B (k, l), by ``plain`` if neither is of dummies; for dummies with themselves its diagonal (k,)."""
    if isinstance(a, Dummies) and isinstance(b, Dummies):
        if a is b:
            return a.sums(w)
        i, j = int(a.reference), int(b.reference)
        return jnp.zeros((a.k + i, b.k + j), w.dtype).at[a.codes, b.codes].add(w, mode="drop")[i:, j:]
    if isinstance(a, Dummies):
        return a.sums(jnp.asarray(b) * w[:, None])
    return b.sums(a * w[:, None]).T if isinstance(b, Dummies) else plain(a, w, b)


def sums_with_dummies(
    matrices: list[jax.Array | Dummies], rows: list[jax.Array], bend: list[list[jax.Array]], plain: Callable[..., jax.Array]
) -> tuple[list[jax.Array], list[jax.Array]]:
    """Return rows_a X_a (m, k_a) for every predictor, and X_a' diag(h_ab) X_b for a <= b, where some X_a are of dummies.

    All sums by the codes of one factor are made together, since each row then has its place looked up once.

    Args:
        matrices: the matrices X_a.
        rows: for every predictor the rows (m, N) that its matrix multiplies.
        bend: weighted second derivatives h_ab (N,), in ``bend[b][a]``.
        plain: (X (N, k), w (N,), Y (N, l)) -> X' diag(w) Y (k, l).
    """
    q = len(matrices)
    dense = [b for b in range(q) if not isinstance(matrices[b], Dummies)]
    once: list[jax.Array] = []
    pairs: dict[tuple[int, int], jax.Array] = {}
    for a, x in enumerate(matrices):
        if not isinstance(x, Dummies):
            once.append(rows_times(rows[a], x))
            pairs |= {(a, b): plain(x, bend[b][a], matrices[b]) for b in dense if b >= a}
            continue
        blocks = [rows[a].T, bend[a][a][:, None], *(jnp.asarray(matrices[b]) * bend[b][a][:, None] for b in dense)]
        ends = np.cumsum([block.shape[1] for block in blocks])[:-1]
        own, diagonal, *mixed = jnp.split(x.sums(jnp.concatenate(blocks, axis=1)), ends, axis=1)
        once.append(own.T)
        pairs[a, a] = diagonal[:, 0]
        pairs |= {(a, b) if a < b else (b, a): block if a < b else block.T for b, block in zip(dense, mixed, strict=True)}
        pairs |= {
            (a, b): crossed(x, bend[b][a], matrices[b], plain) for b in range(a + 1, q) if isinstance(matrices[b], Dummies)
        }
    return once, [pairs[a, b] for a in range(q) for b in range(a, q)]


def side_by_side(
    matrices: list[jax.Array | Dummies], places: list[np.ndarray], groups: Sequence[int]
) -> tuple[list[jax.Array | Dummies], list[np.ndarray], list[int]]:
    """Return matrices of predictors, the indices in u of their coefficients, and the sums that they enter, with all matrices of
    one sum but those of dummies joined to one.
    """
    out: list[jax.Array | Dummies] = []
    at: list[np.ndarray] = []
    of: list[int] = []
    for group in dict.fromkeys(groups):
        own = [b for b, other in enumerate(groups) if other == group]
        dense = [b for b in own if not isinstance(matrices[b], Dummies)]
        if dense:
            parts: list[Any] = [matrices[b] for b in dense]
            out.append(parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=1))
            at.append(np.concatenate([places[b] for b in dense]))
            of.append(group)
        for b in (b for b in own if b not in dense):
            out.append(matrices[b])
            at.append(places[b])
            of.append(group)
    return out, at, of


def pair_sums(matrices: list[Any], bend: list[list[jax.Array]], crossed: Callable[..., jax.Array]) -> list[jax.Array]:
    """Return X_a' diag(h_ab) X_b for a <= b: one product for each pair, or one product for all pairs if there are three or more
    predictors, all with the same matrix of at most 14 columns.

    ``bend``: weighted second derivative h_ab of every row, in ``bend[b][a]``; ``crossed``: function that computes the product
    of one pair.
    """
    q, x = len(matrices), matrices[0]
    k = x.k if isinstance(x, Dummies) else x.shape[1]
    if q < 3 or k > NARROW or any(other is not x for other in matrices):
        return [crossed(matrices[a], bend[b][a], matrices[b]) for a in range(q) for b in range(a, q)]
    i, j = np.triu_indices(k)
    place = np.zeros((k, k), np.int64)
    place[i, j] = place[j, i] = np.arange(i.size)
    weights = jnp.stack([bend[b][a] for a in range(q) for b in range(a, q)])
    return list((weights @ (x[:, i] * x[:, j]))[:, place])
