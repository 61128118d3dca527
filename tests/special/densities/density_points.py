"""The log-densities as mpmath formulas, and the points at which they are compared.

python -m tests.special.densities.density_points [name ...]     # writes tests/references/densities.json

The distribution functions are in ``tail_points.py``.
"""

from __future__ import annotations

import json
import sys
from typing import Any, NamedTuple

import mpmath as mp

from tests.special.densities.density_reference import REFERENCES, derivatives, packed


class Density(NamedTuple):
    """A formula, its points, the sides on which arguments move, their smallest units, and the digits to work with."""

    formula: Any
    points: list[tuple[float, ...]]
    signs: tuple[int, ...]
    units: tuple[float, ...]
    digits: Any = 160


def positive(a: Any) -> Any:
    """A parameter at its limit 0, replaced by a number that changes no digit of interest."""
    return max(a, mp.mpf(10) ** -45)


def nb2(y: Any, mu: Any, alpha: Any) -> Any:
    alpha = positive(alpha)
    r = 1 / alpha
    rising = mp.loggamma(y + r) - mp.loggamma(r) + y * mp.log(alpha)
    return rising - mp.loggamma(y + 1) + y * mp.log(mu) - (y + r) * mp.log1p(alpha * mu)


SMALL = (0.0, 1e-300, 1e-100, 1e-30, 1e-17, 1e-12, 1e-8, 1e-5, 1e-3, 0.03, 0.125, 0.3, 1.0, 7.0, 1e3)
NB2_POINTS = [
    (y, mu, alpha)
    for alpha in SMALL
    for y, mu in (
        (0.0, 3.0), (0.0, 1e-8), (1.0, 1.0), (1.0, 1e-6), (2.0, 0.3), (3.0, 40.0), (7.5, 6.0), (9.0, 9.5), (10.0, 11.0),
        (12.0, 2e3), (40.0, 0.01), (150.0, 148.0), (1e4, 9.9e3), (1e6, 1.001e6),
    )
]  # fmt: skip


def student(x: Any, df: Any, loc: Any, scale: Any) -> Any:
    z = (x - loc) / scale
    if mp.isinf(df):
        return -z * z / 2 - mp.log(2 * mp.pi) / 2 - mp.log(scale)
    constant = mp.loggamma((df + 1) / 2) - mp.loggamma(df / 2) - mp.log(df * mp.pi) / 2
    return constant - mp.log(scale) - (df + 1) / 2 * mp.log1p(z * z / df)


T_POINTS = [
    (x, df, loc, scale)
    for df in (0.05, 0.5, 1.0, 3.0, 15.9, 16.1, 40.0, 1e3, 1e5, 1e8, 1e15)
    for x, loc, scale in ((0.0, 0.0, 1.0), (1.5, 0.2, 0.7), (-1e-3, 0.0, 2.0), (30.0, 1.0, 3.0), (1e4, -2.0, 1.5))
    if x < 1e4 or df >= 1e3
]


def other_than_zero(xi: Any) -> Any:
    """A shape at 0, replaced by a number that changes no digit of interest."""
    return xi if abs(xi) > mp.mpf(10) ** -45 else mp.mpf(10) ** -45


def gpd(x: Any, scale: Any, xi: Any) -> Any:
    xi = other_than_zero(xi)
    return -mp.log(scale) - (1 + 1 / xi) * mp.log1p(xi * x / scale)


SHAPES = [*SMALL[:-2], *(-xi for xi in SMALL[1:-2]), -0.5, 2.0, 1e3]
GPD_POINTS = [
    (x, scale, xi)
    for xi in SHAPES
    for x, scale in ((1e-6, 1.0), (0.3, 2.0), (1.0, 1.0), (2.0, 0.8), (7.0, 1.5), (90.0, 3.0), (1e4, 5.0))
    if 1e-6 < 1 + xi * x / scale < 1e4
]


def gev_reduced(x: Any, loc: Any, scale: Any, xi: Any) -> Any:
    xi = other_than_zero(xi)
    return mp.log1p(xi * (x - loc) / scale) / xi


def gev(x: Any, loc: Any, scale: Any, xi: Any) -> Any:
    t = gev_reduced(x, loc, scale, xi)
    return -mp.log(scale) - (1 + xi) * t - mp.exp(-t)


GEV_POINTS = [
    (x, loc, scale, xi)
    for xi in SHAPES
    for x, loc, scale in ((0.0, 0.0, 1.0), (1.0, 0.5, 1.0), (-2.0, 1.0, 1.5), (3.9, 3.87, 0.2), (60.0, 2.0, 3.0))
    if 1 + xi * (x - loc) / scale > 1e-6 and xi < 100.0
]
ALL_GPD, ALL_GEV = ((1, 1, 1), (1e-6, 1e-6, 1e-6)), ((1, 1, 1, 1), (1e-3, 1e-3, 1e-6, 1e-6))


def skewt(x: Any, df: Any, loc: Any, scale: Any, skew: Any) -> Any:
    z = (x - loc) / scale
    u = skew * z * mp.sqrt((df + 1) / (df + z * z))
    return mp.log(2) + student(x, df, loc, scale) + mp.log(student_cdf(u, df + 1))


def student_cdf(t: Any, df: Any) -> Any:
    tail = mp.betainc(df / 2, mp.mpf(1) / 2, 0, df / (df + t * t), regularized=True) / 2
    return tail if t < 0 else 1 - tail


def skewnormal(x: Any, loc: Any, scale: Any, skew: Any) -> Any:
    z = (x - loc) / scale
    return mp.log(2 * mp.ncdf(skew * z)) - z * z / 2 - mp.log(2 * mp.pi) / 2 - mp.log(scale)


SKEW_PLACES = (
    (0.4, 0.0, 1.0, 0.0),
    (-2.0, 0.3, 0.7, 1.5),
    (3.0, 0.5, 2.0, -4.0),
    (0.01, 0.0, 3.0, 2.5),
    (9.0, 1.0, 0.5, 0.7),
)
SKEWT_POINTS = [(x, df, *rest) for df in (0.7, 3.0, 18.9, 19.1, 300.0) for x, *rest in SKEW_PLACES]
SKEWNORMAL_POINTS = [*SKEW_PLACES, (-8.0, 0.0, 1.0, 2.0), (0.0, 0.0, 1.0, 3.0), (15.0, 1.0, 2.0, -18.0)]


def betabinom(y: Any, n: Any, mu: Any, rho: Any) -> Any:
    rho = positive(rho)
    a, b = mu * (1 - rho) / rho, (1 - mu) * (1 - rho) / rho
    binomial = mp.loggamma(n + 1) - mp.loggamma(y + 1) - mp.loggamma(n - y + 1)
    top = mp.loggamma(y + a) + mp.loggamma(n - y + b) - mp.loggamma(n + a + b)
    return binomial + top - mp.loggamma(a) - mp.loggamma(b) + mp.loggamma(a + b)


BETABINOM_POINTS = [
    (y, n, mu, rho)
    for rho in (0.0, 1e-100, 1e-17, 1e-8, 1e-3, 0.1, 0.5, 0.95)
    for y, n, mu in (
        (0.0, 1.0, 0.3), (1.0, 1.0, 0.3), (3.0, 10.0, 0.3), (12.0, 12.0, 0.9), (2.0, 40.0, 1e-3), (55.0, 100.0, 0.5),
        (1e5, 1e6, 0.101), (7e3, 1e4, 0.2),
    )
]  # fmt: skip


def gamma(x: Any, mean: Any, shape: Any) -> Any:
    return shape * mp.log(shape * x / mean) - shape * x / mean - mp.log(x) - mp.loggamma(shape)


GAMMA_POINTS = [
    (x, mean, shape)
    for shape in (0.01, 0.6, 1.0, 4.0, 90.0, 1e4, 1e8, 1e12)
    for x, mean in ((2.0, 2.0), (3.0, 2.9), (0.1, 7.0), (50.0, 2.0), (1.0, 1.0001))
]


def gengamma_density(w: Any, q: Any) -> Any:
    """Log-density of w at q >= 0."""
    a = 1 / q**2
    return mp.log(q) + a * mp.log(a) - mp.loggamma(a) + a * (q * w - mp.exp(q * w))


def gengamma(x: Any, mu: Any, sigma: Any, q: Any) -> Any:
    q = other_than_zero(q)
    w = (mp.log(x) - mu) / sigma
    density = gengamma_density(w, q) if q > 0 else gengamma_density(-w, -q)
    return density - mp.log(sigma) - mp.log(x)


Q_SHAPES = (0.0, 1e-100, 1e-17, 1e-8, -1e-8, 1e-3, -1e-3, 0.1, 0.35, 0.36, -0.5, 1.0, 1.5, -2.0, 6.0)
GENGAMMA_POINTS = [
    (x, mu, sigma, q)
    for q in Q_SHAPES
    for x, mu, sigma in ((1.0, 0.0, 1.0), (2.0, 0.3, 0.8), (0.05, 1.0, 1.5), (30.0, 2.0, 0.7))
    if abs(q) < 5 or x < 10
]


def boxcox(y: Any, lam: Any) -> Any:
    lam = other_than_zero(lam)
    return mp.expm1(lam * mp.log(y)) / lam


POWERS = (0.0, 1e-100, 1e-17, -1e-17, 1e-8, 1e-3, -0.02, 0.3, -0.5, 1.0, 2.0, -3.0)
BOXCOX_POINTS = [(y, lam) for lam in POWERS for y in (1.0, 1.0001, 0.02, 3.0, 700.0)]


def boxcox_logjac(y: Any, lam: Any) -> Any:
    return (lam - 1) * mp.log(y)


def vonmises(x: Any, mu: Any, kappa: Any) -> Any:
    return kappa * mp.cos(x - mu) - mp.log(2 * mp.pi * mp.besseli(0, kappa))


VONMISES_POINTS = [
    (x, mu, kappa)
    for kappa in (0.0, 1e-30, 1e-5, 0.3, 2.0, 19.9, 20.1, 60.0, 1e3, 1e6)
    for x, mu in ((0.0, 0.0), (1.0, 0.9), (3.0, -0.5), (-2.0, 0.4))
]


def invgauss(x: Any, mu: Any, lam: Any) -> Any:
    return mp.log(lam / (2 * mp.pi * x**3)) / 2 - lam * (x - mu) ** 2 / (2 * mu * mu * x)


INVGAUSS_POINTS = [
    (x, mu, lam)
    for x, mu in ((1.0, 1.0), (2.0, 1.9), (0.05, 1.5), (40.0, 2.0), (3.0, 1e6))
    for lam in (0.01, 1.0, 30.0, 1e4, 1e10)
]


def weibull(x: Any, shape: Any, scale: Any) -> Any:
    z = (x / scale) ** shape
    return mp.log(shape / x) + mp.log(z) - z


WEIBULL_POINTS = [
    (x, shape, scale)
    for shape in (0.05, 0.7, 1.0, 3.0, 40.0, 1e6)
    for x, scale in ((1.0, 1.0), (2.0, 1.9999999), (0.05, 1.5), (7.0, 2.0))
    if shape * mp.log(x / scale) < 100
]


def tweedie(y: Any, mu: Any, phi: Any, p: Any) -> Any:
    """The series of Dunn and Smyth for y > 0, from its largest term to both sides."""
    rate, kappa, scale = mu ** (2 - p) / (phi * (2 - p)), (2 - p) / (p - 1), phi * (p - 1) * mu ** (p - 1)
    peak = max(int(y ** (2 - p) / (phi * (2 - p))), 1)
    log_rate, log_y = mp.log(rate), mp.log(y / scale)
    at_peak = peak * log_rate - mp.loggamma(peak + 1)
    total = mp.mpf(0)
    for j, poisson, step in ((peak, at_peak, 1), (peak - 1, at_peak - log_rate + mp.log(peak), -1)):
        while j >= 1:
            term = mp.exp(poisson + j * kappa * log_y - mp.loggamma(j * kappa))
            total += term
            if term < mp.eps * total:
                break
            poisson += log_rate - mp.log(j + 1) if step == 1 else mp.log(j) - log_rate
            j += step
    return mp.log(total) - rate - y / scale - mp.log(y)


TWEEDIE_POINTS = [
    (y, mu, phi, p)
    for p in (1.02, 1.3, 1.5, 1.8, 1.98)
    for y, mu, phi in (
        (1.0, 1.0, 1.0),
        (3.0, 2.9, 0.4),
        (0.01, 1.5, 2.0),
        (40.0, 3.0, 1.5),
        (5.0, 6.0, 0.1),
    )
]

DENSITIES = {
    "betabinom_logpmf": Density(betabinom, BETABINOM_POINTS, (1, 1, 1, 1), (1e-3, 0.0, 0.0, 1e-6), 250),
    "boxcox": Density(boxcox, BOXCOX_POINTS, (1, 1), (0.0, 1e-6), 200),
    "boxcox_logjac": Density(boxcox_logjac, BOXCOX_POINTS[::8], (1, 1), (0.0, 1e-6), 90),
    "gamma_logpdf": Density(gamma, GAMMA_POINTS, (1, 1, 1), (0.0, 0.0, 0.0), 110),
    "gengamma_logpdf": Density(gengamma, GENGAMMA_POINTS, (1, 1, 1, 1), (0.0, 1e-3, 0.0, 1e-6), 300),
    "invgauss_logpdf": Density(invgauss, INVGAUSS_POINTS, (1, 1, 1), (0.0, 0.0, 0.0), 110),
    "skewnormal": Density(skewnormal, SKEWNORMAL_POINTS, (1, 1, 1, 1), (1e-3, 1e-3, 0.0, 1e-3), 100),
    "skewt_logpdf": Density(skewt, SKEWT_POINTS, (1, 1, 1, 1, 1), (1e-3, 0.0, 1e-3, 0.0, 1e-3), 100),
    "tweedie_logpdf": Density(tweedie, TWEEDIE_POINTS, (1, 1, 1, 1), (0.0, 0.0, 0.0, 0.0), 85),
    "vonmises_logpdf": Density(vonmises, VONMISES_POINTS, (1, 1, 1), (1e-3, 1e-3, 1e-6), 110),
    "weibull_logpdf": Density(weibull, WEIBULL_POINTS, (1, 1, 1), (0.0, 0.0, 0.0), 110),
    "gev_logpdf": Density(gev, GEV_POINTS, *ALL_GEV),
    "gpd_logpdf": Density(gpd, GPD_POINTS, *ALL_GPD),
    "t_logpdf": Density(student, T_POINTS, (1, 1, 1, 1), (1e-3, 0.0, 1e-3, 0.0)),
    "nb2_logpmf": Density(nb2, NB2_POINTS, (1, 1, 1), (1e-3, 0.0, 1e-6)),
}


def records(density: Density, points: list[tuple[float, ...]] | None = None) -> list[list[Any]]:
    """References of one density, at all of its points unless some are given: point, value, and derivatives without repeats."""
    out = []
    for point in points or density.points:
        digits = density.digits(point) if callable(density.digits) else density.digits
        out.append([list(point), *packed(derivatives(density.formula, point, density.signs, density.units, digits))])
    return out


def write(file: str, densities: dict[str, Density], names: list[str]) -> None:
    path = REFERENCES / file
    known = json.loads(path.read_text()) if path.exists() else {}
    for name in names or list(densities):
        known[name] = records(densities[name])
    rows = [
        f'"{name}": [\n' + ",\n".join(json.dumps(r, separators=(",", ":")) for r in known[name]) + "\n]"
        for name in sorted(known)
    ]
    path.write_text("{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    write("densities.json", DENSITIES, sys.argv[1:])
