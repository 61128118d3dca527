"""Regressed parameters: their design matrices among the data.

Nothing in the recipe knows of formulas: designs (and offsets) become further columns by row, the layout of the parameters
gets coefficients in the place of what is regressed, and the likelihood's own function turns both into the row-wise
values that the user's function sees.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlejax import data as data_room
from mlejax.data import formulas
from mlejax.likelihood import Likelihood, trace_reads
from mlejax.parameters import Predictor, Space

NULL_SINGULAR = 1e-11
NEARLY_COLLINEAR = 1e-6


@dataclass(frozen=True, eq=False)
class Design:
    """The design of one regressed parameter, as it was made from the data of a fit.

    Attributes:
        predictor: the parameter, its formula and its link.
        piece: the formula with its transforms and levels.
        offset: the offset or exposure, or None.
        constant: coefficients (k,) of the column of ones on the design, as nearly as it has one.
        mean_offset: of the rows, () or the entries' shape.
    """

    predictor: Predictor
    piece: formulas.Piece
    offset: formulas.Piece | None
    constant: np.ndarray
    mean_offset: np.ndarray

    @property
    def what(self) -> str:
        return f"regress({self.predictor.name}={self.predictor.linear.formula!r})"

    def again(self, source: data_room.Source, kept: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
        """Design (n, k) and offset (n, ...) or None of new data."""
        values = formulas.evaluate_again(self.piece, source, kept, self.what)
        if self.offset is None:
            return values, None
        offset = formulas.expression_again(self.offset, source, kept, self.what)
        return values, _log_exposure(self.predictor, offset)


@dataclass(frozen=True, eq=False)
class Designs:
    """All designs of a fit.

    Attributes:
        designs: one for each regressed parameter.
        view: "array" or "row", how the user's function takes regressed parameters.
        rows: the columns that the user's function reads, checked, without the designs.
        natural: the layout of the parameters as declared.
        used: the columns of the formulas.
        extra: these as numbers, for the fingerprint.
    """

    designs: tuple[Design, ...]
    view: str
    rows: data_room.Rows
    natural: Space
    used: tuple[str, ...]
    extra: Mapping[str, np.ndarray | data_room.Taken]

    def again(self, source: data_room.Source) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
        """Design and offset of every regressed parameter, on new data."""
        return {d.predictor.name: d.again(source, None) for d in self.designs}

    def values(self, params: Any, made: Mapping[str, tuple[Any, Any]]) -> dict[str, Any]:
        """The values (n, *shape) of the regressed parameters at coefficients ``params``."""
        return {
            d.predictor.name: d.predictor.value(params[d.predictor.name], *made[d.predictor.name]) for d in self.designs
        }

    def fingerprint(self, weights: Any = None) -> data_room.Fingerprint:
        """Of the columns that the function reads and of those that the formulas use."""
        return data_room.fingerprint(self.rows, weights, **self.extra)


class _Joined(Mapping[Any, Any]):
    """The user's columns with further ones beside them."""

    def __init__(self, raw: Any, keys: tuple[Hashable, ...], more: Mapping[Any, Any]) -> None:
        self.raw, self.columns, self.more = raw, keys, more

    def __getitem__(self, key: Any) -> Any:
        return self.more[key] if key in self.more else self.raw[key]

    def __iter__(self) -> Iterator[Any]:
        return iter((*self.columns, *self.more))

    def __len__(self) -> int:
        return len(self.columns) + len(self.more)


def with_designs(
    likelihood: Likelihood,
    source: data_room.Source,
    missing: str,
    others: Sequence[str],
    beside: Sequence[tuple[str, Any]] = (),
) -> tuple[data_room.Source, Designs]:
    """The data with the designs of the regressed parameters beside the columns that the user's function reads.

    Args:
        likelihood: with regressed parameters.
        source: the user's data.
        missing: "raise" or "drop": over the columns read, those of formulas and ``others`` together.
        others: further columns in use.
        beside: (name, values) of weights that are no column of the data.
    """
    if source.kind != "mapping":
        raise data_room.DataTypeError(
            f"{likelihood.name}: formulas need data with names, a dict or a DataFrame, got a {type(source.raw).__name__}"
        )
    texts = {p.name: _columns(p, source) for p in likelihood.predictors}
    used = tuple(dict.fromkeys(c for columns in texts.values() for c in columns))
    assert likelihood.natural is not None
    natural = likelihood.natural.space(source)
    view, reads = _reads(likelihood, source, natural, used)
    rows = source.convert(reads, missing=missing, others=[*others, *used], beside=beside)
    designs, more = [], {}
    index = _index(source, (*reads, *used))
    for p in likelihood.predictors:
        design, columns = _design_columns(p, source, rows, _entries(p, natural), view, index)
        designs.append(design)
        more.update(columns)
    kept_keys = frozenset((*reads, *others, *used))
    keys = tuple(k for k in source.keys if k in kept_keys)
    joined = data_room.Source("mapping", _Joined(source.raw, keys, more), (*keys, *more))
    extra = {f"formula {name}": _numbers(source.column(name), rows) for name in used}
    return joined, Designs(tuple(designs), view, rows, natural, used, extra)


def _design_columns(
    p: Predictor, source: data_room.Source, rows: data_room.Rows, entries: tuple[int, ...], view: str, index: Any
) -> tuple[Design, dict[Any, Any]]:
    """A design, and its columns for a table of all rows."""
    design, values, offset = _design(p, source, rows.kept, entries)
    n = rows.n + rows.n_dropped
    more = {data_room.DesignKey(p.name, "design", view): _spread(values, rows.kept, n, design.piece.labels, index)}
    if offset is not None:
        more[data_room.DesignKey(p.name, "offset", view)] = _spread(offset, rows.kept, n)
    return design, more


def with_designs_again(
    designs: Designs, source: data_room.Source, missing: str, others: Sequence[str]
) -> data_room.Source:
    """Further data (held out, say) with the same designs: transforms and levels of the first; as `with_designs`."""
    names = designs.rows.layout.keys
    kept = source.convert(names, missing=missing, others=[*others, *designs.used]).kept
    more, index, n = {}, _index(source, (*names, *designs.used)), source.length((*names, *designs.used))
    for design in designs.designs:
        values, offset = design.again(source, kept)
        key = data_room.DesignKey(design.predictor.name, "design", designs.view)
        more[key] = _spread(values, kept, n, design.piece.labels, index)
        if offset is not None:
            more[replace(key, part="offset")] = _spread(offset, kept, n)
    wanted = frozenset((*names, *designs.used, *others))
    keys = tuple(k for k in source.keys if k in wanted)
    return data_room.Source("mapping", _Joined(source.raw, keys, more), (*keys, *more))


def _columns(p: Predictor, source: data_room.Source) -> tuple[str, ...]:
    what = f"regress({p.name}={p.linear.formula!r})"
    found = formulas.columns_of(p.linear.formula, source, what)
    more = p.linear.offset or p.linear.exposure
    return (*found, *formulas.expression_columns(more, source, what)) if more is not None else found


def _reads(
    likelihood: Likelihood, source: data_room.Source, natural: Space, used: Sequence[str]
) -> tuple[str, tuple[Any, ...]]:
    """How the user's function takes regressed parameters, and the columns that it reads.

    A scalar reaches it as a vector by row where it can take one, a vector or a simplex (in models by row) row by row with
    the shape that it was declared with, as in the same model without covariates.
    """
    base = likelihood.natural
    assert base is not None
    n = source.length(used) if used else formulas.n_rows(source)
    regressed = {p.name for p in likelihood.predictors}
    lead = data_room.TRACED_UNIT_LENGTH if likelihood.mode == "units" else n
    wide = replace(
        natural,
        leaves=tuple(
            replace(leaf, shape=(lead, *leaf.shape), labels=None) if leaf.name in regressed else leaf
            for leaf in natural.leaves
        ),
    )
    views = ["array", "row"] if all(p.scalar for p in likelihood.predictors) else ["row", "array"]
    if likelihood.mode != "rows":
        views = ["array"]
    first: Exception | None = None
    for view in views:
        try:
            return view, trace_reads(base, source, natural if view == "row" else wide, by_row=view == "row")[0]
        except (data_room.DataError, data_room.DataTypeError, data_room.MissingColumnError):
            raise
        except Exception as error:
            first = first or error
    assert first is not None
    names = ", ".join(f"params[{name!r}]" for name in sorted(regressed))
    first.add_note(
        f"In a regressed model {names} varies by row: a scalar is then a vector with one entry per row, a vector of K "
        "entries an array (rows, K)."
    )
    raise first


def _entries(p: Predictor, natural: Space) -> tuple[int, ...]:
    """The shape of a row's linear predictors: that of the parameter, a simplex without its baseline."""
    shape = next(leaf.shape for leaf in natural.leaves if leaf.name == p.name)
    return (*shape[:-1], shape[-1] - 1) if p.link.name == "softmax" else shape


def _design(
    p: Predictor, source: data_room.Source, kept: np.ndarray | None, entries: tuple[int, ...]
) -> tuple[Design, np.ndarray, np.ndarray | None]:
    what = f"regress({p.name}={p.linear.formula!r})"
    piece, values = formulas.evaluate(p.linear.formula, source, kept, what)
    more = p.linear.offset or p.linear.exposure
    offset_piece, offset = None, None
    if more is not None:
        offset_piece, offset = formulas.expression(more, source, kept, what)
        offset = _log_exposure(p, offset)
        if offset.ndim > 1 and offset.shape[1:] != entries:
            raise data_room.DataError(
                f"{what}: the offset {more!r} has {offset.shape[1]} columns, but {p.name} has linear predictors of shape "
                f"{entries} in every row; give one column for all, or one for each"
            )
    few = values[:: max(1, len(values) // 4096)]
    size = np.sqrt(np.mean(few**2, axis=0))
    size = np.where(size > 0, size, 1.0)
    constant = np.linalg.lstsq(few / size, np.ones(len(few)), rcond=1e-10)[0] / size
    mean = np.zeros(()) if offset is None else np.mean(offset, axis=0)
    return Design(p, piece, offset_piece, constant, mean), values, offset


def _log_exposure(p: Predictor, values: np.ndarray) -> np.ndarray:
    if p.linear.exposure is None:
        return values
    bad = np.flatnonzero((values <= 0).reshape(len(values), -1).any(axis=1))
    if bad.size:
        raise data_room.DataError(
            f"regress({p.name}=...): exposure={p.linear.exposure!r} must be positive, because its logarithm is added; "
            f"{bad.size} of {len(values)} rows are not, first row {int(bad[0])} with {values[bad[0]]:g}"
        )
    return np.log(values)


def _index(source: data_room.Source, names: Sequence[Any]) -> Any:
    """The row labels of the columns in use, or None."""
    found = (leaf.index for name in names for leaf in source.held(name).rows)
    return next((index for index in found if index is not None), None)


def _spread(
    values: np.ndarray, kept: np.ndarray | None, n: int, labels: tuple[str, ...] | None = None, index: Any = None
) -> Any:
    """The columns of the kept rows in a table of all rows, missing elsewhere, so that those rows are dropped again."""
    if kept is not None:
        full = np.full((n, *values.shape[1:]), np.nan)
        full[kept] = values
        values = full
    if labels is None or values.ndim == 1:
        return values
    import pandas as pd

    return pd.DataFrame(values, columns=list(labels), index=index, copy=False)


def _numbers(values: Any, rows: data_room.Rows) -> np.ndarray | data_room.Taken:
    """A column of a formula as numbers, categories by their rank, for the fingerprint; numbers are not copied."""
    import pandas as pd

    whole = np.asarray(values)
    if rows.kept is not None and whole.dtype.kind in "fiub":
        return data_room.Taken(whole, rows.kept)
    array = np.asarray(rows.select(values))
    if array.dtype.kind in "fiub":
        return array
    codes, levels = pd.factorize(array.reshape(-1))
    rank = np.argsort(np.argsort([str(level) for level in levels], kind="stable"))
    return rank[codes].astype(np.float64).reshape(array.shape)


# ---- columns that say the same


def collinear(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Combinations of a design's columns (n, k) that are 0 in every row, (m, k), and the smallest other singular value.

    Of columns scaled to unit length, relative to the largest; combinations are orthonormal in the scaled columns.
    """
    size = np.sqrt(np.sum(values**2, axis=0))
    size = np.where(size > 0, size, 1.0)
    _, singular, right = np.linalg.svd(values / size, full_matrices=values.shape[0] < values.shape[1])
    singular = np.concatenate([singular, np.zeros(right.shape[0] - singular.size)])
    null = singular <= NULL_SINGULAR * max(singular.max(initial=0.0), 1e-300)
    rest = singular[~null]
    return right[null] / size, float(rest.min() / rest.max()) if rest.size else 0.0


def null_directions(designs: Designs | None, space: Space, rows: data_room.Rows) -> list[np.ndarray]:
    """Directions in u (p,) along which no row's linear predictor changes, the rest of the parameters being held."""
    out: list[np.ndarray] = []
    if designs is None or space.ties is not None:
        return out
    for design in designs.designs:
        i = next(i for i, leaf in enumerate(space.leaves) if leaf.name == design.predictor.name)
        leaf, at = space.leaves[i], space.u_slices[i]
        if not leaf.n_free:
            continue
        matrix = rows[data_room.DesignKey(design.predictor.name, "design", designs.view)]
        k = leaf.shape[-1]
        free = np.ones(leaf.size, bool) if leaf.free is None else np.asarray(leaf.free)
        place = np.cumsum(free) - 1 + at.start
        for entry in range(leaf.size // k):
            mine = np.flatnonzero(free[entry * k : (entry + 1) * k])
            for combination in collinear(np.asarray(matrix)[:, mine])[0] if mine.size else ():
                vector = np.zeros(space.n_free)
                vector[place[entry * k + mine]] = combination
                out.append(vector)
    return out


def remark(designs: Designs | None, rows: data_room.Rows) -> str:
    """What to know about designs whose columns nearly say the same; empty if there is nothing."""
    for design in designs.designs if designs is not None else ():
        matrix = rows[data_room.DesignKey(design.predictor.name, "design", designs.view)]  # type: ignore[union-attr]
        smallest = collinear(np.asarray(matrix))[1]
        if 0.0 < smallest < NEARLY_COLLINEAR:
            return (
                f"The columns of {design.predictor.name} ~ {design.predictor.linear.formula} are nearly collinear (smallest "
                f"singular value {smallest:.1e} of the largest): centre the covariates, or use poly() for powers."
            )
    return ""
