"""The steps of a fit: :mod:`mlejax.fit.recipe` in Python for ``model.fit``, :mod:`mlejax.fit.solve` as one pure JAX function."""

from mlejax.fit.common import Problem, Solution, check_count
from mlejax.fit.continuing import continued, with_fixed
from mlejax.fit.effects_evaluation import effects_evaluator_of, refuse_effects, terms_of_rows
from mlejax.fit.finish.elsewhere import evaluated
from mlejax.fit.finish.finish import Centred, Fit, Integration
from mlejax.fit.latents.integration import fit
from mlejax.fit.prepare.constraints.constrained import Restrictions
from mlejax.fit.prepare.loaded import Effects, Loaded, Remembered, counts
from mlejax.fit.prepare.loading import evaluate, prepare
from mlejax.fit.prepare.matching import labels_per_contribution, refuse_connected, rows_unchanged
from mlejax.fit.prepare.penalties import l2
from mlejax.fit.prepare.streaming import evaluator_of, is_stream
from mlejax.fit.solve import solve
from mlejax.latent import regressed

__all__ = [
    "Centred",
    "Effects",
    "Fit",
    "Integration",
    "Loaded",
    "Problem",
    "Remembered",
    "Restrictions",
    "Solution",
    "check_count",
    "continued",
    "counts",
    "effects_evaluator_of",
    "evaluate",
    "evaluated",
    "evaluator_of",
    "fit",
    "is_stream",
    "l2",
    "labels_per_contribution",
    "prepare",
    "refuse_connected",
    "refuse_effects",
    "regressed",
    "rows_unchanged",
    "solve",
    "terms_of_rows",
    "with_fixed",
]
