"""Entries of theta that change along flat directions of the log-likelihood: they have no standard errors."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from mlejax.batch import Batch
from mlejax.shapes import Bool, Float, Host, Int
from mlejax.verdict import Direction


def flat_entries_of(batch: Batch, i: int) -> Bool[Host, "d p"]:
    """Return True for the entries of theta that change along each of the d flat directions of data set i, (d, p)."""
    return flat_entries(batch.found[i].directions, batch.jacobian[i], batch.information[i])


def unused_entries_of(batch: Batch) -> Int[Host, "m 2"]:
    """Return the pairs of positions (data set, entry), (m, 2), for which the log-likelihood does not depend on the entry, such as
    a level that does not occur in the data set.
    """
    matrix, out = batch.spec.space.reported_matrix != 0.0, []
    for i in np.flatnonzero(batch.codes == "not_identified").tolist():
        for moved in flat_entries_of(batch, i):
            entries = np.flatnonzero(matrix @ moved)
            if moved.sum() == 1 and entries.size == 1:
                out.append((i, int(entries[0])))
    return np.array(out, int).reshape(-1, 2)


def flat_entries(
    directions: Iterable[Direction], jacobian: Float[Host, "p p"] | None, information: Float[Host, "p p"]
) -> Bool[Host, "d p"]:
    """Return True for the entries of theta that change along each of the d flat directions, (d, p).

    An entry changes if it moves by more than 1e-6 of the largest movement.  Movements are measured in conditional standard
    errors of the entries, or on their own scale if one of those that move has none.

    Args:
        directions: directions that the diagnosis tested; only those that are flat count.
        jacobian: d theta / d u; None gives no direction.
        information: minus the Hessian with respect to theta.
    """
    vectors = [d.vector for d in directions if d.behaviour == "flat"]
    p = len(information)
    if not vectors or jacobian is None:
        return np.zeros((0, p), bool)
    moved = np.abs(np.array(vectors) @ jacobian.T)
    moved = np.where(moved > 0, moved, 0.0)
    root = np.sqrt(np.maximum(np.diag(information), 0.0))
    out = np.zeros(moved.shape, bool)
    for flags, size in zip(out, moved, strict=True):
        part = size * root if (root[size > 0] > 0).all() else size
        flags[:] = part > 1e-6 * part.max(initial=0.0)
    return out
