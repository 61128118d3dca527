"""A hidden Markov chain: the number of great earthquakes a year, with two levels of activity that last.

Counts of independent years would be Poisson with one rate; these vary too much, and a year is like the year before. In a hidden
Markov chain the rate depends on a state that moves from year to year. The likelihood is summed over all paths of states.
The data and the numbers are those of Zucchini & MacDonald (2009), Hidden Markov Models for Time Series.

    python examples/hidden_markov.py
"""

from pathlib import Path

import numpy as np
import pandas as pd
from jax.scipy.stats import poisson

import mlejax as mle


@mle.model(rate=mle.Positive())
def independent(params, data):
    """Log-probability of each count, (n,), with one rate."""
    return poisson.logpmf(data["count"], params["rate"])


@mle.model(rate=mle.Positive(shape=2), s=mle.Markov(2, by="world", time="year"))
def two_states(params, data):
    """The same, the rate that of the year's state."""
    return poisson.logpmf(data["count"], params["rate"][params["s"]])


def main() -> None:
    """Compare with independent years, print the chain, and draw the states."""
    df = pd.read_csv(Path(__file__).parent / "data" / "earthquakes.csv").assign(world=0)  # one series

    alone, res = independent.fit(df), two_states.fit(df)
    print(res.summary())
    print(f"\nAIC: {res.aic:.1f}; of independent years {alone.aic:.1f}")

    print("\nYears that a state lasts on average, 1 / (1 - p), with errors:")
    print(res.nlcom(lambda p: {f"state {k}": 1.0 / (1.0 - p["s_transition"][k, k]) for k in range(2)}))

    states = res.latent()
    print("\nThe most probable path of states, by decade (. state 0, # state 1), and the mean count:")
    for decade, part in states.groupby(states["year"] // 10 * 10):
        mean = df.loc[part.index, "count"].mean()
        print(f"{decade}  {''.join('.#'[k] for k in part['s']):10}  {mean:5.1f}")
    unsure = states[np.abs(states["s[1]"] - 0.5) < 0.25]
    print(f"\nYears of which the chain is not sure: {', '.join(map(str, unsure['year']))}")

    by_em = two_states.fit(df, method="em")
    print(
        f"\nBy EM: {by_em.llf:.6f} after {len(by_em.path) - 1} steps; by Newton's method {res.llf:.6f} after {res.n_steps}"
    )


if __name__ == "__main__":
    main()
