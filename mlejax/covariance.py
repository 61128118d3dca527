r"""Arrays -> the covariance matrix of the estimates, of every kind, or the reason why there is none.

With I the observed information (minus the Hessian of the log-likelihood) and s_i the scores, all in ``theta``:

* ``nonrobust``: I^-1
* ``opg``: (sum s_i s_i')^-1 (Berndt, Hall, Hall & Hausman 1974)
* ``HC0``: I^-1 (sum s_i s_i') I^-1 (Huber 1967; White 1982); ``HC1``: times n / (n - k)
* ``cluster``: I^-1 (sum_g s_g s_g') I^-1 with s_g the sum of the scores of cluster g, times G / (G - 1)
  (``correction="G"``, the default), 1 (``"none"``) or G / (G - 1) * (n - 1) / (n - k) (``"full"``, as Stata)

Blind to the optimiser: it sees the estimates' information and scores only.  A covariance is never made from an
information matrix that fails the scaled positive-definiteness check of :func:`mlejax.linalg.scaled_inverse`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlejax.linalg import scaled_inverse
from mlejax.status import CovarianceState

KINDS = ("nonrobust", "opg", "HC0", "HC1", "cluster")
NEEDS_SCORES = ("opg", "HC0", "HC1", "cluster")
MODEL_BASED = ("nonrobust", "opg")
CORRECTIONS = ("G", "none", "full")
NULL_EIGENVALUE = 1e-7  # of the scaled information: below it a direction is followed, and may turn out to be flat


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
    """

    matrix: np.ndarray
    state: np.ndarray
    kind: str
    statement: str
    notes: tuple[str, ...] = ()
    smallest_eigenvalue: float = float("nan")
    condition: float = float("nan")
    nullity: int = 0


def check_kind(
    cov_type: str | None, cov_kwds: Mapping[str, Any] | None, weight_kind: str | None = None
) -> tuple[str, dict[str, Any]]:
    """Validate ``cov_type`` and ``cov_kwds``; returns them with defaults filled in (under sampling weights HC0).

    Raises:
        ValueError: unknown type or option, options that the type does not take, missing groups; a covariance under
            sampling weights that is no sandwich.
    """
    sampled = weight_kind == "sampling"
    kind = ("HC0" if sampled else "nonrobust") if cov_type is None else str(cov_type)
    lowered = {k.lower(): k for k in KINDS} | {"oim": "nonrobust", "robust": "HC0", "sandwich": "HC0"}
    if kind not in KINDS:
        suggestion = lowered.get(kind.lower())
        raise ValueError(
            f"cov_type={cov_type!r} is not known; choose from {', '.join(KINDS)}"
            + (f" (did you mean {suggestion!r}?)" if suggestion else "")
        )
    if sampled and kind in MODEL_BASED:
        raise ValueError(
            f"cov_type={kind!r} takes every row for one observation, and its errors would change with the scale of the "
            "sampling weights; use 'HC0' (the default with them), 'HC1' or 'cluster', or weight_kind='frequency' if the "
            "weights count rows"
        )
    options = dict(cov_kwds or {})
    allowed = {"groups", "correction"} if kind == "cluster" else set()
    unknown = set(options) - allowed
    if unknown:
        raise ValueError(
            f"cov_kwds {sorted(unknown)} mean nothing with cov_type={kind!r}"
            + (f"; it takes {sorted(allowed)}" if allowed else "; it takes none")
        )
    if kind == "cluster":
        if options.get("groups") is None:
            raise ValueError(
                "cov_type='cluster' needs cov_kwds={'groups': ...}: a column name or one label per contribution"
            )
        options.setdefault("correction", "G")
        if options["correction"] not in CORRECTIONS:
            raise ValueError(f"cov_kwds correction={options['correction']!r} is not known; choose from {CORRECTIONS}")
    return kind, options


def covariance(
    kind: str,
    information: np.ndarray,
    scores: np.ndarray | None,
    *,
    free: np.ndarray,
    n: float,
    codes: np.ndarray | None = None,
    correction: str = "G",
    flat: bool = False,
) -> CovarianceResult:
    """The covariance of theta.

    Args:
        kind: one of :data:`KINDS`.
        information: observed information in theta, summed, (p, p).
        scores: scores in theta, one row a contribution, (n, p), where the kind needs them.
        free: flags (p,) of the entries not on an edge of their support; the others get NaN (ON_BOUNDARY) and the
            covariance of the rest is conditional on them.
        n: number of contributions.
        codes: cluster of each contribution, integers from 0, (n,).
        correction: ``"G"``, ``"none"`` or ``"full"``.
        flat: flat directions have been found. Entries that these do not touch get their covariance from the inverse on
            the complement; the others get NaN (NOT_IDENTIFIED).

    Raises:
        ValueError: one cluster only.
    """
    p = information.shape[0]
    k = int(free.sum())
    matrix = np.full((p, p), np.nan)
    state = np.where(free, CovarianceState.OK, CovarianceState.ON_BOUNDARY)
    inside = np.ix_(free, free)
    invert = _identified_inverse if flat else _full_inverse
    bread, ok, identified, nullity = invert(information[inside])
    _, _, smallest, condition = scaled_inverse(information[inside])
    state[np.flatnonzero(free)[~identified]] = CovarianceState.NOT_IDENTIFIED
    statement, notes, factor = _statement(kind, codes, correction, n, k)
    if not ok and k:
        finite = bool(np.isfinite(information[inside]).all())
        state[free] = CovarianceState.NOT_POSITIVE_DEFINITE if finite else CovarianceState.NOT_FINITE
        return CovarianceResult(matrix, state, kind, statement, notes, smallest, condition)
    found = bread
    if kind == "opg":
        assert scores is not None
        products = scores[:, free].T @ scores[:, free]
        found, ok, *_ = invert(products)
        # scores that are zero but for rounding would pass once scaled to unit diagonal
        ok = ok and bool((np.diag(products) > 1e-12 * np.diag(information[inside]))[identified].all())
    elif kind != "nonrobust":
        assert scores is not None
        sums = scores[:, free] if codes is None else _sum_by(scores[:, free], codes)
        found = _symmetric(bread @ (sums.T @ sums) @ bread) * factor
    lost = identified & ~(ok & (np.diag(found) > 1e-14 * np.diag(bread)))
    state[np.flatnonzero(free)[lost]] = CovarianceState.SINGULAR_SCORES
    gone = lost | ~identified
    found = found.copy()
    found[gone, :] = np.nan
    found[:, gone] = np.nan
    matrix[inside] = found
    return CovarianceResult(matrix, state, kind, statement, notes, smallest, condition, nullity)


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


def _statement(
    kind: str, codes: np.ndarray | None, correction: str, n: float, k: int
) -> tuple[str, tuple[str, ...], float]:
    if kind == "nonrobust":
        return "nonrobust (inverse observed information)", (), 1.0
    if kind == "opg":
        return "opg (inverse outer product of scores)", (), 1.0
    if kind == "HC0":
        return "HC0 (sandwich)", (), 1.0
    if kind == "HC1":
        if n <= k:
            raise ValueError(f"cov_type='HC1' needs more contributions than free parameters, got n={n:g} and k={k}")
        factor = n / (n - k)
        return f"HC1 (sandwich, n/(n-k) = {factor:.4g})", (), factor
    assert codes is not None
    groups = int(codes.max()) + 1 if codes.size else 0
    if groups < 2:
        raise ValueError(
            f"cov_type='cluster' needs at least two clusters, got {groups}: with one, the summed scores are zero"
        )
    factor, text = 1.0, "no correction"
    if correction != "none":
        factor, text = groups / (groups - 1), f"G/(G-1) = {groups / (groups - 1):.4g}"
    if correction == "full":
        if n <= k:
            raise ValueError(f"correction='full' needs more contributions than free parameters, got n={n:g} and k={k}")
        factor *= (n - 1) / (n - k)
        text = f"G/(G-1) (n-1)/(n-k) = {factor:.4g}"
    notes: tuple[str, ...] = ()
    if groups < k:
        notes = (
            f"{groups} clusters for {k} parameters: the cluster covariance has rank {groups - 1} at most; joint tests of "
            "more restrictions are not possible",
        )
    return f"cluster ({groups} clusters, {text})", notes, factor


def _sum_by(scores: np.ndarray, codes: np.ndarray) -> np.ndarray:
    out = np.zeros((int(codes.max()) + 1, scores.shape[1]))
    np.add.at(out, codes, scores)
    return out


def _symmetric(a: np.ndarray) -> np.ndarray:
    return 0.5 * (a + a.T)
