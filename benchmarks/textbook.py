"""Likelihoods of many fields, each by its textbook formula, where samples put them on an edge, at a limit or amid rounding.

    python benchmarks/textbook.py            # 2 samples of each kind
    python benchmarks/textbook.py --write    # 5 of each, kept in benchmarks/results/textbook.json

The truth is that of a second formula in NumPy and SciPy, in a form that keeps its digits: the highest point that Nelder and Mead
find from several starts, along edges too, or the supremum of the simpler model at the limit, whichever is higher.  *Right*,
*honest* and *untrue* are those of `torture.py`.  Every sample is fitted in a batch and alone.
"""

import argparse
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import mlejax as mle
from benchmarks import tables
from benchmarks.recorded import RESULTS, circumstances, keep
from benchmarks.textbook_kinds import KINDS
from benchmarks.textbook_kinds.kind import Data, Textbook
from benchmarks.torture import counted, highest, judged_one

N_SAMPLES, A_FEW = 5, 2


def truth_of(book: Textbook, d: Data) -> float:
    """The highest log-likelihood, or the supremum, of a sample."""
    return max(highest(book.kind, d), book.limit(d))


def run(name: str, n: int) -> dict[str, Any]:
    """n samples of a kind, all in one batch, and each alone."""
    book, rng = KINDS[name], np.random.default_rng(sorted(KINDS).index(name) + 100)
    kind = book.kind
    sets = [kind.draw(rng) for _ in range(n)]
    truths = [truth_of(book, d) for d in sets]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mle.ConvergenceWarning)
        many = kind.model.fit_batch({key: np.stack([d[key] for d in sets]) for key in sets[0]})
        found = {f"{i} in a batch": judged_one(kind, sets[i], many[i], truths[i]) for i in range(n)}
        for i in range(n):
            found[f"{i}"] = judged_one(kind, sets[i], kind.model.fit(sets[i]), truths[i])
    return counted(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="5 samples of each kind, kept in textbook.json")
    parser.add_argument("kinds", nargs="*", help="of these kinds only; the record keeps the others")
    options = parser.parse_args()
    record = RESULTS / "textbook.json"
    found = json.loads(record.read_text())["kinds"] if options.write and record.exists() else {}
    for name in options.kinds or KINDS:
        begun = time.process_time()
        found[name] = run(name, N_SAMPLES if options.write else A_FEW)
        f = found[name]
        spent = time.process_time() - begun
        print(f"{name:46} {f['right']:3} of {f['fits']} right  {f['counts']}  {f['untrue'] or ''}  {spent:.0f} s", flush=True)
        if options.write:
            total: dict[str, Any] = {key: sum(g[key] for g in found.values()) for key in ("fits", "right")}
            total["untrue"] = sum(len(g["untrue"]) for g in found.values())
            keep("textbook", {**circumstances("scipy"), **total, "kinds": found})
            tables.paste("counts", tables.counts())


if __name__ == "__main__":
    main()
