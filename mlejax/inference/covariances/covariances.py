"""Finished fits -> covariances of theta: scores, weights and groups put together for :mod:`mlejax.covariance`.

With weights w_i and scores s_i of the contributions, the products are those of

* frequency weights: the expanded rows, sum w s s' (and n = sum w in factors);
* sampling and importance weights: the weighted contributions, sum w^2 s s'; but sum w s s' for ``opg``, where the products
  stand for the information of the weighted log-likelihood.

Clusters sum w s in either case.  Contributions of weight 0 count for nothing: not as rows, not as clusters, and not in the
default number of lags of HAC, in which they are gaps of time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mlejax import covariance as cov_room
from mlejax import data as data_room
from mlejax import fit as fit_room
from mlejax.batch import Batch, single
from mlejax.batch.products import summed_products
from mlejax.covariance import COVARIANCE_LIMIT, CovarianceResult, Covariances, Sums
from mlejax.execution import float64
from mlejax.fit import Fit, column_unchanged, counts, labels_per_contribution, refuse_connected
from mlejax.fit.prepare.penalties import L2
from mlejax.inference.covariances.expected import expected_information
from mlejax.inference.covariances.expected_counts import warn_of_count
from mlejax.inference.covariances.leverage import adjusted_scores, parts_of
from mlejax.inference.covariances.survey_covariance import survey_of
from mlejax.likelihood import SUMS_OF_ROWS, ExpectedTotal
from mlejax.objective import streamed_products
from mlejax.shapes import Bool, Float, Host, Int
from mlejax.status import CovarianceState
from mlejax.verdict import Direction


def covariance_of(fit: Fit, kind: str, options: Mapping[str, Any], strict: bool = True) -> CovarianceResult:
    """The covariance of theta of one fit, or NaN with the state where the fit did not end at a maximum.

    Args:
        fit: the fit.  One with curvature in centred coordinates has its covariance made there, and its factor kept.
        kind, options: as :func:`mlejax.covariance.check_kind` returns them.
        strict: raise where there are too few clusters or contributions, instead of stating it.

    Raises:
        ValueError: the contributions do not suit the kind; too few clusters or contributions, if ``strict``.
    """
    p = fit.spec.space.n_free
    if kind == "opg" and fit.loaded.effects is not None:
        raise ValueError(
            f"cov_type='opg' is refused with effects of {fit.loaded.effects.key.by}: they are partialled out by the information, "
            "not by products of scores; use 'nonrobust' or 'HC0'"
        )
    # where classes are the same no parameter of theirs has an error
    flat = fit.verdict.code == "not_identified" and "classes" not in fit.verdict.evidence
    if fit.information is None or not (fit.verdict.converged or flat):
        state = np.full(p, int(CovarianceState.NOT_CONVERGED))
        matrix = np.full((p, p), np.nan) if p <= COVARIANCE_LIMIT else np.zeros((0, 0))
        return CovarianceResult(matrix, state, kind, f"{kind} (none: {fit.verdict.code.replace('_', ' ')})")
    if kinks := _kinks(fit):
        none = cov_room.no_covariances(1, p, CovarianceState.PENALTY_NOT_SMOOTH)
        where = ", ".join(kinks[:6]) + (", ..." if len(kinks) > 6 else "")
        note = f"The penalty is not smooth at the estimate (along {where}), so that there are no standard errors."
        return CovarianceResult(none.matrix[0], none.state[0], kind, f"{kind} (none: penalty not smooth)", (note,))
    if kind == "bootstrap":
        return _bootstrapped(fit, options)
    survey = survey_of(fit, options["design"]) if kind == "survey" else None
    if isinstance(survey, CovarianceResult):
        return survey
    sums = _sums_of(fit, kind, options) if kind in cov_room.NEEDS_SCORES else None
    sums = sums if survey is None else survey.sums
    correction, absorbed = options.get("correction", "G"), _absorbed(fit, options)
    k = int(fit.interior.sum()) + absorbed
    penalised = None if fit.penalised is None else fit.penalised.information
    information, how, centred = fit.information, "", fit.centred
    if kind == "expected":
        information, how = expected_information(fit, options)
        information = information if centred is None else centred.matrix.T @ information @ centred.matrix
    elif centred is not None:
        information, penalised = centred.information, centred.penalised
    found = cov_room.covariance(
        kind,
        information[None],
        free=fit.interior[None],
        sums=sums,
        correction=correction,
        penalised=None if penalised is None else penalised[None],
        unidentified=_any(flat_entries(fit.directions, fit.jacobian, fit.information))[None] if flat else None,
        absorbed=absorbed,
    )
    factor = None
    if fit.centred is not None:
        found, factor = _in_theta(found, fit.centred.matrix)
    if strict and any(int(s) in cov_room.TOO_FEW for s in found.state[0]):
        raise ValueError(cov_room.too_few(kind, sums, k, correction))
    word = "HC0" if survey is not None else kind
    made = replace(cov_room.described(found, word, sums, k, correction, penalised is not None), factor=factor)
    made = replace(made, groups=options.get("groups", ()))
    if how:
        made = replace(made, statement=f"expected (inverse expected information, {how})")
    if survey is not None:
        made = replace(made, kind=kind, statement=survey.words, df=survey.df)
    if kind in ("CR2", "CR3"):
        assert sums is not None
        made = replace(made, df=float(sums.groups[0, 0]) - 1.0)
    if kind == "HAC" and fit.loaded.rows.n_dropped:
        note = f"{fit.loaded.rows.n_dropped} rows were dropped: lags count the rows that are left."
        made = replace(made, notes=(*made.notes, note))
    return made


def _absorbed(fit: Fit, options: Mapping[str, Any]) -> int:
    """Effects by index that factors of small samples count; under ``correction="ssc"`` those within clusters count as one."""
    effects = fit.loaded.effects
    if effects is None:
        return 0
    if options.get("correction") == "ssc":
        used, codes = fit.loaded.weights, effects.levels.codes
        inside = codes if used is None else codes[used.used]
        for groups in options["groups"]:
            pairs = inside.astype(np.int64) * (len(codes) + 1) + cluster_codes(fit, groups)
            if np.unique(pairs).size == np.unique(inside).size:
                return 1 - int(effects.given.sum())
    return effects.n_free


def covariances_of(batch: Batch, kind: str, options: Mapping[str, Any]) -> Covariances:
    """Covariances of theta of every data set of a batch; arguments as in :func:`covariance_of`.

    Raises:
        ValueError: the contributions do not suit the kind.
    """
    n, p = batch.theta.shape
    if kind in ("bootstrap", "expected"):
        raise ValueError(f"cov_type={kind!r} is for one data set: many[label].with_cov({kind!r})")
    if kind != "nonrobust" and isinstance(batch.spec.likelihood.function, ExpectedTotal):
        raise ValueError(f"cov_type={kind!r} of an extended likelihood is for one data set: fit them one by one")
    out = cov_room.no_covariances(n, p)
    if batch.information.shape[-1] != p:
        return out
    penalised = batch.spec.penalty is not None
    smooth = not penalised or isinstance(batch.spec.penalty, L2)  # other penalties may have kinks
    for which, flat in ((batch.converged, False), (batch.codes == "not_identified", True)):
        chosen = np.flatnonzero(which)
        if not smooth:
            kinked = np.array([bool(_kinks(single(batch, int(i)))) for i in chosen], bool)
            out.state[chosen[kinked]] = CovarianceState.PENALTY_NOT_SMOOTH
            chosen = chosen[~kinked]
        if not chosen.size:
            continue
        sums, ran = None, np.ones(chosen.size, bool)
        if kind in cov_room.NEEDS_SCORES:
            sums, ran = _sums_of_many(batch, chosen, kind, options)
        curvature = batch.information[chosen] if penalised else None
        if penalised and flat:
            curvature = np.array([single(batch, int(i)).penalised.information for i in chosen])  # type: ignore[union-attr]
        found = cov_room.covariance(
            kind,
            batch.information[chosen],
            free=batch.interior[chosen],
            sums=sums,
            correction=options.get("correction", "G"),
            penalised=curvature,
            inverse=None if flat else batch.inverse[chosen],
            unidentified=np.array([_any(flat_entries_of(batch, int(i))) for i in chosen]) if flat else None,
        )
        found.state[~ran] = CovarianceState.INTERRUPTED
        out.put(chosen, found._replace(factors=np.ones((len(chosen), 1))))
    return out


def _bootstrapped(fit: Fit, options: Mapping[str, Any]) -> CovarianceResult:
    """The covariance of refits under resampled rows, units or clusters."""
    from mlejax.inference.resampling.draws import draws, pool_of  # which rests on this room
    from mlejax.inference.resampling.refitting import check_fit, check_separable, refit_weights

    what = "cov_type='bootstrap'"
    check_fit(fit, what)
    check_separable(fit, what, "with res.bootstrap(kind='parametric') such data are simulated")
    groups = options.get("groups", (None,))[0]
    n, seed = int(options.get("n", 1000)), int(options.get("seed", 0))
    pool = pool_of(fit, groups)
    refits, done = refit_weights(fit, draws(pool, "case" if groups is None else "cluster", seed), n, False, None, None)
    good = refits.good
    if good.sum() < max(20, n // 2):
        raise ValueError(f"{what}: {int((~good).sum())} of {n} refits failed; res.bootstrap({n}) says why")
    p = fit.spec.space.n_free
    state = np.where(fit.interior, int(CovarianceState.OK), int(CovarianceState.ON_BOUNDARY))
    kept = fit.interior[:, None] & fit.interior[None, :]
    matrix = np.where(kept, np.cov(done.theta[good], rowvar=False).reshape(p, p), np.nan)
    failed = f", {int((~good).sum())} failed" if not good.all() else ""
    text = f"bootstrap ({n} resamples of {pool.total} {pool.what}, seed {seed}{failed})"
    return CovarianceResult(matrix, state, "bootstrap", text, groups=options.get("groups", ()))


def _in_theta(found: Covariances, matrix: Float[Host, "p p"]) -> tuple[Covariances, Float[Host, "p p"]]:
    """A covariance in centred coordinates (L = 1) as one of theta = constant + matrix w, and its factor."""
    bad = found.state[0] != CovarianceState.OK
    uses = (matrix != 0.0) & bad[None, :]
    states = np.where(uses.any(axis=1), found.state[0][uses.argmax(axis=1)], int(CovarianceState.OK))
    own = cov_room.factor_of(found.matrix[0])
    factor = np.where((states != CovarianceState.OK)[:, None], np.nan, matrix @ np.where(bad[:, None], 0.0, own))
    return found._replace(matrix=(factor @ factor.T)[None], state=states[None]), factor


def _kinks(fit: Fit) -> tuple[str, ...]:
    return () if fit.penalised is None else fit.penalised.kinks


# ---- flat directions


def _any(flags: Bool[Host, "d p"]) -> Bool[Host, " p"]:
    return np.asarray(flags.any(axis=0))


def flat_entries_of(batch: Batch, i: int) -> Bool[Host, "d p"]:
    """As :func:`flat_entries`, for data set i."""
    return flat_entries(batch.found[i].directions, batch.jacobian[i], batch.information[i])


def flat_entries(
    directions: Iterable[Direction], jacobian: Float[Host, "p p"] | None, information: Float[Host, "p p"]
) -> Bool[Host, "d p"]:
    """Which entries of theta each flat direction moves.

    An entry is measured in its own standard errors given the others; in its own units where it has none.
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


# ---- products of scores


def weighted_scores(fit: Fit) -> Float[Host, "n p"]:
    """w_i s_i of every contribution, 0 where the weight is 0: their sum is the score of the log-likelihood."""
    scores, w = fit.scores(), fit.loaded.weights
    return scores if w is None else np.where(w.used[:, None], scores * w.values[:, None], 0.0)


def _centred(fit: Fit, scores: Float[Host, "n p"]) -> Float[Host, "n p"]:
    """Scores by the coordinates in which the covariance is made, row by row: before anything is summed."""
    return scores if fit.centred is None else np.asarray(scores @ fit.centred.matrix)


def _by_root(kind: str, weight_kind: str | None) -> bool:
    """Products are weighted by w and not by w^2: of expanded rows, and where they stand for the information."""
    return (weight_kind == "frequency" and kind != "cluster") or (weight_kind is not None and kind == "opg")


def _sums_of(fit: Fit, kind: str, options: Mapping[str, Any]) -> Sums:
    """Sums of products of one fit's scores."""
    data, w = fit.loaded.problem.data, fit.loaded.weights
    likelihood = fit.spec.likelihood
    if fit.loaded.stream is not None:
        return _sums_of_stream(fit, kind, options)
    warn_of_count(fit, f"cov_type={kind!r}")
    if data.mode == "whole" and data.n_contributions <= 1:
        raise ValueError(one_scalar(kind, likelihood.name))
    if isinstance(likelihood.function, ExpectedTotal) and kind not in SUMS_OF_ROWS:
        raise ValueError(f"cov_type={kind!r} is not offered for an extended likelihood; there are {', '.join(SUMS_OF_ROWS)}")
    refuse_connected(fit.loaded, likelihood, f"cov_type={kind!r}")
    n = counts(fit.loaded)[1]
    if kind == "HAC":
        if data.mode == "units":
            raise ValueError(
                f"cov_type='HAC' expects contributions in the order of time, but those of {likelihood.name} are units "
                f"({likelihood.unit!r}), and units have no order; use 'cluster' or 'HC0'"
            )
        if fit.weight_kind == "frequency":
            raise ValueError(
                "cov_type='HAC' expects one row for each point of time, and with frequency weights a row stands for several; "
                "use 'HC0' or 'cluster'"
            )
        return cov_room.score_products(kind, _centred(fit, weighted_scores(fit)), n, maxlags=options.get("maxlags"))
    if kind in cov_room.LEVERAGE:
        return _leveraged(fit, kind, options, n)
    scores = _centred(fit, fit.scores())
    if w is not None:
        size = np.sqrt(w.values) if _by_root(kind, w.kind) else w.values
        scores = (scores * size[:, None])[w.used]
    codes = [cluster_codes(fit, groups) for groups in options.get("groups", ())]
    return cov_room.score_products(kind, scores, n, codes)


def _sums_of_stream(fit: Fit, kind: str, options: Mapping[str, Any]) -> Sums:
    """The same by one pass over the partitions."""
    if kind == "HAC" or kind in cov_room.LEVERAGE:
        raise ValueError(
            f"cov_type={kind!r} needs the rows in memory; of a stream there are HC0, HC1, stata and cluster"
        )
    n, groups = counts(fit.loaded)[1], options.get("groups", ())
    if not all(isinstance(g, str) for g in groups):
        raise ValueError(
            "cov_kwds groups of a stream are names of columns, not labels: their rows would have to be matched"
        )
    with float64():
        evaluator: Any = fit_room.evaluator_of(fit.spec.plain, fit.loaded, fit.fixed)
        products, sizes = streamed_products(evaluator, fit.u, _by_root(kind, fit.weight_kind), tuple(groups))
    assert fit.jacobian is not None
    each = [np.linalg.solve(fit.jacobian.T, np.linalg.solve(fit.jacobian.T, m).T) for m in products]
    return Sums(np.array(each)[None], np.array([float(n)]), np.array([sizes]), None)


def _leveraged(fit: Fit, kind: str, options: Mapping[str, Any], n: float) -> Sums:
    """Sums of products of scores that were divided by powers of one minus their leverage."""
    what = f"cov_type={kind!r}"
    if fit.weight_kind == "frequency" and kind in ("HC2", "HC3"):
        raise ValueError(
            f"{what} is refused with frequency weights, of which a row stands for several; expand the rows"
        )
    codes = [cluster_codes(fit, groups) for groups in options.get("groups", ())]
    if codes and not codes[0].any():
        return cov_room.score_products("cluster", np.zeros((codes[0].size, fit.theta.size)), n, codes)  # too few
    parts = parts_of(fit, codes[0] if codes else None, what)
    scores, certain = adjusted_scores(parts, cov_room.LEVERAGE[kind])
    if certain.any() and kind in ("HC3", "CR3"):
        one = f"{int(certain.sum())} {'clusters' if codes else 'contributions'}"
        raise ValueError(
            f"{what}: {one} determine a parameter alone (a leverage of 1), so that there is no estimate without them; use "
            f"{'CR2' if codes else 'HC2'!r}, or leave out the parameter of that {'cluster' if codes else 'row'}"
        )
    assert fit.jacobian is not None
    scores = _centred(fit, np.linalg.solve(fit.jacobian.T, scores.T).T)
    made = cov_room.score_products("HC0", scores, n)
    return made._replace(groups=np.array([[len(scores)]])) if codes else made


def one_scalar(kind: str, name: str) -> str:
    """The refusal of kinds that sum scores, for a function that returns their sum."""
    return (
        f"cov_type={kind!r} sums the scores of separate contributions, but {name} returns one scalar; return one value per "
        "time point or group, or use cov_type='nonrobust'"
    )


def cluster_codes(fit: Fit, groups: Any) -> Int[Host, " n"]:
    """One code for each contribution of positive weight, from a column name or labels."""
    if not isinstance(groups, str):
        codes = labels_per_contribution(fit.loaded, groups, "cov_kwds groups")
    elif not column_unchanged(fit.loaded, fit.spec.likelihood):
        raise ValueError(
            f"the data have changed since the fit, so that their column {groups!r} may belong to other rows; pass the labels "
            "themselves as groups, in the order of the rows that were fitted"
        )
    else:
        column = fit.loaded.source.column(groups)
        codes = labels_per_contribution(fit.loaded, column, f"groups column {groups!r}")
    w = fit.loaded.weights
    return codes if w is None or w.used.all() else data_room.group_codes(codes[w.used])[0]


def _sums_of_many(
    batch: Batch, which: Int[Host, " m"], kind: str, options: Mapping[str, Any]
) -> tuple[Sums, Bool[Host, " m"]]:
    """Sums of products of many fits: on the device where that has a program for them, else one by one; and which were summed."""
    sets, groups = batch.sets, options.get("groups", ())
    if kind == "HAC" or kind in cov_room.LEVERAGE or len(groups) > 1 or (groups and sets.mode == "units"):
        each = [_sums_of(single(batch, int(i)), kind, own_options(batch, options, int(i))) for i in which]
        products, n, sizes = (np.concatenate(parts) for parts in zip(*(one[:3] for one in each), strict=True))
        return Sums(products, n, sizes, options.get("maxlags")), np.ones(len(which), bool)
    codes = _codes_of_many(batch, groups[0]) if groups else None
    products, ran = summed_products(batch, which, codes, _by_root(kind, batch.weight_kind))
    sizes = np.zeros(len(which), int) if codes is None else np.array([int(codes[i].max()) + 1 for i in which])
    return Sums(products[:, None], _counted(batch)[which], sizes[:, None]), ran


def _counted(batch: Batch) -> Float[Host, " L"]:
    """Contributions that count: the sum of frequency weights, else their number."""
    sets = batch.sets
    if sets.mode == "whole":
        return np.array([sets.n_out.get(int(m), 0) for m in sets.lengths], float)
    if batch.weight_kind != "frequency" or sets.weights is None or sets.order is None:
        return sets.lengths.astype(float)
    owner = np.repeat(np.arange(len(sets)), sets.lengths)
    return np.bincount(owner, sets.weights[sets.order], minlength=len(sets))


def _codes_of_many(batch: Batch, groups: Any) -> Sequence[Int[Host, " n"]]:
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


def own_options(batch: Batch, options: Mapping[str, Any], i: int) -> dict[str, Any]:
    """Options of one data set, from those for all (as `check_kind` returns them): its own labels, or columns' names."""
    if "groups" not in options:
        return dict(options)
    rows = batch.sets.table_rows(i)
    return {**options, "groups": tuple(g if isinstance(g, str) else _flat(batch, g)[rows] for g in options["groups"])}


def _flat(batch: Batch, groups: Any) -> Host:
    values = np.asarray(groups)
    return values.reshape(-1) if values.ndim == 2 else values
