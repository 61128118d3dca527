r"""Covariances of L >= 1 data sets, of every kind, from information and scores; or the reasons why there are none.

With I the observed information (minus the Hessian of the log-likelihood) and s_i the scores, all in ``theta``:

* ``nonrobust``: I^-1
* ``opg``: (sum s_i s_i')^-1 (Berndt, Hall, Hall & Hausman 1974)
* ``HC0``: I^-1 (sum s_i s_i') I^-1 (Huber 1967; White 1982); ``HC1``: times n / (n - k)
* ``cluster``: I^-1 (sum_g s_g s_g') I^-1 with s_g the sum of the scores of cluster g, times G / (G - 1)
  (``correction="G"``, the default), 1 (``"none"``) or G / (G - 1) * (n - 1) / (n - k) (``"full"``, as Stata).  ``"ssc"`` is
  that of fixest and pyfixest: effects by index whose levels lie within clusters count as one parameter, and two-way clusters
  have the smaller G in every factor.
  Two-way: V_1 + V_2 - V_12, each with its own factor, V_12 of the clusters' intersections; negative eigenvalues become 0
  (Cameron, Gelbach & Miller 2011, J. Business & Economic Statistics 29, 238)
* ``HC2``, ``HC3``, ``CR2``, ``CR3``: as ``HC0`` and ``cluster`` without factors, of scores divided by one minus their leverage,
  (1 - h)^-1/2 or (1 - h)^-1 with h = I_g I^-1 (MacKinnon & White 1985; Bell & McCaffrey 2002)
* ``HC4``: as ``HC3`` with (1 - h)^(-d/2), d = min(4, tr h / mean of tr h) (Cribari-Neto 2004, Computational Statistics & Data
  Analysis 45, 215)
* ``stata``: n / (n - 1) times ``HC0``; with clusters G / (G - 1), as its ``ml``
* ``HAC``: I^-1 (G_0 + sum_{j=1}^L (1 - j/(L+1)) (G_j + G_j')) I^-1 with G_j = sum_t s_t s_{t-j}' over rows in the order of
  time, L = floor(4 (n/100)^(2/9)) lags by default, no factor (Newey & West 1987, 1994)

Of a penalised fit, with H_P minus the Hessian of the penalised log-likelihood: ``nonrobust`` is H_P^-1 I H_P^-1 (Gray
1992, J. American Statistical Association 87, 942), ``bayes`` is H_P^-1, and the others have H_P^-1 for I^-1.

Only the information and scores at the estimates are used.  An information matrix that fails the scaled
positive-definiteness check of `_inverses` gives no covariance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mlejax.covariance.kinds import KINDS
from mlejax.shapes import Bool, Float, Host, Int
from mlejax.status import CovarianceState

NULL_EIGENVALUE = 1e-7  # directions whose eigenvalue of the scaled information is smaller are tested for flatness


class Sums(NamedTuple):
    """Sums of outer products of scores, before small-sample factors, of L data sets and W clusterings.

    W is 1, or 3 for two-way clusters: the first, the second and their intersections, whose sum is subtracted.

    Attributes:
        products: the sums, with respect to theta, (L, W, p, p).
        n: number of rows or units (sum of frequency weights), (L,).
        groups: number of clusters, (L, W); 0 without clusters.
        lags: number of autocovariances included (HAC), else None.
    """

    products: Float[Host, "L W p p"]
    n: Float[Host, " L"]
    groups: Int[Host, "L W"]
    lags: int | None = None


class Covariances(NamedTuple):
    """Covariance matrices of theta for L data sets.

    Attributes:
        matrix: covariance matrices, (L, p, p); NaN in rows and columns of parameters without a covariance.
        state: ``CovarianceState`` of each parameter, (L, p): OK, or why it has no covariance.
        factors: small-sample factors, (L, W); 1 if there is none.
        negative: number of negative eigenvalues of a two-way cluster covariance that were set to 0, (L,); 0 for other kinds.
        nullity: number of flat directions of the information, (L,).
        edf: effective degrees of freedom tr(H_P^-1 I), (L,), with H_P the penalised information (I without a penalty); NaN if
            that is not positive definite.
        smallest, condition: smallest eigenvalue and condition number of the (penalised) information scaled to unit diagonal,
            (L,); NaN and inf if an entry is not finite or one of the diagonal not positive, NaN if the inverse was given.
        df: degrees of freedom of t tests and intervals, (L,): number of clusters minus 1 for CR2 and CR3; else inf (normal).
    """

    matrix: Float[Host, "L p p"]
    state: Int[Host, "L p"]
    factors: Float[Host, "L W"]
    negative: Int[Host, " L"]
    nullity: Int[Host, " L"]
    edf: Float[Host, " L"]
    smallest: Float[Host, " L"]
    condition: Float[Host, " L"]
    df: Float[Host, " L"]

    def put(self, where: Int[Host, " m"], part: Covariances) -> None:
        """Overwrite, in place, the covariances of the data sets with numbers ``where`` by ``part``."""
        for whole, value in zip(self, part, strict=True):
            whole[where] = value


def no_covariances(n: int, p: int, state: CovarianceState = CovarianceState.NOT_CONVERGED) -> Covariances:
    """Return `Covariances` of n data sets with p parameters, with NaN for all matrices and ``state`` for all parameters."""
    nothing = np.full(n, np.nan)
    matrix, states = np.full((n, p, p), np.nan), np.full((n, p), int(state))
    zero, unlimited = np.zeros(n, int), np.full(n, np.inf)
    rest = nothing, nothing.copy(), nothing.copy(), unlimited
    return Covariances(matrix, states, np.ones((n, 1)), zero, zero.copy(), *rest)


def covariance(
    kind: str,
    information: Float[Host, "L p p"],
    *,
    free: Bool[Host, "L p"],
    sums: Sums | None = None,
    correction: str = "G",
    penalised: Float[Host, "L p p"] | None = None,
    inverse: Float[Host, "L p p"] | None = None,
    unidentified: Bool[Host, "L p"] | None = None,
    absorbed: int = 0,
    effects: Bool[Host, " p"] | None = None,
) -> Covariances:
    """Compute the covariance matrices of theta for L data sets.

    Args:
        kind: a key of :data:`KINDS`.
        information: observed information of the summed log-likelihood with respect to theta.
        free: False for parameters on a bound of their support.  These get NaN (ON_BOUNDARY), and the covariance of the others
            is conditional on them.
        sums: sums of outer products of scores; None if the kind uses none.
        correction: small-sample correction of ``kind="cluster"``, one of :data:`CORRECTIONS`.
        penalised: minus the Hessian of the penalised log-likelihood with respect to theta; None without a penalty.
        inverse: inverse of the (penalised) information over the free parameters, if it is known already.
        unidentified: True for parameters that change along flat directions; None if no flat direction was found.  These get
            NaN (NOT_IDENTIFIED), and the others their entries of the generalised inverse.
        absorbed: number of parameters that were eliminated, which small-sample factors count too.
        effects: True for parameters that are effects of levels.  In two-way clustering the negative eigenvalues of the
            covariance of the other parameters are then set to 0 separately.

    Returns:
        `Covariances`; with too few clusters or rows, NaN and the state TOO_FEW_CLUSTERS or TOO_FEW_ROWS.

    Raises:
        ValueError: ``sums`` given for a kind that does not use them, or missing for one that does; or a kind that is computed
            from refits.
    """
    n, form = len(free), KINDS[kind].form
    if form == "refits":
        raise ValueError(f"covariance() does not compute cov_type={kind!r}: it is the covariance of refits")
    if sums is None and form in ("products", "sandwich"):
        raise ValueError(f"cov_type={kind!r}: expected sums= of products of scores, got None")
    if sums is not None and form not in ("products", "sandwich"):
        raise ValueError(f"cov_type={kind!r} uses no products of scores: expected sums=None; leave sums= out")
    both = free[:, :, None] & free[:, None, :]
    curvature = information if penalised is None else penalised
    bread = _known_inverses(inverse, free) if inverse is not None else _inverses(curvature, free, unidentified is not None)
    identified = bread.identified if unidentified is None else bread.identified & ~unidentified
    matrices, ok, negative = bread.matrix, bread.ok, np.zeros(n, int)
    factors, few = np.ones((n, 1)), np.zeros(n, int)
    if sums is not None:
        factors, few = _factors(kind, sums, free.sum(axis=1) + absorbed, correction)
        signs = np.array([1.0, 1.0, -1.0])[: factors.shape[1]]
        meat = np.where(both, np.einsum("lw,lwij->lij", factors * signs, sums.products), 0.0)
        if form == "products":
            inverse_products = _inverses(meat, free, unidentified is not None)
            # scores that are 0 except for rounding errors would count as information once scaled to unit diagonal
            least = 1e-12 * _diagonals(information)
            ok = ok & inverse_products.ok & (~identified | ~free | (_diagonals(meat) > least)).all(axis=1)
            matrices = inverse_products.matrix
        else:
            matrices, negative = _sandwich(matrices, meat, factors.shape[1] > 1, effects)
    elif form == "information" and penalised is not None:
        matrices, _ = _sandwich(matrices, np.where(both, information, 0.0))
    with np.errstate(invalid="ignore"):
        positive = _diagonals(matrices) > 1e-14 * _diagonals(bread.matrix)
    # without products of scores, only a penalised fit can have a variance of 0: that of a parameter on which the data have no
    # information, and which the penalty determines
    zero_variance = CovarianceState.NOT_IDENTIFIED if sums is None else CovarianceState.SINGULAR_SCORES
    state = np.where(ok[:, None] & positive, int(CovarianceState.OK), int(zero_variance))
    if sums is not None:
        state[~np.isfinite(sums.products).all(axis=(1, 2, 3))] = CovarianceState.NO_SCORES
    state[few > 0] = few[few > 0, None]
    state[~identified] = CovarianceState.NOT_IDENTIFIED
    state[~bread.ok] = np.where(bread.finite, CovarianceState.NOT_POSITIVE_DEFINITE, CovarianceState.NOT_FINITE)[
        ~bread.ok, None
    ]
    state[~free] = CovarianceState.ON_BOUNDARY
    known = state == CovarianceState.OK
    matrix = np.where(known[:, :, None] & known[:, None, :], matrices, np.nan)
    edf = np.where(bread.ok, np.sum(bread.matrix * np.where(both, information, 0.0), axis=(1, 2)), np.nan)
    df = np.full(len(state), np.inf)
    if sums is not None and KINDS[kind].scores_of == "clusters" and not KINDS[kind].unadjusted_scores:
        df = sums.groups[:, 0] - 1.0
    return Covariances(matrix, state, factors, negative, bread.nullity, edf, bread.smallest, bread.condition, df)


class _Inverses(NamedTuple):
    """Inverses of L matrices over their free parameters.

    Attributes:
        matrix: inverses, (L, p, p), with 1 on the diagonal of parameters that are not free; not to be used where not ``ok``.
        ok: whether the matrix is positive definite on the complement of the flat directions, (L,).
        finite: whether all entries of free parameters are finite, (L,).
        identified: True for parameters that do not change along flat directions, (L, p).
        nullity: number of flat directions, (L,).
        smallest, condition: smallest eigenvalue (1 at most) and condition number of the matrix scaled to unit diagonal, (L,);
            NaN and inf if an entry is not finite or one of the diagonal not positive.
    """

    matrix: Float[Host, "L p p"]
    ok: Bool[Host, " L"]
    finite: Bool[Host, " L"]
    identified: Bool[Host, "L p"]
    nullity: Int[Host, " L"]
    smallest: Float[Host, " L"]
    condition: Float[Host, " L"]


def _known_inverses(inverse: Float[Host, "L p p"], free: Bool[Host, "L p"]) -> _Inverses:
    """Return `_Inverses` of positive definite matrices whose inverses over the free parameters are given; eigenvalues and
    condition are NaN.
    """
    n, p = free.shape
    yes, nothing = np.ones(n, bool), np.full(n, np.nan)
    matrix = np.where(free[:, :, None] & free[:, None, :], inverse, np.eye(p))
    return _Inverses(matrix, yes, yes, np.ones((n, p), bool), np.zeros(n, int), nothing, nothing)


def _inverses(a: Float[Host, "L p p"], free: Bool[Host, "L p"], flat: bool) -> _Inverses:
    """Invert L matrices over their free parameters; if ``flat``, on the complement of their null spaces.

    For a matrix scaled to unit diagonal, S = V diag(w) V', a parameter j is identified if every null vector of S is 0
    at j; between such parameters the entries of a generalised inverse do not depend on its choice. If ``flat``,
    eigenvalues of at most 1e-7 in size count as 0. If not, ``ok`` is False unless every eigenvalue of S exceeds 1e-13
    times the number of free parameters: below that the sign of an eigenvalue may be a rounding error.
    """
    p = free.shape[1]
    both = free[:, :, None] & free[:, None, :]
    finite = (np.isfinite(a) | ~both).all(axis=(1, 2))
    inside = np.where(both & finite[:, None, None], a, np.eye(p))
    diagonal = _diagonals(inside)
    root = np.where(diagonal > 0, 1.0 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0)), 0.0)
    scale = root[:, :, None] * root[:, None, :]
    values, vectors = np.linalg.eigh(_symmetric(inside * scale))
    smallest, largest = values.min(axis=1, initial=1.0), values.max(axis=1, initial=1.0)
    positive_diagonal = (diagonal > 0).all(axis=1)
    if flat:
        null = np.abs(values) <= NULL_EIGENVALUE
        identified = ((np.abs(vectors) < 1e-5) | ~null[:, None, :]).all(axis=2) & (diagonal > 0)
        ok = finite & (null | (values > 0)).all(axis=1)
    else:
        identified = np.ones(free.shape, bool)
        ok = finite & positive_diagonal & (smallest > free.sum(axis=1) * 1e-13)
        null = np.broadcast_to(~ok[:, None], values.shape)
    weights = np.where(null, 0.0, 1.0 / np.where(null, 1.0, values))
    matrix = _symmetric((vectors * weights[:, None, :]) @ np.swapaxes(vectors, 1, 2) * scale)
    ok = ok & np.isfinite(matrix).all(axis=(1, 2))
    known = finite & positive_diagonal
    condition = np.where(smallest > 0, largest / np.where(smallest > 0, smallest, 1.0), np.inf)
    return _Inverses(
        matrix,
        ok,
        finite,
        identified | ~finite[:, None],
        np.where(finite & flat, null.sum(axis=1), 0),
        np.where(known, smallest, np.nan),
        np.where(known, condition, np.inf),
    )


def _factors(kind: str, sums: Sums, k: Int[Host, " L"], correction: str) -> tuple[Float[Host, "L W"], Int[Host, " L"]]:
    """Return the small-sample factors for k free parameters, (L, W), and for each data set a `CovarianceState` if it has too
    few clusters or rows (its factors are NaN then), else 0, (L,).  Other arguments are those of `covariance`.
    """
    properties, n, groups = KINDS[kind], sums.n[:, None], sums.groups
    factors, few = np.ones(groups.shape), np.zeros(len(groups), int)
    counted = np.minimum(groups, groups.min(axis=1, keepdims=True)) if correction == "ssc" else groups
    with np.errstate(divide="ignore", invalid="ignore"):
        if properties.small_sample_factor is not None:
            factors = properties.small_sample_factor(n, k[:, None])
        elif "correction" in properties.options and correction != "none":
            small = (n - 1.0) / (n - k[:, None]) if correction in ("full", "ssc") else 1.0
            factors = counted / (counted - 1.0) * small
    few[~(np.isfinite(factors) & (factors > 0)).all(axis=1)] = CovarianceState.TOO_FEW_ROWS
    if properties.scores_of == "clusters":
        few[groups.min(axis=1) < 2] = CovarianceState.TOO_FEW_CLUSTERS
    if sums.lags is not None:
        few[sums.lags >= sums.n] = CovarianceState.TOO_FEW_ROWS
    return np.where(few[:, None] > 0, np.nan, factors), few


def _sandwich(
    bread: Float[Host, "L p p"],
    meat: Float[Host, "L p p"],
    two_way: bool = False,
    effects: Bool[Host, " p"] | None = None,
) -> tuple[Float[Host, "L p p"], Int[Host, " L"]]:
    """Return B M B, (L, p, p), of ``bread`` B and ``meat`` M, and the number of its negative eigenvalues that were set to 0,
    (L,); only with ``two_way`` are they set to 0.

    ``effects``: True for parameters that are effects of levels.  If there are any, the block of the other parameters is taken
    from B M B and its own negative eigenvalues are set to 0; their number is the one returned.
    """
    plain = _symmetric(bread @ meat @ bread)
    if not two_way:
        return plain, np.zeros(len(bread), int)
    mended, negative = _without_negative(plain)
    if effects is not None and effects.any():
        at = np.flatnonzero(~effects)
        mended[:, at[:, None], at], negative = _without_negative(plain[:, at[:, None], at])
    return mended, negative


def _without_negative(a: Float[Host, "L p p"]) -> tuple[Float[Host, "L p p"], Int[Host, " L"]]:
    """Return symmetric matrices with their negative eigenvalues set to 0, (L, p, p), and how many were negative beyond
    rounding, (L,); a matrix without negative eigenvalues, or with entries that are not finite, is unchanged.
    """
    usable = np.isfinite(a).all(axis=(1, 2))
    values, vectors = np.linalg.eigh(np.where(usable[:, None, None], a, 0.0))
    size = np.abs(values).max(axis=1, initial=0.0, keepdims=True)
    negative = (values < -1e-12 * size).sum(axis=1)
    mended = _symmetric((vectors * np.maximum(values, 0.0)[:, None, :]) @ np.swapaxes(vectors, 1, 2))
    return np.where((negative > 0)[:, None, None], mended, a), negative


def _diagonals(a: Float[Host, "L p p"]) -> Float[Host, "L p"]:
    """Return the diagonals of L matrices, (L, p)."""
    return a.diagonal(axis1=1, axis2=2)


def _symmetric(a: Float[Host, "L p p"]) -> Float[Host, "L p p"]:
    """Return the symmetric parts of L matrices, (A + A') / 2."""
    return 0.5 * (a + np.swapaxes(a, -1, -2))


def default_lags(n: float) -> int:
    """Return the default number of lags of HAC for n rows (or terms): floor(4 (n/100)^(2/9)), at most n - 1."""
    return min(math.floor(4.0 * (n / 100.0) ** (2.0 / 9.0)), int(n) - 1)


def score_products(
    scores: Float[Host, "n p"],
    n: float,
    codes: Sequence[Int[Host, " n"]] = (),
    lags: int | None = None,
) -> Sums:
    """Return the sums of outer products of the scores of one data set (L = 1): of rows, of clusters, or of rows and their lags.

    Args:
        scores: score of each row or unit, times its weight; in the order of time if there are lags.
        n: number of rows or units (sum of frequency weights).
        codes: number of each row's cluster, from 0: one array, or two for two-way clusters.
        lags: number of autocovariances that are added, with Bartlett's weights; None for kinds other than HAC.
    """
    ways = [np.asarray(c) for c in codes]
    if len(ways) == 2:
        both = ways[0].astype(np.int64) * (int(ways[1].max(initial=0)) + 1) + ways[1]
        ways.append(np.unique(both, return_inverse=True)[1].reshape(-1))
    total = [_products(summed_by_cluster(scores, c)) for c in ways] or [_products(scores)]
    for j in range(1, min(lags or 0, len(scores) - 1) + 1):
        lagged = scores[j:].T @ scores[:-j]
        total[0] = total[0] + (1.0 - j / ((lags or 0) + 1.0)) * (lagged + lagged.T)
    groups = [int(c.max(initial=-1)) + 1 for c in ways] or [0]
    return Sums(np.array(total)[None], np.array([float(n)]), np.array([groups]), lags)


def _products(a: Float[Host, "n p"]) -> Float[Host, "p p"]:
    """Return the sum of outer products of the rows, A'A."""
    return np.asarray(a.T @ a)


def summed_by_cluster(values: Float[Host, "n ..."], codes: Int[Host, " n"]) -> Float[Host, "G ..."]:
    """Return the sum of the values (n, ...) of each cluster, (G, ...), from the cluster number 0, ..., G - 1 of each row."""
    out = np.zeros((int(codes.max(initial=-1)) + 1, *values.shape[1:]))
    np.add.at(out, codes, values)
    return out
