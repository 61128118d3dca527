r"""Linear equality constraints on the free coordinates: some stay free ("kept"), the others are determined by them.

Restrictions A theta = b are solved for as many coordinates as there are independent ones (Gauss-Jordan elimination), so that

    theta = t + T theta_kept,

exactly linear in natural coordinates.  The kept coordinates are optimised on their unconstrained scale as before.  Every
determined coordinate must be in its support for all values of the kept ones: always true if it is real, if it equals another
one of the same support, or if it is a sum of positive ones with positive coefficients.  This is tested by the range of
b + sum a_k theta_k over the supports of the kept coordinates; constraints that can leave a support raise ValueError.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from mlejax import transforms
from mlejax.transforms import Transform

_ZERO = 1e-11  # remainders after elimination up to this, relative to the restriction, count as 0
LIMIT = 2000  # most free coordinates, because the matrix T is dense


@dataclass(frozen=True)
class Ties:
    """Linear constraints theta = offset + matrix @ theta[kept]; hashable, part of the compilation key.

    Attributes:
        kept: positions of the coordinates that stay free, among all p.
        offset_bytes, matrix_bytes: t (p,) and T (p, q) as bytes of float64.
        n: number p of all coordinates.
    """

    kept: tuple[int, ...]
    offset_bytes: bytes
    matrix_bytes: bytes
    n: int

    @cached_property
    def index(self) -> np.ndarray:
        """``kept`` as an array."""
        return np.array(self.kept, np.int64)

    @cached_property
    def offset(self) -> np.ndarray:
        """The offset t (p,)."""
        return np.frombuffer(self.offset_bytes, np.float64)

    @cached_property
    def matrix(self) -> np.ndarray:
        """The matrix T (p, q)."""
        return np.frombuffer(self.matrix_bytes, np.float64).reshape(self.n, len(self.kept))


class Support(NamedTuple):
    """An interval from ``low`` to ``high``; ``low_closed`` and ``high_closed`` are True if that end belongs to the interval."""

    low: float
    high: float
    low_closed: bool = False
    high_closed: bool = False

    def contains(self, inner: Support) -> bool:
        """True if the inner interval is inside this one, up to 1e-12 of the size of its ends; a closed end is not inside an open
        one.
        """
        slack = 1e-12 * max([1.0, *(abs(x) for x in (self.low, self.high) if math.isfinite(x))])
        above = inner.low > self.low + slack or (
            inner.low >= self.low - slack and (self.low_closed or not inner.low_closed or math.isinf(self.low))
        )
        below = inner.high < self.high - slack or (
            inner.high <= self.high + slack and (self.high_closed or not inner.high_closed or math.isinf(self.high))
        )
        return bool(above and below)


REAL = Support(-math.inf, math.inf)


def support_of(transform: Transform) -> Support | None:
    """Return the interval of values of an elementwise transform; None for a structured one (a simplex, a matrix, ...).

    >>> support_of(transforms.Log())
    Support(low=0.0, high=inf, low_closed=False, high_closed=False)
    """
    if isinstance(transform, transforms.Identity):
        return REAL
    if isinstance(transform, transforms.Log):
        return Support(0.0, math.inf)
    if isinstance(transform, transforms.Logit):
        return Support(transform.lo, transform.hi)
    if isinstance(transform, transforms.Box):
        return Support(transform.lo, transform.hi, math.isfinite(transform.lo), math.isfinite(transform.hi))
    if isinstance(transform, transforms.HalfOpen):
        left = transform.closed == "left"
        return Support(transform.lo, transform.hi, left, not left)
    return None


def range_of(row: np.ndarray, constant: float, supports: Sequence[Support | None]) -> Support:
    """Return the range of constant + row @ theta over the supports of all coordinates; those whose support is None are left out.

    >>> range_of(np.array([2.0, 0.0]), 1.0, [Support(0.0, 1.0), REAL])
    Support(low=1.0, high=3.0, low_closed=False, high_closed=False)
    """
    low = high = constant
    low_closed = high_closed = True
    for weight, support in zip(row, supports, strict=True):
        if weight == 0.0 or support is None:
            continue
        ends = [(weight * support.low, support.low_closed), (weight * support.high, support.high_closed)]
        (a, a_closed), (b, b_closed) = ends if weight > 0 else ends[::-1]
        low, high = low + float(a), high + float(b)
        low_closed, high_closed = low_closed and a_closed, high_closed and b_closed
    return Support(low, high, low_closed, high_closed)


class Solved(NamedTuple):
    """The constraints solved for some coordinates (``ties``; None if every constraint holds for all parameter values), and the
    labels of the ``redundant`` constraints, which follow from those before them.
    """

    ties: Ties | None
    redundant: tuple[str, ...]


def solve_ties(
    A: np.ndarray,
    b: np.ndarray,
    labels: Sequence[str],
    names: Sequence[str],
    supports: Sequence[Support | None],
    kinds: Sequence[str],
) -> Solved:
    """Solve the constraints A theta = b for as many coordinates as there are independent constraints; the others stay free.

    Args:
        A: coefficients (m, p), with b: right-hand sides (m,).
        labels: the m constraints as the user wrote them.
        names, supports, kinds: names, supports and declared kinds of the p coordinates; support None: an entry of a structured
            parameter (a simplex).

    Raises:
        ValueError: constraints contradict each other, involve entries of a structured parameter, or can leave a support; or p is
            above 2,000.

    >>> solved = solve_ties(np.array([[1.0, -1.0]]), np.zeros(1), ["a = b"], ["a", "b"], [REAL, REAL], ["Real"] * 2)
    >>> solved.ties.kept, solved.ties.matrix.ravel().tolist()
    ((0,), [1.0, 1.0])
    """
    p = A.shape[1]
    if p > LIMIT:
        raise ValueError(f"constraints= supports at most {LIMIT} free parameters, got {p}: fix parameters with fixed=")
    rows = np.zeros((0, p))
    right: list[float] = []
    pivots: list[int] = []
    redundant: list[str] = []
    for row, value, label in zip(A, b, labels, strict=True):
        _refuse_structured(row, label, names, supports, kinds)
        size = float(np.abs(row).max(initial=0.0)) or 1.0
        left, constant = np.array(row), float(value)
        for at, pivot in enumerate(pivots):
            factor = left[pivot]
            left, constant = left - factor * rows[at], constant - factor * right[at]
        left[np.abs(left) <= _ZERO * size] = 0.0
        if not left.any():
            if abs(constant) > 1e-9 * max(size, abs(value)):
                raise ValueError(
                    f"constraints= {label!r} contradicts the others (or fixed=) or itself: no values of the parameters satisfy "
                    "all of them; leave one out or correct it"
                )
            redundant.append(label)
            continue
        pivot = _choose(left, constant, supports)
        left, constant = left / left[pivot], constant / left[pivot]
        for at in range(len(pivots)):
            factor = rows[at, pivot]
            rows[at] -= factor * left
            right[at] -= factor * constant
        rows = np.vstack([rows, left])
        rows[np.abs(rows) <= _ZERO * np.abs(rows).max(axis=1, keepdims=True)] = 0.0
        right.append(constant)
        pivots.append(pivot)
    if not pivots:
        return Solved(None, tuple(redundant))
    kept = [j for j in range(p) if j not in set(pivots)]
    _refuse_outside(rows, right, pivots, names, supports, kinds)
    matrix, offset = np.zeros((p, len(kept))), np.zeros(p)
    matrix[kept, np.arange(len(kept))] = 1.0
    for row, constant, pivot in zip(rows, right, pivots, strict=True):
        matrix[pivot] = -row[kept] + 0.0
        offset[pivot] = constant
    return Solved(Ties(tuple(kept), offset.tobytes(), matrix.tobytes(), p), tuple(redundant))


def _refuse_structured(
    row: np.ndarray, label: str, names: Sequence[str], supports: Sequence[Support | None], kinds: Sequence[str]
) -> None:
    """Raise ValueError if a constraint, with coefficients ``row`` (p,), involves an entry of a structured parameter; the other
    arguments are those of `solve_ties`.
    """
    for j in np.flatnonzero(row).tolist():
        if supports[j] is None:
            raise ValueError(
                f"constraints= {label!r}: {names[j]} is an entry of {kinds[j]}, whose entries depend on one another, so that "
                "one of them cannot be set alone.  Fix the whole of it with fixed=, or write the model in parameters that "
                "satisfy the constraint"
            )


def _follows(row: np.ndarray, constant: float, pivot: int, supports: Sequence[Support | None]) -> bool:
    """True if the constraint row @ theta = constant, solved for the coordinate ``pivot``, gives it a value in its support for all
    values of the other coordinates in theirs (``supports``, one for each coordinate).
    """
    others = -row / row[pivot]
    others[pivot] = 0.0
    own = supports[pivot]
    return own is not None and own.contains(range_of(others, constant / row[pivot], supports))


def _choose(row: np.ndarray, constant: float, supports: Sequence[Support | None]) -> int:
    """Return the coordinate for which to solve the constraint row @ theta = constant: the last whose support is the real line;
    else the last that stays in its support (`_follows`); else the last. Only coordinates with a coefficient other than 0 count.
    """
    candidates = np.flatnonzero(row)[::-1].tolist()
    real = [j for j in candidates if supports[j] == REAL]
    inside = [j for j in candidates if _follows(row, constant, j, supports)]
    return int((real or inside or candidates)[0])


def _refuse_outside(
    rows: np.ndarray,
    right: Sequence[float],
    pivots: Sequence[int],
    names: Sequence[str],
    supports: Sequence[Support | None],
    kinds: Sequence[str],
) -> None:
    for row, constant, pivot in zip(rows, right, pivots, strict=True):
        if _follows(row, constant, pivot, supports):
            continue
        terms = {names[j]: -row[j] for j in np.flatnonzero(row).tolist() if j != pivot}
        parts = [f"{'+' if w > 0 else '-'} {'' if abs(w) == 1 else f'{abs(w):g}*'}{name}" for name, w in terms.items()]
        side = " ".join(([f"{constant:g}"] if constant or not parts else []) + parts).removeprefix("+ ")
        if not terms:
            raise ValueError(
                f"constraints= imply {names[pivot]} = {side}, but {names[pivot]} is declared {kinds[pivot]}: correct the "
                "constraints or the declaration"
            )
        raise ValueError(
            f"constraints= imply {names[pivot]} = {side}, which can leave the support of {names[pivot]} ({kinds[pivot]}). "
            "Supported are equalities between parameters with the same support, sums of positive parameters with positive "
            "coefficients, and linear equations in real parameters. Otherwise fix a parameter with fixed=, or write the model in "
            "parameters that satisfy the constraint"
        )
