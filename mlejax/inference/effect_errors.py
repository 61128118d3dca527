r"""How effects of ``mle.Real(by=...)`` vary together with theta, for the errors of predictions and margins.

In the coordinates theta and :math:`a_g = \sqrt{h_g} (\alpha_g + l_g \theta)`, with h_g the curvature of the log-likelihood in the
effect of level g and l_g minus the derivative of the effect in theta, the inverse of the whole information has no entries
between theta and a, and is 1 for each a.  So under the model the a are independent, with variance 1, and with H the inverse of
the information of theta a sandwich is

.. math:: \sum_c \psi_c \psi_c', \qquad \psi_c = \Big(H s_c,\ s_{cg} / \sqrt{h_g}\Big),

over rows or clusters c, with s_c their score in theta with the effects partialled out and s_cg that in the effect of level g.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlejax.covariance import KINDS, CovarianceResult, Kind
from mlejax.execution import float64
from mlejax.fit import Fit, effects_evaluator_of
from mlejax.inference.covariances.covariances import covariance_of
from mlejax.inference.covariances.leverage import adjusted_scores, parts_of, relative_leverages
from mlejax.inference.covariances.products_of_scores import cluster_codes, weighted_by_kind
from mlejax.shapes import Float, Host, Int


@dataclass(frozen=True, eq=False)
class EffectErrors:
    """Influence of rows or clusters on theta and on the standardised effects a.

    Attributes:
        theta: influence on theta of each cluster, or of each row without clusters (C, p).
        cluster, level: for each of the m pairs of a cluster and a level that have rows in common, their numbers, (m,).
        own: influence of the rows of each pair on a of its level, (m,).
        n_levels: number of levels G.
        model: True for a model-based covariance, where the a are independent of theta and of each other, with variance 1; the
            arrays above have length 0 then.
    """

    theta: Float[Host, "C p"]
    cluster: Int[Host, " m"]
    level: Int[Host, " m"]
    own: Float[Host, " m"]
    n_levels: int
    model: bool

    @staticmethod
    def under_model(n_levels: int, p: int) -> EffectErrors:
        """Return independent standardised effects of variance 1, of a model with p other parameters."""
        none = np.zeros(0, np.int64)
        return EffectErrors(np.zeros((0, p)), none, none, np.zeros(0), n_levels, True)

    def only(self, levels: Int[Host, " k"]) -> EffectErrors:
        """Return the `EffectErrors` of the levels with these numbers alone, renumbered 0, 1, ... in the order given."""
        number = np.full(self.n_levels, -1)
        number[levels] = np.arange(len(levels))
        of = number[self.level]
        kept = of >= 0
        return EffectErrors(self.theta, self.cluster[kept], of[kept], self.own[kept], len(levels), self.model)

    def of_levels(self) -> tuple[Float[Host, "G p"], Float[Host, " G"]]:
        """Return for each level the covariance of its standardised effect a with theta, (G, p), and the variance of a, (G,)."""
        if self.model:
            return np.zeros((self.n_levels, self.theta.shape[1])), np.ones(self.n_levels)
        crossed = np.zeros((self.n_levels, self.theta.shape[1]))
        np.add.at(crossed, self.level, self.own[:, None] * self.theta[self.cluster])
        return crossed, np.bincount(self.level, self.own**2, self.n_levels)

    def widened(
        self, cov: Float[Host, "p p"], weights: Float[Host, "m G"]
    ) -> tuple[Float[Host, "m r"], Float[Host, "q q"]]:
        """Extend the covariance of theta by r further coordinates b, of which m weighted sums of the standardised effects a are
        linear combinations.

        Args:
            cov: covariance of theta.
            weights: weight of each a in each sum.

        Returns:
            R (m, r), with R b the sums, and the covariance of (theta, b), (p + r, p + r).
        """
        p = len(cov)
        if self.model:
            root = np.asarray(np.linalg.qr(weights.T, mode="r")).T
            wide = np.pad(cov, (0, root.shape[1]))
            wide[p:, p:] = np.eye(root.shape[1])
            return root, wide
        moved = np.zeros((len(self.theta), len(weights)))
        np.add.at(moved, self.cluster, (weights[:, self.level] * self.own).T)
        wide = np.pad(cov, (0, len(weights)))
        wide[p:, p:] = moved.T @ moved
        wide[:p, p:] = self.theta.T @ moved
        wide[p:, :p] = wide[:p, p:].T
        return np.eye(len(weights)), wide


def why_without(fit: Fit, kind: str) -> str:
    """Return the note, printed below predictions and margins without standard errors, that ``cov_type=kind`` does not cover the
    effects of ``mle.Real(by=...)``, and which kinds do.
    """
    effects = fit.loaded.effects
    assert effects is not None
    return (
        f"cov_type={kind!r} does not cover the effects of {effects.key.by} here: 'HC0' to 'HC4' and 'cluster' by one column do, "
        "with the rows of the fit in memory, and 'nonrobust'"
    )


def effect_errors(fit: Fit, cov: CovarianceResult) -> EffectErrors | None:
    """Return how effects vary together with theta under the covariance of a fit.

    None for two-way clusters, lags, refits and surveys; for other sandwiches if the rows are not in memory, or if no parameter
    has a covariance.

    Raises:
        ValueError: the data have changed since the fit (clusters by a column).
    """
    effects, kind = fit.loaded.effects, KINDS[cov.kind]
    assert effects is not None
    if kind.model_based:
        return EffectErrors.under_model(len(effects.values), fit.theta.size)
    in_memory = fit.loaded.stream is None and fit.loaded.remembered is None
    one_way = kind.form == "sandwich" and kind.scores_of in ("rows", "clusters") and len(cov.groups) <= 1
    variances = np.diag(np.asarray(cov.full))
    if not (in_memory and one_way and np.isfinite(variances).any()):
        return None
    bread = covariance_of(fit, "nonrobust" if fit.penalised is None else "bayes", {}).matrix
    score, own = _scores(fit, kind) if kind.leverage_exponent is None else _adjusted(fit, kind)
    theta = score @ np.where(np.isnan(bread), 0.0, bread)
    used = fit.loaded.weights
    levels = effects.levels.codes if used is None else effects.levels.codes[used.used]
    clusters = cluster_codes(fit, cov.groups[0]) if cov.groups else np.arange(len(levels))
    pairs, at = np.unique(clusters.astype(np.int64) * len(effects.values) + levels, return_inverse=True)
    summed = np.zeros((int(clusters.max()) + 1, theta.shape[1]))
    np.add.at(summed, clusters, theta)
    without_factor = np.einsum("ci,ci->i", summed, summed)
    largest = int(np.argmax(np.where(np.isfinite(variances), without_factor, -1.0)))
    factor = np.sqrt(variances[largest] / without_factor[largest])  # the small-sample factor of the kind
    size = np.bincount(at.ravel(), own, len(pairs))
    cluster, level = np.divmod(pairs, len(effects.values))
    return EffectErrors(factor * summed, cluster, level, factor * size, len(effects.values), False)


def _scores(fit: Fit, kind: Kind) -> tuple[Float[Host, "n p"], Float[Host, " n"]]:
    """Return for each row of positive weight its weighted score in theta, with the effects partialled out, (n, p), and in the
    standardised effect a of its level, (n,).
    """
    effects = fit.loaded.effects
    assert effects is not None
    evaluator = effects_evaluator_of(fit.spec.plain, fit.loaded, fit.fixed)
    with float64():
        alone = (evaluator if effects.at is None else evaluator.knowing(effects.at)).effect_scores(fit.u)
    root = np.sqrt(np.where(effects.given, np.inf, effects.curvature))[effects.levels.codes]
    both = weighted_by_kind(fit, kind, np.column_stack([fit.scores(), alone / root]))
    return both[:, :-1], both[:, -1]


def _adjusted(fit: Fit, kind: Kind) -> tuple[Float[Host, "n p"], Float[Host, " n"]]:
    """Return the scores of `_scores`, (n, p) and (n,), adjusted by (1 - h)^-d, with h the leverage of their row and d the
    exponent of the kind.
    """
    assert kind.leverage_exponent is not None
    assert fit.jacobian is not None
    parts = parts_of(fit, None, f"cov_type={kind.name!r}")
    powers = np.broadcast_to(kind.leverage_exponent(relative_leverages(parts)), len(parts.scores))
    scores, _ = adjusted_scores(parts, powers[:, None])
    return np.linalg.solve(fit.jacobian.T, scores[:, :-1].T).T, scores[:, -1]
