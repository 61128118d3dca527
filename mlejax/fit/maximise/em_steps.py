"""EM for models with latent classes: E and M steps, extrapolation, and starts with well-separated classes.

The M step maximises the expected complete-data log-likelihood, with the posterior probabilities of the classes as data, by
Newton's method.  Dempster, Laird & Rubin (1977), J. R. Stat. Soc. B 39, 1; Varadhan & Roland (2008), Scand. J. Stat. 35, 335.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from mlejax import optimize
from mlejax.latent import completed, mixture_in, mixture_of, posterior, random_posterior, with_posterior
from mlejax.objective import ChunkedEvaluator, penalty_value
from mlejax.optimize import EM
from mlejax.shapes import Float, Host, PyTree

SLACK = 1e-10  # relative decrease of the log-likelihood that may be rounding
SHORT = EM(tol=1e-3, max_steps=6, accelerate=False)  # from a start with well-separated classes


class Expectation(NamedTuple):
    """The result of an E step.

    Attributes:
        u: the point, (p,).
        loglik: (penalised) log-likelihood there, ().
        posterior: probabilities of the classes of every row (or unit) given the data.
    """

    u: Float[Host, " p"]
    loglik: float
    posterior: PyTree


class Climbed(NamedTuple):
    """The result of EM.

    Attributes:
        u: final point, (p,).
        n_steps: number of steps, extrapolated ones included.
        n_extrapolated: number of extrapolated steps.
    """

    u: Float[Host, " p"]
    n_steps: int
    n_extrapolated: int

    @property
    def text(self) -> str:
        """Description for the header of the summary: "em, 12 steps (3 extrapolated)"."""
        return f"em, {self.n_steps} steps" + (f" ({self.n_extrapolated} extrapolated)" if self.n_extrapolated else "")


def climb(
    evaluator: Any, method: EM, u0: Float[Host, " p"], report: Callable[..., None] | None = None
) -> Climbed:
    """Run EM from u0, (p,), until a step increases the log-likelihood by at most ``method.tol``, or ``method.max_steps``.

    ``report`` is called after every step with (number of steps, mean log-likelihood).

    Raises:
        ValueError: a model without latent classes, or data that are not in memory.
    """
    if not isinstance(evaluator, ChunkedEvaluator) or mixture_of(evaluator.spec.likelihood) is None:
        method.init(u0)  # refuses
    n_steps = n_extrapolated = 0

    def seen(found: Expectation) -> Expectation:
        """Report the number of steps and the mean log-likelihood; return ``found``."""
        if report is not None:
            report(n_steps, found.loglik / float(evaluator.scale))
        return found

    def step(before: Expectation) -> tuple[Expectation, bool]:
        """Take an EM step from ``before``; return its result and whether to continue.

        If the log-likelihood falls (rounding), or is NaN, return ``before`` and stop; stop too if the gain is at most ``tol`` or
        after ``max_steps``.
        """
        nonlocal n_steps
        after = expectation(evaluator, maximisation(evaluator, before, method.inner))
        gain = after.loglik - before.loglik
        if not gain >= -SLACK * (1.0 + abs(before.loglik)):
            return before, False
        n_steps += 1
        return seen(after), gain > method.tol and n_steps < method.max_steps

    at = seen(expectation(evaluator, u0))
    going = bool(np.isfinite(at.loglik))
    while going:
        first, going = step(at)
        if not (going and method.accelerate):
            at = first
            continue
        second, going = step(first)
        ahead = _extrapolated(evaluator, at.u, first.u, second.u) if going else None
        at = second
        if ahead is not None and ahead.loglik >= second.loglik:
            n_steps, n_extrapolated = n_steps + 1, n_extrapolated + 1
            at = seen(ahead)
    return Climbed(at.u, n_steps, n_extrapolated)


def _extrapolated(evaluator: ChunkedEvaluator, u0: Host, u1: Host, u2: Host) -> Expectation | None:
    """Extrapolate two EM steps, u0 -> u1 -> u2, (p,) each, by SQUAREM; None if its step length is not between 1 (which leads to
    u2) and 1e8, or the log-likelihood there is not finite.
    """
    first, space = u1 - u0, evaluator.spec.space
    bend = (u2 - u1) - first
    length = float(np.linalg.norm(first)) / max(float(np.linalg.norm(bend)), 1e-300)
    if not 1.0 < length < 1e8:
        return None
    u = np.clip(u0 + 2.0 * length * first + length**2 * bend, space.lower, space.upper)
    found = expectation(evaluator, u)
    return found if np.isfinite(found.loglik) else None


def expectation(evaluator: ChunkedEvaluator, u: Float[Host, " p"]) -> Expectation:
    """Return the `Expectation` at u (p,): the (penalised) log-likelihood there, and the posterior probabilities of the classes
    (the E step).
    """
    spec, data = evaluator.spec, evaluator.data
    found = posterior(spec, u, data, evaluator.fixed)
    value = float(np.dot(np.asarray(data.weights), np.asarray(found.loglik)))
    if spec.penalty is not None:
        value -= float(penalty_value(spec, u, evaluator.fixed, evaluator.hyper))
    return Expectation(u, value, found.posterior)


def maximisation(evaluator: ChunkedEvaluator, at: Expectation, steps: int) -> Float[Host, " p"]:
    """Return the point (p,) that an M step reaches from the `Expectation` ``at``, by at most ``steps`` Newton steps; the u of
    ``at`` if the log-likelihood is not finite at that point.
    """
    known = jax.tree.map(np.asarray, at.posterior)
    inner = ChunkedEvaluator(
        completed(evaluator.spec), with_posterior(evaluator.data, known), evaluator.fixed, evaluator.hyper
    )
    end = inner.run(optimize.Newton(tol=1e-8, max_steps=steps), at.u[None])
    return np.asarray(end.u[0]) if np.isfinite(end.loglik[0]) else at.u


def class_starts(evaluator: ChunkedEvaluator, u0: Float[Host, " p"], n: int, seed: int) -> Float[Host, "n p"]:
    """Return n random starts, (n, p): each class is fitted to a few random rows of its own, and a few EM steps follow."""
    mixture = mixture_in(evaluator.spec.likelihood)
    rng, out = np.random.default_rng(seed), []
    rows = 2 + -(-evaluator.spec.space.n_free // mixture.latent.n)
    for _ in range(n):
        drawn = random_posterior(mixture, evaluator.data, rows, rng)
        u = maximisation(evaluator, Expectation(u0, 0.0, drawn), SHORT.inner)
        out.append(climb(evaluator, SHORT, u).u)
    return np.reshape(out, (n, len(u0)))
