"""Plots of residuals, influence and simulation studies."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from jax.typing import ArrayLike

from mlejax.plot.canvas import SMALL, gray, legend, new_axes, pyplot
from mlejax.shapes import Host

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELLED = 5  # the most influential rows


def quantiles(values: Host, name: str, ax: Axes | None) -> Axes:
    """Plot sorted values (n,) against normal quantiles, with the line on which standard normal values fall; return the axes.
    ``name``: label of the vertical axis; ``ax``: axes to draw on, or None for new ones.
    """
    ax, n = new_axes(ax), values.size
    theory = np.array([NormalDist().inv_cdf((i + 0.5) / n) for i in range(n)])
    ax.plot(theory, np.sort(values), ".", markersize=4)
    ax.axline((0.0, 0.0), slope=1.0, color="C3", linewidth=1)
    ax.set_xlabel("normal quantile")
    ax.set_ylabel(name)
    return ax


def uniform(u: Host, ax: Axes | None) -> Axes:
    """Plot a histogram of probability integral transforms u (n,), with the line at 1 that it follows if the model is true;
    return the axes.
    """
    ax = new_axes(ax)
    ax.hist(u, bins=max(10, min(30, u.size // 20)), range=(0.0, 1.0), density=True)
    ax.axhline(1.0, color="C3", linewidth=1)
    ax.set_xlabel("u, the fitted distribution function at each outcome")
    ax.set_ylabel("density")
    return ax


def over(x: ArrayLike | None, values: Host, name: str, ax: Axes | None) -> Axes:
    """Plot values (n,) as points against x (n,), or in their order if x is None, with a line at 0; return the axes.

    ``name``: label of the vertical axis; ``ax``: axes to draw on, or None for new ones.
    """
    ax = new_axes(ax)
    ax.plot(np.arange(values.size) if x is None else np.asarray(x), values, ".", markersize=4)
    ax.axhline(0.0, color="C3", linewidth=1)
    ax.set_xlabel("row" if x is None else getattr(x, "name", None) or "x")
    ax.set_ylabel(name)
    return ax


def distances(values: Host, labels: Host, what: str, ax: Axes | None) -> Axes:
    """Plot Cook's distances (n,) in the order of the data, the five largest with their labels; return the axes.  ``what``: the
    label of the horizontal axis.
    """
    ax = new_axes(ax)
    ax.vlines(np.arange(values.size), 0.0, values, linewidth=0.8)
    for i in np.argsort(-values)[:LABELLED].tolist():
        ax.annotate(str(labels[i]), (i, values[i]), textcoords="offset points", xytext=(3, 2), fontsize=SMALL)
    ax.set_xlabel(what)
    ax.set_ylabel("Cook's distance")
    return ax


def study(table: pd.DataFrame, alpha: float) -> Figure:
    """Plot bias, spread, coverage and efficiency of a simulation study against the number of rows, one column of panels for
    each entry; return the figure.

    Args:
        table: the study, as `SimulationStudy.frame` returns it.
        alpha: one minus the nominal coverage.

    Raises:
        ImportError: matplotlib is not installed.
    """
    plt = pyplot()
    terms = list(dict.fromkeys(table["term"]))
    figure = plt.figure(figsize=(3.6 * len(terms) + 0.6, 9.0), layout="constrained")
    axes = figure.subplots(4, len(terms), sharex=True, squeeze=False)
    for j, term in enumerate(terms):
        _panels(axes[:, j], table[table["term"] == term], alpha)
        axes[0, j].set_title(str(term))
        axes[-1, j].set_xlabel("rows")
    for i, name in enumerate(("bias", "spread", "coverage", "efficiency")):
        axes[i, 0].set_ylabel(name)
    return figure


def _panels(axes: Host, table: pd.DataFrame, alpha: float) -> None:
    n = table["n"].to_numpy()
    style: dict[str, Any] = {"capsize": 3, "marker": "o", "markersize": 4}
    line = {"color": gray(axes[0]), "linewidth": 0.8}
    axes[0].axhline(0.0, **line)
    axes[0].errorbar(n, table["bias"], 2 * table["bias_mc"], **style)
    axes[1].loglog(n, table["sd"], marker="o", markersize=4, label="of the estimates")
    axes[1].loglog(n, table["mean_se"], marker="s", markersize=4, linestyle="--", label="mean std err")
    legend(axes[1])
    axes[2].axhline(1 - alpha, **line)
    axes[2].errorbar(n, table["coverage"], 2 * table["coverage_mc"], **style)
    axes[3].axhline(1.0, **line)
    axes[3].errorbar(n, table["efficiency"], 2 * table["efficiency_mc"], **style)
    axes[3].set_xscale("log")
