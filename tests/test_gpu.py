"""What is chosen otherwise on a GPU: on CPU with the same code, and on a GPU where there is one."""

from __future__ import annotations

import importlib
from typing import Any

import jax
import numpy as np
import pytest

import mlejax as mle

ROOMS = ("fit.evaluating", "fit.loading", "batch.cutting", "batch.engine", "batch.sets", "batch.flagged", "batch.describing")


@mle.model(beta=mle.Real(columns="X"))
def logit(params: Any, data: Any) -> Any:
    return mle.special.log_sigmoid(data["s"] * (data["X"] @ params["beta"]))


def draws(*lead: int, p: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((*lead, p))
    return {"X": X, "s": np.where(rng.random(lead) < 1 / (1 + np.exp(-0.5 * X.sum(axis=-1))), 1.0, -1.0)}


@pytest.fixture
def as_on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for room in ROOMS:
        monkeypatch.setattr(importlib.import_module(f"mlejax.{room}"), "on_cpu", lambda: False)


def both_ways(monkeypatch: pytest.MonkeyPatch, fit: Any) -> tuple[Any, Any]:
    plain = fit()
    for room in ROOMS:
        monkeypatch.setattr(importlib.import_module(f"mlejax.{room}"), "on_cpu", lambda: False)
    return plain, fit()


@pytest.mark.parametrize("n", [500, 200_000])
def test_one_data_set(monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    data = draws(n)
    plain, res = both_ways(monkeypatch, lambda: logit.fit(data))
    assert res.verdict.code == "verified"
    np.testing.assert_allclose(res.params, plain.params, rtol=0, atol=1e-7 * plain.bse.min())
    np.testing.assert_allclose(res.bse, plain.bse, rtol=1e-7)
    if n == 200_000:
        assert res._fit.loaded.problem.data.block > plain._fit.loaded.problem.data.block


@pytest.mark.filterwarnings("ignore::mlejax.ConvergenceWarning")
def test_many_data_sets_some_of_them_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    data = draws(70, 60)
    data["s"][5] = np.sign(data["X"][5, :, 1])
    data["X"][9, 3, 0] = np.nan
    plain, res = both_ways(monkeypatch, lambda: logit.fit_batch(data, progress=False, missing="raise"))
    assert list(res.verdict) == list(plain.verdict)
    assert set(res.verdict[[5, 9]]) == {"no_finite_maximum", "not_computable"}
    fine = res.converged.to_numpy()
    np.testing.assert_allclose(res.params[fine], plain.params[fine], rtol=0, atol=1e-7)
    np.testing.assert_allclose(res.bse[fine], plain.bse[fine], rtol=1e-6)


def test_groups_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = np.random.default_rng(3).integers(20, 900, 40)
    data = draws(int(sizes.sum()))
    by = np.repeat(np.arange(40), sizes)
    plain, res = both_ways(monkeypatch, lambda: logit.fit_groups(data, by=by, progress=False))
    np.testing.assert_allclose(res.params, plain.params, rtol=0, atol=1e-7)
    np.testing.assert_allclose(res.bse, plain.bse, rtol=1e-6)


@pytest.mark.usefixtures("as_on_gpu")
def test_few_data_sets_are_not_padded_to_many() -> None:
    from mlejax.batch import cutting

    cut = cutting.Limits(memory=1 << 32, workers=1)

    class Sets:
        sizes, own_rows, lengths, in_place = np.full(20_000, 200), True, None, False

        def lane_bytes(self, size: int) -> int:
            return 8 * 5 * size

    shapes = {m: {c[1:] for c in cutting.chunks(Sets(), np.arange(m), 4, cut)} for m in (1, 5, 60, 64, 65, 5_000, 20_000)}  # type: ignore[arg-type]
    assert [max(width for width, _ in found) for found in shapes.values()] == [4, 16, 64, 64, 256, 16_384, 16_384]
    assert len({shape for found in shapes.values() for shape in found}) <= 6


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    """The numbers of the host, to rounding; results are NumPy's whatever the device."""
    data = draws(2_000, 100)
    res = logit.fit_batch(data, progress=False)
    assert isinstance(res.params.to_numpy(), np.ndarray)
    with jax.default_device(jax.devices("cpu")[0]):
        alone = logit.fit({name: column[7] for name, column in data.items()})
    np.testing.assert_allclose(res.params.to_numpy()[7], alone.params, rtol=0, atol=1e-7 * alone.bse.min())
    np.testing.assert_allclose(res.bse.to_numpy()[7], alone.bse, rtol=1e-6)
    assert res.converged.all()
    assert "gpu" in str(res[7].summary()).lower() or "cuda" in str(res[7].summary()).lower()
