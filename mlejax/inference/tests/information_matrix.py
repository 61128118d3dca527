r"""White's information-matrix test of misspecification: products of scores and minus Hessians agree on average if the model
is true.

With the scores s_i and the indicators d_i, the distinct entries of s_i s_i' + H_i,

.. math:: IM = 1'Z (Z'Z)^{-1} Z'1, \qquad Z_i = (s_i, d_i),

n R^2 of a regression of ones (Chesher 1983; Lancaster 1984).  The chi-squared distribution, with the rank of the indicators given
the scores as degrees of freedom, rejects true models far too often; the p-value therefore comes from refits to simulated data.

White (1982), Econometrica 50, 1; Horowitz (1994), J. Econometrics 61, 395.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlejax.batch.refits import row_derivatives
from mlejax.data import Prepared
from mlejax.fit import Fit, check_count
from mlejax.inference.tests.chi_squared import ChiSquared
from mlejax.shapes import Float, Host

TOLERANCE = 1e-9  # of an indicator outside the span of scores and other indicators, relative


@dataclass(frozen=True, eq=False, repr=False)
class InformationMatrixTest(ChiSquared):
    """Result of White's information-matrix test, with ``statistic``, ``df`` and ``pvalue`` as in :class:`ChiSquared`.

    Attributes:
      replicates: statistics of simulated data sets, from which the p-value is computed; None for the chi-squared p-value.
      failed: number of refits that failed and are left out.
    """

    replicates: np.ndarray | None = None
    failed: int = 0
    title = "Information-matrix test"


def information_matrix_test(fit: Fit, bootstrap: int | None = 199, seed: int = 0) -> InformationMatrixTest:
    """Test whether the model is misspecified, by White's (1982) information-matrix test.

    It tests that the indicators, the distinct entries of s_i s_i' + H_i with s_i the score and H_i the Hessian of row (unit) i,
    have mean 0, as they have if the model is true.

    Args:
        bootstrap: number of data sets drawn from the model by its simulator for the p-value; None for the chi-squared
            distribution, which rejects true models far too often below thousands of rows.
        seed: seed of the draws.

    Returns:
        `InformationMatrixTest`.

    Raises:
        ValueError: the fit is from a file, has weights, a penalty, bias reduction, ``rowwise=False``, or no interior maximum; the
            indicators are linear combinations of the scores; ``bootstrap`` is below 19, or fewer than 19 refits ended at a
            maximum.
        CompanionError: the model has no simulator (with ``bootstrap``).
    """
    _check(fit)
    statistic, df = statistic_of(fit, fit.u, fit.loaded.problem.data)
    if df == 0:
        raise ValueError(
            "information_matrix_test: the indicators are linear combinations of the scores (as in a saturated logit), so that "
            "there is nothing to test"
        )
    label = (f"{df} indicators s_i s_i' + H_i have mean 0",)
    if bootstrap is None:
        from scipy.special import chdtrc

        note = "the chi2 distribution rejects true models far too often; bootstrap=199 does not"
        return InformationMatrixTest(statistic, df, float(chdtrc(df, statistic)), label, note)
    from mlejax.inference.resampling.refitting import refits_by_chunk  # which rests on the tests

    n = check_count("bootstrap", bootstrap, 19)
    values = []
    for ((sets, done),) in refits_by_chunk(fit, [(fit, fit.u)], n, check_count("seed", seed, 0), "information_matrix_test"):
        for i in np.flatnonzero(done.clean):
            values.append(statistic_of(fit, done.u[i], sets.single(int(i)))[0])
    drawn = np.array(values)
    if drawn.size < 19:
        raise ValueError(
            f"information_matrix_test needs at least 19 refits; {n - drawn.size} of {n} did not end at a maximum: raise "
            "bootstrap="
        )
    p = (1 + int((drawn >= statistic * (1 - 1e-10)).sum())) / (drawn.size + 1)
    note = f"p from {drawn.size} data sets drawn from the model" + (
        f"; {n - drawn.size} refits failed" if n > drawn.size else ""
    )
    return InformationMatrixTest(statistic, df, p, label, note, replicates=drawn, failed=n - drawn.size)


def statistic_of(fit: Fit, u: Float[Host, " p"], data: Prepared) -> tuple[float, int]:
    """Return n R^2 of the regression of ones on scores and indicators of ``data`` at u (p,), and its degrees of freedom: the
    rank that the indicators add to the scores.
    """
    scores, curvature = row_derivatives(fit.spec, u, data, fit.fixed)
    below = np.tril_indices(scores.shape[1])
    indicators = (scores[:, :, None] * scores[:, None, :] - curvature)[:, below[0], below[1]]
    size = np.sqrt((indicators**2).sum(axis=0))
    basis, _ = np.linalg.qr(scores)
    rest = indicators[:, size > 0] / size[size > 0]
    rest = rest - basis @ (basis.T @ rest)
    left, values, _ = np.linalg.svd(rest, full_matrices=False)
    left = left[:, values > TOLERANCE * np.sqrt(len(scores))]
    total = left.sum(axis=0)
    return float(total @ total + (basis.sum(axis=0) ** 2).sum()), left.shape[1]


def _check(fit: Fit) -> None:
    if fit.loaded.remembered is not None:
        raise ValueError(
            "information_matrix_test needs the data, which a result from a file does not hold; fit the model again"
        )
    if fit.loaded.problem.data.mode == "whole":
        raise ValueError(
            "information_matrix_test needs separate rows or units, which a model with rowwise=False does not have; compare bse "
            "with those of cov_type='HC0', if the model returns several terms"
        )
    if fit.loaded.weights is not None:
        raise ValueError("information_matrix_test does not support weights; repeat each row by its frequency weight")
    if fit.penalised is not None or fit.spec.reduction is not None:
        raise ValueError(
            "information_matrix_test needs a maximum of the log-likelihood itself: fit without penalty= and bias_reduction="
        )
    if not fit.verdict.converged or not fit.interior.all():
        raise ValueError(
            f"information_matrix_test needs an interior maximum of the log-likelihood; the verdict is {fit.verdict.code}"
        )
