r"""The bootstrap: refits with random weights, or to data simulated from the model.

Case, cluster and Bayesian resamples are weights: with N_i the times that row (unit, cluster) i was drawn, a replicate
maximises sum_i N_i w_i l_i.  Parametric ones are data drawn from the model at its estimates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import jax
import numpy as np

from mlejax import misuse
from mlejax.fit import Fit, refuse_effects
from mlejax.fit.common import check_count
from mlejax.inference.normal import check_alpha, critical_value
from mlejax.inference.resampling.draws import draws, pool_of
from mlejax.inference.resampling.from_sums import bootstrapped_by_sums, by_sums
from mlejax.inference.resampling.jackknife import without_each
from mlejax.inference.resampling.quantiles import acceleration, bca_levels, influence_of, quantiles
from mlejax.inference.resampling.refitting import (
    check_approximate,
    check_fit,
    check_one_step,
    check_separable,
    refit_simulated,
    refit_weights,
)
from mlejax.inference.resampling.resampled import Resampled, facts_of, mapped
from mlejax.inference.row_effects import Random, check_random
from mlejax.notebook import Text
from mlejax.shapes import Float, Host
from mlejax.verdict import ConvergenceWarning

if TYPE_CHECKING:
    import pandas as pd

BootstrapKind: TypeAlias = Literal["case", "cluster", "bayesian", "parametric"]
IntervalKind: TypeAlias = Literal["percentile", "basic", "bca", "normal"]
_NAMES = {"percentile": "percentile", "basic": "basic", "bca": "BCa", "normal": "normal, bias corrected"}


@dataclass(frozen=True, eq=False, repr=False)
class Bootstrap(Resampled):
    """The bootstrap distribution of the estimates; prints as a table.

    Attributes:
        kind: ``"case"``, ``"cluster"``, ``"bayesian"`` or ``"parametric"``.
        drawn: what was drawn, with its number, such as "200 rows".
        seed: seed of the draws.
        fit: the fit.
        groups: the clusters that were drawn as a whole, a column's name or labels; or None.
        mapping: the function of params whose distribution this is, and the name of its values; None for the parameters
            themselves.
    """

    kind: str
    drawn: str
    seed: int
    fit: Fit
    groups: Any = None
    mapping: tuple[Callable[[Any], Any], str] | None = None

    def conf_int(self, kind: IntervalKind = "percentile", alpha: float = 0.05) -> pd.DataFrame:
        """Return confidence intervals from the replicates, natural scale.

        Args:
            kind: ``"percentile"``; ``"basic"``, 2 estimate - quantiles; ``"bca"``, bias corrected and accelerated (Efron
                1987), second-order accurate; ``"normal"``, estimate - bias -+ z std err.
            alpha: one minus the coverage.

        Returns:
            DataFrame with a row for each entry and columns ``lower`` and ``upper``.  Quantiles are interpolated as in R's
            ``boot``. The acceleration of BCa intervals comes from a jackknife (see :attr:`acceleration`).

        Limits are NaN for fixed entries and, with a warning, where BCa intervals do not exist.

        Raises:
            ValueError: another kind; alpha outside (0, 0.5]; fewer than two refits ended at a maximum; or BCa intervals of a
                Bayesian or parametric bootstrap, of an extended likelihood or of single rows of a stream, for which there is no
                jackknife, or of more than 5,000 rows, units or clusters where one Newton step is no substitute for a refit.
        """
        import pandas as pd

        low, high = self._limits(kind, alpha)
        return pd.DataFrame({"lower": low, "upper": high}, index=list(self.labels))

    @property
    def acceleration(self) -> pd.Series:
        """The acceleration constant of BCa intervals, sum L^3 / (6 (sum L^2)^1.5), L the jackknife influence of each row,
        unit or cluster; ValueError as for BCa intervals in :meth:`conf_int`.
        """
        return self._series(self._accelerated[0], "acceleration")

    def to_arviz(self) -> Any:
        """Return the replicates as an ArviZ posterior with one chain and one variable for each entry.

        Refits that failed are left out.

        Raises:
            ImportError: arviz_base (part of arviz 1) is not installed.
        """
        try:
            from arviz_base import from_dict
        except ImportError as error:
            raise ImportError("to_arviz() needs arviz-base: pip install arviz-base") from error
        return from_dict({"posterior": {name: self._good[None, :, j] for j, name in enumerate(self.labels)}})

    def function(self, function: Callable[[Any], Any], name: str = "value") -> Bootstrap:
        """Return the bootstrap distribution of a function of ``params``, from the same replicates.

        Args:
            function: maps ``params`` (the user's structure, natural scale) to a number, an array, or a dict of these; pure JAX.
            name: label of the number, or of the entries of the array; keys of a dict are labels themselves.

        Returns:
            A :class:`Bootstrap` of the values.  Replicates at which one of them is not finite count as failed.

        Raises:
            TypeError: JAX cannot evaluate the function for all replicates at once (``if`` on a parameter, NumPy functions).
        """
        labels, values = mapped(function, self.refits.params, name, self.n)
        one = jax.tree.map(lambda a: np.asarray(a)[None], self.fit.params)
        _, fitted = mapped(function, one, name, 1)
        good = self.refits.good & np.isfinite(values).all(axis=1)
        refits = replace(self.refits, values=np.where(good[:, None], values, np.nan), good=good)
        fixed = np.zeros(len(labels), bool)
        return replace(self, labels=labels, fitted=fitted[0], refits=refits, fixed=fixed, mapping=(function, name))

    def summary(self, kind: IntervalKind = "percentile", alpha: float = 0.05) -> Text:
        """Return a table as text: estimates, bias, standard errors, intervals of a ``kind`` with coverage 1 - ``alpha``, and how
        many refits failed; errors as in :meth:`conf_int`.
        """
        limits = self._limits(kind, alpha)
        head = f"Bootstrap of {self.model}: {self.kind}, {self.n} replicates of {self.drawn}, seed {self.seed}"
        how = f" (acceleration by {self._accelerated[1]})" if kind == "bca" else ""
        lines = self._lines(head, alpha, *limits, [f"Intervals: {_NAMES[kind]}{how}"])
        if self.n_failed:
            lines += ["", "Failed refits are left out: bias, errors and intervals are those of the others."]
        if not self.refits.finished:
            lines += ["", "Interrupted: refits that were not run count as failed."]
        return Text(lines)

    # ---- behind the doors

    @property
    def _covariance(self) -> Float[Host, "r r"]:
        return np.cov(self._good, rowvar=False).reshape(len(self.labels), len(self.labels))

    def _reach(self, alpha: float) -> tuple[Float[Host, " r"], Float[Host, " r"]]:
        return self._limits("percentile", alpha)

    @cached_property
    def _good(self) -> Float[Host, "n r"]:
        found = self.refits.values[self.refits.good]
        if len(found) >= 2:
            return found
        ended = self.n - sum(self.refits.failures.values())
        if self.mapping is not None and ended >= 2:
            raise ValueError(
                f"the function is finite at {len(found)} of the {ended} replicates whose refit ended at a maximum, too few for a "
                "distribution; give a function that is finite there"
            )
        advice = "use another kind= of resamples, or a simpler model" if self.refits.finished else "let the bootstrap finish"
        raise ValueError(f"{self.failed_statement}: fewer than two are left, too few for a distribution; {advice}")

    @cached_property
    def _errors(self) -> Float[Host, " r"]:
        """Standard deviation of the replicates whose refit ended at a maximum (r,); NaN for fixed entries."""
        return np.where(self.fixed, np.nan, self._good.std(axis=0, ddof=1))

    @cached_property
    def _bias(self) -> Float[Host, " r"]:
        """Mean of the replicates whose refit ended at a maximum minus the estimate (r,); NaN for fixed entries."""
        return np.where(self.fixed, np.nan, self._good.mean(axis=0) - self.fitted)

    @cached_property
    def _accelerated(self) -> tuple[Float[Host, " r"], str]:
        """The acceleration constant of each entry, from the estimates without each row, unit or cluster, and how these were made;
        those that failed are left out.  ValueError as for BCa intervals in `conf_int`.
        """
        which = "" if self.kind in ("case", "cluster") else f"kind={self.kind!r}"
        which = "single rows of a stream" if self.fit.loaded.stream is not None and self.groups is None else which
        which = "an extended likelihood" if self.fit.loaded.with_total else which
        if which:
            raise ValueError(
                f"BCa intervals do not support {which}: their acceleration comes from leaving out single rows or clusters; use "
                "'percentile', 'basic' or 'normal'"
            )
        refits, copies, how = without_each(self.fit, self.groups, self.approximate)
        values, good = refits.values, refits.good
        if self.mapping is not None:
            values = mapped(self.mapping[0], refits.params, self.mapping[1], len(good))[1]
        if not good.all():
            how += f", {int((~good).sum())} of which failed and are left out"
        return acceleration(influence_of(values[good], copies[good]), copies[good]), how

    def _limits(self, kind: str, alpha: float) -> tuple[np.ndarray, np.ndarray]:
        """Return lower and upper limits of all entries; NaN for fixed entries and where BCa limits do not exist, with a warning.

        Warns also if the smallest or largest replicate is a limit.  ValueError: another ``kind`` or ``alpha`` than in
        :meth:`conf_int`.
        """
        check_alpha(alpha)
        if kind not in _NAMES:
            raise ValueError(f"kind={kind!r}: expected one of {', '.join(map(repr, _NAMES))}")
        if kind == "normal":
            reach, centre = critical_value(alpha) * self._errors, self.fitted - self._bias
            return centre - reach, centre + reach
        levels = np.array([alpha / 2, 1 - alpha / 2])
        out = np.full((2, len(self.labels)), np.nan)
        short, one_sided, flat = list[str](), list[str](), list[str]()
        for j, name in enumerate(self.labels):
            if self.fixed[j]:
                continue
            t = self._good[:, j]
            mine = bca_levels(t, self.fitted[j], self._accelerated[0][j], alpha) if kind == "bca" else levels
            if np.isnan(mine).any():
                (flat if np.isnan(self._accelerated[0][j]) else one_sided).append(name)
                continue
            out[:, j], extreme = quantiles(t, mine)
            if extreme:
                short.append(name)
            if kind == "basic":
                out[:, j] = 2.0 * self.fitted[j] - out[::-1, j]
        if short:
            misuse.warn(
                f"bootstrap: {len(self._good)} replicates are too few for alpha={alpha:g}: the smallest or largest replicate is "
                f"a limit of {', '.join(short)}; use more replicates",
                UserWarning,
                "few-replicates",
                stacklevel=3,
            )
        for lost, why in (
            (one_sided, "all replicates are on one side of the estimate"),
            (flat, "the estimates of its jackknife are all equal"),
        ):
            if lost:
                misuse.warn(
                    f"bootstrap: no BCa interval for {', '.join(lost)}: {why}; use kind='percentile'",
                    UserWarning,
                    "one-sided-replicates",
                    stacklevel=3,
                )
        return out[0], out[1]


def bootstrap(
    fit: Fit,
    n: int = 1000,
    kind: BootstrapKind = "case",
    *,
    seed: int = 0,
    groups: Any = None,
    approximate: Literal["one-step"] | None = None,
    random: Random = "integrate",
    memory_limit: float | None = None,
    progress: bool | None = None,
) -> Bootstrap:
    """Return the bootstrap distribution of the estimates: n refits as one batch, each started at the estimate.

    Args:
        n: number of replicates.
        kind: ``"case"`` draws rows with replacement (units, if the model has units; levels with all of their rows, if it has
            effects of ``mle.Real(by=...)``); ``"cluster"`` draws whole groups; ``"bayesian"`` gives rows (units, groups)
            Dirichlet weights (Rubin 1981); ``"parametric"`` simulates data from the model at the estimates, by its
            :meth:`Model.simulator`.  For :func:`mlejax.extended` likelihoods ``"case"`` draws each row a Poisson number of
            times, and ``"bayesian"`` uses exponential weights, so that the number of rows varies too.
        seed: seed of the draws; a replicate does not depend on n.
        groups: clusters for ``"cluster"`` and ``"bayesian"``: the name of a column, or one label for each row.
        approximate: ``"one-step"`` takes one Newton step from the estimate instead of a refit: many times faster; the result
            is marked as an approximation.  Of a stream (``mle.Parquet``, ``mle.Stream``) there are only these, from one pass:
            rows are drawn a Poisson number of times each, and groups= is the name of a column.
        random: for ``"parametric"`` and models with random effects: ``"integrate"`` draws new effects for every data set;
            ``"mode"`` keeps the effects of the units at their modes, so that errors are those for these very units, smaller
            than those for a sample of units; ``"zero"`` uses effects of 0.  All other kinds draw units.
        memory_limit: most bytes of data on the device at a time; by default a quarter of the free memory.
        progress: True shows a progress bar, False none; None shows one in a terminal.

    Refits start at the estimate: if there are several maxima, they find the one near it.

    Weights: a frequency weight counts as that many equal rows, which are drawn separately; sampling and importance weights
    are multiplied by the number of times that a row was drawn.  Rows of weight 0 are not drawn.

    Returns:
        :class:`mlejax.inference.Bootstrap`: prints as a table; ``bse``, ``bias``, ``conf_int("percentile" | "basic" | "bca"
        | "normal")``, ``replicates``, ``function(f)``.  Refits that failed are counted, by reason, and left out.

    Raises:
        ValueError: the fit has no maximum, is from a file, or has no free parameter or more than 2,000; the model has
            ``rowwise=False``, random effects of several columns that connect all rows, or an intercept beside effects of
            ``mle.Real(by=...)`` (unless parametric); it has weights, random effects of several columns, effects of
            ``mle.Real(by=...)`` or an expected total (parametric); or options are not valid or do not fit one another.
        DataError: labels in ``groups`` that do not fit the rows, fewer than two rows, units or groups, or a stream without
            ``approximate="one-step"`` or with labels, in place of the name of a column, as ``groups``.
        CompanionError: the model has no simulator (parametric).

    Example:
        >>> import mlejax as mle
        >>> from jax.scipy.stats import norm
        >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
        ... def gaussian(params, data):
        ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
        >>> res = gaussian.fit({"y": [1.0, 2.0, 6.0, 3.0, 5.0, 4.0, 7.0, 2.5]})
        >>> boot = res.bootstrap(2000, seed=1)
        >>> abs(float(boot.bse["mu"] / res.bse["mu"]) - 1) < 0.1, boot.n_failed
        (True, 0)
    """
    n, seed, short = check_count("n", n, 2), check_count("seed", seed, 0), check_approximate(approximate)
    if kind not in get_args(BootstrapKind):
        raise ValueError(f"kind={kind!r}: expected one of {', '.join(map(repr, get_args(BootstrapKind)))}")
    what = f"bootstrap(kind={kind!r})"
    check_fit(fit, what)
    check_random(random, fit.spec.likelihood)
    if random != "integrate" and kind != "parametric":
        raise ValueError(
            f"random={random!r} needs kind='parametric', where effects are simulated; {what} draws units with their rows: leave "
            "out random="
        )
    if kind == "parametric":
        refuse_effects(fit.spec.likelihood, what, "kind='case' draws levels with their rows")
        if groups is not None or short:
            raise ValueError(
                "kind='parametric' simulates whole data sets and fits them; leave out groups= and approximate="
            )
        refits = refit_simulated(fit, n, seed, memory_limit, progress, random)
        drawn = "data sets" + {"integrate": "", "mode": " with the modes of units", "zero": " with effects of 0"}[random]
    else:
        if not fit.loaded.with_total:
            check_separable(fit, what, "kind='parametric' simulates such data from the model")
        if kind == "cluster" and groups is None:
            raise ValueError("kind='cluster' needs groups=: a column's name, or one label for each row")
        if kind == "case" and groups is not None:
            raise ValueError("groups= needs kind='cluster' or kind='bayesian', got kind='case'")
        if short:
            check_one_step(fit)
        if by_sums(fit, short):
            refits, drawn = bootstrapped_by_sums(fit, kind, n, seed, groups, short, progress)
        else:
            pool = pool_of(fit, groups)
            refits, _ = refit_weights(fit, draws(pool, kind, seed), n, short, memory_limit, progress)
            drawn = f"{pool.total} {pool.what}"
    made = Bootstrap(*facts_of(fit), refits, short, fit.spec.likelihood.name, kind, drawn, seed, fit, groups)
    if refits.failures:
        misuse.warn(
            f"bootstrap of {made.model}: {made.failed_statement}; they are left out of errors and intervals",
            ConvergenceWarning,
            "failed-replicates",
            stacklevel=4,
        )
    return made
