"""Plots of profile likelihoods and of contours."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from mlejax.plot.canvas import gray, legend, new_axes, percent
from mlejax.shapes import Float, Host

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def profile(found: Any, ax: Axes | None, root: bool) -> Axes:
    """Plot a profile log-likelihood minus its maximum, or with ``root`` the signed root of the likelihood ratio; return the axes.

    The quadratic approximation is dashed; lines show the level that defines the interval, and its limits.
    ``found``: a `Profile`; ``ax``: axes to draw on, or None for new ones.
    """
    ax = new_axes(ax)
    z = -NormalDist().inv_cdf(found.alpha / 2)
    c = found.curve
    near = np.isfinite(c.root) & (np.abs(c.root) <= 1.75 * z)
    x, r = c.value[near], c.root[near]
    ends = [e.value for e in (found.lower, found.upper) if e.known and np.isfinite(e.value)]
    fine = np.linspace(x.min(), x.max(), 201)
    smooth = _smooth(x, r, fine)
    drawn = (lambda s: s) if root else (lambda s: -0.5 * s**2 * found.factor)
    ax.plot(fine, drawn(smooth), color="C0", label="profile")
    ax.plot(x, drawn(r), "o", color="C0", markersize=3.5)
    if np.isfinite(found.bse) and found.bse > 0:
        wald = (fine - found.params) / found.bse
        wald = np.where(np.abs(wald) <= 1.9 * z, wald, np.nan)
        ax.plot(fine, drawn(wald), "--", color=gray(ax), label="quadratic approximation")
    for level in (-z, z) if root else (-0.5 * z**2 * found.factor,):
        ax.axhline(level, color="C3", linewidth=0.8)
    for end in ends:
        ax.axvline(end, color="C3", linewidth=0.8, linestyle=":")
    ax.axvline(found.params, color=gray(ax, 0.3), linewidth=0.8)
    ax.set_xlabel(found.label)
    ax.set_ylabel("signed root of the likelihood ratio" if root else "log-likelihood less its maximum")
    shown = " to ".join(f"{e.value:.4g}" if e.known else "?" for e in (found.lower, found.upper))
    ax.set_title(f"{percent(found.alpha)} profile interval: {shown}", fontsize=10)
    legend(ax)
    return ax


def _smooth(x: Host, y: Host, fine: Host) -> Host:
    """Return the values at ``fine`` of a monotone cubic interpolant of the points (x, y), which need not be sorted; a linear one
    for fewer than three different x.
    """
    from scipy.interpolate import PchipInterpolator

    x, first = np.unique(x, return_index=True)
    return PchipInterpolator(x, y[first])(fine) if len(x) > 2 else np.interp(fine, x, y[first])


def _around(x: Float[Host, " k"], y: Float[Host, " k"]) -> tuple[Float[Host, " m"], Float[Host, " m"]]:
    """Return a smooth closed curve through points in order, of which the last repeats the first: x and y of 721 points of
    a periodic cubic spline.

    The points themselves are returned if some are not finite, fewer than four differ, or x or y is constant.
    """
    from scipy.interpolate import CubicSpline

    if not np.isfinite(x + y).all() or np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
        return x, y
    steps = np.sqrt(np.hypot(np.diff(x) / np.ptp(x), np.diff(y) / np.ptp(y)))
    along, kept = np.unique(np.append(0.0, np.cumsum(steps)), return_index=True)
    if len(along) < 4:
        return x, y
    corners = np.stack([x, y], axis=1)[kept]
    corners[-1] = corners[0]
    drawn = CubicSpline(along, corners, bc_type="periodic")(np.linspace(0.0, along[-1], 721))
    return drawn[:, 0], drawn[:, 1]


def contour(found: Any, ax: Axes | None) -> Axes:
    """Plot the region of two parameters (``found``: a `Contour`), and the ellipse of the quadratic approximation dashed; return
    the axes.
    """
    ax = new_axes(ax)
    known = np.isfinite(found.x) & np.isfinite(found.y)
    x, y = (np.where(known, a, np.nan) for a in (found.x, found.y))
    name = f"{percent(found.alpha)} {'region' if found.joint else 'contour of chi-squared 1'}"
    ax.plot(*_around(np.append(x, x[0]), np.append(y, y[0])), color="C0", label=f"{name}, profile likelihood")
    around = [np.append(a, a[0]) for a in found.ellipse]
    ax.plot(*_around(*around), "--", color=gray(ax), label="quadratic approximation")
    ax.margins(0.1)
    ax.plot(*found.params, "+", color="C3", markersize=9)
    ax.set_xlabel(found.labels[0])
    ax.set_ylabel(found.labels[1])
    legend(ax, above=True)
    return ax
