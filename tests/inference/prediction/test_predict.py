"""Predictions with intervals on the scale of their support, against statsmodels and closed forms."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from jax.scipy.stats import norm, poisson
from scipy import stats

import mlejax as mle


@mle.model(beta=mle.Real(columns="X"))
def logit(params: Any, data: Any) -> Any:
    return jax.nn.log_sigmoid((2 * data["y"] - 1) * (data["X"] @ params["beta"]))


@mle.model(beta=mle.Real(columns="X"))
def counts(params: Any, data: Any) -> Any:
    return poisson.logpmf(data["k"], jnp.exp(data["X"] @ params["beta"]))


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def gaussian(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["mu"], params["sigma"])


@pytest.fixture(scope="module")
def data() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=60)
    X = np.column_stack([np.ones(60), x])
    return {"X": X, "y": (rng.uniform(size=60) < 1 / (1 + np.exp(-1 - 2 * x))) * 1.0, "k": rng.poisson(np.exp(0.4 * x))}


NEW = np.column_stack([np.ones(5), [-3.0, -1.0, 0.0, 1.0, 3.0]])


@pytest.mark.parametrize(
    ("model", "family", "y", "mean", "support"),
    [
        (logit, sm.families.Binomial(), "y", jax.nn.sigmoid, (0, 1)),
        (counts, sm.families.Poisson(), "k", jnp.exp, (0, None)),
    ],
)
def test_intervals_are_those_of_statsmodels_glm(
    data: dict[str, np.ndarray], model: Any, family: Any, y: str, mean: Any, support: Any
) -> None:
    """Whose get_prediction makes them on the link scale."""
    theirs = sm.GLM(data[y], data["X"], family=family).fit(tol=1e-12).get_prediction(NEW).summary_frame(alpha=0.1)
    ours = model.fit(data).predict(lambda p, d: mean(d["X"] @ p["beta"]), {"X": NEW}, support=support, alpha=0.1)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_other_supports_have_their_closed_forms() -> None:
    """b - exp(log(b - f) -+ z se / (b - f)), a + (b - a) expit(...), a shifted logarithm; no ends are no change."""
    y = np.array([1.0, 2.0, 6.0, 3.0, 2.5])
    res, at = gaussian.fit({"y": y}), {"x": np.zeros(1)}
    f, se, z = y.mean(), y.std() / np.sqrt(5), stats.norm.ppf(0.975)
    mean = lambda params, data: params["mu"] + data["x"]
    limits = lambda support: res.predict(mean, at, support=support)[["conf_low", "conf_high"]].to_numpy()[0]
    step = z * se / (7 - f)
    np.testing.assert_allclose(limits((None, 7)), 7 - (7 - f) * np.exp([step, -step]), rtol=1e-9)
    step = z * se / (f + 1)
    np.testing.assert_allclose(limits((-1, None)), -1 + (f + 1) * np.exp([-step, step]), rtol=1e-9)
    p = (f - 1) / 6
    logit = np.log(p / (1 - p)) + np.array([-1, 1]) * z * se / (6 * p * (1 - p))
    np.testing.assert_allclose(limits((1, 7)), 1 + 6 / (1 + np.exp(-logit)), rtol=1e-9)
    np.testing.assert_allclose(limits((None, None)), [f - z * se, f + z * se], rtol=1e-9)


def test_student_t_of_few_clusters_reaches_predictions_and_margins() -> None:
    """cov_type="CR3" has t(G - 1): the reach of every interval is its quantile."""
    rng = np.random.default_rng(1)
    df = pd.DataFrame({"y": rng.normal(size=24), "x": rng.normal(size=24), "g": np.arange(24) % 4})
    res = gaussian.regress(mu="x").fit(df, cov_type="CR3", cov_kwds={"groups": "g"})
    t = stats.t.ppf(0.975, 3)
    for found in (
        res.predict(df.head(2)), res.predict(lambda p, d: p["mu"] * p["sigma"], df.head(2)), res.margins("x").frame(),
    ):  # fmt: skip
        np.testing.assert_allclose((found["conf_high"] - found["estimate"]) / found["std_error"], t, rtol=1e-9)


def test_what_cannot_be_answered_is_refused_in_words() -> None:
    res, at = gaussian.fit({"y": [1.0, 2.0, 6.0, 3.0]}), {"x": np.array([0.0, 1.0])}
    mean = lambda params, data: params["mu"] * data["x"]
    with pytest.raises(ValueError, match=r"support=\(0, 1\): value 1 of the function is 3, which is outside"):
        res.predict(mean, at, support=(0, 1))
    for wrong in ((1, 0), 3, (0, 1, 2), ("a", 1)):
        with pytest.raises(ValueError, match="expected two numbers or None, the first below the second"):
            res.predict(mean, at, support=wrong)
    note = res.predict(mean, at, support=(0, None)).loc[0]  # 0 for all values of mu
    assert "does not depend on the parameters" in note["note"] or "bound of its support" in note["note"]
    with pytest.raises(ValueError, match=r"reads no column.*use res.nlcom\(lambda p: ...\)"):
        res.predict(lambda p, d: p["mu"], {"y": [1.0]})
    with pytest.raises(TypeError, match="support= is for functions"):
        res.predict(at, support=(0, 1))
    with pytest.raises(ValueError, match=r"got 'mu'; .* write res.predict\(data, param='mu'\)"):
        res.predict("mu", at)


def test_a_last_layer_on_known_features_is_a_linear_model() -> None:
    """Estimates and errors of least squares on the features, with n in the variance; and of a layer inside of a list."""
    rng = np.random.default_rng(0)
    x, new = rng.uniform(-3, 3, 60), np.linspace(-3, 3, 5)
    y = np.sin(x) + 0.2 * rng.normal(size=60)
    weights, shifts = rng.normal(size=(1, 4)), rng.normal(size=4)

    def curve(params: Any, data: Any) -> Any:
        first, last = params["net"]
        return jnp.tanh(data["x"][:, None] @ first["w"] + first["b"]) @ last["w"] + last["b"]

    start = [{"w": weights, "b": shifts}, {"w": np.zeros(4), "b": np.zeros(())}]
    model = mle.model(
        lambda p, d: norm.logpdf(d["y"], curve(p, d), p["sigma"]), net=mle.Free(start=start), sigma=mle.Positive(start=1.0)
    )
    features = lambda v: np.column_stack([np.ones(v.size), np.tanh(v[:, None] @ weights + shifts)])
    X, Z = features(x), features(new)
    beta = np.linalg.lstsq(X, y)[0]
    spread = np.linalg.inv(X.T @ X) * ((y - X @ beta) ** 2).mean()
    res = model.fit({"x": x, "y": y}, fixed={"net.0": start[0]})
    band = res.predict(curve, {"x": new}, errors="last-layer")
    np.testing.assert_allclose(band["estimate"], Z @ beta, rtol=1e-8)
    np.testing.assert_allclose(band["std_error"], np.sqrt(np.einsum("ij,jk,ik->i", Z, spread, Z)), rtol=1e-8)
    again = res.predict(curve, {"x": new}, errors="last-layer", layer=["net.1.w", "net.1.b"])
    np.testing.assert_array_equal(again["std_error"], band["std_error"])
    with pytest.raises(ValueError, match="layer= and damping= need errors='last-layer'"):
        res.predict(curve, {"x": new}, layer="net.1")
