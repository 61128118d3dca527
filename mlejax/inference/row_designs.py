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
    """Return a dict, parameter with a formula -> its design matrices for the rows of the fit; empty without formulas."""
    return {} if loaded.designs is None else loaded.designs.in_rows(loaded.rows)


def with_rows(likelihood: Likelihood, source: data_room.Table) -> tuple[data_room.Table, dict[str, Any]]:
    """Evaluate the formulas of a model on data, and add the design matrices as columns; its function is not traced.

    Returns:
        The data with these columns, and a dict, parameter with a formula -> its design matrices.
    """
    natural = (likelihood.natural or likelihood).space(source)
    made: dict[str, Any] = {}
    more: dict[Any, Any] = {}
    for p in likelihood.predictors:
        design, made[p.name] = first_design(p, source, None, natural)
        more.update(design_columns(design, made[p.name], "array"))
    return joined(source, source.keys, more), made


def seen_params(likelihood: Likelihood, params: PyTree, made: Mapping[str, DesignValues]) -> PyTree:
    """Return params, natural scale, as the user's functions receive them: one with a formula has one value for each row of the
    designs ``made`` (parameter -> design matrices) in place of its coefficients.
    """
    if not likelihood.predictors:
        return params
    with float64():
        values = {p.name: np.asarray(p.value(params[p.name], *made[p.name][:3])) for p in likelihood.predictors}
    return {**params, **values}


def natural_space(likelihood: Likelihood, source: data_room.Table, params: PyTree) -> tuple[Space, dict[str, Any]]:
    """Return the parameter space for data that may lack the response, and a dict, parameter with a formula -> its design
    matrices (empty without formulas).  ``params``: natural scale, coefficients of the formulas included.
    """
    if not likelihood.predictors:
        return likelihood.space(source, params), {}
    with_designs, made = with_rows(likelihood, source)
    return likelihood.space(with_designs, params), made
