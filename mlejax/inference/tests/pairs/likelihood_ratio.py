r"""Likelihood-ratio tests of nested fits.

.. math:: LR = 2(\ell_{full} - \ell_{restricted}) \sim \chi^2_q, \qquad q = k_{full} - k_{restricted},

and, if one of the q restrictions puts a parameter at a bound of its support (a variance that is 0), the mixture
:math:`\tfrac12 \chi^2_{q-1} + \tfrac12 \chi^2_q` of Self & Liang (1987, case 5 and 6); for several at bounds see
`chi_bar_square`. If no such theory holds, the distribution comes from data simulated from the restricted fit (`bootstrap=`).

The two numbers must be maximised log-likelihoods of the same data; else a ValueError names the reason.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from mlejax.fit import Fit
from mlejax.inference.tables.formatting import format_statistic, format_test_p, stated_p
from mlejax.inference.tests.larger import met_on_a_bound
from mlejax.inference.tests.pairs.chi_bar_square import chi_bar_tail, upper_tail
from mlejax.inference.tests.pairs.nested_fits import (
    UnknownMixtureError,
    bootstrapped,
    boundary_weights,
    check_others_inside,
    no_mixture,
)
from mlejax.inference.tests.pairs.nesting import fixed_on_bounds, not_nested, same_function, unchecked
from mlejax.inference.tests.pairs.same_data import FitFacts, data_difference, same_rows
from mlejax.latent import mixture_of
from mlejax.notebook import Text, in_notebooks

if TYPE_CHECKING:
    import pandas as pd

SLACK = 1e-6  # a restricted fit may have the higher log-likelihood by this much: both stop within it
LIMIT = 0.01  # a limit is known to this much
ROUNDING = 1e-8  # a smaller gain in log-likelihood counts as 0 on a bound, where both fits are the same


@in_notebooks
@dataclass(frozen=True)
class LRTest:
    """Result of a likelihood-ratio test.

    Attributes:
      statistic: 2 (llf_full - llf_restricted), never negative.
      df: number of restrictions.
      pvalue: upper tail probability.
      llf_full: log-likelihood of the full fit.
      llf_restricted: log-likelihood of the restricted fit.
      full: label of the full fit.
      restricted: label of the restricted fit.
      boundary: number of restrictions that put a parameter at a bound of its support.
      claimed: the reason why it could not be checked that the models are nested; empty if it was.
      limits: labels of the fits whose log-likelihood is a limit.
      weights: mixture weights of the chi2 distributions with df - boundary, ..., df degrees of freedom, if several
          restrictions are at bounds.
      error: simulation error of the p-value, one standard deviation; 0 if nothing was simulated.
      replicates: bootstrap: statistics of data simulated from the restricted fit, without those whose refits failed; else
          None.
      failed: number of simulated data sets whose refits failed.
    """

    statistic: float
    df: int
    pvalue: float
    llf_full: float
    llf_restricted: float
    full: str = "full"
    restricted: str = "restricted"
    boundary: int = 0
    claimed: str = ""
    limits: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    error: float = 0.0
    replicates: np.ndarray | None = field(default=None, repr=False)
    failed: int = 0

    @property
    def distribution(self) -> str:
        """Reference distribution: ``chi2``, ``chibar2`` (a mixture, at bounds), or ``LR``, the statistics of simulated
        data.
        """
        if self.replicates is not None:
            return "LR"
        return "chibar2" if self.boundary else "chi2"

    def summary(self) -> Text:
        """Return both log-likelihoods and the test, as text.

        >>> print(lr_test(FitFacts(-10.0, 3, 50), FitFacts(-12.5, 2, 50)).summary())
        Likelihood-ratio test
          full        log-likelihood = -10
          restricted  log-likelihood = -12.5
        <BLANKLINE>
          chi2(1) = 5.000    Prob > chi2 = 0.0253
        """
        width = max(len(self.full), len(self.restricted))
        lines = [
            "Likelihood-ratio test",
            f"  {self.full:<{width}}  log-likelihood = {self.llf_full:.10g}",
            f"  {self.restricted:<{width}}  log-likelihood = {self.llf_restricted:.10g}",
            "",
            f"  {self._name()} = {format_statistic(self.statistic)}    "
            f"Prob > {self.distribution} = {format_test_p(self.pvalue)}",
        ]
        if self.replicates is not None:
            n = len(self.replicates)
            left_out = f"; {self.failed} refits failed and are left out" if self.failed else ""
            lines.append(f"  note: p from {n} data sets drawn from {self.restricted} and fitted by both{left_out}")
        elif self.weights:
            shown = ", ".join(f"{w:.3g}" for w in self.weights)
            lines.append(f"  note: {self.boundary} restrictions are at bounds; weights of the chi2 mixture: {shown}")
        elif self.boundary:
            lines.append("  note: one restriction is at a bound of the support, so the reference is a chi2 mixture")
        if self.error:
            lines.append(f"  note: p has a simulation error of {self.error:.1g}")
        if self.claimed:
            lines.append(
                f"  note: {self.restricted} was not checked to be nested in {self.full}: {self.claimed}"
            )
        for name in self.limits:
            lines.append(f"  note: the log-likelihood of {name} is the limit that it approaches")
        return Text(lines)

    def frame(self) -> pd.DataFrame:
        """Return a DataFrame with one row, the names of both fits in the index (``test``): statistic, df, p_value, llf_full,
        llf_restricted, distribution.
        """
        import pandas as pd

        names = ("statistic", "df", "llf_full", "llf_restricted", "distribution")
        row = {"p_value": self.pvalue, **{name: getattr(self, name) for name in names}}
        order = ["statistic", "df", "p_value", *names[2:]]
        return pd.DataFrame(
            [row], columns=order, index=pd.Index([f"{self.full} against {self.restricted}"], name="test")
        )

    def _name(self) -> str:
        if self.replicates is not None:
            return "LR"
        if self.weights:
            return f"chibar2({self.df - self.boundary}..{self.df})"
        return f"chibar2({self.df - 1}, {self.df})" if self.boundary else f"chi2({self.df})"

    def __repr__(self) -> str:
        return f"LRTest({self._name()} = {format_statistic(self.statistic)}, {stated_p(self.pvalue)})"


def lr_test(
    full: FitFacts, restricted: FitFacts, *, boundary: int = 0, bootstrap: int | None = None, seed: int = 0
) -> LRTest:
    """Return the likelihood-ratio test of two fits, which must be maxima of the likelihood of the same data.

    Args:
      full: properties of the fit of the larger model.
      restricted: properties of the fit nested in it.
      boundary: number of restrictions that put a parameter at a bound of its support; more than 1 need the fits themselves.
      bootstrap: number of data sets simulated from the restricted fit for the p-value; None for a chi2 distribution.
      seed: seed of the simulated data sets, and of simulated weights.

    Returns:
      `LRTest`.

    Raises:
      ValueError: a fit is not a maximum, or of a pseudolikelihood or penalised; different data; models that are not nested; a
        restricted log-likelihood above the full one by more than 1e-6; restrictions at bounds without a known distribution.

    >>> lr_test(FitFacts(-10.0, 3, 50), FitFacts(-12.5, 2, 50))
    LRTest(chi2(1) = 5.000, p = 0.0253)
    """
    names = names_of(full, restricted)
    for facts, name in zip((full, restricted), names, strict=True):
        check_likelihood(facts, name)
    df = int(full.df_model) - int(restricted.df_model)
    _check_pair(full, restricted, names, df)
    if isinstance(boundary, bool) or not isinstance(boundary, (int, np.integer)) or not 0 <= boundary <= df:
        raise ValueError(
            f"boundary: expected the number of the {df} restrictions that are at a bound, 0 to {df}, got {boundary!r}"
        )
    excess = float(restricted.llf) - float(full.llf)
    # both fits on the bound: their log-likelihoods differ by rounding, and p is 1 under any distribution
    on_bound = bool(boundary) and -excess <= max(LIMIT if full.limit else ROUNDING, 1e-12 * abs(full.llf))
    if bootstrap is None:
        _check_classes(full, restricted)
        _check_bounds(full, restricted, int(boundary), names, on_bound)
    # Beyond 1e6 in size, a log-likelihood itself is not known to 1e-6.
    slack = LIMIT if full.limit or restricted.limit else SLACK
    if excess > max(slack, 1e-12 * abs(full.llf)):
        unknown = full.fingerprint is None or restricted.fingerprint is None
        raise ValueError(
            f"the restricted fit has the higher log-likelihood ({restricted.llf:.10g} against {full.llf:.10g}), "
            "which is impossible for nested models at their maxima of the same data: fit the full model again with start= at the "
            f"restricted estimates, and check that the models are nested{' and have the same data' * unknown}"
        )
    statistic = 0.0 if on_bound else max(-2.0 * excess, 0.0)
    claimed = "" if full.fit is None or restricted.fit is None else unchecked(full.fit, restricted.fit)
    limits = tuple(name for facts, name in zip((full, restricted), names, strict=True) if facts.limit)
    made = LRTest(statistic, df, np.nan, float(full.llf), float(restricted.llf), *names, int(boundary), claimed, limits)
    if bootstrap is not None:
        drawn, failed = bootstrapped(*_both(full, restricted, "bootstrap="), bootstrap, seed)
        p = (1 + int((drawn >= statistic - ROUNDING).sum())) / (len(drawn) + 1)
        return replace(made, pvalue=p, error=float(np.sqrt(p * (1 - p) / len(drawn))), replicates=drawn, failed=failed)
    if boundary > 1:
        weights = boundary_weights(*_both(full, restricted, f"boundary={boundary}"), boundary, seed)
        p, error = chi_bar_tail(statistic, weights, df)
        return replace(made, pvalue=p, error=error, weights=tuple(weights.values.tolist()))
    return replace(made, pvalue=upper_tail(statistic, df, boundary))


def names_of(first: FitFacts, second: FitFacts) -> tuple[str, str]:
    """Return the names of two fits: their labels ("full", "restricted" if they have none); if these are the same, followed by
    the formulas, or if those are too, by the fixed entries.

    >>> names_of(FitFacts(-10.0, 3, 50, label="a"), FitFacts(-12.0, 2, 50))
    ('a', 'restricted')
    """
    names = (first.label or "full", second.label or "restricted")
    if names[0] != names[1] or first.fit is None or second.fit is None:
        return names
    texts = [", ".join(map(str, facts.fit.spec.likelihood.predictors)) for facts in (first, second) if facts.fit]
    if texts[0] != texts[1]:
        return f"{names[0]}({texts[0]})", f"{names[1]}({texts[1]})"
    fixed = [np.array(fit.spec.space.labels)[fit.spec.space.reported_fixed].tolist() for fit in (first.fit, second.fit)]
    if fixed[0] == fixed[1]:
        return names
    of = [", ".join(entries) if len(entries) < 4 else f"{len(entries)} entries" for entries in fixed]
    one, other = (f"{names[0]}, {text} fixed" if text else names[0] for text in of)
    return one, other


def _both(full: FitFacts, restricted: FitFacts, what: str) -> tuple[Fit, Fit]:
    """Return the fits themselves; ValueError if one is not known or is from a file.  ``what``: the option that needs them."""
    if full.fit is None or restricted.fit is None or full.fit.loaded.remembered or restricted.fit.loaded.remembered:
        raise ValueError(
            f"{what} needs the data of both fits, which results from files do not hold; fit the models again"
        )
    return full.fit, restricted.fit


def _check_pair(full: FitFacts, restricted: FitFacts, names: tuple[str, str], df: int) -> None:
    """Raise ValueError if two fits are of different data, or the second is not nested in the first.

    ``names``: those of the fits; ``df``: difference of their numbers of free parameters.
    """
    if full.nobs != restricted.nobs:
        dropped = [0 if facts.fit is None else facts.fit.loaded.rows.n_dropped for facts in (full, restricted)]
        advice = "fit both to one table"
        if dropped[0] != dropped[1]:
            advice = f"{dropped[0]} and {dropped[1]} rows with missing values were dropped: drop all of them from the data first"
        raise ValueError(
            f"the fits are of different data: {full.nobs:g} observations ({names[0]}) against {restricted.nobs:g} ({names[1]}); "
            f"{advice}"
        )
    if found := data_difference(full.fingerprint, restricted.fingerprint):
        raise ValueError(f"the fits are of different data: {found}; fit both to one table")
    if df < 0:
        raise ValueError(
            f"the restricted fit has more free parameters ({restricted.df_model}) than the full one ({full.df_model}): "
            "expected the larger model first; exchange the two"
        )
    if df == 0:
        raise ValueError(
            f"both fits have {full.df_model} free parameters, so neither is a restriction of the other: "
            "compare them by aic or bic"
        )
    if full.fit is None or restricted.fit is None:
        return
    if not same_rows(full.fit.loaded, restricted.fit.loaded):
        raise ValueError(
            "the fits are of different data: columns that both use, or weights, have the same values, but not in the same rows: "
            "fit both to one table"
        )
    if found := not_nested(full.fit, restricted.fit):
        raise ValueError(f"the fits are not nested: {found}; compare them by aic or bic")


def _check_bounds(full: FitFacts, restricted: FitFacts, boundary: int, names: tuple[str, str], on_bound: bool) -> None:
    """Raise ValueError if restrictions are at bounds but ``boundary`` is 0; or if ``boundary`` is positive and no mixture is
    known, unless the ratio is 0 (``on_bound`` is True).

    Fits whose data are not in memory are not checked.  ``names``: those of the fits, for messages.
    """
    a, b = full.fit, restricted.fit
    if a is None or b is None or any(fit.loaded.remembered is not None or fit.loaded.stream is not None for fit in (a, b)):
        return
    if boundary and not on_bound:
        check_others_inside(a, b, boundary)
    if not same_function(a, b):
        _check_functions(a, b, boundary, names)
    elif boundary == 0 and (bounds := fixed_on_bounds(a, b)):
        raise ValueError(
            f"the restricted fit has {', '.join(bounds)} at a bound of the support, where the ratio is not chi-squared: "
            f"{_instead(a, b, len(bounds))}"
        )
    elif boundary == 1 and not on_bound and (why := no_mixture(a, b, 1)):
        raise UnknownMixtureError(why)


def _instead(full: Fit, restricted: Fit, n_bounds: int) -> str:
    """Return a phrase that names the options for a test with this many restrictions at bounds: ``boundary=`` if a mixture is
    known, and ``bootstrap=999``.
    """
    drawn = "bootstrap=999 compares it with drawn data"
    return drawn if no_mixture(full, restricted, n_bounds) else (
        f"boundary={n_bounds} compares it with the mixture that holds there, bootstrap=999 with drawn data"
    )


def _check_functions(full: Fit, restricted: Fit, boundary: int, names: tuple[str, str]) -> None:
    """Raise ValueError if one function is another one at a bound (a zero-inflated Poisson without inflation), unless the
    parameter has one free number and ``boundary`` is positive.
    """
    if not (name := met_on_a_bound(full, restricted)):
        return
    size = next(leaf.n_free for leaf in full.spec.space.leaves if leaf.name == name)
    meet = f"{names[1]} is {names[0]} with {name} at a bound of its support, where "
    if size > 1:
        raise ValueError(
            f"{meet}the coefficients of {name} are not identified, so that the distribution of the ratio is not known: "
            "bootstrap=999 compares it with drawn data"
        )
    if not boundary:
        raise ValueError(
            f"{meet}the ratio is not chi-squared: boundary=1 compares it with the mixture that holds there, bootstrap=999 "
            "with drawn data"
        )


def _check_classes(full: FitFacts, restricted: FitFacts) -> None:
    """Raise ValueError if the fits have different numbers of latent classes (1 without classes): with fewer classes, some
    parameters are not identified.
    """
    if full.fit is None or restricted.fit is None:
        return
    found = [mixture_of(facts.fit.spec.likelihood) for facts in (full, restricted)]  # type: ignore[union-attr]
    numbers = [1 if mixture is None else mixture.latent.n for mixture in found]
    if numbers[0] != numbers[1]:
        raise ValueError(
            f"the likelihood ratio of {numbers[0]} and {numbers[1]} classes has no chi-squared distribution: with fewer classes "
            "the parameters of the others are not identified.  Compare aic or bic, or use bootstrap=999"
        )


def check_likelihood(facts: FitFacts, name: str) -> None:
    """Raise ValueError unless the log-likelihood of a fit is finite, no pseudolikelihood, unpenalised, and at a maximum or at
    its supremum in a limit of the parameters.
    """
    if not math.isfinite(facts.llf):
        raise ValueError(f"the log-likelihood of the {name} fit is {facts.llf}: expected a finite number; read its verdict")
    if facts.pseudolikelihood:
        raise ValueError(
            f"the {name} fit maximises a pseudolikelihood (cov_type {facts.cov_type!r}), whose ratio has no chi2 "
            "distribution: use wald_test"
        )
    if facts.penalised:
        what, option = "penalised", "penalty="
        if facts.fit is not None and facts.fit.spec.reduction is not None:
            what, option = "bias-reduced", "bias_reduction="
        raise ValueError(
            f"the {name} fit is {what}: its log-likelihood is not at its maximum, so the ratio has no chi2 distribution: use "
            f"wald_test, or fit without {option}"
        )
    if not (facts.converged or facts.limit):
        raise ValueError(
            f"the {name} fit did not converge, so its log-likelihood is not a maximum: read its verdict, and fit it "
            "again"
        )
