"""Random-effects models of 200 random designs beside brute-force integration: log-likelihood, estimates and standard errors.

    python benchmarks/random_designs.py            # print
    python benchmarks/random_designs.py --write    # and keep it: benchmarks/results/random_designs.json
    python benchmarks/random_designs.py --more     # the designs that the record does not have yet, kept in it

Poisson counts, binomial shares and binary outcomes, with random intercepts (q = 1) or correlated intercepts and slopes (q = 2).
Every design has its own covariates, sizes of units, coefficients and covariance.  Brute force is the trapezoidal rule of
`tests/latent/adaptive_grid.py`.  Where 41 points of quadrature are not within 1e-6 of the errors, the model is fitted with 81 and
159: the rule's own error falls with its points, that of a wrong program would not.
"""

import json
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln

sys.path.insert(0, str(Path(__file__).parent.parent))

import mlejax as mle
from benchmarks.recorded import RESULTS, circumstances, keep
from tests.latent import adaptive_grid

REACH = {"llf": 1e-8, "estimates": 1e-4, "errors": 1e-6}  # relative; standard errors; relative
UNITS, SIZES = {1: 40, 2: 16}, (2, 3, 4, 5, 6, 8, 10, 12)  # rows of units, equally often
TRIALS = 8.0


def counts(params, data):
    """Log-likelihood of counts given their unit's effects, (n,)."""
    eta = data["X"] @ params["beta"] + jnp.sum(data["Z"] * jnp.atleast_2d(params["u"].T).T, axis=1)
    return data["y"] * eta - jnp.exp(eta) - gammaln(data["y"] + 1.0)


def shares(params, data):
    """The same of successes among ``data["size"]`` trials, without the binomial coefficient."""
    eta = data["X"] @ params["beta"] + jnp.sum(data["Z"] * jnp.atleast_2d(params["u"].T).T, axis=1)
    return data["y"] * jax.nn.log_sigmoid(eta) + (data["size"] - data["y"]) * jax.nn.log_sigmoid(-eta)


MODELS = {
    (name, q): mle.model(beta=mle.Real(columns="X"), L=mle.Cholesky(shape=q), u=mle.Latent(q, by="unit", cov="L"))(function)
    for name, function in (("poisson", counts), ("binomial", shares), ("binary", shares))
    for q in (1, 2)
}
DESIGNS = {("poisson", 1): 34, ("binomial", 1): 33, ("binary", 1): 33, ("poisson", 2): 33, ("binomial", 2): 33, ("binary", 2): 34}


class Design(NamedTuple):
    """One data set: columns of its table, and the coefficients and factor that it was drawn with."""

    data: dict[str, np.ndarray]
    beta: np.ndarray
    factor: np.ndarray


def draw(family, q, seed):
    """A random design."""
    rng = np.random.default_rng([list(DESIGNS).index((family, q)), seed])
    scale = 2 if family == "binary" else 1  # as many outcomes as tell something of a unit
    unit = np.repeat(np.arange(UNITS[q]), scale * rng.permutation(np.repeat(SIZES, UNITS[q] // len(SIZES))))
    x = np.stack([np.ones(len(unit)), rng.normal(size=len(unit)), rng.random(len(unit)) < rng.uniform(0.2, 0.8)], axis=1)
    beta = np.array([rng.uniform(-0.5, 1.0), *rng.normal(0.0, 0.5, 2)])
    first = rng.uniform(0.4, 2.0 if family == "binary" else 1.2)
    factor = np.array([[first, 0.0], [rng.normal(0.0, 0.3), rng.uniform(0.3, 0.9)]])
    factor, z = factor[:q, :q], x[:, :q]
    eta = x @ beta + (z * (rng.normal(size=(UNITS[q], q)) @ factor.T)[unit]).sum(axis=1)
    size = np.full(len(unit), 1.0 if family == "binary" else TRIALS)
    p = 1.0 / (1.0 + np.exp(-eta))
    y = rng.poisson(np.exp(np.minimum(eta, 5.0))) if family == "poisson" else rng.binomial(size.astype(int), p)
    return Design({"y": y.astype(float), "size": size, "X": x.astype(float), "Z": z.astype(float), "unit": unit}, beta, factor)


def distances(res, truth):
    """Of a fit from the truth: log-likelihood (relative), estimates (standard errors), errors (relative)."""
    return {
        "llf": float(abs(res.llf / truth.loglik - 1.0)),
        "estimates": float(np.abs((res.params.to_numpy() - truth.estimates) / truth.errors).max()),
        "errors": float(np.abs(res.bse.to_numpy() / truth.errors - 1.0).max()),
    }


def one(family, q, seed):
    """A design's distances by number of points and by default; None where its maximum is on an edge."""
    model, design = MODELS[family, q], draw(family, q, seed)
    res = model.fit(design.data, integrate=mle.Quadrature(41))
    if res.verdict.code != "verified":
        return None
    truth = adaptive_grid.maximum(family, design.data, res.params.to_numpy())
    out = {"family": family, "q": q, "seed": seed, "41": distances(res, truth)}
    for points in (81, 159)[: 2 if q == 1 else 1]:
        if all(v <= REACH[name] for name, v in list(out.values())[-1].items()):
            break
        out[str(points)] = distances(model.fit(design.data, integrate=mle.Quadrature(points)), truth)
    res = model.fit(design.data)
    return out | {"default": distances(res, truth), "points": res.integration.points, "verdict": res.verdict.code}


def main():
    """All designs, or those that are missing."""
    more = "--more" in sys.argv
    kept = json.loads((RESULTS / "random_designs.json").read_text()) if more else {"seconds": 0.0, "rows": []}
    rows, began = kept["rows"], time.perf_counter() - kept["seconds"]
    for (family, q), wanted in DESIGNS.items():
        mine = [r for r in rows if (r["family"], r["q"]) == (family, q)]
        seed = mine[-1]["seed"] + 1 if mine else 0
        while len(mine) < wanted:
            row = one(family, q, seed)
            seed += 1
            if row is None:
                continue
            mine.append(row)
            rows.append(row)
            if more or "--write" in sys.argv:
                seconds = time.perf_counter() - began
                keep("random_designs", {"circumstances": circumstances(), "seconds": seconds, "reach": REACH, "rows": rows})
        worst = {name: max(r["41"][name] for r in mine) for name in REACH}
        default = max(max(r["default"][k] for k in ("estimates", "errors")) for r in mine)
        print(f"{family:9} q = {q}: {len(mine)} of {seed}; 41 points {worst}; default {default:.2g}", flush=True)


if __name__ == "__main__":
    main()
