r"""Minibatches: one epoch of a first-order method over shuffled rows, as one compiled scan.

The rows are shuffled for every epoch and divided into batches B; each gives the estimate

    f_B(u) = -(1 / |B|) sum_{i in B} (w_i / mean w) l_i(u) + P(u) / sum w

of the objective, whose gradient goes through an optax transformation. Padding is shuffled to the end and has weight 0.
Batches without rows, and batches whose value or gradient is not finite, are skipped; the latter are counted.

Robbins & Monro (1951), Annals of Mathematical Statistics 22; Kingma & Ba (2015), ICLR.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.optimize.arrays import promoting
from mlejax.optimize.box import active_bounds, clip
from mlejax.optimize.method import Point, Setting, Transformation
from mlejax.shapes import Bool, Count, Device, Float, Host, Int, PyTree, Scalar

__all__ = ["EpochCarry", "EpochFacts", "batched", "check_batches", "epoch", "refuse_batches", "shuffled"]

EPOCHS = 100
PATIENCE = 100
PATIENCE_EPOCHS = 10


class EpochCarry(NamedTuple):
    """State between batches: the point u, (p,), and the state of the optax transformation."""

    u: Float[Device, " p"]
    memory: PyTree


class EpochFacts(NamedTuple):
    """Summary of an epoch.

    Attributes:
        f: mean of the objective estimates f_B over the batches used, (); 0 if none was used.
        used: number of batches used, ().
        not_finite: number of batches skipped because their value or gradient was not finite, ().
    """

    f: Scalar
    used: Count
    not_finite: Count


def batched(method: Any) -> bool:
    """True if a method has a ``batch_size`` that is not None, so that it trains on minibatches.

    >>> from mlejax.optimize import Adam
    >>> batched(Adam(batch_size=32)), batched(Adam())
    (True, False)
    """
    return getattr(method, "batch_size", None) is not None


def refuse_batches(method: Any) -> None:
    """Raise ValueError if a method trains on minibatches; called where every step needs all rows."""
    if batched(method):
        raise ValueError(
            f"{type(method).__name__}(batch_size={method.batch_size}) trains on minibatches, which only model.fit does; "
            "leave out batch_size"
        )


def check_batches(method: Any) -> None:
    """Check the minibatch options of a method and set those that are None (``patience``, and ``epochs`` with ``batch_size``) to
    their defaults; called by its constructor.

    Raises:
        ValueError: ``epochs`` or ``seed`` without ``batch_size``; ``tol`` or ``max_steps`` with it; with it, ``batch_size``,
            ``epochs`` or ``patience`` that is not a positive whole number, or ``seed`` that is not a whole number.
    """
    name, defaults = type(method).__name__, type(method).__dataclass_fields__
    changed = lambda *options: next((o for o in options if getattr(method, o) != defaults[o].default), None)
    filled = {"patience": PATIENCE}
    if method.batch_size is None:
        if option := changed("epochs", "seed"):
            raise ValueError(f"{name}({option}=...) is an option of minibatches: give batch_size= too, or leave it out")
    else:
        if option := changed("tol", "max_steps"):
            raise ValueError(f"{name}({option}=...) has no effect with batch_size=: leave it out; epochs= sets how long to train")
        filled = {"epochs": EPOCHS, "patience": PATIENCE_EPOCHS}
    for option, value in filled.items():
        if getattr(method, option) is None:
            object.__setattr__(method, option, value)
    if method.batch_size is not None:
        for option in ("batch_size", "epochs", "patience"):
            value = getattr(method, option)
            if type(value) is not int or value <= 0:
                raise ValueError(f"{name}({option}={value!r}): expected a positive whole number")
        if type(method.seed) is not int:
            raise ValueError(f"{name}(seed={method.seed!r}): expected a whole number")


def epoch(
    transformation: Transformation,
    batch_value_and_grad: Callable[[Any, Any, Any], tuple[Any, Any]],
    carry: EpochCarry,
    rows: PyTree,
    weights: Float[Device, " N"],
    batches: tuple[Int[Device, "b size"], Bool[Device, "b size"]],
    setting: Setting,
) -> tuple[EpochCarry, EpochFacts]:
    """Run one epoch: one optimiser step for each batch of rows. A batch without rows, or whose f_B or gradient is not finite, is
    skipped.

    Args:
        transformation: an optax gradient transformation.
        batch_value_and_grad: (u, rows of a batch, their weights) -> f_B () and its gradient (p,); weights of padding are 0.
        carry: the point and the state of the transformation.
        rows: pytree of arrays (N, ...).
        weights: weights of the rows, (N,), 0 in the padding.
        batches: row positions and mask from `shuffled`, (n_batches, size) each.
        setting: the bounds, onto which every step is projected.

    Returns:
        The carry after the epoch, and its `EpochFacts`.
    """
    import optax

    update = optax.with_extra_args_support(transformation).update

    def step(state: EpochCarry, batch: tuple[Any, Any]) -> tuple[EpochCarry, tuple[Any, Any, Any]]:
        u, memory = state
        index, counted = batch
        part = jax.tree.map(lambda a: jnp.asarray(a)[index], rows)
        value, grad = batch_value_and_grad(u, part, jnp.where(counted, weights[index], 0.0))
        any_rows = jnp.any(counted)
        finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(grad))
        good = any_rows & finite
        active = active_bounds(Point(u, value, grad, grad), setting)
        slope = jnp.where(good & ~active, grad, 0.0)
        with promoting():
            move, after = update(slope, memory, u, value=value, grad=slope)
        after = jax.tree.map(lambda a, b: jnp.where(good, jnp.asarray(a, b.dtype), b), after, memory)
        moved = clip(u + jnp.where(jnp.isfinite(move), move, 0.0), setting)
        return EpochCarry(jnp.where(good, moved, u), after), (jnp.where(good, value, 0.0), good, any_rows & ~finite)

    carry, (values, good, bad) = jax.lax.scan(step, carry, batches)
    used = jnp.sum(good)
    return carry, EpochFacts(jnp.sum(values) / jnp.maximum(used, 1).astype(values.dtype), used, jnp.sum(bad))


def shuffled(
    weights: Float[Host, " N"], batch_size: int, rng: np.random.Generator
) -> tuple[Int[Host, "b size"], Bool[Host, "b size"]]:
    """Shuffle the rows of positive weight and divide them into batches.

    Args:
        weights: weights of the rows, (N,), 0 in the padding.
        batch_size: rows per batch.
        rng: NumPy random generator.

    Returns:
        Row positions and a mask, (n_batches, size) each, with size = min(batch_size, N) and n_batches = N / size rounded up.
        The positions after those of all rows of positive weight repeat some of them and are False in the mask.

    >>> index, counted = shuffled(np.array([1.0, 1.0, 1.0, 0.0]), 2, np.random.default_rng(0))
    >>> sorted(index[counted].tolist()), counted.tolist()
    ([0, 1, 2], [[True, True], [True, False]])
    """
    n = weights.shape[0]
    size = min(batch_size, n)
    real = rng.permutation(np.flatnonzero(weights > 0))
    index = np.resize(real, (-(-n // size), size))
    return index, np.arange(index.size).reshape(index.shape) < real.size
