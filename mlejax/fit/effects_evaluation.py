"""Evaluators of data with fixed effects of ``mle.Real(by=...)``, the terms of their rows, and the errors for features that do
not support fixed effects.
"""

from __future__ import annotations

from mlejax.fit.prepare.loaded import Loaded
from mlejax.likelihood import Likelihood
from mlejax.objective import ChunkedEvaluator, EffectsEvaluator, RowTerms, Spec, StreamedLevels, row_terms
from mlejax.portable import Absent
from mlejax.shapes import Float, Host


def refuse_effects(likelihood: Likelihood, what: str, instead: str) -> None:
    """Raise ValueError if the likelihood has fixed effects (``mle.Real(by=...)``).

    Args:
        likelihood: the model.
        what: the feature that does not support them, first words of the message.
        instead: what to do, last words of the message.
    """
    if likelihood.effects:
        key = likelihood.effects[0]
        raise ValueError(f"{what} is not supported with {key.parameter}=Real(by={key.by!r}): {instead}")


def effects_evaluator_of(spec: Spec, loaded: Loaded, fixed: Host | None) -> EffectsEvaluator:
    """Return the evaluator of a data set with fixed effects, which starts from the estimated effects if they are known."""
    assert loaded.levels is not None
    given = None if loaded.effects is None else loaded.effects.given
    grouped = None
    if loaded.stream is not None:
        sample = loaded.seen
        assert sample.levels is not None
        grouped = StreamedLevels(loaded.stream, sample.problem.data, sample.levels)
    data = loaded.problem.data
    made = EffectsEvaluator(spec, data, fixed, loaded.hyper, levels=loaded.levels, given=given, grouped=grouped)
    return made if loaded.effects is None else made.near(loaded.effects.values)


def terms_of_rows(spec: Spec, loaded: Loaded, fixed: Host | None, u: Float[Host, " p"]) -> RowTerms:
    """Return the log-likelihood terms, scores and weights of data in memory at u, (p,); with fixed effects, these are profiled
    out.

    ``spec`` and ``fixed`` are those of the fit of these data.  With fixed effects, their evaluation at the estimate, if the data
    hold it, is used again.  AbsentError for a result from a file, which has neither rows nor the user's function.
    """
    function = (spec.likelihood.natural or spec.likelihood).function
    if isinstance(function, Absent):
        function()  # says so: a result from a file has no rows over which it would be called
    if loaded.levels is None:
        return row_terms(ChunkedEvaluator(spec, loaded.problem.data, fixed), u)
    evaluator = effects_evaluator_of(spec, loaded, fixed)
    known = None if loaded.effects is None else loaded.effects.at
    return (evaluator if known is None else evaluator.knowing(known)).row_terms(u)
