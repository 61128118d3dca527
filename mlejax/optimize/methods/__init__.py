"""The methods, one a file, and what they share: trust-region steps, and the stopping rule of first-order methods."""

from mlejax.optimize.methods.adam import Adam
from mlejax.optimize.methods.bhhh import BHHH
from mlejax.optimize.methods.em import EM
from mlejax.optimize.methods.first_order import FirstOrder
from mlejax.optimize.methods.lbfgs import LBFGS
from mlejax.optimize.methods.newton import Newton

__all__ = ["BHHH", "EM", "LBFGS", "Adam", "FirstOrder", "Newton"]
