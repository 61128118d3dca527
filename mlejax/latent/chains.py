r"""Hidden Markov chains: the log-likelihood of one series by the forward recursion in logarithms, and what follows from it.

    alpha_1(k) = log delta_k + log f(y_1 | k),    alpha_t(k) = log sum_j exp(alpha_{t-1}(j) + log A_jk) + log f(y_t | k),

and the log-likelihood is log sum_k exp alpha_T(k).  Its gradient in log f(y_t | k) is the probability of state k at t given the
whole series, and in log A_jk the expected number of steps from j to k.  With a maximum in place of the sum the gradient marks the
most probable path (Viterbi).  Zucchini & MacDonald (2009), Hidden Markov Models for Time Series, ch. 2-5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from mlejax.shapes import Device, Either, Float, PyTree


class Chain(NamedTuple):
    """Logarithms of what makes up the likelihood of one series of T rows, k states.

    Attributes:
        rows: densities, (T, k), 0 in the padding.
        initial: probabilities of the first state, (k,).
        transition: probabilities from state to state, (k, k); (T, k, k) where covariates change them, that of a row leads to it.
    """

    rows: Either
    initial: Either
    transition: Either


def forward(chain: Chain, real: Device, total: Callable[..., Any] = jax.nn.logsumexp) -> Float[Device, ""]:
    """The log-likelihood of a series, (); ``real`` flags the rows that are no padding, (T,), which comes last."""
    by_row = chain.transition.ndim == 3

    def step(alpha: Either, row: PyTree) -> tuple[Any, None]:
        density, there, *own = row
        log_a = own[0] if by_row else chain.transition
        after = total(alpha[:, None] + log_a, axis=0) + density
        return jnp.where(there, after, alpha), None

    rest = (chain.rows[1:], real[1:], *((chain.transition[1:],) if by_row else ()))
    alpha, _ = lax.scan(step, chain.initial + chain.rows[0], rest)
    return total(alpha, axis=0)


def stationary(a: Float[Device, "k k"]) -> Float[Device, " k"]:
    """The stationary distribution of a transition matrix, without a subtraction (Grassmann, Taksar & Heyman 1985)."""
    k = a.shape[0]
    for j in range(k - 1, 0, -1):
        column = a[:j, j] / jnp.sum(a[j, :j])
        a = a.at[:j, j].set(column)
        a = a.at[:j, :j].add(column[:, None] * a[j, :j][None, :])
    out = [jnp.ones((), a.dtype)]
    for j in range(1, k):
        out.append(jnp.stack(out) @ a[:j, j])
    p = jnp.stack(out)
    return p / jnp.sum(p)
