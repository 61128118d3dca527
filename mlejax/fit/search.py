"""From a start to an end on the host: optimise; where the end is not clean, test rays, and go on from a higher point."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np

from mlejax import linalg, optimize
from mlejax.compiling import compiled
from mlejax.covariance import NULL_EIGENVALUE
from mlejax.fit import evidence, regression
from mlejax.fit.loading import Loaded, n_contributions
from mlejax.fit.penalties import finite_penalty
from mlejax.fit.programs import Ended, at_optimum, evaluate_rows, loglik_many, run, value_and_score
from mlejax.objective import Spec
from mlejax.parameters import Space
from mlejax.status import End
from mlejax.verdict import Direction, Evidence, superlinear

Array = Any
MAX_RESTARTS = 4
ADVICE_AFTER_TRAINING = (
    "Training ends where it is told to, short of a maximum; so no standard errors come with it. res.subset_errors(...) gives "
    "those of some parameters, and says what they mean; fit(start=res.params_tree, fixed=...) maximises over a few, given "
    "the others."
)
_PROBES = 24
FALLS = b"falls"  # before the bytes of an end: which of its directions plainly fall


@dataclass
class Found:
    """What the ray tests found on the way, the rows at fault, whether the log-likelihood and its score disagree where the end
    is in doubt, and the rows that decide (numbers and words)."""

    directions: tuple[Direction, ...] = ()
    rows: str = ""
    blurred: bool = False
    deciding: tuple[tuple[Any, ...], str] = ((), "")


def search(
    spec: Spec,
    algorithm: Any,
    loaded: Loaded,
    u0: np.ndarray,
    held: Any,
    report: Callable[[int, float], None] | None,
    ended: Ended | None = None,
    known: Any = None,
    seen: Mapping[bytes, np.ndarray] | None = None,
) -> tuple[Spec, Ended, Found]:
    """Optimise; where the end is not clean, test rays, and go on from a higher point if there is one.

    ``ended`` is the optimiser's end where it has been reached already from ``u0``, in the company of other data sets;
    ``seen`` what is known of its rays: the log-likelihoods by the bytes of the points, and by those of the end the
    directions, and which of them plainly fall; ``known`` what Newton's method would evaluate first, at ``u0``, where that
    has been done already.
    """
    data = loaded.problem.data

    def probed(ended: Ended) -> Found:
        # a penalty may tell apart what the rows cannot
        known = regression.null_directions(loaded.designs, spec.space, loaded.rows) if spec.penalty is None else []
        directions = probe_directions(spec, data, held, ended, u0, loaded.hyper, known, seen)
        found = Found(directions)
        if any(d.behaviour == "rises" for d in directions):
            return found
        with np.errstate(all="ignore"):
            if doubtful(ended, spec.space):
                found = replace(found, blurred=blurred(spec, loaded, held, ended))
            return found if known else _settle_flat(spec, loaded, held, ended, found)

    if ended is None:
        spec, ended = run(spec, algorithm, data, u0, held, loaded.hyper, report, known)
    if ended.end == End.INTERRUPTED:
        return spec, ended, Found()
    if not np.isfinite(ended.loglik) or not np.isfinite(ended.score).all():
        return spec, ended, Found(rows=explain(spec, data, ended.u, held, loaded.hyper))
    if ended.information is None:
        return spec, ended, Found()
    found = Found()
    steps = ended.n_steps
    onto = _onto_edges(ended, spec.space)
    if onto is not None:
        spec, again = run(spec, optimize.Newton(), data, onto, held, loaded.hyper, report)
        steps += again.n_steps
        if again.end != End.INTERRUPTED and again.loglik >= ended.loglik - 1e-9 * max(1.0, abs(ended.loglik)):
            ended = again._replace(polished=ended.polished)
    for _ in range(MAX_RESTARTS):
        if clean(ended, spec.space):
            return spec, ended._replace(n_steps=steps), found
        found = probed(ended)
        higher = [d for d in found.directions if d.behaviour == "higher" and d.point is not None]
        point = max(higher, key=lambda d: d.gain).point if higher else None
        if point is None and any(d.behaviour == "ridge" for d in found.directions):
            point = _beside(ended, spec.space, far=True)
        if point is None or ended.end == End.MAX_STEPS:  # the limit on steps is the user's: it is not started anew
            return spec, ended._replace(n_steps=steps), found
        onward = algorithm if isinstance(algorithm, optimize.Newton) else optimize.Newton()
        spec, again = run(spec, onward, data, np.asarray(point), held, loaded.hyper, report)
        steps += again.n_steps
        if again.end == End.INTERRUPTED or not again.loglik > ended.loglik + 1e-8 + 1e-10 * abs(ended.loglik):
            return spec, ended._replace(n_steps=steps), found
        ended = again._replace(polished=ended.polished)
        found = Found()
    return (
        spec,
        ended._replace(n_steps=steps),
        probed(ended) if not clean(ended, spec.space) else found,
    )


def _beside(ended: Ended, space: Space, far: bool = False) -> np.ndarray:
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
        point = _beside(ended, spec.space, far)
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


def _straight(spec: Spec, loaded: Loaded, held: Any, ended: Ended, directions: tuple[Direction, ...]) -> bool:
    """Along the flat directions there is no curvature thirty standard errors away either, or that cannot be told."""
    diagonal = np.diag(np.asarray(ended.information))
    plain = np.maximum(1.0, np.abs(ended.u))
    error = np.where(diagonal > 0, np.minimum(plain, 1.0 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))), plain)
    moved = np.minimum(0.1 * plain, 30.0 * error) * np.random.default_rng(0).uniform(0.5, 1.5, error.size)
    point = ended.u + moved * interior(spec.space, ended.u)
    points = [point]
    for d in [d for d in directions if d.behaviour == "flat"][: _PROBES // 2 - 1]:
        unit = d.vector / np.max(np.abs(d.vector) / error)
        points += [point + 512.0 * unit, point - 512.0 * unit]
    inside = np.clip(np.stack(points), spec.space.lower, spec.space.upper)
    values = logliks(spec, loaded.problem.data, held, loaded.hyper)(inside)
    if not np.isfinite(values).all():
        return True
    bend = values[1::2] + values[2::2] - 2.0 * values[0]
    return bool(np.abs(bend).max() <= 10.0 * evidence.FLAT + 1e-8 * abs(values[0]))


def _settle_flat(spec: Spec, loaded: Loaded, held: Any, ended: Ended, found: Found) -> Found:
    """Flat directions set apart from those that are flat only where the search ended, and curved ones added."""
    kinds = {d.behaviour for d in found.directions}
    singular = not definiteness(np.asarray(ended.information), interior(spec.space, ended.u))[2]
    if "higher" in kinds or not singular:
        return found
    if "flat" in kinds:
        if _straight(spec, loaded, held, ended, found.directions):
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


def _onto_edges(ended: Ended, space: Space) -> np.ndarray | None:
    """u with the coordinates put on the edges from which they cannot be told, or None if there are none."""
    if not space.boxed or ended.information is None:
        return None
    free = interior(space, ended.u)
    found = linalg.scaled_inverse(ended.information[np.ix_(free, free)])
    if not found.ok:
        return None
    errors = np.zeros(ended.u.size)
    errors[free] = np.sqrt(np.diag(found.inverse))
    near = evidence.at_an_edge(ended.u, errors, space)
    if not near.any():
        return None
    edge = np.where(ended.u - space.lower < space.upper - ended.u, space.lower, space.upper)
    return np.where(near, edge, ended.u)


def interior(space: Space, u: np.ndarray) -> np.ndarray:
    """Flags (p,) of the coordinates that are not on an edge of their box."""
    return np.asarray((u > space.lower) & (u < space.upper))


def clean(ended: Ended, space: Space) -> bool:
    """Converged faster than linearly to positive definite information, off every edge where the score vanishes."""
    if ended.end != End.CONVERGED or ended.information is None:
        return False
    free = interior(space, ended.u)
    found = linalg.scaled_inverse(ended.information[np.ix_(free, free)])
    if not found.smallest > NULL_EIGENVALUE or not superlinear(ended.decrements):
        return False
    # an error far beyond the size of its estimate may be a plateau that the other parameters' convergence hides
    errors = np.zeros(ended.u.size)
    errors[free] = np.sqrt(np.diag(found.inverse))
    if (errors > evidence.believable(ended.u, space)).any() or evidence.at_an_edge(ended.u, errors, space).any():
        return False
    pushing = np.where(ended.u <= space.lower, -ended.score, ended.score)[~free]
    return bool((pushing > 1e-6 * np.sqrt(np.abs(np.diag(ended.information))[~free] + 1e-300)).all())


def doubtful(ended: Ended, space: Space) -> bool:
    """Positive definite, but with a standard error beyond belief."""
    if ended.information is None:
        return False
    free = interior(space, ended.u)
    found = linalg.scaled_inverse(ended.information[np.ix_(free, free)])
    return found.ok and bool((np.sqrt(np.diag(found.inverse)) > evidence.believable(ended.u, space)[free]).any())


def blurred(spec: Spec, loaded: Loaded, held: Any, ended: Ended) -> bool:
    """Rounding of the log-likelihood outweighs its curvature in a coordinate whose error is beyond belief.

    The change of the log-likelihood over half a unit either way is compared with the integral of its score, by Simpson's
    rule: they agree where the formula keeps its digits.
    """
    free = interior(spec.space, ended.u)
    inverse = linalg.scaled_inverse(np.asarray(ended.information)[np.ix_(free, free)]).inverse
    errors = np.sqrt(np.diag(inverse))
    scale = float(np.sum(np.asarray(loaded.problem.data.weights)))
    for k in np.flatnonzero(errors > evidence.believable(ended.u, spec.space)[free]):
        j = np.flatnonzero(free)[k]
        h = 0.5 if evidence.curved(spec.space)[j] else errors[k]
        at = np.tile(ended.u, (2, 1))
        at[:, j] += [-h, h]
        low, high = (
            [np.asarray(a) for a in value_and_score(spec, u, loaded.problem.data, held, loaded.hyper)]
            for u in np.clip(at, spec.space.lower, spec.space.upper)
        )
        if not np.isfinite([float(low[0]), float(high[0])]).all():
            continue  # the numbers end there, which ray tests see
        step = scale * (float(low[0]) - float(high[0]))
        slope = -scale * (float(low[1][j]) + float(high[1][j])) + 4.0 * float(ended.score[j])
        falls = ended.loglik + scale * np.array([float(low[0]), float(high[0])])
        if not abs(step - h / 3.0 * slope) <= 0.05 * np.abs(falls).max() + 1e-9:
            return True
    return False


def definiteness(information: np.ndarray, free: np.ndarray) -> tuple[float, float, bool]:
    """Smallest eigenvalue and condition of the scaled information over the given coordinates, and whether it stands."""
    found = linalg.scaled_inverse(information[np.ix_(free, free)])
    return found.smallest, found.condition, found.ok


def logliks(
    spec: Spec, data: Any, held: Any, hyper: Any = None, seen: Mapping[bytes, np.ndarray] | None = None
) -> evidence.LogLik:
    """(Penalised) log-likelihoods (m,) at up to ``_PROBES`` points (m, p), by one compiled program whatever m."""

    def at(points: np.ndarray) -> np.ndarray:
        if seen is not None and (key := points.tobytes()) in seen:
            return seen[key]
        padded = np.resize(points, (_PROBES, points.shape[1]))
        return np.asarray(loglik_many(spec, padded, data, held, hyper))[: len(points)]

    return at


def probe_directions(
    spec: Spec,
    data: Any,
    held: Any,
    ended: Ended,
    u0: np.ndarray,
    hyper: Any = None,
    known: Sequence[np.ndarray] = (),
    seen: Mapping[bytes, np.ndarray] | None = None,
) -> tuple[Direction, ...]:
    """What the log-likelihood does along every suspicious direction from where the search ended.

    ``known`` directions are flat whatever the function is (collinear columns of a design); the others are followed
    without their part in them, where rounding could pass for a rise.
    """
    assert ended.information is not None
    space = spec.space
    along = logliks(spec, data, held, hyper, seen)
    ready = None if seen is None or known else seen.get(ended.u.tobytes())
    vectors = followed(spec, ended, u0, known) if ready is None else list(ready)
    falls = np.zeros(len(vectors), bool) if seen is None or ready is None else seen[FALLS + ended.u.tobytes()]
    flat = tuple(evidence.flat_direction(v, ended.u, ended.loglik, space, held) for v in known)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        found = tuple(
            Direction("falls", v)
            if fell
            else evidence.probe(v, ended.u, ended.loglik, ended.score, ended.information, along, space, held)
            for v, fell in zip(vectors, falls, strict=True)
        )
        if not flat and not any(d.behaviour in ("rises", "higher", "flat") for d in found):
            found += _natural_rays(spec, held, ended, u0, along)
        if not any(d.behaviour == "rises" for d in found):
            found += _runaways(space, held, ended, u0, along)
    return _independent(flat + found, ended)


def _independent(found: tuple[Direction, ...], ended: Ended) -> tuple[Direction, ...]:
    """Without the flat directions that others, of fewer names, already span, each coordinate in its own scale."""
    flats = sorted((d for d in found if d.behaviour == "flat"), key=lambda d: len(d.names))
    if len(flats) < 2:
        return found
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


def _runaways(space: Space, held: Any, ended: Ended, u0: np.ndarray, along: evidence.LogLik) -> tuple[Direction, ...]:
    """Scales and probabilities that the search carried to the end of the numbers without a stop: where it gave up, rounding
    hides whether the log-likelihood still rises."""
    travelled = ended.u - u0
    away = evidence.curved(space) & (np.abs(travelled) > evidence.ABSURD_LOG)
    if ended.end == End.CONVERGED or not away.any():
        return ()
    out = []
    for j in np.flatnonzero(away):
        back = ended.u.copy()
        back[j] -= np.sign(travelled[j]) * 10.0
        gain = ended.loglik - float(along(back[None])[0])
        vector = np.zeros_like(back)
        vector[j] = np.sign(travelled[j])
        if gain > 0:
            movement, names = evidence.describe_movement(ended.u, ended.u + 10.0 * vector, space, held)
            out.append(Direction("rises", vector, gain, ended.loglik, movement, names, bounded=gain < 1.0))
    return tuple(out)


@partial(compiled, static=("space",))
def _u_of_theta(space: Space, theta: Array, fixed: Array | None) -> Array:
    return jax.vmap(lambda t: space.u_from_params(space.params_from_theta(t, fixed)))(theta)


@partial(compiled, static=("space",))
def _theta_of_u(space: Space, u: Array, fixed: Array | None) -> Array:
    return space.theta_from_u(u, fixed)


def _natural_rays(spec: Spec, held: Any, ended: Ended, u0: np.ndarray, along: evidence.LogLik) -> tuple[Direction, ...]:
    """Rays that are straight in natural coordinates, where u bends them: cutpoints that part, say."""
    space = spec.space
    joint = any(not leaf.transform.elementwise for leaf in space.leaves if leaf.n_free)
    if not joint or space.boxed or not interior(space, ended.u).all():
        return ()
    at, _ = at_optimum(spec, ended.u, ended.score, ended.information, held)
    theta, score, information = (np.asarray(a) for a in (at.theta, at.score, at.information))

    def to_u(points: np.ndarray) -> np.ndarray:
        padded = np.resize(points, (_PROBES, theta.size))
        return np.asarray(_u_of_theta(space, padded, held))[: len(points)]

    nothing = np.full(theta.size, np.inf)
    chart = evidence.Chart(-nothing, nothing, to_u)
    origin = np.asarray(_theta_of_u(space, u0, held))
    vectors = evidence.suspicious_directions(theta, score, information, np.ones(theta.size, bool), origin)
    return tuple(
        evidence.probe(v, theta, ended.loglik, score, information, lambda t: along(to_u(t)), space, held, chart=chart)
        for v in vectors[: _PROBES // 2]
    )


def followed(spec: Spec, ended: Ended, u0: np.ndarray, known: Sequence[np.ndarray] = ()) -> list[np.ndarray]:
    """The directions (p,) that are followed from where a search ended."""
    assert ended.information is not None
    free = interior(spec.space, ended.u)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        vectors = evidence.suspicious_directions(ended.u, ended.score, ended.information, free, u0)
    for j in np.flatnonzero(~free):
        inward = np.zeros_like(ended.u)
        inward[j] = 1.0 if ended.u[j] <= spec.space.lower[j] else -1.0
        vectors.append(inward)
    return evidence.without(vectors, known) if known else vectors


def explain(spec: Spec, data: Any, u: np.ndarray, held: Any, hyper: Any = None) -> str:
    """Which rows and parameters make the log-likelihood or its score not finite at u."""
    values, scores = (np.asarray(a) for a in evaluate_rows(spec, u, data, held))
    n = n_contributions(data)
    theta = np.asarray(spec.space.theta_from_u(u, held))
    at = ", ".join(f"{name} = {x:.6g}" for name, x in list(zip(spec.space.theta_labels, theta, strict=True))[:6])
    found = evidence.explain_non_finite(values[:n], scores[:n], spec.space.theta_labels, at)
    if not found and spec.reduction is not None:
        return (
            f"the information is not positive definite at {at}, or not finite, so that bias reduction "
            f"({spec.reduction.kind}) is not defined there"
        )
    return found or (
        f"the penalty, its gradient or its curvature is not finite at {at}"
        if spec.penalty is not None and not finite_penalty(spec, u, held, hyper)
        else f"the sum of the log-likelihood or its score overflows at {at}"
    )


def evidence_at(spec: Spec, held: Any, ended: Ended, found: Found) -> Evidence:
    """What :func:`mlejax.verdict.judge` looks at."""
    space = spec.space
    free = interior(space, ended.u)
    smallest, condition, definite = float("nan"), float("nan"), False
    if ended.information is not None:
        smallest, condition, definite = definiteness(ended.information, free)
    theta = np.asarray(space.theta_from_u(ended.u, held)) if not free.all() else ended.u
    edges = tuple((space.theta_labels[j], float(theta[j]), float(ended.score[j])) for j in np.flatnonzero(~free))
    return Evidence(
        end=ended.end,
        decrement=ended.decrement,
        decrements=ended.decrements,
        smallest_eigenvalue=smallest,
        condition=condition,
        definite=definite,
        edges=edges,
        directions=found.directions,
        doubtful=doubtful(ended, space),
        blurred=found.blurred,
        rows=found.rows,
        deciding=found.deciding,
        n_steps=ended.n_steps,
        dense=ended.information is not None,
        said=ended.message,
        advice=ADVICE_AFTER_TRAINING if ended.message else "",
    )
