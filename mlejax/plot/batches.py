"""Plots of the estimates of many data sets: a forest plot of intervals, or a histogram; colours show the verdicts."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mlejax.misuse import door
from mlejax.parameters import AddressError, near
from mlejax.plot.canvas import gray, intervals, legend, new_axes, percent, rows_with_labels
from mlejax.shapes import Host
from mlejax.verdict import CONVERGED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = {
    "verified": "C0", "boundary": "C2", "no_finite_maximum": "C3", "not_identified": "C1", "saddle": "C4",
    "stopped_early": "C5", "not_computable": "C6",
}  # fmt: skip
FOREST = 60  # data sets that are listed one by one
MARGIN = 0.1  # of the range of estimates


@door
def estimates(
    many: Any,
    term: str | None = None,
    ax: Axes | None = None,
    *,
    kind: Literal["forest", "hist"] | None = None,
    alpha: float = 0.05,
) -> Axes:
    """Plot the estimates of one entry over many data sets.

    The axis covers the estimates of data sets with a maximum.  Other estimates beyond the axis are drawn as triangles at its
    end (in a histogram they are counted in the legend).

    Args:
        many: the result of ``fit_batch`` or ``fit_groups``.
        term: name of the entry; the first by default.
        ax: matplotlib Axes to draw on; new ones by default.
        kind: ``"forest"``, one row with an interval for each data set, or ``"hist"``; by default a forest of up to 60 data
            sets.
        alpha: one minus the coverage.

    Returns:
        The Axes.

    Raises:
        AddressError: there is no entry of that name.
        ValueError: an unknown kind, or (for a forest) ``alpha`` is not above 0 and at most 0.5.
        ImportError: matplotlib is not installed.

    Example:
        >>> import mlejax as mle
        >>> @mle.model(mu=mle.Real())
        ... def unit_normal(params, data):
        ...     return -0.5 * (data["y"] - params["mu"]) ** 2
        >>> many = unit_normal.fit_groups({"g": list("aabb"), "y": [1.0, 2.0, 3.0, 4.0]}, by="g")
        >>> [tick.get_text() for tick in many.plot("mu").get_yticklabels()]
        ['a', 'b']
    """
    values = many.params
    term = values.columns[0] if term is None else term
    if term not in values.columns:
        meant = near(str(term), list(values.columns))
        raise AddressError(f"no entry {term!r}{meant}; name one of {', '.join(values.columns[:20])}")
    if kind not in (None, "forest", "hist"):
        raise ValueError(f"kind={kind!r}: expected 'forest' or 'hist'")
    forest = kind == "forest" or (kind is None and len(values) <= FOREST)
    codes, x = many.verdict.to_numpy(str), values[term].to_numpy(float)
    good = np.isin(codes, CONVERGED) & np.isfinite(x)
    limits = _limits(x[good] if good.any() else x[np.isfinite(x)])
    ax = new_axes(ax, len(values) if forest else None)
    if forest:
        found = many.conf_int(alpha)
        place = list(values.columns).index(term)
        low, high = (found[side].to_numpy(float).reshape(values.shape)[:, place] for side in ("lower", "upper"))
        limits = _limits(np.concatenate([a[good & np.isfinite(a)] for a in (x, low, high)])) if good.any() else limits
        _forest(ax, values.index, codes, (x, low, high), limits)
        ax.set_xlabel(f"{term} with {percent(alpha)} interval")
    else:
        _histogram(ax, codes, x, limits)
        ax.set_xlabel(term)
        ax.set_ylabel("data sets")
    if limits is not None:
        ax.set_xlim(*limits)
    if len(set(codes.tolist())) > 1 or not forest:
        legend(ax, above=True)
    return ax


def _limits(values: Host) -> tuple[float, float] | None:
    if not values.size:
        return None
    reach = MARGIN * (values.max() - values.min()) or max(abs(values[0]), 1.0) * MARGIN
    return float(values.min() - reach), float(values.max() + reach)


def _forest(ax: Axes, labels: Iterable[Hashable], codes: Host, numbers: tuple[Any, Any, Any], limits: Any) -> None:
    x, low, high = numbers
    for code in sorted(set(codes.tolist())):
        rows = np.flatnonzero(codes == code)
        intervals(ax, rows, x[rows], low[rows], high[rows], COLORS[code], code.replace("_", " "))
        for side, beyond in enumerate(() if limits is None else (x < limits[0], x > limits[1])):
            out = rows[beyond[rows]]
            ax.plot(np.full(out.size, limits[side]), out, "<>"[side], color=COLORS[code], clip_on=False)
    ax.grid(axis="x", color=gray(ax, 0.2), linewidth=0.6)
    rows_with_labels(ax, [", ".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in labels])


def _histogram(ax: Axes, codes: Host, x: Host, limits: Any) -> None:
    inside = np.isfinite(x) & (x >= limits[0]) & (x <= limits[1]) if limits is not None else np.zeros(x.shape, bool)
    kinds = sorted(set(codes.tolist()), key=lambda code: (code not in CONVERGED, code))
    words = []
    for code in kinds:
        n, out = int((codes == code).sum()), int((~inside & (codes == code)).sum())
        words.append(f"{code.replace('_', ' ')}: {n:,}" + (f" ({out:,} not shown)" if out else ""))
    edges = np.histogram_bin_edges(x[inside], "auto").tolist() if inside.any() else 1
    parts = [x[inside & (codes == code)] for code in kinds]
    ax.hist(parts, bins=edges, stacked=True, color=[COLORS[code] for code in kinds], label=words)
