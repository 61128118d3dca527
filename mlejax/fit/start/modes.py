"""Several starts: the maxima that they reach, how many starts reach each, and the final points that are no maximum.

Final points are sorted into *maxima*, *copies* of a maximum (equal to it after exchanging parameters of the same declaration, or
with the same log-likelihood of every row: the components of a mixture), *spikes* (the log-likelihood is unbounded), *plateaus*
(it rises towards a supremum), *digits lost* (rounding errors dominate) and others.  Two final points are the same maximum if they
are within a hundredth of a standard error of one another and have equal log-likelihoods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import numpy as np

from mlejax.fit.diagnose import Diagnosed, Problems, evidence_at, is_clean, lost, search, value_is_real
from mlejax.fit.prepare.loaded import Loaded
from mlejax.linalg import symmetric
from mlejax.objective import SingleEvaluator, row_terms
from mlejax.optimize import OptimizeResult
from mlejax.parameters import Space
from mlejax.shapes import Float, Host
from mlejax.status import End
from mlejax.verdict import Findings, judge, steepest

MAX_STEPS = 150  # steps from one start, so that a search towards infinity does not delay the others
EXAMINED = 6  # most final points that are no clear maximum to be diagnosed by ray tests
SAME_PLACE = 1e-2  # standard errors
SAME_LEVEL = 1e-7  # log-likelihood, relative
TIE = 1e-11  # log-likelihood, relative: maxima that differ by less count as equally high


@dataclass(frozen=True, eq=False)
class Mode:
    """A final point of one or more searches.

    Attributes:
        kind: ``"maximum"``, ``"copy"``, ``"spike"``, ``"plateau"``, ``"digits lost"``, ``"flat"``, or the status of the
            optimiser in lower case.
        llf: log-likelihood there; NaN if rounding errors dominate it, not finite if the function is not.
        u: the point in unconstrained coordinates, (p,).
        n_starts: number of starts from which the search stopped there.
        copy_of: for a copy, the position in the list of the maximum that it equals; else None.
        statement: what the diagnosis found; empty for maxima and copies, and may be for others.
    """

    kind: str
    llf: float
    u: np.ndarray
    n_starts: int
    copy_of: int | None = None
    statement: str = ""


class _Maximum(NamedTuple):
    """A maximum, and the number of starts that reached it."""

    diagnosed: Diagnosed
    n_starts: int


def modes_of(
    problems: Problems, evaluator: SingleEvaluator, loaded: Loaded, ends: Sequence[OptimizeResult]
) -> tuple[tuple[Mode, ...], Diagnosed | None]:
    """Sort the final points ``ends`` of several searches into modes.

    Points that are no clear maxima are grouped by status and log-likelihood, and the search is continued from the highest six
    groups.

    Returns:
        The modes, maxima first, the highest of them first; and the diagnosis at the highest maximum, or None.
    """
    spec, space = evaluator.spec, evaluator.spec.space
    maxima: list[_Maximum] = []
    others: list[tuple[OptimizeResult, int]] = []
    rest: list[Mode] = []
    for end in ends:
        if is_clean(end, space):
            if lost(evaluator, end):
                rest.append(_digits_lost(end, 1))
                continue
            _count(maxima, Diagnosed(spec, end, Findings()), 1)
            continue
        same = next((k for k, (seen, _) in enumerate(others) if _same(seen, end, in_errors=False)), None)
        if same is None:
            others.append((end, 1))
        else:
            others[same] = (others[same][0], others[same][1] + 1)
    others.sort(key=lambda pair: -np.nan_to_num(pair[0].loglik, nan=-np.inf, neginf=-np.inf))
    for k, (end, count) in enumerate(others):
        if end.end == End.START_NOT_FINITE or not np.isfinite(end.loglik) or k >= EXAMINED:
            rest.append(Mode(_word(end), float(end.loglik), end.u, count))
            continue
        after = search(problems, evaluator, loaded, end.u)
        if judge(evidence_at(space, problems.fixed, after.end, after.findings)).converged:
            if lost(evaluator, after.end):
                rest.append(_digits_lost(after.end, count))
                continue
            _count(maxima, after, count)
        else:
            mode = _unclean(after, count)
            real = mode.kind == "spike" or value_is_real(evaluator, mode.u)
            rest.append(mode if real else _digits_lost(after.end, count))
    maxima = _ranked(maxima)
    best = maxima[0].diagnosed if maxima else None
    return (*_with_copies(evaluator, maxima, problems.fixed), *_merged(rest)), best


def _ranked(maxima: list[_Maximum]) -> list[_Maximum]:
    """Sort maxima by log-likelihood, the highest first; equally high ones (to 1e-11 of its size, or of 1 if that is larger) in
    the order in which they were found.
    """
    left, out = sorted(enumerate(maxima), key=lambda m: -float(m[1].diagnosed.end.loglik)), []
    while left:
        top = float(left[0][1].diagnosed.end.loglik)
        level = [m for m in left if top - float(m[1].diagnosed.end.loglik) <= TIE * max(1.0, abs(top))]
        out += [maximum for _, maximum in sorted(level, key=lambda m: m[0])]
        left = left[len(level) :]
    return out


def _count(maxima: list[_Maximum], found: Diagnosed, count: int) -> None:
    """Add a maximum, reached from ``count`` starts, to the list in place, or count it for one that is already listed.

    Of two points of the same maximum the one with the smaller Newton decrement is kept.
    """
    for k, (seen, before) in enumerate(maxima):
        if _same(seen.end, found.end, in_errors=True):
            better = seen if seen.end.decrement <= found.end.decrement else found
            maxima[k] = _Maximum(better, before + count)
            return
    maxima.append(_Maximum(found, count))


def _same(a: OptimizeResult, b: OptimizeResult, in_errors: bool) -> bool:
    """True if two final points have equal log-likelihoods (to 1e-7 relative) and are the same point: at most 0.01 standard errors
    apart in each coordinate (root mean square).

    If ``in_errors`` is False, equal status is required in place of nearness; if neither log-likelihood is finite, equal status
    suffices.
    """
    if not (np.isfinite(a.loglik) and np.isfinite(b.loglik)):
        return a.end == b.end and not np.isfinite(a.loglik) and not np.isfinite(b.loglik)
    if abs(a.loglik - b.loglik) > SAME_LEVEL * max(1.0, abs(float(a.loglik))):
        return False
    if not in_errors:
        return a.end == b.end
    step = a.u - b.u
    return bool(step @ symmetric(a.information).matvec(step) <= SAME_PLACE**2 * step.size)


def _digits_lost(end: OptimizeResult, count: int) -> Mode:
    """Return the mode of a final point at which rounding errors dominate, with log-likelihood NaN, reached from ``count``
    starts.
    """
    return Mode("digits lost", float("nan"), end.u, count)


def _word(end: OptimizeResult) -> str:
    """Return the status of the optimiser as words: "max steps"."""
    return end.end.name.lower().replace("_", " ")


def _unclean(found: Diagnosed, count: int) -> Mode:
    """Return the mode of a diagnosed final point that is no maximum, reached from ``count`` starts: a spike or plateau if the
    log-likelihood rises without a maximum, else flat, or the status of the optimiser in words.
    """
    end, directions = found.end, found.findings.directions
    rising = steepest(directions)
    if rising is None:
        kind = "flat" if any(d.behaviour == "flat" for d in directions) else _word(end)
        return Mode(kind, float(end.loglik), end.u, count, statement=found.findings.rows)
    kind = "plateau" if rising.bounded else "spike"
    return Mode(kind, float(end.loglik), end.u, count, statement=rising.movement)


def _merged(rest: list[Mode]) -> list[Mode]:
    """Merge modes of the same kind and statement into one, with the highest log-likelihood and the sum of starts."""
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


def _with_copies(evaluator: SingleEvaluator, maxima: list[_Maximum], fixed: Host | None) -> list[Mode]:
    """Return the modes of the maxima; those that equal an earlier one after an exchange of parameters are marked as copies."""
    space = evaluator.spec.space
    out: list[Mode] = []
    terms: dict[int, Float[Host, " n"]] = {}

    def same_terms(i: int, k: int) -> bool:
        """True if the log-likelihood of every row (or unit) is the same at maxima i and k."""
        for j in (i, k):
            if j not in terms:
                terms[j] = row_terms(evaluator, maxima[j].diagnosed.end.u)[0]
        enough = len(terms[i]) > space.n_free
        return enough and bool(np.allclose(terms[i], terms[k], rtol=1e-6, atol=1e-6))

    keys: list[Float[Host, " k"]] = []
    for i, ((_, end, *_rest), count) in enumerate(maxima):
        key = exchange_key(space, space.split(jax.tree.map(np.asarray, space.params_from_u(end.u, fixed))))
        origin = None
        for k, mode in enumerate(out):
            level = abs(mode.llf - end.loglik) <= SAME_LEVEL * max(1.0, abs(mode.llf))
            if (
                mode.kind == "maximum"
                and level
                and (np.allclose(keys[k], key, rtol=1e-4, atol=1e-6) or same_terms(i, k))
            ):
                origin = k
                break
        keys.append(key)
        out.append(Mode("maximum" if origin is None else "copy", float(end.loglik), end.u, count, origin))
    return out


def exchange_key(space: Space, values: Sequence[np.ndarray]) -> np.ndarray:
    """Map natural values (one array per leaf) to a vector that does not change if equally declared parameters are exchanged.

    The values of scalars of equal declaration are sorted, and so are the entries of each array; a single probability p in
    (0, 1) is replaced by the pair (p, 1 - p).
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
    """Return the statement on n starts: ``"the highest of 2 maxima found from 50 starts (31 reached it)"``.

    It also says how many starts ran into a spike.  ``modes``: from `modes_of`, the highest maximum first.
    """
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
