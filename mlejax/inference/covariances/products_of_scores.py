"""Sums of outer products of scores of finished fits, by rows, units or clusters, for one fit and for many.

With weights w_i and scores s_i of the terms of the log-likelihood, the sums are

* with frequency weights: those of the expanded rows, sum w s s' (and n = sum w in small-sample factors);
* with sampling and importance weights: sum w^2 s s'; but sum w s s' for ``opg``, where the sum estimates the information
  of the weighted log-likelihood.

For clusters, w s is summed within a cluster in either case.  Terms of weight 0 do not count as rows or clusters, nor in the
default number of lags of HAC, where they are gaps of time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlejax import covariance as cov_room
from mlejax import data as data_room
from mlejax.batch import Batch, single
from mlejax.batch.products import summed_products
from mlejax.covariance import KINDS, Kind, Sums
from mlejax.execution import float64
from mlejax.fit import Fit, counts, labels_per_contribution, refuse_connected, rows_unchanged
from mlejax.inference.covariances.expected_counts import warn_of_count
from mlejax.inference.covariances.leverage import adjusted_scores, parts_of, relative_leverages
from mlejax.inference.covariances.streamed_leverage import adjusted_products
from mlejax.likelihood import ExpectedTotal
from mlejax.objective import Partialled, PartitionedEvaluator, nested_in_clusters, streamed_products
from mlejax.shapes import Bool, Float, Host, Int


def weighted_scores(fit: Fit) -> Float[Host, "n p"]:
    """Return w_i s_i in theta for every term (n, p), 0 where the weight is 0 and for an expected total; the sum over i is the
    score of the log-likelihood, without that of the total.  ValueError if the rows are not in memory.
    """
    return weighted(fit, fit.scores())


def weighted(fit: Fit, values: Float[Host, "n ..."]) -> Float[Host, "n ..."]:
    """Return w_i values_i for every term, (n, ...); 0 where the weight is 0."""
    w = fit.loaded.weights
    by_row = (-1,) + (1,) * (values.ndim - 1)
    return values if w is None else np.where(w.used.reshape(by_row), values * w.values.reshape(by_row), 0.0)


def weighted_by_kind(fit: Fit, kind: Kind, scores: Float[Host, "n p"]) -> Float[Host, "m p"]:
    """Return the scores of the m terms of positive weight, times the weights or their square roots, whose products a kind of
    covariance sums.
    """
    w = fit.loaded.weights
    if w is None:
        return scores
    size = np.sqrt(w.values) if kind.weighted_by_w(w.kind) else w.values
    return (scores * size[:, None])[w.used]


def _centred(fit: Fit, scores: Float[Host, "n p"]) -> Float[Host, "n p"]:
    """Return scores in theta as scores in the centred coordinates in which the covariance is computed; unchanged if the fit
    has no such coordinates.
    """
    return scores if fit.centred is None else np.asarray(scores @ fit.centred.matrix)


def sums_of(fit: Fit, kind: str, options: Mapping[str, Any]) -> Sums:
    """Return the sums of outer products of the scores of one fit that a kind of covariance is made of.

    Args:
        fit: the fit.
        kind, options: kind of covariance and its options, as :func:`mlejax.covariance.check_kind` returns them.

    Raises:
        ValueError: the kind is not made of such sums; the model returns one number, or has random effects of several columns that
            connect all rows; it is an extended likelihood, and the kind has clusters, lags or leverages; terms have no order in
            time (HAC); weights are not supported; there are no leverages (`parts_of`), or one is 1; the data have changed
            since the fit (clusters by a column); or rows are needed that are not in memory.
        DataError: clusters that do not fit the rows.
    """
    of = KINDS[kind]
    data, likelihood = fit.loaded.problem.data, fit.spec.likelihood
    if fit.loaded.stream is not None:
        return _sums_of_stream(fit, of, options)
    warn_of_count(fit, f"cov_type={kind!r}")
    if data.mode == "whole" and data.n_contributions <= 1 and fit.loaded.remembered is None:  # a file has no contributions
        raise ValueError(one_scalar(kind, likelihood.name))
    if isinstance(likelihood.function, ExpectedTotal) and not (of.unadjusted_scores and of.scores_of == "rows"):
        offered = ", ".join(k.name for k in KINDS.values() if k.unadjusted_scores and k.scores_of == "rows")
        raise ValueError(f"cov_type={kind!r} does not support extended likelihoods; use one of {offered}, or 'nonrobust'")
    refuse_connected(fit.loaded, likelihood, f"cov_type={kind!r}")
    n = counts(fit.loaded)[1]
    if of.scores_of == "lags":
        if data.mode == "units":
            raise ValueError(
                f"cov_type={kind!r} expects rows in the order of time, but the terms of {likelihood.name} belong to "
                f"units ({likelihood.unit!r}), which have no order; use 'cluster' or 'HC0'"
            )
        if fit.weight_kind == "frequency":
            raise ValueError(
                f"cov_type={kind!r} expects one row for each point of time, and with frequency weights a row is several "
                "observations; use 'HC0' or 'cluster'"
            )
        lags = options.get("maxlags")
        lags = cov_room.default_lags(n) if lags is None else int(lags)
        return cov_room.score_products(_centred(fit, weighted_scores(fit)), n, lags=lags)
    if of.leverage_exponent is not None:
        return _leveraged(fit, of, options, n)
    if not of.unadjusted_scores:
        raise ValueError(f"cov_type={kind!r} has no sums of products of scores")
    scores = weighted_by_kind(fit, of, _centred(fit, fit.scores()))
    codes = [cluster_codes(fit, groups) for groups in options.get("groups", ())]
    return cov_room.score_products(scores, n, codes)


def _sums_of_stream(fit: Fit, kind: Kind, options: Mapping[str, Any]) -> Sums:
    """Return the same sums as :func:`sums_of` for a fit of a stream, by one pass over its partitions.

    Raises:
        ValueError: a kind with lags or with leverages of clusters, or clusters that are not names of columns.
    """
    by_leverage = kind.leverage_exponent is not None and kind.scores_of == "rows"
    if not (kind.unadjusted_scores or by_leverage):
        rows = [k.name for k in KINDS.values() if k.unadjusted_scores or (k.leverage_exponent and k.scores_of == "rows")]
        raise ValueError(
            f"cov_type={kind.name!r} needs the rows in memory; for a stream, use one of {', '.join(rows)}, or 'nonrobust'"
        )
    n, groups = counts(fit.loaded)[1], options.get("groups", ())
    if not all(isinstance(g, str) for g in groups):
        raise ValueError(
            "cov_kwds groups: for a stream, expected the name of a column of it, got labels; add them to the stream as a column"
        )
    if by_leverage:
        _refuse_frequency(fit, kind)
        adjusted, certain = adjusted_products(fit, kind.name)
        if certain:
            raise ValueError(_determined(kind.name, f"{certain} rows", "HC2", "row"))
        products, sizes = [adjusted], [0]
    else:
        with float64():
            products, sizes = streamed_products(*_passes_of(fit), fit.u, kind.weighted_by_w(fit.weight_kind), tuple(groups))
    assert fit.jacobian is not None
    each = [np.linalg.solve(fit.jacobian.T, np.linalg.solve(fit.jacobian.T, m).T) for m in products]
    return Sums(np.array(each)[None], np.array([float(n)]), np.array([sizes]), None)


def _passes_of(fit: Fit) -> tuple[PartitionedEvaluator, Partialled | None]:
    """Return the evaluator of a stream's partitions, and what partials effects out of its scores (None without effects)."""
    effects, stream = fit.loaded.effects, fit.loaded.stream
    assert stream is not None
    evaluator = PartitionedEvaluator(fit.spec.plain, stream, fit.loaded.seen.problem.data, fit.fixed)
    if effects is None:
        return evaluator, None
    assert stream.cut.position is not None
    assert fit.jacobian is not None
    return evaluator, Partialled(stream.cut.position, effects.values, effects.lever @ fit.jacobian)


def levels_in_clusters(fit: Fit, groups: str) -> bool:
    """True if, in the stream of a fit with effects, each level has all its rows in one cluster of a column, by one pass."""
    evaluator, partialled = _passes_of(fit)
    assert partialled is not None
    with float64():
        return nested_in_clusters(evaluator, partialled.position, groups, fit.u)


def _refuse_frequency(fit: Fit, kind: Kind) -> None:
    if fit.weight_kind == "frequency" and kind.scores_of == "rows":
        raise ValueError(
            f"cov_type={kind.name!r} does not support frequency weights, where a row is several observations; repeat each row by "
            "its weight"
        )


def _determined(kind: str, which: str, instead: str, one: str) -> str:
    return (
        f"cov_type={kind!r}: {which} determine a parameter alone (a leverage of 1), so that there is no estimate without them; "
        f"use {instead!r}, or leave out the parameter of that {one}"
    )


def _leveraged(fit: Fit, kind: Kind, options: Mapping[str, Any], n: float) -> Sums:
    """Return the sums of products of leverage-adjusted scores (HC2, HC3, HC4, CR2, CR3).

    ``kind``: one of these; ``options``: its options, with ``groups``; ``n``: number of terms.

    Raises:
        ValueError: frequency weights (kinds of rows), a leverage of 1 (kinds that divide by more than its root), or a fit
            without leverages (`parts_of`).
    """
    assert kind.leverage_exponent is not None
    what = f"cov_type={kind.name!r}"
    _refuse_frequency(fit, kind)
    codes = [cluster_codes(fit, groups) for groups in options.get("groups", ())]
    if codes and not codes[0].any():
        return cov_room.score_products(np.zeros((codes[0].size, fit.theta.size)), n, codes)  # too few
    parts = parts_of(fit, codes[0] if codes else None, what)
    powers = np.broadcast_to(kind.leverage_exponent(relative_leverages(parts)), len(parts.scores))
    scores, certain = adjusted_scores(parts, powers[:, None])
    if (powers[certain] > 0.5).any():  # a residual goes to 0 as the root of one minus its leverage
        one = f"{int(certain.sum())} {'clusters' if codes else 'rows' if fit.loaded.unit_codes is None else 'units'}"
        raise ValueError(_determined(kind.name, one, *(("CR2", "cluster") if codes else ("HC2", "row"))))
    assert fit.jacobian is not None
    scores = _centred(fit, np.linalg.solve(fit.jacobian.T, scores[:, : len(fit.u)].T).T)
    made = cov_room.score_products(scores, n)
    return made._replace(groups=np.array([[len(scores)]])) if codes else made


def one_scalar(kind: str, name: str) -> str:
    """Return the error message for a kind of covariance that sums scores, when the model ``name`` returns one number."""
    return (
        f"cov_type={kind!r} needs the scores of separate terms, but {name} returns one scalar; return one value for each "
        "time point or group, or use cov_type='nonrobust'"
    )


def cluster_codes(fit: Fit, groups: Any) -> Int[Host, " n"]:
    """Return the cluster number 0, 1, ... of each term of positive weight (n,), from the name of a column or from labels.

    Raises:
        ValueError: the data have changed since the fit, so that a column may belong to other rows.
        DataError: another number of labels, missing labels, or labels that vary within a unit.
    """
    if not isinstance(groups, str):
        codes = labels_per_contribution(fit.loaded, groups, "cov_kwds groups")
    elif not rows_unchanged(fit.loaded, fit.spec.likelihood):
        raise ValueError(
            f"the data have changed since the fit, so that their column {groups!r} may belong to other rows; pass the labels "
            "themselves as groups, in the order of the rows that were fitted"
        )
    else:
        column = fit.loaded.source.column(groups)
        codes = labels_per_contribution(fit.loaded, column, f"groups column {groups!r}")
    w = fit.loaded.weights
    return codes if w is None or w.used.all() else data_room.group_codes(codes[w.used])[0]


def sums_of_many(
    batch: Batch, which: Int[Host, " m"], kind: str, options: Mapping[str, Any]
) -> tuple[Sums, Bool[Host, " m"]]:
    """Return the sums of products of scores of the data sets at positions ``which``, and True for each that was computed,
    False if Ctrl-C came before (m,); arguments and errors as in `sums_of`.
    """
    sets, groups = batch.sets, options.get("groups", ())
    if not KINDS[kind].unadjusted_scores or len(groups) > 1 or (groups and sets.mode == "units"):
        each = [sums_of(single(batch, int(i)), kind, own_options(batch, options, int(i))) for i in which]
        products, n, sizes = (np.concatenate(parts) for parts in zip(*(one[:3] for one in each), strict=True))
        products = products / sets.scale[which, None, None, None] ** 2  # as the information of the batch
        return Sums(products, n, sizes, options.get("maxlags")), np.ones(len(which), bool)
    codes = _codes_of_many(batch, groups[0]) if groups else None
    products, ran = summed_products(batch, which, codes, KINDS[kind].weighted_by_w(batch.weight_kind))
    sizes = np.zeros(len(which), int) if codes is None else np.array([int(codes[i].max()) + 1 for i in which])
    return Sums(products[:, None], _counted(batch)[which], sizes[:, None]), ran


def _counted(batch: Batch) -> Float[Host, " L"]:
    """Return the number of terms of each data set (L,): with frequency weights their sum, with ``rowwise=False`` the number of
    values that the model returns, else the number of rows or units.
    """
    sets = batch.sets
    if sets.mode == "whole":
        return np.array([sets.n_out.get(int(m), 0) for m in sets.lengths], float)
    if batch.weight_kind != "frequency" or sets.weights is None or sets.order is None:
        return sets.lengths.astype(float)
    owner = np.repeat(np.arange(len(sets)), sets.lengths)
    return np.bincount(owner, sets.weights[sets.order], minlength=len(sets))


def _codes_of_many(batch: Batch, groups: Any) -> Sequence[Int[Host, " n"]]:
    """Return, for each data set, the cluster number 0, 1, ... of each of its terms, from a column or from labels of all rows;
    empty for a data set that cannot be used.

    Raises:
        DataError: missing labels, or for ``rowwise=False`` another number of labels than values that the model returns.
    """
    sets = batch.sets
    values = np.asarray(sets.source.column(groups)) if isinstance(groups, str) else _flat(groups)
    out = []
    for i in range(len(sets)):
        if i in sets.bad:
            out.append(np.zeros(0, np.int64))
            continue
        out.append(data_room.group_codes(values[sets.rows_used(i)], "cov_kwds groups")[0])
        if sets.mode == "whole" and len(out[-1]) != sets.n_out[int(sets.lengths[i])]:
            raise data_room.DataError("cov_kwds groups: expected one label for each value that the model returns")
    return out


def own_options(batch: Batch, options: Mapping[str, Any], i: int) -> dict[str, Any]:
    """Return the covariance options of data set i, from those of all data sets (as `check_kind` returns them): labels of
    clusters are cut to its rows; names of columns stay, but of columns that only the whole table has the labels are taken.
    """
    if "groups" not in options:
        return dict(options)
    rows, table, columns = batch.sets.table_rows(i), batch.sets.source, single(batch, i).loaded.source

    def own(groups: Any) -> Any:
        if isinstance(groups, str) and (groups in columns or groups not in table):
            return groups
        return _flat(table.column(groups) if isinstance(groups, str) else groups)[rows]

    return {**options, "groups": tuple(own(groups) for groups in options["groups"])}


def _flat(groups: Any) -> Host:
    values = np.asarray(groups)
    return values.reshape(-1) if values.ndim == 2 else values
