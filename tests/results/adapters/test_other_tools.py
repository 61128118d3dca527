"""Other people's tables and plots, where they are installed: each is asked for its own output."""

from __future__ import annotations

import importlib
import pickle
import re
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from jax.scipy.stats import norm

import mlejax as mle


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def gaussian(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["mu"], params["sigma"])


@mle.model(p=mle.Interval(0, 1))
def bernoulli(params: Any, data: Any) -> Any:
    return jnp.where(data["y"] == 1, jnp.log(params["p"]), jnp.log1p(-params["p"]))


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    df = pd.DataFrame({"x": rng.normal(size=40), "g": np.arange(40) % 8})
    return df.assign(y=1 + 2 * df["x"] + rng.normal(size=40))


@pytest.fixture(scope="module")
def fits(frame: pd.DataFrame) -> list[mle.Results]:
    reg = gaussian.regress(mu="x")
    return [reg.fit(frame), reg.fit(frame, cov_type="cluster", cov_kwds={"groups": "g"})]


def test_maketables_takes_results_as_those_of_statsmodels(fits: list[mle.Results]) -> None:
    """By their names (params, bse, pvalues, nobs, ...): its table has the estimates and errors of both columns."""
    maketables = pytest.importorskip("maketables")
    text = str(maketables.ETable(fits, model_stats=["N", "ll"]).make(type="tex"))
    for res in fits:
        assert f"{res.params['mu[x]']:.3f}" in text
        assert f"{res.bse['mu[x]']:.3f}" in text


def test_great_tables_takes_tidy(fits: list[mle.Results]) -> None:
    tables = pytest.importorskip("great_tables")
    html = tables.GT(fits[0].tidy()).as_raw_html()
    assert "mu[x]" in html
    assert f"{fits[0].params['mu[x]']:.6g}"[:6] in html


def test_arviz_takes_the_bootstrap(fits: list[mle.Results]) -> None:
    pytest.importorskip("arviz_base")
    boot = fits[0].bootstrap(40, seed=1)
    posterior = boot.to_arviz()["posterior"]
    assert posterior["mu[x]"].shape == (1, 40)
    assert float(posterior["mu[x]"].std(ddof=1)) == pytest.approx(boot.bse["mu[x]"], rel=1e-12)


def test_summary_col_sets_results_beside_those_of_statsmodels(fits: list[mle.Results], frame: pd.DataFrame) -> None:
    """The same normal regression by both: the estimates of one row are the same number, twice."""
    import statsmodels.formula.api as smf
    from statsmodels.iolib.summary2 import summary_col

    theirs = smf.ols("y ~ x", frame).fit()
    table = summary_col([*fits, theirs], stars=True, info_dict={"N": lambda r: f"{int(r.nobs)}"}).tables[0]
    assert list(table.columns) == ["y I", "y II", "y III"]
    assert table.loc["mu[x]", "y I"].rstrip("*") == table.loc["x", "y III"].rstrip("*") == f"{theirs.params['x']:.4f}"
    assert table.iloc[list(table.index).index("mu[x]") + 1, 1] == f"({fits[1].bse['mu[x]']:.4f})"
    assert table.loc["N"].tolist() == ["40"] * 3
    assert fits[0].model.endog_names == theirs.model.endog_names == "y"
    assert list(fits[0].model.exog_names) == list(fits[0].params.index)
    assert (fits[0].use_t, fits[1].with_cov("CR3", {"groups": "g"}).use_t) == (False, True)
    assert pickle.loads(pickle.dumps(fits[0])).model.exog_names == fits[0].model.exog_names


def test_predictions_are_those_of_statsmodels(frame: pd.DataFrame) -> None:
    """Means, errors and intervals of a logit."""
    import statsmodels.formula.api as smf

    df = frame.assign(y=(frame["y"] > 1).astype(float))
    theirs = smf.glm("y ~ x", df, family=sm.families.Binomial()).fit(tol=1e-12)
    ours = bernoulli.regress(p="x").fit(df)
    for new in (None, df.iloc[3:7]):
        a, b = ours.get_prediction(new), theirs.get_prediction(new)
        pd.testing.assert_frame_equal(a.summary_frame(0.1), b.summary_frame(0.1), rtol=1e-6, check_index_type=False)
        np.testing.assert_allclose(a.se_mean, b.se_mean, rtol=1e-6)
        np.testing.assert_allclose(a.conf_int(), b.conf_int(), rtol=1e-6)


def test_the_hooks_of_maketables(fits: list[mle.Results], monkeypatch: pytest.MonkeyPatch) -> None:
    """maketables takes results by statsmodels' names; of packages that it does not know, by eight attributes: the same table."""
    extractors = pytest.importorskip("maketables.extractors")
    from maketables import ETable

    made = lambda: ETable(fits, model_stats=["N", "ll"], labels={}).make(type="tex")
    by_names = str(made())
    monkeypatch.setattr(extractors, "_EXTRACTOR_REGISTRY", [])
    plugin, (plain, clustered) = extractors.PluginExtractor(), fits
    assert type(extractors.get_extractor(plain)) is type(plugin)
    numbers = lambda text: re.findall(r"\d+\.\d+", text)
    assert numbers(str(made())) == numbers(by_names)
    assert list(plugin.coef_table(plain)["b"]) == list(plain.params)
    assert plugin.depvar(plain) == "y"
    assert plugin.fixef_string(plain) is None
    assert plugin.var_labels(plain)["mu[x]"] == "x"
    assert plugin.vcov_info(clustered) == {"vcov_type": "cluster", "clustervar": "g"}
    assert plugin.stat_labels(plain)["ll"] == "Log-likelihood"
    assert plugin.default_stat_keys(plain) == ["N", "ll", "aic", "bic"]
    assert plugin.stat(plain, "r2") is None
    assert "by: g" in str(ETable(fits, model_stats=["se_type"]).make(type="tex"))


def test_marginaleffects_finds_the_same_slopes(frame: pd.DataFrame) -> None:
    me = pytest.importorskip("marginaleffects")
    import polars as pl

    before = jax.config.jax_enable_x64
    importlib.import_module("marginaleffects.comparisons")  # which sets this flag of JAX
    jax.config.update("jax_enable_x64", before)
    df = frame.assign(y=(frame["y"] > 1).astype(float), z=np.cos(np.arange(40)), c=list("abcd") * 10)
    res = bernoulli.regress(p="x * z + C(c)").fit(df, cov_type="HC0")
    model = res.to_marginaleffects()
    ours, theirs = res.margins(["x", "z"]), me.avg_slopes(model, variables=["x", "z"], eps_vcov=1e-6)
    np.testing.assert_allclose(theirs["estimate"], ours.params, rtol=1e-6)
    np.testing.assert_allclose(theirs["std_error"], ours.bse, rtol=1e-5)
    plain = me.avg_slopes(model, variables="x", vcov="nonrobust", eps_vcov=1e-6)
    np.testing.assert_allclose(plain["std_error"], res.with_cov("nonrobust").margins("x").bse, rtol=1e-5)
    groups = me.avg_predictions(model, by="c", eps_vcov=1e-6)
    np.testing.assert_allclose(groups["std_error"], res.margins(over="c").bse, rtol=1e-5)
    if int(pl.__version__.partition(".")[0]) < 2:  # marginaleffects 0.6 asks polars 2 for what it no longer has
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            found = me.avg_comparisons(model, variables="c", eps_vcov=1e-6)
        np.testing.assert_allclose(found["estimate"], res.margins("c").params, rtol=1e-6)
