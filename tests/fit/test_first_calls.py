"""First calls that go wrong: data without names, functions that return something else, tables without rows; each says in one
short traceback what to write.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
import traceback
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import expon, norm

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


    def call() -> None:
        try:
            raise OSError("no file")
        except OSError:
            normal.fit({"x": Y})

    with pytest.raises(mle.MissingColumnError) as caught:
        call()
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


def spending(read: Any, **open_columns: Any) -> mle.Model:
    function = lambda p, d: jnp.where(read(d), norm.logpdf(d["spend"], p["mu"], p["sigma"]), 0.0)
    return mle.model(mu=mle.Real(), sigma=mle.Positive(), **open_columns)(function)


@pytest.mark.parametrize(
    ("read", "opened", "said"),
    [
        (lambda d: d["observed"]["spent"], {"optional": ["spend"]}, r"'spent' in data\['observed'\]\. .* columns 'spend'"),
        (lambda d: d["observed"]["spend"], {"optional": ["spent"]}, r"no column 'spent' .* Near matches: 'spend'"),
        (lambda d: d["spend"] > 0, {"infinite": ["spent"]}, r"infinite= of the model: no column 'spent'"),
        (lambda d: d["income"], {"optional": ["spend"]}, r"no column 'income' .* have the columns 'spend'\.\n"),
    ],
)
def test_typos_around_optional(read: Any, opened: Any, said: str) -> None:
    model = spending(read, **opened)
    one_traceback(lambda: model.fit({"spend": [1.0, np.nan, 3.0, 2.0]}), mle.MissingColumnError, said)


def test_optional_is_advised_where_it_can_be() -> None:
    """Not for columns of formulas, groups and weights, which refuse it; not dropped, for a chain, which needs every row."""
    gap = [1.0, 2.0, np.nan, 4.0, 5.0]
    for call in (
        lambda: normal.regress(mu="x").fit({"y": Y, "x": gap}),
        lambda: normal.fit({"y": Y, "w": gap}, weights="w", weight_kind="frequency"),
        lambda: normal.fit({"y": Y, "g": gap}, cov_type="cluster", cov_kwds={"groups": "g"}),
    ):
        with pytest.raises(mle.DataError, match="missing='drop'") as caught:
            call()
        assert "optional" not in str(caught.value)
    with pytest.raises(mle.DataError, match=r"missing='drop'.*optional=\['y'\]"):
        normal.regress(mu="x").fit({"y": gap, "x": Y})
    chain = mle.model(mu=mle.Real(shape=2), s=mle.Markov(2, by="g", time="t"))(lambda p, d: norm.logpdf(d["y"], p["mu"][p["s"]]))
    with pytest.raises(mle.DataError, match=r"return 0 for such a row.*optional=\['y'\]") as caught:
        chain.fit({"y": gap, "g": [0] * 5, "t": range(5)})
    assert "drop" not in str(caught.value)


@pytest.mark.skipif("MLEJAX_CHECK_SHAPES" in os.environ, reason="checks of annotations replace the constructors")
@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: normal.fit(DATA, weight_decay=0.1), r"no option weight_decay=; write penalty=mle.l2"),
        (lambda: normal.fit(DATA, absorb="firm"), r"no option absorb=; write alpha=mle.Real\(by=\"firm\"\)"),
        (lambda: mle.Newton(maxiter=3), r"Newton has no option maxiter=; write max_steps="),
        (lambda: mle.EM(max_iter=3), r"EM has no option max_iter=; write max_steps="),
        (lambda: mle.BHHH(rtol=1e-3), r"BHHH has no option rtol=; write tol="),
        (lambda: mle.LBFGS(history=3), r"LBFGS has no option history=; write memory="),
        (lambda: mle.Adam(lr=0.1), r"Adam has no option lr=; write learning_rate="),
        (lambda: mle.Adam(n_epochs=3), r"Adam has no option n_epochs=; write epochs="),
        (lambda: mle.Adam(spam=3), r"Adam has no option spam=; its options are learning_rate, tol"),
        (lambda: mle.Positive(min=0), r"Positive has no option min=; write mle\.Interval\(lo, hi\)"),
        (lambda: mle.Real(init=0.0), r"Real has no option init=; write start="),
        (lambda: normal.fit(DATA, method="em", max_iter=3), r"write method=mle\.EM\(max_steps=100\)"),
        (lambda: normal.fit(DATA, method=mle.BHHH(), tol=1e-3), r"write method=mle\.BHHH\(tol=1e-12\)"),
        (lambda: normal.fit(DATA, method="adam", epochs=3), r"write method=mle\.Adam\(batch_size=256, epochs=100\)"),
        (lambda: normal.fit(DATA, learning_rate=0.1), r"write method=mle\.Adam\(learning_rate=0\.01\)"),
    ],
)
def test_options_by_other_names(call: Any, said: str) -> None:
    one_traceback(call, TypeError, said)


@pytest.mark.skipif("MLEJAX_CHECK_SHAPES" in os.environ, reason="checks of annotations replace the constructors")
def test_methods_are_made_as_before() -> None:
    """By position, by name, by a copy with one option changed; a wrong value says what was expected."""
    assert mle.EM(1e-3, 7) == mle.EM(tol=1e-3, max_steps=7)
    assert dataclasses.replace(mle.Adam(), epochs=3, batch_size=9).epochs == 3
    assert list(inspect.signature(mle.Newton).parameters) == ["tol", "max_steps"]
    one_traceback(lambda: mle.Newton(max_steps=0), ValueError, "positive whole number")


def test_totals_of_extended_likelihoods() -> None:
    """A total of two numbers, and one of a parameter that is not declared."""
    intensity = lambda p, d: jnp.log(p["n"]) + expon.logpdf(d["t"], scale=1 / p["rate"])
    two = mle.extended(total=lambda p: jnp.stack([p["n"], p["n"]]), n=mle.Positive(), rate=mle.Positive())(intensity)
    one_traceback(lambda: two.fit({"t": Y + 1}), mle.LikelihoodError, r"expected log-intensities.* a total of one number")
    typo = mle.extended(total=lambda p: p["m"], n=mle.Positive(), rate=mle.Positive())(intensity)
    one_traceback(lambda: typo.fit({"t": Y + 1}), mle.LikelihoodError, r"total= .* 'm'.*mle\.extended\(\.\.\., m=mle")
