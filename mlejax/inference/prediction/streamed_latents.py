"""Random effects and latent classes of the units and rows of a stream, given the data: one pass.

Units and rows of weight 0 are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mlejax.data import Prepared, Table
from mlejax.fit import Fit, evaluator_of
from mlejax.latent import ClassLike, Markov, conditional_at, posterior
from mlejax.objective import Objective, Place
from mlejax.shapes import Either, Float, Host, Int, PyTree

STEP = 1e-4  # of central differences, standard errors
Columns = tuple[np.ndarray, ...]


def _joined(a: Columns, b: Columns) -> Columns:
    return tuple(np.concatenate([x, y]) for x, y in zip(a, b, strict=True))


def _used(chunk: Prepared) -> Int[Host, " m"]:
    """Return the numbers of the terms of a chunk that have positive weight (m,)."""
    return np.flatnonzero(np.asarray(chunk.weights)[: int(chunk.n)] > 0)


@dataclass(frozen=True)
class _Latents:
    """Function that returns labels, modes, means, standard deviations and variances of the means of the units of a chunk, those
    of weight 0 left out.  ``unit``: name of their column.
    """

    unit: str

    def __call__(self, found: tuple[Host, ...], chunk: Prepared, table: Table, place: Place) -> Columns:
        mode, mean, sd, means = found
        plus, minus = np.split(means, 2)
        variance = (((plus - minus) / (2.0 * STEP)) ** 2).sum(axis=0)
        at = _used(chunk)
        return place.of_units(table.column(self.unit))[at], mode[at], mean[at], sd[at], variance[at]


def streamed_latents(fit: Fit, steps: Float[Host, "m p"] | None) -> tuple[Any, ...]:
    """Return the labels of the units of a stream (n,), and mode, mean, standard deviation and variance of the mean of their
    random effects (n, q).

    ``steps``: steps of u, central differences along which give the variance of the mean due to the estimates (`differences`);
    None: that variance is NaN.
    """
    assert fit.spec.likelihood.unit is not None
    evaluator: Any = evaluator_of(fit.spec.plain, fit.loaded, fit.fixed)
    moved = np.zeros((0, len(fit.u))) if steps is None else np.concatenate([steps, -steps])
    points = fit.u + np.concatenate([np.zeros((1, len(fit.u))), moved])
    *known, variance = evaluator.map_reduce(conditional_at, _joined, points, _Latents(fit.spec.likelihood.unit))
    return *known, variance if steps is not None else np.full(variance.shape, np.nan)


def _posterior(objective: Objective, u: Either) -> PyTree:
    return posterior(objective.spec, u, objective.prepared, objective.fixed)


@dataclass(frozen=True)
class _Classes:
    """Function that returns columns of labels, class probabilities and likeliest classes of the rows or units of a chunk, or of
    the rows of its series (hidden Markov models).

    Attributes:
        latent: declaration of the class.
    """

    latent: ClassLike

    def __call__(self, found: Any, chunk: Prepared, table: Table, place: Place) -> Columns:
        at = _used(chunk)
        if self.latent.by is None:
            return found.posterior[at], found.likeliest[at]
        if not isinstance(self.latent, Markov):
            return place.of_units(table.column(self.latent.by))[at], found.posterior[at], found.likeliest[at]
        assert place.units is not None
        codes = place.units
        within = np.arange(len(codes)) - np.searchsorted(codes, codes)
        kept = np.isin(codes, at)
        names = [name for name in (self.latent.by, self.latent.time) if name is not None]
        labels = [np.asarray(place.of_rows(table.column(name)))[kept] for name in names]
        codes, within = codes[kept], within[kept]
        return *labels, found.posterior.rows[codes, within], found.likeliest[codes, within]


def streamed_classes(fit: Fit, latent: ClassLike) -> tuple[dict[str, np.ndarray], Host, Host]:
    """Return label columns, class probabilities (n, k) and likeliest classes (n,) of the rows or units of a stream, as in
    `mlejax.inference.prediction.latents.ClassValues`.
    """
    evaluator: Any = evaluator_of(fit.spec.plain, fit.loaded, fit.fixed)
    *labels, probabilities, likeliest = evaluator.map_reduce(_posterior, _joined, fit.u, _Classes(latent))
    time = latent.time if isinstance(latent, Markov) else None
    names = [name for name in (latent.by, time) if name is not None]
    return dict(zip(names, labels, strict=True)), probabilities, likeliest
