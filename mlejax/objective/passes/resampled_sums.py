"""Sums of scores and informations over the rows of a stream under random weights, and by cluster: what one Newton step from
the estimate needs for a resample.

Rows are drawn a Poisson number of times (Chamandy et al. 2012), or have exponential weights (the Bayesian bootstrap), each
independently of the others, so that a resample needs no list of all rows.  The numbers come from a counter-based generator
(Philox) that is keyed by the seed, the name of the partition and the first row of the chunk: they depend neither on the number
of workers nor on the number of replicates.

Reference: Chamandy, Muralidharan, Najmi & Naidu (2012), Estimating uncertainty for massive data streams, Google.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.data import DataError, Prepared, Table
from mlejax.objective.objective import Objective
from mlejax.objective.passes.jobs import Place
from mlejax.objective.passes.partitioned import PartitionedEvaluator, added
from mlejax.objective.passes.score_sums import ByCluster, by_label
from mlejax.shapes import Either, Float, Host, PyTree

BLOCK = 64  # replicates that are drawn together
MOST = 50_000_000  # numbers in the informations of the rows of a chunk
_dot = jax.jit(jnp.dot)  # in XLA: BLAS would start threads of its own in the threads of a pass


def derivatives_of_rows(objective: Objective, u: Either) -> PyTree:
    """Return score and information of every row, unweighted, side by side (N, p + p^2)."""
    scores, information = objective.row_derivatives(u)
    return jnp.concatenate([scores, information.reshape(len(scores), -1)], axis=1)


def _weighted(objective: Objective, u: Either) -> PyTree:
    weights = objective.prepared.weights[:, None]
    return jnp.concatenate([derivatives_of_rows(objective, u) * weights, weights], axis=1)


@dataclass(frozen=True)
class Drawn:
    """Sums over a chunk, for each of n replicates, of row values times a random weight times the row's weight in the fit (n, k).

    Attributes:
        bayesian: exponential weights in place of Poisson numbers.
        n, seed: number of replicates, and the seed.
        frequency: True if a weight w of the fit counts w equal rows: each is drawn separately, and the random weight, with
            mean w, is all that multiplies the row's values.
    """

    bayesian: bool
    n: int
    seed: int
    frequency: bool

    def __call__(self, values: Float[Host, "N k"], chunk: Prepared, table: Table, place: Place) -> Float[Host, "n k"]:
        weights = np.asarray(chunk.weights)
        copies = weights if self.frequency else np.where(weights > 0, 1.0, 0.0)
        of_partition = int.from_bytes(hashlib.blake2b(place.partition.encode(), digest_size=8).digest())
        parts = []
        for block in range(-(-self.n // BLOCK)):
            key = np.random.SeedSequence([self.seed, block, of_partition, place.rows.start])
            rng, shape = np.random.Generator(np.random.Philox(key)), (BLOCK, len(weights))
            draws: Any = rng.standard_gamma(np.broadcast_to(copies, shape)) if self.bayesian else rng.poisson(copies, shape)
            drawn = draws * 1.0 if self.frequency else draws * weights
            parts.append(np.asarray(_dot(drawn, values)))
        return np.concatenate(parts)[: self.n]


def drawn_sums(
    evaluator: PartitionedEvaluator, u: Float[Host, " p"], bayesian: bool, n: int, seed: int, frequency: bool
) -> Float[Host, "n k"]:
    """Return sums of score and information (k = p + p^2) under the weights of n resamples of rows, by one pass.

    Args:
        evaluator: evaluator of the log-likelihood without penalty.
        u: point of evaluation (p,).
        bayesian: if True, rows have exponential weights, else the Poisson number of times that they are drawn.
        n, seed: number of resamples, and the seed.
        frequency: True if a weight of the fit counts equal rows, each of which is drawn separately.

    Raises:
        DataError: too many parameters for the memory.
    """
    check_rows_at_once(evaluator, "one-step resampling of a stream")
    return np.asarray(evaluator.map_reduce(derivatives_of_rows, added, u, Drawn(bayesian, n, seed, frequency)))


def sums_by_label(evaluator: PartitionedEvaluator, u: Float[Host, " p"], groups: str) -> Float[Host, "G k"]:
    """Return weighted sums of score and information (k = p + p^2) by the labels in a column, in order of first appearance
    among all rows, by one pass; labels with rows of weight 0 alone are left out.

    Raises:
        DataError: too many parameters for the memory, or the column cannot be labels.
    """
    check_rows_at_once(evaluator, "one-step resampling of a stream")
    rows = evaluator.rows.with_columns([groups])
    within = PartitionedEvaluator(evaluator.spec, rows, evaluator.some, evaluator.fixed)
    ((_, sums),) = within.map_reduce(_weighted, by_label, u, ByCluster((groups,), of_all=True))
    return np.asarray(sums[sums[:, -1] > 0, :-1])


def check_rows_at_once(evaluator: PartitionedEvaluator, what: str) -> None:
    """Raise DataError if the informations of the rows of a chunk are more than 50 million numbers; ``what``: the name of the
    method that needs them, for the message.
    """
    p, size = evaluator.spec.space.n_free, evaluator.rows.cut.size
    if size * p * p > MOST:
        raise DataError(
            f"{what} needs a {p} x {p} matrix for each of {size:,} rows at once, more than "
            f"{8 * MOST / 1e9:.1f} GB: use standard errors that do not need them, such as cov_type='HC1' or 'cluster'"
        )
