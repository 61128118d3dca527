"""The hypothesis parser: what it reads, what it refuses, and that nothing else ever comes out."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlejax.inference import parse_hypotheses

NAMES = ["mu[a]", "mu[b]", "sigma", "beta[0]", "beta[1]", "beta[2]", "mu[C(region)[T.north]]", "net.layer0.w[3,1]"]
NAMES += ["mu[I(x == 2, y)]", "log_x", "µ", "gamma[0]", "gamma[1]", "my-name"]
INDEX = {name: [i] for i, name in enumerate(NAMES)} | {"beta": [3, 4, 5], "gamma": [11, 12], "none": []}
N = len(NAMES)


def resolve(address):
    if address not in INDEX:
        raise ValueError(f"unknown address {address!r}")
    return np.array(INDEX[address], int)


def parse(hypotheses, **kwargs):
    return parse_hypotheses(hypotheses, resolve, N, **kwargs)


def rows(*restrictions):
    """Dense rows from dicts of name -> coefficient."""
    out = np.zeros((len(restrictions), N))
    for i, restriction in enumerate(restrictions):
        for name, weight in restriction.items():
            out[i, NAMES.index(name)] = weight
    return out


CASES = {
    "mu[a] = mu[b], sigma = 1": ([{"mu[a]": 1, "mu[b]": -1}, {"sigma": 1}], [0, 1]),
    "2*beta[1] - beta[2] = 3": ([{"beta[1]": 2, "beta[2]": -1}], [3]),
    "beta[1]": ([{"beta[1]": 1}], [0]),
    "beta = 0": ([{"beta[0]": 1}, {"beta[1]": 1}, {"beta[2]": 1}], [0, 0, 0]),
    "beta": ([{"beta[0]": 1}, {"beta[1]": 1}, {"beta[2]": 1}], [0, 0, 0]),
    "beta = beta[0]": ([{"beta[1]": 1, "beta[0]": -1}, {"beta[2]": 1, "beta[0]": -1}], [0, 0]),
    "gamma/2 - 1 = sigma": ([{"gamma[0]": 0.5, "sigma": -1}, {"gamma[1]": 0.5, "sigma": -1}], [1, 1]),
    "mu[C(region)[T.north]] = net.layer0.w[3,1]": ([{"mu[C(region)[T.north]]": 1, "net.layer0.w[3,1]": -1}], [0]),
    "mu[I(x == 2, y)] == -1.5e-3": ([{"mu[I(x == 2, y)]": 1}], [-0.0015]),
    "mu[a] = mu[b] = sigma": ([{"mu[a]": 1, "mu[b]": -1}, {"mu[b]": 1, "sigma": -1}], [0, 0]),
    "(mu[a] = mu[b]), (sigma = 1)": ([{"mu[a]": 1, "mu[b]": -1}, {"sigma": 1}], [0, 1]),
    "2*(mu[a] - (mu[b] + 1)) = sigma*3/4": ([{"mu[a]": 2, "mu[b]": -2, "sigma": -0.75}], [2]),
    "- -sigma = +.5": ([{"sigma": 1}], [0.5]),
    "1 = sigma": ([{"sigma": -1}], [-1]),
    "sigma = 1/3": ([{"sigma": 1}], [1 / 3]),
    "µ = 0": ([{"µ": 1}], [0]),
    "`my-name` = 2": ([{"my-name": 1}], [2]),
    " log_x\n=\t4. ": ([{"log_x": 1}], [4]),
    "sigma + sigma = 2": ([{"sigma": 2}], [2]),
    "(sigma)": ([{"sigma": 1}], [0]),
}


@pytest.mark.parametrize("text", CASES)
def test_text(text):
    matrix, value = CASES[text]
    out = parse(text)
    np.testing.assert_allclose(out.R, rows(*matrix), rtol=1e-14)
    np.testing.assert_allclose(out.r, value, rtol=1e-14)
    assert len(out.labels) == len(value)
    assert out.R.dtype == out.r.dtype == np.float64


def test_names_of_spreads_of_random_effects_are_read_as_the_table_prints_them():
    names = ["mu[x]", "sd", "sd(mu|g)[Intercept]", "chol(mu|a)[x,Intercept]", "chol(mu|a)[x,x]"]
    at = {name: np.array([i]) for i, name in enumerate(names)} | {"sd(mu|g)": np.array([2]), "chol(mu|a)": np.array([3, 4])}
    read = lambda text: parse_hypotheses(text, at.__getitem__, 5, names=names)
    matrix, value = np.eye(5), read("sd(mu|g)[Intercept] = 0.5")
    np.testing.assert_array_equal(value.R, matrix[[2]])
    np.testing.assert_array_equal(value.r, [0.5])
    np.testing.assert_array_equal(read("2*sd(mu|g)[Intercept] - mu[x], sd = 1").R, [2 * matrix[2] - matrix[0], matrix[1]])
    np.testing.assert_array_equal(read("chol(mu|a) = 0").R, matrix[3:])
    np.testing.assert_array_equal(read("chol(mu|a)[x,Intercept] = `sd(mu|g)[Intercept]`").R, [matrix[3] - matrix[2]])
    with pytest.raises(KeyError, match=r"sd\(mu\|g\)\[zz\]"):
        read("sd(mu|g)[zz] = 1")


def test_lists_dicts_and_arrays_of_text():
    expected = parse("mu[a] = 1, sigma = 2")
    for same in (["mu[a] = 1", "sigma = 2"], np.array(["mu[a] = 1", "sigma = 2"]), {"mu[a]": 1, "sigma": 2.0}):
        np.testing.assert_array_equal(parse(same).R, expected.R)
        np.testing.assert_array_equal(parse(same).r, expected.r)
    both = parse({"beta": [1, 2, 3], "gamma": 0})
    np.testing.assert_array_equal(both.r, [1, 2, 3, 0, 0])


def test_labels():
    assert parse("mu[a]   =  mu[b]").labels == ("mu[a] = mu[b]",)
    assert parse("sigma").labels == ("sigma = 0",)
    assert parse("gamma = 2").labels == ("gamma = 2 (1)", "gamma = 2 (2)")
    assert parse("gamma = 2", names=NAMES).labels == ("gamma[0] = 2", "gamma[1] = 2")
    matrix = rows({"beta[1]": 2, "beta[2]": -1})
    assert parse(matrix, r=3, names=NAMES).labels == ("2*beta[1] - beta[2] = 3",)
    assert parse(-matrix).labels == ("restriction 0",)
    assert parse(-matrix, names=NAMES).labels == ("-2*beta[1] + beta[2] = 0",)


def test_matrices():
    matrix = rows({"mu[a]": 1, "mu[b]": -1}, {"sigma": 1})
    for same in (parse(matrix, r=[0, 1]), parse((matrix, [0, 1])), parse(matrix.tolist(), r=(0, 1))):
        np.testing.assert_array_equal(same.R, matrix)
        np.testing.assert_array_equal(same.r, [0, 1])
    assert parse(matrix[0]).R.shape == (1, N)
    np.testing.assert_array_equal(parse(matrix).r, [0, 0])
    out = parse(matrix)
    out.R[:] = 7
    assert matrix.max() == 1  # a copy


def test_labelled_columns_are_placed_by_name():
    out = parse(pd.DataFrame({"sigma": [1.0], "mu[a]": [2.0]}))
    np.testing.assert_array_equal(out.R, rows({"sigma": 1, "mu[a]": 2}))
    with pytest.raises(ValueError, match="names 3 entries"):
        parse(pd.DataFrame({"beta": [1.0]}))


REFUSED = {
    "": "empty",
    "  ": "empty",
    "sigma = = 1": "expected a number",
    "sigma = 1,": "expected a number",
    "sigma 1": "expected an operator",
    "2sigma = 1": "write 2\\*beta",
    "1 = 1": "contains no parameter",
    "3": "contains no parameter",
    "sigma - sigma = 0": "cancel",
    "beta = gamma": "different lengths, 2 and 3",
    "mu[a] * mu[b] = 1": "product of parameters is not linear",
    "1 / sigma = 1": "denominator",
    "sigma / 0 = 1": "division by zero",
    "log(sigma) = 0": "unknown address|not linear",
    "sigma(2)": "functions such as sigma",
    "sigma > 1": "only equalities",
    "sigma != 1": "only equalities",
    "mu[a = 1": "never closed",
    "sigma] = 1": "unexpected character",
    "`my-name = 1": "backtick",
    "(sigma = 1": "expected '\\)'",
    "(sigma": "expected '\\)'",
    "sigma = 1e999": "too large",
    "sigma = 1e300*1e300": "too large",
    "1e308*sigma + 1e308*sigma = 1": "too large",
    "sigma; mu[a]": "unexpected character",
    "nothing = 1": "unknown address 'nothing'",
    "none = 1": "no estimated entry",
    "(" * 200 + "sigma" + ")" * 200: "nested deeper",
}


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text):
    with pytest.raises(ValueError, match=REFUSED[text]):
        parse(text)


def test_the_caret_marks_the_place():
    with pytest.raises(ValueError, match="cannot read") as error:
        parse("mu[a] = * 3")
    first, text, caret = str(error.value).splitlines()
    assert "expected a number, the name of an entry or '('" in first
    assert text[caret.index("^")] == "*"
    with pytest.raises(ValueError, match="cannot read") as error:
        parse("sigma = 1, " * 40 + "mu[a] = ? , " + "sigma = 1, " * 40)
    _, text, caret = str(error.value).splitlines()
    assert text[caret.index("^")] == "?"
    assert len(text) < 80


def test_wrong_matrices_and_arguments():
    with pytest.raises(ValueError, match=r"expected shape \(m, 14\)"):
        parse(np.eye(3))
    with pytest.raises(ValueError, match="only zeros"):
        parse(np.zeros((1, N)))
    with pytest.raises(ValueError, match="finite"):
        parse(np.full((1, N), np.nan))
    with pytest.raises(ValueError, match="scalar or 1 values"):
        parse(np.ones((1, N)), r=[1, 2])
    with pytest.raises(ValueError, match="is for a matrix"):
        parse("sigma = 1", r=2)
    with pytest.raises(ValueError, match="given twice"):
        parse((np.ones((1, N)), 0.0), r=2)
    with pytest.raises(ValueError, match="expected finite numbers"):
        parse(None)
    with pytest.raises(ValueError, match="expected numbers"):
        parse([["a", "b"]])
    with pytest.raises(ValueError, match="empty"):
        parse({})
    with pytest.raises(ValueError, match="expected one value or 3"):
        parse({"beta": [1, 2]})
    with pytest.raises(ValueError, match=r"names of entries .strings. as keys"):
        parse({3: 1})
    with pytest.raises(ValueError, match="expected indices"):
        parse_hypotheses("a = 1", lambda address: [99], 3)


def test_errors_of_resolve_pass_through():
    def lookup(address):
        raise LookupError(f"did you mean sigma? {address}")

    with pytest.raises(LookupError, match="did you mean"):
        parse_hypotheses("sgima = 1", lookup, 3)


# ---- properties ----

scalars = [name for name in NAMES if name != "my-name"]
PIECES = [*INDEX, "`my-name`", "1", "2.5", "1e3", "0", ".", "[", "]", "(", ")", "=", "==", ",", "+", "-", "*", "/", " "]


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from(PIECES), max_size=14).map("".join)))
def test_anything_is_a_parse_or_a_value_error(text):
    try:
        out = parse(text)
    except ValueError:
        return
    assert out.R.shape == (len(out.r), N)
    assert np.isfinite(out.R).all()
    assert np.isfinite(out.r).all()
    assert (out.R != 0).any(axis=1).all()
    assert len(out.labels) == len(out.r)


numbers = st.integers(-50, 50).map(lambda i: i / 8)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_random_linear_expressions_are_read_exactly(data):
    """Text built from known coefficients, with random brackets and spaces, gives those coefficients back."""
    n_rows = data.draw(st.integers(1, 3))
    texts, matrix, value = [], np.zeros((n_rows, N)), np.zeros(n_rows)
    for i in range(n_rows):
        parts = ["", ""]
        for side, sign in ((0, 1.0), (1, -1.0)):
            for _ in range(data.draw(st.integers(1, 3))):
                name, weight, extra = data.draw(st.tuples(st.sampled_from(scalars), numbers, numbers))
                form = data.draw(
                    st.sampled_from(["({w})*{a} + ({e})", "({a})*({w})+({e})", "(({w})*({a} - -0)+({e}))"])
                )
                gap = data.draw(st.sampled_from(["", " ", "\t", "  "]))
                parts[side] += (gap + "+" + gap if parts[side] else "") + form.format(w=weight, a=name, e=extra)
                matrix[i, NAMES.index(name)] += sign * weight
                value[i] -= sign * extra
        texts.append("=".join(parts))
    if not (matrix != 0).any(axis=1).all():
        with pytest.raises(ValueError, match="cancel"):
            parse(", ".join(texts))
        return
    out = parse(", ".join(texts))
    np.testing.assert_array_equal(out.R, matrix)
    np.testing.assert_array_equal(out.r, value)
