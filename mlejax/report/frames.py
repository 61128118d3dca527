"""Reports as data frames, with the column names of R's broom.

Robinson, Hayes & Couch, *broom: Convert Statistical Objects into Tidy Tibbles*.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mlejax.report.term_rows import Term

if TYPE_CHECKING:
    import pandas as pd


def tidy(terms: Iterable[Term]) -> pd.DataFrame:
    """Return a DataFrame with one row for each term: term, estimate, std_error, statistic, p_value, conf_low, conf_high,
    note.

    Args:
      terms: rows of a report.

    Returns:
      DataFrame, float64 columns with NaN where a number does not exist; ``fixed`` is a note.

    >>> frame = tidy([Term("mu", 1.5, 0.25, 6.0, 2e-9, 1.0, 2.0)])
    >>> frame.loc[0, "std_error"].item()
    0.25
    """
    import pandas as pd

    rows = list(terms)
    numbers = {
        "estimate": [t.coef for t in rows],
        "std_error": [t.std_err for t in rows],
        "statistic": [t.z for t in rows],
        "p_value": [t.p for t in rows],
        "conf_low": [t.low for t in rows],
        "conf_high": [t.high for t in rows],
    }
    notes = ["; ".join(filter(None, ("fixed" if t.fixed else "", t.note))) for t in rows]
    columns: dict[str, Any] = {"term": pd.Series([t.name for t in rows], dtype="object")}
    columns |= {name: np.asarray(values, np.float64) for name, values in numbers.items()}
    columns["note"] = pd.Series(notes, dtype="object")
    return pd.DataFrame(columns)


def history(seen: Any) -> pd.DataFrame:
    """Return the mean log-likelihood per row (unit) by epoch of a training: columns train (during the epoch), validation (after
    it; only if there are validation data), and kept, True for the epoch whose parameters were kept.

    Args:
      seen: an object with ``train`` and ``validation`` (sequences), and ``best`` (the number of the epoch that was kept, from
          1, or 0 for none).

    >>> from types import SimpleNamespace
    >>> frame = history(SimpleNamespace(train=(-2.0, -1.0), validation=(), best=2))
    >>> frame.index.name, frame["kept"].tolist()
    ('epoch', [False, True])
    """
    import pandas as pd

    epochs = np.arange(1, len(seen.train) + 1)
    columns: dict[str, Any] = {"train": np.asarray(seen.train, np.float64)}
    if seen.validation:
        columns["validation"] = np.asarray(seen.validation, np.float64)
    return pd.DataFrame({**columns, "kept": epochs == seen.best}, index=pd.Index(epochs, name="epoch"))


def glance(facts: Mapping[str, Any]) -> pd.DataFrame:
    """Return the facts about a whole fit as one row, one column for each.

    Args:
      facts: dict from names to scalars (number, bool, string or None).

    Returns:
      DataFrame with one row; None becomes a missing value.

    Raises:
      ValueError: a value is not a scalar.

    >>> glance({"nobs": 10, "converged": True}).to_dict("records")
    [{'nobs': 10, 'converged': True}]
    """
    import pandas as pd

    columns: dict[str, Any] = {}
    for name, value in facts.items():
        scalar = value.item() if isinstance(value, (np.ndarray, np.generic)) and np.size(value) == 1 else value
        if scalar is not None and not isinstance(scalar, (bool, int, float, str)):
            raise ValueError(f"{name!r}: expected a scalar, got {type(value).__name__}")
        columns[name] = [scalar]
    return pd.DataFrame(columns, index=[0])


def modes_table(
    modes: Iterable[tuple[str, float, int, int | None, str]], values: Iterable[np.ndarray], names: Iterable[str]
) -> pd.DataFrame:
    """Return the final points of the starts of one fit, one row for each distinct point.

    Args:
      modes: tuples (kind, log-likelihood, number of starts, row that it is a copy of or None, statement).
      values: parameters of each point, natural scale (k,).
      names: names of the k parameters.

    Returns:
      DataFrame with columns kind, llf, n_starts, copy_of (missing where there is none), statement and the parameters.

    >>> modes_table([("maximum", -10.0, 3, None, "")], [np.array([0.5])], ["mu"]).loc[0, "mu"].item()
    0.5
    """
    import pandas as pd

    frame = pd.DataFrame(list(modes), columns=["kind", "llf", "n_starts", "copy_of", "statement"])
    frame["copy_of"] = frame["copy_of"].astype("Int64")
    table = np.asarray(list(values), np.float64).reshape(len(frame), -1)
    return pd.concat([frame, pd.DataFrame(table, columns=list(names))], axis=1)
