r"""Separated rows: rows whose log-likelihood keeps increasing as effects and other parameters diverge together.

A direction (gamma, alpha) changes the linear predictor of row i by z_i = x_i' gamma + alpha_g(i).  Let s_i = 1 or -1 if the
log-likelihood of row i increases monotonically as its predictor goes to plus or minus infinity, and 0 if it decreases both ways.
The log-likelihood has no finite maximum if a direction exists with

.. math:: z_i = 0 \;\text{where}\; s_i = 0, \qquad s_i z_i \ge 0 \;\text{else}, \qquad z \ne 0,

and the rows with s_i z_i > 0 are separated: the fit without them gives the limits of the other estimates (Correia, Guimaraes
& Zylkin 2019, arXiv:1903.01633).  Directions with z_i = 0 for all rows with s_i = 0 form a null space; a linear program
finds one among these that separates the most rows, max sum t_i with 0 <= t_i <= 1 and t_i <= s_i z_i.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mlejax.objective.elimination.effects_evaluator import EffectsEvaluator
from mlejax.objective.elimination.grouped import RowsByLevel
from mlejax.objective.elimination.inner import Settled, infinite
from mlejax.objective.elimination.row_derivatives import ALONE, RowTermsByLevel
from mlejax.shapes import Bool, Float, Host, Int

SHIFT = 0.5  # shift of the effects between the two points at which derivatives are compared
STRAIGHT = 1e-6  # relative changes of a row's regressor between them up to this count as none: the parameter enters linearly
NULL = 1e-9  # relative singular values up to this belong to the null space
REACH = 1e7  # bound on the entries of a direction, for regressors scaled to a largest absolute value of 1
MOST_NUMBERS = 50_000_000  # separation is not tested if rows times (parameters + 1) exceed this


class Separated(NamedTuple):
    """Separated rows and the direction of separation.

    Attributes:
        rows: their numbers among the rows of the evaluator (m,).
        direction: direction in u along which they are separated (p,).
    """

    rows: Int[Host, " m"]
    direction: Float[Host, " p"]


def separated_rows(evaluator: EffectsEvaluator, u: Float[Host, " p"], straight: Bool[Host, " p"]) -> Separated | None:
    """Return the rows that are separated, or None if there are none.

    None without a test if n (p + 1) exceeds 50 million or an effect at u is not finite.

    Args:
        evaluator: evaluator of a log-likelihood without a penalty.
        u: point at which derivatives are taken, a start (p,).
        straight: True for coordinates of u that can diverge in both directions (p,).
    """
    data, codes = evaluator.data, evaluator.levels.codes
    n, p = len(codes), len(u)
    if too_many_to_test(n, p):
        return None
    effects = evaluator.eliminated(u).effects[codes]
    if not np.isfinite(effects).all():
        return None
    alone = RowsByLevel(data, np.arange(n), n, evaluator.position)  # each row its own level
    used = np.asarray(data.weights)[:n] > 0
    program = lambda of: RowTermsByLevel(of, evaluator.how, evaluator.spec, evaluator.position, u, evaluator.fixed)
    by_own = lambda at, some: alone.run(program("effect"), at, ALONE, some)[1]
    signs = infinite(by_own, Settled(effects, by_own(effects, None), used))
    if not signs.any():
        return None
    with np.errstate(all="ignore"):
        near, off = (
            -made[ALONE:].T / made[2][:, None]
            for made in (alone.run(program("all"), effects + shift, ALONE + p)[1] for shift in (0.0, SHIFT))
        )
        linear = straight & (np.abs(near - off) <= STRAIGHT * (1.0 + np.abs(near)))[used].all(axis=0)
    X = np.where(linear, near, 0.0)
    found = certificate(X[used], signs[used], codes[used], evaluator.given)
    return None if found is None else Separated(np.flatnonzero(used)[found[0]], found[1])


def too_many_to_test(n: int, p: int) -> bool:
    """True if n rows with p parameters are not tested for separation: if n (p + 1) exceeds 50 million."""
    return n * (p + 1) > MOST_NUMBERS


def certificate(
    X: Float[Host, "n p"], signs: Float[Host, " n"], codes: Int[Host, " n"], given: Bool[Host, " levels"]
) -> tuple[Bool[Host, " n"], Float[Host, " p"]] | None:
    """Return flags of all separated rows (n,), and gamma (p,) of a direction of separation; None if no row is separated.

    Args:
        X: regressors (n, p).
        signs: s_i of the module docstring: 1, -1 or 0 (n,).
        codes: the level of each row (n,).
        given: True for levels whose effect is fixed (G,).
    """
    from scipy.optimize import linprog
    from scipy.sparse import csr_matrix, hstack, identity

    size = np.abs(X).max(axis=0, initial=0.0)
    X, still, n_levels = X / np.where(size > 0, size, 1.0), signs == 0, len(given)
    counts = np.bincount(codes[still], minlength=n_levels)
    anchored = given | (counts > 0)  # levels whose effect has to follow gamma
    centre = np.stack([np.bincount(codes[still], x, n_levels) for x in X[still].T], axis=1) if X.size else X[:0]
    centre = np.where(given[:, None], 0.0, centre / np.maximum(counts, 1)[:, None]) if X.size else np.zeros((n_levels, 0))
    V = X - np.where(anchored[:, None], centre, 0.0)[codes]
    null = _null_space(V[still])
    V, moved, s = V[~still] @ null, codes[~still], signs[~still]
    free = np.flatnonzero(~anchored & (np.bincount(moved, minlength=n_levels) > 0))
    m, k, g = len(s), null.shape[1], len(free)
    if not m or not k + g:
        return None
    place = np.full(n_levels, -1)
    place[free] = np.arange(g)
    own = np.flatnonzero(place[moved] >= 0)
    dummies = csr_matrix((s[own], (own, place[moved[own]])), shape=(m, g))
    z = hstack([csr_matrix(V * s[:, None]), dummies])
    bounds = [(-REACH, REACH)] * (k + g) + [(0.0, 1.0)] * m
    cost = np.append(np.zeros(k + g), -np.ones(m))
    made = linprog(cost, hstack([-z, identity(m)]).tocsr(), np.zeros(m), bounds=bounds, method="highs")
    if made.x is None:
        return None
    separated = made.x[k + g :] > 0.5
    if not separated.any():
        return None
    flags = np.zeros(len(signs), bool)
    flags[np.flatnonzero(~still)[separated]] = True
    return flags, null @ made.x[:k] / np.where(size > 0, size, 1.0)


def _null_space(V: Float[Host, "m p"]) -> Float[Host, "p k"]:
    """Return an orthonormal basis (p, k) of the directions that V maps to 0."""
    p = V.shape[1]
    if not p or not len(V):
        return np.eye(p)
    R = np.linalg.qr(V, "r")
    _, values, rows = np.linalg.svd(np.vstack([R, np.zeros((max(p - len(R), 0), p))]))
    null: Float[Host, "p k"] = rows[values <= NULL * max(1.0, values[0])].T
    return null
