"""Several starts as one batch: which maxima there are, how many starts reached each, and what was no maximum.

Ends are sorted into *maxima* (clean ends), *copies* of a maximum (equal log-likelihood, and an exchange of equally declared
parameters turns one into the other: the components of a mixture), *spikes* (the log-likelihood rises without bound),
*plateaus* (it rises to a supremum that it never reaches) and the rest.  Two ends are one maximum where they lie within a
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

from mlejax import optimize, transforms
from mlejax.execution import compiled
from mlejax.fit import starts
from mlejax.fit.common import objective_of
from mlejax.fit.loading import Loaded, rows_that_count
from mlejax.fit.programs import Ended, to_u
from mlejax.fit.search import evidence_at, search
from mlejax.fit.standing import Found, clean
from mlejax.likelihood import calls_lapack
from mlejax.objective import Spec
from mlejax.parameters import Space
from mlejax.status import End
from mlejax.verdict import judge, steepest

Array = Any
LANES = 8  # starts in one dispatch
CACHE = 2.0e5  # rows x parameters up to which they run side by side
PATIENCE = 150  # steps from one start: one that runs to infinity must not hold up the others
FOLLOWED = 6  # groups of unclean ends that are looked into
SAME_PLACE = 1e-2  # standard errors
SAME_LEVEL = 1e-7  # log-likelihood, relative


@dataclass(frozen=True, eq=False)
class Mode:
    """Where some of the starts ended.

    Attributes:
        kind: ``"maximum"``, ``"copy"``, ``"spike"``, ``"plateau"`` or the optimiser's end in lower case.
        llf: log-likelihood there.
        u: where, in the optimiser's coordinates (p,).
        n_starts: how many starts ended there.
        copy_of: for a copy, the number of the maximum of which it is one, counted from 0 in the list; else None.
        statement: what was seen, for all but maxima and copies.
    """

    kind: str
    llf: float
    u: np.ndarray
    n_starts: int
    copy_of: int | None = None
    statement: str = ""


@partial(compiled, static=("spec", "method", "lanes"))
def _many(spec: Spec, method: Any, u0: Array, data: Any, fixed: Any, hyper: Any, lanes: int) -> Any:
    """Starts (m, p) -> their carries at the end, stacked."""

    def one(u: Array) -> Any:
        objective = objective_of(spec, data, fixed, hyper)
        turns = jnp.asarray(method.max_steps + 2, jnp.int32)
        carry = optimize.begin(method, u)
        return optimize.advance(method, objective, carry, spec.space.lower, spec.space.upper, objective.scale, turns)

    return lax.map(one, u0, batch_size=lanes)


def scattered(spec: Spec, loaded: Loaded, given: Sequence[Any], best: Ended, n: int, seed: int) -> np.ndarray:
    """n random starts in u, (n, p): half around the end of the first search, half spread as widely as the data.

    Around the end the scale of a coordinate is the larger of 3 standard errors and half its own size, or 1 in the logarithms
    and logits of supports with edges; the other half are draws of :func:`mlejax.fit.starts.scatter`, with what was given
    moved as well.
    """
    space = spec.space
    rng = np.random.default_rng([seed, 1])
    errors = np.ones(space.n_free)
    if best.information is not None:
        diagonal = np.diag(best.information)
        good = np.isfinite(diagonal) & (diagonal > 0)
        errors[good] = np.minimum(1.0 / np.sqrt(diagonal[good]), 1e3 * np.maximum(1.0, np.abs(best.u[good])))
    scale = np.empty(space.n_free)
    places = [np.flatnonzero(space.leaf_numbers == i) for i in range(len(space.leaves))]
    for leaf, at in zip(space.leaves, places, strict=True):
        own = np.maximum(3.0 * errors[at], 0.5 * np.abs(best.u[at]))
        scale[at] = own if isinstance(leaf.transform, transforms.Identity) else np.maximum(1.0, np.minimum(own, 2.0))
    n_near = (n + 1) // 2
    near = best.u + scale * rng.standard_normal((n_near, space.n_free)) * rng.choice([0.3, 1.0, 3.0], (n_near, 1))
    wide = starts.scatter(space, rows_that_count(loaded), n - n_near, rng)
    far = [np.asarray(to_u(space, values)) for values in wide]
    mixed = np.concatenate([near, np.asarray(far).reshape(-1, space.n_free)]) if far else near
    free_text = [leaf.kind == "Free" for leaf in space.leaves]
    if any(free_text):  # a network's own start carries its scale: only moved a little
        base = np.asarray(
            to_u(space, [np.zeros(leaf.shape) if v is None else v for v, leaf in zip(given, space.leaves, strict=True)])
        )
        for leaf, at in zip(space.leaves, places, strict=True):
            if leaf.kind == "Free":
                mixed[:, at] = base[at] * (1.0 + 0.5 * rng.standard_normal((n, 1))) + 0.1 * rng.standard_normal(
                    (n, at.size)
                )
    return np.clip(mixed, space.lower, space.upper)


def run_all(
    spec: Spec,
    method: Any,
    loaded: Loaded,
    u0: np.ndarray,
    held: Any,
    hyper: Any,
    report: Callable[[int, float], None] | None,
) -> list[Ended]:
    """Every start (m, p) to its end, a few starts a dispatch; after Ctrl-C, those that had ended."""
    data = loaded.problem.data
    method = method if isinstance(method, optimize.Newton) else optimize.Newton()
    method = replace(method, max_steps=min(method.max_steps, PATIENCE))
    scale = float(np.sum(np.asarray(data.weights)))
    lapack = calls_lapack(spec.likelihood, spec.space, data.rows, data.shared, data.statics)
    apart = lapack or data.weights.shape[0] * spec.space.n_free > CACHE
    lanes = 1 if apart else LANES
    out: list[Ended] = []
    for begin in range(0, len(u0), LANES):
        part = u0[begin : begin + LANES]
        padded = np.resize(part, (LANES, u0.shape[1]))
        try:
            carry = jax.tree.map(np.asarray, _many(spec, method, padded, data, held, hyper, lanes))
        except KeyboardInterrupt:
            break
        out += [_lane(carry, i, scale) for i in range(len(part))]
        if report is not None:
            report(
                begin + len(part), max((e.loglik for e in out if np.isfinite(e.loglik)), default=float("nan")) / scale
            )
    return out


def _lane(carry: Any, i: int, scale: float) -> Ended:
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
    spec: Spec, method: Any, loaded: Loaded, ends: Sequence[Ended], held: Any
) -> tuple[tuple[Mode, ...], tuple[Ended, Found] | None]:
    """The ends sorted into modes, maxima first and highest first, and the end at the highest maximum, if any."""
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
        if ended.end == End.START_NOT_FINITE or not np.isfinite(ended.loglik) or k >= FOLLOWED:
            rest.append(Mode(_word(ended), ended.loglik, ended.u, count))
            continue
        _, after, found = search(spec, onward, loaded, ended.u, held, None)
        if judge(evidence_at(spec, held, after, found)).converged:
            _count(maxima, after, found, count)
        else:
            rest.append(_unclean(after, found, count))
    maxima.sort(key=lambda entry: -entry[0].loglik)
    return (*_with_copies(space, maxima, held), *_merged(rest)), (maxima[0][:2] if maxima else None)


def _count(maxima: list[tuple[Ended, Found, int]], ended: Ended, found: Found, count: int) -> None:
    """Add an end to the maxima: to the one that it is, of which the better of both ends is kept, or as a new one."""
    for k, (seen, its, before) in enumerate(maxima):
        if _same(seen, ended, True):
            better = (seen, its) if seen.decrement <= ended.decrement else (ended, found)
            maxima[k] = (*better, before + count)
            return
    maxima.append((ended, found, count))


def _same(a: Ended, b: Ended, in_errors: bool) -> bool:
    if not (np.isfinite(a.loglik) and np.isfinite(b.loglik)):
        return a.end == b.end and not np.isfinite(a.loglik) and not np.isfinite(b.loglik)
    if abs(a.loglik - b.loglik) > SAME_LEVEL * max(1.0, abs(a.loglik)):
        return False
    if not in_errors:
        return a.end == b.end
    step = a.u - b.u
    return bool(step @ np.asarray(a.information) @ step <= SAME_PLACE**2 * step.size)


def _word(ended: Ended) -> str:
    return ended.end.name.lower().replace("_", " ")


def _unclean(ended: Ended, found: Found, count: int) -> Mode:
    rising = steepest(found.directions)
    if rising is None:
        kind = "flat" if any(d.behaviour == "flat" for d in found.directions) else _word(ended)
        return Mode(kind, ended.loglik, ended.u, count, statement=found.rows)
    return Mode("plateau" if rising.bounded else "spike", ended.loglik, ended.u, count, statement=rising.movement)


def _merged(rest: list[Mode]) -> list[Mode]:
    """Ends of one kind and statement as one entry: where on a spike a search gives up says nothing."""
    out: dict[tuple[str, str], Mode] = {}
    for mode in rest:
        key = (mode.kind, mode.statement)
        before = out.get(key)
        if before is None:
            out[key] = mode
        else:
            higher = before if not before.llf < mode.llf else mode
            out[key] = replace(higher, n_starts=before.n_starts + mode.n_starts)
    return list(out.values())


def _with_copies(space: Space, maxima: list[tuple[Ended, Found, int]], held: Any) -> list[Mode]:
    out: list[Mode] = []
    keys: list[np.ndarray] = []
    for ended, _, count in maxima:
        key = exchange_key(space, space.split(jax.tree.map(np.asarray, space.params_from_u(ended.u, held))))
        origin = None
        for k, mode in enumerate(out):
            level = abs(mode.llf - ended.loglik) <= SAME_LEVEL * max(1.0, abs(mode.llf))
            if mode.kind == "maximum" and level and np.allclose(keys[k], key, rtol=1e-4, atol=1e-6):
                origin = k
                break
        keys.append(key)
        out.append(Mode("maximum" if origin is None else "copy", ended.loglik, ended.u, count, origin))
    return out


def exchange_key(space: Space, values: Sequence[np.ndarray]) -> np.ndarray:
    """Natural values, one array a leaf -> numbers that an exchange of equally declared parameters leaves alone.

    Among scalars of equal declaration, and along the last axis of each array, the values are sorted; a probability p in (0, 1)
    that stands alone counts as the pair (p, 1 - p).
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
    """``the highest of 2 maxima found from 50 starts (31 reached it)``, and what else was met."""
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
