"""Bijections between a parameter's natural value and the unconstrained coordinates of the optimiser.

Three descriptions of one value, of shape ``shape``:

- the *value* itself, on the natural scale (a standard deviation, a vector of probabilities, a covariance matrix);
- ``theta``, shape (k,): its free natural coordinates (a simplex without its last entry, a lower triangle);
- ``u``, shape (k,): unconstrained coordinates, or bounded ones if the support is closed.

``value = forward(u)`` and ``u = inverse(value)``; ``theta = free(value)`` selects, ``value = expand(theta)`` is the
affine way back. The *reported* entries are the distinct entries of a value, those that a table shows.

Every transform is a frozen, hashable dataclass that holds Python numbers only, so that it can be a static argument of
a compiled function. Elementwise ones take any shape, ``()`` included; structured ones act on the trailing axes, and
leading axes are stacked copies. No parameter names here.

References: Stan Reference Manual, "Constraint Transforms"; Pinheiro & Bates (1996), Statistics and Computing 6
(log-Cholesky); Lewandowski, Kurowicka & Joe (2009), J. Multivariate Analysis 100 (canonical partial correlations).
"""

from mlejax.transforms.elementwise import Box, HalfOpen, Identity, Log, Logit, Transform
from mlejax.transforms.matrices import Cholesky, Correlation, Covariance, Triangular
from mlejax.transforms.structured import ClosedSimplex, Ordered, Simplex

__all__ = [
    "Box",
    "Cholesky",
    "ClosedSimplex",
    "Correlation",
    "Covariance",
    "HalfOpen",
    "Identity",
    "Log",
    "Logit",
    "Ordered",
    "Simplex",
    "Transform",
    "Triangular",
]
