"""The likelihood with effects of ``mle.Real(by=...)``: the function gets the effect of each row's level among its
parameters.

The effects of the column with the most levels are eliminated; those of a second column are coefficients among the parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax

from mlejax.data import EffectKey, View, codes_keys
from mlejax.execution import cached
from mlejax.likelihood.declaration import Likelihood
from mlejax.likelihood.forms.regressed import regressed
from mlejax.parameters import Declaration, Parameter, Real, looked_up
from mlejax.portable import reduced
from mlejax.shapes import Data, PyTree, Reduced


@dataclass(frozen=True, eq=False)
class WithEffects:
    """The user's function, called with params that contain effects (one value per row) which are passed in as columns of data.

    Attributes:
        function: the user's ``f(params, data)``.
        effects: keys in ``data`` of the effects that are eliminated: columns of their values, one per row.
        coded: keys in ``data`` of the codes of effects that are estimated as coefficients of params.
    """

    function: Callable[[Any, Any], jax.Array]
    effects: tuple[EffectKey, ...]
    coded: tuple[EffectKey, ...] = ()

    def __reduce__(self) -> Reduced:
        return reduced(self, "function")

    @property
    def __name__(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    def __call__(self, params: PyTree, data: Data) -> jax.Array:
        """Return the user's function of ``params`` with the effects of every row added, and ``data`` without their columns."""
        values = {key.parameter: data[key] for key in self.effects}
        coded = codes_keys(data.names if isinstance(data, View) else data) if self.coded else []
        values |= {key.parameter: looked_up(params[key.parameter], data[key]) for key in coded}
        hidden = {*self.effects, *coded}
        if isinstance(data, View):
            rest: Data = data.without(hidden)
        else:
            rest = {name: column for name, column in data.items() if name not in hidden}
        return self.function({**params, **values}, rest)


def declared_likelihood(
    function: Callable[[Any, Any], Any], declared: Mapping[str, Declaration] | None, rowwise: bool, unit: str | None
) -> Likelihood:
    """Return the likelihood of a function and its declarations (None or empty: the structure comes from ``start=``).

    ``rowwise``, ``unit``: as in ``mle.model``.

    Raises:
        ValueError: ``mle.Real(by=...)`` is declared in a model that is not row-wise, twice for one column, or as the only
            parameter.
    """
    effects = tuple(
        EffectKey(name, parameter.by)
        for name, parameter in (declared or {}).items()
        if isinstance(parameter, Parameter) and parameter.by is not None
    )
    if not effects:
        return Likelihood(function, declared or None, rowwise, unit)
    first = effects[0]
    declaration = f"{first.parameter}=Real(by={first.by!r})"
    if unit is not None or not rowwise:
        option = "rowwise=False" if unit is None else f"unit={unit!r}"
        raise ValueError(f"{declaration} has one value for each row and needs a row-wise model: leave out {option}")
    assert declared is not None
    if len({key.by for key in effects}) < len(effects):
        raise ValueError(f"{declaration}: expected one parameter with by= for each column, got two for the same column")
    if len(declared) == 1:
        raise ValueError(
            f"{declaration} is the only parameter: each level would be a fit of its own, which "
            f"fit_groups(data, by={first.by!r}) does"
        )
    return _eliminating(first, effects, function, declared, rowwise)


def _eliminating(
    first: EffectKey, effects: tuple[EffectKey, ...], function: Any, declared: Mapping[str, Declaration], rowwise: bool
) -> Likelihood:
    dense: dict[str, Declaration] = {}
    for name, parameter in declared.items():
        if not isinstance(parameter, Parameter) or parameter.by is None:
            dense[name] = parameter
        elif name != first.parameter:
            dense[name] = replace(parameter, shape=None)
    coded = tuple(key for key in effects if key != first)
    return Likelihood(WithEffects(function, (first,), coded), dense, rowwise, None)


def eliminating(likelihood: Likelihood, first: EffectKey) -> Likelihood:
    """Return the same likelihood, declared so that the effects of key ``first`` are maximised over level by level
    (`Eliminated`), and those of the other keys are coefficients among the parameters.

    It is returned unchanged if that is so already.
    """
    if likelihood.effects[0] == first:
        return likelihood
    natural = likelihood.natural or likelihood
    function, declared = natural.function, natural.parameters
    assert isinstance(function, WithEffects)
    assert declared is not None

    def make() -> Likelihood:
        keys = (*function.effects, *function.coded)
        order = {key.parameter: Real(by=key.by) for key in keys}
        made = _eliminating(first, keys, function.function, {**declared, **order}, natural.rowwise)
        return replace(made, companions=natural.companions, open_columns=natural.open_columns)

    made = cached(natural, ("eliminating", first), make)
    return regressed(made, {p.name: p.linear for p in likelihood.predictors}) if likelihood.predictors else made
