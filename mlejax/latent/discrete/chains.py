r"""Hidden Markov chains: the log-likelihood of one series by the scaled forward recursion, and the probabilities of its states.

    a_1(k) = delta_k f(y_1 | k),    a_t(k) = sum_j a_{t-1}(j) A_jk f(y_t | k),    log-likelihood = log sum_k a_T(k),

each a_t divided by its sum, whose logarithms are added.  The gradient in log f(y_t | k) is the probability of state k at t given
the whole series; that in A_jk, times A_jk, is the expected number of steps from j to k.  Probabilities may be 0, where the
derivatives are finite.  With a maximum in place of the sum the gradient marks the most probable path (Viterbi).
Zucchini & MacDonald (2009), Hidden Markov Models for Time Series, ch. 2-5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from mlejax.shapes import Device, Either, Float, PyTree

MOST_LOG = 700.0  # logarithms are clipped at this, so that their exponential is finite


class Chain(NamedTuple):
    """The parts of the likelihood of one series of T rows with k states.

    Attributes:
        rows: log density of each row in each state (T, k), 0 in the padding.
        initial: probabilities of the first state (k,).
        transition: transition probabilities (k, k), from the state of the row axis to that of the column; (T, k, k) if they
            vary with covariates, those of a row being for the transition into that row.
    """

    rows: Either
    initial: Either
    transition: Either


def log_total(log_densities: Float[Either, "*n k"], p: Float[Either, "*n k"]) -> Float[Device, "*n"]:
    """Return log sum_k p_k exp d_k over the last axis, -inf if all terms are 0; its derivative in a p_k of 0 is finite."""
    weights, scale = weighed(log_densities, p)
    return scale + jnp.log(jnp.sum(weights, axis=-1))


def weighed(log_densities: Float[Either, "*n k"], p: Float[Either, "*n k"]) -> tuple[Device, Device]:
    """Return p_k exp(d_k - m) (*n, k), and the constant m (*n), the largest d_k with p_k > 0; 0 if that is not finite.

    The exponents are at most 700.
    """
    highest = lax.stop_gradient(jnp.max(jnp.where(p > 0.0, log_densities, -jnp.inf), axis=-1))
    highest = jnp.where(jnp.isfinite(highest), highest, 0.0)
    return jnp.asarray(p) * jnp.exp(jnp.minimum(log_densities - highest[..., None], MOST_LOG)), highest


def forward(chain: Chain, real: Device, over: Callable[..., Any] = jnp.sum) -> Float[Device, ""]:
    """Return the log-likelihood of a series (), -inf if no path of states is possible.

    Args:
        chain: densities and probabilities.
        real: False for padding, which comes last (T,).
        over: the sum over states; ``jnp.max`` gives the log density of the most probable path instead.
    """
    by_row = chain.transition.ndim == 3

    def scaled(density: Either, p: Either) -> tuple[Device, Device]:
        weights, highest = weighed(density, p)
        size = lax.stop_gradient(jnp.sum(weights))
        size = jnp.where(size > 0.0, size, 1.0)
        return weights / size, highest + jnp.log(size)

    def step(before: tuple[Device, Device], row: PyTree) -> tuple[tuple[Device, Device], None]:
        density, there, *own = row
        a, total = before
        after, scale = scaled(density, over(a[:, None] * (own[0] if by_row else chain.transition), axis=0))
        return (jnp.where(there, after, a), jnp.where(there, total + scale, total)), None

    rest = (chain.rows[1:], real[1:], *((chain.transition[1:],) if by_row else ()))
    (a, total), _ = lax.scan(step, scaled(chain.rows[0], chain.initial), rest)
    return total + jnp.log(over(a, axis=0))


def stationary(a: Float[Device, "k k"]) -> Float[Device, " k"]:
    """Return the stationary distribution of a transition matrix in which every state can be reached from every other.

    By an algorithm without subtractions (Grassmann, Taksar & Heyman 1985); NaN if from some state j > 0 none of the states below
    it is reached, directly or by way of states above it.
    """
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
