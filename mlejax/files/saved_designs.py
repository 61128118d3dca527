"""The state of a fit's formulas (means, knots, levels) in a file, and its use with the formulas of the user's model.

A formula in a file is never evaluated.  Predictions evaluate the formulas of a model that the user passes, with the state
from the file; they must reproduce the design that the file has for six rows of the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mlejax import data as data_room
from mlejax.data import formulas
from mlejax.data.formulas import Design, Designs
from mlejax.files.container import FileError
from mlejax.files.fields import Label
from mlejax.parameters import Predictor, Space

if TYPE_CHECKING:
    import pandas as pd


class Unsaved(NamedTuple):
    """Replaces the designs in a loaded result that cannot make predictions for new data.

    Attributes:
        why: the reason, and what to do.
        content: the designs in the file.
    """

    why: str
    content: SimpleNamespace


# ---- writing


def evaluated_of(piece: formulas.FittedFormula) -> SimpleNamespace:
    """Return an evaluated formula with the attributes of ``EVALUATED`` in the schema; empty ones for a name of a column or
    design matrix, which has no state.

    Raises:
        TypeError: levels or values of a column are neither strings nor numbers (intervals of ``pd.cut``, dates).
    """
    out = SimpleNamespace(
        columns=piece.columns, labels=piece.labels, learnt=None, kinds={}, levels={}, rows={}, design=np.zeros((0, 0))
    )
    if piece.spec is not None:
        out.learnt, out.design = piece.spec.transform_state, piece.values
        out.kinds = {name: kind.value for name, (kind, _) in piece.spec.encoder_state.items()}
        out.levels = {name: labels_of(levels, name) for name, levels in formulas.levels(piece).items()}
        out.rows = {str(name): _column(piece.rows[name]) for name in piece.rows.columns}
    return out


def labels_of(values: Any, factor: str) -> list[Label]:
    """Return levels or values as Python strings and numbers; TypeError for one of another type.  ``factor``: name of their
    column or factor, for the message.
    """
    found = [v.item() if isinstance(v, np.generic) else v for v in values]
    for v in found:
        if not isinstance(v, (str, int, float)):
            raise TypeError(f"the values of {factor} are of type {type(v).__name__}; make them text or numbers")
    return [str(v) if isinstance(v, str) else v for v in found]


def _column(series: pd.Series) -> SimpleNamespace:
    if not hasattr(series, "cat"):
        return SimpleNamespace(values=labels_of(series, str(series.name)), levels=None, ordered=False)
    levels = labels_of(series.cat.categories, str(series.name))
    return SimpleNamespace(values=series.cat.codes.tolist(), levels=levels, ordered=bool(series.cat.ordered))


# ---- the user's own model


def designs_of(content: SimpleNamespace, predictors: Sequence[Predictor], natural: Space) -> Designs:
    """Return the designs of a loaded result, with the formulas of the user's model.

    Args:
        content: the designs of the file, checked.
        predictors: predictors of the user's model; their formulas are those of the file.
        natural: the parameter space as declared.

    Raises:
        FileError: a formula cannot be evaluated, or gives other columns or values than when the result was saved; or one of the
            file and the model has an offset and the other has none.
    """
    made = []
    for p, found in zip(predictors, content.evaluated, strict=True):
        formula, beside, offset = p.linear.formula, p.linear.offset or p.linear.exposure, None
        if found.offset is not None and beside is not None:
            offset = _piece(beside if found.offset.learnt is None else f"0 + {{{beside}}}", found.offset)
        made.append(Design(p, _piece(formula, found.formula), offset, np.zeros(0), np.zeros(())))
        if (beside is None) != (offset is None):
            raise FileError(
                f"the formula of {p.name} has an offset in only one of the file and the model: pass the model that was fitted"
            )
    rows = data_room.Rows((), (), data_room.Layout("mapping", ()), 0)
    used = tuple(dict.fromkeys(c for d in made for p in (d.piece, d.offset) if p is not None for c in p.columns))
    return Designs(tuple(made), content.view, rows, natural, used=used, extra={})


def _piece(text: str, found: SimpleNamespace) -> formulas.FittedFormula:
    """Return a formula of the user's model with the state from the file, after checking it on the rows in the file.

    Raises:
        FileError: it cannot be evaluated with this state, or gives other columns or values for these rows.
    """
    import formulaic
    import pandas as pd
    from formulaic.parser.types import Factor

    if found.learnt is None:
        return formulas.FittedFormula(text, found.columns, found.labels)
    levels = {name: {"categories": list(values)} for name, values in found.levels.items()}
    frame = pd.DataFrame({name: _series(c) for name, c in found.rows.items()}, index=range(len(found.design)))
    try:
        spec = formulaic.ModelSpec(
            formula=formulaic.Formula(f"`{text}`" if found.columns == (text,) else text),
            output="numpy",
            na_action="ignore",
            transform_state={name: _state(value) for name, value in found.learnt.items()},
            encoder_state={name: (Factor.Kind(kind), levels.get(name, {})) for name, kind in found.kinds.items()},
        )
        again = formulas.materialise(spec.get_model_matrix, frame, f"formula {text!r}")
    except Exception as error:
        raise FileError(
            f"the formula {text!r} of the model cannot be evaluated with the state in the file: {error}. Load it without model=, "
            "or fit the model again"
        ) from None
    names, design = tuple(map(str, again.model_spec.column_names)), np.asarray(again, np.float64)
    same = design.shape == found.design.shape and np.allclose(design, found.design, rtol=1e-9, atol=1e-12)
    if names != found.labels or not same or set(frame.columns) != set(found.columns):
        raise FileError(
            f"the formula {text!r} of the model gives other columns or values than when the result was saved (columns here: "
            f"{', '.join(names)}). "
            f"This is formulaic {formulaic.__version__}; mle.load(path).saved_with, without model=, names the version "
            "that made the file: install that one, or fit the model again"
        )
    return formulas.FittedFormula(text, found.columns, found.labels, again.model_spec, frame, found.design)


def _state(value: Any) -> Any:
    """Return the state of a transform from JSON as formulaic expects it: tuples of tuples become arrays, other tuples lists,
    and keys of digits integers.
    """
    if isinstance(value, dict):
        return {int(k) if k.isdecimal() else k: _state(v) for k, v in value.items()}
    if isinstance(value, tuple):
        return np.array(value) if value and isinstance(value[0], tuple) else list(value)
    return value


def _series(column: SimpleNamespace) -> pd.Series:
    import pandas as pd

    if column.levels is not None:
        return pd.Series(pd.Categorical.from_codes(column.values, list(column.levels), ordered=column.ordered))
    return pd.Series(column.values, dtype=object).infer_objects()
