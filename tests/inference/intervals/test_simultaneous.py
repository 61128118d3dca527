"""Several estimates and several models at once: R's multcomp, bbmle and statsmodels, closed forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm, poisson
from scipy import stats
from statsmodels.stats.multitest import multipletests

import mlejax as mle
from mlejax.inference import adjusted_pvalues, pointwise_alpha
from mlejax.inference.normal import critical_value

ROOT = Path(__file__).parents[3]
R = json.loads((ROOT / "tests/references/several.json").read_text())
X = ["wool_b", "tension_m", "tension_h"]


@mle.model(mu=mle.Positive())
def counts(params: Any, data: Any) -> Any:
    return poisson.logpmf(data["breaks"], params["mu"])


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def gaussian(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["mu"], params["sigma"])


@pytest.fixture(scope="module")
def breaks() -> pd.DataFrame:
    return pd.read_csv(ROOT / "examples/data/warpbreaks.csv")


@pytest.fixture(scope="module")
def fits(breaks: pd.DataFrame) -> dict[str, mle.Results]:
    terms = {"both": " + ".join(X), "wool": X[0], "tension": " + ".join(X[1:])}
    return {name: counts.regress(mu=rhs).fit(breaks) for name, rhs in terms.items()}


def test_weights_are_those_of_bbmle(fits: dict[str, mle.Results]) -> None:
    both = mle.compare(*fits.values(), names=list(fits))
    for name in ("aic", "aicc"):
        theirs = pd.DataFrame(R[name]).T
        ours = both.weights(name)
        assert list(ours.index) == list(theirs.index)
        np.testing.assert_allclose(ours[theirs.columns], theirs, rtol=1e-9, atol=1e-12)
    assert list(both.weights().columns) == list(R["aic"]["both"])
    assert fits["both"].aicc == pytest.approx(R["aicc"]["both"]["AICc"], rel=1e-12)


def test_simultaneous_intervals_and_p_values_are_those_of_multcomp(fits: dict[str, mle.Results]) -> None:
    res = fits["both"]
    slopes = res.t_test([f"mu[{x}] = 0" for x in X])
    reach = (slopes.conf_int("max-z")["upper"] - slopes.params) / slopes.bse
    np.testing.assert_allclose(reach, R["critical"], rtol=2e-4)
    weak = res.t_test(
        [
            "mu[tension_m] - 0.8 * mu[tension_h] = 0",
            "mu[wool_b] - 0.5 * mu[tension_h] = 0",
            "mu[tension_m] = mu[wool_b]",
        ]
    )
    for method, theirs, tolerance in (
        ("holm", "holm", 1e-7), ("bonferroni", "bonferroni", 1e-7), ("scheffe", "scheffe", 1e-7),
        ("max-z", "single-step", 1e-3),
    ):  # fmt: skip
        ours = weak.adjusted_pvalues(method)  # type: ignore[arg-type]
        np.testing.assert_allclose(ours, list(R[theirs].values()), rtol=tolerance)


def test_entries_of_a_fit(fits: dict[str, mle.Results]) -> None:
    """All four coefficients: c from its definition; p-values as statsmodels' multipletests."""
    res = fits["both"]
    for method, c in (
        ("bonferroni", stats.norm.isf(0.05 / 8)),
        ("sidak", stats.norm.isf((1 - 0.95**0.25) / 2)),
        ("scheffe", np.sqrt(stats.chi2.ppf(0.95, 4))),
    ):
        expected = res.params + c * res.bse
        np.testing.assert_allclose(res.conf_int(method=method)["upper"], expected, rtol=1e-8)  # type: ignore[arg-type]
    for method in ("holm", "bonferroni", "sidak"):
        theirs = multipletests(res.pvalues, method=method)[1]
        np.testing.assert_allclose(res.adjusted_pvalues(method), theirs, rtol=1e-10)  # type: ignore[arg-type]


@pytest.mark.parametrize("df", [np.inf, 12.0])
@pytest.mark.parametrize("k", [3, 6])
def test_all_pairs_of_means_are_tukeys(k: int, df: float) -> None:
    """max |Z| over all pairs of k means is the studentised range over sqrt(2); the covariance of the pairs is singular."""
    pairs = np.array([np.eye(k)[i] - np.eye(k)[j] for i in range(k) for j in range(i)])
    cov = pairs @ pairs.T
    tukey = stats.studentized_range(k, min(df, 1e7))
    c = critical_value(pointwise_alpha("max-z", 0.05, cov, df), df)
    assert c == pytest.approx(tukey.ppf(0.95) / np.sqrt(2), rel=1e-4)
    p = adjusted_pvalues("max-z", np.full(len(pairs), 2.0), cov, df)
    np.testing.assert_allclose(p, tukey.sf(2.0 * np.sqrt(2)), rtol=2e-4)


def test_intervals_stay_in_the_support_and_missing_ones_do_not_count() -> None:
    y = np.random.default_rng(0).normal(2.0, 0.5, 20)
    res = gaussian.fit({"y": y}, fixed={"mu": 0.1})
    single, joint = res.conf_int(), res.conf_int(method="bonferroni")
    np.testing.assert_allclose(single.loc["sigma"], joint.loc["sigma"], rtol=1e-12)  # one estimate alone
    free = gaussian.fit({"y": y}).conf_int(method="max-z", alpha=1e-6)
    assert 0 < free.loc["sigma", "lower"] < free.loc["sigma", "upper"]
    assert gaussian.fit({"y": y}).adjusted_pvalues()["sigma":].isna().all()  # 0 is no value of sigma


def test_tic_of_a_normal_sample_has_its_closed_form() -> None:
    """tr(I^-1 J) = (1 + m4 / s^4) / 2 (Konishi & Kitagawa 2008, Information Criteria, section 3.4.3)."""
    y = np.random.default_rng(1).standard_t(5, 80) + 1e5
    res = gaussian.fit({"y": y})
    d = y - y.mean()
    bias = 0.5 * (1 + np.mean(d**4) / np.mean(d**2) ** 2)
    llf = stats.norm.logpdf(d, 0, d.std()).sum()
    assert res.tic == pytest.approx(-2 * llf + 2 * bias, rel=1e-8)
    assert res.with_cov("HC0").tic == res.tic


def test_what_cannot_be_answered_is_refused_in_words(fits: dict[str, mle.Results], breaks: pd.DataFrame) -> None:
    res = fits["both"]
    with pytest.raises(
        ValueError, match="expected 'wald', 'profile' or one of 'bonferroni', 'sidak', 'scheffe', 'max-z'"
    ):
        res.conf_int(method="tukey")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected one of 'holm'"):
        res.adjusted_pvalues("BH")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"AIC cannot be compared: .* fits of different data"):
        mle.compare(res, counts.regress(mu="wool_b").fit(breaks.iloc[:50])).weights()
    with pytest.raises(ValueError, match=r"AIC of counts \(2\) is not defined with cov_type='HC0'"):
        mle.compare(res, fits["wool"].with_cov("HC0")).weights()
    with pytest.raises(ValueError, match="TIC is not defined for penalised fits"):
        gaussian.fit({"y": jnp.arange(5.0)}, penalty=mle.l2(1.0, "mu")).tic  # noqa: B018
