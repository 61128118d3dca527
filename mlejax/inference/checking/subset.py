"""Standard errors of a few of very many parameters: which entries, at what cost, and how to read the errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mlejax.execution import float64
from mlejax.fit import Fit
from mlejax.inference.checking.information import Information, InformationPoint, information_of
from mlejax.inference.intervals import confidence_intervals
from mlejax.inference.normal import z_tests
from mlejax.inference.tables.entries import dense_cost
from mlejax.inference.tables.estimates import Estimates
from mlejax.likelihood import missing_derivatives
from mlejax.linalg import scaled_inverse
from mlejax.parameters import Space
from mlejax.shapes import Bool, Float, Host, Int

if TYPE_CHECKING:
    import pandas as pd

OTHERS = ("given", "estimated")
MAX_CHOSEN = 2000
MAX_BYTES = 4e9
CURVED = 1e-7  # size of a negative scaled eigenvalue that no rounding of conjugate gradients explains


@dataclass(frozen=True, eq=False, repr=False)
class SubsetErrors(Estimates):
    """Estimates of the chosen parameters with standard errors; prints as a table that says how to read them.

    Attributes:
        cov: covariance of the estimates (m, m).
        cov_given: covariance if the other parameters were known (m, m), whatever ``others`` is.
        others: ``"given"`` (the others taken as known) or ``"estimated"``.
        decrement: g' I_SS^-1 g with g the score of the chosen parameters, log-likelihood units; 0 at a maximum.
        n_others: number of other free parameters.
        meaning: how to read the errors, in sentences.
    """

    cov: np.ndarray
    cov_given: np.ndarray
    others: str
    decrement: float
    n_others: int
    meaning: tuple[str, ...]

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences printed below the table: how to read the errors."""
        return self.meaning

    def cov_params(self) -> pd.DataFrame:
        """Return the covariance ``cov`` of the chosen parameters as a DataFrame, (m, m), natural scale."""
        import pandas as pd

        return pd.DataFrame(self.cov, index=list(self.labels), columns=list(self.labels))


class Chosen(NamedTuple):
    """Positions of the m chosen entries: in theta, and among the entries that tables show."""

    theta: Int[Host, " m"]
    reported: Int[Host, " m"]


def choose(space: Space, addresses: Sequence[str]) -> Chosen:
    """Return the free entries that the given names select, each once, in the order of the parameters.

    Args:
        space: the parameters.
        addresses: names of parameters, subtrees or entries, ``"last.w[0,1]"``.

    Raises:
        ValueError: no name is given, a parameter's entries depend on one another (simplex, covariance), or all are fixed.
        AddressError: no parameter or entry has this name.
    """
    if not addresses:
        raise ValueError("subset_errors: no parameter is named; give names such as 'last' or 'last.w[0,1]'")
    found: dict[int, int] = {}
    for address in addresses:
        for i, flat in space.locate(address):
            leaf = space.leaves[i]
            if not leaf.transform.elementwise:
                raise ValueError(
                    f"subset_errors: {leaf.name} is declared {leaf.kind}, whose entries depend on one another; name parameters "
                    "whose entries vary freely, such as Real and Positive"
                )
            entries = np.arange(leaf.size) if flat is None else np.asarray(flat)
            free = np.arange(leaf.size) if leaf.free is None else np.flatnonzero(np.asarray(leaf.free))
            entries = entries[np.isin(entries, free)]
            at = space.u_slices[i].start + np.searchsorted(free, entries)
            found |= dict(zip(at.tolist(), (space.reported_slices[i].start + entries).tolist(), strict=True))
    if not found:
        raise ValueError(f"{', '.join(addresses)}: fixed, so that there is no standard error; name free parameters")
    order = sorted(found)
    return Chosen(np.array(order), np.array([found[j] for j in order]))


def subset_errors_of(
    fit: Fit,
    *addresses: str,
    others: str = "given",
    damping: float = 0.0,
    tol: float = 1e-8,
    max_steps: int | None = None,
    alpha: float = 0.05,
    cov_type: str = "nonrobust",
) -> SubsetErrors:
    r"""Return standard errors of some parameters, where there are too many parameters for a full covariance matrix.

    With S the parameters chosen, O the others and I the observed information:

    * ``others="given"``: :math:`(I_{SS})^{-1}`, the covariance that S would have if O were known. It takes one
      Hessian-vector product for each parameter chosen.
    * ``others="estimated"``: :math:`(I_{SS} - I_{SO} I_{OO}^{-1} I_{OS})^{-1}`, the block of :math:`I^{-1}`, which
      accounts for the estimation of O and is never smaller. By conjugate gradients on Hessian-vector products, up
      to hundreds of these for each parameter; an error where they meet negative curvature.

    Whatever ``cov_type`` the fit has, these standard errors come from the information, and the table says so.

    At a point that is no maximum, where the training of a neural network usually stops, neither is the standard error
    of an estimator: the table says so, and gives g'I^-1 g of S. Many weights of a network usually give the same
    likelihood, so that ``"estimated"`` needs ``damping`` there.

    Args:
        *addresses: parameters, subtrees or entries: ``"last"``, ``"sigma"``, ``"net.w[3,1]"``; up to 2,000 numbers.
        others: ``"given"`` or ``"estimated"``.
        damping: a ridge added to the information, as an l2 penalty of that strength would add.
        tol: relative residual at which conjugate gradients stop.
        max_steps: most conjugate gradient steps; by default twice the number of others plus 10, at most 10,000.
        alpha: one minus the coverage.
        cov_type: kind of covariance of the fit; if another than "nonrobust", the table says that it is not used here.

    Returns:
        :class:`mlejax.inference.SubsetErrors`: prints as a table; ``bse``, ``cov_params()``, ``cov_given``,
            ``table()``.

    Raises:
        ValueError: the information is not positive definite; conjugate gradients found negative curvature or did not converge;
            no parameter or too many are named, one at a bound, only fixed ones, or one whose entries depend on one another; the
            log-likelihood is not finite; the fit has sampling weights or constraints; or an option is not valid.
        AddressError: no parameter or entry has a name in ``addresses``.

    Example:
        >>> import mlejax as mle
        >>> from jax.scipy.stats import norm
        >>> @mle.model(a=mle.Real(), b=mle.Real(), sigma=mle.Positive())
        ... def line(params, data):
        ...     return norm.logpdf(data["y"], params["a"] + params["b"] * data["x"], params["sigma"])
        >>> res = line.fit({"x": [0.0, 1.0, 2.0, 3.0], "y": [1.0, 3.0, 2.0, 5.0]})
        >>> res.subset_errors("b").bse.round(3), res.subset_errors("b", others="estimated").bse.round(3)
        (array([0.22]), array([0.367]))
        >>> round(float(res.bse["b"]), 3)
        0.367
    """
    _check_offered(fit, others, damping)
    scale = fit.loaded.scale
    space, p = fit.spec.space, fit.spec.space.n_free
    chosen = choose(space, addresses)
    m, k = chosen.theta.size, p - chosen.theta.size
    _check_size(m, p, others)
    on_bound = ~fit.interior[chosen.theta]
    if on_bound.any():
        names = ", ".join(space.labels[i] for i in chosen.reported[on_bound][:6])
        raise ValueError(f"{names}: at a bound of the support, where there is no Wald standard error; leave it out")
    beside = None
    if others == "estimated":
        beside = np.array(fit.interior)
        beside[chosen.theta] = False
    with float64(), missing_derivatives(fit.spec.likelihood):
        at = InformationPoint(fit.theta, fit.loaded.problem.data, fit.fixed, fit.loaded.hyper)
        found = information_of(
            fit.spec, at, chosen.theta, beside, damping=damping / scale, tol=tol, max_steps=max_steps
        )
    _check_solved(found, scale, damping, tol)
    lower, upper = space.closed_bounds
    made = subset_errors(
        [space.labels[i] for i in chosen.reported],
        fit.theta[chosen.theta],
        scale * found.block,
        scale * found.score,
        None if found.lost is None else scale * found.lost,
        links=[space.links[i] for i in chosen.reported],
        bounds=(lower[chosen.reported], upper[chosen.reported]),
        zero_is_interior=space.zero_is_interior[chosen.reported],
        n_others=k,
        remarks=_remarks(fit, others, k, damping, found.n_steps, found.residual),
        alpha=alpha,
    )
    more = (*_on_the_point(fit, made.decrement), *_robust(cov_type))
    return replace(made, meaning=(*made.meaning, *more))


def _check_offered(fit: Fit, others: str, damping: float) -> None:
    """Raise ValueError for invalid options, and for fits that are not supported: a log-likelihood that is not finite,
    sampling weights, or constraints.
    """
    check_others(others)
    if not damping >= 0 or not np.isfinite(damping):
        raise ValueError(f"damping={damping!r}: expected a number >= 0")
    if not np.isfinite(fit.llf):
        raise ValueError(f"subset_errors needs a finite log-likelihood at the estimates, got {fit.llf:g}; {fit.verdict}")
    if fit.weight_kind == "sampling":
        raise ValueError(
            "subset_errors does not support sampling weights: the inverse of the information of a pseudolikelihood is not a "
            "covariance; use bse, which has sandwich errors"
        )
    if fit.constraints:
        raise ValueError("subset_errors does not support constraints; use bse and cov_params, which account for them")


def _check_solved(found: Information, scale: float, damping: float, tol: float) -> None:
    """Raise ValueError if conjugate gradients found negative curvature or did not converge.

    Args:
        found: the information, of weights divided by ``scale``.
        scale: number by which weights were divided.
        damping: the ridge, as the user gave it.
        tol: relative residual requested.
    """
    if found.negative is not None:
        curvature = scale * found.negative - damping
        if curvature == 0.0:
            raise ValueError(
                "the log-likelihood is flat in some direction of the other parameters (v'Iv = 0 in the information I), so that "
                "there is no covariance that accounts for them. others='given' takes them as known; a positive damping= adds "
                "a ridge to the information, as an l2 penalty of that strength would"
            )
        raise ValueError(
            f"the log-likelihood curves upwards in some direction of the other parameters (v'Iv / v'v = {curvature:.3g} "
            "in the information I): this is no maximum over them, and there is no covariance that accounts for them. "
            f"others='given' takes them as known; damping={-2.0 * curvature:.2g} or more adds a ridge to "
            "the information, as an l2 penalty of that strength would"
        )
    if found.residual > max(1e3 * tol, 1e-4) or (found.lost is not None and not np.isfinite(found.lost).all()):
        ended, more = f"after {found.n_steps} steps, where rounding errors ended them", ""
        if found.n_steps >= found.most_steps:
            ended, more = f"after all {found.n_steps} steps", "raise max_steps=, "
        raise ValueError(
            f"conjugate gradients left a relative residual of {found.residual:.2g} {ended}: {more}give damping=, or take the "
            "other parameters as known: others='given'"
        )


def _without_inverse(information: Float[Host, "m m"], size: Float[Host, " m"]) -> tuple[str, str]:
    """Return the reason why an information matrix has no inverse, and what to do, one phrase each.

    ``size``: diagonal (m,) by whose square roots rows and columns are divided, where it is positive.
    """
    scale = 1.0 / np.sqrt(np.where(size > 0, size, 1.0))
    scaled = information * np.outer(scale, scale)
    if not np.isfinite(scaled).all():
        return "it is not finite", "Choose other parameters"
    smallest = float(np.linalg.eigvalsh(scaled)[0])
    if smallest < -CURVED:
        return (
            f"the log-likelihood curves upwards in some direction of these parameters (scaled eigenvalue {smallest:.2g}), so "
            "that this is no maximum over them"
        ), "Train longer, or give damping="
    return (
        f"the log-likelihood is flat in some direction of these parameters (scaled eigenvalue {smallest:.2g}), so that they are "
        "not identified"
    ), "Choose fewer parameters, or give damping="


def _check_size(m: int, p: int, others: str) -> None:
    if m > MAX_CHOSEN:
        raise ValueError(
            f"subset_errors: expected at most {MAX_CHOSEN} parameters, got {m}: their covariance takes {dense_cost(m)}; choose "
            "fewer"
        )
    if others == "estimated" and 8.0 * m * p > MAX_BYTES:
        raise ValueError(
            f"standard errors of {m} parameters with {p - m} others estimated need {m} x {p} numbers ({8e-9 * m * p:.3g} GB); "
            "choose fewer, or take the others as known: others='given'"
        )


def _remarks(fit: Fit, others: str, k: int, damping: float, steps: int, residual: float) -> list[str]:
    said = []
    if k and others == "given":
        said.append(
            f"Given the others: the inverse of the information of these parameters alone. The other {k} are taken as known, "
            "so that the errors leave out what estimating them costs; others='estimated' accounts for it."
        )
    elif k:
        said.append(
            f"The other {k} parameters are accounted for: these are the errors from the inverse of the whole information, by "
            f"conjugate gradients ({steps} steps, relative residual {residual:.1e}; no negative curvature was met)."
        )
    if fit.penalised is not None:
        said.append(
            "The information is that of the penalised log-likelihood: these are the errors of cov_type='bayes'."
        )
    if damping:
        said.append(f"A ridge of {damping:g} was added to the information, as an l2 penalty of that strength would.")
    return said


def _robust(cov_type: str) -> list[str]:
    if cov_type == "nonrobust":
        return []
    return [f"These are errors from the information alone, not those of cov_type={cov_type!r}, which bse has."]


def _on_the_point(fit: Fit, decrement: float) -> list[str]:
    if fit.verdict.converged:
        return []
    return [
        f"The fit is no maximum ({fit.verdict.code}), so that these are errors of no estimator: they describe the curvature "
        f"of the log-likelihood at the point reached. g'I^-1 g of these parameters given the others is {decrement:.3g}; at a "
        "maximum it is 0."
    ]


def check_others(others: object) -> None:
    """Raise ValueError unless ``others`` is "given" or "estimated".

    >>> check_others("given")
    """
    if others not in OTHERS:
        raise ValueError(
            f"others={others!r}: expected 'given' (the other parameters taken as known) or 'estimated' (accounting for them)"
        )


def subset_errors(
    names: Sequence[str],
    params: Float[Host, " m"],
    block: Float[Host, "m m"],
    score: Float[Host, " m"],
    lost: Float[Host, "m m"] | None,
    *,
    links: Sequence[Any],
    bounds: tuple[Float[Host, " m"], Float[Host, " m"]],
    zero_is_interior: Bool[Host, " m"],
    n_others: int,
    remarks: Sequence[str] = (),
    alpha: float = 0.05,
) -> SubsetErrors:
    """Return the table of standard errors of chosen parameters from their score and information, which are those of the
    log-likelihood summed over all rows.

    Args:
        names: names of the m entries.
        params: estimates, natural scale.
        block: their information I_SS (m, m).
        score: score of the chosen parameters (m,).
        lost: I_SO I_OO^-1 I_OS (m, m), or None to take the others as known.
        links: m bijections on whose scale the intervals are symmetric.
        bounds: lower and upper bounds of the supports, (m,) each; infinite where the support is open.
        zero_is_interior: True for entries whose z statistic against 0 is meaningful (m,).
        n_others: number of other free parameters.
        remarks: how to read the errors, in sentences.
        alpha: 1 - coverage.

    Raises:
        ValueError: the information of these parameters, or what is left of it after ``lost``, is not positive definite, or alpha
            is not in (0, 0.5].

    >>> import numpy as np
    >>> from mlejax.transforms import Identity
    >>> wide = (np.full(1, -np.inf), np.full(1, np.inf))
    >>> kinds = {"links": [Identity()], "bounds": wide, "zero_is_interior": np.array([True]), "n_others": 1}
    >>> given = subset_errors(["b"], np.ones(1), np.array([[4.0]]), np.zeros(1), None, **kinds)
    >>> both = subset_errors(["b"], np.ones(1), np.array([[4.0]]), np.zeros(1), np.array([[3.0]]), **kinds)
    >>> given.bse.tolist(), both.bse.tolist()
    ([0.5], [1.0])
    """
    inside = scaled_inverse(block)
    if not inside.ok:
        why, advice = _without_inverse(block, np.diag(block))
        raise ValueError(f"the information of these parameters given the others has no inverse: {why}. {advice}")
    given = inside.inverse
    cov = given
    if lost is not None:
        found = scaled_inverse(block - lost)
        if not found.ok:
            why, _ = _without_inverse(block - lost, np.diag(block))
            raise ValueError(
                f"accounting for the other parameters leaves no positive definite information of these: {why}. Give "
                "others='given', or a ridge by damping="
            )
        cov = found.inverse
    bse = np.sqrt(np.diag(cov))
    tests = z_tests(params, bse, testable=zero_is_interior)
    limits = confidence_intervals(params, bse, links=links, lower_bound=bounds[0], upper_bound=bounds[1], alpha=alpha)
    others = "given" if lost is None else "estimated"
    how = "given the others" if lost is None else "the others estimated"
    title = f"Standard errors of {len(names)} of {len(names) + n_others} parameters, {how}"
    table = (title, tuple(names), np.asarray(params), bse, *tests, limits.low, limits.high, limits.notes, float(alpha))
    return SubsetErrors(*table, cov, given, others, float(score @ given @ score), n_others, tuple(remarks))
