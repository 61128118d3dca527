"""What all pictures share: new axes, colours that suit light and dark styles, points with intervals, bands, legends.

matplotlib is imported when a picture is drawn. Gray lines take the colour of the style's text, half transparent.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    """The Axes given, or one of a new figure of pyplot, which notebooks show.

    Args:
        ax: matplotlib Axes or None.
        n_rows: rows of a list of estimates, for which the figure grows.

    Raises:
        ImportError: matplotlib is not installed.
    """
    if ax is not None:
        return ax
    height = 4.0 if n_rows is None else max(2.0, 1.1 + ROW * n_rows)
    return pyplot().subplots(figsize=(6.4, height), layout="constrained")[1]


def pyplot() -> ModuleType:
    """matplotlib.pyplot; ImportError says what to install."""
    try:
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'mlejax[plot]'") from error
    return plt


def gray(ax: Axes, strength: float = 0.5) -> tuple[float, float, float, float]:
    """The colour of the labels, transparent: readable on light and dark backgrounds.

    >>> from types import SimpleNamespace as S
    >>> gray(S(xaxis=S(label=S(get_color=lambda: "black"))), 0.25)
    (0.0, 0.0, 0.0, 0.25)
    """
    from matplotlib.colors import to_rgba

    return (*to_rgba(ax.xaxis.label.get_color())[:3], strength)


def shortened(label: str, longest: int = LONGEST) -> str:
    """A label without its middle if it is too long.

    >>> shortened("mu[education of the father]", 15)
    'mu[educ…father]'
    """
    keep = longest - 1
    return label if len(label) <= longest else f"{label[: keep // 2]}…{label[-(keep - keep // 2) :]}"


def percent(alpha: float) -> str:
    """The coverage of intervals in words.

    >>> percent(0.05)
    '95 %'
    """
    return f"{100 * (1 - alpha):g} %"


def rows_with_labels(ax: Axes, labels: Sequence[str]) -> None:
    """The y axis of a list from top to bottom; small letters if there are many."""
    ax.set_yticks(np.arange(len(labels)), [shortened(label) for label in labels])
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
    """Points with horizontal intervals: hollow without one, and nothing where there is no value."""
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
    """A curve with the band of its intervals; returns the line."""
    order = np.argsort(np.asarray(x), kind="stable")
    x, values, low, high = (np.asarray(a, float)[order] for a in (x, values, low, high))
    line = ax.plot(x, values, label=label, **style)[0]
    ax.fill_between(x, low, high, alpha=0.2, color=line.get_color(), linewidth=0)
    return line


def legend(ax: Axes, above: bool = False) -> None:
    """A legend without a frame, if anything is labelled; above the axes of a list, where it covers no row."""
    handles, labels = ax.get_legend_handles_labels()
    labels = [shortened(label) for label in labels]
    beside = 3 if sum(map(len, labels[:3])) <= LONGEST else 1
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "ncols": beside} if above else {}
    if labels:
        ax.legend(handles, labels, frameon=False, fontsize=SMALL, **place)
