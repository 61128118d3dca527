"""The profile log-likelihood of a model with one effect for each level of a column: maximised over the effects, and so a function
of the other parameters alone.
"""

from mlejax.objective.elimination.effects_evaluator import EffectsEvaluator
from mlejax.objective.elimination.eliminated import Eliminated
from mlejax.objective.elimination.separation import separated_rows, too_many_to_test
from mlejax.objective.elimination.streamed_levels import StreamedLevels

__all__ = ["EffectsEvaluator", "Eliminated", "StreamedLevels", "separated_rows", "too_many_to_test"]
