r"""The wild bootstrap of scores: the clusters' scores at the restricted estimates get random signs, without refits.

With c_g = H A^{-1} s_g, the statistic is (sum c_g)' (sum c_g c_g')^{-} (sum c_g), and a draw has w_g c_g in place of c_g, w_g
being -1 or 1 (Rademacher), or one of Webb's six points if there are fewer than ten clusters and not all signs are used.

Kline & Santos (2012), J. Econometric Methods 1, 23; Webb (2023), Canadian J. Economics 56, 839.
"""

from __future__ import annotations

import itertools

import numpy as np

from mlejax.covariance import summed_by_cluster
from mlejax.fit import check_count
from mlejax.shapes import Float, Host, Int

WEBB = np.array([-np.sqrt(1.5), -1.0, -np.sqrt(0.5), np.sqrt(0.5), 1.0, np.sqrt(1.5)])


def wild_p(
    influence: Float[Host, "n m"], codes: Int[Host, " n"] | None, n: int, seed: int
) -> tuple[float, str, Float[Host, " B"]]:
    """Return the p-value of a score test from wild bootstrap draws, a note that says how, and the draws' statistics divided
    by the observed one (B,).

    Args:
        influence: H A^-1 s_i of every term of positive weight (n, m).
        codes: cluster number of each of these terms (n,), or None if each term is its own cluster.
        n: number of draws; if there are at most n sign patterns, all of them are used.
        seed: seed of the draws.

    Raises:
        ValueError: fewer than 19 draws.
    """
    n, seed = check_count("bootstrap", n, 19), check_count("seed", seed, 0)
    if codes is not None:
        influence = summed_by_cluster(influence, codes)
    G = len(influence)
    every = G < 60 and n >= 2**G
    if every:
        w = np.array(list(itertools.product((-1.0, 1.0), repeat=G)))
    else:
        rng = np.random.default_rng(seed)
        w = rng.choice(WEBB if G < 10 else np.array([-1.0, 1.0]), size=(n, G))
    observed = _statistics(influence, np.ones((1, G)))[0]
    drawn = _statistics(influence, w) / np.maximum(observed, np.finfo(float).tiny)
    above = int((drawn >= 1 - 1e-10).sum())
    what = f"{G} {'rows' if codes is None else 'clusters'}"
    if every:
        return above / len(w), f"p from all {len(w)} signs of the scores of {what}", drawn
    law = "Webb" if G < 10 else "Rademacher"
    return (1 + above) / (n + 1), f"p from {n} wild draws ({law}) of the scores of {what}", drawn


def _statistics(c: Float[Host, "G m"], w: Float[Host, "B G"]) -> Float[Host, " B"]:
    total = w @ c
    meat = np.einsum("bg,gi,gj->bij", w**2, c, c, optimize=True)
    return np.einsum("bi,bi->b", total, np.linalg.solve(meat, total[:, :, None])[:, :, 0])
