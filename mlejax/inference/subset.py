"""Standard errors of some parameters of a fit: which entries, at what cost, and what has to be said about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from mlejax.fit import Fit, curvature_of
from mlejax.inference.subset_table import SubsetErrors, check_others, subset_errors
from mlejax.likelihood import missing_derivatives
from mlejax.parameters import Space

MAX_CHOSEN = 2000
MAX_BYTES = 4e9


class Chosen(NamedTuple):
    """Positions of the chosen entries in theta and among the reported ones, (m,) each."""

    theta: np.ndarray
    reported: np.ndarray


def choose(space: Space, addresses: Sequence[str]) -> Chosen:
    """Addresses -> the free entries that they stand for, in the order of the parameters.

    Raises:
        ValueError: no address, parameters whose entries are bound to one another, nothing free.
    """
    if not addresses:
        raise ValueError("give the addresses of some parameters, such as 'last' or 'last.w[0,1]'")
    found: dict[int, int] = {}
    for address in addresses:
        for i, flat in space.locate(address):
            leaf = space.leaves[i]
            if not leaf.transform.elementwise:
                raise ValueError(
                    f"{leaf.name} is declared {leaf.kind}, whose entries are bound to one another: errors of a subset are "
                    "given for parameters whose entries are free of each other"
                )
            entries = np.arange(leaf.size) if flat is None else np.asarray(flat)
            free = np.arange(leaf.size) if leaf.free is None else np.flatnonzero(np.asarray(leaf.free))
            entries = entries[np.isin(entries, free)]
            at = space.u_slices[i].start + np.searchsorted(free, entries)
            found |= dict(zip(at.tolist(), (space.reported_slices[i].start + entries).tolist(), strict=True))
    if not found:
        raise ValueError(f"{', '.join(addresses)}: held fixed, so that there is no standard error")
    order = sorted(found)
    return Chosen(np.array(order), np.array([found[j] for j in order]))


def dense_cost(p: int) -> str:
    """What standard errors of all p parameters would cost, in words.

    >>> dense_cost(50_000)
    'a Hessian of 50000 x 50000 numbers (20 GB), 50000 gradients and about 4.2e+13 further operations'
    """
    return f"a Hessian of {p} x {p} numbers ({8e-9 * p * p:.3g} GB), {p} gradients and about {p**3 / 3:.2g} further operations"


def subset_of(
    fit: Fit,
    addresses: Sequence[str],
    *,
    others: str = "given",
    damping: float = 0.0,
    tol: float = 1e-8,
    max_steps: int | None = None,
    alpha: float = 0.05,
) -> SubsetErrors:
    """Standard errors of the addressed parameters of a fit; arguments as in ``Results.subset_errors``."""
    check_others(others)
    if not damping >= 0 or not np.isfinite(damping):
        raise ValueError(f"damping={damping!r}: expected a number >= 0")
    if not np.isfinite(fit.llf):
        raise ValueError(f"the log-likelihood is not finite at the estimates ({fit.verdict})")
    if fit.weight_kind == "sampling":
        raise ValueError(
            "under sampling weights the information is that of a pseudolikelihood, whose inverse is no covariance; errors of a "
            "subset are not offered for it"
        )
    if fit.constraints:
        raise ValueError("errors of a subset are not offered under constraints; bse and cov_params account for them")
    scale = fit.loaded.scale
    space, p = fit.spec.space, fit.spec.space.n_free
    chosen = choose(space, addresses)
    m, k = chosen.theta.size, p - chosen.theta.size
    _check_size(m, p, others)
    on_edge = ~fit.interior[chosen.theta]
    if on_edge.any():
        names = ", ".join(space.labels[i] for i in chosen.reported[on_edge][:6])
        raise ValueError(f"{names}: on the edge of its support, where there is no Wald standard error; leave it out")
    beside = None
    if others == "estimated":
        beside = np.array(fit.interior)
        beside[chosen.theta] = False
    with jax.enable_x64(True), missing_derivatives(fit.spec.likelihood):
        found = curvature_of(
            fit.spec,
            fit.theta,
            fit.loaded.problem.data,
            fit.fixed,
            fit.loaded.hyper,
            chosen.theta,
            beside,
            damping=damping / scale,
            tol=tol,
            max_steps=max_steps,
        )
    if found.negative is not None:
        curvature = scale * found.negative - damping
        raise ValueError(
            f"the log-likelihood curves upwards in some direction of the other parameters (v'Iv / v'v = {curvature:.3g} "
            "in the information I): this is no maximum over them, and there is no covariance that accounts for them. "
            f"others='given' takes them as known; damping={-2.0 * curvature:.2g} or more adds a ridge to "
            "the information, as an l2 penalty of that strength would"
        )
    if found.residual > max(1e3 * tol, 1e-4) or (found.lost is not None and not np.isfinite(found.lost).all()):
        raise ValueError(
            f"conjugate gradients left a relative residual of {found.residual:.2g} after {found.n_steps} steps: the "
            "information of the other parameters is nearly singular. Raise max_steps=, give damping=, or take them as "
            "known: others='given'"
        )
    lower, upper = space.closed_edges
    made = subset_errors(
        [space.labels[i] for i in chosen.reported],
        fit.theta[chosen.theta],
        scale * found.block,
        scale * found.score,
        None if found.lost is None else scale * found.lost,
        links=[space.links[i] for i in chosen.reported],
        edges=(lower[chosen.reported], upper[chosen.reported]),
        zero_is_interior=space.zero_is_interior[chosen.reported],
        n_others=k,
        remarks=_remarks(fit, others, k, damping, found.n_steps, found.residual),
        alpha=alpha,
    )
    return made.with_remark(_on_the_point(fit, made.decrement))


def _check_size(m: int, p: int, others: str) -> None:
    if m > MAX_CHOSEN:
        raise ValueError(
            f"{m} parameters are chosen; errors of at most {MAX_CHOSEN} are formed: they would take {dense_cost(m)}"
        )
    if others == "estimated" and 8.0 * m * p > MAX_BYTES:
        raise ValueError(
            f"accounting for {p - m} others beside {m} parameters would hold {m} x {p} numbers ({8e-9 * m * p:.3g} GB); "
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


def _on_the_point(fit: Fit, decrement: float) -> str:
    if fit.verdict.converged:
        return ""
    return (
        f"The fit is no maximum ({fit.verdict.code}), so that these are errors of no estimator: they describe the curvature "
        f"of the log-likelihood at the point reached. g'I^-1 g of these parameters given the others is {decrement:.3g}; at a "
        "maximum it is 0."
    )
