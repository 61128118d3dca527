"""Covariances under survey designs, by linearisation or by replicate weights."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mlejax import data as data_room
from mlejax.covariance import CovarianceResult, Sums, Survey, survey_meat
from mlejax.execution import float64
from mlejax.fit import Fit, labels_per_contribution
from mlejax.shapes import Data, Float, Host, Int
from mlejax.status import CovarianceState


def survey_weights(design: Survey, data: Data) -> Any:
    """Return the weights of a survey design: as given without a subpopulation (the name of a column, or numbers), else numbers
    (n,) that are 0 outside of it.

    Raises:
        ValueError: ``subpop`` is not True or False for each row.
        MissingColumnError: the data lack a column named by ``subpop`` or ``weights``.
    """
    if design.subpop is None:
        return design.weights
    table = data_room.ingest(data)
    inside, weights = (
        np.asarray(table.column(given) if isinstance(given, str) else given)
        for given in (design.subpop, design.weights)
    )
    if inside.dtype != bool:
        raise ValueError(f"subpop= expected True or False for each row, got dtype {inside.dtype}; compare first, df['age'] > 17")
    return np.where(inside, weights, 0.0)


class Surveyed(NamedTuple):
    """Result of linearisation: covariance of the summed scores, degrees of freedom (primary units minus strata), and the
    words for the header of the table.
    """

    sums: Sums
    df: float
    words: str


def survey_of(fit: Fit, design: Survey) -> Surveyed | CovarianceResult:
    """Return the covariance of the summed scores under a design; with replicate weights, the covariance of theta itself.

    Raises:
        ValueError: the data are a stream, the design has no more primary units than strata, or its columns do not fit the rows;
            with replicate weights as in `replicated`.
    """
    if fit.loaded.stream is not None:
        raise ValueError("a survey design needs all rows in memory, got a stream; load the columns that are used into memory")
    return _linearised(fit, design) if design.replicates is None else replicated(fit, design)


def _linearised(fit: Fit, design: Survey) -> Surveyed:
    """Return the sums of scores by primary sampling unit, within strata (Binder 1983), their degrees of freedom (units minus
    strata, counted where the subpopulation has rows), and the design in words.

    Raises:
        ValueError: no more units than strata, a stratum with one unit that ``lonely`` does not allow, or fpc that vary in a
            stratum or are not sizes or fractions.
    """
    weights, n = fit.loaded.weights, fit.loaded.problem.data.n_contributions
    assert weights is not None
    scores = np.where(weights.used[:, None], fit.scores() * weights.values[:, None], 0.0)
    scores = scores if fit.centred is None else scores @ fit.centred.matrix
    zero = np.zeros(n, np.int64)
    strata = zero if design.strata is None else _codes(fit, design.strata, "strata")
    psu = np.arange(n) if design.psu is None else _codes(fit, design.psu, "psu")
    fpc = None if design.fpc is None else _numbers(fit, design.fpc, "fpc")
    inside = weights.used if design.subpop is not None else np.ones(n, bool)
    meat = survey_meat(scores, strata, psu, fpc, design.lonely)
    counted = survey_meat(np.zeros((int(inside.sum()), 1)), strata[inside], psu[inside], None, "certainty")
    df = counted.n_psu - counted.n_strata
    if df < 1:
        raise ValueError(
            f"the design needs more primary sampling units than strata, got {counted.n_psu} units in {counted.n_strata} strata: "
            "there is no variance within strata; merge strata"
        )
    words = f"{counted.n_psu} primary units" + (f" in {counted.n_strata} strata" if counted.n_strata > 1 else "")
    sums = Sums(meat.matrix[None, None], np.array([float(n)]), np.array([[meat.n_psu]]))
    return Surveyed(sums, float(df), f"survey ({words}{', finite populations' if fpc is not None else ''}, t({df}))")


def replicated(fit: Fit, design: Survey) -> CovarianceResult:
    """Return the covariance of theta over refits with the replicate weights of a design, NaN at a bound.

    Raises:
        ValueError: replicate weights or ``rscales`` of another shape, a refit that did not end at a maximum, or a model whose
            terms cannot be weighted.
    """
    from mlejax.inference.resampling.refitting import (  # which rests on this room
        check_fit,
        check_separable,
        refit_weights,
    )

    check_fit(fit, "replicates=")
    check_separable(fit, "replicates=", "Give strata and psu of a row-wise model")
    weights = replicate_weights(fit, design)
    n = len(weights)
    scales = np.ones(n) if design.rscales is None else np.asarray(design.rscales, float)
    if scales.shape != (n,):
        raise ValueError(f"rscales= expected {n} numbers, one for each replicate, got shape {scales.shape}")
    with float64():
        refits, done = refit_weights(fit, lambda at: weights[at], n, False, None, None)
    if not refits.good.all():
        raise ValueError(
            f"{int((~refits.good).sum())} of {n} refits under replicate weights did not end at a "
            "maximum: simplify the model, or give strata and psu in place of replicates"
        )
    centre = fit.theta if design.mse else done.theta[scales > 0].mean(axis=0)
    moved = done.theta - centre
    matrix = design.scale(n) * (moved * scales[:, None]).T @ moved
    kept = fit.interior[:, None] & fit.interior[None, :]
    state = np.where(fit.interior, int(CovarianceState.OK), int(CovarianceState.ON_BOUNDARY))
    df = float(np.linalg.matrix_rank(weights)) - 1.0
    text = f"survey ({n} replicate weights, {design.method}, t({df:g}))"
    return CovarianceResult(np.where(kept, matrix, np.nan), state, "survey", text, df=df)


def replicate_weights(fit: Fit, design: Survey) -> Float[Host, "R n"]:
    """Return the replicate weights (R, n), divided by the scale of the fit's weights, 0 outside the subpopulation.

    Raises:
        ValueError: they are not finite numbers >= 0, R for each row.
    """
    given = design.replicates
    if not hasattr(given, "shape"):
        given = np.column_stack([_numbers(fit, name, "replicates") for name in given])
    values = np.asarray(fit.loaded.rows.select(given), float)
    assert fit.loaded.weights is not None
    n = fit.loaded.problem.data.n_contributions
    if values.ndim != 2 or values.shape[0] != n or not (np.isfinite(values) & (values >= 0)).all():
        wrong = f"shape {values.shape}"
        if values.ndim == 2 and len(values) == n:
            wrong = str(values[~(np.isfinite(values) & (values >= 0))][0])
        raise ValueError(f"replicates= expected finite numbers >= 0 of shape ({n}, R), got {wrong}")
    return values.T * fit.loaded.weights.used / fit.loaded.weights.scale


def _codes(fit: Fit, given: Any, option: str) -> Int[Host, " n"]:
    values = fit.loaded.source.column(given) if isinstance(given, str) else given
    return labels_per_contribution(fit.loaded, values, f"{option}=")


def _numbers(fit: Fit, given: Any, option: str) -> Float[Host, " n"]:
    """Return one number for each term of the log-likelihood (n,).

    ``given``: name of a column, or an array with one number for each row, constant within a unit; ``option``: the option that
    it comes from, for messages.

    Raises:
        ValueError: numbers that are not finite, not one for each row, or not constant within a unit.
    """
    values = fit.loaded.source.column(given) if isinstance(given, str) else given
    numbers = np.asarray(fit.loaded.rows.select(values), np.float64)
    if fit.loaded.unit_codes is not None:
        numbers = data_room.constant_within(numbers, fit.loaded.unit_codes, name=f"{option}=", rows=fit.loaded.rows)
    if numbers.shape != (fit.loaded.problem.data.n_contributions,) or not np.isfinite(numbers).all():
        finite = np.isfinite(numbers)
        wrong = f"shape {numbers.shape}" if finite.all() else str(numbers[~finite][0])
        raise ValueError(f"{option}= expected one finite number for each row, got {wrong}")
    return numbers
