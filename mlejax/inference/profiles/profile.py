"""The result of a profile: its confidence limits, its curve and its printed summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mlejax.inference.normal import check_alpha
from mlejax.inference.tables.formatting import format_number
from mlejax.notebook import CellText, Text, in_notebooks
from mlejax.plot import likelihoods
from mlejax.shapes import Float, Host

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def chi2_cut(alpha: float, df: int = 1) -> float:
    """Return the quantile 1 - alpha of chi-squared with ``df`` = 1 or 2 degrees of freedom; ValueError unless alpha is in
    (0, 0.5].

    >>> round(chi2_cut(0.05), 4), round(chi2_cut(0.05, 2), 4)
    (3.8415, 5.9915)
    """
    check_alpha(alpha)
    return NormalDist().inv_cdf(alpha / 2) ** 2 if df == 1 else -2.0 * float(np.log(alpha))


@dataclass(frozen=True)
class ProfileEnd:
    """One limit of a profile-likelihood interval.

    Attributes:
        value: the limit, natural scale; inf or -inf if the status is ``infinite``, NaN for ``higher maximum found`` and ``not
            computable``.
        status: ``finite``, ``infinite`` (the profile levels off above the cut), ``on the boundary`` (of the support, where the
            profile is still above the cut), ``higher maximum found`` or ``not computable``; followed by ``, nuisance at a bound``
            if another parameter is at a bound of its support there.
        gap: log-likelihood minus the cut at the limit, or at the last point that was evaluated if the limit is not finite (NaN
            if none was); 0 up to a tolerance for a finite limit.
        decrement: Newton decrement over the other parameters at the same point; 0 up to a tolerance at a constrained maximum.
        n_evaluations: number of evaluations of log-likelihood, score and information.
        note: explanation of an irregular limit; else empty.
    """

    value: float
    status: str
    gap: float
    decrement: float
    n_evaluations: int
    note: str = ""

    @property
    def known(self) -> bool:
        """True unless the status is ``higher maximum found`` or ``not computable``: ``value`` is then a confidence limit."""
        return not self.status.startswith(("higher", "not"))


class Curve(NamedTuple):
    """Computed points of a profile, sorted by value.

    Attributes:
        value: value of the profiled quantity, natural scale (k,).
        loglik: profile log-likelihood (k,).
        root: signed root of the likelihood-ratio statistic (k,).
        gap: log-likelihood minus the cut at finite limits, NaN at other points (k,).
        decrement: Newton decrement over the other parameters, 0 at a constrained maximum (k,).
        kind: ``estimate``, ``lower`` or ``upper`` limit, ``curve``, or ``beyond`` a limit (k,).
        params: values of all entries at each point, natural scale (k, r).
    """

    value: Float[Host, " k"]
    loglik: Float[Host, " k"]
    root: Float[Host, " k"]
    gap: Float[Host, " k"]
    decrement: Float[Host, " k"]
    kind: tuple[str, ...]
    params: Float[Host, "k r"]


@in_notebooks
@dataclass(frozen=True, eq=False, repr=False)
class Profile:
    """The profile likelihood of one parameter entry or function of the parameters; prints its interval, and can be plotted.

    Attributes:
        label: name of the profiled quantity.
        params: the estimate, natural scale.
        bse: standard error of the quadratic approximation, natural scale (delta method); NaN at a bound.
        lower, upper: limits of the interval that contains the estimate.
        alpha: 1 - coverage.
        llf: log-likelihood at the estimate, including the term of bias reduction if there is one.
        factor: factor of the cut: V_robust / V_model for an adjusted profile, else 1.
        curve: the points that were computed.
        pieces: all intervals in which the profile was found above the cut, as (lower, upper), in increasing order.
        entries: names of the entries in ``curve.params``.
        better: a new fit started from a point of the profile with a higher log-likelihood, or None.
    """

    label: str
    params: float
    bse: float
    lower: ProfileEnd
    upper: ProfileEnd
    alpha: float
    llf: float
    factor: float
    curve: Curve
    pieces: tuple[tuple[float, float], ...]
    entries: tuple[str, ...]
    better: Any = None

    @property
    def flags(self) -> tuple[str, ...]:
        """What is irregular: the parts of the limits' statuses other than ``finite``; ``higher maximum found``; ``several
        pieces``.  Empty for a regular profile.
        """
        ends = [s for end in (self.lower, self.upper) for s in end.status.split(", ") if s != "finite"]
        more = [("higher maximum found", self.better is not None), ("several pieces", len(self.pieces) > 1)]
        return tuple(dict.fromkeys([*ends, *(name for name, there in more if there)]))

    def conf_int(self) -> tuple[float, float]:
        """Return the (lower, upper) confidence limits of the interval that contains the estimate, natural scale.

        Raises:
            ValueError: the profile rises above the estimate's log-likelihood, or a limit could not be computed.
        """
        if self.better is not None:
            raise ValueError(higher_maximum([self.label], "profile.better"))
        for end in (self.lower, self.upper):
            if not end.known:
                raise ValueError(f"{self.label}: {end.status}: {end.note}")
        return self.lower.value, self.upper.value

    def frame(self) -> pd.DataFrame:
        """Return all computed points as a DataFrame, sorted by value.

        Returns:
            Columns ``value``, ``kind`` (``estimate``, ``lower``, ``upper``, ``curve``, ``beyond`` a limit), ``loglik``,
            ``root`` (signed root of the likelihood ratio), ``gap`` (log-likelihood minus the cut, at limits),
            ``decrement`` (0 if the score of the other parameters is 0), and all parameters.
        """
        import pandas as pd

        c = self.curve
        head = {
            "value": c.value, "kind": list(c.kind), "loglik": c.loglik, "root": c.root, "gap": c.gap, "decrement": c.decrement,
        }  # fmt: skip
        return pd.DataFrame({**head, **{name: c.params[:, j] for j, name in enumerate(self.entries)}})

    def plot(self, ax: Axes | None = None) -> Axes:
        """Plot the profile log-likelihood, and its quadratic approximation dashed; return the matplotlib Axes.

        Args:
            ax: the Axes to draw in; a new one by default.

        Raises:
            ImportError: matplotlib is not installed.
        """
        return likelihoods.profile(self, ax, root=False)

    def plot_root(self, ax: Axes | None = None) -> Axes:
        """Plot the signed root of the likelihood-ratio statistic, a straight line if the Wald interval is right, on ``ax`` or new
        axes; return the matplotlib Axes.  ImportError: matplotlib is not installed.
        """
        return likelihoods.profile(self, ax, root=True)

    def summary(self) -> Text:
        """Return the interval, the status and accuracy of its limits, and remarks, as text."""
        percent, z = f"{100 * (1 - self.alpha):g} %", np.sqrt(chi2_cut(self.alpha))
        title = f"Profile likelihood of {self.label}"
        below, above = (format_number(self.params + sign * z * self.bse) for sign in (-1, 1))
        wald = f"; estimate +- {z:.3g} standard errors: {below} to {above}"
        facts, lines = [("estimate", format_number(self.params))], []
        if all(end.known for end in (self.lower, self.upper)) and self.better is None:
            between = f"{format_number(self.lower.value)} to {format_number(self.upper.value)}"
            facts.append((percent, between + (wald if np.isfinite(self.bse) else "")))
        else:
            facts.append((percent, f"no interval: {', '.join(self.flags)}"))
        for name, end in (("lower", self.lower), ("upper", self.upper)):
            shown = (
                f", l - cut = {end.gap:.1e}, nuisance decrement {end.decrement:.1e}"
                if end.status.startswith("finite")
                else ""
            )
            facts.append((name, f"{end.status}{shown}, {end.n_evaluations} evaluations"))
            facts += [("", end.note)] if end.note else []
        if self.factor != 1.0:
            lines.append(f"The cut is multiplied by V_robust / V_model = {self.factor:.4g} (Rotnitzky & Jewell 1990).")
        if len(self.pieces) > 1:
            shown = " and ".join(f"[{format_number(a)}, {format_number(b)}]" for a, b in self.pieces)
            lines.append(
                f"Several pieces: the profile is above the cut in {shown}; the interval is the estimate's piece."
            )
        if self.better is not None:
            lines.append(higher_maximum([self.label], "profile.better"))
        table = CellText("\n".join(f"{name:<10}{value}" for name, value in facts), [("", ""), *facts], left=2)
        return Text([title, "-" * len(title), table, *lines])

    def __repr__(self) -> str:
        return self.summary()


def higher_maximum(labels: Sequence[str], where: str) -> str:
    """Return the message that a profile of ``labels`` rises above the estimate's log-likelihood; ``where``: the expression that
    gives the user the higher fit.
    """
    return (
        f"a log-likelihood higher than the fit's was found on the profile of {', '.join(labels)}: the fit is not the highest "
        f"maximum, so that there is no interval around it.  {where} is the fit that starts at the higher point"
    )
