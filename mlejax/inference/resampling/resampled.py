"""Base class of bootstrap and jackknife results: estimates of many refits, printed with the number of failures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from mlejax.execution import evaluated, float64
from mlejax.fit import Fit
from mlejax.inference.resampling.refitting import Replicates
from mlejax.inference.tables.formatting import format_estimates, percent_labels, table
from mlejax.notebook import Text, in_notebooks
from mlejax.shapes import Bool, Float, Host, PyTree

if TYPE_CHECKING:
    import pandas as pd


@in_notebooks
@dataclass(frozen=True, eq=False, repr=False)
class Resampled(ABC):
    """Estimates of a fit and of its refits to resampled data.

    Attributes:
        labels: names of the parameter entries.
        fitted: estimates of the fit (r,).
        fixed: True for fixed entries (r,).
        refits: estimates of the refits.
        approximate: True if each refit is one Newton step from the estimate.
        model: name of the model.
    """

    labels: tuple[str, ...]
    fitted: np.ndarray
    fixed: np.ndarray
    refits: Replicates
    approximate: bool
    model: str

    @property
    def params(self) -> pd.Series:
        """Estimates of the fit from which the refits start, natural scale (r,)."""
        return self._series(self.fitted, "coef")

    @property
    def bse(self) -> pd.Series:
        """Standard errors from the refits; NaN for fixed entries, and (jackknife) for entries that are equal in all refits, at a
        bound, and for all entries if a refit failed.
        """
        return self._series(self._errors, "std err")

    @property
    def bias(self) -> pd.Series:
        """Estimated bias of each entry; NaN for fixed entries, and (jackknife) for all entries if a refit failed."""
        return self._series(self._bias, "bias")

    def cov_params(self) -> pd.DataFrame:
        """Return the covariance of the estimates from the refits (r, r); for the jackknife and the half-panel jackknife NaN
        where :attr:`bse` is.
        """
        import pandas as pd

        return pd.DataFrame(self._covariance, index=list(self.labels), columns=list(self.labels))

    def frame(self, alpha: float = 0.05) -> pd.DataFrame:
        """Return a DataFrame with one row for each entry, its name in the index (``term``): estimate, bias, std_error, conf_low,
        conf_high, as in :meth:`summary`; limits are NaN where :attr:`bse` is.

        ``alpha`` is one minus the coverage; ValueError unless it is above 0 and at most 0.5.
        """
        import pandas as pd

        low, high = self._reach(alpha)
        columns = {"estimate": self.fitted, "bias": self._bias, "std_error": self._errors, "conf_low": low, "conf_high": high}
        return pd.DataFrame(columns, index=pd.Index(list(self.labels), name="term"))

    @property
    def n(self) -> int:
        """Number of refits requested."""
        return len(self.refits.good)

    @property
    def n_failed(self) -> int:
        """Number of refits that did not end at a maximum, or were not run; their rows of :attr:`replicates` are NaN."""
        return int((~self.refits.good).sum())

    @property
    def failed(self) -> Mapping[str, int]:
        """Dict from a reason to the number of refits that failed for it; empty if none did."""
        return dict(self.refits.failures)

    @property
    def failed_statement(self) -> str:
        """Phrase such as "3 of 1000 refits failed (0.3 %): 3 max steps", with the number of each reason."""
        why = ", ".join(f"{count} {reason}" for reason, count in self.refits.failures.items())
        percent = 100.0 * self.n_failed / self.n
        share = f"{self.n_failed} of {self.n} refits failed ({percent:{'.2g' if percent < 10 else '.0f'}} %)"
        return f"{share}: {why}" if why else share

    @property
    def replicates(self) -> pd.DataFrame:
        """Estimates of the refits, natural scale: one row for each refit, NaN if it failed."""
        import pandas as pd

        return pd.DataFrame(np.array(self.refits.values), columns=list(self.labels))

    @property
    @abstractmethod
    def _errors(self) -> Float[Host, " r"]: ...

    @property
    @abstractmethod
    def _bias(self) -> Float[Host, " r"]: ...

    @property
    @abstractmethod
    def _covariance(self) -> Float[Host, "r r"]: ...

    @abstractmethod
    def _reach(self, alpha: float) -> tuple[Float[Host, " r"], Float[Host, " r"]]: ...

    @abstractmethod
    def summary(self) -> Text:
        """Return the table of :meth:`frame` as text, with the number of failed refits."""

    def _series(self, values: np.ndarray, name: str) -> pd.Series:
        import pandas as pd

        return pd.Series(values, index=list(self.labels), name=name)

    def _lines(self, head: str, alpha: float, low: np.ndarray, high: np.ndarray, more: list[str]) -> list[str]:
        """Return the lines of the table: ``head``, the number of failures, the lines ``more``, then a row for each entry with
        its estimate, bias, standard error and limits ``low`` and ``high`` (r,).
        """
        rows = [tuple(map(float, row)) for row in zip(self.fitted, self._errors, low, high, strict=True)]
        biases = [f"{b:.2g}" if np.isfinite(b) else "." for b in self._bias]
        body = [
            [name, coef, bias, *rest]
            for name, bias, (coef, *rest) in zip(self.labels, biases, format_estimates(rows), strict=True)  # type: ignore[arg-type]
        ]
        how = "one Newton step each, an approximation" if self.approximate else "exact refits"
        shown = table([["", "coef", "bias", "std err", *percent_labels(alpha)], *body])
        return [head, f"Refits: {how}; {self.failed_statement}", *more, "", shown]

    def __repr__(self) -> str:
        return self.summary()

    __str__ = __repr__


def facts_of(fit: Fit) -> tuple[tuple[str, ...], Float[Host, " r"], Bool[Host, " r"]]:
    """Return the first fields of `Resampled` for a fit: labels, estimates (r,), and True for fixed entries (r,)."""
    space = fit.spec.space
    return tuple(space.labels), space.reported(fit.params), np.asarray(space.reported_fixed)


def mapped(
    function: Callable[[Any], Any], params: PyTree, name: str, n: int
) -> tuple[tuple[str, ...], Float[Host, "n r"]]:
    """Evaluate a function of params for n sets of params (leading axis); return labels (r,) and values (n, r).

    Labels are the keys of the dict that the function returns, or ``name``, followed by [0], [1], ... for arrays.
    """
    with float64():
        out = evaluated(jax.vmap(function), params)
    parts = out if isinstance(out, dict) else {name: out}
    labels: list[str] = []
    values = []
    for key, value in parts.items():
        flat = np.asarray(value, np.float64).reshape(n, -1)
        labels += [str(key)] if np.ndim(value) == 1 else [f"{key}[{i}]" for i in range(flat.shape[1])]
        values.append(flat)
    return tuple(labels), np.concatenate(values, axis=1)
