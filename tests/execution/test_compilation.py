"""The library's way of compiling, and the cache of compiled programs on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from mlejax.execution import compilation, n_cores, on_cpu

ROOT = Path(__file__).parents[2]

CHILD = """
import json, os, sys, warnings
import jax
before = (jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs)
import mlejax as mle
after = (jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs)
assert before == after, "importing mlejax changes no configuration"
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
where = mle.enable_compilation_cache(*sys.argv[1:])
assert mle.enable_compilation_cache(*sys.argv[1:]) == mle.enable_compilation_cache() == where

@mle.model(rate=mle.Positive())
def model(params, data):
    return jax.numpy.log(params["rate"]) - params["rate"] * data["t"]

res = model.fit({"t": [1.0, 2.0, 6.0]}, start={"rate": 1.0})
assert abs(res.params["rate"] - 1 / 3) < 1e-9
try:
    mle.enable_compilation_cache(where + "-elsewhere")
    refused = False
except ValueError:
    refused = True
print(json.dumps({
    "where": where, "refused": refused, "stored": sum(len(files) for *_, files in os.walk(where)),
    "hits": hits.count("/jax/compilation_cache/cache_hits"),
}))
"""


def child(*arguments: str, **environment: str) -> dict[str, object]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XDG_CACHE"))}
    found = {**kept, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run([sys.executable, "-c", CHILD, *arguments], env=found, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_cache_stores_the_programs_of_a_fit_and_serves_them(tmp_path: Path) -> None:
    first = child(str(tmp_path / "programs"))
    assert first["where"] == str(tmp_path / "programs")
    assert first["stored"] >= 1
    assert first["hits"] == 0
    assert first["refused"]
    again = child(str(tmp_path / "programs"))
    assert again["hits"] >= 1, "the second process compiles nothing of what the first one did"
    assert again["stored"] == first["stored"]


@pytest.mark.slow
def test_the_cache_goes_where_the_user_or_the_system_says(tmp_path: Path) -> None:
    assert child(JAX_COMPILATION_CACHE_DIR=str(tmp_path / "own"))["where"] == str(tmp_path / "own")
    assert child(XDG_CACHE_HOME=str(tmp_path / "home"))["where"] == str(tmp_path / "home" / "mlejax")


def test_an_xla_without_the_choice_compiles_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"xla_no_such_option": False, "xla_cpu_scheduler_type": "NO_SUCH", "xla_backend_optimization_level": 1}
    monkeypatch.setitem(compilation._OPTIONS, "quick", options)
    monkeypatch.setattr(compilation, "_UNKNOWN", set())
    program = compilation.compiled(lambda x, times: x * times, static=("times",))
    assert float(program(jnp.ones(()), times=3)) == 3.0
    assert float(program(jnp.ones(()), times=4)) == 4.0


def test_threads_that_find_out_together_lose_no_choice_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, object]] = []
    plain = jax.jit
    monkeypatch.setattr(jax, "jit", lambda f, **how: (seen.append(how), plain(f, **how))[1])
    monkeypatch.setitem(
        compilation._OPTIONS, "quick", {"xla_no_such_option": False, "xla_backend_optimization_level": 1}
    )
    monkeypatch.setattr(compilation, "_UNKNOWN", set())
    program = compilation.compiled(lambda x: 3.0 * x)
    with ThreadPoolExecutor(4) as pool:
        assert [float(a) for a in pool.map(program, [jnp.ones(())] * 8)] == [3.0] * 8
    tried = [how["compiler_options"] for how in seen if "compiler_options" in how]
    assert tried[-1] == {"xla_backend_optimization_level": 1}
    assert len(tried) == 2, "one thread takes the option out for all"


@pytest.mark.skipif(not on_cpu(), reason="a matter of the host's cores")
def test_side_by_side_one_program_stays_on_one_core() -> None:
    """XLA writes into how many parts it cuts a loop for its pool; there must be none where every core has its own call."""
    busy = lambda x: jnp.exp(jnp.sin(x) + jnp.log(x * x + 1.0) ** 3)
    own = {
        name: value for name, value in compilation._OPTIONS["side by side"].items() if name not in compilation._QUICK
    }
    texts = {
        how: jax.jit(busy, compiler_options=options).lower(jnp.ones(1 << 20)).compile().as_text()
        for how, options in {"side by side": own, **({"careful": {}} if n_cores() > 1 else {})}.items()
    }
    assert 'partitions":["' not in texts["side by side"]
    assert 'partitions":["' in texts.get("careful", 'partitions":["'), "else this test can no longer fail"


def test_inside_a_trace_it_is_an_ordinary_function() -> None:
    program = compilation.compiled(lambda x: 2.0 * x)
    assert float(jax.jit(lambda x: program(x) + 1.0)(jnp.ones(()))) == 3.0


def test_other_errors_are_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        compilation.compiled(lambda x: x / (1 // 0))(jnp.ones(()))
    with jax.enable_x64(True):
        assert compilation.compiled(lambda x: x + 1, how="careful")(jnp.ones(())).dtype == jnp.float64


FORKS = """
import os, sys, warnings
import jax
from mlejax.execution import compiled
warnings.simplefilter("ignore")  # of JAX, that forks may wait for ever
double = compiled(lambda x: 2.0 * x)

def in_a_fork(*run):
    child = os.fork()
    if child:
        return os.waitpid(child, 0)
    for function in run:
        try:
            print(function())
        except RuntimeError as error:
            print(error)
    sys.stdout.flush()
    os._exit(0)

in_a_fork(lambda: double(1.0))
%s
in_a_fork(lambda: double(1.0))
print(double(3.0))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
@pytest.mark.parametrize("use", ["double(1.0)", "jax.numpy.ones(3)"])
def test_a_fork_says_at_once_that_it_cannot_compute(use: str) -> None:
    """One of a process in which JAX has run; JAX itself waits for ever there."""
    run = subprocess.run(
        [sys.executable, "-c", FORKS % use], capture_output=True, text=True, check=False, timeout=120,
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    before, after, here = run.stdout.splitlines()
    assert before == "2.0", run.stderr
    assert after.startswith("this process is a fork of one in which JAX has run")
    assert here == "6.0"
