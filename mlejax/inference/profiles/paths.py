r"""Paths along which the profiled quantities (targets) change, and the equations of the profile likelihood along them.

A path puts q targets psi(u) at c(rho) = c0 + rho * direction, rho >= 0, with c0 their values at the estimate.  At the
constrained maximum, with score g, information I, gradients A (q, p) and Hessians B of the targets and multipliers kappa,

.. math:: g = A'\kappa, \qquad \psi(u) = c(\rho), \qquad W = I + \sum_j \kappa_j B_j,

    | W  A' | | d  |   | g              |
    | A  0  | | kappa' | = | c(rho) - psi(u) |

gives the Newton step d.  It is linear in rho, d = d0 + rho d1, so that the profile log-likelihood around u is quadratic in rho,
l + g'd - d'Wd / 2; its crossing with the cut gives the next rho (Venzon & Moolgavkar 1988).  Its slope along the path
is kappa'direction, and du/drho = d1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from mlejax.inference.profiles.targets import Coordinate, Target
from mlejax.objective import Evaluation
from mlejax.shapes import Bool, Float, Host, Int

Order = Literal[1, 2]
WELL_DEFINITE = 1e-4  # least diagonal of a Cholesky factor of a matrix with unit diagonal, above which no eigenvalue is requested


class Constraints(NamedTuple):
    """Values of the q targets at m points (m, q), gradients (m, q, p) and Hessians (m, q, p, p) in u; None for Hessians
    that are all 0.
    """

    values: Float[Host, "m q"]
    gradients: Float[Host, "m q p"]
    hessians: Float[Host, "m q p p"] | None


@dataclass(frozen=True, eq=False)
class Paths:
    """m paths along profiles, each from the estimate of one data set; log-likelihoods are the optimiser's, with weights divided
    by their scale.

    Attributes:
        evaluate: (points (m, p), numbers of their data sets (m,), order) -> their log-likelihoods and scores, and of order 2
            their information.
        targets: the different targets.
        which: numbers of the targets of each path, (m, q).
        sets: number of the data set of each path, (m,).
        u0: estimate of that data set, where the path begins, (m, p).
        loglik0: log-likelihood at the estimate, (m,).
        level: the log-likelihood at the confidence limit that is sought (the cut), (m,).
        information0: information at the estimate, (m, p, p).
        origin: values of the targets at the estimate, (m, q).
        direction: change of the targets along the path for rho = 1, about one standard error, (m, q).
        farthest: largest rho in the support, inf where there is no bound, (m,).
        lower, upper: the box of u, (p,).
        tangent: du / drho at the estimate, (m, p).
        lags: True if scores cost so much less than information that information is not evaluated at every point.
    """

    evaluate: Callable[[Float[Host, "m p"], Int[Host, " m"], Order], Evaluation]
    targets: Sequence[Target]
    which: Int[Host, "m q"]
    sets: Int[Host, " m"]
    u0: Float[Host, "m p"]
    loglik0: Float[Host, " m"]
    level: Float[Host, " m"]
    information0: Float[Host, "m p p"]
    origin: Float[Host, "m q"]
    direction: Float[Host, "m q"]
    farthest: Float[Host, " m"]
    lower: Float[Host, " p"]
    upper: Float[Host, " p"]
    tangent: Float[Host, "m p"]
    lags: bool = False

    def __len__(self) -> int:
        return len(self.sets)

    def of(self, positions: Int[Host, " k"]) -> Paths:
        """Return the k paths at ``positions``; the list ``targets``, into which ``which`` points, stays whole."""
        names = ("which", "sets", "u0", "loglik0", "level", "information0", "origin", "direction", "farthest", "tangent")
        return replace(self, **{name: getattr(self, name)[positions] for name in names})

    def constraints(self, u: Float[Host, "m p"]) -> Constraints:
        """Return the values and derivatives of the q targets of every path at one point u[i] for each path."""
        (m, q), p = self.which.shape, u.shape[1]
        own = np.array([t.j if isinstance(t, Coordinate) else -1 for t in self.targets])[self.which]
        if (own >= 0).all():
            return Constraints(np.take_along_axis(u, own, 1), np.eye(p)[own], None)
        values, gradients, hessians = np.empty((m, q)), np.empty((m, q, p)), None
        for number in np.unique(self.which):
            for k in range(q):
                mine = np.flatnonzero(self.which[:, k] == number)
                if not mine.size:
                    continue
                found = self.targets[number].at(u[mine])
                values[mine, k], gradients[mine, k] = found.values, found.gradients
                if found.hessians is not None:
                    hessians = np.zeros((m, q, p, p)) if hessians is None else hessians
                    hessians[mine, k] = found.hessians
        return Constraints(values, gradients, hessians)

    def rho_of(self, values: Float[Host, "m q"]) -> Float[Host, " m"]:
        """Return for each path the rho, (m,), at which c(rho) is nearest to the given target values (least squares)."""
        return ((values - self.origin) * self.direction).sum(axis=1) / (self.direction**2).sum(axis=1)

    def at(self, rho: Float[Host, " m"]) -> Float[Host, "m q"]:
        """Return the target values c(rho) = origin + rho * direction of every path, (m, q)."""
        return self.origin + rho[:, None] * self.direction

    def on_bound(self, u: Float[Host, "m p"]) -> Bool[Host, "m p"]:
        """Return True for the coordinates of u that are at or outside a bound of the box, (m, p)."""
        return (u <= self.lower) | (u >= self.upper)


class NewtonSolution(NamedTuple):
    """Newton steps to constrained maxima, and their multipliers, at m points; both are linear in the path coordinate rho.

    Attributes:
        d0, d1: the step for rho = 0, and its derivative with respect to rho (m, p).
        kappa0, kappa1: the multipliers for rho = 0, and their derivative with respect to rho (m, q).
        W: information of the Lagrangian (m, p, p), with unit rows for coordinates at a bound.
        score: score (m, p), 0 for coordinates at a bound.
        free: False for coordinates that stay at a bound (m, p).
        regular: True if W is positive definite on the null space of the constraint gradients, so that the stationary point
            is a maximum over the other coordinates, not a saddle (m,).
    """

    d0: Float[Host, "m p"]
    d1: Float[Host, "m p"]
    kappa0: Float[Host, "m q"]
    kappa1: Float[Host, "m q"]
    W: Float[Host, "m p p"]
    score: Float[Host, "m p"]
    free: Bool[Host, "m p"]
    regular: Bool[Host, " m"]

    def step(self, rho: Float[Host, " m"]) -> Float[Host, "m p"]:
        """Return the Newton step towards the target values c(rho), (m, p)."""
        return self.d0 + rho[:, None] * self.d1

    def kappa(self, rho: Float[Host, " m"]) -> Float[Host, "m q"]:
        """Return the multipliers for c(rho), (m, q)."""
        return self.kappa0 + rho[:, None] * self.kappa1

    def decrement(self, d: Float[Host, "m p"]) -> Float[Host, " m"]:
        """Return the Newton decrement d'Wd, twice the increase of the log-likelihood that the step predicts (m,)."""
        return np.einsum("mi,mij,mj->m", d, self.W, d)

    def model(self, loglik: Float[Host, " m"]) -> tuple[Float[Host, " m"], Float[Host, " m"], Float[Host, " m"]]:
        """Return (a, b, c), (m,) each, of the quadratic approximation a + b rho - c rho^2 / 2 of the profile log-likelihood
        around the points; ``loglik``: log-likelihoods there (m,).
        """
        W0 = np.einsum("mij,mj->mi", self.W, self.d0)
        a = loglik + (self.score * self.d0).sum(axis=1) - 0.5 * (self.d0 * W0).sum(axis=1)
        b = (self.score * self.d1).sum(axis=1) - (self.d1 * W0).sum(axis=1)
        return a, b, self.decrement(self.d1)


def newton(paths: Paths, u: Float[Host, "m p"], at: Evaluation, constraints: Constraints) -> NewtonSolution:
    """Solve for the Newton steps to the constrained maxima, and for their multipliers, from one point on each of m paths.

    Both are linear in rho, the position along the path at which the constrained maximum is sought: returned are their values for
    rho = 0 and their derivatives by rho. They are NaN where an entry of the equations is not finite; ``regular`` is False there
    and where the equations are singular or their solution is a saddle. Coordinates at a bound stay there if the Lagrangian
    rises outwards.

    Args:
        paths: the m paths.
        u: one point for each, (m, p).
        at: log-likelihood, score and information in u there.
        constraints: values, gradients and Hessians of the targets there.
    """
    assert at.score is not None
    assert at.information is not None
    (m, q, p), A, g = constraints.gradients.shape, constraints.gradients, at.score
    size = np.abs(np.einsum("mii->mi", at.information))
    weight = 1.0 / np.where(size > 0, size, 1.0)
    kappa = _multipliers(A, g, weight)
    W = np.array(at.information)
    if constraints.hessians is not None:
        W += np.einsum("mq,mqij->mij", kappa, constraints.hessians)
    rest = g - np.einsum("mq,mqp->mp", kappa, A)
    free = ~(((u <= paths.lower) & (rest < 0)) | ((u >= paths.upper) & (rest > 0)))
    both = free[:, :, None] & free[:, None, :]
    W = np.where(both, W, np.where(np.eye(p, dtype=bool), 1.0, 0.0))
    g, A = np.where(free, g, 0.0), np.where(free[:, None, :], A, 0.0)
    right = np.zeros((m, p + q, 2))
    right[:, :p, 0], right[:, p:, 0] = g, paths.origin - constraints.values
    right[:, p:, 1] = paths.direction
    solution, regular = _solved(W, A, right)
    first, second = solution[:, :, 0], solution[:, :, 1]
    return NewtonSolution(first[:, :p], second[:, :p], first[:, p:], second[:, p:], W, g, free, regular)


def _multipliers(A: Float[Host, "m q p"], g: Float[Host, "m p"], weight: Float[Host, "m p"]) -> Float[Host, "m q"]:
    """Return the multipliers kappa (m, q) that solve g = A'kappa by least squares with ``weight`` for each coordinate."""
    weighted = A * weight[:, None, :]
    gram = np.einsum("mqp,mrp->mqr", weighted, A)
    right = np.einsum("mqp,mp->mq", weighted, g)
    if A.shape[1] == 1:
        return right / np.where(gram[:, 0] > 0, gram[:, 0], 1.0)
    return np.einsum("mqr,mr->mq", np.linalg.pinv(gram, hermitian=True), right)


def _solved(
    W: Float[Host, "m p p"], A: Float[Host, "m q p"], right: Float[Host, "m k 2"]
) -> tuple[Float[Host, "m k 2"], Bool[Host, " m"]]:
    """Solve the bordered systems [[W, A'], [A, 0]] x = right, k = p + q; x is NaN if an entry is not finite.

    Also return True where W is positive definite on the null space of A and the system is not singular, (m,).
    """
    (m, q, p), size = A.shape, np.abs(np.einsum("mii->mi", W))
    s = 1.0 / np.sqrt(np.where(size > 0, size, 1.0))
    As = A * s[:, None, :]
    norm = np.sqrt((As**2).sum(axis=2))
    t = 1.0 / np.where(norm > 0, norm, 1.0)
    K = np.zeros((m, p + q, p + q))
    K[:, :p, :p] = W * (s[:, :, None] * s[:, None, :])
    K[:, p:, :p] = As * t[:, :, None]
    K[:, :p, p:] = np.swapaxes(K[:, p:, :p], 1, 2)
    scale = np.concatenate([s, t], axis=1)[:, :, None]
    good = np.isfinite(K).all(axis=(1, 2)) & np.isfinite(right).all(axis=(1, 2))
    K = np.where(good[:, None, None], K, np.eye(p + q))
    if q == 1 and good.all() and _well_definite(K[:, :p, :p]):
        return np.linalg.solve(K, right * scale) * scale, good & (norm[:, 0] > 0)
    values, vectors = np.linalg.eigh(K)
    regular = good & ((values < 0).sum(axis=1) == q) & (np.abs(values).min(axis=1) > 1e-13 * (p + q))
    inverse = 1.0 / np.where(np.abs(values) > 1e-300, values, 1e-300)
    solution = vectors @ (inverse[:, :, None] * (np.swapaxes(vectors, 1, 2) @ (right * scale))) * scale
    return np.where(good[:, None, None], solution, np.nan), regular


def _well_definite(W: Float[Host, "m p p"]) -> bool:
    """True if all these matrices, with unit diagonals, are positive definite and far from singular (diagonals of their
    Cholesky factors above 1e-4).
    """
    try:
        return bool(np.einsum("mii->mi", np.linalg.cholesky(W)).min() > WELL_DEFINITE)
    except np.linalg.LinAlgError:
        return False
