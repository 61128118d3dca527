"""Steps of times: whole numbers, dates, months by the calendar, periods."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mlejax as mle
from mlejax.data import check_steps


def check(times: Any, codes: Any = None) -> None:
    check_steps(times, np.zeros(len(times), np.int64) if codes is None else np.asarray(codes), ["a", "b"], "series", "t")


def dates(*days: str) -> np.ndarray:
    return np.array(days, "M8[D]")


@pytest.mark.parametrize(
    "times",
    [
        pd.date_range("2019-11-30", periods=30, freq="ME"),
        pd.date_range("1999-01-01", periods=30, freq="QS"),
        pd.date_range("1999-01-01", periods=30, freq="YS"),
        pd.Series(pd.date_range("1999-01-15 06:00", periods=30, freq=pd.DateOffset(months=1))),
        pd.period_range("2019-11", periods=30, freq="M"),
        pd.Series(pd.period_range("2019Q1", periods=9, freq="Q")),
        list(pd.period_range("2019", periods=9, freq="Y")),
        [datetime.date(2020, m, 1) for m in range(1, 13)],
        pd.date_range("2020-01-01", periods=40, freq="h", tz="Europe/Berlin"),
        dates("2020-12-30", "2021-01-30", "2021-02-28", "2021-03-30"),  # the 30th, where there is one
    ],
)
def test_equal_steps_of_the_calendar(times: Any) -> None:
    check(times)
    with pytest.raises(mle.DataError, match="insert the missing rows"):
        check(np.delete(np.asarray(times, object), 1))


def test_units_share_the_step() -> None:
    """Of months: 28 days in one unit, 29 in another one."""
    check(dates("2020-01-31", "2020-02-29", "2021-02-28", "2021-03-31"), [0, 0, 1, 1])
    with pytest.raises(mle.DataError, match="t goes from 2021-02-28 to 2021-04-30 within series b: expected steps of 1 month"):
        check(dates("2020-01-31", "2020-02-29", "2021-02-28", "2021-04-30"), [0, 0, 1, 1])


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (dates("2020-01-01", "2020-02-01", "2020-03-02"), "steps of 30 days, .*number the rows 1, 2, 3"),
        (dates("2020-01-03", "2020-01-06", "2020-01-07"), "steps of 1 day, .*number the rows 1, 2, 3"),
        (pd.PeriodIndex(["2020-01", "2020-02", "2020-04"], freq="M"), r"to 2020-04 .* steps of 1 period \(M\)"),
        (np.array(["2020-01-01T00", "2020-01-01T06", "2020-01-01T18"], "M8[h]"), "steps of 21600 seconds"),
        (dates("2020-02-01", "2020-01-01"), "sort the table"),
        (dates("2020-02-01", "2020-02-01"), "the same time"),
        (["one", "two"], "whole numbers, dates or periods"),
    ],
)
def test_other_steps_are_refused_in_words(times: Any, said: str) -> None:
    with pytest.raises(mle.DataError, match=said):
        check(times)
