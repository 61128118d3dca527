"""HC2, HC3 and HC4 beside effects by index are those of a regression on dummies, in memory and in passes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm

from mlejax.execution import Limits, use_limits
from tests.objective.elimination.test_effects import (
    DUMMIES,
    FIRMS,
    FRAME,
    PAIRS,
    POISSON,
    POISSON_DUMMIES,
    with_constant,
)
from tests.objective.elimination.test_effects_of_streams import batches

D = (FRAME["firm"].to_numpy()[:, None] == FIRMS).astype(float)
KINDS = ("HC2", "HC3", "HC4")


@pytest.fixture(autouse=True)
def _small_scale() -> Iterator[None]:
    with use_limits(Limits(chunk_rows=64, block_rows=32)):
        yield


@pytest.mark.parametrize("kind", ["HC2", "HC3"])
def test_least_squares_of_statsmodels(kind: str) -> None:
    """Its hat values are those of the design with all dummies; with a known variance they are the leverages here."""
    want = sm.OLS(FRAME["y"], np.column_stack([FRAME[["x1", "x2"]], D])).fit(cov_type=kind).cov_params()
    for data in (FRAME, batches(FRAME)):
        res = PAIRS["normal"][0].fit(data, fixed={"sigma": 1.0}, cov_type=kind)
        np.testing.assert_allclose(res.cov_params().iloc[:2, :2], want.iloc[:2, :2], rtol=1e-8)


def same_as_dummies(model: Any, dense: Any, frame: Any, **options: Any) -> None:
    streamed, memory = model.fit(batches(frame), **options), model.fit(frame, **options)
    names = list(memory.params.index)
    dummies = dense.fit({**DUMMIES, **frame.to_dict("list")}, **options)
    for kind in KINDS:
        want = dummies.with_cov(kind).cov_params().loc[names, names]
        np.testing.assert_allclose(memory.with_cov(kind).cov_params(), want, rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(streamed.with_cov(kind).cov_params(), memory.with_cov(kind).cov_params(), rtol=1e-10)
        assert streamed.with_cov(kind).cov_type == kind


@pytest.mark.parametrize("name", ["poisson", "logit", "normal"])
def test_dense_dummies(name: str) -> None:
    """Also where parameters are on a log scale and rows have information of rank two."""
    same_as_dummies(*PAIRS[name], FRAME)


@pytest.mark.parametrize("kind", ["sampling", "importance"])
def test_weights(kind: str) -> None:
    same_as_dummies(POISSON, POISSON_DUMMIES, FRAME.assign(w=1 + np.arange(400) % 4), weights="w", weight_kind=kind)


def test_a_level_that_is_fixed() -> None:
    """The intercept is the effect of one level: errors of slopes are those without an intercept."""
    for data in (FRAME, batches(FRAME)):
        one, other = (model.fit(data, cov_type="HC3").bse[["beta[x1]", "beta[x2]"]] for model in (with_constant, POISSON))
        np.testing.assert_allclose(one, other, rtol=1e-7)


def test_a_level_of_one_row_has_a_leverage_of_one() -> None:
    """Its residual is 0: HC2 leaves it out, HC3 is refused, as with dummies."""
    frame = FRAME.assign(firm=np.where(np.arange(400) == 7, "alone", FRAME["firm"]), y=FRAME["y"] + 1)
    kept = frame[frame["firm"] != "alone"]  # the row has no residual, and its part is 0
    dummies = (kept["firm"].to_numpy()[:, None] == np.unique(kept["firm"])).astype(float)
    want = sm.OLS(kept["y"], np.column_stack([kept[["x1", "x2"]], dummies]))
    expected = want.fit(cov_type="HC2").bse[:2]
    for data in (frame, batches(frame)):
        res = PAIRS["normal"][0].fit(data, fixed={"sigma": 1.0})
        np.testing.assert_allclose(res.with_cov("HC2").bse[:2], expected, rtol=1e-7)
        with pytest.raises(ValueError, match="cov_type='HC3': 1 rows determine a parameter alone"):
            res.with_cov("HC3")


def test_frequency_weights_are_refused() -> None:
    res = POISSON.fit(FRAME.assign(w=2), weights="w", weight_kind="frequency")
    with pytest.raises(ValueError, match="does not support frequency weights"):
        res.with_cov("HC3")
