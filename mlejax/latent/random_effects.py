"""Random effects in formulas: ``regress(mu=mle.Linear("treat * visit", random="1 + visit | patient"))``.

The linear predictor of a row is x'beta + offset + z'b, with a normal vector b of mean 0 for each patient and z the columns of the
random part.  The vectors b become a latent variable, their standard deviations or the Cholesky factor of their covariance a
parameter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp

from mlejax import likelihood as likelihood_room
from mlejax.data.formulas import terms_of
from mlejax.execution import cached
from mlejax.execution.trace import rows_apart
from mlejax.latent.by_predictors import by_predictors
from mlejax.latent.discrete.mixture import mixture_of
from mlejax.latent.marginal import marginal_likelihood, marginal_of
from mlejax.latent.variable import Latent
from mlejax.likelihood import Likelihood
from mlejax.parameters import Cholesky, Linear, NonNegative, Predictor, RandomPart, predictor
from mlejax.shapes import Data, Params


@dataclass(frozen=True, eq=False)
class WithRandom:
    """The user's function of rows, with random effects added to the linear predictors of some parameters.

    Attributes:
        base: the likelihood without random effects.
        predictors: predictors of the parameters with random effects.
    """

    base: Likelihood
    predictors: tuple[Predictor, ...]

    @property
    def function(self) -> Callable[[Any, Any], jax.Array]:
        """The user's function."""
        return self.base.written

    @property
    def __name__(self) -> str:
        return self.base.name

    def __call__(self, params: Params, data: Data) -> jax.Array:
        """Return the user's function of ``data`` and of params with the random effects added (:meth:`given`)."""
        return self.function(self.given(params), data)

    def of_unit(self, params: Params, effects: Params, data: Data) -> jax.Array:
        """Return the same as `__call__` for rows that share random effects, with rules for the derivatives by the linear
        predictors.

        ``effects``: dict from the names of latent variables to their vectors (q,); other arguments as for `__call__`.
        """
        given = [p for p in self.predictors if jnp.ndim(params[p.name]) == 2]  # others have no covariates
        names = tuple(p.name for p in given)
        etas = [self._predictor(p, params, effects, jnp.matmul) for p in given]
        rest = {name: value for name, value in params.items() if name in self.own and name not in names}
        others, key = (rest, data), tuple((jnp.shape(a), str(jnp.result_type(a))) for a in jax.tree.leaves((rest, data)))
        rows = cached(self, ("of predictors", names), lambda: self._of_predictors(given))
        apart = cached(self, ("rows apart", names, key), lambda: _rows_apart(rows, etas, others))
        if not apart:  # a row may use the predictors of others
            return rows(etas, others)
        return cached(self, ("by predictors", names), lambda: by_predictors(rows, len(given)))(etas, others)

    def terms(
        self, params: Params, effects: Params, common: tuple[str, ...], data: Data
    ) -> Callable[[Any, Any, Any], jax.Array] | None:
        """Return the user's function of the m rows of a unit, rewritten to take (linear predictor (m,), common parameters (r,),
        data).

        None unless one parameter has random effects, all others are in ``common``, and it is proved that the value of each row
        depends on that row alone.  ``common``: names of parameters with the same value in all rows; the r numbers are their
        entries in this order.  Of the other arguments, those of :meth:`of_unit`, only shapes and types are used.
        """
        if len(self.predictors) != 1 or self.own != {self.predictors[0].name, *common}:
            return None
        shapes = {name: jnp.shape(params[name]) for name in common}
        if not all(jnp.issubdtype(jnp.result_type(params[name]), jnp.floating) for name in common):
            return None
        p, others = self.predictors[0], ({name: params[name] for name in common}, data)
        eta = self._predictor(p, params, effects, jnp.matmul)
        key = tuple((jnp.shape(a), str(jnp.result_type(a))) for a in jax.tree.leaves(others))
        rows = cached(self, ("of predictors", (p.name,)), lambda: self._of_predictors([p]))
        if not cached(self, ("rows apart", (p.name,), key), lambda: _rows_apart(rows, [eta], others)):
            return None

        def of_row(eta: Any, shared: Any, data: Any) -> jax.Array:
            values, first = {}, 0
            for name, shape in shapes.items():
                size = math.prod(shape)
                values[name] = jnp.reshape(shared[first : first + size], shape)
                first += size
            return rows([eta], (values, data))

        return of_row

    def _of_predictors(self, given: list[Predictor]) -> Callable[[list[Any], Any], jax.Array]:
        """Return the user's function of rows, rewritten to take (predictors of ``given``, (other parameters, data))."""

        def rows(etas: list[Any], others: Any) -> jax.Array:
            values, columns = others
            natural = {p.name: p.link.inverse(eta) for p, eta in zip(given, etas, strict=True)}
            return self.function({**values, **natural}, columns)

        return rows

    @cached_property
    def own(self) -> frozenset[str]:
        """Names of the parameters and latent variables that the user's function takes."""
        marginal = marginal_of(self.base)
        return frozenset({**(self.base.parameters or {}), **(marginal.latents if marginal else {})})

    def given(self, params: Params) -> dict[str, Any]:
        """Return params as the user's functions get them: the inverse link of linear predictor plus random effects.

        ``params``: a parameter with random effects is an array (n, 1 + q) of the linear predictor and the columns that multiply
        the effects, whose values for each row are entries of ``params`` under the names of the latent variables; other
        parameters are unchanged.
        """
        product = lambda columns, effects: jnp.sum(columns * effects, axis=-1)
        given = [p for p in self.predictors if jnp.ndim(params[p.name]) == 2]  # others have no covariates
        return {**params, **{p.name: p.link.inverse(self._predictor(p, params, params, product)) for p in given}}

    def _predictor(self, p: Predictor, params: Params, effects: Params, product: Callable[[Any, Any], Any]) -> Any:
        eta, columns, first = params[p.name][:, 0], params[p.name][:, 1:], 0
        for part in p.random:
            total = sum(effects[name] for name in latent_names(p, part))
            q = total.shape[-1]
            eta = eta + product(columns[:, first : first + q], total)
            first += q
        return eta


def _rows_apart(function: Callable[[list[Any], Any], jax.Array], etas: list[Any], others: Any) -> bool:
    """Return True if entry i of ``function(etas, others)`` provably uses entry i of the predictors and row i of the data only."""
    if not etas:
        return False
    leaves, tree = jax.tree.flatten((etas, others))
    abstract = [jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a)) for a in leaves]
    by_row = [a.shape[:1] == jnp.shape(etas[0]) for a in abstract]
    inexact = [jnp.issubdtype(a.dtype, jnp.inexact) for a in abstract]
    columns = [a for a, row in zip(abstract, by_row, strict=True) if row]

    def of_parts(params: list[Any], rows: list[Any], shared: list[Any]) -> jax.Array:
        parts = {True: iter(params), False: iter(shared)}
        given = iter(rows)
        whole = [next(given) if row else next(parts[bool(real)]) for row, real in zip(by_row, inexact, strict=True)]
        return function(*jax.tree.unflatten(tree, whole))

    alone = [(a, real) for a, row, real in zip(abstract, by_row, inexact, strict=True) if not row]
    kinds = {k: [a for a, real in alone if real == k] for k in (True, False)}
    sized = lambda n: [jax.ShapeDtypeStruct((n, *a.shape[1:]), a.dtype) for a in columns]
    return rows_apart(of_parts, kinds[True], sized, kinds[False])


def latent_names(p: Predictor, part: RandomPart) -> dict[str, tuple[str, ...]]:
    """Return the names of the latent variables of a part of the random effects and their columns: ``mu|patient``; for nested
    effects ``mu|school`` and ``mu|school:class``.
    """
    return {f"{p.name}|{':'.join(factor)}": factor for factor in part.by}


def spread_name(part: RandomPart, latent: str, q: int) -> str:
    """Return the name of the parameter of spread of ``latent``: ``sd(mu|patient)``, or ``chol(mu|patient)`` if its q effects are
    correlated and q > 1.
    """
    return f"{'chol' if q > 1 and part.correlated else 'sd'}({latent})"


def regressed(likelihood: Likelihood, given: Mapping[str, str | Linear]) -> Likelihood:
    """Return the likelihood with formulas for these parameters, in addition to those that have formulas already.

    Raises:
        ValueError, TypeError: as :func:`mlejax.likelihood.forms.regressed`, or random effects are not supported for the model.
    """
    base = without_random(likelihood)
    found = {p.name: p.linear for p in likelihood.predictors} | dict(given)
    random = {
        name: linear for name, linear in found.items() if isinstance(linear, Linear) and linear.random is not None
    }
    if not random or base.parameters is None or not set(found) <= set(base.parameters):
        return likelihood_room.regressed(base, found)
    key = ("random", tuple(random.items()))
    return likelihood_room.regressed(cached(base, key, lambda: _with_random(base, random)), found)


def without_random(likelihood: Likelihood) -> Likelihood:
    """Return the likelihood without formulas and their random effects; latent variables that the model declares stay."""
    natural = likelihood.natural or likelihood
    marginal = marginal_of(natural)
    inner = None if marginal is None else marginal.function
    return inner.base if isinstance(inner, WithRandom) else natural


def _with_random(base: Likelihood, random: Mapping[str, Linear]) -> Likelihood:
    """Return the likelihood ``base`` with random effects of these parameters as latent variables, by name of the parameter.

    Raises:
        ValueError: together with effects of ``mle.Real(by=...)`` or a latent class, or for a parameter that is not a scalar.
    """
    assert base.parameters is not None
    parameters, predictors, marginal = dict(base.parameters), [], marginal_of(base)
    latents = {} if marginal is None else dict(marginal.latents)
    for name, linear in random.items():
        p = predictor(name, base.parameters, linear)
        call = f"regress({name}=mle.Linear({linear.formula!r}, random={linear.random!r}))"
        if base.effects:
            raise ValueError(
                f"{call}: effects of mle.Real(by=...) together with random effects are not supported; leave out "
                f"{base.effects[0].parameter}, or random="
            )
        if mixture_of(base) is not None:
            raise ValueError(f"{call}: random effects together with a latent class are not supported; leave one out")
        if not p.scalar:
            raise ValueError(
                f"{call}: random effects are supported for scalar parameters only, and {name} is {p.parameter!r}; declare "
                "u=mle.Latent(by=...) in the model and add params['u'] inside the function"
            )
        for part in p.random:
            terms = terms_of(part.formula, call)
            q = len(terms)
            for latent, factor in latent_names(p, part).items():
                spread = spread_name(part, latent, q)
                latents[latent] = Latent(q, by=factor if len(factor) > 1 else factor[0], cov=spread, labels=terms)
                parameters[spread] = (Cholesky if spread.startswith("chol") else NonNegative)(shape=q, labels=terms)
        predictors.append(p)
    function = WithRandom(base, tuple(predictors))
    made = marginal_likelihood(function, parameters, latents, base.rowwise, None if base.joint else base.unit)
    return replace(made, companions=base.companions)
