"""One Newton step of parameters and effects together is exact where the log-likelihood is quadratic; of streams as in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

import mlejax as mle
from mlejax.data import DataError
from mlejax.execution import Limits, use_limits
from tests.objective.elimination.test_effects import FIRMS, FRAME, PAIRS, POISSON, two_ways
from tests.objective.elimination.test_effects_of_streams import batches

NORMAL = PAIRS["normal"][0]
X = FRAME[["x1", "x2"]].to_numpy()
D = (FRAME["firm"].to_numpy()[:, None] == FIRMS).astype(float)
ONE_STEP: dict[str, Any] = {"approximate": "one-step"}


@pytest.fixture(autouse=True)
def _small_scale() -> Iterator[None]:
    with use_limits(Limits(chunk_rows=64, block_rows=32)):
        yield


def without_each(column: str) -> list[np.ndarray]:
    """Weights of the rows without each label, in the order of first appearance."""
    return [(FRAME[column] != label).to_numpy(float) for label in pd.unique(FRAME[column])]


@pytest.mark.parametrize("groups", [None, "year"])
def test_least_squares_without_each_group(groups: str | None) -> None:
    """With a known variance the log-likelihood is quadratic, and statsmodels' least squares with dummies is the step."""
    res = NORMAL.fit(FRAME, fixed={"sigma": 1.0})
    found = res.jackknife(groups, **ONE_STEP)
    want = []
    for w in without_each(groups or "firm"):
        kept = w > 0
        design = np.column_stack([X, D])[kept]
        want.append(sm.OLS(FRAME["y"][kept], design[:, design.any(axis=0)]).fit().params[:2])
    np.testing.assert_allclose(found.replicates.iloc[:, :2], want, rtol=1e-8)
    np.testing.assert_allclose(found.bse[:2], res.jackknife(groups).bse[:2], rtol=1e-7)
    assert found.left_out == ("levels of firm" if groups is None else "clusters")


def poisson_step(res: Any, weights: np.ndarray) -> np.ndarray:
    """Fisher scoring with dummies; levels without rows have no part in it."""
    design = np.column_stack([X, D])
    mean = np.exp(X @ res.params.to_numpy() + D @ res.effects()["estimate"].loc[FIRMS].to_numpy())
    information = (design * (weights * mean)[:, None]).T @ design
    return np.linalg.pinv(information, rcond=1e-12) @ (design.T @ (weights * (FRAME["y"].to_numpy() - mean)))


@pytest.mark.parametrize("groups", [None, "year"])
def test_a_step_of_parameters_and_dummies_together(groups: str | None) -> None:
    res = POISSON.fit(FRAME)
    found = res.jackknife(groups, **ONE_STEP)
    want = [res.params.to_numpy() + poisson_step(res, w)[:2] for w in without_each(groups or "firm")]
    np.testing.assert_allclose(found.replicates, want, rtol=1e-9)


@pytest.mark.parametrize("kind", [None, "frequency", "sampling", "importance"])
def test_streams_as_in_memory(kind: Any) -> None:
    """In the order of levels, and of first appearance of clusters; a level and a cluster have no row of positive weight."""
    w = np.arange(len(FRAME)) % 4
    w[(FRAME["firm"] == FIRMS[2]) | (FRAME["year"] == FRAME["year"].max())] = 0
    options: dict[str, Any] = {} if kind is None else {"weights": "w", "weight_kind": kind}
    streamed, memory = (POISSON.fit(data, **options) for data in (batches(FRAME.assign(w=w)), FRAME.assign(w=w)))
    for ask in (
        lambda r: r.jackknife(**ONE_STEP),
        lambda r: r.jackknife("year", **ONE_STEP),
        lambda r: r.jackknife("firm", **ONE_STEP),
        lambda r: r.bootstrap(70, seed=2, **ONE_STEP),
        lambda r: r.bootstrap(70, "bayesian", **ONE_STEP),
        lambda r: r.bootstrap(70, "cluster", groups="year", **ONE_STEP),
    ):
        mine, theirs = ask(streamed), ask(memory)
        np.testing.assert_allclose(mine.replicates, theirs.replicates, rtol=1e-9)
        assert mine.failed == theirs.failed
        assert str(mine).splitlines()[:2] == str(theirs).splitlines()[:2]


def test_steps_are_near_refits() -> None:
    """The bootstrap of levels: standard errors of one step and of refits, and of the cluster sandwich."""
    res = POISSON.fit(FRAME)
    short, exact = res.bootstrap(200, seed=1, **ONE_STEP), res.bootstrap(200, seed=1)
    np.testing.assert_allclose(short.bse, exact.bse, rtol=0.05)
    assert np.corrcoef(short.replicates["beta[x1]"], exact.replicates["beta[x1]"])[0, 1] > 0.99
    interval = short.conf_int("bca", alpha=0.2)
    assert (interval["lower"] < res.params).all()
    assert (interval["upper"] > res.params).all()


def test_a_resample_without_a_maximum_is_counted() -> None:
    """A covariate that only one year has: without that year nothing is known of it."""
    frame = FRAME.assign(x2=np.where(FRAME["year"] == FRAME["year"].iloc[0], FRAME["x2"], 0.0))
    with pytest.warns(mle.ConvergenceWarning, match="failed"):
        found = POISSON.fit(frame).jackknife("year", **ONE_STEP)
    assert found.failed == {"the weighted information is not positive definite": 1}


def test_what_is_refused_is_named() -> None:
    with pytest.raises(ValueError, match=r"effects of mle\.Real\(by=\.\.\.\) of several columns"):
        two_ways.fit(FRAME).jackknife("year", **ONE_STEP)
    res = POISSON.fit(batches(FRAME))
    with pytest.raises(DataError, match="approximate='one-step' is needed for a stream"):
        res.bootstrap(10)
    with pytest.raises(DataError, match="expected the name of a column of it, got labels"):
        res.jackknife(FRAME["year"].to_numpy(), **ONE_STEP)
    with pytest.raises(DataError, match="at least two clusters"):
        POISSON.fit(mle.Stream(lambda: [FRAME.assign(one=1)])).jackknife("one", **ONE_STEP)
