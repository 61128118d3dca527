"""Factors of many levels in formulas, by the level of each row: the same numbers as with a column for each level."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm, poisson

import mlejax as mle
from mlejax.data import LevelsKey
from mlejax.fit.prepare import loading

G, N = 30, 900


def table() -> pd.DataFrame:
    """Counts, binary and normal outcomes of two covariates, 30 regions and 4 sizes."""
    rng = np.random.default_rng(11)
    region, size, x = rng.integers(0, G, N), rng.integers(0, 4, N), rng.standard_normal((N, 2))
    eta = 0.3 * x[:, 0] - 0.2 * x[:, 1] + 0.4 * rng.standard_normal(G)[region] + 0.1 * size
    return pd.DataFrame(
        {
            "y": rng.poisson(np.exp(eta)),
            "z": (rng.random(N) < 1 / (1 + np.exp(-eta))).astype(int),
            "w": eta + rng.standard_normal(N),
            "x1": x[:, 0],
            "x2": x[:, 1],
            "region": [f"r{i:02d}" for i in region],
            "size": size,
            "firm": region % 7,
        }
    )


FRAME = table()
FORMULA = "x1 + C(region) + x2 + C(size)"


@mle.model(mu=mle.Positive())
def counts(params, data):
    return poisson.logpmf(data["y"], params["mu"])


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def normal(params, data):
    return norm.logpdf(data["w"], params["mu"], params["sigma"])


@pytest.fixture(scope="module")
def coded():
    return counts.regress(mu=FORMULA).fit(FRAME)


def design(formula: str) -> pd.DataFrame:
    from formulaic import model_matrix

    return pd.DataFrame(model_matrix(formula, FRAME))


def agree(found, wanted, tolerance=1e-8):
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


def columns_of(res):
    return [key for key in res._fit.loaded.rows.layout.keys if isinstance(key, LevelsKey)]


def test_it_is_formulaics_design_and_statsmodels_fit(coded):
    """The same coefficients under the same names in the same order, with every kind of error."""
    import statsmodels.api as sm

    X = design(FORMULA)
    wanted = sm.GLM(FRAME["y"], X, family=sm.families.Poisson()).fit(tol=1e-14, maxiter=100)
    assert columns_of(coded)
    assert coded.verdict.code == "verified"
    assert list(coded.params.index) == [f"mu[{name}]" for name in X.columns]
    agree(coded.params, wanted.params)
    agree(coded.bse, wanted.bse)
    agree(coded.llf, wanted.llf)
    agree(
        coded.with_cov("HC0").bse,
        sm.GLM(FRAME["y"], X, family=sm.families.Poisson()).fit(cov_type="HC0", tol=1e-14).bse,
        1e-7,
    )
    dense = counts.regress(mu="X").fit({"y": FRAME["y"].to_numpy(), "X": X, "firm": FRAME["firm"].to_numpy()})
    assert not columns_of(dense)
    cluster = "cluster", {"groups": "firm"}
    agree(coded.with_cov(*cluster).bse, dense.with_cov(*cluster).bse)
    agree(coded.with_cov("opg").bse, dense.with_cov("opg").bse)
    agree(coded.score_obs, dense.score_obs, 1e-7)


def test_terms_predictions_and_margins(coded):
    X = design(FORMULA)
    dense = counts.regress(mu="X").fit({"y": FRAME["y"].to_numpy(), "X": X})
    places = [i for i, name in enumerate(X.columns) if name.startswith("C(region)")]
    b, V = dense.params.to_numpy()[places], dense.cov_params().to_numpy()[np.ix_(places, places)]
    test = coded.wald_test("C(region)")
    agree(test.statistic, b @ np.linalg.solve(V, b), 1e-7)
    assert test.df == G - 1
    assert list(coded.wald_terms().frame()["df"]) == [1, G - 1, 1, 3]
    new = FRAME.iloc[[5, 17, 300]]
    agree(coded.predict(new)["estimate"], np.exp(X.to_numpy()[new.index] @ dense.params.to_numpy()))
    with pytest.raises(mle.DataError, match="has the level 'elsewhere'"):
        coded.predict(new.assign(region="elsewhere"))
    found = coded.margins("x1").frame()
    agree(found["estimate"].iloc[0], dense.params["mu[x1]"] * FRAME["y"].mean(), 1e-7)


def test_long_factors_are_one_line_of_the_print(coded):
    text = str(coded.summary())
    assert "mu[C(region)]" in text
    assert "mu[C(region)[T.r05]]" not in text
    assert "mu[x2]" in text
    assert "29 coefficients" in text
    assert "mu[C(region)[T.r05]]" in str(coded.summary(keep="mu[C(region)*"))


def test_options_hold(coded):
    """Weights, fixed entries, constraints, penalties, missing rows, restored files."""
    model = counts.regress(mu=FORMULA)
    X = design(FORMULA)
    dense = {"y": FRAME["y"].to_numpy(), "X": X}
    by_matrix = counts.regress(mu="X")
    weights = np.arange(N) % 3
    options = {"weights": weights, "weight_kind": "frequency"}
    agree(model.fit(FRAME, **options).params, by_matrix.fit(dense, **options).params)
    fixed = {"mu[x1]": 0.1}
    agree(model.fit(FRAME, fixed=fixed).params, by_matrix.fit(dense, fixed=fixed).params)
    gaps = FRAME.assign(x1=FRAME["x1"].where(np.arange(N) % 10 != 0))
    dropped = model.fit(gaps, missing="drop")
    assert columns_of(dropped)
    agree(dropped.params, model.fit(FRAME[np.arange(N) % 10 != 0]).params)


def test_a_saved_result_continues_with_the_formula(coded, tmp_path):
    coded.save(tmp_path / "counts.json")
    again = mle.load(tmp_path / "counts.json", model=counts.regress(mu=FORMULA))
    assert str(again.summary()) == str(coded.summary())
    new = FRAME.head(3)
    agree(again.predict(new)["estimate"], coded.predict(new)["estimate"])


def test_the_intercept_is_the_level_without_a_column(coded):
    """An ordered category has its own order; a level that does not occur is left out."""
    order = [f"r{i:02d}" for i in reversed(range(G))]
    frame = FRAME.assign(region=pd.Categorical(FRAME["region"], categories=["none", *order]))
    res = counts.regress(mu="x1 + region").fit(frame)
    assert columns_of(res)
    assert res.params.index[1:3].tolist() == ["mu[x1]", "mu[region[T.r28]]"] or "mu[region[T.r28]]" in res.params.index
    assert "mu[region[T.r29]]" not in res.params.index
    assert res.verdict.code == "verified"


@pytest.mark.parametrize("formula", ["x1 * C(region)", "0 + C(region)", "x1 + C(region, contr.sum)", "x1 + C(size)"])
def test_what_has_columns_keeps_them(formula):
    with jax.enable_x64(True):
        loaded = loading.load(normal.regress(mu=formula).likelihood, FRAME, None, "raise")
    assert not [key for key in loaded.rows.layout.keys if isinstance(key, LevelsKey)]


def test_transforms_learn_from_all_rows():
    """A spline and a scaled column beside a long factor, two long factors, another parameter with one."""
    frame = FRAME.assign(area=[f"a{i}" for i in np.random.default_rng(2).integers(0, 25, N)])
    res = normal.regress(mu="scale(x1) + C(region) + C(area)", sigma="C(region)").fit(frame)
    assert len(columns_of(res)) == 2
    from formulaic import model_matrix

    X = np.asarray(model_matrix("scale(x1) + C(region) + C(area)", frame))
    Z = np.asarray(model_matrix("C(region)", frame))
    sigma = np.exp(Z @ res.params[[n for n in res.params.index if n.startswith("sigma")]])
    mu = X @ res.params[[n for n in res.params.index if n.startswith("mu")]]
    agree(res.llf, norm.logpdf(frame["w"].to_numpy(), mu, sigma).sum(), 1e-6)
    agree((X / (sigma**2)[:, None]).T @ (frame["w"] - mu), 0.0, 1e-6)


def test_codes_of_a_function_written_by_hand():
    """``params["alpha"][data["code"]]`` has the numbers of a matrix of dummies."""

    @mle.model(beta=mle.Real(columns=["x1", "x2"]), alpha=mle.Real(shape=G))
    def by_hand(params, data):
        eta = data["x1"] * params["beta"][0] + data["x2"] * params["beta"][1] + params["alpha"][data["code"]]
        return poisson.logpmf(data["y"], jnp.exp(eta))

    res = by_hand.fit(FRAME.assign(code=FRAME["region"].str[1:].astype(int)))
    X = design("0 + x1 + x2 + C(region)")
    X = X[sorted(X.columns, key=lambda name: not name.startswith("x"))]
    dense = counts.regress(mu="X").fit(
        {"y": FRAME["y"].to_numpy(), "X": X[sorted(X.columns, key=lambda c: not c.startswith("x"))]}
    )
    assert res.verdict.code == "verified"
    agree(res.params.to_numpy(), dense.params.to_numpy())
    agree(res.bse.to_numpy(), dense.bse.to_numpy())
