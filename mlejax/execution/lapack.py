"""Sizes of LAPACK calls that cannot wait for each other.

A call for many matrices (a Cholesky factor for every unit, under ``vmap``) is cut up by jaxlib 0.10 among the threads of the
pool that it runs on itself, and waits for them: on few cores two such calls can wait for each other for ever.  So contributions
are summed over blocks, and data sets worked on together, of which no call is large enough to be cut up.  The smaller
blocks are used whatever the version of jaxlib: they stay in the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jaxlib.version

from .limits import limits
from .precision import float64
from .trace import lapack_calls


def side_by_side(p: int) -> int:
    """Systems of p unknowns that may be factorised in one vmapped call while other threads do the same: a power of two.

    Of more, LAPACK on the CPU hands parts to the pool of threads that it runs on itself, and waits: two such calls at a time
    can wait for each other for ever (jaxlib 0.10).

    Example:
        >>> from mlejax.execution.lapack import side_by_side
        >>> side_by_side(10), side_by_side(30), side_by_side(100)
        (128, 4, 1)
    """
    return 1 << max(limits().lapack_work // max(p, 1) ** 3, 1).bit_length() - 1


def cuts_calls_up() -> bool:
    """Whether this jaxlib hands parts of large calls of LAPACK to other threads: 0.10, and 0.11 to be safe, on the CPU."""
    return limits().on_cpu and (0, 10) <= jaxlib.version.__version_info__[:2] < (0, 12)


def most_at_once(value: Callable[..., Any], *two: Any, p: int) -> int | None:
    """How many contributions or data sets may be evaluated in one call; None where nothing bounds them.

    Args:
        value: a function of two of them.
        two: its arguments, concrete or abstract.
        p: directions in which it is differentiated.
    """
    with float64():
        calls = list(lapack_calls(jax.make_jaxpr(value)(*two).jaxpr))
    # one matrix alone is never cut up; nor are its derivatives, whose directions JAX makes columns of one right-hand side
    each = max((m * work // 2 for m, work in calls if m > 1), default=0)
    return max(limits().lapack_work // (each * max(p, limits().lapack_points)), 1) if each else None
