"""Directions along which the log-likelihood is flat: everywhere, or only where a search ended."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mlejax.fit import evidence
from mlejax.fit.evidence import Asks
from mlejax.fit.loading import Loaded, n_contributions
from mlejax.fit.programs import PROBES, Ended, evaluate_rows
from mlejax.fit.standing import Found, definiteness, interior
from mlejax.objective import Spec
from mlejax.parameters import Space
from mlejax.verdict import Direction


def beside(ended: Ended, space: Space, far: bool = False) -> np.ndarray:
    """A point (p,) about one standard error, each given the others, from where a search ended; ``far``: a tenth of u."""
    diagonal = np.diag(np.asarray(ended.information))
    usable = np.isfinite(diagonal) & (diagonal > 0)
    plain = np.maximum(1.0, np.abs(ended.u))
    size = np.where(usable, 1.0 / np.sqrt(np.where(usable, diagonal, 1.0)), 0.1)
    size = 0.1 * plain if far else np.minimum(size, plain)
    step = size * np.random.default_rng(0).uniform(0.5, 1.5, ended.u.size) * interior(space, ended.u)
    return np.clip(ended.u + step, space.lower, space.upper)


def _dependent_beside(spec: Spec, loaded: Loaded, held: Any, ended: Ended) -> bool | None:
    """Whether the scores of all contributions leave a direction out beside the end too; None where that cannot be told.

    A direction that is flat there as well (collinear columns, a product of two parameters) is flat everywhere.  Where two
    components have become one, the log-likelihood is flat at that point only, and its maximum may be elsewhere.
    """
    data, free = loaded.problem.data, interior(spec.space, ended.u)
    n = n_contributions(data)
    if n < free.sum():
        return None
    told = None
    for far in (False, True):
        point = beside(ended, spec.space, far)
        values, scores = (np.asarray(a)[:n] for a in evaluate_rows(spec, point, data, held))
        if not (np.isfinite(values).all() and np.isfinite(scores).all()):
            continue
        scores = scores[:, free] * np.sqrt(np.asarray(data.weights)[:n, None])
        size = np.sqrt((scores**2).sum(axis=0))
        if far and not (size > 0).all():
            continue
        size = np.where(size > 0, size, 1.0)
        told = bool(np.linalg.eigvalsh((scores / size).T @ (scores / size))[0] < 1e-10)
        if not told:
            break
    return told


def _straight(space: Space, ended: Ended, directions: tuple[Direction, ...]) -> Asks[bool]:
    """Along the flat directions there is no curvature thirty standard errors away either, or that cannot be told."""
    diagonal = np.diag(np.asarray(ended.information))
    plain = np.maximum(1.0, np.abs(ended.u))
    error = np.where(diagonal > 0, np.minimum(plain, 1.0 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))), plain)
    moved = np.minimum(0.1 * plain, 30.0 * error) * np.random.default_rng(0).uniform(0.5, 1.5, error.size)
    point = ended.u + moved * interior(space, ended.u)
    points = [point]
    for d in [d for d in directions if d.behaviour == "flat"][: PROBES // 2 - 1]:
        unit = d.vector / np.max(np.abs(d.vector) / error)
        points += [point + 512.0 * unit, point - 512.0 * unit]
    values = yield np.clip(np.stack(points), space.lower, space.upper)
    if not np.isfinite(values).all():
        return True
    bend = values[1::2] + values[2::2] - 2.0 * values[0]
    return bool(np.abs(bend).max() <= 10.0 * evidence.FLAT + 1e-8 * abs(values[0]))


def settle_flat(spec: Spec, loaded: Loaded, held: Any, ended: Ended, found: Found) -> Asks[Found]:
    """Flat directions set apart from those that are flat only where the search ended, and curved ones added."""
    kinds = {d.behaviour for d in found.directions}
    singular = not definiteness(np.asarray(ended.information), interior(spec.space, ended.u))[2]
    if "higher" in kinds or not singular:
        return found
    if "flat" in kinds:
        if (yield from _straight(spec.space, ended, found.directions)):
            return found
        here = tuple(replace(d, behaviour="ridge") if d.behaviour == "flat" else d for d in found.directions)
        return replace(found, directions=here)
    if not _dependent_beside(spec, loaded, held, ended):
        return found
    if ended.information is None or not np.isfinite(ended.information).all():
        return found
    free = np.flatnonzero(interior(spec.space, ended.u))
    scaled, d = evidence.scaled(np.asarray(ended.information)[np.ix_(free, free)])
    eigenvalues, vectors = np.linalg.eigh(scaled)
    vector = np.zeros(ended.u.size)
    vector[free] = vectors[:, 0] * d
    if not abs(eigenvalues[0]) <= 1e-10 * eigenvalues[-1] or not vector.any():
        return found
    flat = evidence.flat_direction(vector, ended.u, ended.loglik, spec.space, held)
    return replace(found, directions=(*found.directions, flat))


def independent(found: tuple[Direction, ...], ended: Ended) -> tuple[Direction, ...]:
    """Without the flat directions that others, of fewer names, already span, each coordinate in its own scale."""
    flats = [d for d in found if d.behaviour == "flat"]
    if len(flats) < 2:
        return found
    flats.sort(key=lambda d: len(d.names))
    diagonal = np.diag(np.asarray(ended.information))
    size = np.where(np.isfinite(diagonal) & (diagonal > 0), np.sqrt(np.abs(diagonal)), 1.0)
    basis: list[np.ndarray] = []
    kept = []
    for d in flats:
        part = np.abs(d.vector) / np.max(np.abs(d.vector)) * (size / size.max())
        vector = np.sign(d.vector) * part / max(float(np.linalg.norm(part)), 1e-300)
        rest = vector - sum((b * (b @ vector) for b in basis), np.zeros_like(vector))
        if np.linalg.norm(rest) > 1e-2:
            basis.append(rest / np.linalg.norm(rest))
            kept.append(d)
    return tuple(d for d in found if d.behaviour != "flat" or any(d is k for k in kept))
