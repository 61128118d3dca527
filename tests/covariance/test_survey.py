"""Survey designs against R's survey 4.1-1 (tests/references/survey.R): estimates, standard errors, degrees of freedom."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm
from scipy import stats

import mlejax as mle
from mlejax.covariance.survey import survey_meat

SCHOOLS = pd.read_csv("examples/data/apistrat.csv")
DISTRICTS = pd.read_csv("examples/data/apiclus1.csv")
BY_DISTRICT = [1.89955691113641, 0.0399254107978302, -0.0191146824661542]
STRATA = mle.Survey(weights="pw", strata="stype", fpc="fpc")


@mle.model(eta=mle.Real())
def logit(p: Any, d: Any) -> Any:
    return d["sch"] * p["eta"] - jnp.logaddexp(0.0, p["eta"])


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def normal(p: Any, d: Any) -> Any:
    return norm.logpdf(d["api00"], p["mu"], p["sigma"])


reg = logit.regress(eta="ell + meals")


def jackknife(data: pd.DataFrame) -> np.ndarray:
    """JK1: one district left out at a time."""
    districts = data["dnum"].unique()
    each = [data["pw"] * (data["dnum"] != k) * len(districts) / (len(districts) - 1) for k in districts]
    return np.column_stack(each)


@pytest.mark.parametrize(
    ("data", "design", "coef", "errors", "df"),
    [
        (SCHOOLS, STRATA, [1.56040842358658, -0.00683105655469010, 0.00352476103353436],
         [0.31553040925983, 0.0131470688836890, 0.00865013777293608], 197),
        (DISTRICTS, mle.Survey(weights="pw", psu="dnum", fpc="fpc"),
         BY_DISTRICT, [0.509914804507170, 0.0124426727779435, 0.00882544484087491], 14),
        (DISTRICTS, mle.Survey(weights="pw", psu="dnum"),
         BY_DISTRICT, [0.515043141425275, 0.0125678117572456, 0.0089142044811052], 14),
        (SCHOOLS, mle.Survey(weights="pw", strata="stype", fpc="fpc", subpop=SCHOOLS["stype"] != "H"),
         [2.27474933893826, -0.00512383654238513, -0.00444057894434662],
         [0.490241023729782, 0.0153142773197211, 0.0105755482087908], 148),
        (DISTRICTS, mle.Survey(weights="pw", replicates=jackknife(DISTRICTS), method="JK1"),
         BY_DISTRICT, [0.540724526484014, 0.0137249573774581, 0.0097058009805680], 14),
    ],
    ids=["strata", "clusters with fpc", "clusters", "subpopulation", "replicates"],
)  # fmt: skip
def test_errors_are_those_of_svyglm(data: pd.DataFrame, design: mle.Survey, coef: Any, errors: Any, df: int) -> None:
    res = reg.fit(data, design=design)
    np.testing.assert_allclose(res.params, coef, rtol=1e-7)
    np.testing.assert_allclose(res.bse, errors, rtol=1e-6)
    t = np.array(coef) / np.array(errors)
    np.testing.assert_allclose(res.pvalues, 2 * stats.t.sf(np.abs(t), df), rtol=1e-5)
    assert f"t({df})" in str(res.summary())


REPLICATES = json.loads(Path("tests/references/survey_replicates.json").read_text())


@pytest.mark.parametrize("method", ["BRR", "Fay", "JKn", "bootstrap"])
@pytest.mark.parametrize("mse", [False, True])
def test_replicates_are_those_of_svrepdesign(method: Any, mse: bool) -> None:
    """Eight strata of two units; the replicate weights are R's.  Its bootstrap has a factor n / (n - 1), n units a stratum."""
    r, row = REPLICATES[method], np.arange(200)
    weights = SCHOOLS["pw"].to_numpy()[:, None] * np.array(r["factors"], float)[2 * (row // 25) + row % 2]
    scales = {"JKn": r["rscales"], "bootstrap": [2.0] * 30}.get(method)
    rho = 0.3 if method == "Fay" else 0.0
    design = mle.Survey(weights="pw", replicates=weights, method=method, rho=rho, rscales=scales, mse=mse)
    res = reg.fit(SCHOOLS, design=design)
    np.testing.assert_allclose(res.params, r["coef"], rtol=1e-7)
    np.testing.assert_allclose(res.bse, r["errors_mse" if mse else "errors"], rtol=1e-6)


def test_a_normal_regression_is_that_of_svyglm() -> None:
    res = normal.regress(mu="ell + meals + mobility").fit(SCHOOLS, design=STRATA)
    want = [820.887315905623, -0.480586612171951, -3.14153530998456, 0.225713210229637]
    errors = [10.0777359498854, 0.391973403222528, 0.283946506416502, 0.393218362022529]
    np.testing.assert_allclose(res.params.iloc[:4], want, rtol=1e-7)
    np.testing.assert_allclose(res.bse.iloc[:4], errors, rtol=1e-6)


def test_shares_are_populations() -> None:
    """A share of 1 is a census, without error of sampling; the share is n / N."""
    share = SCHOOLS.groupby("stype")["fpc"].transform("size") / SCHOOLS["fpc"]
    by_share = reg.fit(SCHOOLS, design=mle.Survey(weights="pw", strata="stype", fpc=share))
    np.testing.assert_allclose(by_share.bse, reg.fit(SCHOOLS, design=STRATA).bse, rtol=1e-12)


def test_designs_that_do_not_fit_are_refused() -> None:
    lonely = SCHOOLS.assign(stype=np.where(np.arange(200) == 0, "only", SCHOOLS["stype"]))
    with pytest.raises(ValueError, match=r"1 strata have one primary unit.*lonely='certainty'"):
        reg.fit(lonely, design=mle.Survey(weights="pw", strata="stype"))
    certain, adjusted = (
        reg.fit(lonely, design=mle.Survey(weights="pw", strata="stype", lonely=how)) for how in ("certainty", "adjust")
    )
    assert (certain.bse < adjusted.bse).all()
    with pytest.raises(ValueError, match=r"fpc= is 5 in a stratum of which \d+ primary units were sampled"):
        reg.fit(SCHOOLS, design=mle.Survey(weights="pw", strata="stype", fpc=np.full(200, 5.0)))
    wrong = np.where(np.arange(200)[:, None] == 3, -1.0, np.ones((200, 2)))
    with pytest.raises(ValueError, match=r"replicates= expected finite numbers >= 0 of shape \(200, R\), got -1.0"):
        reg.fit(SCHOOLS, design=mle.Survey(weights="pw", replicates=wrong, method="BRR"))
    with pytest.raises(ValueError, match="fpc= expected one finite number for each row, got nan"):
        reg.fit(SCHOOLS, design=mle.Survey(weights="pw", strata="stype", fpc=np.full(200, np.nan)))
    with pytest.raises(ValueError, match="design= contains the weights"):
        reg.fit(SCHOOLS, design=STRATA, weights="pw")
    with pytest.raises(ValueError, match="already account for strata, psu and fpc"):
        mle.Survey(weights="pw", strata="stype", replicates=["r1"], method="BRR")
    with pytest.raises(ValueError, match="'survey' needs a design"):
        reg.fit(SCHOOLS, weights="pw", weight_kind="sampling", cov_type="survey")


@pytest.mark.parametrize(
    ("fpc", "said"),
    [
        ([0.0, 0.0, 3.0, 3.0], "fpc= is 0 in a stratum; expected the size"),
        ([5.0, 5.0, 1.5, 1.5], "fpc= is 1.5 in a stratum of which 2 primary units were sampled; expected the size"),
    ],
)
def test_populations_smaller_than_their_sample(fpc: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        survey_meat(np.ones((4, 1)), np.array([0, 0, 1, 1]), np.arange(4), np.array(fpc))
