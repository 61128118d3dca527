"""Decorators of `Model` that declare its companion functions: simulator, distribution function, mean and others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mlejax import misuse
from mlejax.likelihood import Likelihood


@misuse.doors
class CompanionDoors:
    """Decorators of `Model` that declare companion functions.

    Attributes:
        likelihood: the declaration of the model.
    """

    likelihood: Likelihood

    def _companion(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Register a companion function under this name in the model's likelihood, in place of an earlier one; return it."""
        object.__setattr__(self, "likelihood", self.likelihood.with_companion(name, function))
        return function

    def expected_information(self, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """Declare the expected information of each row, for ``cov_type="expected"`` and Jeffreys' prior; a decorator.

        ``bias_reduction="jeffreys"`` uses it for this model, ``cov_type="expected"`` also for models that :meth:`regress` makes.

        Args:
            function: ``f(params, data)`` -> (n, p, p), one matrix for each row (with ``unit=``: (p, p)), with respect to the
                free parameters on the natural scale, in the order of ``res.information``.

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
        """Declare a function that draws data from the model; a decorator.

        Args:
            function: ``f(key, params, data)`` -> dict of columns that replace those of ``data``, one entry per row; pure
                JAX, ``key`` is a random key.  ``data.n_rows`` is the number of rows.  With ``unit=`` it draws all rows at once;
                ``data[unit]`` holds the numbers 0, 1, ... of the units.  Models made by :meth:`regress` inherit it: parameters
                that have a formula are then arrays with one value per row.

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
        """Declare the distribution function: ``f(params, data)`` -> P(Y <= y) of each row, (n,); a decorator.

        ``res.predict("cdf", data)`` evaluates it, with standard errors.  Models made by :meth:`regress` inherit it.
        """
        return self._companion("cdf", function)

    def mean(self, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """Declare the expected value of the outcome: ``f(params, data)`` -> (n,); a decorator.

        ``res.predict("mean", data)`` evaluates it, with standard errors.  Models made by :meth:`regress` inherit it.
        """
        return self._companion("mean", function)

    def variance(self, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """Declare the variance of the outcome: ``f(params, data)`` -> (n,), for Pearson residuals; a decorator.

        Models made by :meth:`regress` inherit it.
        """
        return self._companion("variance", function)

    def saturated(self, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """Declare the saturated log-likelihood: ``f(params, data)`` -> the log-likelihood of each row at the mean that makes it
        largest, (n,); a decorator.

        Deviance residuals need it.  For a Poisson distribution it is ``poisson.logpmf(y, y)``, for a normal one the log density
        at its mean.  Models made by :meth:`regress` inherit it.
        """
        return self._companion("saturated", function)
