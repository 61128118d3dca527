"""From a start to an end on the host: optimise; where the end is not clean, test rays, and go on from a higher point."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlejax import linalg, optimize
from mlejax.covariance import NULL_EIGENVALUE
from mlejax.fit import evidence, regression
from mlejax.fit.loading import Loaded, n_contributions
from mlejax.fit.penalties import finite_penalty
from mlejax.fit.programs import Ended, evaluate_rows, loglik_many, run
from mlejax.objective import Spec
from mlejax.parameters import Space
from mlejax.status import End
from mlejax.verdict import Direction, Evidence, superlinear

MAX_RESTARTS = 4
ADVICE_AFTER_TRAINING = (
    "Training ends where it is told to, short of a maximum; so no standard errors come with it. res.subset_errors(...) gives "
    "those of some parameters, and says what they mean; fit(start=res.params_tree, fixed=...) maximises over a few, given "
    "the others."
)
ABSURD_ERROR = 1e3
_PROBES = 24


@dataclass
class Found:
    """What the ray tests found on the way, the rows at fault, and those that decide (numbers and words)."""

    directions: tuple[Direction, ...] = ()
    rows: str = ""
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
    ``seen`` what is known of its rays: the log-likelihoods by the bytes of the points, and the directions by those of the
    end; ``known`` what Newton's method would evaluate first, at ``u0``, where that has been done already.
    """
    data = loaded.problem.data

    def probed(ended: Ended) -> tuple[Direction, ...]:
        # a penalty may tell apart what the rows cannot
        known = regression.null_directions(loaded.designs, spec.space, loaded.rows) if spec.penalty is None else []
        return probe_directions(spec, data, held, ended, u0, loaded.hyper, known, seen)

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
    for _ in range(MAX_RESTARTS):
        if clean(ended, spec.space):
            return spec, ended._replace(n_steps=steps), found
        found = Found(probed(ended))
        higher = [d for d in found.directions if d.behaviour == "higher" and d.point is not None]
        if not higher or ended.end == End.MAX_STEPS:  # the limit on steps is the user's: it is not started anew
            return spec, ended._replace(n_steps=steps), found
        best = max(higher, key=lambda d: d.gain)
        onward = algorithm if isinstance(algorithm, optimize.Newton) else optimize.Newton()
        spec, again = run(spec, onward, data, np.asarray(best.point), held, loaded.hyper, report)
        steps += again.n_steps
        if again.end == End.INTERRUPTED or not again.loglik > ended.loglik:
            return spec, ended._replace(n_steps=steps), found
        ended = again._replace(polished=ended.polished)
        found = Found()
    return (
        spec,
        ended._replace(n_steps=steps),
        Found(probed(ended)) if not clean(ended, spec.space) else found,
    )


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
    if (np.sqrt(np.diag(found.inverse)) > ABSURD_ERROR * np.maximum(1.0, np.abs(ended.u[free]))).any():
        return False
    pushing = np.where(ended.u <= space.lower, -ended.score, ended.score)[~free]
    return bool((pushing > 1e-6 * np.sqrt(np.abs(np.diag(ended.information))[~free] + 1e-300)).all())


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
    along = logliks(spec, data, held, hyper, seen)
    ready = None if seen is None or known else seen.get(ended.u.tobytes())
    vectors = followed(spec, ended, u0, known) if ready is None else list(ready)
    flat = tuple(evidence.flat_direction(v, ended.u, ended.loglik, spec.space, held) for v in known)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return flat + tuple(
            evidence.probe(v, ended.u, ended.loglik, ended.score, ended.information, along, spec.space, held)
            for v in vectors
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
        rows=found.rows,
        deciding=found.deciding,
        n_steps=ended.n_steps,
        dense=ended.information is not None,
        said=ended.message,
        advice=ADVICE_AFTER_TRAINING if ended.message else "",
    )
