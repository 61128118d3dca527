r"""Predictive bands of neural networks: the last layer has standard errors, the layers before it are taken as known.

With S the parameters of the last layer and I their observed information, f has the variance

.. math:: Var f(x) = \nabla_S f' (I_{SS})^{-1} \nabla_S f,

the delta method of a model that is linear in known features: Laplace's approximation of the last layer (Kristiadi, Hein & Hennig
2020, International Conference on Machine Learning).  The band ignores the uncertainty of the features, so that it is too narrow
if they were estimated from the same data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from mlejax.fit import Fit
from mlejax.inference.checking.subset import choose, subset_errors_of
from mlejax.parameters import Space
from mlejax.shapes import Float, Host


class LastLayer(NamedTuple):
    """Parameters of the last layer of a network, with their covariance given all other parameters.

    Attributes:
        theta: estimates (m,), natural scale.
        cov: covariance given all other parameters (m, m).
        params_at: function from these parameters (m,) to params, with the others at their estimates.
    """

    theta: Float[Host, " m"]
    cov: Float[Host, "m m"]
    params_at: Callable[[Any], Any]


def last_layer_of(fit: Fit, layer: str | Sequence[str] | None, damping: float = 0.0) -> LastLayer:
    """Return the parameters of a network's last layer with their conditional covariance.

    Args:
        fit: the fit.
        layer: names of its parameters; by default the subtree that holds the last array of the last Free parameter.
        damping: a ridge added to their information, the precision of a normal prior on them.

    Raises:
        ValueError: no ``layer`` is given and the model has no Free parameter, or the errors of these parameters cannot be
            computed (`subset_errors_of`).
    """
    space = fit.spec.space
    names = [_last_of(space)] if layer is None else [layer] if isinstance(layer, str) else list(layer)
    found, chosen = subset_errors_of(fit, *names, damping=damping), choose(space, names).theta
    whole = lambda t: jnp.asarray(fit.theta).at[chosen].set(t)
    return LastLayer(fit.theta[chosen], found.cov, lambda t: space.params_from_theta(whole(t), fit.fixed))


def _last_of(space: Space) -> str:
    free = [leaf.name for leaf in space.leaves if leaf.kind == "Free"]
    if not free:
        raise ValueError(
            "errors='last-layer': no parameter is declared mle.Free; name the parameters of the last layer, layer=['beta']"
        )
    return free[-1].rpartition(".")[0] or free[-1]
