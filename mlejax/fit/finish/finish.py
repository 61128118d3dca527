"""The end of a fit: where the search stopped, told in theta and in params, with its verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np

from mlejax import optimize
from mlejax.execution import float64
from mlejax.fit.diagnose import Diagnosed, Mapped, bars_of_end, evidence_at, explain, influential_rows, interior, mapped
from mlejax.fit.elimination_checks import Settling, terms_of_rows, with_effects_at_end, with_levels_told
from mlejax.fit.finish.natural import estimates
from mlejax.fit.maximise.training import History
from mlejax.fit.prepare.loaded import Loaded, counts
from mlejax.fit.prepare.penalties import Penalised, at_kink, kinks
from mlejax.fit.prepare.streaming import evaluator_of
from mlejax.fit.start import Mode
from mlejax.latent import Markov, mixture_of
from mlejax.likelihood import Likelihood, scores_of_rows
from mlejax.objective import ChunkedEvaluator, SingleEvaluator, Spec, penalty_value
from mlejax.optimize import Method, OptimizeResult
from mlejax.shapes import PyTree
from mlejax.verdict import Direction, Facts, Verdict, judge


@dataclass(frozen=True, eq=False)
class Centred:
    """The curvature at an estimate in centred and scaled coordinates, theta = constant + matrix w.

    Attributes:
        matrix: (p, p).
        information: minus the Hessian of the log-likelihood in w, (p, p).
        penalised: the same of the penalised log-likelihood, of a penalised fit, or None.
    """

    matrix: np.ndarray
    information: np.ndarray
    penalised: np.ndarray | None = None


@dataclass(frozen=True)
class Integration:
    """How latents were integrated out, and how far from the truth that may be.

    Attributes:
        latents: their names.
        points: of Gauss-Hermite quadrature, for each latent number of a unit; 1 is Laplace's approximation, 0 the exact sum over
            classes.  Of a simulation: draws for each unit.
        tried: points of the fit that was compared with twice as many and one; 0 if none was.
        shift: largest difference of their estimates, standard errors.
        errors: largest relative difference of their standard errors.
        loglik: difference of their log-likelihoods; of a simulation, how far it is too low on average, half the sum over units
            of the relative variance of their integrals.
        worst: the unit whose log-likelihood is farthest from a fixed grid, of those that differ most.
        off: how far, log-likelihood units.
        accepted: all of these are small.
        kind: ``"quadrature"`` or ``"simulation"``.
        repeats: independent parts of the draws, from whose spread Monte Carlo errors are computed; of given draws all of them.
        monte_carlo: Monte Carlo error of each free estimate, its bias included, in standard errors of the estimate.
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
        """With what is said of these limits."""
        good = self.shift <= shift and self.errors <= errors and self.loglik <= loglik and self.off <= loglik
        return replace(self, accepted=good)

    @property
    def statement(self) -> str:
        """One line for the summary."""
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
    """The numbers of one fit, on the host, float64.

    Attributes:
        spec: what was compiled (declaration, layout with fixed entries, Hessian route).
        loaded: the data.
        fixed: values held fixed (n_values,), or None.
        u, theta: the estimates in the optimiser's and in natural free coordinates (p,).
        params: the user's structure, NumPy.
        llf: log-likelihood, summed.
        score: its gradient in theta (p,).
        information: minus its Hessian in theta (p, p), or None for first-order fits of many parameters.
        jacobian: d theta / d u (p, p), or None.
        interior: flags (p,) of the coordinates that are not on an edge.
        verdict: what the fit is worth.
        method: text for the header.
        n_steps: steps of the optimiser.
        decrement: Newton decrement at the end, log-likelihood units.
        note: what a reader should know about the start or the data; empty if nothing.
        modes: where the starts ended, if there were several.
        constraints: linear restrictions on the parameters, in the words of the user.
        reduced: what bias reduction adds to the log-likelihood at the estimate.
        penalised: the penalty at the estimate, of a penalised fit; ``llf``, ``score`` and ``information`` are without it.
        history: of a training on minibatches.
        path: (step, objective in log-likelihood units) of the search, in order; empty where it was not kept.
        backend: what it was computed on, for the header; of this process if empty.
        directions: those that the diagnosis followed from the end.
        integration: how latents were integrated out, of models that have some.
        centred: the curvature in coordinates in which it has digits, where theta is none; else None.
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
        """The kind of weights, or None."""
        return None if self.loaded.weights is None else self.loaded.weights.kind

    @property
    def n_effects(self) -> int:
        """Effects by index that were estimated beside theta."""
        return 0 if self.loaded.effects is None else self.loaded.effects.n_free

    def scores(self) -> np.ndarray:
        """Scores in theta of every contribution, unweighted, (n, p); those of weight 0 are of another row's values.

        With effects by index these are partialled out; of an expected total they are 0.
        """
        return self.row_terms()[1]

    def row_terms(self) -> tuple[np.ndarray, np.ndarray]:
        """Log-likelihoods (n,) of every contribution, unweighted, and :meth:`scores`."""
        if self.jacobian is None:
            raise ValueError(f"scores are not formed for {self.u.size} parameters after a first-order fit")
        with float64():
            found = terms_of_rows(self.spec, self.loaded, self.fixed, self.u)
        return found.values, scores_of_rows(self.spec.likelihood.function, found.scores @ np.linalg.inv(self.jacobian))


def finish(evaluator: SingleEvaluator, loaded: Loaded, found: Diagnosed, method: Method) -> Fit:
    """A diagnosed end as the numbers of a fit with their verdict."""
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
    return replace(fit, verdict=replace(fit.verdict, evidence=Facts(fit.verdict.evidence, later)))


def _error_bars(spec: Spec, loaded: Loaded, fixed: Any, own: Mapped | None, end: OptimizeResult) -> dict[str, Any]:
    """The rounding at an end, for those who ask; the data are those that the fit holds anyway."""
    with float64():
        evaluator: Any = evaluator_of(spec, loaded, fixed)
        return bars_of_end(evaluator, end) if own is None else bars_of_end(mapped(evaluator, own.coordinates), own.end)


def _in_theta(fit: Fit, evaluator: ChunkedEvaluator, own: Mapped) -> Fit:
    """A fit in centred coordinates as one in theta, which keeps its curvature in these.

    Real coordinates are the same in u and in theta, so that one map serves both; the entries of an ordered vector are sums of
    its first and of differences, which keep their own scale.
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


def _contributions(likelihood: Likelihood, loaded: Loaded, params: PyTree) -> tuple[float, str]:
    """How many the log-likelihood sums, and what one is; not known of a sum that the function returns, or of one series."""
    n, mixture, data = counts(loaded)[1], mixture_of(likelihood), loaded.problem.data
    if mixture is not None and isinstance(mixture.latent, Markov):
        return float("inf"), ""
    if likelihood.mode == "whole" and n == 1:
        called = lambda p, rows: likelihood.function(p, likelihood.seen(rows, data.shared, data.statics))
        if jax.eval_shape(called, params, data.rows).shape == ():
            return float("inf"), ""
    return n, {"rows": "rows", "units": "units", "whole": "values"}[likelihood.mode]


def _finished(evaluator: SingleEvaluator, loaded: Loaded, found: Diagnosed, method: Method) -> Fit:
    spec, space, fixed, hyper = evaluator.spec, evaluator.spec.space, evaluator.fixed, evaluator.hyper
    end, findings = found.end, found.findings
    if findings.directions:
        deciding = influential_rows(evaluator, loaded, end, findings.directions)
        findings = replace(findings, deciding=deciding)
    terms = _contributions(spec.likelihood, loaded, space.params_from_u(end.u, fixed))
    verdict = judge(replace(evidence_at(space, fixed, end, findings), contributions=terms, n_free=space.n_free))
    penalised, llf = None, float(end.loglik)
    if end.information is not None:
        at, params = estimates(space, end.u, end.score, end.information, fixed)
        theta, jacobian, score, info = at
        if spec.adjusted:  # score and information of the log-likelihood itself
            plain = evaluator.with_spec(spec.plain).evaluate(end.u[None], 2)
            assert plain.score is not None
            assert plain.information is not None
            score, info_u = plain.score[0], plain.information[0]
            natural, _ = estimates(space, end.u, score, info_u, fixed)
            llf, score, curvature, info = float(plain.loglik[0]), natural.score, info, natural.information
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
    """The fit with what is known of its effects, and a verdict on their levels."""
    loaded = with_effects_at_end(evaluator, fit.loaded, fit.u, fit.jacobian, settling)
    return replace(fit, loaded=loaded, verdict=with_levels_told(fit.verdict, evaluator, fit.u, settling))


def _penalty_name(spec: Spec) -> str:
    return getattr(spec.penalty, "__name__", None) or repr(spec.penalty)


def _method_text(method: Any, end: OptimizeResult, spec: Spec) -> str:
    text = f"{type(method).__name__.lower()}, {int(end.n_steps)} steps"
    if optimize.batched(method):
        text += f" on minibatches of {method.batch_size}"
    if end.polished:
        text += ", polished by Newton"
    if spec.hessian == "differenced":
        text += ", Hessian by differences of the exact score"
    return text


def nothing_to_estimate(evaluator: SingleEvaluator, loaded: Loaded) -> Fit:
    """The log-likelihood where every parameter is fixed."""
    spec, fixed, empty, square = evaluator.spec, evaluator.fixed, np.zeros(0), np.zeros((0, 0))
    value = loaded.scale * float(evaluator.with_spec(spec.plain).logliks({0: empty[None]})[0][0])
    penalised = None
    if spec.penalty is not None:
        penalty = float(penalty_value(spec, empty, fixed, evaluator.hyper))
        penalised = Penalised(penalty, square, (), _penalty_name(spec))
    rows = "" if np.isfinite(value) else explain(evaluator, empty)
    fixed_all = "every parameter is held fixed: the log-likelihood was evaluated, nothing was estimated"
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
