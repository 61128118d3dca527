"""The terms of formulas, such as ``C(region)``, as sets of coefficients, and Wald tests that each term is 0."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mlejax.fit import Fit
from mlejax.inference.tables.formatting import format_statistic, format_test_p, table
from mlejax.inference.tests.wald import WaldTest
from mlejax.notebook import Text, in_notebooks
from mlejax.parameters import COEFFICIENTS, Space
from mlejax.shapes import Host, Int

if TYPE_CHECKING:
    import pandas as pd

INTERCEPT = "1"


class FormulaTerm(NamedTuple):
    """One term of a parameter's formula.

    Attributes:
        parameter: name of the parameter with the formula.
        text: the term, as formulaic writes it; ``"1"`` is the intercept.
        entries: positions of its coefficients among the reported entries.
    """

    parameter: str
    text: str
    entries: Int[Host, " k"]

    @property
    def label(self) -> str:
        """Label such as ``mu[C(region)]``."""
        return f"{self.parameter}[{self.text}]"


def terms_of(fit: Fit) -> list[FormulaTerm]:
    """Return the terms of all formulas of a fit, in order; a parameter with a design matrix has none, and neither has a result
    loaded from a file without its model.
    """
    space, found = fit.spec.space, []
    for design in getattr(fit.loaded.designs, "designs", ()):
        if design.piece.spec is None:
            continue
        name = design.predictor.name
        i = next(i for i, leaf in enumerate(space.leaves) if leaf.name == name)
        width, n = space.leaves[i].shape[-1], len(space.leaves[i].reported_index)
        starts = np.arange(space.reported_slices[i].start, space.reported_slices[i].start + n, width)
        for term, columns in design.piece.spec.term_indices.items():
            entries = (starts[:, None] + np.asarray(columns, int)).ravel()
            if entries.size:
                found.append(FormulaTerm(name, str(term), entries))
    return found


def term_named(fit: Fit, text: str) -> Int[Host, " k"] | None:
    """Return the positions of the coefficients of a term, ``"C(region)"`` or ``"mu[C(region)]"``; None if no formula has
    it.

    Raises:
        ValueError: the formulas of several parameters have the term, or ``text`` is a call, such as ``"C(x)"``, that no formula
            has.
    """
    wanted = "".join(text.split())
    found = [t for t in terms_of(fit) if wanted in ("".join(t.text.split()), "".join(t.label.split()))]
    if len(found) > 1:
        raise ValueError(f"{text!r} is a term of several parameters: write {' or '.join(repr(t.label) for t in found)}")
    if not found and re.fullmatch(r"[\w.]+\([^=]*\)", wanted):
        known = ", ".join(repr(t.text) for t in terms_of(fit) if t.text != INTERCEPT)
        raise ValueError(f"{text!r} is not a term of a formula of this fit; its terms are: {known or 'none'}")
    return found[0].entries if found else None


def slopes_of(space: Space) -> Int[Host, " k"]:
    """Return the positions among the entries that tables show of all coefficients other than intercepts, of the formulas that
    have an intercept.
    """
    parts = [
        at.start + np.flatnonzero([not label.endswith("[Intercept]") for label in leaf.entry_labels])
        for leaf, at in zip(space.leaves, space.reported_slices, strict=True)
        if leaf.kind == COEFFICIENTS and "Intercept" in (leaf.labels or ())
    ]
    return np.concatenate(parts) if parts else np.zeros(0, int)


@in_notebooks
@dataclass(frozen=True, eq=False, repr=False)
class TermTests:
    """Joint Wald tests that the coefficients of each term of the formulas, intercepts left out, are 0; prints as a table.

    Attributes:
        terms: labels of the terms, such as ``mu[C(region)]``.
        tests: one test for each term.
    """

    terms: tuple[str, ...]
    tests: tuple[WaldTest, ...]

    def frame(self) -> pd.DataFrame:
        """Return a DataFrame with one row for each term, its label in the index (``term``): statistic, df, p_value, note."""
        import pandas as pd

        return pd.concat([t.frame() for t in self.tests]).set_axis(pd.Index(list(self.terms), name="term"))

    def __repr__(self) -> str:
        law = self.tests[0].distribution if self.tests else "chi2"
        rows: list[Sequence[str]] = [("", law, "df", f"P>{law}")]
        for name, t in zip(self.terms, self.tests, strict=True):
            rows.append((name, format_statistic(t.statistic), str(t.df), format_test_p(t.pvalue)))
        return Text(["Wald tests of the terms", table(rows)])
