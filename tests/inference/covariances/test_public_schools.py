"""A sandwich on data with one row of high leverage: expenditure on public schools and income of fifty states."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jax.scipy.stats import norm

import mlejax as mle

REFERENCES = Path(__file__).parents[2] / "references"
R = json.loads((REFERENCES / "published.json").read_text())["schools"]


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def line(params: Any, data: Any) -> Any:
    return norm.logpdf(data["expenditure"], params["mu"], params["sigma"])


def test_public_schools_of_greene() -> None:
    """Greene (1993), tables 14.2 and 14.3; Cribari-Neto (2004), Comput. Stat. Data Anal. 45, 215; sandwich::PublicSchools (GPL).

    HC0 to HC4 as sandwich::vcovHC; estimates and the errors of HC0 as the package's page prints them: 832.9144 (460.8917),
    -1834.2029 (1243.0430), 1587.0423 (829.9927).  A known scale leaves the sandwich of the slopes as it is.
    """
    schools = pd.read_csv(REFERENCES / "public_schools.csv").astype(float)
    schools["income"] *= 1e-4
    schools["square"] = schools["income"] ** 2
    res = line.regress(mu="income + square").fit(schools, fixed={"sigma": 50.0})
    np.testing.assert_allclose(res.params[:3], [832.9144, -1834.2029, 1587.0423], atol=5e-5)
    np.testing.assert_allclose(res.with_cov("HC0").bse[:3], [460.8917, 1243.0430, 829.9927], atol=5e-5)
    for kind in ("HC0", "HC2", "HC3", "HC4"):
        np.testing.assert_allclose(res.with_cov(kind).bse[:3], list(R[kind].values()), rtol=1e-8)  # type: ignore[arg-type]
    np.testing.assert_allclose(res.with_cov("HC1").bse[:3], list(R["HC1"].values()), rtol=1e-8)
