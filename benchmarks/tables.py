"""The tables of docs/benchmarks: records -> Markdown, and where on which page it stands.

A page holds ``<!-- NAME: ... -->`` and ``<!-- end NAME -->``; what stands between them is written by a script's ``--write``.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.recorded import RESULTS

PAGES = Path(__file__).parent.parent / "docs" / "benchmarks"
PAGE = {
    "agreement": "agreement",
    "verdicts": "verdicts",
    "counts": "verdicts",
    "batch": "batch",
    "speed": "speed",
    "overhead": "speed",
    "first_fits": "speed",
    "streamed": "streamed",
    "streamed_large": "streamed",
    "engines": "streamed",
    "calibration": "calibration",
    "random_effects": "latents",
    "effects": "latents",
    "factors": "latents",
}


def _region(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name}: .*? -->\n)(.*?)(<!-- end {name} -->)", re.DOTALL)


def pasted(name: str) -> str:
    """What the page shows."""
    found = _region(name).search((PAGES / f"{PAGE[name]}.md").read_text())
    assert found, name
    return found[2]


def paste(name: str, text: str) -> None:
    """Replace what the page shows."""
    page = PAGES / f"{PAGE[name]}.md"
    page.write_text(_region(name).sub(lambda found: f"{found[1]}{text}{found[3]}", page.read_text()))


def record(name: str) -> dict[str, Any] | None:
    """What a script kept, or None."""
    kept = RESULTS / f"{name}.json"
    return json.loads(kept.read_text()) if kept.exists() else None


def markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def first_fits(rows: list[dict[str, Any]]) -> str:
    """Seconds of the cores that a first fit takes, and what follows it."""
    keys = [f"{name} cpu" for name in ("bare", "first", "other n", "unclean", "nlcom", "predict", "bootstrap of 8")]
    head = ["model", "bare, core s", "first fit", "other n", "no maximum", "`nlcom`", "`predict`", "8 refits", "first / bare"]
    lines = [[r["model"], *(f"{r[key]:.2f}" for key in keys), f"{r['first cpu'] / r['bare cpu']:.2f}"] for r in rows]
    return markdown(head, lines)


def speed(rows: list[dict[str, Any]], above: str = "") -> str:
    """A table a question, each below its title."""
    out = []
    for title in dict.fromkeys(r["question"] for r in rows):
        part = [r for r in rows if r["question"] == title]
        out.append(f"{above}{title}\n\n{_compared(part) if 'estimates_apart_in_se' in part[0] else _times(part)}")
    return "\n".join(out)


def calibration(rows: list[dict[str, Any]]) -> str:
    """Coverage beside its exact probability, with errors as they are, 5 % too small and 5 % too large."""
    head = ["procedure", "data sets", "exact, %", "found, %", "off, in errors", "errors 5 % too small", "too large"]
    lines = []
    for r in rows:
        if "exact" in r:
            off = [f"{x:+.1f}" for x in r["off"]] + [""] * (3 - len(r["off"]))
            share = f"{100 * r['covered'][0] / r['n_sets']:.2f}"
            lines.append([r["name"], f"{r['n_sets']:,}", f"{100 * r['exact']:.2f}", share, *off])
    return markdown(head, lines)


def _span(r: dict[str, Any]) -> str:
    return f"{r['least']:.3g} to {r['most']:.3g}"


def _times(rows: list[dict[str, Any]]) -> str:
    return markdown(["", "median s", "range"], [[r["tool"], f"{r['median']:.3g}", _span(r)] for r in rows])


def _compared(rows: list[dict[str, Any]]) -> str:
    lines = []
    for r in rows:
        counted = f", {r['passes']} passes" if "passes" in r else ""
        apart = f"{r['estimates_apart_in_se']:.1g} SE, errors {r['errors_apart']:.1g} apart"
        ratio = f"{rows[0]['median'] / r['median']:.2g}"
        lines.append(
            [f"{r['tool']}{counted}", f"{r['median']:.3g}", _span(r), ratio, "agree" if r["agrees"] else apart]
        )
    return markdown(["tool", "median s", "range", "ours / tool", "answers"], lines)


def batch(rows: list[dict[str, Any]]) -> str:
    """One line a question."""

    def seconds(value: float, span: list[float] | None) -> str:
        return f"{value:.3g} s" + (f" ({span[0]:.3g} to {span[1]:.3g})" if span else "")

    lines = [
        [r["work"], seconds(r["seconds"], r["range"]), r["against"], seconds(r["other"], r["other_range"]),
         f"{r['ratio']:.3g}×", r["wanted"], r["agreement"]]
        for r in rows
    ]  # fmt: skip
    return markdown(["work", "here", "against", "there", "ratio", "required", "answers"], lines)


def overhead(rows: list[dict[str, Any]]) -> str:
    """The verdict's share of a warm fit."""
    lines = [
        [
            f"{r['sets']:,} x {r['n']:,}" if r["sets"] > 1 else f"{r['n']:,}", str(r["p"]), f"{1e3 * r['fit']:.3g}",
            f"{1e3 * r['verdict']:.3g}", f"{100 * r['verdict'] / r['fit']:.1f} %", f"{1e3 * r['first']:.3g}",
        ]
        for r in rows
    ]  # fmt: skip
    return markdown(["rows", "parameters", "fit, ms", "verdict, ms", "share", "verdict of the first fit, ms"], lines)


def counts() -> str:
    """How many fits of each record are right, and how many untrue; of rounding and screen, how many are missed."""
    wanted = [("families", kind) for kind in ("regular", "limit")] + [(name, "") for name in ("limits", "torture", "textbook")]
    lines = []
    for name, kind in wanted:
        kept = record(name)
        if kept is not None:
            r = kept[kind] if kind else kept
            what = f"`{name}.py`" + (f", {kind} samples" if kind else "")
            lines.append([what, f"{r['fits']:,}", f"{r['right']:,} ({r['right'] / r['fits']:.1%})", str(r["untrue"])])
    for name, total in (("rounding", "fits"), ("screen", "faults")):
        kept = record(name)
        if kept is not None:
            lines.append([f"`{name}.py`, {total}", f"{kept[total]:,}", "", f"{kept['misses']} missed"])
    return markdown(["script", "fits", "right", "untrue"], lines)


def random_effects() -> str:
    """Random intercepts, slopes, many small models and a mixed logit, each beside a peer: core seconds of warm fits."""
    lines = []
    intercepts, slopes, mixed = (record(name) for name in ("latent", "latent_peers", "mixed_logit"))
    if intercepts is not None:
        rows = intercepts["rows"]
        for name, what in (("laplace", "Laplace"), ("9 points", "9 points")):
            mine, peer = rows[name]["cpu"], rows.get(f"glmm {name}", {}).get("cpu")
            lines.append(_beside(f"Poisson, intercepts of 10,000 units, n = 100,000, {what}", mine, "glmm", peer))
        points = rows["auto"]["points"]
        lines.append(_beside(f"the same, points chosen and checked ({points})", rows["auto"]["cpu"], "", None))
        lines.append(_beside("the same, first fit of a process, all compiled", rows["auto"]["first"], "", None))
    if slopes is not None:
        for name, r in slopes["rows"].items():
            if "glmm" in r:
                family, n, *how = name.split()
                way = " ".join(how).replace("laplace", "Laplace")
                what = f"{family.capitalize()}, intercept and slope, n = {int(n):,}, {way}"
                lines.append(_beside(what, r["seconds"], "glmm", r["glmm"]))
        r = slopes["rows"]["10,000 models"]
        what, peer = "10,000 models of 20 units in one call", "a loop of glmmTMB, scaled from 50"
        lines.append(_beside(what, r["seconds"], peer, r.get("glmmtmb")))
    if mixed is not None:
        mine, peer = mixed["rows"]["mlejax"]["cpu"], mixed["rows"].get("xlogit", {}).get("cpu")
        lines.append(_beside("mixed logit, 4 random tastes, 600 draws", mine, "xlogit, the same draws", peer))
    where = [r["circumstances"] for r in (intercepts, slopes, mixed) if r]
    told = "; ".join(f"{at['date']}, load {at['load_before']:.1f}" for at in where)
    table = markdown(["work", "here, core s", "against", "core s", "here / there"], lines)
    return f"{table}\nThe three scripts: {told}.\n"


def _beside(work: str, mine: float, name: str, peer: float | None) -> list[str]:
    return [work, f"{mine:.3g}", name if peer else "", f"{peer:.3g}" if peer else "", f"{mine / peer:.2g}" if peer else ""]


def by_levels(kept: dict[str, Any]) -> str:
    """Models with effects of many levels beside pyfixest: core seconds, and how far apart the answers are."""
    lines = []
    for name, r in kept["rows"].items():
        theirs = r.get("pyfixest")
        apart = f"{r['apart']:.0e}" if theirs else ""
        lines.append([*_beside(name, r["mlejax"][1], "pyfixest", theirs and theirs[1]), apart])
    where = kept["circumstances"]
    table = markdown(["model", "here, core s", "against", "core s", "here / there", "apart"], lines)
    size = f"{kept['rows_of_data']:,} rows, {kept['levels']:,} levels"
    return f"{table}\n{size}; {where['date']}, load {where['load_before']:.1f}.\n"


TABLES: dict[str, Callable[[list[dict[str, Any]]], str]] = {
    "calibration": calibration,
    "speed": lambda rows: speed(rows, "### "),
    "batch": batch,
    "overhead": overhead,
}
