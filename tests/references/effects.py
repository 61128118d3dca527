"""Fixed effects by pyfixest: writes effects.csv (simulated, seed 7) and effects.json. Run in an environment that has pyfixest."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyfixest as pf

HERE = Path(__file__).parent
CLUSTERS = {"hetero": "hetero", "firm": {"CRV1": "firm"}, "year": {"CRV1": "year"}, "two": {"CRV1": "firm+year"}}


def simulated() -> pd.DataFrame:
    """400 rows of 25 firms in 8 years, which are spread over both."""
    rng = np.random.default_rng(7)
    n, firms = 400, 25
    firm, x, year = rng.integers(0, firms, n), rng.standard_normal((n, 2)).round(3), rng.integers(2000, 2008, n)
    eta = 0.3 * x[:, 0] - 0.2 * x[:, 1] + 0.5 * rng.standard_normal(firms)[firm]
    y, z = rng.poisson(np.exp(eta)), (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(int)
    names = [f"f{i:02d}" for i in firm]
    return pd.DataFrame({"y": y, "z": z, "x1": x[:, 0], "x2": x[:, 1], "firm": names, "year": year})


if __name__ == "__main__":
    frame = simulated()
    frame.to_csv(HERE / "effects.csv", index=False)
    made = {"software": f"pyfixest {pf.__version__}"}
    tight = {"fixef_rm": "none", "iwls_tol": 1e-13}
    for name, fit in (
        ("poisson", lambda vcov: pf.fepois("y ~ x1 + x2 | firm", frame, vcov=vcov, **tight)),
        ("logit", lambda vcov: pf.feglm("z ~ x1 + x2 | firm", frame, family="logit", vcov=vcov, **tight)),
        ("poisson two ways", lambda vcov: pf.fepois("y ~ x1 + x2 | firm + year", frame, vcov=vcov, fixef_tol=1e-13, **tight)),
    ):
        made[name] = {"params": fit("hetero").coef().tolist()}
        made[name] |= {kind: fit(vcov).se().tolist() for kind, vcov in CLUSTERS.items()}
    (HERE / "effects.json").write_text(json.dumps(made, indent=1) + "\n")
