"""Where there is no maximum, the rows that decide it are named if they are few, as the user numbers them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm
from scipy.special import log_ndtr

import mlejax as mle
from tests.verdict.torture import problems

pytestmark = pytest.mark.filterwarnings("ignore::mlejax.ConvergenceWarning")
N = 200
RARE = [3, 17, 125]


@mle.model(a=mle.Real(), b=mle.Real(columns=["x", "rare"]))
def logit(params, data):
    eta = params["a"] + params["b"][0] * data["x"] + params["b"][1] * data["rare"]
    return jax.nn.log_sigmoid(jnp.where(data["y"] > 0, eta, -eta))


def quasi_separated() -> pd.DataFrame:
    """A dummy that covers three rows, all successes; the other rows overlap."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=N)
    y = (rng.random(N) < 1 / (1 + np.exp(-x))).astype(float)
    y[RARE] = 1.0
    return pd.DataFrame({"x": x, "rare": np.isin(np.arange(N), RARE).astype(float), "y": y})


def said(res: mle.Results) -> tuple[str, object]:
    assert res.verdict.code == "no_finite_maximum", res.verdict
    return res.verdict.statement, res.verdict.evidence.get("rows")


def test_the_rows_of_a_separating_dummy() -> None:
    statement, rows = said(logit.fit(quasi_separated()))
    assert rows == (3, 17, 125)
    assert statement.endswith("along b[rare] -> +inf (decided by rows 3, 17, 125)")


def test_removing_the_rows_named_removes_the_problem() -> None:
    """Without them the dummy is constant; held at 0, the rest has a maximum."""
    rest = quasi_separated().drop(index=RARE)
    assert logit.fit(rest, fixed={"b[rare]": 0.0}).verdict.code == "verified"


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_in_any_units(scale: float) -> None:
    df = quasi_separated()
    assert said(logit.fit(df.assign(rare=scale * df["rare"])))[1] == (3, 17, 125)
    assert said(logit.fit(df.assign(x=scale * df["x"])))[1] == (3, 17, 125)


def test_rows_are_numbered_and_labelled_as_they_came() -> None:
    """With rows dropped before them, and with labels of their own."""
    df = quasi_separated().set_index(pd.Index([f"id{i}" for i in range(N)]))
    df.iloc[[1, 10], 0] = np.nan
    statement, rows = said(logit.fit(df, missing="drop"))
    assert rows == (3, 17, 125)
    assert statement.endswith("(decided by rows 3, 17, 125 (index labels 'id3', 'id17', 'id125'))")


def test_complete_separation_of_many_rows_names_none() -> None:
    """Every row rises with the slope, though at the end only the nearest to the edge have anything left to gain."""
    df = quasi_separated()
    y = (df["x"] > 0).astype(float)
    statement, rows = said(logit.fit(df.assign(y=y), fixed={"b[rare]": 0.0}))
    assert rows is None
    assert "decided" not in statement
    far = (
        df["x"].where(y == 0, df["x"] + 3.0).where(df.index != int(df["x"].abs().idxmin()), 1.0)
    )  # a single nearest row
    assert said(logit.fit(df.assign(x=far, y=y), fixed={"b[rare]": 0.0}))[1] is None


@mle.model(w=mle.Interval(0, 1), mu=mle.Real(shape=2), sigma=mle.Positive(shape=2))
def mixture(params, data):
    y, w, mu, sigma = data["y"], params["w"], params["mu"], params["sigma"]
    return jnp.logaddexp(jnp.log(w) + norm.logpdf(y, mu[0], sigma[0]), jnp.log1p(-w) + norm.logpdf(y, mu[1], sigma[1]))


@pytest.mark.parametrize("row", [7, 30, 59])
def test_the_point_that_a_mixture_component_sits_on(row: int) -> None:
    y = np.random.default_rng(5).normal(size=60)
    start = {"w": 0.05, "mu": [y[row], 0.0], "sigma": [1e-3, 1.0]}
    res = mixture.fit({"y": y}, start=start)  # other starts find a maximum, and the spike is said beside it
    assert res.verdict.code == "verified"
    assert "elsewhere the log-likelihood rises without bound, along sigma[0] -> 0" in res.verdict.statement


def test_the_unit_that_is_constant() -> None:
    """One variance a group: the unit without variation is named by its label."""

    @mle.model(unit="g", mu=mle.Real(shape=3), sigma=mle.Positive(shape=3))
    def groups(params, data):
        g = data["code"][0]
        density = norm.logpdf(data["y"], params["mu"][g], params["sigma"][g])
        return jnp.where(data["mask"], density, 0.0).sum()

    y = np.random.default_rng(6).normal(size=30)
    y[10:20] = 1.5
    code = np.repeat([0, 1, 2], 10)
    statement, rows = said(groups.fit({"y": y, "code": code, "g": np.array(["p", "q", "r"])[code]}))
    assert rows == ("q",)
    assert "along sigma[1] -> 0 (decided by g q)" in statement


def test_clean_fits_evaluate_nothing_more() -> None:
    """No rows among the evidence of a maximum."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=N)
    res = logit.fit({"x": x, "rare": rng.normal(size=N), "y": (rng.random(N) < 0.5).astype(float)})
    assert res.verdict.code == "verified"
    assert "rows" not in res.verdict.evidence


def censored(mean, s, y):
    """Below 0.  The branch that is not used is log(0) where the mean exceeds 38 standard deviations."""
    return jnp.where(y > 0, norm.logpdf(y, mean, s), jnp.log(norm.cdf(-mean / s)))


@mle.model(a=mle.Real(), b=mle.Real(), s=mle.Positive())
def tobit(p, d):
    return censored(p["a"] + p["b"] * d["x"], p["s"], d["y"])


@mle.model(a=mle.Real(), b=mle.Real(), s=mle.Positive())
def tobit_by_steps(p, d):
    """By a loop, through which rounding is followed backwards only, by derivatives that are not numbers here."""
    _, mean = jax.lax.scan(lambda carried, x: (carried, p["a"] + p["b"] * x), 0.0, d["x"])
    return censored(mean, p["s"], d["y"])


@pytest.mark.parametrize("model", [tobit, tobit_by_steps], ids=["tobit", "tobit by steps"])
def test_rows_whose_score_is_not_finite_where_the_log_likelihood_still_rises(model: mle.Model) -> None:
    """The maximum (scipy's log_ndtr: a = 1.2, b = 2, s = 1) lies where the score is NaN; a restart came there and stopped."""
    rng = np.random.default_rng(3)
    x = 10.0 * rng.normal(size=100)
    y = np.maximum(0.0, 1.0 + 2.0 * x + rng.normal(size=100))
    res = model.fit({"x": x, "y": y})
    assert res.verdict.code == "not_computable", res.verdict
    a, b, s = res.params
    far = np.flatnonzero(log_ndtr(-(a + b * x) / s) < np.log(np.finfo(float).tiny))  # where JAX's normal probability is 0
    assert far.size
    assert f"rows {', '.join(map(str, far))})" in res.verdict.statement, (far, res.verdict)
    assert "jnp.where" in res.verdict.statement


def test_a_score_that_overflows_on_the_way_up_hides_no_rise() -> None:
    """An exact line: the log-likelihood rises without bound as sigma -> 0; at sigma = 1e-80 the score overflows."""
    problem = next(p for p in problems([4]) if "linear, exact, n=60" in p.name)
    res = problem.model.fit(problem.data)
    assert res.verdict.code == "no_finite_maximum", res.verdict
    assert "sigma" in res.verdict.statement
