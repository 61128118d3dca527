"""Weights of the contributions: what kind they are, and their checks.

Three kinds, which give the same estimates and different standard errors:

* ``frequency``: a row of weight w stands for w equal rows. Whole numbers.
* ``sampling``: a row stands for w members of a population (inverse probability of being sampled). Only ratios of
  weights matter to estimates and errors, which are therefore computed from weights of mean one.
* ``importance``: whatever multiplies the log-likelihood of the row, taken as given.

Analytic weights (a row is the mean of w observations) belong into the model, as the variance of the row, and are refused.
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
    """Checked weights, one for each contribution.

    Attributes:
        kind: ``"frequency"``, ``"sampling"`` or ``"importance"``.
        name: their column, or an empty string.
        values: (n,) as given, >= 0.
        scale: what they are divided by for the optimiser (1 but for sampling weights).
        said: the statement about weights that are not here (of a result from a file).
    """

    kind: str
    name: str
    values: np.ndarray
    scale: float = 1.0
    said: str = ""

    @property
    def used(self) -> np.ndarray:
        """(n,) flags of the contributions of positive weight."""
        return self.values > 0

    def of(self, rows: Int[Host, " m"]) -> Any:
        """The weights of some rows, as a fit of these rows alone takes them: a column's name, or numbers."""
        return self.name or self.values[rows]

    def moments(self) -> tuple[str, float, float]:
        """Kind, sum and sum of squares, for fingerprints."""
        return self.kind, float(np.sum(self.values)), float(np.sum(self.values**2))

    def statement(self) -> str:
        """One line for the header."""
        if self.said:
            return self.said
        zeros = int((~self.used).sum())
        text = self.kind + (f" ({self.name})" if self.name else "") + f", sum {float(np.sum(self.values)):.8g}"
        return text + (f", {zeros} of weight 0" if zeros else "")


def check_weight_kind(weights: Any, kind: str | None) -> str | None:
    """``weight_kind`` for these weights: both or neither.

    Raises:
        ValueError: weights without a kind, a kind without weights, an unknown kind, analytic weights.

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
            f"weight_kind={kind!r} is refused: that a row is a mean of w observations is part of the model.  Put it into the "
            "log-likelihood, as the row's variance: norm.logpdf(y, mu, sigma / jnp.sqrt(data['w']))"
        )
    if kind not in KINDS:
        near = _OTHER_NAMES.get(str(kind).lower())
        raise ValueError(
            f"weight_kind={kind!r} is not known; choose {choice}" + (f" (did you mean {near!r}?)" if near else "")
        )
    return str(kind)


def weight_column(weights: Any, name: str = "") -> Column:
    """Weights as a column, named for messages. Raises DataError, DataTypeError: they are not numbers."""
    column = Column(weights, f"weights column {name!r}" if name else "weights")
    if column.probe.kind not in NUMERIC:
        raise refusal(column)
    return column


def weight_values(column: Column, n: int) -> Float[Host, " n"]:
    """One float64 number per row, NaN where it is missing. Raises DataError: another shape than (n,)."""
    values, missing = read(column)
    if values.shape != (n,):
        raise linked(
            DataError(f"{column.where}: expected one number per row, shape ({n},), got shape {values.shape}"), "weights"
        )
    return np.where(missing, np.nan, values) if missing is not None else values.astype(np.float64, copy=False)


def wrong_weights(values: Float[Host, " n"], kind: str = "importance") -> Iterator[tuple[Bool[Host, " n"], str]]:
    """Flags of the weights that cannot be used, and what is wrong with them, for messages."""
    found = [(np.isnan(values), "missing (NaN)"), (np.isinf(values), "infinite"), (values < 0, "negative")]
    if kind == "frequency":
        found.append((np.isfinite(values) & (values != np.rint(values)), "not whole numbers, as frequencies are"))
    return ((flags, words) for flags, words in found if flags.any())


def check_weights(
    weights: Any, n: int, name: str = "", index: Any = None, kind: str = "importance"
) -> Float[Host, " n"]:
    """Weights as a checked (n,) float64 array: finite, not negative, not all zero; whole numbers for frequencies.

    Args:
        weights: (n,) numbers.
        n: the number of rows (or units, or terms of a whole-data likelihood).
        name: of their column, for messages.
        index: labels of the rows, for messages.
        kind: of the weights.

    Raises:
        DataTypeError: they are not numbers, one per row.
        DataError: wrong length; negative, missing or infinite; all zero; fractions among frequency weights.

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
                "finite and not negative, and whole numbers under weight_kind='frequency'; weight 0 leaves a row out"
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
    """Checked weights of n contributions; errors as in `check_weights`.

    >>> make_weights("sampling", "w", [2.0, 6.0], 2).scale
    4.0
    """
    w = np.array(check_weights(values, n, name, index, kind))
    scale = float(np.sum(w) / np.count_nonzero(w)) if kind == "sampling" else 1.0
    return Weights(kind, name, w, scale)
