"""What every result of the inference has in common: it is frozen, prints as text, and has its numbers as a table."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm

import mlejax as mle
from mlejax import inference

NO_RESULTS = {"Check", "Entries", "FitFacts", "Intervals", "LogDensity"}  # arguments of functions; a function itself
RESULTS = [
    found
    for name, found in inspect.getmembers(inference, inspect.isclass)
    if dataclasses.is_dataclass(found) and name not in NO_RESULTS
]


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def gaussian(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["mu"], params["sigma"])


@pytest.mark.parametrize("kind", RESULTS, ids=lambda kind: kind.__name__)
def test_every_result_is_frozen_and_has_a_table(kind: Any) -> None:
    assert kind.__dataclass_params__.frozen
    assert callable(kind.frame)
    assert "__repr__" in vars(kind) or any("__repr__" in vars(base) for base in kind.__mro__[1:-1])
    names = {*dir(kind), *(f.name for f in dataclasses.fields(kind))}
    assert not names & {"std_err", "std_error", "estimates", "standard_errors"}  # they are called params and bse


def test_tables_of_refits() -> None:
    """The covariance of a mean by the jackknife is s^2 / n; frames hold the printed numbers."""
    y = np.array([1.0, 2.0, 6.0, 3.0, 2.5])
    res = gaussian.fit({"y": y})
    jack, boot = res.jackknife(), res.bootstrap(50)
    assert jack.cov_params().loc["mu", "mu"] == pytest.approx(y.var(ddof=1) / y.size, rel=1e-6)
    for one in (jack, boot):
        frame = one.frame()
        assert list(frame.columns) == ["estimate", "bias", "std_error", "conf_low", "conf_high"]
        pd.testing.assert_series_equal(frame["std_error"] ** 2, pd.Series(np.diag(one.cov_params()), one.labels), rtol=1e-9,
                                       check_names=False)  # fmt: skip
    pd.testing.assert_frame_equal(
        boot.frame()[["conf_low", "conf_high"]], boot.conf_int().set_axis(["conf_low", "conf_high"], axis=1), check_names=False
    )
