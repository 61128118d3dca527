"""Sizes of LAPACK calls that cannot deadlock.

On the CPU, jaxlib 0.10 splits a call for many matrices (a Cholesky factor for every unit, under ``vmap``) among the threads of
the pool on which the call itself runs, and waits for them: on few cores two such calls can wait for each other for ever.
Terms of a log-likelihood are therefore summed over blocks, and data sets evaluated together in groups, so small that none of
their calls is split.  The smaller blocks are used with every version of jaxlib, since they stay in the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jaxlib.version

from mlejax.shapes import PyTree

from .limits import limits
from .precision import float64
from .trace import lapack_calls


def side_by_side(p: int) -> int:
    """Return how many p x p matrices one vmapped call may factorise while other threads make such calls: a power of two.

    Example:
        >>> from mlejax.execution.lapack import side_by_side
        >>> side_by_side(10), side_by_side(30), side_by_side(100)
        (128, 4, 1)
    """
    return 1 << max(limits().lapack_work // max(p, 1) ** 3, 1).bit_length() - 1


def splits_large_calls() -> bool:
    """Return True on the CPU with a jaxlib that splits large calls of LAPACK among threads (0.10; 0.11 is assumed to)."""
    return limits().on_cpu and (0, 10) <= jaxlib.version.__version_info__[:2] < (0, 12)


def most_at_once(value: Callable[..., Any], *two: PyTree, p: int) -> int | None:
    """Return how many log-likelihood terms or data sets one call may evaluate; None if it has no call of LAPACK that is made for
    each of them.

    Args:
        value: function that evaluates two terms, or two data sets.
        two: the arguments of ``value``, concrete or abstract.
        p: number of directions in which ``value`` is differentiated.
    """
    with float64():
        calls = list(lapack_calls(jax.make_jaxpr(value)(*two).jaxpr))
    # a single matrix is never split, nor are its derivatives: JAX makes their directions columns of one right-hand side
    each = max((m * work // 2 for m, work in calls if m > 1), default=0)
    return max(limits().lapack_work // (each * max(p, limits().lapack_points)), 1) if each else None
