"""Where a search ended: on edges or off them, how definite the information is, and whether that is a clean end."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from mlejax import linalg, transforms
from mlejax.covariance import NULL_EIGENVALUE
from mlejax.fit.programs import Ended
from mlejax.parameters import Space
from mlejax.status import End
from mlejax.verdict import Direction, superlinear

ABSURD_ERROR = 1e3  # times the estimate, at least 1
ABSURD_FACTOR = 6.0  # in logarithms and logits
ABSURD_LOG = 25.0
NEAR_EDGE = 1e-6  # standard errors


@dataclass
class Found:
    """What the ray tests found on the way, the rows at fault, whether the log-likelihood and its score disagree where the end
    is in doubt, and the rows that decide (numbers and words)."""

    directions: tuple[Direction, ...] = ()
    rows: str = ""
    blurred: bool = False
    deciding: tuple[tuple[Any, ...], str] = ((), "")


@lru_cache(maxsize=256)
def curved(space: Space) -> np.ndarray:
    """Flags (p,) of the coordinates of u that are logarithms, logits and the like."""
    flags = [
        np.full(leaf.n_free, not isinstance(leaf.transform, (transforms.Identity, transforms.Box)))
        for leaf in space.leaves
    ]
    whole = np.concatenate(flags) if flags else np.zeros(0, bool)
    return whole if space.ties is None else whole[space.ties.index]


def believable(u: np.ndarray, space: Space) -> np.ndarray:
    """Standard errors in u (..., p) beyond which there may be a plateau: far beyond the estimate, or a factor of hundreds.

    None is believed of an estimate at the end of the numbers, a scale of 1e11 or a probability within 1e-11 of its edge.
    """
    straight = ABSURD_ERROR * np.maximum(1.0, np.abs(u))
    bent = curved(space)
    return np.where(bent, np.where(np.abs(u) > ABSURD_LOG, 0.0, ABSURD_FACTOR), straight) if bent.any() else straight


def at_an_edge(u: np.ndarray, errors: np.ndarray, space: Space) -> np.ndarray:
    """Flags (..., p) of coordinates that are nearer to an edge of their box than can be told from it, though not on it.

    A standard deviation may stand there: by symmetry its score is 0 at 0, and the information positive definite.
    """
    low, high = u - space.lower, space.upper - u
    near = np.minimum(low, high)
    return (near > 0) & (near < NEAR_EDGE * errors)


def onto_edges(ended: Ended, space: Space) -> np.ndarray | None:
    """u with the coordinates put on the edges from which they cannot be told, or None if there are none."""
    if not space.boxed or ended.information is None:
        return None
    free = interior(space, ended.u)
    found = inverse_over(ended.information, free)
    if not found.ok:
        return None
    errors = np.zeros(ended.u.size)
    errors[free] = np.sqrt(np.diag(found.inverse))
    near = at_an_edge(ended.u, errors, space)
    if not near.any():
        return None
    edge = np.where(ended.u - space.lower < space.upper - ended.u, space.lower, space.upper)
    return np.where(near, edge, ended.u)


def interior(space: Space, u: np.ndarray) -> np.ndarray:
    """Flags (p,) of the coordinates that are not on an edge of their box."""
    return np.asarray((u > space.lower) & (u < space.upper)) if space.boxed else np.isfinite(u)


def inverse_over(information: np.ndarray, free: np.ndarray) -> linalg.ScaledInverse:
    """The inverse of the information over the given coordinates."""
    return linalg.scaled_inverse(information if free.all() else information[np.ix_(free, free)])


def clean(ended: Ended, space: Space) -> bool:
    """Converged faster than linearly to positive definite information, off every edge where the score vanishes."""
    if ended.end != End.CONVERGED or ended.information is None:
        return False
    free = interior(space, ended.u)
    found = inverse_over(ended.information, free)
    if not found.smallest > NULL_EIGENVALUE or not superlinear(ended.decrements):
        return False
    # an error far beyond the size of its estimate may be a plateau that the other parameters' convergence hides
    errors = np.zeros(ended.u.size)
    errors[free] = np.sqrt(found.inverse.diagonal())
    if (errors > believable(ended.u, space)).any():
        return False
    if not space.boxed:
        return bool(free.all())
    if at_an_edge(ended.u, errors, space).any():
        return False
    pushing = np.where(ended.u <= space.lower, -ended.score, ended.score)[~free]
    return bool((pushing > 1e-6 * np.sqrt(np.abs(np.diag(ended.information))[~free] + 1e-300)).all())


def doubtful(ended: Ended, space: Space) -> bool:
    """Positive definite, but with a standard error beyond belief."""
    if ended.information is None:
        return False
    free = interior(space, ended.u)
    found = inverse_over(ended.information, free)
    return found.ok and beyond_belief(found.inverse, ended.u, space, free)


def beyond_belief(inverse: np.ndarray, u: np.ndarray, space: Space, free: np.ndarray) -> bool:
    """A standard error is not to be believed, given the inverse of the information over the coordinates ``free``."""
    return bool((np.sqrt(inverse.diagonal()) > believable(u, space)[free]).any())


def definiteness(information: np.ndarray, free: np.ndarray) -> tuple[float, float, bool]:
    """Smallest eigenvalue and condition of the scaled information over the given coordinates, and whether it stands."""
    found = inverse_over(information, free)
    return found.smallest, found.condition, found.ok
