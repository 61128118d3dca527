"""Errors of some parameters among many: against the dense inverse, and refused where there is none."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

import mlejax as mle
from mlejax.inference.checking.subset import subset_errors
from mlejax.transforms import Identity
from tests.zoo import REGRESSION

P = 24


@mle.model(b=mle.Real(shape=P), scale=mle.Positive())
def probit(params: Any, data: Any) -> Any:
    eta = data["x"] @ params["b"]
    return norm.logcdf(jnp.where(data["y"], eta, -eta)) + norm.logpdf(data["z"], eta, params["scale"])


@functools.cache
def table() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((300, P)) * np.geomspace(0.2, 3, P)
    eta = x @ rng.standard_normal(P) / 4
    y = eta + rng.standard_normal(300) > 0
    return {"x": x, "y": y, "z": eta + 0.5 * rng.standard_normal(300)}


@functools.cache
def fitted() -> mle.Results:
    return probit.fit(table())


def test_given_and_estimated_against_the_dense_information() -> None:
    res = fitted()
    info = res.information.to_numpy()
    for addresses, index in ((["b[3]", "scale"], [3, P]), (["b"], list(range(P))), (["scale", "b[3]", "b[3]"], [3, P])):
        given = res.subset_errors(*addresses)
        np.testing.assert_allclose(given.cov, np.linalg.inv(info[np.ix_(index, index)]), rtol=1e-8)
        both = res.subset_errors(*addresses, others="estimated")
        inverse = np.linalg.inv(info)[np.ix_(index, index)]
        np.testing.assert_allclose(both.cov, inverse, rtol=1e-6, atol=1e-9 * inverse.max())
        np.testing.assert_allclose(both.cov_given, given.cov, rtol=1e-12)
        assert np.linalg.eigvalsh(both.cov - given.cov).min() > -1e-10
        np.testing.assert_allclose(both.bse, res.bse.iloc[index], rtol=1e-6)
        np.testing.assert_allclose(both.frame()[["conf_low", "conf_high"]], res.conf_int().iloc[index], rtol=1e-5)
        assert list(both.labels) == list(res.params.index[index])
        assert abs(both.decrement) < 1e-10
    assert np.isnan(res.subset_errors("scale").tvalues[0]), "0 is no interior point of its support"


def test_scales_far_apart_do_no_harm() -> None:
    """Columns from 1e-4 to 1e4: a condition number of 1e16, one of a few hundred once scaled."""
    data = {**table(), "x": table()["x"] * np.geomspace(1e-4, 1e4, P)}
    res = probit.fit(data)
    both = res.subset_errors("b[0]", "b[23]", "scale", others="estimated")
    np.testing.assert_allclose(both.bse, res.bse.iloc[[0, 23, 24]], rtol=1e-5)
    all_of_them = res.subset_errors("b", "scale", others="estimated")
    np.testing.assert_allclose(all_of_them.bse, res.bse, rtol=1e-5)


def test_damping_is_a_ridge() -> None:
    res = fitted()
    info = res.information.to_numpy() + 7.0 * np.eye(P + 1)
    both = res.subset_errors("b[0]", "b[5]", others="estimated", damping=7.0)
    np.testing.assert_allclose(both.cov, np.linalg.inv(info)[np.ix_([0, 5], [0, 5])], rtol=1e-6)
    assert "ridge of 7 was added" in " ".join(str(both).split())


def test_the_table_says_what_the_errors_mean() -> None:
    res = fitted()
    given, both = str(res.subset_errors("b[0]")), str(res.subset_errors("b[0]", others="estimated"))
    assert f"Standard errors of 1 of {P + 1} parameters, given the others" in given
    assert f"The other {P} are taken as known" in " ".join(given.split())
    assert "conjugate gradients" in both
    assert "no maximum" not in given + both


def test_a_robust_fit_is_told_that_these_errors_are_others() -> None:
    robust = fitted().with_cov("HC0").subset_errors("scale", others="estimated")
    np.testing.assert_array_equal(robust.bse, fitted().subset_errors("scale", others="estimated").bse)
    assert "not those of cov_type='HC0'" in " ".join(str(robust).split())
    assert "cov_type" not in str(fitted().subset_errors("scale"))


def test_what_is_held_fixed_is_not_estimated() -> None:
    data = REGRESSION.make(13)
    res = REGRESSION.plain.fit(data, start=REGRESSION.start, fixed={"beta[1]": 0.5})
    both = res.subset_errors("beta", others="estimated")
    assert both.labels == ("beta[0]", "beta[2]")
    np.testing.assert_allclose(both.bse, res.bse[["beta[0]", "beta[2]"]], rtol=1e-6)
    with pytest.raises(ValueError, match="fixed, so that there is no standard error"):
        res.subset_errors("beta[1]")


@mle.model(mu=mle.Real(), w=mle.Free(start=np.zeros(2100)))
def wells(params: Any, data: Any) -> Any:
    """At w = 0 the log-likelihood curves upwards along every w; mu is coupled with w[0]."""
    w = params["w"]
    return norm.logpdf(data["y"], params["mu"] + w[0], 1.0) - jnp.sum((w**2 - 1.0) ** 2) / 7.0


@functools.cache
def stopped() -> mle.Results:
    method = mle.Adam(1e-4, batch_size=4, epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mle.ConvergenceWarning)
        return wells.fit({"y": np.arange(7.0)}, method=method, progress=False)


def test_negative_curvature_is_refused() -> None:
    res = stopped()
    given = res.subset_errors("mu")
    np.testing.assert_allclose(given.bse, 1 / np.sqrt(7.0), rtol=1e-9)
    np.testing.assert_allclose(given.decrement, 7 * (3.0 - res.params["mu"] - res.params["w[0]"]) ** 2, rtol=1e-9)
    assert "The fit is no maximum (stopped_early)" in " ".join(str(given).split())
    with pytest.raises(ValueError, match=r"curves upwards.*damping="):
        res.subset_errors("mu", others="estimated")
    with pytest.raises(ValueError, match=r"has no inverse: .* curves upwards .*\. Train longer"):
        res.subset_errors("w[3]")
    # I = [[7, 7], [7, 7 - 4]] in mu, w[0] near w = 0, and -4 for the other w
    damped = res.subset_errors("mu", others="estimated", damping=10.0)
    want = np.linalg.inv(np.array([[17.0, 7.0], [7.0, 13.0]]))[0, 0]
    np.testing.assert_allclose(damped.cov[0, 0], want, rtol=1e-5)


def test_why_there_is_no_inverse_is_told() -> None:
    wide = (np.full(2, -np.inf), np.full(2, np.inf))
    more: dict[str, Any] = {"links": [Identity()] * 2, "bounds": wide, "zero_is_interior": np.ones(2, bool), "n_others": 1}
    errors = lambda block, lost: subset_errors(["a", "b"], np.ones(2), np.array(block), np.zeros(2), lost, **more)
    with pytest.raises(ValueError, match=r"has no inverse: .* is flat .* not identified"):
        errors([[1.0, 1.0], [1.0, 1.0]], None)
    with pytest.raises(ValueError, match="has no inverse: it is not finite"):
        errors([[1.0, np.nan], [np.nan, 1.0]], None)
    with pytest.raises(ValueError, match=r"leaves no positive definite .* is flat .* Give others='given'"):
        errors([[1.0, 0.0], [0.0, 1.0]], np.array([[1.0, 0.0], [0.0, 0.5]]))
    with pytest.raises(ValueError, match=r"leaves no positive definite .* curves upwards"):
        errors([[1.0, 0.0], [0.0, 1.0]], np.array([[1.5, 0.0], [0.0, 0.5]]))


def test_too_many_parameters_are_refused_with_what_they_would_cost() -> None:
    res = stopped()
    for ask in (
        lambda: res.bse,
        lambda: res.tvalues,
        lambda: res.pvalues,
        lambda: res.conf_int(),
        lambda: res.cov_params(),
    ):
        with pytest.raises(ValueError, match=r"2101 x 2101 numbers \(0.0353 GB\).*subset_errors\('mu'\)"):
            ask()
    assert "2101 x 2101 numbers" in " ".join(str(res.summary()).split())
    assert set(res.tidy()["note"]) == {"no standard error: too many parameters, see subset_errors"}
    with pytest.raises(ValueError, match="expected at most 2000 parameters, got 2100"):
        res.subset_errors("w")


def test_what_is_refused() -> None:
    res = fitted()
    with pytest.raises(ValueError, match="no parameter is named"):
        res.subset_errors()
    with pytest.raises(ValueError, match="expected 'given'"):
        res.subset_errors("b", others="ignored")
    with pytest.raises(ValueError, match="damping"):
        res.subset_errors("b", damping=-1.0)
    with pytest.raises(mle.AddressError, match="did you mean"):
        res.subset_errors("scal")
    with pytest.raises(ValueError, match="after all 2 steps: raise max_steps="):
        res.subset_errors("b[0]", others="estimated", max_steps=2)

    @mle.model(p=mle.Simplex(shape=3))
    def shares(params: Any, data: Any) -> Any:
        return jnp.log(params["p"][data["y"]])

    with pytest.raises(ValueError, match="depend on one another"):
        shares.fit({"y": np.array([0, 0, 1, 2])}).subset_errors("p")
    assert jax.config.jax_enable_x64 is False


def test_a_small_network_at_its_penalised_maximum() -> None:
    """Where the whole inverse can be had: the last layer given the hidden one, and accounting for it."""
    rng = np.random.default_rng(4)
    x = rng.uniform(-2, 2, (150, 2))
    start = {"hidden": {"w": rng.standard_normal((2, 4)), "b": np.zeros(4)}, "last": rng.standard_normal(4)}

    @mle.model(net=mle.Free(start=start), sigma=mle.Positive())
    def curve(params: Any, data: Any) -> Any:
        net = params["net"]
        hidden = jnp.tanh(data["x"] @ net["hidden"]["w"] + net["hidden"]["b"])
        return norm.logpdf(data["y"], hidden @ net["last"], params["sigma"])

    y = np.sin(2 * x[:, 0]) * x[:, 1] + 0.3 * rng.standard_normal(150)
    res = curve.fit({"x": x, "y": y}, penalty=mle.l2(0.5, "net"), cov_type="bayes")
    assert res.converged
    last = [f"net.last[{i}]" for i in range(4)]
    both = res.subset_errors("net.last", others="estimated")
    np.testing.assert_allclose(both.cov, res.cov_params().loc[last, last], rtol=1e-5, atol=1e-9)
    hidden = {name: value for name, value in res.params.items() if name not in last}
    given = curve.fit(
        {"x": x, "y": y}, start=res.params_tree, fixed=hidden, penalty=mle.l2(0.5, "net"), cov_type="bayes"
    )
    np.testing.assert_allclose(both.cov_given, given.cov_params().loc[last, last], rtol=1e-5, atol=1e-9)
    assert (both.bse > 1.2 * np.sqrt(np.diag(both.cov_given))).all(), "or the difference is not worth explaining"
