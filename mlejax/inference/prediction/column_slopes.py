r"""How a row moves with one of its columns: the derivatives of designs and of what a function reads.

A column that is a term of its own moves one entry of the design by as much.  Through anything else that a formula does to it the
design is evaluated at five equidistant points, error O(h^4),

.. math:: \partial X / \partial x \approx \sum_k c_k X(x + (k - j) h) / (12 h),

in their middle (j = 2), or at their end where they would leave the range of the column, beyond which splines are not defined.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mlejax.data.formulas import Design, DesignValues, columns_in_terms
from mlejax.shapes import Float, Host, Int

STEP = 1e-3  # of the differences, in standard deviations of the column
CENTRAL, FIRST, LAST = (1, -8, 0, 8, -1), (-25, 48, -36, 16, -3), (3, -16, 36, -48, 25)


def design_slope(
    design: Design,
    made: DesignValues,
    name: str,
    x: Float[Host, " n"],
    whole: Float[Host, " m"],
    moved: Callable[[Any, Any], DesignValues],
) -> DesignValues:
    """The derivative of a design, its offset and random columns by a column.

    Args:
        design: of one regressed parameter.
        made: its columns in the rows.
        name: the column.
        x: its values in the rows.
        whole: its values in all the data, whose range is not left.
        moved: values of the column in some rows (k,), and their numbers -> the design's columns there.
    """
    zero = DesignValues(*(None if part is None else np.zeros(np.shape(part)) for part in made))
    parts = [part for part in (design.piece, design.offset, design.random) if part is not None]
    if not any(name in part.columns for part in parts):
        return zero
    elsewhere = any(name in part.columns for part in parts[1:])
    labels = design.piece.labels or ()
    if not elsewhere and name in labels and columns_in_terms(design.piece.text, name) == (name,):
        zero.design[:, labels.index(name)] = 1.0
        return zero
    low, high = float(whole.min()), float(whole.max())
    h = STEP * (float(whole.std()) or max(abs(low), 1.0))
    inside = (x - 2.0 * h >= low) & (x + 2.0 * h <= high) | (high - low <= 4.0 * h)
    all_rows, at_ends = np.arange(x.size), np.flatnonzero(~inside)
    found = _differences(moved, np.where(inside, x, 0.5 * (low + high)), all_rows, CENTRAL, h)
    for rows, weights in ((at_ends[x[at_ends] - 2.0 * h < low], FIRST), (at_ends[x[at_ends] - 2.0 * h >= low], LAST)):
        if rows.size:
            for part, new in zip(found, _differences(moved, x[rows], rows, weights, h), strict=True):
                if part is not None:
                    part[rows] = new
    return found


def _differences(moved: Any, x: Float[Host, " n"], rows: Int[Host, " n"], weights: Any, h: float) -> DesignValues:
    """The sum of five evaluations, of which those of weight 0 are left out."""
    j, out = (FIRST, CENTRAL, LAST).index(weights) * 2, None
    for k, c in enumerate(weights):
        if c:
            at = moved(x + (k - j) * h, rows)
            part = [None if v is None else c * np.asarray(v) / (12.0 * h) for v in at]
            out = part if out is None else [None if a is None else a + b for a, b in zip(out, part, strict=True)]
    assert out is not None
    return DesignValues(*out)
