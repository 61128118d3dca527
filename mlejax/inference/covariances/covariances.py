"""Covariances of theta from finished fits, whose information and scores are passed to :mod:`mlejax.covariance`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from mlejax import covariance as cov_room
from mlejax.batch import Batch, single
from mlejax.covariance import COVARIANCE_LIMIT, KINDS, CovarianceResult, Covariances
from mlejax.fit import Fit
from mlejax.fit.prepare.penalties import L2
from mlejax.inference.covariances.expected import expected_information
from mlejax.inference.covariances.flat_entries import flat_entries, flat_entries_of
from mlejax.inference.covariances.products_of_scores import (
    cluster_codes,
    levels_in_clusters,
    sums_of,
    sums_of_many,
)
from mlejax.inference.covariances.survey_covariance import Surveyed, survey_of
from mlejax.likelihood import ExpectedTotal
from mlejax.shapes import Float, Host
from mlejax.status import CovarianceState


def covariance_of(fit: Fit, kind: str, options: Mapping[str, Any], strict: bool = True) -> CovarianceResult:
    """Return the covariance of theta of one fit; parameters without a covariance have NaN, with a state that says why.

    No parameter has a covariance if the fit did not end at a maximum or has no second derivatives, if its penalty has a kink at
    the estimates, or if the information, or the products of scores that the kind inverts, are not finite and positive definite.
    Otherwise the parameters without one are those at a bound of their support, those that change along flat directions, and
    those whose variance is 0 up to rounding.

    Args:
        fit: the fit. If it has curvature in centred coordinates, the covariance is computed there and its factor is
            returned too.
        kind, options: kind of covariance and its options, as :func:`mlejax.covariance.check_kind` returns them.
        strict: raise an error if there are too few clusters or terms; if False, return NaN with a state that says so.

    Raises:
        ValueError: the kind is not supported for this model or these weights, or needs rows that are not in memory; too few
            clusters or terms, if ``strict``; or too many refits of the bootstrap failed.
        DataError: clusters that do not fit the rows.
    """
    if KINDS[kind].form == "products" and fit.loaded.effects is not None:
        raise ValueError(
            f"cov_type={kind!r} does not support effects of {fit.loaded.effects.key.by}: it inverts products of scores, which do "
            "not eliminate effects, in place of the information, which does; use 'nonrobust' or 'HC0'"
        )
    none = _refused(fit, kind)
    if none is not None:
        return none
    assert fit.information is not None
    if KINDS[kind].form == "refits":
        return _bootstrapped(fit, options)
    survey = survey_of(fit, options["design"]) if kind == "survey" else None
    if isinstance(survey, CovarianceResult):
        return survey
    sums = survey.sums if survey is not None else sums_of(fit, kind, options) if KINDS[kind].scores_of else None
    correction, absorbed = options.get("correction", "G"), _absorbed(fit, options)
    k = int(fit.interior.sum()) + absorbed
    penalised = None if fit.penalised is None else fit.penalised.information
    information, how, centred = fit.information, "", fit.centred
    if kind == "expected":
        information, how = expected_information(fit, options)
        information = information if centred is None else centred.matrix.T @ information @ centred.matrix
    elif centred is not None:
        information, penalised = centred.information, centred.penalised
    flat = None
    if _at_flat_maximum(fit):
        flat = np.any(flat_entries(fit.directions, fit.jacobian, fit.information), axis=0, keepdims=True)
    found = cov_room.covariance(
        kind,
        information[None],
        free=fit.interior[None],
        sums=sums,
        correction=correction,
        penalised=None if penalised is None else penalised[None],
        unidentified=flat,
        absorbed=absorbed,
        effects=_of_effects(fit),
    )
    factor = None
    if centred is not None:
        found, factor = _in_theta(found, centred.matrix)
    if strict and any(int(s) in cov_room.TOO_FEW for s in found.state[0]):
        raise ValueError(cov_room.too_few_message(kind, sums, k, correction))
    word = "HC0" if survey is not None else kind
    made = cov_room.covariance_result(found, word, sums, k, correction, penalised is not None)
    made = replace(made, factor=factor, groups=options.get("groups", ()))
    return _described(fit, made, how, survey)


def _described(fit: Fit, made: CovarianceResult, how: str, survey: Surveyed | None) -> CovarianceResult:
    """Return the covariance with the remarks of its kind added: a statement for the expected information (``how``), statement
    and degrees of freedom of a survey design, a note on dropped rows for HAC.
    """
    if how:
        return replace(made, statement=f"expected (inverse expected information, {how})")
    if survey is not None:
        return replace(made, kind="survey", statement=survey.words, df=survey.df)
    if KINDS[made.kind].scores_of == "lags" and fit.loaded.rows.n_dropped:
        note = f"{fit.loaded.rows.n_dropped} rows were dropped: lags count the rows that are left."
        return replace(made, notes=(*made.notes, note))
    return made


def _at_flat_maximum(fit: Fit) -> bool:
    """True if the verdict is ``not_identified``, so that parameters which do not change along the flat directions have
    standard errors; False if latent classes coincide.
    """
    return fit.verdict.code == "not_identified" and "classes" not in fit.verdict.evidence


def _refused(fit: Fit, kind: str) -> CovarianceResult | None:
    """Return a NaN covariance with its reason if there is no Hessian, no maximum (flat directions are allowed), or if the
    penalty has a kink at the estimates; else None.  ``kind``: for its statement.
    """
    p = fit.spec.space.n_free
    if fit.information is None or not (fit.verdict.converged or _at_flat_maximum(fit)):
        state = np.full(p, int(CovarianceState.NOT_CONVERGED))
        matrix = np.full((p, p), np.nan) if p <= COVARIANCE_LIMIT else np.zeros((0, 0))
        return CovarianceResult(matrix, state, kind, f"{kind} (none: {fit.verdict.code.replace('_', ' ')})")
    if kinks := _kinks(fit):
        none = cov_room.no_covariances(1, p, CovarianceState.PENALTY_NOT_SMOOTH)
        where = ", ".join(kinks[:6]) + (", ..." if len(kinks) > 6 else "")
        note = f"The penalty is not smooth at the estimate (along {where}), so that there are no standard errors."
        return CovarianceResult(none.matrix[0], none.state[0], kind, f"{kind} (none: penalty not smooth)", (note,))
    return None


def _of_effects(fit: Fit) -> Host | None:
    """Return True for the entries of theta that are coefficients of levels, the effects of further ``mle.Real(by=...)``,
    (p,); None if there are none.
    """
    names = {one.key.parameter for one in fit.loaded.coded}
    if not names:
        return None
    return np.array([label.partition("[")[0] in names for label in fit.spec.space.theta_labels], bool)


def _absorbed(fit: Fit, options: Mapping[str, Any]) -> int:
    """Return the number of effects of ``mle.Real(by=...)`` that small-sample factors count beside theta; with
    ``correction="ssc"``, effects nested in clusters count once, as in pyfixest.
    """
    effects = fit.loaded.effects
    if effects is None:
        return 0
    if options.get("correction") == "ssc":
        if fit.loaded.stream is not None:
            nested_there = any(levels_in_clusters(fit, groups) for groups in options["groups"])
            return 1 - int(effects.given.sum()) if nested_there else effects.n_free
        clusters = [cluster_codes(fit, groups) for groups in options["groups"]]
        nested = lambda levels: any(_within(fit, levels.codes, groups) for groups in clusters)
        count = 1 - int(effects.given.sum()) if nested(effects.levels) else effects.n_free
        # as pyfixest counts: all levels but one, whether they are connected or not; those within clusters not
        for one in fit.loaded.coded:
            count += -len(one.key.labels) if nested(one.levels) else len(one.key.references) - 1
        return count
    return effects.n_free


def _within(fit: Fit, codes: Host, clusters: Host) -> bool:
    """True if all rows of positive weight of each level are in one cluster.

    Args:
        fit: the fit.
        codes: level of each row.
        clusters: cluster of each row of positive weight.
    """
    used = fit.loaded.weights
    inside = codes if used is None else codes[used.used]
    pairs = inside.astype(np.int64) * (len(codes) + 1) + clusters
    return bool(np.unique(pairs).size == np.unique(inside).size)


def covariances_of(batch: Batch, kind: str, options: Mapping[str, Any]) -> Covariances:
    """Return the covariances of theta of every data set of a batch; ``kind`` and ``options`` as `check_kind` returns them.

    A data set without a covariance has NaN and a state that says why.  One that has other free coordinates than the rest (a
    probability estimated as 0) has NaN and the state OK, because its standard errors are computed from its single fit.

    Raises:
        ValueError: the kind is not supported for this model, or not for batches.
    """
    n, p = batch.theta.shape
    if kind in ("bootstrap", "expected"):
        raise ValueError(f"cov_type={kind!r} is for single data sets, got a batch; use many[label].with_cov({kind!r})")
    if kind != "nonrobust" and isinstance(batch.spec.likelihood.function, ExpectedTotal):
        raise ValueError(
            f"cov_type={kind!r} of an extended likelihood is for single data sets, got a batch; use 'nonrobust', or fit them one "
            "by one"
        )
    out = cov_room.no_covariances(n, p)
    if batch.information.shape[-1] != p:
        return out
    out.state[list(batch.closed)] = CovarianceState.OK  # these have errors of their own
    penalised = batch.spec.penalty is not None
    smooth = not penalised or isinstance(batch.spec.penalty, L2)  # other penalties may have kinks
    for which, flat in ((batch.converged, False), (batch.codes == "not_identified", True)):
        chosen = np.setdiff1d(np.flatnonzero(which), list(batch.closed))
        if not smooth:
            kinked = np.array([bool(_kinks(single(batch, int(i)))) for i in chosen], bool)
            out.state[chosen[kinked]] = CovarianceState.PENALTY_NOT_SMOOTH
            chosen = chosen[~kinked]
        if not chosen.size:
            continue
        sums, ran = None, np.ones(chosen.size, bool)
        if KINDS[kind].scores_of:
            sums, ran = sums_of_many(batch, chosen, kind, options)
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
            unidentified=np.array([flat_entries_of(batch, int(i)).any(axis=0) for i in chosen]) if flat else None,
        )
        found.state[~ran] = CovarianceState.INTERRUPTED
        out.put(chosen, found._replace(factors=np.ones((len(chosen), 1))))
    return out


def _bootstrapped(fit: Fit, options: Mapping[str, Any]) -> CovarianceResult:
    """Return the covariance of the estimates over refits to resampled rows, units or clusters; NaN at a bound.

    ``options``: "groups", "n" (1,000 refits) and "seed" (0).

    Raises:
        ValueError: fewer than 20 refits, or fewer than half of them, ended at a maximum; or the fit cannot be resampled.
    """
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
        raise ValueError(f"{what}: {int((~good).sum())} of {n} refits failed; res.bootstrap({n}) shows why")
    p = fit.spec.space.n_free
    state = np.where(fit.interior, int(CovarianceState.OK), int(CovarianceState.ON_BOUNDARY))
    kept = fit.interior[:, None] & fit.interior[None, :]
    matrix = np.where(kept, np.cov(done.theta[good], rowvar=False).reshape(p, p), np.nan)
    failed = f", {int((~good).sum())} failed" if not good.all() else ""
    text = f"bootstrap ({n} resamples of {pool.total} {pool.what}, seed {seed}{failed})"
    return CovarianceResult(matrix, state, "bootstrap", text, groups=options.get("groups", ()))


def _in_theta(found: Covariances, matrix: Float[Host, "p p"]) -> tuple[Covariances, Float[Host, "p p"]]:
    """Transform one covariance in centred coordinates w to theta = constant + matrix w; return it and its factor F (p, p),
    F F' the covariance.  Entries of theta that use a coordinate without a covariance are NaN and have its state.
    """
    bad = found.state[0] != CovarianceState.OK
    uses = (matrix != 0.0) & bad[None, :]
    states = np.where(uses.any(axis=1), found.state[0][uses.argmax(axis=1)], int(CovarianceState.OK))
    own = cov_room.factor_of(found.matrix[0])
    factor = np.where((states != CovarianceState.OK)[:, None], np.nan, matrix @ np.where(bad[:, None], 0.0, own))
    return found._replace(matrix=(factor @ factor.T)[None], state=states[None]), factor


def _kinks(fit: Fit) -> tuple[str, ...]:
    return () if fit.penalised is None else fit.penalised.kinks
