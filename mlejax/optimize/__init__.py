"""Optimisers: one file per method, one interface (`Method`), one set of drivers.

`begin` and `advance` run any method on any objective (see `method` and `drivers`); `resolve` turns what a user writes
("newton", an instance, an optax transformation) into a method. Everything here minimises, uses no statistics,
prints nothing, and can be traced.
"""

from mlejax.optimize.arrays import namespace
from mlejax.optimize.box import active_bounds, setting_of
from mlejax.optimize.drivers import advance, begin, run_in_dispatches, run_on_host, take_turn
from mlejax.optimize.method import Carry, DifferentiableObjective, Method, Point, Setting, Step
from mlejax.optimize.methods import BHHH, EM, LBFGS, Adam, FirstOrder, Newton
from mlejax.optimize.methods.first_order import strong
from mlejax.optimize.minibatch import PATIENCE_EPOCHS, EpochCarry, EpochFacts, batched, epoch, refuse_batches, shuffled
from mlejax.optimize.resolve import MethodLike, evaluating, named_newton, resolve
from mlejax.optimize.result import OptimizeResult

__all__ = [
    "BHHH",
    "EM",
    "LBFGS",
    "PATIENCE_EPOCHS",
    "Adam",
    "Carry",
    "DifferentiableObjective",
    "EpochCarry",
    "EpochFacts",
    "FirstOrder",
    "Method",
    "MethodLike",
    "Newton",
    "OptimizeResult",
    "Point",
    "Setting",
    "Step",
    "active_bounds",
    "advance",
    "batched",
    "begin",
    "epoch",
    "evaluating",
    "named_newton",
    "namespace",
    "refuse_batches",
    "resolve",
    "run_in_dispatches",
    "run_on_host",
    "setting_of",
    "shuffled",
    "strong",
    "take_turn",
]
