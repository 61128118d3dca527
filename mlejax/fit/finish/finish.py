"""The `Fit`: estimates on the natural scale with their derivatives and verdict, made from the final point of a search."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np

from mlejax import optimize
from mlejax.data import OF_ROWS, DataError
from mlejax.execution import float64, limits
from mlejax.fit.diagnose import Diagnosed, Mapped, bars_of_end, evidence_at, explain, influential_rows, interior, mapped
from mlejax.fit.effects_evaluation import terms_of_rows
from mlejax.fit.elimination_checks import Settling, with_effects_at_end, with_levels_told
from mlejax.fit.finish.natural import estimates
from mlejax.fit.maximise.training import History
from mlejax.fit.prepare.loaded import Loaded, counts
from mlejax.fit.prepare.penalties import Penalised, at_kink, kinks
from mlejax.fit.prepare.streaming import evaluator_of
from mlejax.fit.start import Mode
from mlejax.latent import Markov, mixture_of
from mlejax.likelihood import scores_of_rows
from mlejax.objective import ChunkedEvaluator, SingleEvaluator, Spec, evaluate_one, penalty_value
from mlejax.optimize import Method, OptimizeResult
from mlejax.shapes import Host, PyTree
from mlejax.verdict import Direction, Verdict, judge


@dataclass(frozen=True, eq=False)
class Centred:
    """The information at an estimate in centred and scaled coordinates w, with theta = constant + matrix w.

    Attributes:
        matrix: d theta / d w, (p, p).
        information: minus the Hessian of the log-likelihood with respect to w, (p, p).
        penalised: minus the Hessian of the penalised log-likelihood, (p, p); None without a penalty.
    """

    matrix: np.ndarray
    information: np.ndarray
    penalised: np.ndarray | None = None


@dataclass(frozen=True)
class Integration:
    """How random effects (latents) were integrated out, and how accurately.

    Attributes:
        latents: names of the latents.
        points: number of Gauss-Hermite points per random effect; 1 is Laplace's approximation, 0 the exact sum over
            classes.  For a simulation: number of draws for each unit.
        tried: number q of points that was compared with 2 q + 1; 0 without a comparison.
        shift: largest difference between the two estimates of a parameter, in standard errors; inf if an information is not
            positive definite.
        errors: largest relative difference between the two standard errors of a parameter; inf as ``shift``.
        loglik: difference of the two log-likelihoods.  For a simulation: its expected downward bias, half the sum over units of
            the relative variance of their simulated integrals.
        worst: label of the unit whose log-likelihood differs most from that on a fixed grid, among the ten whose values by q and
            2 q + 1 points differ most.
        off: that difference, log-likelihood units.  Without a comparison ``shift``, ``errors``, ``loglik`` and ``off`` are NaN.
        accepted: True if all of these differences are small, or the sum over classes is exact.
        kind: ``"quadrature"`` or ``"simulation"``.
        repeats: number of independent parts of the draws, whose variation gives Monte Carlo errors; for draws that the user
            gave, their number.
        monte_carlo: Monte Carlo error of each free estimate, including simulation bias, in standard errors of the estimate; empty
            for a quadrature, and if it is not known.
    """

    latents: tuple[str, ...]
    points: int
    tried: int = 0
    shift: float = float("nan")
    errors: float = float("nan")
    loglik: float = float("nan")
    worst: str = ""
    off: float = float("nan")
    accepted: bool = False
    kind: str = "quadrature"
    repeats: int = 0
    monte_carlo: tuple[float, ...] = ()

    def judged(self, shift: float, errors: float, loglik: float) -> Integration:
        """Return a copy with ``accepted`` True if all differences are at most these limits (``off`` at most ``loglik``); False if
        one is larger or NaN.

        ``shift``, ``errors``, ``loglik``: limits of the attributes of the same names.
        """
        good = self.shift <= shift and self.errors <= errors and self.loglik <= loglik and self.off <= loglik
        return replace(self, accepted=good)

    @property
    def statement(self) -> str:
        """How random effects were integrated out, as a phrase for the summary."""
        if self.kind == "simulation":
            text = f"by simulation with {self.points:,} draws"
            if not self.monte_carlo:
                return text
            return f"{text}; Monte Carlo errors of the estimates are at most {max(self.monte_carlo):.1g} standard errors"
        if self.points == 0:
            return "exactly, by a sum over its values"
        if self.points == 1:
            return "by Laplace's approximation"
        text = f"by adaptive quadrature with {self.points} points"
        if not self.tried:
            return text
        moved = f"they move estimates by {self.shift:.1g} standard errors from those of {self.tried} points"
        return f"{text}; {moved}" if self.accepted else f"{text}, which is not enough: {moved}"


@dataclass(frozen=True, eq=False)
class Fit:
    """The numbers of one fit: NumPy arrays, float64.

    Attributes:
        spec: the specification: model, layout of parameters with fixed entries, kind of Hessian.
        loaded: the data.
        fixed: vector with the values of fixed entries, (n_values,), or None.
        u, theta: the estimates in unconstrained coordinates, and the free parameters on the natural scale, (p,) each.
        params: the estimates in the user's structure, natural scale.
        llf: log-likelihood, summed and weighted.
        score: its gradient with respect to theta, (p,).  Without second derivatives: in u, and with the penalty.
        information: minus its Hessian with respect to theta, (p, p); None without second derivatives (first-order methods with
            more than 500 parameters, interrupted ones, and training that no Newton steps ended).
        jacobian: d theta / d u, (p, p); None without second derivatives.
        interior: mask, (p,), of the coordinates that are not at a bound.
        verdict: the verdict.
        method: description of the method, for the header of the summary.
        n_steps: number of optimiser steps.
        decrement: Newton decrement at the estimate, log-likelihood units.
        note: a note for the user on the start or the data; may be empty.
        modes: points that the starts reached, if there were several starts.
        constraints: labels of the constraints.
        reduced: bias-reduction term at the estimate, which is added to the log-likelihood.
        penalised: the penalty at the estimate, or None; ``llf``, ``score`` (see there) and ``information`` are without it.
        history: history of a training on minibatches, or None.
        path: (step, objective in log-likelihood units) of the search, in order; empty if it was not recorded.
        backend: hardware on which it was computed, for the header; empty for that of this process.
        directions: directions that the diagnosis tested.
        integration: how random effects were integrated out, or None.
        centred: the information in centred and scaled coordinates, if it would lose digits in theta; else None.
    """

    spec: Spec
    loaded: Loaded
    fixed: np.ndarray | None
    u: np.ndarray
    theta: np.ndarray
    params: PyTree
    llf: float
    score: np.ndarray
    information: np.ndarray | None
    jacobian: np.ndarray | None
    interior: np.ndarray
    verdict: Verdict
    method: str
    n_steps: int
    decrement: float
    note: str = ""
    modes: tuple[Mode, ...] = ()
    constraints: tuple[str, ...] = ()
    reduced: float = 0.0
    penalised: Penalised | None = None
    history: History | None = None
    path: tuple[tuple[float, float], ...] = ()
    backend: str = ""
    directions: tuple[Direction, ...] = ()
    centred: Centred | None = None
    integration: Integration | None = None

    @property
    def weight_kind(self) -> str | None:
        """"frequency", "sampling" or "importance"; None without weights."""
        return None if self.loaded.weights is None else self.loaded.weights.kind

    @property
    def n_effects(self) -> int:
        """Number of fixed effects (``mle.Real(by=...)``) that were estimated in addition to theta."""
        return 0 if self.loaded.effects is None else self.loaded.effects.n_free

    def after(self, before: Fit) -> Fit:
        """Return a copy of this fit as the continuation of the fit ``before``: with the steps of both, and with the method,
        modes, history and path of ``before``.
        """
        steps = before.n_steps + self.n_steps
        method = before.method.replace(f", {before.n_steps} steps", f", {steps} steps")
        return replace(self, n_steps=steps, method=method, modes=before.modes, history=before.history, path=before.path)

    def scores(self) -> np.ndarray:
        """Return the scores of every row or unit with respect to theta, unweighted, (n, p).

        A row of weight 0 gets the score of another row. Fixed effects are profiled out. The last row of an extended likelihood,
        that of its expected total, is 0. ValueError after a fit without second derivatives, DataError for a stream, AbsentError
        for a result from a file.
        """
        return self.row_terms()[1]

    def row_terms(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the log-likelihood terms of every row or unit, unweighted, (n,), and the scores, (n, p), as :meth:`scores`
        does; the same errors.
        """
        if self.loaded.stream is not None:
            raise DataError(OF_ROWS)
        if self.jacobian is None:
            raise ValueError(
                f"scores of single rows need second derivatives, and this fit of {self.u.size} parameters ended without them: "
                f"fit with method='newton', for up to {limits().dense_parameters} parameters"
            )
        with float64():
            found = terms_of_rows(self.spec, self.loaded, self.fixed, self.u)
        return found.values, scores_of_rows(self.spec.likelihood.function, found.scores @ np.linalg.inv(self.jacobian))


def finish(evaluator: SingleEvaluator, loaded: Loaded, found: Diagnosed, method: Method) -> Fit:
    """Make the `Fit`, with its verdict, from a diagnosed final point; ``method``: the method of the search."""
    own = found.findings.mapped
    if own is None:
        fit = _finished(evaluator, loaded, found, method)
    else:
        assert isinstance(evaluator, ChunkedEvaluator)
        inside = mapped(evaluator, own.coordinates)
        fit = _in_theta(_finished(inside, loaded, found._replace(end=own.end), method), evaluator, own)
    if found.end.information is None:
        return fit
    later = {"error_bars": partial(_error_bars, evaluator.spec, loaded, evaluator.fixed, own, found.end)}
    return replace(fit, verdict=fit.verdict.amended(facts=later))


def _error_bars(spec: Spec, loaded: Loaded, fixed: Any, own: Mapped | None, end: OptimizeResult) -> dict[str, Any]:
    """Return ``error_bars`` of `Verdict.evidence`, bounds on rounding errors (see `bars_of_end`), at the final point ``end``; or,
    if ``own`` is given, at the same point in its centred and scaled coordinates.
    """
    with float64():
        evaluator: Any = evaluator_of(spec, loaded, fixed)
        return bars_of_end(evaluator, end) if own is None else bars_of_end(mapped(evaluator, own.coordinates), own.end)


def _in_theta(fit: Fit, evaluator: ChunkedEvaluator, own: Mapped) -> Fit:
    """Convert a fit from centred and scaled coordinates, ``own``, to u and theta; the centred information is kept in
    ``Fit.centred``.

    The map combines untransformed coordinates only, which are the same in u and theta.
    """
    to, penalised = own.coordinates, fit.penalised
    in_theta = to.in_theta(fit.spec.space)
    information, in_w = fit.information, None if penalised is None else penalised.information
    if penalised is not None and in_w is not None:
        penalised = replace(penalised, information=in_theta.information_in_u(in_w))
    return replace(
        fit,
        spec=replace(fit.spec, space=fit.spec.space.own),
        fixed=evaluator.fixed,
        u=to.to_u(fit.u),
        theta=in_theta.to_u(fit.theta),
        score=in_theta.score_in_u(fit.score),
        information=None if information is None else in_theta.information_in_u(information),
        directions=tuple(replace(d, vector=to.matrix @ d.vector) for d in fit.directions),
        penalised=penalised,
        centred=None if information is None else Centred(in_theta.matrix, information, in_w),
    )


def _contributions(spec: Spec, loaded: Loaded, u: Host, fixed: Host | None) -> tuple[float, str]:
    """Return the number of terms that the log-likelihood sums and the name of what one term is, ``(3, "rows")``; (inf, "") if
    that is not known, because the function returns a sum or classes form a hidden Markov chain.
    """
    likelihood, data = spec.likelihood, loaded.problem.data
    n, mixture = counts(loaded)[1], mixture_of(likelihood)
    if mixture is not None and isinstance(mixture.latent, Markov):
        return float("inf"), ""
    if likelihood.mode == "whole" and n == 1:
        called = lambda p, rows: likelihood.function(p, likelihood.seen(rows, data.shared, data.statics))
        if jax.eval_shape(called, spec.space.params_from_u(u, fixed), data.rows).shape == ():
            return float("inf"), ""
    return n, {"rows": "rows", "units": "units", "whole": "values"}[likelihood.mode]


def _finished(evaluator: SingleEvaluator, loaded: Loaded, found: Diagnosed, method: Method) -> Fit:
    """Make the `Fit`, with its verdict, from the diagnosed final point ``found`` in the coordinates in which the search was made:
    those of the evaluator, u or the centred and scaled ones.
    """
    spec, space, fixed, hyper = evaluator.spec, evaluator.spec.space, evaluator.fixed, evaluator.hyper
    end, findings = found.end, found.findings
    if findings.directions:
        deciding = influential_rows(evaluator, loaded, end, findings.directions)
        findings = replace(findings, deciding=deciding)
    terms = _contributions(spec, loaded, end.u, fixed)
    verdict = judge(replace(evidence_at(space, fixed, end, findings), contributions=terms, n_free=space.n_free))
    penalised, llf = None, float(end.loglik)
    if end.information is not None:
        at, params = estimates(space, end.u, end.score, end.information, fixed)
        theta, jacobian, score, info = at
        if spec.adjusted:  # score and information of the log-likelihood itself
            loglik, score, info_u = evaluate_one(evaluator.with_spec(spec.plain), end.u)
            natural, _ = estimates(space, end.u, score, info_u, fixed)
            llf, score, curvature, info = float(loglik), natural.score, info, natural.information
            if spec.penalty is not None:
                free = interior(space, end.u)
                along = kinks(spec, theta, info, free, fixed, hyper)
                value = float(penalty_value(spec, end.u, fixed, hyper))
                penalised = Penalised(value, curvature, along, _penalty_name(spec))
                verdict = at_kink(verdict, penalised)
    else:
        theta = np.asarray(space.theta_from_u(end.u, fixed))
        params, jacobian, score, info = space.params_from_u(end.u, fixed), None, end.score, None
        if spec.penalty is not None:
            value = float(penalty_value(spec, end.u, fixed, hyper))
            penalised, llf = Penalised(value, None, (), _penalty_name(spec)), llf + value
    scale = loaded.scale
    return Fit(
        spec=spec,
        loaded=loaded,
        fixed=fixed,
        u=end.u,
        theta=theta,
        params=jax.tree.map(np.asarray, params),
        llf=scale * llf,
        score=scale * score,
        information=None if info is None else scale * info,
        jacobian=jacobian,
        interior=interior(space, end.u),
        verdict=verdict,
        method=_method_text(method, end, spec),
        n_steps=int(end.n_steps),
        decrement=float(end.decrement),
        penalised=penalised,
        reduced=float(end.loglik) - llf if spec.reduction is not None else 0.0,
        directions=tuple(findings.directions),
    )


def with_effects(fit: Fit, evaluator: Any, settling: Settling) -> Fit:
    """Add the estimated fixed effects to the fit, and statements on their levels, also those left out (``settling``), to its
    verdict.
    """
    loaded = with_effects_at_end(evaluator, fit.loaded, fit.u, fit.jacobian, settling)
    return replace(fit, loaded=loaded, verdict=with_levels_told(fit.verdict, evaluator, fit.u, settling))


def _penalty_name(spec: Spec) -> str:
    """Return the name of the penalty function, for the summary."""
    return getattr(spec.penalty, "__name__", None) or repr(spec.penalty)


def _method_text(method: Any, end: OptimizeResult, spec: Spec) -> str:
    """Return the description of the search for the summary: "newton, 5 steps"."""
    text = f"{type(method).__name__.lower()}, {int(end.n_steps)} steps"
    if optimize.batched(method):
        text += f" on minibatches of {method.batch_size}"
    if end.polished:
        text += ", polished by Newton"
    if spec.hessian == "differenced":
        text += ", Hessian by differences of the exact score"
    return text


def nothing_to_estimate(evaluator: SingleEvaluator, loaded: Loaded) -> Fit:
    """Return the `Fit` of a model in which every parameter is fixed: the log-likelihood is only evaluated.

    Its verdict is "verified", or "not_computable" if the log-likelihood is not finite.
    """
    spec, fixed, empty, square = evaluator.spec, evaluator.fixed, np.zeros(0), np.zeros((0, 0))
    value = loaded.scale * float(evaluator.with_spec(spec.plain).logliks({0: empty[None]})[0][0])
    penalised = None
    if spec.penalty is not None:
        penalty = float(penalty_value(spec, empty, fixed, evaluator.hyper))
        penalised = Penalised(penalty, square, (), _penalty_name(spec))
    rows = "" if np.isfinite(value) else explain(evaluator, loaded, empty)
    fixed_all = "every parameter is fixed: the log-likelihood was evaluated, nothing was estimated"
    return Fit(
        spec=spec,
        loaded=loaded,
        fixed=fixed,
        u=empty,
        theta=empty,
        params=jax.tree.map(np.asarray, spec.space.params_from_u(empty, fixed)),
        llf=value,
        score=empty,
        information=square,
        jacobian=square,
        interior=np.zeros(0, bool),
        verdict=Verdict("not_computable", rows) if rows else Verdict("verified", fixed_all),
        method="none",
        n_steps=0,
        decrement=0.0,
        penalised=penalised,
    )
