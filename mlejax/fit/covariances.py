"""A finished fit -> the covariance of theta: scores, weights and groups put together for :mod:`mlejax.covariance`.

With weights w_i and scores s_i of the contributions, the outer products are those of

* frequency weights: the expanded rows, sum w s s' (and n = sum w in factors);
* sampling and importance weights: the weighted contributions, sum w^2 s s'.

Clusters sum w s in either case.  Contributions of weight 0 count for nothing: not as rows, not as clusters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from mlejax import covariance as cov_room
from mlejax import data as data_room
from mlejax.fit.finish import Fit
from mlejax.fit.loading import column_unchanged, counts, labels_per_contribution, n_contributions
from mlejax.status import CovarianceState

COVARIANCE_LIMIT = 2000


def covariance_of(done: Fit, kind: str, options: Mapping[str, Any]) -> cov_room.CovarianceResult:
    """The covariance of theta, or NaN with the state when the verdict is not that of a maximum.

    Args:
        done: the fit.
        kind, options: as :func:`mlejax.covariance.check_kind` returns them.
    """
    p = done.spec.space.n_free
    flat = done.verdict.code == "not_identified"
    if done.information is None or not (done.verdict.converged or flat):
        state = np.full(p, CovarianceState.NOT_CONVERGED)
        matrix = np.full((p, p), np.nan) if p <= COVARIANCE_LIMIT else np.zeros((0, 0))
        return cov_room.CovarianceResult(matrix, state, kind, f"{kind} (none: {done.verdict.code.replace('_', ' ')})")
    if done.penalised is not None and done.penalised.kinks:
        state = np.full(p, CovarianceState.PENALTY_NOT_SMOOTH)
        where = ", ".join(done.penalised.kinks[:6]) + (", ..." if len(done.penalised.kinks) > 6 else "")
        note = f"The penalty is not smooth at the estimate (along {where}), so that there are no standard errors."
        return cov_room.CovarianceResult(
            np.full((p, p), np.nan), state, kind, f"{kind} (none: penalty not smooth)", (note,)
        )
    scores = _products(done, kind) if kind in cov_room.NEEDS_SCORES else None
    found = cov_room.covariance(
        kind,
        done.information,
        scores,
        free=done.interior,
        n=counts(done.loaded)[1],
        grouping=cov_room.Grouping(
            tuple(_cluster_codes(done, g) for g in options.get("groups", ())),
            options.get("correction", "G"),
            options.get("maxlags"),
        ),
        flat=flat,
        penalised=None if done.penalised is None else done.penalised.information,
    )
    named = {
        name
        for behaviour, names, _ in done.verdict.evidence.get("directions", ())
        if behaviour == "flat"
        for name in names
    }
    for i, name in enumerate(done.spec.space.theta_labels if flat else ()):
        if name in named:
            found.matrix[i, :] = found.matrix[:, i] = np.nan
            found.state[i] = CovarianceState.NOT_IDENTIFIED
    if kind == "HAC" and done.loaded.rows.n_dropped:
        note = f"{done.loaded.rows.n_dropped} rows were dropped: lags count the rows that are left."
        found = replace(found, notes=(*found.notes, note))
    return found


def weighted_scores(done: Fit) -> np.ndarray:
    """w_i s_i of every contribution (n, p), 0 where the weight is: their sum is the score of the log-likelihood."""
    scores, w = done.scores(), done.loaded.weights
    return scores if w is None else np.where(w.used[:, None], scores * w.values[:, None], 0.0)


def _products(done: Fit, kind: str) -> np.ndarray:
    """What the outer products are made of, without the contributions of weight 0."""
    data = done.loaded.problem.data
    if data.mode == "whole" and n_contributions(data) <= 1:
        raise ValueError(
            f"cov_type={kind!r} sums the scores of separate contributions, but {done.spec.likelihood.name} returns one "
            "scalar; return one value per time point or group, or use cov_type='nonrobust'"
        )
    if kind == "HAC":
        return _in_time(done)
    w = done.loaded.weights
    if w is None:
        return done.scores()
    one_by_one = w.kind == "frequency" and kind != "cluster"
    size = np.sqrt(w.values) if one_by_one else w.values
    return (done.scores() * size[:, None])[w.used]


def _in_time(done: Fit) -> np.ndarray:
    """Weighted scores in the order of the rows, which is that of time; refused where rows have no such order."""
    data, w = done.loaded.problem.data, done.loaded.weights
    if data.mode == "units":
        raise ValueError(
            f"cov_type='HAC' takes the order of the contributions for time, but {done.spec.likelihood.name} has one for each "
            f"unit ({done.spec.likelihood.unit!r}), and units have no order; use 'cluster' or 'HC0'"
        )
    if w is not None and w.kind == "frequency":
        raise ValueError(
            "cov_type='HAC' takes the order of the rows for time, and a row that stands for several (frequency weights) has "
            "no place in it; use 'HC0' or 'cluster'"
        )
    return weighted_scores(done)


def _cluster_codes(done: Fit, groups: Any) -> np.ndarray:
    """One code for each contribution of positive weight, from a column name or labels."""
    if not isinstance(groups, str):
        codes = labels_per_contribution(done.loaded, groups, "cov_kwds groups")
    elif not column_unchanged(done.loaded, done.spec.likelihood.unit):
        raise ValueError(
            f"the data have changed since the fit, so that their column {groups!r} may belong to other rows; pass the labels "
            "themselves as groups, in the order of the rows that were fitted"
        )
    else:
        column = done.loaded.source.column(groups)
        codes = labels_per_contribution(done.loaded, column, f"groups column {groups!r}")
    w = done.loaded.weights
    return codes if w is None or w.used.all() else data_room.group_codes(codes[w.used])[0]
