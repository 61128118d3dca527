"""What the formulas of a fit have learnt (means, knots, levels), as plain values; and the formulas of the user's own model on it.

The text of a formula in a file is never evaluated.  Predictions evaluate the formulas of a model that the user passes; these
continue with what the file has learnt, and have to give the design that the file holds for six rows of the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mlejax import data as data_room
from mlejax.data import formulas
from mlejax.files.container import FileError, Json
from mlejax.files.fields import Label
from mlejax.fit.regression import Design, Designs
from mlejax.parameters import Predictor, Space

_DTYPES = {"f": ("float", "float64"), "i": ("int", "int64"), "u": ("int", "int64"), "b": ("bool", "bool")}


class Unsaved(NamedTuple):
    """Stands in a loaded result where the designs were.

    Attributes:
        why: why predictions on new data are not possible, and what to do.
        content: the designs as the file has them.
    """

    why: str
    content: Json


# ---- writing


def evaluated_of(piece: formulas.Piece) -> dict[str, Any]:
    """A formula that was evaluated, as plain values.

    Raises:
        TypeError: levels that are neither texts nor numbers (intervals of ``pd.cut``, dates).
    """
    out: dict[str, Any] = {"columns": piece.columns, "labels": piece.labels, "learnt": None}
    if piece.spec is not None:
        out["learnt"] = {
            "transforms": piece.spec.transform_state,
            "factors": [_factor(name, *state) for name, state in piece.spec.encoder_state.items()],
            "rows": [_column(piece.rows[name]) for name in piece.rows.columns],
            "design": np.asarray(piece.values, np.float64),
        }
    return out


def _factor(name: str, kind: Any, state: Mapping[str, Any]) -> dict[str, Any]:
    levels = state.get("categories")
    return {"name": name, "kind": kind.value, "levels": None if levels is None else _labels(levels, name)}


def _labels(values: Any, factor: str) -> list[Label]:
    found = [v.item() if isinstance(v, np.generic) else v for v in values]
    for v in found:
        if not isinstance(v, (str, int, float)):
            raise TypeError(f"the levels of {factor} are of type {type(v).__name__}; make them text or numbers")
    return [str(v) if isinstance(v, str) else v for v in found]


def _column(series: pd.Series) -> dict[str, Any]:
    name, levels = str(series.name), None
    if isinstance(series.dtype, pd.CategoricalDtype):
        kind = "ordered" if series.cat.ordered else "category"
        levels, values = _labels(series.cat.categories, name), series.cat.codes.to_numpy().astype(np.int64)
    elif series.to_numpy().dtype.kind in _DTYPES:
        kind, dtype = _DTYPES[series.to_numpy().dtype.kind]
        values = series.to_numpy().astype(dtype)
    else:
        kind, values = "label", _labels(series, name)
    return {"name": name, "type": kind, "values": values, "levels": levels}


# ---- the user's model on it


def designs_of(
    content: Mapping[str, Any], predictors: Sequence[Predictor], fitted: Space, declared: Mapping[str, Any]
) -> Designs:
    """The designs of a loaded result, with the formulas of the user's own predictors.

    Args:
        content: the designs of the file, checked.
        predictors: of the user's model; their formulas are those of the file.
        fitted: the layout of the parameters, with coefficients.
        declared: name -> the layout of a regressed parameter's natural value.

    Raises:
        FileError: the formulas give other columns than when the result was saved.
    """
    made = []
    for p, found in zip(predictors, content["evaluated"], strict=True):
        text = p.linear.formula
        quoted = f"`{text}`" if found["formula"]["columns"] == (text,) else text
        offset, beside = found["offset"], p.linear.offset or p.linear.exposure
        if (offset is None) != (beside is None):
            raise FileError(f"the offset of {p.name} does not belong to its formula")
        added = None
        if offset is not None and beside is not None:
            rhs = beside if offset["learnt"] is None else f"0 + {{{beside}}}"
            added = _piece(rhs, rhs, offset)
        made.append(Design(p, _piece(text, quoted, found["formula"]), added, np.zeros(0), np.zeros(())))
    rows = data_room.Rows((), (), data_room.Layout("mapping", ()), 0)
    used = tuple(dict.fromkeys(c for d in made for p in (d.piece, d.offset) if p is not None for c in p.columns))
    leaves = tuple(declared.get(leaf.name, leaf) for leaf in fitted.leaves)
    natural = Space(fitted.groups, tuple(replace(leaf, free=None) for leaf in leaves))
    return Designs(tuple(made), content["view"], rows, natural, used=used, extra={})


def _piece(text: str, rhs: str, found: Mapping[str, Any]) -> formulas.Piece:
    """A formula of the user's model with what the file has learnt, tried on the rows of the file."""
    import formulaic
    from formulaic.parser.types import Factor

    learnt, columns, labels = found["learnt"], found["columns"], found["labels"]
    if learnt is None:
        return formulas.Piece(text, columns, labels)
    encoded = {
        f["name"]: (Factor.Kind(f["kind"]), {} if f["levels"] is None else {"categories": list(f["levels"])})
        for f in learnt["factors"]
    }
    frame = pd.DataFrame({c["name"]: _series(c) for c in learnt["rows"]}, index=range(learnt["design"].shape[0]))
    spec = formulaic.ModelSpec(
        formula=formulaic.Formula(rhs),
        output="numpy",
        na_action="ignore",
        transform_state={name: _state(value) for name, value in learnt["transforms"].items()},
        encoder_state=encoded,
    )
    try:
        again = formulas.materialise(spec, frame, f"formula {text!r}")
    except Exception as error:
        raise FileError(f"the formula {text!r} of the model cannot be evaluated with what the file holds: {error}") from None
    names, design = tuple(map(str, again.model_spec.column_names)), np.asarray(again, np.float64)
    same = design.shape == learnt["design"].shape and np.allclose(design, learnt["design"], rtol=1e-9, atol=1e-12)
    if names != labels or not same or set(frame.columns) != set(columns):
        raise FileError(
            f"the formula {text!r} of the model gives other columns than when the result was saved (here: {', '.join(names)}). "
            f"This is formulaic {formulaic.__version__}; the result's saved_with names the one that made the file"
        )
    return formulas.Piece(text, columns, labels, again.model_spec, frame, learnt["design"])


def _state(value: Any) -> Any:
    """What a transform has learnt: lists are lists, lists of lists arrays, and keys that are numbers integers."""
    if isinstance(value, dict):
        return {int(k) if k.isdecimal() else k: _state(v) for k, v in value.items()}
    if isinstance(value, tuple):
        return np.array(value) if value and isinstance(value[0], tuple) else list(value)
    return value


def _series(column: Mapping[str, Any]) -> pd.Series:
    values, levels = list(column["values"]), column["levels"]
    if levels is not None:
        return pd.Series(pd.Categorical.from_codes(values, list(levels), ordered=column["type"] == "ordered"))
    dtype = dict(_DTYPES.values()).get(column["type"], object)
    return pd.Series(values, dtype=dtype)
