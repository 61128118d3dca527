"""Plot of estimates with their intervals, of one fit or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mlejax.misuse import door
from mlejax.plot.canvas import SMALL, gray, intervals, legend, new_axes, percent, rows_with_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SPREAD = 0.5  # of a row, over which the points of several fits are spread


@door
def coefficients(
    results: Any,
    ax: Axes | None = None,
    *,
    alpha: float = 0.05,
    keep: Sequence[str] | None = None,
    drop: Sequence[str] = (),
    rename: Mapping[str, str] | None = None,
    names: Sequence[str] | None = None,
    eform: bool | Sequence[str] = False,
) -> Axes:
    """Plot estimates with confidence intervals, one row for each entry, with the numbers of the summary (natural scale).

    A point without an interval is hollow; an entry without an estimate is labelled so; fits without a maximum show their verdict.

    Args:
        results: the result of a fit, or several.
        ax: matplotlib Axes to draw on; by default new ones, as high as the rows need.
        alpha: one minus the coverage.
        keep, drop: names of entries, or of parameters for all of their entries; all are kept by default.
        rename: dict from names of entries to labels.
        names: names of the fits, for the legend.
        eform: exponentiate coefficients, on a logarithmic axis, as in :meth:`mlejax.Results.summary`.

    Returns:
        The Axes.

    Raises:
        ValueError: there are no results or no entries to draw (a result of more than 200 lists none), the number of names is
            not that of the fits, ``alpha`` is not above 0 and at most 0.5, or as :meth:`mlejax.Results.summary` because of
            ``eform``.
        TypeError: something in ``results`` is no result.
        ImportError: matplotlib is not installed.

    Example:
        >>> import mlejax as mle
        >>> from jax.scipy.stats import norm
        >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
        ... def gaussian(params, data):
        ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
        >>> ax = mle.plot.coefficients(gaussian.fit({"y": [1.0, 2.0, 6.0, 3.0]}))
        >>> [tick.get_text() for tick in ax.get_yticklabels()]
        ['mu', 'sigma']
    """
    fits = list(results) if isinstance(results, Sequence) else [results]
    if not fits:
        raise ValueError("coefficients: expected the result of a fit, or several, got an empty list")
    heads = _heads(fits, names)
    found = [{t.name: t for t in fit.summary(alpha, eform=eform).terms} for fit in fits]
    every = list(dict.fromkeys(name for terms in found for name in terms))
    rows = [name for name in every if (keep is None or _named(name, keep)) and not _named(name, drop)]
    if not rows:
        what = "the result has more than 200 estimates: plot some of res.params" if not every else f"the entries are {every}"
        raise ValueError(f"coefficients: no entry to draw; {what}")
    ax = new_axes(ax, len(rows) * (1 if len(fits) < 3 else 1 + len(fits) / 4))
    ax.axvline(1.0 if eform else 0.0, color=gray(ax, 0.4), linewidth=0.8)
    for i, (head, terms) in enumerate(zip(heads, found, strict=True)):
        shift = SPREAD * ((i + 0.5) / len(fits) - 0.5)
        y = np.array([j + shift for j, name in enumerate(rows) if name in terms])
        chosen = [terms[name] for name in rows if name in terms]
        values, low, high = (np.array([getattr(t, n) for t in chosen]) for n in ("coef", "low", "high"))
        intervals(ax, y, values, low, high, f"C{i}", head if len(fits) > 1 else None)
        for at in y[~np.isfinite(values)]:
            ax.annotate("no estimate", (0.5, at), xycoords=("axes fraction", "data"), fontsize=SMALL, va="center")
    if eform:
        _ratios(ax)
    rows_with_labels(ax, [(rename or {}).get(name, name) for name in rows])
    ax.set_xlabel(f"{'exp(coef)' if eform else 'estimate'} with {percent(alpha)} interval")
    if len(fits) > 1:
        legend(ax, above=True)
    elif not fits[0].converged:
        ax.set_title(heads[0], fontsize=10)
    return ax


def _heads(fits: Sequence[Any], names: Sequence[str] | None) -> list[str]:
    """Return the names of the fits for the legend: ``names``, or those of the models (numbered if two are equal), followed by
    the verdict of a fit that is not at a maximum.

    Raises:
        TypeError: one of ``fits`` is no result.
        ValueError: the number of ``names`` is not that of the fits.
    """
    for fit in fits:
        if not hasattr(fit, "summary") or not hasattr(fit, "verdict"):
            raise TypeError(f"coefficients expected results, as model.fit returns them, got {type(fit).__name__}")
    own = [fit.model.likelihood.name for fit in fits]
    given = list(names or (own if len(set(own)) == len(own) else [f"{name} ({i + 1})" for i, name in enumerate(own)]))
    if len(given) != len(fits):
        raise ValueError(f"names: expected {len(fits)} names, one for each result, got {given}")
    return [n if f.converged else f"{n}: {f.verdict.code}" for n, f in zip(given, fits, strict=True)]


def _ratios(ax: Axes) -> None:
    """Make the x axis of ``ax`` logarithmic, with ticks at 1, 2 and 5 times the powers of 10."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _named(entry: str, addresses: Sequence[str]) -> bool:
    """True if one of ``addresses`` is the name of the entry, or of the parameter or subtree that it belongs to.

    >>> _named("mu[age]", ["mu"]), _named("mu[age]", ["mu[sex]", "m"])
    (True, False)
    """
    return any(entry == a or entry.startswith((f"{a}[", f"{a}.")) for a in addresses)
