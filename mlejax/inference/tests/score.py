r"""Score (Lagrange multiplier) tests: a larger model is tested at the estimates of the smaller one.

With the score S and the information A of the larger model at the restricted estimates, and the restrictions H theta = h,

.. math:: T = (H A^{-1} S)' (H V H')^{-1} (H A^{-1} S) \sim \chi^2_q,

where V is A^-1, which makes it S' A^-1 S (Rao 1948), or a sandwich, which makes it the robust form of Boos (1992, The American
Statistician 46, 327).  A is the observed information; R's ``anova(test = "Rao")`` has the expected one, which is the same for
canonical links.  If A is not positive definite at the restricted estimates, it is replaced by sums of products of the scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlejax.batch.refits import row_derivatives
from mlejax.covariance import KINDS, check_kind
from mlejax.fit import Fit, rows_unchanged
from mlejax.inference.covariances.covariances import covariance_of
from mlejax.inference.covariances.products_of_scores import cluster_codes, weighted_scores
from mlejax.inference.normal import two_sided_p
from mlejax.inference.tests.chi_squared import ChiSquared
from mlejax.inference.tests.larger import at_values, larger_model
from mlejax.inference.tests.wald import wald_test
from mlejax.inference.tests.wild import wild_p
from mlejax.linalg import scaled_inverse
from mlejax.shapes import Float, Host


@dataclass(frozen=True, eq=False, repr=False)
class ScoreTest(ChiSquared):
    """Result of a score test, with ``statistic``, ``df``, ``pvalue`` and ``note`` as in :class:`ChiSquared`.

    Attributes:
      one_sided: True if the restriction is at a bound of the support: the reference is half a chi2 with one degree of
          freedom.
      replicates: statistics of the wild bootstrap draws, with ``bootstrap=`` (B,).
    """

    one_sided: bool = False
    replicates: np.ndarray | None = None
    title = "Score test"

    @property
    def distribution(self) -> str:
        """Reference distribution: ``chi2``, or ``chibar2`` (half of chi2(1), half 0) for a restriction at a bound."""
        return "chibar2" if self.one_sided else "chi2"


def score_test(
    fit: Fit,
    what: Any = None,
    *,
    param: str | None = None,
    null: Mapping[str, Any] | None = None,
    cov_type: str = "nonrobust",
    cov_kwds: Mapping[str, Any] | None = None,
    bootstrap: int | None = None,
    seed: int = 0,
) -> ScoreTest:
    """Test the restrictions of this fit against a larger model, which is not fitted (score test).

    Args:
        what: terms to add to a formula, ``"+ x2"``; a larger model of the same data; or names of entries that this fit fixes,
            ``"beta[age]"`` (or a list of names).  By default all its ``fixed=`` and ``constraints=``.
        param: the parameter whose formula gets the terms, if several have one; a parameter without a formula counts as having
            an intercept only, so that ``param="sigma"`` tests for unequal variances.
        null: for a larger model: values under the null hypothesis, natural scale, of parameters that this fit does not have,
            ``{"alpha": 0.0}``.  Coefficients of further columns are 0.
        cov_type, cov_kwds: as in ``Model.fit``; a sandwich gives the robust form of Boos (1992), ``"expected"`` Rao's statistic
            as R has it.  By default ``"nonrobust"``; ``res.score_test`` takes the fit's own if that is HC0 or HC1.
        bootstrap: with HC0 or cluster: number of draws of a wild bootstrap of the scores (Kline & Santos 2012) for the
            p-value, which is valid with few clusters; if there are at most that many sign patterns, 2^G, all are used.
        seed: seed of the draws.

    Returns:
        `ScoreTest`.  One parameter at a bound that belongs to its support (a variance of 0) is tested one-sidedly.

    Raises:
        ValueError: there is no restriction; the fit has no interior maximum, a penalty or bias reduction, or is from a file; the
            models are not nested; several parameters are at bounds; the information of the larger model is singular; or an
            option is not valid.  The message names a test that is valid instead.
        TypeError: ``what`` is neither terms, a model, nor names.

    Example:
        >>> import mlejax as mle
        >>> from jax.scipy.stats import norm
        >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
        ... def gaussian(params, data):
        ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
        >>> data = {"y": [1.0, 2.0, 6.0, 3.0, 5.0, 4.0], "x": [0.0, 1.0, 3.0, 2.0, 2.0, 1.0]}
        >>> res = gaussian.regress(mu="1").fit(data)
        >>> res.score_test("+ x")
        ScoreTest(chi2(1) = 5.930, p = 0.0149)
    """
    check_restricted(fit)
    big = larger_model(fit, what, param)
    at, tangent = at_values(fit, big, null or {})
    return _tested(at, tangent, big.text, cov_type, cov_kwds, bootstrap, seed)


def _tested(
    at: Fit,
    tangent: Float[Host, "p q"],
    text: str,
    cov_type: str,
    cov_kwds: Mapping[str, Any] | None,
    bootstrap: int | None,
    seed: int,
) -> ScoreTest:
    """Return the score test of the larger model, evaluated at the restricted estimates.

    Args:
        at: the evaluated larger model.
        tangent: Jacobian (p, q) of its theta with respect to that of the smaller model.
        text: description of the larger model.
        cov_type, cov_kwds, bootstrap, seed: as in `score_test`.

    Raises:
        ValueError: an option is not valid, or there is no valid score test; the message names another test.
    """
    kind, options = check_kind(cov_type, cov_kwds, at.weight_kind)
    on_bound = np.flatnonzero(~at.interior)
    if bootstrap is not None and (kind not in ("HC0", "cluster") or on_bound.size or len(options.get("groups", ())) > 1):
        raise ValueError(
            "score_test(bootstrap=) needs cov_type='HC0' or one-way 'cluster' (cov_kwds={'groups': ...}), and no parameter at a "
            "bound; else use lr_test(..., bootstrap=999), which simulates data"
        )
    if on_bound.size == 1 and (still := symmetric_bounds(at)).size:
        return _of_variance(at, int(still[0]), tangent)
    inside = replace(at, interior=np.ones(at.theta.size, bool))
    bread, note = covariance_of(inside, "nonrobust", {}).matrix, ""
    definite = not np.isnan(bread).any()
    if not definite and not KINDS[kind].model_based:
        raise ValueError(
            "score_test: the information is not positive definite at the restricted estimates, so that there is no robust form; "
            "use cov_type='opg', or lr_test of a fit of the larger model"
        )
    if kind == "opg":
        bread = _inverse_products(at, definite)
    elif kind == "expected":
        bread = covariance_of(inside, kind, options).matrix
    elif not definite:
        bread, kind = _inverse_products(at, definite), "opg"
        note = "the observed information is not positive definite at the restricted estimates: products of scores are used"
    if on_bound.size == 1 and len(at.theta) - tangent.shape[1] == 1:
        j = int(on_bound[0])
        inward = 1.0 if at.u[j] <= at.spec.space.lower[j] else -1.0
        if inward * at.score[j] < 0:
            label = f"{at.spec.space.theta_labels[j]} = {at.theta[j]:g}"
            return ScoreTest(0.0, 1, 1.0, (label,), "the score points out of the support", one_sided=True)
    cov = bread if KINDS[kind].model_based else covariance_of(inside, kind, options).matrix
    H, labels = _restrictions(at, tangent, bread, text)
    step = bread @ at.score
    if on_bound.size:
        _check_bound(at, H, on_bound)
    found = wald_test(H, 0.0, step, cov, labels=labels)
    if found.reason:
        raise ValueError(f"score_test: {found.reason}")
    if bootstrap is not None:
        codes = [cluster_codes(at, groups) for groups in options.get("groups", ())]
        influence, w = weighted_scores(at) @ bread @ H.T, at.loaded.weights
        influence = influence if w is None else influence[w.used]
        p, note, drawn = wild_p(influence, codes[0] if codes else None, bootstrap, seed)
        return ScoreTest(found.statistic, found.df, p, labels, note, replicates=found.statistic * drawn)
    if not on_bound.size:
        return ScoreTest(found.statistic, found.df, found.pvalue, labels, note)
    return ScoreTest(found.statistic, 1, 0.5 * found.pvalue, labels, note, one_sided=True)


def _inverse_products(at: Fit, definite: bool) -> Float[Host, "p p"]:
    """Return the inverse of the sum of outer products of the scores, each times its weight (p, p).

    Raises:
        ValueError: the sum is singular.  If the information is positive definite (``definite``), the message says to use that.
    """
    w = at.loaded.weights
    scores = at.scores() if w is None else at.scores() * np.sqrt(w.values)[:, None]
    products = scores.T @ scores
    found = scaled_inverse(products)
    # scores that are 0 except for rounding errors would count as information once scaled to unit diagonal
    least = 0.0 if at.information is None else 1e-12 * np.abs(np.diag(at.information))
    if found.ok and (np.diag(products) > least).all():
        return found.inverse
    if definite:
        raise ValueError(
            "score_test: the products of scores of the larger model are not positive definite at the restricted estimates, but "
            "its information is: leave out cov_type='opg'"
        )
    raise ValueError(
        "score_test: neither the information of the larger model nor the products of its scores are positive definite at the "
        "restricted estimates; use lr_test(..., bootstrap=999) of a fit of the "
        "larger model"
    )


def check_restricted(fit: Fit) -> None:
    """Raise ValueError for fits without a score test: from a file, with a penalty or bias reduction, without a maximum, with
    an estimate at a bound, or whose data were changed in place.
    """
    if fit.loaded.remembered is not None:
        raise ValueError("score_test needs the data, which a result from a file does not hold; fit the model again")
    if fit.penalised is not None or fit.spec.reduction is not None:
        raise ValueError(
            "score_test needs a maximum likelihood fit: at penalised and bias-reduced estimates the score of the log-likelihood "
            "is not 0. Fit without penalty= and bias_reduction=, or use wald_test on a fit of the larger model"
        )
    if not fit.verdict.converged:
        raise ValueError(
            f"score_test needs a fit that ended at a maximum; this one did not ({fit.verdict}): {fit.verdict.advice}"
        )
    if not fit.interior.all():
        on = [fit.spec.space.theta_labels[i] for i in np.flatnonzero(~fit.interior)]
        raise ValueError(
            f"score_test: {', '.join(on)} is estimated at a bound of its support, where the score need not be 0 and the "
            "statistic has no chi2 distribution; use lr_test(..., bootstrap=999) of a fit of the larger model"
        )
    if not rows_unchanged(fit.loaded, fit.spec.likelihood):
        raise ValueError("score_test: the data were changed since the fit; fit them again")


def _restrictions(
    at: Fit, tangent: Float[Host, "p q"], bread: Float[Host, "p p"], text: str
) -> tuple[Float[Host, "m p"], tuple[str, ...]]:
    """Return the m = p - q restrictions H (m, p) that the smaller model satisfies, and their labels.

    Single entries of theta if those are fixed; else combinations orthogonal to ``tangent`` in standard errors.  ``bread``:
    covariance of theta; ``text``: description of the larger model.
    """
    p, q = tangent.shape
    root = 1.0 / np.sqrt(np.diag(bread))  # in standard errors
    moved = root[:, None] * tangent
    moved = moved / np.maximum(np.sqrt((moved**2).sum(axis=0)), 1e-300)
    still = np.flatnonzero(np.abs(moved).max(axis=1, initial=0.0) < 1e-9)
    if still.size == p - q:
        names, value = at.spec.space.theta_labels, np.where(np.abs(at.theta) * root < 1e-9, 0.0, at.theta)
        return np.eye(p)[still], tuple(f"{names[j]} = {value[j]:g}" for j in still)
    basis = np.linalg.svd(moved, full_matrices=True)[0][:, q:]
    m = basis.shape[1]
    label = f"{m} restriction{'s' * (m > 1)} against {text}"
    return basis.T * root, (label,) if m == 1 else tuple(f"{label} ({i + 1})" for i in range(m))


def _check_bound(at: Fit, H: Float[Host, "m p"], on_bound: np.ndarray) -> None:
    """Raise ValueError unless there is one restriction, of the only entry of theta that is at a bound (``on_bound``: positions
    of these).
    """
    names = [at.spec.space.theta_labels[i] for i in on_bound]
    alone = len(H) == 1 and on_bound.size == 1 and np.flatnonzero(H[0]).tolist() == on_bound.tolist()
    if not alone:
        raise ValueError(
            f"score_test: {', '.join(names)} is at a bound of its support under the null hypothesis, and there are other "
            "restrictions, so that the statistic has no chi2 distribution; use lr_test(..., bootstrap=999) of a fit of the "
            "larger model"
        )


# ---- standard deviations at 0, whose score is 0 by symmetry


def symmetric_bounds(at: Fit) -> np.ndarray:
    """Return the positions of the coordinates that are at a bound and have a score of 0 in every term, such as a standard
    deviation at 0; empty if there are none.
    """
    on_bound = np.flatnonzero(~at.interior)
    if not on_bound.size:
        return on_bound
    scores = at.scores()[:, on_bound]
    assert at.information is not None
    size = np.sqrt(np.abs(np.diag(at.information))[on_bound]) + 1e-300
    return np.asarray(on_bound[np.abs(scores).max(axis=0, initial=0.0) <= 1e-8 * size])


def scores_with_variances(at: Fit, which: np.ndarray) -> Float[Host, "n p"]:
    """Return scores (n, p) in theta, times the root of the weights, in which the coordinates s at the positions ``which``, all
    at 0, are replaced by s^2: their columns hold half the second derivative of each term in s.

    Raises:
        ValueError: the model has ``rowwise=False``, so that single terms have no second derivatives.
    """
    if at.loaded.problem.data.mode == "whole":
        raise ValueError(
            "the score of a standard deviation is 0 at 0, and with rowwise=False there are no second derivatives by row; use "
            "lr_test(..., bootstrap=999) of a fit of the larger model, or boundary=1 if this is the only restriction"
        )
    scores, curvature = row_derivatives(at.spec, at.u, at.loaded.problem.data, at.fixed)
    assert at.jacobian is not None
    scores = np.linalg.solve(at.jacobian.T, scores.T).T
    scores[:, which] = -0.5 * curvature[:, which, which]
    w = at.loaded.weights
    return scores if w is None else scores * np.sqrt(w.values)[:, None]


def _of_variance(at: Fit, j: int, tangent: Float[Host, "p q"]) -> ScoreTest:
    """Return the one-sided test that the standard deviation at position j of theta is 0, in terms of its square, with products
    of scores as the information; ``tangent``: as in `_tested`.

    Raises:
        ValueError: other restrictions, weights that are not frequencies, or ``rowwise=False``.
    """
    name = at.spec.space.theta_labels[j]
    if tangent.shape[0] - tangent.shape[1] != 1:
        raise ValueError(
            f"score_test: {name} is at a bound of its support under the null hypothesis, and there are other restrictions; "
            "use lr_test(..., bootstrap=999) of a fit of the larger model"
        )
    if at.weight_kind not in (None, "frequency"):
        first = "fit without weights and " if at.weight_kind == "sampling" else ""  # which lr_test does not support either
        raise ValueError(f"score_test of {name} does not support {at.weight_kind} weights; {first}use lr_test(..., boundary=1)")
    s = scores_with_variances(at, np.array([j]))
    others = np.delete(s, j, axis=1)
    w = at.loaded.weights
    root = np.ones(len(s)) if w is None else np.sqrt(w.values)
    rest = s[:, j] - others @ np.linalg.lstsq(others, s[:, j], rcond=None)[0]
    total = float(root @ rest)
    z = total / np.sqrt(float(rest @ rest))
    note = f"the score of {name} is 0 at 0, so its square is tested, with products of scores as the information"
    statistic = max(z, 0.0) ** 2
    p = 1.0 if z <= 0 else 0.5 * float(two_sided_p(z))
    return ScoreTest(statistic, 1, p, (f"{name}^2 = 0",), note, one_sided=True)
