"""Partitions of whole groups from rows that are sorted by group, and rows that are not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mlejax as mle
from mlejax.data import DataError
from mlejax.data.streams import GroupedRows, check_whole, groups_of
from mlejax.execution import Limits, use_limits
from tests.data.streams.samples import write


@pytest.fixture(autouse=True)
def _small_scale() -> Iterator[None]:
    with use_limits(Limits(grouped_rows=700)):
        yield


LENGTHS = [1, 400, 30, 900, 2, 2500, 5, 1162]  # row groups have 1,000 rows: their borders cut groups, one over three of them


def table() -> pd.DataFrame:
    n = sum(LENGTHS)
    return pd.DataFrame({"g": np.repeat(np.arange(8) * 10, LENGTHS), "i": np.arange(n), "z": 0.0})


def test_partitions_have_whole_groups_and_say_where_they_begin(tmp_path: Path) -> None:
    frame = table()
    source = write(tmp_path, [frame.iloc[:1700], frame.iloc[1700:1700], frame.iloc[1700:]])
    parts = list(GroupedRows(source, ("g",), ("g", "i")).partitions())
    read = [part.read().to_pandas() for part in parts]
    pd.testing.assert_frame_equal(pd.concat(read, ignore_index=True), frame[["g", "i"]])
    assert [part["g"].unique().tolist() for part in read] == [[0, 10, 20], [30, 40], [50, 60], [70]]
    for part, rows in zip(parts, read, strict=True):
        name, first = re.fullmatch(r"(part-\d.parquet, row group \d)(?:, from row (\d+) on)?", part.name).groups()  # type: ignore[union-attr]
        piece = next(p for p in source.partitions() if p.name == name).read().to_pandas()
        assert piece["i"][int(first or 0)] == rows["i"][0]
    labels = [groups_of(rows["g"], "g").labels for rows in read]
    assert check_whole([(p.name, a) for p, a in zip(parts, labels, strict=True)], "g").tolist() == list(range(0, 80, 10))


@pytest.mark.parametrize("values", [[3, 3, 1, 2, 1], list("ccaba"), np.array([3.0, 3.0, 1.0, 2.0, 1.0])])
def test_a_group_in_several_places_is_named(values: object) -> None:
    with pytest.raises(DataError, match=r"rows of g ('a'|1|1\.0) are in several places: at row 2 and again at row 4.*sort"):
        groups_of(values, "g")


def test_a_group_in_several_partitions_is_named() -> None:
    parts = [("a, row group 0", np.array([5, 2])), ("a, row group 1", np.array([7])), ("b", np.array([9, 2]))]
    with pytest.raises(DataError, match="rows of g 2 are in several places: in a, row group 0, and again in b"):
        check_whole(parts, "g")
    mixed = [("first", np.array([1, 2])), ("second", np.array(["x", 1], object))]
    with pytest.raises(DataError, match="rows of g 1 are in several places: in first, and again in second"):
        check_whole(mixed, "g")


def test_tables_that_cannot_be_joined_are_named() -> None:
    batches = [{"g": [1, 1], "x": [0.0, 1.0]}, {"g": [1, 2], "x": ["a", "b"]}]
    with use_limits(Limits(grouped_rows=1)), pytest.raises(DataError, match=r"^batch 1: expected the columns and types"):
        list(GroupedRows(mle.Stream(lambda: batches), ("g",), ("g", "x")).partitions())
    with pytest.raises(DataError, match=r"^batch 0: expected a table of plain columns"):
        list(GroupedRows(mle.Stream(lambda: [{"g": [1], "x": np.zeros((1, 2))}]), ("g",), ("g", "x")).partitions())
