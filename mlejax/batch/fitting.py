"""The recipe of one fit, laid over many data sets: read, start, optimise, describe, judge.

Nothing of the recipe is written anew: the objective, the optimiser, the way to theta and the verdict are those of a single
fit.  Ends that are clean by a test on arrays are verified there and then; the others, one by one or as a small batch of
their own, go through the ray tests and restarts that a fit of them alone would go through.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np

from mlejax import data as data_room
from mlejax import optimize
from mlejax.batch import flagged as flagged_room
from mlejax.batch.describing import described, some, surely_clean
from mlejax.batch.engine import Ends, optimise
from mlejax.batch.programs import Described, evaluate_lanes, natural
from mlejax.batch.sets import DataSets
from mlejax.batch.starts import first_points, pooled, starts_given
from mlejax.execution import run_tasks
from mlejax.execution.chunking import Budget, chunks
from mlejax.fit import ending, multistart, recipe
from mlejax.fit.blocks import budget_for
from mlejax.fit.common import POLISH_LIMIT, POLISH_STEPS, Problem
from mlejax.fit.loading import Loaded, load, unscaled
from mlejax.fit.multistart import Mode
from mlejax.fit.penalties import bind_penalty
from mlejax.fit.programs import DENSE_LIMIT, Ended
from mlejax.fit.search import evidence_at
from mlejax.fit.standing import Found, clean
from mlejax.likelihood import Likelihood, missing_derivatives
from mlejax.objective import Spec
from mlejax.parameters import Space
from mlejax.status import End
from mlejax.verdict import ConvergenceWarning, code_of


@dataclass(frozen=True, eq=False)
class Batch:
    """The numbers of many fits, on the host, float64, with a leading axis over data sets.

    Attributes:
        spec: what was compiled.
        sets: the data.
        fixed: values held fixed (n_values,), or None.
        method: the optimiser.
        u0: starts (L, p).
        ends: where the optimiser ended.
        theta, score, information, inverse, jacobian: in free natural coordinates (L, p), (L, p, p); empty matrices without
            second derivatives.  The inverse is over the coordinates off their edges.
        params: the user's structure, leading axis L.
        interior: flags (L, p) of the coordinates off their edges.
        codes: verdict of every data set (L,).
        statements: why data sets were not fitted.
        found: what ray tests found, by data set.
        notes: remarks on the start, by data set.
        modes: where the starts ended, by data set, if there were several.
        plain: log-likelihoods without the penalty (L,), of penalised fits, whose information is without it too.
        finished: nothing was cut short by the keyboard.
        missing, columns: how missing values were treated, and the further columns in which they count (clusters).
    """

    likelihood: Likelihood
    spec: Spec
    sets: DataSets
    fixed: Any
    method: Any
    u0: np.ndarray
    ends: Ends
    theta: np.ndarray
    score: np.ndarray
    information: np.ndarray
    inverse: np.ndarray
    jacobian: np.ndarray
    params: Any
    interior: np.ndarray
    codes: np.ndarray
    statements: dict[int, str]
    found: dict[int, Found] = field(default_factory=dict, repr=False)
    notes: dict[int, str] = field(default_factory=dict, repr=False)
    modes: dict[int, tuple[Mode, ...]] = field(default_factory=dict, repr=False)
    plain: np.ndarray | None = None
    finished: bool = True
    missing: str = "raise"
    columns: tuple[str, ...] = ()
    limits: Budget | None = None

    @property
    def llf(self) -> np.ndarray:
        """Log-likelihoods (L,), summed; the optimiser saw sampling weights of mean one."""
        return (self.ends.loglik if self.plain is None else self.plain) * self.sets.scale

    @property
    def weight_kind(self) -> str | None:
        """The kind of weights, or None."""
        return None if self.sets.weighing is None else self.sets.weighing.kind

    @property
    def converged(self) -> np.ndarray:
        """Flags (L,): verdict verified or boundary."""
        return np.isin(self.codes, ("verified", "boundary"))


def fit_many(
    likelihood: Likelihood,
    sets: DataSets,
    *,
    start: Any = None,
    fixed: Mapping[str, Any] | None = None,
    method: Any = "newton",
    seed: int = 0,
    missing: str = "raise",
    columns: tuple[str, ...] = (),
    penalty: Any = None,
    hyper: Any = None,
    n_starts: int | None = None,
    limits: Budget,
) -> Batch:
    """Maximum likelihood for every data set; arguments as in ``Model.fit_batch``."""
    algorithm = optimize.resolve(method)
    n_starts = recipe._check_n_starts(n_starts, 1)
    with jax.enable_x64(True), missing_derivatives(likelihood), recipe._outside_transformations():
        space, held = recipe._hold_checked(sets.space, fixed)
        penalty, sets = _bound(penalty, hyper, sets)
        spec = Spec(likelihood, space, penalty)
        if optimize.batched(algorithm):
            raise ValueError("method= with batch_size is for one data set of many rows; leave out batch_size")
        if isinstance(algorithm, optimize.Newton) and space.n_free > DENSE_LIMIT:
            raise ValueError(
                f"method='newton' forms a Hessian of {space.n_free} x {space.n_free} numbers for every data set; for more "
                f"than {DENSE_LIMIT} parameters use method='lbfgs' or 'adam'"
            )
        lanes = sets.usable
        if lanes.size:
            limits = budget_for_largest(spec, sets, held, limits)
        statements = dict(sets.bad)
        given, own = starts_given(spec, sets, start, likelihood)
        u0 = np.zeros((len(sets), space.n_free))
        finished = True
        if lanes.size:
            if isinstance(start, str):
                u0[:] = pooled(spec, sets, lanes, given, held, algorithm, seed)
            else:
                points = first_points(spec, sets, lanes, given, own, held, seed, limits)
                finished = points is not None
                u0 = u0 if points is None else points
            recipe._check_rows_once(spec, _alone(sets, int(lanes[0]), space), u0[lanes[0]], held)
        ends = Ends.empty(len(sets), space.n_free, space.n_free <= DENSE_LIMIT)
        if lanes.size and finished:
            spec, ends, finished = _optimised(spec, algorithm, sets, lanes, u0, held, limits)
        done = _judged(
            likelihood, spec, sets, held, algorithm, u0, ends, given, own, lanes, statements, seed, limits, n_starts
        )
    return replace(done, finished=finished and done.finished, missing=missing, columns=columns, limits=limits)


def budget_for_largest(spec: Spec, sets: DataSets, held: Any, limits: Budget) -> Budget:
    """As `budget_for`, of the largest data set that can be used."""
    largest = int(sets.usable[np.argmax(sets.sizes[sets.usable])])
    bytes_ = sets.data_set_bytes(int(sets.sizes[largest]))
    return budget_for(spec, sets.single(largest), bytes_, held, sets.hyper_at(largest), limits)


def _bound(penalty: Any, hyper: Any, sets: DataSets) -> tuple[Any, DataSets]:
    """The penalty as programs take it, and the data sets with its hyper-parameters, common or one each."""
    leaves = jax.tree.leaves(hyper)
    own = bool(leaves) and all(np.ndim(a) and np.shape(a)[0] == len(sets) for a in leaves)
    first = jax.tree.map(lambda a: np.asarray(a)[0], hyper) if own else hyper
    bound, common = bind_penalty(penalty, first, sets.space)
    if bound is None:
        return None, sets
    if own:
        for a in leaves:
            if not np.isfinite(np.asarray(a, np.float64)).all():
                raise ValueError("hyper=: expected finite numbers for every data set")
    each = jax.tree.map(lambda a: np.asarray(a, np.float64), hyper) if own else common
    # against a penalty the scale of sampling weights means something
    return bound, replace(sets, hyper=each, own_hyper=own, scale=np.ones(len(sets)))


def _alone(sets: DataSets, lane: int, space: Space) -> Any:
    """One data set as the recipe holds it, in the padded size of the batch."""
    data = sets.single(lane)
    n = int(data.n)
    rows = data_room.Rows(tuple(leaf[:n] for leaf in data.rows), data.shared, sets.layout, n)
    return Loaded(Problem(data, space), rows, None, None, None, designs=sets.designs, hyper=sets.hyper_at(lane))  # type: ignore[arg-type]


def _optimised(
    spec: Spec, algorithm: Any, sets: DataSets, lanes: np.ndarray, u0: np.ndarray, held: Any, limits: Budget
) -> tuple[Spec, Ends, bool]:
    """The optimiser, and up to ten Newton steps after any other method (p <= 500), as in a single fit."""
    strength: dict[str, Any] = {"hyper": sets.hyper, "own": (False, sets.own_hyper)}
    try:
        ends, finished = optimise(spec, algorithm, sets, lanes, u0, held, limits, **strength)
        if isinstance(algorithm, optimize.Newton) or spec.space.n_free > POLISH_LIMIT or not finished:
            return spec, ends, finished
        good = lanes[ends.end[lanes] != int(End.START_NOT_FINITE)]
        more, finished = optimise(
            spec, optimize.Newton(max_steps=POLISH_STEPS), sets, good, ends.u, held, limits, **strength
        )
    except NotImplementedError as error:
        if spec.hessian == "differenced" or "ifferentiation rule" not in str(error):
            raise
        return _optimised(replace(spec, hessian="differenced"), algorithm, sets, lanes, u0, held, limits)
    for name in ("u", "loglik", "score", "decrements", "end"):
        getattr(ends, name)[good] = getattr(more, name)[good]
    ends.n_steps[good] += more.n_steps[good]
    return (
        spec,
        Ends(ends.u, ends.loglik, ends.score, more.information, ends.decrements, ends.n_steps, ends.end),
        finished,
    )


def ended_of(batch_ends: Ends, i: int, algorithm: Any, p: int) -> Ended:
    """One data set's end in the form of a single fit."""
    dense = batch_ends.information.shape[-1] == p
    decrements = tuple(float(d) for d in batch_ends.decrements[i]) if dense else ()
    return Ended(
        u=batch_ends.u[i],
        loglik=float(batch_ends.loglik[i]),
        score=batch_ends.score[i],
        information=batch_ends.information[i] if dense else None,
        decrement=decrements[-1] if decrements else float("nan"),
        decrements=decrements,
        n_steps=int(batch_ends.n_steps[i]),
        end=End(int(batch_ends.end[i])),
        polished=not isinstance(algorithm, optimize.Newton) and dense,
        message="",
    )


def statement(batch: Batch, i: int) -> str:
    """Why a data set was not fitted, or what its verdict says."""
    if i in batch.statements:
        return batch.statements[i]
    return single(batch, i).verdict.statement


def single(batch: Batch, i: int) -> ending.Fit:
    """One data set's fit as a fit of it alone would give it; nothing is optimised again."""
    sets = batch.sets
    with jax.enable_x64(True):
        structure = None
        if batch.likelihood.parameters is None:
            structure = jax.tree.map(lambda a: np.nan_to_num(a[i]), batch.params)
        weights, kind = (
            (None, None) if sets.weighing is None else (sets.weighing.of(sets.table_rows(i)), sets.weighing.kind)
        )
        data = sets.one(i)
        present = data_room.ingest(data)
        columns = [name for name in batch.columns if name in present]
        if (
            sets.weighing is not None and isinstance(weights, str) and weights not in present
        ):  # beside the designs stands what the function reads
            weights = sets.weighing.values[sets.table_rows(i)]
        loaded = load(batch.likelihood, data, structure, batch.missing, columns, weights, kind)
        loaded = replace(loaded, designs=sets.designs)
        if batch.spec.adjusted:
            loaded = replace(unscaled(loaded), hyper=sets.hyper_at(i))
        ended = ended_of(batch.ends, i, batch.method, batch.spec.space.n_free)
        done = ending.finish(batch.spec, loaded, batch.fixed, ended, batch.found.get(i, Found()), batch.method)
    modes = batch.modes.get(i, ())
    done = replace(done, note=batch.notes.get(i, ""), modes=tuple(replace(m, llf=loaded.scale * m.llf) for m in modes))
    if modes and done.verdict.converged:
        n = sum(mode.n_starts for mode in modes)
        done = replace(done, verdict=done.verdict.with_note(multistart.statement(modes, n)))
    return done


def _judged(
    likelihood: Likelihood, spec: Spec, sets: DataSets, held: Any, algorithm: Any, u0: np.ndarray, ends: Ends, given: list[Any],
    own: list[bool], lanes: np.ndarray, statements: dict[int, str], seed: int,
    limits: Budget, n_starts: int,
) -> Batch:  # fmt: skip
    space, n = spec.space, len(sets)
    codes = np.full(n, "not_computable", dtype="U20")
    found: dict[int, Found] = {}
    notes: dict[int, str] = {}
    modes: dict[int, tuple[Mode, ...]] = {}
    finished = True
    with np.errstate(invalid="ignore"):
        interior = (ends.u > space.lower) & (ends.u < space.upper)
    dense = ends.information.shape[-1] == space.n_free
    at: Described | None = None
    todo = np.zeros(n, bool)
    todo[lanes] = True
    stopped = todo & (ends.end == int(End.INTERRUPTED))
    codes[stopped] = "stopped_early"
    for i in np.flatnonzero(stopped).tolist():
        statements[i] = (
            "not run: interrupted" if not np.isfinite(ends.u[i]).all() else f"interrupted after {ends.n_steps[i]} steps"
        )
    todo &= ~stopped
    if not dense:
        codes[todo] = "stopped_early"
    elif space.n_free == 0:
        codes[todo] = np.where(np.isfinite(ends.loglik[todo]), "verified", "not_computable")
    elif todo.any():
        at = described(spec, ends, held, limits)
        sure = surely_clean(space, ends, at, interior) & todo
        codes[sure] = np.where(interior[sure].all(axis=1), "verified", "boundary")
        doubtful = np.flatnonzero(todo & ~sure).tolist()
        unclean = []
        for i in doubtful:
            if clean(ended_of(ends, i, algorithm, space.n_free), space):
                codes[i] = "verified" if interior[i].all() else "boundary"
            else:
                unclean.append(i)
        given_of = lambda i: [v[i] if mine else v for v, mine in zip(given, own, strict=True)]
        pairs = [(i, ended_of(ends, i, algorithm, space.n_free)) for i in unclean]
        settled = flagged_room.settle(spec, algorithm, sets, held, u0, pairs, given_of, seed, limits, _alone)
        try:
            for i, ended, seen, code, note in settled:
                codes[i], found[i] = code, seen
                if note:
                    notes[i] = note
                flagged_room.write(ends, i, ended)
        except KeyboardInterrupt:
            finished = False
            _cut_short(sorted(set(unclean) - set(found)), ends, codes, statements)
        if n_starts > 1 and finished:
            for i in np.flatnonzero(todo).tolist():
                loaded = _alone(sets, i, space)
                first = (ended_of(ends, i, algorithm, space.n_free), found.get(i, Found()))
                ended, found[i], modes[i] = recipe._explore(
                    spec, algorithm, loaded, held, first, given_of(i), [], n_starts, seed, None
                )
                codes[i] = code_of(evidence_at(spec, held, ended, found[i]))
                flagged_room.write(ends, i, ended)
            unclean = np.flatnonzero(todo).tolist()
        if unclean:
            with np.errstate(invalid="ignore"):
                interior = (ends.u > space.lower) & (ends.u < space.upper)
            later = described(spec, some(ends, np.array(unclean)), held, limits)
            at = jax.tree.map(lambda whole, part: _put(whole, np.array(unclean), part), at, later)
    if at is None and dense:
        at = described(spec, ends, held, limits)
    if at is None:
        theta, params = (jax.tree.map(np.asarray, a) for a in natural(spec, ends.u, held))
        empty = np.zeros((n, 0, 0))
        at = Described(theta, ends.score, empty, empty, empty, ends.score, np.zeros(n), np.zeros(n, bool), params)
    plain = None
    if spec.penalty is not None and dense and lanes.size:
        plain, score, information, whole = _without_penalty(spec, sets, lanes, ends, held, limits)
        finished = finished and whole
        _cut_short(lanes[np.isnan(plain[lanes]) & (codes[lanes] != "not_computable")].tolist(), ends, codes, statements)
        natural_ = described(spec, replace(ends, score=score, information=information), held, limits)
        at = at._replace(score=natural_.score, information=natural_.information)
    return Batch(
        likelihood=likelihood, spec=spec, plain=plain, sets=sets, fixed=held, method=algorithm, u0=u0, ends=ends, theta=at.theta,
        score=at.score, information=at.information, inverse=at.inverse, jacobian=at.jacobian, params=at.params,
        interior=interior, codes=codes, statements=statements, found=found, notes=notes,
        modes=modes, finished=finished,
    )  # fmt: skip


def _cut_short(lanes: list[int], ends: Ends, codes: np.ndarray, statements: dict[int, str]) -> None:
    """Data sets whose ends were reached, and not examined before the keyboard interrupted."""
    for i in lanes:
        ends.end[i], codes[i] = int(End.INTERRUPTED), "stopped_early"
        statements.setdefault(i, "interrupted before its end was examined")


def _without_penalty(
    spec: Spec, sets: DataSets, lanes: np.ndarray, ends: Ends, held: Any, limits: Budget
) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """Log-likelihoods, scores and information in u at the estimates, without the penalty (NaN where the keyboard
    interrupted), and whether there are all."""
    p = spec.space.n_free
    value, score, information = (np.full((len(sets), *shape), np.nan) for shape in ((), (p,), (p, p)))

    def work(task: tuple[np.ndarray, int, int]) -> int:
        mine, width, capacity = task
        u = ends.u[np.resize(mine, capacity)]
        blocks = np.int32(-(-mine.size // width))
        out = evaluate_lanes(spec.plain, width, u, sets.fetch(mine, capacity), held, None, blocks)
        for whole, part in zip((value, score, information), out, strict=True):
            whole[mine] = np.asarray(part)[: mine.size]
        return int(mine.size)

    whole = run_tasks(chunks(sets, lanes, p, limits), work, limits, "penalty", len(lanes))
    return value, score, information, whole


def _put(whole: np.ndarray, lanes: np.ndarray, part: np.ndarray) -> np.ndarray:
    whole = np.array(whole)
    whole[lanes] = part
    return whole


def warn_of_failures(name: str, codes: np.ndarray, stacklevel: int) -> None:
    """One warning for the whole batch, with the share of each verdict."""
    failed = Counter(codes[~np.isin(codes, ("verified", "boundary"))].tolist())
    if failed:
        each = ", ".join(f"{n} {code}" for code, n in failed.most_common())
        warnings.warn(
            f"{name}: {sum(failed.values())} of {len(codes)} data sets did not end at a maximum ({each}); res.failed says why",
            ConvergenceWarning,
            stacklevel=stacklevel,
        )
