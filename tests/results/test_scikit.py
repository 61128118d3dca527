"""A regressed model as scikit-learn's estimator: its own checks, and the numbers of its linear and Poisson regressions."""

from __future__ import annotations

import pickle
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm, poisson

import mlejax as mle

linear_model = pytest.importorskip("sklearn.linear_model")
from sklearn.model_selection import cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import check_estimator  # noqa: E402


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def gaussian(p: Any, d: Any) -> Any:
    return norm.logpdf(d["height"], p["mu"], p["sigma"])


@mle.model(rate=mle.Positive())
def counts(p: Any, d: Any) -> Any:
    return poisson.logpmf(d["y"], p["rate"])


def data(n: int = 60) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(n, 2)), columns=["age", "size"])
    return X, 1.0 + X["age"].to_numpy() - 0.5 * X["size"].to_numpy() + 0.3 * rng.normal(size=n)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_own_checks() -> None:
    check_estimator(mle.sklearn(gaussian, X="mu", y="height"))


def test_predictions_are_those_of_least_squares() -> None:
    X, y = data()
    ours = mle.sklearn(gaussian, X="mu", y="height").fit(X, y)
    want = linear_model.LinearRegression().fit(X, y)
    np.testing.assert_allclose(ours.predict(X), want.predict(X), rtol=1e-8)
    assert list(ours.result_.params.index[:3]) == ["mu[Intercept]", "mu[age]", "mu[size]"]
    np.testing.assert_allclose(pickle.loads(pickle.dumps(ours)).predict(X), ours.predict(X))
    folds = cross_val_score(make_pipeline(StandardScaler(), ours), X, y, cv=3)
    np.testing.assert_allclose(folds, cross_val_score(want, X, y, cv=3), rtol=1e-7)


def test_counts_are_those_of_a_poisson_regression() -> None:
    X, y = data()
    drawn = np.random.default_rng(1).poisson(np.exp(0.3 * y))
    ours = mle.sklearn(counts, X="rate", y="y").fit(X, drawn)
    want = linear_model.PoissonRegressor(alpha=0.0, tol=1e-12, max_iter=1000).fit(X, drawn)
    np.testing.assert_allclose(ours.predict(X), want.predict(X), rtol=1e-5)
    assert jnp.isfinite(ours.score(X, drawn))


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(TypeError, match=r"mle\.sklearn expected a model"):
        mle.sklearn("gaussian", X="mu", y="height")  # type: ignore[arg-type]
