"""Which directions from an end are worth a ray test: those in which the log-likelihood hardly curves, and the way that the
search has come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from mlejax.covariance import NULL_EIGENVALUE
from mlejax.shapes import Bool, Float, Host

MAX_COORDINATES = 12  # up to so many parameters every coordinate is tested, not only those with doubtful errors


def scaled(information: Float[Host, "*sets p p"]) -> tuple[Float[Host, "*sets p p"], Float[Host, "*sets p"]]:
    """Information scaled to a unit diagonal, and the scale d (..., p), which is 0 where the diagonal is not positive."""
    diagonal = np.einsum("...ii->...i", information)
    positive = np.isfinite(diagonal) & (diagonal > 0)
    d = np.where(positive, 1.0 / np.sqrt(np.where(positive, diagonal, 1.0)), 0.0)
    return information * (d[..., :, None] * d[..., None, :]), d


def suspicious_directions(
    u: Float[Host, "L p"],
    score: Float[Host, "L p"],
    information: Float[Host, "L p p"],
    free: Bool[Host, "L p"],
    origin: Float[Host, "L p"],
    believed: Float[Host, "L p"],
) -> list[Float[Host, "k p"]]:
    """For each of L ends the directions in u (k, p) worth a ray test.

    They are the coordinates without curvature, the weak and negative eigenvectors of the scaled information, the Newton
    step, the path of the search, and single coordinates: all where there are few, else those with an error beyond belief.

    Args:
        u, score, information: at the ends.
        free: coordinates that are not on an edge.
        origin: where the searches began.
        believed: the largest standard errors that are believed.
    """
    p, eye = u.shape[1], np.eye(u.shape[1])
    s, d = scaled(np.where(np.isfinite(information), information, 0.0))
    d = np.where(free, d, 0.0)
    curves = d > 0
    # mask unused coordinates with a large eigenvalue
    unused = ~(curves[:, :, None] & curves[:, None, :])
    s = np.where(unused, (2.0 * p + 2.0) * eye, np.nan_to_num(s))
    values, vectors = np.linalg.eigh(s)
    inverse = (vectors / np.maximum(np.abs(values), 1e-12)[:, None, :]) @ vectors.swapaxes(1, 2)
    newton = d[:, None, :] * (inverse @ (d * np.nan_to_num(score))[:, :, None]).swapaxes(1, 2)
    coordinates = np.maximum(1.0, np.abs(u))[:, :, None] * eye
    # errors without the weak eigenvectors, which are tested themselves
    strong = np.where(values < NULL_EIGENVALUE, 0.0, 1.0 / np.maximum(np.abs(values), 1e-12))
    errors = d * np.sqrt(np.einsum("lik,lk->li", vectors**2, strong))
    single = free & ((free.sum(axis=1, keepdims=True) <= MAX_COORDINATES) | (errors > believed))
    path = np.where(free, u - origin, 0.0)[:, None, :]
    eigenvectors = d[:, None, :] * vectors.swapaxes(1, 2)
    every = np.concatenate([coordinates, eigenvectors, newton, path, coordinates], axis=1)
    any_curves, always = curves.any(axis=1, keepdims=True), np.ones((len(u), 1), bool)
    wanted = np.concatenate([free & ~curves, values < NULL_EIGENVALUE, any_curves, always, single], axis=1)
    wanted &= np.isfinite(every).all(axis=2) & (np.abs(every).max(axis=2, initial=0.0) > 0.0)
    return [rows[keep] for rows, keep in zip(every, wanted, strict=True)]


def without(vectors: Iterable[Float[Host, " p"]], known: Sequence[Float[Host, " p"]]) -> list[Float[Host, " p"]]:
    """The directions without their parts along known ones, each coordinate in its own scale; null directions are left out."""
    size = np.max(np.abs(np.stack([*vectors, *known])), axis=0)
    size = np.where(size > 0, size, 1.0)
    basis = np.linalg.qr((np.stack(known) / size).T)[0]
    out = []
    for vector in vectors:
        unit = vector / size
        rest = unit - basis @ (basis.T @ unit)
        if np.abs(rest).max() > 1e-6 * np.abs(unit).max():
            out.append(rest * size)
    return out
