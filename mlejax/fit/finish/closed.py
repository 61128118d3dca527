"""Real and positive parameters in NumPy: both ends of a fit without compiling a program for them.

With theta = u or theta = exp(u), coordinate by coordinate, the conversions of `fit.common` are a line of NumPy each, where a
compiled program would take a twentieth of a second the first time.  Every function here gives None for a layout with other
parameters, which then takes the general way.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from mlejax.parameters import Space
from mlejax.shapes import Float, Host
from mlejax.transforms import Identity, Log


class Estimates(NamedTuple):
    """Theta with its derivatives by u, and score and information in theta, of one data set."""

    theta: Float[Host, " p"]
    jacobian: Float[Host, "p p"]
    score: Float[Host, " p"]
    information: Float[Host, "p p"]


@lru_cache(maxsize=64)
def _logarithms(space: Space) -> np.ndarray | None:
    """Flags (p,) of the coordinates that are logarithms."""
    free = [leaf for leaf in space.leaves if leaf.n_free]
    if space.mapped or space.ties is not None or not all(isinstance(leaf.transform, (Identity, Log)) for leaf in free):
        return None
    return np.repeat([isinstance(leaf.transform, Log) for leaf in free], [leaf.n_free for leaf in free])


def to_u(space: Space, values: Sequence[Any]) -> np.ndarray | None:
    """Natural values, one array a leaf, -> u (p,)."""
    logs = _logarithms(space)
    if logs is None:
        return None
    parts = [
        np.asarray(value, np.float64).reshape(-1)[leaf.free_index if leaf.partly_fixed else slice(None)]
        for leaf, value in zip(space.leaves, values, strict=True)
        if leaf.n_free
    ]
    flat = np.concatenate(parts) if parts else np.zeros(0)
    return np.where(logs, np.log(np.where(logs, flat, 1.0)), flat)


def at_optimum(
    space: Space, u: np.ndarray, score: np.ndarray, information: np.ndarray, fixed: np.ndarray | None
) -> tuple[Estimates, Any] | None:
    """Score and information in theta, and params, at the end of a fit."""
    logs = _logarithms(space)
    if logs is None:
        return None
    if not logs.any():
        found = Estimates(np.array(u), np.eye(u.size), score, information)
    else:
        found = _of_logarithms(logs, u, score, information)
    theta = found.theta
    values = []
    for leaf, at, where in zip(space.leaves, space.u_slices, space.value_slices, strict=True):
        if leaf.free is None:
            values.append(theta[at].reshape(leaf.shape))
            continue
        assert fixed is not None
        part = np.array(fixed[where])
        if leaf.n_free:
            part[leaf.free_index] = theta[at]
        values.append(part.reshape(leaf.shape))
    return found, space.build(values)


def _of_logarithms(logs: np.ndarray, u: np.ndarray, score: np.ndarray, information: np.ndarray) -> Estimates:
    """`at_optimum` without params, where some coordinates are logarithms."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        theta = np.where(logs, np.exp(np.where(logs, u, 0.0)), u)
        slope = np.where(logs, theta, 1.0)
        natural = score / slope
        curved = information + np.diag(np.where(logs, score, 0.0))  # the second derivative of exp is its first
        return Estimates(theta, np.diag(slope), natural, curved / np.outer(slope, slope))
