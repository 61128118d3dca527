"""The result of an optimiser, for one data set or, with a leading axis, for many."""

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
    """Final point of a search: values and derivatives of the (penalised) log-likelihood in unconstrained coordinates u.

    Attributes:
        u: the final point, (..., p).
        loglik: (penalised) log-likelihood, summed and weighted, (...,).
        score: its gradient, (..., p).
        information: minus its Hessian, (..., p, p), or None without second derivatives.
        decrements: Newton decrements of the last four accepted points, most recent last, (..., 4); inf where there was no such
            point, or its curvature is not positive definite or not known.
        mismatch: share of the score's change along a step that the mean of the informations at the step's beginning and end
            does not explain, for the last step that began more than 1e-4 standard errors from an optimum, (...,); inf where
            unknown. Large if rounding errors dominate.
        n_steps: number of accepted steps, (...,).
        status: an :class:`mlejax.status.End` code, (...,).
        polished: True if Newton steps followed after another method, in any of the data sets.
        message: statement of the verdict for a search without second derivatives; an empty string for the usual one.
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
        """Newton decrement at the last accepted point, log-likelihood units, (...,); a single NaN if ``information`` is None."""
        return self.decrements[..., -1] if self.information is not None else float("nan")

    @property
    def end(self) -> End:
        """Why the search stopped; only for the result of one data set, without a leading axis."""
        return End(int(self.status))

    @staticmethod
    def empty(n: int, p: int, dense: bool) -> OptimizeResult:
        """Return a result for n data sets with p parameters to be filled by `put`: NaN in all arrays, 0 steps, status
        INTERRUPTED; with an information matrix if ``dense``.
        """

        def nan(*shape: int) -> Float[Host, ...]:
            return np.full(shape, np.nan)

        information = nan(n, p, p) if dense else None
        zero, interrupted = np.zeros(n, np.int64), np.full(n, int(End.INTERRUPTED))
        return OptimizeResult(nan(n, p), nan(n), nan(n, p), information, nan(n, HISTORY), nan(n), zero, interrupted)

    @staticmethod
    def joined(ends: Sequence[OptimizeResult]) -> OptimizeResult:
        """Return the results of several runs, each with a leading axis, as one, concatenated along that axis; ``polished`` and
        ``message`` are those of the first.
        """
        arrays = zip(*(end[:N_ARRAYS] for end in ends), strict=True)
        together: list[Either | None] = [None if a[0] is None else np.concatenate(a) for a in arrays]
        return OptimizeResult._make([*together, ends[0].polished, ends[0].message])

    def of(self, which: Host | slice | int | np.integer) -> OptimizeResult:
        """Return the results of some data sets: of one by its number (without a leading axis), or of several by a slice or an
        array of numbers or booleans.
        """
        return self._each(lambda a: a[which])

    def alone(self) -> OptimizeResult:
        """Return the result of one data set with a leading axis of length 1, in new arrays."""
        return self._each(lambda a: np.array(a)[None])

    def _each(self, function: Callable[[Any], Any]) -> OptimizeResult:
        """Return the result with a function applied to each of its arrays (None stays None)."""
        arrays: list[Either | None] = [None if a is None else function(a) for a in self[:N_ARRAYS]]
        return OptimizeResult._make([*arrays, self.polished, self.message])

    def put(self, which: Host | slice | int | np.integer, other: OptimizeResult) -> None:
        """Overwrite, in place, the results of the data sets ``which`` (a number, slice, numbers or booleans) with those of
        ``other``.

        ``information`` stays unchanged if one of the two results has none; ``polished`` and ``message`` always stay unchanged.
        """
        for mine, theirs in zip(self[:N_ARRAYS], other[:N_ARRAYS], strict=True):
            if mine is not None and theirs is not None:
                mine[which] = theirs
