"""The marginal log-likelihood of a unit: the joint one with its latent variables integrated out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mlejax import transforms
from mlejax.data import DesignKey, levels_key
from mlejax.execution import cached
from mlejax.latent.crossed import LEVELS, THERE, OfRows, Structure, log_laplace
from mlejax.latent.integral import grid, log_integral
from mlejax.latent.mode import Integrand, curve, find
from mlejax.latent.second_order import MOST_COMMON, SecondOrder, Unit
from mlejax.latent.simulation import POINTS, Draws, Simulated, Sobol, log_mean
from mlejax.latent.variable import (
    DEFAULT,
    LAPLACE,
    MOST_DIMENSIONS,
    Latent,
    Quadrature,
    check_latents,
    factors_of,
    unit_of,
)
from mlejax.likelihood import Joint, Likelihood, LikelihoodError, Regressed, natural_values, regressed
from mlejax.linalg import entrywise
from mlejax.parameters import Declaration, Predictor
from mlejax.portable import reduced
from mlejax.shapes import Data, Device, Params, PyTree, Reduced

HIDDEN = ("mask", POINTS, LEVELS, THERE)  # columns that the user's function does not get
_LOG_2_PI = float(np.log(2.0 * np.pi))


@dataclass(frozen=True, eq=False)
class Marginal:
    """The log-likelihood of one unit with latent variables integrated out: ``f(params, data)`` of its padded rows -> ().

    Attributes:
        function: the user's function of rows, given the latent variables.
        latents: declarations of the latent variables, by name.
        factored: names of the latent variables whose covariance parameter is a Cholesky factor.
        how: the quadrature, or a mean over simulated points in the data.
        factors: columns of each grouping factor; several factors if latent variables are nested or crossed.
    """

    function: Callable[[Any, Any], Any]
    latents: Mapping[str, Latent]
    factored: frozenset[str]
    how: Quadrature | Simulated
    factors: tuple[tuple[str, ...], ...]

    def __reduce__(self) -> Reduced:
        return reduced(self, "function")

    @property
    def __name__(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    @property
    def q(self) -> int:
        """The number of latent variables of a unit (of a row, if they are nested or crossed), entries of vectors counted
        singly.
        """
        return sum(v.size for v in self.latents.values())

    @property
    def crossed(self) -> bool:
        """True if latent variables belong to several grouping factors."""
        return len(self.factors) > 1

    def __call__(self, params: Params, data: Data) -> Device:
        """Return the log-likelihood of the unit (); NaN where the integrand has no maximum (not for a mean over points).

        Raises:
            LikelihoodError: the user's function does not return one value per row.
        """
        if self.crossed:
            fixed = jax.tree.map(lax.stop_gradient, params)
            return log_laplace(self.of_rows(params, data), self.of_rows(fixed, data), self.structure(data))
        if isinstance(self.how, Simulated):
            return log_mean(self.joint(params, data), data[POINTS])[0]
        stopped = jax.tree.map(lax.stop_gradient, params)
        return log_integral(self.joint(params, data), self.joint(stopped, data), self.q, self.how)

    def structure(self, data: Data) -> Structure:
        """Return the levels of the rows of a unit, for a model whose latent variables are nested or crossed."""
        widths = [sum(v.size for v in self.latents.values() if v.factor == factor) for factor in self.factors]
        return Structure(data[LEVELS], tuple(flags.shape[0] for flags in data[THERE]), tuple(widths))

    def of_rows(self, params: Params, data: Data) -> OfRows:
        """Return the log density of each row of a unit (m,), 0 in the padding, as a function of standardised latent variables
        (m, q).
        """
        mask = data["mask"]
        rows = {key: value for key, value in data.items() if key not in HIDDEN}

        def log_densities(z: PyTree) -> Device:
            by_row = jax.vmap(lambda one: self.values(params, one)[0])(z)
            return jnp.where(mask, self._checked(self.function({**params, **by_row}, rows), mask.shape), 0.0)

        return log_densities

    def _checked(self, out: Device, shape: tuple[int, ...]) -> Device:
        """Return the values of the user's function; LikelihoodError if they are not of this shape, one for each row."""
        out = jnp.asarray(out)
        if out.shape != shape:
            raise LikelihoodError(
                f"{self.__name__} returns shape {out.shape}, but a model with latent variables must return one log-likelihood "
                f"value per row, here {shape}: given the latents, rows are independent"
            )
        return out

    def joint(self, params: Params, data: Data) -> Callable[[Any], Any]:
        """Return the log density of the unit's rows and of its standardised latent variables z (q,), as a function of z."""
        mask = data["mask"]
        rows = {key: value for key, value in data.items() if key not in HIDDEN}

        def log_density(z: PyTree) -> Device:
            values, law = self.values(params, z)
            given = {**params, **{name: jnp.broadcast_to(v, (*mask.shape, *v.shape)) for name, v in values.items()}}
            own = getattr(self.function, "of_unit", None)  # of random effects in formulas
            out = self._checked(self.function(given, rows) if own is None else own(given, values, rows), mask.shape)
            return jnp.sum(jnp.where(mask, out, 0.0)) + law

        return log_density

    def nodes(self, f: Integrand, data: Data) -> tuple[Any, Any]:
        """Return points (m, q) at which the integral of exp f over the latent variables of a unit is evaluated, and their log
        weights (m,), up to a constant.
        """
        if isinstance(self.how, Simulated):
            return data[POINTS][:, :-1], data[POINTS][:, -1]
        where, log_w = grid(self.how.points, self.q)
        z = find(f, jnp.zeros(self.q)).z
        factor = entrywise.cholesky(curve(f, z).curvature)
        return jax.vmap(lambda t: z + jnp.stack(entrywise.solve_upper(factor, t)))(jnp.asarray(where)), log_w

    def second_order(self, predictors: Sequence[Predictor], params: Params, data: Data) -> SecondOrder | None:
        """Return how the log-likelihood of units and its first two derivatives are computed from derivatives of the rows by their
        linear predictor; None if this is not known for the model.

        Args:
            predictors: the parameters with formulas.
            params: parameters in the user's structure, coefficients of the formulas included.
            data: of a unit, designs included; only shapes and types are used.
        """
        terms = getattr(self.function, "terms", None)
        if self.crossed or not isinstance(self.how, Quadrature) or terms is None or len(self.latents) != 1:
            return None
        (name, latent), (p, *others) = *self.latents.items(), predictors
        values, own = natural_values(predictors, params, data)
        if others or levels_key(data, p.name) is not None:
            return None
        common = tuple(name for name in params if name not in (p.name, latent.cov))
        if sum(jnp.size(params[name]) for name in common) > MOST_COMMON:
            return None
        rows = {key: value for key, value in own.items() if key not in HIDDEN}
        found = terms(values, {name: jnp.zeros(latent.shape)}, common, rows)
        if found is None or self.values(params, jnp.zeros(self.q))[0][name].shape != (self.q,):
            return None
        return SecondOrder(found, self.how, p.name, str(latent.cov), common, partial(self._unit, predictors))

    def _unit(self, predictors: Sequence[Predictor], params: Params, data: Data) -> Unit:
        """Return the rows of a unit as a `Unit`: linear predictors without random effects, their derivatives by the coefficients,
        and the columns of the effects; ``data``: of the unit, designs included.
        """
        name = predictors[0].name
        values, own = natural_values(predictors, params, data)
        rows = {key: value for key, value in own.items() if key not in HIDDEN}
        design = data[DesignKey(name, "design", "array")]
        return Unit(values[name][:, 0], design, values[name][:, 1:], own["mask"], rows)

    def covariance(self, name: str, params: Params) -> Device:
        """Return the covariance at some params of the normal latent variable called ``name``, (q, q) for its q entries."""
        first = 0
        for other, latent in self.latents.items():
            if other == name:
                break
            first += latent.size
        factor = jax.jacfwd(lambda z: self.values(params, z)[0][name])(jnp.zeros(self.q))
        factor = factor[:, first : first + latent.size]
        return factor @ factor.T

    def seen(self, params: Params) -> Params:
        """Return params, which contain row-wise latent variables, as the user's functions get them: a parameter with random
        effects in its formula has its natural values, one for each row; others are unchanged.
        """
        return getattr(self.function, "given", lambda same: same)(params)

    def stacked(self, params: Params, z: PyTree) -> Device:
        """Return the latent variables of a unit at standardised z (q,), as the user's function reads them, in one vector (q,)."""
        return jnp.concatenate([jnp.reshape(v, (-1,)) for v in self.values(params, z)[0].values()])

    def values(self, params: Params, z: Any) -> tuple[dict[str, Any], Any]:
        """Return the latent variables of a unit by name, each of its declared shape, and their log density () at z (q,).

        z has the entries of all variables before a covariance parameter is applied: standard normal, or of a law of their own.
        A variable with ``law=None`` adds nothing to the density.
        """
        out, law, first = {}, jnp.zeros(()), 0
        for name, latent in self.latents.items():
            part = z[first : first + latent.size]
            first += latent.size
            value = jnp.reshape(part, latent.shape)
            if latent.law == "normal":
                law = law - 0.5 * jnp.dot(part, part) - 0.5 * latent.size * _LOG_2_PI
            elif callable(latent.law):
                law = law + latent.law(value, params)
            if latent.cov is not None:
                spread = params[latent.cov]
                if spread.ndim == 1:
                    value = spread * part
                else:
                    factor = entrywise.rows_of(spread) if name in self.factored else entrywise.cholesky(spread)
                    value = entrywise.multiply(factor, part)
            out[name] = value
        return out, law


def marginal_likelihood(
    function: Callable[[Any, Any], Any],
    parameters: Mapping[str, Declaration],
    latents: Mapping[str, Latent],
    rowwise: bool,
    unit: str | None,
) -> Likelihood:
    """Return the likelihood of a model with latent variables; its terms are the levels of their column.

    If they are nested, the levels of the outermost column; if crossed, groups of rows that share no level.

    Args:
        function: the user's function of rows.
        parameters: declarations of the parameters, by name.
        latents: declarations of the latent variables, by name.
        rowwise, unit: as the user gave them; only the defaults are valid.

    Raises:
        ValueError: the model cannot have these latent variables.
    """
    check_latents(latents, parameters, rowwise, unit)
    factors = factors_of(latents)
    latents = {name: v for factor in factors for name, v in latents.items() if v.factor == factor}
    factored = frozenset(
        name
        for name, latent in latents.items()
        if isinstance(getattr(parameters.get(str(latent.cov)), "transform", None), transforms.Cholesky)
    )
    marginal = Marginal(function, latents, factored, LAPLACE, factors)
    if not marginal.crossed:
        marginal = replace(marginal, how=DEFAULT.get(marginal.q, LAPLACE))
    shapes = {name: latent.shape for name, latent in latents.items()}
    several = factors if marginal.crossed or len(factors[0]) > 1 else ()
    joint = Joint(function, shapes, marginal.how.points**marginal.q, factors=several)
    return Likelihood(marginal, parameters, True, unit_of(latents), joint=joint)


def marginal_of(likelihood: Likelihood) -> Marginal | None:
    """Return the `Marginal` of a likelihood; None if it has no continuous latent variables."""
    function = likelihood.function
    if isinstance(function, Regressed):
        function = function.function
    return function if isinstance(function, Marginal) else None


def marginal_in(likelihood: Likelihood) -> Marginal:
    """Return the `Marginal` of a likelihood, which must have continuous latent variables."""
    found = marginal_of(likelihood)
    assert found is not None
    return found


def integrated(likelihood: Likelihood, how: Quadrature | Simulated) -> Likelihood:
    """Return the likelihood, which has a `Marginal`, with the method of integration ``how``; the same object for the same
    method.
    """
    marginal = marginal_in(likelihood)
    if how == marginal.how:
        return likelihood
    if likelihood.natural is not None:
        natural = integrated(likelihood.natural, how)
        return regressed(natural, {p.name: p.linear for p in likelihood.predictors})
    assert likelihood.joint is not None
    evaluations = how.points if isinstance(how, Simulated) else how.points**marginal.q
    joint = replace(likelihood.joint, evaluations=evaluations)
    make = lambda: replace(likelihood, function=replace(marginal, how=how), joint=joint)
    return cached(likelihood, ("integrated", how), make)


def way_of(likelihood: Likelihood, integrate: object) -> Quadrature | Sobol | Draws | None:
    """Return the method of integration that ``integrate=`` stands for; None if the number of quadrature points is to be chosen
    (``"auto"`` with up to three latent variables per unit), or if the model has no continuous latent variables.

    ``"auto"`` is Laplace's approximation for more than three, and for nested or crossed ones.

    Raises:
        ValueError, TypeError: ``integrate`` is not an option, or is not supported for these latent variables.
    """
    marginal = marginal_of(likelihood)
    if marginal is None:
        if not (isinstance(integrate, str) and integrate == "auto"):
            raise ValueError(
                f"integrate={integrate!r} is for models with an mle.Latent, and {likelihood.name} has none: leave integrate= out"
            )
        return None
    if marginal.crossed and not (isinstance(integrate, str) and integrate in ("auto", "laplace")) and integrate != LAPLACE:
        raise ValueError(
            f"integrate={integrate!r} is not supported for nested or crossed latents (of {likelihood.unit}), which are "
            "integrated "
            "out by Laplace's approximation; leave out integrate="
        )
    if isinstance(integrate, str) and integrate in ("auto", "laplace"):
        if marginal.crossed:
            return LAPLACE
        return None if integrate == "auto" and marginal.q <= MOST_DIMENSIONS else LAPLACE
    if isinstance(integrate, Draws):
        _check_draws(marginal, integrate)
    elif not isinstance(integrate, (Quadrature, Sobol)):
        raise TypeError(
            f"integrate= expected 'auto', 'laplace', mle.Quadrature(points), mle.Sobol(draws) or mle.Draws(z), got {integrate!r}"
        )
    elif isinstance(integrate, Quadrature) and marginal.q > MOST_DIMENSIONS and integrate.points > 1:
        raise ValueError(
            f"integrate={integrate!r}: quadrature supports up to {MOST_DIMENSIONS} latent variables per unit, and "
            f"{likelihood.name} has {marginal.q}; use integrate='laplace' or mle.Sobol(1000)"
        )
    return integrate


def quadrature_of(likelihood: Likelihood, integrate: object) -> Quadrature | None:
    """Return the method of integration for many data sets at once, which do not support simulation.

    None if the default number of quadrature points is used (``"auto"`` with up to three latent variables per unit), or if the
    model has no continuous latent variables.

    Raises:
        ValueError, TypeError: as :func:`way_of`, or ``integrate`` is a simulation.
    """
    how = way_of(likelihood, integrate)
    if isinstance(how, (Sobol, Draws)):
        raise ValueError(
            f"integrate={how!r} is not supported for many data sets at once; loop over them with fit, or use 'laplace'"
        )
    return how


def _check_draws(marginal: Marginal, draws: Draws) -> None:
    """Raise ValueError for draws of another number of latent variables, or for latent variables that are not normal."""
    if draws.values.shape[2] != marginal.q:
        raise ValueError(
            f"integrate={draws!r}: expected {marginal.q} numbers in each draw, one for each latent variable of a unit "
            f"({', '.join(marginal.latents)}), got {draws.values.shape[2]}"
        )
    other = [name for name, latent in marginal.latents.items() if latent.law != "normal"]
    if other:
        raise ValueError(
            f"integrate={draws!r}: draws are standard normal, but {other[0]} has a density of your own; use mle.Sobol(1000)"
        )
