"""Calls that fail on a signature, and values of the wrong type: the message says what was expected, what came and what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from jax.scipy.stats import norm

import mlejax as mle

RNG = np.random.default_rng(0)
DATA = {"y": RNG.normal(size=40), "x": RNG.normal(size=40)}


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def normal(p: Any, d: Any) -> Any:
    return norm.logpdf(d["y"], p["mu"], p["sigma"])


@pytest.fixture(scope="module")
def res() -> mle.Results:
    return normal.regress(mu="x").fit(DATA)


MISSING = {
    "Markov": (lambda: mle.Markov(2), r"Markov: missing by=, the column of the series\.  Expected Markov\(n, by\)"),
    "Discrete": (lambda: mle.Discrete(), r"Discrete: missing n=, the number of classes"),
    "Latent": (lambda: mle.Latent(), r"Latent: missing by=, "),
    "extended": (lambda: mle.extended(nl=mle.Positive()), r"extended: missing total=, .*Expected extended\(total\)"),
    "Interval": (lambda: mle.Interval(0.0), r"Interval: missing hi=, .*Expected Interval\(lo, hi\)"),
    "joint": (lambda: mle.joint([normal, normal]), r"joint: missing shared=, "),
    "Free": (lambda: mle.Free(), r"Free: missing start=, "),
    "l2": (lambda: mle.l2(), r"l2: missing strength=, a number >= 0"),
    "fit": (lambda: normal.fit(), r"fit: missing data=, "),
    "fit_groups": (lambda: normal.fit_groups(DATA), r"fit_groups: missing by=, .*Expected fit_groups\(frame, by\)"),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_missing_argument_is_named_and_described(name: str) -> None:
    call, said = MISSING[name]
    with pytest.raises(TypeError, match=said):
        call()


def test_too_many_arguments_without_names() -> None:
    with pytest.raises(TypeError, match=r"pool: expected at most 1 argument without a name \(results\), got 2: write the others"):
        mle.pool([], [])  # type: ignore[misc]


WRONG: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a function for columns": (lambda r: r.margins(lambda p, d: p["mu"]), r"or a list of names, got a function; write "),
    "a number for columns": (lambda r: r.margins(3), r"expected the name of a column, or a list of names, got 3"),
    "margins without data": (lambda r: r.margins(of=lambda p: p["mu"]), r"got one with the arguments \(p\)"),
    "predict without data": (lambda r: r.predict(lambda p: p["mu"], DATA), r"predict expected a function of params and data"),
    "nlcom with data": (lambda r: r.nlcom(lambda p, d: p["mu"]), r"function of params alone, .* got one of 2 arguments"),
    "cov_params of a number": (lambda r: r.cov_params(3), r"subset= expected a list of names of entries, got 3"),
    "predict by NumPy": (lambda r: r.predict(lambda p, d: np.exp(p["mu"] * d["y"]), DATA), "to NumPy or SciPy.*write jnp.exp"),
    "a path for a table": (lambda r: r.model.fit("data.csv"), r"got a str\. Read a file first, pd.read_csv\(path\), or give"),
    "a table for a result": (lambda r: r.lr_test(DATA), r"result of a fit of the smaller model, got dict:"),
    "method in the place of alpha": (lambda r: r.conf_int("profile"), r"expected a number .*got 'profile'"),
    "one result": (lambda r: mle.pool(r), r"pool expected a list of results, .* got a Results"),
    "no path": (lambda r: mle.load(3), r"mle.load expected the path of a file, got 3"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_value_of_the_wrong_type(res: mle.Results, name: str) -> None:
    call, said = WRONG[name]
    with pytest.raises(TypeError, match=said):
        call(res)


def test_values_of_declarations() -> None:
    with pytest.raises(ValueError, match="Real: shape= expected a whole number, or a tuple of whole numbers, got 'x'"):
        mle.Real("x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"Adam\(learning_rate='0.1'\): expected a positive number"):
        mle.Adam("0.1")  # type: ignore[arg-type]
