"""Null distributions of a likelihood ratio that is not chi-squared: chi-bar-squared weights, and the parametric bootstrap."""

from __future__ import annotations

import numpy as np

from mlejax.fit import Fit, check_count
from mlejax.inference.tests.larger import at_restricted
from mlejax.inference.tests.pairs.chi_bar_square import ChiSquaredWeights, chi_bar_weights
from mlejax.inference.tests.score import scores_with_variances, symmetric_bounds
from mlejax.linalg import scaled_inverse
from mlejax.shapes import Float, Host

FALL = 1e-6  # a full refit below the restricted one by more than this has failed
SAME = 1e-3  # full refits that all end this close to the restricted one, and have no maximum, are that model at a bound


class UnknownMixtureError(ValueError):
    """No mixture of chi-squared distributions is known for the likelihood ratio of two fits."""


def boundary_weights(full: Fit, restricted: Fit, boundary: int, seed: int) -> ChiSquaredWeights:
    """Return the weights of the chi-bar-squared mixture, from the information of the full model at the restricted
    estimates.

    Standard deviations at 0, whose score is 0 there, are replaced by variances, and the information by products of scores.

    Args:
        full, restricted: the fits.
        boundary: number of restrictions at bounds.
        seed: seed of the weights, if these are simulated.

    Raises:
        ValueError: the models are not nested, or there are more than 8 restrictions at bounds.
        UnknownMixtureError: the number of parameters at bounds is not ``boundary``, one of them in either fit is not tested, the
            information is singular (a parameter is not identified under the null hypothesis), or a restriction does not fix a
            single parameter.
    """
    check_others_inside(full, restricted, boundary)
    at, tangent = at_restricted(full, restricted)
    p, q = tangent.shape
    tested = np.flatnonzero(np.abs(tangent).max(axis=1, initial=0.0) < 1e-9)
    names = at.spec.space.theta_labels
    if tested.size != p - q:
        raise UnknownMixtureError(
            f"boundary={boundary}: expected restrictions that fix single parameters, but only {tested.size} of {p - q} do, so "
            "that the distribution is not known; use bootstrap=999"
        )
    on_bound = ~at.interior
    if on_bound.sum() != boundary or on_bound[tested].sum() != boundary:
        there = ", ".join(names[i] for i in np.flatnonzero(on_bound)) or "none"
        raise UnknownMixtureError(
            f"boundary={boundary}: expected that many parameters at a bound at the restricted estimates, all of them tested, "
            f"got: {there}; give their number if all of them are tested, else use bootstrap=999"
        )
    still = symmetric_bounds(at)
    assert at.information is not None
    information = at.information
    if still.size or not scaled_inverse(information).ok:
        scores = scores_with_variances(at, still)
        with np.errstate(invalid="ignore"):
            information = scores.T @ scores
    found = scaled_inverse(information)
    if not found.ok:
        raise UnknownMixtureError(
            f"boundary={boundary}: the information of the full model is singular at the restricted estimates, so "
            "that the mixture is not known; use bootstrap=999"
        )
    efficient = np.linalg.inv(found.inverse[np.ix_(tested, tested)])
    return chi_bar_weights(efficient, on_bound[tested], seed)


def check_others_inside(full: Fit, restricted: Fit, boundary: int) -> None:
    """Raise UnknownMixtureError if a parameter that both fits estimate is at a bound in one of them: whether its true value is
    there decides the null distribution (Self & Liang 1987, case 8).  ``boundary``: number of restrictions at bounds.
    """
    both = set(full.spec.space.theta_labels) & set(restricted.spec.space.theta_labels)
    there = [
        name
        for fit in (full, restricted)
        for name, inside in zip(fit.spec.space.theta_labels, fit.interior, strict=False)
        if not inside and name in both
    ]
    if there:
        raise UnknownMixtureError(
            f"boundary={boundary}: {', '.join(dict.fromkeys(there))} is at a bound as well, and not tested, so that the mixture "
            "is not known; use bootstrap=999"
        )


def no_mixture(full: Fit, restricted: Fit, boundary: int) -> str:
    """Return the reason why fits of one function have no known chi-bar-squared mixture for this many restrictions at bounds;
    empty if they have one.

    Of models with latents and those with ``rowwise=False`` only other parameters at bounds are a reason: the information is not
    checked, because the score of a standard deviation vanishes at 0.
    """
    try:
        check_others_inside(full, restricted, boundary)
        if full.spec.likelihood.joint is not None or full.loaded.problem.data.mode == "whole":
            return ""
        boundary_weights(full, restricted, boundary, 0)
    except ValueError as error:
        return str(error)
    return ""


def bootstrapped(full: Fit, restricted: Fit, n: int, seed: int) -> tuple[Float[Host, " B"], int]:
    """Return likelihood ratios of data sets simulated from the restricted fit (B,), and the number of failed refits.

    The full model is refitted from the restricted and from its own estimates; the higher log-likelihood is used.  The ratio is 0
    where the full model has no maximum because it approaches the restricted one (a variance at 0).

    Args:
        full, restricted: the fits.
        n, seed: number of data sets, at least 19, and seed of the draws.

    Raises:
        ValueError: fewer than 19 pairs of refits ended at maxima, or data cannot be simulated.
        CompanionError: the restricted model has no simulator.
    """
    from mlejax.inference.resampling.refitting import refits_of_drawn  # which rests on the tests

    n = check_count("bootstrap", n, 19)
    starts = [full.u]
    try:
        at, _ = at_restricted(full, restricted)
        starts.append(_off_bounds(at))
    except ValueError:  # two functions whose parameters do not correspond
        pass
    targets = [(restricted, restricted.u), *((full, u) for u in starts)]
    small, *large = refits_of_drawn(restricted, targets, n, check_count("seed", seed, 0), "lr_test(bootstrap=)")
    high = np.max([np.where(done.clean, done.llf, -np.inf) for done in large], axis=0)
    at_bound = np.all([np.abs(done.llf - small.llf) <= SAME for done in large], axis=0) & ~np.isfinite(high)
    high = np.where(at_bound, small.llf, high)
    good = small.clean & np.isfinite(high) & (high >= small.llf - FALL * np.maximum(1.0, np.abs(small.llf)))
    if good.sum() < 19:
        raise ValueError(
            f"lr_test(bootstrap={n}) needs at least 19 pairs of refits; {n - int(good.sum())} of {n} did not end at maxima: "
            "raise bootstrap="
        )
    return 2.0 * np.maximum(high - small.llf, 0.0)[good], int((~good).sum())


def _off_bounds(at: Fit) -> Float[Host, " p"]:
    """Return u with coordinates at bounds moved inside by a tenth of a standard error, at most 0.1, as a start."""
    space = at.spec.space
    assert at.information is not None
    step = 0.1 / np.sqrt(np.maximum(np.abs(np.diag(at.information)), 1e-12))
    inside = np.where(at.u <= space.lower, step, np.where(at.u >= space.upper, -step, 0.0))
    return np.asarray(at.u + np.minimum(inside, 0.1))
