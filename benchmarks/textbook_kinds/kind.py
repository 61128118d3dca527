"""What a kind of textbook likelihood is made of."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import stats
from scipy.optimize import minimize

import mlejax as mle
from benchmarks.torture import Kind

N_ROWS = 100
real, positive, nonnegative, share = mle.Real(), mle.Positive(), mle.NonNegative(), mle.Interval(0, 1)
Data = dict[str, Any]


class Textbook(NamedTuple):
    """A kind, and the supremum of the simpler model at its limit, if it has one."""

    kind: Kind
    limit: Callable[[Data], float] = lambda d: -np.inf


def kind_of(
    declared: dict[str, Any],
    formula: Callable[[Any, Any], Any],
    draw: Callable[[np.random.Generator], Data],
    loglik: Callable[[Data, np.ndarray], float],
    starts: Callable[[Data], list[list[float]]],
    limit: Callable[[Data], float] = lambda d: -np.inf,
    edges: tuple[tuple[int, float], ...] = (),
    **options: Any,
) -> Textbook:
    model = mle.model(params=declared, **options)(formula)
    return Textbook(Kind(model, draw, loglik, starts, edges, scale=False), limit)


def best(minus: Callable[[np.ndarray], float], *starts: list[float]) -> float:
    """The highest log-likelihood of a simpler model, by Nelder and Mead."""
    options = {"maxiter": 4000, "xatol": 1e-9, "fatol": 1e-11}
    with np.errstate(all="ignore"):
        safe = lambda x: float(np.nan_to_num(minus(x), nan=1e9, posinf=1e9))
        return max(-float(minimize(safe, x, method="Nelder-Mead", options=options).fun) for x in starts)


def normal_at(residuals: np.ndarray) -> float:
    s = np.sqrt(np.mean(residuals**2))
    return float(stats.norm.logpdf(residuals, 0, s).sum())


def inside(condition: bool, value: Callable[[], Any]) -> float:
    """A sum, or -inf outside the support."""
    return float(np.sum(value())) if condition else -np.inf


y_only = lambda draw: lambda rng: {"y": np.asarray(draw(rng), float)}
