"""Optimisers: one algorithm a file, one contract, one loop.

`begin` and `advance` run any algorithm on any objective (see `mlejax.optimize.contract`); `resolve` turns what a user
writes ("newton", an instance, an optax transformation) into an algorithm. Everything here minimises, knows nothing of
statistics, prints nothing, and can be traced.
"""

from mlejax.optimize.adam import Adam
from mlejax.optimize.bhhh import BHHH
from mlejax.optimize.box import setting_of
from mlejax.optimize.contract import Carry, Method, Objective, Point, Setting, Update
from mlejax.optimize.first_order import FirstOrder
from mlejax.optimize.lbfgs import LBFGS
from mlejax.optimize.loop import advance, begin, take_turn
from mlejax.optimize.minibatch import EpochCarry, EpochFacts, batched, epoch, refuse_batches, shuffled
from mlejax.optimize.newton import Newton
from mlejax.optimize.resolve import resolve
from mlejax.optimize.result import OptimizeResult

__all__ = [
    "BHHH",
    "LBFGS",
    "Adam",
    "Carry",
    "EpochCarry",
    "EpochFacts",
    "FirstOrder",
    "Method",
    "Newton",
    "Objective",
    "OptimizeResult",
    "Point",
    "Setting",
    "Update",
    "advance",
    "batched",
    "begin",
    "epoch",
    "refuse_batches",
    "resolve",
    "setting_of",
    "shuffled",
    "take_turn",
]
