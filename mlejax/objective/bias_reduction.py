r"""Bias reduction: terms added to the log-likelihood that reduce the bias of the estimates and keep them finite under separation.

With I the information and E = sum_i w_i s_i s_i' in theta, the free parameters on the natural scale,

* ``"jeffreys"``: l + log det I / 2 (Firth 1993; finite for logistic regression whatever the data, Kosmidis & Firth
  2021).  I is the observed information, minus the Hessian of l, unless the model declares an expected one; for canonical
  families both are the same.
* ``"empirical"``: l - tr(I^-1 E) / 2 with the observed I (Kosmidis & Lunardon 2023), which needs no expectation; the estimates
  need not be finite.

Neither is invariant to the parametrisation: theta are the parameters as declared, such as the coefficients and standard
deviations of the table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from mlejax import linalg
from mlejax.portable import reduced
from mlejax.shapes import Device, Reduced

KINDS = ("jeffreys", "empirical")


@dataclass(frozen=True)
class BiasReduction:
    """A kind of bias reduction; a part of the compilation key.

    Attributes:
        kind: ``"jeffreys"`` or ``"empirical"``.
        expected: ``f(params, data) -> (n, p, p)``, the expected information of each term of the log-likelihood in theta; None
            for the observed information.
    """

    kind: str
    expected: Callable[[Any, Any], Any] | None = None

    def __reduce__(self) -> Reduced:
        return reduced(self, "expected")

    @property
    def text(self) -> str:
        """The description of the kind in the header of a table."""
        if self.kind == "empirical":
            return "empirical (Kosmidis & Lunardon 2023), observed information"
        return f"Jeffreys (Firth 1993), {'observed' if self.expected is None else 'expected'} information"


def check_reduction(kind: object, expected: Callable[[Any, Any], Any] | None) -> BiasReduction | None:
    """Return the `BiasReduction` of the option ``kind``, None for None; ``expected``: a companion that computes the expected
    information, or None.

    Raises:
        ValueError: the kind is unknown.
    """
    if kind is None:
        return None
    if not isinstance(kind, str) or kind not in KINDS:
        known = ", ".join(map(repr, KINDS))
        raise ValueError(f"bias_reduction= expected one of {known} or None (Firth's is 'jeffreys'), got {kind!r}")
    return BiasReduction(kind, expected if kind == "jeffreys" else None)


def adjustment(kind: str, information: Device, meat: Device | None) -> Device:
    """Return the term subtracted from the log-likelihood (): -log det I / 2, or tr(I^-1 E) / 2; infinite if I is not
    positive definite.

    Args:
        kind: ``"jeffreys"`` or ``"empirical"``.
        information: I (p, p).
        meat: E (p, p), needed for ``"empirical"``.

    Example:
        >>> import jax.numpy as jnp
        >>> float(adjustment("empirical", 4.0 * jnp.eye(2), 2.0 * jnp.eye(2)))
        0.5
    """
    scaled, root, positive = linalg.unit_diagonal(0.5 * (information + information.T))
    factor, definite = linalg.cholesky(scaled)
    if kind == "jeffreys":
        value = -jnp.sum(jnp.log(jnp.diagonal(factor))) - jnp.sum(jnp.log(root))
    else:
        assert meat is not None
        value = 0.5 * jnp.trace(jax.scipy.linalg.cho_solve((factor, True), meat / root[:, None] / root[None, :]))
    return jnp.where(positive & definite, value, jnp.inf)
