"""Choose which tests are slow by how long they took: `make test` runs the others, and is to end within five minutes.

    make test test-slow PYTEST_ARGS="--junitxml=tests.xml -o junit_family=xunit1"     # one file for each of the two
    python tests/choose_slow.py tests.xml [further.xml ...]

The tests that took longest go into `tests/slow.txt`, until the others fit.  One test of each file stays, the quickest; those of
the list that the report does not have stay on it.  What is slow by its nature carries ``@pytest.mark.slow`` in its own file.
"""

import sys
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path

LIST = Path(__file__).parent / "slow.txt"
SECONDS = 500.0  # of two processors, on the machine that measured: two workers need some more to start and to collect
KEPT = "tests/verdict/test_torture.py::test_one_of_each"  # one hard fit of each kind, whatever it takes


def durations(report: Path) -> dict[str, float]:
    """Seconds by the name that pytest gives a test."""
    cases = ET.parse(report).iter("testcase")
    return {f"{case.get('file')}::{case.get('name')}": float(case.get("time", 0.0)) for case in cases}


def chosen(took: dict[str, float], seconds: float) -> list[str]:
    """Names of the tests that are too slow for the others to take at most these seconds together."""
    quickest: dict[str, tuple[float, str]] = defaultdict(lambda: (float("inf"), ""))
    for name, time in took.items():
        file = name.split("::")[0]
        quickest[file] = min(quickest[file], (time, name))
    stay = {KEPT, *(name for _, name in quickest.values())}
    slow, rest = [], sum(took.values())
    for name in sorted(set(took) - stay, key=took.__getitem__, reverse=True):
        if rest <= seconds:
            break
        slow.append(name)
        rest -= took[name]
    return sorted(slow)


if __name__ == "__main__":
    took: dict[str, float] = {}
    for report in sys.argv[1:]:
        took |= durations(Path(report))
    slow = sorted({*chosen(took, SECONDS), *(name for name in LIST.read_text().split("\n") if name and name not in took)})
    LIST.write_text("\n".join(slow) + "\n")
    print(f"{len(slow)} of {len(took)} tests are slow; the others took {sum(took[n] for n in set(took) - set(slow)):.0f} s")
