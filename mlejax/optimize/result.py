"""What an optimiser leaves behind: one record, with or without a leading axis of data sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from mlejax.optimize.method import HISTORY
from mlejax.shapes import Either, Float, Host, Int
from mlejax.status import End

__all__ = ["OptimizeResult"]

N_ARRAYS: Final = 8  # the first fields, which have the leading axis


class OptimizeResult(NamedTuple):
    """Where a search stopped, in log-likelihood units and in u.

    Attributes:
        u: the point, (..., p).
        loglik: (penalised) log-likelihood, summed and weighted, (...,).
        score: its gradient, (..., p).
        information: minus its Hessian, (..., p, p), or None without second derivatives.
        decrements: Newton decrements of the last four accepted points, most recent last, (..., 4); inf where unknown.
        mismatch: share of the change of the score along the last step but for the smallest that the information at both its
            ends does not explain, (...,); inf where unknown. Large where a formula has lost its digits.
        n_steps: accepted steps, (...,).
        status: an :class:`mlejax.status.End` code, (...,).
        polished: the search ended with Newton steps after another method.
        message: what the verdict says of an end without second derivatives; empty for the usual text.
    """

    u: Float[Host, "*sets p"]
    loglik: Float[Host, "*sets"]
    score: Float[Host, "*sets p"]
    information: Float[Host, "*sets p p"] | None
    decrements: Float[Host, "*sets history"]
    mismatch: Float[Host, "*sets"]
    n_steps: Int[Host, "*sets"]
    status: Int[Host, "*sets"]
    polished: bool = False
    message: str = ""

    @property
    def decrement(self) -> Host | float:
        """Newton decrement at the last accepted point, log-likelihood units, (...,); NaN without second derivatives."""
        return self.decrements[..., -1] if self.information is not None else float("nan")

    @property
    def end(self) -> End:
        """Why the search of one data set stopped."""
        return End(int(self.status))

    @staticmethod
    def empty(n: int, p: int, dense: bool) -> OptimizeResult:
        """Nothing done yet for n data sets: each INTERRUPTED until its end is known."""

        def nan(*shape: int) -> Float[Host, ...]:
            return np.full(shape, np.nan)

        information = nan(n, p, p) if dense else None
        zero, interrupted = np.zeros(n, np.int64), np.full(n, int(End.INTERRUPTED))
        return OptimizeResult(nan(n, p), nan(n), nan(n, p), information, nan(n, HISTORY), nan(n), zero, interrupted)

    @staticmethod
    def joined(ends: Sequence[OptimizeResult]) -> OptimizeResult:
        """The results of several runs along the leading axis."""
        arrays = zip(*(end[:N_ARRAYS] for end in ends), strict=True)
        together: list[Either | None] = [None if a[0] is None else np.concatenate(a) for a in arrays]
        return OptimizeResult._make([*together, ends[0].polished, ends[0].message])

    def of(self, which: Host | slice | int | np.integer) -> OptimizeResult:
        """The result of one data set (an integer) or of some (an array of numbers or flags)."""
        return self._each(lambda a: a[which])

    def alone(self) -> OptimizeResult:
        """The result of one data set with a leading axis of length 1."""
        return self._each(lambda a: np.array(a)[None])

    def _each(self, function: Callable[[Any], Any]) -> OptimizeResult:
        arrays: list[Either | None] = [None if a is None else function(a) for a in self[:N_ARRAYS]]
        return OptimizeResult._make([*arrays, self.polished, self.message])

    def put(self, which: Host | slice | int | np.integer, other: OptimizeResult) -> None:
        """Write the results ``other`` of some data sets in their places."""
        for mine, theirs in zip(self[:N_ARRAYS], other[:N_ARRAYS], strict=True):
            if mine is not None and theirs is not None:
                mine[which] = theirs
