"""Eleven likelihoods in which a search can go wrong: what eight programs say of each, side by side.

    python benchmarks/verdicts.py           # run all and print
    python benchmarks/verdicts.py --write   # and keep it: benchmarks/results/verdicts.json, docs/benchmarks/verdicts.md

The data sets, and how each Python program is run, are in benchmarks/peers.py; maxLik and bbmle are run by
benchmarks/verdicts.R where Rscript is present, else what they said is read from benchmarks/results/verdicts_r.json. A
program that is not installed is shown as such.
"""

import argparse
import datetime
import json
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import mlejax as mle  # noqa: E402
from benchmarks import tables  # noqa: E402
from benchmarks.peers import PEERS, DataSet, Said, as_json, ask, data_sets  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
R_TOOLS = ("maxLik", "bbmle")
TOOLS = (*PEERS, *R_TOOLS, "mlejax")

# What a cell of the page shows of a message or warning; all else is in the table printed and in the results.
SHORT = {
    "erfect separation": "warns: perfect separation",
    "boundary": "warns: on the boundary",
    "pseudo inverse": "warns: pseudo-inverse taken",
    "nverting hessian failed": "warns: Hessian not inverted",
    "couldn't invert Hessian": "warns: Hessian not inverted",
    "forced positive definite": "covariance forced positive definite",
    "at limit": "parameter at limit",
    "Hesse failed": "Hesse failed",
    "maximum number of steps": "step limit",
    "iteration limit": "iteration limit",
    "Singular matrix": "singular matrix",
    "infinite or missing values": "infinite or missing values",
}


def by_mlejax(data_set: DataSet) -> Said:
    """The verdict, from the same start."""
    kinds = {"positive": mle.Positive, "nonnegative": mle.NonNegative}
    declared = {}
    for name, value in data_set.start.items():
        support = data_set.supports.get(name)
        shape = {"shape": value.shape} if value.ndim else {}
        declared[name] = mle.Interval(0.0, 1.0) if support == "unit" else kinds.get(support, mle.Real)(**shape)
    n_rows = len(next(iter(data_set.data.values())))
    rowwise = data_set.loglik(data_set.start, data_set.data).shape == (n_rows,)
    model = mle.model(params=declared, rowwise=rowwise)(data_set.loglik)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mle.ConvergenceWarning)
        res = model.fit(data_set.data, start=data_set.start)
    error = float(res.bse[data_set.shown])
    return Said(
        data_set.name,
        "mlejax",
        res.verdict.code,
        res.verdict.statement,
        estimate=float(res.params[data_set.shown]),
        se=None if np.isnan(error) else error,
        params={key: float(value) for key, value in res.params.items()},
    )


def by_r() -> tuple[list[Said], dict[str, str]]:
    """What maxLik and bbmle say and their versions: run now where they are installed, else as recorded."""
    recorded = json.loads((RESULTS / "verdicts_r.json").read_text())
    if shutil.which("Rscript"):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "said.json"
            run = subprocess.run(
                ["Rscript", "benchmarks/verdicts.R", str(file)], cwd=ROOT, capture_output=True, text=True
            )
            if run.returncode:
                raise RuntimeError(f"benchmarks/verdicts.R failed:\n{run.stderr[-2000:]}")
            found = json.loads(file.read_text())
        if set(R_TOOLS) <= set(found["software"]):
            recorded = found
    said = [said_from(entry) for entry in recorded["said"]]
    asked = {(one.data_set, one.tool) for one in said}
    missing = [
        Said(d.name, tool, "not installed") for d in data_sets() for tool in R_TOOLS if (d.name, tool) not in asked
    ]
    return said + missing, recorded["software"]


def said_from(entry: dict[str, Any]) -> Said:
    """A record read back; "nan" and "inf" are numbers again."""
    number = lambda value: None if value is None else float(value)
    params = {key: float(value) for key, value in entry.get("params", {}).items()}
    plain = {key: value for key, value in entry.items() if key not in ("estimate", "se", "params")}
    return Said(**plain, estimate=number(entry.get("estimate")), se=number(entry.get("se")), params=params)


def short(x: float | None) -> str:
    """A number in few characters."""
    if x is None:
        return "none"
    if not np.isfinite(x) or x == 0.0 or 1e-3 <= abs(x) < 1e3:
        return f"{x:.3g}"
    if 1e3 <= abs(x) < 1e4:
        return f"{x:.0f}"
    return re.sub(r"e([-+])0*", lambda m: "e-" if m[1] == "-" else "e", f"{x:.1e}")


def cell(said: Said) -> str:
    """What one program says, for the page: its flag; the estimate and its standard error; what it adds in words."""
    if said.tool == "mlejax":
        words = re.sub(r"^.* along ", "", said.message) if said.says == "no_finite_maximum" else said.message
        words = re.sub(r"[:;] (g'H|standard errors).*$", "", words).replace("-> ", "→ ").replace("inf", "∞")
        numbers = f"<br>{short(said.estimate)} ({short(said.se)})" if said.se is not None else ""
        return f"`{said.says}`<br>{words}{numbers}"
    parts = [said.says]
    if said.estimate is not None:
        parts.append(f"{short(said.estimate)} ({short(said.se)})" if said.se is not None else short(said.estimate))
    told = " ".join([said.message, *said.warnings])
    parts += dict.fromkeys(words for pattern, words in SHORT.items() if pattern in told)
    return "<br>".join(parts)


def markdown(said: list[Said], sets: dict[str, dict[str, Any]], software: dict[str, str]) -> str:
    """The table: data sets down, programs across."""
    at = {(one.data_set, one.tool): one for one in said}
    header = ["", *(f"{tool} {software[tool]}" if tool in software and tool != "mlejax" else tool for tool in TOOLS)]
    lines = [header, ["---"] * len(header)]
    for name, facts in sets.items():
        lines.append([f"{facts['title']}: `{facts['shown']}`", *(cell(at[name, tool]) for tool in TOOLS)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def printed(said: list[Said], sets: dict[str, dict[str, Any]]) -> str:
    """One line for each data set and program, messages and warnings cut off."""
    at = {(one.data_set, one.tool): one for one in said}
    lines = []
    for name, facts in sets.items():
        lines += ["", f"{facts['title']}, {facts['shown']}: {facts['truth']}"]
        for tool in TOOLS:
            one = at[name, tool]
            told = "; ".join(text for text in [one.message, *one.warnings] if text)
            told = told if tool == "mlejax" or len(told) < 100 else f"{told[:97]}..."
            lines.append(f"  {tool:12s} {one.says:18s} {short(one.estimate):>9s} {short(one.se):>9s}  {told}".rstrip())
    return "\n".join(lines)


def installed(tool: str) -> str | None:
    try:
        return version(tool)
    except PackageNotFoundError:
        return None


def collect() -> dict[str, Any]:
    """Run everything."""
    all_sets = data_sets()
    r_said, r_software = by_r()
    said = [ask(tool, data_set) for data_set in all_sets for tool in PEERS]
    said += r_said + [by_mlejax(data_set) for data_set in all_sets]
    order = [d.name for d in all_sets]
    said.sort(key=lambda one: (order.index(one.data_set), TOOLS.index(one.tool)))
    python = {name: installed(name) for name in ("mlejax", *PEERS, "jax", "numpy")}
    software = {"python": sys.version.split()[0], **{k: v for k, v in python.items() if v}, **r_software}
    facts = {
        d.name: {
            "title": d.title,
            "truth": d.truth,
            "rows": len(next(iter(d.data.values()))),
            "start": {key: value.tolist() for key, value in d.start.items()},
            "shown": d.shown,
        }
        for d in all_sets
    }
    return {
        "date": datetime.date.today().isoformat(),
        "software": software,
        "data_sets": facts,
        "said": [as_json(replace(one, warnings=one.warnings[:6])) for one in said],
    }


def table(record: dict[str, Any]) -> str:
    """The table of a record."""
    return markdown([said_from(entry) for entry in record["said"]], record["data_sets"], record["software"])


def main() -> int:
    """Run, print, and keep if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="keep the results and the table")
    write = parser.parse_args().write
    record = collect()
    print(", ".join(f"{name} {number}" for name, number in record["software"].items()))
    print(f"\n  {'program':12s} {'says':18s} {'estimate':>9s} {'std err':>9s}  and adds", end="")
    print(printed([said_from(entry) for entry in record["said"]], record["data_sets"]))
    if write:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "verdicts.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        tables.paste("verdicts", table(record))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
