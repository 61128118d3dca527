"""Functions that belong to a model beside its log-likelihood: how to draw data from it, its distribution function, its mean.

They are registered once (``@gaussian.simulator``), and used by simulation, prediction and bias reduction.  Each sees params as
the log-likelihood does.  In a model with regressed parameters these vary by row (a vector with one entry per row; of a vector
of K entries an array (rows, K)), so that a companion of the plain model is also one of the regressed models made from it later.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Set
from typing import Any

import jax
import jax.numpy as jnp

from mlejax.likelihood import Likelihood

INHERITED = ("simulator", "cdf", "mean", "variance", "saturated")
_LINES = {
    "simulator": (
        "(key, params, data)",
        'return {{"y": params["mu"] + params["sigma"] * jax.random.normal(key, (data.n_rows,))}}',
        "a dict of columns that replace those of the data; key is a JAX random key",
    ),
    "cdf": (
        "(params, data)",
        'return norm.cdf(data["y"], params["mu"], params["sigma"])',
        "the probability of a value at most as large, one for each row",
    ),
    "mean": ("(params, data)", 'return params["mu"] + 0.0 * data["x"]', "the expected value, one for each row"),
    "variance": ("(params, data)", 'return params["sigma"] ** 2 + 0.0 * data["y"]', "the variance, one for each row"),
    "saturated": (
        "(params, data)",
        'return norm.logpdf(data["y"], data["y"], params["sigma"])',
        "the highest log-likelihood that any mean gives a row, one for each row",
    ),
}


class CompanionError(ValueError):
    """A model has no such companion, or it does not return what it should."""


def companion(likelihood: Likelihood, name: str, why: str) -> Callable[..., Any]:
    """A model's companion; of a regressed model, that of the model without covariates.

    Args:
        name: ``"simulator"``, ``"cdf"``, ``"mean"``, ``"variance"`` or ``"saturated"``.
        why: what needs it, for the message.

    Raises:
        CompanionError: there is none; the message shows the lines to add.
    """
    found = registered(likelihood, name)
    if found is None:
        arguments, body, meaning = _LINES[name]
        before = ", above regress(), and fit again" if likelihood.natural is not None else ""
        raise CompanionError(
            f"{why} needs the {name} of {likelihood.name}, which is not declared.  Add it once, below the model{before} "
            f"({meaning}; here for a normal distribution):\n\n"
            f"    @{likelihood.name}.{name}\n    def _{arguments}:\n        {body.replace('{{', '{').replace('}}', '}')}"
        )
    return found


def registered(likelihood: Likelihood, name: str) -> Callable[..., Any] | None:
    """A companion of the model or of the one that it regresses, or None."""
    found = likelihood.companions.get(name)
    if found is None and likelihood.natural is not None and name in INHERITED:
        found = likelihood.natural.companions.get(name)
    return found


class Columns(dict[Hashable, Any]):
    """What a simulator sees: a dict of columns that knows its number of rows, and looks columns up when they are read.

    A column that is not there, because there are no data yet, reads as NaN for each row and is written down: a simulator may
    take the shape of the column that it makes, but not its values.

    Attributes:
        n_rows: number of rows.
        absent: names of the columns that were read but are not there.
    """

    def __init__(
        self, columns: Mapping[Hashable, Any], n_rows: int, lookup: Callable[[Hashable], Any] | None = None
    ) -> None:
        super().__init__(columns)
        self.n_rows, self.absent, self._lookup = n_rows, set[Hashable](), lookup

    def __missing__(self, key: Hashable) -> Any:
        found = None if self._lookup is None else self._lookup(key)
        if found is None:
            self.absent.add(key)
            return jnp.full((self.n_rows,), jnp.nan)
        self[key] = found
        return found


def check_columns(name: str, made: Any, n_rows: int, absent: Set[Hashable]) -> dict[Hashable, Any]:
    """What a simulator returned: a dict of columns with one entry per row, and the columns that it read if they were absent.

    Raises:
        CompanionError: no dict, another number of rows, or a column that was read is neither there nor made.
    """
    if not isinstance(made, Mapping) or not made:
        raise CompanionError(
            f"the simulator of {name} should return a dict of columns, {{'y': ...}}, got {type(made).__name__}"
        )
    unknown = sorted(str(key) for key in absent if key not in made)
    if unknown:
        raise CompanionError(
            f"the simulator of {name} reads {', '.join(map(repr, unknown))}, which is not among the data and which it does not "
            "make: give data with that column, or let the simulator draw it"
        )
    for key, value in made.items():
        shapes = {tuple(leaf.shape) for leaf in jax.tree.leaves(value) if hasattr(leaf, "shape")}
        if not shapes or any(shape[:1] != (n_rows,) for shape in shapes):
            raise CompanionError(
                f"the simulator of {name} should return columns with {n_rows} rows, but {key!r} has shape "
                f"{', '.join(map(str, shapes)) or '()'}; draw with jax.random....(key, shape=(data.n_rows,))"
            )
    return dict(made)
