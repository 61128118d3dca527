r"""The influence of each row, unit or cluster on the estimates, from scores and Hessians, without refits.

With the score s_g and the information I_g of row g, and I that of all,

.. math:: d_g = I^{-1} s_g \quad\text{or}\quad (I - I_g)^{-1} s_g

approximates the estimate minus the estimate without g: to first order (the infinitesimal jackknife), or by one Newton step
without g, as in statsmodels' ``GLMInfluence``.  Cook's distance is d' I d / p, and the log-likelihood of g at the estimate
without it l_g - s_g' d_g - d_g' I_g d_g / 2 (the last term with ``leverage`` only).

Cook (1977); Pregibon (1981), Annals of Statistics 9, 705; Giordano et al. (2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlejax.covariance import summed_by_cluster
from mlejax.data import group_codes
from mlejax.execution import float64
from mlejax.fit import Fit, effects_evaluator_of, refuse_connected, refuse_effects, terms_of_rows
from mlejax.inference.covariances.leverage import adjusted_scores, parts_of
from mlejax.inference.covariances.products_of_scores import cluster_codes, weighted
from mlejax.inference.tables.formatting import format_number, table
from mlejax.linalg import scaled_inverse
from mlejax.notebook import Text, in_notebooks
from mlejax.plot import diagnostics
from mlejax.shapes import Float, Host

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

SHOWN = 5
AT_ONCE = 4096  # rows of a product


@in_notebooks
@dataclass(frozen=True, eq=False, repr=False)
class Influence:
    """The influence of each row, unit or cluster on the estimates; prints those with the largest Cook's distance.

    Attributes:
        labels: names of the parameter entries (r,).
        what: ``"rows"``, ``"units"`` or ``"clusters"``.
        index: labels of the rows, units or clusters (m,).
        dfbeta: estimate minus the estimate without row g (approximate), natural scale (m, r); 0 for fixed entries and those at a
            bound.
        bse: standard errors from the observed information (r,), NaN for fixed entries and those at a bound.
        cooks_distance: Cook's distance of each (m,).
        loglik: log-likelihood of each row, unit or cluster at the estimates, times its weight (m,).
        loglik_out: log-likelihood of each at the estimates without it, times its weight (m,); the sum approximates leave-one-out
            cross-validation.
        leverage: tr(I_g I^-1) (m,), which sums to the number of parameters not at a bound; NaN unless ``leverage=True``.
    """

    labels: tuple[str, ...]
    what: str
    index: np.ndarray
    dfbeta: np.ndarray
    bse: np.ndarray
    cooks_distance: np.ndarray
    loglik: np.ndarray
    loglik_out: np.ndarray
    leverage: np.ndarray

    @property
    def dfbetas(self) -> Float[Host, "m r"]:
        """``dfbeta`` divided by the standard errors ``bse``, which are the same for all rows; NaN where these are."""
        return np.asarray(self.dfbeta / self.bse)

    def cov_params(self) -> pd.DataFrame:
        """Return the sum of d_g d_g' over rows, units or clusters, d_g the rows of ``dfbeta``, (r, r): the covariance HC0 (CR0
        for clusters), or with ``leverage=True`` HC3 (CR3).
        """
        import pandas as pd

        return pd.DataFrame(self.dfbeta.T @ self.dfbeta, index=list(self.labels), columns=list(self.labels))

    def frame(self) -> pd.DataFrame:
        """Return a DataFrame with one row for each row, unit or cluster, its label in the index, and the columns
        cooks_distance, leverage (NaN unless computed), loglik, loglik_out and "dfbeta NAME" for each entry.
        """
        import pandas as pd

        columns = {name: getattr(self, name) for name in ("cooks_distance", "leverage", "loglik", "loglik_out")}
        more = {f"dfbeta {name}": self.dfbeta[:, j] for j, name in enumerate(self.labels)}
        return pd.DataFrame({**columns, **more}, index=pd.Index(self.index, name=self.what[:-1]))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Plot Cook's distances in the order of the data, the five largest labelled, on ``ax`` or new axes; return the axes.
        ImportError: matplotlib is not installed.
        """
        return diagnostics.distances(self.cooks_distance, self.index, self.what[:-1], ax)

    def __repr__(self) -> str:
        top = np.argsort(-self.cooks_distance)[:SHOWN]
        rows = [("", "Cook's D", "largest dfbeta / std err")]
        for i in top.tolist():
            size = np.abs(self.dfbetas[i])
            j = int(np.nanargmax(size))
            moved = f"{self.labels[j]} {self.dfbetas[i, j]:+.2f}"
            rows.append((str(self.index[i]), format_number(float(self.cooks_distance[i]), 3), moved))
        total = f"leave-one-out log-likelihood {self.loglik_out.sum():.6g} (at the estimate {self.loglik.sum():.6g})"
        return Text([f"Influence of {len(self.index):,} {self.what}; {total}", table(rows)])


def influence(fit: Fit, groups: Any = None, *, leverage: bool = False) -> Influence:
    """Return the influence of each row (unit, cluster) on the estimates, without refits.

    Args:
        groups: clusters that are left out as a whole: the name of a column, or labels (n,).  None: every row, or unit of a
            model with ``unit=``, by itself; rows of weight 0 are left out.
        leverage: if True, use the Newton step without g, (I - I_g)^-1 s_g, in place of I^-1 s_g: closer to a refit, and equal
            to statsmodels' ``GLMInfluence``; needs the Hessian of every row, and does not support ``mle.Real(by=...)``.

    Returns:
        `Influence`: ``dfbeta``, ``dfbetas``, ``cooks_distance``, ``loglik_out``, ``cov_params()``, ``frame()``, ``plot()``.

    Raises:
        ValueError: the model has ``rowwise=False``, or random effects of several columns that connect all rows; the fit has no
            maximum, a penalty or bias reduction, or no positive definite information; the rows are not in memory, or have changed
            since the fit (a column as ``groups``); or, with ``leverage=True``, the model has effects of ``mle.Real(by=...)``,
            the Hessians of all rows need too much memory, or a parameter is identified by one row, unit or cluster alone.
        DataError: labels in ``groups`` that do not fit the rows.

    Example:
        >>> import mlejax as mle
        >>> from jax.scipy.stats import norm
        >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
        ... def gaussian(params, data):
        ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
        >>> res = gaussian.fit({"y": [1.0, 2.0, 6.0, 3.0]})
        >>> res.influence().dfbeta[:, 0].tolist()  # (y - mean) / n
        [-0.5, -0.25, 0.75, 0.0]
    """
    _refuse(fit, what := "influence()")
    assert fit.information is not None
    assert fit.jacobian is not None
    space, w = fit.spec.space, fit.loaded.weights
    used = np.ones(fit.loaded.problem.data.n_contributions, bool) if w is None else w.used
    codes = None if groups is None else cluster_codes(fit, groups)
    with float64():
        found = terms_of_rows(fit.spec, fit.loaded, fit.fixed, fit.u)
    parts = (weighted(fit, each) if used.all() else weighted(fit, each)[used] for each in found[:2])
    loglik, scores = (each if codes is None else summed_by_cluster(each, codes) for each in parts)
    free = fit.interior
    inverted = scaled_inverse(fit.information[np.ix_(free, free)])
    if not inverted.ok:
        raise ValueError(
            f"{what} needs a positive definite information, and that of this fit is singular to rounding: the data hardly tell "
            "some parameters apart; drop a nearly collinear column, or fix one of the parameters with fixed="
        )
    inverse = np.zeros(fit.information.shape)
    inverse[np.ix_(free, free)] = inverted.inverse
    D = np.where(space.reported_fixed[:, None], 0.0, space.reported_matrix)
    with np.errstate(invalid="ignore"):
        bse = np.sqrt(np.einsum("ri,ij,rj->r", D, inverse, D))
    if leverage:
        refuse_effects(fit.spec.likelihood, "influence(leverage=True)", "leave it out: the influence is of first order then")
        own = parts_of(fit, codes, what)
        adjusted, certain = adjusted_scores(own, 1.0)
        if certain.any():
            raise ValueError(
                f"{what}: {int(certain.sum())} of the {len(certain)} rows (units, clusters) have a leverage of 1: without any "
                "one of them a parameter is not identified; leverage=False gives the influence to first order"
            )
        step = adjusted @ own.inverse
        tr = np.einsum("gij,ji->g", own.information, own.inverse)
        moved = step @ fit.jacobian.T
        dfbeta, size = moved @ D.T, ((moved @ fit.information) * moved).sum(axis=1)
        loss = np.einsum("gi,gi->g", scores, step) + 0.5 * np.einsum("gi,gij,gj->g", step, own.information, step)
    else:
        to_theta, tr = np.linalg.inv(fit.jacobian), np.full(len(scores), np.nan)
        root = np.zeros(inverse.shape)
        root[np.ix_(free, free)] = np.linalg.cholesky(inverse[np.ix_(free, free)])
        dfbeta, size = _first_order(scores, to_theta @ inverse @ D.T, to_theta @ root)
        loss = size  # s' I^-1 s: both d' I d and s' d
        if fit.loaded.effects is not None:
            loss = loss + _by_own_effects(fit, used, codes)
    kind = "clusters" if codes is not None else "units" if fit.loaded.unit_codes is not None else "rows"
    index, cooks = _names(fit, groups, len(scores), used), size / max(int(free.sum()), 1)
    return Influence(
        space.labels, kind, index, dfbeta, np.where(bse > 0, bse, np.nan), cooks, loglik, loglik - loss, tr
    )


def _refuse(fit: Fit, what: str) -> None:
    """Raise ValueError for fits whose influence cannot be computed: rows that are not in memory, no maximum, a penalty,
    bias reduction, ``rowwise=False``, random effects of several columns that connect all rows, or no Hessian.

    ``what``: the feature, first word of the message.
    """
    if fit.loaded.remembered is not None or fit.loaded.stream is not None:
        raise ValueError(f"{what} needs the rows of the fit in memory to evaluate their scores; fit a table in memory")
    if fit.penalised is not None or fit.spec.reduction is not None:
        raise ValueError(
            f"{what} needs a maximum of the log-likelihood itself: fit without penalty= and bias_reduction="
        )
    if not fit.verdict.converged:
        raise ValueError(f"{what} needs a maximum of the log-likelihood; the verdict is {fit.verdict.code}")
    if fit.loaded.problem.data.mode == "whole":
        why = (
            "in an extended likelihood the number of rows is an outcome, which an estimate without a row does not have"
            if fit.loaded.with_total
            else "with rowwise=False there is no estimate without a row"
        )
        raise ValueError(f"{what} needs a log-likelihood that is a sum over rows or units; {why}")
    refuse_connected(fit.loaded, fit.spec.likelihood, what)
    if fit.information is None or fit.jacobian is None:
        raise ValueError(f"{what} needs the information matrix, which this fit does not have; use method='newton'")


def _first_order(
    scores: Float[Host, "m p"], linear: Float[Host, "p r"], root: Float[Host, "p p"]
) -> tuple[Float[Host, "m r"], Float[Host, " m"]]:
    """Return scores @ linear (m, r), and the squared lengths of the rows of scores @ root (m,)."""
    moved, size = np.empty((len(scores), linear.shape[1])), np.empty(len(scores))
    for begin in range(0, len(scores), AT_ONCE):
        part = slice(begin, begin + AT_ONCE)
        np.matmul(scores[part], linear, out=moved[part])
        turned = scores[part] @ root
        np.einsum("mi,mi->m", turned, turned, out=size[part])
    return moved, size


def _by_own_effects(fit: Fit, used: np.ndarray, codes: Host | None) -> Float[Host, " m"]:
    """Return how much each row (cluster) raises its own log-likelihood through the effects of ``mle.Real(by=...)``, to first
    order, all other parameters given; (m,).

    Args:
        fit: the fit.
        used: True for the rows with positive weight.
        codes: number of the cluster of each of these rows; None: each row by itself.
    """
    effects, levels = fit.loaded.effects, fit.loaded.levels
    assert effects is not None
    assert levels is not None
    with float64():
        own = effects_evaluator_of(fit.spec, fit.loaded, fit.fixed).effect_scores(fit.u)
    alone, level = weighted(fit, own[:, None])[used, 0], levels.codes[used]
    each = np.arange(len(alone)) if codes is None else codes
    pairs, at = np.unique(each * len(levels) + level, return_inverse=True)
    owner, which = np.divmod(pairs, len(levels))
    added = np.where(effects.given[which], 0.0, np.bincount(at, alone) ** 2 / effects.curvature[which])
    return np.bincount(owner, added, minlength=int(each.max()) + 1)


def _names(fit: Fit, groups: Any, m: int, used: np.ndarray) -> np.ndarray:
    """Return the labels of the rows, units or clusters (m,); 0, 1, ... if the data have no labels of that number.

    ``groups``: as in `influence`; ``used``: True for the rows or units with positive weight.
    """
    rows = fit.loaded.rows
    units = fit.spec.likelihood.unit if fit.loaded.crossing is None else fit.loaded.crossing.units
    labels = groups if groups is not None else units
    if labels is not None:
        column = rows.select(fit.loaded.source.column(labels)) if isinstance(labels, str) else labels
        names = group_codes(column)[1]
        names = np.asarray(names)[used] if groups is None and len(names) == used.size else np.asarray(names)
        return names if len(names) == m else np.arange(m)
    names = np.asarray(rows.index) if rows.index is not None else np.arange(rows.n) if rows.kept is None else rows.kept
    return np.asarray(names)[used] if len(names) == used.size else np.arange(m)
