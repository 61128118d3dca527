"""What resampling returns: replicates with their errors and intervals, printed with what failed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from mlejax.inference.intervals import check_alpha, critical_value
from mlejax.inference.numbers import format_estimates, percent_labels, table_lines
from mlejax.inference.refitting import Replicates
from mlejax.inference.resample_intervals import acceleration, bca_levels, influence_of, quantiles

if TYPE_CHECKING:
    import pandas as pd

INTERVALS = ("percentile", "basic", "bca", "normal")
_NAMES = {"percentile": "percentile", "basic": "basic", "bca": "BCa", "normal": "normal, bias corrected"}


@dataclass(frozen=True, eq=False, repr=False)
class _Resampled:
    """What bootstrap and jackknife have in common."""

    labels: tuple[str, ...]
    estimate: np.ndarray
    fixed: np.ndarray
    refits: Replicates
    approximate: bool
    model: str

    @property
    def n(self) -> int:
        """Number of refits asked for."""
        return len(self.refits.good)

    @property
    def n_failed(self) -> int:
        """Refits that did not end at a maximum; their rows of :attr:`replicates` are NaN."""
        return int((~self.refits.good).sum())

    @property
    def failed(self) -> Mapping[str, int]:
        """How many refits failed, by reason."""
        return dict(self.refits.failures)

    @property
    def failed_statement(self) -> str:
        """The share of failed refits, in words."""
        why = ", ".join(f"{count} {reason}" for reason, count in self.refits.failures.items())
        share = f"{self.n_failed} of {self.n} refits failed ({100.0 * self.n_failed / self.n:.2g} %)"
        return f"{share}: {why}" if why else share

    @property
    def replicates(self) -> pd.DataFrame:
        """Estimates of the refits, natural scale: one row a refit, NaN where it failed."""
        import pandas as pd

        return pd.DataFrame(np.array(self.refits.values), columns=list(self.labels))

    def _series(self, values: np.ndarray, name: str) -> pd.Series:
        import pandas as pd

        return pd.Series(values, index=list(self.labels), name=name)

    def _lines(self, alpha: float, low: np.ndarray, high: np.ndarray, bias: np.ndarray, error: np.ndarray) -> list[str]:
        rows = list(zip(self.estimate, error, low, high, strict=True))
        cells = format_estimates([tuple(float(x) for x in row) for row in rows])  # type: ignore[misc]
        biases = [f"{b:.2g}" if np.isfinite(b) else "." for b in bias]
        head = ["", "coef", "bias", "std err", *percent_labels(alpha)]
        body = [
            [name, cell[0], biases[i], *cell[1:]] for i, (name, cell) in enumerate(zip(self.labels, cells, strict=True))
        ]
        return table_lines([head, *body])

    def __repr__(self) -> str:
        return self.summary()  # type: ignore[attr-defined]

    __str__ = __repr__


@dataclass(frozen=True, eq=False, repr=False)
class Bootstrap(_Resampled):
    """The bootstrap distribution of the estimates; prints as a table.

    Attributes:
        labels: addresses of the entries.
        estimate: (r,) of the fit.
        refits: what the replicates ended at.
        kind: ``"case"``, ``"cluster"``, ``"bayesian"`` or ``"parametric"``.
        drawn: what was drawn, in words.
        seed: of the draws.
        approximate: each replicate is one Newton step from the estimate.
    """

    kind: str = "case"
    drawn: str = ""
    seed: int = 0
    groups: Any = field(default=None)
    fit: Any = field(default=None)

    @property
    def bse(self) -> pd.Series:
        """Standard deviation of the replicates (of the refits that ended at a maximum)."""
        return self._series(self._errors, "std err")

    @property
    def bias(self) -> pd.Series:
        """Mean of the replicates minus the estimate."""
        return self._series(self._bias, "bias")

    def cov_params(self) -> pd.DataFrame:
        """Covariance of the replicates."""
        import pandas as pd

        names = list(self.labels)
        return pd.DataFrame(
            np.cov(self._good, rowvar=False).reshape(len(names), len(names)), index=names, columns=names
        )

    def conf_int(self, kind: str = "percentile", alpha: float = 0.05) -> pd.DataFrame:
        """Intervals from the replicates, natural scale.

        Args:
            kind: ``"percentile"``; ``"basic"``, 2 estimate - quantiles; ``"bca"``, bias corrected and accelerated (Efron
                1987), second-order accurate; ``"normal"``, estimate - bias -+ z std err.
            alpha: one minus the coverage.

        Returns:
            Columns ``lower`` and ``upper``.  Quantiles are those of R's ``boot``.  The acceleration of BCa intervals
            comes from a jackknife (see :attr:`acceleration`).

        Raises:
            ValueError: BCa of a Bayesian or parametric bootstrap, which have no jackknife that belongs to them.
        """
        import pandas as pd

        low, high = self._limits(kind, alpha)
        return pd.DataFrame({"lower": low, "upper": high}, index=list(self.labels))

    @property
    def acceleration(self) -> pd.Series:
        """The constant a of BCa intervals, sum L^3 / (6 (sum L^2)^1.5), L from leaving out each thing drawn in turn."""
        return self._series(self._accelerated[0], "acceleration")

    def function(self, function: Callable[[Any], Any], name: str = "value") -> Bootstrap:
        """The same for a function of ``params``: its bootstrap distribution.

        Args:
            function: ``params`` (the user's structure) -> number, array, or a dict of numbers; pure JAX.
            name: what a number or the entries of an array are called.
        """
        labels, values = _mapped(function, self.refits.params, name, self.n)
        one = jax.tree.map(lambda a: np.asarray(a)[None], self.fit.params)
        _, estimate = _mapped(function, one, name, 1)
        good = self.refits.good & np.isfinite(values).all(axis=1)
        refits = replace(self.refits, values=np.where(good[:, None], values, np.nan), good=good)
        made = replace(self, labels=labels, estimate=estimate[0], refits=refits, fixed=np.zeros(len(labels), bool))
        made.__dict__["_function"] = (function, name)
        return made

    def summary(self, kind: str = "percentile", alpha: float = 0.05) -> str:
        """The table: estimates, bias, standard errors and intervals, with how many refits failed."""
        low, high = self._limits(kind, alpha)
        how = "one Newton step each, an approximation" if self.approximate else "exact refits"
        lines = [
            f"Bootstrap of {self.model}: {self.kind}, {self.n} replicates of {self.drawn}, seed {self.seed}",
            f"Refits: {how}; {self.failed_statement}",
            f"Intervals: {_NAMES[kind]}" + (f" (acceleration by {self._accelerated[1]})" if kind == "bca" else ""),
            "",
            *self._lines(alpha, low, high, self._bias, self._errors),
        ]
        if self.n_failed:
            lines += ["", "Failed refits are left out: bias, errors and intervals are those of the others."]
        if not self.refits.finished:
            lines += ["", "Interrupted: what had not been run counts as failed."]
        return "\n".join(lines)

    # ---- behind the doors

    @cached_property
    def _good(self) -> np.ndarray:
        found = self.refits.values[self.refits.good]
        if len(found) < 2:
            raise ValueError(f"{self.failed_statement}: fewer than two are left, and there is no distribution")
        return found

    @cached_property
    def _errors(self) -> np.ndarray:
        return np.where(self.fixed, np.nan, self._good.std(axis=0, ddof=1))

    @cached_property
    def _bias(self) -> np.ndarray:
        return np.where(self.fixed, np.nan, self._good.mean(axis=0) - self.estimate)

    @cached_property
    def _accelerated(self) -> tuple[np.ndarray, str]:
        from mlejax.inference.resample import acceleration_jackknife

        if self.kind not in ("case", "cluster"):
            raise ValueError(
                f"BCa intervals are refused for kind={self.kind!r}: their acceleration comes from leaving out what was drawn; "
                "use 'percentile', 'basic' or 'normal'"
            )
        refits, copies, how = acceleration_jackknife(self.fit, self.groups, self.approximate)
        values, good = refits.values, refits.good
        known = self.__dict__.get("_function")
        if known is not None:
            values = _mapped(known[0], refits.params, known[1], len(good))[1]
        if not good.all():
            how += f", {int((~good).sum())} of which failed and are left out"
        return acceleration(influence_of(values[good], copies[good]), copies[good]), how

    def _limits(self, kind: str, alpha: float) -> tuple[np.ndarray, np.ndarray]:
        check_alpha(alpha)
        if kind not in INTERVALS:
            raise ValueError(f"kind={kind!r}: expected one of {', '.join(map(repr, INTERVALS))}")
        z = critical_value(alpha, None)
        if kind == "normal":
            centre = self.estimate - self._bias
            return centre - z * self._errors, centre + z * self._errors
        levels = np.array([alpha / 2, 1 - alpha / 2])
        out = np.full((2, len(self.labels)), np.nan)
        short, lost = [], []
        for j, name in enumerate(self.labels):
            if self.fixed[j]:
                continue
            t = self._good[:, j]
            mine = bca_levels(t, self.estimate[j], self._accelerated[0][j], alpha) if kind == "bca" else levels
            if np.isnan(mine).any():
                lost.append(name)
                continue
            out[:, j], extreme = quantiles(t, mine)
            if extreme:
                short.append(name)
            if kind == "basic":
                out[:, j] = 2.0 * self.estimate[j] - out[::-1, j]
        if short:
            warnings.warn(
                f"bootstrap: {len(self._good)} replicates are too few for alpha={alpha:g}: extreme replicates are the limits of "
                f"{', '.join(short)}",
                UserWarning,
                stacklevel=3,
            )
        if lost:
            warnings.warn(
                f"bootstrap: no BCa interval for {', '.join(lost)}: all replicates lie on one side of the estimate, or its "
                "jackknife does not vary",
                UserWarning,
                stacklevel=3,
            )
        return out[0], out[1]


def _mapped(function: Callable[[Any], Any], params: Any, name: str, n: int) -> tuple[tuple[str, ...], np.ndarray]:
    """A function of params over the leading axis: labels (r,) and values (n, r)."""
    with jax.enable_x64(True):
        out = jax.jit(jax.vmap(function))(params)
    parts = out if isinstance(out, dict) else {name: out}
    labels: list[str] = []
    values = []
    for key, value in parts.items():
        flat = np.asarray(value, np.float64).reshape(n, -1)
        labels += [str(key)] if np.ndim(value) == 1 else [f"{key}[{i}]" for i in range(flat.shape[1])]
        values.append(flat)
    return tuple(labels), np.concatenate(values, axis=1)


@dataclass(frozen=True, eq=False, repr=False)
class Jackknife(_Resampled):
    """Estimates with each row, unit or group left out in turn; prints as a table.

    Attributes:
        labels: addresses of the entries.
        estimate: (r,) of the fit.
        refits: estimates without one.
        copies: (m,) how many equal ones each stands for (frequency weights).
        left_out: "rows", "units" or "clusters".
        approximate: each is one Newton step from the estimate.
    """

    copies: np.ndarray = field(default_factory=lambda: np.ones(0))
    left_out: str = "rows"

    @property
    def bias(self) -> pd.Series:
        """(N - 1) (mean of the estimates without one - estimate); NaN where a refit failed."""
        return self._series(self._bias, "bias")

    @property
    def corrected(self) -> pd.Series:
        """Estimates minus their bias."""
        return self._series(self.estimate - self._bias, "coef")

    @property
    def bse(self) -> pd.Series:
        """sqrt((N - 1) / N sum (estimate without i - mean)^2); NaN where a refit failed, or all are on the same edge."""
        return self._series(self._errors, "std err")

    @property
    def influence(self) -> pd.DataFrame:
        """(N - 1) (mean - estimate without i): one row for each thing left out."""
        import pandas as pd

        return pd.DataFrame(influence_of(self.refits.values, self.copies), columns=list(self.labels))

    def summary(self, alpha: float = 0.05) -> str:
        """The table: estimates, bias, standard errors, intervals estimate - bias -+ z std err."""
        z = critical_value(alpha, None)
        centre = self.estimate - self._bias
        how = "one Newton step each, an approximation" if self.approximate else "exact refits"
        lines = [
            f"Jackknife of {self.model}: each of {int(self.copies.sum())} {self.left_out} left out in turn",
            f"Refits: {how}; {self.failed_statement}",
            "",
            *self._lines(alpha, centre - z * self._errors, centre + z * self._errors, self._bias, self._errors),
        ]
        if self.n_failed:
            lines += ["", "No bias and errors: the jackknife needs all of its refits."]
        return "\n".join(lines)

    @cached_property
    def _mean(self) -> np.ndarray:
        return np.asarray(self.copies @ self.refits.values / self.copies.sum())

    @cached_property
    def _bias(self) -> np.ndarray:
        return np.where(self.fixed, np.nan, (self.copies.sum() - 1.0) * (self._mean - self.estimate))

    @cached_property
    def _errors(self) -> np.ndarray:
        total = self.copies.sum()
        spread = self.copies @ (self.refits.values - self._mean) ** 2
        still = ~(spread > 0)  # every refit on the same edge says nothing of an error
        return np.where(self.fixed | still, np.nan, np.sqrt((total - 1.0) / total * spread))
