"""Fits of models with random effects or latent variables; the number of quadrature points is chosen automatically.

At the estimate, q points are compared with 2 q + 1: q is accepted if the estimates differ by at most 1e-3 standard errors,
standard errors by 1e-3 relative, the log-likelihood by 1e-4, and the ten units that differ most by 1e-4 from a fixed grid.  The
fit then continues with 2 q + 1 points, which gives the results.  If q is not accepted, 2 q + 1 are compared with 4 q + 3, and so
on.  From 1,000 units of one latent on, 9 points are not accepted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mlejax import linalg, misuse, optimize
from mlejax.data import ingest
from mlejax.data.streams import Parquet
from mlejax.execution import float64, limits
from mlejax.fit.continuing import continued
from mlejax.fit.diagnose.ends import interior
from mlejax.fit.finish.finish import Fit, Integration
from mlejax.fit.finish.natural import estimates
from mlejax.fit.latents.simulated_integrals import simulated
from mlejax.fit.latents.with_classes import fit_with_classes, with_classes_named
from mlejax.fit.latents.worst_units import without_mode, worst_units
from mlejax.fit.prepare.streaming import AnyEvaluator, evaluator_of, is_stream, keep_passes
from mlejax.fit.recipe import fit_once
from mlejax.latent import Draws, Quadrature, Sobol, checks, integrated, marginal_in, marginal_of, way_of
from mlejax.likelihood import Likelihood
from mlejax.objective import Evaluation
from mlejax.optimize import OptimizeResult
from mlejax.shapes import Bool, Data, Float, Host
from mlejax.status import End
from mlejax.verdict import ConvergenceWarning

FIRST = {1: 9, 2: 9, 3: 7}  # points of each dimension, by number of latents
MANY_UNITS, MANY_FIRST = 1_000, 19  # from so many units of one latent, 9 points are hardly ever enough for the sum
SAMPLED = 16_384  # rows in which units are counted
MOST = {1: 159, 2: 79, 3: 15}
SHIFT, ERRORS, LOGLIK = 1e-3, 1e-3, 1e-4
# With quadrature points that are fixed during a step the score is not exact, and convergence is slow near the optimum.
FIXED_MODE_TOL, FIXED_MODE_STEPS = 1e-7, 60
SAME = 1e-6  # standard errors: more points that move no estimate by more end where fewer points did
NO_STEP, MOST_ENDING = 1e-12, 6  # standard errors of the last Newton step with more points, and the most decrements kept
SINGULAR = 1e-8  # eigenvalue of correlations


def fit(likelihood: Likelihood, data: Data, *, integrate: Any = "auto", **options: Any) -> Fit:
    """Fit one data set by maximum likelihood, random effects integrated out, and warn if the verdict is not a maximum.

    Args:
        likelihood: the model.
        data: as ``Model.fit`` takes them.
        integrate: how random effects are integrated out, as in ``Model.fit``.
        **options: fields of :class:`mlejax.fit.prepare.request.Request`.

    Raises:
        ValueError: bias reduction for a model with random effects or latent classes, simulation for a stream; errors of
            `fit_once`.
    """
    how, marginal = way_of(likelihood, integrate), marginal_of(likelihood)
    if isinstance(how, (Sobol, Draws)) and is_stream(data):
        raise ValueError(
            f"integrate={how!r} is not supported for a stream, whose draws for every unit would have to be in memory: leave out "
            "integrate=, or use 'laplace'"
        )
    if likelihood.joint is not None and options.get("bias_reduction") is not None:
        away = (
            "a penalty on the class probabilities, penalty=, keeps them away from 0"
            if marginal is None
            else "a penalty keeps a standard deviation away from 0, penalty=lambda p: -jnp.log(p['sd'])"
        )
        raise ValueError(f"bias_reduction= is not supported for models with latents: leave it out; {away}")
    if marginal is None:
        one = fit_once if likelihood.joint is None else fit_with_classes
        done = one(likelihood, data, **options)
    else:
        found = _chosen(likelihood, data, options) if how is None else _asked(likelihood, how, data, options)
        done = _with_units_named(_with_rank(found))
    keep_passes(done.loaded, None)
    if not done.verdict.converged:
        verdict = done.verdict
        misuse.warn(f"{likelihood.name}: {verdict}. {verdict.advice}", ConvergenceWarning, verdict.code, stacklevel=4)
    return done


def with_latents_named(done: Fit) -> Fit:
    """Return one fit of a batch with a verdict that names units, classes and covariances, as the verdict of a single fit does.
    """
    marginal = marginal_of(done.spec.likelihood)
    if marginal is None:
        return done if done.spec.likelihood.joint is None else with_classes_named(done)
    assert isinstance(marginal.how, Quadrature)
    done = replace(done, integration=Integration(tuple(marginal.latents), marginal.how.points))
    return _with_units_named(_with_rank(done))


def _asked(likelihood: Likelihood, how: Quadrature | Sobol | Draws, data: Data, options: dict[str, Any]) -> Fit:
    """Return the fit by the integration method ``how`` that the user gave; ``options``: further arguments of the fit."""
    if not isinstance(how, Quadrature):
        return simulated(likelihood, how, data, options)
    done = fit_once(integrated(likelihood, how), data, **options)
    return replace(done, integration=Integration(tuple(marginal_in(done.spec.likelihood).latents), how.points))


def _chosen(likelihood: Likelihood, data: Data, options: dict[str, Any]) -> Fit:
    """Return the fit by quadrature, with more points until they are accurate enough (see the module docstring).

    The verdict is "not_computable" if the largest number of points (159, 79, 15 for one, two, three effects) is not enough.
    """
    marginal = marginal_in(likelihood)
    method = optimize.resolve(options.get("method", "newton"))
    points = MANY_FIRST if marginal.q == 1 and _many_units(likelihood, data) else FIRST[marginal.q]
    if isinstance(method, optimize.Newton):
        method = replace(method, tol=max(method.tol, FIXED_MODE_TOL), max_steps=min(method.max_steps, FIXED_MODE_STEPS))
    how = Quadrature(points, fixed_mode=not _many_rows(data))
    done = fit_once(integrated(likelihood, how), data, **{**options, "method": method})
    if done.information is None or done.u.size == 0:
        return replace(done, integration=Integration(tuple(marginal.latents), points))
    if done.verdict.code == "stopped_early":  # so few points that their score is not that of points that move
        done = _continued(done, Quadrature(points))
    while True:
        exact = not _quadrature(done).fixed_mode
        finer = replace(_quadrature(done), points=2 * points + 1, fixed_mode=True)
        spec = replace(done.spec, likelihood=integrated(done.spec.likelihood, finer))
        with float64():
            fine = evaluator_of(spec, done.loaded, done.fixed)
            at = fine.evaluate(done.u[None], 2)
        found = _against(done, finer, at)
        if points < MANY_FIRST and marginal.q == 1 and int(done.loaded.problem.data.n) >= MANY_UNITS:
            found = replace(found, accepted=False)  # as where the number of units was known before
        last = found.accepted or finer.points >= MOST[marginal.q] or not done.verdict.converged
        again, reached = done, _end_at(fine, done, at) if found.accepted else None
        if reached is None:
            search, tol = replace(finer, fixed_mode=not exact), optimize.Newton.tol if last else FIXED_MODE_TOL
            again = _continued(done, search, None if exact else fine, tol=tol)
            reached = _end_at(fine, again) if found.accepted else None
        if reached is not None:
            again = _continued(again, finer, fine, reached)
        done, points = replace(again, integration=replace(found, points=finer.points)), finer.points
        if last:
            return done if found.accepted or not done.verdict.converged else _inaccurate(done)


def _many_units(likelihood: Likelihood, data: Data) -> bool:
    """True for data in memory with at least 1,000 units in 16,384 rows that are spread over all."""
    if is_stream(data):
        return False
    table = ingest(data)
    labels = np.asarray(table.column(likelihood.unit) if likelihood.unit in table else 0)
    some = labels[:: max(len(labels) // SAMPLED, 1)].tolist() if labels.ndim == 1 else []
    return len(set(map(str, some))) >= MANY_UNITS


def _many_rows(data: Data) -> bool:
    """True for a stream, unless it is files of fewer than ``limits().sampled_rows`` rows (65,536 by default).

    With scores that are not exact, a search over many units may need very many steps at a small decrement, and each step is a
    pass over the data.
    """
    if isinstance(data, Parquet):
        return sum(group.n_rows for group in data.partitions()) >= limits().sampled_rows
    return is_stream(data)


def _with_units_named(done: Fit) -> Fit:
    """Replace the verdict by one that names the units whose integrand has no maximum (possible with a user's own log density).

    Unchanged if there are none, or if all latent variables are normal.
    """
    marginal = marginal_in(done.spec.likelihood)
    normal = all(latent.law == "normal" for latent in marginal.latents.values())
    if normal or marginal.crossed:
        return done
    with float64():
        labels = without_mode(done)
    if not labels:
        return done
    more = f" (and of {len(labels) - 1} more)" if len(labels) > 1 else ""
    verdict = done.verdict.amended(
        "not_computable",
        f"{done.spec.likelihood.unit} {labels[0]}{more}: the joint log density of its rows and {', '.join(marginal.latents)} has "
        f"no maximum in {', '.join(marginal.latents)}, so that its integral cannot be computed",
        advice=(
            "Give the latent a distribution, mle.Latent(by=..., law='normal') or a log density that falls faster than the "
            "log-likelihood of the rows rises, or leave out units whose outcomes are all alike"
        ),
    )
    return replace(done, verdict=verdict)


def _with_rank(done: Fit) -> Fit:
    """Add the rank of singular covariance matrices of random effects to the statement of a ``boundary`` verdict.

    Unchanged for another verdict, and if none is singular.
    """
    if done.verdict.code != "boundary":
        return done
    marginal, texts = marginal_in(done.spec.likelihood), []
    with float64():
        found = {n: np.asarray(marginal.covariance(n, done.params)) for n, v in marginal.latents.items() if v.cov}
    for name, covariance in found.items():
        rank = rank_of(covariance)
        if len(covariance) > 1 and rank < len(covariance):
            texts.append(f"the covariance of {name} is singular: rank {rank} of {len(covariance)}")
    if not texts:
        return done
    return replace(done, verdict=done.verdict.amended(note="; ".join(texts)))


def rank_of(covariance: np.ndarray) -> int:
    """Return the rank of a covariance matrix, (q, q): the number of eigenvalues of its correlation matrix above 1e-8.

    Effects of variance 0 do not count.
    """
    sd = np.sqrt(np.diag(covariance))
    there = sd > 0
    correlations = covariance[np.ix_(there, there)] / np.outer(sd[there], sd[there])
    return int((np.linalg.eigvalsh(correlations) > SINGULAR).sum()) if there.any() else 0


def _inaccurate(done: Fit) -> Fit:
    """Return the fit with the verdict ``not_computable``, because its integrals are not accurate enough."""
    found = done.integration
    assert found is not None
    verdict = done.verdict.amended(
        "not_computable",
        f"the integrals over the latents are not accurate: with {found.points} quadrature points instead of {found.tried} an "
        f"estimate changes by {found.shift:.2g} standard errors and the log-likelihood by {found.loglik:.2g}, and the "
        f"log-likelihood of {done.spec.likelihood.unit} {found.worst} differs by {found.off:.2g} from that on a fixed grid",
        advice=(
            "Use more points, integrate=mle.Quadrature(points), or look at that unit: if its integrand has several modes or "
            "heavy tails, declare the latent on another scale"
        ),
    )
    return replace(done, verdict=verdict)


def _quadrature(fit: Fit) -> Quadrature:
    """Return the quadrature by which the random effects of a fit were integrated out."""
    how = marginal_in(fit.spec.likelihood).how
    assert isinstance(how, Quadrature)
    return how


def _end_at(fine: AnyEvaluator, done: Fit, at: Evaluation | None = None) -> OptimizeResult | None:
    """Return the estimate as the converged result of a search with more quadrature points, without making that search; or None.

    It is None unless the fit is verified and a Newton step with more points moves its estimate by at most 1e-6 standard errors.
    Newton steps are taken until the next is shorter than 1e-12 standard errors (at most five), so that the end does not depend
    on the start, up to rounding.

    Args:
        fine: evaluator with more points, whose derivatives treat mode and curvature as constants.
        done: the fit, by other points.
        at: evaluation by ``fine`` at its estimate, if known.
    """
    if done.verdict.code != "verified":
        return None
    with float64():
        at = fine.evaluate(done.u[None], 2) if at is None else at
        space, p = fine.spec.space, at.u.shape[1]
        free = interior(space, at.u[0])
        step, decrement = _newton_step(at, free)
        if not decrement <= p * SAME**2:
            return None
        path = [FIXED_MODE_TOL, decrement]
        while path[-1] > p * NO_STEP**2 and len(path) < MOST_ENDING:  # convergence is linear, since modes do not move
            there = fine.evaluate(np.clip(at.u + step, space.lower, space.upper), 2)
            step, decrement = _newton_step(there, free)
            if decrement > path[-1]:  # by rounding
                break
            at = there
            path.append(decrement)
    assert at.score is not None
    empty = OptimizeResult.empty(1, p, dense=True)
    decrements = np.full(empty.decrements.shape, np.nan)
    path = path[-decrements.size :]
    decrements[:, -len(path) :] = path
    converged = np.full(1, int(End.CONVERGED))
    return empty._replace(
        u=at.u, loglik=at.loglik, score=at.score, information=at.information, decrements=decrements, status=converged,
        mismatch=np.zeros(1),
    )  # fmt: skip


def _newton_step(at: Evaluation, free: Bool[Host, " p"]) -> tuple[Float[Host, "1 p"], float]:
    """Return the Newton step of the coordinates ``free`` (mask), 0 for others, and its decrement; 0 and inf if the information is
    not positive definite.
    """
    assert at.score is not None
    assert at.information is not None
    step = np.zeros_like(at.u)
    inverse = linalg.scaled_inverse(linalg.symmetric(at.information[0]).block(free))
    if not (inverse.ok and np.isfinite(at.score).all()):
        return step, float("inf")
    score = at.score[0, free]
    step[0, free] = inverse.inverse @ score
    return step, float(score @ step[0, free])


def _continued(
    done: Fit,
    how: Quadrature,
    evaluator: AnyEvaluator | None = None,
    reached: OptimizeResult | None = None,
    tol: float = optimize.Newton.tol,
) -> Fit:
    """Continue the fit from its estimate with another quadrature; the numbers of steps of both searches are added; further
    arguments as in `continued`.
    """
    spec = replace(done.spec, likelihood=integrated(done.spec.likelihood, how))
    u = done.u if reached is None else reached.u[0]
    return continued(replace(done, spec=spec), u, done.note, evaluator, reached, tol).after(done)


def _against(done: Fit, finer: Quadrature, at: Evaluation) -> Integration:
    """Compare the quadrature of a fit with a ``finer`` one at its estimate, where ``at`` is the evaluation by the finer one.

    The units with the largest differences are also integrated on a fixed grid.

    Returns:
        How far estimate, standard errors and log-likelihood would move, the unit whose integral is least accurate, and whether
        all that is within the tolerances (``accepted``).
    """
    with float64():
        u, spec = done.u, done.spec
        points, loglik = _quadrature(done).points, done.llf / done.loaded.scale
        if spec.adjusted:  # the fit has score and information of the log-likelihood itself
            own = evaluator_of(spec, done.loaded, done.fixed).evaluate(u[None], 2)
            before, loglik = _natural(own, done), float(own.loglik[0])
        else:
            assert done.information is not None
            before = done.score / done.loaded.scale, done.information / done.loaded.scale
        shift, errors = _compared(before, _natural(at, done), interior(spec.space, u))
        worst, some = worst_units(done, finer)
        integrals = worst.found
        grid = checks.on_grid(spec, u, some, done.fixed, integrals.modes, integrals.curvatures)
        off = np.abs(grid - integrals.values[:, 1])
        largest = int(np.argmax(np.nan_to_num(off, nan=np.inf)))
        return Integration(
            latents=tuple(marginal_in(done.spec.likelihood).latents),
            points=points,
            tried=points,
            shift=shift,
            errors=errors,
            loglik=abs(float(at.loglik[0]) - loglik) * done.loaded.scale,
            worst=str(worst.labels[largest]),
            off=float(np.nan_to_num(off, nan=np.inf).max()),
            accepted=False,
        ).judged(SHIFT, ERRORS, LOGLIK)


def _natural(at: Evaluation, done: Fit) -> tuple[Float[Host, " p"], Float[Host, "p p"]]:
    """Return score, (p,), and information, (p, p), with respect to theta, from an evaluation of one data set in u."""
    assert at.score is not None
    assert at.information is not None
    found = estimates(done.spec.space, at.u[0], at.score[0], at.information[0], done.fixed)[0]
    return found.score, found.information


def _compared(one: tuple[Any, Any], two: tuple[Any, Any], free: np.ndarray) -> tuple[float, float]:
    """Compare scores and information of two evaluations at one point, over the coordinates ``free`` (mask).

    Returns:
        The largest change of an estimate (one Newton step) in standard errors, and the largest relative change of a standard
        error; inf if an information is not positive definite.
    """
    first, second = (linalg.symmetric(information).block(free) for _, information in (one, two))
    a, b = linalg.scaled_inverse(first), linalg.scaled_inverse(second)
    if not (a.ok and b.ok):
        return float("inf"), float("inf")
    before, after = np.sqrt(a.inverse.diagonal()), np.sqrt(b.inverse.diagonal())
    moved = np.abs(b.inverse @ two[0][free] - a.inverse @ one[0][free]) / after
    return float(moved.max(initial=0.0)), float(np.abs(after / before - 1.0).max(initial=0.0))
