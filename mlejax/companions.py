"""Further functions of a model (companions): its simulator, cdf, mean, variance and saturated log-likelihood.

They are registered once (``@gaussian.simulator``), and used by simulation, prediction and bias reduction.  Each is called with
the same params as the log-likelihood.  A parameter that has a formula is passed as one value per row, (rows,), or (rows, K) for a
vector of K entries, so that a companion of a model also serves the models that ``model.regress`` makes from it.
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
        "returns a dict of columns that replace those of the data; key is a JAX random key",
    ),
    "cdf": (
        "(params, data)",
        'return norm.cdf(data["y"], params["mu"], params["sigma"])',
        "returns P(Y <= y), one value for each row",
    ),
    "mean": ("(params, data)", 'return params["mu"] + 0.0 * data["x"]', "returns the expected value of each row"),
    "variance": ("(params, data)", 'return params["sigma"] ** 2 + 0.0 * data["y"]', "returns the variance of each row"),
    "saturated": (
        "(params, data)",
        'return norm.logpdf(data["y"], data["y"], params["sigma"])',
        "returns each row's log-likelihood at the mean that makes it largest",
    ),
}


class CompanionError(ValueError):
    """A companion function (simulator, cdf, mean, ...) is not declared, or it returns something invalid."""


_WORDS = {"saturated": "saturated log-likelihood"}


def companion(likelihood: Likelihood, name: str, feature: str) -> Callable[..., Any]:
    """Return a companion function of a model; of a model with formulas that has none of its own, that of the model without them.

    Args:
        likelihood: the model.
        name: ``"simulator"``, ``"cdf"``, ``"mean"``, ``"variance"`` or ``"saturated"``.
        feature: the option or method that needs the function, the first words of the message.

    Raises:
        CompanionError: the model has no such companion; the message shows the lines to add.
    """
    found = registered(likelihood, name)
    if found is None:
        arguments, body, meaning = _LINES[name]
        what = _WORDS.get(name, name)
        before = ", above regress(), and fit again" if likelihood.natural is not None else ""
        raise CompanionError(
            f"{feature} needs the {what} of {likelihood.name}, which is not declared.  Add it once, below the model{before} "
            f"({meaning}; here for a normal distribution):\n\n"
            f"    @{likelihood.name}.{name}\n    def _{arguments}:\n        {body.replace('{{', '{').replace('}}', '}')}"
        )
    return found


def registered(likelihood: Likelihood, name: str) -> Callable[..., Any] | None:
    """Return the companion function ``name`` of the model, else that of the model from which ``regress`` made it (for names
    in `INHERITED`); None if neither has one.
    """
    found = likelihood.companions.get(name)
    if found is None and likelihood.natural is not None and name in INHERITED:
        found = likelihood.natural.companions.get(name)
    return found


class Columns(dict[Hashable, Any]):
    """The ``data`` argument of a simulator: a dict of columns with a number of rows, which loads columns when they are read.

    A missing column reads as NaN in every row, and its name is recorded in ``absent``: a simulator may use the shape of the
    column that it makes, but not its values.

    Args:
        columns: name -> array.
        n_rows: number of rows.
        lookup: function that returns a column by name, or None if the data lack it; None: there are no further columns.

    Attributes:
        n_rows: number of rows.
        absent: names of the missing columns that were read.
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
    """Check what a simulator returned, and return it as a dict, column name -> array.

    Args:
        name: name of the model, for messages.
        made: what the simulator returned.
        n_rows: expected number of rows of each column.
        absent: names of columns that the simulator read although the data lack them.

    Raises:
        CompanionError: not a dict, or an empty one; a column with another number of rows, or without rows; or a column that
            was read and is neither in the data nor made by the simulator.
    """
    if not isinstance(made, Mapping) or not made:
        raise CompanionError(
            f"the simulator of {name} should return a dict of columns, {{'y': ...}}, got {type(made).__name__}"
        )
    unknown = sorted(str(key) for key in absent if key not in made)
    if unknown:
        raise CompanionError(
            f"the simulator of {name} reads {', '.join(map(repr, unknown))}, which is neither a column of the data nor made by "
            "the simulator: give data with that column, or let the simulator draw it"
        )
    for key, value in made.items():
        shapes = {tuple(leaf.shape) for leaf in jax.tree.leaves(value) if hasattr(leaf, "shape")}
        if not shapes or any(shape[:1] != (n_rows,) for shape in shapes):
            raise CompanionError(
                f"the simulator of {name} should return columns with {n_rows} rows, but {key!r} has shape "
                f"{', '.join(map(str, shapes)) or '()'}; draw with jax.random....(key, shape=(data.n_rows,))"
            )
    return dict(made)
