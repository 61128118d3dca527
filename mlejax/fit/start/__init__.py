"""Where the search begins: given starts, candidates made from the data, a subsample, several starts."""

from mlejax.fit.start.candidates import CONCAVE, FirstGuess, acceptable, candidates, first_guess
from mlejax.fit.start.columns import sample_rows, with_leading_axis
from mlejax.fit.start.given import Given, given_for_each, given_values
from mlejax.fit.start.modes import Mode, modes_of, run_all, statement
from mlejax.fit.start.scatter import scatter

__all__ = [
    "CONCAVE",
    "FirstGuess",
    "Given",
    "Mode",
    "acceptable",
    "candidates",
    "first_guess",
    "given_for_each",
    "given_values",
    "modes_of",
    "run_all",
    "sample_rows",
    "scatter",
    "statement",
    "with_leading_axis",
]
