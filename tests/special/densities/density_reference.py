"""References for the log-densities: value and all derivatives up to the third, by mpmath, and the bound on errors.

A function of n arguments is differenced along lines through the point: from its first three derivatives along e_i,
e_i +- e_j and e_i + e_j + e_k follow the gradient, the Hessian and the tensor of third derivatives. Each line uses the
polynomial through six points on one side of the point, the point itself left out, so that the formula may be undefined
there (the limit) and on its other side. Steps are 1e-20 of the argument; the working digits make up for that.
"""

from __future__ import annotations

import functools
import itertools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np

REFERENCES = Path(__file__).parents[2] / "references"
STEP = mp.mpf(10) ** -20
NODES = range(1, 8)
KEYS = ("value", "gradient", "hessian", "third")
# References at the limit are taken 1e-45 beside it: errors below this size are theirs.
NOISE = 1e-40


def _line_weights() -> list[list[Any]]:
    """Rows of weights that give the 0th, ..., 3rd derivative at 0 from the values at the nodes."""
    with mp.workdps(400):
        vandermonde = mp.matrix([[mp.mpf(k) ** p for p in range(len(NODES))] for k in NODES])
        inverse = vandermonde**-1
        return [[inverse[p, i] * mp.factorial(p) for i in range(len(NODES))] for p in range(4)]


WEIGHTS = _line_weights()


def derivatives(f: Any, point: tuple[float, ...], signs: tuple[int, ...], units: tuple[float, ...], digits: int) -> Any:
    """Value, gradient, Hessian and third derivatives as nested lists of floats.

    ``signs`` are the directions in which the arguments may move, ``units`` the sizes below which their steps do not fall.
    """
    with mp.workdps(digits):
        x = [mp.mpf(v) for v in point]
        h = [s * STEP * max(abs(v), mp.mpf(u)) for v, s, u in zip(x, signs, units, strict=True)]
        n = len(x)

        def along(direction: tuple[int, ...]) -> list[Any]:
            values = [f(*(v + k * d * g for v, d, g in zip(x, direction, h, strict=True))) for k in NODES]
            return [sum(w * v for w, v in zip(row, values, strict=True)) for row in WEIGHTS]

        def unit(**moves: int) -> tuple[int, ...]:
            return tuple(moves.get(f"_{i}", 0) for i in range(n))

        single = [along(unit(**{f"_{i}": 1})) for i in range(n)]
        second, third = np.full((n, n), mp.mpf(0)), np.full((n, n, n), mp.mpf(0))
        for i in range(n):
            second[i, i], third[i, i, i] = single[i][2], single[i][3]
        # Only sums of directions are used, so that no argument leaves its side of the limit.
        for i, j in itertools.combinations(range(n), 2):
            one, two = along(unit(**{f"_{i}": 1, f"_{j}": 1})), along(unit(**{f"_{i}": 2, f"_{j}": 1}))
            second[i, j] = second[j, i] = (one[2] - second[i, i] - second[j, j]) / 2
            a, b = third[i, i, i], third[j, j, j]
            # (1, 1): a + 3 u + 3 v + b; (2, 1): 8 a + 12 u + 6 v + b.
            s1, s2 = (one[3] - a - b) / 3, (two[3] - 8 * a - b) / 6
            for order, value in (((i, i, j), s2 - s1), ((i, j, j), 2 * s1 - s2)):
                for place in set(itertools.permutations(order)):
                    third[place] = value
        for i, j, k in itertools.combinations(range(n), 3):
            total = along(unit(**{f"_{i}": 1, f"_{j}": 1, f"_{k}": 1}))[3]
            known = sum(third[p] for p in itertools.product((i, j, k), repeat=3) if len(set(p)) < 3)
            for place in itertools.permutations((i, j, k)):
                third[place] = (total - known) / 6
        return {
            "value": float(single[0][0]),
            "gradient": [float(single[i][1] / h[i]) for i in range(n)],
            "hessian": [[float(second[i, j] / (h[i] * h[j])) for j in range(n)] for i in range(n)],
            "third": [
                [[float(third[i, j, k] / (h[i] * h[j] * h[k])) for k in range(n)] for j in range(n)] for i in range(n)
            ],
        }


def _entries(n: int, order: int) -> list[tuple[int, ...]]:
    """Indices of a symmetric tensor without repeats."""
    return list(itertools.combinations_with_replacement(range(n), order))


def packed(found: dict[str, Any]) -> list[Any]:
    """Value, and the entries of gradient, Hessian and third derivatives without repeats."""
    n = len(found["gradient"])
    arrays = [(np.array(found[key]), k + 1) for k, key in enumerate(KEYS[1:])]
    return [found["value"], *([float(a[place]) for place in _entries(n, k)] for a, k in arrays)]


def _unpacked(rows: list[list[float]], n: int, order: int) -> np.ndarray:
    full = np.empty((len(rows), *[n] * order))
    for entry, place in enumerate(_entries(n, order)):
        for order_of in set(itertools.permutations(place)):
            full[(slice(None), *order_of)] = [row[entry] for row in rows]
    return full


@functools.cache
def load(name: str, file: str = "densities.json") -> dict[str, np.ndarray]:
    """The committed references of one density: points, value, gradient, hessian and third, one row a point."""
    return unpacked(json.loads((REFERENCES / file).read_text())[name])


def unpacked(records: list[list[Any]]) -> dict[str, np.ndarray]:
    """The records as arrays, symmetric tensors in full."""
    points, value, *rest = (list(column) for column in zip(*records, strict=True))
    n = len(points[0])
    tensors = {key: _unpacked(rows, n, k + 1) for k, (key, rows) in enumerate(zip(KEYS[1:], rest, strict=True))}
    return {"points": np.array(points), "value": np.array(value), **tensors}


@functools.cache
def program(f: Any, n: int, order: int) -> Any:
    """Value and derivatives up to ``order`` of f in all of its n arguments, over rows of points."""
    every = tuple(range(n))

    def tensors(*arguments: jax.Array) -> tuple[jax.Array, ...]:
        point = jnp.stack(arguments)
        scalar = lambda p: f(*(p[i] for i in every))
        found, g = [scalar(point)], scalar
        for k in range(order):
            g = jax.grad(g) if k == 0 else jax.jacfwd(g)
            found.append(g(point))
        return tuple(found)

    return jax.jit(jax.vmap(tensors))


def computed(f: Any, points: np.ndarray, order: int) -> list[np.ndarray]:
    """The arrays of :func:`program` at the points."""
    with jax.enable_x64(True):
        return [np.asarray(a) for a in program(f, points.shape[1], order)(*points.T)]


def misfits(f: Any, reference: dict[str, np.ndarray], order: int = 2) -> list[np.ndarray]:
    """Errors as multiples of |v| + sum |a_i dv/da_i|: for each order the largest entry of the tensor at each point."""
    points = reference["points"]
    exact = [reference[key] for key in KEYS]
    out = []
    for k, found in enumerate(computed(f, points, order)):
        size = np.abs(exact[k])
        if k < 3:
            moved = np.abs(exact[k + 1]) * np.abs(points).reshape(len(points), *[1] * k, -1)
            size = size + moved.sum(axis=-1)
            if k == 2:
                # entries that are next to 0 with all their derivatives: against the largest one, in units of the arguments
                unit = np.maximum(np.abs(points), 1e-3)
                units = unit[:, :, None] * unit[:, None, :]
                largest = (size * units).max(axis=(1, 2), keepdims=True) / units
                size = np.where(size < NOISE, largest, np.maximum(size, 1e-2 * largest))
        else:  # fourth derivatives are not known: the largest third one, each measured in units of the arguments
            unit = np.maximum(np.abs(points), 1e-3)
            units = unit[:, :, None, None] * unit[:, None, :, None] * unit[:, None, None, :]
            size = size + (size * units).max(axis=(1, 2, 3), keepdims=True) / units
        error = np.abs(found - exact[k])
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(error < NOISE, 0.0, error / size)
        out.append(ratio.reshape(len(points), -1).max(axis=1))
    return out
