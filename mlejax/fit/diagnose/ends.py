"""Where a search ended: on edges or off them, how definite the information is, and whether that is a clean end."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from mlejax import linalg
from mlejax.covariance import NULL_EIGENVALUE
from mlejax.fit.finish.natural import InTheta
from mlejax.optimize import OptimizeResult
from mlejax.parameters import Space
from mlejax.shapes import Bool, Float, Host
from mlejax.status import End
from mlejax.transforms import Ordered
from mlejax.verdict import Direction, superlinear

if TYPE_CHECKING:
    from mlejax.fit.diagnose.centring import Mapped

ABSURD_ERROR = 1e3  # standard errors beyond so many times the estimate (at least 1) are doubted
ABSURD_FACTOR = 6.0  # the same in logarithms and logits
ABSURD_LOG = 25.0
NEAR_EDGE = 1e-4  # standard errors
SURE_TRACE = 1e6  # trace of the inverse scaled information below which its eigenvalues need not be computed
CLEAR = 0.01  # log-likelihood lost one unit of 1 / sqrt(information) off an edge, from which on its score decides


@dataclass(frozen=True)
class Findings:
    """What the diagnosis of one data set found.

    Attributes:
        directions: what the log-likelihood does along the directions that were followed.
        rows: which rows make the log-likelihood or its score not finite, in words; empty if none.
        advice: what to do about them; empty for the usual advice.
        blurred: the log-likelihood does not follow its own score and information.
        rounding: what is known of the rounding there, where it was looked at; empty elsewhere.
        limit: the end is a limit on an edge, where the formula itself is no number.
        within: log-likelihood by which the profile off an edge could be higher unseen, where that profile decided; else None.
        deciding: the rows or units that make the log-likelihood rise without a maximum, and the same in words.
        convex: where the search began the log-likelihood curves upwards in every parameter; looked at where it has no bound.
        beside: that the log-likelihood has no bound elsewhere, in words, where the first search went there.
        n_retried: further starts from which no maximum was found.
        mapped: the end in centred and scaled coordinates, where these were needed: directions are in these too.
    """

    directions: tuple[Direction, ...] = ()
    rows: str = ""
    advice: str = ""
    blurred: bool = False
    rounding: str = ""
    limit: bool = False
    within: float | None = None
    deciding: tuple[tuple[Any, ...], str] = ((), "")
    convex: bool = False
    beside: str = ""
    n_retried: int = 0
    mapped: Mapped | None = None


@lru_cache(maxsize=256)
def curved(space: Space) -> Bool[Host, " p"]:
    """Flags (p,) of the coordinates of u that are logarithms, logits and the like."""
    flags = [np.full(leaf.n_free, not leaf.transform.unchanged) for leaf in space.leaves]
    for leaf, of_leaf in zip(space.leaves, flags, strict=True):
        if isinstance(leaf.transform, Ordered) and space.ties is None:  # first entries, then logarithms of differences
            of_leaf[:: leaf.shape[-1]] = False
    whole = np.concatenate(flags) if flags else np.zeros(0, bool)
    return whole if space.ties is None else whole[space.ties.index]


def believable(u: Float[Host, "*sets p"], space: Space) -> Float[Host, "*sets p"]:
    """Standard errors in u beyond which there may be a plateau: far beyond the estimate, or a factor of hundreds.

    It is 0 for a scale beyond 1e11 or a probability within 1e-11 of its edge.
    """
    straight = ABSURD_ERROR * np.maximum(1.0, np.abs(u))
    bent = curved(space)
    return np.where(bent, np.where(np.abs(u) > ABSURD_LOG, 0.0, ABSURD_FACTOR), straight) if bent.any() else straight


def near_an_edge(u: Float[Host, "*sets p"], errors: Float[Host, "*sets p"], space: Space) -> Bool[Host, "*sets p"]:
    """Flags of coordinates nearer to an edge of their box than can be told from it, though not on it.

    A standard deviation may end there: by symmetry its score is 0 at 0, and the information is positive definite.
    """
    near = np.minimum(u - space.lower, space.upper - u)
    return (near > 0) & (near < NEAR_EDGE * errors)


def on_nearest_edges(u: Float[Host, "*sets p"], near: Bool[Host, "*sets p"], space: Space) -> Float[Host, "*sets p"]:
    """u with the flagged coordinates moved onto their nearest edge."""
    edge = np.where(u - space.lower < space.upper - u, space.lower, space.upper)
    return np.where(near, edge, u)


def interior(space: Space, u: Float[Host, "*sets p"]) -> Bool[Host, "*sets p"]:
    """Flags of the coordinates that are not on an edge of their box."""
    if not space.boxed:
        return np.isfinite(u)
    with np.errstate(invalid="ignore"):
        return np.asarray((u > space.lower) & (u < space.upper))


def information_over(information: Any, free: Bool[Host, " p"]) -> linalg.Symmetric:
    """The information, an array (p, p) or `Symmetric`, over the given coordinates."""
    return linalg.symmetric(information).among(free)


def errors_over(information: linalg.Symmetric, free: Bool[Host, " p"]) -> Float[Host, " p"]:
    """Standard errors in u (p,) by the information over the free coordinates, 0 for the others."""
    errors = np.zeros(free.size)
    errors[free] = np.sqrt(information.inverse_diagonal())
    return errors


def clean(result: OptimizeResult, space: Space, at: InTheta | None = None) -> Bool[Host, " L"]:
    """Flags (L,) of ends that are maxima without further tests.

    They converged faster than linearly, to positive definite information, with standard errors that can be believed, and
    off every edge where the score vanishes.

    Args:
        result: of L data sets.
        space: the layout.
        at: the same in natural coordinates, where known: its inverses spare most of the eigenvalues.
    """
    if result.information is None:
        return np.zeros(len(result.u), bool)
    free = interior(space, result.u)
    good = np.asarray(result.status == int(End.CONVERGED)) & superlinear(result.decrements)
    if space.boxed:
        pushing = np.where(result.u <= space.lower, -result.score, result.score)
        size = np.sqrt(np.abs(linalg.diagonal_each(result.information)) + 1e-300)
        with np.errstate(invalid="ignore"):
            good &= (free | (pushing > CLEAR * size)).all(axis=1)
    else:
        good &= free.all(axis=1)
    errors = np.zeros(result.u.shape) if at is None else np.array(at.errors_u)
    sure = np.zeros(len(good), bool) if at is None else at.definite & (at.trace < SURE_TRACE)
    for i in np.flatnonzero(good & ~sure).tolist():
        information = information_over(result.information[i], free[i])
        good[i] = information.ok and information.conditioning()[0] > NULL_EIGENVALUE
        if good[i]:
            errors[i] = errors_over(information, free[i])
    with np.errstate(invalid="ignore"):
        good &= (errors <= believable(result.u, space)).all(axis=1)
        if space.boxed:
            good &= ~near_an_edge(result.u, errors, space).any(axis=1)
    return good


def is_clean(end: OptimizeResult, space: Space) -> bool:
    """:func:`clean` of one data set."""
    return bool(clean(end.alone(), space)[0])


def onto_edges(end: OptimizeResult, space: Space) -> Float[Host, " p"] | None:
    """u of one end with the coordinates put on the edges from which they cannot be told.

    None where none is moved, unless the search did not converge with some on their edges.
    """
    if not space.boxed or end.information is None:
        return None
    free = interior(space, end.u)
    information = information_over(end.information, free)
    if information.ok:
        errors = errors_over(information, free)
    else:  # as where the score of a scale at 0 is that of the mean: given the others
        errors = 1.0 / np.sqrt(np.abs(linalg.symmetric(end.information).diagonal()) + 1e-300)
    near = near_an_edge(end.u, errors, space)
    unsettled = end.end != End.CONVERGED and not free.all()
    return on_nearest_edges(end.u, near, space) if near.any() or unsettled else None


def doubtful(end: OptimizeResult, space: Space) -> bool:
    """The information of one end is positive definite, but a standard error is beyond belief."""
    if end.information is None:
        return False
    free = interior(space, end.u)
    information = information_over(end.information, free)
    return information.ok and bool((errors_over(information, free) > believable(end.u, space)).any())
