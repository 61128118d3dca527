r"""Linear combinations of estimates, one at a time: estimate, standard error, test and interval.

For a row R_i of the restrictions, :math:`z_i = (R_i \hat\theta - r_i) / \sqrt{R_i V R_i'}`, against the normal
distribution or Student's t. A combination whose variance is zero up to rounding is known exactly: its standard error
is 0 and it has no test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from mlejax.inference.intervals import check_alpha, critical_value, two_sided_p
from mlejax.inference.numbers import format_estimates, format_p, format_statistic, percent_labels, table_lines
from mlejax.inference.wald import NO_COVARIANCE, check_arguments, standard_errors

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class TTest:
    """Linear combinations of estimates, each tested on its own.

    Attributes:
      restrictions: m labels.
      estimate: (m,) R theta.
      null_value: (m,) r.
      std_error: (m,) standard errors; NaN where the covariance does not exist.
      statistic: (m,) (R theta - r) / std_error; NaN where the standard error is NaN or 0.
      p_value: (m,) two-sided.
      conf_low: (m,) lower limits for R theta, natural scale.
      conf_high: (m,) upper limits.
      notes: m strings, empty where there is nothing to say.
      alpha: 1 - coverage.
      df: degrees of freedom of Student's t, or None for the normal distribution.
    """

    restrictions: tuple[str, ...]
    estimate: np.ndarray
    null_value: np.ndarray
    std_error: np.ndarray
    statistic: np.ndarray
    p_value: np.ndarray
    conf_low: np.ndarray
    conf_high: np.ndarray
    notes: tuple[str, ...]
    alpha: float = 0.05
    df: float | None = None

    @property
    def pvalue(self) -> np.ndarray:
        """The p-values, under statsmodels' name."""
        return self.p_value

    def table(self) -> pd.DataFrame:
        """One row per restriction: estimate, null_value, std_error, statistic, p_value, limits, note."""
        import pandas as pd

        columns: dict[str, Any] = {
            "estimate": self.estimate,
            "null_value": self.null_value,
            "std_error": self.std_error,
            "statistic": self.statistic,
            "p_value": self.p_value,
            "conf_low": self.conf_low,
            "conf_high": self.conf_high,
            "note": list(self.notes),
        }
        return pd.DataFrame(columns, index=pd.Index(list(self.restrictions), name="restriction"))

    def summary(self) -> str:
        """The table as text."""
        letter = "z" if self.df is None else "t"
        title = "Tests of linear restrictions" + ("" if self.df is None else f", Student's t with {self.df:g} df")
        rows = (self.estimate, self.std_error, self.conf_low, self.conf_high)
        return small_table(title, self.restrictions, rows, self.statistic, self.p_value, self.notes, self.alpha, letter)

    def __repr__(self) -> str:
        return self.summary()


def small_table(
    title: str,
    names: Sequence[str],
    rows: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    statistic: np.ndarray,
    p_value: np.ndarray,
    notes: Sequence[str],
    alpha: float,
    letter: str = "z",
) -> str:
    """Estimates, errors, tests and limits as aligned text, the notes below.

    Args:
      title: first line.
      names: m row names.
      rows: four (m,) arrays: estimate, standard error, lower, upper.
      statistic: (m,) statistics.
      p_value: (m,) p-values.
      notes: m strings.
      alpha: 1 - coverage.
      letter: name of the statistic.

    Returns:
      Several lines, without a final newline.
    """
    texts = format_estimates([tuple(map(float, row)) for row in zip(*rows, strict=True)])  # type: ignore[misc]
    cells = [["", "coef", "std err", letter, f"P>|{letter}|", *percent_labels(alpha)]]
    for name, (coef, error, low, high), z, p in zip(names, texts, statistic, p_value, strict=True):
        cells.append([name, coef, error, format_statistic(float(z)), format_p(float(p)), low, high])
    lines = table_lines(cells)
    width = max(map(len, lines))
    said = [f"  {name}: {note}" for name, note in zip(names, notes, strict=True) if note]
    return "\n".join([title, "-" * width, lines[0], "-" * width, *lines[1:], "-" * width, *said])


def t_test(
    R: ArrayLike,
    r: ArrayLike,
    theta: ArrayLike,
    cov: ArrayLike,
    *,
    alpha: float = 0.05,
    labels: Sequence[str] = (),
    df: float | None = None,
    reason: str = "",
) -> TTest:
    """Every restriction on its own: R theta, its standard error, the test against r and an interval.

    Args:
      R: (m, k) restrictions.
      r: (m,) or scalar null values.
      theta: (k,) estimates.
      cov: (k, k) covariance, NaN where it does not exist.
      alpha: 1 - coverage of the intervals, which are symmetric on the natural scale.
      labels: m labels.
      df: degrees of freedom of Student's t; None for the normal distribution.
      reason: why the covariance has NaN, if the caller knows.

    Returns:
      `TTest`. A combination without sampling variation has standard error 0, no statistic and a note.

    Raises:
      ValueError: wrong shapes, alpha outside (0, 1).

    >>> test = t_test([[1.0, -1.0]], 0.0, [1.0, 3.0], [[1.0, 0.0], [0.0, 1.0]])
    >>> test.estimate.tolist(), test.std_error.round(4).tolist(), test.p_value.round(4).tolist()
    ([-2.0], [1.4142], [0.1573])
    """
    check_alpha(alpha)
    R_, r_, theta_, cov_ = check_arguments(R, r, theta, cov)
    labels = tuple(labels) if labels else tuple(f"restriction {i}" for i in range(r_.size))
    # 0 times NaN is 0 here as well: an entry that is not used cannot spoil a combination.
    used = R_ != 0
    estimate = np.sum(np.where(used, R_ * np.where(used, theta_, 0.0), 0.0), axis=1)
    error = standard_errors(R_, cov_)
    notes = []
    for value, e in zip(estimate, error, strict=True):
        if not np.isfinite(value):
            notes.append("an estimate that is used is not finite")
        elif np.isnan(e):
            notes.append(reason or NO_COVARIANCE)
        else:
            notes.append("known exactly: no sampling variation" if e == 0 else "")
    usable = np.isfinite(error) & (error > 0) & np.isfinite(estimate)
    statistic = np.where(usable, (estimate - r_) / np.where(usable, error, 1.0), np.nan)
    reach = critical_value(alpha, df) * error
    return TTest(
        labels,
        estimate,
        r_,
        error,
        statistic,
        two_sided_p(statistic, df),
        estimate - reach,
        estimate + reach,
        tuple(notes),
        float(alpha),
        df,
    )
