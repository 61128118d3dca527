"""Starts of the search: given by the user, chosen among candidates made from the data, from a subsample, several starts."""

from mlejax.fit.start.candidates import CONCAVE, FirstGuess, acceptable, candidates, first_guess
from mlejax.fit.start.choose import N_RANKED, choose, rough_estimate
from mlejax.fit.start.given import Given, given_for_each, given_values, unused_starts
from mlejax.fit.start.modes import MAX_STEPS, Mode, modes_of, statement
from mlejax.fit.start.scatter import scatter

__all__ = [
    "CONCAVE",
    "MAX_STEPS",
    "N_RANKED",
    "FirstGuess",
    "Given",
    "Mode",
    "acceptable",
    "candidates",
    "choose",
    "first_guess",
    "given_for_each",
    "given_values",
    "modes_of",
    "rough_estimate",
    "scatter",
    "statement",
    "unused_starts",
]
