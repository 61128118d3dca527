"""Extended likelihoods against closed forms, Poisson bins and iminuit."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import gammaln

import mlejax as mle

X = np.random.default_rng(0).exponential(2.0, 300)


@mle.extended(total=lambda p: p["n"], n=mle.Positive(), rate=mle.Positive())
def decays(params: Any, data: Any) -> Any:
    return jnp.log(params["n"] * params["rate"]) - params["rate"] * data["x"]


@pytest.fixture(scope="module")
def res() -> mle.Results:
    return decays.fit({"x": X})


def test_the_total_and_the_law_have_closed_forms(res: mle.Results) -> None:
    """The total is the number of rows with variance n, and the law is that of the plain likelihood: with a sandwich too."""
    np.testing.assert_allclose(res.params, [300, 1 / X.mean()], rtol=1e-9)
    np.testing.assert_allclose(res.bse, [np.sqrt(300), 1 / X.mean() / np.sqrt(300)], rtol=1e-8)
    assert res.llf == pytest.approx(300 * np.log(300 / X.mean()) - 600, rel=1e-12)
    for kind in ("HC0", "opg"):
        assert res.with_cov(kind).bse["n"] == pytest.approx(np.sqrt(300), rel=1e-8)
    spread = np.sqrt((X - X.mean()) @ (X - X.mean()))  # the sandwich of an exponential law
    assert res.with_cov("HC0").bse["rate"] == pytest.approx(spread / 300 / X.mean() ** 2, rel=1e-8)
    assert pickle.loads(pickle.dumps(res)).with_cov("HC0").bse["n"] == pytest.approx(np.sqrt(300), rel=1e-8)


def test_bins_are_poisson() -> None:
    """Rows known up to bins: the estimates and errors of Poisson counts, and the log-likelihood up to a constant."""
    counts, edges = np.histogram(X, np.arange(0.0, 20.0, 0.5))
    share = lambda rate, low: jnp.exp(-rate * low) - jnp.exp(-rate * (low + 0.5))
    reach = float(edges[-1])

    @mle.extended(total=lambda p: p["n"] * -jnp.expm1(-p["rate"] * reach), n=mle.Positive(), rate=mle.Positive())
    def rows(params: Any, data: Any) -> Any:
        return jnp.log(params["n"] * share(params["rate"], data["low"]))

    @mle.model(n=mle.Positive(), rate=mle.Positive())
    def bins(params: Any, data: Any) -> Any:
        mean = params["n"] * share(params["rate"], data["low"])
        return data["k"] * jnp.log(mean) - mean - gammaln(data["k"] + 1.0)

    a = rows.fit({"low": np.repeat(edges[:-1], counts)})
    b = bins.fit({"low": edges[:-1], "k": counts.astype(float)})
    np.testing.assert_allclose(a.params, b.params, rtol=1e-9)
    np.testing.assert_allclose(a.bse, b.bse, rtol=1e-8)


def test_iminuit_agrees(res: mle.Results) -> None:
    """ExtendedUnbinnedNLL at its own tolerance."""
    minuit = pytest.importorskip("iminuit")
    from iminuit import cost

    density = lambda x, n, rate: (n, n * rate * np.exp(-rate * x))
    m = minuit.Minuit(cost.ExtendedUnbinnedNLL(X, density), n=250.0, rate=0.4)
    m.limits["n", "rate"] = (1e-9, None)
    m.strategy, m.tol = 2, 1e-6
    m.migrad().hesse()
    np.testing.assert_allclose((np.array(m.values) - res.params) / res.bse, 0.0, atol=1e-4)
    np.testing.assert_allclose(m.errors, res.bse, rtol=1e-3)
    assert -m.fval / 2 == pytest.approx(res.llf, abs=1e-6)


def test_what_does_not_hold_is_refused(res: mle.Results) -> None:
    for kind, options in (("HC3", {}), ("HAC", {"maxlags": 2}), ("cluster", {"groups": np.arange(301)})):
        with pytest.raises(ValueError, match="does not support extended likelihoods"):
            res.with_cov(kind, options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="draws Poisson numbers of rows"):
        res.jackknife()
    with pytest.raises(ValueError, match="draws Poisson numbers of rows"):
        res.bootstrap(20, "parametric")
    with pytest.raises(ValueError, match="groups= is not supported for an extended likelihood"):
        res.bootstrap(20, "bayesian", groups=np.arange(300) // 2)
    with pytest.raises(ValueError, match="number of rows is an outcome"):
        res.influence()
    with pytest.raises(TypeError, match="total= expected a function"):
        mle.extended(total=3.0, n=mle.Positive())  # type: ignore[arg-type]
    by_row = mle.extended(total=lambda p: p["n"] * jnp.ones(3), n=mle.Positive())(lambda p, d: jnp.log(p["n"]) + 0 * d["x"])
    with pytest.raises(mle.LikelihoodError, match="a total of one number"):
        by_row.fit({"x": X})


def test_rows_are_counted_without_the_total(res: mle.Results, tmp_path: Path) -> None:
    assert (res.nobs, res.n_units) == (300.0, 300)
    res.save(tmp_path / "decays.json")
    back = mle.load(tmp_path / "decays.json")
    assert (back.nobs, back.n_units, back.bic) == (300.0, 300, res.bic)
    with pytest.raises(ValueError, match="contains neither the function nor the data"):
        back.with_cov("HC1")
    assert res.bic == pytest.approx(-2 * res.llf + 2 * np.log(300), rel=1e-12)


def test_the_bootstrap_draws_poisson_numbers_of_rows(res: mle.Results) -> None:
    """Each resample has the closed form of its own rows: n their number, whose variance is that of the data, and 1 / mean."""
    for kind in ("case", "bayesian"):
        boot = res.bootstrap(400, kind, seed=3)
        n, rate = boot.replicates["n"].to_numpy(), boot.replicates["rate"].to_numpy()
        assert boot.n_failed == 0
        assert abs(n.std() / np.sqrt(300) - 1) < 0.15  # four standard errors of a standard deviation of 400
        assert abs(n.mean() - 300) < 4 * np.sqrt(300 / 400)
        spread = np.sqrt((X - X.mean()) @ (X - X.mean())) / 300 / X.mean() ** 2
        assert abs(rate.std() / spread - 1) < 0.15
        assert (kind == "case") == bool(np.allclose(n, np.rint(n), atol=1e-6))
    with pytest.raises(ValueError, match="BCa intervals do not support an extended likelihood"):
        res.bootstrap(20).conf_int("bca")


def test_weights_multiply_the_rows_and_not_the_total() -> None:
    """Signal weights of a mass fit: n is their sum, and its sandwich error the root of the sum of their squares."""
    w = np.random.default_rng(1).uniform(0.2, 1.5, 300)
    res = decays.fit({"x": X, "w": w}, weights="w", weight_kind="importance", cov_type="HC0")
    np.testing.assert_allclose(res.params, [w.sum(), w.sum() / (w @ X)], rtol=1e-9)
    assert res.bse["n"] == pytest.approx(np.sqrt(w @ w), rel=1e-8)
    twice = decays.fit({"x": X}, weights=np.full(300, 2), weight_kind="frequency")
    np.testing.assert_allclose([twice.params["n"], twice.bse["n"], twice.nobs], [600, np.sqrt(600), 600], rtol=1e-8)
