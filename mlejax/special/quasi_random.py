"""Quasi-random draws for simulated likelihoods: points that fill the cube more evenly than random ones, by scipy.stats.qmc.

Drawn once, outside of the log-likelihood, and handed to it as `mlejax.Shared` or by row: a log-likelihood is a function.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlejax.shapes import Float, Host


def halton(n: int, d: int = 1, *, seed: int = 0, scramble: bool = True) -> Float[Host, "n d"]:
    """Return the first n points of Halton's sequence in d dimensions, scrambled (Owen 2017).

    Args:
        n: number of points.
        d: number of dimensions; above about 10, unscrambled points are correlated.
        seed: seed of the scrambling; not used without it.
        scramble: if False, return the textbook sequence, which begins with 0 (whose normal quantile is -inf).

    Returns:
        Points in [0, 1), a NumPy array (n, d) of float64; ``scipy.stats.norm.ppf`` makes normal draws of them.

    Source:
        Train (2009), Discrete Choice Methods with Simulation, section 9.3.

    Example:
        >>> from mlejax.special import halton
        >>> halton(4, 2, scramble=False)[1:].round(4).tolist()
        [[0.5, 0.3333], [0.25, 0.6667], [0.75, 0.1111]]
    """
    from scipy.stats import qmc

    return np.asarray(qmc.Halton(d, scramble=scramble, rng=np.random.default_rng(seed)).random(n))


def sobol(n: int, d: int = 1, *, seed: int = 0, scramble: bool = True) -> Float[Host, "n d"]:
    """Return the first n points of Sobol's sequence in d dimensions in [0, 1), a NumPy array (n, d) of float64, scrambled with
    ``seed`` unless ``scramble`` is False.

    Raises:
        ValueError: n is not a power of 2, the only numbers of points that fill the cube evenly.

    Source:
        Joe & Kuo (2008), Constructing Sobol sequences with better two-dimensional projections, SIAM Journal on Scientific
        Computing 30, 2635-2654.

    Example:
        >>> from mlejax.special import sobol
        >>> sobol(4, 2, scramble=False).tolist()
        [[0.0, 0.0], [0.5, 0.5], [0.75, 0.25], [0.25, 0.75]]
    """
    from scipy.stats import qmc

    if n < 1 or n & (n - 1):
        raise ValueError(f"sobol: expected n to be a power of 2, got {n}; use {1 << max(n, 1).bit_length()}")
    made: Any = qmc.Sobol(d, scramble=scramble, rng=np.random.default_rng(seed))
    return np.asarray(made.random(n))
