"""The likelihood with regressed parameters: coefficients and designs in, the values that the user's function sees out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax

from mlejax import data as data_room
from mlejax.execution import cached
from mlejax.likelihood.declaration import Likelihood
from mlejax.likelihood.forms.natural_values import natural_values
from mlejax.parameters import Predictor, near, predictor
from mlejax.portable import portable, restore
from mlejax.shapes import Data, PyTree, Reduced


@dataclass(frozen=True, eq=False)
class Regressed:
    """The user's function of coefficients: it sees the values of the regressed parameters, row by row.

    Attributes:
        function: the user's own.
        predictors: of the regressed parameters.
    """

    function: Callable[[Any, Any], jax.Array]
    predictors: tuple[Predictor, ...]

    def __reduce__(self) -> Reduced:
        return _regressed_again, (portable(self.function), self.predictors)

    @property
    def __name__(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    @property
    def effects(self) -> tuple[data_room.EffectKey, ...]:
        """The effects by index of the function."""
        return getattr(self.function, "effects", ())

    @property
    def coded(self) -> tuple[data_room.EffectKey, ...]:
        """Those of them that have coefficients."""
        return getattr(self.function, "coded", ())

    @property
    def per_unit(self) -> tuple[str, ...]:
        """Columns of which the function of a unit gets one value."""
        return getattr(self.function, "per_unit", ())

    def __call__(self, params: PyTree, data: Data) -> jax.Array:
        """``function(params, data)`` with the designs taken out of ``data`` and put into ``params``."""
        return self.function(*natural_values(self.predictors, params, data))


def _regressed_again(function: Any, predictors: tuple[Predictor, ...]) -> Regressed:
    return Regressed(restore(function), predictors)


def regressed(likelihood: Likelihood, given: Mapping[str, Any]) -> Likelihood:
    """The likelihood with these parameters regressed, beside those that are already.

    Raises:
        ValueError, TypeError: nothing to regress, no such parameter, a formula or link that does not fit.
    """
    declared = likelihood.parameters
    if declared is None:
        raise ValueError(f"{likelihood.name} declares no parameters, so there is nothing to regress")
    if not given:
        raise ValueError(f"regress() expected parameters with formulas, {next(iter(declared))}='age + C(region)'")
    for name in given:
        if name not in declared:
            raise ValueError(
                f"regress({name}=...): {likelihood.name} has no parameter {name!r}{near(name, list(declared))}; the "
                f"parameters are {', '.join(declared)}"
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
