"""Linear algebra for symmetric matrices: safeguarded solvers in JAX and NumPy, and matrices that are never formed."""

from mlejax.linalg.arrow import Arrow
from mlejax.linalg.safeguarded import (
    UNROLLED,
    ScaledInverse,
    all_finite,
    cholesky,
    pivot_floor,
    rounding_unit,
    scaled_inverse,
    solve_scaled,
    solve_scaled_host,
    solve_spd,
    solve_spd_host,
    unit_diagonal,
)
from mlejax.linalg.symmetric import Dense, Symmetric, dense_each, diagonal_each, finite_each, symmetric

__all__ = [
    "UNROLLED",
    "Arrow",
    "Dense",
    "ScaledInverse",
    "Symmetric",
    "all_finite",
    "cholesky",
    "dense_each",
    "diagonal_each",
    "finite_each",
    "pivot_floor",
    "rounding_unit",
    "scaled_inverse",
    "solve_scaled",
    "solve_scaled_host",
    "solve_spd",
    "solve_spd_host",
    "symmetric",
    "unit_diagonal",
]
