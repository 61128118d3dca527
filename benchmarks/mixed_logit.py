"""A mixed logit by simulation, 361 people x 12 situations x 4 alternatives, 4 random coefficients, 600 draws; beside xlogit.

    python benchmarks/mixed_logit.py                        # print
    python benchmarks/mixed_logit.py --xlogit PYTHON        # and xlogit, run by a Python that has it, on the same draws
    python benchmarks/mixed_logit.py --xlogit PYTHON --write    # and keep it: benchmarks/results/mixed_logit.json

Data and draws are made from seeds, in both processes.  Seconds of CPU (of all threads) and of the clock, of the first fit and of
a second one; xlogit compiles nothing, and has no verdict.
"""

import json
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

PEOPLE, SITUATIONS, ALTERNATIVES, RANDOM, DRAWS = 361, 12, 4, 4, 600


def simulate(seed=1):
    """Attributes (people, situations, alternatives, 4) and the choices (people, situations)."""
    rng = np.random.default_rng(seed)
    mean, sd = np.array([-0.6, 0.8, -1.0, 0.5]), np.array([0.5, 0.8, 1.0, 0.6])
    x = rng.normal(size=(PEOPLE, SITUATIONS, ALTERNATIVES, RANDOM))
    b = mean + sd * rng.normal(size=(PEOPLE, 1, 1, RANDOM))
    return x, ((x * b).sum(-1) + rng.gumbel(size=x.shape[:3])).argmax(-1)


def draws(seed=2):
    """Standard normal draws (people, 600, 4)."""
    return np.random.default_rng(seed).normal(size=(PEOPLE, DRAWS, RANDOM))


def timed(fit):
    """Seconds of the clock and of CPU, and the result."""
    began, busy = time.perf_counter(), time.process_time()
    res = fit()
    return {"wall": time.perf_counter() - began, "cpu": time.process_time() - busy}, res


def by_xlogit():
    """Times, log-likelihood, estimates and errors of xlogit, as JSON on the standard output."""
    import xlogit

    x, chosen = simulate()
    alternatives = np.arange(ALTERNATIVES)
    names = [f"x{k}" for k in range(RANDOM)]
    model = xlogit.MixedLogit()
    model._generate_draws = lambda *args, **kwargs: np.ascontiguousarray(draws().transpose(0, 2, 1))
    fit = lambda: model.fit(
        X=x.reshape(-1, RANDOM), y=(alternatives == chosen[..., None]).reshape(-1), varnames=names,
        alts=np.tile(alternatives, PEOPLE * SITUATIONS), ids=np.repeat(np.arange(PEOPLE * SITUATIONS), ALTERNATIVES),
        panels=np.repeat(np.arange(PEOPLE), SITUATIONS * ALTERNATIVES), randvars=dict.fromkeys(names, "n"), n_draws=DRAWS,
        verbose=0,
    )  # fmt: skip
    times, _ = timed(fit)
    found = {"llf": float(model.loglikelihood), "coef": model.coeff_.tolist(), "se": model.stderr.tolist()}
    print(json.dumps({**times, **found, "version": version("xlogit")}))


def declared():
    """The model, and its data: attributes as differences from those of the chosen alternative."""
    import jax.numpy as jnp

    import mlejax as mle

    @mle.model(beta=mle.Real(shape=RANDOM), sd=mle.NonNegative(shape=RANDOM), b=mle.Latent(RANDOM, by="person", cov="sd"))
    def choice(params, data):
        """Log probability of the chosen alternative, (n,)."""
        v = jnp.einsum("nak,nk->na", data["others"], params["beta"] + params["b"])
        return -jnp.log1p(jnp.sum(jnp.exp(v), axis=1))

    x, chosen = simulate()
    own = np.take_along_axis(x, chosen[..., None, None], axis=2)
    rest = np.argsort(np.arange(ALTERNATIVES) == chosen[..., None], axis=-1, kind="stable")[..., :-1]
    others = np.take_along_axis(x - own, rest[..., None], axis=2).reshape(-1, ALTERNATIVES - 1, RANDOM)
    return choice, {"others": others, "person": np.repeat(np.arange(PEOPLE), SITUATIONS)}


def by_mlejax():
    """The same, by this package, of a first and of a second fit."""
    import mlejax as mle

    choice, data = declared()
    given = mle.Draws(draws())
    first, _ = timed(lambda: choice.fit(data, integrate=given))
    again, res = timed(lambda: choice.fit(data, integrate=given))
    out = {"first": first, **again, "llf": res.llf, "coef": res.params.tolist(), "se": res.bse.tolist()}
    return {**out, "steps": res.n_steps, "monte_carlo": list(res.integration.monte_carlo), "verdict": res.verdict.code}


def main():
    """Fit, by both where xlogit is given."""
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from benchmarks import tables
    from benchmarks.recorded import circumstances, keep

    rows = {"mlejax": by_mlejax()}
    print("mlejax", rows["mlejax"], flush=True)
    if "--xlogit" in sys.argv:
        python = sys.argv[sys.argv.index("--xlogit") + 1]
        told = subprocess.run([python, __file__, "--by-xlogit"], check=True, capture_output=True, text=True).stdout
        rows["xlogit"] = json.loads(told.splitlines()[-1])
        print("xlogit", rows["xlogit"])
    if "--write" in sys.argv:
        keep("mixed_logit", {"circumstances": circumstances(), "rows": rows})
        tables.paste("random_effects", tables.random_effects())


if __name__ == "__main__":
    by_xlogit() if "--by-xlogit" in sys.argv else main()
