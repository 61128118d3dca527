"""Training on minibatches: epochs on the host, with the log-likelihood of validation data after each.

The data are copied to the device once, and an epoch is one compiled program (:func:`mlejax.optimize.epoch`). The result has no
second derivatives, unless there are at most 500 parameters and no validation data, and Newton steps after the last epoch
converge.
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
from mlejax.data import Prepared, ingest, with_observed
from mlejax.data.formulas import with_designs_again
from mlejax.execution import compiled
from mlejax.fit.maximise.maximise import POLISH_LIMIT, POLISH_STEPS, maximise
from mlejax.fit.prepare.loaded import Loaded
from mlejax.fit.prepare.loading import load
from mlejax.likelihood import Likelihood
from mlejax.objective import ChunkedEvaluator, Objective, Spec, objective_of
from mlejax.optimize import PATIENCE_EPOCHS, Adam, FirstOrder, OptimizeResult, setting_of, strong
from mlejax.shapes import Device, Either, Float, Host, Int, PyTree
from mlejax.status import End


class ValidationData(NamedTuple):
    """Validation data of a training on minibatches.

    Attributes:
        data: the prepared rows or units.
        origin: where they come from, a phrase for the summary.
    """

    data: Prepared
    origin: str


@dataclass(frozen=True)
class History:
    """Mean log-likelihood per row (or unit) of each epoch of a training.

    Attributes:
        train: mean over the minibatches used in the epoch, each at the parameters before its step; minus the penalty divided by
            the sum of weights, if there is a penalty.
        validation: mean over the validation data after the epoch, without penalty; empty without validation data.
        best: number (from 1) of the epoch whose parameters were kept, from which any Newton steps began; 0 for the start.
    """

    train: tuple[float, ...]
    validation: tuple[float, ...]
    best: int


# ---- validation data


def split(loaded: Loaded, fraction: float, seed: int) -> tuple[Loaded, ValidationData]:
    """Split off a random fraction of the rows (units) for validation; return the data of the fit and the validation data.

    ValueError if either would be empty.
    """
    n = loaded.problem.data.n_contributions
    n_out = round(fraction * n)
    if not 0 < n_out < n:
        raise ValueError(
            f"validation={fraction} of {n} {_noun(loaded.problem.data)} gives {n_out} for validation, so that one part is empty; "
            "give a fraction between 1/n and 1 - 1/n"
        )
    order = np.random.default_rng(seed).permutation(n)
    out, kept = np.sort(order[:n_out]), np.sort(order[n_out:])
    data = loaded.problem.data
    validation = ValidationData(_subset(data, out), f"{n_out} of {n} {_noun(data)}, at random (seed {seed})")
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
    return Loaded(problem, taken, loaded.source, codes, found, weights, designs, loaded.hyper), validation


def validation_data(
    likelihood: Likelihood,
    loaded: Loaded,
    method: Any,
    n_starts: int,
    validation: PyTree,
    reading: tuple[Any, str, Any, str | None],
) -> tuple[Loaded, ValidationData | None]:
    """Split off or load the validation data for ``validation=``.

    Args:
        likelihood, loaded: the model and the data of the fit.
        method: from ``optimize.resolve``.
        n_starts: number of starts.
        validation: a fraction of the rows (units), or data with the columns of the fit; None for no validation data.
        reading: (start, missing, weights, weight_kind) of the fit, with which validation data are read.

    Returns:
        The data of the fit, and the validation data or None.

    Raises:
        ValueError: validation data for a method without minibatches; minibatches for a model of the whole data or with several
            starts; patience without validation data; a fraction outside (0, 1); validation data given separately if the weights
            are an array, or with other columns.
        DataError, LikelihoodError: validation data that `load` refuses.
    """
    if not optimize.batched(method):
        if validation is not None:
            raise ValueError(
                "validation= is an option of training on minibatches: give method=mle.Adam(batch_size=..., epochs=...) too, or "
                "leave it out"
            )
        return loaded, None
    if loaded.problem.data.mode == "whole":
        raise ValueError(
            f"{likelihood.name} is declared with rowwise=False: its function receives the whole data at once, which cannot "
            "be divided into minibatches; leave out batch_size"
        )
    if n_starts > 1:
        raise ValueError(
            f"n_starts={n_starts} compares maxima, and training on minibatches does not reach a maximum: leave out n_starts= or "
            "batch_size="
        )
    if validation is None:
        if method.patience != PATIENCE_EPOCHS:
            raise ValueError(
                f"patience={method.patience} counts epochs by their validation log-likelihood: give validation= too"
            )
        return loaded, None
    if isinstance(validation, (int, float)) and not isinstance(validation, bool):
        if not 0 < validation < 1:
            raise ValueError(f"validation={validation!r}: expected a fraction between 0 and 1, or data")
        return split(loaded, float(validation), method.seed)
    start, missing, weights, kind = reading
    if weights is not None and not isinstance(weights, str):
        raise ValueError(
            "weights=: with a separate validation data set, expected the name of a column of both data sets, got an array"
        )
    if loaded.designs is not None:
        others = [name for name in (likelihood.unit, weights) if name is not None]
        table = with_observed(ingest(validation), likelihood.open_columns)
        validation = with_designs_again(loaded.designs, table, missing, others)
    other = load(likelihood, validation, start, missing, (), weights, kind)
    if other.problem.space != loaded.problem.space or other.problem.data.statics != loaded.problem.data.statics:
        raise ValueError("validation: expected data of the same columns, labels and static values as those of the fit")
    data = other.problem.data
    return loaded, ValidationData(data, f"{data.n_contributions} {_noun(data)} given")


def _noun(data: Prepared) -> str:
    return "units" if data.mode == "units" else "rows"


def _subset(data: Prepared, index: Int[Host, " m"]) -> Prepared:
    """Return the rows (units) with these numbers as data of their own, padded with copies of a row of positive weight."""
    n_blocks, size = data_room.blocks(index.size)
    full = np.resize(index, n_blocks * size)
    weights = np.where(np.arange(full.size) < index.size, np.asarray(data.weights)[full], 0.0)
    donor = index[int(np.argmax(np.asarray(data.weights)[index] > 0))]
    full = np.where(weights > 0, full, donor)
    return replace(data, rows=data.taken(full), weights=weights, n=np.asarray(index.size, np.int64), block=size)


# ---- training


@partial(compiled, static=("spec", "method"), how="careful")
def _epoch(
    spec: Spec,
    method: Adam | FirstOrder,
    carry: optimize.EpochCarry,
    batches: tuple[Device, Device],
    data: Prepared,
    fixed: Either | None,
    hyper: PyTree,
) -> tuple[optimize.EpochCarry, optimize.EpochFacts]:
    """Run one epoch over these ``batches`` from the state ``carry``, compiled.

    The objective of each batch is minus its mean log-likelihood, plus the penalty divided by the sum of the weights of all rows.
    ``hyper``: second argument of the penalty.
    """
    total = objective_of(spec, data, fixed, hyper)
    mean_weight = total.scale / jnp.maximum(jnp.sum(data.weights > 0), 1).astype(total.scale.dtype)
    plain = replace(spec, penalty=None)

    def value_and_grad(u: Either, rows: PyTree, weights: Device) -> tuple[Any, Any]:
        batch = replace(data, rows=rows, weights=weights, block=weights.shape[0])
        scale = jnp.maximum(jnp.sum(weights > 0), 1).astype(mean_weight.dtype) * mean_weight
        value, grad = Objective(plain, batch, fixed, hyper, scale).value_and_grad(u)
        if spec.penalty is None:
            return value, grad
        more, slope = jax.value_and_grad(total.penalty)(u)
        return value + more / total.scale, grad + slope / total.scale

    setting = setting_of(carry.u, spec.space.lower, spec.space.upper, total.scale)
    transformation = method.gradient_transformation()
    return optimize.epoch(transformation, value_and_grad, carry, data.rows, data.weights, batches, setting)


@partial(compiled, static=("spec",))
def _mean_loglik(spec: Spec, u: Float[Device, " p"], data: Prepared, fixed: Either | None) -> Float[Device, ""]:
    """Return the log-likelihood, without penalty, divided by the sum of weights, ()."""
    objective = objective_of(spec, data, fixed, None)
    return objective.loglik(u) / objective.scale


class _Training:
    """State of a training: optimiser state, best parameters so far, and mean log-likelihoods of the epochs."""

    def __init__(self, method: Any, u0: Float[Host, " p"]) -> None:
        u = jnp.asarray(u0)
        self.carry = optimize.EpochCarry(u, strong(method.gradient_transformation().init(u)))
        self.kept, self.best, self.best_value = u, 0, -np.inf
        self.train: list[float] = []
        self.validation: list[float] = []
        self.n_steps = self.n_skipped = 0

    def record(self, facts: optimize.EpochFacts, validation: float | None) -> None:
        """Record an epoch, with what happened in it (``facts``); store its parameters if its validation log-likelihood is the
        highest so far, or if there is none (None).
        """
        self.n_steps += int(facts.used)
        self.n_skipped += int(facts.not_finite)
        self.train.append(-float(facts.f))
        if validation is not None:
            self.validation.append(validation)
        if validation is None or validation > self.best_value:
            self.kept, self.best, self.best_value = (
                self.carry.u,
                len(self.train),
                -np.inf if validation is None else validation,
            )


def train(
    spec: Spec,
    method: Any,
    loaded: Loaded,
    u0: Float[Host, " p"],
    fixed: Float[Host, " q"] | None,
    validation: ValidationData | None,
    report: Callable[..., None] | None,
) -> tuple[OptimizeResult, History]:
    """Train on minibatches from u0; call inside ``float64()``.

    With validation data, training stops when ``method.patience`` epochs have not improved their log-likelihood, and the
    parameters after the best epoch are returned (the start if none improved). Without validation data, the parameters after the
    last complete epoch are returned; but if all epochs were run and the model has at most 500 parameters, Newton steps follow,
    and their result is returned if they converge. Ctrl-C, or an epoch in which no minibatch has a finite value and gradient,
    ends training, and no Newton steps follow.

    Args:
        spec: the specification.
        method: a method with ``batch_size``.
        loaded: data of the fit.
        u0: start, (p,).
        fixed: values under ``fixed=``, or None.
        validation: from `validation_data`, or None.
        report: called after every epoch with its number and its mean log-likelihoods (training, validation or None).

    Returns:
        The final point, and the mean log-likelihoods by epoch.
    """
    hyper = loaded.hyper
    data, watched = jax.device_put((loaded.problem.data, None if validation is None else validation.data))
    static = replace(method, batch_size=1, seed=0, epochs=1, patience=1)  # options that do not change the program
    rng, weights = np.random.default_rng(method.seed), np.asarray(data.weights)
    done = _Training(method, u0)
    end = End.MAX_STEPS
    try:
        for number in range(1, method.epochs + 1):
            batches = optimize.shuffled(weights, method.batch_size, rng)
            done.carry, facts = _epoch(spec, static, done.carry, batches, data, fixed, hyper)
            if int(facts.used) == 0:
                end = End.START_NOT_FINITE if number == 1 else End.STALLED
                break
            mean = None if watched is None else float(_mean_loglik(spec, done.carry.u, watched, fixed))
            done.record(facts, mean)
            if report is not None:
                report(number, done.train[-1], validation=mean)
            if watched is not None and number - done.best >= method.patience:
                end = End.SETTLED
                break
    except KeyboardInterrupt:
        end = End.INTERRUPTED
    history = History(tuple(done.train), tuple(done.validation), done.best)
    why = "the search stopped early"
    if end in (End.MAX_STEPS, End.SETTLED):
        why = f"more than {POLISH_LIMIT} parameters" if spec.space.n_free > POLISH_LIMIT else "there are validation data"
    if watched is None and spec.space.n_free <= POLISH_LIMIT and end == End.MAX_STEPS:
        newton = optimize.Newton(max_steps=POLISH_STEPS)
        polished = maximise(ChunkedEvaluator(spec, data, fixed, hyper), newton, np.asarray(done.kept)[None])[1].of(0)
        if polished.end == End.CONVERGED:
            return polished._replace(n_steps=done.n_steps + polished.n_steps, polished=True), history
        why = f"{POLISH_STEPS} of them from there did not converge"
    found = ChunkedEvaluator(spec, data, fixed, hyper).evaluate(np.asarray(done.kept)[None], 1)
    loglik, score = found.loglik[0], np.asarray(found.score)[0]
    size = float(np.max(np.abs(score), initial=0.0)) / max(data.n_contributions, 1)
    message = _message(method, history, validation is not None, end)
    message += (
        f"; no maximum: the largest entry of the mean score is {size:.2g}, and it was not polished by Newton steps: {why}"
    )
    message += f"; {done.n_skipped} minibatches with a value that is not finite were left out" if done.n_skipped else ""
    nothing, n_steps, status = np.full(4, np.nan), np.asarray(done.n_steps), np.asarray(int(end))
    u = np.asarray(done.kept)
    unknown = np.full(loglik.shape, np.inf)
    return OptimizeResult(u, loglik, score, None, nothing, unknown, n_steps, status, False, message), history


def _message(method: Adam | FirstOrder, history: History, validated: bool, end: End) -> str:
    """Return the statement of the verdict: why the training stopped.  ``validated``: True if there were validation data."""
    ran = f"{len(history.train)} epochs of minibatches of {method.batch_size}"
    if end == End.INTERRUPTED:
        return f"interrupted after {ran}"
    if end in (End.STALLED, End.START_NOT_FINITE):
        return f"the log-likelihood or its gradient is not finite in any minibatch, after {ran}"
    if not validated:
        return f"stopped after {ran}"
    if history.best == 0:
        return f"{ran}; the validation log-likelihood was never finite, so that the parameters are those of the start"
    return (
        f"{ran}; the parameters are those after epoch {history.best}, where the validation log-likelihood was highest "
        f"({history.validation[history.best - 1]:.6g} per row or unit)"
    )
