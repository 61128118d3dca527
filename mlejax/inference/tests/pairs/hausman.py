r"""Hausman's test by stacked scores: equality of two estimators of the same parameters from the same rows.

With the influence of row i on estimator k, psi_ki = A_k^{-1} s_ki, and d the difference of the common entries,

.. math:: H = d' \Big( \sum_g (\psi_{1g} - \psi_{2g})(\psi_{1g} - \psi_{2g})' \Big)^{-} d \sim \chi^2,

with sums over rows, units or clusters g.  Neither estimator need be efficient, and the covariance is positive semidefinite, which
V_1 - V_2 need not be (Hausman 1978, Econometrica 46, 1251; stacked as in White 1982 and Stata's ``suest``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlejax.covariance import summed_by_cluster
from mlejax.fit import Fit
from mlejax.inference.covariances.products_of_scores import cluster_codes, weighted_scores
from mlejax.inference.tests.chi_squared import ChiSquared
from mlejax.inference.tests.pairs.same_data import FitFacts, data_difference, same_order
from mlejax.inference.tests.wald import wald_test
from mlejax.linalg import scaled_inverse
from mlejax.shapes import Float, Host


@dataclass(frozen=True, eq=False, repr=False)
class HausmanTest(ChiSquared):
    """Result of a Hausman test, with ``statistic``, ``df``, ``pvalue`` and ``reason`` as in :class:`ChiSquared`.

    Attributes:
      difference: first minus second estimate, natural scale, for each compared entry.
    """

    difference: tuple[float, ...] = ()
    title = "Hausman test"


def hausman_test(
    first: FitFacts, second: FitFacts, entries: str | Sequence[str] | None = None, groups: Any = None
) -> HausmanTest:
    """Test whether two fits of the same rows agree on the entries that both estimate.

    Args:
        first, second: the fits.
        entries: names of the entries to compare; by default all that both estimate.
        groups: clusters: the name of a column, or labels (n,).

    Returns:
        `HausmanTest`.

    Raises:
        ValueError: the fits are of different rows, or of the same in another order; a fit is from a file, penalised,
            bias-reduced, or no interior maximum; an entry does not exist (AddressError) or is not estimated in both, or none is.
        DataError: clusters that do not fit the rows.
    """
    a, b = _checked(first), _checked(second)
    if found := data_difference(first.fingerprint, second.fingerprint):
        raise ValueError(f"hausman_test: the fits are of different data: {found}; fit both to one table")
    n = [fit.loaded.problem.data.n_contributions for fit in (a, b)]
    shared = set(a.loaded.fingerprint.columns) & set(b.loaded.fingerprint.columns)
    rows = a.loaded.problem.data.mode == b.loaded.problem.data.mode == "rows"
    if n[0] != n[1]:
        raise ValueError(f"hausman_test needs both fits to have the same terms, got {n[0]} and {n[1]}; fit them to one table")
    if rows and shared and not same_order(a.loaded, b.loaded):
        raise ValueError("hausman_test needs both fits to have their rows in the same order; fit them to one table")
    names = _common(a, b, entries)
    parts, values = zip(*(_influence(fit, names) for fit in (a, b)), strict=True)
    gap, moved = values[0] - values[1], parts[0] - parts[1]
    if groups is not None:
        w = a.loaded.weights
        moved = summed_by_cluster(moved if w is None else moved[w.used], cluster_codes(a, groups))
    labels = tuple(f"{name} is the same in both" for name in names)
    found_ = wald_test(np.eye(len(names)), 0.0, gap, moved.T @ moved, labels=labels)
    parts_ = (found_.statistic, found_.df, found_.pvalue, labels, found_.note, found_.reason)
    return HausmanTest(*parts_, difference=tuple(gap.tolist()))


def _checked(facts: FitFacts) -> Fit:
    fit = facts.fit
    if fit is None or fit.loaded.remembered is not None:
        raise ValueError("hausman_test needs the data, which a result from a file does not hold; fit the model again")
    if not facts.converged or facts.penalised or not fit.interior.all():
        why = "did not end at one"
        if facts.penalised:
            why = f"is {'penalised' if fit.spec.reduction is None else 'bias-reduced'}"
        raise ValueError(
            f"hausman_test: expected interior maxima of the log-likelihood; the fit of {facts.label} {why} (its verdict is "
            f"{fit.verdict.code})"
        )
    return fit


def _common(a: Fit, b: Fit, entries: str | Sequence[str] | None) -> list[str]:
    """Return the names of the entries to compare: those that both fits estimate, or the ones requested.

    Raises:
        ValueError: an entry requested is not estimated in both fits, or there is none in common.
    """
    both = [
        [x for x, is_fixed in zip(f.spec.space.labels, f.spec.space.reported_fixed, strict=True) if not is_fixed]
        for f in (a, b)
    ]
    if entries is None:
        names = [x for x in both[0] if x in both[1]]
    else:
        asked = [entries] if isinstance(entries, str) else list(entries)
        labels = a.spec.space.labels
        names = [labels[i] for address in asked for i in a.spec.space.resolve(address)]
        if lost := [x for x in names if x not in both[0] or x not in both[1]]:
            raise ValueError(
                f"hausman_test: expected entries that both fits estimate, got {', '.join(lost)}; leave "
                "them out"
            )
    if not names:
        raise ValueError("hausman_test: the fits have no estimated entry in common; name them alike")
    return names


def _influence(fit: Fit, names: list[str]) -> tuple[Float[Host, "n m"], Float[Host, " m"]]:
    """Return the influence I^-1 s_i of each term, times its weight, on the named entries (n, m), and the estimates of these,
    natural scale (m,).
    """
    space = fit.spec.space
    at = [space.labels.index(name) for name in names]
    found = scaled_inverse(fit.information)  # type: ignore[arg-type]
    psi = weighted_scores(fit) @ found.inverse @ space.reported_matrix[at].T
    return psi, space.reported(fit.params)[at]
