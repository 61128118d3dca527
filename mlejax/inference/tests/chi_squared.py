"""The result of a joint test of restrictions with a chi-squared reference distribution, which most tests return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mlejax.inference.tables.formatting import format_statistic, format_test_p, stated_p
from mlejax.notebook import Text, in_notebooks

if TYPE_CHECKING:
    import pandas as pd


@in_notebooks
@dataclass(frozen=True, eq=False, repr=False)
class ChiSquared:
    """A joint test of restrictions.

    Attributes:
      statistic: value of the test statistic; NaN if there is no result.
      df: degrees of freedom, the rank of the restrictions' covariance; 0 if there is no result.
      pvalue: upper tail probability; NaN if there is no result.
      restrictions: one label for each restriction.
      note: remark on the result (such as redundant restrictions); may be empty.
      reason: why there is no result; empty if there is one.
    """

    statistic: float
    df: int
    pvalue: float
    restrictions: tuple[str, ...] = ()
    note: str = ""
    reason: str = ""
    title: ClassVar[str] = "Test"

    @property
    def distribution(self) -> str:
        """Name of the reference distribution, ``chi2``; some tests have another."""
        return "chi2"

    @property
    def statement(self) -> str:
        """The statistic and its p-value in one line.

        >>> ChiSquared(5.31, 2, 0.0703).statement
        'chi2(2) = 5.310, p = 0.0703'
        """
        return f"{self._stated}, {stated_p(self.pvalue)}"

    @property
    def _degrees(self) -> str:
        return f"{self.df}"

    @property
    def _stated(self) -> str:
        return f"{self.distribution}({self._degrees}) = {format_statistic(self.statistic)}"

    def summary(self) -> Text:
        """Return as text the restrictions and the test, or the reason why it has no result.

        >>> print(ChiSquared(5.31, 2, 0.0703, restrictions=("a = b", "c = 1")).summary())
        Test
          (1)  a = b
          (2)  c = 1
        <BLANKLINE>
          chi2(2) = 5.310    Prob > chi2 = 0.0703
        """
        lines = [self.title, *numbered(self.restrictions), ""]
        if self.reason:
            lines.append(f"  not available: {self.reason}")
        else:
            lines.append(f"  {self._stated}    Prob > {self.distribution} = {format_test_p(self.pvalue)}")
            if self.note:
                lines.append(f"  note: {self.note}")
        return Text(lines)

    def frame(self) -> pd.DataFrame:
        """Return a DataFrame with one row, the name of the test in the index (``test``): statistic, df, p_value, note (the
        ``reason`` if there is no result).
        """
        import pandas as pd

        row = {"statistic": self.statistic, "df": self.df, "p_value": self.pvalue, "note": self.reason or self.note}
        return pd.DataFrame([row], index=pd.Index([self.title], name="test"))

    def __repr__(self) -> str:
        name = type(self).__name__
        if self.reason:
            return f"{name}(not available: {self.reason})"
        return f"{name}({self.statement})"


def numbered(restrictions: Sequence[str], most: int = 20) -> list[str]:
    """Return one line for each restriction, ``(1)  a = b``; the middle of a list longer than ``most`` is left out.

    >>> numbered(["a = b"])
    ['  (1)  a = b']
    """
    width = len(str(len(restrictions)))
    lines = [f"  ({i + 1:>{width}})  {text}" for i, text in enumerate(restrictions)]
    if len(lines) > most:
        half = most // 2
        return [*lines[:half], f"  ... {len(lines) - 2 * half} more ...", *lines[-half:]]
    return lines
