"""Fits of the same data again: from another start, or with some parameters fixed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mlejax import optimize
from mlejax.execution import float64
from mlejax.fit import start as start_room
from mlejax.fit.finish.finish import Fit, finish
from mlejax.fit.first_start import first_start
from mlejax.fit.prepare.arguments import fix_on_host, outside_transformations
from mlejax.fit.prepare.constraints.constrained import at_estimate
from mlejax.fit.prepare.streaming import AnyEvaluator, evaluator_of
from mlejax.fit.search import problems_of, search_all
from mlejax.likelihood import missing_derivatives
from mlejax.optimize import OptimizeResult
from mlejax.shapes import Float, Host


def continued(
    fit: Fit,
    u0: Float[Host, " p"],
    note: str,
    evaluator: AnyEvaluator | None = None,
    reached: OptimizeResult | None = None,
    tol: float = optimize.Newton.tol,
) -> Fit:
    """Fit the same data and specification again by Newton's method from u0, (p,).

    Args:
        fit: the fit from which the specification, the data, the fixed values and the constraints are taken.
        u0: the start, (p,).
        note: the note of the new fit.
        evaluator: evaluator of these data; None to make one.
        reached: result of an earlier search that ended at u0, which is then diagnosed without another search; or None.
        tol: tolerance of Newton's method, log-likelihood units.
    """
    loaded, method, space = fit.loaded, optimize.Newton(tol=tol), fit.spec.space
    with float64(), missing_derivatives(fit.spec.likelihood), outside_transformations():
        evaluator = evaluator_of(fit.spec, loaded, fit.fixed) if evaluator is None else evaluator
        problems = problems_of(method, fit.fixed, 0, lambda _: loaded, lambda _: [None] * len(space.leaves))
        found = search_all(problems, evaluator, u0[None], np.zeros(1, np.int64), reached=reached).diagnosed(0)
        done = at_estimate(finish(evaluator.with_spec(found.spec), loaded, found, method))
    return replace(done, note=note, constraints=fit.constraints, integration=fit.integration)


def with_fixed(fit: Fit, fixed: Mapping[str, float]) -> Fit:
    """Fit the same data again with some parameters fixed, by Newton's method from the estimates of the others.

    Args:
        fit: the fit.
        fixed: name of a parameter or entry -> value, natural scale.

    Raises:
        ValueError: entries that cannot be fixed, or a fit under constraints, of a stream, with fixed effects, or from a file.
    """
    loaded, method, likelihood = fit.loaded, optimize.Newton(), fit.spec.likelihood
    kinds = {
        "under constraints=": bool(fit.constraints),
        "of a stream": loaded.stream is not None,
        "loaded from a file": loaded.remembered is not None,
        "with effects": bool(likelihood.effects),
    }
    for kind, there in kinds.items():
        if there:
            raise ValueError(
                f"a fit {kind} cannot be repeated with parameters fixed: fit the smaller model yourself, and compare by lr_test"
            )
    with float64(), missing_derivatives(likelihood), outside_transformations():
        space, fixed_values = fix_on_host(loaded.problem.space, fixed)
        evaluator = evaluator_of(replace(fit.spec, space=space), loaded, fixed_values)
        given = start_room.given_values(space, likelihood.parameters, fit.params)
        u0 = first_start(evaluator, method, loaded, given, 0)
        problems = problems_of(method, fixed_values, 0, lambda _: loaded, lambda _: given)
        found = search_all(problems, evaluator, u0[None], np.zeros(1, np.int64)).diagnosed(0)
        return finish(evaluator.with_spec(found.spec), loaded, found, method)
