"""``@mle.extended``: log-likelihoods of rows whose number is an outcome too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mlejax.likelihood.expected_total import ExpectedTotal
from mlejax.model.declaring import Declared, model
from mlejax.model.doors import Model


def extended(
    *, total: Callable[[Any], Any], params: Mapping[str, Declared] | None = None, **parameters: Declared
) -> Callable[[Callable[[Any, Any], Any]], Model]:
    """Declare an extended log-likelihood: ``@mle.extended(total=lambda p: p["n"], n=mle.Positive(), ...)``.

    The decorated ``f(params, data)`` returns the log of the intensity in every row, the expected number of rows per unit of x,
    and ``total(params)`` is its integral, the expected number of rows.  Maximises ``sum_i log lambda(x_i) - total``.

    Args:
        total: ``params`` -> expected number of rows, ().
        params, parameters: declarations, as for :func:`model`.

    Returns:
        A decorator that makes a :class:`Model` of the whole data (``rowwise=False``); the total is one more entry beside the
        rows, which ``nobs`` and ``score_obs`` count.  Covariances ``"nonrobust"``, ``"opg"``, ``"HC0"``, ``"HC1"`` and
        ``"stata"`` allow for the number of rows, which is Poisson; others, the bootstrap and the jackknife are refused.

    Source:
        Barlow (1990), Extended maximum likelihood, Nuclear Instruments and Methods A 297, 496-506.

    Example:
        >>> import jax.numpy as jnp, mlejax as mle
        >>> @mle.extended(total=lambda p: p["n"], n=mle.Positive(), rate=mle.Positive())
        ... def decays(params, data):
        ...     return jnp.log(params["n"]) + jnp.log(params["rate"]) - params["rate"] * data["t"]
        >>> res = decays.fit({"t": [0.5, 1.0, 2.5, 4.0]})
        >>> res.params.round(6).tolist(), res.bse.round(6).tolist()
        ([4.0, 0.5], [2.0, 0.25])
    """
    if not callable(total):
        raise TypeError(f"total= expected a function of params, lambda p: p['n_signal'] + p['n_background'], got {total!r}")
    decorate = model(params={**(params or {}), **parameters}, rowwise=False)
    return lambda user: decorate(ExpectedTotal(user, total))
