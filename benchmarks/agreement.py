"""The same five models here, in R and in statsmodels, digits side by side, as a Markdown table.

    python benchmarks/agreement.py          # the tables of docs/benchmarks/agreement.md
    python benchmarks/agreement.py --full   # every parameter
    python benchmarks/agreement.py --write  # and keep them, there and in benchmarks/results/agreement.json

R's numbers are read from tests/references (the scripts that made them lie beside); statsmodels runs here, as tightly
converged as it goes. Exit status 1 if anything is further apart than `TOLERANCE`.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.scipy.special import gammaln
from jax.scipy.stats import norm

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import mlejax as mle  # noqa: E402
from benchmarks import tables  # noqa: E402
from benchmarks.recorded import circumstances, keep  # noqa: E402

TOLERANCE = 1e-6  # relative; statsmodels' and polr's own last digits are the limit, see the notes of the references

AFFAIRS = ["age", "yearsmarried", "religiousness", "occupation", "rating"]
LUNG = ["age", "female", "ph_ecog"]
BIRTHWT = ["age", "lwt", "black", "other", "smoke", "ht", "ui"]
WARPBREAKS = ["wool_b", "tension_m", "tension_h"]
HOUSING = ["influence_medium", "influence_high", "apartment", "atrium", "terrace", "contact_high"]


def matrix(data: Any, columns: list[str]) -> jax.Array:
    """The columns as a matrix, (n, k)."""
    return jnp.stack([data[column] for column in columns], axis=1)


@mle.model(intercept=mle.Real(), beta=mle.Real(columns=AFFAIRS), sigma=mle.Positive())
def tobit(params, data):
    """y = max(0, y*), y* normal."""
    y, sigma = data["affairs"], params["sigma"]
    mean = params["intercept"] + matrix(data, AFFAIRS) @ params["beta"]
    return jnp.where(y <= 0, norm.logcdf(-mean / sigma), norm.logpdf(y, mean, sigma))


@mle.model(intercept=mle.Real(start=5.0), beta=mle.Real(columns=LUNG), sigma=mle.Positive())
def weibull(params, data):
    """Time to death, right-censored."""
    log_t, sigma = jnp.log(data["time"]), params["sigma"]
    w = (log_t - params["intercept"] - matrix(data, LUNG) @ params["beta"]) / sigma
    return jnp.where(data["event"] > 0, w - jnp.log(sigma) - log_t, 0.0) - jnp.exp(w)


@mle.model(intercept=mle.Real(), beta=mle.Real(columns=BIRTHWT))
def logit(params, data):
    """A binary outcome."""
    eta = params["intercept"] + matrix(data, BIRTHWT) @ params["beta"]
    return jax.nn.log_sigmoid(jnp.where(data["low"] > 0, eta, -eta))


@mle.model(intercept=mle.Real(), beta=mle.Real(columns=WARPBREAKS))
def poisson(params, data):
    """A count."""
    y, eta = data["breaks"], params["intercept"] + matrix(data, WARPBREAKS) @ params["beta"]
    return y * eta - jnp.exp(eta) - gammaln(y + 1.0)


@mle.model(beta=mle.Real(columns=HOUSING), cut=mle.Ordered(shape=2, start=[-1.0, 1.0]))
def ologit(params, data):
    """An ordered outcome of three levels."""
    y, cut = data["satisfaction"], params["cut"]
    eta = matrix(data, HOUSING) @ params["beta"]
    below, above = jax.nn.log_sigmoid(cut[0] - eta), jax.nn.log_sigmoid(eta - cut[1])
    between = jax.nn.log_sigmoid(cut[1] - eta) + jax.nn.log_sigmoid(eta - cut[0]) + jnp.log(-jnp.expm1(cut[0] - cut[1]))
    return jnp.where(y == 0, below, jnp.where(y == 1, between, above))


def read(name: str) -> pd.DataFrame:
    """The data set of one model, all columns numeric."""
    df = pd.read_csv(ROOT / "examples" / "data" / f"{name}.csv")
    if name == "birthwt":
        df = df.assign(black=1.0 * (df["race"] == "black"), other=1.0 * (df["race"] == "other")).drop(columns="race")
    if name == "housing":
        df = df.loc[df.index.repeat(df["count"])].reset_index(drop=True)
        of = lambda column, level: 1.0 * (df[column] == level)
        types = {level: of("type", level) for level in ("apartment", "atrium", "terrace")}
        df = pd.DataFrame(
            {"satisfaction": df["satisfaction"].map({"low": 0, "medium": 1, "high": 2}).astype(float)}
            | {"influence_medium": of("influence", "medium"), "influence_high": of("influence", "high")}
            | types
            | {"contact_high": of("contact", "high")}
        )
    return df


@dataclass(frozen=True)
class Numbers:
    """What one program says: estimates and standard errors by address, and the log-likelihood."""

    params: dict[str, float]
    se: dict[str, float]
    llf: float


def from_r(name: str) -> Numbers:
    """The recorded reference."""
    r = json.loads((ROOT / "tests" / "references" / f"{name}.json").read_text())
    return Numbers(r["params"], r["se"], r["loglik"])


def from_statsmodels(name: str, df: pd.DataFrame) -> Numbers | None:
    """The same model by statsmodels, where it has one."""
    import statsmodels.api as sm
    from statsmodels.miscmodels.ordinal_model import OrderedModel

    tight = {"disp": 0, "maxiter": 100, "tol": 1e-14}
    pairs = lambda numbers: dict(zip(order, map(float, numbers), strict=True))
    if name == "logit":
        fit = sm.Logit(df["low"], sm.add_constant(df[BIRTHWT])).fit(method="newton", **tight)
        order = ["intercept", *(f"beta[{x}]" for x in BIRTHWT)]
    elif name == "poisson":
        fit = sm.Poisson(df["breaks"], sm.add_constant(df[WARPBREAKS])).fit(method="newton", **tight)
        order = ["intercept", *(f"beta[{x}]" for x in WARPBREAKS)]
    elif name == "ologit":
        fit = OrderedModel(df["satisfaction"], df[HOUSING], distr="logit").fit(method="newton", maxiter=100, disp=0)
        # It estimates the first cut and the log of the distance to the second: the second by the delta method.
        slopes, first, step = fit.params.iloc[:-2], fit.params.iloc[-2], np.exp(fit.params.iloc[-1])
        jacobian = np.eye(len(fit.params))
        jacobian[-1, -2:] = 1.0, step
        se = np.sqrt(np.diag(jacobian @ fit.cov_params().to_numpy() @ jacobian.T))
        order = [*(f"beta[{x}]" for x in HOUSING), "cut[0]", "cut[1]"]
        values = [*slopes, first, first + step]
        return Numbers(pairs(values), pairs(se), float(fit.llf))
    else:
        return None
    return Numbers(pairs(fit.params), pairs(fit.bse), float(fit.llf))


def relative(ours: Numbers, other: Numbers) -> tuple[float, float, float]:
    """Largest relative differences: estimates (in the other's standard errors), standard errors, log-likelihood."""
    estimates = max(abs(ours.params[key] - value) / other.se[key] for key, value in other.params.items())
    errors = max(abs(ours.se[key] / value - 1.0) for key, value in other.se.items())
    return estimates, errors, abs(ours.llf / other.llf - 1.0)


# Model, its data, how a reader knows it in R, and the parameter that stands for it in the short table.
MODELS: list[tuple[str, Any, str, str, str]] = [
    ("tobit", tobit, "affairs", "survreg", "beta[rating]"),
    ("weibull", weibull, "lung", "survreg", "sigma"),
    ("logit", logit, "birthwt", "glm", "beta[smoke]"),
    ("poisson", poisson, "warpbreaks", "glm", "beta[tension_h]"),
    ("ologit", ologit, "housing", "polr + Newton", "cut[1]"),
]


def rows(name: str, said: dict[str, Numbers | None], keys: list[str]) -> list[list[str]]:
    """The lines of one model: each number, by each program."""

    def line(label: str, get: Callable[[Numbers], float], digits: int) -> list[str]:
        cells = ["" if numbers is None else f"{get(numbers):.{digits}f}" for numbers in said.values()]
        return [name, label, *cells]

    lines = [line("log-likelihood", lambda numbers: numbers.llf, 8)]
    for key in keys:
        lines.append(line(f"`{key}`", lambda numbers, key=key: numbers.params[key], 10))
        lines.append(line("  std err", lambda numbers, key=key: numbers.se[key], 10))
    return lines


def compare(full: bool = False) -> tuple[str, list[list[str]], float]:
    """Fit all models: the tables, the lines of the second one, and the largest difference."""
    table, summary, worst = [], [], 0.0
    for name, model, data, r_function, shown in MODELS:
        df = read(data)
        fit = model.fit(df)
        ours = Numbers(dict(fit.params), dict(fit.bse), float(fit.llf))
        said = {"mlejax": ours, "R": from_r(name), "statsmodels": from_statsmodels(name, df)}
        table += rows(f"{name} ({r_function})", said, list(said["R"].params) if full else [shown])
        for program in ("R", "statsmodels"):
            if said[program] is not None:
                apart = relative(ours, said[program])
                worst = max(worst, *apart)
                summary.append([name, f"{len(df)}", program, *(f"{x:.0e}" for x in apart)])
    head = ["model (R function)", "", "mlejax", f"R {versions()['R']}", f"statsmodels {version('statsmodels')}"]
    said_of_all = ["model", "rows", "against", "estimates", "standard errors", "log-likelihood"]
    between = "Largest differences over all parameters: estimates in standard errors, the others relative."
    text = f"{tables.markdown(head, table)}\n{between}\n\n{tables.markdown(said_of_all, summary)}"
    return text, summary, worst


def versions() -> dict[str, str]:
    """Of R and its packages, with which the references were made."""
    return json.loads((ROOT / "tests" / "references" / "tobit.json").read_text())["software"]


def main() -> int:
    """Fit, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="every parameter")
    parser.add_argument("--write", action="store_true", help="keep the table and the differences")
    options = parser.parse_args()
    text, summary, worst = compare(options.full)
    print(text, end="")
    if options.write:
        names = ("model", "rows", "against", "estimates", "standard_errors", "log_likelihood")
        recorded = [dict(zip(names, line, strict=True)) for line in summary]
        keep("agreement", {"circumstances": circumstances("statsmodels"), "r": versions(), "rows": recorded})
        tables.paste("agreement", text if not options.full else compare()[0])
    if not worst < TOLERANCE:
        print(f"\nsomething is further apart than {TOLERANCE:.0e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
