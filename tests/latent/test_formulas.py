"""Random effects by formula, as in lme4: against brute-force quadrature, lme4 and glmmTMB."""

import functools
import json
import math
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm
from scipy.stats import multivariate_normal

import mlejax as mle
from mlejax.fit.latents.integration import rank_of
from tests.cases import Case
from tests.latent import brute_force

HERE = Path(__file__).parent
LME4 = json.loads((HERE.parent / "references" / "glmer.json").read_text())
SLEEP = pd.DataFrame(Case("sleepstudy_ri").data)


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def gaussian(params: Any, data: Any) -> Any:
    return norm.logpdf(data["reaction"], params["mu"], params["sigma"])


@mle.model(log_rate=mle.Real())
def counts(params: Any, data: Any) -> Any:
    eta = params["log_rate"]
    return data["y"] * eta - jnp.exp(eta) - jax.lax.lgamma(data["y"] + 1.0)


@mle.model(p=mle.Interval(0, 1))
def shares(params: Any, data: Any) -> Any:
    p = params["p"]
    return data["y"] * jnp.log(p) + (data["size"] - data["y"]) * jnp.log1p(-p)


class Example(NamedTuple):
    model: mle.Model
    data: pd.DataFrame
    truth: brute_force.Truth


def dummies(column: pd.Series) -> list[np.ndarray]:
    return [np.asarray(column == level, float) for level in sorted(column.unique())[1:]]


@functools.cache
def example(name: str) -> Example:
    if name == "grouseticks":
        d = pd.read_csv(HERE / "data" / "grouseticks.csv").rename(columns={"ticks": "y"})
        x, z, by = [np.ones(len(d)), *dummies(d["year"]), d["height"]], np.ones((len(d), 1)), d["brood"]
        family, constant = brute_force.poisson(d["y"].to_numpy(np.longdouble)), -sum(map(math.lgamma, d["y"] + 1.0))
        model = counts.regress(log_rate=mle.Linear("C(year) + height", random="1 | brood"))
        start = LME4[name]
    else:
        d = pd.read_csv(HERE / "data" / "contraception.csv").rename(columns={"use": "y"}).assign(size=1)
        x, by = [np.ones(len(d)), d["age"], d["age"] ** 2, d["urban"], *dummies(d["livch"])], d["district"]
        family = brute_force.binomial(d["y"].to_numpy(np.longdouble), d["size"].to_numpy(np.longdouble))
        slopes = name == "contraception_slopes"
        random, constant = "1 + urban | district" if slopes else "1 | district", 0.0
        z = np.stack([np.ones(len(d)), d["urban"]], axis=1)[:, : 1 + slopes]
        model = shares.regress(p=mle.Linear("age + I(age**2) + urban + C(livch)", random=random))
        if slopes:
            *beta, first, second, r = LME4["contraception_slopes_glmmTMB"]
            start = [*beta, first, r * second, math.sqrt(1 - r * r) * second]
        else:
            start = LME4[name]
    truth = brute_force.maximum(family, np.stack(x, axis=1), z, by.to_numpy(), np.array(start), constant)
    return Example(model, d, truth)


NAMES = [
    "grouseticks",
    pytest.param("contraception", marks=pytest.mark.slow),
    pytest.param("contraception_slopes", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("name", NAMES)
def test_by_default_the_integral(name: str) -> None:
    """1e-3 standard errors are promised, and these data take many points, so that much less remains."""
    case = example(name)
    res = case.model.fit(case.data)
    assert res.verdict.code == "verified"
    assert res.llf == pytest.approx(case.truth.loglik, rel=1e-9)
    np.testing.assert_allclose((res.params - case.truth.estimates) / case.truth.errors, 0.0, atol=1e-6)
    np.testing.assert_allclose(res.bse, case.truth.errors, rtol=1e-6)


@pytest.mark.slow
def test_laplace_of_intercepts_and_slopes_is_that_of_glmmtmb() -> None:
    case = example("contraception_slopes")
    res = case.model.fit(case.data, integrate="laplace")
    beta, errors = res.params[:7], np.array(LME4["contraception_slopes_glmmTMB_errors"])
    assert res.llf == pytest.approx(LME4["contraception_slopes_glmmTMB_loglik"][0], abs=1e-6)
    np.testing.assert_allclose((beta - LME4["contraception_slopes_glmmTMB"][:7]) / errors, 0.0, atol=2e-3)
    np.testing.assert_allclose(res.bse[:7], errors, rtol=1e-3)
    np.testing.assert_allclose(
        res.random_effects()["estimate"], LME4["contraception_slopes_glmmTMB"][7:], atol=1e-3
    )  # as far as its optimiser goes


@pytest.fixture(scope="module")
def sleep() -> mle.Results:
    return gaussian.regress(mu=mle.Linear("days", random="1 + days | subject")).fit(SLEEP)


def test_sleepstudy(sleep: mle.Results) -> None:
    """lme4 by maximum likelihood; standard deviations and correlation as in its manual: 23.78, 5.72, 0.08."""
    assert list(sleep.params.index) == [
        "mu[Intercept]", "mu[days]", "sigma", "chol(mu|subject)[Intercept,Intercept]", "chol(mu|subject)[days,Intercept]",
        "chol(mu|subject)[days,days]",
    ]  # fmt: skip
    assert sleep.llf == pytest.approx(LME4["sleepstudy_loglik"][0], abs=1e-6)
    *beta, first, cross, last, sigma = LME4["sleepstudy"]
    np.testing.assert_allclose((sleep.params - [*beta, sigma, first, cross, last]) / sleep.bse, 0.0, atol=1e-3)
    found = sleep.random_effects()
    assert list(found.index) == ["sd(mu|subject)[Intercept]", "sd(mu|subject)[days]", "corr(mu|subject)[days,Intercept]"]
    np.testing.assert_allclose(found["estimate"], [23.7806, 5.7168, 0.0813], atol=1e-4)
    second = lambda p: jnp.sqrt(jnp.sum(p["chol(mu|subject)"][1] ** 2))
    wanted = sleep.nlcom(lambda p: [second(p), p["chol(mu|subject)"][1, 0] / second(p)])
    np.testing.assert_allclose(found["std_error"][1:], wanted.bse, rtol=1e-12)
    assert ((found["conf_low"] < found["estimate"]) & (found["estimate"] < found["conf_high"])).all()
    assert "corr(mu|subject)[days,Intercept] 0.08132 (0.32)" in " ".join(str(sleep.summary()).split())


def test_effects_are_labelled(sleep: mle.Results) -> None:
    found = sleep.latent()
    assert list(found["latent"][:2]) == ["mu|subject[Intercept]", "mu|subject[days]"]
    # the best linear predictor: Sigma z' (z Sigma z' + sigma^2)^-1 (y - x beta)
    factor, x = np.asarray(sleep.params_tree["chol(mu|subject)"]), np.stack([np.ones(10), np.arange(10)], axis=1)
    own = SLEEP[SLEEP["subject"] == SLEEP["subject"][0]]
    sigma = factor @ factor.T
    total = x @ sigma @ x.T + sleep.params["sigma"] ** 2 * np.eye(10)
    want = sigma @ x.T @ np.linalg.solve(total, own["reaction"] - x @ sleep.params.iloc[:2])
    np.testing.assert_allclose(found["mode"][:2], want, rtol=1e-8)


@pytest.mark.slow
def test_two_bars_are_independent_effects() -> None:
    """The multivariate normal law, whose covariance of effects is diagonal."""
    res = gaussian.regress(mu=mle.Linear("days", random="1 + days || subject")).fit(SLEEP)
    assert list(res.params.index[3:]) == ["sd(mu|subject)[Intercept]", "sd(mu|subject)[days]"]
    beta, sigma, sd = res.params.iloc[:2].to_numpy(), res.params["sigma"], res.params.iloc[3:].to_numpy()
    x = np.stack([np.ones(10), np.arange(10)], axis=1)
    law = multivariate_normal(x @ beta, (x * sd**2) @ x.T + sigma**2 * np.eye(10))
    assert res.llf == pytest.approx(law.logpdf(SLEEP["reaction"].to_numpy().reshape(18, 10)).sum(), rel=1e-12)
    np.testing.assert_allclose(res.random_effects()["estimate"], sd)
    assert res.llf == pytest.approx(-876.0016, abs=1e-4)  # lme4, (days || subject)


def test_travels_and_is_regressed_again(sleep: mle.Results, tmp_path: Path) -> None:
    again = pickle.loads(pickle.dumps(sleep.model))
    assert repr(again) == "<mlejax model gaussian(mu ~ days [random 1 + days | subject], sigma=Positive())>"
    scale = again.regress(sigma="days")
    assert "chol(mu|subject)" in scale.likelihood.parameters
    assert scale.regress(mu="days").likelihood.parameters.keys() == {"mu", "sigma"}  # without random effects again
    sleep.save(tmp_path / "sleep.mle")
    loaded = mle.load(tmp_path / "sleep.mle", model=sleep.model)
    assert str(loaded.params) == str(sleep.params)
    with pytest.raises(ValueError, match="needs the model"):
        loaded.random_effects()


@pytest.mark.parametrize(
    ("random", "message"),
    [
        ("days", "a bar and a grouping column"),
        ("1 | ", "a bar and a grouping column"),
        ("(1 | subject) + days", "effects of several columns stand in parentheses"),
        ("1 | school/", "nested ones"),
        ("band | subject", "one numeric column for each term"),
        ("1 | subjct", "no column 'subjct'"),
    ],
)
def test_what_is_refused(random: str, message: str) -> None:
    data = SLEEP.assign(band=np.array(list("abc"))[np.arange(len(SLEEP)) % 3])
    with pytest.raises((ValueError, KeyError), match=message):
        gaussian.regress(mu=mle.Linear("days", random=random)).fit(data)


def test_vectors_are_refused() -> None:
    pair = mle.model(beta=mle.Real(shape=2))(lambda params, data: -jnp.sum((data["y"][:, None] - params["beta"]) ** 2, 1))
    with pytest.raises(ValueError, match="scalar parameters only"):
        pair.regress(beta=mle.Linear("1", random="1 | g"))


@pytest.mark.slow
def test_nested_effects_are_those_of_lme4() -> None:
    """lmer(strength ~ 1 + (1 | batch/cask), Pastes, REML = FALSE), tests/references/crossed.R; pairs are one factor."""
    data = pd.read_csv(HERE / "data" / "pastes.csv").rename(columns={"strength": "reaction"})
    res = gaussian.regress(mu=mle.Linear("1", random="1 | batch/cask")).fit(data)
    want = json.loads((HERE.parent / "references" / "crossed.json").read_text())["pastes"]
    assert res.verdict.code == "verified"
    names = ["mu[Intercept]", "sd(mu|batch:cask)[Intercept]", "sd(mu|batch)[Intercept]", "sigma"]
    assert res.llf == pytest.approx(want[0], rel=1e-8)
    np.testing.assert_allclose(res.params[names], want[1:5], rtol=1e-4)
    assert res.bse[names[0]] == pytest.approx(want[5], rel=1e-3)
    assert set(res.random_effects().index) == set(names[1:3])
    alone = gaussian.regress(mu=mle.Linear("1", random="1 | batch:cask")).fit(data)
    pairs = gaussian.regress(mu=mle.Linear("1", random="1 | both")).fit(data.assign(both=data["batch"] + data["cask"]))
    assert alone.llf == pytest.approx(pairs.llf, rel=1e-10)
    np.testing.assert_allclose(alone.bse, pairs.bse, rtol=1e-6)


@pytest.mark.slow
def test_effects_of_two_columns_are_crossed() -> None:
    """Groups of the mean and other groups of the spread: as with the latents written by hand."""
    rng = np.random.default_rng(1)
    g, h = rng.integers(0, 20, 400), rng.integers(0, 15, 400)
    y = 1 + 0.8 * rng.normal(size=20)[g] + np.exp(0.2 + 0.4 * rng.normal(size=15)[h]) * rng.normal(size=400)
    data = {"reaction": y, "g": g, "h": h}
    by_formula = gaussian.regress(mu=mle.Linear("1", random="1 | g"), sigma=mle.Linear("1", random="1 | h")).fit(data)

    @mle.model(
        mu=mle.Real(), s=mle.Real(), tau=mle.NonNegative(), omega=mle.NonNegative(), u=mle.Latent(by="g"), v=mle.Latent(by="h")
    )
    def by_hand(params, data):
        spread = jnp.exp(params["s"] + params["omega"] * params["v"])
        return norm.logpdf(data["reaction"], params["mu"] + params["tau"] * params["u"], spread)

    written = by_hand.fit(data)
    assert by_formula.verdict.code == written.verdict.code == "verified"
    np.testing.assert_allclose(by_formula.llf, written.llf, rtol=1e-10)
    np.testing.assert_allclose(by_formula.params.to_numpy(), written.params.to_numpy(), rtol=1e-6)
    np.testing.assert_allclose(by_formula.bse.to_numpy(), written.bse.to_numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    ("covariance", "rank"),
    [([[4.0, 2.0], [2.0, 1.0]], 1), ([[1.0, 2.0], [2.0, 4.0]], 1), ([[4.0, 0.0], [0.0, 0.0]], 1), ([[0.0, 0.0], [0.0, 4.0]], 1),
     ([[0.0, 0.0], [0.0, 0.0]], 0), ([[4e-12, 1e-6], [1e-6, 1.0]], 2)],
)  # fmt: skip
def test_the_rank_depends_neither_on_order_nor_on_units(covariance: Any, rank: int) -> None:
    assert rank_of(np.array(covariance)) == rank


@pytest.mark.slow
def test_a_singular_covariance_is_named_in_every_order() -> None:
    """Slopes that are proportional to intercepts: the correlation is 1, and the maximum is the same for every basis of it."""
    rng, days, who = np.random.default_rng(3), SLEEP["days"].to_numpy(), SLEEP["subject"].to_numpy(int)
    b = rng.normal(size=18)
    y = 250 + 10 * days + 20 * b[who] + 4 * b[who] * days + 20 * rng.normal(size=180)
    data = SLEEP.assign(reaction=y, early=9 - days)
    fits = [
        gaussian.regress(mu=mle.Linear("days", random=f"{terms} | subject")).fit(data)
        for terms in ("1 + days", "0 + days + early", "0 + early + days")
    ]
    for res in fits:
        assert res.verdict.code == "boundary"
        assert "the covariance of mu|subject is singular: rank 1 of 2" in res.verdict.statement
        assert res.llf == pytest.approx(fits[0].llf, rel=1e-10)
        assert res.random_effects()["estimate"].iloc[2] == pytest.approx(1.0)
        assert np.isnan(res.random_effects()["std_error"].iloc[2])
