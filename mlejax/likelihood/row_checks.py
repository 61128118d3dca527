"""Checks that a row-wise term depends on its own row only, and a unit's term not on its padding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.data import Prepared, Rows, assemble, bucket
from mlejax.data.packing.layout import Layout
from mlejax.execution import cached, compiled
from mlejax.execution.trace import rows_apart
from mlejax.likelihood.declaration import Likelihood, LikelihoodError, example_params
from mlejax.misuse import linked
from mlejax.parameters import Space
from mlejax.shapes import Device, Either, Float, Host, PyTree

N_CHECKED_ROWS, N_CHECKED_UNITS = 256, 32


def row_check(
    likelihood: Likelihood,
    space: Space,
    u: Float[Device, "2 p"],
    fixed: Either | None,
    rows: PyTree,
    shared: PyTree,
    layout: Layout,
) -> tuple[Float[Device, ...], Float[Device, ...]]:
    """Evaluate all N terms and their derivatives along one random direction at two points u (2, p), with the other rows and by
    themselves.

    Returns:
        Two arrays (2, 2, N): points, then terms and derivatives.  For a row-wise model they are equal up to rounding.
    """
    direction = np.random.default_rng(7).standard_normal(u.shape[1:]).astype(u.dtype)

    def both(function: Callable[[jax.Array], jax.Array], at: jax.Array) -> jax.Array:
        return jnp.stack(jax.jvp(function, (at,), (direction,)))

    def together(at: jax.Array) -> jax.Array:
        return both(lambda t: likelihood.contributions(space.params_from_u(t, fixed), rows, shared, layout), at)

    def alone(at: jax.Array) -> jax.Array:
        def one(row: PyTree) -> jax.Array:
            part = jax.tree.map(lambda a: a[None], row)
            return both(lambda t: likelihood.contributions(space.params_from_u(t, fixed), part, shared, layout), at)[
                :, 0
            ]

        return jax.vmap(one)(rows).T

    return jax.vmap(together)(u), jax.vmap(alone)(u)


def unit_check(
    likelihood: Likelihood,
    space: Space,
    u: Float[Device, "2 p"],
    fixed: Either | None,
    rows: PyTree,
    shared: PyTree,
    layout: Layout,
) -> tuple[Float[Device, ...], Float[Device, ...]]:
    """Return the terms of N units at the points u (2, p), evaluated twice: as the units are, and with two more padded rows in
    each; two arrays (2, N).
    """
    at_mask = layout.position("mask")
    columns, mask, beside = rows[:at_mask], rows[at_mask], rows[at_mask + 1 :]

    def longer(a: jax.Array) -> jax.Array:
        return jnp.concatenate([a, a[:, -1:], a[:, -1:]], axis=1)

    mask = jnp.concatenate([mask, jnp.zeros((mask.shape[0], 2), bool)], axis=1)
    padded = (*(longer(c) for c in columns), mask, *beside)

    def at(part: PyTree) -> jax.Array:
        return jax.vmap(lambda t: likelihood.contributions(space.params_from_u(t, fixed), part, shared, layout))(u)

    return at(tuple(rows)), at(padded)


def refuse_unmasked_units(likelihood: Likelihood, as_they_are: np.ndarray, longer: np.ndarray, numbers: np.ndarray) -> bool:
    """Raise LikelihoodError if a unit's term changes with its padding, by more than rounding errors or to or from NaN.

    Args:
        likelihood: the declaration, for messages.
        as_they_are, longer: terms at two points (2, N), without and with more padded rows.
        numbers: numbers of these units among all, from 0, (N,), for messages.

    Returns:
        True if the check is conclusive: at both points the term of some unit is finite.
    """
    finite = np.isfinite(as_they_are) & np.isfinite(longer)
    with np.errstate(invalid="ignore"):
        same = (as_they_are == longer) | (np.isnan(as_they_are) & np.isnan(longer))
        size = np.maximum(np.abs(as_they_are), np.abs(longer))
        bad = ~same & (~finite | (np.abs(as_they_are - longer) > 1e-8 * (1.0 + size)))
    if bad.any():
        point, unit = (int(x) for x in np.argwhere(bad)[0])
        which = f"unit number {numbers[unit]} (from 0, in the order of {likelihood.unit})"
        if likelihood.joint is not None:
            raise LikelihoodError(
                f"given its latents {', '.join(likelihood.joint.latents)}, {likelihood.name} must return one value per row "
                f"that uses its own row only, but the log-likelihood of {which} changes with the number of its rows "
                f"(from {as_they_are[point, unit]:.6g} to {longer[point, unit]:.6g}).  If it centres or scales a column, do that "
                "beforehand or pass the mean as mle.Shared(mean)"
            )
        raise linked(
            LikelihoodError(
                f"{likelihood.name} is declared with unit={likelihood.unit!r}, but counts padded rows: with two more of them the "
                f"log-likelihood of {which} is {longer[point, unit]:.6g} instead of {as_they_are[point, unit]:.6g}.  "
                "Sum with jnp.sum(jnp.where(data['mask'], l, 0.0)), and use data['mask'] in means and counts too"
            ),
            "padded-rows",
        )
    return bool(finite.any(axis=1).all())


def refuse_dependent_rows(likelihood: Likelihood, together: np.ndarray, alone: np.ndarray, numbers: np.ndarray) -> bool:
    """Raise LikelihoodError if row-wise terms or scores depend on the other rows, by more than rounding errors or to or from NaN.

    Args:
        likelihood: the declaration, for messages.
        together, alone: what `row_check` returns: terms and directional derivatives at two points (2, 2, N), evaluated with the
            other rows and by themselves.
        numbers: numbers of these rows in the user's table (or in the sample of a stream), from 0, (N,), for messages.

    Returns:
        True if the check is conclusive: values and scores of some row are finite at both points.
    """
    finite = np.isfinite(together) & np.isfinite(alone)
    with np.errstate(invalid="ignore"):
        same = (together == alone) | (np.isnan(together) & np.isnan(alone))
        size = np.maximum(np.abs(together), np.abs(alone))
        typical = np.median(size[finite]) if finite.any() else 0.0
        # finite with other rows but not alone: a column scaled by its own spread, which one row does not have
        bad = ~same & (~finite | (np.abs(together - alone) > 1e-6 * size + 1e-9 * (1.0 + typical)))
    if not bad.any():
        return bool(finite.all(axis=1).any(axis=1).all())
    where = np.argwhere(bad)
    point, kind, row = (int(x) for x in where[0])
    what = "log-likelihood" if kind == 0 else "score"
    others = "; if the rows are dependent (a time series, groups), declare @mle.model(..., rowwise=False) or unit="
    others = others if likelihood.joint is None else ""  # a model with latents cannot be declared so
    raise linked(
        LikelihoodError(
            f"{likelihood.name} is declared row-wise, but its entries use other rows: the {what} of row {numbers[row]} "
            f"(counted from 0) is {together[point, kind, row]:.6g} when evaluated with other rows and "
            f"{alone[point, kind, row]:.6g} by itself "
            f"({len(set(where[:, 2].tolist()))} of {bad.shape[-1]} rows checked differ).  "
            "If it centres or scales a column, do that beforehand or pass the mean as "
            f"mle.Shared(mean); do not divide by the number of rows{others}"
        ),
        "other-rows",
    )


_row_check = compiled(row_check, static=("likelihood", "space", "layout"), how="once")
_unit_check = compiled(unit_check, static=("likelihood", "space", "layout"), how="once")


def check_rows_once(
    likelihood: Likelihood,
    space: Space,
    data: Prepared,
    u0: Float[Host, " p"],
    fixed_values: Float[Host, " v"] | None,
    rows: Rows | None,
) -> None:
    """Check, once for each structure of the data, that row-wise terms depend on their own row only and units' terms not on
    their padding.

    A check whose values were not finite, which proves nothing, is made again at the next fit.  Models of the whole data, and a
    single row, are not checked.

    Args:
        likelihood: the declaration.
        space: the layout of the parameters.
        data: the data, of which up to 256 rows or 32 units are evaluated.
        u0: the start; terms are also evaluated at a point nearby.
        fixed_values: values under ``fixed=``, or None.
        rows: the same data, with the numbers of the rows in the user's table, for messages; None for a sample of a stream.

    Raises:
        LikelihoodError: terms depend on other rows or on padding.
    """
    key = ("checked", data.statics, space)
    if likelihood.mode != "whole" and not (likelihood.mode == "rows" and int(data.n) < 2):
        cached(likelihood, key, lambda: _rows_checked(likelihood, space, data, u0, fixed_values, rows), keep=bool)


def _rows_checked(
    likelihood: Likelihood,
    space: Space,
    data: Prepared,
    u0: Float[Host, " p"],
    fixed_values: Float[Host, " v"] | None,
    table: Rows | None,
) -> bool:
    """Raise LikelihoodError if terms depend on other rows or on padding; return True if the check is conclusive."""
    if (likelihood.mode == "rows" or likelihood.joint is not None) and _rows_provably_apart(likelihood, space, data):
        return True
    m = min(int(data.n), N_CHECKED_ROWS if likelihood.mode == "rows" else N_CHECKED_UNITS)
    m = min(m, max(data.block, 2))
    index = np.resize(np.linspace(0, int(data.n) - 1, m).astype(np.int64), bucket(m))
    rows = data.taken(index)
    nearby = u0 + 0.1 * np.random.default_rng(0).standard_normal(u0.shape)
    points = np.stack([u0, np.clip(nearby, space.lower, space.upper)])
    check, refuse = (
        (_row_check, refuse_dependent_rows) if likelihood.mode == "rows" else (_unit_check, refuse_unmasked_units)
    )
    one, other = check(likelihood, space, points, fixed_values, rows, data.shared, data.statics)
    numbers = index if likelihood.mode == "units" or table is None else table.numbered(index)
    return refuse(likelihood, np.asarray(one), np.asarray(other), numbers)


def _rows_provably_apart(likelihood: Likelihood, space: Space, data: Prepared) -> bool:
    """True if by the traced program the terms (of units: given the latent variables) depend on their own row only; False if that
    is not certain.
    """
    if likelihood.mode == "units":
        return _apart_given_latents(likelihood, space, data)

    def contributions(params: PyTree, columns: PyTree, shared: PyTree) -> Device:
        return likelihood.contributions(params, tuple(columns), shared, data.statics)

    def rows(n: int) -> list[Any]:
        return [jax.ShapeDtypeStruct((n, *a.shape[1:]), a.dtype) for a in data.rows]

    return rows_apart(contributions, example_params(space), rows, list(data.shared))


def _apart_given_latents(likelihood: Likelihood, space: Space, data: Prepared) -> bool:
    """True if by the traced program the terms given row-wise latent variables depend on their own row only; False if that is
    not certain.
    """
    names = list(likelihood.example_latents(1))

    def contributions(params: PyTree, columns: PyTree, shared: PyTree) -> Device:
        own, latents = columns[: len(data.rows)], dict(zip(names, columns[len(data.rows) :], strict=True))
        return likelihood.given_latents(params, latents, assemble(own, shared, data.statics))

    def rows(n: int) -> list[Any]:
        own = [jax.ShapeDtypeStruct((n, *a.shape[2:]), a.dtype) for a in data.rows]
        return [*own, *likelihood.example_latents(n).values()]

    return rows_apart(contributions, example_params(space), rows, list(data.shared))
