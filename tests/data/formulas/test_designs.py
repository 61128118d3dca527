"""Formulas into designs: transforms and levels that are kept, and what is refused, by name and at once."""

from __future__ import annotations

import warnings
from decimal import Decimal
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm

import mlejax as mle
from mlejax.fit.prepare.loading import load
from mlejax.fit.start import candidates
from mlejax.objective import with_leading_axis
from tests.model.test_regress import LINEAR, bernoulli, births, ols, table, weight

RNG = np.random.default_rng(0)


def frame() -> pd.DataFrame:
    df = births()
    return df.assign(
        zero=0.0,
        twice=2 * df["age"] + 1,
        gap=df["age"].where(df["age"] > 15),
        day=pd.date_range("2020-01-01", periods=len(df)),
        group=pd.Categorical(df["race"], ["black", "white", "other", "martian"]),
        decade=pd.cut(df["age"], [0, 20, 30, 60]),
    )


def predicted(formula: str, new: dict[str, Any]) -> tuple[mle.Results, np.ndarray]:
    res = weight.regress(mu=formula).fit(frame())
    return res, res.predict(pd.DataFrame(new))["estimate"].to_numpy()


# ---- what is kept from the data of the fit


@pytest.mark.parametrize(
    ("formula", "column"),
    [
        ("scale(age)", lambda df: df["age"]),
        ("center(lwt) + age", lambda df: np.column_stack([df["lwt"], df["age"]])),
        ("poly(age, 2)", lambda df: np.column_stack([df["age"], df["age"] ** 2])),
    ],
)
def test_transforms_remember_the_fit(formula: str, column: Any) -> None:
    """Linear transforms of covariates span what the covariates span, so that predictions are those of least squares."""
    new = pd.DataFrame({"age": [20, 44], "lwt": [100, 200]})
    _, got = predicted(formula, dict(new))
    df = frame()
    X = np.column_stack([np.ones(len(df)), column(df)]).astype(float)
    beta, _ = ols(X, df["bwt"].to_numpy())
    np.testing.assert_allclose(got, np.column_stack([np.ones(2), column(new)]) @ beta, rtol=1e-7)


def test_splines_remember_their_knots() -> None:
    """One new row at a time gives what many give, and inside the range only."""
    res, got = predicted("bs(age, df=5)", {"age": [17.0, 25.0, 33.0]})
    alone = [res.predict({"age": [x]})["estimate"][0] for x in (17.0, 25.0, 33.0)]
    np.testing.assert_allclose(got, alone, rtol=1e-12)
    with pytest.raises(ValueError, match="beyond upper and/or lower bounds"):
        res.predict({"age": [99.0]})


def test_a_formula_that_depends_on_the_other_rows_is_not_predicted_from() -> None:
    """It fits, but on new data its columns would mean something else."""
    res = weight.regress(mu="I(age - age.mean())").fit(frame())
    with pytest.raises(mle.DataError, match=r"depend on the other rows.*center\(\)"):
        res.predict({"age": [20.0, 30.0]})


@pytest.mark.parametrize(
    ("formula", "new", "words"),
    [
        ("C(race)", {"race": ["white", "green", "blue"]}, "column 'race' has the levels 'green', 'blue' in rows 1, 2"),
        ("race:age", {"race": ["green"], "age": [3]}, "column 'race' has the level 'green'"),
        ("C(ward)", {"ward": [1, 9]}, "column 'ward' has the level 9 in row 1.*its levels are 0, 1, 2, 3"),
    ],
)
def test_unseen_levels_are_named(formula: str, new: dict[str, Any], words: str) -> None:
    with pytest.raises(mle.DataError, match=words):
        predicted(formula, new)


def test_text_for_numbers_is_refused_and_spoils_no_later_prediction() -> None:
    """A column that had numbers and comes as text: told; the prediction for the same rows as numbers is what it was before."""
    res = weight.regress(mu="age + race").fit(frame())
    new = pd.DataFrame({"age": [20.0, 44.0], "race": ["white", "other"]})
    before = res.predict(new)["estimate"].to_numpy()
    for wrong in (new.astype({"age": str}), new.astype({"age": "category"})):
        with pytest.raises(mle.DataError, match="column 'age' has numbers in the data of the fit, but values of type"):
            res.predict(wrong)
    np.testing.assert_array_equal(res.predict(new)["estimate"].to_numpy(), before)


def test_fewer_levels_in_new_data_keep_their_columns() -> None:
    res, got = predicted("C(race)", {"race": ["other"]})
    assert got[0] == pytest.approx(res.params["mu[Intercept]"] + res.params["mu[C(race)[T.other]]"])


def test_every_kind_of_column() -> None:
    """Numbers, booleans, nullable integers, text, categories and intervals, and a name with a blank."""
    df = frame()
    plain = weight.regress(mu="age + smoke").fit(df).params.to_numpy()
    for smoke in (
        df["smoke"].astype(bool),
        df["smoke"].astype("Int64"),
        df["smoke"].astype("boolean"),
        df["smoke"].tolist(),
    ):
        data = {"bwt": df["bwt"], "my age": df["age"].astype("float32"), "smoke": smoke}
        res = weight.regress(mu="`my age` + smoke").fit(data)
        np.testing.assert_allclose(res.params, plain, rtol=1e-7)
        assert res.params.index[1] == "mu[my age]"
    text = weight.regress(mu="race").fit(df).params
    for race in (
        df["race"].astype("category"),
        df["race"].astype("string"),
        df["race"].tolist(),
        df["race"].to_numpy(object),
    ):
        np.testing.assert_allclose(
            weight.regress(mu="race").fit({"bwt": df["bwt"], "race": race}).params, text, rtol=1e-9
        )


def test_labels_with_unbalanced_brackets() -> None:
    res = weight.regress(mu="decade").fit(frame())
    test = res.wald_test("mu[decade[T.(20, 30]]] = 0")
    assert test.statistic == pytest.approx(res.tvalues["mu[decade[T.(20, 30]]]"] ** 2)
    held = weight.regress(mu="decade").fit(frame(), fixed={"mu[decade[T.(30, 60]]]": 0.0})
    assert held.params["mu[decade[T.(30, 60]]]"] == 0.0


# ---- levels that are declared but do not occur


def test_absent_levels_are_left_out_and_refused_later() -> None:
    """As R's glm does: the fit is that of the levels that occur, and a prediction for the others is refused."""
    df = frame()
    res, plain = weight.regress(mu="group").fit(df), weight.regress(mu="C(group)").fit(df.assign(group=df["race"]))
    assert res.verdict.code == "verified"
    assert list(res.params.index) == ["mu[Intercept]", "mu[group[T.white]]", "mu[group[T.other]]", "sigma"]
    assert res.llf == pytest.approx(plain.llf, rel=1e-12)
    means = df.groupby("race")["bwt"].mean()
    new = pd.DataFrame({"group": pd.Categorical(["white", "black"], df["group"].cat.categories)})
    np.testing.assert_allclose(res.predict(new)["estimate"], means[["white", "black"]], rtol=1e-9)
    new = pd.DataFrame({"group": pd.Categorical(["white", "martian"], df["group"].cat.categories)})
    with pytest.raises(mle.DataError, match=r"'group' has the level 'martian' in row 1, which the data of the fit"):
        res.predict(new)


def test_decimal_columns_are_refused() -> None:
    """Databases give NUMERIC columns so; as Python objects they would be categories, with a coefficient for each number."""
    pa = pytest.importorskip("pyarrow")
    df = frame()
    numbers = [Decimal(int(v)) / 4 for v in df["age"]]
    arrow = pa.array(numbers, pa.decimal128(10, 2))
    tables = (df.assign(age=numbers), df.assign(age=pd.array(numbers, dtype=pd.ArrowDtype(pa.decimal128(10, 2)))))
    for data in (*tables, pa.table({"bwt": df["bwt"].to_numpy(), "age": arrow})):
        with pytest.raises(TypeError, match="'age' holds decimal numbers, which a formula would take as categories"):
            weight.regress(mu="age").fit(data)


def test_complex_columns_are_refused() -> None:
    df = frame().assign(z=np.ones(len(frame())) + 1j)
    for formula in ("z", "age + z"):
        with pytest.raises(mle.DataTypeError, match=r"column 'z': expected numbers or booleans, got complex"):
            weight.regress(mu=formula).fit(df)
    with pytest.raises(mle.DataTypeError, match="complex"):
        weight.regress(mu="z").fit({**{k: df[k].to_numpy() for k in ("bwt", "age")}, "z": [1j] * len(df)})
    with pytest.raises(mle.DataTypeError, match="the formula gives complex numbers"):
        weight.regress(mu="age + I(age * 1j)").fit(df)


def test_a_column_called_as_the_intercept_and_one_whose_square_overflows() -> None:
    df = frame().assign(Intercept=np.arange(float(len(frame()))))
    with pytest.raises(mle.DataError, match=r"'Intercept' occurs twice: rename the column"):
        weight.regress(mu="Intercept").fit(df)
    df["age"] = df["age"].astype(float)
    df.loc[3, "age"] = 1e308
    with pytest.raises(
        mle.DataError, match=r"absolute values of at most 1e\+150, got 1e\+308, whose square overflows: rescale"
    ):
        weight.regress(mu="age").fit(df)


def test_an_infinite_value_in_a_formula_costs_its_own_data_set_only() -> None:
    df = frame().assign(site=np.arange(len(frame())) % 3, age=births()["age"].astype(float))
    df.loc[4, "age"] = np.inf
    with pytest.warns(mle.ConvergenceWarning):
        many = weight.regress(mu="age").fit_groups(df, by="site")
    assert many.failed.index.tolist() == [1]
    assert "column 'age': 1 infinite values, at row 1" in many.failed.loc[1, "reason"]
    alone = weight.regress(mu="age").fit(df[df["site"] == 0])
    np.testing.assert_allclose(many.params.loc[0], alone.params, rtol=1e-7)


# ---- columns that say the same, or nothing


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("age + twice", r"mu\[Intercept\] \+ 2 mu\[age\] - mu\[twice\] is not identified"),
        ("age + zero", r"mu\[zero\] is not identified"),
    ],
)
def test_collinear_columns_are_named(formula: str, words: str) -> None:
    """The rest stands: sigma keeps its standard error, fitted values are those of the full-rank model."""
    with pytest.warns(mle.ConvergenceWarning, match=words):
        res = weight.regress(mu=formula).fit(frame())
    assert res.verdict.code == "not_identified"
    full = weight.regress(mu="age").fit(frame())
    assert res.llf == pytest.approx(full.llf, rel=1e-10)
    assert res.bse["sigma"] == pytest.approx(full.bse["sigma"], rel=1e-6)


def test_powers_far_from_zero_are_the_same_model_as_orthogonal_polynomials() -> None:
    """Cubes of years are collinear to nearly all digits; the search goes on in centred coordinates."""
    df = frame().assign(year=lambda d: 2000.0 + d["lwt"] % 30)
    raw = weight.regress(mu="year + I(year**2) + I(year**3)").fit(df)
    right = weight.regress(mu="poly(year, 3)").fit(df)
    assert raw.verdict.code == right.verdict.code == "verified"
    assert raw.llf == pytest.approx(right.llf, abs=1e-6)
    years = {"year": [2000.0, 2010.0, 2029.0]}
    np.testing.assert_allclose(raw.predict(years, param="mu"), right.predict(years, param="mu"), rtol=1e-4)


def test_collinear_columns_of_a_fixed_coefficient_are_identified() -> None:
    res = weight.regress(mu="age + twice").fit(frame(), fixed={"mu[twice]": 0.0})
    assert res.verdict.code == "verified"


@pytest.mark.parametrize("scale", [1e-9, pytest.param(1e9, marks=pytest.mark.slow)])
def test_columns_of_any_scale(scale: float) -> None:
    df = frame().assign(x=lambda d: scale * (d["lwt"] + 0.5))
    plain, scaled = (reg.fit(df) for reg in (weight.regress(mu="lwt"), weight.regress(mu="x", sigma="1")))
    assert scaled.verdict.code == "verified"
    assert scaled.params["mu[x]"] * scale == pytest.approx(plain.params["mu[lwt]"], rel=1e-7)
    assert scaled.tvalues["mu[x]"] == pytest.approx(plain.tvalues["mu[lwt]"], rel=1e-6)
    odds = bernoulli.regress(p="x").fit(df)
    assert odds.tvalues["p[x]"] == pytest.approx(bernoulli.regress(p="lwt").fit(df).tvalues["p[lwt]"], rel=1e-6)


# ---- refusals


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("y ~ age", "expected no left-hand side.*mu='age'"),
        ("", "the formula is empty; write '1'"),
        ("age +", "cannot read this formula"),
        ("age | race", "expected one right-hand side"),
        (".", "'.' would include every column"),
        ("age + .", "'.' would include every column"),
        ("age + age**2", r"age \*\* 2 is age itself.*write I\(age \*\* 2\)"),
        ("log(age)^2 + lwt", r"log\(age\) \^ 2 is log\(age\) itself.*write I\(log\(age\) \*\* 2\)"),
        ("age + I(age^2)", r"inside a function, \^ is Python's exclusive or of bits; write \*\*"),
        ("age + (1 | race)", r"random effects are mle.Linear\('x', random='1 \| firm'\)"),
        ("c.age##c.lwt", "Stata's a#b is a:b"),
        ("age > 30", r"a comparison is I\(age > 30\)"),
        ("as.factor(race)", r"as.factor\(x\) is C\(x\)"),
    ],
)
def test_a_formula_that_says_nothing_is_refused_at_once(formula: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        weight.regress(mu=formula)


@pytest.mark.parametrize(
    ("formula", "error", "words"),
    [
        ("agee", mle.MissingColumnError, "no column 'agee'.*Near matches: 'age'"),
        ("age + nothing(age)", ValueError, "unknown function 'nothing'"),
        ("factor(race)", ValueError, r"unknown function 'factor'; write C\(x\)"),
        ("sqrt(age)", ValueError, r"unknown function 'sqrt'; write np.sqrt\(x\)"),
        ("i.smoke", ValueError, r"Stata's i.smoke is C\(smoke\)"),
        ("age + offset(lwt)", ValueError, r"write mle.Linear\('...', offset='column'\)"),
        ("0", ValueError, "has no column; write '1'"),
        ("-1", ValueError, "has no column; write '1'"),
        ("gap", mle.DataError, "column 'gap': 6 missing values"),
        ("log(zero)", mle.DataError, r"missing or infinite values in 'log\(zero\)': 189 of 189 rows"),
        ("day", mle.DataTypeError, "column 'day' holds dates"),
    ],
)
def test_a_formula_that_does_not_fit_the_data(formula: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        weight.regress(mu=formula).fit(frame())


@pytest.mark.parametrize(
    ("regressions", "error", "words"),
    [
        ({}, ValueError, r"expected a formula for at least one parameter, mu='age \+ C\(region\)', got none"),
        ({"nu": "age"}, ValueError, "no parameter 'nu'.*did you mean mu"),
        ({"mu": "age", "random": "1 | race"}, ValueError, r"no parameter 'random'.*write mu=mle.Linear\('x', random=...\)"),
        ({"mu": 3}, TypeError, "expected a formula such as"),
        ({"mu": mle.Linear("age", exposure="lwt")}, ValueError, "log link only; mu has the identity link"),
        ({"mu": mle.Linear("age", link="softmax")}, ValueError, "a Simplex has the softmax link"),
        ({"mu": mle.Linear("age", baseline=0)}, ValueError, "baseline= is for a Simplex"),
    ],
)
def test_regress_is_checked_at_once(regressions: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        weight.regress(regressions)


def test_powers_of_sums_and_in_functions_are_read() -> None:
    """As in R: (a + b)^2 has the interaction, and I(a ** 2) is the square."""
    res = weight.regress(mu="(age + lwt)^2 + I(age ** 2)").fit(frame(), fixed={"sigma": 700.0})
    y, age, lwt = (frame()[c].to_numpy(float) for c in ("bwt", "age", "lwt"))
    design = {"mu[age]": age, "mu[lwt]": lwt, "mu[age:lwt]": age * lwt, "mu[I(age ** 2)]": age**2}
    by_hand = np.linalg.lstsq(np.column_stack([np.ones(len(y)), *design.values()]), y, rcond=None)[0]
    np.testing.assert_allclose(res.params[["mu[Intercept]", *design]], by_hand, rtol=1e-6)


def test_linear_is_checked_at_once() -> None:
    with pytest.raises(ValueError, match="expected one of identity, log"):
        mle.Linear("age", link="logg")
    with pytest.raises(ValueError, match="give offset= or exposure=, not both"):
        mle.Linear("age", offset="a", exposure="b")
    with pytest.raises(TypeError, match="expected a formula"):
        mle.Linear(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected the name of a column"):
        mle.Linear("age", offset=np.ones(3))  # type: ignore[arg-type]


def test_an_exposure_is_positive() -> None:
    reg = weight.regress(sigma=mle.Linear("age", exposure="smoke"))
    with pytest.raises(mle.DataError, match=r"must be positive.*115 of 189 rows are not, first row 0"):
        reg.fit(frame())


def test_structures_without_a_link_are_refused() -> None:
    @mle.model(cut=mle.Ordered(shape=2), net=mle.Free(start=np.zeros(2)))
    def model(params: Any, data: Any) -> Any:
        return data["y"]

    for name in ("cut", "net"):
        with pytest.raises(ValueError, match="cannot have a formula; Real, Positive"):
            model.regress({name: "x"})


def test_data_without_names() -> None:
    with pytest.raises(mle.DataTypeError, match="formulas need data with names"):
        LINEAR.fit((np.zeros(3), np.ones(3)))


def test_two_sides_of_a_function_that_cannot_vary_by_row() -> None:
    """A function that needs one number is called row by row; one that mixes rows is refused."""
    data = frame()

    @mle.model(mu=mle.Real(), sigma=mle.Positive())
    def stacks(params: Any, data: Any) -> Any:
        return norm.logpdf(data["bwt"], jnp.array([params["mu"], 1.0]) @ jnp.array([1.0, 0.0]), params["sigma"])

    np.testing.assert_allclose(stacks.regress(mu="age + race").fit(data).params, LINEAR.fit(data).params, rtol=1e-7)

    @mle.model(mu=mle.Real(), sigma=mle.Positive())
    def mixes(params: Any, data: Any) -> Any:
        return norm.logpdf(data["bwt"], jnp.mean(params["mu"]), params["sigma"])

    with pytest.raises(mle.LikelihoodError, match="its entries use other rows"):
        mixes.regress(mu="age").fit(data)


# ---- links


@pytest.mark.parametrize(
    "link",
    [
        "probit",
        pytest.param("cloglog", marks=pytest.mark.slow),
        (lambda p: jnp.log(p / (1 - p)), lambda e: 1 / (1 + jnp.exp(-e))),
    ],
)
def test_links_of_a_probability(link: Any) -> None:
    """A saturated model has the proportions whatever the link."""
    df = frame()
    res = bernoulli.regress(p=mle.Linear("smoke", link=link)).fit(df)
    got = res.predict({"smoke": [0, 1]})
    np.testing.assert_allclose(got["estimate"], df.groupby("smoke")["low"].mean(), rtol=1e-7)
    error = np.sqrt(got["estimate"] * (1 - got["estimate"]) / df.groupby("smoke").size())
    np.testing.assert_allclose(got["std_error"], error, rtol=1e-6)


def test_a_general_interval_has_the_scaled_logit() -> None:
    @mle.model(r=mle.Interval(-1, 3))
    def model(params: Any, data: Any) -> Any:
        return norm.logpdf(data["x"], params["r"], 1.0)

    x = np.array([0.5, 1.5, 2.0, 2.4])
    res = model.regress(r="g").fit({"x": x, "g": [0, 0, 1, 1]})
    means = np.array([1.0, 2.2])
    eta = np.log((means + 1) / (3 - means))
    np.testing.assert_allclose(res.params, [eta[0], eta[1] - eta[0]], rtol=1e-7, atol=1e-12)
    with pytest.raises(ValueError, match="no parameter here has one"):
        res.summary(eform=True)


def test_regress_again_adds_and_replaces() -> None:
    first = weight.regress(mu="age")
    assert repr(first) == "<mlejax model weight(mu ~ age, sigma=Positive())>"
    assert repr(first.regress(sigma=mle.Linear("smoke", link="log"))) == (
        "<mlejax model weight(mu ~ age, sigma ~ smoke [link log])>"
    )
    assert repr(first.regress(mu="race")) == "<mlejax model weight(mu ~ race, sigma=Positive())>"


def test_starts_of_regressed_parameters() -> None:
    """Declared and found starts of the parameter become intercepts at the mean offset, slopes are 0; given ones stand."""

    @mle.model(mu=mle.Positive(start=500.0), theta=mle.Positive())
    def counts(params: Any, data: Any) -> Any:
        return data["deaths"] * jnp.log(params["mu"]) - params["mu"] * params["theta"]

    reg = counts.regress(mu=mle.Linear("temp", exposure="drivers"), theta="rural")
    with jax.enable_x64(True):
        loaded = load(reg.likelihood, table("road"), None, "raise")
    designs, space = loaded.designs, loaded.problem.space
    assert designs is not None
    one, own, data = np.zeros(1, int), [False, False], with_leading_axis(loaded.problem.data)
    regressed = (0, designs, counts.likelihood.parameters)
    mu, theta = candidates(space, [None, None], own, one, data, *regressed)
    mean = np.log(table("road")["drivers"]).mean()
    np.testing.assert_allclose(mu[0], [[np.log(500.0) - mean, 0.0]] * mu.shape[1], atol=1e-9)
    with jax.enable_x64(True):
        read = with_leading_axis(load(counts.likelihood, table("road"), None, "raise").problem.data)
    plain = candidates(designs.natural, [np.array(500.0), None], own, one, read)[1][0]
    want = np.stack([np.log(plain), np.zeros(len(plain))], axis=1)
    np.testing.assert_allclose(theta[0], want, atol=1e-9)
    given = [None, np.array([np.nan, 0.3])]
    again = candidates(space, given, own, one, data, *regressed)[1][0]
    np.testing.assert_allclose(again, np.stack([want[:, 0], np.full(len(want), 0.3)], axis=1), atol=1e-9)


def test_validation_data_have_the_transforms_of_the_fit() -> None:
    """The log-likelihood that is watched is that of the held-out rows with the centre and scale of the rows trained on."""
    df = frame()
    train, held = df.iloc[:120], df.iloc[120:].assign(age=lambda d: d["age"] + 3)
    reg = weight.regress(mu="scale(age) + C(race)")
    method = mle.Adam(5.0, batch_size=32, epochs=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mle.ConvergenceWarning)
        res = reg.fit(train, method=method, validation=held)
    z = (held["age"] - train["age"].mean()) / train["age"].std()
    X = np.column_stack([np.ones(len(held)), z, held["race"] == "other", held["race"] == "white"])
    mean = X @ res.params.to_numpy()[:4]
    want = norm.logpdf(held["bwt"].to_numpy(), mean, res.params["sigma"]).mean()
    assert max(res.history["validation"]) == pytest.approx(float(want), rel=1e-5)
    with pytest.raises(mle.DataError, match="column 'race' has the level 'green'"):
        reg.fit(train, method=method, validation=held.assign(race="green"))


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (mle.Shared([1.0, 2.0]), "'x' does not vary by row"),
        ({"a": [1.0, 2.0], "b": [1.0, 2.0]}, "'x' is a structure of several arrays; make columns of it"),
        (np.ones((2, 2)), "'x' has 2 axes; a matrix can only be the whole formula"),
    ],
)
def test_what_is_no_single_column_is_told(x: Any, said: str) -> None:
    with pytest.raises(mle.DataTypeError, match=said):
        weight.regress(mu="x + y").fit({"bwt": [1.0, 2.0], "y": [1.0, 2.0], "x": x})
