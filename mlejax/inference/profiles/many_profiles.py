"""Profile-likelihood intervals of many fits: all limits of an entry in all data sets are computed together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mlejax.batch import Batch, single
from mlejax.execution import float64
from mlejax.inference.profiles.ends.descriptions import described
from mlejax.inference.profiles.profile import chi2_cut
from mlejax.inference.profiles.profiled import find_ends, make_paths, profiled_batch, refused
from mlejax.inference.profiles.profiling import free_entries
from mlejax.inference.profiles.targets import entry_targets
from mlejax.shapes import Float, Host

ENDS_AT_ONCE = 20_000  # of all entries that are worked on together


class ManyIntervals(NamedTuple):
    """Profile-likelihood intervals of L data sets and r entries, natural scale.

    Attributes:
        lower, upper: the limits, (L, r), which may be infinite; NaN for fixed entries, for fits without a maximum, and for the
            statuses "higher maximum found" and "not computable".
        lower_status, upper_status: the status of each limit, (L, r): "finite" and the others of `ProfileEnd`, "fixed" for a fixed
            entry, or the code of the verdict for a fit without a maximum.
    """

    lower: Float[Host, "L r"]
    upper: Float[Host, "L r"]
    lower_status: np.ndarray
    upper_status: np.ndarray


def profile_intervals_of_many(batch: Batch, alpha: float = 0.05) -> ManyIntervals:
    """Return profile-likelihood intervals of all entries, for all data sets whose fit ended at a maximum.

    Raises:
        ValueError: the fits have sampling or importance weights, a penalty, bias reduction other than Jeffreys', no free
            parameter or more than 500, or no Hessian; or alpha is not in (0, 0.5].
    """
    cut, space, good = chi2_cut(alpha), batch.spec.space, np.flatnonzero(batch.converged)
    if batch.weight_kind in ("sampling", "importance"):
        raise ValueError(
            f"with {batch.weight_kind} weights the likelihood ratio is not chi-squared, so that a profile has no cut at its "
            "quantile; res[label].conf_int(method='profile', adjusted=True) adjusts it for one data set"
        )
    why = refused(single(batch, int(good[0]))) if good.size else ""
    if why:
        raise ValueError(f"no profile likelihood: {why}")
    n, r = len(batch.sets), space.n_reported
    nothing = np.full((n, r), np.nan)
    states = np.full((n, r), "", dtype=object)
    states[~batch.converged] = batch.codes[~batch.converged][:, None]
    states[:, space.reported_fixed] = "fixed"
    out = ManyIntervals(nothing, nothing.copy(), states, states.copy())
    entries = free_entries(space)
    if not good.size or not entries.size:
        return out
    with float64():
        fits, targets = profiled_batch(batch), entry_targets(space, batch.fixed, entries)
        at_once = max(ENDS_AT_ONCE // (2 * len(good)), 1)
        for begin in range(0, len(targets), at_once):
            some = targets[begin : begin + at_once]
            which = np.tile(np.repeat(np.arange(len(some)), 2), len(good))[:, None]
            signs = np.tile([-1.0, 1.0], len(some) * len(good))[:, None]
            sets = np.repeat(good, 2 * len(some))
            paths = make_paths(fits, some, which, sets, signs, cut / (2.0 * fits.scale[sets]))
            ends = described(paths, find_ends(paths), alpha)
            for k in range(0, len(ends), 2):
                i, j = int(sets[k]), int(entries[begin + which[k, 0]])
                low, high = ends[k : k + 2]
                out.lower[i, j], out.upper[i, j] = low.value, high.value
                out.lower_status[i, j], out.upper_status[i, j] = low.status, high.status
    return out
