"""Models with latents: closed forms, edges, what is refused, and what a result tells."""

import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

import mlejax as mle
from tests.cases import Case

LME4 = json.loads((Path(__file__).parent.parent / "references" / "glmer.json").read_text())
SLEEP = Case("sleepstudy_ri").data


@mle.model(beta=mle.Real(shape=2), sd=mle.NonNegative(), sigma=mle.Positive(), u=mle.Latent(by="subject"))
def intercepts(params: Any, data: Any) -> Any:
    mean = params["beta"][0] + params["beta"][1] * data["days"] + params["sd"] * params["u"]
    return norm.logpdf(data["reaction"], mean, params["sigma"])


@mle.model(
    beta=mle.Real(shape=2), L=mle.Cholesky(shape=2), sigma=mle.Positive(), u=mle.Latent(2, by="subject", cov="L")
)
def slopes(params: Any, data: Any) -> Any:
    effects = params["beta"] + params["u"]
    return norm.logpdf(data["reaction"], effects[:, 0] + effects[:, 1] * data["days"], params["sigma"])


@mle.model(mu=mle.Real(), sd=mle.NonNegative(), sigma=mle.Positive(), u=mle.Latent(by="batch"))
def one_way(params: Any, data: Any) -> Any:
    return norm.logpdf(data["yield"], params["mu"] + params["sd"] * params["u"], params["sigma"])


@pytest.fixture(scope="module")
def sleep() -> mle.Results:
    return intercepts.fit(SLEEP)


@pytest.fixture(scope="module")
def dyestuff() -> dict[str, np.ndarray]:
    return Case("dyestuff2_boundary").data


def test_a_normal_model_is_its_closed_form(sleep: mle.Results) -> None:
    """Any number of points is exact there; the reference is the multivariate normal log-likelihood."""
    case = Case("sleepstudy_ri")
    assert sleep.llf == pytest.approx(case.llf, rel=1e-10)
    names = list(case.estimates)
    want = np.concatenate([np.ravel(case.estimates[name]) for name in names])
    errors = np.concatenate([np.ravel(case.se("oim")[name]) for name in names])
    np.testing.assert_allclose((sleep.params.to_numpy() - want) / errors, 0.0, atol=1e-6)
    np.testing.assert_allclose(sleep.bse, errors, rtol=1e-6)


def test_conditional_laws_of_a_normal_model(sleep: mle.Results) -> None:
    """Mode and mean are the shrunken residual, the conditional variance sigma^2 / (sigma^2 + n sd^2) (u is standard normal)."""
    found, p = sleep.latent(), sleep.params
    residual = SLEEP["reaction"] - p["beta[0]"] - p["beta[1]"] * SLEEP["days"]
    totals = np.array([residual[SLEEP["subject"] == s].sum() for s in found["subject"]])
    n, sd, sigma = 10, p["sd"], p["sigma"]
    np.testing.assert_allclose(found["mean"], sd * totals / (sigma**2 + n * sd**2), rtol=1e-8)
    np.testing.assert_allclose(found["mode"], found["mean"], rtol=1e-8)
    np.testing.assert_allclose(found["sd"], np.sqrt(sigma**2 / (sigma**2 + n * sd**2)), rtol=1e-8)
    gradient = sleep.nlcom(lambda q: q["sd"] * (totals[0] - 10 * (q["beta"] - jnp.array([p["beta[0]"], p["beta[1]"]]))
                           @ jnp.array([1.0, 4.5])) / (q["sigma"] ** 2 + 10 * q["sd"] ** 2))  # fmt: skip
    np.testing.assert_allclose(found["sd_all"][0] ** 2 - found["sd"][0] ** 2, gradient.bse[0] ** 2, rtol=1e-4)


def test_two_latents_with_their_covariance() -> None:
    """lme4 on sleepstudy, by maximum likelihood: -875.9697, correlation 0.08."""
    res = slopes.fit(SLEEP)
    assert res.verdict.code == "verified"
    assert res.llf == pytest.approx(LME4["sleepstudy_loglik"][0], abs=1e-6)
    np.testing.assert_allclose((res.params - LME4["sleepstudy"]) / res.bse, 0.0, atol=1e-3)
    assert list(res.latent()["latent"][:2]) == ["u[0]", "u[1]"]


def test_a_variance_of_zero_is_a_boundary(dyestuff: dict[str, np.ndarray]) -> None:
    """Box & Tiao's second data set: the batches vary less than chance would have them."""
    case = Case("dyestuff2_boundary")
    res = one_way.fit({"yield": dyestuff["yield"], "batch": dyestuff["batch"]})
    assert res.verdict.code == "boundary"
    assert res.params["sd"] == 0.0
    assert res.llf == pytest.approx(case.llf, rel=1e-10)
    assert np.isnan(res.bse["sd"])
    # with the first data set's spread between batches, a start on the edge does not stay there
    moved = dyestuff["yield"] + 4.0 * np.array([1.0, -1.0, 0.0, 2.0, -2.0, 0.0])[dyestuff["batch"].astype(int) - 1]
    res = one_way.fit({"yield": moved, "batch": dyestuff["batch"]}, start={"sd": 0.0})
    assert res.verdict.code == "verified"
    assert res.params["sd"] > 1.0


def test_the_function_is_still_a_plain_function() -> None:
    params = {"mu": 1.0, "sd": 2.0, "sigma": 1.0, "u": jnp.array([0.5, -0.5])}
    out = one_way(params, {"yield": jnp.array([2.0, 0.0])})
    np.testing.assert_allclose(out, norm.logpdf(jnp.zeros(2)), rtol=1e-6)
    assert "u=Latent(by='batch')" in repr(one_way)
    assert pickle.loads(pickle.dumps(one_way)) is one_way


def test_weights_are_of_units(sleep: mle.Results) -> None:
    """Frequency weights of whole subjects equal the subjects repeated; weights of rows within a subject are refused."""
    data = {key: SLEEP[key] for key in ("reaction", "days", "subject")}
    twice = {key: np.concatenate([v, v]) for key, v in data.items()}
    twice["subject"] = np.concatenate([data["subject"], data["subject"] + 1000])
    weighted = intercepts.fit({**data, "w": np.full(180, 2)}, weights="w", weight_kind="frequency")
    repeated = intercepts.fit(twice)
    np.testing.assert_allclose(weighted.params, repeated.params, rtol=1e-7)
    np.testing.assert_allclose(weighted.bse, repeated.bse, rtol=1e-7)
    with pytest.raises(mle.DataError, match="constant within each unit"):
        intercepts.fit(data, weights=np.arange(180) + 1, weight_kind="frequency")


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: mle.Latent(9, by="g"), "at most 8 entries for each level"),
        (lambda: mle.Latent(by="g", law="gamma"), "expected 'normal'"),
        (lambda: mle.Latent(by="g", cov="S"), "normal vector"),
        (lambda: mle.Quadrature(0), "1 to 201"),
        (lambda: mle.model(u=mle.Latent(by="g"), unit="g")(one_way.__wrapped__), "Leave out unit="),
        (lambda: mle.model(u=mle.Latent(by="g"), rowwise=False)(one_way.__wrapped__), "rows must be independent"),
        (lambda: mle.model(u=mle.Latent(by="g"), v=mle.Latent(by="h", law=None))(one_way.__wrapped__), "law='normal'"),
        (lambda: mle.model(u=mle.Latent(2, by="g", cov="S"), S=mle.Real())(one_way.__wrapped__), "mle.Cholesky"),
    ],
)
def test_declarations_that_are_refused(declare: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        declare()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bias_reduction": "jeffreys"}, "not supported for models with latents"),
        ({"integrate": "exact"}, "'auto', 'laplace'"),
        ({"missing": "ignore"}, "missing"),
    ],
)
def test_options_that_are_refused(dyestuff: dict[str, np.ndarray], options: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        one_way.fit(dyestuff, **options)


def test_wrong_data_and_functions_are_named(dyestuff: dict[str, np.ndarray]) -> None:
    with pytest.raises(mle.MissingColumnError, match="batch"):
        one_way.fit({"yield": dyestuff["yield"]})
    with pytest.raises(ValueError, match=r"models with an mle\.Latent"):
        mle.model(mu=mle.Real())(lambda p, d: norm.logpdf(d["yield"], p["mu"])).fit(dyestuff, integrate="laplace")

    @mle.model(mu=mle.Real(), u=mle.Latent(by="batch"))
    def summed(params: Any, data: Any) -> Any:
        return jnp.sum(norm.logpdf(data["yield"], params["mu"] + params["u"]))

    with pytest.raises(mle.LikelihoodError, match="one log-likelihood value per row"):
        summed.fit(dyestuff)

    @mle.model(mu=mle.Real(), u=mle.Latent(by="batch"))
    def centred(params: Any, data: Any) -> Any:
        return norm.logpdf(data["yield"] - data["yield"].mean(), params["mu"] + params["u"])

    with pytest.raises(mle.LikelihoodError, match="uses its own row only"):
        centred.fit(dyestuff)


@pytest.mark.slow
def test_a_covariance_that_ends_singular() -> None:
    """Slopes that are a multiple of the intercepts: the last pivot is on its edge, and the effects are so too."""
    rng, subject = np.random.default_rng(10), np.repeat(np.arange(40), 6)
    z, days = rng.normal(size=40)[subject], np.tile(np.arange(6.0), 40) - 2.5
    reaction = 1 + 2 * days + 1.5 * z + 0.5 * z * days + rng.normal(size=240)
    res = slopes.fit({"reaction": reaction, "days": days, "subject": subject}, integrate="laplace")
    assert res.verdict.code == "boundary"
    assert res.params["L[1,1]"] == 0.0
    found = res.latent()
    ratio = found["mean"][1::2].to_numpy() / found["mean"][::2].to_numpy()
    np.testing.assert_allclose(ratio, res.params["L[1,0]"] / res.params["L[0,0]"], rtol=1e-8)
    assert (found["sd_all"] > found["sd"]).all()


@pytest.mark.slow
def test_predictions_average_over_the_law(sleep: mle.Results) -> None:
    """E exp(sd u) = exp(sd^2 / 2)."""
    new = {"days": np.array([0.0]), "reaction": np.array([0.0])}
    found = sleep.predict(lambda p, d: jnp.exp(p["sd"] / 100.0 * p["u"]) + 0.0 * d["days"], new)
    assert found["estimate"].iloc[0] == pytest.approx(np.exp((sleep.params["sd"] / 100.0) ** 2 / 2), rel=1e-10)


@pytest.mark.slow
def test_units_that_are_separated_are_no_maximum() -> None:
    """All outcomes of a unit alike: the standard deviation grows without end, and no error is printed."""

    @mle.model(mu=mle.Real(), sd=mle.NonNegative(), u=mle.Latent(by="g"))
    def logit(params: Any, data: Any) -> Any:
        eta = params["mu"] + params["sd"] * params["u"]
        return jax.nn.log_sigmoid(jnp.where(data["y"] == 1, eta, -eta))

    g = np.repeat(np.arange(30), 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mle.ConvergenceWarning)
        res = logit.fit({"y": (g % 2).astype(float), "g": g})
    assert not res.converged
    assert np.isnan(res.bse).all()


def test_a_unit_whose_integrand_has_no_maximum_is_named() -> None:
    """Without a density of the effects, a unit of successes alone rises for ever; the others have a mode."""

    @mle.model(b=mle.Real(), u=mle.Latent(by="g", law=None))
    def without_law(params: Any, data: Any) -> Any:
        eta = params["b"] * data["x"] + params["u"]
        return jax.nn.log_sigmoid(jnp.where(data["y"] == 1, eta, -eta))

    rng = np.random.default_rng(0)
    data = {"y": np.tile([1.0, 0.0, 1.0, 0.0], 10), "x": rng.normal(size=40), "g": np.repeat(np.arange(10), 4)}
    fine = without_law.fit(data, integrate="laplace")
    assert fine.verdict.code == "verified"
    data["y"][data["g"] == 7] = 1.0
    with pytest.warns(mle.ConvergenceWarning, match="g 7: the joint log density of its rows"):
        res = without_law.fit(data, integrate="laplace")
    assert res.verdict.code == "not_computable"
