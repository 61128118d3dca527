"""Final points of searches: which coordinates are at bounds, the information there, and whether it is clearly a maximum."""

from __future__ import annotations

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
from mlejax.verdict import superlinear

if TYPE_CHECKING:
    pass

LARGE_ERROR = 1e2  # beyond so many times the estimate directions are tested: the user may take an exponential of it
ABSURD_ERROR = 1e3  # standard errors beyond so many times the estimate (at least 1) are doubted
ABSURD_FACTOR = 6.0  # the same in logarithms and logits
ABSURD_LOG = 25.0
NEAR_BOUND = 1e-4  # standard errors
SURE_TRACE = 1e6  # trace of the inverse scaled information below which its eigenvalues need not be computed
CLEAR = 0.01  # log-likelihood lost one unit of 1 / sqrt(information) off a bound, from which on its score decides


@lru_cache(maxsize=256)
def curved(space: Space) -> Bool[Host, " p"]:
    """Return a boolean mask, (p,), of the coordinates of u that are transformed parameters (logarithms, logits, ...)."""
    flags = [np.full(leaf.n_free, not leaf.transform.unchanged) for leaf in space.leaves]
    for leaf, of_leaf in zip(space.leaves, flags, strict=True):
        if isinstance(leaf.transform, Ordered) and space.ties is None:  # first entries, then logarithms of differences
            of_leaf[:: leaf.shape[-1]] = False
    whole = np.concatenate(flags) if flags else np.zeros(0, bool)
    return whole if space.ties is None else whole[space.ties.index]


def believable(u: Float[Host, "*sets p"], space: Space) -> Float[Host, "*sets p"]:
    """Return the largest plausible standard errors in u, (..., p); larger ones suggest a plateau of the log-likelihood.

    A thousand times the estimate (at least 1000) for untransformed coordinates, 6 for logarithms and logits, and 0 for
    those beyond 25 in size (a scale above 7e10 or below 1e-11, a probability within 1e-11 of 0 or 1).
    """
    return _limits(u, space, ABSURD_ERROR)


def usual(u: Float[Host, "*sets p"], space: Space) -> Float[Host, "*sets p"]:
    """Return the largest standard errors in u, (..., p), with which an end is accepted as a maximum without testing directions.

    As `believable`, but stricter for untransformed coordinates: a hundred times the absolute estimate (at least 100) in place
    of a thousand times, since the user's function may take the exponential of such a coordinate.
    """
    return _limits(u, space, LARGE_ERROR)


def _limits(u: Float[Host, "*sets p"], space: Space, factor: float) -> Float[Host, "*sets p"]:
    straight = factor * np.maximum(1.0, np.abs(u))
    bent = curved(space)
    return np.where(bent, np.where(np.abs(u) > ABSURD_LOG, 0.0, ABSURD_FACTOR), straight) if bent.any() else straight


def near_a_bound(u: Float[Host, "*sets p"], errors: Float[Host, "*sets p"], space: Space) -> Bool[Host, "*sets p"]:
    """Return a boolean mask, (..., p), of the coordinates within 1e-4 standard errors (``errors``) of a bound, but not at it.

    A search for a standard deviation may end so close to 0: by symmetry its score is 0 at 0, and the information is positive
    definite.
    """
    near = np.minimum(u - space.lower, space.upper - u)
    return (near > 0) & (near < NEAR_BOUND * errors)


def on_nearest_bounds(u: Float[Host, "*sets p"], near: Bool[Host, "*sets p"], space: Space) -> Float[Host, "*sets p"]:
    """Return u, (..., p), with the coordinates of the mask ``near`` set to their nearest bound."""
    bound = np.where(u - space.lower < space.upper - u, space.lower, space.upper)
    return np.where(near, bound, u)


def interior(space: Space, u: Float[Host, "*sets p"]) -> Bool[Host, "*sets p"]:
    """Return a boolean mask, (..., p), of the coordinates strictly between their bounds; of the finite ones in a model without
    bounds.
    """
    if not space.boxed:
        return np.isfinite(u)
    with np.errstate(invalid="ignore"):
        return np.asarray((u > space.lower) & (u < space.upper))


def information_over(information: Any, free: Bool[Host, " p"]) -> linalg.Symmetric:
    """Return the information (an array (p, p) or `Symmetric`) restricted to the coordinates of the mask ``free``."""
    return linalg.symmetric(information).among(free)


def errors_over(information: linalg.Symmetric, free: Bool[Host, " p"]) -> Float[Host, " p"]:
    """Return standard errors in u, (p,), from the information over the ``free`` coordinates (k of p), NaN if it is not positive
    definite; 0 for the other coordinates.
    """
    errors = np.zeros(free.size)
    errors[free] = np.sqrt(information.inverse_diagonal())
    return errors


def clean(result: OptimizeResult, space: Space, at: InTheta | None = None) -> Bool[Host, " L"]:
    """Return a boolean mask, (L,), of the final points that are accepted as maxima without further tests (clean).

    Those converged faster than linearly to positive definite information, with scaled eigenvalues that are not nearly 0 and
    standard errors not above `usual`; no coordinate is within 1e-4 standard errors of a bound, or at a bound where the score
    vanishes or points inside.  False without information.

    Args:
        result: final points of L data sets.
        space: the layout of the parameters.
        at: the same points in natural coordinates, if known; their inverse information saves computing eigenvalues.
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
        good &= (errors <= usual(result.u, space)).all(axis=1)
        if space.boxed:
            good &= ~near_a_bound(result.u, errors, space).any(axis=1)
    return good


def is_clean(end: OptimizeResult, space: Space) -> bool:
    """True if :func:`clean` accepts the final point of one data set as a maximum."""
    return bool(clean(end.alone(), space)[0])


def onto_bounds(end: OptimizeResult, space: Space) -> Float[Host, " p"] | None:
    """Return u, (p,), of a final point with coordinates that are within 1e-4 standard errors of a bound set to it.

    None if no coordinate is that close, unless the search did not converge and some are at their bounds already; None too without
    bounds or second derivatives.
    """
    if not space.boxed or end.information is None:
        return None
    free = interior(space, end.u)
    information = information_over(end.information, free)
    if information.ok:
        errors = errors_over(information, free)
    else:  # as where the score of a scale at 0 is that of the mean: given the others
        errors = 1.0 / np.sqrt(np.abs(linalg.symmetric(end.information).diagonal()) + 1e-300)
    near = near_a_bound(end.u, errors, space)
    unsettled = end.end != End.CONVERGED and not free.all()
    return on_nearest_bounds(end.u, near, space) if near.any() or unsettled else None


def doubtful(end: OptimizeResult, space: Space) -> bool:
    """True if the information at a final point is positive definite, but some standard error is implausibly large; False without
    information.
    """
    if end.information is None:
        return False
    free = interior(space, end.u)
    information = information_over(end.information, free)
    return information.ok and bool((errors_over(information, free) > believable(end.u, space)).any())
