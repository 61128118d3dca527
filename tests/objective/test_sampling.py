"""Samples of rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mlejax.data import ingest, pack
from mlejax.objective.sampling import at_extreme, extreme_rows


@pytest.mark.parametrize("n", [1, 63, 64, 130, 1000])
@pytest.mark.parametrize("kind", ["numbers", "dummies", "gaps"])
def test_rows_of_extreme_values_are_those_of_numpy(n: int, kind: str) -> None:
    rng = np.random.default_rng(n)
    columns = rng.integers(0, 2, (n, 3)).astype(float) if kind == "dummies" else rng.normal(size=(n, 3))
    if kind == "gaps":
        columns[n // 2, 1] = np.nan
    for find, value in ((np.argmax, np.max), (np.argmin, np.min)):
        np.testing.assert_array_equal(columns[at_extreme(columns, find), np.arange(3)], value(columns, axis=0))


def test_padding_has_no_extreme_rows() -> None:
    """A sample of chunks is extended by zeros, which are larger than all values of a negative column."""
    values = -1.0 - np.arange(100.0) % 7
    data = pack(ingest({"x": values}).convert(["x"]))
    padded = np.concatenate([values, np.zeros(data.n_padded - 100)])
    found = extreme_rows(replace(data, rows=(padded,)))
    assert set(values[found]) == {-1.0, -7.0}
