"""Effects of rows after a fit: random effects at the modes of their units, and effects of ``mle.Real(by=...)``."""

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
    """Raise ValueError unless ``random`` is "integrate", "mode" or "zero"; for the last two also if the model has no random
    effects.
    """
    if random not in get_args(Random):
        raise ValueError(f"random={random!r}: expected 'integrate', 'mode' or 'zero'")
    if random != "integrate" and marginal_of(likelihood) is None:
        raise ValueError(f"random={random!r} is for models with random effects, and {likelihood.name} has none: leave it out")


class RowModes:
    """Random effects of the rows of new data, at the modes of their units, as a function of theta and q further coordinates.

    The modes change with theta to first order.  The further coordinates, of variance 1, move the effects along a root of the
    conditional covariance of the row's unit, so that the variance of a prediction includes that of its unit's effects.

    Args:
        fit: the fit, with its rows in memory.
        table: new data, with the column of the units.

    Raises:
        ValueError: the random effects are of several grouping columns.
        DataError: the data have units that were not in the fit.
        MissingColumnError: the data lack the column of the units.

    Attributes:
        rows: number of each row's unit, (n,).
        mode, spread: modes (units, q) of the effects given the data, and roots (units, q, q) of their conditional covariances.
        n_more: q, the number of further coordinates.
        codes: empty; the level of each row by parameter in :class:`RowEffects`.
    """

    codes: Mapping[str, Any] = {}

    def __init__(self, fit: Fit, table: data_room.Table) -> None:
        marginal, by = marginal_of(fit.spec.likelihood), fit.spec.likelihood.unit
        if fit.loaded.crossing is not None:
            raise ValueError(
                f"random='mode' does not support random effects of several grouping columns ({by}); use random='integrate' to "
                "average over new levels, or random='zero'; res.latent() has the modes"
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
        """Random effects of each row at the estimates: name -> (n, ...)."""
        return self._named(self.mode[self.rows])

    @property
    def lever(self) -> Float[Host, "units q p"]:
        """Derivatives of the modes with respect to theta, by central differences of relative step 1e-5; 0 for coordinates at a
        bound.
        """
        return cached(self.fit, "lever of modes", self._lever)

    def at(self, extended: Either) -> dict[str, Any]:
        """Return the random effects of each row, name -> (n, ...), at theta and the further coordinates, concatenated
        (p + q,).
        """
        theta, step = extended[: -self.n_more], extended[-self.n_more :]
        moved = self.lever[self.rows] @ (theta - self.fit.theta) + self.spread[self.rows] @ step
        return self._named(self.mode[self.rows] + moved)

    def chained(self, by_row: Mapping[str, Float[Host, "n ..."]]) -> tuple[Float[Host, " p"], Float[Host, " k"]]:
        """Apply the chain rule: from the derivatives of one number with respect to the rows' effects, name -> (n, ...), to
        those with respect to theta (p,) and to the standardised effects of all units, one unit after the other (units q,).
        """
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
    """Return the effects of each row that params alone do not determine, for new data or the rows of the fit (``table`` None).

    These are the effects of ``mle.Real(by=...)`` if the model has them, else, with ``random="mode"``, random effects at the
    modes of their units; None if there are neither.

    Raises:
        DataError: levels or units that were not in the fit, or levels without a finite effect.
        MissingColumnError: the data lack the column of the levels or units.
        ValueError: with ``random="mode"``, random effects of several grouping columns.
    """
    if random != "mode" and fit.loaded.effects is None:
        return None
    if table is None:
        rows = fit.loaded.rows
        table = data_room.ingest(fit.loaded.source.take(np.arange(rows.n) if rows.kept is None else np.asarray(rows.kept)))
    return RowEffects(fit, table) if fit.loaded.effects is not None else RowModes(fit, table)


def _units_of_rows(fit: Fit, table: data_room.Table, by: str) -> Int[Host, " n"]:
    """Return for each row of new data the number of its unit in the fit, (n,).

    Raises:
        MissingColumnError: the data lack the column ``by``.
        DataError: units that were not in the fit.
    """
    if by not in table:
        raise data_room.MissingColumnError(f"random='mode' needs the column {by!r} of the units; add it to the data", by)
    found = data_room.levels_of(table.column(by), by)
    known = {label: i for i, label in enumerate(np.asarray(fit.loaded.unit_labels).tolist())}
    unknown = [label for label in found.labels.tolist() if label not in known]
    if unknown:
        shown = ", ".join(map(repr, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
        raise data_room.DataError(
            f"random='mode': {by} {shown} had no rows in the fit, so that there is no mode; use random='integrate' to average "
            "over new units, or random='zero' for effects of 0"
        )
    return np.array([known[label] for label in found.labels.tolist()], np.int64)[found.codes]
