"""The scope in which numbers are float64, whatever JAX's global flag says.

Public functions enter it once; so does every thread, because a thread begins outside of the scope that it was started in.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import jax

__all__ = ["float64", "in_float64"]


@contextmanager
def float64() -> Iterator[None]:
    """A scope, or a decorator, inside which JAX computes in float64 and takes arrays of NumPy.

    Where the user has forbidden implicit transfers (``jax_transfer_guard``), those of the library are meant.

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
    """Whether numbers are float64 here."""
    return bool(getattr(jax.config, "jax_enable_x64"))  # noqa: B009 - not known to type checkers
