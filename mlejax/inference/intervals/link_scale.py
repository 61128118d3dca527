r"""Wald intervals of single entries, on the scale of their support.

With a link :math:`u = h(x)` (log for a positive entry, logit for an interval, the logit of (-1, 1), twice the inverse
hyperbolic tangent, for a correlation), the delta method gives :math:`se_u = se_x |h'(x)|`, and the interval

.. math:: h^{-1}\bigl(h(\hat x) \pm c\, se_x |h'(\hat x)|\bigr), \qquad c = \Phi^{-1}(1 - \alpha/2),

lies inside the support for every standard error. `scale="natural"` gives the symmetric :math:`\hat x \pm c\,se_x`.

Near a bound that belongs to the support (a variance that may be 0) the estimate is not asymptotically normal, so an entry
within 2 standard errors of such a bound (within c if that is more) gets no Wald interval, on either scale: its limits are
NaN and its note says why. An interval on the link scale therefore stays inside the support at every alpha.

Self & Liang (1987), *Asymptotic properties of maximum likelihood estimators under nonstandard conditions*, JASA 82.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from mlejax.execution import evaluated, float64
from mlejax.inference.normal import critical_value
from mlejax.shapes import Either
from mlejax.transforms import Identity, Log

BOUND_DISTANCE = 2.0
"""An entry within this many standard errors of a bound that belongs to its support gets no Wald interval."""

SCALES = ("link", "natural")


@runtime_checkable
class IntervalLink(Protocol):
    """An elementwise bijection from the real line to a support: ``forward(u, shape)`` and its inverse.

    A transform returns one for each of its entries by `interval_links`.
    """

    def forward(self, u: Either, shape: tuple[int, ...]) -> Either: ...

    def inverse(self, value: Either) -> Either: ...


@dataclass(frozen=True, eq=False)
class Intervals:
    """Lower and upper confidence limits, with the reason for each one that is missing.

    Attributes:
      low, high: lower and upper limits (m,), natural scale; NaN where there is no interval.
      notes: m strings: why a limit is missing or doubtful, else empty.
      alpha: 1 - coverage.
      scale: ``"link"`` or ``"natural"``.
    """

    low: np.ndarray
    high: np.ndarray
    notes: tuple[str, ...]
    alpha: float
    scale: str


def supports(links: Sequence[IntervalLink]) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper bound of the support of every link: the values of its forward map at -inf and +inf.

    Args:
      links: m elementwise bijections.

    Returns:
      (lower, upper), both (m,).
    """
    lower, upper = np.full(len(links), -np.inf), np.full(len(links), np.inf)
    with float64():
        for link, where in _grouped(links):
            ends = np.asarray(evaluated(lambda u, link=link: link.forward(u, (2,)), np.array([-np.inf, np.inf])))
            lower[where], upper[where] = ends.min(), ends.max()
    return lower, upper


def confidence_intervals(
    params: ArrayLike,
    bse: ArrayLike,
    *,
    links: Sequence[IntervalLink] | None = None,
    lower_bound: ArrayLike = -np.inf,
    upper_bound: ArrayLike = np.inf,
    alpha: float = 0.05,
    scale: str = "link",
    df: float = np.inf,
) -> Intervals:
    """Return Wald intervals of single entries, computed on the link scale and mapped back, or on the natural scale.

    Args:
      params: estimates (m,), natural scale.
      bse: standard errors (m,), natural scale; one that is negative or not finite gives NaN limits.
      links: m elementwise bijections (hashable); None means the identity for all.
      lower_bound: lower bounds that belong to the supports, -inf where no bound does; broadcast to (m,).  An estimate
          within 2 standard errors of such a bound (the critical value, if that is more) has NaN limits and a note.
      upper_bound: upper bounds that belong to the supports, +inf where no bound does.
      alpha: 1 - coverage.
      scale: ``"link"`` or ``"natural"``; on the natural scale, limits outside the support are noted.
      df: degrees of freedom of Student's t; inf for the normal distribution.

    Returns:
      `Intervals`, every limit on the natural scale.

    Raises:
      ValueError: alpha outside (0, 0.5], an unknown scale, or arguments of different lengths.

    >>> ci = confidence_intervals([1.0, 0.3], [0.1, 0.2], lower_bound=[-np.inf, 0.0])
    >>> ci.low.round(3).tolist(), ci.notes[1]
    ([0.804, nan], "within 2 standard errors of its bound 0: use conf_int(method='profile')")
    """
    if scale not in SCALES:
        raise ValueError(f"scale: expected one of {SCALES}, got {scale!r}")
    value, error = np.asarray(params, np.float64), np.asarray(bse, np.float64)
    if value.ndim != 1 or error.shape != value.shape:
        raise ValueError(f"params and bse: expected two (m,) arrays, got {value.shape} and {error.shape}")
    if links is not None and len(links) != value.size:
        raise ValueError(f"links: expected {value.size}, one per entry, got {len(links)}")
    reach = critical_value(alpha, df)
    error = np.where(np.isfinite(error) & (error >= 0) & np.isfinite(value), error, np.nan)
    if scale == "natural" or links is None:
        low, high = value - reach * error, value + reach * error
        notes = [""] * value.size if links is None else _leaving(low, high, links)
    else:
        low, high, notes = _on_link_scale(value, error, links, reach)
    for i, note in _bound_notes(value, error, lower_bound, upper_bound, max(BOUND_DISTANCE, reach)):
        low[i] = high[i] = np.nan
        notes[i] = note
    return Intervals(low, high, tuple(notes), float(alpha), scale)


def _leaving(low: np.ndarray, high: np.ndarray, links: Sequence[IntervalLink]) -> list[str]:
    """Return "leaves the support" for each interval of which a limit is outside the support of its link, else ""."""
    lowest, highest = supports(links)
    return ["leaves the support" if out else "" for out in (low < lowest) | (high > highest)]


def _on_link_scale(
    value: np.ndarray, error: np.ndarray, links: Sequence[IntervalLink], reach: float
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return lower and upper limits (m,), made on the scale of each value's link and transformed back, and notes.

    ``reach``: the critical value.  Limits are NaN where the error is NaN, and where the value on the link scale or the slope of
    the link is not finite or the slope not positive; a note says so if the error is finite.
    """
    low, high = np.full(value.size, np.nan), np.full(value.size, np.nan)
    notes = [""] * value.size
    with float64(), np.errstate(all="ignore"):
        for link, where in _grouped(links):
            centre, slope, forward = _linearised(link, value[where])
            usable = np.isfinite(centre) & np.isfinite(slope) & (slope > 0)
            step = reach * error[where] / np.where(usable, slope, np.nan)
            safe = np.where(usable, centre, np.nan)
            ends = [forward(safe + s * step) for s in (-1.0, 1.0)]
            low[where], high[where] = np.minimum(*ends), np.maximum(*ends)
            for i in np.asarray(where)[~usable & np.isfinite(error[where])]:
                notes[i] = "at a bound of its support: no interval on the link scale"
    return low, high, notes


def _linearised(link: IntervalLink, value: np.ndarray) -> tuple[np.ndarray, np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Return, for values (m,) of one link: u, (m,); the absolute derivatives of the values with respect to u, (m,); and the
    function from u to values.
    """
    if isinstance(link, Identity):
        return value, np.ones_like(value), lambda u: u
    if isinstance(link, Log):
        return np.log(value), value, np.exp  # the general way traces three functions, 3 ms
    shape = value.shape
    forward = lambda t: link.forward(t, shape)
    u = evaluated(link.inverse, np.asarray(value, np.float64))
    slope = evaluated(lambda t: jax.jvp(forward, (t,), (jnp.ones_like(t),))[1], u)
    return u, np.abs(slope), lambda t: evaluated(forward, t)


def _bound_notes(
    value: np.ndarray, error: np.ndarray, lower: ArrayLike, upper: ArrayLike, distance: float
) -> list[tuple[int, str]]:
    """Return (position, note) for each entry within ``distance`` standard errors of a bound in ``lower`` or ``upper``; infinite
    bounds do not count.
    """
    found = []
    for bound, side in ((lower, 1.0), (upper, -1.0)):
        bounds = np.broadcast_to(np.asarray(bound, np.float64), value.shape)
        with np.errstate(invalid="ignore"):
            close = np.isfinite(bounds) & (side * (value - bounds) <= distance * error)
        found += [
            (
                int(i),
                f"within {distance:.3g} standard errors of its bound {bounds[i]:.5g}: use conf_int(method='profile')",
            )
            for i in np.flatnonzero(close)
        ]
    return found


def _grouped(links: Sequence[IntervalLink]) -> list[tuple[IntervalLink, list[int]]]:
    """Return each different link with the positions at which it occurs, so that equal links need one call."""
    groups: dict[Hashable, tuple[IntervalLink, list[int]]] = {}
    for i, link in enumerate(links):
        key = link if isinstance(link, Hashable) else id(link)
        groups.setdefault(key, (link, []))[1].append(i)
    return list(groups.values())
