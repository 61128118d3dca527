"""Training on minibatches: epochs on the host, a held-out log-likelihood watched on the way.

The data go to the device once, and an epoch is one compiled program (:func:`mlejax.optimize.epoch`). What comes out is an
end without second derivatives, unless there are few enough parameters for Newton's method to finish and it converges.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlejax import data as data_room
from mlejax import optimize
from mlejax.compiling import compiled
from mlejax.data import Prepared, ingest
from mlejax.fit.common import POLISH_LIMIT, POLISH_STEPS, objective_of
from mlejax.fit.loading import Loaded, load, n_contributions
from mlejax.fit.programs import Ended, run
from mlejax.fit.regression import with_designs_again
from mlejax.likelihood import Likelihood
from mlejax.objective import Objective, Spec
from mlejax.optimize import PATIENCE_EPOCHS, setting_of, strong
from mlejax.status import End

Array = Any


class HeldOut(NamedTuple):
    """Data that training does not see: arrays, how many contributions, and where they come from."""

    data: Prepared
    n: int
    origin: str


@dataclass(frozen=True)
class History:
    """Mean log-likelihood per contribution, epoch by epoch.

    Attributes:
        train: over the minibatches of each epoch, while the parameters moved.
        held_out: over the held-out data after each epoch; empty without them.
        best: the epoch (from 1) whose parameters were kept.
    """

    train: tuple[float, ...]
    held_out: tuple[float, ...]
    best: int


# ---- held-out data


def split(loaded: Loaded, fraction: float, seed: int) -> tuple[Loaded, HeldOut]:
    """Hold out a random fraction of the contributions; the rest is what the fit is of."""
    n = n_contributions(loaded.problem.data)
    n_out = round(fraction * n)
    if not 0 < n_out < n:
        raise ValueError(
            f"validation={fraction} of {n} contributions holds out {n_out}: nothing would be left on one side"
        )
    order = np.random.default_rng(seed).permutation(n)
    out, kept = np.sort(order[:n_out]), np.sort(order[n_out:])
    data = loaded.problem.data
    held_out = HeldOut(_subset(data, out), n_out, f"{n_out} of {n} {_noun(data)}, at random (seed {seed})")
    codes, rows = loaded.unit_codes, kept
    if codes is not None:
        renumbered = np.full(n, -1)
        renumbered[kept] = np.arange(kept.size)
        rows = np.flatnonzero(renumbered[codes] >= 0)
        codes = renumbered[codes][rows]
    taken = loaded.rows.take(rows)
    weights, designs = loaded.weights, loaded.designs
    if weights is not None:
        weights = replace(weights, values=weights.values[kept])
    moments = None if weights is None else weights.moments()
    if designs is None:
        found = data_room.fingerprint(taken, moments)
    else:
        extra = {name: values[rows] for name, values in designs.extra.items()}
        designs = replace(designs, rows=designs.rows.take(rows), extra=extra)
        found = designs.fingerprint(moments)
    problem = replace(loaded.problem, data=_subset(data, kept))
    return Loaded(problem, taken, loaded.source, codes, found, weights, designs, loaded.hyper), held_out


def held_out_data(
    likelihood: Likelihood,
    loaded: Loaded,
    method: Any,
    n_starts: int,
    validation: Any,
    reading: tuple[Any, str, Any, str | None],
) -> tuple[Loaded, HeldOut | None]:
    """What ``validation=`` asks for: the data of the fit, and those held out.

    ``reading`` is (start, missing, weights, weight_kind): how data are read.

    Raises:
        ValueError: no minibatches, a model that sees the whole data, a fraction outside (0, 1), other columns.
    """
    if not optimize.batched(method):
        if validation is not None:
            raise ValueError(
                "validation= is watched between the epochs of a training on minibatches: "
                "method=mle.Adam(batch_size=..., epochs=...)"
            )
        return loaded, None
    if loaded.problem.data.mode == "whole":
        raise ValueError(
            f"{likelihood.name} is declared with rowwise=False: it sees the whole data at once, which cannot be cut into "
            "minibatches; leave out batch_size"
        )
    if n_starts > 1:
        raise ValueError(
            "several starts are compared at their maxima, where minibatches do not go; leave out batch_size"
        )
    if validation is None:
        if method.patience != PATIENCE_EPOCHS:
            raise ValueError(f"patience={method.patience} waits for a held-out log-likelihood: give validation= too")
        return loaded, None
    if isinstance(validation, (int, float)) and not isinstance(validation, bool):
        if not 0 < validation < 1:
            raise ValueError(f"validation={validation!r}: expected a fraction between 0 and 1, or data")
        return split(loaded, float(validation), method.seed)
    start, missing, weights, kind = reading
    if weights is not None and not isinstance(weights, str):
        raise ValueError("validation: with data of their own, name the column of the weights: weights='w'")
    if loaded.designs is not None:
        others = [name for name in (likelihood.unit, weights) if name is not None]
        validation = with_designs_again(loaded.designs, ingest(validation), missing, others)
    other = load(likelihood, validation, start, missing, (), weights, kind)
    if other.problem.space != loaded.problem.space or other.problem.data.statics != loaded.problem.data.statics:
        raise ValueError("validation: expected data of the same columns, labels and static values as those of the fit")
    n = n_contributions(other.problem.data)
    return loaded, HeldOut(other.problem.data, n, f"{n} {_noun(other.problem.data)} given")


def _noun(data: Prepared) -> str:
    return "units" if data.mode == "units" else "rows"


def _subset(data: Prepared, index: np.ndarray) -> Prepared:
    """The contributions with these numbers, padded."""
    n_blocks, size = data_room.blocks(index.size)
    full = np.resize(index, n_blocks * size)
    weights = np.where(np.arange(full.size) < index.size, np.asarray(data.weights)[full], 0.0)
    donor = index[int(np.argmax(np.asarray(data.weights)[index] > 0))]
    full = np.where(weights > 0, full, donor)
    return replace(data, rows=data.taken(full), weights=weights, n=np.asarray(index.size, np.int64), block=size)


# ---- training


@partial(compiled, static=("spec", "method"), how="careful")
def _epoch(
    spec: Spec, method: Any, carry: optimize.EpochCarry, batches: Any, data: Prepared, fixed: Any, hyper: Any
) -> tuple[optimize.EpochCarry, optimize.EpochFacts]:
    total = objective_of(spec, data, fixed, hyper)
    mean_weight = total.scale / jnp.maximum(jnp.sum(data.weights > 0), 1)
    plain = replace(spec, penalty=None)

    def value_and_grad(u: Array, rows: Any, weights: Array) -> tuple[Array, Array]:
        batch = replace(data, rows=rows, weights=weights, block=weights.shape[0])
        scale = jnp.maximum(jnp.sum(weights > 0), 1) * mean_weight
        value, grad = Objective(plain, batch, fixed, hyper, scale).value_and_grad(u)
        if spec.penalty is None:
            return value, grad
        more, slope = jax.value_and_grad(total._penalty)(u)
        return value + more / total.scale, grad + slope / total.scale

    setting = setting_of(carry.u, spec.space.lower, spec.space.upper, total.scale)
    transformation = method.gradient_transformation()
    return optimize.epoch(transformation, value_and_grad, carry, data.rows, data.weights, batches, setting)


@partial(compiled, static=("spec",))
def _mean_loglik(spec: Spec, u: Array, data: Prepared, fixed: Any) -> Array:
    objective = objective_of(spec, data, fixed, None)
    return objective.loglik(u) / objective.scale


@partial(compiled, static=("spec",))
def _value_and_score(spec: Spec, u: Array, data: Prepared, fixed: Any, hyper: Any) -> tuple[Array, Array]:
    objective = objective_of(spec, data, fixed, hyper)
    value, grad = objective.value_and_grad(u)
    return -value * objective.scale, -grad * objective.scale


def train(
    spec: Spec,
    method: Any,
    loaded: Loaded,
    u0: np.ndarray,
    fixed: np.ndarray | None,
    held_out: HeldOut | None,
    report: Callable[..., None] | None,
) -> tuple[Ended, History]:
    """Train from u0; call inside ``jax.enable_x64(True)``.

    With held-out data the parameters after the best epoch are kept, and training stops when ``method.patience`` epochs
    have not bettered it. Without, those after the last epoch; up to 500 of them are then taken to a maximum by Newton
    steps, if these converge.
    """
    hyper = loaded.hyper
    data, watched = jax.device_put((loaded.problem.data, None if held_out is None else held_out.data))
    # what changes nothing in the program is no part of its key
    static = replace(method, batch_size=1, seed=0, epochs=1, patience=1)
    u = jnp.asarray(u0)
    memory = strong(method.gradient_transformation().init(u))
    carry = optimize.EpochCarry(u, memory)
    rng, weights = np.random.default_rng(method.seed), np.asarray(data.weights)
    best, best_value, kept = 0, -np.inf, u
    seen: list[float] = []
    outside: list[float] = []
    n_steps = skipped = 0
    end = End.MAX_STEPS
    try:
        for number in range(1, method.epochs + 1):
            batches = optimize.shuffled(weights, method.batch_size, rng)
            carry, facts = _epoch(spec, static, carry, batches, data, fixed, hyper)
            if int(facts.used) == 0:
                end = End.START_NOT_FINITE if number == 1 else End.STALLED
                break
            n_steps += int(facts.used)
            skipped += int(facts.not_finite)
            seen.append(-float(facts.f))
            if watched is None:
                best, kept = number, carry.u
            else:
                outside.append(float(_mean_loglik(spec, carry.u, watched, fixed)))
                if outside[-1] > best_value:
                    best, best_value, kept = number, outside[-1], carry.u
            if report is not None:
                report(number, seen[-1], outside[-1] if outside else None)
            if watched is not None and number - best >= method.patience:
                end = End.SETTLED
                break
    except KeyboardInterrupt:
        end = End.INTERRUPTED
    history = History(tuple(seen), tuple(outside), best)
    if watched is None and spec.space.n_free <= POLISH_LIMIT and end == End.MAX_STEPS:
        _, polished = run(spec, optimize.Newton(max_steps=POLISH_STEPS), data, np.asarray(kept), fixed, hyper)
        if polished.end == End.CONVERGED:
            return polished._replace(n_steps=n_steps + polished.n_steps, polished=True), history
    loglik, score = (np.asarray(a) for a in _value_and_score(spec, kept, data, fixed, hyper))
    message = _message(method, history, held_out, end, skipped, score, n_contributions(data))
    ended = Ended(np.asarray(kept), float(loglik), score, None, float("nan"), (), n_steps, end, False, message)
    return ended, history


def _message(
    method: Any, history: History, held_out: HeldOut | None, end: End, skipped: int, score: np.ndarray, n: int
) -> str:
    """What kind of end this is, for the verdict."""
    ran = f"{len(history.train)} epochs of minibatches of {method.batch_size}"
    if end == End.INTERRUPTED:
        text = f"interrupted after {ran}"
    elif end in (End.STALLED, End.START_NOT_FINITE):
        text = f"the log-likelihood or its gradient is not finite in any minibatch, after {ran}"
    elif held_out is None:
        text = f"{ran} are used up"
    elif history.best == 0:
        text = f"{ran}; the held-out log-likelihood was never finite, so that the parameters are those of the start"
    else:
        text = (
            f"{ran}; the parameters are those after epoch {history.best}, where the held-out log-likelihood was highest "
            f"({history.held_out[history.best - 1]:.6g} each)"
        )
    size = float(np.max(np.abs(score), initial=0.0)) / max(n, 1)
    text += (
        f"; no maximum: the largest entry of the mean score is {size:.2g}, and second derivatives were not looked at"
    )
    return text + (f"; {skipped} minibatches that were not finite were left out" if skipped else "")
