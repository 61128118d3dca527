"""Models that are gone take their programs with them: memory stays level while models are defined, fitted and dropped.

What a model may leave behind was set beforehand: 0.2 MB, what plain JAX leaves for a function with its derivatives.  Caches that
fill up grow in leaps, so the median over groups of models counts.
"""

from __future__ import annotations

import gc
import os
from typing import Any

import numpy as np
import pytest
from jax.scipy.stats import norm

import mlejax as mle

MOST = 0.2  # MB per model
FIRST, GROUPS, EACH = 20, 8, 10
Y = np.random.default_rng(0).normal(1.0, 2.0, 300)


def resident() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def define_use_and_drop(i: int) -> None:
    """Of each: the function, the penalty and the function of nlcom are new ones."""

    def function(p: Any, d: Any, i: int = i) -> Any:
        return norm.logpdf(d["y"], p["mu"], p["sigma"])

    def ridge(p: Any, strength: Any, i: int = i) -> Any:
        return strength * p["mu"] ** 2

    model = mle.model(mu=mle.Real(), sigma=mle.Positive())(function)
    res = model.fit({"y": Y})
    assert "mu" in str(res.summary())
    res.nlcom(lambda p, i=i: p["mu"] / p["sigma"])
    model.fit({"y": Y}, penalty=ridge, hyper=0.1)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads Linux's own count of resident memory")
def test_models_that_are_gone_leave_nothing() -> None:
    levels = []
    for i in range(FIRST + GROUPS * EACH):
        if i >= FIRST and (i - FIRST) % EACH == 0:
            gc.collect()
            levels.append(resident())
        define_use_and_drop(i)
    gc.collect()
    levels.append(resident())
    grown = np.diff(levels) / EACH
    assert np.median(grown) < MOST, f"MB of each model: {grown.round(2)}"
