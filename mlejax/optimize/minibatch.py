r"""Minibatches: one epoch of a first-order method over shuffled rows, as one compiled scan.

The rows are shuffled anew for every epoch and cut into batches B; each gives the estimate

    f_B(u) = -(1 / |B|) sum_{i in B} (w_i / mean w) l_i(u) + P(u) / sum w

of the objective, whose gradient goes through an optax transformation. Padding is shuffled to the end and has no weight;
a batch without a single row, or whose value or gradient is not finite, moves nothing (the latter are counted).

Robbins & Monro (1951), Annals of Mathematical Statistics 22; Kingma & Ba (2015), ICLR.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.optimize.box import clip, outward
from mlejax.optimize.contract import Setting

__all__ = ["EpochCarry", "EpochFacts", "batched", "check_batches", "epoch", "refuse_batches", "shuffled"]

EPOCHS = 100
PATIENCE = 100
PATIENCE_EPOCHS = 10


class EpochCarry(NamedTuple):
    """What passes from one step to the next: the point u (p,) and the transformation's memory."""

    u: Any
    memory: Any


class EpochFacts(NamedTuple):
    """What an epoch saw: mean of f_B over its batches (), and how many of them were used and not finite ()."""

    f: Any
    used: Any
    not_finite: Any


def batched(method: Any) -> bool:
    """Whether a method works on minibatches.

    >>> from mlejax.optimize import Adam
    >>> batched(Adam(batch_size=32)), batched(Adam())
    (True, False)
    """
    return getattr(method, "batch_size", None) is not None


def refuse_batches(method: Any) -> None:
    """ValueError for a method on minibatches where the whole objective is needed at every step."""
    if batched(method):
        raise ValueError(
            f"{type(method).__name__}(batch_size={method.batch_size}) trains on minibatches, which only model.fit does; "
            "leave out batch_size"
        )


def check_batches(method: Any) -> None:
    """Check the options on minibatches and fill in those left out; called when a method is made.

    Raises:
        ValueError: options that mean nothing without ``batch_size``, or with it.
    """
    name = type(method).__name__
    defaults = type(method).__dataclass_fields__
    if method.batch_size is None:
        for option in ("epochs", "seed"):
            if getattr(method, option) != defaults[option].default:
                raise ValueError(f"{name}({option}=...) is for minibatches: give batch_size= too")
        _fill(method, "patience", PATIENCE)
        return
    for option in ("tol", "max_steps"):
        if getattr(method, option) != defaults[option].default:
            raise ValueError(f"{name}({option}=...) means nothing with batch_size=: epochs= says how long to train")
    _fill(method, "epochs", EPOCHS)
    _fill(method, "patience", PATIENCE_EPOCHS)
    for option in ("batch_size", "epochs", "patience"):
        if not _positive(getattr(method, option)):
            raise ValueError(f"{name}({option}={getattr(method, option)!r}): expected a positive whole number")
    if not isinstance(method.seed, int) or isinstance(method.seed, bool):
        raise ValueError(f"{name}(seed={method.seed!r}): expected a whole number")


def _fill(method: Any, option: str, value: Any) -> None:
    if getattr(method, option) is None:
        object.__setattr__(method, option, value)


def _positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def epoch(
    transformation: Any,
    batch_value_and_grad: Callable[[jax.Array, Any, jax.Array], tuple[Any, Any]],
    carry: EpochCarry,
    rows: Any,
    weights: jax.Array,
    batches: tuple[jax.Array, jax.Array],
    setting: Setting,
) -> tuple[EpochCarry, EpochFacts]:
    """Once through the rows.

    Args:
        transformation: an optax gradient transformation.
        batch_value_and_grad: (u, rows of a batch, their weights) -> f_B () and its gradient (p,); weights of padding are 0.
        carry: where the training stands.
        rows: tree of arrays (N, ...).
        weights: (N,), 0 in the padding.
        batches: what `shuffled` returns, (n_batches, size) each.
        setting: the box.

    Returns:
        The carry after the epoch, and what it saw.
    """
    import optax

    update = optax.with_extra_args_support(transformation).update

    def step(state: EpochCarry, batch: tuple[Any, Any]) -> tuple[EpochCarry, tuple[Any, Any, Any]]:
        u, memory = state
        index, mask = batch
        part = jax.tree.map(lambda a: jnp.asarray(a)[index], rows)
        value, grad = batch_value_and_grad(u, part, jnp.where(mask, weights[index], 0.0))
        there = jnp.any(mask)
        finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(grad))
        good = there & finite
        slope = jnp.where(good & ~outward(u, grad, setting), grad, 0.0)
        move, after = update(slope, memory, u, value=value, grad=slope)
        after = jax.tree.map(lambda a, b: jnp.where(good, jnp.asarray(a, b.dtype), b), after, memory)
        moved = clip(u + jnp.where(jnp.isfinite(move), move, 0.0), setting)
        return EpochCarry(jnp.where(good, moved, u), after), (jnp.where(good, value, 0.0), good, there & ~finite)

    carry, (values, good, bad) = jax.lax.scan(step, carry, batches)
    used = jnp.sum(good)
    return carry, EpochFacts(jnp.sum(values) / jnp.maximum(used, 1), used, jnp.sum(bad))


def shuffled(weights: np.ndarray, batch_size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the rows, cut into batches: (n_batches, size) and flags of those that count.

    Rows of positive weight come first, in random order; what fills up the last batches does not count. The shape depends
    on the padded length alone, as the compiled program does.

    >>> index, counted = shuffled(np.array([1.0, 1.0, 1.0, 0.0]), 2, np.random.default_rng(0))
    >>> sorted(index[counted].tolist()), counted.tolist()
    ([0, 1, 2], [[True, True], [True, False]])
    """
    n = weights.shape[0]
    size = min(batch_size, n)
    real = rng.permutation(np.flatnonzero(weights > 0))
    index = np.resize(real, (-(-n // size), size))
    return index, np.arange(index.size).reshape(index.shape) < real.size
