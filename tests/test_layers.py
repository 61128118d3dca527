"""The order of the rooms: each imports only rooms above it, nothing private of JAX, and nothing heavy at import."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mlejax"

# fmt: off
ROOMS = (
    "misuse", "notebook", "shapes", "status", "execution", "portable", "linalg", "transforms", "special",
    "parameters",
    "data", "likelihood", "companions", "optimize", "objective", "latent", "covariance",
    "verdict", "fit", "batch", "engines", "plot", "inference", "report", "files", "results", "model", "scikit",
)
# fmt: on
RANK = {room: rank for rank, room in enumerate(ROOMS)}
# Not rooms: the package's own front page may import all of them, and none of them may import it.
OUTSIDE = {"__init__", "__main__"}
HEAVY = (
    *("pandas", "optax", "chex", "cloudpickle", "formulaic", "matplotlib"),
    *("scipy", "tqdm", "pyarrow", "narwhals", "sklearn", "statsmodels", "jaxtyping"),
)
PRIVATE = "_src"  # what JAX keeps to itself, and moves without notice
# How many cores, how much memory, which devices: asked in `execution` alone.
MACHINE = {
    "ThreadPoolExecutor", "ProcessPoolExecutor", "sched_getaffinity", "cpu_count", "sysconf", "default_backend", "devices",
    "local_devices", "memory_stats",
}  # fmt: skip
LIGHT_AT_TOP = {"jax", "jaxlib", "numpy"}

FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    """The first part of a module's path inside the package, without the suffix."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def absolute(node: ast.ImportFrom, path: Path) -> str:
    """The absolute name of the module that a `from … import` names."""
    if node.level == 0:
        return node.module or ""
    package = ("mlejax", *path.relative_to(PACKAGE).parent.parts)
    base = package[: len(package) - node.level + 1]
    return ".".join([*base, *(node.module or "").split(".")]).rstrip(".")


def imports(path: Path, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything that a file imports, wherever in it; `from a import b` gives a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.lineno, f"{absolute(node, path)}.{alias.name}"


def run_at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported: not the bodies of functions, nor `if TYPE_CHECKING`."""
    for statement in body:
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            yield from run_at_import(statement.orelse)
            continue
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With | ast.ClassDef | ast.For | ast.While):
            yield from run_at_import(statement.body)
            yield from run_at_import(getattr(statement, "orelse", []))
            yield from run_at_import(getattr(statement, "finalbody", []))
            for handler in getattr(statement, "handlers", []):
                yield from run_at_import(handler.body)


def problems(path: Path, source: str) -> list[str]:
    """What a file of the package does against the order of the rooms."""
    tree = ast.parse(source)
    room = room_of(path)
    found = []
    if room not in RANK and room not in OUTSIDE:
        found.append(f"{room} is not in the list of rooms")
    for line, name in imports(path, tree):
        parts = name.split(".")
        if parts[:2] == ["jax", PRIVATE]:
            found.append(f"line {line}: {name} is private to JAX")
        if parts[0] != "mlejax" or room in OUTSIDE:
            continue
        other = parts[1] if len(parts) > 1 else ""
        if other not in RANK:
            found.append(f"line {line}: imports {name}, which is no room")
        elif room in RANK and RANK[other] > RANK[room]:
            found.append(f"line {line}: {room} imports {other}, a room below it")
    for statement in run_at_import(tree.body):
        names = []
        if isinstance(statement, ast.Import):
            names = [alias.name for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom):
            names = [absolute(statement, path)]
        for name in names:
            top = name.split(".")[0]
            if top not in LIGHT_AT_TOP | {"mlejax"} and top not in sys.stdlib_module_names:
                found.append(f"line {statement.lineno}: imports {top} when the module is imported")
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == PRIVATE]
    found += [f"line {node.lineno}: {ast.unparse(node)} is private to JAX" for node in attributes]
    return found


def of_the_machine(tree: ast.Module) -> list[str]:
    """What a file names that only `execution` may know."""
    named = [(n.lineno, ast.unparse(n)) for n in ast.walk(tree) if isinstance(n, ast.Attribute)]
    named += [(n.lineno, alias.name) for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for alias in n.names]
    return [f"line {line}: {name}" for line, name in named if name.split(".")[-1] in MACHINE]


@pytest.mark.parametrize(
    "path", [p for p in FILES if room_of(p) != "execution"], ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_only_execution_knows_the_machine(path: Path) -> None:
    assert of_the_machine(ast.parse(path.read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        "from concurrent.futures import ThreadPoolExecutor",
        "import concurrent.futures as f\nf.ThreadPoolExecutor(2)",
        "import os\nos.sched_getaffinity(0)",
        "from os import cpu_count",
        "import jax\njax.default_backend()",
        "from jax import devices",
        "import os\nos.sysconf('SC_PAGE_SIZE')",
    ],
)
def test_knowledge_of_the_machine_is_seen(source: str) -> None:
    assert of_the_machine(ast.parse(source))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_room_keeps_the_order(path: Path) -> None:
    assert problems(path, path.read_text()) == []


@pytest.mark.parametrize(
    ("room", "source", "said"),
    [
        ("objective.py", "from mlejax.fit import solve", "a room below it"),
        ("objective.py", "def f():\n    from mlejax import fit", "a room below it"),
        ("optimize/newton.py", "from ..covariance import robust", "a room below it"),
        ("optimize/newton.py", "from .. import model", "a room below it"),
        ("linalg.py", "import mlejax", "no room"),
        ("linalg.py", f"from jax.{PRIVATE} import core", "private to JAX"),
        ("linalg.py", f"import jax\njax.{PRIVATE}.core", "private to JAX"),
        ("data.py", "import pandas as pd", "imports pandas when"),
        ("data.py", "try:\n    from scipy import stats\nexcept ImportError:\n    stats = None", "imports scipy when"),
        ("corner.py", "", "not in the list"),
    ],
)
def test_what_breaks_the_order_is_seen(room: str, source: str, said: str) -> None:
    (problem,) = problems(PACKAGE / room, source)
    assert said in problem


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("fit.py", "from mlejax.optimize.newton import begin\nfrom . import covariance\nimport numpy as np"),
        ("optimize/newton.py", "from .loop import advance\nfrom ..linalg import solve"),
        ("data.py", "def read():\n    import pandas"),
        ("data.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas"),
    ],
)
def test_what_keeps_the_order_passes(room: str, source: str) -> None:
    assert problems(PACKAGE / room, source) == []


def test_importing_mlejax_is_light_and_changes_no_configuration() -> None:
    """Of a fresh interpreter: only JAX and NumPy come with mlejax, no backend is started, no JAX flag moves; the rooms of a fit
    come with the first fit.
    """
    program = """
import json, sys, warnings
warnings.simplefilter("error")
import jax, jax.numpy, jax.scipy.stats
before, loaded = dict(jax.config.values), set(sys.modules)
import mlejax
after = dict(jax.config.values)
print(json.dumps({
    "changed": [k for k in after if k in before and after[k] != before[k]],
    "new": sorted({m.split(".")[0] for m in set(sys.modules) - loaded}),
    "of_jax": sorted(m for m in set(sys.modules) - loaded if m.startswith("jax.")),
    "rooms": sorted({m.split(".")[1] for m in sys.modules if m.startswith("mlejax.")}),
}))
"""
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    seen = json.loads(run.stdout)
    assert seen["changed"] == []
    assert set(seen["new"]) & set(HEAVY) == set()
    assert seen["of_jax"] == [], "jax.extend brings in Pallas, a sixth of the whole import"
    assert {"model", "parameters"} <= set(seen["rooms"])
    assert not {"objective", "fit", "batch", "plot", "inference", "report", "files", "results"} & set(seen["rooms"])


def test_the_front_page_shows_its_names_and_nothing_else() -> None:
    import mlejax

    assert dir(mlejax) == sorted(mlejax.__all__)
    assert [name for name in mlejax.__all__ if not hasattr(mlejax, name)] == []
    with pytest.raises(AttributeError, match="module 'mlejax' has no attribute 'fitt'"):
        mlejax.fitt  # noqa: B018
    import mlejax.fit

    assert mlejax.fit.__name__ == "mlejax.fit"


def test_all_rooms_are_documented() -> None:
    """Every module says first what it does."""
    silent = [str(path.relative_to(ROOT)) for path in FILES if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


def test_no_two_modules_have_one_name() -> None:
    names = [path.stem for path in FILES if path.stem != "__init__"]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_no_two_classes_have_one_name() -> None:
    names = [n.name for path in FILES for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ClassDef)]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_tests_mirror_the_package() -> None:
    """Every folder of the package has a folder of tests of its name, and every folder of tests one of the package."""
    tests = ROOT / "tests"
    tested = {path.parent.relative_to(tests) for path in tests.rglob("test_*.py")} - {Path()}
    packages = {path.parent.relative_to(PACKAGE) for path in PACKAGE.rglob("__init__.py")} - {Path()}
    assert sorted(tested - packages) == []
    within = {folder for path in tested for folder in (path, *path.parents)}
    assert sorted(packages - within) == []
