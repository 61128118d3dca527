"""Declared parameters, and the conversions between their three representations.

``params`` is the user's own named structure on its natural scale; ``theta`` the vector of free natural
coordinates (a simplex without its last entry, the lower triangle of a covariance matrix); ``u`` the flat vector
that optimisers use, unconstrained, or with bounds if a support is closed.  ``theta`` and ``u`` have the same length.
Tables show the *reported* entries, every distinct number of ``params``; they are an affine function of ``theta``,

    reported = D theta + constant,

so that a covariance of ``theta`` carries over exactly: Cov(reported) = D Cov(theta) D'.

A :class:`Space` is hashable and holds no data: it is part of the compilation key.  Fixed values
are an ordinary array beside it, so that one can differentiate with respect to them.
"""

from mlejax.parameters.addresses import AddressError, near, with_addresses
from mlejax.parameters.constraints.curved_ties import CurvedTies
from mlejax.parameters.constraints.ties import Ties
from mlejax.parameters.construction import make_space, tree_space
from mlejax.parameters.declare import (
    Cholesky,
    Correlation,
    Covariance,
    Declaration,
    Free,
    FreeParameter,
    Interval,
    NonNegative,
    Ordered,
    Parameter,
    Positive,
    Real,
    Simplex,
    start_value,
)
from mlejax.parameters.leaf import COEFFICIENTS, Group, Leaf
from mlejax.parameters.linear import (
    Linear,
    Predictor,
    RandomPart,
    looked_up,
    predictor,
    random_parts,
    with_coefficients,
)
from mlejax.parameters.links import Link
from mlejax.parameters.space import Space

__all__ = [
    "COEFFICIENTS",
    "AddressError",
    "Cholesky",
    "Correlation",
    "Covariance",
    "CurvedTies",
    "Declaration",
    "Free",
    "FreeParameter",
    "Group",
    "Interval",
    "Leaf",
    "Linear",
    "Link",
    "NonNegative",
    "Ordered",
    "Parameter",
    "Positive",
    "Predictor",
    "RandomPart",
    "Real",
    "Simplex",
    "Space",
    "Ties",
    "looked_up",
    "make_space",
    "near",
    "predictor",
    "random_parts",
    "start_value",
    "tree_space",
    "with_addresses",
    "with_coefficients",
]
