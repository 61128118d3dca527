r"""The log-likelihood of a fit as a pure function of the unconstrained vector u, for samplers.

With a prior on the natural scale the density of u has the Jacobian of theta(u) in it,

.. math:: \log \pi(u \mid y) = \ell(\theta(u)) + \log p(\mathrm{params}(u)) + \log |\det \partial\theta / \partial u| + c.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from mlejax.data import Prepared
from mlejax.fit import Fit
from mlejax.objective import Spec, objective_of
from mlejax.shapes import Device, Either, Host, PyTree


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["start", "data", "fixed", "scale"],
    meta_fields=["spec", "prior"],
)
@dataclass(frozen=True, eq=False, repr=False)
class LogDensity:
    """Log-density of u; call it with u (p,).  It is a JAX pytree, so that its data can be an argument of your own ``jit``.

    Attributes:
        start: u at the estimates (p,).
        data, fixed, scale: data; values of the fixed entries, or None; number by which the weights in ``data`` were
            divided.
        spec: the model and its parameter space, without penalty and bias reduction.
        prior: log-density of ``params``, natural scale, or None.
    """

    start: Host
    data: Prepared
    fixed: Host | None
    scale: float
    spec: Spec = field(repr=False)
    prior: Callable[[Any], Any] | None = None

    def __call__(self, u: Device) -> jax.Array:
        """Return the weighted, summed log-likelihood at u (p,), a scalar, without the penalty or bias reduction of the fit;
        with a prior, the log-posterior density of u up to a constant.
        """
        objective = objective_of(self.spec, jax.tree.map(jnp.asarray, self.data), self.fixed, None)
        total = self.scale * objective.loglik(u)
        if self.prior is None:
            return total
        space = self.spec.space
        jacobian = jax.jacfwd(lambda v: space.theta_from_u(v, self.fixed))(u)
        return total + self.prior(self.params(u)) + jnp.linalg.slogdet(jacobian)[1]

    def params(self, u: Either) -> PyTree:
        """Return the parameters in the user's structure, natural scale, at u (p,); ``jax.vmap`` it over draws."""
        return self.spec.space.params_from_u(u, self.fixed)

    def __repr__(self) -> str:
        beside = "" if self.prior is None else " with a prior"
        return f"<log-density of {self.spec.likelihood.name}{beside}, a function of u ({self.spec.space.n_free},)>"


def logdensity(fit: Fit, prior: Callable[[Any], Any] | None = None) -> LogDensity:
    """Return the log-likelihood (or log-posterior) of this model and these data as a pure function of u, for samplers.

    Args:
        prior: ``prior(params)`` -> scalar log-density on the natural scale.  With it the function is the log-posterior
            density of u, including the log-Jacobian; without it, the log-likelihood, which as a density of u implies a flat
            prior on u.

    Returns:
        `LogDensity`: callable, ``start`` (u at the estimates), ``params(u)``.  A penalty or bias reduction of the fit is left
        out.  It computes in JAX's current precision, float64 under ``jax.enable_x64(True)``.  For ``NonNegative`` and other
        closed supports, u is bounded; the sampler must respect this.

    Raises:
        ValueError: the rows are not in memory (a result from a file, a stream).

    Example:
        >>> import jax, mlejax as mle
        >>> from jax.scipy.stats import norm
        >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
        ... def gaussian(params, data):
        ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
        >>> res = gaussian.fit({"y": [1.0, 2.0, 6.0, 3.0]})
        >>> density = res.logdensity(lambda p: norm.logpdf(p["mu"], 0.0, 10.0) - p["sigma"])
        >>> with jax.enable_x64(True):
        ...     slope = jax.jit(jax.grad(density))(density.start)
        >>> slope.shape
        (2,)
    """
    streamed = fit.loaded.stream is not None
    if fit.loaded.remembered is not None or streamed:
        raise ValueError(
            f"logdensity() needs the rows of the fit in memory, and this one is {'of a stream' if streamed else 'from a file'}: "
            "fit the model to a table in memory"
        )
    return LogDensity(fit.u, fit.loaded.problem.data, fit.fixed, float(fit.loaded.scale), fit.spec.plain, prior)
