r"""Derivatives of design matrices with respect to one numeric column of the data.

If the column enters the formula as itself only, the derivative is 1 in its column of the design.  If it is transformed, the
design is evaluated at five equidistant points, error O(h^4),

.. math:: \partial X / \partial x \approx \sum_k c_k X(x + (k - j) h) / (12 h),

with the row's value in the middle (j = 2), or at one end if the points would leave the range of the column, outside which
splines are not defined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mlejax.data.formulas import Design, DesignValues, columns_in_terms
from mlejax.shapes import Float, Host

STEP = 1e-3  # of the differences, in standard deviations of the column
MOST_ROWS = 1_000_000  # that are evaluated together
CENTRAL, FIRST, LAST = (1, -8, 0, 8, -1), (-25, 48, -36, 16, -3), (3, -16, 36, -48, 25)


def design_slope(
    design: Design,
    made: DesignValues,
    name: str,
    x: Float[Host, " n"],
    whole: Float[Host, " m"],
    moved: Callable[[Design, Any, Any], DesignValues],
) -> DesignValues:
    """Return the derivatives of a design, its offset and its random-effects columns with respect to one column of the data.

    Args:
        design: the design of one parameter with a formula.
        made: its matrices for the rows.
        name: name of the column.
        x: values of the column in the rows (n,).
        whole: values of the column in all the data (m,); evaluation points stay in their range.
        moved: function (part of the design, values of the column (k,), positions of the rows (k,)) -> matrices of the part
            at these values.

    Returns:
        Arrays of the shapes of ``made``, 0 where the design does not use the column; None where ``made`` is None.
    """
    out = DesignValues(*(None if part is None else np.zeros(np.shape(part)) for part in made))
    parts = [part for part in (design.piece, design.offset, *design.random) if part is not None]
    if not any(name in part.columns for part in parts):
        return out
    elsewhere = any(name in part.columns for part in parts[1:])
    labels = design.piece.labels or ()
    if not elsewhere and name in labels and columns_in_terms(design.piece.text, name) == (name,):
        out.design[:, labels.index(name)] = 1.0
        return out
    low, high = float(whole.min()), float(whole.max())
    h = STEP * (float(whole.std()) or max(abs(low), 1.0))
    inside = (x - 2.0 * h >= low) & (x + 2.0 * h <= high) | (high - low <= 4.0 * h)
    ends = (inside, ~inside & (x - 2.0 * h < low), ~inside & (x - 2.0 * h >= low))
    which = zip(map(np.flatnonzero, ends), (CENTRAL, FIRST, LAST), (2, 0, 4), strict=True)
    steps = [(rows, (k - j) * h, c) for rows, weights, j in which for k, c in enumerate(weights) if c and rows.size]
    part, places = design.part_with(name)  # the other terms do not move
    sums: list[Any] = [None] * len(out)
    for run in _together(steps):
        rows = np.concatenate([rows for rows, _, _ in run])
        found = moved(part, np.concatenate([x[rows] + step for rows, step, _ in run]), rows)
        for i, values in enumerate(found):
            if values is not None:
                sums[i] = np.zeros((x.size, *np.shape(values)[1:])) if sums[i] is None else sums[i]
                pieces = np.split(np.asarray(values), np.cumsum([rows.size for rows, _, _ in run])[:-1])
                for (rows, _, c), piece in zip(run, pieces, strict=True):
                    sums[i][rows] += c / (12.0 * h) * piece
    for to, found_sum, at in zip(out, sums, places, strict=True):
        if found_sum is not None:
            to[... if at is None else (slice(None), at)] = found_sum
    return out


def _together(steps: list[Any]) -> Iterator[list[Any]]:
    """Yield runs of steps (rows, shift, weight) with at most a million rows together, each to be evaluated in one call; a
    larger single step is a run of its own.
    """
    run: list[Any] = []
    for step in steps:
        if run and sum(rows.size for rows, _, _ in [*run, step]) > MOST_ROWS:
            yield run
            run = []
        run.append(step)
    yield run
