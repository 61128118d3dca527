"""A context in which JAX computes in float64, whatever its global flag says.

Public functions enter it once; so does every thread, because a thread begins outside of the scope that it was started in.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import jax

__all__ = ["float64", "in_float64"]


@contextmanager
def float64() -> Iterator[None]:
    """Context manager or decorator: inside, JAX computes in float64 and accepts arrays of NumPy.

    Transfers between host and device are allowed inside, also if the user has forbidden them (``jax_transfer_guard``).

    Example:
        >>> import jax.numpy as jnp
        >>> @float64()
        ... def ones():
        ...     return jnp.ones(3).dtype
        >>> ones()
        dtype('float64')
    """
    with jax.enable_x64(True), jax.transfer_guard("allow"):
        yield


def in_float64() -> bool:
    """Return True if JAX computes in float64 here."""
    return bool(getattr(jax.config, "jax_enable_x64"))  # noqa: B009 - not known to type checkers
