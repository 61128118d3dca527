r"""Rubin's rules: pool the estimates of m completed (multiply imputed) data sets.

With estimates q_j and covariances U_j, j = 1 ... m,

.. math:: \bar q = \tfrac1m \sum q_j, \quad \bar U = \tfrac1m \sum U_j, \quad
          B = \tfrac1{m-1} \sum (q_j - \bar q)(q_j - \bar q)', \quad T = \bar U + (1 + \tfrac1m) B,

and for each entry lambda = (1 + 1/m) B / T, degrees of freedom of Barnard & Rubin (1999)

.. math:: \nu^{-1} = \frac{\lambda^2}{m - 1} + \Big( \frac{\nu_c + 1}{\nu_c + 3}\,\nu_c (1 - \lambda) \Big)^{-1},

nu_c those of complete data.  Joint tests are F tests, D1 of Li, Raghunathan & Rubin (1991), with covariance (1 + r) U, r the
average relative increase of the variance, and the degrees of freedom of Reiter (2007, *Biometrika* 94), which are those of Li
et al. for infinite nu_c; of one entry it is the square of the t test.

Rubin (1987), *Multiple Imputation for Nonresponse in Surveys*; as in R's mice and Stata's ``mi estimate``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlejax.fit import counts
from mlejax.inference.normal import check_alpha, stretched, two_sided_p
from mlejax.inference.tables.entries import Entries, entry_intervals
from mlejax.inference.tables.estimates import Estimates
from mlejax.inference.tests.wald import WaldTest
from mlejax.shapes import Float, Host

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class Pooled(Estimates):
    """Estimates pooled over imputed data sets; prints as a table.

    Attributes:
        within: mean over the fits of their covariances of the entries (r, r).
        between: covariance of the estimates over the fits (r, r), divisor m - 1.
        df_entries: degrees of freedom of Student's t for each entry (r,); NaN for fixed entries, inf if the estimates are the
            same in all data sets and ``df_complete`` is inf.
        fmi: fraction of missing information for each entry (r,); NaN for fixed entries.
        n_sets: number of imputed data sets m.
        df_complete: degrees of freedom of complete data nu_c.
    """

    within: np.ndarray
    between: np.ndarray
    df_entries: np.ndarray
    fmi: np.ndarray
    n_sets: int
    df_complete: float
    letter = "t"

    @property
    def total(self) -> Float[Host, "r r"]:
        """The pooled covariance (Rubin's T) = within + (1 + 1/m) between, (r, r)."""
        return np.asarray(self.within + (1.0 + 1.0 / self.n_sets) * self.between)

    @property
    def remarks(self) -> tuple[str, ...]:
        """One string, in a tuple: smallest to largest degrees of freedom of the entries, and the largest fraction of missing
        information, if one is known.
        """
        known = self.fmi[np.isfinite(self.fmi)]
        worst = f" Fractions of missing information up to {known.max():.2g}." if known.size else ""
        return (f"t with {_span(self.df_entries)} degrees of freedom (Barnard & Rubin 1999).{worst}",)

    def cov_params(self) -> pd.DataFrame:
        """Return the pooled covariance (Rubin's T) of the estimates, (r, r)."""
        import pandas as pd

        return pd.DataFrame(self.total, index=list(self.labels), columns=list(self.labels))

    def frame(self) -> pd.DataFrame:
        """Return a DataFrame with one row for each entry, its name in the index (``term``): estimate, std_error, statistic,
        p_value, conf_low, conf_high, ``df``, ``fmi``, ``riv`` (the relative increase of the variance; NaN for fixed entries) and
        note.
        """
        with np.errstate(all="ignore"):
            increase = (1.0 + 1.0 / self.n_sets) * np.diag(self.between) / np.diag(self.within)
        table = super().frame()
        where = table.columns.get_loc("note")
        for name, values in (("riv", increase), ("fmi", self.fmi), ("df", self.df_entries)):
            table.insert(where, name, values)
        return table

    def wald_test(self, entries: str | Sequence[str] | None = None, value: float = 0.0) -> WaldTest:
        """Test jointly that entries have a given value: the F test D1 of Li, Raghunathan & Rubin (1991), with the degrees of
        freedom of Reiter (2007); of one entry the square of its t test.

        If the estimates are the same in all data sets, it is the chi-squared test.

        Args:
            entries: names of the entries; all by default.
            value: value of every entry under the null hypothesis, natural scale.

        Raises:
            ValueError: an entry does not exist, is fixed or has no standard error, or the estimates are linearly dependent.
        """
        names = list(self.labels) if entries is None else [entries] if isinstance(entries, str) else list(entries)
        if unknown := [name for name in names if name not in self.labels]:
            raise ValueError(f"wald_test: no entry {unknown[0]!r}; name some of {', '.join(self.labels)}")
        at = [self.labels.index(name) for name in names]
        W, B, m, k = self.within[np.ix_(at, at)], self.between[np.ix_(at, at)], self.n_sets, len(at)
        if without := [name for name, v in zip(names, np.diag(W), strict=True) if not np.isfinite(v)]:
            raise ValueError(f"wald_test: {', '.join(without)} has no standard error; leave it out")
        if fixed := [name for name, i in zip(names, at, strict=True) if np.isnan(self.df_entries[i])]:
            raise ValueError(f"wald_test: {', '.join(fixed)} is fixed; leave it out")
        if np.linalg.matrix_rank(W) < k:
            raise ValueError("wald_test: the estimates of these entries are linearly dependent; name fewer of them")
        r = (1.0 + 1.0 / m) * float(np.trace(B @ np.linalg.inv(W))) / k
        gap = self.params[at] - value
        statistic = float(gap @ np.linalg.solve(W, gap)) / (k * (1.0 + r))
        from scipy.special import chdtrc, fdtrc

        labels = tuple(f"{name} = {value:g}" for name in names)
        if r == 0.0:
            return WaldTest(k * statistic, k, float(chdtrc(k, k * statistic)), labels)
        df = float(self.df_entries[at[0]]) if k == 1 else _df_joint(k, m, r, self.df_complete)
        return WaldTest(statistic, k, float(fdtrc(k, df, statistic)), labels, df_denominator=df)


def pooled(fits: Sequence[Entries], df_complete: float | None = None, alpha: float = 0.05) -> Pooled:
    """Pool the entries of several fits by Rubin's rules.

    Args:
        fits: fits of the same model, one for each completed data set.
        df_complete: degrees of freedom of complete data, inf for large samples.  Default: the smallest, over the fits, of two
            numbers: observations minus free parameters (inf if not positive), and degrees of freedom of the covariance.
        alpha: one minus the coverage of the intervals, which are computed on the link scale and lie inside the supports.

    Raises:
        ValueError: fewer than two fits, fits with different entries, fixed values or kinds of covariance, a fit that did not
            end at a maximum, or alpha outside (0, 0.5].
    """
    check_alpha(alpha)
    m = len(fits)
    if m < 2:
        raise ValueError(f"pool: expected the fits of two or more imputed data sets, got {m}")
    _check_alike(fits)
    q, U = np.array([one.params for one in fits]), np.array([one.covariance for one in fits])
    mean, W, B = q.mean(axis=0), U.mean(axis=0), np.cov(q, rowvar=False).reshape(q.shape[1], -1)
    variance = np.diag(W) + (1.0 + 1.0 / m) * np.diag(B)
    bse = np.where(variance > 0, np.sqrt(np.maximum(variance, 0.0)), np.nan)
    if df_complete is None:
        df_complete = min(_df_complete(one) for one in fits)
    df, fmi = _degrees(np.diag(B), variance, m, df_complete)
    space = fits[0].space
    testable = space.zero_is_interior & np.isfinite(bse)
    t = np.where(testable, mean / np.where(testable, bse, 1.0), np.nan)
    p = two_sided_p(t, df)
    limits = entry_intervals(space, mean, stretched(bse, alpha, df), alpha)
    is_fixed = space.reported_fixed
    notes = tuple(
        "fixed" if h else next((one.notes[i] for one in fits if one.notes[i]), limits.notes[i])
        for i, h in enumerate(is_fixed)
    )
    title = f"Pooled over {m} data sets (Rubin's rules)"
    ends = (limits.low, limits.high)
    return Pooled(title, tuple(fits[0].labels), mean, bse, t, p, *ends, notes, alpha, W, B, df, fmi, m, df_complete)


def _check_alike(fits: Sequence[Entries]) -> None:
    """Raise ValueError as `pooled` does for fits that cannot be pooled with the first one."""
    first = fits[0]
    for i, one in enumerate(fits):
        if one.labels != first.labels:
            lost = sorted(set(one.labels) ^ set(first.labels)) or ["in another order"]
            raise ValueError(
                f"pool: expected fits with the same entries; fit {i + 1} differs from the first: {', '.join(lost)}"
            )
        fixed = one.space.reported_fixed
        if (fixed != first.space.reported_fixed).any() or (one.params[fixed] != first.params[fixed]).any():
            raise ValueError(
                f"pool: expected the same parameters fixed at the same values; fit {i + 1} differs from the first"
            )
        if one.cov.kind != first.cov.kind:
            raise ValueError(
                f"pool: expected covariances of one kind; fit {i + 1} has {one.cov.kind!r}, the first {first.cov.kind!r}: choose "
                "one by with_cov"
            )
        if not one.fit.verdict.converged:
            code = one.fit.verdict.code.replace("_", " ")
            raise ValueError(
                f"pool: fit {i + 1} did not end at a maximum ({code}); leave it out, or fit it again"
            )


def _df_complete(one: Entries) -> float:
    left = float(counts(one.fit.loaded)[0]) - one.space.n_free
    return min(left if left > 0 else np.inf, one.cov.df)


def _degrees(
    between: Float[Host, " r"], total: Float[Host, " r"], m: int, complete: float
) -> tuple[Float[Host, " r"], Float[Host, " r"]]:
    """Return degrees of freedom and fractions of missing information, (r,) each; NaN for fixed entries.

    Args:
        between: variances of the estimates over the data sets.
        total: pooled variances.
        m: number of data sets.
        complete: degrees of freedom of complete data.
    """
    with np.errstate(all="ignore"):
        share = (1.0 + 1.0 / m) * between / total
        inverse = share**2 / (m - 1.0)
        if np.isfinite(complete):
            inverse = inverse + 1.0 / ((complete + 1.0) / (complete + 3.0) * complete * (1.0 - share))
        df = 1.0 / inverse
        riv = share / (1.0 - share)
        return df, (riv + 2.0 / (df + 3.0)) / (riv + 1.0)


def _df_joint(k: int, m: int, r: float, complete: float) -> float:
    """Return the denominator degrees of freedom of the joint F test D1 of k entries over m data sets.

    Those of Reiter (2007) are defined for k (m - 1) > 4 and ``complete`` that are not few; elsewhere they are those of Li,
    Raghunathan & Rubin (1991), but not more than (complete + 1) / (complete + 3) complete.

    Args:
        k: number of entries.
        m: number of data sets.
        r: average relative increase of the variance, > 0.
        complete: degrees of freedom of complete data.
    """
    t = k * (m - 1.0)
    a = r * t / (t - 2.0) if t > 2 else np.inf
    most = (complete + 1.0) / (complete + 3.0) * complete if np.isfinite(complete) else np.inf
    c1, c2 = most - 2.0 * (1.0 + a), most - 4.0 * (1.0 + a)
    if t > 4 and np.isfinite(most) and c2 > 0:
        terms = (
            a**2 * c1 / ((1.0 + a) ** 2 * c2)
            + 8.0 * a**2 * c1 / ((1.0 + a) * c2**2)
            + 4.0 * a**2 / ((1.0 + a) * c2)
            + 4.0 * a**2 / (c2 * c1)
            + 16.0 * a**2 * c1 / c2**3
            + 8.0 * a**2 / c2**2
        )
        return float(4.0 + 1.0 / (1.0 / c2 + terms / (t - 4.0)))
    if t > 4:
        large = 4.0 + (t - 4.0) * (1.0 + (1.0 - 2.0 / t) / r) ** 2
    else:
        large = t * (1.0 + 1.0 / k) * (1.0 + 1.0 / r) ** 2 / 2.0
    return float(min(large, most))


def _span(df: Float[Host, " r"]) -> str:
    known = df[np.isfinite(df)]
    if not known.size:
        return "infinite"
    return (
        f"{known.min():.4g}" if known.size == 1 or np.ptp(known) < 0.05 else f"{known.min():.4g} to {known.max():.4g}"
    )
