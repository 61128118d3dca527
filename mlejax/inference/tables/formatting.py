"""How numbers are printed: shared by the results of this room and by the tables of the report room.

One rule for the columns of a table of estimates. A row is printed with a fixed number of decimals, the same for
the whole table, chosen so that as many standard errors as possible show three significant digits (two, where they
are more than three decades apart). A row that cannot
be shown so (standard errors many decades apart) is printed in scientific notation, with as many digits of the
estimate as its standard error makes meaningful. A number that is not zero is never printed as zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mlejax.notebook import CellText, Text

MISSING = "."
_MOST_DECIMALS = 8
_MOST_DIGITS = 11
_MOST_ERROR_DIGITS = 7


def format_p(p: float) -> str:
    """Format a p-value for a column of a table: three decimals, ``<0.001`` below that, ``.`` for NaN.

    >>> format_p(0.0312), format_p(3e-9), format_p(float("nan"))
    ('0.031', '<0.001', '.')
    """
    if math.isnan(p):
        return MISSING
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def format_test_p(p: float) -> str:
    """Format a p-value for the line of a test: four decimals, scientific below 0.0001, ``0`` for 0, ``.`` for NaN.

    >>> format_test_p(0.03124), format_test_p(3.21e-9)
    ('0.0312', '3.21e-09')
    """
    if math.isnan(p):
        return MISSING
    return f"{p:.4f}" if p >= 1e-4 else ("0" if p == 0 else f"{p:.2e}")


def stated_p(p: float) -> str:
    """Return a p-value as a statement, such as ``p = 0.0312``; one that is 0 in floating point is below 1e-300.

    >>> stated_p(3.21e-9), stated_p(0.0)
    ('p = 3.21e-09', 'p < 1e-300')
    """
    return "p < 1e-300" if p == 0 else f"p = {format_test_p(p)}"


def format_span(values: np.ndarray) -> str:
    """Format the smallest and the largest of some whole numbers: ``3 to 7``, or ``3`` if they are equal."""
    low, high = int(values.min()), int(values.max())
    return f"{low}" if low == high else f"{low} to {high}"


def format_quantiles(names: Sequence[str], values: np.ndarray, errors: np.ndarray) -> CellText:
    """Format a table of the 5, 50 and 95 % quantiles of each column's estimates and its median standard error.

    Args:
        names: names of the first columns; the others are left out.
        values: estimates, (n, r).
        errors: standard errors, (n, r); those that are not finite are left out.
    """
    cells = [["", "5%", "median", "95%", "std err"]]
    for j, name in enumerate(names):
        low, middle, high = np.quantile(values[:, j], [0.05, 0.5, 0.95])
        known = errors[:, j][np.isfinite(errors[:, j])]
        error = f"{np.median(known):.4g}" if known.size else ""
        cells.append([name, f"{low:.4g}", f"{middle:.4g}", f"{high:.4g}", error])
    width = max(map(len, names))
    shown = "\n".join(f"{name:{width}}  {a:>10} {b:>10} {c:>10} {d:>10}".rstrip() for name, a, b, c, d in cells)
    return CellText(shown, cells)


def format_statistic(z: float) -> str:
    """Format a test statistic: three decimals; scientific if that would print as zero, and from a million on; ``.`` for NaN.

    >>> format_statistic(1.9634), format_statistic(-2e-5), format_statistic(1.5e9)
    ('1.963', '-2.0e-05', '1.50e+09')
    """
    if math.isnan(z):
        return MISSING
    if math.isinf(z):
        return "inf" if z > 0 else "-inf"
    if abs(z) >= 1e6:
        return f"{z:.2e}"
    return _never_zero(f"{z:.3f}", z, 1)


def format_number(x: float, digits: int = 5) -> str:
    """Format one number with `digits` significant digits, trailing zeros removed; ``.`` for NaN.

    >>> format_number(1.0), format_number(0.000123456), format_number(1.23456e-9)
    ('1', '0.00012346', '1.2346e-09')
    """
    return MISSING if math.isnan(x) else f"{x:.{digits}g}"


def format_estimates(
    rows: Sequence[tuple[float, float, float, float]], decimals: int | None = None
) -> list[tuple[str, str, str, str]]:
    """Format rows of (estimate, standard error, lower, upper) as strings, by the rule in the module's docstring.

    Args:
      rows: floats; NaN prints as ``.``; a row without a standard error has the decimals of the others, or more digits if
          these would lose some.
      decimals: number of decimals of all numbers, in place of the rule.

    Returns:
      one tuple of four strings per row, not padded.

    >>> format_estimates([(1.23456, 0.0321, 1.1716, 1.2975), (-0.5, 0.25, -0.99, -0.01)])
    [('1.2346', '0.0321', '1.1716', '1.2975'), ('-0.5000', '0.2500', '-0.9900', '-0.0100')]
    """
    if decimals is not None:
        fixed = lambda x: f"{x:.{decimals}f}" if math.isfinite(x) else _unusual(x)
        return [(fixed(a), fixed(b), fixed(c), fixed(d)) for a, b, c, d in rows]
    shared = _shared_decimals(rows)
    return [_format_row(row, shared) for row in rows]


def table_lines(cells: Sequence[Sequence[str]], *, gap: int = 2, left: int = 1) -> list[str]:
    """Return one string for each row of cells, with aligned columns `gap` blanks apart: the first `left` columns are
    left-aligned, the others right-aligned; short rows are filled with empty cells.

    >>> table_lines([["", "coef"], ["mu", "1.25"], ["sigma", "10.50"]])
    ['        coef', 'mu      1.25', 'sigma  10.50']
    """
    n_columns = max((len(row) for row in cells), default=0)
    padded = [list(row) + [""] * (n_columns - len(row)) for row in cells]
    widths = [max(len(row[j]) for row in padded) for j in range(n_columns)]
    pad = " " * gap
    columns = []
    for j, (column, width) in enumerate(zip(zip(*padded, strict=True), widths, strict=True)):
        columns.append([c.ljust(width) if j < left else c.rjust(width) for c in column])
    return [pad.join(row).rstrip() for row in zip(*columns, strict=True)]


def table(cells: Sequence[Sequence[str]], *, left: int = 1) -> CellText:
    """Return cells, the first row of which are heads, as a text of aligned lines (`table_lines`) that notebooks show as a
    table; ``left``: number of columns, from the first, that are aligned at the left.
    """
    return CellText("\n".join(table_lines(cells, left=left)), cells, left)


def small_table(
    title: str,
    names: Sequence[str],
    rows: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    statistic: np.ndarray,
    p_value: np.ndarray,
    notes: Sequence[str],
    alpha: float,
    letter: str = "z",
) -> Text:
    """Return estimates, standard errors, tests and limits as an aligned text table with notes below.

    Args:
      title: first line.
      names: m row names.
      rows: four (m,) arrays: estimate, standard error, lower, upper.
      statistic: test statistics (m,).
      p_value: p-values (m,).
      notes: m strings, printed below the table if not empty.
      alpha: 1 - coverage.
      letter: name of the statistic, ``"z"`` or ``"t"``.

    Returns:
      Several lines, without a final newline.
    """
    texts = format_estimates([tuple(map(float, row)) for row in zip(*rows, strict=True)])  # type: ignore[misc]
    cells = [["", "coef", "std err", letter, f"P>|{letter}|", *percent_labels(alpha)]]
    for name, (coef, error, low, high), z, p in zip(names, texts, statistic, p_value, strict=True):
        cells.append([name, coef, error, format_statistic(float(z)), format_p(float(p)), low, high])
    lines = table_lines(cells)
    width = max(map(len, lines))
    said = [f"  {name}: {note}" for name, note in zip(names, notes, strict=True) if note]
    rule = "-" * width
    return Text([title, CellText("\n".join([rule, lines[0], rule, *lines[1:], rule]), cells), *said])


def percent_labels(alpha: float) -> tuple[str, str]:
    """Return the two column headers of an interval of coverage 1 - alpha, as statsmodels prints them.

    >>> percent_labels(0.05)
    ('[0.025', '0.975]')
    """
    return f"[{_trim(alpha / 2)}", f"{_trim(1 - alpha / 2)}]"


def _trim(x: float) -> str:
    text = f"{x:.6f}".rstrip("0")
    return text + "0" if text.endswith(".") else text


def _exponent(x: float) -> int:
    """Return the decimal exponent of x after rounding to three digits: -1 for 0.1234 and for 0.09996, which counts as 0.100."""
    return int(f"{abs(x):.2e}".split("e")[1])


def _usable(x: float) -> bool:
    return math.isfinite(x) and x != 0


def _resolution(row: tuple[float, float, float, float]) -> int | None:
    """Return the decimal exponent of the standard error of a row (estimate, standard error, lower, upper); None if that is 0
    or not finite.
    """
    return _exponent(row[1]) if _usable(row[1]) else None


def _integer_digits(row: tuple[float, float, float, float]) -> int:
    return max((max(_exponent(x) + 1, 1) for x in row if _usable(x)), default=1)


def _fits(row: tuple[float, float, float, float], resolution: int, decimals: int) -> bool:
    """True if a row can be printed with fixed decimals: these show 2 to 7 digits of its standard error (any number with 0
    decimals), and no number has more than 11 digits.  ``resolution``: as in `_resolution`.
    """
    digits = resolution + 1 + decimals
    return (
        digits >= 2
        and (decimals == 0 or digits <= _MOST_ERROR_DIGITS)
        and _integer_digits(row) + decimals <= _MOST_DIGITS
    )


def _shared_decimals(rows: Sequence[tuple[float, float, float, float]]) -> int:
    """Return the number of decimals that suits most rows (estimate, standard error, lower, upper): as many rows as possible are
    printed with fixed decimals, then with three digits of the error (two if errors differ a thousandfold).

    Without any standard error: 4, or more where the estimates are small.
    """
    scales = [(row, e) for row in rows if (e := _resolution(row)) is not None]
    if not scales:
        # No standard error anywhere: four decimals, more when the estimates are small.
        sizes = [_exponent(row[0]) for row in rows if _usable(row[0])]
        return min(max((3 - min(e, 3) for e in sizes if e > -6), default=4), _MOST_DECIMALS)

    def score(decimals: int) -> tuple[int, int, int, int]:
        shown = [e for row, e in scales if _fits(row, e, decimals)]
        # Errors of very different sizes get by with two digits, or the largest would drag a tail of digits.
        wanted = 2 if max(shown, default=0) - min(shown, default=0) < 3 else 1
        # Where no choice suits all, the everyday sizes come first.
        everyday = sum(-4 <= e <= 3 for e in shown)
        return len(shown), sum(decimals >= wanted - e for e in shown), everyday, -decimals

    return max(range(_MOST_DECIMALS + 1), key=score)


def _format_row(row: tuple[float, float, float, float], decimals: int) -> tuple[str, str, str, str]:
    scale = _resolution(row)
    if scale is None:
        a, b, c, d = (_alone(x, decimals) for x in row)
        return a, b, c, d
    if _fits(row, scale, decimals):
        a, b, c, d = (_fixed(x, decimals) for x in row)
        return a, b, c, d
    # The estimate and its limits keep every digit that the standard error makes meaningful.
    a, b, c, d = (_scientific(x, scale if j != 1 else None) for j, x in enumerate(row))
    return a, b, c, d


def _fixed(x: float, decimals: int) -> str:
    if not math.isfinite(x):
        return _unusual(x)
    return _never_zero(f"{x:.{decimals}f}", x, 2)


def _alone(x: float, decimals: int) -> str:
    """Format a number without a standard error (a fixed value): with the table's decimals if these change it by less than 1
    in 20,000 and are short enough, else with six significant digits.
    """
    if not math.isfinite(x):
        return _unusual(x)
    text = f"{x:.{decimals}f}"
    enough = x == 0 or abs(float(text) - x) <= 5e-5 * abs(x)
    return text if enough and len(text) <= _MOST_DIGITS + 2 else f"{x:.6g}"


def _scientific(x: float, scale: int | None) -> str:
    if not math.isfinite(x):
        return _unusual(x)
    if x == 0:
        return "0"
    digits = 3 if scale is None else min(max(_exponent(x) - scale + 2, 3), 14)
    return f"{x:.{digits}e}"


def _never_zero(text: str, x: float, digits: int) -> str:
    if x != 0 and not any(c in "123456789" for c in text):
        return f"{x:.{digits}e}"
    return text[1:] if x == 0 and text.startswith("-") else text


def _unusual(x: float) -> str:
    return MISSING if math.isnan(x) else ("inf" if x > 0 else "-inf")
