"""Covariances of many fits at once: the formulas of :mod:`mlejax.covariance`, over a leading axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from mlejax import covariance as cov_room
from mlejax import data as data_room
from mlejax.batch.cutting import chunks
from mlejax.batch.engine import run_tasks
from mlejax.batch.fitting import Batch, single
from mlejax.batch.programs import meat_lanes
from mlejax.data import bucket
from mlejax.fit.covariances import covariance_of
from mlejax.fit.penalties import L2
from mlejax.status import CovarianceState


def covariances(batch: Batch, kind: str, options: Mapping[str, Any]) -> tuple[np.ndarray, dict[int, str]]:
    """Covariance of theta for every data set (L, p, p), NaN where there is none, and reasons by data set.

    Args:
        kind, options: as :func:`mlejax.covariance.check_kind` returns them.
    """
    groups, correction = options.get("groups", ()), options.get("correction", "G")
    smooth = batch.spec.penalty is None or isinstance(batch.spec.penalty, L2)  # others are looked at for kinks
    if not smooth or kind == "HAC" or len(groups) > 1 or (groups and batch.sets.mode == "units"):
        return _one_by_one(batch, kind, options)
    codes = _cluster_codes(batch, groups[0]) if groups else None
    n, p = batch.theta.shape
    out = np.full((n, p, p), np.nan)
    reasons: dict[int, str] = {}
    if batch.information.shape[-1] != p:
        return out, reasons
    good = np.flatnonzero(batch.converged)
    for i in np.flatnonzero(batch.codes == "not_identified").tolist():
        out[i] = _identified_part(batch, i, kind, options)
    if not good.size:
        return out, reasons
    bread = batch.inverse[good]
    found = bread
    if kind == "nonrobust" and batch.spec.penalty is not None:
        found = bread @ batch.information[good] @ bread
        with np.errstate(invalid="ignore"):
            lost = ~(np.einsum("lii->li", found) > 1e-14 * np.einsum("lii->li", bread)) & batch.interior[good]
        found = np.where(lost[:, :, None] | lost[:, None, :], np.nan, found)
        for i in good[lost.any(axis=1)].tolist():
            reasons.setdefault(i, "the data say nothing of a parameter that the penalty holds: no standard error")
    elif kind not in ("nonrobust", "bayes"):
        found, reasons = _sandwiches(batch, good, bread, kind, correction, codes)
        with np.errstate(invalid="ignore"):
            diagonal, floor = np.einsum("lii->li", found), 1e-14 * np.einsum("lii->li", bread)
            lost = ~(diagonal > floor) & batch.interior[good]
        found = np.where(lost[:, :, None] | lost[:, None, :], np.nan, found)
        for i in good[lost.any(axis=1)].tolist():
            reasons.setdefault(i, "the scores span fewer directions than there are parameters: no standard error")
    free = batch.interior[good]
    if not free.all():
        found = np.where(free[:, :, None] & free[:, None, :], found, np.nan)
    out[good] = found
    return out, reasons


def _sandwiches(
    batch: Batch, good: np.ndarray, bread: np.ndarray, kind: str, correction: str, codes: list[np.ndarray] | None
) -> tuple[np.ndarray, dict[int, str]]:
    meat = meats(batch, good, codes)
    inside = np.linalg.inv(batch.jacobian[good])
    meat = np.swapaxes(inside, 1, 2) @ meat @ inside
    free = batch.interior[good]
    both = free[:, :, None] & free[:, None, :]
    n = _counted(batch)[good]
    if batch.sets.mode == "whole":
        n = np.array([batch.sets.n_out[int(m)] for m in batch.sets.lengths[good]], float)
    k = free.sum(axis=1)
    factor, groups = np.ones(len(good)), np.zeros(len(good))
    interrupted = good[np.isnan(meat).any(axis=(1, 2))].tolist()
    reasons = dict.fromkeys(interrupted, "interrupted before its standard errors were computed")
    with np.errstate(divide="ignore", invalid="ignore"):
        if kind == "HC1":
            factor = np.where(n > k, n / (n - k), np.nan)
        if kind == "cluster":
            assert codes is not None
            groups = np.array([int(codes[i].max()) + 1 for i in good], float)
            if correction != "none":
                factor = np.where(groups > 1, groups / (groups - 1), np.nan)
            if correction == "full":
                factor = factor * np.where(n > k, (n - 1) / (n - k), np.nan)
            factor = np.where(groups > 1, factor, np.nan)
    for j in np.flatnonzero(np.isnan(factor)).tolist():
        alone = kind == "cluster" and groups[j] < 2
        reasons[int(good[j])] = cov_room.TOO_FEW["cluster" if alone else "rows"]
    if kind == "opg":
        eye = np.eye(both.shape[-1])
        a = np.where(both, meat, eye)
        d = np.sqrt(np.abs(np.einsum("lii->li", a)))
        d = np.where(d > 0, d, 1.0)
        scaled = a / d[:, :, None] / d[:, None, :]
        finite = np.isfinite(scaled).all(axis=(1, 2))
        smallest = np.full(len(good), np.nan)
        smallest[finite] = np.linalg.eigvalsh(scaled[finite])[:, 0]
        ok = finite & (smallest > both.shape[-1] * 1e-13)
        ok &= (~free | (np.einsum("lii->li", meat) > 1e-12 * np.einsum("lii->li", batch.information[good]))).all(axis=1)
        found = np.full_like(meat, np.nan)
        found[ok] = np.linalg.inv(scaled[ok]) / d[ok][:, :, None] / d[ok][:, None, :]
        return found, reasons
    found = bread @ meat @ bread * factor[:, None, None]
    return 0.5 * (found + np.swapaxes(found, 1, 2)), reasons


def _counted(batch: Batch) -> np.ndarray:
    """Contributions that count (L,): the sum of frequency weights, else their number."""
    sets = batch.sets
    if batch.weight_kind != "frequency" or sets.weights is None or sets.order is None:
        return sets.lengths.astype(float)
    owner = np.repeat(np.arange(len(sets)), sets.lengths)
    return np.bincount(owner, sets.weights[sets.order], minlength=len(sets))


def meats(batch: Batch, lanes: np.ndarray, codes: list[np.ndarray] | None) -> np.ndarray:
    """Sums of products of scores in u, over contributions or clusters (len(lanes), p, p)."""
    p = batch.theta.shape[1]
    sets, limits = batch.sets, batch.limits
    assert limits is not None
    out = np.full((len(sets), p, p), np.nan)
    by_root = batch.weight_kind == "frequency" and codes is None  # the products of the expanded rows
    most = 0 if codes is None else bucket(max(int(codes[i].max()) + 1 for i in lanes))

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
        found = meat_lanes(batch.spec, width, u, data, batch.fixed, padded, np.int32(-(-mine.size // width)), most)
        out[mine] = np.asarray(found)[: mine.size]
        return int(mine.size)

    with jax.enable_x64(True):
        run_tasks(chunks(sets, lanes, p, limits), work, limits, "covariance", len(lanes))
    return out[lanes]  # NaN where the keyboard interrupted


def _identified_part(batch: Batch, i: int, kind: str, options: Mapping[str, Any]) -> np.ndarray:
    """Covariance of what is identified where something else is not."""
    if kind == "nonrobust" and batch.spec.penalty is None and batch.sets.weighing is None:
        found = cov_room.covariance(
            kind, batch.information[i], None, free=batch.interior[i], n=float(batch.sets.lengths[i]), flat=True
        )
        matrix = np.array(found.matrix)
        flat = [name for d in batch.found[i].directions if d.behaviour == "flat" for name in d.names]
        gone = np.isin(np.array(batch.spec.space.theta_labels), flat)
        matrix[gone, :] = matrix[:, gone] = np.nan
        return matrix
    return covariance_of(single(batch, i), kind, _own(batch, options, i)).matrix


def _one_by_one(batch: Batch, kind: str, options: Mapping[str, Any]) -> tuple[np.ndarray, dict[int, str]]:
    """Kinds of covariance that have no formula over lanes (two-way clusters, HAC): a loop over the data sets."""
    n, p = batch.theta.shape
    out = np.full((n, p, p), np.nan)
    reasons: dict[int, str] = {}
    for i in np.flatnonzero(batch.converged | (batch.codes == "not_identified")).tolist():
        try:
            found = covariance_of(single(batch, i), kind, _own(batch, options, i))
        except cov_room.TooFewError as error:
            reasons[i] = str(error)
            continue
        out[i] = found.matrix
        lost = [CovarianceState(int(s)) for s in found.state if s not in (CovarianceState.OK, CovarianceState.ON_BOUNDARY)]
        if lost:
            reasons[i] = f"no standard error: {lost[0].name.lower().replace('_', ' ')}"
    return out, reasons


def own_options(batch: Batch, options: Mapping[str, Any] | None, i: int) -> dict[str, Any] | None:
    """``cov_kwds`` of one data set, of those given for all."""
    if not options or options.get("groups") is None:
        return dict(options) if options else None
    groups = options["groups"]
    pair = isinstance(groups, (list, tuple)) and len(groups) == 2 and not np.isscalar(groups[0])
    names = isinstance(groups, (list, tuple)) and all(isinstance(g, str) for g in groups)
    if pair and not names:
        return {**options, "groups": tuple(_labels_of(batch, g, i) for g in groups)}
    return {**options, "groups": groups if names else _labels_of(batch, groups, i)}


def _own(batch: Batch, options: Mapping[str, Any], i: int) -> dict[str, Any]:
    if "groups" not in options:
        return dict(options)
    return {**options, "groups": tuple(_labels_of(batch, g, i) for g in options["groups"])}


def _labels_of(batch: Batch, groups: Any, i: int) -> Any:
    """One data set's labels, of a column's name (kept) or of labels given for all rows of the table."""
    return groups if isinstance(groups, str) else _flat(batch, groups)[batch.sets.table_rows(i)]


def _flat(batch: Batch, groups: Any) -> np.ndarray:
    values = np.asarray(groups)
    return values.reshape(-1) if values.ndim == 2 else values


def _cluster_codes(batch: Batch, groups: Any) -> list[np.ndarray]:
    """For each data set the cluster of each contribution, from a column or from labels of all rows."""
    sets = batch.sets
    values = np.asarray(sets.source.column(groups)) if isinstance(groups, str) else _flat(batch, groups)
    out = []
    for i in range(len(sets)):
        if i in sets.bad:
            out.append(np.zeros(0, np.int64))
            continue
        out.append(data_room.group_codes(values[sets.rows_used(i)], "cov_kwds groups")[0])
        if sets.mode == "whole" and len(out[-1]) != sets.n_out[int(sets.lengths[i])]:
            raise data_room.DataError("cov_kwds groups: expected one label for each value that the model returns")
    return out


def standard_errors(matrix: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Standard errors (L, R) of ``matrix @ theta`` for covariances (L, p, p); NaN where an entry that matters is NaN."""
    unknown = np.isnan(np.einsum("lii->li", covariance))
    variance = np.einsum("rp,lpq,rq->lr", matrix, np.nan_to_num(covariance), matrix, optimize=True)
    lost = (unknown[:, None, :] & (matrix != 0)[None]).any(axis=-1)
    return np.where(lost, np.nan, np.sqrt(np.maximum(variance, 0.0)))
