r"""Extended likelihoods: the number of rows is random too, Poisson with an expected total.

With intensities :math:`\lambda(x)` and their total :math:`\Lambda`, the expected number of rows,

.. math:: \ell(\theta) = \sum_i \log \lambda_\theta(x_i) - \Lambda(\theta),

the log-likelihood of a Poisson process (Barlow 1990, Nuclear Instruments and Methods A 297).  The total is a term of its own
beside those of the rows.  It is no observation: products of scores, whose sum estimates the variance of the score, are of the
rows alone, :math:`Var \sum_i s_i = E \sum_i s_i s_i'` for a Poisson number of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.likelihood.declaration import LikelihoodError
from mlejax.misuse import linked
from mlejax.portable import reduced
from mlejax.shapes import Data, PyTree, Reduced


@dataclass(frozen=True, eq=False)
class ExpectedTotal:
    """The user's log-intensities of the rows (n,), with minus the expected total appended (n + 1,).

    Attributes:
        function: ``f(params, data)`` -> log-intensities (n,).
        total: ``total(params)`` -> expected number of rows, ().
    """

    function: Callable[[Any, Any], Any]
    total: Callable[[Any], Any]

    def __reduce__(self) -> Reduced:
        return reduced(self, "function", "total")

    @property
    def __name__(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    @property
    def __wrapped__(self) -> Callable[[Any, Any], Any]:
        return self.function

    def __call__(self, params: PyTree, data: Data) -> jax.Array:
        """Return the terms of the log-likelihood (n + 1,).

        Raises:
            LikelihoodError: the log-intensities are not a vector, the total is not one number, or reads a parameter that is not
                declared.
        """
        rows = jnp.asarray(self.function(params, data))
        try:
            total = jnp.asarray(self.total(params))
        except KeyError as error:
            known = f"; the parameters are {', '.join(map(str, params))}" if isinstance(params, Mapping) else ""
            said = (
                f"total= of {self.__name__} looks up {error.args[0]!r}, which is not declared{known}.  Declare it, "
                f"@mle.extended(..., {error.args[0]}=mle.Positive()), or correct the name"
            )
            raise linked(LikelihoodError(said), "undeclared") from error
        if total.shape != () or rows.ndim != 1:
            raise LikelihoodError(
                f"{self.__name__}: expected log-intensities of the rows, one number each, and a total of one number, got shapes "
                f"{rows.shape} and {total.shape}"
            )
        return jnp.append(rows, -total)


def scores_of_rows(function: Any, scores: np.ndarray) -> np.ndarray:
    """Return scores (n + 1, p) with zeros in the row of the expected total, set in place, if the function has one; otherwise
    unchanged.
    """
    if isinstance(function, ExpectedTotal):
        scores[-1] = 0.0
    return scores
