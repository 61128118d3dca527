"""Curves with interval bands: predictions and margins."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mlejax.misuse import door
from mlejax.plot.canvas import band, gray, intervals, legend, new_axes, percent, rows_with_labels
from mlejax.shapes import Data

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@door
def predictions(
    result: Any,
    data: Data,
    x: str,
    ax: Axes | None = None,
    *,
    of: Callable[..., Any] | None = None,
    alpha: float = 0.05,
    **options: Any,
) -> Axes:
    """Plot predictions for the rows of ``data`` against one of its columns, with their confidence intervals.

    Args:
        result: the result of a fit.
        data: the rows, a dict of columns or a table; each combination of values in the other columns is a line.
        x: the column on the horizontal axis; (n, 1) will do, as networks have it.
        ax: matplotlib Axes to draw on; new ones by default.
        of: the quantity, as for :meth:`mlejax.Results.predict`; default the parameter with a formula.
        alpha: one minus the coverage.
        options: further ones of :meth:`mlejax.Results.predict`: ``param=``, ``support=``, ``errors="last-layer"``.

    Returns:
        The Axes.

    Raises:
        ValueError: ``x`` is not a column of the data with one value per row, the prediction has several values for each row, or
            ``alpha`` is not above 0 and at most 0.5.
        ImportError: matplotlib is not installed.

    Example:
        >>> import mlejax as mle
        >>> from jax.scipy.stats import norm
        >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
        ... def gaussian(params, data):
        ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
        >>> res = gaussian.regress(mu="x").fit({"y": [1.0, 2.0, 6.0, 3.0], "x": [0, 1, 2, 0]})
        >>> mle.plot.predictions(res, {"x": [0.0, 1.0, 2.0]}, "x").get_xlabel()
        'x'
    """
    import pandas as pd

    columns = {name: np.asarray(data[name]) for name in data}
    rows = pd.DataFrame({name: a.ravel() for name, a in columns.items() if a.size == len(a)})
    if x not in rows:
        raise ValueError(f"x={x!r}: expected a column of the data that has one number per row, one of {list(rows)}")
    given = rows if all(a.ndim == 1 for a in columns.values()) else columns
    found = result.predict(*((given,) if of is None else (of, given)), alpha=alpha, **options)
    if len(found) != len(rows):
        raise ValueError(
            "predictions: expected one value for each row, got several; choose one of them with of=lambda params, data: ..."
        )
    numbers = found[["estimate", "conf_low", "conf_high"]].reset_index(drop=True)
    named = [c for c in rows if c != x and rows[c].nunique() > 1]
    what = of if isinstance(of, str) else options.get("param") or "prediction"
    kind = "last-layer band" if options.get("errors") == "last-layer" else "interval"
    return margins(pd.concat([rows, numbers], axis=1), x, named, ax, f"{what}, with {percent(alpha)} {kind}")


def margins(frame: pd.DataFrame, x: str, others: list[str], ax: Axes | None, ylabel: str) -> Axes:
    """Plot estimates with intervals against a column, one line with a band for each combination of ``others``, or points with
    bars if the column is not numeric; return the axes.

    Args:
        frame: table with the columns ``x``, ``others``, ``estimate``, ``conf_low``, ``conf_high``.
        x, others: names of columns.
        ax: matplotlib Axes to draw on; new ones by default.
        ylabel: label of the vertical axis.
    """
    import pandas as pd

    ax = new_axes(ax)
    for key, part in frame.groupby(others, sort=False) if others else [((), frame)]:
        label = ", ".join(f"{c} = {v}" for c, v in zip(others, key, strict=True)) or None
        estimate, low, high = (part[name].to_numpy(float) for name in ("estimate", "conf_low", "conf_high"))
        if pd.api.types.is_numeric_dtype(part[x]):
            band(ax, part[x], estimate, low, high, label)
        else:
            reach = [estimate - low, high - estimate]
            ax.errorbar(part[x].astype(str), estimate, reach, fmt="o", capsize=3, label=label)
    ax.set_xlabel(x)
    ax.set_ylabel(ylabel)
    legend(ax)
    return ax


def listed(frame: Any, ax: Any, xlabel: str) -> Any:
    """Plot estimates with intervals below each other, with a vertical line at 0; return the axes.

    Args:
        frame: table with the columns ``margin``, ``estimate``, ``conf_low``, ``conf_high``.
        ax: matplotlib Axes to draw on; by default new ones, as high as the rows need.
        xlabel: label of the horizontal axis.
    """
    ax = new_axes(ax, len(frame))
    estimate, low, high = (frame[name].to_numpy(float) for name in ("estimate", "conf_low", "conf_high"))
    intervals(ax, np.arange(len(frame)), estimate, low, high, "C0")
    rows_with_labels(ax, list(frame["margin"].astype(str)))
    ax.axvline(0.0, color=gray(ax), linewidth=0.8)
    ax.set_xlabel(xlabel)
    return ax
