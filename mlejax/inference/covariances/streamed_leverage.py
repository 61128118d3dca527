"""Products of scores of the rows of a stream, each divided by a power of 1 - leverage (HC2, HC3, HC4): one pass over the rows,
once the information of the fit is known.

The sum of the leverages of all rows follows from the information, so that their mean (of HC4) is known before the pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mlejax.covariance import KINDS
from mlejax.data import Prepared, Table
from mlejax.execution import float64
from mlejax.fit import Fit
from mlejax.inference.covariances.leverage import OwnEffects, Parts, adjusted_scores, inverse_of, with_one_more
from mlejax.objective import (
    DerivativesWithEffects,
    EffectValues,
    PartitionedEvaluator,
    added,
    check_rows_at_once,
    derivatives_of_rows,
)
from mlejax.shapes import Float, Host


@dataclass(frozen=True, eq=False)
class Adjusted:
    """Function that returns, for a chunk of rows, the sum of products of scores, each divided by a power of 1 - leverage.

    Attributes:
        kind: name of the covariance kind.
        inverse: inverse of the (penalised) information of all rows in u (p, p), 0 for coordinates at a bound.
        mean: mean trace of the leverages of all rows.
        scale: number by which weights were divided.
        effects: what effects of levels add, or None without.
        position: position of the column of level codes.
    """

    kind: str
    inverse: Float[Host, "p p"]
    mean: float
    scale: float
    effects: OwnEffects | None = None
    position: int = -1

    def __call__(self, values: Float[Host, "N k"], chunk: Prepared, table: Table, place: Any) -> tuple[Any, Any]:
        """Return the sum of products (p, p), and the number of rows with a leverage of 1 whose exponent is above 1/2.

        ``values``: unweighted derivatives of the rows of ``chunk``, scores first; ``table`` and ``place`` are not used.
        """
        p, weights = len(self.inverse), np.asarray(chunk.weights) * self.scale
        rows = values[weights > 0] * weights[weights > 0, None]
        if self.effects is None:
            parts = Parts(rows[:, :p], rows[:, p:].reshape(-1, p, p), self.inverse)
        else:
            levels = np.asarray(chunk.rows[self.position])[weights > 0].astype(np.int64)
            own = self.effects.parts(rows, levels)
            parts = Parts(*own, with_one_more(self.inverse, p + 1))
        exponent = KINDS[self.kind].leverage_exponent
        assert exponent is not None
        relative = np.einsum("gij,ji->g", parts.information, parts.inverse) / self.mean
        powers = np.broadcast_to(exponent(relative), len(rows))
        scores, certain = adjusted_scores(parts, powers[:, None])
        scores = scores[:, :p]
        return scores.T @ scores, np.asarray((powers[certain] > 0.5).sum())


def adjusted_products(fit: Fit, kind: str) -> tuple[Float[Host, "p p"], int]:
    """Return the sum of products of leverage-adjusted scores of all rows in u (p, p), and the number of rows that determine a
    parameter alone.

    Raises:
        DataError: too many parameters for the memory.
        ValueError: a penalised fit has transformed supports, or the information is not positive definite.
    """
    assert fit.loaded.stream is not None
    assert fit.information is not None
    assert fit.jacobian is not None
    whole = fit.jacobian.T @ fit.information @ fit.jacobian
    inverse = inverse_of(fit, whole, f"cov_type={kind!r}")
    with float64():
        stream, effects = fit.loaded.stream, fit.loaded.effects
        evaluator = PartitionedEvaluator(fit.spec.plain, stream, fit.loaded.seen.problem.data, fit.fixed)
        check_rows_at_once(evaluator, f"cov_type={kind!r}")
        sizes = float(np.sum(inverse * whole.T))
        if effects is None:
            adjusted = Adjusted(kind, inverse, sizes / stream.n_used, stream.cut.scale)
            products, certain = evaluator.map_reduce(derivatives_of_rows, added, fit.u, adjusted)
        else:
            position, mean = stream.cut.position, (sizes + effects.n_free) / stream.n_used
            assert position is not None
            adjusted = Adjusted(kind, inverse, mean, stream.cut.scale, OwnEffects.of(fit), position)
            values = EffectValues(position, effects.values)
            task = DerivativesWithEffects(position)
            products, certain = evaluator.map_reduce(task, added, fit.u, adjusted, effects=values)
    return products, int(certain)
