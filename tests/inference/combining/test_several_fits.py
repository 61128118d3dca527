"""Rubin's rules against mice and mitools, two-step errors against closed forms, the pure log-density against its formula."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm
from scipy import stats

import mlejax as mle

ROOT = Path(__file__).parents[3]
R = json.loads((ROOT / "tests/references/imputed.json").read_text())


@mle.model(p=mle.Interval(0, 1))
def bernoulli(params: Any, data: Any) -> Any:
    return jnp.where(data["low"] == 1, jnp.log(params["p"]), jnp.log1p(-params["p"]))


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def gaussian(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["mu"], params["sigma"])


@mle.model(gamma=mle.Real(shape=2), s=mle.Positive())
def first_stage(params: Any, data: Any) -> Any:
    return norm.logpdf(data["w"], params["gamma"][0] + params["gamma"][1] * data["z"], params["s"])


@mle.model(gamma=mle.Real(shape=2), b=mle.Real(shape=2), s=mle.Positive())
def second_stage(params: Any, data: Any) -> Any:
    fitted = params["gamma"][0] + params["gamma"][1] * data["z"]
    return norm.logpdf(data["y"], params["b"][0] + params["b"][1] * fitted, params["s"])


@mle.model(p=mle.Simplex(shape=3))
def shares(params: Any, data: Any) -> Any:
    return jnp.log(params["p"][data["k"]])


# ---- Rubin's rules


@pytest.fixture(scope="module")
def imputed() -> pd.DataFrame:
    birthwt = pd.read_csv(ROOT / "examples/data/birthwt.csv")[["low", "age", "lwt", "smoke"]].astype(float)
    parts = []
    for i, values in enumerate(R["lwt"]):
        one = birthwt.copy()
        one.loc[R["first"] :: R["step"], "lwt"] = values
        parts.append(one.assign(imputation=i))
    return pd.concat(parts)


def test_rubins_rules_are_those_of_mice_and_mitools(imputed: pd.DataFrame) -> None:
    many = bernoulli.regress(p="age + lwt + smoke").fit_groups(imputed, by="imputation")
    pooled, large = mle.pool(many), mle.pool([many[i] for i in range(5)], df_complete=float("inf"))
    frame, infinite = pooled.frame(), large.frame()
    for name, theirs in R["pooled"].items():
        ours, other = frame.loc[f"p[{name}]"], infinite.loc[f"p[{name}]"]
        expected = [theirs[k] for k in ("estimate", "df", "riv", "fmi", "p", "low", "high")]
        columns = ["estimate", "df", "riv", "fmi", "p_value", "conf_low", "conf_high"]
        np.testing.assert_allclose(ours[columns].astype(float), expected, rtol=1e-6)
        expected = [theirs[k] for k in ("estimate", "se", "df_large", "low_large", "high_large")]
        columns = ["estimate", "std_error", "df", "conf_low", "conf_high"]
        np.testing.assert_allclose(other[columns].astype(float), expected, rtol=1e-6)


def test_a_joint_test_has_the_degrees_of_freedom_of_reiter(imputed: pd.DataFrame) -> None:
    """D1 of R's mice, whose degrees of freedom are those of Reiter (2007)."""
    pooled = mle.pool(bernoulli.regress(p="age + lwt + smoke").fit_groups(imputed, by="imputation"))
    test = pooled.wald_test(["p[lwt]", "p[smoke]"])
    expected = [R["joint"][k] for k in ("F", "df2", "p")]
    np.testing.assert_allclose([test.statistic, test.df_denominator, test.pvalue], expected, rtol=1e-6)
    many = bernoulli.regress(p="age + lwt + smoke").fit_groups(imputed, by="imputation")
    few = mle.pool([many[0], many[1]], df_complete=10)  # Reiter's are not defined: no more than those of complete data
    assert few.wald_test(["p[lwt]", "p[smoke]"]).df_denominator == pytest.approx(11 / 13 * 10)


def test_a_joint_test_of_one_entry_is_its_t_test(imputed: pd.DataFrame) -> None:
    """Its degrees of freedom are those of the t test, of few rows too; of equal data sets it is the Wald test."""
    many = bernoulli.regress(p="age + lwt + smoke").fit_groups(imputed, by="imputation")
    for pooled in (mle.pool(many, df_complete=float("inf")), mle.pool(many, df_complete=20)):
        i = pooled.labels.index("p[lwt]")
        test = pooled.wald_test("p[lwt]")
        assert test.statistic == pytest.approx(pooled.tvalues[i] ** 2, rel=1e-9)
        assert test.pvalue == pytest.approx(pooled.pvalues[i], rel=1e-9)
    same = mle.pool([many[0], many[0], many[0]])
    alone = many[0].wald_test("p[lwt] = 0, p[age] = 0")
    assert same.wald_test(["p[lwt]", "p[age]"]).pvalue == pytest.approx(alone.pvalue, rel=1e-9)
    np.testing.assert_allclose(same.bse, many[0].bse, rtol=1e-9)


def test_pools_that_make_no_sense_are_refused(imputed: pd.DataFrame) -> None:
    y = {"y": np.array([1.0, 2.0, 6.0, 3.0])}
    res = gaussian.fit(y)
    with pytest.raises(ValueError, match="two or more imputed data sets, got 1"):
        mle.pool([res])
    with pytest.raises(ValueError, match="fit 2 differs from the first"):
        mle.pool([res, bernoulli.regress(p="age").fit(imputed)])
    for other in (res, gaussian.fit(y, fixed={"sigma": 3.0})):
        with pytest.raises(ValueError, match="the same parameters fixed at the same values; fit 2 differs"):
            mle.pool([gaussian.fit(y, fixed={"sigma": 2.0}), other])
    with pytest.raises(ValueError, match="covariances of one kind; fit 2 has 'HC0', the first 'nonrobust'"):
        mle.pool([res, res.with_cov("HC0")])
    with pytest.raises(TypeError, match=r"expected results, as model\.fit returns them, got int as number 1"):
        mle.pool([1, res])  # type: ignore[list-item]
    fixed = gaussian.fit(y, fixed={"sigma": 2.0})
    with pytest.raises(ValueError, match="wald_test: sigma is fixed; leave it out"):
        mle.pool([fixed, fixed]).wald_test()
    unknown = replace(mle.pool([res, res]), within=np.array([[1.0, np.nan], [np.nan, np.nan]]))
    with pytest.raises(ValueError, match="wald_test: sigma has no standard error; leave it out"):
        unknown.wald_test()
    one = shares.fit({"k": np.array([0, 1, 1, 0, 1, 2])})
    with pytest.raises(ValueError, match="linearly dependent; name fewer of them"):
        mle.pool([one, one]).wald_test()


# ---- two steps


@pytest.fixture(scope="module")
def steps() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    n = 200
    z, shared = rng.normal(size=n), rng.normal(size=n)
    w = 1 + 0.7 * z + shared + 0.5 * rng.normal(size=n)
    y = 2 - 1.5 * w + shared + rng.normal(size=n) * (1 + 0.5 * z**2)
    return pd.DataFrame({"z": z, "w": w, "y": y, "g": np.arange(n) % 20})


def fitted(data: pd.DataFrame, other: pd.DataFrame | None = None, **options: Any) -> tuple[mle.Results, mle.Results]:
    first = first_stage.fit(data if other is None else other, **options)
    return first, second_stage.fit(data, fixed={"gamma": first.params_tree["gamma"]}, **options)


def by_hand(data: pd.DataFrame) -> dict[str, np.ndarray]:
    """Least squares twice: what the formulas of the module's docstring are made of, for b alone."""
    Z = np.column_stack([np.ones(len(data)), data["z"]])
    gamma = np.linalg.lstsq(Z, data["w"], rcond=None)[0]
    F = np.column_stack([np.ones(len(data)), Z @ gamma])
    b = np.linalg.lstsq(F, data["y"], rcond=None)[0]
    e, v = data["y"] - F @ b, data["w"] - Z @ gamma
    s2, s1 = e @ e / len(data), v @ v / len(data)
    W = np.column_stack([np.ones(len(data)), data["w"]])
    return {"Z": Z, "F": F, "b": b, "e": e.to_numpy(), "v": v.to_numpy(), "W": W, "s1": s1, "s2": s2}


def test_stacked_scores_of_two_least_squares_are_instrumental_variables(steps: pd.DataFrame) -> None:
    """Regressing y on the fitted w is just identified IV, whose robust covariance is (Z'W)^-1 Z' diag(u^2) Z (W'Z)^-1."""
    q = by_hand(steps)
    u = steps["y"] - q["W"] @ q["b"]
    inverse = np.linalg.inv(q["Z"].T @ q["W"])
    expected = inverse @ (q["Z"].T @ (q["Z"] * u.to_numpy()[:, None] ** 2)) @ inverse.T
    found = mle.stack(*fitted(steps, cov_type="HC0"))
    np.testing.assert_allclose(found.cov_params().iloc[:2, :2], expected, rtol=1e-7)
    assert found.frame()["std_error_second"].iloc[1] != pytest.approx(np.sqrt(expected[1, 1]), rel=0.05)
    summed = np.zeros((20, 2))
    np.add.at(summed, steps["g"], q["Z"] * u.to_numpy()[:, None])
    clustered = inverse @ summed.T @ summed @ inverse.T * 20 / 19
    found = mle.stack(*fitted(steps, cov_type="cluster", cov_kwds={"groups": "g"}))
    np.testing.assert_allclose(found.cov_params().iloc[:2, :2], clustered, rtol=1e-7)


def test_murphy_and_topel_by_hand(steps: pd.DataFrame) -> None:
    """V2 + V2 (C V1 C' - R V1 C' - C V1 R') V2, every matrix from the normal equations, the variances among the parameters."""
    q = by_hand(steps)
    n, e, v, F, Z, b = len(steps), q["e"], q["v"], q["F"], q["Z"], q["b"]
    sd2, sd1 = np.sqrt(q["s2"]), np.sqrt(q["s1"])
    score2 = np.column_stack([F * e[:, None] / q["s2"], -1 / sd2 + e**2 / sd2**3])
    score1 = np.column_stack([Z * v[:, None] / q["s1"], -1 / sd1 + v**2 / sd1**3])
    V2 = np.zeros((3, 3))
    V2[:2, :2], V2[2, 2] = np.linalg.inv(F.T @ F) * q["s2"], q["s2"] / (2 * n)
    V1 = np.zeros((3, 3))
    V1[:2, :2], V1[2, 2] = np.linalg.inv(Z.T @ Z) * q["s1"], q["s1"] / (2 * n)
    C = np.zeros((3, 3))  # - d score2 / d gamma
    C[:2, :2] = F.T @ Z * b[1] / q["s2"]
    C[1, :2] -= Z.T @ e / q["s2"]
    C[2, :2] = 2 * b[1] * Z.T @ e / sd2**3
    R_ = score2.T @ score1
    expected = V2 + V2 @ (C @ V1 @ C.T - R_ @ V1 @ C.T - C @ V1 @ R_.T) @ V2
    np.testing.assert_allclose(mle.stack(*fitted(steps)).cov_params(), expected, rtol=1e-6, atol=1e-12)


@mle.model(g=mle.Real(shape=5))
def accepted(params: Any, data: Any) -> Any:
    return -jnp.logaddexp(0.0, jnp.where(data["card"] == 1, -1.0, 1.0) * applicant(params["g"], data))


@mle.model(g=mle.Real(shape=5), b=mle.Real(shape=5))
def derogatory(params: Any, data: Any) -> Any:
    z, b = jax.nn.sigmoid(applicant(params["g"], data)), params["b"]
    eta = b[0] + b[1] * data["age"] + b[2] * data["income"] + b[3] * data["expenditure"] + b[4] * z
    return data["reports"] * eta - jnp.exp(eta)


def applicant(g: Any, data: Any) -> Any:
    return g[0] + g[1] * data["age"] + g[2] * data["income"] + g[3] * data["owner"] + g[4] * data["selfemp"]


@pytest.mark.slow
@pytest.mark.parametrize(("cov_type", "name"), [("nonrobust", "murphy_topel"), ("HC0", "stacked")])
def test_credit_cards_of_greene(cov_type: Any, name: str) -> None:
    """The example of Hardin (2002), Stata Journal 2, 253, and Hole (2006), 6, 521: a logit's probability in a Poisson regression.

    Their formulas in R (tests/references/published.R), with the derivative of the second scores where the articles have outer
    products.  The first 100 rows of AER::CreditCard (GPL-2 or GPL-3; Greene 2003, table F9.1).
    """
    credit = pd.read_csv(ROOT / "tests/references/credit.csv").astype(float)
    theirs = json.loads((ROOT / "tests/references/published.json").read_text())["credit"]
    first = accepted.fit(credit, cov_type=cov_type)
    second = derogatory.fit(credit, fixed={"g": first.params_tree["g"]}, cov_type=cov_type)
    found = mle.stack(first, second).frame()
    np.testing.assert_allclose(found["estimate"], list(theirs["params"].values()), rtol=1e-8)
    np.testing.assert_allclose(found["std_error"], list(theirs[name].values()), rtol=1e-7)
    if cov_type == "nonrobust":
        np.testing.assert_allclose(found["std_error_second"], list(theirs["uncorrected"].values()), rtol=1e-7)


def test_steps_from_other_rows_add_the_first_covariance(steps: pd.DataFrame) -> None:
    """As the first step's rows grow in number its part vanishes; by hand V2 + V2 C V1 C' V2."""
    other = pd.concat([steps.sample(frac=1.0, random_state=i) for i in range(3)])
    first, second = fitted(steps, other)
    found = mle.stack(first, second)
    q = by_hand(steps)
    V1 = first.cov_params().iloc[:2, :2].to_numpy()
    gamma = first.params[:2].to_numpy()
    F = np.column_stack([np.ones(len(steps)), q["Z"] @ gamma])
    b = np.linalg.lstsq(F, steps["y"], rcond=None)[0]
    e = steps["y"] - F @ b
    inverse = np.linalg.inv(F.T @ F)
    C = F.T @ q["Z"] * b[1]
    C[1] -= q["Z"].T @ e
    expected = inverse * (e @ e / len(steps)) + inverse @ C @ V1 @ C.T @ inverse
    np.testing.assert_allclose(found.cov_params().iloc[:2, :2], expected, rtol=1e-6)
    assert "taken as independent" in repr(found)


def test_names_and_what_stack_refuses(steps: pd.DataFrame) -> None:
    first = gaussian.regress(mu="z").fit(steps.assign(y=steps["w"]))
    second = second_stage.fit(steps, fixed={"gamma": first.params_tree["mu"]})
    alike = mle.stack(*fitted(steps))
    frame = mle.stack(first, second, names={"gamma": "mu"}).frame()
    np.testing.assert_allclose(frame["std_error_second"], alike.bse_second, rtol=1e-6)
    with pytest.raises(ValueError, match=r"fixes no parameter that the first one estimated. Declare"):
        mle.stack(first, second)
    moved = second_stage.fit(steps, fixed={"gamma": np.array([1.0, 0.5])})
    with pytest.raises(ValueError, match=r"fit it with fixed=\{'gamma': first.params_tree\['gamma'\]\}"):
        mle.stack(first_stage.fit(steps), moved)
    other = second_stage.fit(steps, fixed={"gamma": np.array([1.0, 0.5])})
    with pytest.raises(ValueError, match=r"of one shape, got \(2,\) for gamma of the second fit and \(\) for sigma"):
        mle.stack(first, other, names={"gamma": "sigma"})
    some = first_stage.fit(steps, fixed={"gamma[0]": 0.0})
    with pytest.raises(ValueError, match="the first fit has fixed gamma, or entries of it; let it estimate all of gamma"):
        mle.stack(some, second_stage.fit(steps, fixed={"gamma": some.params_tree["gamma"]}))
    one, two = fitted(steps)
    with pytest.raises(ValueError, match="the same cov_type for both fits, got 'HC0' and 'nonrobust'"):
        mle.stack(one.with_cov("HC0"), two)


# ---- the pure function


def test_the_log_density_is_its_formula() -> None:
    """log N(y | mu, e^u1) summed; with a prior in sigma the Jacobian e^u1."""
    y = np.array([1.0, 2.0, 6.0, 3.0])
    res = gaussian.fit({"y": y}, weights=[1, 2, 1, 1], weight_kind="frequency")
    w, u = np.array([1, 2, 1, 1]), np.array([2.0, 0.3])
    plain = (w * stats.norm.logpdf(y, u[0], np.exp(u[1]))).sum()
    density, posterior = res.logdensity(), res.logdensity(lambda p: -3.0 * p["sigma"])
    with jax.enable_x64(True):
        assert float(jax.jit(density)(u)) == pytest.approx(plain, rel=1e-12)
        assert float(jax.jit(lambda d, v: d(v))(posterior, u)) == pytest.approx(
            plain - 3 * np.exp(u[1]) + u[1], rel=1e-12
        )
        assert float(density(density.start)) == pytest.approx(res.llf, rel=1e-12)
        np.testing.assert_allclose(jax.vmap(density.params)(np.stack([u, u]))["sigma"], np.exp([0.3, 0.3]))
        assert np.abs(jax.grad(density)(jnp.asarray(density.start))).max() < 1e-6
    assert "gaussian with a prior" in repr(posterior)
