"""The likelihood with formulas: coefficients and designs are converted to the parameter values that the user's function
takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import jax

from mlejax import data as data_room
from mlejax.execution import cached
from mlejax.likelihood.declaration import Likelihood
from mlejax.likelihood.forms.natural_values import natural_values
from mlejax.parameters import Linear, Predictor, near, predictor
from mlejax.portable import reduced
from mlejax.shapes import Data, PyTree, Reduced


@dataclass(frozen=True, eq=False)
class Regressed:
    """The user's function as a function of coefficients; it gets the row values of the parameters with a formula.

    Attributes:
        function: the user's function.
        predictors: predictors of the parameters with a formula.
    """

    function: Callable[[Any, Any], jax.Array]
    predictors: tuple[Predictor, ...]

    def __reduce__(self) -> Reduced:
        return reduced(self, "function")

    @property
    def __name__(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    @property
    def effects(self) -> tuple[data_room.EffectKey, ...]:
        """Keys of the effects of ``mle.Real(by=...)`` that are eliminated."""
        return getattr(self.function, "effects", ())

    @property
    def coded(self) -> tuple[data_room.EffectKey, ...]:
        """Keys of the effects of ``mle.Real(by=...)`` that are not eliminated: their coefficients are parameters."""
        return getattr(self.function, "coded", ())

    @property
    def per_unit(self) -> tuple[str, ...]:
        """Columns of which the function of a unit gets a single value."""
        return getattr(self.function, "per_unit", ())

    def __call__(self, params: PyTree, data: Data) -> jax.Array:
        """Return ``function(params, data)``, with the designs removed from ``data`` and the row values put into ``params``."""
        return self.function(*natural_values(self.predictors, params, data))


def regressed(likelihood: Likelihood, given: Mapping[str, Any]) -> Likelihood:
    """Return the likelihood with formulas for these parameters, in addition to those that have formulas already.

    Raises:
        ValueError, TypeError: no formula is given, a parameter does not exist, or a formula or link is not valid for it.
    """
    declared = likelihood.parameters
    if declared is None:
        raise ValueError(
            f"regress() needs declared parameters, but {likelihood.name} declares none: write @mle.model(mu=mle.Real(), ...)"
        )
    if not given:
        raise ValueError(
            f"regress() expected a formula for at least one parameter, {next(iter(declared))}='age + C(region)', got none"
        )
    for name in given:
        if name not in declared:
            of_linear = name in {option.name for option in fields(Linear)}
            write = f"; write {next(iter(declared))}=mle.Linear('x', {name}=...)" if of_linear else ""
            raise ValueError(
                f"regress({name}=...): {likelihood.name} has no parameter {name!r}{near(name, list(declared))}; the "
                f"parameters are {', '.join(declared)}{write}"
            )
    found = {p.name: p for p in likelihood.predictors} | {n: predictor(n, declared, g) for n, g in given.items()}
    for name, p in found.items():
        found[name] = replace(p, linear=replace(p.linear, formula=data_room.check_formula(p.linear.formula, name)))
    predictors = tuple(found[name] for name in declared if name in found)
    natural = likelihood.natural or likelihood
    # the same regressions give the same object, so that a model regressed anew is not compiled anew
    key = ("regressed", tuple((p.name, p.linear) for p in predictors))
    function = Regressed(natural.function, predictors)
    return cached(
        natural,
        key,
        lambda: replace(natural, function=function, natural=natural, predictors=predictors, companions={}),
    )
