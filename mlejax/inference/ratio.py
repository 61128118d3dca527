r"""Likelihood-ratio tests of nested fits.

.. math:: LR = 2(\ell_{full} - \ell_{restricted}) \sim \chi^2_q, \qquad q = k_{full} - k_{restricted},

and, when one of the q restrictions puts a parameter on the edge of its support (a variance that is 0), the mixture
:math:`\tfrac12 \chi^2_{q-1} + \tfrac12 \chi^2_q` of Self & Liang (1987, case 5 and 6).

A ratio of two numbers that are not maximised log-likelihoods of the same data means nothing, so every such pair is
refused with a ValueError that says what is wrong.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlejax.fit.loading import as_fitted
from mlejax.inference.numbers import format_statistic, format_test_p

# A restricted fit may beat the full one by this much: both stop within it.
_SLACK = 1e-6
# Sums of the same numbers in another order differ by this much.
_SAME = 1e-10


@dataclass(frozen=True)
class FitFacts:
    """What a likelihood-ratio test has to know about a fit.

    Attributes:
      llf: maximised log-likelihood, summed.
      df_model: number of free parameters.
      nobs: number of observations.
      fingerprint: what identifies the data: an object with ``difference(other) -> str | None``; or a nested mapping
        or dataclass of numbers and strings, compared entry by entry where both fits have one; or anything with
        ``==``; None if unknown.
      converged: whether the verdict says that this is a maximum.
      cov_type: the covariance that was asked for, only for messages.
      penalised: whether a penalty was subtracted.
      pseudolikelihood: whether the log-likelihood is a pseudolikelihood (sandwich covariance, sampling weights).
      label: what to call the fit in messages.
    """

    llf: float
    df_model: int
    nobs: float
    fingerprint: Any = None
    converged: bool = True
    cov_type: str = "nonrobust"
    penalised: bool = False
    pseudolikelihood: bool = False
    label: str = ""


@dataclass(frozen=True)
class LRTest:
    """A likelihood-ratio test.

    Attributes:
      statistic: 2 (llf_full - llf_restricted), never negative.
      df: number of restrictions.
      p_value: upper tail probability.
      llf_full: log-likelihood of the full fit.
      llf_restricted: log-likelihood of the restricted fit.
      full: label of the full fit.
      restricted: label of the restricted fit.
      boundary: number of restrictions on the edge of a support (0 or 1).
    """

    statistic: float
    df: int
    p_value: float
    llf_full: float
    llf_restricted: float
    full: str = "full"
    restricted: str = "restricted"
    boundary: int = 0

    @property
    def pvalue(self) -> float:
        """The p-value, under statsmodels' name."""
        return self.p_value

    @property
    def distribution(self) -> str:
        """Reference distribution: ``chi2``, or ``chibar2`` (a mixture) on a boundary."""
        return "chibar2" if self.boundary else "chi2"

    def summary(self) -> str:
        """Both log-likelihoods and the test, as text.

        >>> print(likelihood_ratio(-10.0, 3, -12.5, 2).summary())
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
            f"Prob > {self.distribution} = {format_test_p(self.p_value)}",
        ]
        if self.boundary:
            lines.append("  note: one restriction is on the edge of its support, so the reference is a chi2 mixture")
        return "\n".join(lines)

    def _name(self) -> str:
        return f"chibar2({self.df - 1}, {self.df})" if self.boundary else f"chi2({self.df})"

    def __repr__(self) -> str:
        return f"LRTest({self._name()} = {format_statistic(self.statistic)}, p = {format_test_p(self.p_value)})"


def likelihood_ratio(
    llf_full: float,
    k_full: int,
    llf_restricted: float,
    k_restricted: int,
    *,
    boundary: int = 0,
    full: str = "full",
    restricted: str = "restricted",
) -> LRTest:
    """Likelihood-ratio test from two maximised log-likelihoods of the same data.

    Args:
      llf_full: maximised log-likelihood of the larger model, summed over observations.
      k_full: its number of free parameters.
      llf_restricted: maximised log-likelihood of the model nested in it.
      k_restricted: its number of free parameters.
      boundary: how many of the restrictions put a parameter on the edge of its support: 0 or 1.
      full: name of the larger model.
      restricted: name of the smaller one.

    Returns:
      `LRTest`.

    Raises:
      ValueError: values that are not finite, a restricted model with as many parameters or more, a restricted
        log-likelihood above the full one by more than 1e-6, or more than one restriction on an edge.

    >>> likelihood_ratio(-10.0, 3, -12.5, 2)
    LRTest(chi2(1) = 5.000, p = 0.0253)
    """
    for name, llf in ((full, llf_full), (restricted, llf_restricted)):
        if not math.isfinite(llf):
            raise ValueError(f"the log-likelihood of the {name} fit is {llf}: expected a finite number")
    df = int(k_full) - int(k_restricted)
    if df < 0:
        raise ValueError(
            f"the restricted fit has more free parameters ({k_restricted}) than the full one ({k_full}): "
            "expected the larger model first, so the two are probably the wrong way round"
        )
    if df == 0:
        raise ValueError(
            f"both fits have {k_full} free parameters, so neither is a restriction of the other: "
            "compare them by aic or bic"
        )
    if boundary not in (0, 1):
        raise ValueError(
            f"boundary: expected 0 or 1 restrictions on an edge, got {boundary!r}; with more of them the reference "
            "distribution depends on their correlation: use a parametric bootstrap"
        )
    excess = float(llf_restricted) - float(llf_full)
    # Beyond 1e6 in size, a log-likelihood itself is not known to 1e-6.
    if excess > max(_SLACK, 1e-12 * abs(llf_full)):
        raise ValueError(
            f"the restricted fit has the higher log-likelihood ({llf_restricted:.10g} against {llf_full:.10g}), "
            "which is impossible for nested models at their maxima: either (a) the full fit did not reach its maximum "
            "(start it from the restricted estimate), or (b) the models are not nested, or (c) the data differ"
        )
    statistic = max(-2.0 * excess, 0.0)
    p_value = _upper_tail(statistic, df, int(boundary))
    return LRTest(statistic, df, p_value, float(llf_full), float(llf_restricted), full, restricted, int(boundary))


def _upper_tail(statistic: float, df: int, boundary: int) -> float:
    from scipy.special import chdtrc  # scipy.stats takes half a second to import

    tail = float(chdtrc(df, statistic))
    if not boundary:
        return tail
    # chi2 with 0 degrees of freedom is a point mass at 0.
    below = float(chdtrc(df - 1, statistic)) if df > 1 else float(statistic <= 0)
    return 0.5 * below + 0.5 * tail


def lr_test(full: FitFacts, restricted: FitFacts, *, boundary: int = 0) -> LRTest:
    """Likelihood-ratio test of two fits, refused unless both are maxima of the likelihood of the same data.

    Args:
      full: facts of the fit of the larger model.
      restricted: facts of the fit nested in it.
      boundary: how many of the restrictions put a parameter on the edge of its support: 0 or 1.

    Returns:
      `LRTest`.

    Raises:
      ValueError: a fit that is not a maximum, a pseudolikelihood or a penalised likelihood; different data, saying
        what differs; and what `likelihood_ratio` refuses.

    >>> lr_test(FitFacts(-10.0, 3, 50), FitFacts(-12.5, 2, 50))
    LRTest(chi2(1) = 5.000, p = 0.0253)
    """
    names = (full.label or "full", restricted.label or "restricted")
    for facts, name in zip((full, restricted), names, strict=True):
        _check_likelihood(facts, name)
    if full.nobs != restricted.nobs:
        raise ValueError(
            f"the fits are of different data: {full.nobs:g} observations ({names[0]}) against "
            f"{restricted.nobs:g} ({names[1]}); rows with missing values may have been dropped from only one of them"
        )
    found = data_differences(full.fingerprint, restricted.fingerprint)
    if found:
        raise ValueError("the fits are of different data: " + "; ".join(found[:5]))
    return likelihood_ratio(
        full.llf,
        full.df_model,
        restricted.llf,
        restricted.df_model,
        boundary=boundary,
        full=names[0],
        restricted=names[1],
    )


def _check_likelihood(facts: FitFacts, name: str) -> None:
    if facts.pseudolikelihood:
        raise ValueError(
            f"the {name} fit maximises a pseudolikelihood (cov_type {facts.cov_type!r}), whose ratio has no chi2 "
            "distribution: use wald_test"
        )
    if facts.penalised:
        raise ValueError(
            f"the {name} fit is penalised: its log-likelihood is not at its maximum, so the ratio has no chi2 "
            "distribution: use wald_test, or fit without the penalty"
        )
    if not facts.converged:
        raise ValueError(f"the {name} fit did not converge, so its log-likelihood is not a maximum: see its verdict")


def data_differences(a: Any, b: Any, path: str = "") -> tuple[str, ...]:
    """What differs between two fingerprints of data, in words; empty if nothing does.

    Mappings and dataclasses are compared where both have an entry (nested models read different columns), numbers to
    a relative accuracy of 1e-10 (sums depend on the order of the rows), everything else by ``==``. Two nonempty
    mappings without a common entry count as different, since nothing shows that they are the same.

    Args:
      a: fingerprint, or None if unknown.
      b: the other.
      path: where in the fingerprint this is.

    Returns:
      One string per difference.

    >>> data_differences({"rows": 10, "y": {"sum": 2.0}}, {"rows": 10, "y": {"sum": 2.5}, "x": {"sum": 0.0}})
    ('y.sum: 2 against 2.5',)
    """
    if a is None or b is None:
        return ()
    if type(a) is type(b) and callable(getattr(a, "difference", None)) and not isinstance(a, (set, frozenset)):
        return _own_difference(a, b)
    a, b = _as_mapping(a), _as_mapping(b)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        common = [key for key in a if key in b]
        if a and b and not common:
            return (f"{path or 'columns'}: nothing in common, {_listed(a)} against {_listed(b)}",)
        return tuple(
            text for key in common for text in data_differences(a[key], b[key], f"{path}.{key}" if path else str(key))
        )
    try:
        x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    except (TypeError, ValueError):
        return () if _equal(a, b) else (f"{path or 'data'}: {a!r} against {b!r}",)
    if x.shape != y.shape:
        return (f"{path or 'data'}: shape {x.shape} against {y.shape}",)
    if np.allclose(x, y, rtol=_SAME, atol=0, equal_nan=True):
        return ()
    words = f"{x:.10g} against {y:.10g}" if x.ndim == 0 else "different values"
    return (f"{path or 'data'}: {words}",)


def _own_difference(a: Any, b: Any) -> tuple[str, ...]:
    """A fingerprint that compares itself: ``difference(other) -> str | None``, perhaps with its ``columns``."""
    found = a.difference(b)
    if found:
        return (str(found),)
    columns, others = tuple(getattr(a, "columns", ())), tuple(getattr(b, "columns", ()))
    if columns and others and not set(columns) & set(others):
        return (f"columns: nothing in common, {_listed(columns)} against {_listed(others)}",)
    return ()


def _as_mapping(fingerprint: Any) -> Any:
    if dataclasses.is_dataclass(fingerprint) and not isinstance(fingerprint, type):
        return {field.name: getattr(fingerprint, field.name) for field in dataclasses.fields(fingerprint)}
    if isinstance(fingerprint, tuple) and hasattr(fingerprint, "_asdict"):
        return fingerprint._asdict()
    return fingerprint


def _equal(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(np.all(np.asarray(a == b)))


def _listed(names_: Iterable[Any]) -> str:
    names = [str(name) for name in names_]
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")


def same_rows(a: Any, b: Any) -> bool:
    """Whether the columns that two fits have in common go together in the same rows, in whatever order these stand.

    Told by the sums of products of all pairs of columns and of the weights; true where that cannot be told (units, whole
    models, data in a file).

    Args:
      a, b: ``Loaded`` data of two fits.
    """
    if a.remembered is not None or b.remembered is not None:
        return True
    one, other = _columns_of(a), _columns_of(b)
    names = [name for name in one if name in other]
    if len(names) < 2 or len(one[names[0]]) != len(other[names[0]]):
        return True
    tables = [np.column_stack([columns[name] for name in names]).astype(np.float64) for columns in (one, other)]
    scale = np.sqrt((tables[0] ** 2).sum(axis=0))
    scale = np.where(scale > 0, scale, 1.0)
    products = [(table / scale).T @ (table / scale) for table in tables]
    return bool(np.allclose(products[0], products[1], rtol=0.0, atol=1e-9))


def _columns_of(loaded: Any) -> dict[Any, np.ndarray]:
    """The numeric columns by row of a row-wise fit, and its weights, by name."""
    data = loaded.problem.data
    if data.mode != "rows":
        return {}
    n = int(data.n)
    found = {
        entry.key: as_fitted(data.rows[entry.slots[0].position])[:n]
        for entry in data.statics.entries
        if entry.treedef is None and entry.slots[0].source == "row"
    }
    columns = {key: column for key, column in found.items() if column.ndim == 1}
    if loaded.weights is not None:
        kept = loaded.weights.values > 0
        columns = {key: np.where(kept, column, 0.0) for key, column in columns.items()}
        columns["weights of the fit"] = loaded.weights.values
    return columns
