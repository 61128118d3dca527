"""``@mle.model``: check a log-likelihood function and the declarations of its parameters, and make a `Model`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, overload

from mlejax.data import OpenColumns
from mlejax.latent import ClassLike, Latent, marginal_likelihood, mixture_likelihood
from mlejax.likelihood import Likelihood, OfUnit, declared_likelihood
from mlejax.misuse import linked
from mlejax.model.doors import Model
from mlejax.parameters import Declaration, FreeParameter, Parameter

Declared: TypeAlias = Declaration | Latent | ClassLike
LATENT = (Latent, ClassLike)
_DECLARING = ("mlejax.parameters.", "mlejax.latent.")  # modules of the declarations, for a hint


@overload
def model(
    function: Callable[[Any, Any], Any],
    /,
    *,
    params: Mapping[str, Declared] | None = None,
    rowwise: bool = True,
    unit: str | None = None,
    optional: Sequence[str] = (),
    infinite: Sequence[str] = (),
    per_unit: Sequence[str] = (),
    **parameters: Declared,
) -> Model: ...
@overload
def model(
    *,
    params: Mapping[str, Declared] | None = None,
    rowwise: bool = True,
    unit: str | None = None,
    optional: Sequence[str] = (),
    infinite: Sequence[str] = (),
    per_unit: Sequence[str] = (),
    **parameters: Declared,
) -> Callable[[Callable[[Any, Any], Any]], Model]: ...
def model(
    function: Callable[[Any, Any], Any] | None = None,
    /,
    *,
    params: Mapping[str, Declared] | None = None,
    rowwise: bool = True,
    unit: str | None = None,
    optional: Sequence[str] = (),
    infinite: Sequence[str] = (),
    per_unit: Sequence[str] = (),
    **parameters: Declared,
) -> Model | Callable[[Callable[[Any, Any], Any]], Model]:
    """Declare a log-likelihood: ``@mle.model(mu=mle.Real(), sigma=mle.Positive())``.

    The decorated ``f(params, data)`` is a pure JAX function that returns one log-likelihood value per row.

    Args:
        function: the function itself, for the form ``@mle.model`` without declarations (the structure of the parameters then
            comes from ``start=``).
        params: name -> declaration; needed for names that cannot be keywords, such as ``lambda`` or ``unit``.
        rowwise: True if entry i of the returned vector uses row i only (this is checked).  False: the function gets the whole
            data, unpadded, and returns one value per time point or group, or one number.
        unit: name of a column; the function then gets the rows of one unit, padded, with ``data["mask"]``, and returns one
            number.
        optional: names of columns with missing values that belong to the model (the wage of a person who does not work).  In
            place of a missing value the function gets some value of the column, and ``data["observed"]["wage"]`` is False.
        infinite: names of columns with infinite values of one sign (the upper bound of a right-censored row).  In place of
            them the function gets the largest (smallest) finite value, and ``data["observed"]["hi"]`` is False.
        per_unit: with ``unit=``, names of columns that are constant within each unit; the function gets one number of each.
        **parameters: name -> declaration, as in ``params``.

    Returns:
        A :class:`Model`, or a decorator that makes one.

    Raises:
        TypeError: a value that is not a declaration, a name that cannot be that of a parameter or is declared twice, an option of
            another type, or ``function`` cannot be called with two arguments.
        ValueError: ``unit=`` together with ``rowwise=False``; ``per_unit=`` without ``unit=`` or with latents; or latents
            together with ``mle.Real(by=...)`` or other options that they do not support.

    Example:
        >>> import mlejax as mle
        >>> from jax.scipy.stats import norm
        >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
        ... def gaussian(params, data):
        ...     return norm.logpdf(data["height"], params["mu"], params["sigma"])
        >>> gaussian
        <mlejax model gaussian(mu=Real(), sigma=Positive())>
    """
    given = {"rowwise": rowwise, "unit": unit, "optional": optional, "infinite": infinite, "per_unit": per_unit}
    for name, option in given.items():
        if isinstance(option, (Parameter, FreeParameter)):
            raise TypeError(
                f"{name}= is an option of mle.model; for a parameter of that name write "
                f"mle.model(params={{{name!r}: {option!r}, ...}})"
            )
    if isinstance(params, (Parameter, FreeParameter)):
        raise TypeError(
            "params= expected a dict of declarations; for a parameter named 'params' write mle.model(params={'params': ...})"
        )
    if not isinstance(rowwise, bool):
        raise TypeError(f"rowwise= expected True or False, got {rowwise!r}")
    if isinstance(unit, (list, tuple)):
        raise TypeError(
            f"unit= expected the name of one column, got {unit!r}: combine several into one, "
            f"data.assign(unit=data.groupby({list(unit)}).ngroup())"
        )
    if unit is not None and not rowwise:
        raise linked(
            ValueError(
                "give unit= or rowwise=False, not both: with unit= the function receives one unit, with rowwise=False all data"
            ),
            "unit-or-whole",
        )
    columns = OpenColumns(_names("optional", optional), _names("infinite", infinite))
    of_unit = _names("per_unit", per_unit)
    if of_unit and unit is None:
        raise ValueError(f"per_unit={list(of_unit)} needs unit=, the name of the column of units: give it too")
    declared = _declarations(params, parameters)

    def decorate(user: Callable[[Any, Any], Any]) -> Model:
        _check_signature(user)
        likelihood = _likelihood_of(OfUnit(user, of_unit) if of_unit else user, declared, rowwise, unit)
        return Model(replace(likelihood, open_columns=columns) if columns.names else likelihood)

    return decorate if function is None else decorate(function)


def _likelihood_of(
    function: Callable[[Any, Any], Any], declared: Mapping[str, Declared], rowwise: bool, unit: str | None
) -> Likelihood:
    """Return the `Likelihood` of a function, with its random effects integrated out or its latent classes summed over.

    ``declared``: name -> declaration; ``rowwise``, ``unit``: as in `model`.

    Raises:
        ValueError: latents together with effects of ``mle.Real(by=...)`` or ``per_unit=``.
    """
    latents = {name: value for name, value in declared.items() if isinstance(value, LATENT)}
    observed = {name: value for name, value in declared.items() if not isinstance(value, LATENT)}
    indexed = [n for n, value in observed.items() if isinstance(value, Parameter) and value.by is not None]
    if latents and indexed:
        raise ValueError(
            f"{indexed[0]}=Real(by=...) together with the latent {next(iter(latents))}: effects of mle.Real(by=...) are not "
            "supported together with latents; declare both as latents, or leave one out"
        )
    if latents and isinstance(function, OfUnit):
        raise ValueError(
            "per_unit= is not supported together with latents: take one entry of the column inside the function, data['x'][0]"
        )
    continuous = {name: value for name, value in latents.items() if isinstance(value, Latent)}
    if len(continuous) < len(latents):
        return mixture_likelihood(function, observed, latents, rowwise, unit)
    if latents:
        return marginal_likelihood(function, observed, continuous, rowwise, unit)
    return declared_likelihood(function, observed, rowwise, unit)


def _declarations(params: Mapping[str, Declared] | None, parameters: Mapping[str, Declared]) -> dict[str, Any]:
    """Return the declarations under ``params=`` and as keywords in one dict, name -> declaration.

    Raises:
        TypeError: ``params`` is no dict, a name is declared twice, is empty or has one of ``[ ] = ,`` in it, or a value is
            no declaration.
    """
    if params is not None and not isinstance(params, Mapping):
        raise TypeError(f"params= expected a dict of name -> declaration, {{'mu': mle.Real()}}, got {type(params).__name__}")
    twice = set(params or {}) & set(parameters)
    if twice:
        raise TypeError(f"parameters {sorted(twice)} are declared twice, in params= and as keywords: leave one out")
    declared = {**(params or {}), **parameters}
    for name, value in declared.items():
        if not isinstance(name, str) or not name or any(c in name for c in "[]=,"):
            raise TypeError(
                f"expected a parameter name that is not empty, without brackets, commas and equals signs, got {name!r}"
            )
        if isinstance(value, (Parameter, FreeParameter, *LATENT)):
            continue
        hint = (
            f"mle.{value.__name__}()"
            if callable(value) and str(getattr(value, "__module__", "")).startswith(_DECLARING) and hasattr(value, "__name__")
            else "mle.Real(), mle.Positive(), ..."
        )
        raise TypeError(f"{name}= expected a declaration such as {hint}, got {value!r}")
    return declared


def _names(option: str, names: Any) -> tuple[str, ...]:
    """Return the column names under an option as a tuple; TypeError for one string, or for entries that are not strings."""
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{option}= expected a list of names of columns, {option}=['x'], got {names!r}")
    return tuple(names)


def _check_signature(user: object) -> None:
    """Raise TypeError unless ``user`` is a function that can be called as f(params, data); a callable without a readable
    signature passes.
    """
    if isinstance(user, Model):
        raise TypeError(f"mle.model expected a function f(params, data), got a model already: {user!r}; decorate it once")
    if not callable(user):
        raise TypeError(
            f"mle.model decorates a function f(params, data), got {user!r}; declarations are keywords: mle.model(mu=mle.Real())"
        )
    try:
        signature = inspect.signature(user)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(None, None)
    except TypeError as error:
        raise TypeError(
            f"a model is a function of two arguments, f(params, data); {getattr(user, '__name__', user)}{signature} is not: "
            "values that are neither parameters nor data go into data, as mle.Shared or mle.Static"
        ) from error
