r"""Scores and information row by row or cluster by cluster, and what an estimate owes to each of them.

With s_g and I_g the score and the information of row, unit or cluster g at the estimate, in the optimiser's coordinates, and I
the whole (penalised) information, h_g = I_g I^{-1} is its leverage.  (1 - h_g)^{-k} s_g is the score that it would have if it
had not pulled the estimate towards itself: exactly so in least squares, where k = 1 is that of leaving it out (HC3, CR3; Bell &
McCaffrey 2002) and k = 1/2 makes the sandwich unbiased (HC2, CR2).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mlejax.batch.refits import row_derivatives
from mlejax.fit import Fit
from mlejax.linalg import scaled_inverse
from mlejax.shapes import Bool, Float, Host, Int

MOST = 250_000_000  # numbers in the informations of all rows
CERTAIN = 1e-8  # one minus a leverage that is 1


class Parts(NamedTuple):
    """The parts of a fit's score and information that single rows, units or clusters add, at the estimate.

    Attributes:
        scores: (G, p), in the optimiser's coordinates, times weights.
        information: (G, p, p), the same.
        inverse: of the whole (penalised) information, (p, p), 0 at coordinates on an edge.
    """

    scores: Float[Host, "G p"]
    information: Float[Host, "G p p"]
    inverse: Float[Host, "p p"]


def parts_of(fit: Fit, codes: Int[Host, " n"] | None, what: str) -> Parts:
    """Scores and information of every contribution of positive weight, or of clusters 0, 1, ...

    Args:
        fit: the fit.
        codes: the cluster of every contribution of positive weight, or None for contributions by themselves.
        what: needs them, for messages.

    Raises:
        ValueError: a model of the whole data, no second derivatives, too many numbers, an information that has no inverse.
    """
    data, w = fit.loaded.problem.data, fit.loaded.weights
    if fit.loaded.remembered is not None or fit.loaded.stream is not None:
        raise ValueError(f"{what} evaluates scores and Hessians of all rows, which are not in memory")
    if data.mode == "whole":
        raise ValueError(
            f"{what} needs the information of separate rows or units; with rowwise=False the contributions have none of their own"
        )
    p = fit.spec.space.n_free
    if data.n_padded * p * p > MOST:
        raise ValueError(
            f"{what} forms a {p} x {p} matrix for each of {data.n_padded:,} contributions, more than {8 * MOST / 1e9:.0f} GB"
        )
    scores, information = row_derivatives(fit.spec, fit.u, data, fit.fixed)
    if w is not None:
        scores = (scores * w.values[:, None])[w.used]
        information = (information * w.values[:, None, None])[w.used]
    whole = information.sum(axis=0)
    if codes is not None:
        groups = int(codes.max()) + 1
        scores, each = _summed(scores, codes, groups), _summed(information.reshape(-1, p * p), codes, groups)
        information = each.reshape(groups, p, p)
    if fit.penalised is not None:
        assert fit.jacobian is not None
        if not np.allclose(fit.jacobian, np.eye(p)) or fit.penalised.information is None:
            raise ValueError(f"{what} is refused for penalised fits of parameters with a transformed support")
        whole = fit.penalised.information
    free = fit.interior
    found = scaled_inverse(whole[np.ix_(free, free)])
    if not found.ok:
        raise ValueError(f"{what}: the information is not positive definite in the optimiser's coordinates")
    inverse = np.zeros((p, p))
    inverse[np.ix_(free, free)] = found.inverse
    return Parts(scores, information, inverse)


def _summed(values: Float[Host, "n k"], codes: Int[Host, " n"], groups: int) -> Float[Host, "G k"]:
    out = np.zeros((groups, values.shape[1]))
    np.add.at(out, codes, values)
    return out


def relative_leverages(parts: Parts) -> Float[Host, " G"]:
    """Traces of h_g, divided by their mean."""
    sizes = np.einsum("gij,ji->g", parts.information, parts.inverse)
    return np.asarray(sizes / sizes.mean())


def adjusted_scores(parts: Parts, power: float | Float[Host, "G 1"]) -> tuple[Float[Host, "G p"], Bool[Host, " G"]]:
    """(1 - h_g)^-power s_g, and flags of the g with a leverage of 1, whose part in that direction is left out.

    Example:
        >>> one = Parts(np.array([[2.0]]), np.array([[[0.5]]]), np.array([[1.0]]))
        >>> adjusted_scores(one, 1.0)[0].tolist()
        [[4.0]]
    """
    size = np.sqrt(np.diag(parts.inverse))
    free = size > 0
    values, vectors = np.linalg.eigh(parts.inverse[np.ix_(free, free)] / np.outer(size[free], size[free]))
    root, back = np.zeros((2, free.size, values.size))
    root[free] = size[free, None] * vectors * np.sqrt(values)  # I^-1 = root root'
    back[free] = vectors / np.sqrt(values) / size[free, None]
    h, turned = np.linalg.eigh(root.T @ parts.information @ root)
    left = 1.0 - h
    certain = left < CERTAIN
    factor = np.where(certain, 0.0, np.where(certain, 1.0, left) ** -power)
    along = np.einsum("gij,gi->gj", turned, parts.scores @ root)
    moved = np.einsum("gij,gj->gi", turned, factor * along)
    return moved @ back.T, np.asarray(certain.any(axis=1))
