r"""The upper tail of a weighted sum of chi-squared variables with one degree of freedom each.

By Imhof's (1961, Biometrika 48, 419) inversion of the characteristic function,

.. math:: P(Q > q) = \tfrac12 + \tfrac1\pi \int_0^\infty \frac{\sin\theta(u)}{u \rho(u)} du, \quad
    \theta = \tfrac12 \sum_j \arctan(w_j u) - \tfrac12 q u, \quad \rho = \prod_j (1 + w_j^2 u^2)^{1/4}.
"""

from __future__ import annotations

import itertools

import numpy as np

from mlejax.shapes import Float, Host


def tail(statistic: float, weights: Float[Host, " k"]) -> float:
    """Return P(sum_j w_j Z_j^2 > statistic), to about 1e-8; weights below 1e-10 of the largest are left out.

    >>> round(tail(3.841458820694124, np.array([1.0])), 8)
    0.05
    """
    size = float(np.abs(weights).max(initial=0.0))
    if not size:
        return float(statistic <= 0)
    from scipy.integrate import quad
    from scipy.special import chdtrc

    w = weights[np.abs(weights) > 1e-10 * size] / size
    q = statistic / size
    if np.allclose(w, 1.0, rtol=1e-12):
        return float(chdtrc(w.size, max(q, 0.0)))

    def integrand(u: float) -> float:
        angle = 0.5 * np.arctan(w * u).sum() - 0.5 * q * u
        return float(np.sin(angle) / (u * np.exp(0.25 * np.log1p((w * u) ** 2).sum())))

    low = 0.5 * (w.sum() - q) * 1e-9  # of the integral below 1e-9
    step = np.pi / max(0.5 * abs(q), 0.5)
    edges = [1e-9, *np.arange(step, 400 * step, step)]
    parts = []
    for a, b in itertools.pairwise(edges):
        parts.append(quad(integrand, a, b, epsabs=1e-12, epsrel=1e-10)[0])
        if abs(parts[-1]) < 1e-13:
            break
    sums = low + np.cumsum(parts)
    total = float(sums[-1])
    if abs(parts[-1]) >= 1e-13:  # an alternating series: averages of partial sums (Euler)
        tip = sums[-40:]
        while tip.size > 1:
            tip = 0.5 * (tip[1:] + tip[:-1])
        total = float(tip[0])
    return float(np.clip(0.5 + total / np.pi, 0.0, 1.0))
