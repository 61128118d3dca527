"""The likelihood with effects by index: the function gets the value of each row's own level among its parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax

from mlejax.data import EffectKey, View
from mlejax.likelihood.declaration import Likelihood
from mlejax.parameters import Declaration, Parameter
from mlejax.portable import portable, restore
from mlejax.shapes import PyTree


@dataclass(frozen=True, eq=False)
class WithEffects:
    """The user's function of the other parameters; the effects come to it with the data.

    Attributes:
        function: the user's own.
        effects: the keys of the columns of effects.
    """

    function: Callable[[Any, Any], jax.Array]
    effects: tuple[EffectKey, ...]

    def __reduce__(self) -> Any:
        return _again, (portable(self.function), self.effects)

    @property
    def __name__(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    def __call__(self, params: PyTree, data: Any) -> jax.Array:
        """``function(params, data)`` with the effects taken out of ``data`` and put into ``params``."""
        values = {key.parameter: data[key] for key in self.effects}
        if isinstance(data, View):
            rest: Any = data.without(set(self.effects))
        else:
            rest = {name: column for name, column in data.items() if name not in self.effects}
        return self.function({**params, **values}, rest)


def _again(function: Any, effects: tuple[EffectKey, ...]) -> WithEffects:
    return WithEffects(restore(function), effects)


def declared_likelihood(
    function: Callable[[Any, Any], Any], declared: Mapping[str, Declaration] | None, rowwise: bool, unit: str | None
) -> Likelihood:
    """The likelihood of a function and its declarations.

    Raises:
        ValueError: effects of a model that is not row-wise, two of them, or nothing but effects.
    """
    effects = tuple(
        EffectKey(name, parameter.by)
        for name, parameter in (declared or {}).items()
        if isinstance(parameter, Parameter) and parameter.by is not None
    )
    if not effects:
        return Likelihood(function, declared or None, rowwise, unit)
    first = effects[0]
    what = f"{first.parameter}=Real(by={first.by!r})"
    if unit is not None or not rowwise:
        option = "rowwise=False" if unit is None else f"unit={unit!r}"
        raise ValueError(f"{what} gives one value for each row, and {option} has no rows of its own: leave that out")
    if len(effects) > 1:
        raise ValueError(
            f"{what} and {effects[1].parameter}=Real(by={effects[1].by!r}): one column of effects is eliminated, two are not "
            "yet. Declare by= for the column with more levels, and give the other one as regressors, "
            f'"C({effects[1].by})"'
        )
    assert declared is not None
    dense = {name: parameter for name, parameter in declared.items() if name != first.parameter}
    if not dense:
        raise ValueError(
            f"{what} is the only parameter: each level would be a fit of its own, which fit_groups(data, by={first.by!r}) does"
        )
    return Likelihood(WithEffects(function, effects), dense, rowwise, unit)
