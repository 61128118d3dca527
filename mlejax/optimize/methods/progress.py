"""The watch on progress that methods without curvature stop by: a window of turns in which the log-likelihood did not rise.

Without curvature no step says how far the maximum is; where the log-likelihood has risen by at most ``tol`` over
``patience`` turns, the search has settled. That is no proof of a maximum, and the status says so (`End.SETTLED`).
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from mlejax.optimize.method import Count, Flag, Point, Setting
from mlejax.shapes import DTypeLike, Scalar

__all__ = ["Progress", "no_progress", "watch"]


class Progress(NamedTuple):
    """A window: the objective at the kept point when it began, (), and the turns since then, ()."""

    mark: Scalar
    age: Count


def no_progress(dtype: DTypeLike) -> Progress:
    """The window before the first evaluation."""
    return Progress(np.full((), np.inf, dtype), np.zeros((), np.int32))


def watch(
    progress: Progress, kept: Point, first: Flag, setting: Setting, tol: float, patience: int
) -> tuple[Progress, Flag, Scalar]:
    """One turn further.

    Args:
        progress: the window so far.
        kept: the kept point after this turn.
        first: whether it is the start.
        setting: scale of the log-likelihood.
        tol: rise of the log-likelihood over a window that counts as progress.
        patience: length of the window, in turns.

    Returns:
        The window from here on; whether one ended without progress; the rise in this one, log-likelihood units.
    """
    age = jnp.where(first, 0, progress.age + 1)
    mark = jnp.where(first, kept.f, progress.mark)
    rise = setting.scale * (mark - kept.f)
    over = age >= patience
    after = Progress(jnp.where(over, kept.f, mark), jnp.where(over, 0, age).astype(jnp.int32))
    return after, over & (rise <= tol), rise
