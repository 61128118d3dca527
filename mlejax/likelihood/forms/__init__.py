"""Functions that stand for the user's: with regressed parameters, effects by index, an expected total, or values of a unit."""
