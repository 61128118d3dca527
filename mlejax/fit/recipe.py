"""The one recipe: check -> start -> solve in u -> evaluate at the optimum -> verdict."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from mlejax import data as data_room
from mlejax import linalg, optimize
from mlejax.compiling import compiled
from mlejax.fit import closed, multistart, regression, sampling, starts
from mlejax.fit.common import POLISH_LIMIT
from mlejax.fit.ending import Fit, finish, nothing_to_estimate
from mlejax.fit.evaluating import Evaluator
from mlejax.fit.loading import Loaded, load, n_contributions, rows_that_count, unscaled
from mlejax.fit.penalties import bind_penalty
from mlejax.fit.programs import Ended, First, rank_starts, to_u
from mlejax.fit.search import search
from mlejax.fit.solve import hold
from mlejax.fit.standing import Found
from mlejax.fit.training import held_out_data, train
from mlejax.likelihood import (
    N_CHECKED_ROWS,
    Likelihood,
    example_params,
    missing_derivatives,
    refuse_dependent_rows,
    refuse_unmasked_units,
    row_check,
    unit_check,
)
from mlejax.objective import Spec
from mlejax.parameters import Space
from mlejax.reduction import Reduction, check_reduction
from mlejax.rowwise import rows_apart
from mlejax.status import End
from mlejax.verdict import ConvergenceWarning

N_SAMPLED = 512
CONCAVE = 1e-4  # smallest eigenvalue of the scaled information at a first guess that is taken without looking elsewhere

_row_check = compiled(row_check, static=("likelihood", "space", "layout"))
_unit_check = compiled(unit_check, static=("likelihood", "space", "layout"))
N_CHECKED_UNITS = 32


def fit(
    likelihood: Likelihood,
    data: Any,
    *,
    start: Any = None,
    fixed: Mapping[str, Any] | None = None,
    weights: Any = None,
    weight_kind: str | None = None,
    method: Any = "newton",
    missing: str = "raise",
    seed: int = 0,
    progress: bool | None = None,
    groups: Sequence[str] = (),
    n_starts: int | None = None,
    penalty: Any = None,
    hyper: Any = None,
    restrict: Callable[[Space], Any] | None = None,
    bias_reduction: str | None = None,
    validation: Any = None,
) -> Fit:
    """Maximum likelihood for one data set; arguments as in ``Model.fit``.

    ``groups`` are the columns of clusters, if any; ``restrict`` gives the constraints in a layout as matrix R, values r and
    labels, R reported = r.
    """
    algorithm = optimize.resolve(method)
    start, listed = _listed_starts(likelihood, start)
    n_starts = _check_n_starts(n_starts, len(listed))
    with jax.enable_x64(True), missing_derivatives(likelihood), _outside_transformations():
        loaded = load(likelihood, data, start, missing, groups, weights, weight_kind)
        reading = (start, missing, weights, weight_kind)
        loaded, held_out = held_out_data(likelihood, loaded, algorithm, n_starts, validation, reading)
        given = starts.given_values(loaded.problem.space, likelihood.parameters, start)
        space, held = _hold_checked(loaded.problem.space, fixed)
        stated: tuple[str, ...] = ()
        remark = ""
        if optimize.batched(algorithm) and (restrict is not None or bias_reduction is not None):
            raise ValueError("constraints= and bias_reduction= are for methods on all rows; leave out batch_size")
        if restrict is not None:
            space, stated, remark = _restricted(space, held, restrict)
        penalty, hyper = bind_penalty(penalty, hyper, loaded.problem.space)
        reduction = _checked_reduction(bias_reduction, likelihood, penalty, loaded, space)
        if penalty is not None or reduction is not None:
            loaded = replace(unscaled(loaded), hyper=hyper)
        spec = Spec(likelihood, space, penalty, reduction=reduction)
        u0, first = _start(spec, algorithm, loaded, given, held, seed)
        _check_rows_once(spec, loaded, u0, held)
        if space.n_free == 0:
            return replace(nothing_to_estimate(spec, loaded, held), constraints=stated, note=remark)
        if start is not None and stated:
            remark += _start_moved(space, given, u0, held)
        with _reporter(progress, algorithm, space.n_free) as report:
            history, reached = None, None
            if optimize.batched(algorithm):
                reached, history = train(spec, algorithm, loaded, u0, held, held_out, report)
            spec, ended, found = search(spec, algorithm, loaded, u0, held, report, reached, first=first)
            note = f"Held out to watch the training: {held_out.origin}." if held_out is not None else ""
            if ended.end == End.START_NOT_FINITE and history is None:
                open_start = [v if leaf.kind == "Free" else None for v, leaf in zip(given, space.leaves, strict=True)]
                other = _first_point(spec, loaded, open_start, held, seed, thorough=True)
                again = search(spec, algorithm, loaded, other, held, report)
                if again[1].end != End.START_NOT_FINITE:
                    note = f"The first start was not usable ({found.rows}); started elsewhere."
                    spec, ended, found = again
            modes: tuple[multistart.Mode, ...] = ()
            if n_starts > 1 and ended.end != End.INTERRUPTED:
                more = [starts.given_values(space, likelihood.parameters, s) for s in listed[1:]]
                ended, found, modes = _explore(
                    spec, algorithm, loaded, held, (ended, found), given, more, n_starts, seed, report
                )
        _check_rows_once(spec, loaded, ended.u, held)
        done = finish(spec, loaded, held, ended, found, algorithm)
        if loaded.designs is not None and done.verdict.code != "verified":
            remark = " ".join(n for n in (remark, regression.remark(loaded.designs, loaded.rows)) if n)
        if note or remark or modes or stated or history is not None:
            said = " ".join(n for n in (note, remark) if n)
            done = replace(done, note=said, modes=modes, constraints=stated, history=history)
        if modes and done.verdict.converged:
            done = replace(done, verdict=done.verdict.with_note(multistart.statement(modes, n_starts)))
    if not done.verdict.converged:
        warnings.warn(f"{likelihood.name}: {done.verdict}. {done.verdict.advice}", ConvergenceWarning, stacklevel=3)
    return done


def _explore(
    spec: Spec,
    algorithm: Any,
    loaded: Loaded,
    held: Any,
    first: tuple[Ended, Found],
    given: list[Any],
    listed: list[list[Any]],
    n_starts: int,
    seed: int,
    report: Callable[[int, float], None] | None,
) -> tuple[Ended, Found, tuple[multistart.Mode, ...]]:
    """Run the further starts, listed and drawn, and go to the highest maximum that any of them reached."""
    space = spec.space
    if space.n_free > POLISH_LIMIT:
        raise ValueError(
            f"n_starts={n_starts} runs Newton's method from every start, which is offered for up to {POLISH_LIMIT} parameters; "
            f"here are {space.n_free}"
        )
    points = [_first_point(spec, loaded, values, held, seed) for values in listed]
    n_drawn = n_starts - 1 - len(points)
    drawn = multistart.scattered(spec, loaded, given, first[0], n_drawn, seed)
    u0 = np.concatenate([np.reshape(points, (-1, space.n_free)), drawn])
    ends = [first[0], *multistart.run_all(spec, algorithm, loaded, u0, held, loaded.hyper, report)]
    modes, best = multistart.modes_of(spec, algorithm, loaded, ends, held)
    if best is None:
        return *first, modes
    ended, found = best
    steps = sum(e.n_steps for e in ends)
    return ended._replace(n_steps=steps, polished=first[0].polished), found, modes


def _checked_reduction(
    kind: Any, likelihood: Likelihood, penalty: Any, loaded: Loaded, space: Space
) -> Reduction | None:
    reduction = check_reduction(kind, likelihood.companions.get("expected_information"))
    if reduction is None:
        return None
    if penalty is not None:
        raise ValueError("give penalty= or bias_reduction=, not both: bias reduction is a penalty of its own")
    if space.n_free > POLISH_LIMIT:
        raise ValueError(f"bias_reduction needs a dense information; it is offered for up to {POLISH_LIMIT} parameters")
    if reduction.kind == "empirical":
        if loaded.weights is not None and loaded.weights.kind != "frequency":
            raise ValueError(
                f"bias_reduction='empirical' sums squares of scores, which {loaded.weights.kind} weights have no one meaning "
                "for; leave out the weights, or use frequency weights"
            )
        if loaded.problem.data.mode == "whole" and n_contributions(loaded.problem.data) <= 1:
            raise ValueError(
                "bias_reduction='empirical' sums the scores of separate contributions, but the model returns one scalar"
            )
    return reduction


def _listed_starts(likelihood: Likelihood, start: Any) -> tuple[Any, list[Any]]:
    """``start=`` as the first start and the list of all; a bare model's own structure may be a list, so that it has none."""
    if likelihood.parameters is None or not isinstance(start, (list, tuple)):
        return start, [start]
    if not start:
        raise ValueError("start= is an empty list; expected a start, or a list of starts")
    return start[0], list(start)


def _check_n_starts(n_starts: Any, n_listed: int) -> int:
    if n_starts is None:
        return n_listed
    if isinstance(n_starts, bool) or not isinstance(n_starts, (int, np.integer)) or n_starts < 1:
        raise ValueError(f"n_starts= expected a whole number of at least 1, got {n_starts!r}")
    if n_starts < n_listed:
        raise ValueError(f"n_starts={n_starts} is less than the {n_listed} starts in start=")
    return int(n_starts)


class _outside_transformations:
    """``fit`` works on numbers: inside ``jit`` even constants are traced, which JAX reports less clearly."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: Any, where: Any) -> None:
        if isinstance(error, jax.errors.TracerArrayConversionError):
            raise TypeError(
                "fit was called inside jax.jit, vmap or grad; it needs numbers.  Call it outside, or use the pure core "
                "mle.solve(model, model.prepare(data), start) there"
            ) from error


# ---- starting


def _hold_checked(space: Space, fixed: Mapping[str, Any] | None) -> tuple[Space, np.ndarray | None]:
    if fixed is not None and not isinstance(fixed, Mapping):
        raise TypeError(f"fixed= expected a dict of address -> value, {{'sigma': 1.0}}, got {type(fixed).__name__}")
    held, values = hold(space, fixed)
    if values is None:
        return held, None
    return held, np.asarray(values)


def _restricted(
    space: Space, held: np.ndarray | None, restrict: Callable[[Space], Any]
) -> tuple[Space, tuple[str, ...], str]:
    """The layout under linear constraints, these in words, and a remark on those that say nothing new."""
    R, r, labels = restrict(space)
    tied, redundant = space.tie(R, r, labels, held)
    if not redundant:
        return tied, tuple(labels), ""
    one = len(redundant) == 1
    remark = f"Constraint{'' if one else 's'} {', '.join(redundant)} follow{'s' * one} from the others."
    return tied, tuple(label for label in labels if label not in redundant), remark


def _start_moved(space: Space, given: list[Any], u0: np.ndarray, held: np.ndarray | None) -> str:
    """A remark if the start that was given breaks the constraints."""
    at = space.split(jax.tree.map(np.asarray, space.params_from_u(u0, held)))
    for leaf, wanted, value in zip(space.leaves, given, at, strict=True):
        if wanted is None:
            continue
        said = np.isfinite(np.ravel(wanted)) & (True if leaf.free is None else np.asarray(leaf.free))
        if not np.allclose(np.ravel(wanted)[said], np.ravel(value)[said], rtol=1e-6, atol=1e-9):
            return "start= does not satisfy the constraints: it was moved to where it does."
    return ""


def _start(
    spec: Spec, algorithm: Any, loaded: Loaded, given: list[Any], held: np.ndarray | None, seed: int
) -> tuple[np.ndarray, First | None]:
    """u of the plain start, and for the search what gives the one to use, from a sample of many rows, with its evaluation."""
    data = loaded.problem.data
    if any(v is not None for v in given) or not sampling.worthwhile(spec, data, algorithm):
        u0, known = _first_guess(spec, loaded, given, held, data)
        return (_first_point(spec, loaded, given, held, seed), None) if u0 is None else (u0, lambda _: (u0, known))
    sample = sampling.first_rows(spec, data)
    guess, _ = _first_guess(spec, loaded, given, held, sample)
    plain = _first_point(spec, loaded, given, held, seed) if guess is None else guess
    try:
        near = sampling.improved(spec, data, sample, plain, held)
    except NotImplementedError:  # without a second derivative
        near = None
    return plain, None if near is None else lambda evaluate: sampling.chosen(evaluate, near, plain)


def _first_guess(
    spec: Spec, loaded: Loaded, given: list[Any], held: np.ndarray | None, data: data_room.Prepared
) -> tuple[np.ndarray | None, Any]:
    """u of the plainest start, no effects and scales of one, with what Newton's method evaluates there, if that will do.

    It will where the log-likelihood is concave there and promises a rise of no more than one unit a row; only for models
    of parameters that cannot be exchanged, and that could lie nowhere else because of that.
    """
    if not 0 < spec.space.n_free <= POLISH_LIMIT:
        return None, None
    rows, designs = rows_that_count(loaded), loaded.designs
    if designs is None:
        line = _plainest(spec.space) if starts.plain_will_do(spec.space, given) else None
        u0 = None if line is None else line[0] + starts.smallness(rows) * line[1]
    else:
        guess = regression.first_guess(designs, spec.space, spec.likelihood.parameters or {}, given, rows)
        u0 = None if guess is None else closed.to_u(spec.space, guess)
    if u0 is None:
        return None, None
    evaluate = Evaluator(spec, data, held, loaded.hyper, like=loaded.problem.data)
    try:
        known = evaluate(optimize.Newton(), u0)
    except NotImplementedError:  # without a second derivative
        return None, None
    finally:
        evaluate.close()
    value, score, curvature = known
    good = np.isfinite(value) and linalg.all_finite(score) and linalg.surely_definite(curvature, CONCAVE)
    return (u0, known) if good and linalg.solve_scaled_host(curvature, score)[1] <= 1.0 else (None, None)


@lru_cache(maxsize=256)
def _plainest(space: Space) -> tuple[np.ndarray, np.ndarray] | None:
    """u of `starts.first_guess`, a + b ``small``, or None for a layout with other parameters than real and positive ones."""
    begin, end = (closed.to_u(space, starts.plain_values(space, small)) for small in (0.0, 1.0))
    return None if begin is None or end is None else (begin, end - begin)


def _first_point(
    spec: Spec, loaded: Loaded, given: list[Any], held: np.ndarray | None, seed: int, thorough: bool = False
) -> np.ndarray:
    """u of the given start, or of the best among the candidates on a sample of the rows (``thorough``: on all)."""
    space, designs = spec.space, loaded.designs
    if space.n_free == 0:
        return np.zeros(0)
    whole = [v if v is not None and not np.isnan(v).any() else None for v in given]
    if all(v is not None or leaf.all_fixed for v, leaf in zip(whole, space.leaves, strict=True)):
        values = [np.zeros(leaf.shape) if v is None else v for v, leaf in zip(given, space.leaves, strict=True)]
        return np.asarray(to_u(space, values))
    data = loaded.problem.data
    rows = rows_that_count(loaded)
    if designs is None:
        batch = starts.candidates(space, given, rows, seed)
    else:
        batch = regression.candidates(designs, space, spec.likelihood.parameters or {}, given, rows, seed)
    stacked = [np.stack(parts) for parts in zip(*batch, strict=True)]
    points, found = (
        np.asarray(a) for a in rank_starts(spec, stacked, data if thorough else _sample(data), held, loaded.hyper)
    )
    return points[int(np.argmax(np.where(np.isfinite(found), found, -np.inf)))]


def _sample(data: data_room.Prepared) -> data_room.Prepared:
    """At most a few hundred rows, spread over the data, to rank candidate starts."""
    if data.mode == "whole" or data.weights.shape[0] <= N_SAMPLED:
        return data
    used = np.flatnonzero(np.asarray(data.weights) > 0)
    index = used[np.linspace(0, used.size - 1, N_SAMPLED).astype(np.int64)]
    return replace(
        data,
        rows=data.taken(index),
        weights=data.weights[index],
        n=np.asarray(N_SAMPLED),
        block=data_room.divisor(N_SAMPLED, data.block),
    )


def _check_rows_once(spec: Spec, loaded: Loaded, u0: np.ndarray, held: np.ndarray | None) -> None:
    """A row-wise entry uses its row only, a unit's contribution not its padding: once for every structure of the data."""
    likelihood, data = spec.likelihood, loaded.problem.data
    key = ("checked", data.statics, spec.space)
    if likelihood.mode == "whole" or key in likelihood.memory or (likelihood.mode == "rows" and int(data.n) < 2):
        return
    if likelihood.mode == "rows" and _rows_provably_apart(spec, data):
        likelihood.memory[key] = True
        return
    m = min(int(data.n), N_CHECKED_ROWS if likelihood.mode == "rows" else N_CHECKED_UNITS)
    m = min(m, max(data.block, 2)) if likelihood.calls_lapack else m
    index = np.resize(np.linspace(0, int(data.n) - 1, m).astype(np.int64), data_room.bucket(m))
    rows = data.taken(index)
    nearby = u0 + 0.1 * np.random.default_rng(0).standard_normal(u0.shape)
    points = np.stack([u0, np.clip(nearby, spec.space.lower, spec.space.upper)])
    check, refuse = (
        (_row_check, refuse_dependent_rows) if likelihood.mode == "rows" else (_unit_check, refuse_unmasked_units)
    )
    one, other = check(likelihood, spec.space, points, held, rows, data.shared, data.statics)
    if refuse(likelihood, np.asarray(one), np.asarray(other)):
        likelihood.memory[key] = True


def _rows_provably_apart(spec: Spec, data: data_room.Prepared) -> bool:
    def contributions(params: Any, columns: Any, shared: Any) -> Any:
        return spec.likelihood.contributions(params, tuple(columns), shared, data.statics)

    def rows(n: int) -> list[Any]:
        return [jax.ShapeDtypeStruct((n, *a.shape[1:]), a.dtype) for a in data.rows]

    return rows_apart(contributions, example_params(spec.space), rows, list(data.shared))


class _reporter:
    """A progress bar for long fits; a context manager that gives a callback or None."""

    def __init__(self, progress: bool | None, algorithm: Any, p: int) -> None:
        wanted = progress if progress is not None else (not isinstance(algorithm, optimize.Newton) and p > 1000)
        self.bar: Any = None
        self.wanted = bool(wanted)
        self.epochs = algorithm.epochs if optimize.batched(algorithm) else None

    def __enter__(self) -> Callable[..., None] | None:
        if not self.wanted:
            return None
        from tqdm.auto import tqdm

        self.bar = tqdm(unit="step" if self.epochs is None else "epoch", total=self.epochs)
        return self._show

    def _show(self, n_done: int, mean_loglik: float, held_out: float | None = None) -> None:
        self.bar.update(n_done - self.bar.n)
        more = "" if held_out is None else f", held out {held_out:.6g}"
        self.bar.set_postfix_str(f"mean log-likelihood {mean_loglik:.6g}{more}")

    def __exit__(self, *_: Any) -> None:
        if self.bar is not None:
            self.bar.close()
