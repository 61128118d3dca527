"""What is kept between calls goes when the user's functions go."""

from __future__ import annotations

import copy
import functools
import gc
import pickle
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import pytest
from jax.scipy.stats import norm

import mlejax as mle
from mlejax.execution import compiled
from mlejax.execution.caching import ByOwners, cached


@dataclass(frozen=True)
class Recipe:
    """A value that contains a function, as a static argument of a program."""

    function: Callable[[Any], Any]
    times: int = 2


class Scaled:
    """Something with a method."""

    def __init__(self, by: float) -> None:
        self.by = by

    def scaled(self, x: Any) -> Any:
        return self.by * x


def applied(recipe: Recipe, x: Any, y: Any = 0.0, *, negative: bool = False) -> Any:
    traced.append(1)
    return (-1 if negative else 1) * recipe.times * recipe.function(x) + y


traced: list[int] = []
program = compiled(applied, static=("recipe", "negative"))


@pytest.fixture(autouse=True)
def nothing_traced() -> None:
    traced.clear()


def test_equal_static_arguments_share_a_program_however_they_are_passed() -> None:
    f = lambda x: x + 1.0
    for _ in range(2):
        assert float(program(Recipe(f), np.float64(1.0))) == 4.0
    assert float(program(recipe=Recipe(f), x=np.float64(2.0), negative=False)) == 6.0
    assert len(traced) == 1
    assert float(program(Recipe(f), np.float64(1.0), y=np.float64(1.0))) == 5.0
    assert float(program(Recipe(f), np.float64(1.0), negative=True)) == -4.0
    assert float(program(Recipe(f, 3), np.float64(1.0))) == 6.0
    assert len(traced) == 4


def test_methods_are_compared_by_their_objects() -> None:
    one, other = Scaled(2.0), Scaled(3.0)
    for _ in range(2):
        assert float(program(Recipe(one.scaled), np.float64(1.0))) == 4.0
        assert float(program(Recipe(other.scaled), np.float64(1.0))) == 6.0
    assert len(traced) == 2


def test_a_program_inside_another_sees_its_own_static_arguments() -> None:
    f, g = (lambda x: x + 1.0), (lambda x: x + 2.0)
    both = lambda x: program(Recipe(lambda t: program(Recipe(g), t)), program(Recipe(f), x))
    assert float(jax.jit(both)(1.0)) == float(both(np.float64(1.0))) == 24.0


@pytest.mark.parametrize("kind", ["function", "partial", "method"])
def test_programs_go_with_their_functions(kind: str) -> None:
    owner: Any = Scaled(2.0) if kind == "method" else (lambda x: 2.0 * x)
    function = owner.scaled if kind == "method" else functools.partial(owner) if kind == "partial" else owner
    table = ByOwners[list[int]]()
    assert table.get((Recipe(function), 1), lambda: [1]) is table.get((Recipe(function), 1), lambda: [2])
    program(Recipe(function), np.float64(1.0))
    gone = weakref.ref(owner)
    del owner, function
    gc.collect()
    assert gone() is None
    assert len(table) == 0


def test_an_owner_that_goes_takes_no_other_with_it() -> None:
    table, f, g = ByOwners[int](), (lambda x: x), (lambda x: x)
    table.get((f, "a"), lambda: 1)
    table.get((g, "a"), lambda: 2)
    table.get((f, g), lambda: 3)
    del g
    assert len(table) == 1
    assert table.get((f, "a"), lambda: 4) == 1


def test_a_copy_begins_with_nothing() -> None:
    owner = Scaled(1.0)
    assert cached(owner, "key", lambda: 1) == cached(owner, "key", lambda: 2) == 1
    for other in (pickle.loads(pickle.dumps(owner)), copy.deepcopy(owner)):
        assert cached(other, "key", lambda: 3) == 3


def test_what_is_not_to_be_kept_is_made_again() -> None:
    owner, answers = Scaled(1.0), iter([False, True, False])
    found = [cached(owner, "key", lambda: next(answers), keep=bool) for _ in range(3)]
    assert found == [False, True, True]


def fitted(penalised: bool) -> tuple[mle.Model, list[weakref.ref[Any]]]:
    model = mle.model(mu=mle.Real(), sigma=mle.Positive())(lambda p, d: norm.logpdf(d["y"], p["mu"], p["sigma"]))
    penalty = (lambda p: p["mu"] ** 2) if penalised else None
    y = np.random.default_rng(0).normal(1.0, 2.0, 50)
    res = model.fit({"y": y}, penalty=penalty)
    model.fit_batch({"y": y.reshape(5, 10)}, progress=False, penalty=penalty)
    combined = lambda p: p["mu"] / p["sigma"]
    if not penalised:
        res.nlcom(combined)
    return model, [weakref.ref(x) for x in (penalty, combined) if x is not None]


@pytest.mark.parametrize("penalised", [False, True])
@pytest.mark.filterwarnings("ignore::mlejax.ConvergenceWarning")
def test_a_model_takes_its_programs_with_it_and_so_does_a_penalty(penalised: bool) -> None:
    model, others = fitted(penalised)
    gc.collect()
    assert [other() for other in others] == [None] * len(others)
    watched = [weakref.ref(x) for x in (model, model.likelihood, model.likelihood.function)]
    del model
    gc.collect()
    assert [x() for x in watched] == [None] * 3
