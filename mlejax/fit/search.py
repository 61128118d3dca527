"""From a start to an end on the host: optimise; where the end is not clean, test rays, and go on from a higher point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from mlejax import linalg, optimize
from mlejax.execution import compiled
from mlejax.fit import evidence, regression, standing, words
from mlejax.fit.evidence import Asks, answered
from mlejax.fit.flats import beside, independent, settle_flat
from mlejax.fit.loading import Loaded, n_contributions
from mlejax.fit.penalties import finite_penalty
from mlejax.fit.programs import PROBES, Ended, First, at_optimum, evaluate_rows, in_parts, logliks, run, value_and_score
from mlejax.fit.standing import Found, beyond_belief, clean, doubtful, interior, inverse_over, onto_edges
from mlejax.objective import Spec
from mlejax.parameters import Space
from mlejax.status import End
from mlejax.verdict import Direction, Evidence

Array = Any
MAX_RESTARTS = 4
ADVICE_AFTER_TRAINING = (
    "Training ends where it is told to, short of a maximum; so no standard errors come with it. res.subset_errors(...) gives "
    "those of some parameters, and says what they mean; fit(start=res.params_tree, fixed=...) maximises over a few, given "
    "the others."
)


class Looked(NamedTuple):
    """The directions that will be followed from one end u (p,)."""

    u: np.ndarray
    looks: Sequence[evidence.Look]


def search(
    spec: Spec,
    algorithm: Any,
    loaded: Loaded,
    u0: np.ndarray,
    held: Any,
    report: Callable[[int, float], None] | None,
    ended: Ended | None = None,
    first: First | None = None,
) -> tuple[Spec, Ended, Found]:
    """Optimise; where the end is not clean, test rays, and go on from a higher point if there is one.

    ``ended`` is the optimiser's end where it has been reached already from ``u0``; ``first`` as in
    :func:`mlejax.fit.programs.run`.
    """
    if ended is None:
        spec, ended = run(spec, algorithm, loaded.problem.data, u0, held, loaded.hyper, report, first)
    asks = onwards(spec, algorithm, loaded, u0, held, report, ended)
    return answered(asks, logliks(spec, loaded.problem.data, held, loaded.hyper))


def onwards(
    spec: Spec,
    algorithm: Any,
    loaded: Loaded,
    u0: np.ndarray,
    held: Any,
    report: Callable[[int, float], None] | None,
    ended: Ended,
    laid: Looked | None = None,
) -> Asks[tuple[Spec, Ended, Found]]:
    """:func:`search` from the optimiser's end on, asking for the log-likelihoods along rays, so that many data sets may be
    answered together; ``laid`` are the directions from that end, where they have been laid out already."""
    data, space = loaded.problem.data, spec.space
    if ended.end == End.INTERRUPTED:
        return spec, ended, Found()
    if not np.isfinite(ended.loglik) or not linalg.all_finite(ended.score):
        return spec, ended, Found(rows=explain(spec, data, ended.u, held, loaded.hyper))
    if ended.information is None:
        return spec, ended, Found()
    steps = ended.n_steps
    onto = onto_edges(ended, space)
    if onto is not None:
        spec, again = run(spec, optimize.Newton(), data, onto, held, loaded.hyper, report)
        steps += again.n_steps
        if again.end != End.INTERRUPTED and again.loglik >= ended.loglik - 1e-9 * max(1.0, abs(ended.loglik)):
            ended = again._replace(polished=ended.polished)
    for restarts in range(MAX_RESTARTS + 1):
        found = Found() if clean(ended, space) else (yield from _probed(spec, loaded, u0, held, ended, laid))
        higher = [d for d in found.directions if d.behaviour == "higher" and d.point is not None]
        point = max(higher, key=lambda d: d.gain).point if higher else None
        if point is None and any(d.behaviour == "ridge" for d in found.directions):
            point = beside(ended, space, far=True)
        # the limit on steps is the user's: it is not started anew
        if point is None or ended.end == End.MAX_STEPS or restarts == MAX_RESTARTS:
            break
        onward = algorithm if isinstance(algorithm, optimize.Newton) else optimize.Newton()
        spec, again = run(spec, onward, data, np.asarray(point), held, loaded.hyper, report)
        steps += again.n_steps
        if again.end == End.INTERRUPTED or not again.loglik > ended.loglik + 1e-8 + 1e-10 * abs(ended.loglik):
            break
        ended = again._replace(polished=ended.polished)
    return spec, ended._replace(n_steps=steps), found


def _probed(spec: Spec, loaded: Loaded, u0: np.ndarray, held: Any, ended: Ended, laid: Looked | None) -> Asks[Found]:
    """What is found around an end that is not clean."""
    # a penalty may tell apart what the rows cannot
    known = regression.null_directions(loaded.designs, spec.space, loaded.rows) if spec.penalty is None else []
    found = Found((yield from probe_directions(spec, held, ended, u0, known, laid)))
    if any(d.behaviour == "rises" for d in found.directions):
        return found
    if doubtful(ended, spec.space):
        found = replace(found, blurred=blurred(spec, loaded, held, ended))
    return found if known else (yield from settle_flat(spec, loaded, held, ended, found))


def blurred(spec: Spec, loaded: Loaded, held: Any, ended: Ended) -> bool:
    """Rounding of the log-likelihood outweighs its curvature in a coordinate whose error is beyond belief.

    The change of the log-likelihood over half a unit either way is compared with the integral of its score, by Simpson's
    rule: they agree where the formula keeps its digits.
    """
    free = interior(spec.space, ended.u)
    inverse = linalg.scaled_inverse(np.asarray(ended.information)[np.ix_(free, free)]).inverse
    errors = np.sqrt(np.diag(inverse))
    scale = float(np.sum(np.asarray(loaded.problem.data.weights)))
    for k in np.flatnonzero(errors > standing.believable(ended.u, spec.space)[free]):
        j = np.flatnonzero(free)[k]
        h = 0.5 if standing.curved(spec.space)[j] else errors[k]
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


def probe_directions(
    spec: Spec,
    held: Any,
    ended: Ended,
    u0: np.ndarray,
    known: Sequence[np.ndarray] = (),
    laid: Looked | None = None,
) -> Asks[tuple[Direction, ...]]:
    """What the log-likelihood does along every suspicious direction from where the search ended.

    ``known`` directions are flat whatever the function is (collinear columns of a design); the others are followed
    without their part in them, where rounding could pass for a rise.
    """
    assert ended.information is not None
    space = spec.space
    flat = tuple(evidence.flat_direction(v, ended.u, ended.loglik, space, held) for v in known)
    if laid is None or known or not np.array_equal(laid.u, ended.u):
        vectors = followed(spec, [ended], [u0])[0]
        looks = looks_from(spec, ended, evidence.without(vectors, known) if known else vectors)
    else:
        looks = list(laid.looks)
    found = yield from evidence.probe_all(looks, ended.u, ended.loglik, ended.information, space, held)
    if not flat and not any(d.behaviour in ("rises", "higher", "flat") for d in found):
        found += yield from _natural_rays(spec, held, ended, u0)
    if not any(d.behaviour == "rises" for d in found):
        found += yield from _runaways(space, held, ended, u0)
    return independent(flat + found, ended)


def _runaways(space: Space, held: Any, ended: Ended, u0: np.ndarray) -> Asks[tuple[Direction, ...]]:
    """Scales and probabilities that the search carried to the end of the numbers without a stop: where it gave up, rounding
    hides whether the log-likelihood still rises."""
    travelled = ended.u - u0
    away = standing.curved(space) & (np.abs(travelled) > standing.ABSURD_LOG)
    if ended.end == End.CONVERGED or not away.any():
        return ()
    out = []
    for j in np.flatnonzero(away):
        back = ended.u.copy()
        back[j] -= np.sign(travelled[j]) * 10.0
        gain = ended.loglik - float((yield back[None])[0])
        vector = np.zeros_like(back)
        vector[j] = np.sign(travelled[j])
        if gain > 0:
            said = partial(words.describe_movement, ended.u, ended.u + 10.0 * vector, space, held)
            out.append(Direction("rises", vector, gain, ended.loglik, said, bounded=gain < 1.0))
    return tuple(out)


@partial(compiled, static=("space",))
def _u_of_theta(space: Space, theta: Array, fixed: Array | None) -> Array:
    return jax.vmap(lambda t: space.u_from_params(space.params_from_theta(t, fixed)))(theta)


@partial(compiled, static=("space",))
def _theta_of_u(space: Space, u: Array, fixed: Array | None) -> Array:
    return space.theta_from_u(u, fixed)


def _natural_rays(spec: Spec, held: Any, ended: Ended, u0: np.ndarray) -> Asks[tuple[Direction, ...]]:
    """Rays that are straight in natural coordinates, where u bends them: cutpoints that part, say."""
    space = spec.space
    joint = any(not leaf.transform.elementwise for leaf in space.leaves if leaf.n_free)
    if not joint or space.boxed or not interior(space, ended.u).all():
        return ()
    at, _ = at_optimum(spec, ended.u, ended.score, ended.information, held)
    theta, score, information = (np.asarray(a) for a in (at.theta, at.score, at.information))

    nothing = np.full(theta.size, np.inf)
    to_u = partial(in_parts, lambda points: _u_of_theta(space, points, held))
    chart = evidence.Chart(-nothing, nothing, to_u)
    origin = np.asarray(_theta_of_u(space, u0, held))
    ends = (a[None] for a in (theta, score, information, np.ones(theta.size, bool), origin, nothing))
    vectors = evidence.suspicious_directions(*ends)[0]
    looks = evidence.first_looks(vectors[: PROBES // 2], theta, score, information, None)
    return (yield from evidence.probe_all(looks, theta, ended.loglik, information, space, held, chart))


def followed(spec: Spec, ends: Sequence[Ended], origins: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The directions (k, p) that are followed from where each search ended; where it began: ``origins``."""
    space = spec.space
    u, score, information = (np.stack([getattr(e, name) for e in ends]) for name in ("u", "score", "information"))
    free = interior(space, u)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        believed = standing.believable(u, space)
        out = evidence.suspicious_directions(u, score, information, free, np.stack(origins), believed)
    if not free.all():
        inward = np.eye(u.shape[1]) * np.where(u <= space.lower, 1.0, -1.0)[:, :, None]
        out = [np.concatenate([found, rows[~inside]]) for found, rows, inside in zip(out, inward, free, strict=True)]
    return out


def looks_from(spec: Spec, ended: Ended, vectors: Any) -> list[evidence.Look]:
    """These directions as ray tests from where a search ended take them."""
    assert ended.information is not None
    return evidence.first_looks(vectors, ended.u, ended.score, ended.information, standing.curved(spec.space))


def explain(spec: Spec, data: Any, u: np.ndarray, held: Any, hyper: Any = None) -> str:
    """Which rows and parameters make the log-likelihood or its score not finite at u."""
    values, scores = (np.asarray(a) for a in evaluate_rows(spec, u, data, held))
    n = n_contributions(data)
    theta = np.asarray(spec.space.theta_from_u(u, held))
    at = ", ".join(f"{name} = {x:.6g}" for name, x in list(zip(spec.space.theta_labels, theta, strict=True))[:6])
    found = words.explain_non_finite(values[:n], scores[:n], spec.space.theta_labels, at)
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
    smallest, condition, definite, doubted = float("nan"), float("nan"), False, False
    if ended.information is not None:
        inverse, definite, smallest, condition = inverse_over(ended.information, free)
        doubted = definite and beyond_belief(inverse, ended.u, space, free)
    theta = np.asarray(space.theta_from_u(ended.u, held)) if not free.all() else ended.u
    on_edges = () if free.all() else np.flatnonzero(~free)
    edges = tuple((space.theta_labels[j], float(theta[j]), float(ended.score[j])) for j in on_edges)
    return Evidence(
        end=ended.end,
        decrement=ended.decrement,
        decrements=ended.decrements,
        smallest_eigenvalue=smallest,
        condition=condition,
        definite=definite,
        edges=edges,
        directions=found.directions,
        doubtful=doubted,
        blurred=found.blurred,
        rows=found.rows,
        deciding=found.deciding,
        n_steps=ended.n_steps,
        dense=ended.information is not None,
        said=ended.message,
        advice=ADVICE_AFTER_TRAINING if ended.message else "",
    )
