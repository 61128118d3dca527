r"""Two-step estimation: the second fit takes estimates of the first as known; here its standard errors account for their
variance.

With theta_1 of the first fit, (A_1, s_1) its information and scores, A_2 and s_2 those of the second fit in theta_2, and
C = -d^2 l_2 / d theta_2 d theta_1' at the estimates,

.. math:: \hat\theta_2 - \theta_2 \approx A_2^{-1} \sum_i (s_{2i} - C A_1^{-1} s_{1i}),

so that the covariance of theta_2 is, with V = A^{-1} and R = sum s_2i s_1i',

====================== =========================================================================
model-based            V_2 + V_2 (C V_1 C' - R V_1 C' - C V_1 R') V_2      (Murphy & Topel 1985)
HC0, cluster           V_2 (sum_g u_g u_g') V_2, u_i = s_2i - C V_1 s_1i   (Newey & McFadden 1994)
samples that differ    V_2 M_2 V_2 + V_2 C Cov(theta_1) C' V_2             (R = 0)
====================== =========================================================================

where u_g is the sum of u_i over cluster g (HC0: u_i itself).  The formula with u_g is multiplied by the small-sample factor of
the second fit's covariance.  Samples that differ are taken as independent: V_2 M_2 V_2 and Cov(theta_1) are the covariances
that the two fits report, both of the same kind.

Murphy & Topel (1985) JBES 3, 370; Hardin (2002) Stata Journal 2, 253; Hole (2006) Economics Letters 93, 264; Newey &
McFadden (1994) Handbook of Econometrics 4, section 6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlejax.covariance import KINDS, summed_by_cluster
from mlejax.fit import Fit, evaluated
from mlejax.fit.prepare.arguments import fix_on_host
from mlejax.fit.prepare.loaded import Loaded
from mlejax.inference.covariances.combinations import standard_errors
from mlejax.inference.covariances.products_of_scores import cluster_codes, weighted_scores
from mlejax.inference.normal import z_tests
from mlejax.inference.tables.entries import Entries, entry_intervals
from mlejax.inference.tables.estimates import Estimates
from mlejax.inference.tests.larger import fixed_by_name
from mlejax.inference.tests.pairs.same_data import same_order
from mlejax.shapes import Float, Host, Int

if TYPE_CHECKING:
    import pandas as pd



@dataclass(frozen=True, eq=False, repr=False)
class TwoStep(Estimates):
    """Estimates of the second step with standard errors that account for the first step; prints as a table.

    Attributes:
        cov: covariance of the entries (r, r).
        bse_second: standard errors that take the first step's estimates as known (r,).
        said: how the covariance was computed, in sentences.
    """

    cov: np.ndarray
    bse_second: np.ndarray
    said: tuple[str, ...]

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences printed below the table: how the covariance was computed."""
        return self.said

    def cov_params(self) -> pd.DataFrame:
        """Return the covariance of the second step's entries, which accounts for the first step, (r, r)."""
        import pandas as pd

        return pd.DataFrame(self.cov, index=list(self.labels), columns=list(self.labels))

    def frame(self) -> pd.DataFrame:
        """Return a DataFrame with one row for each entry that the second step estimates, its name in the index (``term``):
        estimate, std_error, ``std_error_second`` (which takes the first step as known), statistic, p_value, conf_low, conf_high
        and note.
        """
        table = super().frame()
        table.insert(2, "std_error_second", self.bse_second)
        return table


def two_step(first: Entries, second: Entries, names: Mapping[str, str] | None = None, alpha: float = 0.05) -> TwoStep:
    """Return the second step's estimates with a covariance that accounts for the estimation of the first step.

    Args:
        first: estimates of the first fit.
        second: estimates of the second fit, whose ``fixed=`` has the estimates of the first.
        names: dict from parameter names of the second model to those of the first, where they differ.
        alpha: one minus the coverage of the intervals, which are computed on the link scale and lie inside the supports.

    Raises:
        ValueError: the second fit fixes no parameter of the first, fixes it at another value than the estimate or with another
            shape; a fit is not an interior, unpenalised, unconstrained maximum, has effects of ``mle.Real(by=...)`` or does not
            hold its rows; the fits have different kinds of covariance, one that is not supported, or two-way clusters.
    """
    one, two = first.fit, second.fit
    for fit, which in ((one, "first"), (two, "second")):
        _check(fit, which)
    linked = _linked(one, two, names or {})
    at, own, given, source = _both(one, two, linked)
    information = np.asarray(at.information)
    V1, C = np.linalg.inv(np.asarray(one.information)), np.zeros((len(own), one.theta.size))
    C[:, source] = information[np.ix_(own, given)]
    V2 = np.linalg.inv(information[np.ix_(own, own)])
    by_row = second.cov.kind != "cluster"
    s1, s2 = _scores(one, by_row), _scores(at, by_row)[:, own]
    kinds = {first.cov.kind, second.cov.kind}
    if len(kinds) > 1:
        raise ValueError(
            f"stack: expected the same cov_type for both fits, got {first.cov.kind!r} and {second.cov.kind!r}; "
            "res.with_cov(...) changes it"
        )
    kind, same = second.cov.kind, _same_rows(one, two)
    if not (KINDS[kind].unadjusted_sandwich or kind == "nonrobust"):
        robust = ", ".join(repr(k.name) for k in KINDS.values() if k.unadjusted_sandwich)
        raise ValueError(f"stack: expected cov_type 'nonrobust', {robust}, got {kind!r}; res.with_cov(...) changes it")
    if same and kind == "nonrobust":
        R = s2.T @ s1
        middle = C @ V1 @ C.T - R @ V1 @ C.T - C @ V1 @ R.T
        cov, said = (
            V2 + V2 @ middle @ V2,
            "Murphy and Topel's covariance (1985), from the observed information of both steps.",
        )
    elif same:
        moved = s2 - s1 @ V1 @ C.T
        cov, said = _robust(second, moved, s2, V2), f"Stacked scores of both steps ({second.cov.statement})."
    else:
        cov = second.cov.matrix + V2 @ C @ first.cov.matrix @ C.T @ V2
        said = (
            "The steps were estimated from different rows, taken as independent: the first one's covariance is added."
        )
    return _result(second, cov, said, sorted(linked), alpha)


def _check(fit: Fit, which: str) -> None:
    """Raise ValueError unless a fit has the scores of single rows and is an unpenalised, unconstrained, interior maximum without
    effects of ``mle.Real(by=...)``.  ``which``: "first" or "second", for the message.
    """
    if fit.loaded.remembered is not None or fit.loaded.stream is not None:
        what = "of a stream" if fit.loaded.stream is not None else "from a file"
        raise ValueError(
            f"stack needs the scores of single rows, which the {which} fit does not hold, because it is {what}: fit that model "
            "again with its data in memory"
        )
    if fit.penalised is not None or fit.constraints:
        has = "a penalty" if fit.penalised is not None else "constraints"
        raise ValueError(f"stack: expected fits without penalty= and constraints=; the {which} fit has {has}")
    if not fit.verdict.converged or not fit.interior.all():
        raise ValueError(
            f"stack: expected fits that ended at an interior maximum; the {which} one did not (its verdict is {fit.verdict.code})"
        )
    if fit.loaded.effects is not None:
        raise ValueError(
            f"stack does not support effects of mle.Real(by=...), which the {which} fit has: give it their factor in a formula, "
            "C(firm)"
        )


def _linked(one: Fit, two: Fit, names: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters that the second fit fixes at the first fit's estimates: name in the second model -> name in the
    first.

    ``names``: the names that differ, in the same form.

    Raises:
        ValueError: there is no such parameter, ``names`` has one that is not such a parameter, or a fixed value has another
            shape or value than the estimate.
    """
    there = {
        leaf.name: (leaf, v) for leaf, v in zip(one.spec.space.leaves, one.spec.space.split(one.params), strict=True)
    }
    found = {}
    for leaf, value in zip(two.spec.space.leaves, two.spec.space.split(two.params), strict=True):
        name = names.get(leaf.name, leaf.name)
        if not leaf.all_fixed or name not in there:
            continue
        own, estimate = there[name]
        if np.shape(value) != np.shape(estimate):
            raise ValueError(
                f"stack: expected parameters of one shape, got {np.shape(value)} for {leaf.name} of the second fit and "
                f"{np.shape(estimate)} for {name} of the first; declare them alike"
            )
        if own.n_free != own.transform.n_free(own.shape):
            raise ValueError(f"stack: the first fit has fixed {name}, or entries of it; let it estimate all of {name}")
        if not np.allclose(value, estimate, rtol=1e-6, atol=1e-12):
            raise ValueError(
                f"stack: the second fit fixes {leaf.name} at {np.asarray(value)}, and the first one estimated "
                f"{np.asarray(estimate)}: "
                f"fit it with fixed={{{leaf.name!r}: first.params_tree[{name!r}]}}"
            )
        found[leaf.name] = name
    unknown = [name for name in names if name not in found]
    if unknown:
        raise ValueError(
            f"stack: names={{{unknown[0]!r}: {names[unknown[0]]!r}}}: expected a parameter that the second fit fixes, and its "
            "name in the first fit, which estimates it"
        )
    if not found:
        raise ValueError(
            "stack: the second fit fixes no parameter that the first one estimated. Declare the first step's parameters in the "
            "second model and fix them at first.params_tree with fixed=; if their names differ, give "
            "names={'name in the second model': 'name in the first'}"
        )
    return found


def _both(
    one: Fit, two: Fit, linked: Mapping[str, str]
) -> tuple[Fit, Int[Host, " p"], Int[Host, " q"], Int[Host, " q"]]:
    """Evaluate the second model with the first step's parameters free, at the estimates.

    ``linked``: the first step's parameters, name in the second model -> name in the first.

    Returns:
        The evaluated fit; positions in its theta of the second step's parameters (p,) and of the first step's (q,);
        positions of the latter in the theta of the first fit (q,).
    """
    fixed_values = {a: v for a, v in fixed_by_name(two).items() if a not in linked}
    space, fixed = fix_on_host(two.loaded.problem.space, fixed_values)
    values = two.spec.space.split(two.params)
    at = evaluated(two, two.spec.likelihood, two.loaded, space, fixed, values)
    first = {leaf.name: s for leaf, s in zip(one.spec.space.leaves, one.spec.space.u_slices, strict=True)}
    own, given, source = [], [], []
    for leaf, where in zip(space.leaves, space.u_slices, strict=True):
        positions = list(range(where.start, where.stop))
        if leaf.name in linked:
            there = first[linked[leaf.name]]
            given += positions
            source += list(range(there.start, there.stop))
        else:
            own += positions
    return at, np.array(own, int), np.array(given, int), np.array(source, int)


def _same_rows(one: Fit, two: Fit) -> bool:
    """True if term i of the log-likelihood belongs to the same row (unit) in both fits, for every i: both read the same rows
    of one table, or tables whose columns in common agree.
    """
    a, b = one.loaded, two.loaded
    if a.problem.data.mode != b.problem.data.mode or a.problem.data.n_contributions != b.problem.data.n_contributions:
        return False
    if a.source.raw is b.source.raw:
        return bool(np.array_equal(_kept(a), _kept(b)))
    return same_order(a, b)


def _kept(loaded: Loaded) -> np.ndarray:
    return np.arange(loaded.rows.n) if loaded.rows.kept is None else np.asarray(loaded.rows.kept)


def _scores(fit: Fit, by_row: bool) -> Float[Host, "n p"]:
    """Return the scores in theta times their weights (n, p); if ``by_row``, frequency weights w enter by their square roots, so
    that products of the scores of a row have weight w.
    """
    scores, w = weighted_scores(fit), fit.loaded.weights
    if w is None or w.kind != "frequency" or not by_row:
        return scores
    return np.asarray(scores / np.sqrt(np.where(w.used, w.values, 1.0))[:, None])


def _robust(
    second: Entries, moved: Float[Host, "n p"], own: Float[Host, "n p"], V2: Float[Host, "p p"]
) -> Float[Host, "p p"]:
    """Return the sandwich of the stacked scores (p, p), with the small-sample factor of the second fit's own covariance.

    Args:
        second: the second fit, whose clusters are used.
        moved: scores of the second step minus the part that the first step explains.
        own: scores of the second step.
        V2: inverse information of the second step.

    Raises:
        ValueError: two-way clusters.
    """
    fit, groups = second.fit, second.cov.groups
    if len(groups) > 1:
        raise ValueError(f"stack: expected clusters by one column, got {len(groups)} columns; fit the second model with one")
    parts = [moved, own]
    if groups:
        used, codes = fit.loaded.weights, cluster_codes(fit, groups[0])
        parts = [summed_by_cluster(part if used is None else part[used.used], codes) for part in parts]
    stacked, alone = (V2 @ part.T @ part @ V2 for part in parts)
    return np.asarray(stacked * (np.trace(second.cov.matrix) / np.trace(alone)))


def _result(second: Entries, cov: Float[Host, "p p"], said: str, linked: list[str], alpha: float) -> TwoStep:
    """Return the table of the second step's estimated entries.

    Args:
        second: entries of the second fit; its own standard errors are shown next to the corrected ones.
        cov: corrected covariance, (p, p).
        said: sentence on how the covariance was computed, to which a sentence on ``linked`` is added.
        linked: names of the second model's parameters that are fixed at estimates of the first step.
        alpha: one minus the coverage of the intervals.
    """
    space = second.space
    keep = np.flatnonzero(~space.reported_fixed)
    matrix = space.reported_matrix[keep]
    bse = np.full(space.n_reported, np.nan)
    bse[keep] = standard_errors(matrix, cov)
    limits = entry_intervals(space, second.params, bse, alpha)
    z, p = z_tests(second.params, bse, testable=space.zero_is_interior)
    labels = tuple(second.labels[i] for i in keep)
    said = f"{said} Fixed at the first step's estimates: {', '.join(linked)}."
    ends = (limits.low[keep], limits.high[keep])
    notes = tuple(limits.notes[i] for i in keep)
    return TwoStep(
        "Second of two steps", labels, second.params[keep], bse[keep], z[keep], p[keep], *ends, notes, alpha,
        matrix @ cov @ matrix.T, second.bse[keep], (said,),
    )  # fmt: skip
