r"""Chi-bar-squared: the null distribution of a likelihood ratio if several restrictions put parameters at bounds of their
supports.

With Z ~ N(0, I^-1) in the q tested coordinates, I their efficient information at the restricted fit, and the cone C that is free
in q - m of them and non-negative in m,

.. math:: LR \to Z' I Z - \min_{c \in C} (Z - c)' I (Z - c) \sim \sum_j w_j \chi^2_j,

where w_j is the probability that the nearest point of the cone has j coordinates away from their bounds (Self & Liang 1987;
Shapiro 1988).  The weights are known in closed form for m <= 2 and simulated for larger m.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from mlejax.shapes import Float, Host

DRAWS = 200_000
MOST = 8  # coordinates on bounds: the cone has 2^m faces


class ChiSquaredWeights(NamedTuple):
    """Weights of the chi-squared distributions in the mixture.

    Attributes:
        values: weights of q - m, ..., q degrees of freedom, (m + 1,).
        simulated: number of draws that they come from; 0 for the closed form.
    """

    values: Float[Host, " k"]
    simulated: int


def chi_bar_weights(information: Float[Host, "q q"], on_bound: np.ndarray, seed: int = 0) -> ChiSquaredWeights:
    """Return the mixture weights of chi-bar-squared.

    Args:
        information: efficient information of the q tested coordinates.
        on_bound: True for those at a bound (q,), m of them.
        seed: seed of the simulation of the weights for m > 2.

    Raises:
        ValueError: m > 8.

    >>> chi_bar_weights(np.eye(2), np.array([True, True])).values.round(4).tolist()
    [0.25, 0.5, 0.25]
    """
    m = int(on_bound.sum())
    covariance = np.linalg.inv(information)[np.ix_(on_bound, on_bound)]
    root = 1.0 / np.sqrt(np.diag(covariance))
    correlation = covariance * np.outer(root, root)
    if m <= 2:
        both = np.arccos(correlation[0, 1]) / (2 * np.pi) if m == 2 else 0.0
        return ChiSquaredWeights(np.array([[1.0], [0.5, 0.5], [both, 0.5, 0.5 - both]][m]), 0)
    if m > MOST:
        raise ValueError(
            f"boundary: expected at most {MOST} restrictions at bounds, got {m}; use bootstrap=999"
        )
    z = np.random.default_rng(seed).standard_normal((DRAWS, m)) @ np.linalg.cholesky(correlation).T
    return ChiSquaredWeights(np.bincount(_off_bounds(z, correlation), minlength=m + 1) / DRAWS, DRAWS)


def _off_bounds(z: Float[Host, "d m"], covariance: Float[Host, "m m"]) -> np.ndarray:
    """Return, for each point z, the number of positive coordinates of the nearest point in the non-negative orthant (d,).

    The nearest point has the coordinates F free and the others 0 where z_F - V_FE V_EE^-1 z_E > 0 and V_EE^-1 z_E < 0.
    """
    m, out = z.shape[1], np.zeros(len(z), int)
    for free in itertools.product((False, True), repeat=m):
        f, e = np.flatnonzero(free), np.flatnonzero(~np.array(free))
        pull = np.linalg.solve(covariance[np.ix_(e, e)], z[:, e].T).T if e.size else np.zeros((len(z), 0))
        inside = z[:, f] - pull @ covariance[np.ix_(e, f)] > 0
        out[inside.all(axis=1) & (pull <= 0).all(axis=1)] = f.size
    return out


def chi_bar_tail(statistic: float, weights: ChiSquaredWeights, df: int) -> tuple[float, float]:
    """Return P(chi-bar-squared > statistic), 1 at 0 if a component has no degrees of freedom, and its simulation error (one
    standard deviation, 0 for weights in closed form); ``df`` is the largest degrees of freedom.

    >>> chi_bar_tail(0.0, ChiSquaredWeights(np.array([0.5, 0.5]), 0), 1)
    (1.0, 0.0)
    """
    from scipy.special import chdtrc

    m = len(weights.values) - 1
    tails = np.array([float(chdtrc(k, statistic)) if k else float(statistic <= 0) for k in range(df - m, df + 1)])
    p = float(weights.values @ tails)
    if not weights.simulated:
        return p, 0.0
    return p, float(np.sqrt(max(weights.values @ tails**2 - p**2, 0.0) / weights.simulated))


def upper_tail(statistic: float, df: int, boundary: int) -> float:
    """Return the p-value: of chi2(df), or with ``boundary`` (1) of the equal mixture of chi2(df - 1) and chi2(df)."""
    from scipy.special import chdtrc  # scipy.stats takes half a second to import

    tail = float(chdtrc(df, statistic))
    if not boundary:
        return tail
    # chi2 with 0 degrees of freedom is a point mass at 0, so that a statistic of 0 has p = 1
    below = float(chdtrc(df - 1, statistic)) if df > 1 else float(statistic <= 0)
    return 0.5 * below + 0.5 * tail
