"""Design matrices and offsets of parameters that have a formula, as further columns of the table.

A design is one matrix (n, k) under a `DesignKey` of the table, so that it is padded, grouped and sent to devices like any
column. It is NaN in rows that are not used, so that these are dropped when the table is converted.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlejax.data.errors import DataError
from mlejax.data.fingerprint import Fingerprint, KeptRows, fingerprint, numbers_of
from mlejax.data.formulas.design_keys import DesignKey, DesignValues, LevelsKey, levels_key
from mlejax.data.formulas.evaluation import (
    FittedFormula,
    evaluate,
    evaluate_again,
    evaluate_coded,
    evaluate_offset,
    evaluate_offset_again,
    needs_of,
    offset_columns,
    terms_with,
)
from mlejax.data.formulas.parsing import columns_of
from mlejax.data.formulas.random_columns import first_random
from mlejax.data.further_columns import joined
from mlejax.data.read.checked import Rows
from mlejax.data.read.table import Table
from mlejax.parameters import Predictor, Space
from mlejax.shapes import Float, Host, Int, PyTree

MOST = 1e150  # largest absolute value in a design, so that squares and cross products are finite


@dataclass(frozen=True, eq=False)
class Design:
    """The design of one parameter that has a formula, as it was made from the data of a fit.

    Attributes:
        predictor: the parameter, its formula and its link.
        piece: the evaluated formula, with the state of its transforms and its levels.
        offset: the evaluated offset or exposure, or None.
        constant: coefficients (k,) whose linear predictor is nearest to 1, by least squares over some thousand evenly spaced
            rows; 0 for ``factors``.
        mean_offset: mean of the offset (of an exposure, its logarithm) over the rows, () or the shape of a row's linear
            predictors; 0 without.
        random: the evaluated formulas of random effects, one for each part of ``random=``, whose columns are joined.
        factors: factors with many levels that have level codes in place of dummy columns, as in `LevelsKey`.
    """

    predictor: Predictor
    piece: FittedFormula
    offset: FittedFormula | None
    constant: np.ndarray
    mean_offset: np.ndarray
    random: tuple[FittedFormula, ...] = ()
    factors: tuple[tuple[int, tuple[str, ...]], ...] = ()

    def again(self, table: Table, kept: Int[Host, " m"] | None) -> DesignValues:
        """Return the columns of the design in new data, with the dummy columns of all factors and the logarithm of an exposure;
        ``kept``: positions of the rows to use, None for all. Errors as in `evaluate_again`, and DataError if an exposure is
        not positive.
        """
        what = _what(self.predictor)
        values = None if self.piece is None else evaluate_again(self.piece, table, kept, what)
        offset = None if self.offset is None else evaluate_offset_again(self.offset, table, kept, what)
        offset = None if offset is None else _log_exposure(self.predictor, offset, kept)
        random = [evaluate_again(part, table, kept, what) for part in self.random]
        return DesignValues(values, offset, np.concatenate(random, axis=1) if random else None)

    def part_with(self, name: str) -> tuple[Design, DesignValues]:
        """Return the terms that use the column ``name`` as a design of their own, and the positions of their columns, in the
        fields of a `DesignValues`: among the columns of the whole design in ``design``, among all columns of random effects in
        ``random``; ``offset`` is None. A formula or offset that does not use the column is None in the design returned.
        """
        using = lambda p: p is not None and name in p.columns
        piece, places = terms_with(self.piece, name) if using(self.piece) else (None, [])
        random, others, first = list[FittedFormula](), list[int](), 0
        for formula in self.random:
            if using(formula):
                own, at = terms_with(formula, name)
                random.append(own)
                others += np.arange(first, first + len(formula.labels or (0,)))[at].tolist()
            first += len(formula.labels or (0,))
        offset = self.offset if using(self.offset) else None
        part: dict[str, Any] = {"piece": piece, "offset": offset, "random": tuple(random)}  # the piece may be missing
        return replace(self, **part), DesignValues(places, None, others)

    def coded(self, values: DesignValues) -> DesignValues:
        """Return the columns with level codes in place of the dummy columns of ``factors``; unchanged without factors, or if they
        have level codes already.
        """
        if not self.factors or values.levels is not None:
            return values
        blocks = [slice(start, start + len(own)) for start, own in self.factors]
        levels = [values.design[:, at] @ np.arange(1.0, 1 + at.stop - at.start) for at in blocks]
        gone = np.concatenate([np.arange(at.start, at.stop) for at in blocks])
        return values._replace(design=np.delete(values.design, gone, axis=1), levels=np.stack(levels, axis=1))

    def in_full(self, values: DesignValues) -> DesignValues:
        """Return the columns with dummy columns in place of the level codes of ``factors``; unchanged without level codes."""
        design, levels = values.design, values.levels
        if levels is None:
            return values
        for j, (start, own) in enumerate(self.factors):
            dummies = np.asarray(levels)[:, j, None] == np.arange(1, 1 + len(own))
            design = np.concatenate([design[:, :start], dummies, design[:, start:]], axis=1)
        return values._replace(design=design, levels=None)


@dataclass(frozen=True, eq=False)
class Designs:
    """The designs of all parameters of a fit that have a formula.

    Attributes:
        designs: one design for each such parameter.
        view: "array" or "row": how the user's function takes these parameters, as in `DesignKey`.
        rows: the checked columns that the user's function reads, without the designs.
        natural: the parameter space as declared, before parameters were replaced by coefficients.
        used: names of the columns that the formulas use.
        extra: these columns as numbers, by "formula NAME", for the fingerprint.
    """

    designs: tuple[Design, ...]
    view: str
    rows: Rows
    natural: Space
    used: tuple[str, ...]
    extra: Mapping[str, np.ndarray | KeptRows]

    def again(self, table: Table) -> dict[str, DesignValues]:
        """Return the columns of every parameter with a formula, by its name, in all rows of new data; errors as in
        `Design.again`.
        """
        return {d.predictor.name: d.again(table, None) for d in self.designs}

    def in_rows(self, rows: Rows) -> dict[str, DesignValues]:
        """Return the columns of every parameter with a formula, by its name, with the dummy columns of all factors.

        Args:
            rows: checked rows with the columns of `design_columns`, such as those of a fit.
        """
        out = {}
        for design in self.designs:
            name = design.predictor.name
            keys = [DesignKey(name, part, self.view) for part in ("design", "offset", "random")]
            found = [
                rows[key] if key in rows.layout.keys else None for key in (*keys, levels_key(rows.layout.keys, name))
            ]
            out[name] = design.in_full(DesignValues(*found))
        return out

    def values(self, params: PyTree, made: Mapping[str, DesignValues]) -> dict[str, Any]:
        """Return the values in every row (n, *shape), on the natural scale, of the parameters with a formula, by name.

        Args:
            params: the parameters, with coefficients for those that have a formula.
            made: the columns of every such parameter, with the dummy columns of all factors (`again`, `in_rows`).
        """
        return {
            d.predictor.name: d.predictor.value(params[d.predictor.name], *made[d.predictor.name][:3])
            for d in self.designs
        }

    def fingerprint(self, weights: tuple[str, float, float] | None = None) -> Fingerprint:
        """Return the fingerprint of the columns that the user's function reads and of those that the formulas use; ``weights`` as
        in `fingerprint`.
        """
        return fingerprint(self.rows, weights, **self.extra)


def formula_columns(predictors: Sequence[Predictor], table: Table) -> tuple[str, ...]:
    """Return the names of the columns that the formulas, offsets, exposures and random effects of these predictors use, each
    once; errors as in `columns_of`.
    """
    found: dict[str, None] = {}
    for p in predictors:
        found |= dict.fromkeys(columns_of(p.linear.formula, table, _what(p)))
        more = p.linear.offset or p.linear.exposure
        found |= {} if more is None else dict.fromkeys(offset_columns(more, table, _what(p)))
        for part in p.random:
            found |= dict.fromkeys(columns_of(part.formula, table, _what(p)))
    return tuple(found)


def category_columns(predictors: Sequence[Predictor], table: Table) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the columns that formulas treat as categorical, and the names of all columns of predictors with a
    formula that may have to be evaluated on all rows at once.

    Args:
        predictors: predictors of the parameters with a formula.
        table: some rows of the data, from which the types of the columns are read.
    """
    levels: dict[str, None] = {}
    whole: dict[str, None] = {}
    for p in predictors:
        more = p.linear.offset or p.linear.exposure
        texts = [p.linear.formula] + ([] if more is None else [more if more in table else f"0 + {{{more}}}"])
        texts += [part.formula for part in p.random]
        found, at_once = needs_of(texts, table, _what(p))
        levels |= dict.fromkeys(sorted(found))
        whole |= dict.fromkeys(formula_columns([p], table)) if at_once else {}
    return tuple(levels), tuple(whole)


def add_designs(
    predictors: Sequence[Predictor],
    table: Table,
    rows: Rows,
    natural: Space,
    view: str,
    used: tuple[str, ...],
    others: Sequence[str] = (),
    coded: bool = False,
) -> tuple[Table, Designs]:
    """Return a table of the columns in use with those of the designs added (`design_columns`), and the designs; errors as in
    `first_design`.

    Args:
        predictors: predictors of the parameters with a formula.
        table: the user's data.
        rows: the columns that the user's function reads, without the rows that are not used.
        natural: the parameter space as declared.
        view: how the user's function takes parameters with a formula, "array" or "row".
        used: names of the columns that the formulas use.
        others: names of further columns in use, which the table keeps.
        coded: if True, factors with many levels may have level codes in place of dummy columns.
    """
    designs, more, index = [], {}, _index(table, (*rows.layout.keys, *used))
    for p in predictors:
        design, values = first_design(p, table, rows.kept, natural, coded)
        designs.append(design)
        more.update(design_columns(design, values, view, rows, index))
    extra = {f"formula {name}": numbers_of(table.column(name), rows) for name in used}
    made = Designs(tuple(designs), view, rows, natural, used, extra)
    return joined(table, (*rows.layout.keys, *others, *used), more), made


def with_designs_again(designs: Designs, table: Table, missing: str, others: Sequence[str]) -> Table:
    """Return a table of further data (such as validation rows): the columns that the user's function reads, those that the
    formulas use, ``others``, and the columns of the designs, made with the transforms and levels of the fit.

    Args:
        designs: the designs of the fit.
        table: the further data.
        missing: "raise" or "drop", as in `Table.convert`; with "drop" the table keeps all rows, and designs are NaN in those
            with a missing value.
        others: names of further columns in use, which the table keeps.

    Raises:
        MissingColumnError, DataError, DataTypeError: as in `Table.convert` and `Design.again`.
    """
    names = (*designs.rows.layout.keys, *designs.used, *others)
    rows = table.convert(designs.rows.layout.keys, missing=missing, others=[*others, *designs.used])
    more, index = {}, _index(table, (*rows.layout.keys, *designs.used))
    for design in designs.designs:
        more.update(design_columns(design, design.coded(design.again(table, rows.kept)), designs.view, rows, index))
    return joined(table, names, more)


def first_design(
    p: Predictor, table: Table, kept: Int[Host, " m"] | None, natural: Space, coded: bool = False
) -> tuple[Design, DesignValues]:
    """Return the design of a predictor on the data of a fit, and its columns in the rows used, with the logarithm of an exposure.

    Args:
        p: the predictor.
        table, kept: the data, and the positions of the rows to use (None: all).
        natural: the parameter space as declared.
        coded: if True, and the parameter is a scalar without random effects, factors with many levels have level codes in
            place of dummy columns.

    Raises:
        MissingColumnError, DataError, DataTypeError, ValueError: as in `evaluate`.
        DataError: values above 1e150 in the design, an offset with another number of columns than the parameter needs, an
            exposure that is not positive, or a term of random effects with several columns.
    """
    what = _what(p)
    factors: tuple[tuple[int, tuple[str, ...]], ...] = ()
    levels = None
    found = evaluate_coded(p.linear.formula, table, kept, what) if coded and p.scalar and not p.random else None
    if found is None:
        formula, values = evaluate(p.linear.formula, table, kept, what)
    else:
        formula, values, factors, levels = found
    more = p.linear.offset or p.linear.exposure
    offset_formula, offset = None, None
    if more is not None:
        offset_formula, offset = evaluate_offset(more, table, kept, what)
        offset = _log_exposure(p, offset, kept)
        shape = next(leaf.shape for leaf in natural.leaves if leaf.name == p.name)
        if p.link.name == "softmax":  # the baseline has no linear predictor
            shape = (*shape[:-1], shape[-1] - 1)
        if offset.ndim > 1 and offset.shape[1:] != shape:
            raise DataError(
                f"{what}: the offset {more!r} has {offset.shape[1]} columns, but {p.name} has linear predictors of shape "
                f"{shape} in every row; give one column for all, or one for each"
            )
    largest = max(float(values.max(initial=0.0)), -float(values.min(initial=0.0)))  # np.abs would copy the design
    if largest > MOST:
        raise DataError(
            f"{what}: expected columns of the design with absolute values of at most {MOST:.0e}, got {largest:.3g}, whose "
            "square overflows: rescale the covariates"
        )
    few = values[:: max(1, len(values) // 4096)]
    size = np.sqrt(np.mean(few**2, axis=0))
    size = np.where(size > 0, size, 1.0)
    constant = np.linalg.lstsq(few / size, np.ones(len(few)), rcond=1e-10)[0] / size
    for start, own in factors:
        constant = np.insert(constant, start, np.zeros(len(own)))
    mean = np.zeros(()) if offset is None else np.mean(offset, axis=0)
    random_formula, random = first_random(p, table, kept, what)
    made = Design(p, formula, offset_formula, constant, mean, random_formula, factors)
    return made, DesignValues(values, offset, random, levels)


def design_columns(
    design: Design,
    values: DesignValues,
    view: str,
    rows: Rows | None = None,
    index: Any = None,
) -> dict[Any, Any]:
    """Return a design, its offset and its other parts as columns of a table, by their keys.

    Args:
        design: the design.
        values: its columns.
        view: how the user's function takes the parameter, "array" or "row".
        rows: the rows of the table that ``values`` belong to, None for all; in others the new columns are NaN.
        index: labels of all rows of the table, or None.
    """
    name, matrix = design.predictor.name, _in_all_rows(values.design, rows)
    if design.piece.labels is not None:
        import pandas as pd

        own = {label for _, labels in design.factors for label in labels} if values.levels is not None else ()
        columns = [label for label in design.piece.labels if label not in own]
        matrix = pd.DataFrame(matrix, columns=columns, index=index, copy=False)
    parts = {"offset": values.offset, "random": values.random}
    beside: dict[Any, Any] = {
        DesignKey(name, part, view): _in_all_rows(v, rows) for part, v in parts.items() if v is not None
    }
    if values.levels is not None:
        beside[LevelsKey(name, view, design.factors)] = _in_all_rows(values.levels, rows)
    return {DesignKey(name, "design", view): matrix, **beside}


def _index(table: Table, names: Iterable[Hashable]) -> Any:
    """Return the pandas index of the first of these columns that has one, or None."""
    found = (column.index for name in names for column in table.contents(name).rows)
    return next((index for index in found if index is not None), None)


def _what(p: Predictor) -> str:
    """Return the beginning of error messages about the formula of a parameter, "regress(NAME='...')"."""
    return f"regress({p.name}={p.linear.formula!r})"


def _log_exposure(p: Predictor, values: Float[Host, "n ..."], kept: Int[Host, " m"] | None) -> Float[Host, "n ..."]:
    """Return the logarithm of the values of an exposure, if the predictor has one, or those of an offset unchanged; DataError if
    an exposure is not positive. ``kept``: positions of the rows in the user's table, None for all.
    """
    if p.linear.exposure is None:
        return values
    bad = np.flatnonzero((values <= 0).reshape(len(values), -1).any(axis=1))
    if bad.size:
        first = int(bad[0] if kept is None else kept[bad[0]])
        raise DataError(
            f"regress({p.name}=...): exposure={p.linear.exposure!r} must be positive, because its logarithm is added; "
            f"{bad.size} of {len(values)} rows are not, first row {first} with {values[bad[0]]:g}. Correct these rows, or "
            "leave them out"
        )
    return np.log(values)


def _in_all_rows(values: Float[Host, "m ..."], rows: Rows | None) -> Float[Host, "n ..."]:
    """Return values of the kept rows (m, ...) as an array of all rows of the table (n, ...), NaN in rows that were dropped; the
    values themselves if none was dropped or ``rows`` is None.
    """
    if rows is None or rows.kept is None:
        return values
    full = np.full((rows.n + rows.n_dropped, *values.shape[1:]), np.nan)
    full[rows.kept] = values
    return full
