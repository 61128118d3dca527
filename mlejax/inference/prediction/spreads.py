"""Standard deviations and correlations of random effects, however their covariance is parametrised."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from mlejax.covariance import CovarianceResult
from mlejax.execution import float64
from mlejax.fit import Fit
from mlejax.inference.intervals import nlcom_of
from mlejax.inference.normal import critical_value
from mlejax.latent import Latent, marginal_in, marginal_of
from mlejax.shapes import Device, Params, PyTree

if TYPE_CHECKING:
    import pandas as pd

SINGULAR = 1e-7  # of a correlation's distance from 1, where it is on the bound


def random_effects(fit: Fit, cov: CovarianceResult, alpha: float = 0.05, reason: str = "") -> pd.DataFrame:
    """Return standard deviations and correlations of the random effects, natural scale.

    They belong to random effects of formulas, ``random="1 + visit | patient"``, and to every ``mle.Latent(cov=...)``.

    Args:
        alpha: one minus the coverage.

    Returns:
        One row for each standard deviation, ``sd(mu|patient)[visit]``, and correlation, ``corr(mu|patient)[visit,Intercept]``
        (in the index): ``estimate``, ``std_error`` (delta method), ``conf_low``, ``conf_high`` (computed on the log and atanh
        scale), ``note`` (why a number is missing).  A standard deviation of 0 and a correlation of -1 or 1 have no standard
        error; a correlation with a standard deviation of 0 is NaN.

    Raises:
        ValueError: the model has no random effects with a covariance, or the result is from a file.

    Example:
        >>> import mlejax as mle
        >>> from jax.scipy.stats import norm
        >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
        ... def normal(params, data):
        ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
        >>> res = normal.regress(mu=mle.Linear("1", random="1 | g")).fit({"y": [1.0, 2, 5, 6, 3, 3.5], "g": list("aabbcc")})
        >>> res.random_effects()["estimate"].round(3)
        sd(mu|g)[Intercept]    1.579
        Name: estimate, dtype: float64
    """
    import pandas as pd

    latents = with_covariance(fit)
    if not latents and fit.integration is not None and fit.spec.likelihood.joint is None:
        raise ValueError("random_effects() needs the model, which a result from a file does not hold; fit the model again")
    if not latents:
        raise ValueError(
            f"{fit.spec.likelihood.name} has no random effects with a covariance; add some to a formula, mle.Linear('x', "
            "random='1 | g'), or declare mle.Latent(by=..., cov=...)"
        )
    marginal = marginal_in(fit.spec.likelihood)
    sizes = {name: np.ndim(fit.params[str(latent.cov)]) for name, latent in latents.items()}
    labels = [label for name, v in latents.items() for label in _labels(name, v, sizes[name] > 1)]

    def values(params: Params) -> PyTree:
        found = {name: _spreads(marginal.covariance(name, params)) for name in latents}
        return jnp.concatenate([v if sizes[name] > 1 else v[: latents[name].size] for name, v in found.items()])

    with float64():
        found = nlcom_of(fit, cov.full, values, labels=labels, alpha=alpha, reason=reason, df=cov.df)
    is_sd = np.array([label.startswith("sd(") for label in labels])
    value, error = found.params, np.array(found.bse)
    bound = np.where(is_sd, value == 0.0, 1.0 - np.abs(value) < SINGULAR) | np.isnan(value)
    notes = np.where(bound, "at a bound of its support", np.array(found.notes, object))
    notes = np.where(np.isnan(value), "a standard deviation is 0", notes)
    error[bound] = np.nan
    reach = critical_value(alpha, cov.df)
    with np.errstate(all="ignore"):
        link, back = np.where(is_sd, np.log(value), np.arctanh(value)), lambda x: np.where(is_sd, np.exp(x), np.tanh(x))
        spread = reach * error / np.where(is_sd, value, 1.0 - value**2)
        columns = {"std_error": error, "conf_low": back(link - spread), "conf_high": back(link + spread), "note": notes}
    return pd.DataFrame({"estimate": value, **columns}, index=labels)


def with_covariance(fit: Fit) -> dict[str, Latent]:
    """Return the random effects whose covariance is a parameter, as a dict from name to declaration."""
    marginal = marginal_of(fit.spec.likelihood)
    return {} if marginal is None else {name: v for name, v in marginal.latents.items() if v.cov is not None}


def _labels(name: str, latent: Latent, correlated: bool) -> list[str]:
    """Return the labels of standard deviations and, if ``correlated``, of correlations: ``sd(u)[0]``, ``sd(u)[1]``,
    ``corr(u)[1,0]``.  ``name``: that of the random effect.
    """
    entries = list(map(str, latent.labels or range(latent.size)))
    pairs = [(i, j) for i in range(latent.size) for j in range(i)] if correlated else []
    return [f"sd({name})[{e}]" for e in entries] + [f"corr({name})[{entries[i]},{entries[j]}]" for i, j in pairs]


def _spreads(covariance: Device) -> Device:
    """Return the standard deviations (q,) of a covariance (q, q), followed by its correlations (lower triangle, row by row);
    a correlation with a standard deviation of 0 is NaN.
    """
    variance = jnp.diag(covariance)
    sd = jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1.0)), 0.0)
    rows, columns = np.tril_indices(len(variance), -1)
    product = sd[rows] * sd[columns]
    correlation = covariance[rows, columns] / jnp.where(product > 0, product, jnp.nan)
    return jnp.concatenate([sd, correlation])
