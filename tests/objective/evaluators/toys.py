"""Two evaluators of one data set that hold no table: rows in partitions, and an information that is never formed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Self

import jax
import numpy as np

from mlejax import optimize
from mlejax.data import Prepared
from mlejax.linalg import Arrow
from mlejax.objective import Evaluation, Objective, Spec, objective_of, with_leading_axis
from mlejax.objective.sampling import sample_of_one
from mlejax.optimize import OptimizeResult
from mlejax.status import End


def _loglik(objective: Objective, u: Any) -> Any:
    return objective.loglik(u), None, None


def _score(objective: Objective, u: Any) -> Any:
    return (*jax.value_and_grad(objective.loglik)(u), None)


def _information(objective: Objective, u: Any) -> Any:
    return objective.in_loglik_units(*objective.with_hessian(u))


@partial(jax.jit, static_argnums=(0, 1))
def _on_partition(spec: Spec, task: Any, u: Any, part: Prepared, fixed: Any, hyper: Any) -> Any:
    return task(objective_of(spec, part, fixed, hyper), u)


def _added(a: Any, b: Any) -> Any:
    return jax.tree.map(np.add, a, b)


def in_pairs(parts: list[Any], merge: Callable[[Any, Any], Any]) -> Any:
    """Neighbours merged in a fixed tree, which does not depend on the order of arrival."""
    while len(parts) > 1:
        merged = [merge(a, b) for a, b in zip(parts[::2], parts[1::2], strict=False)]
        parts = merged + parts[len(merged) * 2 :]
    return parts[0]


class Partitioned:
    """Equal partitions of the rows, in order, each worked on alone."""

    n_sets = 1

    def __init__(self, spec: Spec, parts: list[Prepared], fixed: Any = None, hyper: Any = None) -> None:
        assert spec.penalty is None, "each partition would add the penalty"
        self.spec, self.parts, self.fixed, self.hyper = spec, parts, fixed, hyper

    @classmethod
    def of(cls, spec: Spec, data: Prepared, n_parts: int, fixed: Any = None) -> Self:
        size, parts = -(-int(data.n) // n_parts), []
        for at in range(0, int(data.n), size):
            index = np.minimum(np.arange(at, at + size), int(data.n) - 1)  # the last one is padded by its last row
            inside = np.arange(at, at + size) < int(data.n)
            weights = np.where(inside, np.asarray(data.weights)[index], 0.0)
            rows = tuple(np.asarray(leaf)[index] for leaf in data.rows)
            parts.append(replace(data, rows=rows, weights=weights, n=np.int64(inside.sum()), block=size))
        return cls(spec, parts, fixed)

    def with_spec(self, spec: Spec) -> Self:
        return type(self)(spec, self.parts, self.fixed, self.hyper)

    @property
    def total_weights(self) -> np.ndarray:
        return np.array([sum(part.total_weight for part in self.parts)])

    @property
    def n_contributions(self) -> int:
        return sum(int(part.n) for part in self.parts)

    def map_reduce(self, task: Any, merge: Any, u: Any) -> Any:
        each = [_on_partition(self.spec, task, u, part, self.fixed, self.hyper) for part in self.parts]
        return in_pairs([jax.tree.map(np.asarray, found) for found in each], merge)

    def sample(self, n_rows: int) -> Prepared:
        some = [sample_of_one(part, -(-n_rows // len(self.parts))) for part in self.parts]
        rows = tuple(np.concatenate(leaves) for leaves in zip(*(part.rows for part in some), strict=True))
        weights = np.concatenate([part.weights for part in some])
        return replace(some[0], rows=rows, weights=weights, n=np.int64(weights.size), block=weights.size)

    def evaluate(self, u: Any, order: int = 2, which: Any = None) -> Evaluation:
        u = u(np.zeros(1, np.int64), with_leading_axis(self.sample(self.n_contributions))) if callable(u) else u
        found = self.map_reduce((_loglik, _score, _information)[order], _added, u[0])
        return Evaluation(u, *(None if a is None else a[None] for a in found))

    def logliks(self, points: Mapping[int, Any]) -> dict[int, np.ndarray]:
        return {0: np.array([self.evaluate(u[None], 0).loglik[0] for u in points[0]])}

    def best(self, points: Any, which: Any = None, n_rows: int | None = None) -> np.ndarray:
        some = self.sample(self.n_contributions if n_rows is None else n_rows)
        at = points(np.zeros(1, np.int64), with_leading_axis(some))[0]
        values = type(self)(self.spec, [some], self.fixed).logliks({0: at})[0]
        return at[np.argmax(np.where(np.isfinite(values), values, -np.inf))][None]

    def run(self, method: Any, u0: Any, which: Any = None, report: Any = None) -> OptimizeResult:
        scale, space = float(self.total_weights[0]), self.spec.space

        def minimised(u: Any) -> Any:
            _, loglik, score, information = self.evaluate(u[None])
            return -loglik[0] / scale, -score[0] / scale, information[0] / scale

        bounds = (space.lower, space.upper) if space.boxed else (None, None)
        carry = optimize.run_on_host(method, minimised, u0[0], bounds, scale, report)
        end = (carry.u, -carry.f * scale, -carry.g * scale, carry.H * scale)
        return OptimizeResult(*end, carry.decrements, carry.mismatch, carry.n_steps, carry.status).alone()


def _damped(a: Arrow, ridge: float) -> Arrow:
    """With a larger diagonal."""
    return Arrow(a.shaft + ridge * np.abs(a.shaft), a.border, a.head + np.diag(ridge * np.abs(a.head.diagonal())))


class Bordered(Partitioned):
    """Partitions whose information is an `Arrow`; its Newton steps solve with that alone."""

    N_COMMON = 2  # the last coordinates

    def evaluate(self, u: Any, order: int = 2, which: Any = None) -> Evaluation:
        found = super().evaluate(u, order, which)
        if order < 2:
            return found
        full, m = found.information[0], found.u.shape[1] - self.N_COMMON
        assert np.count_nonzero(full[:m, :m]) <= m, "the effects meet in the common coordinates only"
        information = np.empty(1, object)
        information[0] = Arrow(full[:m, :m].diagonal(), full[:m, m:], full[m:, m:])
        return found._replace(information=information)

    def run(self, method: Any, u0: Any, which: Any = None, report: Any = None) -> OptimizeResult:
        at, decrements, status, n_steps = self.evaluate(u0), np.full(4, np.inf), End.MAX_STEPS, 0
        for _ in range(method.max_steps):
            information, score = at.information[0], at.score[0]
            definite = information.ok
            damped, ridge = information, 1e-8
            while not damped.ok:
                damped, ridge = _damped(information, ridge), 10.0 * ridge
            step = damped.solve(score)
            decrement = float(score @ step)
            decrements = np.append(decrements[1:], decrement if definite else np.inf)
            if decrement <= 1e-20:
                status = End.CONVERGED if definite else End.SINGULAR
                break
            length = 1.0
            while length > 1e-8 and not self.evaluate(at.u + length * step, 0).loglik[0] >= at.loglik[0] - 1e-9:
                length /= 2.0
            at, n_steps = self.evaluate(at.u + length * step), n_steps + 1
        end = at.u[0], at.loglik[0], at.score[0], at.information[0]
        return OptimizeResult(*end, decrements, np.float64(0.0), np.int64(n_steps), np.int32(int(status))).alone()
