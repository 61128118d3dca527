r"""Scores and information of single rows or clusters, and their leverage on the estimates.

With s_g and I_g the score and the information of row, unit or cluster g at the estimate, in the optimiser's coordinates, and I
the whole (penalised) information, h_g = I_g I^{-1} is its leverage.  The adjusted score is (1 - h_g)^{-k} s_g: in least squares
k = 1 gives the score at the estimate without g (HC3, CR3; Bell & McCaffrey 2002), and k = 1/2 makes the sandwich unbiased
(HC2, CR2).

With effects of levels, a row's score and information have its own effect as a further coordinate.  In the coordinates (u, a) with

.. math:: a = \sqrt{H_g} (\alpha_g + H_g^{-1} c_g' u)

for the curvature H_g of level g and its border c_g, the inverse of the whole information has no entries between u and a, and its
entry of a is 1: the sandwich of the first coordinates of the adjusted scores is that of a regression on dummies.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mlejax.batch.refits import row_derivatives
from mlejax.covariance import summed_by_cluster
from mlejax.execution import float64
from mlejax.fit import Fit, effects_evaluator_of
from mlejax.linalg import scaled_inverse
from mlejax.objective import derivatives_in_memory
from mlejax.shapes import Bool, Float, Host, Int

MOST = 250_000_000  # numbers in the informations of all rows
CERTAIN = 1e-8  # one minus a leverage that is 1


class Parts(NamedTuple):
    """Weighted score and information of each row, unit or cluster g at the estimate, in unconstrained coordinates.

    With effects of levels p includes one more coordinate, the last: the effect of the row's own level.

    Attributes:
        scores: score of each g, (G, p).
        information: information of each g, (G, p, p).
        inverse: inverse of the whole (penalised) information (p, p), 0 for coordinates at a bound.
    """

    scores: Float[Host, "G p"]
    information: Float[Host, "G p p"]
    inverse: Float[Host, "p p"]


def parts_of(fit: Fit, codes: Int[Host, " n"] | None, what: str) -> Parts:
    """Return scores and information of every term of positive weight, or of clusters numbered 0, 1, ...

    Args:
        fit: the fit.
        codes: cluster number of every term of positive weight (n,), or None for single terms.
        what: the feature, first words of the messages.

    Raises:
        ValueError: the model has ``rowwise=False``, or clusters and effects of ``mle.Real(by=...)``; the rows are not in memory,
            n p^2 is above 250 million, the parameters of a penalised fit have transformed supports, or the information is not
            positive definite.
    """
    if fit.loaded.effects is not None and codes is not None:
        raise ValueError(
            f"{what} does not support effects of {fit.loaded.effects.key.by}: the leverage of a cluster includes that on the "
            "effects of all of its rows, which are eliminated; use 'cluster', or 'HC2' or 'HC3' for rows"
        )
    data, w = fit.loaded.problem.data, fit.loaded.weights
    if fit.loaded.remembered is not None or fit.loaded.stream is not None:
        raise ValueError(f"{what} needs the rows of the fit in memory to evaluate their Hessians; fit a table in memory")
    if data.mode == "whole":
        raise ValueError(
            f"{what} needs the information of separate rows or units, and a model with rowwise=False has only that of all rows "
            "together; use a kind of covariance without leverages, such as 'HC0'"
        )
    p = fit.spec.space.n_free
    if data.n_padded * p * p > MOST:
        raise ValueError(
            f"{what} needs a {p} x {p} matrix for each of {data.n_padded:,} rows or units, more than {8 * MOST / 1e9:.0f} GB; "
            "use a kind of covariance that does not need them, such as 'HC1', or influence(leverage=False)"
        )
    if fit.loaded.effects is None:
        scores, information = row_derivatives(fit.spec, fit.u, data, fit.fixed)
    else:
        scores, information = _rows_with_effects(fit)
    if w is not None:
        scores = (scores * w.values[:, None])[w.used]
        information = (information * w.values[:, None, None])[w.used]
    whole = information.sum(axis=0)
    if codes is not None:
        scores, information = summed_by_cluster(scores, codes), summed_by_cluster(information, codes)
    return Parts(scores, information, with_one_more(inverse_of(fit, whole[:p, :p], what), scores.shape[1]))


class OwnEffects(NamedTuple):
    """What the effects of levels add to the derivatives of rows.

    Attributes:
        lever: minus the derivative of the maximising effects by u, 0 for effects that are fixed (G, p).
        curvature: minus the second derivative of the log-likelihood by each effect, inf for effects that are fixed (G,).
    """

    lever: Float[Host, "G p"]
    curvature: Float[Host, " G"]

    @staticmethod
    def of(fit: Fit) -> OwnEffects:
        """Return the `OwnEffects` of a fit with effects of levels."""
        effects = fit.loaded.effects
        assert effects is not None
        assert fit.jacobian is not None
        return OwnEffects(effects.lever @ fit.jacobian, np.where(effects.given, np.inf, effects.curvature))

    def parts(
        self, values: Float[Host, "n k"], levels: Int[Host, " n"]
    ) -> tuple[Float[Host, "n q"], Float[Host, "n q q"]]:
        """Return score (n, p + 1) and information (n, p + 1, p + 1) of each row in u and, last, the effect of its own level.

        The score in u has the effects partialled out, and the effect is divided by the standard deviation that it has given u.

        Args:
            values: for each row score (p) and information (p^2) in u, score and minus the second derivative in its effect, and
                derivatives of that score in u (p).
            levels: the level of each row.
        """
        p, n = self.lever.shape[1], len(values)
        score, curvature, mixed = values[:, p + p * p], values[:, p + p * p + 1], values[:, p + p * p + 2 :]
        lever, root = self.lever[levels], np.sqrt(self.curvature[levels])
        border = -mixed - 0.5 * curvature[:, None] * lever
        crossed = border[:, :, None] * lever[:, None, :]
        information = np.zeros((n, p + 1, p + 1))
        own = values[:, p : p + p * p].reshape(n, p, p)
        information[:, :p, :p] = own - crossed - crossed.transpose(0, 2, 1)
        information[:, p, p] = curvature / root**2
        information[:, :p, p] = information[:, p, :p] = (-mixed - curvature[:, None] * lever) / root[:, None]
        scores = np.concatenate([values[:, :p] - lever * score[:, None], (score / root)[:, None]], axis=1)
        return scores, information


def _rows_with_effects(fit: Fit) -> tuple[Float[Host, "n q"], Float[Host, "n q q"]]:
    """Return unweighted score (n, p + 1) and information (n, p + 1, p + 1) of rows in memory, in u and the row's own effect; as
    `OwnEffects.parts`.
    """
    evaluator, effects = effects_evaluator_of(fit.spec.plain, fit.loaded, fit.fixed), fit.loaded.effects
    assert effects is not None
    data = evaluator.at_effects(effects.values)
    with float64():
        values = derivatives_in_memory(evaluator.spec, evaluator.position, fit.u, data, fit.fixed)
    return OwnEffects.of(fit).parts(values, evaluator.levels.codes)


def with_one_more(inverse: Float[Host, "p p"], size: int) -> Float[Host, "q q"]:
    """Return ``inverse`` extended to shape (size, size) by an identity block, for the coordinates of effects."""
    out = np.eye(size)
    out[: len(inverse), : len(inverse)] = inverse
    return out


def inverse_of(fit: Fit, whole: Float[Host, "p p"], what: str) -> Float[Host, "p p"]:
    """Return the inverse of the information of a fit in u, with the penalty included if it has one, (p, p); 0 for coordinates at
    a bound.

    Args:
        fit: the fit.
        whole: information of the log-likelihood, summed over all rows, without penalty.
        what: the feature, first words of the messages.

    Raises:
        ValueError: a penalised fit has transformed supports, or the information is not positive definite.
    """
    p = len(whole)
    if fit.penalised is not None:
        assert fit.jacobian is not None
        if not np.allclose(fit.jacobian, np.eye(p)) or fit.penalised.information is None:
            raise ValueError(f"{what} does not support penalised fits with bounded parameters, such as Positive; use 'HC1'")
        whole = fit.penalised.information
    free = fit.interior
    found = scaled_inverse(whole[np.ix_(free, free)])
    if not found.ok:
        raise ValueError(
            f"{what}: the information is not positive definite in unconstrained coordinates, so that there are no leverages; use "
            "'HC1'"
        )
    inverse = np.zeros((p, p))
    inverse[np.ix_(free, free)] = found.inverse
    return inverse


def relative_leverages(parts: Parts) -> Float[Host, " G"]:
    """Return the trace of each leverage h_g, divided by the mean of these traces, (G,)."""
    sizes = np.einsum("gij,ji->g", parts.information, parts.inverse)
    return np.asarray(sizes / sizes.mean())


def adjusted_scores(parts: Parts, power: float | Float[Host, "G 1"]) -> tuple[Float[Host, "G p"], Bool[Host, " G"]]:
    """Return the adjusted scores (1 - h_g)^-power s_g, (G, p), and True for each g with a leverage of 1 in some direction,
    (G,), in which its score is left out.

    ``power``: one number, or one for each g.

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
