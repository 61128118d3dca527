"""A log-likelihood with one effect a level of a column, as a function of the other parameters alone."""

from mlejax.objective.elimination.effects_evaluator import EffectsEvaluator, Eliminated

__all__ = ["EffectsEvaluator", "Eliminated"]
