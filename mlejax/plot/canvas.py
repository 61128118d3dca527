"""Drawing functions for all plots: new axes, colours for light and dark styles, points with intervals, bands, legends.

matplotlib is imported when a plot is drawn. Gray lines have the colour of the style's text, half transparent.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from jax.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

SMALL = 8  # font size of legends and remarks
LONGEST = 44  # characters of a label; longer ones are cut in the middle
ROW = 0.28  # inches for one row of a list of estimates


def new_axes(ax: Axes | None, n_rows: float | None = None) -> Axes:
    """Return the given Axes, or those of a new pyplot figure, which notebooks show.

    Args:
        ax: matplotlib Axes or None.
        n_rows: number of rows of a list of estimates, which sets the height of a new figure.

    Raises:
        ImportError: matplotlib is not installed.
    """
    if ax is not None:
        return ax
    height = 4.0 if n_rows is None else max(2.0, 1.1 + ROW * n_rows)
    return pyplot().subplots(figsize=(6.4, height), layout="constrained")[1]


def pyplot() -> ModuleType:
    """Return matplotlib.pyplot; ImportError, which names the package to install, if it is missing."""
    try:
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'mlejax[plot]'") from error
    return plt


def gray(ax: Axes, strength: float = 0.5) -> tuple[float, float, float, float]:
    """Return the colour of the axis labels with opacity ``strength``, as RGBA: readable on light and dark backgrounds.

    >>> from types import SimpleNamespace as S
    >>> gray(S(xaxis=S(label=S(get_color=lambda: "black"))), 0.25)
    (0.0, 0.0, 0.0, 0.25)
    """
    from matplotlib.colors import to_rgba

    return (*to_rgba(ax.xaxis.label.get_color())[:3], strength)


def shortened(label: str, longest: int = LONGEST) -> str:
    """Return a label of at most ``longest`` characters: a longer one has its middle replaced by "…".

    >>> shortened("mu[education of the father]", 15)
    'mu[educ…father]'
    """
    keep = longest - 1
    return label if len(label) <= longest else f"{label[: keep // 2]}…{label[-(keep - keep // 2) :]}"


def told_apart(labels: Sequence[str], longest: int = LONGEST) -> list[str]:
    """Shorten labels to ``longest`` characters; of those that would look the same, show the part in which they differ.

    >>> told_apart(["mu[year of birth 1 of child]", "mu[year of birth 2 of child]", "sigma"], 15)
    ['…birth 1 of ch…', '…birth 2 of ch…', 'sigma']
    """
    short, kept = [shortened(label, longest) for label in labels], longest - 2
    out = short.copy()
    for i, label in enumerate(labels):
        alike = [other for other, cut in zip(labels, short, strict=True) if cut == short[i] and other != label]
        if alike:
            both = (takewhile(lambda pair: pair[0] == pair[1], zip(label, o, strict=False)) for o in alike)
            first = min(sum(1 for _ in pairs) for pairs in both)  # character in which they differ
            at = min(max(first - kept // 2, 0), len(label) - kept)
            out[i] = "…" * (at > 0) + label[at : at + kept] + "…" * (at + kept < len(label))
    return out


def percent(alpha: float) -> str:
    """Return the coverage 1 - alpha of intervals as a string.

    >>> percent(0.05)
    '95 %'
    """
    return f"{100 * (1 - alpha):g} %"


def rows_with_labels(ax: Axes, labels: Sequence[str]) -> None:
    """Label the rows of a list, at y = 0, 1, ... from top to bottom, on the y axis of ``ax``, in small letters above 20 rows;
    long labels are shortened.
    """
    ax.set_yticks(np.arange(len(labels)), told_apart(labels))
    if len(labels) > 20:
        ax.tick_params(axis="y", labelsize=SMALL)
    ax.set_ylim(len(labels) - 0.4, -0.6)


def intervals(
    ax: Axes,
    y: ArrayLike,
    values: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    color: str | tuple[float, ...],
    label: str | None = None,
) -> None:
    """Draw points (values[i], y[i]) with horizontal intervals from low[i] to high[i] on ``ax``; a point with a limit that is not
    finite is hollow and without interval, a value that is not finite is not drawn.  ``label``: for the legend.
    """
    y, values, low, high = (np.asarray(a, float) for a in (y, values, low, high))
    shown = np.isfinite(values)
    known = shown & np.isfinite(low) & np.isfinite(high)
    ax.hlines(y[known], low[known], high[known], color=color, linewidth=1.4)
    style: dict[str, Any] = {"marker": "o", "linestyle": "", "color": color, "markersize": 4.5}
    for which, fill in ((known, color), (shown & ~known, "none")):
        if which.any():
            ax.plot(values[which], y[which], label=label, markerfacecolor=fill, **style)
            label = None


def band(
    ax: Axes,
    x: ArrayLike,
    values: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    label: str | None = None,
    **style: Any,
) -> Line2D:
    """Draw a curve of ``values`` against x, sorted by x, with a band from ``low`` to ``high`` on ``ax``; return the line.

    ``label``: for the legend; ``style``: options of matplotlib's ``plot``.
    """
    order = np.argsort(np.asarray(x), kind="stable")
    x, values, low, high = (np.asarray(a, float)[order] for a in (x, values, low, high))
    line = ax.plot(x, values, label=label, **style)[0]
    ax.fill_between(x, low, high, alpha=0.2, color=line.get_color(), linewidth=0)
    return line


def legend(ax: Axes, above: bool = False) -> None:
    """Draw a legend without a frame on ``ax`` if anything there is labelled; with ``above``, above the axes, where it hides no
    row.
    """
    handles, labels = ax.get_legend_handles_labels()
    labels = told_apart(labels)
    beside = 3 if sum(map(len, labels[:3])) <= LONGEST else 1
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "ncols": beside} if above else {}
    if labels:
        ax.legend(handles, labels, frameon=False, fontsize=SMALL, **place)
