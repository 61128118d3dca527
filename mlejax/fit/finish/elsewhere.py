"""Evaluate a model at the estimate of another, smaller model, in the form of a `Fit`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mlejax.execution import cached, float64
from mlejax.fit.diagnose import interior
from mlejax.fit.finish.finish import Fit
from mlejax.fit.finish.natural import estimates
from mlejax.fit.prepare.loaded import Loaded
from mlejax.likelihood import Likelihood, missing_derivatives
from mlejax.objective import ChunkedEvaluator, Spec, evaluate_one
from mlejax.parameters import Space


def evaluated(
    fit: Fit, likelihood: Likelihood, loaded: Loaded, space: Space, fixed: np.ndarray | None, values: Sequence[Any]
) -> Fit:
    """Return a copy of ``fit`` with log-likelihood, score and information of another likelihood at a given point.

    Args:
        fit: the fit whose verdict, method and notes are kept.
        likelihood, loaded, space, fixed: the model, data, layout and fixed values to evaluate.
        values: the point, one array per leaf, natural scale; bounds that belong to a support are allowed.
    """
    with float64(), missing_derivatives(likelihood):
        spec = cached(likelihood, ("spec", space), lambda: Spec(likelihood, space))
        evaluator = ChunkedEvaluator(spec, loaded.problem.data, fixed)
        u = np.asarray(space.u_from_params(space.build(list(values))))
        loglik, score, information = evaluate_one(evaluator, u)
        at, params = estimates(space, u, score, information, fixed)
    theta, jacobian, score, information = at
    scale = loaded.scale
    return replace(
        fit,
        spec=spec,
        loaded=loaded,
        fixed=fixed,
        u=u,
        theta=theta,
        params=params,
        llf=scale * float(loglik),
        score=scale * score,
        information=scale * information,
        jacobian=jacobian,
        interior=interior(space, u),
        directions=(),
        centred=None,
        penalised=None,
    )
