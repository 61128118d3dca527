"""The class `Batch`, and how it is made from the final points of many searches: verdicts, and natural coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from mlejax import linalg
from mlejax.batch.sets import DataSets
from mlejax.execution.chunking import Budget
from mlejax.fit.diagnose import Problems, evidence_at, interior
from mlejax.fit.finish import finish as finish_room
from mlejax.fit.finish.natural import InTheta, estimates, in_theta, theta_and_params
from mlejax.fit.search import Outcome
from mlejax.fit.start import Mode
from mlejax.likelihood import ExpectedTotal, Likelihood
from mlejax.objective import DataSetsEvaluator, Spec
from mlejax.optimize import Method, OptimizeResult
from mlejax.shapes import Host, PyTree
from mlejax.status import End
from mlejax.verdict import CONVERGED, Findings, code_of


@dataclass(frozen=True, eq=False)
class Batch:
    """Fits of L data sets by one model: estimates, derivatives and verdicts, float64 arrays on the host with leading axis L.

    Estimates and derivatives of data sets that were not fitted (they cannot be used, or Ctrl-C came before) are NaN.

    Attributes:
        likelihood: the declaration of the model.
        spec: the parts of the problem that are fixed when programs are compiled.
        sets: the data sets.
        fixed: values of the entries fixed by the user, (n_values,); None if none is fixed.
        method: the optimiser.
        u0: starts, unconstrained coordinates, (L, p).
        ends: results of the optimiser, with arrays over all L data sets.
        theta: estimates in the free natural coordinates, (L, p).
        score, information: gradient and minus the Hessian of the summed log-likelihood with respect to theta, (L, p) and
            (L, p, p).  Without second derivatives the score is in unconstrained coordinates, and with the penalty.
        inverse: inverses of the (penalised) information over the coordinates that are not on a bound, 0 for the others, (L, p,
            p); NaN if it is not positive definite.
        jacobian: derivatives of theta with respect to the unconstrained coordinates, (L, p, p).  Information, inverse and
            jacobian are (L, 0, 0) if the method has no second derivatives.
        params: estimates in the user's structure, natural scale, every array with leading axis L.
        interior: True for coordinates that are not on a bound of their support, (L, p).
        codes: codes of the verdicts, (L,).
        statements: for data sets that were not fitted or not finished, the reason, by number of the data set.
        found: evidence from the diagnosis, by number of the data set.
        notes: notes on the start, by number of the data set.
        modes: final points of all starts, by number of the data set; empty with a single start.
        plain: summed log-likelihoods without the penalty, (L,), of penalised fits, whose score and information exclude the
            penalty too; None without a penalty or without second derivatives.
        finished: False if the fits were interrupted by Ctrl-C.
        closed: fits with a probability estimated as 0, by number of the data set.  They have coordinates of their own, and
            replace the entries of `theta` and of all matrices.
        missing: how missing values are treated, ``"raise"`` or ``"drop"``.
        columns: names of columns, besides those of the model, in which a value may be missing (clusters).
        budget: limits on memory and threads; None for the default.
    """

    likelihood: Likelihood
    spec: Spec
    sets: DataSets
    fixed: Host | None
    method: Method
    u0: np.ndarray
    ends: OptimizeResult
    theta: np.ndarray
    score: np.ndarray
    information: np.ndarray
    inverse: np.ndarray
    jacobian: np.ndarray
    params: PyTree
    interior: np.ndarray
    codes: np.ndarray
    statements: dict[int, str]
    found: dict[int, Findings] = field(default_factory=dict, repr=False)
    notes: dict[int, str] = field(default_factory=dict, repr=False)
    modes: dict[int, tuple[Mode, ...]] = field(default_factory=dict, repr=False)
    plain: np.ndarray | None = None
    finished: bool = True
    missing: str = "raise"
    columns: tuple[str, ...] = ()
    budget: Budget | None = None
    closed: dict[int, finish_room.Fit] = field(default_factory=dict, repr=False)

    @property
    def llf(self) -> np.ndarray:
        """Log-likelihoods, summed and weighted (sampling weights as given), (L,); without the penalty, unless the method has no
        second derivatives.
        """
        return (self.ends.loglik if self.plain is None else self.plain) * self.sets.scale

    @property
    def nobs(self) -> np.ndarray:
        """Number of rows used of each data set, (L,); with frequency weights, the sum of these.

        With ``rowwise=False`` it is the number of terms that the model returns, unless it returns a single one.
        """
        if self.sets.mode == "whole" and not isinstance(self.spec.likelihood.function, ExpectedTotal):
            out = [self.sets.n_out.get(int(n), 1) for n in self.sets.lengths]
            return np.array([m if m > 1 else n for m, n in zip(out, self.sets.n_rows, strict=True)], np.int64)
        return self.sets.n_rows

    @property
    def weight_kind(self) -> str | None:
        """"frequency", "sampling" or "importance"; None without weights."""
        return None if self.sets.weighing is None else self.sets.weighing.kind

    @property
    def converged(self) -> np.ndarray:
        """True, (L,), for data sets whose verdict is a maximum: its code is one of `mlejax.verdict.CONVERGED`."""
        return np.isin(self.codes, CONVERGED)


def judged(
    likelihood: Likelihood,
    sets: DataSets,
    problems: Problems,
    evaluator: DataSetsEvaluator,
    outcome: Outcome,
    modes: dict[int, tuple[Mode, ...]],
    u0: np.ndarray,
    which: np.ndarray,
    budget: Budget,
) -> Batch:
    """Return the `Batch` made from the outcome of the searches: codes of verdicts, and estimates in natural coordinates.

    Args:
        likelihood, sets: the model and the data sets.
        problems: the problems of single data sets, for those that are judged one by one.
        evaluator: evaluator of all data sets.
        outcome: final points and what the diagnosis found.
        modes: final points of all starts, by number of the data set.
        u0: starts, (L, p).
        which: numbers of the data sets that can be used; the others get "not_computable" and the reason in ``sets.bad``.
        budget: limits on memory and threads.
    """
    spec, space, ends, fixed_values = outcome.spec, outcome.spec.space, outcome.result, problems.fixed
    codes = np.full(len(sets), "not_computable", dtype="U20")
    statements = dict(sets.bad)
    free = interior(space, ends.u)
    on_clean = outcome.clean & np.isin(np.arange(len(sets)), which)
    codes[on_clean] = np.where(free[on_clean].all(axis=1), "verified", "boundary")
    for i in which[~on_clean[which]].tolist():
        end = ends.of(i)
        if end.end == End.INTERRUPTED or i in outcome.unexamined:
            ends.status[i], codes[i] = int(End.INTERRUPTED), "stopped_early"
            statements[i] = _interrupted(end, i in outcome.unexamined)
        elif space.n_free == 0:
            codes[i] = "verified" if np.isfinite(end.loglik) else "not_computable"
        elif spec.penalty is not None and end.information is not None:  # a kink of the penalty may be what stopped it
            one = problems.one(evaluator.with_spec(spec), i)
            codes[i] = finish_room.finish(one, problems.loaded(i), outcome.diagnosed(i), problems.method).verdict.code
        else:
            codes[i] = code_of(evidence_at(space, fixed_values, end, outcome.findings.get(i, Findings())))
    plain, finished = None, outcome.finished
    if ends.information is None or not which.size:
        theta, params = theta_and_params(space, ends.u, fixed_values)
        empty = np.zeros((len(sets), 0, 0))
        at = InTheta(theta, ends.score, empty, empty, empty, ends.score, np.zeros(0), np.zeros(0, bool), params)
    else:
        at = outcome.at or in_theta(space, ends, fixed_values, budget)
        changed = np.array(sorted(outcome.findings), np.int64)
        if changed.size and outcome.at is not None:
            later = in_theta(space, ends.of(changed), fixed_values, budget)
            at = jax.tree.map(lambda whole, part: _with(whole, changed, part), at, later)
        at = _from_centred(at, outcome.findings)
    if spec.penalty is not None and ends.information is not None and which.size:
        found: Any = evaluator.with_spec(spec.plain).evaluate(ends.u[which], 2, which)
        none = [np.full((len(sets), *a.shape[1:]), np.nan) for a in found[1:]]
        plain, score, information = (_with(a, which, part) for a, part in zip(none, found[1:], strict=True))
        for i in which[np.isnan(plain[which]) & (codes[which] != "not_computable")].tolist():
            finished = False
            ends.status[i], codes[i] = int(End.INTERRUPTED), "stopped_early"
            statements.setdefault(i, _interrupted(ends.of(i), True))
        without = in_theta(space, ends._replace(score=score, information=information), fixed_values, budget)
        at = at._replace(score=without.score, information=without.information)
    return Batch(
        likelihood=likelihood, spec=spec, plain=plain, sets=sets, fixed=fixed_values, method=problems.method, u0=u0, ends=ends,
        theta=at.theta, score=at.score, information=at.information, inverse=at.inverse, jacobian=at.jacobian,
        params=at.params, interior=interior(space, ends.u), codes=codes, statements=statements, found=outcome.findings,
        notes=outcome.notes, modes=modes, finished=finished, budget=budget,
    )  # fmt: skip


def _from_centred(at: InTheta, findings: Mapping[int, Findings]) -> InTheta:
    """Return ``at`` with the inverse information computed in centred and scaled coordinates, where it keeps more
    digits, for the data sets that were searched there; NaN if it is not positive definite.

    ``findings``: what the diagnosis found, by number of the data set.
    """
    found = {i: f.mapped for i, f in findings.items() if f.mapped is not None and f.mapped.end.information is not None}
    if not found:
        return at
    inverse = np.array(at.inverse)
    for i, own in found.items():
        one = estimates(own.space, own.end.u, own.end.score, own.end.information, own.constants)[0]
        free, matrix = interior(own.space, own.end.u), own.coordinates.matrix
        inside = linalg.scaled_inverse(one.information[np.ix_(free, free)])
        inverse[i] = matrix[:, free] @ inside.inverse @ matrix[:, free].T if inside.ok else np.nan
    return at._replace(inverse=inverse)


def _interrupted(end: OptimizeResult, unexamined: bool) -> str:
    """Return the statement of an interrupted (Ctrl-C) data set: its search had not begun, had taken some steps, or, if
    ``unexamined``, had ended, but its final point was not diagnosed.
    """
    if unexamined:
        return "interrupted before its final point was examined"
    if not np.isfinite(end.u).all():
        return "not run: interrupted"
    return f"interrupted after {int(end.n_steps)} steps"


def _with(whole: np.ndarray, which: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Return a copy of ``whole`` with its rows at the positions ``which`` replaced by ``part``."""
    whole = np.array(whole)
    whole[which] = part
    return whole
