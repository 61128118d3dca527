"""The line that says what a long call is doing."""

from __future__ import annotations

import sys
import time
from typing import Any

import jax.numpy as jnp
import pytest

import mlejax as mle
from mlejax.execution import activity, doing, progress_bar, progress_line


@mle.model(rate=mle.Positive())
def exponential(params: Any, data: Any) -> Any:
    return jnp.log(params["rate"]) - params["rate"] * data["t"]


def test_a_fit_says_what_it_does_where_it_is_asked_to(capsys: pytest.CaptureFixture[str]) -> None:
    exponential.fit({"t": [1.0, 2.0, 6.0]})
    assert capsys.readouterr().err == "", "stderr is no terminal"
    res = exponential.fit({"t": [1.0, 2.0, 6.0]}, progress=True)
    shown = capsys.readouterr().err
    assert "fit of exponential" in shown
    res.bootstrap(8, progress=True)
    assert "8/8" in capsys.readouterr().err
    res.profile("rate", progress=True)
    assert "profile of exponential" in capsys.readouterr().err


def test_a_terminal_sees_work_that_takes_long(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress_line(None, "quick work"):
        doing("nothing")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(activity, "SECONDS", 0.0)
    with progress_line(None, "work"):
        time.sleep(0.3)
        with progress_bar(None, "part", 7) as add, progress_line(None, "work inside of it"):
            add(7)
            doing("reading")
            time.sleep(2 * activity.REFRESH)
    shown = capsys.readouterr().err
    assert "work" in shown
    assert "7/7" in shown
    assert "reading" in shown
    assert "inside" not in shown
    with progress_line(False, "silent work"):
        time.sleep(0.2)
    assert capsys.readouterr().err == ""
