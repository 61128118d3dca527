"""Random effects and latent classes of every unit given its data: conditional distributions and class probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.covariance import CovarianceResult
from mlejax.execution import float64
from mlejax.fit import Fit
from mlejax.inference.prediction.streamed_latents import STEP, streamed_classes, streamed_latents
from mlejax.inference.row_effects import check_random
from mlejax.latent import (
    Latent,
    Markov,
    Mixture,
    by_level,
    conditional,
    grid,
    marginal_in,
    marginal_of,
    mixture_in,
    mixture_of,
    posterior,
)
from mlejax.likelihood import Likelihood
from mlejax.shapes import Data, Device, Float, Host, Int, Params, PyTree

POINTS = {1: 41, 2: 21, 3: 11}  # of the law of latents, by their number


class LatentValues(NamedTuple):
    """Random effects of n units, q numbers each, given their rows.

    Attributes:
        labels: labels of the units (n,).
        latents: dict from name to declaration of each random effect.
        mode, mean, sd: mode, mean and standard deviation given the unit's rows, at the estimates (n, q).
        sd_all: standard deviation that includes the variance of the estimates (n, q); NaN if the fit has no covariance.
    """

    labels: np.ndarray
    latents: Mapping[str, Latent]
    mode: Float[Host, "n q"]
    mean: Float[Host, "n q"]
    sd: Float[Host, "n q"]
    sd_all: Float[Host, "n q"]


def latent_values(fit: Fit, cov: CovarianceResult) -> LatentValues:
    """Return the random effects of every unit of a fit, conditional on its rows.

    Raises:
        ValueError: the model has no random effects, or the fit was loaded from a file, which holds no data.
    """
    joint = fit.spec.likelihood.joint
    if joint is None and fit.integration is not None:
        raise ValueError(
            "latent() needs the rows of the data, which are not in the file of a result; fit again, or save what "
            "latent() returns as well"
        )
    if joint is None:
        raise ValueError(
            f"{fit.spec.likelihood.name} has no random effects or classes; declare some among the parameters, "
            "u=mle.Latent(by=...) or z=mle.Discrete(2)"
        )
    data, spec, fixed = fit.loaded.problem.data, fit.spec, fit.fixed
    marginal = marginal_in(fit.spec.likelihood)
    with float64():
        if fit.loaded.stream is not None:
            labels, mode, mean, sd, variance = streamed_latents(fit, differences(fit, cov))
        else:
            labels = np.asarray(fit.loaded.unit_labels)
            mode, mean, sd, _ = conditional(spec, fit.u, data, fixed)
            variance = _variance_of_means(lambda u: conditional(spec, u, data, fixed)[1], fit, cov)
    return LatentValues(labels, marginal.latents, mode, mean, sd, np.sqrt(sd**2 + variance))


class LevelValues(NamedTuple):
    """One random effect of every level of a grouping factor, in models with several grouping factors.

    Attributes:
        name: ``u``, or ``u[Intercept]``.
        by: columns of the grouping factor, joined by colons.
        level: labels of the levels (G,).
        mode, sd: conditional mode given the data, and standard deviation from the curvature at the mode, at the estimates (G,).
        sd_all: standard deviation that includes the variance of the estimates (G,); NaN if the fit has no covariance.
    """

    name: str
    by: str
    level: np.ndarray
    mode: Float[Host, " g"]
    sd: Float[Host, " g"]
    sd_all: Float[Host, " g"]


def level_values(fit: Fit, cov: CovarianceResult) -> list[LevelValues]:
    """Return the random effects of a fit with several grouping factors, one `LevelValues` for each factor and effect.

    Raises:
        ValueError: the fit was loaded from a file, which holds no data.
    """
    data, spec, levels, marginal = fit.loaded.problem.data, fit.spec, fit.loaded.crossing, marginal_of(fit.spec.likelihood)
    if fit.loaded.remembered is not None:
        raise ValueError(
            "latent() needs the rows of the data, which are not in the file of a result; fit again, or save what "
            "latent() returns as well"
        )
    assert levels is not None
    assert marginal is not None
    flat = lambda u: np.concatenate([np.ravel(mode) for mode, _ in by_level(spec, u, data, fit.fixed, levels)])
    with float64():
        found = by_level(spec, fit.u, data, fit.fixed, levels)
        variance = np.broadcast_to(_variance_of_means(flat, fit, cov), (sum(mode.size for mode, _ in found),))
    out, first = [], 0
    for factor, labels, (mode, sd) in zip(marginal.factors, levels.labels, found, strict=True):
        more = np.reshape(variance[first : first + mode.size], mode.shape)
        first += mode.size
        names = [address for n, v in marginal.latents.items() if v.factor == factor for address in v.addresses(n)]
        for j, name in enumerate(names):
            sd_all = np.sqrt(sd[:, j] ** 2 + more[:, j])
            out.append(LevelValues(name, ":".join(factor), labels, mode[:, j], sd[:, j], sd_all))
    return out


class ClassValues(NamedTuple):
    """Latent class of each of n rows or units given the data, at the estimates.

    Attributes:
        name: name of the class variable.
        labels: dict from column name to the labels of the rows or units (n,); empty for a mixture over rows.
        probabilities: posterior probability of each class (n, k); NaN where the weight is 0.
        likeliest: number of the most probable class, or the state of the most probable path (Markov), (n,); without meaning where
            the weight is 0.
    """

    name: str
    labels: Mapping[str, np.ndarray]
    probabilities: Float[Host, "n k"]
    likeliest: Int[Host, " n"]


def class_values(fit: Fit) -> ClassValues:
    """Return the posterior class probabilities of a fit of a mixture or hidden Markov model.

    Raises:
        AbsentError: the fit was loaded from a file, which holds neither function nor data.
    """
    mixture, loaded, data = mixture_in(fit.spec.likelihood), fit.loaded, fit.loaded.problem.data
    if loaded.stream is not None:
        with float64():
            return ClassValues(mixture.name, *streamed_classes(fit, mixture.latent))
    with float64():
        every = jax.tree.map(lambda a: np.array(a)[: int(data.n)], posterior(fit.spec, fit.u, data, fit.fixed))
    found, likeliest = every.posterior, every.likeliest
    if loaded.weights is not None:  # of weight 0: the function saw another row's values
        unused = ~loaded.weights.used
        found = jax.tree.map(lambda a: np.where(unused.reshape(-1, *(1,) * (a.ndim - 1)), np.nan, a), found)
    if not isinstance(mixture.latent, Markov):
        labels = {} if mixture.latent.by is None else {mixture.latent.by: np.asarray(loaded.unit_labels)}
        return ClassValues(mixture.name, labels, found, likeliest)
    codes = loaded.unit_codes
    assert codes is not None
    within = np.empty(len(codes), np.int64)  # the place of each row among those of its series
    within[np.argsort(codes, kind="stable")] = np.concatenate([np.arange(n) for n in np.bincount(codes)])
    columns = {mixture.latent.by: np.asarray(loaded.unit_labels)[codes]}
    if mixture.latent.time is not None:
        columns[mixture.latent.time] = np.asarray(loaded.rows.select(loaded.source.column(mixture.latent.time)))
    return ClassValues(mixture.name, columns, found.rows[codes, within], likeliest[codes, within])


def over_latents(
    function: Callable[[Any, Any], Any], likelihood: Likelihood, random: str = "integrate"
) -> Callable[[Any, Any], Any]:
    """Return a function of params and rows in which random effects and latent classes are no longer arguments: they are
    averaged over, or set to 0 or to their modes. ``function`` itself if the model has none. Classes are averaged over whatever
    ``random`` is.

    Args:
        function: ``f(params, data)``; its params include the random effects of each row.
        likelihood: declaration of the model.
        random: ``"integrate"``: average over the distribution of the random effects; ``"zero"``: random effects of 0;
            ``"mode"``: params already hold the effects of each row (`RowModes`).

    Raises:
        ValueError: another option; an option for random effects, which the model does not have; or ``"integrate"`` for
            random effects whose ``law`` is not ``"normal"``.  When the new function is called: a function of the state of a
            hidden Markov chain, which cannot be averaged.
    """
    check_random(random, likelihood)
    marginal, mixture = marginal_of(likelihood), mixture_of(likelihood)
    if mixture is not None:
        return _over_classes(function, mixture)
    if marginal is None:
        return function
    if random == "mode":
        return lambda params, data: function(marginal.seen(params), data)
    if random == "zero":
        zeros = {name: np.zeros((1, *latent.shape)) for name, latent in marginal.latents.items()}
        return lambda params, data: function(marginal.seen({**params, **zeros}), data)
    if any(latent.law != "normal" for latent in marginal.latents.values()):
        raise ValueError(
            f"{likelihood.name}: averages over random effects need law='normal'; use random='mode' or random='zero'"
        )
    where, log_w = grid(POINTS.get(marginal.q, 3), marginal.q)
    weights = np.exp(log_w - 0.5 * (where**2).sum(axis=1))
    weights = weights / weights.sum()

    def averaged(params: Params, data: Data) -> Device:
        def at(z: PyTree) -> Device:
            given = {**params, **{name: v[None] for name, v in marginal.values(params, z)[0].items()}}
            return function(marginal.seen(given), data)

        return jnp.tensordot(jnp.asarray(weights), jax.vmap(at)(jnp.asarray(where)), axes=1)

    return averaged


def _over_classes(function: Callable[[Any, Any], Any], mixture: Mixture) -> Callable[[Any, Any], Any]:
    """Return a function of params and rows that averages ``function`` of params, class and rows over the class
    probabilities of each row; for a hidden Markov chain it calls ``function``, with a ValueError if that reads the state.
    """

    def alone(params: Params, data: Data) -> Device:
        try:
            return function(params, data)
        except KeyError as error:
            if error.args[:1] != (mixture.name,):
                raise
            raise ValueError(
                f"{mixture.__name__}: the distribution of {mixture.name} changes from row to row, so that functions of it "
                "cannot be averaged; use a function without it, or the state probabilities in res.latent()"
            ) from error

    if isinstance(mixture.latent, Markov):
        return alone

    def averaged(params: Params, data: Data) -> Device:
        values = jax.vmap(lambda k: function({**params, mixture.name: k[None]}, data))(jnp.arange(mixture.latent.n))
        p = params[mixture.latent.names(mixture.name)["probs"]]
        return jnp.einsum("nk,kn...->n...", p, values) if p.ndim == 2 else jnp.tensordot(p, values, axes=1)

    return averaged


def _variance_of_means(mean: Callable[..., Any], fit: Fit, cov: CovarianceResult) -> Host | float:
    """Return the delta-method variance of the conditional means that is due to the estimates, in the shape of the means; NaN
    if there is no covariance.

    ``mean``: function from u to the means.
    """
    steps = differences(fit, cov)
    if steps is None:
        return np.nan
    return sum(((mean(fit.u + step) - mean(fit.u - step)) / (2.0 * STEP)) ** 2 for step in steps)


def differences(fit: Fit, cov: CovarianceResult) -> Float[Host, "m p"] | None:
    """Return steps of u from the estimate (m, p), such that the sum of squared central differences of a function, each divided by
    2e-4, is its delta-method variance; None if there is no covariance.

    They go along the eigenvectors of the covariance.  Parameters without a covariance (at a bound) are taken as known.
    """
    full = np.asarray(cov.full)
    if fit.jacobian is None or not np.isfinite(full).any():
        return None
    to_u = np.linalg.pinv(fit.jacobian)
    values, vectors = np.linalg.eigh(to_u @ np.nan_to_num(full) @ to_u.T)  # what is on a bound stays there
    positive = values > 0.0
    return STEP * (np.sqrt(values[positive]) * vectors[:, positive]).T
