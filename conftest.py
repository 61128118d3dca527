"""Guards that hold for the tests and for the docstring examples alike."""

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

# Most of the time of the tests goes into compiling programs that run once, on little data. Without LLVM's optimisations, without
# XLA's newest generator of fused kernels (which the library's own programs leave out too) and without splitting every program
# into 32 modules for threads that two workers have no cores for, a Newton program takes 0.25 CPU seconds to compile instead of
# 0.6 (the library's options) or 1.8 (XLA's). Results differ by rounding only, and tolerances have to hold for both:
# MLEJAX_TEST_OPTIMISE=1 compiles as users do, and `make test-slow` sets it. Where there is a GPU, XLA keeps its own options.
# An XLA that does not know one of these ends at once with "Unknown flag in XLA_FLAGS": the emitters are gone from JAX 0.11 on.
_LITTLE_EFFORT = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
if jax.__version_info__ < (0, 11):
    _LITTLE_EFFORT += " --xla_cpu_use_fusion_emitters=false"
if not os.environ.get("MLEJAX_TEST_OPTIMISE") and not Path("/dev/nvidiactl").exists():
    os.environ["XLA_FLAGS"] = f"{_LITTLE_EFFORT} {os.environ.get('XLA_FLAGS', '').replace(_LITTLE_EFFORT, '')}".strip()

# Compiled programs are kept from one run of the tests to the next, and shared between workers: most of the time goes into
# compiling. MLEJAX_TEST_CACHE= (empty) switches it off.
_CACHE = os.environ.get("MLEJAX_TEST_CACHE", str(Path(__file__).parent / ".cache" / "compiled"))
if _CACHE:
    jax.config.update("jax_compilation_cache_dir", _CACHE)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


_MEASURED_SLOW = frozenset((Path(__file__).parent / "tests" / "slow.txt").read_text().splitlines())

# The rooms whose annotated shapes are checked where that is asked for; before anything imports them. Left out is what takes the
# user's arguments before they are checked, or stands in for data that lie elsewhere.
if os.environ.get("MLEJAX_CHECK_SHAPES"):
    from jaxtyping import install_import_hook

    import tests.shape_checks  # jaxtyping looks it up by name, and imports the package only

    assert tests.shape_checks.checked

    rooms = ["linalg", "optimize", "objective", "batch", "inference", "verdict"]
    rooms += [f"covariance.{name}" for name in ("factored", "sandwich", "survey")]
    rooms += [f"fit.{name}" for name in ("diagnose", "start", "maximise", "finish", "latents")]
    rooms += [f"fit.{name}" for name in ("recipe", "search", "first_start", "prepare.constraints")]
    install_import_hook([f"mlejax.{room}" for room in rooms], "tests.shape_checks.checked")


@pytest.fixture(autouse=True)
def _global_precision_is_left_alone() -> Iterator[None]:
    """Nothing may flip JAX's global float64 flag: float64 work happens inside `with jax.enable_x64(True):`."""
    before = jax.config.jax_enable_x64
    yield
    after = jax.config.jax_enable_x64
    if after != before:
        jax.config.update("jax_enable_x64", before)  # the tests after this one shall not fail for its sake
        pytest.fail(f"jax_enable_x64 was {before} before this test and is {after} after it")


@pytest.fixture(autouse=True)
def _figures_are_closed() -> Iterator[None]:
    """pyplot keeps figures, and warns of more than twenty."""
    yield
    if (plt := sys.modules.get("matplotlib.pyplot")) is not None:
        plt.close("all")


@pytest.fixture(autouse=True, scope="module")
def _programs_of_finished_modules_are_forgotten() -> Iterator[None]:
    """A process may map 65,530 pieces of memory (Linux), and every compiled program takes a few: past that, LLVM dies."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()
        gc.collect()


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark as slow what took long when it was measured (`tests/choose_slow.py`)."""
    if item.nodeid in _MEASURED_SLOW:
        item.add_marker(pytest.mark.slow)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none; JAX's backends are only looked up if some test needs one."""
    needing = [item for item in items if item.get_closest_marker("gpu")]
    if needing and not any(device.platform == "gpu" for device in jax.devices()):
        for item in needing:
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))
