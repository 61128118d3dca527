"""The search in models with classes: EM beside Newton, starts, and classes that collapse, vanish, coincide or exchange labels."""

import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

import mlejax as mle
from tests.latent.discrete.test_classes import CASE, DEATHS, WAITING, answers, counts, normals, people

SADDLE = {"mu": [70.9, 70.9], "sigma": [13.57, 13.57], "z_probs": [0.5, 0.5]}


def quiet(fit: Any, *args: Any, **options: Any) -> mle.Results:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mle.ConvergenceWarning)
        return fit(*args, **options)


@pytest.fixture(scope="module")
def newton() -> mle.Results:
    return normals.fit(WAITING)


def test_em_ends_where_newton_does(newton: mle.Results) -> None:
    res = normals.fit(WAITING, method="em")
    assert res.verdict.code == "verified"
    assert res.llf == pytest.approx(CASE.llf, rel=1e-12)
    np.testing.assert_allclose(res.params, newton.params, rtol=1e-7)
    np.testing.assert_allclose(res.bse, newton.bse, rtol=1e-7)
    assert "em, " in str(res.summary())


def test_the_steps_of_em_are_those_of_the_textbook() -> None:
    """Closed M steps of a mixture of Poisson laws (weighted means), from the same start; the log-likelihood never falls."""
    start = {"rate": [1.0, 4.0], "z_probs": [0.5, 0.5]}
    method = mle.EM(accelerate=False, max_steps=30, inner=50)
    res = counts.fit(DEATHS, start=start, weights="w", weight_kind="frequency", method=method)
    y, w, rate, p = DEATHS["y"], DEATHS["w"], np.array([1.0, 4.0]), np.array([0.5, 0.5])
    factorials = np.array([np.prod(np.arange(1.0, k + 1)) for k in y])
    path = []
    for _ in range(31):
        joint = p * np.exp(-rate) * rate ** y[:, None] / factorials[:, None]
        path.append(w @ np.log(joint.sum(axis=1)))
        posterior = w[:, None] * joint / joint.sum(axis=1, keepdims=True)
        p, rate = posterior.sum(axis=0) / w.sum(), y @ posterior / posterior.sum(axis=0)
    np.testing.assert_allclose(res.path.iloc[:31], path, rtol=1e-9)
    faster = counts.fit(DEATHS, start=start, weights="w", weight_kind="frequency", method="em")
    assert "extrapolated" in str(faster.summary())
    for seen in (res.path, faster.path):
        assert (np.diff(seen) >= -1e-10 * abs(path[0])).all()
    assert len(faster.path) < 100


def test_em_under_a_penalty_and_by_units() -> None:
    penalty = mle.l2(0.5, "share")
    table, start = people(), {"share": [[0.8] * 3, [0.2] * 3]}
    by_newton, by_em = (answers.fit(table, start=start, penalty=penalty, method=m) for m in ("newton", "em"))
    assert by_em.llf_penalized == pytest.approx(by_newton.llf_penalized, rel=1e-10)
    np.testing.assert_allclose(by_em.params, by_newton.params, rtol=1e-6)
    assert (np.diff(by_em.path) >= -1e-8).all()


def test_em_is_refused_where_there_is_no_class() -> None:
    @mle.model(mu=mle.Real())
    def plain(params: Any, data: Any) -> Any:
        return norm.logpdf(data["y"], params["mu"])

    with pytest.raises(ValueError, match=r"models with mle\.Discrete"):
        plain.fit(WAITING, method="em")
    with pytest.raises(ValueError, match="is supported by model"):
        normals.fit_batch({"y": WAITING["y"][None]}, method="em")
    with pytest.raises(ValueError, match="positive"):
        mle.EM(inner=0)


def test_labels_are_in_order_and_a_start_keeps_its_own(newton: mle.Results) -> None:
    assert newton.params["mu[0]"] < newton.params["mu[1]"]
    assert "in order of mu" in str(newton.summary())
    own = normals.fit(WAITING, start={"mu": [80.0, 55.0], "sigma": [6.0, 6.0]})
    assert own.params["mu[0]"] > own.params["mu[1]"]
    np.testing.assert_allclose(own.bse[["mu[1]", "mu[0]"]], newton.bse[["mu[0]", "mu[1]"]], rtol=1e-6)


def test_equal_classes_are_left(newton: mle.Results) -> None:
    """Where the classes are equal the score is 0: the search leaves that saddle."""
    assert normals.fit(WAITING, start=SADDLE).llf == pytest.approx(newton.llf, rel=1e-10)


def test_numbers_of_classes_have_no_likelihood_ratio(newton: mle.Results) -> None:
    @mle.model(mu=mle.Real(), sigma=mle.Positive())
    def one(params: Any, data: Any) -> Any:
        return norm.logpdf(data["y"], params["mu"], params["sigma"])

    with pytest.raises(ValueError, match="of 2 and 1 classes has no chi-squared distribution"):
        newton.lr_test(one.fit(WAITING))


def test_a_class_that_collapses_is_named() -> None:
    res = quiet(normals.fit, WAITING, start={"mu": [43.0, 70.0], "sigma": [0.01, 13.0]})
    assert res.verdict.code == "no_finite_maximum"
    assert "the class 0 of z has collapsed on 1 row;" in res.verdict.statement
    assert "give the classes one scale" in res.verdict.advice
    assert np.isnan(res.bse).all()


@pytest.mark.slow
def test_starts_reach_the_maximum() -> None:
    """Ten of ten starts that set the classes apart; by a start near the data, three of twenty."""
    modes = normals.fit(WAITING, n_starts=10).modes
    assert modes.loc[np.isclose(modes["llf"], CASE.llf, rtol=1e-9), "n_starts"].sum() >= 8


@pytest.mark.slow
def test_more_classes_than_the_data_have() -> None:
    """One Poisson law with less spread than a mixture can have: the likelihood says one class, whatever the start."""
    y = np.repeat([2.0, 3.0, 4.0], [20, 60, 20])
    res = quiet(counts.fit, {"y": y})
    assert not res.verdict.converged
    assert res.llf == pytest.approx(
        float(np.sum(np.log(np.exp(-3.0) * 3.0**y / np.array([2.0, 6.0, 24.0])[y.astype(int) - 2])))
    )
    assert "of z are the same" in res.verdict.statement or "of z is empty" in res.verdict.statement
    assert res.verdict.advice == "The data show fewer classes than 2: fit 1."
    assert np.isnan(res.bse).all()


@pytest.mark.slow
def test_a_search_that_loses_a_class_begins_anew() -> None:
    """The first start of these regressions ends with a class that has no rows; its log-likelihood is that of one class."""
    data = {"y": CASE.data["waiting"], "eruptions": CASE.data["eruptions"]}
    res = normals.regress(mu="eruptions").fit(data)
    slope, intercept = np.polyfit(data["eruptions"], data["y"], 1)
    residual = data["y"] - intercept - slope * data["eruptions"]
    alone = float(np.sum(norm.logpdf(jnp.asarray(residual), 0.0, residual.std())))
    assert res.verdict.code == "verified"
    assert res.llf > alone + 3.0
