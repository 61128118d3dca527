"""Sums of products of scores of many data sets, for sandwich covariances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mlejax.batch.judging import Batch
from mlejax.data import bucket
from mlejax.execution import float64, run_tasks
from mlejax.execution.chunking import chunks
from mlejax.objective import products_of_sets
from mlejax.shapes import Bool, Float, Host, Int


def summed_products(
    batch: Batch, which: Int[Host, " m"], codes: Sequence[Int[Host, " n"]] | None, by_root: bool
) -> tuple[Float[Host, "m p p"], Bool[Host, " m"]]:
    """Return, for m data sets, the sum of s s' over rows or units, s being the score with respect to theta times its weight w; or
    over clusters, s being the sum of these within a cluster.

    Args:
        batch: the fits, with a `budget`.
        which: numbers of the data sets, (m,).
        codes: for each data set of the batch the cluster of each row or unit, numbered from 0; None without clusters.
        by_root: if True, scores are multiplied by the square root of w, so that their products have the weight w, not w^2.

    Returns:
        The sums, (m, p, p), and a mask, (m,), True for the data sets that were done before a KeyboardInterrupt (Ctrl-C); the
        sums of the others are NaN.
    """
    p = batch.theta.shape[1]
    sets, budget = batch.sets, batch.budget
    assert budget is not None
    out, ran = np.full((len(sets), p, p), np.nan), np.zeros(len(sets), bool)
    most = 0 if codes is None else bucket(max(int(codes[i].max()) + 1 for i in which))

    def work(task: tuple[np.ndarray, int, int]) -> int:
        mine, width, capacity = task
        data = sets.fetch(mine, capacity)
        padded = None
        if codes is not None:
            padded = np.zeros(data.weights.shape, np.int32)
            for row, i in zip(padded, mine.tolist(), strict=False):
                row[: len(codes[i])] = codes[i]
        u = np.zeros((capacity, p))
        u[: len(mine)], u[len(mine) :] = batch.ends.u[mine], batch.ends.u[mine[0]]
        if by_root:
            data = replace(data, weights=np.sqrt(data.weights))
        found = products_of_sets(
            batch.spec, width, u, data, batch.fixed, padded, np.int32(-(-mine.size // width)), most
        )
        out[mine], ran[mine] = np.asarray(found)[: mine.size], True
        return int(mine.size)

    with float64():
        run_tasks(chunks(sets, which, p, budget), work, budget, "covariance", len(which))
    inside = np.linalg.inv(batch.jacobian[which])
    return np.swapaxes(inside, 1, 2) @ out[which] @ inside, ran[which]
