"""Stopping rule of first-order methods: stop when the log-likelihood increased by at most ``tol`` over ``patience`` evaluations.

Without curvature the distance to the maximum is not known, so this is no proof of a maximum; the status is `End.SETTLED`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from mlejax.optimize.method import Count, Flag, Point, Setting
from mlejax.shapes import DTypeLike, Scalar

__all__ = ["Progress", "no_progress", "watch"]


class Progress(NamedTuple):
    """State of the stopping rule over consecutive windows of ``patience`` evaluations.

    Attributes:
        mark: objective at the kept point when the current window began, ().
        age: evaluations since then, ().
    """

    mark: Scalar
    age: Count


def no_progress(dtype: DTypeLike) -> Progress:
    """Return the state of the stopping rule before the first evaluation: no mark (inf), age 0."""
    return Progress(np.full((), np.inf, dtype), np.zeros((), np.int32))


def watch(
    progress: Progress, kept: Point, first: Flag, setting: Setting, tol: float, patience: int
) -> tuple[Progress, Flag, Scalar]:
    """Update the stopping rule after one evaluation.

    Args:
        progress: its state.
        kept: the kept point after this evaluation.
        first: True if this was the first evaluation, that of the start.
        setting: scale of the log-likelihood.
        tol: the search stops if the log-likelihood increased by at most this over a window.
        patience: length of a window, in evaluations.

    Returns:
        The new state; whether to stop, which is possible only at the end of a window, (); the increase of the log-likelihood
        since the window began, ().
    """
    age = jnp.where(first, 0, progress.age + 1)
    mark = jnp.where(first, kept.f, progress.mark)
    rise = setting.scale * (mark - kept.f)
    over = age >= patience
    after = Progress(jnp.where(over, kept.f, mark), jnp.where(over, 0, age).astype(jnp.int32))
    return after, over & (rise <= tol), rise
