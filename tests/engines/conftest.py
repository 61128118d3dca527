"""One start of each engine for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mlejax.execution import Limits, use_limits
from tests.engines.local_modes import dask, ray_local, spark


@pytest.fixture(scope="session", params=["dask", "ray", "spark"])
def on(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Each engine in its local mode; all tests that ask for it share it."""
    with {"dask": dask, "ray": ray_local, "spark": spark}[request.param]() as engine:
        yield engine


@pytest.fixture(autouse=True)
def _small_scale() -> Iterator[None]:
    with use_limits(Limits(chunk_rows=512, block_rows=256, grouped_rows=700)):
        yield
