"""Other people's tables and plots, where they are installed: each is asked for its own output."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm

import mlejax as mle


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def gaussian(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["mu"], params["sigma"])


@pytest.fixture(scope="module")
def fits() -> list[mle.Results]:
    rng = np.random.default_rng(0)
    df = pd.DataFrame({"x": rng.normal(size=40), "g": np.arange(40) % 8})
    df["y"] = 1 + 2 * df["x"] + rng.normal(size=40)
    reg = gaussian.regress(mu="x")
    return [reg.fit(df), reg.fit(df, cov_type="cluster", cov_kwds={"groups": "g"})]


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
