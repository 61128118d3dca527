"""The jackknife: refits without each row, unit or group in turn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mlejax import misuse
from mlejax.fit import Fit
from mlejax.inference.normal import critical_value
from mlejax.inference.resampling.draws import pool_of, without_one
from mlejax.inference.resampling.from_sums import by_sums, jackknifed_by_sums
from mlejax.inference.resampling.quantiles import influence_of
from mlejax.inference.resampling.refitting import (
    Replicates,
    check_approximate,
    check_fit,
    check_one_step,
    check_separable,
    refit_weights,
)
from mlejax.inference.resampling.resampled import Resampled, facts_of
from mlejax.notebook import Text
from mlejax.shapes import Float, Host, Int
from mlejax.status import End
from mlejax.verdict import ConvergenceWarning

if TYPE_CHECKING:
    import pandas as pd

EXACT = 5000  # refits for the acceleration of BCa intervals; beyond, one step each


@dataclass(frozen=True, eq=False, repr=False)
class Jackknife(Resampled):
    """Estimates with each row, unit or group left out in turn; prints as a table.

    Attributes:
        copies: number of equal rows that each refit stands for (frequency weights), else ones (m,).
        left_out: what was left out: "rows", "units", "clusters" or, with effects of ``mle.Real(by=...)``, "levels of firm".
    """

    copies: np.ndarray
    left_out: str

    @property
    def corrected(self) -> pd.Series:
        """Estimates minus their estimated bias (r,); NaN where ``bias`` is."""
        return self._series(self.fitted - self._bias, "coef")

    @property
    def influence(self) -> pd.DataFrame:
        """Jackknife influence (N - 1) (mean of the refits - refit without i), N their number (sum of frequency weights): one row
        for each row, unit or group left out (the index counts them), one column for each entry.  NaN if a refit failed.
        """
        import pandas as pd

        return pd.DataFrame(influence_of(self.refits.values, self.copies), columns=list(self.labels))

    def summary(self, alpha: float = 0.05) -> Text:
        """Return a table as text: estimates, bias, standard errors, and intervals estimate - bias -+ z std err of coverage
        1 - alpha.

        Raises:
            ValueError: ``alpha`` is not above 0 and at most 0.5.
        """
        head = f"Jackknife of {self.model}: each of {int(self.copies.sum())} {self.left_out} left out in turn"
        lines = self._lines(head, alpha, *self._reach(alpha), [])
        if self.n_failed:
            lines += ["", "No bias and standard errors: the jackknife needs all of its refits."]
        return Text(lines)

    def _reach(self, alpha: float) -> tuple[Float[Host, " r"], Float[Host, " r"]]:
        reach, centre = critical_value(alpha) * self._errors, self.fitted - self._bias
        return centre - reach, centre + reach

    @property
    def _covariance(self) -> Float[Host, "r r"]:
        total, apart = self.copies.sum(), self.refits.values - self._mean
        lost = np.isnan(self._errors)
        found = (total - 1.0) / total * (apart.T * self.copies) @ apart
        return np.where(lost[:, None] | lost, np.nan, found)

    @cached_property
    def _mean(self) -> Float[Host, " r"]:
        return np.asarray(self.copies @ self.refits.values / self.copies.sum())

    @cached_property
    def _bias(self) -> Float[Host, " r"]:
        """(N - 1) (mean of the refits - estimate), (r,); NaN for fixed entries, and for all if a refit failed."""
        return np.where(self.fixed, np.nan, (self.copies.sum() - 1.0) * (self._mean - self.fitted))

    @cached_property
    def _errors(self) -> Float[Host, " r"]:
        """sqrt((N - 1) / N sum (refit without i - mean)^2), (r,); NaN for fixed entries and those that are equal in all refits
        (at a bound), and for all if a refit failed.
        """
        total = self.copies.sum()
        spread = self.copies @ (self.refits.values - self._mean) ** 2
        return np.where(self.fixed | ~(spread > 0), np.nan, np.sqrt((total - 1.0) / total * spread))


def jackknife(
    fit: Fit,
    groups: Any = None,
    *,
    approximate: str | None = None,
    memory_limit: float | None = None,
    progress: bool | None = None,
) -> Jackknife:
    """Return jackknife bias and standard errors, from refits without each row (unit, or group) in turn.

    Args:
        groups: leave out whole groups: the name of a column, or one label for each row.
        approximate: ``"one-step"`` takes one Newton step from the estimate in place of each refit; needed for a stream, with the
            name of a column as groups, unless the model has units or effects of ``mle.Real(by=...)``, which are left out then.
        memory_limit: most bytes of data on the device at a time; by default a quarter of the free memory.
        progress: True shows a progress bar, False none; None shows one in a terminal.

    Returns:
        :class:`mlejax.inference.Jackknife`: prints as a table; ``bias``, ``bse``, ``corrected``, ``influence``,
        ``replicates``.  If a refit fails, it is counted, with a warning, and bias and standard errors are NaN.

    Raises:
        ValueError: the fit has no maximum, is from a file, or has no free parameter or more than 2,000; the model has
            ``rowwise=False``, random effects of several columns that connect all rows, or an intercept beside effects of
            ``mle.Real(by=...)``, or is an extended likelihood; or one Newton step is requested where it does not approximate a
            refit.
        DataError: labels in ``groups`` that do not fit the rows, fewer than two rows, units or groups, or a stream without
            ``approximate="one-step"``, with labels as ``groups``, or without anything but rows to leave out.
        KeyboardInterrupt: Ctrl-C before all refits were finished.

    Example:
        >>> import mlejax as mle
        >>> from jax.scipy.stats import norm
        >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
        ... def gaussian(params, data):
        ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
        >>> res = gaussian.fit({"y": [1.0, 2.0, 6.0, 3.0]})
        >>> round(float(res.jackknife().bse["mu"]), 6)  # s / sqrt(n)
        1.080123
    """
    short = check_approximate(approximate)
    check_fit(fit, "jackknife()")
    check_separable(fit, "jackknife()", "Use standard errors from the information instead")
    if short:
        check_one_step(fit)
    if by_sums(fit, short):
        refits, pool = jackknifed_by_sums(fit, groups, short, progress)
    else:
        pool = pool_of(fit, groups)
        refits, done = refit_weights(fit, without_one(pool), pool.m, short, memory_limit, progress)
        if (done.end == int(End.INTERRUPTED)).any():
            raise KeyboardInterrupt
    made = Jackknife(*facts_of(fit), refits, short, fit.spec.likelihood.name, pool.copies, pool.what)
    if refits.failures:
        misuse.warn(
            f"jackknife of {made.model}: {made.failed_statement}; bias and standard errors are NaN without them",
            ConvergenceWarning,
            "failed-jackknife",
            stacklevel=4,
        )
    return made


def without_each(fit: Fit, groups: Any, short: bool) -> tuple[Replicates, Int[Host, " m"], str]:
    """Return the estimates without each row, unit or cluster, how many equal ones each stands for (m,), and a description.

    ``groups``: clusters to leave out, or None; ``short``: if True, take one Newton step in place of each refit; more than 5,000
    are always computed so. ValueError if one step does not approximate a refit.
    """
    if by_sums(fit, short):
        refits, pool = jackknifed_by_sums(fit, groups, short, None)
        return refits, pool.copies, f"jackknife of {pool.m} {pool.what}, one Newton step each"
    pool = pool_of(fit, groups)
    exact = not short and pool.m <= EXACT
    if not exact:
        many = f"BCa intervals of more than {EXACT} {pool.what} take one Newton step without each, which is not supported"
        check_one_step(fit, many, "use 'percentile', 'basic' or 'normal'")
        if by_sums(fit, True):
            return without_each(fit, groups, True)
    refits, _ = refit_weights(fit, without_one(pool), pool.m, not exact, None, None)
    how = "exact refits" if exact else "one Newton step each"
    return refits, pool.copies, f"jackknife of {pool.m} {pool.what}, {how}"
