"""Directions along which the log-likelihood is flat: everywhere, or only at the final point of a search."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mlejax.fit.diagnose.directions import rays
from mlejax.fit.diagnose.directions.probes import scaled
from mlejax.fit.diagnose.directions.rays import Asks
from mlejax.fit.diagnose.ends import information_over, interior
from mlejax.linalg import dense_each, symmetric
from mlejax.objective import SingleEvaluator, row_terms
from mlejax.optimize import OptimizeResult
from mlejax.parameters import Space
from mlejax.shapes import Float, Host
from mlejax.verdict import Direction, Findings

ROUNDING = 1e-13  # the same where the information is positive definite
MOST_DIRECTIONS = 11  # flat directions whose curvature is looked at elsewhere, at most
DEPENDENT = 1e-10  # smallest eigenvalue of the scaled outer products of scores, below which they leave a direction out


def nearby_point(end: OptimizeResult, space: Space, far: bool = False) -> Float[Host, " p"]:
    """Return a random point, (p,), above a final point in each coordinate by 0.5 to 1.5 times its conditional standard error, or
    max(1, abs(u)) if that is less; coordinates at a bound stay.  The same point at each call.

    ``far``: a tenth of max(1, abs(u)) in place of the standard error.
    """
    plain = np.maximum(1.0, np.abs(end.u))
    size = 0.1 * plain if far else np.minimum(_errors_alone(end, 0.1), plain)
    step = size * np.random.default_rng(0).uniform(0.5, 1.5, end.u.size) * interior(space, end.u)
    return np.clip(end.u + step, space.lower, space.upper)


def _errors_alone(end: OptimizeResult, otherwise: Host | float) -> Float[Host, " p"]:
    """Return the conditional standard errors given the other coordinates, (p,): 1 / sqrt(diagonal of the information).

    Coordinates whose diagonal entry is not positive get ``otherwise``.
    """
    diagonal = symmetric(end.information).diagonal()
    usable = np.isfinite(diagonal) & (diagonal > 0)
    return np.where(usable, 1.0 / np.sqrt(np.where(usable, diagonal, 1.0)), otherwise)


def settle_flat(evaluator: SingleEvaluator, end: OptimizeResult, findings: Findings) -> Asks[Findings]:
    """Mark directions that are flat only at the final point as ``ridge``, and add flat directions along curves.

    A generator: it yields points, (m, p), is sent their log-likelihoods, (m,), and returns the new findings.

    A flat direction along a curve is the null vector of an information that is singular at nearby points as well; rounding may
    make that positive definite (``findings.blurred``).  The findings are unchanged if there is neither, if a direction leads
    higher, or if the information is positive definite without such doubt.
    """
    space = evaluator.spec.space
    information = dense_each(end.information)
    kinds = {d.behaviour for d in findings.directions}
    definite = information_over(information, interior(space, end.u)).ok
    if "higher" in kinds or (definite and not findings.blurred):
        return findings
    if "flat" in kinds:
        if (yield from _straight(space, end, findings.directions)):
            return findings
        here = tuple(replace(d, behaviour="ridge") if d.behaviour == "flat" else d for d in findings.directions)
        return replace(findings, directions=here)
    if not _dependent_nearby(evaluator, end, ROUNDING if definite else DEPENDENT) or not np.isfinite(information).all():
        return findings
    free = np.flatnonzero(interior(space, end.u))
    correlation, d = scaled(information[np.ix_(free, free)])
    eigenvalues, vectors = np.linalg.eigh(correlation)
    vector = np.zeros(end.u.size)
    vector[free] = vectors[:, 0] * d
    if not abs(eigenvalues[0]) <= 1e-10 * eigenvalues[-1] or not vector.any():
        return findings
    origin = rays.Origin(end.u, float(end.loglik), information, space, evaluator.fixed)
    flat = rays.flat_direction(vector, origin)
    return replace(findings, directions=(*findings.directions, flat), blurred=False)


def _dependent_nearby(evaluator: SingleEvaluator, end: OptimizeResult, least: float) -> bool | None:
    """True if the scores of all terms are linearly dependent at points near the final one too.

    None if they are not finite at these points, or there are fewer terms than coordinates off their bounds.  ``least``: the
    eigenvalue of the products of scaled scores below which they are called dependent.

    If they are, the direction is flat everywhere (collinear columns, a product of two parameters).  If two components of a
    mixture have become identical, the log-likelihood is flat at that point only, and its maximum may be elsewhere.
    """
    space, free = evaluator.spec.space, interior(evaluator.spec.space, end.u)
    if evaluator.n_contributions < free.sum():
        return None
    dependent = None
    for far in (False, True):
        values, scores, weights = row_terms(evaluator, nearby_point(end, space, far))
        if not (np.isfinite(values).all() and np.isfinite(scores).all()):
            continue
        scores = scores[:, free] * np.sqrt(weights[:, None])
        size = np.sqrt((scores**2).sum(axis=0))
        if far and not (size > 0).all():
            continue
        size = np.where(size > 0, size, 1.0)
        dependent = bool(np.linalg.eigvalsh((scores / size).T @ (scores / size))[0] < least)
        if not dependent:
            break
    return dependent


def _straight(space: Space, end: OptimizeResult, directions: tuple[Direction, ...]) -> Asks[bool]:
    """True if the log-likelihood is also flat along the flat directions (the first eleven) from a point up to thirty standard
    errors away.

    True also if it is not finite there.
    """
    plain = np.maximum(1.0, np.abs(end.u))
    error = np.minimum(plain, _errors_alone(end, plain))
    moved = np.minimum(0.1 * plain, 30.0 * error) * np.random.default_rng(0).uniform(0.5, 1.5, error.size)
    point = end.u + moved * interior(space, end.u)
    points = [point]
    for d in [d for d in directions if d.behaviour == "flat"][:MOST_DIRECTIONS]:
        unit = 512.0 * d.vector / np.max(np.abs(d.vector) / error)
        with np.errstate(divide="ignore", invalid="ignore"):  # both points stay inside the box
            room = np.nanmin(np.minimum(point - space.lower, space.upper - point) / np.abs(unit))
        points += [point + min(1.0, 0.9 * room) * unit, point - min(1.0, 0.9 * room) * unit]
    values = yield np.clip(np.stack(points), space.lower, space.upper)
    if not np.isfinite(values).all():
        return True
    bend = values[1::2] + values[2::2] - 2.0 * values[0]
    return bool(np.abs(bend).max() <= 10.0 * rays.FLAT + 1e-8 * abs(values[0]))


def independent(directions: tuple[Direction, ...], end: OptimizeResult) -> tuple[Direction, ...]:
    """Return the directions without those flat ones that are linear combinations of other flat ones; of dependent ones, those
    that change fewer parameters are kept.
    """
    flats = sorted((d for d in directions if d.behaviour == "flat"), key=lambda d: len(d.names))
    if len(flats) < 2:
        return directions
    size = 1.0 / _errors_alone(end, 1.0)
    basis: list[np.ndarray] = []
    kept = []
    for d in flats:
        part = np.abs(d.vector) / np.max(np.abs(d.vector)) * (size / size.max())
        vector = np.sign(d.vector) * part / max(float(np.linalg.norm(part)), 1e-300)
        rest = vector - sum((b * (b @ vector) for b in basis), np.zeros_like(vector))
        if np.linalg.norm(rest) > 1e-2:
            basis.append(rest / np.linalg.norm(rest))
            kept.append(d)
    return tuple(d for d in directions if d.behaviour != "flat" or any(d is k for k in kept))
