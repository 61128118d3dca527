"""The result of a simulation study: tables with Monte Carlo errors, and a figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlejax.inference.tables.formatting import table
from mlejax.notebook import Text, in_notebooks
from mlejax.plot import diagnostics
from mlejax.verdict import CONVERGED

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure



@in_notebooks
@dataclass(frozen=True, eq=False)
class Studied:
    """The fits of all R simulated data sets of one size.

    Attributes:
        n_rows: rows of a data set.
        labels: names of the parameter entries (r,).
        truth: true values (r,), natural scale.
        fixed: True for entries that are not estimated (r,).
        values, errors, low, high: estimates, standard errors and confidence limits, natural scale (R, r); errors and limits are
            NaN where there is none.
        codes: verdict codes of the fits (R,).
        bound: Cramer-Rao bounds of the variances (r,); NaN for fixed entries, and for all without a positive definite
            information.
    """

    n_rows: int
    labels: tuple[str, ...]
    truth: np.ndarray
    fixed: np.ndarray
    values: np.ndarray
    errors: np.ndarray
    low: np.ndarray
    high: np.ndarray
    codes: np.ndarray
    bound: np.ndarray

    @property
    def good(self) -> np.ndarray:
        """True for the fits that ended at a maximum, (R,)."""
        return np.isin(self.codes.astype(str), CONVERGED)

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of the table, one dict for each entry that is not fixed, with the columns of
        `SimulationStudy.frame`; only n, term, truth and n_good if fewer than two fits ended at a maximum.
        """
        out = []
        for j in np.flatnonzero(~self.fixed).tolist():
            t, se = self.values[self.good, j], self.errors[self.good, j]
            known = np.isfinite(self.low[self.good, j])
            inside = (self.low[self.good, j] <= self.truth[j]) & (self.truth[j] <= self.high[self.good, j])
            R, m = len(t), int(known.sum())
            if R < 2:
                out.append({"n": self.n_rows, "term": self.labels[j], "truth": self.truth[j], "n_good": R})
                continue
            centred, variance = t - t.mean(), t.var(ddof=1)
            share = float(inside[known].mean()) if m else np.nan
            efficiency = self.bound[j] / variance if variance > 0 else np.nan
            with np.errstate(invalid="ignore", divide="ignore"):
                spread = np.sqrt(max(np.mean(centred**4) / variance**2 - 1.0, 0.0) / R)
            some = np.isfinite(se)
            out.append({
                "n": self.n_rows, "term": self.labels[j], "truth": self.truth[j],
                "bias": t.mean() - self.truth[j], "bias_mc": np.sqrt(variance / R),
                "rmse": np.sqrt(np.mean((t - self.truth[j]) ** 2)), "sd": np.sqrt(variance),
                "mean_se": float(se[some].mean()) if some.any() else np.nan,
                "coverage": share, "coverage_mc": np.sqrt(share * (1 - share) / m) if m else np.nan,
                "efficiency": efficiency, "efficiency_mc": efficiency * spread, "n_good": R, "n_intervals": m,
            })  # fmt: skip
        return out


@dataclass(frozen=True, eq=False, repr=False)
class SimulationStudy:
    """Behaviour of the estimates over many data sets simulated with known parameters; prints as a table.

    Attributes:
        parts: results, one for each size of the data.
        model: name of the model.
        cov_type: the kind of covariance of the standard errors.
        n_reps: number of data sets of each size.
        seed: seed of the draws.
        alpha: one minus the nominal coverage.
        start: where the fits started: ``"truth"`` or ``"search"``.
    """

    parts: tuple[Studied, ...]
    model: str
    cov_type: str
    n_reps: int
    seed: int
    alpha: float
    start: str

    def frame(self) -> pd.DataFrame:
        """Return a DataFrame with one row for each size and entry that is not fixed, over the fits that ended at a maximum.

        Returns:
            Columns ``n``, ``term`` (its name), ``truth``; ``bias`` and its Monte Carlo error ``bias_mc``; ``rmse``; ``sd``, the
            standard deviation of the estimates, and ``mean_se``, the mean of their standard errors; ``coverage`` of the
            intervals, with ``coverage_mc``; ``efficiency``, the Cramer-Rao bound (of unbiased estimators) over the variance, with
            ``efficiency_mc``; ``n_good``, fits used, and ``n_intervals``, intervals used (there is none close to a bound).  All
            but the first three and ``n_good`` are NaN where fewer than two fits ended at a maximum (left out, if that is so in
            every row); ``mean_se`` also without any standard error, coverage without any interval, and efficiency without a
            bound.
        """
        import pandas as pd

        return pd.DataFrame([row for part in self.parts for row in part.rows()])

    def verdicts(self) -> pd.DataFrame:
        """Return the share of fits with each verdict: one row for each size (in the index, ``n``), one column for each verdict
        that occurred.
        """
        import pandas as pd

        shares = [{str(c): float(np.mean(part.codes == c)) for c in np.unique(part.codes)} for part in self.parts]
        table = pd.DataFrame(shares, index=pd.Index([part.n_rows for part in self.parts], name="n")).fillna(0.0)
        return table[sorted(table.columns, key=lambda c: (c not in CONVERGED, c))]

    def params(self, n_rows: int) -> pd.DataFrame:
        """Return the estimates at one size, natural scale: one row for each data set, one column for each entry; NaN where a
        fit did not end at a maximum.

        Raises:
            KeyError: no data sets of ``n_rows`` rows were drawn.
        """
        return self._frame(n_rows, "values")

    def bse(self, n_rows: int) -> pd.DataFrame:
        """Return the standard errors at one size: one row for each data set, one column for each entry; NaN where a fit did not
        end at a maximum or has no standard error.

        Raises:
            KeyError: no data sets of ``n_rows`` rows were drawn.
        """
        return self._frame(n_rows, "errors")

    def summary(self) -> Text:
        """Return the table as text; Monte Carlo errors are in parentheses."""
        head = ["n", "term", "truth", "bias", "rmse", "sd", "mean std err", "coverage", "efficiency"]
        cells = [head, *map(_cells, self.frame().to_dict("records"))]
        lines = [
            f"Simulation study of {self.model}: {self.n_reps} data sets of each size, seed {self.seed}, {self.cov_type} errors, "
            f"fits started at {'the truth' if self.start == 'truth' else 'a search of their own'}",
            f"(in parentheses Monte Carlo errors; nominal coverage {1 - self.alpha:g}; efficiency against the Cramer-Rao bound)",
            "",
            table(cells, left=2),
            "",
            *self._verdict_lines(),
        ]
        return Text(lines)

    def __repr__(self) -> str:
        return self.summary()

    __str__ = __repr__

    def plot(self) -> Figure:
        """Plot bias, spread, coverage and efficiency against the number of rows: one column of panels for each entry.

        Returns:
            A matplotlib ``Figure``; ``figure.savefig(path)`` keeps it.

        Raises:
            ImportError: matplotlib is not installed.
        """
        return diagnostics.study(self.frame(), self.alpha)

    # ---- behind the doors

    def _frame(self, n_rows: int, name: str) -> pd.DataFrame:
        import pandas as pd

        found = [part for part in self.parts if part.n_rows == n_rows]
        if not found:
            raise KeyError(f"no data sets of {n_rows} rows were drawn; give one of {[part.n_rows for part in self.parts]}")
        part = found[0]
        values = np.where(part.good[:, None], getattr(part, name), np.nan)
        return pd.DataFrame(values, columns=list(part.labels))

    def _verdict_lines(self) -> list[str]:
        out = []
        for part in self.parts:
            codes, counts = np.unique(part.codes.astype(str), return_counts=True)
            order = sorted(range(len(codes)), key=lambda i: (codes[i] not in CONVERGED, -counts[i]))
            shares = ", ".join(f"{codes[i].replace('_', ' ')} {100 * counts[i] / len(part.codes):.4g} %" for i in order)
            out.append(f"Verdicts at n = {part.n_rows}: {shares}")
            if len(part.codes) < self.n_reps:
                out.append(f"Interrupted after {len(part.codes)} of {self.n_reps} data sets.")
            if not part.good.all():
                out.append(f"  {int((~part.good).sum())} fits without a maximum are left out of the table.")
        return out


def _cells(row: dict[str, Any]) -> list[str]:
    """Return one row of `SimulationStudy.frame` as strings, with "." for numbers that do not exist."""
    names = [f"{row['n']}", str(row["term"]), f"{row['truth']:.4g}"]
    if not np.isfinite(row.get("bias", np.nan)):
        return [*names, *["."] * 6]
    sizes = [f"{row['bias']:.2g} ({row['bias_mc']:.1g})", f"{row['rmse']:.4g}", f"{row['sd']:.4g}"]
    errors = [_with_error(row[name], row[f"{name}_mc"]) for name in ("coverage", "efficiency")]
    return [*names, *sizes, f"{row['mean_se']:.4g}" if np.isfinite(row["mean_se"]) else ".", *errors]


def _with_error(value: float, error: float) -> str:
    return f"{value:.4f} ({error:.4f})" if np.isfinite(value) else "."
