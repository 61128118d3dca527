"""Distribution functions as mpmath formulas, and the points at which their logarithms are compared.

python -m tests.special.tail_points [name ...]     # writes tests/references/tails.json
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import mpmath as mp

from tests.special.densities.density_points import (
    ALL_GEV,
    ALL_GPD,
    Density,
    gev_reduced,
    other_than_zero,
    positive,
    student_cdf,
    write,
)

Tails = Callable[..., tuple[Any, Any]]


def nb2(y: Any, mu: Any, alpha: Any) -> tuple[Any, Any]:
    """By the recurrence of the probabilities."""
    alpha = positive(alpha)
    term = mp.exp(-mp.log1p(alpha * mu) / alpha)
    cdf = term
    for i in range(int(mp.floor(y))):
        term = term * mu * (1 + alpha * i) / ((i + 1) * (1 + alpha * mu))
        cdf += term
    return cdf, 1 - cdf


NB2_POINTS = [
    (y, mu, alpha)
    for alpha in (0.0, 1e-100, 1e-12, 1e-3, 0.3, 0.99, 1.01, 40.0)
    for y, mu in ((0.0, 1.5), (1.0, 8.0), (3.5, 3.9), (4.0, 0.2), (100.0, 93.0))
]


def student(x: Any, df: Any, loc: Any, scale: Any) -> tuple[Any, Any]:
    t = (x - loc) / scale
    return student_cdf(t, df), student_cdf(-t, df)


T_POINTS = [
    (x, df, loc, scale)
    for df in (0.4, 3.0, 19.9, 20.1, 500.0)
    for x, loc, scale in ((0.3, 0.2, 1.3), (2.5, 0.5, 1.0), (-3.0, 1.0, 0.8), (-20.0, 0.0, 1.5))
] + [(-60.0, 1e6, 1.0, 1.5)]


def gpd(x: Any, scale: Any, xi: Any) -> tuple[Any, Any]:
    xi = other_than_zero(xi)
    t = mp.log1p(xi * x / scale) / xi
    return -mp.expm1(-t), mp.exp(-t)


def gev(x: Any, loc: Any, scale: Any, xi: Any) -> tuple[Any, Any]:
    u = mp.exp(-gev_reduced(x, loc, scale, xi))
    return mp.exp(-u), -mp.expm1(-u)


XI = (0.0, 1e-100, 1e-17, -1e-8, 1e-3, 0.3, -0.2)
GPD_POINTS = [
    (x, scale, xi) for xi in XI for x, scale in ((1e-6, 1.0), (2.0, 1.5), (20.0, 3.0)) if 1 + xi * x / scale > 0
]
GEV_POINTS = [
    (x, loc, scale, xi)
    for xi in XI
    for x, loc, scale in ((0.0, 0.0, 1.0), (-2.0, 0.5, 1.5), (4.0, 1.0, 0.9), (30.0, 1.0, 0.9))
    if 1 + xi * (x - loc) / scale > 0
]


def gengamma(x: Any, mu: Any, sigma: Any, q: Any) -> tuple[Any, Any]:
    a = 1 / q**2
    z = a * mp.exp(q * (mp.log(x) - mu) / sigma)
    lower, upper = mp.gammainc(a, 0, z, regularized=True), mp.gammainc(a, z, mp.inf, regularized=True)
    return (lower, upper) if q > 0 else (upper, lower)


GENGAMMA_POINTS = [
    (x, mu, sigma, q)
    for q in (0.01, -0.03, 0.1, 0.35, -0.5, 0.99, 1.0, 1.01, -1.5, 6.0)
    for x, mu, sigma in ((1.0, 0.2, 1.0), (7.0, 0.3, 0.8), (0.05, 1.0, 1.5))
]


def invgauss(x: Any, mu: Any, lam: Any) -> tuple[Any, Any]:
    root = mp.sqrt(lam / x)
    a, b = root * (x / mu - 1), root * (x / mu + 1)
    image = mp.exp(2 * lam / mu) * mp.ncdf(-b)
    return mp.ncdf(a) + image, mp.ncdf(-a) - image


INVGAUSS_POINTS = [
    (x, mu, lam) for x, mu in ((1.0, 1.0), (2.0, 1.9), (0.2, 1.5), (12.0, 2.0)) for lam in (0.02, 1.0, 30.0, 1e3)
]


def weibull(x: Any, shape: Any, scale: Any) -> tuple[Any, Any]:
    z = (x / scale) ** shape
    return -mp.expm1(-z), mp.exp(-z)


WEIBULL_POINTS = [
    (x, shape, scale)
    for shape in (0.05, 1.0, 3.0, 40.0)
    for x, scale in ((1.0, 1.0), (2.0, 1.9), (0.05, 1.5), (5.0, 4.0))
]

TAILS: dict[str, tuple[Tails, list[Any], tuple[int, ...], tuple[float, ...], int]] = {
    "gengamma": (gengamma, GENGAMMA_POINTS, (1, 1, 1, 1), (0.0, 1e-3, 0.0, 1e-6), 110),
    "gev": (gev, GEV_POINTS, *ALL_GEV, 160),
    "gpd": (gpd, GPD_POINTS, *ALL_GPD, 160),
    "invgauss": (invgauss, INVGAUSS_POINTS, (1, 1, 1), (0.0, 0.0, 0.0), 110),
    "nb2": (nb2, NB2_POINTS, (1, 1, 1), (1e-3, 0.0, 1e-6), 220),
    "t": (student, T_POINTS, (1, 1, 1, 1), (1e-3, 0.0, 1e-3, 0.0), 100),
    "weibull": (weibull, WEIBULL_POINTS, (1, 1, 1), (0.0, 0.0, 0.0), 110),
}


def logarithm(tails: Tails, side: int) -> Callable[..., Any]:
    return lambda *arguments: mp.log(tails(*arguments)[side])


DENSITIES = {
    f"{name}_log{kind}": Density(logarithm(tails, side), *rest)
    for name, (formula, *rest) in TAILS.items()
    for tails in (functools.cache(formula),)  # one evaluation for both
    for side, kind in enumerate(("cdf", "sf"))
}

if __name__ == "__main__":
    write("tails.json", DENSITIES, sys.argv[1:])
