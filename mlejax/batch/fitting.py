"""Fit many data sets: starts, final points and verdicts as arrays; and convert one of them to an ordinary fit."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np

from mlejax import data as data_room
from mlejax import misuse, optimize
from mlejax.batch.judging import Batch, judged
from mlejax.batch.sets import DataSets, Runs
from mlejax.execution import float64
from mlejax.execution.chunking import Budget
from mlejax.fit import start as start_room
from mlejax.fit.common import Problem, check_count
from mlejax.fit.diagnose import TOGETHER, Diagnosed, Problems
from mlejax.fit.finish import finish as finish_room
from mlejax.fit.finish.natural import in_theta
from mlejax.fit.latents.integration import with_latents_named
from mlejax.fit.latents.labels import in_order
from mlejax.fit.latents.with_classes import RESTARTS, on_bounds
from mlejax.fit.prepare.arguments import check_n_starts, fix_on_host, outside_transformations
from mlejax.fit.prepare.loaded import Loaded, unscaled
from mlejax.fit.prepare.loading import load
from mlejax.fit.prepare.penalties import bind_penalty
from mlejax.fit.search import Outcome, problems_of, search_all, several_starts, with_modes
from mlejax.fit.start import Mode
from mlejax.latent import marginal_of, mixture_of
from mlejax.likelihood import Likelihood, check_rows_once, missing_derivatives
from mlejax.objective import ChunkedEvaluator, DataSetsEvaluator, Evaluator, Spec
from mlejax.objective.blocks import budget_for
from mlejax.optimize import Method, MethodLike, OptimizeResult
from mlejax.parameters import Space
from mlejax.shapes import Host, PyTree
from mlejax.verdict import CONVERGED, ConvergenceWarning, Findings


def fit_many(
    likelihood: Likelihood,
    sets: DataSets,
    *,
    start: PyTree = None,
    fixed: Mapping[str, Any] | None = None,
    method: MethodLike = "newton",
    seed: int = 0,
    missing: str = "raise",
    columns: tuple[str, ...] = (),
    penalty: Callable[..., Any] | None = None,
    hyper: PyTree = None,
    n_starts: int | None = None,
    budget: Budget,
) -> Batch:
    """Fit every usable data set by maximum likelihood and return the `Batch`.

    Args:
        likelihood: the model.
        sets: the data sets.
        start, fixed, method, seed, missing, penalty, hyper, n_starts: as in ``Model.fit_batch``.
        columns: names of cluster columns, which are read again when one data set is taken out of the batch.
        budget: limits on memory and threads.

    Raises:
        ValueError: ``batch_size`` of the method, ``n_starts`` or ``start`` that is not supported, or ``fixed``, ``penalty``
            or ``hyper`` that does not fit the model; a memory limit that is too small for one data set.
        LikelihoodError: terms depend on other rows or on padding, or a penalty that cannot be traced.
    """
    algorithm, seed = optimize.resolve(method), check_count("seed", seed, 0)
    own_labels = start is not None or mixture_of(likelihood) is None
    again = n_starts is None and not own_labels
    n_starts = check_n_starts(n_starts, 1)
    with float64(), missing_derivatives(likelihood), outside_transformations():
        space, fixed_values = fix_on_host(sets.space, fixed)
        penalty, sets = _bound(penalty, hyper, sets)
        spec = Spec(likelihood, space, penalty)
        optimize.refuse_batches(algorithm)
        which = sets.usable
        budget = budget_for_largest(spec, sets, fixed_values, budget) if which.size else budget
        evaluator = DataSetsEvaluator(spec, sets, budget, fixed_values, sets.hyper, (False, sets.own_hyper))
        given, own = _given(spec, sets, start)
        u0 = np.zeros((len(sets), space.n_free))
        if which.size:
            if isinstance(start, str):
                u0[:] = _pooled(spec, sets, which, given, fixed_values, algorithm, seed)
            elif space.n_free:
                u0[which], _ = start_room.choose(
                    evaluator, which, given, own, sets.designs, likelihood.parameters, seed
                )
            finite = np.isfinite(u0[which]).all(axis=1)
            if finite.any():
                first = int(which[finite][0])
                check_rows_once(likelihood, space, sets.single(first), u0[first], fixed_values, _alone(sets, first, space).rows)
        problems = _problems(sets, algorithm, fixed_values, seed, given, own, budget)
        outcome = _searched(problems, evaluator, u0, which, sets)
        modes: dict[int, tuple[Mode, ...]] = {}
        if n_starts > 1 and outcome.finished:
            outcome, modes = _several_starts(problems, outcome, evaluator, which, n_starts)
        elif again and outcome.finished:  # a class was lost, or coincides with another
            outcome, modes = _several_starts(problems, outcome, evaluator, which[~outcome.clean[which]], RESTARTS)
        if not own_labels and which.size:
            good = outcome.clean | np.array([i in modes for i in range(len(sets))])
            ends = in_order(outcome.spec, outcome.result, good, sets.single(int(which[0])), fixed_values)
            outcome = replace(outcome, result=ends, at=None)
        done = judged(likelihood, sets, problems, evaluator, outcome, modes, u0, which, budget)
    return _with_latents_named(replace(done, missing=missing, columns=columns), which, own_labels)


def _with_latents_named(batch: Batch, which: Host, keep: bool) -> Batch:
    """Judge data sets of models with latent variables again, each by its single fit (`single`), and return the batch.

    With latent classes these are the data sets that are not verified; with latents that are not normal, all of them. Each gets
    the code of the verdict of its single fit. If a class probability goes to 0, the single fit sets it to 0, and its results
    replace those of the data set in the batch.

    Args:
        batch: the batch, whose verdicts do not account for the latents; its arrays are changed in place.
        which: numbers of the data sets that can be used.
        keep: if True, the classes keep their labels; otherwise they are sorted.
    """
    marginal, asked = marginal_of(batch.likelihood), np.zeros(0, np.int64)
    if mixture_of(batch.likelihood) is not None:
        asked = which[batch.codes[which] != "verified"]
    elif marginal is not None and any(latent.law != "normal" for latent in marginal.latents.values()):
        asked = which
    for i in asked[np.isfinite(batch.ends.u[asked]).all(axis=1)].tolist():
        one = single(batch, i)
        if one.verdict.supremum is not None and mixture_of(batch.likelihood) is not None:
            one = on_bounds(one, keep)
            if one.verdict.code == "boundary":
                batch.closed[i] = one
                batch.ends.loglik[i] = one.llf / batch.sets.scale[i]
                jax.tree.map(lambda whole, own, i=i: operator.setitem(whole, i, own), batch.params, one.params)
        batch.codes[i] = one.verdict.code
    return batch


def budget_for_largest(spec: Spec, sets: DataSets, fixed_values: Host | None, budget: Budget) -> Budget:
    """Return the limits on memory and threads that `budget_for` gives for the largest data set that can be used; there must be
    one.

    Args:
        spec, fixed_values: what is fixed when programs are compiled, and the values under ``fixed=`` or None.
        sets: the data sets.
        budget: the user's limits.
    """
    largest = int(sets.usable[np.argmax(sets.sizes[sets.usable])])
    bytes_ = sets.data_set_bytes(int(sets.sizes[largest]))
    return budget_for(spec, sets.single(largest), bytes_, fixed_values, sets.hyper_at(largest), budget)


def _bound(penalty: Callable[..., Any] | None, hyper: PyTree, sets: DataSets) -> tuple[Any, DataSets]:
    """Return the penalty in the form that compiled programs take, and the data sets with its hyper-parameters attached and
    weights that are not scaled; (None, ``sets``) without a penalty.

    The hyper-parameters are common to all, or, if each array has a leading axis of length L, one for each data set. ValueError
    if one of these is not finite; other errors as in `bind_penalty`.
    """
    leaves = jax.tree.leaves(hyper)
    own = bool(leaves) and all(np.ndim(a) and np.shape(a)[0] == len(sets) for a in leaves)
    first = jax.tree.map(lambda a: np.asarray(a)[0], hyper) if own else hyper
    bound, common = bind_penalty(penalty, first, sets.space)
    if bound is None:
        return None, sets
    if own:
        for a in leaves:
            numbers = np.asarray(a, np.float64)
            if (wrong := numbers[~np.isfinite(numbers)]).size:
                raise ValueError(f"hyper=: expected finite numbers for every data set, got {wrong[0]}: correct them")
    each = jax.tree.map(lambda a: np.asarray(a, np.float64), hyper) if own else common
    # against a penalty the scale of sampling weights means something
    return bound, replace(sets, hyper=each, own_hyper=own, scale=np.ones(len(sets)))


def _given(spec: Spec, sets: DataSets, start: PyTree) -> tuple[list[Any], list[bool]]:
    """Return, for each array of params, its value under ``start=`` (None if it is not given, or ``start`` is "pooled"), and
    whether that has a leading axis over data sets. ValueError for another string; other errors as in `given_for_each`.
    """
    if isinstance(start, str):
        if start != "pooled":
            raise ValueError(
                f"start={start!r}: expected a dict from parameter names to starts, a DataFrame with a row for each data set and "
                "parameter names as columns, or 'pooled'"
            )
        start = None
    return start_room.given_for_each(spec.space, len(sets), start, spec.likelihood.parameters)


def _alone(sets: DataSets, i: int, space: Space) -> Loaded:
    """Return data set number i as `Loaded` in the parameter space ``space``, in the padded size of the batch, without its table,
    weights and labels. Its rows have the numbers of the rows of this data set, dropped ones included.
    """
    data = sets.single(i)
    n, before, kept = int(data.n), sets.table_rows(i), None
    if sets.mode == "rows" and before.size != n:
        kept = np.flatnonzero(np.isin(before, Runs(sets.order, sets.begins, sets.lengths)(i)))
    rows = data_room.Rows(tuple(leaf[:n] for leaf in data.rows), data.shared, sets.layout, n, kept=kept)
    return Loaded(Problem(data, space), rows, None, None, None, designs=sets.designs, hyper=sets.hyper_at(i))  # type: ignore[arg-type]


def _problems(
    sets: DataSets,
    method: Method,
    fixed_values: Host | None,
    seed: int,
    given: list[Any],
    own: list[bool],
    budget: Budget,
) -> Problems:
    """Return a `Problems` view of the data sets: for number i, its data, evaluator and given start, made on demand.

    Args:
        sets, method, fixed_values, seed: the data sets, the optimiser, the values under ``fixed=``, and the seed of
            random starts.
        given, own: the given starts and whether they have a leading axis, from `_given`.
        budget: limits of memory, on which depends how many data sets are diagnosed together.
    """
    room = budget.memory // max(sets.data_set_bytes(int(sets.sizes.max(initial=1))), 1)

    def one(evaluator: Evaluator, i: int) -> ChunkedEvaluator:
        return ChunkedEvaluator(evaluator.spec, sets.single(i), fixed_values, sets.hyper_at(i))

    def given_of(i: int) -> list[Any]:
        return [v[i] if mine else v for v, mine in zip(given, own, strict=True)]

    loaded = partial(_alone, sets, space=sets.space)
    return problems_of(method, fixed_values, seed, loaded, given_of, one, int(min(max(room, 2), TOGETHER)))


def _searched(problems: Problems, evaluator: DataSetsEvaluator, u0: np.ndarray, which: Host, sets: DataSets) -> Outcome:
    """Search from the starts u0, (L, p), and diagnose the data sets ``which``; return the outcome over all L data sets.

    If Ctrl-C came before a finite start was found, that data set keeps the status INTERRUPTED, and ``finished`` of the outcome
    is False.
    """
    space = evaluator.spec.space
    started = which[np.isfinite(u0[which]).all(axis=1)]
    if not started.size:
        empty = OptimizeResult.empty(len(sets), space.n_free, dense=True)
        return Outcome(evaluator.spec, empty, np.zeros(len(sets), bool), finished=not which.size)
    formed = partial(in_theta, space, fixed=problems.fixed, budget=evaluator.budget) if space.n_free else None
    outcome = search_all(problems, evaluator, u0, started, in_theta=formed)
    return replace(outcome, finished=outcome.finished and started.size == which.size)


def _pooled(
    spec: Spec, sets: DataSets, which: np.ndarray, given: list[Any], fixed_values: Host | None, method: Method, seed: int
) -> np.ndarray:
    """Return the final point u, (p,), of a search over the rows of the data sets ``which`` together, without weights; the start
    of that search if the final point is not finite.

    Args:
        spec, fixed_values, method, seed: what is fixed when programs are compiled, the values under ``fixed=``, the optimiser,
            and the seed of random starts.
        sets, which: the data sets, and the numbers of those to pool.
        given: given start values, one (or None) for each array of params.

    Raises:
        ValueError: a model of the whole data, or a penalty with hyper-parameters for each data set.
    """
    if sets.mode == "whole":
        raise ValueError(
            "start='pooled' needs rows or units that can be pooled: with rowwise=False give start= as values, or leave it out"
        )
    if sets.own_hyper:
        raise ValueError(
            "start='pooled' fits all data sets as one, which is not possible with a hyper= for each: give start= as values, or "
            "leave it out"
        )
    positions = np.concatenate([np.arange(sets.begins[i], sets.begins[i] + sets.lengths[i]) for i in which])
    positions = positions if sets.order is None else sets.order[positions]
    leaves = tuple(np.asarray(leaf[positions]) for leaf in sets.leaves)
    rows = data_room.Rows(leaves, sets.shared, sets.layout, len(positions))
    packed = data_room.pack(rows, mode=sets.mode)
    pooled: Loaded = Loaded(Problem(packed, spec.space), rows, None, None, None, designs=sets.designs, hyper=sets.hyper)  # type: ignore[arg-type]
    evaluator = ChunkedEvaluator(spec, packed, fixed_values, sets.hyper)
    problems = problems_of(method, fixed_values, seed, lambda _: pooled, lambda _: given)
    u0 = problems.start_anew(evaluator, pooled, given)
    end = search_all(problems, evaluator, u0[None], np.zeros(1, np.int64)).result.of(0)
    return np.asarray(end.u if np.isfinite(end.u).all() else u0)


def _several_starts(
    problems: Problems, outcome: Outcome, evaluator: DataSetsEvaluator, which: np.ndarray, n_starts: int
) -> tuple[Outcome, dict[int, tuple[Mode, ...]]]:
    """Search the data sets ``which`` from ``n_starts`` starts in all, one by one; return the outcome, changed in place, with
    the best final points, and all final points by number of the data set. ``problems`` and ``evaluator`` are those of the
    batch.
    """
    modes: dict[int, tuple[Mode, ...]] = {}
    for i in which.tolist():
        one = problems.one(evaluator.with_spec(outcome.spec), i)
        found, modes[i] = several_starts(
            problems, one, problems.loaded(i), outcome.diagnosed(i), problems.given(i), [], n_starts
        )
        outcome.result.put(i, found.end)
        outcome.findings[i] = found.findings
        outcome.clean[i] = False  # judged by what was found
    return outcome, modes


def single(batch: Batch, i: int) -> finish_room.Fit:
    """Return the `Fit` that ``model.fit`` would give for data set number i, from the final point in the batch, without a search.

    Raises:
        DataError, DataTypeError: the data set cannot be used; or the error of `without_rows` if its rows are not in memory.
    """
    if i in batch.closed:
        return batch.closed[i]
    sets = batch.sets
    with float64():
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
        evaluator = ChunkedEvaluator(batch.spec, loaded.problem.data, batch.fixed, loaded.hyper)
        found = Diagnosed(batch.spec, batch.ends.of(i), batch.found.get(i, Findings()))
        done = finish_room.finish(evaluator, loaded, found, batch.method)
    modes = tuple(replace(m, llf=loaded.scale * m.llf) for m in batch.modes.get(i, ()))
    return with_latents_named(with_modes(replace(done, note=batch.notes.get(i, ""), modes=modes), modes))


def statement(batch: Batch, i: int) -> str:
    """Return the statement of the verdict of data set number i, or the reason why it was not fitted or not finished."""
    if i in batch.statements:
        return batch.statements[i]
    return single(batch, i).verdict.statement


def warn_of_failures(name: str, codes: np.ndarray) -> None:
    """Give one ConvergenceWarning with the number of data sets for each verdict that is no maximum; none if all are maxima.

    Args:
        name: name of the method that fitted them, the beginning of the message.
        codes: codes of the verdicts, (L,).
    """
    failed = Counter(codes[~np.isin(codes, CONVERGED)].tolist())
    if failed:
        each = ", ".join(f"{n} {code}" for code, n in failed.most_common())
        misuse.warn(
            f"{name}: {sum(failed.values())} of {len(codes)} data sets did not end at a maximum ({each}); res.failed says why",
            ConvergenceWarning,
            "failed-data-sets",
            stacklevel=5,
        )
