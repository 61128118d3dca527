"""A table of quantities with their standard errors, z tests and intervals: what tests, `nlcom` and subsets return."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlejax.inference.formatting import small_table

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class Estimates:
    """Quantities with standard errors; prints as a table.

    Attributes:
        title: first line of the table.
        labels: m names.
        params: values, natural scale (m,).
        bse: standard errors (m,); NaN where there is none.
        tvalues: z statistics (m,); NaN where there is no test.
        pvalues: two-sided (m,).
        conf_low, conf_high: limits of the intervals (m,).
        notes: m texts, empty where there is nothing to say.
        alpha: 1 - coverage of the intervals.
    """

    title: str
    labels: tuple[str, ...]
    params: np.ndarray
    bse: np.ndarray
    tvalues: np.ndarray
    pvalues: np.ndarray
    conf_low: np.ndarray
    conf_high: np.ndarray
    notes: tuple[str, ...]
    alpha: float

    @property
    def letter(self) -> str:
        """``"z"``, or ``"t"`` where the reference is Student's."""
        return "z" if np.isinf(getattr(self, "df", np.inf)) else "t"

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences below the table."""
        return ()

    def conf_int(self) -> pd.DataFrame:
        """Columns ``lower`` and ``upper``."""
        import pandas as pd

        return pd.DataFrame({"lower": self.conf_low, "upper": self.conf_high}, index=list(self.labels))

    def table(self) -> pd.DataFrame:
        """One row a quantity, broom's columns: estimate, std_error, statistic, p_value, conf_low, conf_high, note."""
        import pandas as pd

        columns = {
            "estimate": self.params,
            "std_error": self.bse,
            "statistic": self.tvalues,
            "p_value": self.pvalues,
            "conf_low": self.conf_low,
            "conf_high": self.conf_high,
            "note": list(self.notes),
        }
        return pd.DataFrame(columns, index=pd.Index(list(self.labels), name="term"))

    def summary(self) -> str:
        """The table as text."""
        rows = (self.params, self.bse, self.conf_low, self.conf_high)
        text = small_table(
            self.title, self.labels, rows, self.tvalues, self.pvalues, self.notes, self.alpha, self.letter
        )
        return "\n".join([text, *(line for remark in self.remarks for line in textwrap.wrap(remark, 78))])

    def __repr__(self) -> str:
        return self.summary()
