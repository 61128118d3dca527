"""Ends in natural coordinates, and a test on arrays of which of them are surely maxima."""

from __future__ import annotations

import threading
from dataclasses import fields, replace
from typing import Any

import jax
import numpy as np

from mlejax.batch.cutting import MAX_LANES_GPU, Limits
from mlejax.batch.engine import Ends, filled, run_tasks
from mlejax.batch.programs import Described, describe
from mlejax.compiling import on_cpu
from mlejax.fit import standing
from mlejax.objective import Spec
from mlejax.parameters import Space
from mlejax.status import End

SURE_TRACE = 1e6  # of the inverse scaled information: its eigenvalues are then above 1e-6, and need not be computed
AT_ONCE = 8192  # numbers of u described at once on CPU, in at most a quarter as many lanes
WORTH_THREADS = 1_000_000  # numbers of information matrices from which threads describe faster than one


def described(spec: Spec, ends: Ends, held: Any, limits: Limits) -> Described:
    """Every end in natural coordinates, in chunks of one size."""
    n, p = ends.u.shape
    size = 1 << (AT_ONCE // min(max(p, 4), AT_ONCE)).bit_length() - 1 if on_cpu() else MAX_LANES_GPU
    whole: Any = None

    def work(cuts: list[slice]) -> int:
        nonlocal whole
        at = (ends.u, ends.score, ends.information)
        out = [describe(spec, *(filled(a[cut], size) for a in at), held) for cut in cuts]  # one is taken over while others run
        for cut, part in zip(cuts, out, strict=True):
            parts = jax.tree.map(np.asarray, part)
            with lock:
                if whole is None:
                    whole = jax.tree.map(lambda a: np.empty((n, *a.shape[1:]), a.dtype), parts)
            for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
                a[cut] = b[: cut.stop - cut.start]
        return 0

    lock = threading.Lock()
    cuts = [slice(begin, min(begin + size, n)) for begin in range(0, n, size)]
    tasks = [cuts] if n * p**2 < WORTH_THREADS else [[cut] for cut in cuts]
    if not run_tasks(tasks, work, replace(limits, progress=False), "data set", 0):
        for task in tasks:  # what was interrupted here is all but done
            work(task)
    done: Described = whole
    return done


def some(ends: Ends, lanes: np.ndarray) -> Ends:
    """The ends of some lanes."""
    return Ends(*(getattr(ends, f.name)[lanes] for f in fields(ends)))


def surely_clean(space: Space, ends: Ends, at: Described, interior: np.ndarray) -> np.ndarray:
    """Flags (L,): converged faster than linearly to safely definite information, by a test that is enough on arrays."""
    d = ends.decrements
    with np.errstate(invalid="ignore", over="ignore"):
        finite = np.isfinite(d) & (d >= 0)
        fell = finite[:, 1:] & finite[:, :-1] & (d[:, 1:] <= 1e-10) & (d[:, 1:] < 0.05 * d[:, :-1])
        modest = (at.root_u <= standing.believable(ends.u, space)).all(axis=1)
        allowed = interior
        if space.boxed:
            modest &= ~standing.at_an_edge(ends.u, at.root_u, space).any(axis=1)
            pushing = np.where(ends.u <= space.lower, -ends.score, ends.score)
            size = np.sqrt(np.abs(np.einsum("lii->li", ends.information)) + 1e-300)
            allowed = interior | (pushing > 1e-6 * size)
        return (
            (ends.end == int(End.CONVERGED))
            & at.definite
            & (at.trace < SURE_TRACE)
            & fell.any(axis=1)
            & modest
            & allowed.all(axis=1)
        )
