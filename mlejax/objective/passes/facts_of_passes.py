"""What a pass computes, described by the traced program of the log-likelihood, so that its result can be found again in a
``resume`` folder (:mod:`mlejax.data.streams.kept_passes`).

The program has the constants and the arrays that the user's function closes over, which its code does not.
"""

from __future__ import annotations

import re
from typing import Any

import jax
import numpy as np

from mlejax.data import Prepared
from mlejax.execution import cached
from mlejax.execution.trace.jaxprs import closed_over
from mlejax.objective.evaluators.hoisting import blocks_used
from mlejax.objective.objective import objective_of
from mlejax.objective.specification import Spec
from mlejax.shapes import Either, Host, PyTree

_ADDRESS = re.compile(r"0x[0-9a-f]+")


def facts_of(spec: Spec, fixed: Either | None, some: Prepared) -> tuple[Any, ...]:
    """Return what determines the log-likelihood of rows as a function of u, for `KeptPasses.result`.

    Args:
        spec: the specification, without a penalty.
        fixed: values under ``fixed=``, or None.
        some: a sample of the rows.
    """
    shapes = tuple((np.shape(a), str(np.asarray(a).dtype)) for a in some.rows)
    shared = [np.asarray(a) for a in jax.tree.leaves(some.shared)]
    program = cached(spec.likelihood, ("program of passes", spec, shapes), lambda: _program(spec, fixed, some))
    return spec.hessian, spec.space.labels, None if fixed is None else np.asarray(fixed), shared, program


def _program(spec: Spec, fixed: Either | None, some: Prepared) -> tuple[str, list[Host]]:
    """Return the program of the log-likelihood as text, and the arrays that it closes over."""

    def loglik(u: Either, data: Prepared, values: Either | None) -> PyTree:
        return objective_of(spec, data, values, None, blocks_used(data)).loglik(u)

    closed = jax.make_jaxpr(loglik)(np.zeros(spec.space.n_free), some, fixed)
    return _ADDRESS.sub("", str(closed)), [np.asarray(a) for a in closed_over(closed)]
