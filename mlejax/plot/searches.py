"""Plots of a search: the log-likelihood at each step, and where many starts ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mlejax.misuse import door
from mlejax.plot.canvas import SMALL, gray, legend, new_axes, rows_with_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALLEST = 1e-12  # relative distance to the maximum that is drawn; below is rounding
KINDS = {"maximum": "C0", "copy": "C2", "plateau": "C1", "spike": "C3"}
MOST = 60  # ends that are listed


@door
def convergence(result: Any, ax: Axes | None = None) -> Axes:
    """Plot how far each step of the search was below the highest log-likelihood; for minibatch training, the log-likelihood
    by epoch.

    Args:
        result: the result of a fit; Newton's method, BHHH and EM record every step, other methods some of the steps.
        ax: matplotlib Axes to draw on; new ones by default.

    Returns:
        The Axes: log-likelihood units on a logarithmic axis, or means per row against epochs.

    Raises:
        ValueError: the result has no record of its search.
        ImportError: matplotlib is not installed.

    Example:
        >>> import mlejax as mle
        >>> from jax.scipy.stats import norm
        >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
        ... def gaussian(params, data):
        ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
        >>> mle.plot.convergence(gaussian.fit({"y": [1.0, 2.0, 6.0, 3.0]})).get_xlabel()
        'step'
    """
    seen, path = result.history, result.path
    if seen is None and len(path) < 2:
        why = "has no record (fits of many data sets and files of older versions have none): fit the data set by itself"
        if len(path):
            why = "has no step, since the search ended at its start: give another start="
        raise ValueError(f"convergence needs a result with a record of its steps; this one {why}")
    ax = new_axes(ax)
    if seen is not None:
        for column, label in (("train", "training rows"), ("validation", "validation rows")):
            if column in seen:
                ax.plot(seen.index, seen[column], label=label)
        kept = seen.index[seen["kept"]][0] if seen["kept"].any() else 0  # 0: the start
        ax.axvline(kept, color=gray(ax), linewidth=0.8, linestyle=":", label="kept" if kept else "kept: the start")
        ax.locator_params("x", integer=True)
        ax.set_xlabel("epoch")
        ax.set_ylabel("mean log-likelihood per row")
    else:
        steps, values = path.index.to_numpy(), path.to_numpy()
        best = np.nanmax(values)
        below = np.maximum(best - values, SMALLEST * max(1.0, abs(best)))
        ax.semilogy(steps, below, "o-", markersize=4)
        ax.set_xlabel("step")
        ax.set_ylabel("log-likelihood below the highest found")
        ax.locator_params("x", integer=True)
        ax.set_title(f"{result.verdict.code.replace('_', ' ')}: {best:.6g} after {int(steps[-1])} steps", fontsize=10)
    legend(ax)
    return ax


@door
def modes(result: Any, ax: Axes | None = None) -> Axes:
    """Plot the final points of the starts of ``fit(..., n_starts=...)``: one row for each of the first 60 points, larger markers
    for more starts.

    Args:
        result: the result of a fit.
        ax: matplotlib Axes to draw on; new ones by default.

    Returns:
        The Axes: log-likelihood, highest first; colours distinguish maxima, copies (label switching), plateaus and spikes.

    Raises:
        ImportError: matplotlib is not installed.
    """
    table = result.modes.head(MOST)
    ax = new_axes(ax, len(table))
    values, starts = table["llf"].to_numpy(float), table["n_starts"].to_numpy(int)
    shown = np.isfinite(values)
    for kind in dict.fromkeys(table["kind"]):
        rows = np.flatnonzero(shown & (table["kind"] == kind).to_numpy())
        color = KINDS.get(kind, gray(ax))
        ax.scatter(values[rows], rows, s=25 + 150 * starts[rows] / starts.max(), color=color)
    for row in np.flatnonzero(~shown):
        ax.annotate("no log-likelihood", (0.5, row), xycoords=("axes fraction", "data"), fontsize=SMALL, va="center")
    words = [f"{kind}, {n} start{'' if n == 1 else 's'}" for kind, n in zip(table["kind"], starts, strict=True)]
    rows_with_labels(ax, words)
    ax.margins(x=0.08)
    ax.grid(axis="x", color=gray(ax, 0.2), linewidth=0.6)
    ax.set_xlabel("log-likelihood")
    return ax
