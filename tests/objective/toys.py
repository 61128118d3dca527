"""Two evaluators of one data set that hold no table: rows in partitions, and an information that is never formed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Self

import jax
import numpy as np

from mlejax import optimize
from mlejax.data import Prepared
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


@dataclass(frozen=True)
class Arrow:
    """[[diag(shaft), border], [border', head]]: what effects that meet in few common coordinates make of the information.

    It is solved through its Schur complement S = head - border' diag(shaft)^-1 border, and never formed.
    """

    shaft: np.ndarray
    border: np.ndarray
    head: np.ndarray

    @cached_property
    def lever(self) -> np.ndarray:
        return self.border / self.shaft[:, None]

    @cached_property
    def schur(self) -> np.ndarray:
        return self.head - self.border.T @ self.lever

    @cached_property
    def ok(self) -> bool:
        if not (np.isfinite(self.shaft).all() and (self.shaft > 0).all() and np.isfinite(self.schur).all()):
            return False
        root = np.sqrt(np.abs(self.head.diagonal()))
        return bool(np.linalg.eigvalsh(self.schur / root[:, None] / root)[0] > 1e-12)

    def damped(self, ridge: float) -> Arrow:
        """With a larger diagonal."""
        more = ridge * np.abs(self.head.diagonal())
        return Arrow(self.shaft + ridge * np.abs(self.shaft), self.border, self.head + np.diag(more))

    def diagonal(self) -> np.ndarray:
        return np.concatenate([self.shaft, self.head.diagonal()])

    def matvec(self, v: np.ndarray) -> np.ndarray:
        a, b = np.split(v, [self.shaft.size])
        return np.concatenate([self.shaft * a + self.border @ b, self.border.T @ a + self.head @ b])

    def solve(self, b: np.ndarray) -> np.ndarray:
        if not self.ok:
            return np.full(b.size, np.nan)
        first, last = np.split(b, [self.shaft.size])
        tail = np.linalg.solve(self.schur, last - self.lever.T @ first)
        return np.concatenate([first / self.shaft - self.lever @ tail, tail])

    def inverse_diagonal(self) -> np.ndarray:
        if not self.ok:
            return np.full(self.shaft.size + len(self.head), np.nan)
        inverse = np.linalg.inv(self.schur)
        return np.concatenate(
            [1.0 / self.shaft + np.einsum("mk,kl,ml->m", self.lever, inverse, self.lever), inverse.diagonal()]
        )

    def logdet(self) -> float:
        return float(np.log(self.shaft).sum() + np.linalg.slogdet(self.schur)[1]) if self.ok else float("nan")

    def block(self, index: np.ndarray) -> np.ndarray:
        p = self.shaft.size + len(self.head)
        at = np.arange(p)[index]
        columns = [self.matvec(np.eye(1, p, j)[0])[at] for j in at]
        return np.reshape(columns, (at.size, at.size))

    def among(self, free: np.ndarray) -> Arrow:
        a, b = np.split(free, [self.shaft.size])
        return Arrow(self.shaft[a], self.border[a][:, b], self.head[np.ix_(b, b)])

    def conditioning(self) -> tuple[float, float]:
        """By inverse and plain power iteration on the scaled matrix: products and solves alone."""
        diagonal = self.diagonal()
        if not (diagonal > 0).all():
            return float("nan"), float("inf")
        if not self.ok:
            return 0.0, float("inf")
        smallest = 1.0 / self._power(lambda v, root: root * self.solve(root * v))
        return smallest, self._power(lambda v, root: self.matvec(v / root) / root) / smallest

    def _power(self, apply: Callable[[Any, Any], Any]) -> float:
        root = np.sqrt(self.diagonal())
        v = np.random.default_rng(0).standard_normal(root.size)
        for _ in range(300):
            v = apply(v / np.linalg.norm(v), root)
        return float(np.linalg.norm(v))


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
                damped, ridge = information.damped(ridge), 10.0 * ridge
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
