"""Fits of models with classes: what their verdicts say of classes that collapse, vanish or coincide, and the order of labels.

The log-likelihood of a mixture has maxima that mean nothing and, where a class has a scale of its own, no upper bound: a class on
one row.  It is the same when classes exchange their labels.  So a search that ended with a class too many begins anew from starts
that set the classes apart, and the highest proper maximum is what is reported (Redner & Walker 1984, SIAM Review 26, 195).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import jax
import numpy as np

from mlejax import transforms
from mlejax.execution import float64
from mlejax.fit.finish.finish import Fit, Integration
from mlejax.fit.recipe import continued, fit_once
from mlejax.latent import Markov, mixture_of, posterior
from mlejax.likelihood import Likelihood
from mlejax.shapes import Data
from mlejax.verdict import Verdict

RESTARTS = 10  # starts, where the first search ended with a class too many
EMPTY = 1e-2  # rows (units) that a class is expected to have
ALIKE = 1e-2  # log densities of a row in two classes
SAME = 1e-9  # log-likelihood, relative, of exchanged classes
MOST_TRIED = 64  # sets of parameters that are exchanged


@dataclass(frozen=True)
class ClassFindings:
    """What is found of the classes at the end of a fit.

    Attributes:
        counts: rows (units) that each class is expected to have, (k,).
        few: a class of fewer has hardly more rows than parameters.
        alike: pairs of classes with the same densities in all rows.
        what: "row" or the name of units.
    """

    counts: tuple[float, ...]
    few: float
    alike: tuple[tuple[int, int], ...]
    what: str

    @property
    def empty(self) -> tuple[int, ...]:
        """Classes without rows."""
        return tuple(k for k, n in enumerate(self.counts) if n < EMPTY)

    @property
    def small(self) -> tuple[int, ...]:
        """Classes of few rows."""
        return tuple(k for k, n in enumerate(self.counts) if EMPTY <= n < self.few)

    @property
    def healthy(self) -> bool:
        """Whether every class has rows of its own, and more than a few."""
        return not (self.empty or self.small or self.alike)


def fit_with_classes(likelihood: Likelihood, data: Data, **options: Any) -> Fit:
    """Maximum likelihood of a model with a class; arguments as :func:`mlejax.fit.recipe.fit_once`."""
    done = fit_once(likelihood, data, **options)
    if done.loaded.stream is not None or not done.u.size:
        return _exact(done)
    found = class_findings(done)
    alone = options.get("start") is None and options.get("n_starts") is None
    if alone and not (found.healthy and done.verdict.converged):
        again = fit_once(likelihood, data, **{**options, "n_starts": RESTARTS})
        if again.verdict.converged or not done.verdict.converged:
            done, found = again, class_findings(again)
    if options.get("start") is None:
        done, found = _in_order(done, found)
    return _exact(_judged(done, found))


def _exact(done: Fit) -> Fit:
    joint = done.spec.likelihood.joint
    assert joint is not None
    return replace(done, integration=Integration(tuple(joint.latents), 0, accepted=True))


def class_findings(done: Fit) -> ClassFindings:
    """The expected numbers of rows of the classes at an end, and which classes are the same."""
    mixture = mixture_of(done.spec.likelihood)
    assert mixture is not None
    data = done.loaded.problem.data
    with float64():
        found = jax.tree.map(np.asarray, posterior(done.spec, done.u, data, done.fixed))
    weights = np.asarray(data.weights) * done.loaded.scale
    shares = mixture.shares(found.posterior)
    counts = tuple(float(n) for n in weights @ np.where(weights[:, None] > 0, shares, 0.0))
    densities = found.densities[weights > 0].reshape(-1, mixture.latent.n)
    with np.errstate(invalid="ignore"):
        gap = lambda a, b: np.nanmax(np.where(a == b, 0.0, np.abs(a - b)), initial=0.0)
        pairs = combinations(range(mixture.latent.n), 2)
        alike = tuple((a, b) for a, b in pairs if gap(densities[:, a], densities[:, b]) < ALIKE)
    few = 1.0 + done.spec.space.n_free / mixture.latent.n
    what = (
        "row" if done.spec.likelihood.unit is None or isinstance(mixture.latent, Markov) else done.spec.likelihood.unit
    )
    return ClassFindings(counts, few, alike, what)


def _judged(done: Fit, found: ClassFindings) -> Fit:
    """The fit with a verdict that names what became of its classes."""
    if found.healthy:
        return _on_an_edge(done)
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
    if done.verdict.converged:
        note = f"{text[0].upper()}{text[1:]}: such a maximum may mean nothing."
        return replace(done, note=" ".join(n for n in (done.note, note) if n))
    fewer = bool(found.empty or found.alike)
    advice = (
        f"The data show fewer classes than {len(found.counts)}: fit {len(found.counts) - 1}."
        if fewer
        else "A class with a scale of its own has no bound: give the classes one scale, penalise small scales, or fit fewer "
        "classes; n_starts=50 looks for a proper maximum."
    )
    return replace(
        done, verdict=Verdict(done.verdict.code, f"{text}; {done.verdict.statement}", done.verdict.evidence, advice)
    )


def _on_an_edge(done: Fit) -> Fit:
    """The fit with advice where nothing but a probability of a class goes to 0."""
    mixture, verdict = mixture_of(done.spec.likelihood), done.verdict
    assert mixture is not None
    law = set(mixture.latent.names(mixture.name).values()) - {p.name for p in done.spec.likelihood.predictors}
    moving = [name for kind, names, _ in verdict.evidence.get("directions", ()) if kind == "rises" for name in names]
    if verdict.supremum is None or not moving or any(name.split("[")[0] not in law for name in moving):
        return done
    name = moving[0].split("[")[0]
    advice = (
        "A probability of a class is 0 at the maximum, on the edge of its support; the estimates are those of the limit, and no "
        f"errors are given. A small penalty keeps it off the edge: penalty=lambda p: -0.1 * jnp.log(p[{name!r}]).sum()."
    )
    return replace(done, verdict=Verdict(verdict.code, verdict.statement, verdict.evidence, advice))


# ---- the order of labels


def _in_order(done: Fit, found: ClassFindings) -> tuple[Fit, ClassFindings]:
    """The fit with its classes in order of their first parameter, where their labels can be exchanged."""
    exchanged, mixture = _exchangeable(done), mixture_of(done.spec.likelihood)
    if exchanged is None:
        return done, found
    assert mixture is not None
    space = done.spec.space
    values = [np.asarray(a) for a in space.split(done.params)]
    first = next((i for i in exchanged if space.leaves[i].transform.elementwise), exchanged[0])
    by = values[first].reshape(len(found.counts), -1)[:, 0]
    order = np.argsort(by, kind="stable")
    label = space.leaves[first].name
    word = "states" if mixture.latent.square(mixture.name) else "classes"
    note = f"The labels of the {word} can be exchanged; they are in order of {label}."
    done = replace(done, note=" ".join(n for n in (done.note, note) if n))
    if (order == np.arange(len(order))).all():
        return done, found
    u = _permuted(done, exchanged, order)
    again = continued(done, u, done.note)
    if again.verdict.code != done.verdict.code:
        return done, found
    kept = replace(
        again, n_steps=done.n_steps, method=done.method, modes=done.modes, path=done.path, verdict=_verdict(done, again)
    )
    return kept, class_findings(kept)


def _verdict(before: Fit, after: Fit) -> Verdict:
    """The verdict of several starts stands; else that of the end in its new order."""
    return before.verdict if before.modes and before.verdict.converged else after.verdict


def _exchangeable(done: Fit) -> tuple[int, ...] | None:
    """Numbers of the leaves whose classes can be exchanged without a change of the log-likelihood; None if there are none."""
    mixture, space = mixture_of(done.spec.likelihood), done.spec.space
    assert mixture is not None
    if space.ties is not None or space.mapped or not done.verdict.converged or done.spec.penalty is not None:
        return None
    k, laws = mixture.latent.n, set(mixture.latent.names(mixture.name).values())
    law = [i for i, leaf in enumerate(space.leaves) if leaf.name in laws]
    others = [i for i, leaf in enumerate(space.leaves) if i not in law and leaf.shape[:1] == (k,) and leaf.size]
    plain = all(isinstance(space.leaves[i].transform, transforms.Simplex) for i in law)
    if not others or not plain or any(space.leaves[i].free is not None for i in (*law, *others)):
        return None
    turned = np.roll(np.arange(k), 1)
    for some in _subsets(others):
        if any(
            isinstance(space.leaves[i].transform, transforms.Ordered) and space.leaves[i].shape == (k,) for i in some
        ):
            continue
        u = _permuted(done, (*some, *law), turned)
        with float64():
            found = posterior(done.spec, u, done.loaded.problem.data, done.fixed)
        value = done.loaded.scale * float(np.asarray(done.loaded.problem.data.weights) @ np.asarray(found.loglik))
        if abs(value - done.llf) <= SAME * (1.0 + abs(done.llf)):
            return (*some, *law)
    return None


def _subsets(leaves: list[int]) -> Iterator[tuple[int, ...]]:
    """Sets of leaves, the large ones first."""
    several = (some for size in range(len(leaves), 0, -1) for some in combinations(leaves, size))
    yield from (some for _, some in zip(range(MOST_TRIED), several, strict=False))


def _permuted(done: Fit, leaves: tuple[int, ...], order: np.ndarray) -> np.ndarray:
    """u (p,) with the classes of these leaves in another order."""
    mixture, space = mixture_of(done.spec.likelihood), done.spec.space
    assert mixture is not None
    values = [np.asarray(a) for a in space.split(done.params)]
    square = mixture.latent.square(mixture.name)
    for i in leaves:
        values[i] = values[i][order]
        if space.leaves[i].name in square:
            values[i] = values[i][:, order]
    with float64():
        return np.asarray(space.u_from_params(space.build(values)))
