"""Outcomes that are not observed and bounds that are not there: R's numbers, and what is refused."""

from __future__ import annotations

import pickle
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm

import mlejax as mle


@mle.model(work=mle.Real(), mu=mle.Real(), sigma=mle.Positive(), rho=mle.Interval(-1, 1), optional=["wage"])
def heckman(p: Any, d: Any) -> Any:
    error = (d["wage"] - p["mu"]) / p["sigma"]
    selected = norm.logcdf((p["work"] + p["rho"] * error) / jnp.sqrt(1 - p["rho"] ** 2))
    works = norm.logpdf(error) - jnp.log(p["sigma"]) + selected
    return jnp.where(d["observed"]["wage"], works, norm.logcdf(-p["work"]))


@mle.model(mu=mle.Real(), sigma=mle.Positive(), infinite=["high"])
def lognormal(p: Any, d: Any) -> Any:
    bounded, exact = d["observed"]["high"], d["low"] == d["high"]
    low, high = ((jnp.log(d[name]) - p["mu"]) / p["sigma"] for name in ("low", "high"))
    gap = jnp.where(bounded & ~exact, norm.logcdf(high) - norm.logcdf(low), 1.0)
    between = norm.logcdf(high) + jnp.log(-jnp.expm1(-gap))
    density = norm.logpdf(low) - jnp.log(p["sigma"]) - jnp.log(d["low"])
    return jnp.select([exact, bounded], [density, between], norm.logcdf(-low))


def salinity() -> pd.DataFrame:
    raw = pd.read_csv("tests/cases/salinity_intcens/data.csv")
    return pd.DataFrame({"low": raw["left"].clip(lower=1e-9), "high": raw["right"].replace(-1, np.inf).astype(float)})


def test_sample_selection_is_that_of_maxlik() -> None:
    """R's maxLik, from the likelihood written out in tests/references/selection.R; Toomet & Henningsen (2008), Journal of
    Statistical Software 27(7), print the same digits."""
    women = pd.read_csv("examples/data/mroz.csv")
    res = heckman.regress(work="age + I(age**2) + faminc + kids + educ", mu="exper + I(exper**2) + educ + city").fit(
        women
    )
    values = [-4.11969199, 0.184015425, -0.00240869733, 5.67968518e-6, -0.450614870, 0.0952807992, -1.96302425, 0.0278682914,
              -0.000103860450, 0.457005091, 0.446529033, 3.10837625, -0.131958597]  # fmt: skip
    errors = [1.40054687, 0.0658688457, 0.000772314746, 4.41593286e-6, 0.130185603, 0.0231534239, 1.19822091, 0.0615514342,
              0.00183877939, 0.0732299255, 0.315920890, 0.113832774, 0.165127110]  # fmt: skip
    assert res.verdict.code == "verified"
    assert res.llf == pytest.approx(-1581.25768, abs=1e-5)
    np.testing.assert_allclose((res.params - values) / errors, 0.0, atol=1e-5)
    np.testing.assert_allclose(res.bse, errors, rtol=5e-5)
    assert res.n_dropped == 0
    same = pickle.loads(pickle.dumps(res)).predict(women.head(3), param="mu")
    assert same["estimate"].equals(res.predict(women.head(3), param="mu")["estimate"])


def test_infinite_bounds_are_those_of_survreg() -> None:
    """survival 3.5-3: survreg(Surv(left, right, type = "interval2") ~ 1, dist = "lognormal"), rel.tolerance 1e-13."""
    data = salinity()
    res = lognormal.fit(data)
    np.testing.assert_allclose(res.params, [3.38537099041, 0.496138041939], rtol=1e-8)
    np.testing.assert_allclose(res.bse, [0.064863243780, 0.496138041939 * 0.109954734379], rtol=1e-7)
    assert res.llf == pytest.approx(-139.054955852, rel=1e-10)
    one = lognormal.fit_groups(data.assign(g="all"), by="g")
    np.testing.assert_allclose(one.params.loc["all"], res.params, rtol=1e-7)
    assert res.with_cov("cluster", {"groups": np.arange(len(data))}).converged
    assert float(lognormal({"mu": 3.0, "sigma": 1.0}, {k: data[k].to_numpy() for k in data}).sum()) == pytest.approx(
        float(lognormal.fit(data, fixed={"mu": 3.0, "sigma": 1.0}).llf), rel=1e-5
    )


def test_what_is_not_declared_is_named_with_the_declaration() -> None:
    data = salinity()
    plain = mle.model(mu=mle.Real(), sigma=mle.Positive())(lambda p, d: norm.logpdf(d["high"], p["mu"], p["sigma"]))
    with pytest.raises(mle.DataError, match=r"infinite values.*@mle\.model\(\.\.\., infinite=\['high'\]\)"):
        plain.fit(data)
    with pytest.raises(mle.DataError, match=r"missing values.*@mle\.model\(\.\.\., optional=\['high'\]\)"):
        plain.fit(data.replace(np.inf, np.nan))


def test_what_cannot_be_meant_is_refused() -> None:
    data = salinity()
    with pytest.raises(mle.DataError, match=r"both \+inf and -inf.*two columns"):
        lognormal.fit(data.assign(high=[-np.inf, *data["high"].iloc[1:]]))
    with pytest.raises(mle.DataError, match="expected at least one finite value"):
        lognormal.fit(data.assign(high=np.inf))
    with pytest.raises(mle.DataError, match="is declared infinite=, and a formula uses it"):
        lognormal.regress(mu="high").fit(data)
    with pytest.raises(mle.DataError, match="rename the column"):
        lognormal.fit(data.assign(observed=1.0))
    with pytest.raises(TypeError, match=r"infinite= expected a list of names of columns, infinite=\['x'\], got 'high'"):
        mle.model(mu=mle.Real(), infinite="high")
    with pytest.raises(mle.DataError, match="missing values"):
        lognormal.fit(data.assign(low=np.nan))


def test_predictions_where_every_bound_is_infinite() -> None:
    """They are those of the same rows among others; a gap in every row of an outcome does no harm either."""
    data = salinity()
    res = lognormal.fit(data)
    above = lambda p, d: jnp.where(d["observed"]["high"], p["mu"] * d["high"], p["mu"] - d["low"])
    among = res.predict(above, data)[np.isinf(data["high"]).to_numpy()]
    assert len(among) > 1
    alone = res.predict(above, data[np.isinf(data["high"])])
    np.testing.assert_allclose(alone.to_numpy(float), among.to_numpy(float), rtol=1e-12)
