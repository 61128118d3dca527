"""Malformed input through `fit` itself: more than 2,000 inputs, each refused with a documented error or fitted rightly.

The data room's own tests (`tests/data/read/test_malformed.py`) draw their inputs at random; here every kind of damage meets every
container, row and column of one small regression, so that what a user calls is what is tested.
"""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm

import mlejax as mle
from tests.data.read.test_malformed import DAMAGES, DOCUMENTED, FORMS, NOT_IN_A_FRAME, series

N = 12
RNG = np.random.default_rng(3)
X = np.round(RNG.normal(size=N), 3)
CLEAN = {"y": np.round(1.0 + 2.0 * X + RNG.normal(size=N), 3), "x": X, "unused": np.arange(float(N))}
CONTAINERS = (
    "dict of arrays",
    "dict of lists",
    "dict of jax arrays",
    "dict of series",
    "dict of nullable",
    "dataframe",
)
ROWS = (0, 4, N - 1)


@mle.model(a=mle.Real(), b=mle.Real(), s=mle.Positive())
def line(params, data):
    return norm.logpdf(data["y"], params["a"] + params["b"] * data["x"], params["s"])


def closed_form(data) -> np.ndarray:
    """Least squares, and the root mean square of the residuals."""
    x, y = np.asarray(data["x"], float), np.asarray(data["y"], float)
    b, a = np.polyfit(x, y, 1)
    return np.array([a, b, np.sqrt(np.mean((y - a - b * x) ** 2))])


def inputs(damage: str, column: str):
    """The clean table in every container, with one column damaged in one row."""
    inject, _ = DAMAGES[damage]
    for form, row in itertools.product(CONTAINERS, ROWS):
        if form == "dataframe" and damage in NOT_IN_A_FRAME:
            continue
        columns = {k: FORMS[form](v) for k, v in CLEAN.items()}
        bad = inject(CLEAN[column], row)
        columns[column] = series(bad) if form == "dataframe" else bad
        yield form, row, pd.DataFrame(columns) if form == "dataframe" else columns


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_damaged_columns(damage: str) -> None:
    """In a column that is read: refused, naming it. In one that is not: the closed form."""
    for column in ("y", "x"):
        for form, row, data in inputs(damage, column):
            with pytest.raises((*DOCUMENTED, mle.LikelihoodError)) as caught:
                line.fit(data)
            assert repr(column) in str(caught.value), (form, row, str(caught.value))
    form, row, data = next(inputs(damage, "unused"))
    np.testing.assert_allclose(line.fit(data).params.to_numpy(), closed_form(CLEAN), rtol=1e-7)


BAD = [
    None,
    "one",
    {},
    [],
    object(),
    1j,
    (1, 2),
    np.ones(3),
    [[1.0]],
    float("nan"),
    float("inf"),
    -1.0,
    True,
    {"mu": 1},
]
ADDRESSES = ["a", "b", "s", "c", "a[0]", "s[age]", "", "data", 3, None, ("a",), "A", " a", "beta[1]"]


def option_inputs():
    for value in BAD:
        yield {"start": value}
        yield {"fixed": value}
        yield {"method": value}
        yield {"cov_type": value}
        yield {"cov_kwds": value}
        yield {"missing": value}
        yield {"cov_type": "cluster", "cov_kwds": {"groups": value}}
        yield {"cov_type": "cluster", "cov_kwds": {"groups": np.arange(N), "correction": value}}
    for address, value in itertools.product(ADDRESSES, BAD):
        yield {"start": {address: value}}
        yield {"fixed": {address: value}}


REFUSALS = (ValueError, TypeError, KeyError)


def honest(options: dict) -> str:
    """What became of a fit with these options; a wrong answer or an undocumented error fails the test."""
    try:
        res = line.fit(dict(CLEAN), **options)
    except REFUSALS as error:
        return "refused" if len(str(error)) > 15 else f"refused without saying why: {options}"
    held = options.get("fixed") or {}
    if held:
        for address, value in held.items():
            assert float(res.params[address.strip()]) == pytest.approx(float(np.asarray(value)))
        assert res.converged
        free = [k for k in "abs" if k not in {address.strip() for address in held}]
        here = sum(float(s) ** 2 for s in res.score_obs[free].sum())
        assert here < 1e-10
    else:
        assert res.verdict.code == "verified"
        np.testing.assert_allclose(res.params.to_numpy(), closed_form(CLEAN), rtol=1e-7)
    return "fitted"


def test_malformed_options() -> None:
    seen = [honest(options) for options in option_inputs()]
    assert len(seen) > 500
    assert seen.count("refused") > 450
    assert set(seen) == {"refused", "fitted"}


CONTAINED = [None, "data", 5, 1.5, [], {}, (), object(), np.ones(3), [1.0, 2.0], {"y": [1.0]}, {"x": X}, pd.Series(X),
             pd.DataFrame(), pd.DataFrame({"x": X}), {"y": X, "x": X[:, None]}, {"Y": X, "x": X}, {1: X, 2: X}, iter([1]),
             np.zeros((0, 2)), {"y": X, "x": X + 1j}, jnp.ones(N), lambda: None, {"y": {}, "x": X}, b"y", {"y", "x"}]  # fmt: skip


@pytest.mark.parametrize("i", range(len(CONTAINED)))
def test_what_is_no_table(i: int) -> None:
    if i == 15:  # a column of one-column rows broadcasts to a matrix: not one value per row
        with pytest.raises(mle.LikelihoodError):
            line.fit(CONTAINED[i])
        return
    with pytest.raises((*DOCUMENTED, TypeError, mle.LikelihoodError)) as caught:
        line.fit(CONTAINED[i])
    assert len(str(caught.value)) > 15


def test_at_least_two_thousand() -> None:
    columns = sum(1 for damage in DAMAGES for column in ("y", "x") for _ in inputs(damage, column))
    assert columns + len(DAMAGES) + sum(1 for _ in option_inputs()) + len(CONTAINED) >= 2000
