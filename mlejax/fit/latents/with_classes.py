"""Fits of models with latent classes: verdicts on classes that collapse, vanish or coincide, and sorting of labels.

The log-likelihood of a mixture has spurious maxima, and no upper bound if a class with its own scale can collapse on one row.  It
does not change when classes are relabelled.  If a search ends with a class too many, it is repeated from starts in which each
class is fitted to other rows, and the highest proper maximum is reported (Redner & Walker 1984, SIAM Review 26, 195).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import jax
import numpy as np

from mlejax.data import Prepared
from mlejax.execution import float64
from mlejax.fit.continuing import continued
from mlejax.fit.finish.finish import Fit, Integration
from mlejax.fit.latents import labels
from mlejax.fit.latents.empty_classes import on_closed_bounds
from mlejax.fit.prepare.streaming import evaluator_of
from mlejax.fit.recipe import fit_once
from mlejax.latent import Markov, Mixture, mixture_in, posterior
from mlejax.likelihood import Likelihood
from mlejax.objective import Objective
from mlejax.shapes import Data, Either, PyTree

RESTARTS = 10  # starts, where the first search ended with a class too many
EMPTY = 1e-2  # rows (units) that a class is expected to have
ALIKE = 1e-2  # log densities of a row in two classes
STATIONARY = 1e-6  # a Newton decrement, log-likelihood units


@dataclass(frozen=True)
class ClassFindings:
    """Sizes of the latent classes at the estimate.

    Attributes:
        counts: expected number of rows (units) of each class, sums of posterior probabilities, (k,).
        few: number of rows (units) below which a class is called small: 1 + number of free parameters / number of classes.
        alike: pairs of classes whose log densities differ by less than 0.01 in every row.
        what: "row", or the name of the unit column.
    """

    counts: tuple[float, ...]
    few: float
    alike: tuple[tuple[int, int], ...]
    what: str

    @property
    def empty(self) -> tuple[int, ...]:
        """Numbers (from 0) of the classes with an expected number of rows (units) below 0.01."""
        return tuple(k for k, n in enumerate(self.counts) if n < EMPTY)

    @property
    def small(self) -> tuple[int, ...]:
        """Numbers (from 0) of the classes that have rows (units), but fewer than ``few``."""
        return tuple(k for k, n in enumerate(self.counts) if EMPTY <= n < self.few)

    @property
    def healthy(self) -> bool:
        """True if no class is empty, and none small, and none the same as another."""
        return not (self.empty or self.small or self.alike)


@dataclass(frozen=True, eq=False)
class ClassSums:
    """A function of the `Posterior` of rows (units), which returns the weighted sums of the probabilities of classes, (k,), and
    the largest difference of log densities of each pair of classes.

    Attributes:
        mixture: the likelihood of rows and classes.
    """

    mixture: Mixture

    def __call__(self, found: Any, data: Prepared, *_: object) -> tuple[np.ndarray, np.ndarray]:
        """Return the sums and the differences (see the class) for ``data``; the further arguments, which a pass over a stream
        gives, are not used.
        """
        k, weights = self.mixture.latent.n, np.asarray(data.weights)
        counts = weights @ np.where(weights[:, None] > 0, self.mixture.shares(found.posterior), 0.0)
        densities = found.densities[weights > 0].reshape(-1, k)
        with np.errstate(invalid="ignore"):
            gap = lambda a, b: np.nanmax(np.where(a == b, 0.0, np.abs(a - b)), initial=0.0)
            gaps = [gap(densities[:, a], densities[:, b]) for a, b in combinations(range(k), 2)]
        return counts, np.array(gaps)


def _posterior(objective: Objective, u: Either) -> PyTree:
    return posterior(objective.spec, u, objective.prepared, objective.fixed)


def _both(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return a[0] + b[0], np.maximum(a[1], b[1])


def fit_with_classes(likelihood: Likelihood, data: Data, **options: Any) -> Fit:
    """Fit a model with latent classes by maximum likelihood; ``options`` are fields of `Request`.

    Unless ``start=`` or ``n_starts=`` is given, a search that does not end at a maximum without empty, small or identical classes
    (`ClassFindings`) is repeated from ten starts. Their result is returned if it converged or the first search did not; else that
    of the first search. Classes that remain empty, small or identical are named in the verdict or a note; they raise no error.
    Unless ``start=`` is given, classes whose labels can be exchanged are sorted by their first parameter, increasing, if the fit
    ends at a maximum.
    """
    done = fit_once(likelihood, data, **options)
    if not done.u.size:
        return _exact(done)
    found = class_findings(done)
    alone = options.get("start") is None and options.get("n_starts") is None
    if alone and not (found.healthy and done.verdict.converged):
        again = fit_once(likelihood, data, **{**options, "n_starts": RESTARTS})
        if again.verdict.converged or not done.verdict.converged:
            done, found = again, class_findings(again)
    if done.verdict.supremum is not None:
        return on_bounds(done, keep=options.get("start") is not None)
    if options.get("start") is None:
        done, found = _in_order(done, found)
    return _exact(_judged(done, found))


def on_bounds(done: Fit, keep: bool) -> Fit:
    """Set class probabilities that go to 0 to 0, if that is a maximum, and name empty, small and identical classes.

    ``keep``: do not sort the labels of the classes.
    """
    leaves = None if keep else _exchangeable(done)
    order = np.arange(_n_classes(done)) if leaves is None else _order(done, leaves)
    closed = on_closed_bounds(done, labels.exchanged(done.spec, done.params, leaves or (), order))
    if closed is not None:
        done = closed if leaves is None else _with_order_told(closed, leaves)
    return with_classes_named(done)


def with_classes_named(done: Fit) -> Fit:
    """Return the fit with a verdict or a note that names empty, small and identical classes, as `_judged` does."""
    return _exact(_judged(done, class_findings(done)))


def _n_classes(done: Fit) -> int:
    """Return the number of latent classes of a fit."""
    mixture = mixture_in(done.spec.likelihood)
    return mixture.latent.n


def _exact(done: Fit) -> Fit:
    """Return the fit with the statement that its classes were summed over exactly."""
    joint = done.spec.likelihood.joint
    assert joint is not None
    return replace(done, integration=Integration(tuple(joint.latents), 0, accepted=True))


def class_findings(done: Fit) -> ClassFindings:
    """Compute the expected numbers of rows of the classes at the estimate, and which classes are the same; of a stream by one
    pass.
    """
    mixture = mixture_in(done.spec.likelihood)
    summed = ClassSums(mixture)
    with float64():
        if done.loaded.stream is None:
            data = done.loaded.problem.data
            found = jax.tree.map(np.asarray, posterior(done.spec, done.u, data, done.fixed))
            sums, gaps = summed(found, data)
        else:
            evaluator: Any = evaluator_of(done.spec.plain, done.loaded, done.fixed)
            sums, gaps = evaluator.map_reduce(_posterior, _both, done.u, summed)
    counts = tuple(float(n) for n in done.loaded.scale * sums)
    pairs = combinations(range(mixture.latent.n), 2)
    alike = tuple(pair for pair, gap in zip(pairs, gaps, strict=True) if gap < ALIKE)
    few = 1.0 + done.spec.space.n_free / mixture.latent.n
    what = (
        "row" if done.spec.likelihood.unit is None or isinstance(mixture.latent, Markov) else done.spec.likelihood.unit
    )
    return ClassFindings(counts, few, alike, what)


def _judged(done: Fit, found: ClassFindings) -> Fit:
    """Return the fit with a verdict that names empty, small and identical classes, or, at a maximum without an empty class,
    with a note.

    The fit is unchanged if there are no such classes.
    """
    if found.healthy:
        return done
    name = next(iter(done.spec.likelihood.joint.latents))  # type: ignore[union-attr]
    said, unbounded = [], "without bound" in done.verdict.statement
    for a, b in found.alike:
        if a not in found.empty and b not in found.empty:
            said.append(f"the classes {a} and {b} of {name} are the same")
    said += [f"the class {k} of {name} is empty" for k in found.empty]
    for k in found.small:
        n = f"{found.counts[k]:.3g} {found.what}{'s' if round(found.counts[k], 2) != 1.0 else ''}"
        what = "has collapsed on" if unbounded and found.counts[k] < 2.5 else "has only"
        said.append(f"the class {k} of {name} {what} {n}")
    if not said:
        return done
    text = ", and ".join(said)
    if done.verdict.converged and not found.empty:
        note = f"{text[0].upper()}{text[1:]}: such a maximum may mean nothing."
        return replace(done, note=" ".join(n for n in (done.note, note) if n))
    fewer = bool(found.empty or found.alike)
    advice = (
        f"The data show fewer classes than {len(found.counts)}: fit {len(found.counts) - 1}."
        if fewer
        else "If each class has a scale of its own, the log-likelihood has no bound: give the classes one scale, or penalise "
        "small scales.  Or fit fewer classes; n_starts=50 looks for a proper maximum."
    )
    code, said_before, facts = done.verdict.code, done.verdict.statement, dict[str, Any]()
    if found.alike and not found.empty and done.decrement < STATIONARY:
        code, said_before = "not_identified", "only the sum of their probabilities is known"
        facts = {"classes": tuple(found.alike)}  # errors would depend on how it is shared out: there are none
    return replace(done, verdict=done.verdict.amended(code, text, advice, note=said_before, facts=facts))


def _in_order(done: Fit, found: ClassFindings) -> tuple[Fit, ClassFindings]:
    """Sort the classes by their first parameter; return the fit and its `ClassFindings`.

    The classes keep their order if the labels cannot be exchanged, the fit did not converge, or the sorted fit has another
    verdict.
    """
    leaves = _exchangeable(done) if done.verdict.converged else None
    if leaves is None:
        return done, found
    order, done = _order(done, leaves), _with_order_told(done, leaves)
    if (order == np.arange(len(order))).all():
        return done, found
    with float64():
        u = np.asarray(labels.permuted(done.spec, done.u, done.fixed, leaves, order))
    again = continued(done, u, done.note)
    if again.verdict.code != done.verdict.code:
        return done, found
    verdict = done.verdict if done.modes else again.verdict  # the one before tells what several starts found
    kept = replace(again, n_steps=done.n_steps, method=done.method, modes=done.modes, path=done.path, verdict=verdict)
    return kept, class_findings(kept)


def _exchangeable(done: Fit) -> tuple[int, ...] | None:
    """Return the positions of the leaves whose classes can be exchanged at the estimate, or None."""
    return labels.exchangeable(done.spec, done.u, done.loaded.seen.problem.data, done.fixed)


def _order(done: Fit, leaves: tuple[int, ...]) -> np.ndarray:
    """Return the permutation, (k,), that sorts the classes by the values of the leaf `first_of` of these leaves, increasing."""
    with float64():
        return np.asarray(labels.order_of(done.spec.space, done.params, leaves))


def _with_order_told(done: Fit, leaves: tuple[int, ...]) -> Fit:
    """Add to the note of the fit by which parameter the classes are sorted."""
    mixture, space = mixture_in(done.spec.likelihood), done.spec.space
    word = "states" if mixture.latent.square(mixture.name) else "classes"
    label = space.leaves[labels.first_of(space, leaves)].name
    note = f"The labels of the {word} can be exchanged; they are in order of {label}."
    return replace(done, note=" ".join(n for n in (done.note, note) if n))

