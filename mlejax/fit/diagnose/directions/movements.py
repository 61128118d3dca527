"""Phrases for statements: which parameters go where along a direction and what is not identified."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from mlejax import transforms
from mlejax.execution import compiled, float64
from mlejax.fit.diagnose.ends import curved
from mlejax.parameters import Space
from mlejax.parameters.coordinates import split_constants
from mlejax.shapes import Either, Params
from mlejax.transforms import Transform

N_SHOWN = 6


def _natural(u: np.ndarray, space: Space, fixed: Either | None) -> np.ndarray:
    """Convert u, (p,), to natural coordinates theta, (p,)."""
    if not curved(space).any():
        return u
    with float64():
        return np.asarray(theta_of(space, u, fixed))


@partial(compiled, static=("space",))
def theta_of(space: Space, u: Either, fixed: Either | None) -> Either:
    """Convert unconstrained coordinates u, (p,), to natural coordinates theta, (p,)."""
    return space.theta_from_u(u, fixed)


@partial(compiled, static=("space",))
def _params(space: Space, u: Either, fixed: Either | None) -> Params:
    """Convert unconstrained coordinates u, (p,), to the user's params."""
    return space.params_from_u(u, fixed)


def _roots(information: np.ndarray) -> np.ndarray:
    """Return the square roots of the diagonal of the information, (p,); 0 where the diagonal is not positive and finite."""
    diagonal = np.diag(information)
    return np.sqrt(np.where(np.isfinite(diagonal) & (diagonal > 0), diagonal, 0.0))


def _sizes(u: np.ndarray, space: Space, roots: np.ndarray) -> np.ndarray:
    """Return the typical step of each coordinate, (p,): max(1, abs(u)), less for coefficients whose column has a larger scale
    than others.

    ``roots``: square roots of the diagonal of the information, (p,).
    """
    plain = np.maximum(1.0, np.abs(u))
    straight = ~curved(space) & (roots > 0)
    if not straight.any():
        return plain
    relative = plain * roots / np.median((plain * roots)[straight])  # of a column in small units the size tells already
    return np.where(straight, plain / np.maximum(1.0, relative), plain)


def _in_own(
    line: tuple[np.ndarray, np.ndarray], information: np.ndarray | None, space: Space, constants: Any
) -> tuple[tuple[Any, Any], np.ndarray | None, Space, Any]:
    """Convert a ``line``, (point, direction), from centred and scaled coordinates to u; return it, the information (or None), the
    layout and the fixed values, all in u.

    ``constants``: the fixed values followed by the numbers of the map.
    """
    coordinates, fixed = split_constants(constants, space.n_free)
    own = None if information is None else coordinates.information_in_u(information)
    return (coordinates.to_u(line[0]), coordinates.matrix @ line[1]), own, space.own, fixed


def describe_movement(
    u: np.ndarray, far: np.ndarray, space: Space, fixed: Either | None, information: np.ndarray | None = None
) -> tuple[str, tuple[str, ...]]:
    """Describe where parameters go between two points: ``"beta[x1] -> +inf, sigma -> 0"``.

    Args:
        u, far: the two points in u, (p,) each.
        space: the layout.
        fixed: values under ``fixed=``, or None.
        information: at u, (p, p), to scale the changes; optional.

    Returns:
        The phrase, which shows six parameters at most, and the names of all that move, largest change first.
    """
    if space.mapped:
        (u, step), information, space, fixed = _in_own((u, far - u), information, space, fixed)
        far = u + step
    sizes = np.maximum(1.0, np.abs(u)) if information is None else _sizes(u, space, _roots(information))
    with float64():
        before = space.reported(_params(space, u, fixed))
        after = space.reported(_params(space, far, fixed))
        size = np.asarray(space.spread(np.abs(far - u) / sizes))
    moved: list[tuple[float, str, str]] = []
    for leaf, at, rows in zip(space.leaves, space.u_slices, space.reported_slices, strict=True):
        if not leaf.n_free:
            continue
        old, new = before[rows], after[rows]
        if isinstance(leaf.transform, transforms.Simplex):
            # in softmax coordinates every entry moves when one vanishes: name the one that does
            shrinks = [(float(size[at].max()), i) for i in range(old.size) if new[i] < 0.5 * old[i]]
            moved += [(s, leaf.entry_labels[i], "0") for s, i in shrinks]
            continue
        if isinstance(leaf.transform, transforms.Ordered) and len(leaf.shape) == 1:
            moved += [
                (float(size[at][i]), f"{leaf.entry_labels[i]} - {leaf.entry_labels[i - 1]}", "0")
                for i in range(1, old.size)
                if new[i] - new[i - 1] < 0.5 * (old[i] - old[i - 1])
            ]
        entries = leaf.free_index if leaf.partly_fixed else np.arange(old.size)
        for j, i in enumerate(entries):
            strength = float(size[at][j]) if leaf.transform.elementwise else float(size[at].max())
            if leaf.transform.elementwise or abs(new[i] - old[i]) > 0.1 * max(1.0, abs(old[i])):
                moved.append((strength, leaf.entry_labels[i], _limit(leaf.transform, new[i] - old[i])))
    strongest = max((s for s, *_ in moved), default=0.0)
    kept = sorted((m for m in moved if m[0] > 0.02 * strongest), key=lambda m: -m[0])
    parts = [f"{name} -> {limit}" for _, name, limit in kept]
    more = f", ... ({len(parts)} in all)" if len(parts) > N_SHOWN else ""
    return ", ".join(parts[:N_SHOWN]) + more, tuple(name for _, name, _ in kept)


def _limit(transform: Transform, change: float) -> str:
    """Return the limit of a parameter that increases (change > 0) or decreases: a bound of its support, "+inf" or "-inf"."""
    up = change > 0
    if isinstance(transform, transforms.Log):
        return "+inf" if up else "0"
    lo, hi = getattr(transform, "lo", -np.inf), getattr(transform, "hi", np.inf)
    if isinstance(transform, transforms.Correlation):
        lo, hi = -1.0, 1.0
    end = hi if up else lo
    return f"{end:g}" if np.isfinite(end) else ("+inf" if up else "-inf")


def describe_plateau(
    u: np.ndarray, far: np.ndarray, kink: np.ndarray, space: Space, fixed: Either | None, value: float
) -> tuple[str, tuple[str, ...]]:
    """Describe a plateau: ``"the log-likelihood is exactly -520 along s -> 0, a plateau from s = 5 on: ..."``.

    Args:
        u, far: the final point and the farthest point on the plateau, in u, (p,) each.
        kink: the point at which the plateau begins, (p,).
        space: the layout.
        fixed: values under ``fixed=``, or None.
        value: the log-likelihood on the plateau.

    Returns:
        The statement, and the names of the parameters that move.
    """
    movement, names = describe_movement(u, far, space, fixed)
    if space.mapped:
        coordinates, fixed = split_constants(fixed, space.n_free)  # type: ignore[arg-type]
        kink, space = coordinates.to_u(kink), space.own
    theta = dict(zip(space.theta_labels, _natural(kink, space, fixed), strict=True))
    begins = ", ".join(f"{name} = {round(theta[name], 9) + 0.0:.4g}" for name in names[:N_SHOWN] if name in theta)
    return (
        f"the log-likelihood is exactly {value:.6g} along {movement}, a plateau{f' from {begins} on' if begins else ''}: it does "
        f"not depend on {', '.join(names[:N_SHOWN])} there",
        names,
    )


def describe_flat(
    u: np.ndarray, unit: np.ndarray, space: Space, fixed: Either | None, information: np.ndarray | None = None
) -> tuple[str, tuple[str, ...]]:
    """Describe a flat direction in natural coordinates: ``"a - b is not identified; a + b is"``.

    Args:
        u: the point, (p,).
        unit: the direction in u, (p,).
        space: the layout.
        fixed: values under ``fixed=``, or None.
        information: at u, (p, p); its diagonal tells small coefficients of columns with large values from zero. Optional.

    Returns:
        The phrase, and the names of the parameters that change.
    """
    if space.mapped:
        (u, unit), information, space, fixed = _in_own((u, unit), information, space, fixed)
    with float64():
        small = 1e-5 / max(1.0, float(np.abs(unit).max()))
        vector = (_natural(u + small * unit, space, fixed) - _natural(u - small * unit, space, fixed)) / (2 * small)
    if not np.isfinite(vector).all() or not np.abs(vector).max(initial=0.0):
        vector = unit
    vector = vector / np.abs(vector).max()
    part = np.abs(vector)
    roots = None if information is None else _roots(information)
    if roots is not None and (roots[np.abs(unit) > 0] > 0).all():
        part = np.abs(unit) * roots / np.max(np.abs(unit) * roots)
    order = [int(j) for j in np.flatnonzero(part > 1e-6)]
    names = tuple(space.theta_labels[j] for j in order)
    if len(order) == 1:
        return f"{names[0]} is not identified: the log-likelihood does not depend on it", names
    weights = vector[order] / vector[order[0]]
    if len(order) == 2 and np.isclose(abs(weights[1]), 1.0, atol=1e-4):
        minus, plus = (f"{names[0]} - {names[1]}", f"{names[0]} + {names[1]}")
        lost, kept = (plus, minus) if weights[1] > 0 else (minus, plus)
        return f"{lost} is not identified; {kept} is", names
    text = _combination(weights, names)
    return (
        f"{text} is not identified: the log-likelihood does not change when {', '.join(names[:N_SHOWN])}"
        f"{', ...' if len(names) > N_SHOWN else ''} change in proportion to these coefficients",
        names,
    )


def _combination(weights: np.ndarray, names: tuple[str, ...]) -> str:
    """Return the linear combination as text: "a - 0.5 b"."""
    out = []
    for i, (w, name) in enumerate(zip(weights[:N_SHOWN], names[:N_SHOWN], strict=True)):
        size = "" if np.isclose(abs(w), 1.0, atol=1e-4) else f"{abs(w):.4g} "
        sign = "-" if w < 0 else ("+" if i else "")
        out.append(f"{sign} {size}{name}" if i else f"{sign}{size}{name}")
    return " ".join(out) + (" + ..." if len(names) > N_SHOWN else "")
