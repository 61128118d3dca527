r"""Arrays -> the covariance matrix of the estimates, of every kind, or the reason why there is none.

With I the observed information (minus the Hessian of the log-likelihood) and s_i the scores, all in ``theta``:

* ``nonrobust``: I^-1
* ``opg``: (sum s_i s_i')^-1 (Berndt, Hall, Hall & Hausman 1974)
* ``HC0``: I^-1 (sum s_i s_i') I^-1 (Huber 1967; White 1982); ``HC1``: times n / (n - k)
* ``cluster``: I^-1 (sum_g s_g s_g') I^-1 with s_g the sum of the scores of cluster g, times G / (G - 1)
  (``correction="G"``, the default), 1 (``"none"``) or G / (G - 1) * (n - 1) / (n - k) (``"full"``, as Stata).
  Two-way: V_1 + V_2 - V_12, each with its own factor, V_12 of the clusters' intersections; negative eigenvalues become 0
  (Cameron, Gelbach & Miller 2011, J. Business & Economic Statistics 29, 238)
* ``HAC``: I^-1 (G_0 + sum_{j=1}^L (1 - j/(L+1)) (G_j + G_j')) I^-1 with G_j = sum_t s_t s_{t-j}' over rows in the order of
  time, L = floor(4 (n/100)^(2/9)) lags by default, no factor (Newey & West 1987, 1994)

Of a penalised fit, with H_P minus the Hessian of the penalised log-likelihood: ``nonrobust`` is H_P^-1 I H_P^-1 (Gray
1992, J. American Statistical Association 87, 942), ``bayes`` is H_P^-1, and the others have H_P^-1 for I^-1.

Blind to the optimiser: it sees the estimates' information and scores only.  A covariance is never made from an
information matrix that fails the scaled positive-definiteness check of :func:`mlejax.linalg.scaled_inverse`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlejax.linalg import scaled_inverse
from mlejax.status import CovarianceState

KINDS = ("nonrobust", "opg", "HC0", "HC1", "cluster", "HAC", "bayes")
NEEDS_SCORES = ("opg", "HC0", "HC1", "cluster", "HAC")
SANDWICH = ("HC0", "HC1", "cluster", "HAC")
MODEL_BASED = ("nonrobust", "opg", "bayes")
CORRECTIONS = ("G", "none", "full")
NULL_EIGENVALUE = 1e-7  # of the scaled information: below it a direction is followed, and may turn out to be flat
TOO_FEW = {
    "cluster": "fewer than two clusters: no cluster covariance",
    "rows": "no more rows than parameters: no factor for small samples",
}


class TooFewError(ValueError):
    """These data have too few clusters, or too few contributions (``rows``), for a kind of covariance; ``state`` says which."""

    def __init__(self, text: str, rows: bool = False) -> None:
        super().__init__(text)
        self.state = CovarianceState.TOO_FEW_ROWS if rows else CovarianceState.TOO_FEW_CLUSTERS


_OPTIONS = {"cluster": {"groups", "correction"}, "HAC": {"maxlags"}}
_ALIASES = {"oim": "nonrobust", "robust": "HC0", "sandwich": "HC0", "newey-west": "HAC", "nw": "HAC", "hc": "HC0"}


@dataclass(frozen=True, eq=False)
class CovarianceResult:
    """A covariance of theta with its provenance.

    Attributes:
        matrix: (p, p); NaN where there is none.
        state: why not, entry by entry (p,), values of ``CovarianceState``.
        kind: ``cov_type``.
        statement: one line for the header: type, factor, number of clusters.
        notes: remarks (fewer clusters than parameters).
        smallest_eigenvalue, condition: of the scaled information (1 on the diagonal).
        nullity: number of flat directions.
        edf: effective degrees of freedom, tr(H_P^-1 I), of a penalised fit; NaN of others.
    """

    matrix: np.ndarray
    state: np.ndarray
    kind: str
    statement: str
    notes: tuple[str, ...] = ()
    smallest_eigenvalue: float = float("nan")
    condition: float = float("nan")
    nullity: int = 0
    edf: float = float("nan")


@dataclass(frozen=True, eq=False)
class Grouping:
    """How scores are summed before their products are taken.

    Attributes:
        codes: clusters of every contribution, integers from 0, (n,) each; one array, two for two-way clusters, or none.
        correction: of clusters, one of :data:`CORRECTIONS`.
        maxlags: of HAC; None for the default.
    """

    codes: Sequence[np.ndarray] = ()
    correction: str = "G"
    maxlags: int | None = None


def check_kind(
    cov_type: str | None, cov_kwds: Mapping[str, Any] | None, weight_kind: str | None = None, penalised: bool = False
) -> tuple[str, dict[str, Any]]:
    """Validate ``cov_type`` and ``cov_kwds``; returns them with defaults filled in (under sampling weights HC0).

    ``groups`` comes back as a tuple of one or two groupings, each a column's name or labels.

    Raises:
        ValueError: unknown type or option, options that the type does not take, missing groups; a covariance under
            sampling weights that is no sandwich; ``"bayes"`` without a penalty, ``"opg"`` with one.
    """
    sampled = weight_kind == "sampling"
    kind = ("HC0" if sampled else "nonrobust") if cov_type is None else str(cov_type)
    if kind not in KINDS:
        suggestion = ({k.lower(): k for k in KINDS} | _ALIASES).get(kind.lower())
        raise ValueError(
            f"cov_type={cov_type!r} is not known; choose from {', '.join(KINDS)}"
            + (f" (did you mean {suggestion!r}?)" if suggestion else "")
        )
    if sampled and kind in MODEL_BASED:
        raise ValueError(
            f"cov_type={kind!r} takes every row for one observation, and its errors would change with the scale of the "
            "sampling weights; use 'HC0' (the default with them), 'HC1', 'cluster' or 'HAC', or weight_kind='frequency' if "
            "the weights count rows"
        )
    if kind == "bayes" and not penalised:
        raise ValueError(
            "cov_type='bayes' is the inverse of the penalised information, and this fit has no penalty: without one it is "
            "'nonrobust'"
        )
    if kind == "opg" and penalised:
        raise ValueError(
            "cov_type='opg' puts products of scores in the place of the information, and knows nothing of the penalty; use "
            "'nonrobust', 'bayes' or 'HC0'"
        )
    options = dict(cov_kwds or {})
    allowed = _OPTIONS.get(kind, set())
    unknown = set(options) - allowed
    if unknown:
        raise ValueError(
            f"cov_kwds {sorted(unknown)} mean nothing with cov_type={kind!r}"
            + (f"; it takes {sorted(allowed)}" if allowed else "; it takes none")
        )
    if kind == "cluster":
        options["groups"] = _groupings(options.get("groups"))
        options.setdefault("correction", "G")
        if options["correction"] not in CORRECTIONS:
            raise ValueError(f"cov_kwds correction={options['correction']!r} is not known; choose from {CORRECTIONS}")
    lags = options.get("maxlags")
    if lags is not None and (isinstance(lags, bool) or not isinstance(lags, (int, np.integer)) or lags < 0):
        raise ValueError(
            f"cov_kwds maxlags={lags!r}: expected a whole number of lags >= 0, or None for 4 (n/100)^(2/9)"
        )
    return kind, options


def _groupings(groups: Any) -> tuple[Any, ...]:
    """One or two groupings of ``groups=``: a name or labels; a pair of them; a matrix of two columns."""
    if groups is None:
        raise ValueError(
            "cov_type='cluster' needs cov_kwds={'groups': ...}: a column name or one label per contribution; a pair of "
            "either for two-way clusters"
        )
    if isinstance(groups, str):
        return (groups,)
    parts: list[Any]
    if isinstance(groups, (tuple, list)) and len(groups) <= 3 and all(isinstance(g, str) or np.ndim(g) for g in groups):
        parts = list(groups)
    elif np.ndim(groups) == 2:
        columns = groups.shape[1] if hasattr(groups, "shape") else len(groups[0])
        frame = groups.iloc if hasattr(groups, "iloc") else np.asarray(groups, object)
        parts = [frame[:, j] for j in range(columns)]
    else:
        return (groups,)
    if not 1 <= len(parts) <= 2:
        raise ValueError(f"cov_kwds groups: expected one or two ways of clustering, got {len(parts)}")
    return tuple(parts)


def covariance(
    kind: str,
    information: np.ndarray,
    scores: np.ndarray | None,
    *,
    free: np.ndarray,
    n: float,
    grouping: Grouping | None = None,
    flat: bool = False,
    penalised: np.ndarray | None = None,
) -> CovarianceResult:
    """The covariance of theta.

    Args:
        kind: one of :data:`KINDS`.
        information: observed information in theta, summed, (p, p).
        scores: scores in theta, one row a contribution, (n, p), where the kind needs them.
        free: flags (p,) of the entries not on an edge of their support; the others get NaN (ON_BOUNDARY) and the
            covariance of the rest is conditional on them.
        n: number of contributions.
        grouping: clusters or lags.
        flat: flat directions have been found. Entries that these do not touch get their covariance from the inverse on
            the complement; the others get NaN (NOT_IDENTIFIED).
        penalised: minus the Hessian of the penalised log-likelihood in theta (p, p), of a penalised fit.

    Raises:
        ValueError: one cluster only; as many lags as contributions.
    """
    p = information.shape[0]
    k = int(free.sum())
    matrix = np.full((p, p), np.nan)
    state = np.full(p, int(CovarianceState.OK))
    if k < p:
        state[~free] = CovarianceState.ON_BOUNDARY
    inside = slice(None) if k == p else np.ix_(free, free)
    invert = _identified_inverse if flat else _full_inverse
    curvature = (information if penalised is None else penalised)[inside]
    bread, ok, identified, nullity = invert(curvature)
    _, _, smallest, condition = scaled_inverse(curvature)
    if not identified.all():
        state[np.flatnonzero(free)[~identified]] = CovarianceState.NOT_IDENTIFIED
    meat = _Meat(information[inside], (), "", ())
    if kind in NEEDS_SCORES:
        assert scores is not None
        meat = _meat(kind, scores[:, free], grouping or Grouping(), n, k)
    statement = meat.statement or _MODEL_BASED[kind, penalised is not None]
    edf = float("nan") if penalised is None else float(np.sum(bread * information[inside].T))
    if not ok and k:
        finite = bool(np.isfinite(curvature).all())
        state[free] = CovarianceState.NOT_POSITIVE_DEFINITE if finite else CovarianceState.NOT_FINITE
        return CovarianceResult(matrix, state, kind, statement, meat.notes, smallest, condition)
    found, notes = bread, meat.notes
    if kind == "opg":
        found, ok, *_ = invert(meat.products)
        # scores that are zero but for rounding would pass once scaled to unit diagonal
        ok = ok and bool((np.diag(meat.products) > 1e-12 * np.diag(information[inside]))[identified].all())
    elif kind in SANDWICH or (kind == "nonrobust" and penalised is not None):
        found = _symmetric(bread @ meat.products @ bread)
        if meat.indefinite:
            found, more = _without_negative(found)
            notes = (*notes, *more)
    kept = identified & ok & (found.diagonal() > 1e-14 * bread.diagonal())
    found = found.copy()
    if not kept.all():
        state[np.flatnonzero(free)[identified & ~kept]] = CovarianceState.SINGULAR_SCORES
        found[~kept, :] = np.nan
        found[:, ~kept] = np.nan
    matrix[inside] = found
    return CovarianceResult(matrix, state, kind, statement, notes, smallest, condition, nullity, edf)


def refused(kind: str, p: int, error: TooFewError) -> CovarianceResult:
    """No covariance of theta (p,), where :func:`covariance` refused a kind."""
    statement = f"{kind} (none: {error.state.name.lower().replace('_', ' ')})"
    nothing = np.full((p, p), np.nan)
    return CovarianceResult(nothing, np.full(p, error.state), kind, statement, (f"No standard errors: {error}.",))


def _full_inverse(a: np.ndarray) -> tuple[np.ndarray, bool, np.ndarray, int]:
    """Inverse, whether it stands, which entries are identified (all), and the number of flat directions (none)."""
    found = scaled_inverse(a)
    return found.inverse, found.ok, np.ones(a.shape[0], bool), 0


def _identified_inverse(a: np.ndarray) -> tuple[np.ndarray, bool, np.ndarray, int]:
    """Inverse of a singular information on the complement of its null space, and the entries that the latter leaves alone.

    With the matrix scaled to unit diagonal, S = V diag(w) V', an entry j is identified where every null vector of S is 0
    at j; for these e_j' S^+ e_k does not depend on the choice of the generalised inverse.
    """
    k = a.shape[0]
    if not np.isfinite(a).all():
        return np.full((k, k), np.nan), False, np.ones(k, bool), 0
    diagonal = np.diag(a)
    d = np.where(diagonal > 0, 1.0 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0)), 0.0)
    values, vectors = np.linalg.eigh(a * np.outer(d, d))
    null = np.abs(values) <= NULL_EIGENVALUE
    identified = (np.abs(vectors[:, null]) < 1e-5).all(axis=1) & (diagonal > 0)
    kept = vectors[:, ~null]
    inverse = (kept / values[~null]) @ kept.T * np.outer(d, d)
    return _symmetric(inverse), bool((values[~null] > 0).all()), identified, int(null.sum())


_MODEL_BASED = {
    ("nonrobust", False): "nonrobust (inverse observed information)",
    ("nonrobust", True): "nonrobust (H_P^-1 I H_P^-1 of a penalised fit, Gray 1992)",
    ("bayes", True): "bayes (inverse penalised information)",
}


@dataclass(frozen=True, eq=False)
class _Meat:
    """Products of scores with their factors, and what to say about them; ``indefinite`` if they may be so."""

    products: np.ndarray
    notes: tuple[str, ...]
    statement: str
    factors: tuple[float, ...] = field(default=())
    indefinite: bool = False


def _meat(kind: str, scores: np.ndarray, grouping: Grouping, n: float, k: int) -> _Meat:
    products = scores.T @ scores
    if kind == "opg":
        return _Meat(products, (), "opg (inverse outer product of scores)")
    if kind == "HC0":
        return _Meat(products, (), "HC0 (sandwich, no factor)")
    if kind == "HC1":
        if n <= k:
            raise TooFewError(
                f"cov_type='HC1' needs more contributions than free parameters, got n={n:g} and k={k}", rows=True
            )
        factor = n / (n - k)
        return _Meat(factor * products, (), f"HC1 (sandwich, n/(n-k) = {factor:.4g})")
    if kind == "HAC":
        return _hac_meat(scores, grouping.maxlags)
    return _cluster_meat(scores, grouping, n, k)


def _cluster_meat(scores: np.ndarray, grouping: Grouping, n: float, k: int) -> _Meat:
    """Sums by cluster, one way or two; each with its factor."""
    ways = [np.asarray(c) for c in grouping.codes]
    if len(ways) == 2:
        both = ways[0].astype(np.int64) * (int(ways[1].max()) + 1) + ways[1]
        ways.append(np.unique(both, return_inverse=True)[1].reshape(-1))
    sizes = [int(c.max()) + 1 if c.size else 0 for c in ways]
    if min(sizes) < 2:
        which = " in each way" if len(ways) > 1 else ""
        raise TooFewError(
            f"cov_type='cluster' needs at least two clusters{which}, got {min(sizes)}: with one, the summed scores are zero"
        )
    small = 1.0
    if grouping.correction == "full":
        if n <= k:
            raise TooFewError(
                f"correction='full' needs more contributions than free parameters, got n={n:g} and k={k}", rows=True
            )
        small = (n - 1) / (n - k)
    factors = [1.0 if grouping.correction == "none" else small * g / (g - 1) for g in sizes]
    text = {"none": "no correction", "G": "G/(G-1) = ", "full": "G/(G-1) (n-1)/(n-k) = "}[grouping.correction]
    if grouping.correction != "none":
        text += ", ".join(f"{f:.4g}" for f in factors)
    notes: tuple[str, ...] = ()
    fewest = min(sizes)
    if fewest < k:
        rank = (
            f": the cluster covariance has rank {fewest - 1} at most; joint tests of more restrictions are not possible"
        )
        notes = (f"{fewest} clusters for {k} parameters" + (rank if len(ways) == 1 else " in one of two ways"),)
    parts = [f * _outer(_sum_by(scores, c)) for f, c in zip(factors, ways, strict=True)]
    if len(ways) == 1:
        return _Meat(parts[0], notes, f"cluster ({fewest} clusters, {text})")
    said = f"cluster (two-way, {sizes[0]} and {sizes[1]} clusters, {sizes[2]} intersections, {text})"
    return _Meat(parts[0] + parts[1] - parts[2], notes, said, indefinite=True)


def _hac_meat(scores: np.ndarray, maxlags: int | None) -> _Meat:
    """Bartlett-weighted autocovariances of the scores, positive semi-definite by construction."""
    n = scores.shape[0]
    lags = math.floor(4.0 * (n / 100.0) ** (2.0 / 9.0)) if maxlags is None else int(maxlags)
    if maxlags is None:
        lags = min(lags, n - 1)
    if lags >= n:
        raise TooFewError(f"cov_kwds maxlags={lags}: expected fewer lags than contributions, {n}", rows=True)
    total = _outer(scores)
    for j in range(1, lags + 1):
        lagged = scores[j:].T @ scores[:-j]
        total += (1.0 - j / (lags + 1.0)) * (lagged + lagged.T)
    return _Meat(total, (), f"HAC (Bartlett, {lags} lag{'s' * (lags != 1)}, no factor)")


def _without_negative(v: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """The nearest positive semi-definite matrix: negative eigenvalues become 0, and that is said."""
    values, vectors = np.linalg.eigh(v)
    negative = int((values < -1e-12 * np.abs(values).max(initial=0.0)).sum())
    if not negative:
        return v, ()
    mended = _symmetric((vectors * np.maximum(values, 0.0)) @ vectors.T)
    what = "1 negative eigenvalue" if negative == 1 else f"{negative} negative eigenvalues"
    return mended, (f"The two-way cluster covariance had {what}, set to 0 (Cameron, Gelbach & Miller 2011).",)


def _outer(a: np.ndarray) -> np.ndarray:
    return np.asarray(a.T @ a)


def _sum_by(scores: np.ndarray, codes: np.ndarray) -> np.ndarray:
    out = np.zeros((int(codes.max()) + 1, scores.shape[1]))
    np.add.at(out, codes, scores)
    return out


def _symmetric(a: np.ndarray) -> np.ndarray:
    return 0.5 * (a + a.T)
