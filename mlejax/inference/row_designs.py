"""Design matrices of the parameters with a formula: of the rows of a fit or of new data, and the values that they give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mlejax import data as data_room
from mlejax.data.formulas import DesignValues, design_columns, first_design
from mlejax.data.further_columns import joined
from mlejax.execution import float64
from mlejax.fit import Loaded
from mlejax.likelihood import Likelihood
from mlejax.parameters import Space
from mlejax.shapes import PyTree


def designs_of(loaded: Loaded) -> dict[str, DesignValues]:
    """Return the design matrices of every parameter with a formula, by name, for the rows of the fit."""
    return {} if loaded.designs is None else loaded.designs.in_rows(loaded.rows)


def with_rows(likelihood: Likelihood, source: data_room.Table) -> tuple[data_room.Table, dict[str, Any]]:
    """Add the design matrices of a model with formulas to the data; the model's function is not traced.

    Returns:
        The data with the designs, and the design matrices of every parameter with a formula.
    """
    natural = (likelihood.natural or likelihood).space(source)
    made: dict[str, Any] = {}
    more: dict[Any, Any] = {}
    for p in likelihood.predictors:
        design, made[p.name] = first_design(p, source, None, natural)
        more.update(design_columns(design, made[p.name], "array"))
    return joined(source, source.keys, more), made


def seen_params(likelihood: Likelihood, params: PyTree, made: Mapping[str, DesignValues]) -> PyTree:
    """Return params as the user's functions see them: those with a formula have one value for each row, from the designs
    ``made``.
    """
    if not likelihood.predictors:
        return params
    with float64():
        values = {p.name: np.asarray(p.value(params[p.name], *made[p.name][:3])) for p in likelihood.predictors}
    return {**params, **values}


def natural_space(likelihood: Likelihood, source: data_room.Table, params: PyTree) -> tuple[Space, dict[str, Any]]:
    """Return the parameter space for data that may lack the response, and the design matrices."""
    if not likelihood.predictors:
        return likelihood.space(source, params), {}
    with_designs, made = with_rows(likelihood, source)
    return likelihood.space(with_designs, params), made
