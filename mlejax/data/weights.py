"""Weights of the contributions: what kind they are, and their checks.

Three kinds, which give the same estimates and different standard errors:

* ``frequency``: a row of weight w stands for w equal rows. Whole numbers.
* ``sampling``: a row stands for w members of a population (inverse probability of being sampled). Only ratios of
  weights matter to estimates and errors, which are therefore computed from weights of mean one.
* ``importance``: whatever multiplies the log-likelihood of the row, taken as given.

Analytic weights (a row is the mean of w observations) belong into the model, as the variance of the row, and are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import DataError, rows_phrase
from .padding import check_weights

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


def check_weight_kind(weights: Any, kind: Any) -> str | None:
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
        raise ValueError(f"weights= needs weight_kind=: {choice}; the standard errors depend on it")
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


def make_weights(kind: str, name: str, values: Any, n: int, index: Any = None) -> Weights:
    """Checked weights of n contributions.

    Raises:
        DataError: wrong length; negative, missing, infinite, all zero; fractions among frequency weights.

    >>> make_weights("sampling", "w", [2.0, 6.0], 2).scale
    4.0
    """
    what = f"weights column {name!r}" if name else "weights"
    w = np.array(check_weights(values, n, what, index))
    if kind == "frequency" and (w != np.rint(w)).any():
        at = np.flatnonzero(w != np.rint(w))
        raise DataError(
            f"{what}: frequency weights count rows and are whole numbers, but {at.size} of {n} are not, at "
            f"{rows_phrase(at, index)}; first: {w[at[0]]}.  Use weight_kind='sampling' or 'importance' for fractions"
        )
    scale = float(np.sum(w) / np.count_nonzero(w)) if kind == "sampling" else 1.0
    return Weights(kind, name, w, scale)
