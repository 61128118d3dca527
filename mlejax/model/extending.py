"""``@mle.extended``: extended log-likelihoods, in which the number of rows is random too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mlejax.likelihood.forms.expected_total import ExpectedTotal
from mlejax.misuse import door
from mlejax.model.declaring import Declared, model
from mlejax.model.doors import Model


@door
def extended(
    *, total: Callable[[Any], Any], params: Mapping[str, Declared] | None = None, **parameters: Declared
) -> Callable[[Callable[[Any, Any], Any]], Model]:
    """Declare an extended log-likelihood: ``@mle.extended(total=lambda p: p["n"], n=mle.Positive(), ...)``.

    The decorated ``f(params, data)`` returns the log intensity of every row (intensity: expected number of rows per unit of x),
    and ``total(params)`` is the integral of the intensity, the expected number of rows.  The log-likelihood is
    ``sum_i log lambda(x_i) - total``.

    Args:
        total: ``params`` -> expected number of rows, ().
        params, parameters: declarations, as for :func:`model`.

    Returns:
        A decorator that makes a :class:`Model`.  Covariances ``"nonrobust"``, ``"opg"``, ``"HC0"``, ``"HC1"`` and ``"stata"``
        account for the Poisson number of rows, and so does :meth:`Results.bootstrap`, which repeats each row a Poisson
        number of times; other covariances, the jackknife and the parametric bootstrap are not supported.  ``weights=`` multiply
        the rows and not the total.  ``score_obs`` has a last row for the total, which is 0.

    Raises:
        TypeError: ``total`` is not a function, or a value is not a declaration.

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
