"""Effects of the rows of data after a fit: random ones at the modes of their units, and effects by index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

import jax.numpy as jnp
import numpy as np

from mlejax import data as data_room
from mlejax.execution import cached, float64
from mlejax.fit import Fit
from mlejax.inference.tables.effect_estimates import RowEffects
from mlejax.latent import marginal_of, modes
from mlejax.likelihood import Likelihood
from mlejax.shapes import Either, Float, Host, Int

Random = Literal["integrate", "mode", "zero"]


def check_random(random: str, likelihood: Likelihood) -> None:
    """Raise ValueError for what is no option of ``random=``, or of a model without random effects."""
    if random not in get_args(Random):
        raise ValueError(f"random={random!r}: expected 'integrate', 'mode' or 'zero'")
    if random != "integrate" and marginal_of(likelihood) is None:
        raise ValueError(f"random={random!r} is for models with random effects, and {likelihood.name} has none")


class RowModes:
    """The latents of the rows of new data at the modes of their units, as a function of theta and of one number a dimension.

    They move with theta as the modes do, to first order.  The further coordinates, of variance 1, are steps along the axes of
    the conditional covariance of the row's own unit, so that a prediction has the variance of its unit's latents, too.

    Args:
        fit: the fit, whose rows are here.
        table: new data, with the column of the units.
    """

    codes: Mapping[str, Any] = {}

    def __init__(self, fit: Fit, table: data_room.Table) -> None:
        marginal, by = marginal_of(fit.spec.likelihood), fit.spec.likelihood.unit
        if fit.loaded.crossing is not None:
            raise ValueError(
                f"random='mode' is not offered for latents of several columns ({by}); res.latent() has the modes, "
                "random='integrate' averages over new levels, and random='zero' takes latents of 0"
            )
        assert marginal is not None
        assert by is not None
        self.fit, self.latents, self.n_more = fit, marginal.latents, marginal.q
        self.rows = _units_of_rows(fit, table, by)
        with float64():
            where = fit.spec, fit.u, fit.loaded.problem.data, fit.fixed
            self.mode, self.spread = cached(fit, "modes of units", lambda: modes(*where))

    @property
    def values(self) -> dict[str, Any]:
        """The latents by row, at the estimates."""
        return self._named(self.mode[self.rows])

    @property
    def lever(self) -> Float[Host, "units q p"]:
        """The derivatives of the modes by theta."""
        return cached(self.fit, "lever of modes", self._lever)

    def at(self, extended: Either) -> dict[str, Any]:
        """theta and the steps (p + q,) -> the latents by row."""
        theta, step = extended[: -self.n_more], extended[-self.n_more :]
        moved = self.lever[self.rows] @ (theta - self.fit.theta) + self.spread[self.rows] @ step
        return self._named(self.mode[self.rows] + moved)

    def chained(self, by_row: Mapping[str, Float[Host, "n ..."]]) -> tuple[Float[Host, " p"], Float[Host, " k"]]:
        """Derivatives by the latents of rows -> by theta through the modes, and by steps of variance 1 of every unit."""
        flat = np.concatenate([np.reshape(by_row[name], (len(self.rows), -1)) for name in self.latents], axis=1)
        of_units = np.zeros(self.mode.shape)
        np.add.at(of_units, self.rows, flat)
        return np.einsum("gq,gqp->p", of_units, self.lever), np.einsum("gq,gqk->gk", of_units, self.spread).ravel()

    def _named(self, flat: Any) -> dict[str, Any]:
        parts, first = {}, 0
        for name, latent in self.latents.items():
            parts[name] = jnp.reshape(flat[:, first : first + latent.size], (-1, *latent.shape))
            first += latent.size
        return parts

    def _lever(self) -> Float[Host, "units q p"]:
        fit, data = self.fit, self.fit.loaded.problem.data
        steps = 1e-5 * (1.0 + np.abs(fit.u))
        with float64():
            at = lambda i, sign: modes(fit.spec, fit.u + sign * steps[i] * np.eye(len(steps))[i], data, fit.fixed)[0]
            slopes = [(at(i, 1.0) - at(i, -1.0)) / (2.0 * steps[i]) for i in np.flatnonzero(fit.interior)]
        lever = np.zeros((*self.mode.shape, len(steps)))
        lever[:, :, fit.interior] = np.stack(slopes, axis=-1) if slopes else 0.0
        return lever if fit.jacobian is None else lever @ np.linalg.pinv(fit.jacobian)


ByRow: TypeAlias = RowModes | RowEffects


def row_effects(fit: Fit, table: data_room.Table | None, random: str) -> ByRow | None:
    """The effects of rows of the fit (None), or of new data, that do not follow from params alone.

    Effects by index, or latents at the modes of their units; None where there are neither.

    Raises:
        ValueError: levels without an effect, units without a mode.
    """
    if random != "mode" and fit.loaded.effects is None:
        return None
    if table is None:
        rows = fit.loaded.rows
        table = data_room.ingest(fit.loaded.source.take(np.arange(rows.n) if rows.kept is None else np.asarray(rows.kept)))
    return RowEffects(fit, table) if fit.loaded.effects is not None else RowModes(fit, table)


def _units_of_rows(fit: Fit, table: data_room.Table, by: str) -> Int[Host, " n"]:
    """The number of each row's unit in new data.

    Raises:
        DataError: units that the fit did not have.
    """
    if by not in table:
        raise data_room.MissingColumnError(f"random='mode' needs the column {by!r}, whose levels have the effects", by)
    found = data_room.levels_of(table.column(by), by)
    known = {label: i for i, label in enumerate(np.asarray(fit.loaded.unit_labels).tolist())}
    unknown = [label for label in found.labels.tolist() if label not in known]
    if unknown:
        shown = ", ".join(map(repr, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
        raise data_room.DataError(
            f"random='mode': {by} {shown} had no rows in the fit, so that there is no mode; random='integrate' averages over new "
            "units, random='zero' takes effects of 0"
        )
    return np.array([known[label] for label in found.labels.tolist()], np.int64)[found.codes]
