"""The log-likelihood maximised over the effects of all levels, with derivatives in the other parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mlejax.data import Levels, Prepared
from mlejax.linalg import Arrow
from mlejax.shapes import Bool, Float, Host

ABSORBED = 1e-11  # eigenvalues of the scaled Schur complement up to this are rounding errors


@dataclass(frozen=True, eq=False)
class Eliminated:
    """The log-likelihood at u, maximised over the effects of all levels, with derivatives in u.

    Attributes:
        u: the other parameters, unconstrained (p,).
        effects: the maximising effects of the levels (G,).
        loglik: the log-likelihood, summed and weighted, without a penalty.
        score: gradient in u (p,).
        information: minus the Hessian in u (p, p), the Schur complement of the full information.
        arrow: the full information, effects first; the off-diagonal rows of effects that are not estimated are 0.
        open: True for levels whose maximising effect was not found (G,).
        remaining: largest Newton decrement of a level where score and information were evaluated, log-likelihood units.
    """

    u: Float[Host, " p"]
    effects: Float[Host, " levels"]
    loglik: float
    score: Float[Host, " p"]
    information: Float[Host, "p p"]
    arrow: Arrow
    open: Bool[Host, " levels"]
    remaining: float


def with_digits(arrow: Arrow, score: Float[Host, " p"]) -> tuple[Float[Host, " p"], Float[Host, "p p"]]:
    """Return the score and the Schur complement of ``arrow`` with zeros in the directions in which the Schur complement is only
    rounding error (eigenvalues up to 1e-11, scaled by the diagonal of ``arrow.head``).

    Such a direction is collinear with the effects: a column that is constant within every level.  Both are unchanged if there is
    none, or if the Schur complement is not finite.
    """
    schur, root = arrow.schur, np.sqrt(np.abs(arrow.head.diagonal()))
    root = np.where(root > 0, root, 1.0)
    scaled = schur / np.outer(root, root)
    if not np.isfinite(scaled).all():
        return score, schur
    values, vectors = np.linalg.eigh(scaled)
    lost = np.abs(values) <= ABSORBED
    if not lost.any():
        return score, schur
    kept = vectors[:, ~lost]
    information = (kept * values[~lost]) @ kept.T * np.outer(root, root)
    alone = ~(np.abs(kept) > 1e-6).any(axis=1)
    information[alone], information[:, alone] = 0.0, 0.0  # exactly: nothing is known of these coordinates
    return root * (kept @ (kept.T @ (score / root))), information


def with_values(data: Prepared, position: int, levels: Levels, values: Float[Host, " levels"]) -> Prepared:
    """Return the data with the effect of every row in the column of effects, at ``position``, from the values by level; the
    padding has the effect of the first row of positive weight.
    """
    column = np.empty(data.n_padded)
    column[: len(levels.codes)] = values[levels.codes]
    donor = int(np.argmax(np.asarray(data.weights) > 0))
    column[len(levels.codes) :] = column[donor]
    rows = (*data.rows[:position], column, *data.rows[position + 1 :])
    return replace(data, rows=rows)
