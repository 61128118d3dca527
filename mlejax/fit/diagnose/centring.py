r"""Centred and scaled coordinates for a search whose columns are far from 0: an affine map from a QR of the rows' scores.

With S the scores of single rows with respect to the unbounded, untransformed coordinates (no logarithms, no logits),

    S = Q R,    u = origin + R^-1 D v,

makes the scores with respect to v orthogonal, and D gives each of them the mean square 1.  Rows are normalised before the QR, so
that it reflects the columns and not the residuals.  The map is used if columns are so nearly collinear that their sums of
products would lose digits; a search that has ended continues in v from its final point.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mlejax.fit.diagnose.ends import curved
from mlejax.objective import ChunkedEvaluator, row_terms
from mlejax.optimize import OptimizeResult
from mlejax.parameters import Space
from mlejax.parameters.coordinates import Coordinates
from mlejax.shapes import Bool, Float, Host

NEARLY_COLLINEAR = 1e-3  # part of a column's scores that the columns before it leave: below it the map is used
COLLINEAR = 1e-11  # below it no digits are left to say that the columns differ
MOST_ROWS = 20_000  # whose scores are computed


@dataclass(frozen=True, eq=False)
class Mapped:
    """The result of a search in centred and scaled coordinates v.

    Attributes:
        coordinates: the affine map between u and v.
        end: the result in v.
        space: the layout of the parameters, marked as mapped.
        constants: the fixed values, followed by the numbers of the map, (k,).
    """

    coordinates: Coordinates
    end: OptimizeResult
    space: Space
    constants: Float[Host, " k"]

    @property
    def end_in_u(self) -> OptimizeResult:
        """The result in u; converting the information may lose digits."""
        to, end = self.coordinates, self.end
        information = None if end.information is None else to.information_in_u(end.information)
        return end._replace(u=to.to_u(end.u), score=to.score_in_u(end.score), information=information)


def straight(space: Space) -> Bool[Host, " p"]:
    """Return a boolean mask, (p,): coordinates that are untransformed and unbounded, which the map may combine linearly."""
    return ~curved(space) & ~np.isfinite(space.lower) & ~np.isfinite(space.upper)


def coordinates_for(
    evaluator: ChunkedEvaluator, u0: Float[Host, " p"], u: Float[Host, " p"], always: bool = False
) -> Coordinates | None:
    """Return the affine map for a search that continues from u.

    None if no columns are nearly collinear (unless ``always``), if no coordinates are untransformed and unbounded (with one, only
    if ``always``), or if the scores of the rows are not finite at u0 and at u, or the rows are no more than p.

    Args:
        evaluator: evaluator of one data set.
        u0: start of the search, (p,), from whose scores the map is computed (at u they may be zero); from those at u if
            these are not usable.
        u: the point that becomes v = 0, (p,), except for coordinates that keep their own scale.
        always: return a map even if no columns are nearly collinear.
    """
    space = evaluator.spec.space
    mixed = np.flatnonzero(straight(space))
    if not mixed.size or (mixed.size < 2 and not always):
        return None
    scores = next((s for s in (_scores(evaluator, at) for at in (u0, u)) if s is not None), None)
    if scores is None:
        return None
    boxed = np.flatnonzero(~straight(space) & ~curved(space))
    matrix, left = _orthogonal(scores, mixed, boxed)
    if not always and not ((left < NEARLY_COLLINEAR) & (left > COLLINEAR)).any():
        return None
    origin = np.zeros(u.size)
    origin[mixed] = u[mixed]
    compensated = matrix[np.ix_(mixed, boxed)] @ u[boxed]
    origin[mixed] -= compensated
    return Coordinates(origin, matrix)


def _scores(evaluator: ChunkedEvaluator, u: Float[Host, " p"]) -> Float[Host, "n p"] | None:
    """Return the scores of the rows of positive weight (of a sample, if there are more than 20,000), without penalty, times the
    square roots of their weights, (n, p); None if one is not finite, or n <= p.
    """
    if evaluator.n_contributions > MOST_ROWS and evaluator.data.mode != "whole":
        some = evaluator.sample(MOST_ROWS)
        evaluator = ChunkedEvaluator(evaluator.spec.plain, some, evaluator.fixed, evaluator.hyper)
    _, scores, weights = row_terms(evaluator, u)
    scores = scores[weights > 0] * np.sqrt(weights[weights > 0, None])
    return scores if len(scores) > u.size and np.isfinite(scores).all() else None


def _orthogonal(scores: Float[Host, "n p"], mixed: Host, boxed: Host) -> tuple[Float[Host, "p p"], Float[Host, " k"]]:
    """Return the matrix R^-1 D of the map, (p, p), and for each of the k columns ``mixed`` and ``boxed`` the part of its scores
    that the columns before it do not explain, from 0 to 1 (1 for a column whose scores are all 0).

    Columns are ordered ``mixed`` (unbounded coordinates) first, then ``boxed`` (bounded ones).  A bounded coordinate keeps its
    own scale; if it is nearly collinear with the others, they compensate for it.
    """
    p = scores.shape[1]
    columns = np.concatenate([mixed, boxed]).astype(np.int64)
    k, own = mixed.size, scores[:, columns]
    size = np.sqrt((own**2).mean(axis=0))
    size = np.where(size > 0, size, 1.0)
    unit = own / size
    length = np.sqrt((unit**2).sum(axis=1, keepdims=True))
    rows = unit / np.where(length > 0, length, 1.0)
    norm = np.sqrt((rows**2).sum(axis=0))
    norm = np.where(norm > 0, norm, 1.0)
    triangle: Float[Host, "k k"] = np.asarray(np.linalg.qr(rows / norm, mode="r"))
    diagonal = np.diag(triangle).copy()
    left = np.where((own != 0).any(axis=0), np.abs(diagonal), 1.0)
    # a column of which nothing is left is a direction of its own, whatever its size
    diagonal[np.abs(diagonal) <= COLLINEAR] = 1.0
    np.fill_diagonal(triangle, diagonal)
    inverse = np.linalg.inv(triangle) / (norm * size)[:, None]
    scale = np.sqrt(((own @ inverse) ** 2).mean(axis=0))
    found = np.diag(triangle) * (norm * size) * inverse  # 1 on its diagonal
    matrix = np.eye(p)
    keep = left > COLLINEAR
    matrix[np.ix_(mixed, mixed)] = np.where(
        (keep & (scale > 0))[:k], inverse[:k, :k] / np.where(scale > 0, scale, 1.0)[:k], found[:k, :k] / size[:k]
    )
    if keep[
        :k
    ].any():  # of a direction without scores nothing would be known: it is told by what it shares with another
        matrix[:, mixed[~keep[:k]]] += matrix[:, mixed[np.flatnonzero(keep[:k])[-1:]]]
    collinear = (left < NEARLY_COLLINEAR) & keep
    matrix[np.ix_(mixed, boxed)] = np.where(collinear[k:], found[:k, k:], 0.0)
    return matrix, left


def mapped(evaluator: ChunkedEvaluator, coordinates: Coordinates) -> ChunkedEvaluator:
    """Return an evaluator of the same data in the centred and scaled coordinates v of the map ``coordinates``."""
    spec = evaluator.spec
    spec = replace(spec, space=replace(spec.space, mapped=True))
    constants = coordinates.after(evaluator.fixed, spec.space.n_values)
    return ChunkedEvaluator(spec, evaluator.data, constants, evaluator.hyper)
