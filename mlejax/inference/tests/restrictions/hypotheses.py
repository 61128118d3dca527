r"""Parse linear hypotheses, given as text, dict or matrix, into R theta = r.

The grammar (an address is the name of an entry, ``beta[x1]``; text inside square brackets is part of it)::

    hypotheses  = restriction {"," restriction}
    restriction = sum {"=" sum} | "(" restriction ")"      a sum alone is 0; a = b = c are two restrictions
    sum         = ["+" | "-"] term {("+" | "-") term}
    term        = factor {("*" | "/") factor}              at least one side of * and the right side of / is a number
    factor      = number | address | "(" sum ")" | ("+" | "-") factor
    address     = name {"." name | "[" anything with balanced brackets "]"}

An address of several entries makes a restriction elementwise: ``beta = 0``, ``beta = gamma``, ``beta = beta[0]``.
A name that is not an identifier is written between backticks; those of random effects, ``sd(mu|patient)``, need none.  All
errors are ValueErrors, apart from those that the caller's own `resolve` raises for an address.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mlejax.data.errors import type_name
from mlejax.fit import Restrictions
from mlejax.inference.tables.formatting import format_number
from mlejax.inference.tests.restrictions.grammar import LinearForm, Resolve, Row, entry_indices, read_text
from mlejax.parameters import Space


class Hypotheses(NamedTuple):
    """Linear restrictions R theta = r.

    Attributes:
      R: restrictions (m, n), float64.
      r: right-hand sides (m,), float64.
      labels: m strings that describe the restrictions.
    """

    R: np.ndarray
    r: np.ndarray
    labels: tuple[str, ...]


def parse_hypotheses(
    hypotheses: Any, resolve: Resolve, n: int, *, r: Any = None, names: Sequence[str] | None = None
) -> Hypotheses:
    """Return linear hypotheses R theta = r from text, a dict or a matrix.

    Args:
      hypotheses: a string (``"mu[a] = mu[b], sigma = 1"``), a list of such strings, a dict ``{address: value}``,
        a matrix R of shape (m, n) or (n,), or a tuple (R, r). The columns of a DataFrame are read as addresses.
      resolve: function from the name of an entry to positions in 0..n-1; its errors are passed on.
      n: number of entries of theta.
      r: right-hand side for a matrix, scalar or (m,); 0 by default. Not allowed with text and dicts.
      names: n names of the entries, for labels; optional.

    Returns:
      `Hypotheses` (R, r, labels). Restrictions that hold for every theta, such as ``beta[0] = beta[0]``, are
      dropped when others remain.

    Raises:
      ValueError: text that cannot be parsed, with the position marked; no restriction, or one without a parameter; numbers
        that are not finite; wrong shapes; or r given for text or a dict.

    >>> index = {"a": [0], "b": [1], "beta": [2, 3]}
    >>> h = parse_hypotheses("a = 2*b, beta = 1", index.__getitem__, 4)
    >>> h.R.tolist(), h.r.tolist()
    ([[1.0, -2.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]], [0.0, 1.0, 1.0])
    """
    if _is_text(hypotheses) or isinstance(hypotheses, Mapping):
        if r is not None:
            raise ValueError("r= is for a matrix of restrictions; in text, write the value after the equals sign")
        if isinstance(hypotheses, Mapping):
            rows = _from_dict(hypotheses, resolve, n)
        else:
            texts = [hypotheses] if isinstance(hypotheses, str) else list(hypotheses)
            rows = [row for text in texts for row in read_text(str(text), resolve, n, names or ())]
        return _assemble(rows, n, names)
    return _from_matrix(hypotheses, resolve, n, r, names)


def parse_constraints(constraints: Any, space: Space, effects: Any = ()) -> Restrictions:
    """Parse ``constraints=``: matrix, values and labels of the linear constraints, and the functions of nonlinear ones.

    Args:
        constraints: a string, matrix, dict or function, or a list of strings and functions.
        space: the parameters, by whose entries linear constraints are resolved.
        effects: keys of the fixed effects (``mle.Real(by=...)``).

    Raises:
        TypeError: a list has functions and something that is neither function nor string.
        ValueError: linear constraints that cannot be parsed, or that name fixed effects.
    """
    listed = list(constraints) if isinstance(constraints, (list, tuple)) else [constraints]
    functions = tuple(part for part in listed if callable(part))
    if functions:
        constraints = [part for part in listed if not callable(part)]
        if not constraints:
            return Restrictions(np.zeros((0, space.n_reported)), np.zeros(0), (), functions)
        if not all(isinstance(part, str) for part in constraints):
            other = next(part for part in constraints if not isinstance(part, str))
            raise TypeError(
                "constraints= expected a list of functions of params and strings such as 'mu[a] = mu[b]', got a "
                f"{type_name(other)} in the list: write linear constraints as strings"
            )
    indexed = [key.parameter for key in effects if f"{key.parameter}[" in str(constraints)]
    if indexed:
        raise ValueError(
            f"constraints= on {indexed[0]}: effects of mle.Real(by=...) are eliminated one level at a time, so that they cannot "
            "be constrained; constrain other parameters only"
        )
    try:
        linear = parse_hypotheses(constraints, space.resolve, space.n_reported, names=list(space.labels))
    except ValueError as error:
        raise type(error)(f"constraints=: {error}") from error
    return Restrictions(linear.R, linear.r, linear.labels, functions)


def _is_text(hypotheses: Any) -> bool:
    if isinstance(hypotheses, str):
        return True
    if isinstance(hypotheses, np.ndarray):
        return hypotheses.dtype.kind in "UOT" and hypotheses.ndim == 1 and all(isinstance(h, str) for h in hypotheses)
    return isinstance(hypotheses, (list, tuple)) and len(hypotheses) > 0 and all(isinstance(h, str) for h in hypotheses)


# ---- linear forms, dicts and matrices -> R, r -------------------------------------------------------------------


def _from_dict(hypotheses: Mapping[Any, Any], resolve: Resolve, n: int) -> list[Row]:
    """Return the restrictions of a dict, name -> null value; the name of a whole parameter takes one value for all entries or one
    for each.

    Raises:
        ValueError: an empty dict, a key that is not a string, or values that are not finite numbers of that count.
    """
    if not hypotheses:
        raise ValueError("the hypothesis is an empty dict: expected values by name, {'mu': 0.0}")
    rows = []
    for address, value in hypotheses.items():
        if not isinstance(address, str):
            raise ValueError(f"expected the names of entries (strings) as keys of a hypothesis, got {address!r}")
        where = entry_indices(address, resolve, n)
        values = _numeric(value, f"the value of {address!r}").ravel()
        if values.size not in (1, where.size):
            raise ValueError(f"{address!r}: expected one value or {where.size}, one per entry, got {values.size}")
        if values.size == 1:
            value_text = format_number(float(values[0]), 10)
            rows.append(Row(LinearForm(((where, 1.0),), -float(values[0])), f"{address} = {value_text}"))
        else:
            for i, v in zip(where, values, strict=True):
                text = f"{address} = {format_number(float(v), 10)}"
                rows.append(Row(LinearForm(((np.asarray([i]), 1.0),), -float(v)), text))
    return rows


def _assemble(rows: Sequence[Row], n: int, names: Sequence[str] | None) -> Hypotheses:
    """Return the restrictions as a matrix of n columns; a row of a whole parameter becomes one row for each entry, without those
    in which the parameters cancel and the constants too.

    Raises:
        ValueError: parameters cancel and leave a constant, or cancel in all rows; or a number is too large.
    """
    blocks, values, labels = [], [], []
    for row in rows:
        size = max(i.size for i, _ in row.linear.terms)
        block = np.zeros((size, n))
        with np.errstate(over="ignore", invalid="ignore"):
            for indices, weight in row.linear.terms:
                np.add.at(block, (np.arange(size), np.broadcast_to(indices, size)), weight)
        value = np.full(size, -row.linear.constant) + 0.0  # no minus zero
        if not (np.all(np.isfinite(block)) and np.all(np.isfinite(value))):
            raise ValueError(f"the coefficients of {row.text!r} are too large for float64: divide them by a number")
        empty = ~np.any(block != 0, axis=1)
        if np.any(empty & (value != 0)) or np.all(empty):
            raise ValueError(f"the parameters cancel in {row.text!r}: there is nothing to test")
        blocks.append(block[~empty])
        values.append(value[~empty])
        if size == 1:
            labels.append(row.text)
        else:
            kept = zip(blocks[-1], values[-1], strict=True)
            labels += [_row_label(c, v, names) or f"{row.text} ({i + 1})" for i, (c, v) in enumerate(kept)]
    return Hypotheses(np.concatenate(blocks), np.concatenate(values), tuple(labels))


def _row_label(row: np.ndarray, value: float, names: Sequence[str] | None) -> str:
    """Return a label such as ``2*beta[1] - beta[2] = 3`` of a row of R (n,) and its right-hand side; empty without names or
    with more than 6 terms.
    """
    used = np.flatnonzero(row).tolist()
    if names is None or len(used) > 6:
        return ""
    text = ""
    for j in used:
        sign = ("- " if row[j] < 0 else "+ ") if text else ("-" if row[j] < 0 else "")
        size = abs(float(row[j]))
        text += (" " if text else "") + sign + ("" if size == 1 else f"{format_number(size, 6)}*") + names[j]
    return f"{text} = {format_number(value, 10)}"


def _from_matrix(hypotheses: Any, resolve: Resolve, n: int, r: Any, names: Sequence[str] | None) -> Hypotheses:
    """Return the restrictions R theta = r of a matrix (m, n), a vector (n,), a DataFrame whose columns are names of entries, or a
    tuple (R, r).

    Args:
        hypotheses: one of these.
        resolve: function from a name to the positions of its entries.
        n: number of entries.
        r: right-hand side, a number or (m,); None: 0, or that of the tuple.
        names: names of all entries, for labels.

    Raises:
        ValueError: r given twice, another shape, a row of zeros, numbers that are not finite, or a column that names no single
            entry.
    """
    if isinstance(hypotheses, tuple) and len(hypotheses) == 2 and _dimensions(hypotheses[0]) == 2:
        if r is not None:
            raise ValueError("the right-hand side is given twice, in the tuple (R, r) and as an argument: leave one out")
        hypotheses, r = hypotheses
    matrix = _numeric(hypotheses, "the matrix of restrictions")
    columns = getattr(hypotheses, "columns", None)
    if columns is not None and all(isinstance(c, str) for c in columns) and matrix.ndim == 2:
        # Labelled columns are placed by their address, not by their order.
        placed = np.zeros((matrix.shape[0], n))
        for address, column in zip(columns, matrix.T, strict=True):
            where = entry_indices(address, resolve, n)
            if where.size != 1:
                raise ValueError(f"column {address!r} names {where.size} entries: expected one column for each of them")
            placed[:, where[0]] += column
        matrix = placed
    if matrix.ndim == 1:
        matrix = matrix[None, :]
    if matrix.ndim != 2 or matrix.shape[1] != n or matrix.shape[0] == 0:
        raise ValueError(f"the matrix R: expected shape (m, {n}), one column per entry, got {matrix.shape}")
    value = _numeric(0.0 if r is None else r, "r").ravel()
    if value.size not in (1, matrix.shape[0]):
        raise ValueError(f"r: expected a scalar or {matrix.shape[0]} values, one per restriction, got {value.size}")
    if empty := np.flatnonzero(~np.any(matrix != 0, axis=1)).tolist():
        raise ValueError(f"restriction {empty[0]} of the matrix has only zeros: there is nothing to test")
    value = np.broadcast_to(value, matrix.shape[0]).copy()
    labels = [_row_label(c, v, names) or f"restriction {i}" for i, (c, v) in enumerate(zip(matrix, value, strict=True))]
    return Hypotheses(matrix, value, tuple(labels))


def _dimensions(x: Any) -> int:
    try:
        return np.ndim(x)
    except ValueError:  # a ragged list
        return -1


def _numeric(x: object, what: str) -> np.ndarray:
    """Return a copy as float64; ValueError, which begins with ``what``, unless all are finite numbers."""
    try:
        array = np.asarray(x, np.float64)
    except OverflowError:
        raise ValueError(f"{what}: expected numbers that float64 has, got one that is too large") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what}: expected numbers, got {x!r}") from error
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{what}: expected finite numbers, got {x!r}")
    return np.array(array, copy=True)
