"""Several starts: the maxima that they reach, how many starts reach each, and the ends that are no maximum.

Ends are sorted into *maxima* (clean ends), *copies* of a maximum (an exchange of equally declared parameters turns one into
the other, at equal log-likelihood: the components of a mixture), *spikes* (the log-likelihood rises without bound),
*plateaus* (it rises to a supremum that it never reaches) and the rest.  Two ends are one maximum if they lie within a
hundredth of a standard error of one another at equal log-likelihood.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mlejax import optimize
from mlejax.compiling import compiled
from mlejax.data import Prepared
from mlejax.fit.common import objective_of
from mlejax.fit.loading import Loaded
from mlejax.fit.programs import Ended
from mlejax.fit.search import evidence_at, search
from mlejax.fit.standing import Found, clean
from mlejax.objective import Spec
from mlejax.parameters import Space
from mlejax.shapes import Device, Float, Host
from mlejax.status import End
from mlejax.verdict import judge, steepest

AT_ONCE = 8  # starts in one dispatch
CACHE = 2.0e5  # rows x parameters up to which the starts of a dispatch share a vmap
MAX_STEPS = 150  # steps from one start, so that a search towards infinity does not delay the others
EXAMINED = 6  # groups of unclean ends that are examined by ray tests
SAME_PLACE = 1e-2  # standard errors
SAME_LEVEL = 1e-7  # log-likelihood, relative


@dataclass(frozen=True, eq=False)
class Mode:
    """A point where some of the starts ended.

    Attributes:
        kind: ``"maximum"``, ``"copy"``, ``"spike"``, ``"plateau"`` or the optimiser's end in lower case.
        llf: log-likelihood there.
        u: the point in the optimiser's coordinates, (p,).
        n_starts: how many starts ended there.
        copy_of: for a copy, the position in the list of the maximum that it copies; else None.
        statement: what the ray tests found, for all but maxima and copies.
    """

    kind: str
    llf: float
    u: np.ndarray
    n_starts: int
    copy_of: int | None = None
    statement: str = ""


@partial(compiled, static=("spec", "method", "at_once"))
def _search_all(
    spec: Spec, method: Any, u0: Float[Device, "m p"], data: Prepared, fixed: Any, hyper: Any, at_once: int
) -> Any:
    """The optimiser's state at its end from every start, stacked."""

    def one(u: Float[Device, " p"]) -> Any:
        objective = objective_of(spec, data, fixed, hyper)
        turns = jnp.asarray(method.max_steps + 2, jnp.int32)
        carry = optimize.begin(method, u)
        return optimize.advance(method, objective, carry, spec.space.lower, spec.space.upper, objective.scale, turns)

    return lax.map(one, u0, batch_size=at_once)


def run_all(
    spec: Spec,
    method: Any,
    loaded: Loaded,
    u0: Float[Host, "m p"],
    fixed: Any,
    hyper: Any,
    report: Callable[[int, float], None] | None,
) -> list[Ended]:
    """Newton's method from every start to its end; after Ctrl-C, the ends that had been reached."""
    data = loaded.problem.data
    method = method if isinstance(method, optimize.Newton) else optimize.Newton()
    method = replace(method, max_steps=min(method.max_steps, MAX_STEPS))
    scale = data.total_weight
    alone = spec.likelihood.calls_lapack or data.n_padded * spec.space.n_free > CACHE
    out: list[Ended] = []
    for begin in range(0, len(u0), AT_ONCE):
        part = u0[begin : begin + AT_ONCE]
        padded = np.resize(part, (AT_ONCE, u0.shape[1]))
        try:
            found = _search_all(spec, method, padded, data, fixed, hyper, 1 if alone else AT_ONCE)
            carry = jax.tree.map(np.asarray, found)
        except KeyboardInterrupt:
            break
        out += [_ended(carry, i, scale) for i in range(len(part))]
        if report is not None:
            highest = max((e.loglik for e in out if np.isfinite(e.loglik)), default=float("nan"))
            report(begin + len(part), highest / scale)
    return out


def _ended(carry: Any, i: int, scale: float) -> Ended:
    decrements = tuple(float(d) for d in carry.decrements[i])
    return Ended(
        u=carry.u[i],
        loglik=-float(carry.f[i]) * scale,
        score=-carry.g[i] * scale,
        information=carry.H[i] * scale,
        decrement=decrements[-1],
        decrements=decrements,
        n_steps=int(carry.n_steps[i]),
        end=End(int(carry.status[i])),
        polished=False,
        message="",
    )


def modes_of(
    spec: Spec, method: Any, loaded: Loaded, ends: Sequence[Ended], fixed: Any
) -> tuple[tuple[Mode, ...], tuple[Ended, Found] | None]:
    """The ends sorted into modes, maxima first and the highest of them first; and the end at the highest maximum, if any."""
    space = spec.space
    maxima: list[tuple[Ended, Found, int]] = []
    others: list[tuple[Ended, int]] = []
    for ended in ends:
        if clean(ended, space):
            _count(maxima, ended, Found(), 1)
            continue
        same = next((k for k, (seen, _) in enumerate(others) if _same(seen, ended, False)), None)
        if same is None:
            others.append((ended, 1))
        else:
            others[same] = (others[same][0], others[same][1] + 1)
    rest: list[Mode] = []
    onward = method if isinstance(method, optimize.Newton) else optimize.Newton()
    others.sort(key=lambda pair: -np.nan_to_num(pair[0].loglik, nan=-np.inf, neginf=-np.inf))
    for k, (ended, count) in enumerate(others):
        if ended.end == End.START_NOT_FINITE or not np.isfinite(ended.loglik) or k >= EXAMINED:
            rest.append(Mode(_end_of(ended), ended.loglik, ended.u, count))
            continue
        _, after, found = search(spec, onward, loaded, ended.u, fixed, None)
        if judge(evidence_at(spec, fixed, after, found)).converged:
            _count(maxima, after, found, count)
        else:
            rest.append(_unclean(after, found, count))
    maxima.sort(key=lambda entry: -entry[0].loglik)
    return (*_with_copies(space, maxima, fixed), *_merged(rest)), (maxima[0][:2] if maxima else None)


def _count(maxima: list[tuple[Ended, Found, int]], ended: Ended, found: Found, count: int) -> None:
    """Add an end to the maxima: to an equal one, of which the end with the smaller decrement is kept, or as a new one."""
    for k, (seen, its, before) in enumerate(maxima):
        if _same(seen, ended, True):
            better = (seen, its) if seen.decrement <= ended.decrement else (ended, found)
            maxima[k] = (*better, before + count)
            return
    maxima.append((ended, found, count))


def _same(a: Ended, b: Ended, in_errors: bool) -> bool:
    if not (np.isfinite(a.loglik) and np.isfinite(b.loglik)):
        return a.end == b.end and not np.isfinite(a.loglik) and not np.isfinite(b.loglik)
    step = a.u - b.u
    near = step @ np.asarray(a.information) @ step <= SAME_PLACE**2 * step.size if in_errors else a.end == b.end
    return bool(near) and _same_level(a.loglik, b.loglik)


def _same_level(a: float, b: float) -> bool:
    return abs(a - b) <= SAME_LEVEL * max(1.0, abs(a))


def _end_of(ended: Ended) -> str:
    return ended.end.name.lower().replace("_", " ")


def _unclean(ended: Ended, found: Found, count: int) -> Mode:
    rising = steepest(found.directions)
    if rising is None:
        kind = "flat" if any(d.behaviour == "flat" for d in found.directions) else _end_of(ended)
        return Mode(kind, ended.loglik, ended.u, count, statement=found.rows)
    return Mode("plateau" if rising.bounded else "spike", ended.loglik, ended.u, count, statement=rising.movement)


def _merged(rest: list[Mode]) -> list[Mode]:
    """Ends of one kind and statement as one entry: the point where a search along a spike stops is arbitrary."""
    out: dict[tuple[str, str], Mode] = {}
    for mode in rest:
        key = (mode.kind, mode.statement)
        before = out.get(key, replace(mode, n_starts=0))
        higher = mode if before.llf < mode.llf else before
        out[key] = replace(higher, n_starts=before.n_starts + mode.n_starts)
    return list(out.values())


def _with_copies(space: Space, maxima: list[tuple[Ended, Found, int]], fixed: Any) -> list[Mode]:
    out: list[Mode] = []
    keys: list[np.ndarray] = []
    for ended, _, count in maxima:
        key = exchange_key(space, space.split(jax.tree.map(np.asarray, space.params_from_u(ended.u, fixed))))
        alike = [k for k, other in enumerate(keys) if np.allclose(other, key, rtol=1e-4, atol=1e-6)]
        origin = next((k for k in alike if out[k].kind == "maximum" and _same_level(out[k].llf, ended.loglik)), None)
        keys.append(key)
        out.append(Mode("maximum" if origin is None else "copy", ended.loglik, ended.u, count, origin))
    return out


def exchange_key(space: Space, values: Sequence[np.ndarray]) -> np.ndarray:
    """Natural values, one array a leaf -> numbers that do not change when equally declared parameters are exchanged.

    The values of scalars of equal declaration are sorted, and so are the entries of each array; a single probability p in
    (0, 1) counts as the pair (p, 1 - p).
    """
    classes: dict[tuple[Any, ...], list[np.ndarray]] = {}
    for leaf, value in zip(space.leaves, values, strict=True):
        flat = np.ravel(np.asarray(value, np.float64))
        key = (leaf.kind, leaf.transform) if leaf.shape == () else (leaf.name,)
        classes.setdefault(key, []).append(flat)
    out = []
    for key, parts in classes.items():
        flat = np.concatenate(parts)
        transform = key[1] if len(key) == 2 else None
        if flat.size == 1 and (getattr(transform, "lo", None), getattr(transform, "hi", None)) == (0.0, 1.0):
            flat = np.concatenate([flat, 1.0 - flat])
        out.append(np.sort(flat))
    return np.concatenate(out) if out else np.zeros(0)


def statement(modes: Sequence[Mode], n: int) -> str:
    """``the highest of 2 maxima found from 50 starts (31 reached it)``, and how many starts ran into spikes."""
    maxima = [m for m in modes if m.kind == "maximum"]
    copies = [m for m in modes if m.kind == "copy"]
    reached = sum(m.n_starts for m in modes if m is modes[0] or (m.kind == "copy" and m.copy_of == 0))
    text = (
        f"the only maximum found from {n} starts"
        if len(maxima) == 1
        else f"the highest of {len(maxima)} maxima found from {n} starts"
    )
    text += f" ({reached} reached it"
    text += ", copies with exchanged labels included)" if any(m.copy_of == 0 for m in copies) else ")"
    spikes = sum(m.n_starts for m in modes if m.kind == "spike")
    if spikes:
        text += f"; {spikes} ran into a spike, where the log-likelihood is unbounded"
    return text
