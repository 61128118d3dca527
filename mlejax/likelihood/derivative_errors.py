"""Errors of JAX about operations that it cannot differentiate, replaced by messages that name alternatives."""

from __future__ import annotations

from types import TracebackType

from mlejax.likelihood.declaration import Likelihood, LikelihoodError
from mlejax.misuse import linked


class missing_derivatives:
    """Context manager: replaces JAX's error about an operation that it cannot differentiate by a LikelihoodError that names
    alternatives; other errors pass unchanged.

    ``likelihood``: the declaration, for its name.
    """

    def __init__(self, likelihood: Likelihood) -> None:
        self.likelihood = likelihood

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if not isinstance(error, (NotImplementedError, ValueError)):
            return
        text = str(error)
        name = self.likelihood.name
        if "everse-mode differentiation" in text:
            raise LikelihoodError(
                f"{name} has a loop whose length is known only as it runs (jax.lax.while_loop), which JAX differentiates forward "
                "only, but reverse mode is needed here.  Use jax.lax.fori_loop with fixed bounds, or "
                f"jax.lax.scan.  JAX said: {text.splitlines()[0]}"
            ) from error
        if "ifferentiation rule" not in text and "gradient with respect to" not in text:
            return
        raise linked(
            LikelihoodError(
                f"{name} uses an operation that JAX cannot differentiate as often as needed "
                f"({text.splitlines()[0]}).  "
                "mle.special has betainc, gammainc, gammaincc and stdtr with all derivatives in their parameters; for another "
                "function write a jax.custom_jvp rule"
            ),
            "not-differentiable",
        ) from error
