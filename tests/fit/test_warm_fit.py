"""What a second fit of the same model costs on little data, counted, not timed: dispatches, compilations, calls of Python;
and what is put off until it is asked for gives what it would have given at once."""

from __future__ import annotations

import gc
import pickle
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jax.scipy.stats import norm

import mlejax as mle
from mlejax.data import Layout, ingest
from mlejax.data.packing.layout import Entry, Slot
from mlejax.inference import standard_errors
from mlejax.special import softplus
from tests.test_compilations import compilations

PACKAGE = Path(mle.__file__).parent


@mle.model(beta=mle.Real(columns="X"))
def logit(params: Any, data: Any) -> Any:
    eta = data["X"] @ params["beta"]
    return data["y"] * eta - softplus(eta)


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def gaussian(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["mu"], params["sigma"])


def logit_data(seed: int, n: int = 1000, p: int = 4) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = np.column_stack([np.ones(n), rng.normal(size=(n, p - 1))])
    return {"X": X, "y": (rng.random(n) < 1.0 / (1.0 + np.exp(-X @ np.full(p, 0.3)))).astype(float)}


def calls_of(action: Callable[[], Any]) -> Counter[tuple[str, str]]:
    """How often each function of the package is called, by its file and its name, and NumPy's `eigh`. Other calls inside JAX,
    NumPy and pandas are left out: their number depends on their versions."""
    seen: Counter[tuple[str, str]] = Counter()

    def look(frame: Any, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and (code.co_name == "eigh" or Path(code.co_filename).is_relative_to(PACKAGE)):
            seen[Path(code.co_filename).name, code.co_qualname] += 1

    gc.collect()
    gc.disable()
    sys.setprofile(look)
    try:
        action()
    finally:
        sys.setprofile(None)
        gc.enable()
    return seen


def test_a_warm_fit_is_a_few_dispatches_and_little_python() -> None:
    logit.fit(logit_data(0)).bse.sum()
    data = logit_data(1)
    with compilations() as compiled:
        calls = calls_of(lambda: logit.fit(data).bse)
    assert compiled == [0]
    res = logit.fit(data)
    # the start and one evaluation for each step; what else is computed (the start in u, the estimates) runs in NumPy
    assert calls["compilation.py", "_Program.__call__"] == res.n_steps + 1 <= 6
    assert calls["_linalg.py", "eigh"] <= 4  # 4 by 4: the start, the clean test, the evidence, the covariance
    # 1,218 where this was written, a third of them in the optimiser's steps; the fit takes 2.75 ms
    assert sum(calls.values()) < 1_235, calls.most_common(30)


def test_the_fingerprint_is_of_the_data_that_were_fitted() -> None:
    data = logit_data(2)
    kept = {name: values.copy() for name, values in data.items()}
    res, same = logit.fit(data), logit.fit(kept)
    data["X"] *= 3.0
    data["y"][:] = 1.0
    assert res._fit.loaded.fingerprint == same._fit.loaded.fingerprint
    assert res._fit.loaded.fingerprint.columns["y"] == (kept["y"].sum(), kept["y"].sum())
    other = logit.fit(logit_data(3))
    assert res._fit.loaded.fingerprint != other._fit.loaded.fingerprint
    again = pickle.loads(pickle.dumps(res))
    assert again._fit.loaded.fingerprint == same._fit.loaded.fingerprint


def test_an_index_of_one_table_is_not_that_of_another() -> None:
    res = logit.fit(logit_data(4))
    mine = res.params
    mine.index.name = "mine"
    mine.iloc[0] = 99.0
    for table in (res.params, res.bse, logit.fit(logit_data(5)).params):
        assert table.index.name is None
        assert list(table.index) == ["beta[0]", "beta[1]", "beta[2]", "beta[3]"]
    assert res.params.iloc[0] != 99.0
    tree = res.params_tree["beta"]
    before = res.params.copy()
    tree[:] = 7.0
    assert res.information.notna().all().all()
    np.testing.assert_array_equal(res.params, before)


@pytest.mark.parametrize(
    "declared", [{"a": mle.Real(), "s": mle.Positive()}, {"w": mle.Simplex(3)}, {"a": mle.Real(shape=3)}], ids=str
)
def test_errors_of_entries_that_are_theta_need_no_matrix(declared: Any) -> None:
    space = mle.model(params=declared)(lambda params, data: data["y"]).likelihood.space(ingest({"y": [1.0, 2.0]}))
    own = space.reported_as_theta
    if "w" in declared:  # the last probability follows from the others
        assert own is None
        return
    p = space.n_free
    cov = np.cov(np.random.default_rng(0).normal(size=(p, 10)))
    cov[-1, :] = cov[:, -1] = np.nan
    assert own is not None
    np.testing.assert_allclose(np.sqrt(cov.diagonal()[own]), standard_errors(space.reported_matrix, cov))
    held = space.fix([space.theta_labels[0]])
    assert held.reported_as_theta is None


def test_equal_layouts_are_one_and_their_hash_is_not_pickled() -> None:
    entries = (Entry("x", None, (Slot("row", 0),)),)
    layout = Layout.of("mapping", entries)
    assert Layout.of("mapping", tuple(entries)) is layout
    space = gaussian.fit({"y": [1.0, 2.0, 4.0]})._fit.spec.space
    for made in (layout, space):
        right = hash(made)
        made.__dict__["_hash"] = right + 1  # as text hashes in another process
        try:
            assert hash(pickle.loads(pickle.dumps(made))) == right
        finally:
            made.__dict__["_hash"] = right
