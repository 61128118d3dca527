"""The natural values of parameters with a formula, computed from coefficients and designs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlejax import data as data_room
from mlejax.data.formulas import DesignValues
from mlejax.parameters import Predictor
from mlejax.shapes import Data, PyTree


def natural_values(predictors: Sequence[Predictor], params: PyTree, data: Data) -> tuple[dict[str, Any], Any]:
    """Return params with the row values of the parameters that have a formula, natural scale, and the data without the arrays of
    the formulas (designs, offsets, columns of random effects, level codes).

    With random effects the value of a parameter is an array of the linear predictor and the columns of the effects instead.
    Params and data are returned unchanged if ``predictors`` is empty.  For a function of single rows (the designs have the view
    "row") the values have the declared shape; otherwise they have a leading axis of rows.
    """
    if not predictors:
        return params, data
    view = "row" if data_room.DesignKey(predictors[0].name, "design", "row") in data else "array"
    values, hidden = dict(params), set()
    for p in predictors:
        key, *beside = (data_room.DesignKey(p.name, part, view) for part in ("design", "offset", "random"))
        found = DesignValues(data[key], *map(data.get, beside))
        levels = data_room.levels_key(data, p.name)
        if levels is None:
            value = p.value(params[p.name], *found[:3])
        else:
            value = p.coded_value(params[p.name], found.design, found.offset, data[levels], levels.places)
        values[p.name] = value[0] if view == "row" else value
        hidden |= {key, *beside, levels}
    if isinstance(data, data_room.View):
        return values, data.without(hidden)
    return values, {key: value for key, value in data.items() if key not in hidden}
