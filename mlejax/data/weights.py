"""Weights of the terms of the log-likelihood: their kinds and checks.

Three kinds give the same estimates and different standard errors:

* ``frequency``: a row of weight w stands for w equal rows. Whole numbers.
* ``sampling``: a row stands for w members of a population (inverse probability of being sampled). Only ratios of
  weights matter to estimates and errors, which are therefore computed from weights of mean one.
* ``importance``: a factor of the log-likelihood of the row, used as given.

Analytic weights (a row is the mean of w observations) are not supported: they belong in the model, as the variance of the row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlejax.data.errors import DataError, rows_phrase
from mlejax.data.read.columns import NUMERIC, Column
from mlejax.data.read.refusals import refusal
from mlejax.data.read.values import read
from mlejax.misuse import linked
from mlejax.shapes import Bool, Float, Host, Int

KINDS = ("frequency", "sampling", "importance")
_OTHER_NAMES = {
    "fweight": "frequency", "fweights": "frequency", "freq": "frequency", "freq_weights": "frequency",
    "pweight": "sampling", "pweights": "sampling", "probability": "sampling", "survey": "sampling",
    "iweight": "importance", "iweights": "importance",
}  # fmt: skip
_ANALYTIC = ("analytic", "aweight", "aweights", "var_weights", "precision")


@dataclass(frozen=True, eq=False)
class Weights:
    """Checked weights, one for each term of the log-likelihood.

    Attributes:
        kind: ``"frequency"``, ``"sampling"`` or ``"importance"``.
        name: name of their column, or an empty string.
        values: the weights as given, >= 0 (n,).
        scale: number by which they are divided for the optimiser: the mean of the positive ones for sampling weights, else 1.
        said: statement about the weights, in a result that was loaded from a file without them; otherwise empty.
    """

    kind: str
    name: str
    values: np.ndarray
    scale: float = 1.0
    said: str = ""

    @property
    def used(self) -> np.ndarray:
        """True for the terms of positive weight (n,)."""
        return self.values > 0

    def of(self, rows: Int[Host, " m"]) -> Any:
        """Return the argument ``weights=`` for a fit of the rows at these positions (m,): the name of the column of weights
        (for any rows), or, if there is none, the weights of these rows.
        """
        return self.name or self.values[rows]

    def moments(self) -> tuple[str, float, float]:
        """Return the kind, the sum and the sum of squares of the weights as given, for fingerprints."""
        return self.kind, float(np.sum(self.values)), float(np.sum(self.values**2))

    def statement(self) -> str:
        """Return one line on the weights for the header of tables: kind, column, sum, and the number of zeros if there are any;
        ``said`` if it is not empty.
        """
        if self.said:
            return self.said
        zeros = int((~self.used).sum())
        text = self.kind + (f" ({self.name})" if self.name else "") + f", sum {float(np.sum(self.values)):.8g}"
        return text + (f", {zeros} of weight 0" if zeros else "")


def check_weight_kind(weights: Any, kind: str | None) -> str | None:
    """Return ``kind`` if it is one of the three kinds and weights are given; None if both are None.

    Raises:
        ValueError: weights without a kind, a kind without weights, an unknown kind, or analytic weights.

    >>> check_weight_kind([1.0, 2.0], "frequency")
    'frequency'
    """
    choice = (
        "'frequency' (a row stands for w equal rows), 'sampling' (inverse probabilities of being sampled) or "
        "'importance' (multiplies the log-likelihood as given)"
    )
    if weights is None:
        if kind is not None:
            raise ValueError(f"weight_kind={kind!r} without weights: give weights= as well")
        return None
    if kind is None:
        raise linked(ValueError(f"weights= needs weight_kind=: {choice}; the standard errors depend on it"), "weights")
    if kind in _ANALYTIC:
        raise ValueError(
            f"weight_kind={kind!r} is not supported: that a row is a mean of w observations is part of the model. Write it in "
            "the log-likelihood, as the row's variance: norm.logpdf(y, mu, sigma / jnp.sqrt(data['w']))"
        )
    if kind not in KINDS:
        near = _OTHER_NAMES.get(str(kind).lower())
        raise ValueError(
            f"weight_kind={kind!r} is not known; choose {choice}" + (f" (did you mean {near!r}?)" if near else "")
        )
    return str(kind)


def weight_column(weights: Any, name: str = "") -> Column:
    """Return weights as a `Column`, for which ``name`` is that of their column or empty; their length and values are not
    checked. DataError or DataTypeError if they are not numeric.
    """
    column = Column(weights, f"weights column {name!r}" if name else "weights")
    if column.probe.kind not in NUMERIC:
        raise refusal(column)
    return column


def weight_values(column: Column, n: int) -> Float[Host, " n"]:
    """Return the weights in a `weight_column` as float64 (n,), NaN where missing. DataError if their shape is not (n,);
    DataTypeError if they do not fit into 64 bits.
    """
    values, missing = read(column)
    if values.shape != (n,):
        raise linked(
            DataError(
                f"{column.where}: expected one number for each row (or unit, or value that the model returns), shape ({n},), got "
                f"shape {values.shape}"
            ),
            "weights",
        )
    return np.where(missing, np.nan, values) if missing is not None else values.astype(np.float64, copy=False)


def wrong_weights(values: Float[Host, " n"], kind: str = "importance") -> Iterator[tuple[Bool[Host, " n"], str]]:
    """Yield, for each reason why weights cannot be used that occurs, flags (n,) that are True for these weights, and the reason
    in words: missing, infinite, negative, or (if ``kind`` is "frequency") not whole numbers.
    """
    found = [(np.isnan(values), "missing (NaN)"), (np.isinf(values), "infinite"), (values < 0, "negative")]
    if kind == "frequency":
        found.append((np.isfinite(values) & (values != np.rint(values)), "not whole numbers, as frequencies are"))
    return ((flags, words) for flags, words in found if flags.any())


def check_weights(
    weights: Any, n: int, name: str = "", index: Any = None, kind: str = "importance"
) -> Float[Host, " n"]:
    """Return weights as a checked (n,) float64 array: finite, not negative, not all zero; whole numbers if ``kind`` is
    "frequency".

    Args:
        weights: (n,) numbers.
        n: number of weights expected: rows, units, or terms of a model of the whole data.
        name: name of their column, for messages; may be empty.
        index: labels of the rows, for messages, or None.
        kind: kind of the weights.

    Raises:
        DataTypeError: they are not numbers, or a single number.
        DataError: weights of another length, negative, missing or infinite, all zero, or fractional frequency weights.

    >>> check_weights([1, 0, 2], 3)
    array([1., 0., 2.])
    """
    column = weight_column(weights, name)
    w = weight_values(column, n)
    for flags, words in wrong_weights(w, kind):
        at = np.flatnonzero(flags)
        raise linked(
            DataError(
                f"{column.where}: {at.size} of {n} are {words}, at {rows_phrase(at, index)}; first: {w[at[0]]}. Weights must be "
                "finite and not negative, and whole numbers under weight_kind='frequency': correct them, or give weight 0 to a "
                "row to leave it out"
            ),
            "weights",
        )
    if not (w > 0).any():
        raise linked(
            DataError(f"{column.where}: all {n} are zero, so that no row is left; at least one must be positive"),
            "weights",
        )
    return w


def make_weights(kind: str, name: str, values: Any, n: int, index: Any = None) -> Weights:
    """Return the checked weights of the n terms of the log-likelihood with their scale: the mean of the positive ones for kind
    "sampling", else 1. ``values``: the weights; other arguments and errors as in `check_weights`.

    >>> make_weights("sampling", "w", [2.0, 6.0], 2).scale
    4.0
    """
    w = np.array(check_weights(values, n, name, index, kind))
    scale = float(np.sum(w) / np.count_nonzero(w)) if kind == "sampling" else 1.0
    return Weights(kind, name, w, scale)
