r"""Information criteria: the maximised log-likelihood with a penalty for the number of parameters.

With the maximised log-likelihood :math:`\ell`, k free parameters and n observations (smaller is better):

====== ================================== ============================================
AIC    -2 l + 2 k                         Akaike (1974)
AICc   AIC + 2 k (k + 1) / (n - k - 1)    Sugiura (1978), Hurvich & Tsai (1989)
BIC    -2 l + k log n                     Schwarz (1978)
HQIC   -2 l + 2 k log(log n)              Hannan & Quinn (1979)
TIC    -2 l + 2 tr(I^-1 J)                Takeuchi (1976), J the sum of products of scores
====== ================================== ============================================

All are per data set (not divided by n), and broadcast over arrays, so that a batch of fits is one call.
A criterion that is undefined is NaN, and every docstring says when.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from mlejax.covariance import KINDS, CovarianceResult
from mlejax.fit import Fit, counts
from mlejax.inference.covariances.covariances import covariance_of
from mlejax.inference.tests import FitFacts, data_difference
from mlejax.shapes import Host


def aic(llf: ArrayLike, k: ArrayLike) -> float | Host:
    """Return Akaike's criterion, ``-2 llf + 2 k``.

    Args:
      llf: maximised log-likelihood(s), summed over observations, any shape.
      k: number of free parameters (effective degrees of freedom under a penalty), >= 0, else ValueError; broadcasts
        against ``llf``.

    Returns:
      float64 scalar or array; NaN where ``llf`` or ``k`` is.

    >>> aic(-10.0, 2)
    24.0
    """
    llf, k, _ = _checked(llf, k)
    return _plain(-2.0 * llf + 2.0 * k)


def aicc(llf: ArrayLike, k: ArrayLike, n: ArrayLike) -> float | Host:
    """Return Akaike's criterion with the small-sample correction ``2 k (k + 1) / (n - k - 1)``; NaN where n <= k + 1.

    The correction is exact for the normal linear model and approximate elsewhere.  ValueError if k < 0 or n <= 0.

    Args:
      llf: maximised log-likelihood(s), any shape.
      k: number of free parameters, a residual variance included.
      n: number of observations.

    Returns:
      float64 scalar or array.

    >>> aicc(-10.0, 2, 13)
    25.2
    """
    llf, k, n = _checked(llf, k, n)
    room = n - k - 1.0
    correction = 2.0 * k * (k + 1.0) / np.where(room > 0, room, np.nan)
    return _plain(-2.0 * llf + 2.0 * k + correction)


def bic(llf: ArrayLike, k: ArrayLike, n: ArrayLike) -> float | Host:
    """Return Schwarz's criterion, ``-2 llf + k log n``; ValueError if k < 0 or n <= 0.

    Args:
      llf: maximised log-likelihood(s), any shape.
      k: number of free parameters.
      n: number of observations, or of independent units, positive.

    Returns:
      float64 scalar or array.

    >>> round(bic(-10.0, 2, 100), 6)
    29.21034
    """
    llf, k, n = _checked(llf, k, n)
    return _plain(-2.0 * llf + k * np.log(n))


def hqic(llf: ArrayLike, k: ArrayLike, n: ArrayLike) -> float | Host:
    """Return Hannan and Quinn's criterion, ``-2 llf + 2 k log(log n)``; NaN where n <= 1; ValueError if k < 0 or n <= 0.

    Args:
      llf: maximised log-likelihood(s), any shape.
      k: number of free parameters.
      n: number of observations.

    Returns:
      float64 scalar or array.

    >>> round(hqic(-10.0, 2, 100), 6)
    26.108719
    """
    llf, k, n = _checked(llf, k, n)
    return _plain(-2.0 * llf + 2.0 * k * np.log(np.log(np.where(n > 1, n, np.nan))))


CRITERIA = {"aic": "AIC", "aicc": "AICc", "bic": "BIC", "hqic": "HQIC"}


def criterion(name: str, llf: ArrayLike, k: ArrayLike, n: ArrayLike) -> float | Host:
    """Return a criterion by its name, one of :data:`CRITERIA`, else ValueError; other arguments and errors are those of the
    function of that name (``n`` is not used by "aic").

    >>> criterion("aic", -10.0, 2, 50)
    24.0
    """
    if name not in CRITERIA:
        raise ValueError(f"criterion={name!r}: expected one of {', '.join(map(repr, CRITERIA))}")
    return aic(llf, k) if name == "aic" else {"aicc": aicc, "bic": bic, "hqic": hqic}[name](llf, k, n)


def df_model(fit: Fit, cov: CovarianceResult, count: str = "all") -> int:
    """Return the number of free parameters (effects of ``mle.Real(by=...)`` included), less the number of flat directions that
    the fit was found to have.

    With ``count="interior"``, parameters at a bound of their support are not counted.

    Raises:
        ValueError: ``count`` is neither ``"all"`` nor ``"interior"``.
    """
    if count not in ("all", "interior"):
        raise ValueError(f"count={count!r}: expected 'all' (parameters at a bound of their support included) or 'interior'")
    free = fit.spec.space.n_free if count == "all" else int(fit.interior.sum())
    return free + fit.n_effects - cov.nullity


def effective_df(fit: Fit, cov: CovarianceResult) -> float:
    """Return the effective degrees of freedom tr(H_P^-1 I) of a penalised fit (Gray 1992), with I the information and H_P the
    penalised one, NaN if the fit has no covariance; without a penalty the number of free parameters less flat directions.
    """
    return float(df_model(fit, cov)) if fit.penalised is None else cov.edf


def llf_penalized(fit: Fit) -> float:
    """Return the maximised objective: the log-likelihood, minus the penalty, plus the term of bias reduction, if there is
    one.
    """
    return fit.llf - (0.0 if fit.penalised is None else fit.penalised.value) + fit.reduced


def highest_llf(fit: Fit) -> float:
    """Return the log-likelihood at the estimates, or its supremum if it approaches one without a maximum."""
    return fit.llf if fit.verdict.supremum is None else fit.verdict.supremum


def facts_of(fit: Fit, cov: CovarianceResult) -> FitFacts:
    """Return what likelihood-ratio tests and comparisons need of a fit: log-likelihood (or its supremum), numbers of free
    parameters and observations, fingerprint of the data, kind of covariance; and whether it ended at a maximum, is penalised
    or bias-reduced, or maximises a pseudolikelihood.
    """
    return FitFacts(
        llf=highest_llf(fit),
        df_model=fit.spec.space.n_free + fit.n_effects,
        nobs=counts(fit.loaded)[0],
        fingerprint=fit.loaded.fingerprint,
        converged=fit.verdict.converged,
        limit=fit.verdict.supremum is not None or bool(fit.verdict.evidence.get("limit")),
        cov_type=cov.kind,
        penalised=fit.penalised is not None or fit.spec.reduction is not None,
        pseudolikelihood=pseudolikelihood(fit, cov),
        label=fit.spec.likelihood.name,
        fit=fit,
    )


def pseudolikelihood(fit: Fit, cov: CovarianceResult) -> bool:
    """True if the objective counts as a pseudolikelihood: with sampling weights, or with a covariance that allows for a
    misspecified model (a sandwich, the bootstrap).
    """
    return not KINDS[cov.kind].model_based or fit.weight_kind == "sampling"


def no_criterion(fit: Fit, cov: CovarianceResult) -> str:
    """Return the reason why information criteria are not defined for a fit, as the end of a sentence "AIC is not defined
    ..."; empty if they are.

    They need a maximum or a supremum of the log-likelihood (flat directions are allowed) without bias reduction or sampling
    weights, a covariance that assumes the model to be true, and for a penalised fit effective degrees of freedom.
    """
    if fit.spec.reduction is not None:
        return "because bias-reduced estimates do not maximise the log-likelihood"
    if fit.weight_kind == "sampling":
        return "with sampling weights: the weighted sum is a pseudolikelihood, the log-likelihood of no sample that was drawn"
    if not KINDS[cov.kind].model_based:
        return (
            f"with cov_type={cov.kind!r}: this covariance allows for a wrong model, whose log-likelihood is a "
            "pseudolikelihood; res.with_cov('nonrobust') has the criterion"
        )
    if not fit.verdict.converged and fit.verdict.code != "not_identified" and fit.verdict.supremum is None:
        return f"because the log-likelihood was not maximised ({fit.verdict.code.replace('_', ' ')})"
    if fit.penalised is not None and np.isnan(cov.edf):
        return (
            "because a penalised fit counts effective degrees of freedom, which need a positive definite information and a "
            "penalty that is smooth at the estimates"
        )
    return ""


def info_criterion(
    fit: Fit, cov: CovarianceResult, name: str = "aic", *, n: float | None = None, count: str = "all"
) -> float:
    """Return an information criterion of a fit; smaller is better.

    Args:
        name: ``"aic"``, ``"aicc"``, ``"bic"``, ``"hqic"`` or ``"tic"``.
        n: number of observations in the criterion, such as ``res.n_units``; ``nobs`` by default.
        count: ``"all"`` also counts parameters at a bound of their support (as R's lme4 and pscl do); ``"interior"`` does
            not.

    If the log-likelihood approaches a supremum without a maximum, the supremum is used (not by TIC).  AIC of a penalised fit
    counts effective degrees of freedom; TIC uses neither ``n`` nor ``count``.

    Returns:
        The criterion; NaN where its formula is not defined (AICc with n <= k + 1, HQIC with n <= 1).

    Raises:
        ValueError: the fit has a sandwich or bootstrap covariance (TIC allows them), sampling weights or bias reduction, or
            neither a maximum nor a supremum; it is penalised, and the criterion is not AIC or there are no effective degrees of
            freedom; TIC with an estimate at a bound, effects of ``mle.Real(by=...)``, or without standard errors of all
            parameters under ``cov_type="HC0"``; or an option is not valid.
    """
    if name == "tic":
        return _tic(fit, cov)
    if name not in CRITERIA:
        raise ValueError(f"criterion={name!r}: expected one of {', '.join(map(repr, CRITERIA))}, 'tic'")
    k = float(df_model(fit, cov, count)) if fit.penalised is None else cov.edf
    found = float(criterion(name, highest_llf(fit), max(k, 0.0), counts(fit.loaded)[0] if n is None else n))
    if reason := no_criterion(fit, cov):
        raise ValueError(f"{CRITERIA[name]} is not defined {reason}")
    if fit.penalised is not None and name != "aic":
        raise ValueError(
            f"{CRITERIA[name]} is not defined for a penalised fit: its log-likelihood is not at its maximum; use aic, with "
            "effective degrees of freedom"
        )
    return found


def _tic(fit: Fit, cov: CovarianceResult) -> float:
    """Return Takeuchi's criterion, -2 llf + 2 tr(I^-1 J); a sandwich ``cov_type`` is allowed, since the criterion itself allows
    for a misspecified model.

    Raises:
        ValueError: the fit has a penalty, bias reduction, sampling weights, effects of ``mle.Real(by=...)``, an estimate at a
            bound, or a parameter without a standard error under ``cov_type="HC0"``.
    """
    why = no_criterion(fit, replace(cov, kind="nonrobust"))
    if fit.loaded.effects is not None:
        why = "for models with effects of mle.Real(by=...), whose own scores are not computed: compare aic or bic"
    if fit.penalised is not None or not fit.interior.all():
        why = "for penalised fits and estimates at a bound: it needs scores that sum to 0 at the estimates"
    if why:
        raise ValueError(f"TIC is not defined {why}")
    sandwich = covariance_of(fit, "HC0", {})
    matrix, information = sandwich.matrix, fit.information
    if fit.centred is not None and sandwich.factor is not None:  # whose digits the trace needs
        half = np.linalg.solve(fit.centred.matrix, sandwich.factor)
        matrix, information = half @ half.T, fit.centred.information
    bias = float(np.sum(matrix * information))
    if np.isnan(bias):
        raise ValueError(
            f"TIC is not defined without standard errors of all parameters ({fit.verdict.code.replace('_', ' ')}): compare aic"
        )
    return -2.0 * fit.llf + 2.0 * bias


def incomparable(fits: Sequence[FitFacts]) -> str:
    """Return the reason why criteria of these fits cannot be compared (different data); empty if they can.

    They cannot if two fits have different numbers of observations, or the columns that both use have different
    fingerprints.  The first such pair is named.

    Args:
      fits: facts of the fits, with their fingerprints.

    >>> incomparable([FitFacts(-10.0, 3, 50, label="a"), FitFacts(-12.5, 2, 49, label="b")])
    'a and b are fits of different data: 50 observations and 49'
    """
    for a, b in itertools.combinations(fits, 2):
        found = data_difference(a.fingerprint, b.fingerprint)
        if a.nobs != b.nobs:
            found = f"{a.nobs:g} observations and {b.nobs:g}"
        if found:
            return f"{a.label} and {b.label} are fits of different data: {found}"
    return ""


def _checked(llf: ArrayLike, k: ArrayLike, n: ArrayLike = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    llf_, k_, n_ = (np.asarray(v, np.float64) for v in (llf, k, n))
    if np.any(k_ < 0):
        raise ValueError(f"k is a number of parameters: expected k >= 0, got {k_.min():g}")
    if np.any(n_ <= 0):
        raise ValueError(f"n is a number of observations: expected n > 0, got {n_.min():g}")
    return llf_, k_, n_


def _plain(value: Host | np.floating) -> float | Host:
    return float(value) if np.ndim(value) == 0 else np.asarray(value)
