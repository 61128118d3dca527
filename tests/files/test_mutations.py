"""Mutated files, seeded: the same result or :class:`mlejax.FileError`, each within a second and 200 MB.

Half of the files are damaged as accidents damage them, so that the checksum tells.  The other half is forged: the content is
changed and the checksum is right.  A forged file may be another result; it has to print, or to be refused.
"""

from __future__ import annotations

import copy
import json
import random
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mlejax as mle
from tests.files.importable import FORMULAS, gaussian, result
from tests.files.test_container import forged
from tests.files.test_saved import FORMAT1

NAMES = ("formulas", "constraints", "penalty", "net", "boundary")
N_MUTATED = 5000
BYTES = 200 << 20
_GONE = object()
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 10**30, 2**53, 10**400, 0.5, -0.0, 1e308, "", "nan", "inf", "real", [], {}, [[1]], [[[]]]),
    *(
        {"number": "nan"},
        {"$float": "nan"},
        {"$object": "Log", "fields": {}},
        [1.0] * 50,
        ["x"] * 50,
        "x" * 50_000,
        _GONE,
    ),
)


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(p for key, value in inside for p in places(value, (*path, key)))]


def at(node: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        node = node[key]
    return node


def put(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    out = copy.deepcopy(content)
    parent = at(out, path[:-1])
    if value is _GONE:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return out


def nested(rng: random.Random) -> Any:
    value: Any = rng.choice([0, "x", 1.5])
    for _ in range(rng.choice([3, 60, 70, 200])):
        value = [value] if rng.random() < 0.7 else {"tree": value}
    return value


def huge(rng: random.Random) -> Any:
    n = rng.choice([10**6, 2**40, 2**52])
    many = [[0] * 200_000, ["dict"] * 100_000, [[]] * 100_000, {str(i): i for i in range(9**5)}]
    return rng.choice([n, [n], [n, n], [0, n], *many])


def mutated_content(content: Any, other: Any, known: list[tuple[Any, ...]], rng: random.Random) -> Any:
    """One or two changes of the content: values, swaps, values of another result, unknown fields, nesting, huge counts."""
    for _ in range(rng.choice([1, 1, 2])):
        path, again = rng.choice(known), rng.choice(known)
        try:
            kind = rng.choice(("value", "value", "swap", "other", "unknown", "nested", "huge", "copies"))
            if kind == "value":
                content = put(content, path, rng.choice(VALUES))
            elif kind == "swap":
                content = put(put(content, path, at(content, again)), again, at(content, path))
            elif kind == "other":
                content = put(content, path, at(other, path))
            elif kind == "unknown" and isinstance(at(content, path), dict):
                content = put(content, (*path, "more"), 1)
            elif kind == "nested":
                content = put(content, path, nested(rng))
            elif kind == "huge":
                content = put(content, path, huge(rng))
            elif isinstance(at(content, path), list):
                content = put(content, path, at(content, path) * rng.choice([0, 2, 100]))
        except (KeyError, IndexError, TypeError):
            continue  # the place is gone after the first change
    return content


def mutated_bytes(data: bytes, rng: random.Random) -> bytes:
    """Flipped bits, truncations, doubled and swapped bytes, digits and runs of zeros."""
    i, j = sorted(rng.sample(range(len(data)), 2))
    changes: dict[str, Callable[[], bytes]] = {
        "flip": lambda: data[:i] + bytes([data[i] ^ (1 << rng.randrange(8))]) + data[i + 1 :],
        "cut": lambda: data[:i],
        "head": lambda: data[i:],
        "hole": lambda: data[:i] + data[j:],
        "double": lambda: data[:j] + data[i:j] + data[j:],
        "swap": lambda: data[:i] + data[j : j + 1] + data[i + 1 : j] + data[i : i + 1] + data[j + 1 :],
        "zeros": lambda: data[:i] + bytes(j - i) + data[j:],
        "digits": lambda: data[:i] + b"9" * rng.choice([1, 5000]) + data[i:],
        "brackets": lambda: data[:i] + rng.choice([b"[", b'{"a":', b'"']) * rng.choice([1, 10**6]) + data[i:],
    }
    return rng.choice(list(changes.values()))()


def resident(reset: bool = False) -> int:
    """The most bytes of memory that this process has held since the last reset; 0 where the system does not tell."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def check(numbers: range, folder: Path, tmp_path: Path, seconds: float) -> int:
    """Load the files of these numbers, each within these seconds of processors; how many were refused."""
    warnings.simplefilter("error")
    sources = [*(folder / f"{name}.json" for name in NAMES), *sorted(FORMAT1.glob("*.json"))]
    for name in NAMES:
        if not (folder / f"{name}.json").exists():
            result(name).save(folder / f"{name}.json")
        str(mle.load(folder / f"{name}.json").summary())  # what a table compiles is not the reading's
    contents = {path: json.loads(path.read_bytes())["content"] for path in sources}
    known, shown = (
        {path: places(c)[1:] for path, c in contents.items()},
        {p: str(mle.load(p).summary()) for p in sources},
    )
    model, refused = gaussian.regress(FORMULAS), 0
    for number in numbers:
        rng = random.Random(number)
        source, path = rng.choice(sources), tmp_path / "mutated.json"
        data = source.read_bytes()
        by_accident = number % 2 == 0
        if by_accident:
            path.write_bytes(mutated_bytes(data, rng))
        else:
            content = mutated_content(contents[source], contents[rng.choice(sources)], known[source], rng)
            forged(path, json.dumps(content).encode(), version=1 if source.parent == FORMAT1 else 2)
        before, began = resident(reset=True), time.process_time()
        try:
            back = mle.load(path, model=model if number % 3 == 0 and source.stem == "formulas" else None)
        except mle.FileError:
            refused += 1
        else:
            text = str(back.summary())
            assert not by_accident or text == shown[source], number
            assert back.to_latex()
            assert len(back.tidy()) >= 0
        finally:
            took, more = time.process_time() - began, resident() - before
        assert took < seconds, (number, took)
        assert more < BYTES, (number, more)
    return refused


def test_a_twentieth_of_the_mutated_files(tmp_path: Path) -> None:
    n = N_MUTATED // 20
    # a file that hangs fails; that each is fast is shown by the slow test: after a whole suite a worker collects garbage here
    assert check(range(n), tmp_path, tmp_path, seconds=60.0) > 0.6 * n


@pytest.mark.slow
@pytest.mark.parametrize("part", range(1, 20))
def test_mutated_files(tmp_path: Path, part: int) -> None:
    n = N_MUTATED // 20
    assert check(range(part * n, (part + 1) * n), tmp_path, tmp_path, seconds=1.0) > 0.6 * n
