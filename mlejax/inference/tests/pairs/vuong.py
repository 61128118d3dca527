r"""Vuong's tests of two models, nested or not: are they distinguishable, and is one closer to the true distribution?

With the terms m_i = l_1i - l_2i of the log-likelihood ratio at the estimates and their variance omega^2,

* distinguishable: n omega^2 is a weighted sum of chi-squared 1 under omega^2 = 0, with the squared eigenvalues of W as weights,
* closer: z = sum m_i / (sqrt(n) omega) is standard normal if the models are distinguishable and equally close,

where W = [[B_1 A_1^-1, B_12 A_2^-1], [-B_12' A_1^-1, -B_2 A_2^-1]], A the informations and B the products of scores.

Vuong (1989), Econometrica 57, 307; Merkle, You & Preacher (2016), Psychological Methods 21, 151.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlejax.execution import float64
from mlejax.fit import Fit
from mlejax.inference.normal import two_sided_p
from mlejax.inference.tables.formatting import format_statistic, stated_p
from mlejax.inference.tests.larger import met_on_a_bound
from mlejax.inference.tests.pairs.likelihood_ratio import names_of
from mlejax.inference.tests.pairs.nesting import not_nested, same_function
from mlejax.inference.tests.pairs.same_data import FitFacts, data_difference, same_order
from mlejax.inference.tests.weighted_chi_squared import tail
from mlejax.notebook import Text, in_notebooks
from mlejax.objective import ChunkedEvaluator, row_terms
from mlejax.shapes import Float, Host

if TYPE_CHECKING:
    import pandas as pd


@in_notebooks
@dataclass(frozen=True, eq=False, repr=False)
class VuongTest:
    """Result of Vuong's tests of two models.

    Attributes:
        variance: omega^2, variance of the terms of the log-likelihood ratio.
        statistic_variance, p_variance: n omega^2, and the p-value of the hypothesis that the models are indistinguishable.
        statistic, pvalue: z statistic of the log-likelihood ratio, and its two-sided p-value; for nested models the likelihood
            ratio, with a p-value from a weighted sum of chi-squares, which is valid for a misspecified larger model too.  Both
            are NaN for models that are not nested whose terms all differ by the same number (variance 0).
        llr: log-likelihood ratio, the sum of the terms, first minus second.
        first, second: names of the models.
        nested: True if one model is nested in the other.
        correction: difference that is subtracted from the ratio: ``""`` (none), ``"aic"`` or ``"bic"`` penalties.
        n: number of terms.
    """

    variance: float
    statistic_variance: float
    p_variance: float
    statistic: float
    pvalue: float
    llr: float
    first: str
    second: str
    nested: bool
    correction: str
    n: int

    def frame(self) -> pd.DataFrame:
        """Return a DataFrame with two rows, ``distinguishable`` (n omega^2) and ``closer`` (z, or the likelihood ratio of nested
        models), and columns statistic and p_value.
        """
        import pandas as pd

        rows = {"statistic": [self.statistic_variance, self.statistic], "p_value": [self.p_variance, self.pvalue]}
        return pd.DataFrame(rows, index=pd.Index(["distinguishable", "closer"], name="test"))

    def summary(self) -> Text:
        """Return both tests as text."""
        which = self.first if self.llr > 0 else self.second
        less = f", less the difference of {self.correction.upper()} penalties" if self.correction else ""
        name = "LR" if self.nested else "z"
        lines = [
            f"Vuong test of {self.first} against {self.second}, {self.n} contributions",
            f"  can they be told apart?    n omega^2 = {format_statistic(self.statistic_variance)}, "
            f"{stated_p(self.p_variance)}",
            f"  is one closer?             {name} = {format_statistic(self.statistic)}, {stated_p(self.pvalue)}{less}",
            f"  the sum of log-likelihood ratios is {self.llr:.6g}, in favour of {which}",
        ]
        if self.p_variance > 0.05 and not self.nested:
            lines.append("  note: these data do not distinguish the models, so that z is not valid")
        return Text(lines)

    def __repr__(self) -> str:
        return self.summary()


def vuong_test(first: FitFacts, second: FitFacts, correction: str = "") -> VuongTest:
    """Test whether two models of the same data are distinguishable, and which is closer to the true distribution (Vuong
    1989).

    Args:
        first, second: the fits.
        correction: ``""``, ``"aic"`` or ``"bic"``: subtract the difference of these penalties, as R's ``pscl`` does; not used for
            nested models.

    Returns:
        `VuongTest`, whose terms are rows, or units.

    Raises:
        ValueError: the fits are of different rows, weighted, penalised, from a file, or not interior maxima; a model returns one
            number; or one model equals the other with a parameter at a bound (zero inflation against none), where z is not normal
            (Wilson 2015): use ``lr_test(..., boundary=1)``.
    """
    if correction not in ("", "aic", "bic"):
        raise ValueError(f"correction={correction!r}: expected '', 'aic' or 'bic'")
    a, b = _checked(first), _checked(second)
    _same_terms(first, second, a, b)
    names = names_of(first, second)
    nested = _nested(a, b)
    terms = [_terms(fit) for fit in (a, b)]
    n = len(terms[0])
    m = terms[0] - terms[1]
    llr, variance = float(m.sum()), float(m.var())
    weights = _weights(a, b)
    statistic = n * variance
    p_variance = tail(statistic, weights**2)
    penalty = {"": 0.0, "aic": 1.0, "bic": 0.5 * np.log(n)}[correction] * (first.df_model - second.df_model)
    if nested:
        sign = 1.0 if first.df_model > second.df_model else -1.0
        value = 2.0 * sign * llr
        return VuongTest(variance, statistic, p_variance, value, tail(value, sign * weights), llr, *names, True, "", n)
    z = float((llr - penalty) / np.sqrt(statistic)) if statistic > 0 else float("nan")
    return VuongTest(variance, statistic, p_variance, z, float(two_sided_p(z)), llr, *names, False, correction, n)


def _checked(facts: FitFacts) -> Fit:
    fit = facts.fit
    if fit is None or fit.loaded.remembered is not None:
        raise ValueError(
            "vuong_test needs the data, which a result from a file does not hold; fit the model again"
        )
    if not facts.converged or facts.penalised:
        why = "did not end at a maximum"
        if facts.penalised:
            why = f"is {'penalised' if fit.spec.reduction is None else 'bias-reduced'}"
        raise ValueError(
            f"vuong_test needs maximised log-likelihoods; the fit of {facts.label} {why} (its verdict is {fit.verdict.code})"
        )
    if not fit.interior.all():
        on = ", ".join(fit.spec.space.theta_labels[i] for i in np.flatnonzero(~fit.interior))
        raise ValueError(
            f"vuong_test: {on} of {facts.label} is estimated at a bound of its support, where the statistic is not normal "
            "(Wilson 2015, Economics Letters 127, 51); use lr_test(..., boundary=1) or lr_test(..., bootstrap=999)"
        )
    if fit.loaded.problem.data.mode == "whole" and fit.loaded.problem.data.n_contributions <= 1:
        raise ValueError(
            f"vuong_test needs the terms of the log-likelihood, but {facts.label} returns one scalar; return one value "
            "for each row"
        )
    return fit


def _same_terms(first: FitFacts, second: FitFacts, a: Fit, b: Fit) -> None:
    """Raise ValueError unless both fits have the same rows or units, in the same order and without weights."""
    sizes = [fit.loaded.problem.data.n_contributions for fit in (a, b)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"vuong_test: expected fits with the same number of rows or units, got {sizes[0]} for {first.label} and {sizes[1]} "
            f"for {second.label}"
        )
    if found := data_difference(first.fingerprint, second.fingerprint):
        raise ValueError(f"vuong_test: the fits are of different data: {found}; fit both to one table")
    rows = a.loaded.problem.data.mode == "rows"
    shared = set(a.loaded.fingerprint.columns) & set(b.loaded.fingerprint.columns)
    if rows and shared and not same_order(a.loaded, b.loaded):
        raise ValueError("vuong_test: expected fits with the same order of rows; fit both to one table")
    if a.loaded.weights is not None or b.loaded.weights is not None:
        raise ValueError(
            "vuong_test does not support weights; if they are frequency weights, repeat each row by its weight and fit without "
            "weights="
        )


def _nested(a: Fit, b: Fit) -> bool:
    """True if one model is nested in the other, as far as that can be checked (False for two functions); ValueError if they
    are equal with a parameter at a bound.
    """
    big, small = (a, b) if a.spec.space.n_free >= b.spec.space.n_free else (b, a)
    if not same_function(a, b) and (name := met_on_a_bound(big, small)):
        raise ValueError(
            f"vuong_test: {small.spec.likelihood.name} is {big.spec.likelihood.name} with {name} at a bound of its support, and "
            "then the statistic is not normal (Wilson 2015, Economics Letters 127, 51); use lr_test(..., boundary=1) or "
            "lr_test(..., bootstrap=999)"
        )
    if not same_function(a, b) or big.spec.space.n_free == small.spec.space.n_free:
        return False
    return not not_nested(big, small)


def _terms(fit: Fit) -> Float[Host, " n"]:
    with float64():
        found = row_terms(ChunkedEvaluator(fit.spec, fit.loaded.problem.data, fit.fixed), fit.u)
    return found.values


def _weights(a: Fit, b: Fit) -> Float[Host, " k"]:
    """Return the eigenvalues of W = [[B_1 A_1^-1, B_12 A_2^-1], [-B_12' A_1^-1, -B_2 A_2^-1]], with A the informations of the
    two fits and B the sums of products of their scores.
    """
    s, t = a.scores(), b.scores()
    assert a.information is not None
    assert b.information is not None
    one, other = np.linalg.inv(a.information), np.linalg.inv(b.information)
    W = np.block([[s.T @ s @ one, s.T @ t @ other], [-t.T @ s @ one, -t.T @ t @ other]])
    return np.asarray(np.linalg.eigvals(W).real)
