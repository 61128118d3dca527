"""The commonest slips: minus the log-likelihood, options and functions of other packages, tables from outside, Ctrl-C."""

from __future__ import annotations

import math
import os
import threading
import traceback
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import cauchy, expon, gamma, norm, t

import mlejax as mle
from mlejax.status import End
from mlejax.verdict import Evidence, judge

DATA = {"y": np.random.default_rng(0).normal(2.0, 1.0, 50)}


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def normal(p: Any, d: Any) -> Any:
    return norm.logpdf(d["y"], p["mu"], p["sigma"])


def test_minus_the_log_likelihood_is_asked_about() -> None:
    negative = mle.model(mu=mle.Real(), sigma=mle.Positive())(lambda p, d: -normal(p, d))
    with pytest.warns(mle.ConvergenceWarning, match="leave out the minus sign"):
        assert negative.fit(DATA).verdict.code == "no_finite_maximum"  # -> inf as sigma -> 0, at any mu

    @mle.model(scale=mle.Positive())
    def exponential(p: Any, d: Any) -> Any:
        return -expon.logpdf(d["y"], scale=p["scale"])

    with pytest.warns(mle.ConvergenceWarning, match="leave out the minus sign"):
        exponential.fit({"y": np.abs(DATA["y"])})


NEGATED = {
    "logs": (lambda d, m, ls: norm.logpdf(d["y"], m, jnp.exp(ls)), {"m": mle.Real(), "ls": mle.Real()}),
    "logit": (lambda d, a: jnp.where(d["y"] > 2.3, 1, 0) * a - jnp.logaddexp(0.0, a), {"a": mle.Real()}),
    "poisson": (lambda d, a: jnp.round(d["y"] ** 2) * a - jnp.exp(a), {"a": mle.Real()}),
    "gamma": (
        lambda d, k, t: gamma.logpdf(jnp.abs(d["y"]) + 0.1, k, scale=t),
        {"k": mle.Positive(), "t": mle.Positive()},
    ),
    "cauchy": (lambda d, m, s: cauchy.logpdf(d["y"], m, s), {"m": mle.Real(), "s": mle.Positive()}),
}


@pytest.mark.parametrize("name", NEGATED)
def test_minus_a_log_likelihood_is_known_by_its_minimum(name: str) -> None:
    density, parameters = NEGATED[name]
    model = mle.model(**parameters)(lambda p, d: -density(d, **p))
    with pytest.warns(mle.ConvergenceWarning, match="does the function return minus the log-likelihood"):
        res = model.fit(DATA)
    assert res.verdict.code == "no_finite_maximum"  # each rises without bound far from its minimum
    assert "rises without bound" in res.verdict.statement
    assert not res.llf > 1e6  # no number that rounding has made
    assert "rises without bound" in str(res.summary()).split("Verdict")[0]


RIGHT = {
    "separated": (
        lambda d, a, b: (d["y"] > 2.3) * (a + b * d["y"]) - jnp.logaddexp(0.0, a + b * d["y"]),
        {"a": mle.Real(), "b": mle.Real()},
    ),
    "normal limit": (
        lambda d, df, m, s: t.logpdf(norm.cdf(d["y"] - 2.0), df, m, s),  # lighter tails than normal ones
        {"df": mle.Positive(), "m": mle.Real(), "s": mle.Positive()},
    ),
    "product": (lambda d, a, b: norm.logpdf(d["y"], a * b), {"a": mle.Real(), "b": mle.Real()}),
    "bounded mean": (lambda d, a: norm.logpdf(d["y"], jnp.tanh(a)), {"a": mle.Real()}),
    "constant": (lambda d, m, ls: norm.logpdf(0.0 * d["y"] + 3.0, m, jnp.exp(ls)), {"m": mle.Real(), "ls": mle.Real()}),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_sign_is_not_doubted_where_there_is_no_maximum(name: str) -> None:
    density, parameters = RIGHT[name]
    with pytest.warns(mle.ConvergenceWarning) as caught:
        verdict = mle.model(**parameters)(lambda p, d: density(d, **p)).fit(DATA).verdict
    assert verdict.code in ("no_finite_maximum", "not_identified")
    assert not any("minus" in f"{w.message}{verdict.statement}{verdict.advice}" for w in caught)


def test_a_log_likelihood_without_bound_is_not_taken_for_minus_one() -> None:
    """A constant outcome: sigma -> 0."""
    with pytest.warns(mle.ConvergenceWarning) as caught:
        res = normal.fit({"y": np.full(9, 3.0)})
    assert res.verdict.code == "no_finite_maximum"
    assert "minus sign" not in str(caught[0].message)


def test_a_text_is_no_restricted_result() -> None:
    with pytest.raises(TypeError, match="lr_test expected the result of a fit of the smaller model, got str: "):
        normal.fit(DATA).lr_test("x")  # type: ignore[arg-type]


@pytest.mark.skipif("MLEJAX_CHECK_SHAPES" in os.environ, reason="hands in numbers of wrong types")
@pytest.mark.parametrize("seed", ["x", 1.5, -1, True])
def test_seeds_are_whole_numbers(seed: Any) -> None:
    expected = pytest.raises(ValueError, match="seed= expected a whole number of at least 0")
    with expected:
        normal.fit(DATA, seed=seed)
    with expected:
        normal.check(DATA, seed=seed)
    with expected:
        normal.fit_batch({"y": DATA["y"].reshape(5, 10)}, seed=seed)


def test_numbers_beyond_all_bounds_are_refused(regressed: mle.Results) -> None:
    """Integers that float64 and arrays cannot hold, where numbers of things or strengths are expected."""
    many = 10**400
    for call in (
        lambda: regressed.bootstrap(many, seed=0),
        lambda: regressed.with_cov("HAC", {"maxlags": many}),
        lambda: mle.l2(many, "mu"),
        lambda: regressed.model.fit({"y": np.arange(5.0), "x": np.arange(5.0)}, n_starts=many),
    ):
        with pytest.raises(ValueError, match="expected"):
            call()


def test_ctrl_c_before_the_first_step_says_so() -> None:
    @mle.model(mu=mle.Real())
    def interrupted(p: Any, d: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(
        KeyboardInterrupt, match="interrupted: interrupted before the first step; nothing was estimated"
    ):
        interrupted.fit(DATA)


def test_an_interrupted_search_is_not_called_collinear() -> None:
    for n_steps, said in (
        (0, "before the first step; the values are those of the start"),
        (3, "interrupted after 3 steps"),
    ):
        verdict = judge(Evidence(End.INTERRUPTED, np.nan, (), np.nan, np.nan, definite=False, n_steps=n_steps))
        assert verdict.code == "stopped_early"
        assert said in verdict.statement
        assert "collinear" not in verdict.statement


FRAME = pd.DataFrame({"y": DATA["y"], "x": np.linspace(-1.0, 1.0, 50), "id": np.repeat(range(10), 5)})
GENERATOR = np.random.default_rng(1)


def outcome(function: Any) -> mle.Model:
    return mle.model(mu=mle.Real(), sigma=mle.Positive())(function)


@pytest.fixture(scope="module")
def regressed() -> mle.Results:
    return normal.regress(mu="x").fit(FRAME)


@pytest.mark.parametrize(
    ("option", "instead"),
    [
        ("maxiter", r"write method=mle\.Newton\(max_steps=100\)"),
        ("disp", "leave it out: a fit prints nothing"),
        ("robust", 'write cov_type="HC0"'),
        ("vcov", 'write cov_type="HC0"'),
        ("groups", 'write cov_type="cluster", cov_kwds='),
        ("x0", "write start="),
        ("bounds", r"mle\.Interval\(lo, hi\)"),
        ("wieghts", "write weights="),
        ("spam", "its options are data, start"),
    ],
)
def test_options_of_other_packages_are_named_with_what_to_write(option: str, instead: str) -> None:
    with pytest.raises(TypeError, match=f"fit has no option {option}=; .*{instead}"):
        normal.fit(DATA, **{option: 1})


def test_coverage_is_not_alpha(regressed: mle.Results) -> None:
    with pytest.raises(TypeError, match=r"conf_int has no option level=; write alpha=0\.05 for 95 %"):
        regressed.conf_int(level=0.95)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r"for 0\.95 coverage write alpha=0\.05"):
        regressed.conf_int(0.95)


def test_robust_is_hc0() -> None:
    res = normal.fit(DATA, cov_type="robust")
    assert res.cov_type == "HC0"
    assert res.bse.equals(normal.fit(DATA, cov_type="HC0").bse)


def test_a_formula_alone_is_no_regression() -> None:
    with pytest.raises(TypeError, match=r"regress expected formulas by parameter, regress\(mu='x'\).*got 'y ~ x'"):
        normal.regress("y ~ x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda p, d: norm.logpdf(d["y"], p["mu"], math.exp(p["sigma"])), r"calls math\.exp.*write jnp\.exp"),
        (lambda p, d: norm.logpdf(math.log(d["y"]), p["mu"], p["sigma"]), r"calls math\.log.*write jnp\.log"),
        (lambda p, d: norm.logpdf(d["y"] + np.random.normal(), p["mu"], p["sigma"]), "draws random numbers"),  # noqa: NPY002
        (lambda p, d: norm.logpdf(d["y"] + GENERATOR.normal(), p["mu"], p["sigma"]), "draws random numbers"),
        (lambda p, d: norm.logpdf(FRAME["y"], p["mu"], p["sigma"]), r"uses FRAME from outside.*data\['\.\.\.'\]"),
        (
            lambda p, d: norm.logpdf(FRAME["y"].values, p["mu"], p["sigma"]),
            r"uses FRAME \(shape \(50, 3\)\) from outside",
        ),
        (
            lambda d, p: norm.logpdf(d["y"], p["mu"], p["sigma"]),
            r"expected a function of \(params, data\), in this order",
        ),
        (lambda p, d: norm.logpdf(d["y"], p["mu"], p["tau"]), "looks up 'tau', which is not declared"),
    ],
)
def test_functions_that_cannot_be_traced_say_what_to_write(function: Any, said: str) -> None:
    with pytest.raises(mle.LikelihoodError, match=said):
        outcome(function).fit(FRAME)


def test_coefficients_are_asked_for_by_address(regressed: mle.Results) -> None:
    """In the model params["mu"] has one value for each row: what it would be here is refused."""
    for ask in (regressed.nlcom, regressed.wald_test, regressed.profile):
        with pytest.raises(ValueError, match=r"params\['mu'\] has a formula.*2 coefficients.*params\['mu\[x\]'\]"):
            ask(lambda p: jnp.mean(p["mu"]))
    with pytest.raises(
        TypeError, match=r"params\[0\]: expected the name of a parameter or entry, such as params\['mu\[Intercept\]'\]"
    ):
        regressed.nlcom(lambda p: p[0])


def test_fewer_values_than_parameters_are_counted() -> None:
    first = mle.model(mu=mle.Real(), sigma=mle.Positive(), rowwise=False)(lambda p, d: normal(p, d)[:1])
    with pytest.warns(
        mle.ConvergenceWarning, match="there are 2 parameters, but 1 values to estimate them from"
    ) as said:
        first.fit(DATA)
    assert "separation" not in str(said[0].message)
    summed = mle.model(mu=mle.Real(), sigma=mle.Positive(), rowwise=False)(lambda p, d: normal(p, d).sum())
    with pytest.warns(mle.ConvergenceWarning, match="rises without bound") as said:
        summed.fit({**DATA, "y": np.full(50, 2.0)})
    assert "to estimate them from" not in str(said[0].message)  # 50 rows, of which the function returns the sum
    assert "along sigma -> 0" in str(said[0].message)


def test_steps_that_ran_out_are_no_supremum() -> None:
    """From here the log-likelihood rises for long; after two steps nothing is known of where it leads."""
    model, start = normal.regress(mu="x", sigma="x"), {"mu[Intercept]": 50.0, "mu[x]": -40.0, "sigma[x]": 2.0}
    with pytest.warns(mle.ConvergenceWarning, match="max_steps was reached after 2 steps"):
        res = model.fit(FRAME, start=start, method=mle.Newton(max_steps=2))
    assert res.verdict.code == "stopped_early"
    assert "collinear" not in res.verdict.statement
    assert model.fit(FRAME, start=start).verdict.code == "verified"


@mle.model(count=mle.Positive(), scale=mle.Positive())
def spectrum(p: Any, d: Any) -> Any:
    return jnp.log(p["count"]) + expon.logpdf(d["x"], scale=p["scale"]) - p["count"] / d["n"]


def test_an_extended_likelihood_by_rows_is_named() -> None:
    """The count of a Poisson process is n (sqrt n); resampled rows would say n (0)."""
    res = spectrum.fit({"x": GENERATOR.exponential(2.0, 400), "n": mle.Shared(400.0)})
    assert res.params["count"] == pytest.approx(400.0)
    assert res.bse["count"] == pytest.approx(20.0)
    for resampled in (lambda: res.bootstrap(20), lambda: res.with_cov("HC0")):
        with pytest.warns(RuntimeWarning, match="reads 400, the number of its rows.*an extended likelihood"):
            resampled()


@pytest.mark.parametrize("method", ["newton", " Newton"])
def test_many_parameters_are_told_what_newton_costs(method: Any) -> None:
    model = outcome(lambda p, d: normal(p, d) - jnp.sum(p["weights"] ** 2) / 50)
    wide = mle.model(mu=mle.Real(), sigma=mle.Positive(), weights=mle.Real(shape=1001))(model.likelihood.function)
    with pytest.raises(RuntimeWarning, match=r"1,002 x 1,002 second derivatives.*mle\.Adam"):
        wide.fit(DATA, fixed={"weights[0]": 0.0}, method=method)


def test_a_network_is_told_how_long_newton_takes() -> None:
    rng = np.random.default_rng(7)
    layers = {"w": rng.standard_normal((2, 300)), "b": np.zeros(300)}

    @mle.model(net=mle.Free(start=layers), sigma=mle.Positive(start=1.0))
    def curve(params: Any, data: Any) -> Any:
        hidden = jnp.tanh(data["x"][:, None] * params["net"]["w"][0] + params["net"]["b"])
        return norm.logpdf(data["y"], hidden @ params["net"]["w"][1], params["sigma"])

    x = rng.standard_normal(2000)
    with pytest.raises(RuntimeWarning, match=r"901 parameters.* score takes .* 100 to 500 steps, .* the examination .*mle\.Adam"):
        curve.fit({"x": x, "y": x})


@pytest.mark.skipif("MLEJAX_CHECK_SHAPES" in os.environ, reason="checks of annotations add their own lines")
def test_tracebacks_show_the_lines_of_the_caller() -> None:
    model = outcome(lambda p, d: norm.logpdf(d["y"], p["mu"], p["tau"]))
    with pytest.raises(mle.LikelihoodError) as caught:
        model.fit(FRAME)
    shown = traceback.format_exception(caught.value)
    assert len("".join(shown).splitlines()) < 20
    files = [entry.filename for entry in traceback.extract_tb(caught.value.__traceback__)]
    assert files[0] == files[-1] == __file__  # the call, and the line of the function that is wrong
    assert len(files) == 3


@mle.model(w=mle.Real(shape=1), m=mle.Real(shape=2), s1=mle.Positive(), s2=mle.Positive())
def mixture(p: Any, d: Any) -> Any:
    """Weights as a softmax of one logit beside 0: its sign turns when the components are exchanged."""
    w = jax.nn.log_softmax(jnp.concatenate([jnp.zeros(1), p["w"]]))
    return jax.nn.logsumexp(w + norm.logpdf(d["y"][:, None], p["m"], jnp.stack([p["s1"], p["s2"]])), axis=1)


def test_relabelled_copies_are_recognised_by_their_terms() -> None:
    y = np.concatenate([GENERATOR.normal(-4.0, 1.0, 60), GENERATOR.normal(3.0, 0.5, 40)])
    start = {"w": [0.0], "m": [-4.0, 3.0], "s1": 1.0, "s2": 0.5}
    other = {"w": [0.0], "m": [3.0, -4.0], "s1": 0.5, "s2": 1.0}
    modes = mixture.fit({"y": y}, start=[start, other]).modes
    assert modes["kind"].tolist() == ["maximum", "copy"]


@mle.model(mu=mle.Real(), b=mle.Real(), sigma=mle.Positive(), unit="id", per_unit=["z"])
def panel(p: Any, d: Any) -> Any:
    assert d["z"].shape == ()
    return jnp.sum(jnp.where(d["mask"], norm.logpdf(d["y"], p["mu"] + p["b"] * d["z"], p["sigma"]), 0.0))


def test_a_unit_gets_one_number_of_what_is_constant_within() -> None:
    """Least squares on the expanded column."""
    z = np.repeat(GENERATOR.normal(size=10), 5)
    res = panel.fit(FRAME.assign(z=z))
    slope, intercept = np.polyfit(z, FRAME["y"], 1)
    np.testing.assert_allclose(res.params[["mu", "b"]], [intercept, slope], rtol=1e-8)
    with pytest.raises(mle.DataError, match=r"column 'z' \(per_unit=\): expected one value per unit, but unit 0 has"):
        panel.fit(FRAME.assign(z=FRAME["x"]))
    with pytest.raises(ValueError, match="needs unit=, the name of the column of units"):
        mle.model(mu=mle.Real(), per_unit=["z"])


def test_columns_of_units_are_not_offered_beside_latents() -> None:
    with pytest.raises(ValueError, match=r"per_unit= is not supported together with latents"):
        mle.model(mu=mle.Real(), b=mle.Latent(by="id"), unit="id", per_unit=["z"])(lambda params, data: 0.0)


def test_alternatives_of_a_choice_are_no_rows_beside_latents() -> None:
    """A long table of choices: what to make of it is said, and not an option that latents refuse."""
    table = {"x": np.ones(6), "person": [0, 0, 0, 1, 1, 1]}

    @mle.model(b=mle.Real(), sd=mle.NonNegative(), u=mle.Latent(by="person"))
    def long(p: Any, d: Any) -> Any:
        return jax.nn.log_softmax((d["x"] * (p["b"] + p["sd"] * p["u"])).reshape(-1, 3))[:, 0]

    with pytest.raises(mle.LikelihoodError, match=r"a choice among alternatives is one row here") as error:
        long.fit(table)
    assert "unit=" not in str(error.value)
    with pytest.raises(TypeError, match=r"unit= expected the name of one column, got \['person', 'task'\]: combine several"):
        mle.model(b=mle.Real(), unit=["person", "task"])  # type: ignore[call-overload]


def test_what_other_packages_call_differently() -> None:
    res = normal.regress(mu="x").fit({**DATA, "x": np.arange(50.0) % 7})
    with pytest.raises(AttributeError, match=r"write res\.bse"):
        res.se  # noqa: B018
    assert not hasattr(res, "coef")
    with pytest.raises(mle.AddressError, match=r"did you mean mu\[x\]"):
        res.t_test("x = 2")
    with pytest.raises(mle.LikelihoodError, match=r"a parameter is read as params\['mu'\]"):
        mle.model(mu=mle.Real())(lambda p, d: -((d["y"] - p.mu) ** 2)).fit(DATA)


def test_draws_of_another_thread_are_not_the_functions() -> None:
    drawn, done = threading.Event(), threading.Event()

    def other() -> None:
        np.random.random()  # noqa: NPY002
        drawn.set()
        done.wait()

    @mle.model(mu=mle.Real())
    def location(params: Any, data: Any) -> Any:
        if not drawn.is_set():
            threading.Thread(target=other).start()
            drawn.wait()
        return -0.5 * (data["y"] - params["mu"]) ** 2

    try:
        assert location.fit({"y": [1.0, 3.0]}).params["mu"] == pytest.approx(2.0)
    finally:
        done.set()
