"""Times of the rows of a series, which must increase by one constant step: whole numbers, dates, or periods of the calendar.

Months, quarters and years have different numbers of days: dates on the same day of each month are counted in months.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from mlejax.data.errors import DataError
from mlejax.shapes import Host, Int


class _Times(NamedTuple):
    """Times as numbers.

    Attributes:
        numbers: (n,) the times, as integers or datetime64[ns].
        step: the step that is expected; None for the shortest positive one between consecutive rows of a unit.
        word: function from a difference of two numbers, an integer, to its text, such as "2 days".
        shown: (n,) the times as messages show them.
    """

    numbers: Int[Host, " n"]
    step: int | None
    word: Callable[[int], str]
    shown: np.ndarray


def check_steps(times: Any, codes: Int[Host, " n"], labels: Any, unit: str, name: str) -> None:
    """Raise DataError unless the times of each unit's rows, in their order, increase by one constant step.

    Args:
        times: (n,) integers or whole-number floats, whose step is 1, or dates or pandas periods, whose step is the shortest
            positive one between consecutive rows of a unit; in months if the dates of each unit are on one day of the month (or
            on the last one of shorter months).
        codes: (n,) units 0..G-1.
        labels: (G,) names of the units, for the message.
        unit, name: names of the columns of units and of times.

    >>> check_steps([1, 2, 1], np.array([0, 0, 1]), ["a", "b"], "person", "t")
    >>> check_steps(np.array(["2001-01-31", "2001-02-28", "2001-03-31"], "M8[D]"), np.zeros(3, int), ["a"], "person", "t")
    >>> check_steps([1, 3, 1], np.array([0, 0, 1]), ["a", "b"], "person", "t")
    Traceback (most recent call last):
    ...
    mlejax.data.errors.DataError: t goes from 1 to 3 within person a: expected steps of 1...
    """
    read = _read(times, unit, name)
    order = np.argsort(codes, kind="stable")
    same = codes[order][1:] == codes[order][:-1]
    wrong, steps, expected = _wrong(read, order, same)
    if wrong.size and read.numbers.dtype.kind == "M":
        months = _in_months(read, codes)
        if months is not None:
            read = months
            wrong, steps, expected = _wrong(read, order, same)
    if not wrong.size:
        return
    before, after = order[wrong[0]], order[wrong[0] + 1]
    where = f"{name} goes from {read.shown[before]} to {read.shown[after]} within {unit} {labels[codes[before]]}"
    number = "" if read.step is not None else "; number the rows 1, 2, 3, ... if none is missing"
    advice = (
        "two rows have the same time: leave one out or correct its time"
        if steps[wrong[0]] == 0
        else f"sort the table by {unit} and {name}"
        if steps[wrong[0]] < 0
        else f"insert the missing rows and let the function return 0 for a row without an outcome, or give each stretch a {unit} "
        f"of its own{number}"
    )
    raise DataError(f"{where}: expected steps of {read.word(expected)}, in order (it differs {wrong.size} times); {advice}")


def _wrong(read: _Times, order: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, Int[Host, " m"], int]:
    """Return the positions, among the n - 1 steps, of those within a unit that differ from the expected step; all steps
    (n - 1,); and the expected step.

    Args:
        read: the times.
        order: (n,) the rows sorted by unit; a step is the difference of the times of two neighbours in this order.
        same: (n - 1,) True for the steps within a unit.
    """
    steps = np.diff(read.numbers.astype(np.int64)[order])
    expected = read.step
    if expected is None:
        forward = steps[same & (steps > 0)]
        expected = int(forward.min()) if forward.size else 1
    return np.flatnonzero(same & (steps != expected)), steps, expected


def _read(times: Any, unit: str, name: str) -> _Times:
    """Return the times as numbers: whole numbers as int64, dates as datetime64[ns], periods as their ordinal numbers; DataError,
    with the column ``name`` and the column ``unit`` in its message, for other values.
    """
    dtype = str(getattr(times, "dtype", ""))
    if dtype.startswith("period["):
        return _periods(np.asarray(times.astype("int64")), dtype[len("period[") : -1], np.asarray(times).astype(str))
    array = np.asarray(times, "M8[ns]") if dtype.startswith("datetime64[") else np.asarray(times)
    if array.dtype.kind == "O" and array.size:
        if all(hasattr(value, "ordinal") and hasattr(value, "freqstr") for value in array):
            return _periods(np.array([value.ordinal for value in array]), array[0].freqstr, array.astype(str))
        if all(isinstance(value, datetime.date) for value in array):
            array = np.array([_in_utc(value) for value in array], "M8[us]")
    if array.dtype.kind == "M":
        dates = array.astype("M8[ns]")
        days = bool((dates == dates.astype("M8[D]")).all())
        return _Times(dates, None, _of_dates, np.datetime_as_string(dates, unit="D" if days else "s"))
    if array.dtype.kind not in "iuf" or (array.dtype.kind == "f" and not (array == np.floor(array)).all()):
        raise DataError(
            f"{name}: expected whole numbers, dates or periods as the times of the rows, none of them missing, got "
            f"{'fractions or NaN' if array.dtype.kind == 'f' else f'values of dtype {array.dtype}'}; number the times "
            f"1, 2, 3, ... within each {unit}"
        )
    return _Times(array.astype(np.int64), 1, str, array)


def _periods(ordinals: Int[Host, " n"], frequency: str, shown: np.ndarray) -> _Times:
    return _Times(ordinals, None, lambda step: f"{step} {'period' if step == 1 else 'periods'} ({frequency})", shown)


def _in_utc(date: datetime.date) -> datetime.date:
    """Return a datetime that has a time zone converted to UTC, without the zone; any other date unchanged."""
    if isinstance(date, datetime.datetime) and date.tzinfo is not None:
        return date.astimezone(datetime.UTC).replace(tzinfo=None)
    return date


def _in_months(read: _Times, codes: Int[Host, " n"]) -> _Times | None:
    """Return dates as numbers of months, if those of each unit are on one day of the month (on the last one of months that are
    too short for it) and at one time of the day; None otherwise.
    """
    dates = read.numbers
    months, days = dates.astype("M8[M]"), dates.astype("M8[D]")
    day = (days - months.astype("M8[D]")).astype(np.int64)
    last = ((months + np.timedelta64(1, "M")).astype("M8[D]") - months.astype("M8[D]")).astype(np.int64) - 1
    latest = np.zeros(int(codes.max()) + 1, np.int64)
    np.maximum.at(latest, codes, day)
    hour = (dates - days).astype(np.int64)
    at = np.zeros(latest.size, np.int64)
    at[codes] = hour
    if (day != np.minimum(latest[codes], last)).any() or (hour != at[codes]).any():
        return None
    word = lambda step: "1 month" if step == 1 else f"{step} months"
    return _Times(months.astype(np.int64), None, word, read.shown)


def _of_dates(step: int) -> str:
    """Return the text of a number of nanoseconds: in days if they are whole, else in seconds."""
    days, rest = divmod(step, 86_400_000_000_000)
    return f"{step / 1e9:g} seconds" if rest else "1 day" if days == 1 else f"{days} days"
