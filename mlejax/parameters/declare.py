"""Declarations of parameters: their support, shape, labels and start values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from mlejax import misuse, transforms
from mlejax.shapes import PyTree
from mlejax.transforms import Transform


@dataclass(frozen=True, eq=False, repr=False)
class Parameter:
    """One declared parameter: its support, shape, labels and start value.

    Made by :func:`Real`, :func:`Positive` and similar functions, not directly.

    Attributes:
        kind: name of the function that made it.
        transform: the transform of its support, from :mod:`mlejax.transforms`.
        shape: its shape; None if ``columns`` names a matrix, whose number of columns the data tell.
        columns: name of a matrix in the data, or names of columns, each of which has an entry; or None.
        start: start value, natural scale, or None.
        labels: names of the entries of the last axis, or None.
        arguments: further arguments, as the repr shows them.
        by: the column whose levels have one value each, or None.
    """

    kind: str
    transform: Any
    shape: tuple[int, ...] | None = ()
    columns: str | tuple[str, ...] | None = None
    start: PyTree = None
    labels: tuple[str, ...] | None = None
    arguments: str = ""
    by: str | None = None

    def __repr__(self) -> str:
        parts = [self.arguments] if self.arguments else []
        if self.by is not None:
            parts.append(f"by={self.by!r}")
        if self.columns is not None:
            parts.append(f"columns={self.columns!r}")
        elif self.shape:
            parts.append(f"shape={self.shape}")
        if self.start is not None:
            parts.append("start=...")
        return f"{self.kind}({', '.join(parts)})"


@dataclass(frozen=True, eq=False, repr=False)
class FreeParameter:
    """An unconstrained parameter of any structure (a pytree of arrays), ``start``, which is also its start value."""

    start: PyTree

    def __repr__(self) -> str:
        n = sum(int(np.size(x)) for x in jax.tree.leaves(self.start))
        return f"Free({len(jax.tree.leaves(self.start))} arrays, {n} numbers)"


Declaration = Parameter | FreeParameter


def _declare(
    kind: str,
    transform: Transform,
    shape: int | Sequence[int] | None,
    columns: str | Sequence[str] | None,
    start: PyTree,
    labels: Sequence[str] | None,
    arguments: str = "",
) -> Parameter:
    if shape is not None and columns is not None:
        raise ValueError(f"{kind}: give shape= or columns=, not both (got shape={shape!r}, columns={columns!r})")
    if isinstance(shape, (int, np.integer)):
        shape = (int(shape),)
    square = isinstance(transform, transforms.Triangular)
    if columns is not None:
        resolved = None
        if not isinstance(columns, str):
            columns = tuple(columns)
            labels = tuple(str(c) for c in columns) if labels is None else labels
            resolved = (len(columns),) * (2 if square else 1)
    else:
        sizes = () if shape is None or isinstance(shape, str) else tuple(shape) if isinstance(shape, Iterable) else (shape,)
        if isinstance(shape, str) or not all(isinstance(s, (int, np.integer)) for s in sizes):
            raise ValueError(f"{kind}: shape= expected a whole number, or a tuple of whole numbers, got {shape!r}")
        resolved = tuple(int(s) for s in sizes)
        if square and len(resolved) == 1:
            resolved = resolved * 2
    if resolved is not None and any(s < 1 for s in resolved):
        raise ValueError(f"{kind}: shape must be positive, got {resolved}")
    if resolved is not None and not transform.elementwise:
        if not resolved:
            raise ValueError(f"{kind} needs shape= (the number of entries) or columns=, e.g. mle.{kind}(shape=3)")
        if square and (len(resolved) < 2 or resolved[-1] != resolved[-2]):
            raise ValueError(f"{kind}: expected shape=d or (d, d), got {resolved}")
        if resolved[-1] < 2 and not isinstance(transform, (transforms.Covariance, transforms.Cholesky)):
            raise ValueError(f"{kind}: expected at least 2 entries on the last axis, got shape={resolved}")
    if labels is not None:
        labels = tuple(str(x) for x in labels)
        if len(set(labels)) != len(labels):
            raise ValueError(f"{kind}: labels must differ from one another, got {labels}")
        if resolved is not None and (not resolved or len(labels) != resolved[-1]):
            raise ValueError(
                f"{kind}: expected {resolved[-1] if resolved else 0} labels for shape {resolved}, got {labels}"
            )
    parameter = Parameter(kind, transform, resolved, columns, start, labels, arguments)
    if start is not None and resolved is not None:
        start_value(parameter, start, kind)
    return parameter


@misuse.door
def Real(
    shape: int | Sequence[int] | None = None,
    *,
    columns: str | Sequence[str] | None = None,
    start: PyTree = None,
    labels: Sequence[str] | None = None,
    by: str | None = None,
) -> Parameter:
    """Declare an unconstrained real parameter.

    Args:
        shape: ``()`` by default; an integer or a tuple for vectors and matrices.
        columns: instead of ``shape``, the name of a matrix in the data, or a list of column names: one entry for each
            column, with its name as label.
        start: start value, natural scale; a number or an array that broadcasts to the shape (of a simplex, an ordered vector or a
            matrix the whole array).
        labels: names for the entries of the last axis; of a square matrix for rows and columns.
        by: a column of the data; the parameter then has one value for each of its levels, possibly thousands (fixed effects),
            and the function gets the value of each row's level (n,).  Levels are strings, numbers or dates.  The table of
            estimates does not show the values; ``res.effects()`` lists them.  Not with other arguments.

    Raises:
        ValueError: both ``shape`` and ``columns``, a shape that is not positive, labels that are not distinct or not one for
            each entry, a start value of another shape, or another argument with ``by``.
        TypeError: ``start`` is not numeric, or ``by`` is not a string.

    Example:
        >>> import mlejax as mle
        >>> mle.Real(shape=3)
        Real(shape=(3,))
        >>> mle.Real(by="firm")
        Real(by='firm')
    """
    declared = _declare("Real", transforms.Identity(), shape, columns, start, labels)
    if by is None:
        return declared
    if not isinstance(by, str):
        raise TypeError(f"Real(by=...) expected the name of a column, got {type(by).__name__}")
    arguments = {"shape": shape, "columns": columns, "labels": labels, "start": start}
    given = [f"{name}=" for name, value in arguments.items() if value is not None]
    if given:
        raise ValueError(f"Real(by={by!r}) has one number for each level; leave out {', '.join(given)}")
    return replace(declared, by=by)


@misuse.door
def Positive(
    shape: int | Sequence[int] | None = None,
    *,
    columns: str | Sequence[str] | None = None,
    start: PyTree = None,
    labels: Sequence[str] | None = None,
) -> Parameter:
    """Declare a parameter in the open interval (0, inf), optimised on the log scale.

    Arguments and errors are those of :func:`Real`, without ``by``; a start value must be positive.
    """
    return _declare("Positive", transforms.Log(), shape, columns, start, labels)


@misuse.door
def NonNegative(
    shape: int | Sequence[int] | None = None,
    *,
    columns: str | Sequence[str] | None = None,
    start: PyTree = None,
    labels: Sequence[str] | None = None,
) -> Parameter:
    """Declare a parameter in [0, inf) whose estimate may be 0, at the bound (such as a variance component).

    It is optimised on its natural scale with a bound.  Arguments and errors are those of :func:`Real`, without ``by``; a start
    value must not be negative.
    """
    return _declare("NonNegative", transforms.Box(0.0, math.inf), shape, columns, start, labels)


@misuse.door
def Interval(
    lo: float,
    hi: float,
    shape: int | Sequence[int] | None = None,
    *,
    closed: str = "neither",
    columns: str | Sequence[str] | None = None,
    start: PyTree = None,
    labels: Sequence[str] | None = None,
) -> Parameter:
    """Declare a parameter between ``lo`` and ``hi``.

    Args:
        lo, hi: finite ends, ``lo < hi``.
        closed: ends of the interval that belong to it, so that the estimate may be there: ``"neither"`` (optimised on the scaled
            logit), ``"both"`` (on the natural scale with bounds), ``"left"`` or ``"right"`` (on a logarithm with a bound).
        shape, columns, start, labels: as in :func:`Real`.

    Raises:
        ValueError: the ends are not finite or not ``lo < hi``; another value of ``closed``; a start value outside of the
            interval; otherwise as in :func:`Real`.
        TypeError: the ends or the start value are not numbers.
    """
    try:
        lo, hi = float(lo), float(hi)
    except OverflowError as error:
        raise ValueError("Interval expected two finite ends, got an integer beyond 1.8e308") from error
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"Interval expected two numbers lo < hi, got ({lo!r}, {hi!r}); for a half-line use Positive() or NonNegative()"
        ) from error
    if not (math.isfinite(lo) and math.isfinite(hi) and lo < hi):
        raise ValueError(
            f"Interval expected two finite ends with lo < hi, got ({lo}, {hi}); "
            "for a half-line use Positive() or NonNegative()"
        )
    if closed not in ("neither", "both", "left", "right"):
        raise ValueError(f"Interval: closed must be 'neither', 'both', 'left' or 'right', got {closed!r}")
    transform: Transform
    if closed == "neither":
        transform = transforms.Logit(lo, hi)
    elif closed == "both":
        transform = transforms.Box(lo, hi)
    else:
        transform = transforms.HalfOpen(lo, hi, closed=closed)
    arguments = f"{lo:g}, {hi:g}" + ("" if closed == "neither" else f", closed={closed!r}")
    return _declare("Interval", transform, shape, columns, start, labels, arguments)


@misuse.door
def Simplex(
    shape: int | Sequence[int] | None = None,
    *,
    columns: str | Sequence[str] | None = None,
    start: PyTree = None,
    labels: Sequence[str] | None = None,
) -> Parameter:
    """Declare positive probabilities that sum to one along the last axis, optimised on the log ratios to its last entry.

    In ``theta`` the last entry is left out; tables show every entry.  Arguments and errors are those of :func:`Real`, without
    ``by``; the last axis needs at least two entries, and a start value must have this form.
    """
    return _declare("Simplex", transforms.Simplex(), shape, columns, start, labels)


@misuse.door
def Ordered(
    shape: int | Sequence[int] | None = None,
    *,
    columns: str | Sequence[str] | None = None,
    start: PyTree = None,
    labels: Sequence[str] | None = None,
) -> Parameter:
    """Declare a strictly increasing vector (cut points), optimised on its first entry and the logarithms of the differences.

    Arguments and errors are those of :func:`Real`, without ``by``; the last axis needs at least two entries, and a start value
    must increase.
    """
    return _declare("Ordered", transforms.Ordered(), shape, columns, start, labels)


@misuse.door
def Covariance(
    shape: int | Sequence[int] | None = None,
    *,
    columns: str | Sequence[str] | None = None,
    start: PyTree = None,
    labels: Sequence[str] | None = None,
) -> Parameter:
    """Declare a symmetric positive definite matrix (d, d); ``shape=d`` or ``(d, d)``.

    It is optimised on its Cholesky factor with the logarithms of the diagonal; ``theta`` and tables contain the lower triangle
    with the diagonal.  Arguments and errors are those of :func:`Real`, without ``by``; a start value must be positive definite.
    """
    return _declare("Covariance", transforms.Covariance(), shape, columns, start, labels)


@misuse.door
def Cholesky(
    shape: int | Sequence[int] | None = None,
    *,
    columns: str | Sequence[str] | None = None,
    start: PyTree = None,
    labels: Sequence[str] | None = None,
) -> Parameter:
    """Declare the lower Cholesky factor L of a covariance matrix L L', with diagonal entries >= 0.

    Unlike with :func:`Covariance` the estimate may be singular, as is common for random effects; ``shape=d`` or ``(d, d)``.
    It is optimised on its natural scale with bounds; tables show the lower triangle with the diagonal.  Arguments and errors
    are those of :func:`Real`, without ``by``; a start value must have this form.
    """
    return _declare("Cholesky", transforms.Cholesky(), shape, columns, start, labels)


@misuse.door
def Correlation(
    shape: int | Sequence[int] | None = None,
    *,
    columns: str | Sequence[str] | None = None,
    start: PyTree = None,
    labels: Sequence[str] | None = None,
) -> Parameter:
    """Declare a positive definite correlation matrix (d, d), d at least 2; ``shape=d`` or ``(d, d)``.

    ``theta`` and tables contain the lower triangle without the diagonal.  Arguments and errors are those of :func:`Real`,
    without ``by``; a start value must have this form.
    """
    return _declare("Correlation", transforms.Correlation(), shape, columns, start, labels)


@misuse.door
def Free(start: PyTree) -> FreeParameter:
    """Declare an unconstrained parameter of any structure: a pytree of real arrays, such as the weights of a neural network.

    Args:
        start: the structure with its start values.

    Raises:
        ValueError: ``start`` has no array.
        TypeError: an array is not of floats or integers.
    """
    leaves = jax.tree.leaves(start)
    if not leaves:
        raise ValueError("Free(start=...) expected a pytree with at least one array, got an empty one")
    for leaf in leaves:
        if np.asarray(leaf).dtype.kind not in "fiu":
            raise TypeError(f"Free(start=...) expected arrays of real numbers, got {np.asarray(leaf).dtype}")
    return FreeParameter(start)


def start_value(parameter: Parameter, value: PyTree, name: str) -> np.ndarray:
    """Check a start or fixed value against its declaration, and return it as a new float64 NumPy array of the declared shape.

    Args:
        parameter: the declaration; its shape None counts as ().
        value: numbers on the natural scale; of an elementwise support they broadcast to the shape.
        name: the beginning of error messages.

    Raises:
        TypeError: the value is not numeric.
        ValueError: it has another shape, is not in the support, or is an integer beyond float64.
    """
    shape = parameter.shape or ()
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected numbers of shape {shape}, got {value!r}") from error
    except OverflowError as error:
        raise ValueError(f"{name}: expected numbers in the range of float64, got an integer beyond 1.8e308") from error
    if parameter.transform.elementwise:
        try:
            array = np.broadcast_to(array, shape)
        except ValueError as error:
            raise ValueError(f"{name}: expected shape {shape}, got {array.shape}") from error
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
    problem = parameter.transform.problem(array)
    if problem is not None:
        raise ValueError(f"{name} is declared {parameter!r}: {problem}")
    return np.array(array)
