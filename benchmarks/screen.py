"""The screen inside a batch: does an end on rounding noise ever pass for a clean one, its error bars not looked at?

    python benchmarks/screen.py            # 100 data sets of each kind
    python benchmarks/screen.py --write    # 1,600 of each, twice, kept in benchmarks/results/screen.json

Data sets of `benchmarks/rounding.py` are fitted in a batch by the textbook formula, from no start and from one amid the noise,
and the searches are left where they ended: what is sent on to the full bound is noted instead of diagnosed.  At every end the
textbook formula is compared with the form of `mle.special` that keeps its digits: an end is a *fault* if the log-likelihood is
off by more than 0.01, the score by more than 0.01 standard errors, or a standard error by more than 1 %, and a *miss* if it is
a fault that the screen let pass.
"""

import argparse
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import mlejax as mle
from benchmarks import tables
from benchmarks.recorded import RESULTS, circumstances, keep
from benchmarks.rounding import KINDS, N_ROWS, Kind

MANY, A_FEW, ALLOWED = 1600, 100, 0.01
# where a textbook formula is noise: which parameter, and the decimal exponents of its values
NOISE = {
    "nb, alpha > 0": ("alpha", (-14.0, -5.0)),
    "nb, alpha >= 0": ("alpha", (-14.0, -5.0)),
    "nb, log alpha": ("la", None),
    "t, df": ("df", (5.0, 16.0)),
    "t, log df": ("ld", None),
    "t, 1/df >= 0": ("k", (-16.0, -5.0)),
    "beta-binomial, rho": ("rho", (-14.0, -5.0)),
    "gamma, large shape": ("shape", (6.0, 16.0)),
}


def starts(name: str, rng: np.random.Generator, ys: np.ndarray) -> dict[str, np.ndarray]:
    """A start of every data set amid the noise."""
    parameter, exponents = NOISE[name]
    if exponents is None:  # logarithms
        sign = -1.0 if parameter == "la" else 1.0
        values = sign * np.log(10.0) * rng.uniform(5.0, 14.0, len(ys))
    else:
        values = 10.0 ** rng.uniform(*exponents, len(ys))
    mean, sd = ys.mean(axis=1), ys.std(axis=1)
    others = {"mu": mean, "mean": mean, "m": mean, "s": sd, "q": mean / 10.0}
    return {key: values if key == parameter else others[key] for key in KINDS[name].declared}


def ends(kind: Kind, ys: np.ndarray, start: dict[str, np.ndarray] | None) -> tuple[np.ndarray, np.ndarray]:
    """Where the searches ended, natural parameters (L, p), and flags (L,) of those sent to the full bound."""
    sent = np.zeros(len(ys), bool)

    def noted(problems: Any, evaluator: Any, u0: Any, result: Any, which: Any) -> Iterator[Any]:
        sent[list(which)] = True
        return iter(())

    model = mle.model(**kind.declared)(lambda p, d: kind.textbook(p, d["y"]))
    with warnings.catch_warnings(), mock.patch("mlejax.fit.search.diagnose", noted):
        warnings.simplefilter("ignore")
        found = model.fit_batch({"y": ys}, start=start)
    return np.asarray(found.params, float), sent


def faults(kind: Kind, ys: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Flags (L,) of ends at which the textbook formula is off."""
    names = list(kind.declared)

    def three(formula: Any, q: Any, y: Any) -> Any:
        total = lambda q: formula(dict(zip(names, q, strict=True)), y).sum()
        return total(q), jax.grad(total)(q), -jax.hessian(total)(q)

    with jax.enable_x64(True):
        both = [
            [np.asarray(a) for a in jax.jit(jax.vmap(lambda q, y, f=f: three(f, q, y)))(jnp.asarray(at), jnp.asarray(ys))]
            for f in (kind.textbook, kind.stable)
        ]
    out = np.zeros(len(ys), bool)
    for i in range(len(ys)):
        (v, s, h), (v0, s0, h0) = ([a[i] for a in one] for one in both)
        with np.errstate(all="ignore"):
            scale = 1 / np.sqrt(np.abs(np.diag(h0)))
            try:
                V, V0 = (scale[:, None] * np.linalg.inv(a * np.outer(scale, scale)) * scale for a in (h, h0))
            except np.linalg.LinAlgError:
                out[i] = True
                continue
            errors, errors0 = np.sqrt(np.diag(V)), np.sqrt(np.diag(V0))
            off = [abs(v - v0), *np.abs(V0 @ (s - s0) / errors0), *np.abs(errors / errors0 - 1)]
        out[i] = not all(x <= ALLOWED for x in off)
    return out


def run(name: str, n: int) -> dict[str, Any]:
    """Ends of n data sets from no start, and of n from one amid the noise: how many are faults, and which the screen missed."""
    kind, found = KINDS[name], {"ends": 0, "sent on": 0, "faults": 0, "misses": []}
    rng = np.random.default_rng(sorted(KINDS).index(name))
    for noisy in (False, True):
        ys = np.stack([kind.draw(rng, N_ROWS) for _ in range(n)])
        at, sent = ends(kind, ys, starts(name, rng, ys) if noisy else None)
        bad = faults(kind, ys, at)
        found["ends"] += n
        found["sent on"] += int(sent.sum())
        found["faults"] += int(bad.sum())
        found["misses"] += [[noisy, int(i), at[i].tolist()] for i in np.flatnonzero(bad & ~sent)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="1,600 data sets of each kind, twice, kept in screen.json")
    parser.add_argument("kinds", nargs="*", help="of these kinds only; the record keeps the others")
    options = parser.parse_args()
    record = RESULTS / "screen.json"
    found = json.loads(record.read_text())["kinds"] if options.write and options.kinds and record.exists() else {}
    for name in options.kinds or NOISE:
        found[name] = run(name, MANY if options.write else A_FEW)
        print(name, {**found[name], "misses": (len(found[name]["misses"]), found[name]["misses"][:3])}, flush=True)
    total = {key: sum(f[key] for f in found.values()) for key in ("ends", "sent on", "faults")}
    total["misses"] = sum(len(f["misses"]) for f in found.values())
    print(total)
    if options.write:
        keep("screen", {**circumstances(), **total, "kinds": found})
        tables.paste("counts", tables.counts())


if __name__ == "__main__":
    main()
