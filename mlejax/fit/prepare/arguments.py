"""Check the arguments of a fit and convert them to what the search needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import jax
import numpy as np

from mlejax import misuse
from mlejax.execution import float64, limits
from mlejax.execution.activity import ActivityLine, doing
from mlejax.fit.maximise.maximise import POLISH_LIMIT
from mlejax.fit.prepare.constraints.constrained import Restrictions
from mlejax.fit.prepare.loaded import Loaded
from mlejax.likelihood import (
    Likelihood,
)
from mlejax.objective import (
    BiasReduction,
    SearchEvaluator,
    check_reduction,
)
from mlejax.parameters import Space
from mlejax.parameters.fixed import fix
from mlejax.shapes import Float, Host, PyTree

MOST_STARTS = 1_000_000
MANY_PARAMETERS = 1000  # from which on the default method is named with its cost
SOME_PARAMETERS = 100  # from which on that cost is measured for a network
USUAL_STEPS = 100, 500  # of Newton's method on a network
SCORES = 2  # time of one column of second derivatives, in scores (1.1 to 1.9 measured)
LONG = 10.0  # seconds of a search that its user is told of


def checked_reduction(
    kind: str | None, likelihood: Likelihood, penalty: Callable[..., Any] | None, loaded: Loaded, space: Space
) -> BiasReduction | None:
    """Return the `BiasReduction` for ``bias_reduction=``, or None if it is None.

    Raises:
        ValueError: the kind is unknown, a penalty is given too, there are more than 500 parameters, or this kind is not defined
            for the weights or the model.
    """
    reduction = check_reduction(kind, likelihood.companions.get("expected_information"))
    if reduction is None:
        return None
    if penalty is not None:
        raise ValueError("give penalty= or bias_reduction=, not both: bias reduction is a penalty of its own")
    if space.n_free > POLISH_LIMIT:
        raise ValueError(
            f"bias_reduction= supports at most {POLISH_LIMIT} parameters, got {space.n_free}: leave it out, or use penalty="
        )
    if reduction.kind == "empirical":
        if loaded.weights is not None and loaded.weights.kind != "frequency":
            raise ValueError(
                f"bias_reduction='empirical' sums squares of scores, which is not defined for {loaded.weights.kind} weights: "
                "leave out the weights, or use frequency weights"
            )
        if loaded.problem.data.mode == "whole" and loaded.problem.data.n_contributions <= 1:
            raise ValueError(
                "bias_reduction='empirical' needs the score of every row or unit, but the model returns one number: return one "
                "log-likelihood value per row or unit, or use bias_reduction='jeffreys'"
            )
    return reduction


def listed_starts(likelihood: Likelihood, start: PyTree) -> tuple[Any, list[Any]]:
    """Return the first start and the list of all starts under ``start=``.

    For a model without declared parameters a list is one start, since its params may be a list.  ValueError if a list of starts
    is empty.
    """
    if likelihood.parameters is None or not isinstance(start, (list, tuple)):
        return start, [start]
    if not start:
        raise ValueError("start= is an empty list; expected a start, or a list of starts")
    return start[0], list(start)


def check_n_starts(n_starts: int | None, n_listed: int) -> int:
    """Return the number of starts, ``n_starts=`` or by default (None) the number ``n_listed`` of starts listed under ``start=``.

    Raises:
        ValueError: not a whole number from 1 to a million, or smaller than the number of listed starts.
    """
    if n_starts is None:
        return n_listed
    if isinstance(n_starts, bool) or not isinstance(n_starts, (int, np.integer)) or n_starts < 1:
        raise ValueError(f"n_starts= expected a whole number of at least 1, got {n_starts!r}")
    if n_starts > MOST_STARTS:
        raise ValueError(f"n_starts= expected at most {MOST_STARTS:,}, got a larger number")
    if n_starts < n_listed:
        raise ValueError(
            f"n_starts={n_starts} is less than the {n_listed} starts in start=; give at least {n_listed}, or leave n_starts= out"
        )
    return int(n_starts)


def fix_on_host(space: Space, fixed: Mapping[str, Any] | None) -> tuple[Space, np.ndarray | None]:
    """Return the layout with the entries of ``fixed`` (name -> value, natural scale) fixed, and their values as NumPy.

    The values are a vector with one number for each entry of the parameters, (k,), 0 for those that are not fixed; None if
    nothing is fixed.  TypeError if ``fixed`` is not a dict; errors of `fix`.
    """
    if fixed is not None and not isinstance(fixed, Mapping):
        raise TypeError(f"fixed= expected a dict of parameter name -> value, {{'sigma': 1.0}}, got {type(fixed).__name__}")
    with float64():
        layout, values = fix(space, fixed)
    return layout, None if values is None else np.asarray(values)


def restricted(space: Space, fixed_values: np.ndarray | None, wanted: Restrictions) -> tuple[Space, tuple[str, ...], str]:
    """Apply linear constraints, without those that follow from the others.

    Returns the layout with the constraints, the labels of those applied, and a note for the user that names those left out
    (empty if there are none).  Raises ValueError for constraints that cannot be satisfied or are not supported (see `Space.tie`).
    """
    labels = wanted.labels
    tied, redundant = space.tie(wanted.R, wanted.r, labels, fixed_values)
    if not redundant:
        return tied, tuple(labels), ""
    one = len(redundant) == 1
    remark = f"Constraint{'' if one else 's'} {', '.join(redundant)} follow{'s' * one} from the others."
    return tied, tuple(label for label in labels if label not in redundant), remark


def start_moved(space: Space, given: list[Any], u0: np.ndarray, fixed_values: np.ndarray | None) -> str:
    """Return a note for the user if the given start violates the constraints, so that u0, (p,), differs from it; empty
    otherwise.  ``given``: for each leaf the value under ``start=``, natural scale (NaN: not given), or None.
    """
    at = space.split(jax.tree.map(np.asarray, space.params_from_u(u0, fixed_values)))
    for leaf, wanted, value in zip(space.leaves, given, at, strict=True):
        if wanted is None:
            continue
        asked = np.isfinite(np.ravel(wanted)) & (True if leaf.free is None else np.asarray(leaf.free))
        if not np.allclose(np.ravel(wanted)[asked], np.ravel(value)[asked], rtol=1e-6, atol=1e-9):
            return "start= does not satisfy the constraints: the search began from a point near it that does."
    return ""


def warn_of_dense_steps(name: str, evaluator: SearchEvaluator, u0: Float[Host, " p"]) -> None:
    """Warn that Newton's method, the default, takes long with many parameters; the warning says how long, and names methods for
    networks.

    The time of a score at u0, (p,), is measured if the parameters are more than a hundred and include a structure (`mle.Free`).
    There is no warning if the expected time is less than ten seconds and there are at most a thousand parameters, and none if
    there are so many that Newton's method refuses them. ``name``: of the model.
    """
    p = evaluator.spec.space.n_free
    network = any(leaf.kind == "Free" for leaf in evaluator.spec.space.leaves)
    if p <= (SOME_PARAMETERS if network else MANY_PARAMETERS) or p > limits().dense_parameters:  # too many are refused
        return
    doing("measuring the time of a score")
    times = []
    for _ in range(3):  # the first call compiles
        began = time.perf_counter()
        evaluator.evaluate(u0[None], 1)
        times.append(time.perf_counter() - began)
    step = SCORES * p * min(times)
    low, high = (in_words(n * step) for n in USUAL_STEPS)
    if p <= MANY_PARAMETERS and USUAL_STEPS[0] * step < LONG:
        return
    misuse.warn(
        f"{name} has {p:,} parameters.  A score takes {in_words(min(times))}, so that a step of Newton's method, the default, "
        f"with its {p:,} x {p:,} second derivatives, takes about {in_words(step)}.  A network needs {USUAL_STEPS[0]} to "
        f"{USUAL_STEPS[1]} steps, {low} to {high}, and the examination of the point where it stops takes as long again.  "
        "Networks are trained with method=mle.Adam(batch_size=256, epochs=100); method='lbfgs' needs scores only; to use "
        "Newton's method without this warning, give method=mle.Newton()",
        RuntimeWarning,
        "network",
        stacklevel=2,
    )


def in_words(seconds: float) -> str:
    """Return a duration with two digits and its unit: h, min, s or ms.

    >>> in_words(0.2234), in_words(34.2), in_words(200.0), in_words(9000.0)
    ('220 ms', '34 s', '3.3 min', '2.5 h')
    """
    for unit, size in (("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if seconds >= size:
            return f"{float(f'{seconds / size:.2g}'):g} {unit}"
    return f"{float(f'{1e3 * seconds:.2g}'):g} ms"


class outside_transformations:
    """Context that raises a clear TypeError if ``fit`` is called inside ``jit``, ``vmap`` or ``grad``, which trace its data."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        if isinstance(error, jax.errors.TracerArrayConversionError):
            raise TypeError(
                "fit was called inside jax.jit, vmap or grad, but it needs concrete numbers.  Call it outside, or use the pure "
                "core mle.solve(model, model.prepare(data), start) there"
            ) from error


@contextmanager
def before_the_first_step(likelihood: Likelihood) -> Iterator[None]:
    """Context in which Ctrl-C raises a KeyboardInterrupt whose message says that nothing was estimated."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"{likelihood.name}: interrupted before the first step; nothing was estimated"
        ) from None


class Watch:
    """Callback of the optimiser: records (step, mean log-likelihood), and updates the progress line if there is one."""

    def __init__(self, line: ActivityLine | None = None) -> None:
        self.seen: list[tuple[int, float]] = []
        self.line = line

    def __call__(self, n_done: int, mean_loglik: float, gap: float = np.inf, validation: float | None = None) -> None:
        """Record one step.

        Args:
            n_done: number of steps (or epochs) so far.
            mean_loglik: log-likelihood divided by the sum of weights.
            gap: half the Newton decrement, the predicted increase of the log-likelihood.
            validation: mean log-likelihood of the validation data, or None.
        """
        self.seen.append((n_done, mean_loglik))
        if self.line is None:
            return
        more = f", {gap:.2g} below the maximum by its curvature" if np.isfinite(gap) else ""
        more += "" if validation is None else f", validation {validation:.6g}"
        self.line.done = n_done
        self.line.text = f"{self.line.unit} {n_done}: mean log-likelihood {mean_loglik:.6g}{more}"

    def path(self, scale: float) -> tuple[tuple[float, float], ...]:
        """Return (step, log-likelihood) of each step, the recorded mean multiplied by ``scale``; the steps of a second method
        continue the numbers of the first.
        """
        out: dict[int, float] = {}
        before = last = 0
        for step, mean in self.seen:
            before += last if step < last else 0
            last = step
            out[before + step] = scale * mean
        return tuple((float(step), value) for step, value in out.items())
