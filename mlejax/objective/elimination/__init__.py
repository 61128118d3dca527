"""The log-likelihood of a model with one effect for each level of a column, as a function of the other parameters alone."""

from mlejax.objective.elimination.effects_evaluator import EffectsEvaluator, Eliminated
from mlejax.objective.elimination.separation import separated_rows

__all__ = ["EffectsEvaluator", "Eliminated", "separated_rows"]
