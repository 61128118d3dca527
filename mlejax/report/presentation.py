"""Options for the presentation of a table: which rows, in which order, with which names and digits.

Rows can be selected by the names of entries (``mu[age]``), of whole parameters (``mu``) or by patterns (``mu[C(size)*``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias

from mlejax.report.term_rows import LargeArray, Term

Shown: TypeAlias = Literal["se", "t", "ci"]
Names: TypeAlias = str | Sequence[str]
_LEVEL = re.compile(r"(?:C\((?P<column>[^,()]+)[^()]*\)|(?P<plain>[^:\[\]]+))\[(?:T\.)?(?P<level>[^\]]*)\]")


@dataclass(frozen=True)
class Presentation:
    """Options for the estimates in a table.

    Raises:
        ValueError: ``labels``, ``show`` or ``digits`` is none of the values below.

    Attributes:
        rename: dict from names of entries to labels.
        keep, drop: names of entries or parameters, or patterns; by default all are kept, none dropped.
        order: names of the rows that come first, in this order.
        labels: ``"address"``, or ``"readable"``: ``size: M`` for ``mu[C(size)[T.M]]``.
        digits: number of decimals of all estimates; None chooses it by the standard errors.
        show: ``"se"``, ``"t"`` or ``"ci"``; None for all columns in a summary, standard errors in a comparison.
        stars: if True, mark p < 0.05, 0.01 and 0.001.
    """

    rename: Mapping[str, str] = field(default_factory=dict)
    keep: Names | None = None
    drop: Names = ()
    order: Names = ()
    labels: Literal["address", "readable"] = "address"
    digits: int | None = None
    show: Shown | None = None
    stars: bool = False

    def __post_init__(self) -> None:
        if self.labels not in ("address", "readable"):
            raise ValueError(f"labels={self.labels!r}: expected 'address' or 'readable'")
        if self.show not in (None, "se", "t", "ci"):
            raise ValueError(
                f"show={self.show!r}: expected 'se' (standard errors), 't' (statistics) or 'ci' (intervals)"
            )
        if self.digits is not None and (
            isinstance(self.digits, bool) or not isinstance(self.digits, int) or self.digits < 0
        ):
            raise ValueError(f"digits= expected a whole number of decimals, got {self.digits!r}")

    def names(self, known: Sequence[str]) -> dict[str, str]:
        """Return a dict from the names of the shown entries, in the order in which they are shown, to their labels.

        ``known``: names of all entries, in the order of the table.

        Raises:
            ValueError: an option names a row that does not exist.
        """
        shown = [name for name in known if self.keep is None or _found(self.keep, known, "keep", name)]
        shown = [name for name in shown if not _found(self.drop, known, "drop", name)]
        first = [name for wanted in _listed(self.order) for name in shown if _found(wanted, known, "order", name)]
        clear = readable(known) if self.labels == "readable" else {}
        for name in self.rename:
            _found(name, known, "rename", "")
        return {name: self.rename.get(name, clear.get(name, name)) for name in dict.fromkeys([*first, *shown])}

    def terms(self, terms: Sequence[Term]) -> tuple[Term, ...]:
        """Return the terms that are shown, in order and renamed; ValueError as for :meth:`names`."""
        by_name = {term.name: term for term in terms}
        return tuple(replace(by_name[name], name=label) for name, label in self.names(list(by_name)).items())


STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))
STARS_SAID = ", ".join(f"{mark} p < {p:g}" for p, mark in reversed(STARS)) + "."


def marked(p: float) -> str:
    """Return the stars of a p-value, such as ``"**"``; none for p >= 0.05 or NaN."""
    return next((mark for level, mark in STARS if p < level), "")


def checked_presentation(known: Sequence[Sequence[Term | LargeArray]], wanted: Presentation) -> dict[str, str]:
    """Return a dict from the names of the shown rows of several fits to their labels; ValueError if an option names a row
    that no fit has.
    """
    return wanted.names(list(dict.fromkeys(term.name for terms in known for term in terms)))


def _listed(names: Names) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _found(wanted: Names, known: Sequence[str], option: str, name: str) -> bool:
    for pattern in _listed(wanted):
        matches = [k for k in known if _matches(pattern, k)]
        if not matches:
            near = get_close_matches(pattern, known, n=2)
            raise ValueError(
                f"{option}={pattern!r}: the table has no such row{f'; did you mean {near}?' if near else ''}; its rows are "
                + ", ".join(known[:12])
                + (", ..." if len(known) > 12 else "")
            )
        if name in matches:
            return True
    return False


def _matches(pattern: str, name: str) -> bool:
    escaped = pattern.replace("[", "[[]")
    return name == pattern or name.startswith(pattern + "[") or fnmatchcase(name, escaped)


def readable(known: Sequence[str]) -> dict[str, str]:
    """Return a dict from names of entries to readable labels, such as ``size: M`` for ``mu[C(size)[T.M]]``, after the
    parameter's name if several parameters have entries in brackets; names without brackets are left out.
    """
    split = {name: re.fullmatch(r"([^\[]+)\[(.*)\]", name) for name in known}
    parameters = {found[1] for found in split.values() if found is not None}
    out = {}
    for name, found in split.items():
        if found is not None:
            inner = " x ".join(_LEVEL.sub(_level, part).strip() for part in _factors(found[2]))
            out[name] = inner if len(parameters) == 1 else f"{found[1]}, {inner}"
    return out


def _factors(term: str) -> list[str]:
    """Return the factors of an interaction: a term split at colons outside of brackets."""
    parts, depth = [""], 0
    for c in term:
        depth += (c in "[(") - (c in "])")
        if c == ":" and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return parts


def _level(found: re.Match[str]) -> str:
    return f"{(found['column'] or found['plain']).strip()}: {found['level']}"
