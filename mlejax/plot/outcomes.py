r"""Plots of the fit against the observed outcome: survival and Kaplan-Meier, density and histogram.

Kaplan-Meier: S(t) = prod over event times s <= t of 1 - d_s / r_s, with d_s events among the r_s rows that entered before s and
are observed until s or later.  The fitted curve is averaged over rows; the band of a survival curve is computed on the scale
of log(-log S), so that it stays within 0 and 1.

Reference: Kaplan & Meier (1958), J. American Statistical Association 53, 457.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from jax.typing import ArrayLike

from mlejax.companions import companion
from mlejax.data.errors import missing_column
from mlejax.misuse import door
from mlejax.plot.canvas import gray, legend, new_axes, percent
from mlejax.shapes import Data, Either, Host

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

POINTS = 61  # at which fitted curves are evaluated
EARLY = 8  # halvings of the first time, where a survival function may be steep
MOST_VALUES = 60  # of a discrete outcome that are drawn one by one


@door
def kaplan_meier(
    time: ArrayLike, event: ArrayLike | None = None, entry: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the Kaplan-Meier (product-limit) estimate of a survival function.

    Args:
        time: time of event or censoring of each row (n,).
        event: 1 for an event, 0 for censoring (n,); all events by default.
        entry: time of entry of each row, for left-truncated data (n,).

    Returns:
        The different times of events in increasing order (m,), and the survival function just after each (m,), NumPy arrays;
        both empty without events.

    >>> t, s = kaplan_meier([1, 2, 2, 4], [1, 1, 0, 1])
    >>> t.tolist(), s.tolist()
    ([1.0, 2.0, 4.0], [0.75, 0.5, 0.0])
    """
    time = np.asarray(time, float)
    event = np.ones(time.shape, bool) if event is None else np.asarray(event).astype(bool)
    entered = np.full(time.shape, -np.inf) if entry is None else np.asarray(entry, float)
    at = np.unique(time[event])
    ended = np.searchsorted(np.sort(time[event]), at, "right") - np.searchsorted(np.sort(time[event]), at, "left")
    at_risk = np.searchsorted(np.sort(entered), at, "left") - np.searchsorted(np.sort(time), at, "left")
    return at, np.cumprod(1.0 - ended / at_risk)


@door
def survival(
    result: Any,
    data: Data,
    time: str,
    event: str | None = None,
    ax: Axes | None = None,
    *,
    entry: str | None = None,
    by: str | None = None,
    of: Callable[..., Any] | None = None,
    alpha: float = 0.05,
) -> Axes:
    """Plot the fitted survival function, averaged over rows, with the Kaplan-Meier estimate of the same rows.

    Args:
        result: the result of a fit.
        data: the rows, a dict of columns or a table.
        time: name of the column of times.
        event: name of the column that is 1 for an event and 0 for censoring; all events by default.
        ax: matplotlib Axes to draw on; new ones by default.
        entry: name of the column of entry times, for left-truncated data.
        by: name of a column; one curve for each of its values.
        of: ``f(params, data)`` -> (n,), the probability to survive beyond ``data[time]``; default 1 minus the model's
            :meth:`mlejax.Model.cdf`.
        alpha: one minus the coverage of the bands.

    Returns:
        The Axes: probability against time; the step function is Kaplan-Meier.

    Raises:
        CompanionError: ``of`` is not given and the model has no cdf.
        MissingColumnError: a column does not exist.
        ValueError: events are not 0 and 1, or ``alpha`` is not above 0 and at most 0.5.
        ImportError: matplotlib is not installed.

    Example:
        >>> import jax.numpy as jnp, mlejax as mle
        >>> @mle.model(rate=mle.Positive())
        ... def exponential(params, data):
        ...     return data["died"] * jnp.log(params["rate"]) - params["rate"] * data["t"]
        >>> data = {"t": [1.0, 2.0, 6.0, 3.0], "died": [1, 0, 1, 1]}
        >>> ax = mle.plot.survival(exponential.fit(data), data, "t", "died", of=lambda p, d: jnp.exp(-p["rate"] * d["t"]))
        >>> ax.get_ylabel()
        'survival'
    """
    rows = _frame(data, time, event, entry, by)
    if event is not None and not set(rows[event].unique().tolist()) <= {0, 1}:
        came = ", ".join(map(repr, rows[event].unique().tolist()[:3]))
        raise ValueError(f"event={event!r}: expected a column of 1 (the event) and 0 (censored), got {came}, ...")
    if of is None:
        cdf = companion(result.model.likelihood, "cdf", "mle.plot.survival without of=")
        of = lambda params, columns: 1.0 - cdf(params, columns)
    ax = new_axes(ax)
    grid = _times(rows[time].to_numpy(float))
    z = -NormalDist().inv_cdf(alpha / 2)
    groups = [("", rows)] if by is None else list(rows.groupby(by, sort=True))
    for i, (value, part) in enumerate(groups):
        found = result.margins(of=of, data=part, at={time: grid}, alpha=alpha)
        named = f"{by} = {value}" if by else f"fitted, with {percent(alpha)} band"
        _curve(ax, grid, np.asarray(found.params), np.asarray(found.bse), z, f"C{i}", named)
        ended = None if event is None else part[event]
        at, left = kaplan_meier(part[time], ended, None if entry is None else part[entry])
        style: dict[str, Any] = {"where": "post", "color": f"C{i}", "linewidth": 0.9}
        steps = [1.0, *left]
        ax.step([0.0, *at, part[time].max()], [*steps, steps[-1]], **style)
    ax.plot([], [], color=gray(ax, 0.7), linewidth=0.9, label="Kaplan-Meier")  # in the legend, for the curves of all groups
    ax.set_xlim(left=0.0)
    ax.set_ylim(0.0, 1.02)
    ax.set_xlabel(time)
    ax.set_ylabel("survival")
    legend(ax)
    return ax


def _times(observed: Host) -> Host:
    """Return the times at which a survival function is drawn, increasing: equal steps, the observed times (if there are many,
    quantiles of them), and halves, quarters, ... of the first.
    """
    seen = np.unique(observed[observed > 0])
    seen = seen if seen.size <= POINTS else np.quantile(seen, np.linspace(0, 1, POINTS), method="nearest")
    grid = np.union1d(np.linspace(0.0, observed.max(), POINTS + 1)[1:], seen)
    return np.union1d(grid[0] * 0.5 ** np.arange(1, EARLY + 1), grid)


def _curve(ax: Axes, x: Host, s: Host, error: Host, z: float, color: str, label: str) -> None:
    """Draw a survival curve s (k,) at times x (k,) that starts at 1, with the band S^exp(+-r), r = z times the standard error of
    log(-log S), from ``error``, the standard errors of s; curve and band start at (0, 1).
    """
    inner = np.clip(s, 1e-12, 1 - 1e-12)
    reach = np.exp(z * error / np.abs(inner * np.log(inner)))
    ax.plot([0.0, *x], [1.0, *s], color=color, linewidth=2, alpha=0.8, label=label)
    low, high = inner**reach, inner ** (1 / reach)
    ax.fill_between([0.0, *x], [1.0, *low], [1.0, *high], color=color, alpha=0.2, linewidth=0)


@door
def density(
    result: Any,
    data: Data,
    outcome: str,
    ax: Axes | None = None,
    *,
    of: Callable[..., Any] | None = None,
    bins: Any = "auto",
) -> Axes:
    """Plot the fitted density of an outcome, averaged over rows, with its histogram; for counts, probabilities with
    frequencies.

    Args:
        result: the result of a fit.
        data: the rows, a dict of columns or a table.
        outcome: name of the outcome column.
        ax: matplotlib Axes to draw on; new ones by default.
        of: ``f(params, data)`` -> (n,), the density at ``data[outcome]``; default exp of the model's row-wise log-likelihood.
        bins: as in ``numpy.histogram_bin_edges``.

    Returns:
        The Axes: density (probability) against the outcome.

    Raises:
        MissingColumnError: the column does not exist.
        ValueError: without ``of`` the model's function does not return one value for each row.
        ImportError: matplotlib is not installed.

    Example:
        >>> import mlejax as mle
        >>> from jax.scipy.stats import norm
        >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
        ... def gaussian(params, data):
        ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
        >>> data = {"y": [1.0, 2.0, 6.5, 3.0]}
        >>> mle.plot.density(gaussian.fit(data), data, "y").get_ylabel()
        'density'
    """
    rows = _frame(data, outcome)
    if of is None:
        likelihood = result.model.likelihood.natural or result.model.likelihood
        if not likelihood.rowwise or (likelihood.unit is not None and likelihood.joint is None):
            raise ValueError(
                f"density: {likelihood.name} does not return one log-density for each row; give of=lambda params, data: ..."
            )
        function = (likelihood.joint or likelihood).function
        of = lambda params, columns: _exp(function(params, columns))
    y = rows[outcome].to_numpy(float)
    ax, values = new_axes(ax), np.unique(y)
    if len(values) <= MOST_VALUES and (values == np.round(values)).all():
        grid, seen = np.arange(values[0], values[-1] + 1.0), "observed"
        ax.bar(grid, [(y == v).mean() for v in grid], width=0.8, color=gray(ax, 0.25), label=seen)
        style: dict[str, Any] = {"marker": "o", "linestyle": "", "markersize": 5, "label": "fitted"}
    else:
        pad = 0.05 * (y.max() - y.min())
        grid = np.linspace(y.min() - pad * (y.min() < 0), y.max() + pad, 2 * POINTS)
        ax.hist(y, bins=np.histogram_bin_edges(y, bins).tolist(), density=True, color=gray(ax, 0.25), label="observed")
        style = {"linewidth": 2, "label": "fitted"}
    at = grid.astype(rows[outcome].dtype) if "marker" in style else grid
    ax.plot(grid, np.asarray(result.margins(of=of, data=rows, at={outcome: at}).params), color="C0", **style)
    ax.set_ylim(bottom=0.0)
    ax.set_xlabel(outcome)
    ax.set_ylabel("probability" if "marker" in style else "density")
    legend(ax)
    return ax


def _exp(values: Host) -> Either:
    import jax.numpy as jnp

    return jnp.exp(values)


def _frame(data: Data, *names: str | None) -> pd.DataFrame:
    import pandas as pd

    missing = [name for name in names if name is not None and name not in data]
    if missing:
        raise missing_column(missing[0], data, "mle.plot")
    return pd.DataFrame({name: np.asarray(data[name]) for name in data})
