"""The columns of random effects in formulas."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from mlejax.data.errors import DataError
from mlejax.data.formulas.evaluation import FittedFormula, evaluate
from mlejax.data.formulas.parsing import terms_of
from mlejax.data.read.table import Table
from mlejax.parameters import Predictor
from mlejax.shapes import Float, Host

# the column of a level that is text: "C(arm)[T.b]" or "arm[b]"
_LEVEL = re.compile(r"(?:C\((\w+)\)|(\w+))\[(?:T\.)?+((?!True|False)[^\]'\"\d.+-][^\]'\"]*)\]")


def first_random(
    p: Predictor, table: Table, kept: Host | None, what: str
) -> tuple[tuple[FittedFormula, ...], Float[Host, "n q"] | None]:
    """Return the evaluated formulas of a predictor's random effects and their columns (n, q), one for each term; (), None
    without random effects.

    Args:
        p: the predictor.
        table, kept: the data, and the positions of the rows to use (None: all).
        what: beginning of error messages.

    Raises:
        DataError: a term gives several columns; other errors as in `evaluate`.
    """
    formulas, columns = [], []
    for part in p.random:
        formula, values = evaluate(part.formula, table, kept, what)
        terms, labels = terms_of(part.formula, what), formula.labels or ()
        if len(terms) != values.shape[1]:
            raise DataError(
                f"{what}: random={p.linear.random!r}: expected one numeric column for each term ({', '.join(terms)}), got "
                f"the columns {', '.join(labels)}: {_dummies(terms, labels)}"
            )
        formulas.append(formula)
        columns.append(values)
    return tuple(formulas), np.concatenate(columns, axis=1) if columns else None


def _dummies(terms: Sequence[str], labels: Sequence[str]) -> str:
    """Return what to write for terms that give these columns, several for a factor: the formula with an indicator of each level,
    if every factor is a column of text by itself.

    >>> print(_dummies(("Intercept", "C(arm)"), ("Intercept", "C(arm)[T.b]")))
    write random="1 + {(arm == 'b') * 1.0} | ...", or make a numeric dummy column of each level
    >>> print(_dummies(("Intercept", "C(day)"), ("Intercept", "C(day)[T.1]", "C(day)[T.2]")))
    make a numeric dummy column of each level, and name these
    """
    out = [] if "Intercept" in terms else ["0"]
    for label in labels:
        found = _LEVEL.fullmatch(label)
        if found:
            out.append(f"{{({found[1] or found[2]} == '{found[3]}') * 1.0}}")
        elif label in terms:
            out.append("1" if label == "Intercept" else label)
        else:
            return "make a numeric dummy column of each level, and name these"
    return f'write random="{" + ".join(out)} | ...", or make a numeric dummy column of each level'
