"""Check whether two fits are of the same data: by fingerprints, and row by row if the data are in memory."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlejax.data import Fingerprint
from mlejax.fit import Fit, Loaded
from mlejax.fit.prepare.matching import as_fitted
from mlejax.shapes import Host, Shaped


def data_difference(a: Fingerprint | None, b: Fingerprint | None) -> str:
    """Return the reason why two fingerprints belong to different data; empty if they may be of the same data, or one is None.

    Columns that only one of them has are not compared; if both have columns, but none in common, that is a reason.

    >>> data_difference(Fingerprint(2, {"y": (3.0, 5.0)}), Fingerprint(2, {"y": (4.0, 5.0), "x": (0.0, 2.0)}))
    "column 'y' has different values"
    """
    if a is None or b is None:
        return ""
    if found := a.difference(b):
        return found
    if a.columns and b.columns and not set(a.columns) & set(b.columns):
        # a column read by a function and the same column in a formula go by different names
        plain = [{name.removeprefix("formula ") for name in fingerprint.columns} for fingerprint in (a, b)]
        if not plain[0] & plain[1]:
            return f"they have no column in common, {_listed(a.columns)} against {_listed(b.columns)}"
    return ""


def _listed(names: Iterable[Hashable]) -> str:
    shown = [str(name) for name in names]
    return ", ".join(shown[:4]) + (", ..." if len(shown) > 4 else "")


def same_rows(a: Loaded, b: Loaded) -> bool:
    """False if the cross products X'X of the columns that two fits have in common (weights included) differ.

    Then the rows of one are not a permutation of those of the other.  True if they agree, or are not compared: fewer than
    two common columns, different numbers of rows, unit-level or whole-data models, streams, and results from a file.
    """
    if any(x.remembered is not None or x.stream is not None for x in (a, b)):
        return True
    one, other = _columns_of(a), _columns_of(b)
    names = [name for name in one if name in other]
    if len(names) < 2 or len(one[names[0]]) != len(other[names[0]]):
        return True
    tables = [np.column_stack([columns[name] for name in names]).astype(np.float64) for columns in (one, other)]
    scale = np.sqrt((tables[0] ** 2).sum(axis=0))
    scale = np.where(scale > 0, scale, 1.0)
    products = [(table / scale).T @ (table / scale) for table in tables]
    return bool(np.allclose(products[0], products[1], rtol=0.0, atol=1e-9))


def same_order(a: Loaded, b: Loaded) -> bool:
    """True if two row-wise fits have columns in common (weights included), and these are equal row by row; False for streams
    and results from a file.
    """
    if any(x.remembered is not None or x.stream is not None for x in (a, b)):
        return False
    one, other = _columns_of(a), _columns_of(b)
    names = [name for name in one if name in other]
    return bool(names) and all(np.array_equal(one[name], other[name]) for name in names)


def _columns_of(loaded: Loaded) -> dict[Any, Shaped[Host, " n"]]:
    """Return the numeric columns (n,) of a row-wise fit by name: those of its function, of its formulas, and its weights; 0 in
    rows of weight 0.  Empty for models with units or ``rowwise=False``.
    """
    data = loaded.problem.data
    if data.mode != "rows":
        return {}
    n = int(data.n)
    columns = {
        entry.key: as_fitted(data.rows[entry.slots[0].position])[:n]
        for entry in data.statics.entries
        if entry.treedef is None and entry.slots[0].source == "row"
    }
    if loaded.designs is not None:
        columns |= {name.removeprefix("formula "): np.asarray(v[:]) for name, v in loaded.designs.extra.items()}
    columns = {key: column for key, column in columns.items() if column.ndim == 1}
    if loaded.weights is not None:
        kept = loaded.weights.values > 0
        columns = {key: np.where(kept, column, 0.0) for key, column in columns.items()}
        columns["weights of the fit"] = loaded.weights.values
    return columns



@dataclass(frozen=True)
class FitFacts:
    """The properties of a fit that a likelihood-ratio test needs.

    Attributes:
      llf: maximised log-likelihood, summed; or its limit, if it approaches one without a maximum.
      df_model: number of free parameters.
      nobs: number of observations.
      fingerprint: fingerprint of the data; None if unknown.
      converged: True if the verdict is that of a maximum.
      limit: True if ``llf`` is a limit, known to 0.01.
      cov_type: kind of covariance of the fit, for messages.
      penalised: True if the fit has a penalty or bias reduction.
      pseudolikelihood: True if the objective is a pseudolikelihood (sandwich or bootstrap covariance, sampling weights).
      label: name of the fit in messages.
      fit: the fit itself, for its rows and its formulas; None if unknown.
    """

    llf: float
    df_model: int
    nobs: float
    fingerprint: Fingerprint | None = None
    converged: bool = True
    limit: bool = False
    cov_type: str = "nonrobust"
    penalised: bool = False
    pseudolikelihood: bool = False
    label: str = ""
    fit: Fit | None = None
