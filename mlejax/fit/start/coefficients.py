"""Starts of coefficients: those that give a regressed parameter one natural value in every row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mlejax.data.formulas import Design, Designs
from mlejax.fit.start.given import Given
from mlejax.parameters import Space
from mlejax.shapes import Float, Host


def natural_given(designs: Designs, declared: Mapping[str, Any], given: Given) -> list[np.ndarray | None]:
    """Starts on the natural scale: given ones of parameters without covariates, declared ones of regressed parameters."""
    regressed = {d.predictor.name for d in designs.designs}
    out: list[np.ndarray | None] = []
    for leaf, value in zip(designs.natural.leaves, given, strict=True):
        if leaf.name in regressed:
            start = declared[leaf.name].start
            value = None if start is None else np.array(np.broadcast_to(np.asarray(start, np.float64), leaf.shape))
        out.append(value)
    return out


def with_coefficients(designs: Designs, space: Space, natural: Sequence[np.ndarray], given: Given) -> list[np.ndarray]:
    """Natural values with any leading axes -> values of the layout with coefficients; given coefficients stand."""
    by_name = {d.predictor.name: d for d in designs.designs}
    return [
        _coefficients(by_name[leaf.name], value, stands) if leaf.name in by_name else value
        for leaf, value, stands in zip(space.leaves, natural, given, strict=True)
    ]


def _coefficients(design: Design, value: Float[Host, "*values"], given: np.ndarray | None) -> Float[Host, "*lead k"]:
    """Coefficients that give this natural value in every row, at the mean offset; NaN in ``given`` is to be filled."""
    with jax.enable_x64(True), np.errstate(all="ignore"):
        eta = np.asarray(design.predictor.link.link(value), np.float64) - design.mean_offset
    out = np.multiply.outer(np.where(np.isfinite(eta), eta, 0.0), design.constant)
    return out if given is None else np.where(np.isnan(given), out, given)
