"""One line on stderr that says what a long call is doing.

A call that may be long opens the line (`progress_line`); the functions it calls set the current step (`doing`), or count
(`progress_bar`). The line is tqdm's, drawn twice a second by a thread of its own, so that it moves while XLA compiles. With
``progress=None`` it is shown in a terminal only, after two seconds, and removed at the end; with True it is shown at once and
stays.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["compilation_begins", "compilation_ends", "doing", "progress_bar", "progress_line"]

SECONDS = 2.0  # of work before a line shows that nobody requested
REFRESH = 0.5
PLAIN = "{desc}{postfix} [{elapsed}]"
_current: ActivityLine | None = None


class ActivityLine:
    """The progress line of one call, drawn on stderr by a thread of its own until ``ended`` is set.

    Attributes:
        asked: True if the line is shown at once, also outside of a terminal, and left there at the end.
        title: name of the call, such as ``"fit of gaussian"``.
        unit, total: name of what is counted, and how many there are; a total of None if that is not known.
        text: name of the current step.
        done: number of units that are done.
        compiling: True while a program is being compiled.
    """

    def __init__(self, asked: bool, title: str, unit: str, total: int | None) -> None:
        self.asked, self.title, self.unit, self.total = asked, title, unit, total
        self.text, self.done, self.compiling = "", 0, False
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._show, name="mlejax progress", daemon=True)
        self.thread.start()

    def _show(self) -> None:
        if not self.asked and self.ended.wait(SECONDS):
            return
        from tqdm.auto import tqdm

        with tqdm(leave=self.asked, bar_format=PLAIN) as bar:
            while True:
                last = self.ended.wait(REFRESH)
                bar.desc, bar.unit, bar.n, bar.total = self.title, self.unit, self.done, self.total
                bar.bar_format = PLAIN if self.total is None else None
                bar.set_postfix_str(", ".join(part for part in (self.text, "compiling" * self.compiling) if part))
                if last:
                    return


@contextmanager
def progress_line(
    progress: bool | None, title: str, unit: str = "step", total: int | None = None
) -> Iterator[ActivityLine | None]:
    """Context manager: show a progress line during the block, and yield it; yield None if no line is shown.

    Inside the block of another progress line, that line is used.

    Args:
        progress: True shows a line, False none; None shows one in a terminal if the block takes longer than two seconds.
        title: name of the call.
        unit, total: name of what is counted, and how many there are; None if that is not known.
    """
    global _current
    if _current is not None:
        yield _current
        return
    if not progress and (progress is False or not sys.stderr.isatty()):
        yield None
        return
    _current = line = ActivityLine(bool(progress), title, unit, total)
    try:
        yield line
    finally:
        _current = None
        line.ended.set()
        line.thread.join()


def doing(text: str) -> None:
    """Show ``text`` as the current step in the progress line, if there is one."""
    if _current is not None:
        _current.text = text


def compilation_begins() -> None:
    """Show "compiling" in the progress line, if there is one; called when a program is traced, just before its compilation."""
    if _current is not None:
        _current.compiling = True


def compilation_ends() -> None:
    """Stop showing "compiling" in the progress line; called when a newly compiled program has run."""
    if _current is not None:
        _current.compiling = False


@contextmanager
def progress_bar(progress: bool | None, unit: str, total: int | None) -> Iterator[Callable[[int], Any]]:
    """Context manager: count units of work in a progress bar; yield the function ``add(n)`` that counts n more units.

    Args:
        progress: True shows a bar, False none; None shows one in a terminal if the block takes longer than two seconds.
        unit: name of what is counted.
        total: number of units; None if it is not known.
    """
    if progress is False:
        yield lambda n: None
        return
    with progress_line(progress, unit) as line:
        if line is None:
            yield lambda n: None
            return
        before = line.unit, line.total, line.done
        line.unit, line.total, line.done = unit, total, 0

        def add(n: int) -> None:
            line.done += n

        try:
            yield add
        finally:
            if before[1] is not None:  # of the call around this one, which counts too
                line.unit, line.total, line.done = before
