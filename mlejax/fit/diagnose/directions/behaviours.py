"""What the log-likelihood does on one side of a ray, from its changes there."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mlejax.shapes import Float, Host


class Behaviour(NamedTuple):
    """What the log-likelihood does on one side of a ray.

    Attributes:
        name: ``falls`` (below the origin at some point), ``rises``, ``higher`` (a rise and then a fall that stays above the
            origin), ``flat``, ``still`` (no change, but points too near to call it flat) or ``unknown`` (fewer than three finite
            points).
        gain: largest increase; 0 if there is none.
        last: position of the last point before the first that is not finite; 0 if that is the first.
        bounded: False for a rise that does not level off; else True.
    """

    name: str
    gain: float
    last: int
    bounded: bool


def behaviour_of(change: Float[Host, " m"], noise: float, expected: Float[Host, " m"]) -> Behaviour:
    """Classify one side by the changes of the log-likelihood along it.

    Args:
        change: changes at points of increasing distance, (m,); changes from the first one that is not finite on are not used.
        noise: largest change that may be rounding.
        expected: falls that the information predicts, (m,), as in `Side`.
    """
    finite = np.isfinite(change)
    stop = int(np.argmin(finite)) if not finite.all() else change.size
    usable = change[:stop]
    if stop < 3:
        return Behaviour("unknown", 0.0, max(stop - 1, 0), True)
    gain, last = float(usable.max()), stop - 1
    if usable.min() < -noise:
        return Behaviour("falls", max(gain, 0.0), last, True)
    steps = np.diff(np.concatenate([[0.0], usable]))
    if (steps < -noise).any():
        return Behaviour("higher", gain, last, True)
    if gain <= noise:
        # no fall where a maximum of this curvature would show one; too near to tell otherwise
        return Behaviour("flat" if expected[last] > 10 * noise else "still", max(gain, 0.0), last, True)
    return Behaviour("rises", gain, last, bool(steps[-1] <= 0.75 * max(steps[-2], noise)))
