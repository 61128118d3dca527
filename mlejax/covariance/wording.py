"""Sentences on covariances: the line of the header, notes, and why a parameter has no standard error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mlejax.covariance.factored import Factored
from mlejax.covariance.kinds import KINDS
from mlejax.covariance.sandwich import Covariances, Sums
from mlejax.shapes import Float, Host
from mlejax.status import CovarianceState

FEW = 50  # with fewer clusters, a note says that they are few
TOO_FEW = frozenset((int(CovarianceState.TOO_FEW_CLUSTERS), int(CovarianceState.TOO_FEW_ROWS)))
_REASONS = {
    CovarianceState.ON_BOUNDARY: "at a bound of its support: no Wald standard error",
    CovarianceState.NOT_IDENTIFIED: "not identified: no standard error",
    CovarianceState.NOT_POSITIVE_DEFINITE: "no standard error: the information is not positive definite",
    CovarianceState.NOT_FINITE: "no standard error: the information is not finite",
    CovarianceState.TOO_FEW_CLUSTERS: "no standard error: fewer than two clusters",
    CovarianceState.TOO_FEW_ROWS: "no standard error: no more rows or units than free parameters",
    CovarianceState.NO_SCORES: "no standard error: a product of scores is not finite",
    CovarianceState.INTERRUPTED: "interrupted before its standard errors were computed",
    CovarianceState.SINGULAR_SCORES: "no standard error: the scores span fewer directions than there are parameters",
    CovarianceState.PENALTY_NOT_SMOOTH: "no standard error: the penalty is not smooth at the estimate",
}


def entry_reason(state: int, verdict: str, kind: str = "nonrobust") -> str:
    """Return the reason why a parameter in this `CovarianceState` has no standard error; empty for OK.

    Args:
        state: a `CovarianceState`.
        verdict: code of the verdict of its fit, which is the reason for NOT_CONVERGED.
        kind: ``cov_type``; TOO_FEW_ROWS means too few rows for the lags of "HAC", and for the parameters of all others.

    >>> entry_reason(CovarianceState.NOT_CONVERGED, "no_finite_maximum")
    'no standard error: no finite maximum'
    """
    if state == CovarianceState.OK:
        return ""
    if state == CovarianceState.TOO_FEW_ROWS and kind == "HAC":
        return "no standard error: no more rows than lags"
    return _REASONS.get(CovarianceState(state), f"no standard error: {verdict.replace('_', ' ')}")


@dataclass(frozen=True, eq=False)
class CovarianceResult:
    """The covariance of theta of one fit, with how it was computed.

    Attributes:
        matrix: covariance matrix, (p, p); NaN for parameters without one; of shape (0, 0) above 2,000 parameters.
        state: ``CovarianceState`` of each parameter, (p,): OK, or why it has no variance.
        kind: ``cov_type``.
        statement: one line for the header: kind, factor, number of clusters.
        notes: notes for the user (fewer clusters than parameters, ...).
        smallest_eigenvalue, condition: smallest eigenvalue and condition number of the (penalised) information scaled to unit
            diagonal; NaN if they were not computed.
        nullity: number of flat directions of the information, if the fit was found to have any; else 0.
        edf: effective degrees of freedom, tr(H_P^-1 I), of a penalised fit, with I the information of the log-likelihood and H_P
            that of the penalised one; NaN without a penalty.
        df: degrees of freedom of t distributions (number of clusters minus 1 for CR2 and CR3, those of the design for surveys),
            else inf.
        groups: the clusters: names of columns or labels; empty without clusters.
        factor: F with matrix = F F', if the matrix itself would lose digits (`Factored`); else None.
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
    factor: np.ndarray | None = None
    df: float = float("inf")
    groups: tuple[Any, ...] = ()

    @property
    def full(self) -> Any:
        """The covariance: as `Factored` if ``factor`` is known, else as the matrix (p, p)."""
        return self.matrix if self.factor is None else Factored(self.factor)


def covariance_result(
    covariances: Covariances, kind: str, sums: Sums | None, k: int, correction: str, penalised: bool
) -> CovarianceResult:
    """Return the `CovarianceResult` of one data set, with its line of the header and its notes.

    Args:
        covariances: those of one data set (L = 1).
        kind: ``cov_type``.
        correction: small-sample correction of ``kind="cluster"``.
        sums: sums of products of scores, or None.
        k: number of free parameters (with those that were eliminated).
        penalised: whether the fit has a penalty.
    """
    few = {int(s) for s in covariances.state[0]} & TOO_FEW
    if few:
        text = f"{kind} (none: {CovarianceState(min(few)).name.lower().replace('_', ' ')})"
        notes = [f"No standard errors: {too_few_message(kind, sums, k, correction)}."]
    else:
        text, notes = _statement(kind, sums, covariances.factors[0], k, correction, penalised)
    if negative := covariances.negative[0]:
        what = "1 negative eigenvalue" if negative == 1 else f"{negative} negative eigenvalues"
        notes.append(f"The two-way cluster covariance had {what}, set to 0 (Cameron, Gelbach & Miller 2011).")
    numbers = float(covariances.smallest[0]), float(covariances.condition[0]), int(covariances.nullity[0])
    edf = float(covariances.edf[0]) if penalised else float("nan")
    df = float(covariances.df[0])
    return CovarianceResult(covariances.matrix[0], covariances.state[0], kind, text, tuple(notes), *numbers, edf, df=df)


def too_few_message(kind: str, sums: Sums | None, k: int, correction: str) -> str:
    """Return a phrase that says why the data set is too small for this kind of covariance: too few clusters, or too few
    rows or units for its parameters or lags. It has the number expected and the number that came; arguments as in
    `covariance_result`.
    """
    assert sums is not None
    groups, n = sums.groups[0], sums.n[0]
    if KINDS[kind].scores_of == "clusters" and groups.min() < 2:
        which = " in each way" if len(groups) > 1 else ""
        return f"cov_type={kind!r} needs at least two clusters{which}, got {groups.min()}: with one, the summed scores are zero"
    if sums.lags is not None:
        return f"cov_kwds maxlags={sums.lags}: expected fewer lags than rows or units, {n:g}"
    what = f"correction={correction!r}" if "correction" in KINDS[kind].options else f"cov_type={kind!r}"
    return f"{what} needs more rows or units than free parameters, got n={n:g} and k={k}"


def _statement(
    kind: str, sums: Sums | None, factors: Float[Host, " W"], k: int, correction: str, penalised: bool
) -> tuple[str, list[str]]:
    """Return the line of the header (kind, factors, clusters) and a list of notes; arguments as in `covariance_result`, with
    the small-sample factors.
    """
    properties = KINDS[kind]
    if "correction" in properties.options and sums is not None:
        sizes, fewest = sums.groups[0], int(sums.groups[0].min())
        small = "G/(G-1) (n-1)/(n-k) = "
        text = {"none": "no correction", "G": "G/(G-1) = ", "full": small, "ssc": f"ssc, {small}"}[correction]
        if correction != "none":
            text += ", ".join(f"{f:.4g}" for f in factors)
        if len(sizes) > 1:
            lead = f"two-way, {sizes[0]} and {sizes[1]} clusters, {sizes[2]} intersections"
            rank = " in one of the two groupings"
        else:
            lead = f"{fewest} clusters"
            rank = f": the cluster covariance has rank {fewest - 1} at most; joint tests of more restrictions are not possible"
        notes = [f"{fewest} clusters for {k} parameters{rank}"] if fewest < k else []
        if fewest < FEW and len(sizes) == 1:
            notes.append(
                f"{fewest} clusters are few (fewer than {FEW}), so that standard errors may be too small: cov_type='CR3' gives "
                "larger ones and t tests."
            )
        return f"{kind} ({lead}, {text})", notes
    if penalised and kind == "nonrobust":
        return "nonrobust (H_P^-1 I H_P^-1 of a penalised fit, Gray 1992)", []
    groups, lags = (0, 0) if sums is None else (int(sums.groups[0, 0]), sums.lags)
    values = {"factor": f"{factors[0]:.4g}", "groups": groups, "df": groups - 1, "lags": f"{lags} lag{'s' * (lags != 1)}"}
    return f"{kind} ({properties.statement.format(**values)})", []
