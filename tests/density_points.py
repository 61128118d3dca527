"""The log-densities as mpmath formulas, and the points at which they are compared.

python -m tests.density_points [name ...]     # writes tests/references/densities.json
"""

from __future__ import annotations

import json
import sys
from typing import Any, NamedTuple

import mpmath as mp

from tests.density_reference import REFERENCES, derivatives


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

DENSITIES = {
    "gev_logpdf": Density(gev, GEV_POINTS, *ALL_GEV),
    "gpd_logpdf": Density(gpd, GPD_POINTS, *ALL_GPD),
    "t_logpdf": Density(student, T_POINTS, (1, 1, 1, 1), (1e-3, 0.0, 1e-3, 0.0)),
    "nb2_logpmf": Density(nb2, NB2_POINTS, (1, 1, 1), (1e-3, 0.0, 1e-6)),
}


def records(name: str, points: list[tuple[float, ...]] | None = None) -> list[dict[str, Any]]:
    """References of one density, at all of its points unless some are given."""
    d = DENSITIES[name]
    out = []
    for point in points or d.points:
        digits = d.digits(point) if callable(d.digits) else d.digits
        out.append({"points": list(point), **derivatives(d.formula, point, d.signs, d.units, digits)})
    return out


def write(names: list[str]) -> None:
    path = REFERENCES / "densities.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    for name in names or list(DENSITIES):
        known[name] = records(name)
    rows = [f'"{name}": [\n' + ",\n".join(json.dumps(r) for r in known[name]) + "\n]" for name in sorted(known)]
    path.write_text("{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    write(sys.argv[1:])
