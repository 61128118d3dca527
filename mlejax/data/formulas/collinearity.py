"""Columns of a design that are, exactly or nearly, linear combinations of one another."""

from __future__ import annotations

import numpy as np

from mlejax.data.formulas.designs import Design, Designs
from mlejax.data.read.checked import Rows
from mlejax.parameters import Space
from mlejax.shapes import Float, Host

NULL_SINGULAR = 1e-11
NEARLY_COLLINEAR = 1e-6


def collinear(values: Float[Host, "n k"]) -> tuple[Float[Host, "m k"], float]:
    """Return the coefficients (m, k) of linear combinations of a design's columns that are 0 in every row, and the ratio of the
    smallest other singular value to the largest (0 if there is none).

    Singular values are those of the columns scaled to unit length; 0 means at most 1e-11 of the largest. The combinations are
    orthonormal as combinations of the scaled columns.
    """
    size = np.sqrt(np.sum(values**2, axis=0))
    size = np.where(size > 0, size, 1.0)
    _, singular, right = np.linalg.svd(values / size, full_matrices=values.shape[0] < values.shape[1])
    singular = np.concatenate([singular, np.zeros(right.shape[0] - singular.size)])
    null = singular <= NULL_SINGULAR * max(singular.max(initial=0.0), 1e-300)
    rest = singular[~null]
    return right[null] / size, float(rest.min() / rest.max()) if rest.size else 0.0


def null_directions(designs: Designs | None, space: Space, rows: Rows) -> list[Float[Host, " p"]]:
    """Return directions (p,) in the unconstrained parameters along which no row's linear predictor changes, because columns
    of a design are collinear; an empty list without formulas or with constraints between parameters.

    Args:
        designs: the designs of the fit, or None.
        space: the parameter space, with coefficients in place of the parameters that have a formula.
        rows: the rows of the fit, with the designs among their columns.
    """
    out: list[np.ndarray] = []
    if designs is None or space.ties is not None:
        return out
    for design in designs.designs:
        i = next(i for i, leaf in enumerate(space.leaves) if leaf.name == design.predictor.name)
        leaf, begin = space.leaves[i], space.u_slices[i].start
        matrix, k = _matrix(designs, design, rows), leaf.shape[-1]
        free = np.ones(leaf.size, bool) if leaf.free is None else np.asarray(leaf.free)
        place = np.cumsum(free) - 1 + begin
        for entry in range(leaf.size // k):
            mine = np.flatnonzero(free[entry * k : (entry + 1) * k])
            for combination in collinear(matrix[:, mine])[0] if mine.size else ():
                vector = np.zeros(space.n_free)
                vector[place[entry * k + mine]] = combination
                out.append(vector)
    return out


def remark(designs: Designs | None, rows: Rows) -> str:
    """Return a sentence on the first design whose columns are nearly collinear (the ratio of `collinear` is below 1e-6); an empty
    string if there is none. ``designs`` may be None; ``rows`` have the designs among their columns.
    """
    if designs is None:
        return ""
    for design in designs.designs:
        smallest = collinear(_matrix(designs, design, rows))[1]
        if 0.0 < smallest < NEARLY_COLLINEAR:
            return (
                f"The columns of {design.predictor.name} ~ {design.predictor.linear.formula} are nearly collinear (ratio of the "
                f"smallest singular value to the largest: {smallest:.1e}): centre the covariates, or use poly() for powers."
            )
    return ""


def _matrix(designs: Designs, design: Design, rows: Rows) -> Float[Host, "n k"]:
    return np.asarray(designs.in_rows(rows)[design.predictor.name].design)
