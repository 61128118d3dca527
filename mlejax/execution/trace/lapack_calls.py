"""The calls of LAPACK in a traced program."""

from __future__ import annotations

import math
from collections.abc import Iterator

from .jaxprs import Program, inner_programs

_NAMES = (
    "cholesky eig eigh geqp3 geqrf hessenberg householder_product lu ormqr qr schur svd triangular_solve tridiagonal "
    "tridiagonal_solve"
)
_LAPACK = frozenset(_NAMES.split())


def lapack_calls(program: Program) -> Iterator[tuple[int, int]]:
    """Yield (number of matrices, approximate operations on each) of every call of LAPACK in a program, inner programs included.

    Args:
        program: jaxpr of a traced function, ``jax.make_jaxpr(f)(x).jaxpr``.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> list(lapack_calls(jax.make_jaxpr(jnp.linalg.cholesky)(jnp.ones((100, 10, 10))).jaxpr))
        [(100, 1000)]
        >>> list(lapack_calls(jax.make_jaxpr(jnp.exp)(1.0).jaxpr))
        []
    """
    for eqn in program.eqns:
        if eqn.primitive.name in _LAPACK:
            first = eqn.invars[0].aval.shape
            lead = first[: -1 if eqn.primitive.name == "tridiagonal_solve" else -2]  # its diagonals are vectors
            each = [v.aval.shape[len(lead) :] for v in (*eqn.invars, *eqn.outvars) if v.aval.shape[: len(lead)] == lead]
            yield math.prod(lead), max(math.prod(shape) * max(shape, default=1) for shape in each)
        for inner in inner_programs(eqn):
            yield from lapack_calls(inner)
