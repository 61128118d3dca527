"""The entries that tables show, of one fit or many: standard errors, intervals, supports, and why some are missing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import jax
import numpy as np

from mlejax.covariance import COVARIANCE_LIMIT, KINDS, CovarianceResult, Factored, entry_reason
from mlejax.fit import Fit
from mlejax.inference.covariances.combinations import linear_covariance, standard_errors
from mlejax.inference.intervals import Intervals, confidence_intervals, supports
from mlejax.inference.normal import z_tests
from mlejax.parameters import Space
from mlejax.shapes import Float, Host, Int, PyTree
from mlejax.status import CovarianceState


def reported(space: Space, params: PyTree, n: int) -> Float[Host, "n r"]:
    """Return the entries that tables show (distinct numbers of ``params``) of n fits, (n, r), natural scale; ``params``: the
    user's structure, every array with a leading axis n.
    """
    if space.groups[0].name is None:
        leaves = jax.tree.leaves(params)
    else:
        parts = [(group, params[group.name]) for group in space.groups]
        leaves = [
            leaf for group, part in parts for leaf in ([part] if group.treedef is None else jax.tree.leaves(part))
        ]
    found = [
        np.array(value, np.float64).reshape(n, -1)[:, leaf.reported_index]
        for leaf, value in zip(space.leaves, leaves, strict=True)
    ]
    return np.concatenate(found, axis=1) if found else np.zeros((n, 0))


def standard_errors_of(space: Space, cov: Float[Host, "... p p"]) -> Float[Host, "... r"]:
    """Return standard errors of the entries that tables show, from covariances of theta (p, p); NaN for fixed entries, where
    the covariance is NaN, and for all with more than 2,000 free parameters.
    """
    if space.n_free > COVARIANCE_LIMIT:
        return np.full((*cov.shape[:-2], space.n_reported), np.nan)
    if space.reported_as_theta is not None:
        with np.errstate(invalid="ignore"):
            return np.sqrt(np.diagonal(cov, axis1=-2, axis2=-1)[..., space.reported_as_theta])
    errors = standard_errors(space.reported_matrix, cov)
    errors[..., space.reported_fixed] = np.nan
    return errors


def entry_states(space: Space, state: Int[Host, "... p"]) -> Int[Host, "... r"]:
    """Return for each entry that tables show the first `CovarianceState` that is not OK among those of the entries of theta
    on which it depends, else OK; OK for all with more than 2,000 free parameters.
    """
    if space.n_free > COVARIANCE_LIMIT:
        return np.full((*state.shape[:-1], space.n_reported), int(CovarianceState.OK))
    bad = (space.reported_matrix != 0.0) & (state != CovarianceState.OK)[..., None, :]
    if not space.n_free:
        return np.full((*state.shape[:-1], space.n_reported), int(CovarianceState.OK))
    first = np.argmax(bad, axis=-1)
    found = np.take_along_axis(state, first.reshape(*state.shape[:-1], -1), axis=-1)
    return np.where(bad.any(axis=-1), found, int(CovarianceState.OK))


def entry_notes(space: Space, state: Int[Host, " p"], verdict: str, kind: str) -> list[str]:
    """Return for each entry that tables show of one fit the reason why it has no standard error; empty if it has one, or is
    fixed.  ``state``: `CovarianceState` of each entry of theta; ``kind``: ``cov_type``; ``verdict``: code of the verdict.
    """
    if space.n_free > COVARIANCE_LIMIT:
        text = "no standard error: too many parameters, see subset_errors"
        return ["" if fixed else text for fixed in space.reported_fixed]
    states = np.where(space.reported_fixed, int(CovarianceState.OK), entry_states(space, state))
    return [entry_reason(int(s), verdict, kind) for s in states]


def entry_intervals(
    space: Space,
    params: Float[Host, "... r"],
    bse: Float[Host, "... r"],
    alpha: float,
    scale: str = "link",
    df: float = np.inf,
) -> Intervals:
    """Return Wald intervals of the entries that tables show, natural scale.

    ``params`` and ``bse`` are of one fit, (r,), or of n fits, (n, r). The intervals of n fits come one after the other,
    (n * r,).  ``alpha``: 1 - coverage; ``scale``: "link" or "natural", on which they are computed; ``df``: degrees of freedom of
    Student's t.  ValueError: another scale, or alpha outside (0, 0.5].
    """
    n = params.size // max(space.n_reported, 1)
    lower, upper = (np.tile(bound, n) for bound in space.closed_bounds)
    return confidence_intervals(
        params.ravel(),
        bse.ravel(),
        links=list(space.links) * n,
        lower_bound=lower,
        upper_bound=upper,
        alpha=alpha,
        scale=scale,
        df=df,
    )


def support_of(space: Space) -> tuple[Float[Host, " r"], Float[Host, " r"]]:
    """Return lower and upper bounds of the supports of the entries that tables show, (r,) each, whether or not the bounds
    belong to the supports; -inf or inf where there is none.
    """
    low, high = supports(space.links)
    lower, upper = space.closed_bounds
    return np.maximum(low, lower), np.minimum(high, upper)


def dense_cost(p: int) -> str:
    """Return the cost of standard errors of all p parameters as a phrase.

    >>> dense_cost(50_000)
    'a Hessian of 50000 x 50000 numbers (20 GB), 50000 gradients and about 4.2e+13 further operations'
    """
    return f"a Hessian of {p} x {p} numbers ({8e-9 * p * p:.3g} GB), {p} gradients and about {p**3 / 3:.2g} further operations"


@dataclass(frozen=True, eq=False)
class Entries:
    """The entries of a fit that tables show; each quantity is computed at first use.

    Attributes:
        fit: the fit.
        cov: the covariance of theta.
    """

    fit: Fit
    cov: CovarianceResult

    @property
    def space(self) -> Space:
        """The parameter space."""
        return self.fit.spec.space

    @cached_property
    def labels(self) -> list[str]:
        """Names of the r entries."""
        return list(self.space.labels)

    @cached_property
    def params(self) -> Float[Host, " r"]:
        """Estimates, natural scale (r,)."""
        return self.space.reported(self.fit.params)

    @cached_property
    def bse(self) -> Float[Host, " r"]:
        """Standard errors (r,); NaN for fixed entries, where there is no covariance, and for all above 2,000 parameters."""
        return standard_errors_of(self.space, self.cov.matrix)

    @cached_property
    def tests(self) -> tuple[Float[Host, " r"], Float[Host, " r"]]:
        """z (or t) statistics against 0 and p-values, (r,) each; NaN without a standard error, and where 0 is not an interior
        point of the support.
        """
        return z_tests(self.params, self.bse, testable=self.space.zero_is_interior, df=self.cov.df)

    @cached_property
    def covariance(self) -> Float[Host, "r r"]:
        """Covariance of the entries (r, r), 0 for fixed ones, NaN where there is none; ValueError above 2,000 parameters."""
        return np.asarray(self.full_covariance)

    @cached_property
    def full_covariance(self) -> Host | Factored:
        """Covariance of the entries, 0 for fixed ones: as `Factored` if that of theta has a factor, which keeps more digits, else
        as a matrix (r, r); ValueError above 2,000 parameters.
        """
        self.refuse_large()
        return linear_covariance(self.space.reported_matrix, self.cov.full).full

    @cached_property
    def notes(self) -> list[str]:
        """For each entry the reason why it has no standard error; empty if it has one, or is fixed."""
        return entry_notes(self.space, self.cov.state, self.fit.verdict.code, self.cov.kind)

    @property
    def reason(self) -> str:
        """The first note that is not empty; empty if all are."""
        return next((note for note in self.notes if note), "")

    def intervals(self, alpha: float, scale: str) -> Intervals:
        """Return Wald intervals of all entries, natural scale, of coverage 1 - alpha, computed on the ``scale`` "link" or
        "natural"; ValueError for another scale, or an alpha that is not above 0 and at most 0.5.
        """
        return entry_intervals(self.space, self.params, self.bse, alpha, scale, self.cov.df)

    @property
    def too_large(self) -> str:
        """The reason why there are no standard errors if there are more than 2,000 free parameters; else empty."""
        space = self.space
        if space.n_free <= COVARIANCE_LIMIT:
            return ""
        few = next(
            (leaf.name for leaf in space.leaves if leaf.size <= COVARIANCE_LIMIT), space.leaves[0].name + "[...]"
        )
        return (
            f"standard errors of all {space.n_free} parameters would take {dense_cost(space.n_free)}; they are computed for at "
            f"most {COVARIANCE_LIMIT}. Use res.subset_errors({few!r}) for some of them"
        )

    def refuse_large(self) -> None:
        """Raise ValueError if there are more than 2,000 free parameters, too many for standard errors of all."""
        if self.too_large:
            raise ValueError(self.too_large)

    @cached_property
    def rank(self) -> float:
        """Rank of the covariance of theta if that is clustered and of less than full rank; else inf."""
        known = np.isfinite(np.diag(self.cov.matrix))
        part = self.cov.matrix[np.ix_(known, known)]
        if KINDS[self.cov.kind].scores_of != "clusters" or not part.size:
            return float("inf")
        d = 1.0 / np.sqrt(np.diag(part))
        rank = int(np.linalg.matrix_rank(part * np.outer(d, d), tol=1e-10, hermitian=True))
        return float(rank) if rank < part.shape[0] else float("inf")
