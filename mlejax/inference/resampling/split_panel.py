r"""The half-panel jackknife: removes the leading bias (order 1/T) of fixed-effects estimates with few periods T.

With estimates of the whole panel and of its halves of consecutive periods, S_1 and S_2 of T periods,

.. math:: \tilde\theta = 2 \hat\theta - \sum_g \frac{|S_g|}{T} \hat\theta_{S_g};

if T is odd, the panel is halved both ways and the results are averaged (Dhaene & Jochmans 2015, Review of Economic Studies
82, 991).  Standard errors come from resampled levels, each with all of its rows.  The halves have the same limit if the
process is stationary; a Wald test compares them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from mlejax import data as data_room
from mlejax import optimize
from mlejax.execution import float64
from mlejax.fit import Fit, effects_evaluator_of
from mlejax.fit.common import check_count
from mlejax.inference.normal import critical_value
from mlejax.inference.resampling.refitting import Replicates
from mlejax.inference.resampling.resampled import Resampled, facts_of
from mlejax.inference.tables.formatting import format_statistic, stated_p
from mlejax.notebook import Text
from mlejax.objective import EffectsEvaluator
from mlejax.shapes import Bool, Float, Host
from mlejax.status import End

if TYPE_CHECKING:
    import pandas as pd

LEAST_PERIODS = 4
ENDS = (End.CONVERGED, End.PRECISION_FLOOR)
REFUSED = ("llf", "aic", "bic", "lr_test", "profile", "contour")


@dataclass(frozen=True, eq=False, repr=False)
class SplitPanel(Resampled):
    """Estimates of a half-panel jackknife; prints as a table.

    Attributes:
        adjusted: the corrected estimates (r,).
        first, second: estimates of the halves, averaged over the ways to halve an odd number of periods (r,).
        differences: second minus first half, for each resampled panel (B, r); NaN where a refit failed.
        periods: number of periods.
        by: the column of the levels that were resampled.
    """

    adjusted: np.ndarray
    first: np.ndarray
    second: np.ndarray
    differences: np.ndarray
    periods: int
    by: str

    @property
    def corrected(self) -> pd.Series:
        """The bias-corrected estimates (r,)."""
        return self._series(self.adjusted, "coef")

    @property
    def halves(self) -> pd.DataFrame:
        """Estimates of the halves: one row for each entry, its name in the index, and columns ``first`` and ``second``."""
        import pandas as pd

        return pd.DataFrame({"first": self.first, "second": self.second}, index=list(self.labels))

    @property
    def halves_test(self) -> tuple[float, int, float]:
        """Wald test of equal parameters in both halves: statistic, degrees of freedom and p-value.  If the parameters differ,
        the correction is not valid.
        """
        free = np.flatnonzero(~self.fixed)
        spread = np.cov(self.differences[self.refits.good][:, free], rowvar=False).reshape(free.size, free.size)
        apart = (self.second - self.first)[free]
        from scipy.special import chdtrc

        statistic = float(apart @ np.linalg.solve(spread, apart))
        return statistic, free.size, float(chdtrc(free.size, statistic))

    def summary(self, alpha: float = 0.05) -> Text:
        """Return a table as text: estimates of the whole panel, their bias, standard errors of the corrected estimates,
        intervals corrected -+ z std err of coverage 1 - alpha, and the test of equal halves.

        Raises:
            ValueError: ``alpha`` is not above 0 and at most 0.5.
        """
        head = f"Half-panel jackknife of {self.model}: {self.periods} periods, {self.n} resamples of {self.by}"
        statistic, df, p = self.halves_test
        found = f"Test that the halves have the same parameters: chi2({df}) = {format_statistic(statistic)}, {stated_p(p)}"
        more = [found, "coef is the estimate of the whole panel; the interval is about coef - bias"]
        return Text(self._lines(head, alpha, *self._reach(alpha), more))

    def __getattr__(self, name: str) -> NoReturn:
        if name in REFUSED:
            raise AttributeError(
                f"split_panel() has no {name}: corrected estimates maximise no likelihood; use halves_test, bse, or "
                f"{name} of the fit"
            )
        raise AttributeError(f"SplitPanel has no {name!r}")

    def _reach(self, alpha: float) -> tuple[Float[Host, " r"], Float[Host, " r"]]:
        reach = critical_value(alpha) * self._errors
        return self.adjusted - reach, self.adjusted + reach

    @property
    def _covariance(self) -> Float[Host, "r r"]:
        found = np.cov(self.refits.values[self.refits.good], rowvar=False).reshape(len(self.fixed), len(self.fixed))
        return np.where(self.fixed[:, None] | self.fixed, np.nan, found)

    @property
    def _bias(self) -> Float[Host, " r"]:
        return np.where(self.fixed, np.nan, self.fitted - self.adjusted)

    @property
    def _errors(self) -> Float[Host, " r"]:
        spread = np.std(self.refits.values[self.refits.good], axis=0, ddof=1)
        return np.where(self.fixed, np.nan, spread)


def split_panel(fit: Fit, time: str, n: int = 200, *, seed: int = 0) -> SplitPanel:
    """Return estimates corrected for the bias of few periods, from the two halves of the panel (Dhaene & Jochmans 2015).

    The corrected estimate is twice the estimate minus the mean of the estimates from the first and the second half of the
    periods; an odd number of periods is halved both ways.  The bias of a logit with fixed effects and T periods is of order
    1/T; the correction removes this term.

    Args:
        time: name of the column of periods; at least 4 periods.
        n: number of resamples of the levels (with all their rows) for standard errors.
        seed: seed of the resamples.

    Returns:
        :class:`mlejax.inference.SplitPanel`: prints as a table; ``corrected``, ``bse``, ``bias``, ``halves``, ``halves_test``,
        ``replicates``.  It has no log-likelihood, and so no criteria, likelihood-ratio tests or profiles.

    Raises:
        ValueError: the model has no effects of ``mle.Real(by=...)``, such effects of several columns, or an intercept together
            with them; the fit has constraints or a penalty; there are fewer than 4 periods or 2 resamples; or a half has no
            maximum.
        MissingColumnError: the data lack the column ``time``.

    Example:
        >>> import jax, jax.numpy as jnp, numpy as np, mlejax as mle
        >>> @mle.model(beta=mle.Real(), alpha=mle.Real(by="firm"))
        ... def logit(params, data):
        ...     eta = params["beta"] * data["x"] + params["alpha"]
        ...     return jax.nn.log_sigmoid(jnp.where(data["y"] == 1, eta, -eta))
        >>> rng = np.random.default_rng(0)
        >>> firm, year = np.repeat(np.arange(200), 8), np.tile(np.arange(8), 200)
        >>> x = rng.normal(size=1600)
        >>> y = (rng.logistic(size=1600) < x + rng.normal(size=200)[firm]).astype(int)
        >>> res = logit.fit({"y": y, "x": x, "firm": firm, "year": year}, separated="drop")
        >>> found = res.split_panel("year", n=20)
        >>> bool(found.corrected["beta"] < res.params["beta"])
        True
    """
    draws = check_count("n", n, 2)
    whole, period = _checked(fit, time)
    ways = _ways(period)
    rng, used = np.random.default_rng(seed), np.asarray(whole.data.weights)[: len(period)]
    with float64():
        halves = [(_of(fit, whole, used * ~second), _of(fit, whole, used * second)) for second in ways]
        bad = [one for pair in halves for one in pair if one is None]
        if bad:
            raise ValueError("split_panel: the fit of a half of the periods did not end at a maximum; use data with more periods")
        first, second, adjusted = _combined(facts_of(fit)[1], halves, ways, period)
        values, apart = np.full((draws, len(adjusted)), np.nan), np.full((draws, len(adjusted)), np.nan)
        for b in range(draws):
            copies = np.bincount(rng.integers(0, len(whole.levels), len(whole.levels)), minlength=len(whole.levels))
            weights = used * copies[whole.levels.codes]
            every = _of(fit, whole, weights)
            pairs = [(_of(fit, whole, weights * ~late), _of(fit, whole, weights * late)) for late in ways]
            if every is None or any(one is None for pair in pairs for one in pair):
                continue
            one, two, values[b] = _combined(every, pairs, ways, period)
            apart[b] = two - one
    good: Bool[Host, " n"] = np.isfinite(values).all(axis=1)
    failures = Counter({"no maximum": int((~good).sum())}) if not good.all() else Counter[str]()
    refits = Replicates(values, None, good, dict(failures))
    by = fit.spec.likelihood.effects[0].by
    periods = len(np.unique(period))
    facts = (*facts_of(fit), refits, False, fit.spec.likelihood.name)
    return SplitPanel(*facts, adjusted, first, second, apart, periods, by)


def _checked(fit: Fit, time: str) -> tuple[EffectsEvaluator, np.ndarray]:
    """Return the evaluator of the fit, and the period of every row as a number 0, 1, ... (n,), from the column ``time``.

    Raises:
        ValueError: the model has no effects of ``mle.Real(by=...)``, such effects of several columns, or an intercept together
            with them; the fit has constraints or a penalty; or there are fewer than 4 periods.
    """
    effects, name = fit.loaded.effects, fit.spec.likelihood.name
    if effects is None:
        raise ValueError(f"split_panel needs effects declared by mle.Real(by=...), and {name} has none: declare them")
    if fit.loaded.coded or effects.given.any():
        other = f"effects of {fit.loaded.coded[0].key.by}" if fit.loaded.coded else "an intercept"
        raise ValueError(
            f"split_panel does not support {other} together with effects of {effects.key.by}: the halves would not have the same "
            "parameters; leave one of them out"
        )
    if fit.constraints:
        raise ValueError("split_panel does not support constraints; fit without constraints=")
    if fit.penalised is not None:
        raise ValueError("split_panel does not support penalties; fit without penalty=")
    codes, labels = data_room.group_codes(fit.loaded.rows.select(fit.loaded.source.column(time)), time)
    order = np.argsort(np.argsort(labels))[codes]
    if len(labels) < LEAST_PERIODS:
        raise ValueError(f"split_panel expected a panel of at least {LEAST_PERIODS} periods in {time!r}, got {len(labels)}")
    return effects_evaluator_of(fit.spec, fit.loaded, fit.fixed), order


def _ways(period: np.ndarray) -> list[Bool[Host, " n"]]:
    """Return one array (n,), True for rows of the second half, for each way to halve the periods (two ways if their number
    is odd).  ``period``: number 0, 1, ... of each row's period.
    """
    n = int(period.max()) + 1
    return [period >= half for half in sorted({n // 2, (n + 1) // 2})]


def _of(fit: Fit, whole: EffectsEvaluator, weights: Float[Host, " n"]) -> Float[Host, " r"] | None:
    """Return the entries (r,) of a refit under row weights, started at the estimates of the fit; None if it did not end at a
    maximum.  ``whole``: evaluator of all rows.
    """
    end = whole.weighted(weights).run(optimize.Newton(), fit.u[None]).of(0)
    if int(end.status) not in ENDS:
        return None
    return np.asarray(fit.spec.space.reported(fit.spec.space.params_from_u(end.u, fit.fixed)))


def _combined(
    whole: Host, halves: Sequence[tuple[Any, Any]], ways: Sequence[Any], period: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the estimates of the first half, of the second half, and the corrected ones, (r,) each, averaged over the ways
    to halve.

    The corrected ones are twice ``whole`` minus the mean of both halves, weighted by their shares of the periods.

    Args:
        whole: estimates of the whole panel (r,).
        halves: for each way, the estimates of both halves.
        ways: for each way, True for the rows of the second half (n,).
        period: number 0, 1, ... of each row's period (n,).
    """
    n = int(period.max()) + 1
    share = [len(np.unique(period[second])) / n for second in ways]
    mean = np.mean([(1 - s) * one + s * two for s, (one, two) in zip(share, halves, strict=True)], axis=0)
    first, second = (np.mean([pair[k] for pair in halves], axis=0) for k in (0, 1))
    return first, second, 2.0 * whole - mean
