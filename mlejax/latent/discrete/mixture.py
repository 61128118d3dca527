r"""The log-likelihood of a row or a unit, summed over its latent class, and the expectations that the EM algorithm needs.

The log-likelihood is a convex function L(a) of log densities and log probabilities a = a(theta):

    L(a) = log sum_k exp(a_k),    a_k = log p_k + sum_j log f(y_j | k).

Its gradient in a is the probability of each class given the data (Fisher's identity), and by convexity

    L(a(theta)) - L(a(theta_0))  >=  < dL(a(theta_0)), a(theta) - a(theta_0) >,

whose right side the M step of EM maximises (Dempster, Laird & Rubin 1977).  It is computed from p_k, which may be 0, not from
log p_k.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mlejax import data as data_room
from mlejax.execution import cached, compiled
from mlejax.latent.discrete.chains import Chain, forward, log_total, stationary
from mlejax.latent.discrete.classes import ClassLike, Markov, check_classes
from mlejax.latent.marginal import marginal_of
from mlejax.latent.variable import Latent
from mlejax.likelihood import EVERY_ROW, Joint, Likelihood, LikelihoodError, Regressed, natural_values
from mlejax.parameters import Declaration
from mlejax.portable import reduced
from mlejax.shapes import Count, Data, Device, Either, PyTree, Reduced

if TYPE_CHECKING:
    from mlejax.objective import Spec

POSTERIOR = ("mlejax", "posterior")  # key of the column of class probabilities that the M step reads


class Classes(NamedTuple):
    """The parts of the likelihood of rows (n, k), or of one unit (k,): log density in each class, and class probabilities."""

    rows: Either
    p: Either


@dataclass(frozen=True, eq=False)
class Mixture:
    """The log-likelihood summed over the latent class: ``f(params, data)`` -> (n,) for rows, () for the rows of one unit.

    Attributes:
        function: the user's function of rows, given their classes.
        name: name of the class among ``params``.
        latent: declaration of the class.
    """

    function: Callable[[Any, Any], Any]
    name: str
    latent: ClassLike

    def __reduce__(self) -> Reduced:
        return reduced(self, "function")

    @property
    def __name__(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    def __call__(self, params: PyTree, data: Data) -> Device:
        """Return the log-likelihood of each row (n,); () if the class has ``by=`` and ``data`` are the rows of one unit. Errors
        as in :meth:`terms`.
        """
        return self.summed(self.terms(params, data), data)

    def terms(self, params: PyTree, data: Data) -> PyTree:
        """Return log densities and probabilities of the classes, (n, k) each for rows, (k,) for a unit; for a chain a
        `Chain`.

        Raises:
            LikelihoodError: the user's function does not return one value per row, or the transitions of a stationary chain vary
                with covariates.
        """
        density, names = self.densities(params, data), self.latent.names(self.name)
        if isinstance(self.latent, Markov):
            return self._chain(density, {what: params[name] for what, name in names.items()})
        p = params[names["probs"]]
        if self.latent.by is None:
            return Classes(density, jnp.broadcast_to(p, density.shape))
        return Classes(jnp.sum(density, axis=0), p[0] if p.ndim == 2 else p)

    def _chain(self, density: Device, law: Mapping[str, Any]) -> Chain:
        """Return the parts of the likelihood of a series, from log densities (T, k) and the parameters ``law`` of the chain.

        Raises:
            LikelihoodError: the chain is stationary, and its transitions vary with covariates.
        """
        transition = law["transition"]
        if self.latent.stationary and transition.ndim == 3:  # type: ignore[union-attr]
            raise LikelihoodError(
                f"{self.__name__}: transitions that vary with covariates have no stationary distribution; declare "
                f"{self.name}=mle.Markov(..., initial='free')"
            )
        first = stationary(transition) if "initial" not in law else law["initial"]
        first = first[0] if first.ndim == 2 else first
        return Chain(density, first, transition)

    def densities(self, params: PyTree, data: Data) -> Device:
        """Return the log density of each row in each class (n, k), 0 in the padding.

        Raises:
            LikelihoodError: the user's function does not return one value per row.
        """
        key = EVERY_ROW if self.latent.by is None else "mask"
        real, rows = data[key], {name: value for name, value in data.items() if name not in (key, POSTERIOR)}

        def in_class(k: Count) -> Device:
            out = jnp.asarray(self.function({**params, self.name: jnp.broadcast_to(k, real.shape)}, rows))
            if out.shape != real.shape:
                raise LikelihoodError(
                    f"{self.__name__} returns shape {out.shape}, but a model with a class returns one log-likelihood value per "
                    f"row, here {real.shape}, given the class of each row"
                )
            return jnp.where(real, out, 0.0)

        return jax.vmap(in_class, out_axes=1)(jnp.arange(self.latent.n))

    def summed(self, terms: PyTree, data: Data) -> Device:
        """Return the log-likelihood L(a) from the result of :meth:`terms`, (n,) for rows, () for a unit."""
        return forward(terms, data["mask"]) if isinstance(terms, Chain) else log_total(*terms)

    def posterior(self, terms: PyTree, data: Data) -> PyTree:
        """Return dL(a): the probability of each class given the data, (n, k) for rows, (k,) for a unit.

        For a chain a `Chain`: the probability of each state in each row (T, k), that of each state in the first row (k,), and the
        expected numbers of transitions (k, k), or (T, k, k) if transitions vary with covariates.
        """
        found = jax.grad(lambda terms: jnp.sum(self.summed(terms, data)))(terms)
        if not isinstance(terms, Chain):
            return found.rows
        return Chain(found.rows, found.initial * terms.initial, found.transition * terms.transition)

    def likeliest(self, terms: PyTree, data: Data) -> Device:
        """Return the most probable class, (n,) or (); for a chain the most probable path of states (T,)."""
        if isinstance(terms, Chain):
            path = jax.grad(lambda rows: forward(terms._replace(rows=rows), data["mask"], jnp.max))(terms.rows)
            return jnp.argmax(path, axis=-1)
        return jnp.argmax(terms.rows + log_probability(terms.p), axis=-1)

    def shares(self, posterior: PyTree) -> Any:
        """Return the class probabilities (N, k) of N rows or units; for chains the expected number of rows in each state.

        ``posterior``: what :meth:`posterior` returns, with a leading axis N for units.
        """
        return posterior.rows.sum(axis=1) if isinstance(posterior, Chain) else posterior

    def expected(self, terms: PyTree, posterior: PyTree) -> Any:
        """Return < posterior, a >, the expected log-likelihood of data and class: (n,) for rows, () for a unit."""
        if isinstance(terms, Chain):
            logs: Any = Chain(terms.rows, log_probability(terms.initial), log_probability(terms.transition))
        else:
            logs = terms.rows + log_probability(terms.p)
        parts = jax.tree.map(lambda p, a: jnp.where(p > 0.0, p * jnp.where(p > 0.0, a, 0.0), 0.0), posterior, logs)
        over = lambda a: jnp.sum(a, axis=-1) if self.latent.by is None else jnp.sum(a)
        return sum(jax.tree.leaves(jax.tree.map(over, parts)))


def log_probability(p: Either) -> Device:
    """Return log p; -inf if p is 0, with derivative 0 there."""
    return jnp.where(p > 0.0, jnp.log(jnp.where(p > 0.0, p, 1.0)), -jnp.inf)


def mixture_likelihood(
    function: Callable[[Any, Any], Any],
    parameters: Mapping[str, Declaration],
    latents: Mapping[str, Latent | ClassLike],
    rowwise: bool,
    unit: str | None,
) -> Likelihood:
    """Return the likelihood of a model with a latent class; its terms are the rows, or the levels of the class's column.

    Args:
        function: the user's function of rows.
        parameters: declarations of the parameters, by name.
        latents: declarations of the latent variables, one class, by name.
        rowwise, unit: as the user gave them; only the defaults are valid.

    Raises:
        ValueError: the model cannot have this class.
    """
    name, latent = check_classes(latents, parameters, rowwise, unit)
    joint = Joint(function, {name: ()}, latent.n, True, getattr(latent, "time", None), chain=isinstance(latent, Markov))
    declared = {**parameters, **latent.declared(name, parameters)}
    return Likelihood(Mixture(function, name, latent), declared, True, latent.by, joint=joint)


def mixture_of(likelihood: Likelihood) -> Mixture | None:
    """Return the `Mixture` of a likelihood; None if it has no latent class."""
    function = likelihood.function
    if isinstance(function, Regressed):
        function = function.function
    return function if isinstance(function, Mixture) else None


def mixture_in(likelihood: Likelihood) -> Mixture:
    """Return the `Mixture` of a likelihood, which must have a latent class."""
    found = mixture_of(likelihood)
    assert found is not None
    return found


def latents_of(likelihood: Likelihood) -> Mapping[str, Latent | ClassLike]:
    """Return the declared latent variables of a likelihood, by name; empty if it has none."""
    marginal, mixture = marginal_of(likelihood), mixture_of(likelihood)
    return marginal.latents if marginal is not None else {} if mixture is None else {mixture.name: mixture.latent}


class Posterior(NamedTuple):
    """Class probabilities given the data, at some parameters, of N padded rows or units.

    Attributes:
        loglik: log-likelihood of each row or unit (N,).
        posterior: probabilities of the classes given the data (N, k); for chains what :meth:`Mixture.posterior` returns, each
            array with a leading axis (N, ...).
        densities: log density of each row in each class, (N, 1, k) for rows, (N, length, k) for units.
        likeliest: the most probable class (N,), or path of states (N, length).
    """

    loglik: Either
    posterior: PyTree
    densities: Either
    likeliest: Either


@partial(compiled, static=("spec",))
def posterior(spec: Spec, u: Either, data: data_room.Prepared, fixed: Either | None) -> Posterior:
    """Evaluate the `Posterior` of all rows or units, padding included, at u, for a likelihood with a class."""
    likelihood, mixture = spec.likelihood, mixture_in(spec.likelihood)
    by_row = likelihood.mode == "rows"
    params = spec.space.params_from_u(u, fixed)

    def one(row: PyTree) -> Posterior:
        own = likelihood.seen(jax.tree.map(lambda a: a[None], row) if by_row else row, data.shared, data.statics)
        values = natural_values(likelihood.predictors, params, own)
        terms, densities = mixture.terms(*values), mixture.densities(*values)
        value, known = mixture.summed(terms, values[1]), mixture.posterior(terms, values[1])
        likeliest = mixture.likeliest(terms, values[1])
        found = Posterior(value, known, densities, likeliest)
        return Posterior(value[0], known[0], densities, likeliest[0]) if by_row else found

    return lax.map(one, data.rows, batch_size=data.block)


@dataclass(frozen=True, eq=False)
class Completed:
    """The expected log-likelihood of rows and classes, with class probabilities from the column :data:`POSTERIOR`."""

    mixture: Mixture

    @property
    def __name__(self) -> str:
        return self.mixture.__name__

    def __call__(self, params: PyTree, data: Data) -> Device:
        """Return the expected log-likelihood of each row (n,), or of the unit ()."""
        return self.mixture.expected(self.mixture.terms(params, data), data[POSTERIOR])


def completed(spec: Spec) -> Spec:
    """Return the specification whose log-likelihood the M step maximises, on data of :func:`with_posterior`.

    Its likelihood is cached: the same object for the same ``spec.likelihood``, which must have a latent class.
    """
    likelihood, mixture = spec.likelihood, mixture_in(spec.likelihood)

    def make() -> Likelihood:
        whole: Completed = Completed(mixture)
        function = Regressed(whole, likelihood.predictors) if likelihood.predictors else whole
        return replace(likelihood, function=function)

    return replace(spec, likelihood=cached(likelihood, "completed", make))


def with_posterior(data: data_room.Prepared, known: PyTree) -> data_room.Prepared:
    """Return the data with class probabilities, in the form of ``Posterior.posterior``, as a further column."""
    leaves, tree = jax.tree.flatten(known)
    return replace(data, rows=(*data.rows, *leaves), statics=data.statics.with_column(POSTERIOR, tree, len(data.rows)))


def random_posterior(mixture: Mixture, data: data_room.Prepared, rows: int, rng: np.random.Generator) -> PyTree:
    """Return random class probabilities (N, k), not normalised: a few randomly chosen rows or units belong mainly to one class,
    all others equally to every class with little weight.

    Args:
        mixture: the class; for a chain the result is a `Chain`, each array with a leading axis N.
        data: the rows or units; those of weight 0 are not chosen.
        rows: how many are chosen for each class.
        rng: the random generator.
    """
    n, k = int(data.n), mixture.latent.n
    weights = np.asarray(data.weights, np.float64)
    used = np.flatnonzero(weights > 0)
    if isinstance(mixture.latent, Markov):
        return _random_chain(data, k, rows, rng)
    chosen = rng.permutation(used)[: k * rows]
    out = np.full((len(weights), k), rows / max(n, 1))
    out[chosen, np.arange(len(chosen)) % k] += weights[used].mean() / weights[chosen]
    return out


def _random_chain(data: data_room.Prepared, k: int, rows: int, rng: np.random.Generator) -> Chain:
    """Return random state probabilities of chains, as :func:`random_posterior`: ``rows`` random rows for each of k states belong
    mainly to it; transitions mostly stay in a state.
    """
    real = np.asarray(data.rows[-1]) & (np.asarray(data.weights) > 0)[:, None]
    at = np.argwhere(real)
    density = np.where(real[:, :, None], rows / len(at), 0.0) * np.ones(k)
    for i, (unit, row) in enumerate(rng.permutation(at)[: k * rows]):
        density[unit, row, i % k] += 1.0
    steps = np.maximum(real.sum(axis=1) - 1.0, 0.0)[:, None, None]
    initial = np.full((len(real), k), 1.0 / k) * real[:, :1]
    return Chain(density, initial, steps / k * (0.8 * np.eye(k) + 0.2 / k))
