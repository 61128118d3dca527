"""Rows that regressors and effects separate together, against data sets of Correia, Guimaraes & Zylkin, where they are marked.

references/separation.csv: the 18 data sets of github.com/sergiocorreia/ppmlhdfe, test/separation_datasets (MIT licence).
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import mlejax as mle
from mlejax.data import DataError
from mlejax.objective.elimination.separation import certificate

FILE = pd.read_csv(Path(__file__).parents[2] / "references/separation.csv", dtype={"set": str})
SETS = {number: d.dropna(axis=1).reset_index(drop=True) for number, d in FILE.groupby("set")}


def pseudo_poisson(eta, data):
    return data["y"] * eta - jnp.exp(eta)


@mle.model(beta=mle.Real(columns=["x1", "x2"]), first=mle.Real(by="id1"), second=mle.Real(by="id2"))
def gravity(params, data):
    eta = params["beta"][0] * data["x1"] + params["beta"][1] * data["x2"] + params["first"] + params["second"]
    return pseudo_poisson(eta, data)


@mle.model(first=mle.Real(by="id1"), second=mle.Real(by="id2"))
def effects_alone(params, data):
    return pseudo_poisson(params["first"] + params["second"], data)


@mle.model(beta=mle.Real(columns=["x", "d"]), alpha=mle.Real(by="firm"))
def logit(params, data):
    eta = params["beta"][0] * data["x"] + params["beta"][1] * data["d"] + params["alpha"]
    return jax.nn.log_sigmoid(jnp.where(data["y"] == 1, eta, -eta))


def by_statsmodels(frame, columns, outcome="y", family=None, effects=("id1", "id2")):
    """The regression of these rows with dummies, without columns that are collinear on them."""
    import statsmodels.api as sm

    first, *others = effects
    X = pd.concat([frame[columns], pd.get_dummies(frame[first], prefix="a", dtype=float)], axis=1)
    for name in others:
        X = pd.concat([X, pd.get_dummies(frame[name], prefix=name, dtype=float).iloc[:, 1:]], axis=1)
    return sm.GLM(frame[outcome], X, family=family or sm.families.Poisson()).fit(tol=1e-14, maxiter=100)


@pytest.mark.parametrize("number", SETS)
def test_the_rows_that_are_marked_are_found(number):
    d = SETS[number]
    ids = [c for c in d if c.startswith("id")]
    codes, labels = pd.factorize(d[ids[0]]) if ids else (np.zeros(len(d), int), [0])
    dummies = [pd.get_dummies(d[c], dtype=float).iloc[:, 1:] for c in ids[1:]]
    X = pd.concat([d[[c for c in d if c.startswith("x")]], *dummies], axis=1).to_numpy(float)
    found = certificate(X, np.where(d["y"] == 0, -1.0, 0.0), codes, np.zeros(len(labels), bool))
    flags = np.zeros(len(d), bool) if found is None else found[0]
    np.testing.assert_array_equal(flags, d["separated"] == 1)


@pytest.mark.filterwarnings("ignore::mlejax.ConvergenceWarning", "ignore:The design matrix is rank-deficient")
@pytest.mark.parametrize("number", [pytest.param("01", marks=pytest.mark.slow), "07"])
def test_they_leave_and_the_other_estimates_are_those_of_the_rest(number):
    d = SETS[number]
    res = gravity.fit(d)
    rest = d[d["separated"] == 0]
    assert res.n_dropped == (d["separated"] == 1).sum()
    assert "beta[x2] is not identified" in res.verdict.statement
    assert "beta[x2] -> -inf" in res.verdict.statement
    assert f"{res.n_dropped} rows ({', '.join(map(str, np.flatnonzero(d['separated'])))})" in res.verdict.statement
    dense = by_statsmodels(rest, ["x1"])
    np.testing.assert_allclose([res.params["beta[x1]"], res.bse["beta[x1]"]], [dense.params["x1"], dense.bse["x1"]], rtol=1e-7)


@pytest.mark.filterwarnings("ignore:The design matrix is rank-deficient")
@pytest.mark.parametrize("number", ["02", *(pytest.param(n, marks=pytest.mark.slow) for n in ("04", "12"))])
def test_effects_of_two_columns_separate_rows_alone(number):
    """The primer's example of five rows: the third one.  Fitted values are the same where dummies are collinear."""
    d = SETS[number]
    res = effects_alone.fit(d)
    assert res.verdict.code == "verified"
    assert res.n_dropped == d["separated"].sum()
    rest = d[d["separated"] == 0]
    mu = by_statsmodels(rest, []).fittedvalues
    np.testing.assert_allclose(res.llf, np.sum(rest["y"] * np.log(mu) - mu), rtol=1e-8)


def test_a_row_of_a_millionth_is_not_separated():
    """The primer's counter-example to rules on small predictions: three rows of y = 1e-6 hold the third one."""
    more = pd.DataFrame({"y": [1e-6] * 3, "id1": [2] * 3, "id2": [1] * 3})
    res = effects_alone.fit(pd.concat([SETS["02"][["y", "id1", "id2"]], more], ignore_index=True))
    assert res.n_dropped == 0
    assert res.verdict.code == "verified"


def test_a_logit_whose_regressor_predicts_within_firms():
    """Whoever has d = 1 answers 1: its coefficient is infinite, and the slope is that of the rows without."""
    import statsmodels.api as sm

    rng = np.random.default_rng(3)
    x, d = rng.standard_normal(200), (rng.random(200) < 0.15) * 1.0
    frame = pd.DataFrame({"firm": np.repeat(np.arange(20), 10), "x": x, "d": d})
    frame["y"] = ((rng.logistic(size=200) < 0.7 * frame["x"]) | (frame["d"] == 1)).astype(int)
    with pytest.warns(mle.ConvergenceWarning, match=r"beta\[d\] -> inf"):
        res = logit.fit(frame)
    rest = frame[frame["d"] == 0]
    assert rest.groupby("firm")["y"].mean().between(0.01, 0.99).all()
    dense = by_statsmodels(rest, ["x"], family=sm.families.Binomial(), effects=("firm",))
    assert res.n_dropped == (frame["d"] == 1).sum()
    np.testing.assert_allclose([res.params["beta[x]"], res.bse["beta[x]"]], [dense.params["x"], dense.bse["x"]], rtol=1e-7)
    with pytest.raises(DataError, match=r"rows \(.*\) are separated: as beta\[d\] -> inf"):
        logit.fit(frame, separated="raise")
    with pytest.warns(mle.ConvergenceWarning, match="not identified") as caught:
        quiet = logit.fit(frame, separated="drop")
    assert "separated" not in str(caught[0].message).split("Drop")[0]
    assert "separated and were left out" in " ".join(str(quiet.summary()).split())
