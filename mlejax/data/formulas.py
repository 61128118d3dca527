"""Formulas into design matrices, by formulaic, and the same columns again on new data.

A formula sees only the columns that it names.  Its stateful transforms (``scale``, ``center``, ``poly``, ``bs``, ``cr``) and the
levels of its categories are those of the rows it was first evaluated on, after missing values were dropped jointly with
every other column in use; formulaic itself never drops a row.  On new data a level that was not there is refused by name,
and so is a formula whose columns depend on which rows stand together (``x - x.mean()``), since it would silently mean
something else.

A design's columns travel as one further matrix by row under a `DesignKey`, beside the user's own columns.
"""

from __future__ import annotations

import ast
import builtins
import re
import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .errors import DataError, DataTypeError, MissingColumnError, listing, missing_column, rows_phrase
from .leaves import is_pandas
from .pieces import PIECE, in_pieces, let_go, pieces
from .source import Source

_QUOTED = re.compile(r"`([^`]*)`")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m|[⧛⧚]")
_N_COMPARED = 6


@dataclass(frozen=True, eq=False)
class Piece:
    """A formula, an expression or a column as it was evaluated once, so that it can be evaluated on new data.

    Attributes:
        text: as the user wrote it.
        columns: the columns that it uses.
        labels: of its columns; None for a matrix without labels.
        spec: formulaic's ModelSpec with transforms and levels, or None for a column or matrix taken as it is.
        rows, values: a few rows of the data and what they gave, to find out whether it works row by row.
    """

    text: str
    columns: tuple[str, ...]
    labels: tuple[str, ...] | None
    spec: Any = field(default=None, repr=False)
    rows: Any = field(default=None, repr=False)
    values: Any = field(default=None, repr=False)


# ---- reading the text


def check_formula(text: str, parameter: str) -> str:
    """The right-hand side of a formula, without a leading ``~``.

    Raises:
        ValueError: an empty formula, a left side, more than one part, or text that formulaic cannot read.
    """
    what = f"regress({parameter}={text!r})"
    left, tilde, right = text.partition("~")
    if tilde and left.strip():
        raise ValueError(
            f"{what}: a left side has no meaning here, because the log-likelihood itself says what is explained; write the "
            f"right side alone, {parameter}={right.strip()!r}"
        )
    rhs = (right if tilde else text).strip()
    if not rhs:
        raise ValueError(f"{what}: the formula is empty; write '1' for an intercept alone")
    if re.search(r"(?<![\w.)\]`])\.(?!\w)", rhs):
        raise ValueError(f"{what}: '.' would take in every column, the outcome too; name the columns one by one")
    if not rhs.isidentifier():
        _parsed(rhs, what)
    return rhs


def _parsed(rhs: str, what: str) -> Any:
    import formulaic

    try:
        found = formulaic.Formula(rhs)
    except Exception as error:
        said = " ".join(_COLOURS.sub("", str(error)).split())
        raise ValueError(f"{what}: formulaic cannot read this formula.  It says: {said}") from error
    if not isinstance(found, formulaic.SimpleFormula):
        raise ValueError(f"{what}: expected one right-hand side, such as 'age + C(region)', without '~' and '|'")
    return found


def _names(expression: str) -> Iterator[tuple[str, bool]]:
    """(name, whether it is called) of everything that a Python expression of a formula looks up."""
    for name in _QUOTED.findall(expression):
        yield name, False
    tree = ast.parse(_QUOTED.sub("0", expression), mode="eval")
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id, id(node) in called


def columns_of(text: str, source: Source, what: str) -> tuple[str, ...]:
    """The columns of the data that a formula uses.

    Args:
        text: a formula, or the exact name of a column or matrix.
        source: the data.
        what: how to begin an error.

    Raises:
        MissingColumnError: a name that is neither a column nor a known function.
    """
    if text in source:
        return (text,)
    from formulaic.transforms import TRANSFORMS

    found: dict[str, None] = {}
    for term in _parsed(text, what):
        for factor in term.factors:
            kind = factor.eval_method.value
            if kind == "literal":
                continue
            for name, called in [(factor.expr, False)] if kind == "lookup" else _names(factor.expr):
                if name in source:
                    found[name] = None
                elif name not in TRANSFORMS and not hasattr(builtins, name):
                    raise _unknown(name, called, source, what)
    return tuple(found)


def _unknown(name: str, called: bool, source: Source, what: str) -> Exception:
    if called and name in ("offset", "exposure"):
        return ValueError(
            f"{what}: {name}() is not part of a formula; write mle.Linear('...', {name}='column') for a term whose "
            "coefficient is 1"
        )
    if called:
        return ValueError(
            f"{what}: no function {name!r}; formulas see their own columns and formulaic's transforms (C, log, exp, scale, "
            "center, poly, bs, cr, np. ...) only, so make a column of it beforehand"
        )
    error = missing_column(name, source.keys)
    return MissingColumnError(f"{what}: {error}")


# ---- evaluating


def evaluate(text: str, source: Source, kept: np.ndarray | None, what: str) -> tuple[Piece, np.ndarray]:
    """A formula or the name of a matrix -> the piece to evaluate again, and its columns (n, k), float64.

    Args:
        text: the right-hand side.
        source: the data.
        kept: the numbers of the rows to use, or None for all; no missing values among them.
        what: how to begin an error.

    Raises:
        DataError: no columns; missing or infinite values that the formula makes.
        DataTypeError: columns of a type that formulas cannot take.
    """
    import pandas as pd

    columns = columns_of(text, source, what)
    if text in source and _ndim(source, text) == 2:
        values, labels = _as_it_is(source, text, kept)
        return Piece(text, columns, labels), values
    frame = _frame(source, columns, kept, what)
    rhs = f"`{text}`" if text in source else text
    parsed = _parsed(rhs, what)
    found = in_pieces(parsed, frame, lambda make, part: _materialise(make, part, what))
    if found is None:
        matrix = _materialise(parsed.get_model_matrix, frame, what)
        found = matrix.model_spec, np.asarray(matrix, np.float64)
        if len(frame) > PIECE:
            let_go()
    spec, values = found
    labels = tuple(str(name) for name in spec.column_names)
    if values.shape[1] == 0:
        raise ValueError(f"{what}: the formula has no column; write '1' for an intercept alone")
    if values.shape[0] != len(frame):
        raise DataError(f"{what}: the formula gives {values.shape[0]} rows for {len(frame)} rows of data")
    _refuse_not_finite(values, labels, frame, what)
    few = np.unique(np.linspace(0, len(frame) - 1, _N_COMPARED).astype(int))
    sample = frame.iloc[few].reset_index(drop=True) if columns else pd.DataFrame(index=range(few.size))
    return Piece(text, columns, labels, spec, sample, values[few]), values


def evaluate_again(piece: Piece, source: Source, kept: np.ndarray | None, what: str) -> np.ndarray:
    """The columns (n, k) of a piece on new data, with the transforms and levels of the first.

    Raises:
        DataError: a level that the first data did not have; a formula that does not work row by row; missing or
            infinite values.
        MissingColumnError: a column that is not among the new data.
    """
    for name in piece.columns:
        if name not in source:
            raise MissingColumnError(f"{what}: {missing_column(name, source.keys)}")
    if kept is None and piece.columns:
        source.convert((), others=piece.columns)  # missing values are refused by column
    if piece.spec is None:
        values, labels = _as_it_is(source, piece.text, kept)
        if labels is not None and piece.labels is not None and labels != piece.labels:
            raise DataError(f"{what}: expected the columns {listing(piece.labels)}, got {listing(labels)}")
        return values
    frame = _frame(source, piece.columns, kept, what)
    _refuse_new_levels(piece, frame, what)
    alone = np.asarray(_materialise(piece.spec.get_model_matrix, piece.rows, what), np.float64)
    if alone.shape != piece.values.shape or not np.allclose(alone, piece.values, rtol=1e-9, atol=1e-12, equal_nan=True):
        wrong = (
            ~np.isclose(alone, piece.values, rtol=1e-9, atol=1e-12).all(axis=0)
            if alone.shape == piece.values.shape
            else ...
        )
        names = listing(np.asarray(piece.labels, dtype=object)[wrong], 5)
        raise DataError(
            f"{what}: the columns {names} change with the other rows of the data, so that they mean something else on new "
            "data; use formulaic's own center(), scale(), poly() or bs(), which keep what they learnt, or make the column "
            "beforehand"
        )
    values = np.asarray(_materialise(piece.spec.get_model_matrix, frame, what), np.float64)
    _refuse_not_finite(values, piece.labels or (), frame, what)
    return values


def expression(text: str, source: Source, kept: np.ndarray | None, what: str) -> tuple[Piece, np.ndarray]:
    """A numeric column, or an expression of columns such as ``log(pop)`` -> its piece and values (n,) or (n, m)."""
    if text in source:
        values, labels = _as_it_is(source, text, kept)
        return Piece(text, (text,), labels), values
    piece, values = evaluate(f"0 + {{{text}}}", source, kept, what)
    if values.shape[1] != 1:
        raise ValueError(f"{what}: expected one number per row, got the columns {listing(piece.labels or ())}")
    return piece, values[:, 0]


def expression_columns(text: str, source: Source, what: str) -> tuple[str, ...]:
    """The columns that an offset uses."""
    return (text,) if text in source else columns_of(f"0 + {{{text}}}", source, what)


def expression_again(piece: Piece, source: Source, kept: np.ndarray | None, what: str) -> np.ndarray:
    """The values of an offset on new data."""
    values = evaluate_again(piece, source, kept, what)
    return values if piece.spec is None else values[:, 0]


# ---- the parts


def _ndim(source: Source, name: str) -> int:
    held = source.held(name)
    if held.treedef is not None or len(held.rows) != 1:
        return 0
    return len(held.rows[0].probe.shape)


def _as_it_is(source: Source, name: str, kept: np.ndarray | None) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """A numeric column (n,) or matrix (n, k) of the data and its labels, unchanged but for its type."""
    raw = source.column(name)
    labels = tuple(str(c) for c in raw.columns) if is_pandas(raw, "DataFrame") else None
    if kept is None:
        return np.asarray(source.convert([name]).leaves[0], np.float64), labels
    rows = source.convert([name], missing="drop")
    if rows.kept is None:
        return np.asarray(rows.leaves[0][kept], np.float64), labels
    full = np.full((rows.n + rows.n_dropped, *rows.leaves[0].shape[1:]), np.nan)
    full[rows.kept] = rows.leaves[0]
    return full[kept], labels


def _frame(source: Source, columns: Sequence[str], kept: np.ndarray | None, what: str) -> Any:
    """The columns of a formula as a DataFrame of the kept rows, numbered from 0."""
    import pandas as pd

    out: dict[str, Any] = {}
    for name in columns:
        if _ndim(source, name) != 1:
            raise DataTypeError(
                f"{what}: {name!r} is no single column; a matrix is used alone, by its name, as a design matrix"
            )
        out[name] = _series(source.column(name), kept, name, what)
    if out:
        return pd.DataFrame(out, copy=False)
    return pd.DataFrame(index=range(n_rows(source) if kept is None else len(kept)))


def n_rows(source: Source) -> int:
    """The number of rows, also where columns that nobody uses are of another length."""
    try:
        return source.n_rows
    except DataError:
        lengths = [leaf.probe.shape[0] for key in source.keys for leaf in source.held(key).rows if leaf.probe.shape]
        return max(lengths, key=lengths.count)


def _series(raw: Any, kept: np.ndarray | None, name: str, what: str) -> Any:
    import pandas as pd

    if is_pandas(raw, "Series"):
        series = raw
    else:
        series = pd.Series(
            raw if isinstance(raw, list) or is_pandas(raw, "Index") or hasattr(raw, "isna") else np.asarray(raw)
        )
    series = (series if kept is None else series.iloc[kept]).reset_index(drop=True)
    dtype = series.dtype
    if pd.api.types.is_datetime64_any_dtype(dtype) or pd.api.types.is_timedelta64_dtype(dtype):
        raise DataTypeError(
            f"{what}: column {name!r} holds dates or durations ({dtype}); make numbers of it, such as "
            "(t - t.min()).dt.days, or text for categories (t.dt.month_name())"
        )
    if isinstance(dtype, np.dtype) and dtype.kind == "O":
        series = series.infer_objects()
    elif pd.api.types.is_extension_array_dtype(dtype) and not isinstance(dtype, pd.CategoricalDtype):
        kind = (
            "float64"
            if pd.api.types.is_float_dtype(dtype)
            else "int64"
            if pd.api.types.is_integer_dtype(dtype)
            else object
        )
        series = series.astype("bool" if pd.api.types.is_bool_dtype(dtype) else kind)
    elif pd.api.types.is_float_dtype(dtype):
        series = series.astype("float64")
    return series


def _materialise(make: Any, frame: Any, what: str) -> Any:
    from formulaic.errors import DataMismatchWarning

    options = {"output": "numpy", "na_action": "ignore"} if make.__self__.__class__.__name__ == "SimpleFormula" else {}
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore", RuntimeWarning)
            warnings.simplefilter("error", DataMismatchWarning)
            return make(frame, context={}, **options)
    except DataMismatchWarning as error:
        found = re.search(r"\{.*\}", str(error))
        raise DataError(
            f"{what}: the data have the levels {found.group() if found else '(see above)'}, which are not among those of the "
            "formula; make them missing, or name all levels"
        ) from error
    except Exception as error:
        said = " ".join(_COLOURS.sub("", str(error)).split())
        raise ValueError(f"{what}: formulaic cannot evaluate this formula.  It says: {said}") from error


def _refuse_not_finite(values: np.ndarray, labels: Sequence[str], frame: Any, what: str) -> None:
    if all(np.isfinite(values[run]).all() for run in pieces(len(values))):
        return
    bad = ~np.isfinite(values)
    j = int(np.flatnonzero(bad.any(axis=0))[0])
    rows = np.flatnonzero(bad[:, j])
    names = [labels[int(i)] for i in np.flatnonzero(bad.any(axis=0))]
    raise DataError(
        f"{what}: the formula gives missing or infinite values in {listing(names, 5)}: {rows.size} of {len(frame)} rows, "
        f"{rows_phrase(rows)} (counted among the rows used; first: {values[rows[0], j]}).  The columns themselves are "
        "complete, so a function such as log() is undefined there; correct the values, or make them missing beforehand"
    )


def levels(piece: Piece) -> Mapping[str, tuple[Any, ...]]:
    """The levels of each categorical factor of a formula."""
    state = {} if piece.spec is None else piece.spec.encoder_state
    found = {name: encoded[1].get("categories") for name, encoded in state.items()}
    return {name: tuple(categories) for name, categories in found.items() if categories is not None}


def _refuse_new_levels(piece: Piece, frame: Any, what: str) -> None:
    for factor, known in levels(piece).items():
        used = [factor] if factor in piece.columns else [n for n, _ in _names(factor) if n in piece.columns]
        if len(used) != 1:
            continue
        there = frame[used[0]]
        if factor not in piece.columns and not re.fullmatch(rf"C\(\s*`?{re.escape(used[0])}`?\s*(,.*)?\)", factor):
            continue
        new = [v for v in there.unique() if not _among(v, known)]
        if new:
            rows = np.flatnonzero(there.isin(new))
            plain = lambda part: [v.item() if isinstance(v, np.generic) else v for v in part]
            raise DataError(
                f"{what}: column {used[0]!r} has the {'level' if len(new) == 1 else 'levels'} {listing(plain(new), 5)} in "
                f"{rows_phrase(rows)}, which the data of the fit did not have; its levels are {listing(plain(known))}"
            )


def _among(value: Hashable, known: Sequence[Any]) -> bool:
    return any(value == level for level in known)


def materialise(spec: Any, frame: Any, what: str) -> Any:
    """The model matrix of a formula's ModelSpec for the rows of a frame; errors name the formula."""
    return _materialise(spec.get_model_matrix, frame, what)
