"""Hidden Markov chains: published numbers, sums over all paths in 50 digits, and what is refused."""

import itertools
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import poisson
from mpmath import mp, mpf
from scipy.stats import poisson as scipy_poisson

import mlejax as mle
from tests.latent import high_precision

QUAKES = pd.read_csv(Path(__file__).parents[3] / "examples" / "data" / "earthquakes.csv").assign(series=0)
SERIES = {"y": [1, 0, 7, 9, 1, 2, 8, 6, 0, 1, 1], "t": [1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4], "g": list("aaaaaaabbbb")}
START = {"rate": [1.0, 7.0], "s_transition": [[0.6, 0.4], [0.4, 0.6]]}


def model(n: int, by: str = "series", time: str | None = "year", y: str = "count", **options: Any) -> mle.Model:
    @mle.model(rate=mle.Positive(shape=n), s=mle.Markov(n, by=by, time=time, **options))
    def chain(params: Any, data: Any) -> Any:
        return poisson.logpmf(data[y], params["rate"][params["s"]])

    return chain


two = model(2)
stationary = model(2, "g", "t", "y")
free = model(2, "g", "t", "y", initial="free")
stationary_without_times = model(2, "g", None, "y")


def loglik(t: Any, initial: bool = False) -> Any:
    """Of the two series, by all paths; t: two rates, two probabilities to stay, and that of the first state where it is free."""
    rate, (p, q) = t[:2], t[2:4]
    step = [[p, 1 - p], [1 - q, q]]
    first = [t[4], 1 - t[4]] if initial else [(1 - q) / (2 - p - q), (1 - p) / (2 - p - q)]
    density = lambda value, k: high_precision.poisson(value, rate[k])
    parts = [SERIES["y"][:7], SERIES["y"][7:]]
    return sum(mp.log(high_precision.chain([mpf(v) for v in part], first, step, density)) for part in parts)


def test_earthquakes_of_zucchini_and_macdonald() -> None:
    """Stationary chains of one to three states: 391.9189, 342.3183, 329.4603; rates 15.472 and 26.125 (their section 3)."""
    res = two.fit(QUAKES)
    assert res.verdict.code == "verified"
    assert res.llf == pytest.approx(-342.3183, abs=5e-5)
    assert (res.params["rate[0]"], res.params["rate[1]"]) == pytest.approx((15.472, 26.125), abs=5e-4)
    assert res.params["s_transition[0,0]"] == pytest.approx(0.934, abs=5e-4)
    by_em = two.fit(QUAKES, method="em")
    np.testing.assert_allclose(by_em.params, res.params, rtol=1e-6)
    np.testing.assert_allclose(by_em.bse, res.bse, rtol=1e-6)
    assert (np.diff(by_em.path) >= -1e-8).all()
    rate = QUAKES["count"].mean()
    alone = float(scipy_poisson.logpmf(QUAKES["count"], rate).sum())
    assert alone == pytest.approx(-391.9189, abs=5e-5)


@pytest.mark.slow
def test_transitions_with_covariates() -> None:
    """The sum over all paths, the step to each row with that row's probabilities."""
    x = np.array([0.1, -0.4, 0.3, 0.8, -0.9, 0.2, 0.5, 0.4, -0.3, 0.6, -0.2])
    first = [0.7, 0.3]
    b, rate = np.array([[-0.5, 0.8], [0.4, -1.1]]), np.array([1.5, 6.0])
    at = {f"s_transition[{k},1][{name}]": b[k, i] for k in (0, 1) for i, name in enumerate(("Intercept", "x"))}
    res = free.regress(s_transition="x").fit({**SERIES, "x": x}, fixed={"s_initial": first, "rate": rate, **at})
    total = 0.0
    for part in (slice(0, 7), slice(7, 11)):
        y, odds = (
            SERIES["y"][part],
            np.exp(b[:, 0] + np.outer(x[part], b[:, 1])),
        )  # of state 1 against 0, from each state
        step = np.stack([1 / (1 + odds), odds / (1 + odds)], axis=2)
        weight = lambda s, y=y, step=step: (
            first[s[0]]
            * np.prod(scipy_poisson.pmf(y, rate[list(s)]))
            * np.prod([step[t, s[t - 1], s[t]] for t in range(1, len(y))])
        )
        total += np.log(sum(weight(s) for s in itertools.product((0, 1), repeat=len(y))))
    assert res.llf == pytest.approx(total, rel=1e-10)
    with pytest.raises(mle.LikelihoodError, match="no stationary distribution"):
        stationary.regress(s_transition="x").fit({**SERIES, "x": x})


@pytest.mark.parametrize("initial", [False, True])
def test_errors_against_all_paths(initial: bool) -> None:
    """Two series of different length; log-likelihood, score and errors against the sum over all paths."""
    chain = free if initial else stationary
    res = chain.fit(SERIES, start=START, fixed={"s_initial": [0.7, 0.3]} if initial else None)
    names = ["rate[0]", "rate[1]", "s_transition[0,0]", "s_transition[1,1]"]
    more = [mpf("0.7")] if initial else []
    at = res.params[names].tolist()
    here = lambda t: loglik([*t, *more], initial)
    assert res.verdict.code == "verified"
    assert res.llf == pytest.approx(float(here([mpf(x) for x in at])), rel=1e-12)
    errors = high_precision.errors(here, at)
    np.testing.assert_allclose(res.bse[names], errors, rtol=1e-7)
    assert np.abs(high_precision.score(here, at) * errors).max() < 1e-6


def test_states_given_the_series() -> None:
    """Probabilities of the states and the most probable path, by all paths of each series."""
    res = stationary.fit(SERIES, start=START)
    p = res.params_tree
    a, rate = np.asarray(p["s_transition"]), np.asarray(p["rate"])
    first = np.array([a[1, 0], a[0, 1]]) / (a[0, 1] + a[1, 0])
    found = res.latent()
    assert list(found.columns) == ["g", "t", "s", "s[0]", "s[1]"]
    assert found["g"].tolist() == SERIES["g"]
    for name in "ab":
        mine = found[found["g"] == name]
        y = np.array(SERIES["y"])[np.array(SERIES["g"]) == name]
        f = np.exp(np.asarray(poisson.logpmf(y[:, None], rate)))
        paths = list(itertools.product((0, 1), repeat=len(y)))
        weight = np.array(
            [
                first[s[0]] * np.prod(f[range(len(y)), s]) * np.prod([a[i, j] for i, j in itertools.pairwise(s)])
                for s in paths
            ]
        )
        smoothed = (
            np.array([[weight[[s[t] == k for s in paths]].sum() for k in (0, 1)] for t in range(len(y))]) / weight.sum()
        )
        np.testing.assert_allclose(mine[["s[0]", "s[1]"]], smoothed, rtol=1e-5, atol=1e-8)
        assert tuple(mine["s"]) == paths[int(weight.argmax())]


@pytest.mark.parametrize(
    ("fit", "message"),
    [
        (
            lambda: two.fit(QUAKES.drop(index=5)),
            r"year goes from 1904 to 1906 within series 0: .* insert the missing rows",
        ),
        (lambda: two.fit(QUAKES.iloc[::-1]), "sort the table by series and year"),
        (lambda: two.fit(QUAKES.assign(year=QUAKES["year"] + 0.5)), "whole numbers, dates or periods"),
        (lambda: two.fit(QUAKES.drop(columns="year")), "year"),
        (lambda: mle.Markov(2, by=None), "for a single series use a constant column"),
        (lambda: mle.Markov(2, by="g", initial="uniform"), "'stationary' or 'free'"),
        (lambda: mle.Markov(1, by="g"), "from 2 to 50"),
    ],
)
def test_what_is_refused(fit: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError, KeyError), match=message):
        fit()


@pytest.mark.parametrize("frequency", ["ME", "MS", "QS", "YE"])
def test_months_quarters_and_years_are_times(frequency: str) -> None:
    """The log-likelihood of Zucchini & MacDonald's two states does not depend on how the times are written."""
    dates = pd.date_range("1900-01-01", periods=107, freq=frequency)
    start = {"rate": [15.0, 26.0], "s_transition": [[0.9, 0.1], [0.1, 0.9]]}
    for times in (dates, dates.to_period()):
        assert two.fit(QUAKES.assign(year=times), start=start).llf == pytest.approx(-342.3183, abs=5e-5)
    with pytest.raises(mle.DataError, match=r"expected steps of (1 month|3 months|12 months), .* insert the missing rows"):
        two.fit(QUAKES.assign(year=dates).drop(index=5))


def test_dates_are_times_and_one_series_has_no_sandwich() -> None:
    dated = QUAKES.assign(year=pd.date_range("2020-01-06", periods=107, freq="7D"))
    start = {"rate": [15.0, 26.0], "s_transition": [[0.9, 0.1], [0.1, 0.9]]}
    res = two.fit(dated, start=start, cov_type="HC0")
    assert np.isnan(res.bse).all()
    assert res.llf == pytest.approx(-342.3183, abs=5e-5)
    with pytest.raises(mle.DataError, match="at least two units"):
        res.bootstrap(10)
    with pytest.raises(ValueError, match="changes from row to row"):
        res.predict(lambda p, d: p["rate"][p["s"]], dated)


def test_rows_that_are_missing_in_a_chain_without_times() -> None:
    """Dropping them would join their neighbours; kept with a log density of 0, they are steps without an outcome."""

    @mle.model(rate=mle.Positive(shape=2), s=mle.Markov(2, by="g"), optional=["y"])
    def chain(params: Any, data: Any) -> Any:
        density = poisson.logpmf(data["y"], params["rate"][params["s"]])
        return jnp.where(data["observed"]["y"], density, 0.0)

    y = [1, 0, None, 9, 1, 2, 8, None, 0, 1, 1]
    table = pd.DataFrame({"y": y, "g": ["a"] * 7 + ["b"] * 4})
    with pytest.raises(ValueError, match="would go from the row before a dropped row to the row after it"):
        stationary_without_times.fit(table, missing="drop")
    rate, (p, q) = (mpf(1), mpf(7)), (mpf("0.6"), mpf("0.6"))
    density = lambda value, k: mpf(1) if value is None else high_precision.poisson(mpf(value), rate[k])
    first, step = [(1 - q) / (2 - p - q), (1 - p) / (2 - p - q)], [[p, 1 - p], [1 - q, q]]
    truth = sum(mp.log(high_precision.chain(part, first, step, density)) for part in (y[:7], y[7:]))
    assert chain.fit(table, fixed=START).llf == pytest.approx(float(truth), rel=1e-12)
