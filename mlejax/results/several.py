"""Inference that combines several results: multiple imputation and two-step estimation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mlejax import inference, misuse
from mlejax.results.batch_results import BatchResults
from mlejax.results.results import Results


@misuse.door
def pool(
    results: Sequence[Results] | BatchResults, *, df_complete: float | None = None, alpha: float = 0.05
) -> inference.Pooled:
    """Return pooled inference from fits of several completed (multiply imputed) data sets, by Rubin's rules.

    Args:
        results: fits of the same model; or a batch, ``pool(model.fit_groups(df, by="imputation"))``.
        df_complete: degrees of freedom that complete data would have, an upper limit of those of the t distributions (Barnard &
            Rubin 1999); rows less parameters by default, as in R's mice; ``float("inf")`` as in mitools.
        alpha: one minus the coverage of the intervals, which are computed on the unconstrained scale.

    Returns:
        :class:`mlejax.inference.Pooled`: prints as a table; ``params``, ``bse``, ``cov_params()``, ``frame()`` with degrees of
        freedom and fractions of missing information, ``wald_test(entries)`` (D1 of Li, Raghunathan & Rubin 1991, with the
        degrees of freedom of Reiter 2007).

    Raises:
        ValueError: there are fewer than two results; their entries, fixed values or kinds of covariance differ; or one did not
            reach a maximum.
        TypeError: something in ``results`` is not the result of a fit.

    Example:
        >>> import mlejax as mle
        >>> from jax.scipy.stats import norm
        >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
        ... def gaussian(params, data):
        ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
        >>> one = mle.pool([gaussian.fit({"y": [1.0, 2.0, 6.0, 3.0, x]}) for x in (2.0, 4.0, 5.0)])
        >>> one.frame()[["estimate", "std_error", "fmi"]].round(3)
               estimate  std_error    fmi
        term
        mu        3.133      0.865  0.526
        sigma     1.765      0.566  0.419
    """
    if not isinstance(results, BatchResults | Iterable) or isinstance(results, str):
        raise TypeError(
            f"pool expected a list of results, one for each completed data set, or a batch, got a {type(results).__name__}"
        )
    each = [results[label] for label in results] if isinstance(results, BatchResults) else list(results)
    for i, one in enumerate(each):
        _check(one, "pool", f"number {i + 1}")
    return inference.pooled([one._entries for one in each], df_complete, alpha)


@misuse.door
def stack(
    first: Results, second: Results, *, names: Mapping[str, str] | None = None, alpha: float = 0.05
) -> inference.TwoStep:
    """Return two-step estimation: the second fit with standard errors that allow for the estimation of the first step's
    parameters.

    The second model declares the parameters of the first step that it uses, and is fitted with these fixed at their estimates,
    ``second = model2.fit(data, fixed={"gamma": first.params_tree["gamma"]})``.

    Args:
        first, second: the fits, of the same rows in the same order, or of different rows, which are treated as independent.
        names: dict from a parameter of the second model to that of the first, if the names differ, ``{"gamma": "mu"}``.
        alpha: one minus the coverage of the intervals.

    Returns:
        :class:`mlejax.inference.TwoStep`: prints as a table; ``params``, ``bse``, ``bse_second`` (the first step taken as known),
        ``cov_params()``, ``frame()``.  With ``cov_type="nonrobust"`` the covariance is that of Murphy and Topel (1985), from the
        observed information; with HC0, HC1 or clusters it is the sandwich of the stacked scores, which also allows for
        misspecified models.

    Raises:
        ValueError: the second fit has no parameter of the first fixed, or at another value; a fit has no interior maximum;
            ``cov_type`` differs; or scores of single rows are needed that are not in memory.
        TypeError: an argument is not the result of a fit.

    Example:
        >>> import jax.numpy as jnp, mlejax as mle
        >>> from jax.scipy.stats import norm, poisson
        >>> @mle.model(gamma=mle.Real(shape=2), s=mle.Positive())
        ... def price(params, data):
        ...     return norm.logpdf(data["p"], params["gamma"][0] + params["gamma"][1] * data["cost"], params["s"])
        >>> @mle.model(gamma=mle.Real(shape=2), b=mle.Real(shape=2))
        ... def demand(params, data):
        ...     expected = params["gamma"][0] + params["gamma"][1] * data["cost"]
        ...     return poisson.logpmf(data["q"], jnp.exp(params["b"][0] + params["b"][1] * expected))
        >>> shops = {"p": [1.0, 2.0, 4.0, 3.0, 6.0], "cost": [0.0, 1.0, 2.0, 3.0, 4.0], "q": [9, 8, 4, 5, 1]}
        >>> first = price.fit(shops)
        >>> second = demand.fit(shops, fixed={"gamma": first.params_tree["gamma"]})
        >>> mle.stack(first, second).frame()[["estimate", "std_error_second", "std_error"]].round(3)
              estimate  std_error_second  std_error
        term
        b[0]     2.635             0.380      0.427
        b[1]    -0.339             0.135      0.116
    """
    _check(first, "stack", "the first step")
    _check(second, "stack", "the second step")
    return inference.two_step(first._entries, second._entries, names, alpha)


def _check(one: object, function: str, which: str) -> None:
    if not isinstance(one, Results):
        raise TypeError(f"{function} expected results, as model.fit returns them, got {type(one).__name__} as {which}")
