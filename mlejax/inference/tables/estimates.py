"""Base class of results that are tables of quantities with standard errors, z tests and intervals."""

from __future__ import annotations

import textwrap
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from mlejax.inference.intervals.simultaneous import Adjustment, Simultaneous, adjusted_pvalues, pointwise_alpha
from mlejax.inference.normal import critical_value
from mlejax.inference.tables.formatting import small_table
from mlejax.notebook import Text, in_notebooks

if TYPE_CHECKING:
    import pandas as pd


@in_notebooks
@dataclass(frozen=True, eq=False, repr=False)
class Estimates(ABC):
    """Quantities with standard errors; prints as a table.

    Attributes:
        title: first line of the table.
        labels: m names of the quantities.
        params: values, natural scale (m,).
        bse: standard errors (m,); NaN where there is none.
        tvalues: z statistics (m,); NaN where there is no test.
        pvalues: two-sided p-values (m,).
        conf_low, conf_high: confidence limits (m,); NaN where there is no interval.
        notes: m strings: why a number is missing or doubtful, else empty.
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
        """``"t"`` if the statistics have finite degrees of freedom, else ``"z"``."""
        return "z" if np.isinf(getattr(self, "df", np.inf)) else "t"

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences printed below the table; none by default."""
        return ()

    @abstractmethod
    def cov_params(self) -> pd.DataFrame:
        """Return the covariance of the quantities (m, m), natural scale."""

    def conf_int(self, method: Literal["wald"] | Simultaneous = "wald") -> pd.DataFrame:
        """Return confidence intervals: one row for each quantity, its name in the index, and columns ``lower`` and ``upper``, NaN
        without a standard error, and by ``"wald"`` where the table has no interval; coverage 1 - ``alpha`` of the table.

        Args:
            method: ``"wald"``: each interval has coverage 1 - alpha.  Joint coverage 1 - alpha: ``"bonferroni"``, ``"sidak"``,
                ``"scheffe"`` (holds for every linear combination too), ``"max-z"``, exact for normal estimates
                (single-step in R's ``multcomp``); these are symmetric, estimate -+ a multiple of the standard error.

        Raises:
            ValueError: another method.
        """
        import pandas as pd

        low, high = self.conf_low, self.conf_high
        if method not in (known := ("wald", *get_args(Simultaneous))):
            raise ValueError(f"method={method!r}: expected one of {', '.join(map(repr, known))}")
        if method != "wald":
            df = getattr(self, "df", np.inf)
            reach = critical_value(pointwise_alpha(method, self.alpha, self.cov_params(), df), df)
            low, high = self.params - reach * self.bse, self.params + reach * self.bse
        return pd.DataFrame({"lower": low, "upper": high}, index=list(self.labels))

    def adjusted_pvalues(self, method: Adjustment = "holm") -> pd.Series:
        """Return p-values adjusted for multiple tests: they control the family-wise error rate.

        Args:
            method: ``"holm"``, ``"bonferroni"``, ``"sidak"``, ``"scheffe"`` or ``"max-z"`` (multcomp's single-step); ValueError
                for others.

        Returns:
            One p-value for each quantity; NaN where there is no test.
        """
        import pandas as pd

        found = adjusted_pvalues(method, self.tvalues, self.cov_params(), getattr(self, "df", np.inf))
        return pd.Series(found, index=list(self.labels), name=f"p ({method})")

    def frame(self) -> pd.DataFrame:
        """Return a DataFrame with one row for each quantity, its name in the index (``term``), and the columns estimate,
        std_error, statistic, p_value, conf_low, conf_high (as in broom) and note.
        """
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

    def summary(self) -> Text:
        """Return the table and its remarks as text."""
        rows = (self.params, self.bse, self.conf_low, self.conf_high)
        text = small_table(
            self.title, self.labels, rows, self.tvalues, self.pvalues, self.notes, self.alpha, self.letter
        )
        return Text([text, *("\n".join(textwrap.wrap(remark, 78)) for remark in self.remarks)])

    def __repr__(self) -> str:
        return self.summary()
