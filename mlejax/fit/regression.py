"""Where the coefficients of regressed parameters start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mlejax.data.formulas import Design, Designs, null_directions, remark, with_designs_again
from mlejax.fit import starts
from mlejax.parameters import COEFFICIENTS, Leaf, Space

__all__ = [  # the names of `mlejax.data.formulas` are here for who imported them from here
    "Design",
    "Designs",
    "candidates",
    "coefficients",
    "first_guess",
    "natural_given",
    "null_directions",
    "remark",
    "with_coefficients",
    "with_designs_again",
]


def candidates(
    designs: Designs,
    space: Space,
    declared: Mapping[str, Any],
    given: Sequence[np.ndarray | None],
    rows: Sequence[np.ndarray],
    seed: int = 0,
) -> list[list[np.ndarray]]:
    """Candidate starts: those of the model without covariates, with slopes 0.

    The coefficients are those that make the parameter what the candidate says in every row (at the mean offset): the
    intercept alone where there is one.  Given coefficients (NaN where only some are given) are kept.  ``rows``: the columns
    that the function reads, and then the designs.
    """
    batch = starts.candidates(
        designs.natural, natural_given(designs, declared, given), rows[: len(designs.rows.leaves)], seed
    )
    return [with_coefficients(designs, space, natural, given) for natural in batch]


def first_guess(
    designs: Designs,
    space: Space,
    declared: Mapping[str, Any],
    given: Sequence[np.ndarray | None],
    rows: Sequence[np.ndarray],
) -> list[np.ndarray] | None:
    """As `starts.first_guess`, for the model without covariates, with slopes 0."""
    if any(v is not None for v in given):
        return None
    natural = natural_given(designs, declared, given)
    values = starts.first_guess(designs.natural, natural, rows[: len(designs.rows.leaves)])
    return None if values is None else with_coefficients(designs, space, values, given)


def natural_given(
    designs: Designs, declared: Mapping[str, Any], given: Sequence[np.ndarray | None]
) -> list[np.ndarray | None]:
    """What is known of the starts on the natural scale: given ones, and declared ones of regressed parameters."""
    regressed = {d.predictor.name for d in designs.designs}
    out: list[np.ndarray | None] = []
    for leaf, value in zip(designs.natural.leaves, given, strict=True):
        if leaf.name in regressed:
            start = declared[leaf.name].start
            value = None if start is None else np.array(np.broadcast_to(np.asarray(start, np.float64), leaf.shape))
        out.append(value)
    return out


def with_coefficients(
    designs: Designs, space: Space, natural: Sequence[np.ndarray], given: Sequence[np.ndarray | None]
) -> list[np.ndarray]:
    """Natural values (with any leading axes) -> values of the layout with coefficients; given coefficients are kept."""
    by_name = {d.predictor.name: d for d in designs.designs}
    return [
        coefficients(by_name[leaf.name], leaf, value, fixed) if leaf.name in by_name else value
        for leaf, value, fixed in zip(space.leaves, natural, given, strict=True)
    ]


def coefficients(design: Design, leaf: Leaf, value: np.ndarray, given: np.ndarray | None = None) -> np.ndarray:
    """Coefficients (..., k) or (..., *entries, k) that give this natural value in every row; ``given`` ones are kept."""
    assert leaf.kind == COEFFICIENTS
    with jax.enable_x64(True), np.errstate(all="ignore"):
        eta = np.asarray(design.predictor.link.link(value), np.float64) - design.mean_offset
    eta = np.where(np.isfinite(eta), eta, 0.0)
    out = np.multiply.outer(eta, design.constant)
    return out if given is None else np.where(np.isnan(given), out, given)
