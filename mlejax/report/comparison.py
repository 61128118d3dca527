"""Table of several fits: estimates with standard errors in parentheses, then log-likelihood, counts and criteria.

Verdicts are shown if one of them is not ``verified``. Criteria are shown only if they can be compared:
log-likelihoods maximised over the same data (:func:`mlejax.inference.incomparable`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mlejax import inference
from mlejax.inference import CRITERIA, FitFacts
from mlejax.inference.tables.formatting import MISSING, format_estimates, format_statistic
from mlejax.report.frames import tidy
from mlejax.report.page import Cell, Line, Page, TextTable, note_markers
from mlejax.report.presentation import STARS_SAID, Presentation, checked_presentation, marked
from mlejax.report.printed import Printed
from mlejax.report.term_rows import LargeArray, Term

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = ("aic", "bic")
BORROWED = "AICc has the correction for normal linear models; for others it is approximate."


@dataclass(frozen=True)
class ComparisonColumn:
    """One fit in a comparison.

    Attributes:
      name: header of the column.
      terms: rows of estimates.
      facts: log-likelihood, counts, fingerprint of the data.
      cov: kind of covariance, one word.
      code: code of the verdict.
      statement: statement of the verdict; empty for the code ``verified``.
      n_units: number of terms of the log-likelihood.
      no_criterion: why this fit has no criteria, else empty.
      only_aic: why it has no criteria other than AIC, else empty; both texts complete the sentence "BIC is not defined ...".
      edf: effective degrees of freedom of a penalised fit, used in its AIC; NaN for other fits.
      leaves: summaries of large arrays of parameters, in place of terms.
    """

    name: str
    terms: tuple[Term, ...]
    facts: FitFacts
    cov: str = "nonrobust"
    code: str = "verified"
    statement: str = ""
    n_units: float = math.nan
    no_criterion: str = ""
    only_aic: str = ""
    edf: float = math.nan
    leaves: tuple[LargeArray, ...] = ()


@dataclass(frozen=True, repr=False)
class Comparison(Printed):
    """Table of several fits, made by :func:`mlejax.compare`. Prints as text and shows as HTML in a notebook.

    Attributes:
      columns: the fits.
      criteria: names of the criteria shown.
      presentation: which rows are shown, their names, digits and stars.
      remark: why criteria are not compared, else empty.
      extra: further rows: a name, and a string for each fit.
    """

    columns: tuple[ComparisonColumn, ...]
    criteria: tuple[str, ...] = _SHOWN
    presentation: Presentation = field(default_factory=Presentation)
    remark: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def page(self) -> Page:
        """Return the contents of the table as strings: one column for each fit, with estimates and then facts of the fits."""
        return _page(self)

    def tidy(self) -> pd.DataFrame:
        """Return a DataFrame with one row for each term of each fit: a column ``model``, then those of ``Results.tidy``.

        Arrays and factors that the table summarises in one line (fits with more than 200 entries) have no rows.
        """
        import pandas as pd

        frames = [tidy(column.terms) for column in self.columns]
        for frame, column in zip(frames, self.columns, strict=True):
            frame.insert(0, "model", column.name)
        return pd.concat(frames, ignore_index=True)

    def glance(self) -> pd.DataFrame:
        """Return a DataFrame with one row for each fit: model, nobs, df_model, llf, the criteria of the table (NaN where a fit
        has none), converged, verdict, cov_type.
        """
        import pandas as pd

        rows = []
        for c in self.columns:
            row: dict[str, Any] = {"model": c.name, "nobs": c.facts.nobs, "df_model": c.facts.df_model}
            row |= {"llf": c.facts.llf, **{name: _criterion(c, name) for name in self.criteria}}
            rows.append(row | {"converged": c.facts.converged, "verdict": c.code, "cov_type": c.cov})
        return pd.DataFrame(rows)

    def weights(self, criterion: str = "aic") -> pd.DataFrame:
        """Return differences to the best fit and Akaike weights exp(-d/2) / sum exp(-d/2), as bbmle's ``AICtab``.

        Args:
            criterion: ``"aic"``, ``"aicc"``, ``"bic"`` or ``"hqic"``; d is the difference to the smallest value.

        Returns:
            One row for each fit, its name in the index, the best first; columns ``logLik AIC dLogLik dAIC df weight``, with
            another criterion its name for AIC.  dLogLik is the difference to the lowest log-likelihood, df the number of free
            parameters (effective ones of a penalised fit).

        Raises:
            ValueError: an unknown criterion, fits of different data, or a fit that does not have the criterion.
        """
        import pandas as pd

        if criterion not in CRITERIA:
            raise ValueError(f"criterion={criterion!r}: expected one of {', '.join(map(repr, CRITERIA))}")
        name = CRITERIA[criterion]
        if why := inference.incomparable([replace(c.facts, label=c.name) for c in self.columns]):
            raise ValueError(f"{name} cannot be compared: {why}")
        for c in self.columns:
            if why := _refused(c, criterion):
                raise ValueError(f"{name} of {c.name} is not defined {why}; leave this fit out")
        llf = np.array([c.facts.llf for c in self.columns])
        values = np.array([_criterion(c, criterion) for c in self.columns])
        size = np.exp(-0.5 * (values - values.min()))
        df = [c.facts.df_model if math.isnan(c.edf) else c.edf for c in self.columns]
        columns = {
            "logLik": llf, name: values, "dLogLik": llf - llf.min(), f"d{name}": values - values.min(), "df": df,
            "weight": size / size.sum(),
        }  # fmt: skip
        return pd.DataFrame(columns, index=[c.name for c in self.columns]).sort_values(name, kind="stable")


def compare(
    columns: Sequence[ComparisonColumn],
    *,
    names: Sequence[str] | None = None,
    criteria: Sequence[str] | None = None,
    presentation: Presentation | None = None,
    extra: Mapping[str, Sequence[object]] | None = None,
) -> Comparison:
    """Return the comparison of several fits.

    Args:
      columns: the fits.
      names: heads of the columns; by default the models' names, numbered if two are equal.
      criteria: names of criteria, or one name; by default AIC and BIC if they can be compared.
      presentation: which rows are shown and how.
      extra: further rows, a name -> one value for each fit.

    Raises:
      ValueError: fewer than two columns, unknown criteria, names that are too few, too many or equal, an extra row of another
          length, an option that names a row the table does not have, or ``criteria`` given that cannot be compared.

    >>> a = ComparisonColumn("a", (Term("mu", 1.5, 0.25),), FitFacts(-10.0, 1, 50))
    >>> print(compare([a, a]).to_markdown().splitlines()[2])
    |  | a (1) | a (2) |
    """
    if len(columns) < 2:
        raise ValueError(f"compare: expected two or more results, got {len(columns)}")
    if isinstance(criteria, str):
        criteria = (criteria,)
    unknown = [c for c in criteria or () if c not in CRITERIA]
    if unknown:
        raise ValueError(f"criteria={unknown}: choose from {', '.join(CRITERIA)}")
    heads = _heads([c.name for c in columns], names)
    columns = tuple(replace(c, name=head) for c, head in zip(columns, heads, strict=True))
    why = inference.incomparable([replace(c.facts, label=c.name) for c in columns])
    if why and criteria:
        raise ValueError(f"{', '.join(CRITERIA[c] for c in criteria)} cannot be compared: {why}")
    shown = tuple(_SHOWN if criteria is None else criteria)
    remark = f"{' and '.join(CRITERIA[c] for c in shown)} are not compared: {why}." if why and shown else ""
    wanted = presentation or Presentation()
    checked_presentation([[*c.terms, *c.leaves] for c in columns], wanted)
    rows = tuple((str(name), tuple(map(str, values))) for name, values in (extra or {}).items())
    for name, values in rows:
        if len(values) != len(columns):
            raise ValueError(
                f"extra row {name!r}: expected {len(columns)} entries, one for each result, got {len(values)}"
            )
    return Comparison(columns, () if why else shown, wanted, remark, rows)


def _heads(found: Sequence[str], names: Sequence[str] | None) -> list[str]:
    if names is None:
        if len(set(found)) == len(found):
            return list(found)
        return [f"{name} ({i + 1})" for i, name in enumerate(found)]
    if isinstance(names, str) or len(names) != len(found):
        raise ValueError(f"names: expected {len(found)} names, one for each result, got {names!r}")
    heads = [str(name) for name in names]
    if len(set(heads)) != len(heads):
        raise ValueError(f"names: expected names that differ from one another, got {heads}")
    return heads


def _criterion(column: ComparisonColumn, name: str) -> float:
    """Return a criterion of one fit, with effective degrees of freedom if it is penalised; NaN if it is not defined."""
    if _refused(column, name):
        return math.nan
    llf, n = column.facts.llf, column.facts.nobs
    k = column.facts.df_model if math.isnan(column.edf) else column.edf
    return float(inference.criterion(name, llf, k, n))


def _refused(column: ComparisonColumn, name: str) -> str:
    """Return the reason why a fit does not have the criterion ``name``; empty if it has."""
    return column.no_criterion or ("" if name == "aic" else column.only_aic)


def _page(table: Comparison) -> Page:
    columns = table.columns
    said = [[_why(t) for t in c.terms] for c in columns]
    verdicts = [f"{c.name}: {c.statement}" if c.statement else "" for c in columns]
    withheld = {name: _withheld(table, name) for name in table.criteria}
    reasons = [note for notes in withheld.values() for note in notes]
    markers = note_markers([note for notes in said for note in notes] + verdicts + reasons)
    wanted = table.presentation
    cells = [_term_cells(c, notes, markers, wanted) for c, notes in zip(columns, said, strict=True)]
    lines = []
    for name, label in wanted.names(
        merged([[t.name for t in c.terms] + [leaf.name for leaf in c.leaves] for c in columns])
    ).items():
        pairs = [found.get(name, (Cell(""), Cell(""))) for found in cells]
        lines.append(Line(Cell(label), tuple(p[0] for p in pairs)))
        if any(p[1].text for p in pairs):
            lines.append(Line(Cell(""), tuple(p[1] for p in pairs)))
    below = [_BELOW[wanted.show]] if any(not line.name.text for line in lines) else []
    below += [STARS_SAID] if wanted.stars else []
    below += [table.remark] if table.remark else []
    below += [BORROWED] if "aicc" in table.criteria else []
    facts = _fact_lines(table, markers, verdicts, withheld)
    body = TextTable(("", *(c.name for c in columns)), (*lines, *facts), (len(lines),), hanging=True)
    notes = [*((marker, note) for note, marker in markers.items()), *(("", text) for text in below)]
    return Page("Comparison of fits", (), (body,), tuple(notes))


def merged(lists: Sequence[Sequence[str]]) -> list[str]:
    """Merge lists of names without repetition; a new name is placed after the name that precedes it in its own list, first
    if none precedes it, and last if its list has no name in common with those before.

    >>> merged([["a", "sigma"], ["a", "b", "sigma"], ["c", "a"]])
    ['c', 'a', 'b', 'sigma']
    """
    out: list[str] = []
    for names in lists:
        at = 0 if any(name in out for name in names) else len(out)
        for name in names:
            if name in out:
                at = out.index(name) + 1
            else:
                out.insert(at, name)
                at += 1
    return out


def _why(term: Term) -> str:
    return term.note if not term.fixed and math.isnan(term.std_err) else ""


def _withheld(table: Comparison, name: str) -> list[str]:
    """Return a note for each fit: why it does not have the criterion ``name``; empty if it has. The note names all criteria of
    the table that the fit lacks for the same reason.
    """
    notes = []
    for column in table.columns:
        why = _refused(column, name)
        alike = [CRITERIA[c] for c in table.criteria if _refused(column, c) == why]
        notes.append(f"{column.name}: no {' and '.join(alike)} {why}" if why else "")
    return notes


def _term_cells(
    column: ComparisonColumn, notes: Sequence[str], markers: dict[str, str], wanted: Presentation
) -> dict[str, tuple[Cell, Cell]]:
    rows = [(t.coef, math.nan if t.fixed else t.std_err, t.low, t.high) for t in column.terms]
    found = {}
    for term, note, text in zip(column.terms, notes, format_estimates(rows, wanted.digits), strict=True):
        coef, mark = text[0], marked(term.p) if wanted.stars else ""
        below = "(fixed)" if term.fixed else _below(term, text, wanted)
        found[term.name] = (Cell(coef, mark), Cell(below, markers.get(note, "")))
    for leaf in column.leaves:
        found[leaf.name] = (Cell(" x ".join(map(str, leaf.shape)) or "scalar"), Cell(""))
    return found


_BELOW: dict[str | None, str] = dict.fromkeys((None, "se"), "Standard errors in parentheses.") | {
    "t": "Statistics against 0 in parentheses.",
    "ci": "Intervals of 95 % in brackets.",
}


def _below(term: Term, text: tuple[str, str, str, str], wanted: Presentation) -> str:
    """Return the string below an estimate: "(standard error)", "(statistic)" or "[low, high]", as ``wanted.show`` says.

    ``text``: estimate, standard error and limits as strings.
    """
    if wanted.show == "ci":
        return f"[{text[2]}, {text[3]}]"
    if wanted.show == "t":
        return f"({format_statistic(term.z)})"
    return f"({MISSING if math.isnan(term.std_err) else text[1]})"


def _fact_lines(
    table: Comparison, markers: dict[str, str], verdicts: Sequence[str], withheld: Mapping[str, Sequence[str]]
) -> list[Line]:
    columns = table.columns

    def row(name: str, texts: list[str], marks: Sequence[str] | None = None) -> Line:
        hung = [markers.get(m, "") for m in marks] if marks is not None else [""] * len(texts)
        return Line(Cell(name), tuple(Cell(t, m) for t, m in zip(texts, hung, strict=True)), code=False)

    pseudo = [c.facts.pseudolikelihood for c in columns]
    rows = []
    for kind, label in ((False, "Log-likelihood"), (True, "Log-pseudolikelihood")):
        if kind in pseudo:
            rows.append(
                row(label, [f"{c.facts.llf:.4f}" if p is kind else "" for c, p in zip(columns, pseudo, strict=True)])
            )
    rows.append(row("Observations", [f"{c.facts.nobs:g}" for c in columns]))
    if any(c.n_units != c.facts.nobs and not math.isnan(c.n_units) for c in columns):
        rows.append(row("Contributions", [MISSING if math.isnan(c.n_units) else f"{c.n_units:g}" for c in columns]))
    rows.append(row("Free parameters", [f"{c.facts.df_model:g}" for c in columns]))
    if not all(math.isnan(c.edf) for c in columns):
        rows.append(row("Effective df", ["" if math.isnan(c.edf) else f"{c.edf:.4g}" for c in columns]))
    for name in table.criteria:
        values = [_criterion(c, name) for c in columns]
        rows.append(row(CRITERIA[name], [MISSING if math.isnan(v) else f"{v:.4f}" for v in values], withheld[name]))
    rows += [row(name, list(values)) for name, values in table.extra]
    rows.append(row("Covariance", [c.cov for c in columns]))
    if any(verdicts):
        rows.append(row("Verdict", [c.code for c in columns], verdicts))
    return rows
