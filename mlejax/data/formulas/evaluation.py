"""Evaluation of formulas to design matrices by formulaic, on the data of a fit and again on new data.

A formula reads only the columns that it names.  Its stateful transforms (``scale``, ``center``, ``poly``, ``bs``, ``cr``) and the
levels of its categories are those of the rows that it was first evaluated on, after missing values were dropped jointly with
every other column in use; formulaic itself never drops a row.  A level that a column declares but that does not occur is left
out, as R's ``glm`` does.  New data with a level that the first data did not have raise an error that names it.  So does a formula
whose columns depend on the other rows (``x - x.mean()``), because it would silently mean something else.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mlejax.data.errors import DataError, DataTypeError, listing, missing_column, rows_phrase
from mlejax.data.formulas.formula_columns import frame_of, n_axes, refuse_other_kinds
from mlejax.data.formulas.long_factors import codes_of, long_factors, whole_formula
from mlejax.data.formulas.parsing import columns_of, names_in, parse, plain_text, uses
from mlejax.data.formulas.row_chunks import categories_of, chunks, collect_cycles, in_chunks, rows_with_levels
from mlejax.data.read.columns import is_pandas
from mlejax.data.read.table import Table
from mlejax.execution import limits
from mlejax.misuse import linked
from mlejax.shapes import Float, Host, Int, PyTree

if TYPE_CHECKING:
    import pandas as pd
    from formulaic import ModelMatrix, ModelSpec

EXPRESSION = "0 + {{{}}}"  # the formula whose only column is the value of a Python expression
_N_COMPARED = 6


@dataclass(frozen=True, eq=False)
class FittedFormula:
    """A formula, an expression or a column that was evaluated once and can be evaluated in the same way on new data.

    Attributes:
        text: the formula as the user wrote it.
        columns: names of the columns that it uses.
        labels: labels of the columns that it gives; None for a column or matrix without labels.
        spec: formulaic's ModelSpec with transforms and levels, or None for a column or matrix used unchanged.
        rows, values: a few rows of the data and their columns of the design, to test whether the formula works row by row;
            None without ``spec``.
    """

    text: str
    columns: tuple[str, ...]
    labels: tuple[str, ...] | None
    spec: ModelSpec = field(default=None, repr=False)
    rows: PyTree = field(default=None, repr=False)
    values: Any = field(default=None, repr=False)


def evaluate(
    text: str, table: Table, kept: Int[Host, " m"] | None, what: str
) -> tuple[FittedFormula, Float[Host, "n k"]]:
    """Evaluate a formula, or the name of a column or matrix, for the first time: return the formula for evaluation on new data,
    and its columns (n, k).

    Args:
        text: the right-hand side of the formula, or the name of a column or matrix.
        table: the data.
        kept: the positions of the rows to use, or None for all; no missing values among them.
        what: the beginning of error messages.

    Raises:
        ValueError: the formula has no column, or formulaic cannot parse or evaluate it.
        DataError: the formula gives missing or infinite values, duplicate columns, or another number of rows.
        DataTypeError: columns of a type that formulas do not support, or complex results.
        MissingColumnError: a column does not exist.
    """
    import pandas as pd

    columns = columns_of(text, table, what)
    if text in table and n_axes(table, text) == 2:
        values, labels = _unchanged(table, text, kept)
        return FittedFormula(text, columns, labels), values
    frame = frame_of(table, columns, kept, what)
    parsed = parse(f"`{text}`" if text in table else text, what)
    found = in_chunks(parsed, frame, lambda make, chunk: materialise(make, chunk, what))
    if found is None:
        matrix = materialise(parsed.get_model_matrix, frame, what)
        found = matrix.model_spec, np.asarray(matrix, np.float64)
        if len(frame) > limits().read_rows:
            collect_cycles()
    spec, values = found
    labels = tuple(str(name) for name in spec.column_names)
    if values.shape[1] == 0:
        raise ValueError(f"{what}: the formula has no column; write '1' for an intercept alone")
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise DataError(
            f"{what}: expected distinct names of the design's columns, but {twice!r} occurs twice: rename the column"
        )
    if values.shape[0] != len(frame):
        raise DataError(
            f"{what}: expected one row of the design for each of the {len(frame)} rows of data, got {values.shape[0]} rows: "
            "use functions that keep the number of rows"
        )
    _refuse_not_finite(values, labels, what)
    few = _few_rows(len(frame))
    sample = frame.iloc[few].reset_index(drop=True) if columns else pd.DataFrame(index=range(few.size))
    return FittedFormula(text, columns, labels, spec, sample, values[few]), values


def evaluate_coded(
    text: str, table: Table, kept: Int[Host, " m"] | None, what: str
) -> tuple[FittedFormula, Float[Host, "n k"], tuple[tuple[int, tuple[str, ...]], ...], Float[Host, "n m"]] | None:
    """Evaluate a formula as `evaluate` does, without the dummy columns of factors with many levels (`long_factors`).

    Arguments and errors are those of `evaluate`, but names that occur twice and a wrong number of rows are not looked for.

    Returns:
        The whole formula; the other columns (n, k); for each factor, as in `LevelsKey`, the position of its first column and
        the labels of its columns; and the level codes of the rows (n, m): 0 for the reference level. None if there is no such
        factor, if ``text`` is the name of a column, or if the columns of a factor are not one for each level but the first,
        side by side.
    """
    if text in table:
        return None
    parsed = parse(text, what)
    frame = frame_of(table, columns_of(text, table, what), kept, what)
    long = long_factors(parsed, frame)
    if not long:
        return None
    short = type(parsed)([term for term in parsed if str(term) not in long])
    found = in_chunks(short, frame, lambda make, chunk: materialise(make, chunk, what))
    if found is None:
        matrix = materialise(short.get_model_matrix, frame, what)
        found = matrix.model_spec, np.asarray(matrix, np.float64)
    spec, values = found
    few = rows_with_levels(frame, set(long.values()))
    whole = whole_formula(parsed, spec, lambda make: materialise(make, frame.iloc[few].reset_index(drop=True), what))
    labels = tuple(str(name) for name in whole.column_names)
    own = {term: whole.term_indices[term] for term in whole.terms if str(term) in long}
    factors = tuple((min(at), tuple(labels[i] for i in at)) for at in own.values())
    codes = [codes_of(whole, str(term), frame[long[str(term)]]) for term in own]
    rest = [label for i, label in enumerate(labels) if not any(i in at for at in own.values())]
    if rest != [str(name) for name in spec.column_names] or any(
        len(at) != code.max() or list(at) != list(range(min(at), max(at) + 1))
        for at, code in zip(own.values(), codes, strict=True)
    ):
        return None
    _refuse_not_finite(values, rest, what)
    few = _few_rows(len(frame))
    sample = frame.iloc[few].reset_index(drop=True)
    known = np.asarray(materialise(whole.get_model_matrix, sample, what), np.float64)
    return (
        FittedFormula(text, tuple(frame.columns), labels, whole, sample, known),
        values,
        factors,
        np.stack(codes, axis=1),
    )


def _few_rows(n: int) -> Int[Host, " k"]:
    return np.unique(np.linspace(0, n - 1, _N_COMPARED).astype(int))


def evaluate_again(
    formula: FittedFormula, table: Table, kept: Int[Host, " m"] | None, what: str
) -> Float[Host, "n k"] | Float[Host, " n"]:
    """Evaluate a formula on new data, with the transforms and levels of the first data: (n, k), or (n,) for an offset that is a
    single column.

    Args:
        formula: the formula, as it was evaluated first.
        table: the new data.
        kept: the positions of the rows to use, without missing values; None for all rows.
        what: the beginning of error messages.

    Raises:
        DataError: the new data have a level that the first data did not have, missing or infinite values in a column, or a
            matrix with other labels; the formula gives missing or infinite values, or does not work row by row.
        MissingColumnError: the new data lack a column of the formula.
        DataTypeError, ValueError: a column has another type, or the formula cannot be evaluated.
    """
    for name in formula.columns:
        if name not in table:
            raise missing_column(name, table.keys, what)
    if kept is None and formula.columns:
        table.convert((), others=formula.columns)  # missing values are refused by column
    if formula.spec is None:
        values, labels = _unchanged(table, formula.text, kept)
        if labels is not None and formula.labels is not None and labels != formula.labels:
            raise DataError(
                f"{what}: expected the columns {listing(formula.labels)}, as in the data of the fit, got {listing(labels)}: "
                "rename or reorder them"
            )
        return values
    frame = frame_of(table, formula.columns, kept, what)
    refuse_other_kinds(formula.rows, frame, what)
    _refuse_new_levels(formula, frame, what)
    _refuse_joined_rows(formula, what)
    spec = replace(formula.spec, encoder_state=dict(formula.spec.encoder_state))  # an evaluation that fails overwrites it
    values = np.asarray(materialise(spec.get_model_matrix, frame, what), np.float64)
    _refuse_not_finite(values, formula.labels or (), what)
    return values


def terms_with(formula: FittedFormula, name: str) -> tuple[FittedFormula, list[int] | slice]:
    """Return the terms of a formula that use the column ``name``, as a formula of their own, and the positions of their columns
    among those of the formula. A matrix used unchanged is returned whole, with a slice of all columns.
    """
    if formula.spec is None:
        return formula, slice(None)
    terms = [term for term in formula.spec.formula if any(uses(factor, name) for factor in term.factors)]
    places = [place for term in terms for place in formula.spec.term_indices[term]]
    columns = tuple(c for c in formula.columns if any(uses(f, c) for term in terms for f in term.factors))
    labels = tuple(np.array(formula.labels)[places])
    part = {"spec": formula.spec.subset(terms, ordering="none"), "rows": formula.rows[list(columns)]}
    return replace(formula, columns=columns, labels=labels, values=formula.values[:, places], **part), places


def evaluate_offset(
    text: str, table: Table, kept: Int[Host, " m"] | None, what: str
) -> tuple[FittedFormula, Float[Host, "n ..."]]:
    """Evaluate an offset for the first time; return it for evaluation on new data, and its values: (n,) of a column or an
    expression such as ``log(pop)``, (n, k) of a matrix.

    Arguments and errors are those of `evaluate`; ValueError too if an expression gives more than one number per row.
    """
    if text in table:
        values, labels = _unchanged(table, text, kept)
        return FittedFormula(text, (text,), labels), values
    formula, values = evaluate(EXPRESSION.format(text), table, kept, what)
    if values.shape[1] != 1:
        raise ValueError(
            f"{what}: expected one number per row, got the columns {listing(formula.labels or ())}: give the name of a numeric "
            "column, or an expression such as 'log(pop)'"
        )
    return formula, values[:, 0]


def evaluate_offset_again(
    formula: FittedFormula, table: Table, kept: Int[Host, " m"] | None, what: str
) -> Float[Host, "n ..."]:
    """Return the values of an offset (or of an exposure, not its logarithm) in the rows ``kept`` of new data: (n,), or (n, k)
    with a column for each entry of the parameter.  Arguments and errors are those of `evaluate_again`.
    """
    values = evaluate_again(formula, table, kept, what)
    return values if formula.spec is None else values[:, 0]


def needs_of(texts: Sequence[str], table: Table, what: str) -> tuple[set[str], bool]:
    """Return the names of the columns that some formulas treat as categorical, and True if a formula may have to be evaluated
    on all rows at once (`categories_of` of it is None); the categorical columns of such a formula are not among the names.

    Args:
        texts: formulas, or names of columns or matrices.
        table: some rows of the data.
        what: the beginning of error messages, which are those of `frame_of` and `columns_of`.
    """
    categories: set[str] = set()
    whole = False
    for text in texts:
        if text in table and n_axes(table, text) == 2:
            continue
        frame = frame_of(table, columns_of(text, table, what), None, what)
        found = categories_of(parse(f"`{text}`" if text in table else text, what), frame)
        whole = whole or found is None
        categories |= found or set()
    return categories, whole


def offset_columns(text: str, table: Table, what: str) -> tuple[str, ...]:
    """Return the names of the columns that an offset, a column or an expression, uses; errors as in `columns_of`."""
    return columns_of(text if text in table else EXPRESSION.format(text), table, what)


# ---- columns of the data


def _unchanged(
    table: Table, name: str, kept: Int[Host, " m"] | None
) -> tuple[Float[Host, "n ..."], tuple[str, ...] | None]:
    """Return the numeric column (n,) or matrix (n, k) called ``name`` as float64 in the rows ``kept`` (None for all), and the
    labels of the columns of a DataFrame (None for other arrays). With ``kept`` None, DataError for missing or infinite values.
    """
    raw = table.column(name)
    labels = tuple(str(c) for c in raw.columns) if is_pandas(raw, "DataFrame") else None
    rows = table.convert([name]) if kept is None else table.read([name])[0]
    values = np.asarray(rows.leaves[0], np.float64)
    return values if kept is None else values[kept], labels


# ---- checks


def materialise(make: Callable[..., Any], frame: pd.DataFrame, what: str) -> ModelMatrix:
    """Return the model matrix of the rows of a DataFrame, NaN where formulaic finds missing values.

    Args:
        make: the method ``get_model_matrix`` of formulaic's formula or ModelSpec.
        frame: the columns that the formula uses.
        what: the formula, the beginning of error messages.

    Raises:
        DataError: the rows have levels that are not among those of the ModelSpec.
        DataTypeError: the formula gives complex numbers.
        ValueError: formulaic cannot evaluate the formula.
    """
    from formulaic import SimpleFormula
    from formulaic.errors import DataMismatchWarning

    owner = getattr(make, "__self__", None)
    options = {"output": "numpy", "na_action": "ignore"} if isinstance(owner, SimpleFormula) else {}
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore", RuntimeWarning)
            warnings.simplefilter("error", DataMismatchWarning)
            matrix = make(frame, context={}, **options)
    except DataMismatchWarning as error:
        found = re.search(r"\{.*\}", str(error))
        raise DataError(
            f"{what}: the data have the levels {found.group() if found else '(see above)'}, which are not among the levels of "
            "the formula; make these values missing, or list all levels in the formula"
        ) from error
    except Exception as error:
        raise ValueError(
            f"{what}: formulaic cannot evaluate this formula; correct it, or make a column of its values before the fit. "
            f"formulaic says: {plain_text(error)}"
        ) from error
    if np.iscomplexobj(matrix):
        raise DataTypeError(f"{what}: the formula gives complex numbers; expected real ones, np.real(...) for instance")
    return matrix


def _refuse_not_finite(values: Float[Host, "n k"], labels: Sequence[str], what: str) -> None:
    """Raise DataError, beginning with ``what``, if the columns ``labels`` of a design have missing or infinite values."""
    if all(np.isfinite(values[rows]).all() for rows in chunks(len(values))):
        return
    bad = ~np.isfinite(values)
    columns = np.flatnonzero(bad.any(axis=0))
    rows = np.flatnonzero(bad[:, columns[0]])
    shown = listing([labels[int(j)] for j in columns], 5)
    raise linked(
        DataError(
            f"{what}: the formula gives missing or infinite values in {shown}: {rows.size} of {len(values)} rows, "
            f"{rows_phrase(rows)} (counted among the rows used; first: {values[rows[0], columns[0]]}).  The columns themselves "
            "are complete, so a function such as log() is undefined there; correct the values, or make them missing beforehand"
        ),
        "missing-values",
    )


def _refuse_joined_rows(formula: FittedFormula, what: str) -> None:
    """Raise DataError, which begins with ``what``, if the design's columns in the few rows that the formula stores differ
    between two evaluations: on all rows of the first data, and on these few rows alone.
    """
    alone = np.asarray(materialise(formula.spec.get_model_matrix, formula.rows, what), np.float64)
    there = formula.values
    if alone.shape == there.shape:
        wrong = ~np.isclose(alone, there, rtol=1e-9, atol=1e-12, equal_nan=True).all(axis=0)
    else:
        wrong = np.ones(len(formula.labels or ()), bool)
    if wrong.any():
        names = listing(np.asarray(formula.labels, dtype=object)[wrong], 5)
        raise DataError(
            f"{what}: the columns {names} depend on the other rows of the data, so that they would mean something else on new "
            "data; use formulaic's center(), scale(), poly() or bs(), which store the mean, scale or knots of the first data, "
            "or make the column before the fit"
        )


def levels(formula: FittedFormula) -> Mapping[str, tuple[Any, ...]]:
    """Return the levels of each categorical factor of a formula, by the factor's text, such as "C(region)"; empty for a column or
    matrix used unchanged.
    """
    state = {} if formula.spec is None else formula.spec.encoder_state
    found = {name: encoded[1].get("categories") for name, encoded in state.items()}
    return {name: tuple(categories) for name, categories in found.items() if categories is not None}


def _refuse_new_levels(formula: FittedFormula, frame: pd.DataFrame, what: str) -> None:
    """Raise DataError, which begins with ``what``, if a factor ``region`` or ``C(region)`` of the formula has a level in
    ``frame``, the new data, that the data of the fit did not have; other factors are not checked.
    """
    for factor, known in levels(formula).items():
        used = [factor] if factor in formula.columns else [n for n, _ in names_in(factor) if n in formula.columns]
        if len(used) != 1:
            continue
        if factor not in formula.columns and not re.fullmatch(rf"C\(\s*`?{re.escape(used[0])}`?\s*(,.*)?\)", factor):
            continue
        there = frame[used[0]]
        new = [v for v in there.unique() if not any(v == level for level in known)]
        if new:
            rows = np.flatnonzero(there.isin(new))
            plain = lambda some: [v.item() if isinstance(v, np.generic) else v for v in some]
            raise DataError(
                f"{what}: column {used[0]!r} has the {'level' if len(new) == 1 else 'levels'} {listing(plain(new), 5)} in "
                f"{rows_phrase(rows)}, which the data of the fit did not have; its levels are {listing(plain(known))}. Leave "
                "these rows out, or recode them"
            )
