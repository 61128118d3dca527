"""Check whether a restricted fit is nested in a larger one.

Fits of one function are compared at the restricted estimates: the larger fit must be able to give every parameter its value
in every row, by its column space, offset, fixed values and constraints.  For fits of different functions, nesting cannot be
checked and is assumed.
"""

from __future__ import annotations

import numpy as np

from mlejax.execution import float64
from mlejax.fit import Fit
from mlejax.inference.row_designs import designs_of
from mlejax.inference.tests.larger import predictor_of
from mlejax.inference.tests.pairs.same_data import same_order
from mlejax.inference.tests.restrictions.hypotheses import parse_hypotheses
from mlejax.parameters import CurvedTies
from mlejax.transforms import Box, HalfOpen, Transform

TOLERANCE = 1e-6  # of a linear predictor outside a column space, relative to its size


def same_function(full: Fit, restricted: Fit) -> bool:
    """True if both fits use the same log-likelihood function, with or without formulas."""
    a, b = ((fit.spec.likelihood.natural or fit.spec.likelihood).function for fit in (full, restricted))
    return a is b


def unchecked(full: Fit, restricted: Fit) -> str:
    """Return the reason why `not_nested` cannot check two fits: two functions, or formulas of the restricted fit with columns
    that the full one does not have, of rows that are not in memory or differ in order; empty if it can, or need not.
    """
    if not same_function(full, restricted):
        return "they are two functions"
    if same_order(full.loaded, restricted.loaded):
        return ""
    known = {*full.spec.space.labels, *(p.name for p in full.spec.likelihood.predictors)}
    more = [label for label in restricted.spec.space.labels if label not in known]
    return f"{', '.join(more[:3])} of one is not in the other, and their rows cannot be compared" if more else ""


def not_nested(full: Fit, restricted: Fit) -> str:
    """Return the reason why the restricted fit is not nested in the full one; empty if it is, or if that cannot be checked
    (two functions, rows that are not the same or not in memory).
    """
    labels = full.spec.space.labels
    if labels == restricted.spec.space.labels and (broken := _broken(full, restricted)):
        return f"the full fit imposes {', '.join(broken)}, which the restricted estimates do not satisfy"
    if not same_function(full, restricted) or not same_order(full.loaded, restricted.loaded):
        return ""
    with float64():
        outside = [name for name in _names(full, restricted) if not _attainable(full, restricted, name)]
    if not outside:
        return ""
    return (
        f"{', '.join(outside)} of the restricted fit takes values that no coefficients of the full one give: its columns "
        "(or offset) are not linear combinations of the full fit's columns"
    )


def fixed_on_bounds(full: Fit, restricted: Fit) -> list[str]:
    """Return the names of the entries that the restricted fit fixes at a bound that belongs to their support and the full fit
    estimates; none for fits of two functions.
    """
    a, b = full.spec.space, restricted.spec.space
    if not same_function(full, restricted):
        return []
    values = dict(zip(b.labels, np.where(b.reported_fixed, b.reported(restricted.params), np.nan), strict=True))
    out = []
    for leaf, rows in zip(a.leaves, a.reported_slices, strict=True):
        bounds = closed_bounds(leaf.transform)
        names = zip(a.labels[rows], a.reported_fixed[rows], strict=True)
        out += [name for name, is_fixed in names if not is_fixed and values.get(name) in bounds]
    return out


def closed_bounds(transform: Transform) -> tuple[float, ...]:
    """Return the bounds that belong to the support of an interval; none for other supports."""
    if isinstance(transform, HalfOpen):
        return (transform.lo if transform.closed == "left" else transform.hi,)
    return (transform.lo, transform.hi) if isinstance(transform, Box) else ()


def _broken(full: Fit, restricted: Fit) -> list[str]:
    """Return the fixed values, "mu = 1", and the constraints of the full fit that the restricted estimates do not satisfy;
    both fits have the same entries.
    """
    space = full.spec.space
    own, other = space.reported(full.params), space.reported(restricted.params)
    apart = np.abs(own - other) > 1e-8 * np.maximum(1.0, np.abs(own))
    broken = [f"{space.labels[i]} = {own[i]:g}" for i in np.flatnonzero(space.reported_fixed & apart)]
    if isinstance(space.ties, CurvedTies):
        with float64():
            left = np.abs(np.asarray(space.ties.residuals(space.untied, restricted.params)))
        return broken + [text for text, gap in zip(full.constraints, left, strict=True) if not gap <= 1e-6]
    for text in full.constraints:
        try:
            h = parse_hypotheses(text, space.resolve, space.n_reported, names=list(space.labels))
        except ValueError:  # a function, of which a file holds the name alone
            continue
        if (np.abs(h.R @ other - h.r) > 1e-6 * (1.0 + np.abs(h.r))).any():
            broken.append(text)
    return broken


def _names(full: Fit, restricted: Fit) -> list[str]:
    """Return the names of the parameters that have a formula in either fit."""
    return list(dict.fromkeys(p.name for fit in (full, restricted) for p in fit.spec.likelihood.predictors))


def _attainable(full: Fit, restricted: Fit, name: str) -> bool:
    """True if the full fit can give a parameter the values that it has at the restricted estimates in all rows of positive
    weight, by its columns, offset and fixed coefficients.
    """
    mine, theirs = (predictor_of(fit.spec.likelihood, name) for fit in (full, restricted))
    n, w = full.loaded.rows.n, full.loaded.weights
    used = w.used if w is not None and len(w.values) == n else np.ones(n, bool)
    if theirs is None:
        value = np.broadcast_to(np.asarray(restricted.params[name]), (n, *np.shape(restricted.params[name])))
    else:
        value = np.asarray(theirs.value(restricted.params[name], *designs_of(restricted.loaded)[name][:2]))
    if mine is None:
        value = value[used]
        return bool(np.ptp(value, axis=0).max(initial=0.0) <= TOLERANCE * np.abs(value).max(initial=0.0))
    design, offset = designs_of(full.loaded)[name][:2]
    leaf = next(leaf for leaf in full.spec.space.leaves if leaf.name == name)
    free = np.ones(leaf.size, bool) if leaf.free is None else np.asarray(leaf.free)
    fixed_only = np.where(free.reshape(leaf.shape), 0.0, np.asarray(full.params[name]))
    wanted = np.asarray(mine.link.link(value), np.float64) - np.asarray(mine.linear_predictor(fixed_only, design, offset))
    wanted, design = wanted.reshape(n, -1)[used], design[used]
    for entry, mask in zip(wanted.T, free.reshape(-1, leaf.shape[-1]), strict=True):
        columns = design[:, mask] / np.maximum(np.sqrt((design[:, mask] ** 2).sum(axis=0)), 1e-300)
        found = np.linalg.lstsq(columns, entry, rcond=1e-12)[0]
        rest = entry - columns @ found
        if np.linalg.norm(rest) > TOLERANCE * max(float(np.linalg.norm(entry)), 1e-300):
            return False
    return True
