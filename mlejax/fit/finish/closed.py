"""Conversions between u and theta in NumPy, for models whose parameters are all real or positive.

Each coordinate is theta = u or theta = exp(u), so that the conversion needs no compiled program, whose compilation would take a
twentieth of a second. Every function here returns None for a model with other parameters; callers then use the general
functions of `natural`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from mlejax.parameters import Space
from mlejax.shapes import Float, Host
from mlejax.transforms import Identity, Log


class NaturalEstimates(NamedTuple):
    """The estimates of one data set in natural coordinates.

    Attributes:
        theta: free parameters, natural scale, (p,).
        jacobian: d theta / d u, (p, p).
        score: gradient of the log-likelihood with respect to theta, (p,).
        information: minus its Hessian with respect to theta, (p, p).
    """

    theta: Float[Host, " p"]
    jacobian: Float[Host, "p p"]
    score: Float[Host, " p"]
    information: Float[Host, "p p"]


@lru_cache(maxsize=64)
def _logarithms(space: Space) -> np.ndarray | None:
    """Boolean mask, (p,), of the coordinates that are logarithms; None if some parameter is neither real nor positive, or the
    model has constraints.
    """
    free = [leaf for leaf in space.leaves if leaf.n_free]
    if space.mapped or space.ties is not None or not all(isinstance(leaf.transform, (Identity, Log)) for leaf in free):
        return None
    return np.repeat([isinstance(leaf.transform, Log) for leaf in free], [leaf.n_free for leaf in free])


def to_u(space: Space, values: Sequence[Any]) -> np.ndarray | None:
    """Convert natural values, one array per leaf, to u, (p,); None for models that have constraints, or parameters that are
    neither real nor positive.
    """
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
) -> tuple[NaturalEstimates, Any] | None:
    """Convert a point u, (p,), with score and information, to `NaturalEstimates` and the user's params; None as `to_u`."""
    logs = _logarithms(space)
    if logs is None:
        return None
    if not logs.any():
        found = NaturalEstimates(np.array(u), np.eye(u.size), score, information)
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


def _of_logarithms(logs: np.ndarray, u: np.ndarray, score: np.ndarray, information: np.ndarray) -> NaturalEstimates:
    """Return the `NaturalEstimates` at u, (p,), if some coordinates (mask ``logs``) are logarithms."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        theta = np.where(logs, np.exp(np.where(logs, u, 0.0)), u)
        slope = np.where(logs, theta, 1.0)
        natural = score / slope
        curved = information + np.diag(np.where(logs, score, 0.0))  # the second derivative of exp is its first
        return NaturalEstimates(theta, np.diag(slope), natural, curved / np.outer(slope, slope))
