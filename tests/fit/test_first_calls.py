"""First calls that go wrong: data without names, functions that return something else, tables without rows; each says in one
short traceback what to write.
"""

from __future__ import annotations

import traceback
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm

import mlejax as mle

Y = np.arange(5.0)
DATA = {"y": Y}


def declared(function: Any) -> mle.Model:
    return mle.model(mu=mle.Real(), sigma=mle.Positive())(function)


normal = declared(lambda p, d: norm.logpdf(d["y"], p["mu"], p["sigma"]))


def one_traceback(call: Any, kind: type[Exception], said: str) -> None:
    """The call raises one error, and its traceback shows only lines of this file and of the package's door."""
    with pytest.raises(kind, match=said) as caught:
        call()
    text = "".join(traceback.format_exception(caught.value))
    assert text.count("Traceback") == 1, text
    files = {entry.filename for entry in traceback.extract_tb(caught.value.__traceback__)}
    assert {name for name in files if name != __file__ and not name.endswith("misuse.py")} == set()


@pytest.mark.parametrize(
    ("data", "came"),
    [
        (Y, "one array, a numpy.ndarray"),
        ([1.0, 2.0, 3.0], "one array, a list"),
        (jnp.arange(5.0), "one array, a "),
        (pd.Series(Y), "one array, a pandas.Series"),
        ((Y, Y), "a tuple of 2 arrays"),
    ],
)
def test_data_without_names(data: Any, came: str) -> None:
    said = rf"reads data\['y'\], but the data are {came}.* without names: give {{'y': array"
    one_traceback(lambda: normal.fit(data), mle.DataTypeError, said)


def test_a_function_of_one_array_needs_no_names() -> None:
    res = declared(lambda p, d: norm.logpdf(d, p["mu"], p["sigma"])).fit(Y)
    assert res.params.tolist() == pytest.approx([Y.mean(), Y.std()])
    one_traceback(lambda: normal.fit_batch(np.ones((3, 4))), mle.DataTypeError, "without names")


@pytest.mark.parametrize(
    ("function", "kind", "said"),
    [
        (lambda p, d: norm.logpdf(d["y"], p["mu"], p["sigma"]).sum(), mle.LikelihoodError, r"Leave out the final \.sum"),
        (lambda p, d: norm.logpdf(d["y"], p["mu"], p["sigma"])[1:], mle.LikelihoodError, r"here \(5,\)"),
        (lambda p, d: None, mle.LikelihoodError, "return statement missing"),
        (lambda p, d: d["y"] + jnp.ones(3), mle.LikelihoodError, "cannot combine"),
        (lambda p, d: norm.logpdf(d["z"], p["mu"], p["sigma"]), mle.MissingColumnError, "no column 'z'"),
        (lambda p, d: norm.logpdf(d.z, p["mu"], p["sigma"]), AttributeError, "data\\["),
        (lambda p, d: 1 / 0, ZeroDivisionError, "division"),
    ],
)
def test_functions_that_are_wrong(function: Any, kind: type[Exception], said: str) -> None:
    one_traceback(lambda: declared(function).fit(DATA), kind, said)


@pytest.mark.parametrize("data", [{"y": np.zeros(0)}, pd.DataFrame({"y": []})])
def test_tables_without_rows(data: Any) -> None:
    one_traceback(lambda: normal.fit(data), mle.DataError, "zero rows")


def test_a_user_s_own_except_clause_is_shown() -> None:
    """The context that belongs to the user stays."""
    with pytest.raises(mle.MissingColumnError) as caught:
        try:
            raise OSError("no file")
        except OSError:
            normal.fit({"x": Y})
    assert isinstance(caught.value.__context__, OSError)
    assert not caught.value.__suppress_context__


def test_a_wrong_shape_in_a_prediction() -> None:
    """JAX's words, without its lines, and the shapes of what the function got."""
    for model in (normal, normal.regress(mu="1")):
        res = model.fit(DATA)
        call = lambda res=res: res.predict(lambda p, d: jnp.dot(d["X"], jnp.ones(2)), {"X": np.ones((4, 3))})
        one_traceback(call, TypeError, "dot_general")
        with pytest.raises(TypeError) as caught:
            call()
        assert "data['X'] of shape (4, 3)" in caught.value.__notes__[-1]
