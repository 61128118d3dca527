"""Choose directions from a final point for ray tests, and test them: those of little curvature, and the path of the search."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from mlejax import linalg
from mlejax.covariance import NULL_EIGENVALUE
from mlejax.execution import compiled
from mlejax.fit.diagnose import ends
from mlejax.fit.diagnose.bounds import others_maximised
from mlejax.fit.diagnose.directions import movements, rays
from mlejax.fit.diagnose.directions.bending_ridges import levelled
from mlejax.fit.diagnose.directions.rays import Asks
from mlejax.fit.diagnose.ends import interior
from mlejax.fit.finish.natural import estimates
from mlejax.objective import SingleEvaluator, Spec
from mlejax.optimize import OptimizeResult
from mlejax.parameters import Space
from mlejax.parameters.coordinates import split_constants
from mlejax.shapes import Bool, Either, Float, Host
from mlejax.status import End
from mlejax.verdict import Direction

N_RAYS = 12  # rays straight in natural coordinates, at most
N_CONVERTED = 24  # points of theta converted in one call
MAX_COORDINATES = 12  # up to so many parameters every coordinate is tested, not only those with doubtful errors


def scaled(information: Float[Host, "*sets p p"]) -> tuple[Float[Host, "*sets p p"], Float[Host, "*sets p"]]:
    """Scale the information to unit diagonal: return d I d, (..., p, p), and d, (..., p).

    d is 1 / sqrt(diagonal of I), or 0 where the diagonal is not positive.
    """
    diagonal = np.einsum("...ii->...i", information)
    positive = np.isfinite(diagonal) & (diagonal > 0)
    d = np.where(positive, 1.0 / np.sqrt(np.where(positive, diagonal, 1.0)), 0.0)
    return information * (d[..., :, None] * d[..., None, :]), d


def suspicious_directions(
    u: Float[Host, "L p"],
    score: Float[Host, "L p"],
    information: Float[Host, "L p p"],
    free: Bool[Host, "L p"],
    origin: Float[Host, "L p"],
    believed: Float[Host, "L p"],
) -> list[Float[Host, "k p"]]:
    """For each of L final points return the directions in u, (k, p), that need a ray test.

    They are the coordinates without curvature, the eigenvectors of the scaled information with small or negative eigenvalues,
    the Newton step, the path of the search, and single coordinates: all if there are at most 12, else those with implausibly
    large standard errors.

    Args:
        u, score, information: the final points, and the score and information there.
        free: mask of coordinates that are not at a bound.
        origin: starts of the searches.
        believed: largest plausible standard errors.
    """
    p, eye = u.shape[1], np.eye(u.shape[1])
    s, d = scaled(np.where(np.isfinite(information), information, 0.0))
    d = np.where(free, d, 0.0)
    curves = d > 0
    # mask unused coordinates with a large eigenvalue
    unused = ~(curves[:, :, None] & curves[:, None, :])
    s = np.where(unused, (2.0 * p + 2.0) * eye, np.nan_to_num(s))
    values, vectors = np.linalg.eigh(s)
    inverse = (vectors / np.maximum(np.abs(values), 1e-12)[:, None, :]) @ vectors.swapaxes(1, 2)
    newton = d[:, None, :] * (inverse @ (d * np.nan_to_num(score))[:, :, None]).swapaxes(1, 2)
    coordinates = np.maximum(1.0, np.abs(u))[:, :, None] * eye
    # errors without the weak eigenvectors, which are tested themselves
    strong = np.where(values < NULL_EIGENVALUE, 0.0, 1.0 / np.maximum(np.abs(values), 1e-12))
    errors = d * np.sqrt(np.einsum("lik,lk->li", vectors**2, strong))
    single = free & ((free.sum(axis=1, keepdims=True) <= MAX_COORDINATES) | (errors > believed))
    path = np.where(free, u - origin, 0.0)[:, None, :]
    eigenvectors = d[:, None, :] * vectors.swapaxes(1, 2)
    every = np.concatenate([coordinates, eigenvectors, newton, path, coordinates], axis=1)
    any_curves, always = curves.any(axis=1, keepdims=True), np.ones((len(u), 1), bool)
    wanted = np.concatenate([free & ~curves, values < NULL_EIGENVALUE, any_curves, always, single], axis=1)
    wanted &= np.isfinite(every).all(axis=2) & (np.abs(every).max(axis=2, initial=0.0) > 0.0)
    return [rows[keep] for rows, keep in zip(every, wanted, strict=True)]


def without(vectors: Iterable[Float[Host, " p"]], known: Sequence[Float[Host, " p"]]) -> list[Float[Host, " p"]]:
    """Return the projections of directions onto the orthogonal complement of the ``known`` ones; those that are 0 are left out.

    Orthogonal refers to coordinates divided by their largest absolute value in all these directions.
    """
    size = np.max(np.abs(np.stack([*vectors, *known])), axis=0)
    size = np.where(size > 0, size, 1.0)
    basis = np.linalg.qr((np.stack(known) / size).T)[0]
    out = []
    for vector in vectors:
        unit = vector / size
        rest = unit - basis @ (basis.T @ unit)
        if np.abs(rest).max() > 1e-6 * np.abs(unit).max():
            out.append(rest * size)
    return out


class RaysOfEnd(NamedTuple):
    """The rays from one final point u, (p,)."""

    u: Float[Host, " p"]
    rays: Sequence[rays.ScaledRay]


def rays_of_many(spec: Spec, found: dict[int, OptimizeResult], u0: Float[Host, "L p"]) -> dict[int, RaysOfEnd]:
    """Return the rays from the final points ``found`` of several data sets, by number; their searches began at u0, (L, p).

    Data sets without information or with a score that is not finite are left out.
    """
    usable = {i: e for i, e in found.items() if e.information is not None and np.isfinite(e.score).all()}
    if not usable:
        return {}
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        vectors = suspicious(spec, list(usable.values()), [u0[i] for i in usable])
        counts = [len(v) for v in vectors]
        each = lambda arrays: np.repeat(arrays, counts, axis=0)
        u, score = (each([getattr(e, name) for e in usable.values()]) for name in ("u", "score"))
        information = each([linalg.dense_each(e.information) for e in usable.values()])
        together = rays.make_rays(np.concatenate(vectors), u, score, information, ends.curved(spec.space))
    last = np.cumsum(counts).tolist()
    return {i: RaysOfEnd(e.u, together[n - k : n]) for (i, e), k, n in zip(usable.items(), counts, last, strict=True)}


def suspicious(
    spec: Spec, found: Sequence[OptimizeResult], origins: Sequence[Float[Host, " p"]]
) -> list[Float[Host, "k p"]]:
    """Return for each final point the directions, (k, p), of lines through it on which a ray test evaluates the log-likelihood,
    to both sides (their sign does not matter).

    Those of `suspicious_directions`, and for each coordinate at a bound the direction away from it.  ``origins``: starts of the
    searches; the path from there is one of the directions.
    """
    space = spec.space
    u, score = (np.stack([getattr(e, name) for e in found]) for name in ("u", "score"))
    information = np.stack([linalg.dense_each(e.information) for e in found])
    free = interior(space, u)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        believed = ends.believable(u, space)
        out = suspicious_directions(u, score, information, free, np.stack(origins), believed)
    if not free.all():
        inward = np.eye(u.shape[1]) * np.where(u <= space.lower, 1.0, -1.0)[:, :, None]
        out = [np.concatenate([v, rows[~inside]]) for v, rows, inside in zip(out, inward, free, strict=True)]
    return out


def probe_directions(
    evaluator: SingleEvaluator,
    end: OptimizeResult,
    u0: Float[Host, " p"],
    known: Sequence[Float[Host, " p"]] = (),
    first: RaysOfEnd | None = None,
) -> Asks[tuple[Direction, ...]]:
    """Test straight lines through a final point, to both sides, in every direction that needs it; return a `Direction` for
    each, which says what the log-likelihood does along it.  (A generator, `Asks`: run it by ``yield from`` or `rays.answered`.)

    The result begins with the ``known`` directions, as flat. If there are none, and no tested direction has the behaviour
    rises, higher, flat or plateau, lines that are straight in natural coordinates are tested next; if none of them rises
    either, a curved ridge along which the log-likelihood levels off, or coordinates that went to extreme values.

    Args:
        evaluator: evaluator of one data set.
        end: the final point.
        u0: start of the search, (p,).
        known: directions, (p,) each, that are flat for any likelihood (collinear columns of a design matrix). The others are
            projected onto their complement before the test.
        first: the rays from this point, if they were made already; not used with ``known``.
    """
    assert end.information is not None
    spec, space, fixed = evaluator.spec, evaluator.spec.space, evaluator.fixed
    information = linalg.dense_each(end.information)
    origin = rays.Origin(end.u, float(end.loglik), information, space, fixed)
    flat = tuple(rays.flat_direction(v, origin) for v in known)
    if first is None or known or not np.array_equal(first.u, end.u):
        vectors = suspicious(spec, [end], [u0])[0]
        if known:
            vectors = np.reshape(without(vectors, known), (-1, end.u.size))
        tested: Sequence[rays.ScaledRay] = rays.make_rays(vectors, end.u, end.score, information, ends.curved(space))
    else:
        tested = first.rays
    found = yield from rays.follow_all(tested, origin)
    if not flat and not any(d.behaviour in ("rises", "higher", "flat", "plateau") for d in found):
        found += yield from _natural_rays(spec, fixed, end, u0)
    if not any(d.behaviour == "rises" for d in found):
        level = flat or any(d.behaviour in ("flat", "plateau", "ridge") for d in found)
        bending = None if level else levelled(evaluator, u0, end)
        found += _runaways(evaluator, end, u0) if bending is None else (bending,)
    return flat + found


def _runaways(evaluator: SingleEvaluator, end: OptimizeResult, u0: Host) -> tuple[Direction, ...]:
    """Return the directions of transformed coordinates (scales, probabilities) that went to extreme values in a search without
    convergence.

    Rounding hides there whether the log-likelihood still rises, so the log-likelihood at the final point is compared with the
    profile ten units of u before it. Directions along which it is not higher at the final point are left out; the others have
    the behaviour ``rises``, bounded if it is higher by less than 1.
    """
    space, fixed = evaluator.spec.space, evaluator.fixed
    travelled = end.u - u0
    away = ends.curved(space) & (np.abs(travelled) > ends.ABSURD_LOG)
    if end.end == End.CONVERGED or not away.any():
        return ()
    out = []
    for j in np.flatnonzero(away).tolist():
        back = end.u.copy()
        back[j] -= np.sign(travelled[j]) * 10.0
        before = others_maximised(evaluator, back, j)[1]
        if not before <= end.loglik:  # the others ran away themselves
            before = float(evaluator.logliks({0: back[None]})[0][0])
        gain = float(end.loglik) - before
        vector = np.zeros_like(back)
        vector[j] = np.sign(travelled[j])
        if gain > 0:
            words = partial(movements.describe_movement, end.u, end.u + 10.0 * vector, space, fixed)
            out.append(Direction("rises", vector, gain, float(end.loglik), words, bounded=gain < 1.0))
    return tuple(out)


@partial(compiled, static=("space",))
def _u_of_theta(space: Space, theta: Either, fixed: Either | None) -> Either:
    """Convert natural coordinates (m, p) to unconstrained ones (m, p)."""
    return jax.vmap(lambda t: space.u_from_params(space.params_from_theta(t, fixed)))(theta)


def _natural_rays(spec: Spec, fixed: Any, end: OptimizeResult, u0: Host) -> Asks[tuple[Direction, ...]]:
    """Test rays that are straight lines in natural coordinates, if u is nonlinear in them (ordered cutpoints, for instance).

    Return an empty tuple if u is linear in them, or if the model has bounds.
    """
    space = spec.space
    joint = any(not leaf.transform.elementwise for leaf in space.leaves if leaf.n_free)
    if not joint or space.boxed or not interior(space, end.u).all():
        return ()
    natural, _ = estimates(space, end.u, end.score, end.information, fixed)
    theta, score, information = natural.theta, natural.score, natural.information
    values = split_constants(fixed, space.n_free)[1] if space.mapped else fixed  # real coordinates are the same in both

    def to_u(points: Host) -> np.ndarray:
        return np.concatenate(
            [
                np.asarray(_u_of_theta(space.own, np.resize(part, (N_CONVERTED, part.shape[1])), values))[: len(part)]
                for part in np.split(points, range(N_CONVERTED, len(points), N_CONVERTED))
            ]
        )

    infinite = np.full(theta.size, np.inf)
    chart = rays.Chart(-infinite, infinite, to_u)
    began = np.asarray(movements.theta_of(space, u0, fixed))
    arguments = (a[None] for a in (theta, score, information, np.ones(theta.size, bool), began, infinite))
    vectors = suspicious_directions(*arguments)[0]
    tested = rays.make_rays(vectors[:N_RAYS], theta, score, information, None)
    at = rays.Origin(theta, float(end.loglik), information, space, fixed, chart)
    return (yield from rays.follow_all(tested, at))
