"""The decorators that declare further functions of a model: its simulator, distribution function, mean and others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mlejax import misuse
from mlejax.likelihood import Likelihood


@misuse.doors
class CompanionDoors:
    """Further functions of a model, declared by decorators.

    Attributes:
        likelihood: the frozen declaration.
    """

    likelihood: Likelihood

    def _companion(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Declare a further function of the model: it has another, equally frozen, likelihood from then on."""
        object.__setattr__(self, "likelihood", self.likelihood.with_companion(name, function))
        return function

    def expected_information(self, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """Declare the expected information of each contribution, for ``cov_type="expected"`` and Jeffreys' prior; a decorator.

        ``bias_reduction="jeffreys"`` uses it for the model that declares it, ``cov_type="expected"`` for regressed ones too.

        Args:
            function: ``f(params, data)`` -> (n, p, p), one matrix for each row (for one unit: (p, p)), over the free natural
                coordinates in the order of ``res.information``.

        Example:
            >>> import jax.numpy as jnp, mlejax as mle
            >>> from jax.scipy.stats import poisson
            >>> @mle.model(eta=mle.Real())
            ... def counts(params, data):
            ...     return poisson.logpmf(data["y"], jnp.exp(params["eta"]))
            >>> @counts.expected_information
            ... def _(params, data):
            ...     return jnp.full((data["y"].shape[0], 1, 1), jnp.exp(params["eta"]))
            >>> res = counts.fit({"y": [0, 0, 0]}, bias_reduction="jeffreys")
            >>> round(float(jnp.exp(res.params["eta"])), 6)  # (sum of y + 1/2) / n
            0.166667
        """
        return self._companion("expected_information", function)

    def simulator(self, function: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
        """Declare how to draw data from the model; a decorator.

        Args:
            function: ``f(key, params, data)`` -> dict of columns that replace those of ``data``, with one entry per row; pure
                JAX.  ``data.n_rows`` is the number of rows.  With ``unit=`` it draws all rows at once, ``data[unit]`` being the
                numbers 0, 1, ... of the units.  Regressed parameters are arrays by row, as in the log-likelihood, so that
                :meth:`regress` inherits it.

        Example:
            >>> import jax, mlejax as mle
            >>> from jax.scipy.stats import norm
            >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
            ... def gaussian(params, data):
            ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
            >>> @gaussian.simulator
            ... def _(key, params, data):
            ...     return {"y": params["mu"] + params["sigma"] * jax.random.normal(key, (data.n_rows,))}
            >>> drawn = gaussian.simulate({"mu": 3.0, "sigma": 2.0}, 1000, seed=1)
            >>> 2.7 < float(drawn["y"].mean()) < 3.3
            True
        """
        return self._companion("simulator", function)

    def cdf(self, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """Declare the distribution function: ``f(params, data)`` -> (n,) probabilities; a decorator.

        ``res.predict("cdf", data)`` gives it with its errors.  :meth:`regress` inherits it.
        """
        return self._companion("cdf", function)

    def mean(self, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """Declare the expected value: ``f(params, data)`` -> (n,); a decorator.

        ``res.predict("mean", data)`` gives it with its errors.  :meth:`regress` inherits it.
        """
        return self._companion("mean", function)

    def variance(self, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """Declare the variance of the outcome: ``f(params, data)`` -> (n,), for Pearson residuals; a decorator."""
        return self._companion("variance", function)

    def saturated(self, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """Declare the saturated log-likelihood: ``f(params, data)`` -> (n,), the highest that any mean gives a row; a decorator.

        Deviance residuals are made of it: of a Poisson ``poisson.logpmf(y, y)``, of a normal law the density at its mean.
        """
        return self._companion("saturated", function)
