"""The end of a fit: where the search stopped, told in theta and in params, with its verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from mlejax import optimize
from mlejax.fit import multistart
from mlejax.fit.deciding import deciding
from mlejax.fit.evaluating import plain_derivatives
from mlejax.fit.loading import Loaded, n_contributions
from mlejax.fit.penalties import Penalised, at_kink, kinks, penalty_value
from mlejax.fit.programs import Ended, at_optimum, evaluate_rows, loglik
from mlejax.fit.search import evidence_at, explain
from mlejax.fit.standing import Found, interior
from mlejax.fit.training import History
from mlejax.objective import Spec
from mlejax.verdict import Direction, Verdict, judge


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
        backend: what it was computed on, for the header; of this process if empty.
        directions: those that were followed from where the search stopped.
    """

    spec: Spec
    loaded: Loaded
    fixed: np.ndarray | None
    u: np.ndarray
    theta: np.ndarray
    params: Any
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
    modes: tuple[multistart.Mode, ...] = ()
    constraints: tuple[str, ...] = ()
    reduced: float = 0.0
    penalised: Penalised | None = None
    history: History | None = None
    backend: str = ""
    directions: tuple[Direction, ...] = ()

    @property
    def weight_kind(self) -> str | None:
        """The kind of weights, or None."""
        return None if self.loaded.weights is None else self.loaded.weights.kind

    def scores(self) -> np.ndarray:
        """Scores in theta of every contribution, unweighted, (n, p); those of weight 0 are of another row's values."""
        if self.jacobian is None:
            raise ValueError(f"scores are not formed for {self.u.size} parameters after a first-order fit")
        with jax.enable_x64(True):
            data = self.loaded.problem.data
            _, scores = evaluate_rows(self.spec, self.u, data, self.fixed)
            per_row = np.asarray(scores)[: n_contributions(data)]
        return np.linalg.solve(self.jacobian.T, per_row.T).T


def finish(spec: Spec, loaded: Loaded, held: Any, ended: Ended, found: Found, algorithm: Any) -> Fit:
    """What a search found, as the numbers of a fit with their verdict."""
    space = spec.space
    if found.directions:
        found = replace(found, deciding=deciding(spec, loaded, held, ended, found.directions))
    verdict = judge(evidence_at(spec, held, ended, found))
    penalised, llf = None, ended.loglik
    if ended.information is not None:
        at, params = at_optimum(spec, ended.u, ended.score, ended.information, held)
        theta, jacobian, score, info = (np.asarray(a) for a in at)
        if spec.penalty is not None:
            penalised, score, info = _penalised_end(spec, loaded, held, ended, theta, info)
            llf = ended.loglik + penalised.value
            verdict = at_kink(verdict, penalised)
        elif spec.reduction is not None:
            llf, score, info = _plain_end(spec, loaded, held, ended)
    else:
        theta = np.asarray(space.theta_from_u(ended.u, held))
        params, jacobian, score, info = space.params_from_u(ended.u, held), None, ended.score, None
        if spec.penalty is not None:
            value = float(penalty_value(spec, ended.u, held, loaded.hyper))
            penalised, llf = Penalised(value, None, (), _penalty_name(spec)), ended.loglik + value
    scale = loaded.scale
    return Fit(
        spec=spec,
        loaded=loaded,
        fixed=held,
        u=ended.u,
        theta=theta,
        params=jax.tree.map(np.asarray, params),
        llf=scale * llf,
        score=scale * score,
        information=None if info is None else scale * info,
        jacobian=jacobian,
        interior=interior(space, ended.u),
        verdict=verdict,
        method=_method_text(algorithm, ended, spec),
        n_steps=ended.n_steps,
        decrement=ended.decrement,
        penalised=penalised,
        reduced=ended.loglik - llf if spec.reduction is not None else 0.0,
        directions=tuple(found.directions),
    )


def _plain_end(spec: Spec, loaded: Loaded, held: Any, ended: Ended) -> tuple[float, np.ndarray, np.ndarray]:
    """Log-likelihood, score and information in theta without what reduces bias."""
    value, score, information = plain_derivatives(spec, ended.u, loaded.problem.data, held)
    at, _ = at_optimum(spec, ended.u, score, information, held)
    return float(value), np.asarray(at.score), np.asarray(at.information)


def _penalised_end(
    spec: Spec, loaded: Loaded, held: Any, ended: Ended, theta: np.ndarray, curvature: np.ndarray
) -> tuple[Penalised, np.ndarray, np.ndarray]:
    """The penalty at the estimate, and score and information in theta of the log-likelihood itself."""
    _, score, information = plain_derivatives(spec, ended.u, loaded.problem.data, held)
    at, _ = at_optimum(spec, ended.u, score, information, held)
    value = float(penalty_value(spec, ended.u, held, loaded.hyper))
    along = kinks(spec, theta, np.asarray(at.information), interior(spec.space, ended.u), held, loaded.hyper)
    return Penalised(value, curvature, along, _penalty_name(spec)), np.asarray(at.score), np.asarray(at.information)


def _penalty_name(spec: Spec) -> str:
    return getattr(spec.penalty, "__name__", None) or repr(spec.penalty)


def _method_text(algorithm: Any, ended: Ended, spec: Spec) -> str:
    text = f"{type(algorithm).__name__.lower()}, {ended.n_steps} steps"
    if optimize.batched(algorithm):
        text += f" on minibatches of {algorithm.batch_size}"
    if ended.polished:
        text += ", polished by Newton"
    if spec.hessian == "differenced":
        text += ", Hessian by differences of the exact score"
    return text


def nothing_to_estimate(spec: Spec, loaded: Loaded, held: Any) -> Fit:
    """The log-likelihood where every parameter is held fixed."""
    empty = np.zeros(0)
    value = float(loglik(spec, empty, loaded.problem.data, held))
    value *= loaded.scale
    penalised = None
    if spec.penalty is not None:
        penalised = Penalised(
            float(penalty_value(spec, empty, held, loaded.hyper)), np.zeros((0, 0)), (), _penalty_name(spec)
        )
    rows = "" if np.isfinite(value) else explain(spec, loaded.problem.data, empty, held, loaded.hyper)
    verdict = (
        Verdict("not_computable", rows)
        if rows
        else Verdict(
            "verified", "every parameter is held fixed: the log-likelihood was evaluated, nothing was estimated"
        )
    )
    square = np.zeros((0, 0))
    params = jax.tree.map(np.asarray, spec.space.params_from_u(empty, held))
    return Fit(
        spec,
        loaded,
        held,
        empty,
        empty,
        params,
        value,
        empty,
        square,
        square,
        np.zeros(0, bool),
        verdict,
        "none",
        0,
        0.0,
        penalised=penalised,
    )
