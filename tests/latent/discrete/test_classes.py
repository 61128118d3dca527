"""Classes that are not observed: published numbers, errors against 50 digits, and what a fit has."""

import pickle
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm, poisson
from mpmath import mp

import mlejax as mle
from tests.cases import Case
from tests.latent import high_precision

DEATHS = {"y": np.arange(10.0), "w": np.array([162, 267, 271, 185, 111, 61, 27, 8, 3, 1])}  # The Times, 1910-1912
CASE = Case("faithful_mix2")
WAITING = {"y": CASE.data["waiting"]}


@mle.model(rate=mle.Positive(shape=2), z=mle.Discrete(2))
def counts(params: Any, data: Any) -> Any:
    return poisson.logpmf(data["y"], params["rate"][params["z"]])


@mle.model(mu=mle.Real(shape=2), sigma=mle.Positive(shape=2), z=mle.Discrete(2))
def normals(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["mu"][params["z"]], params["sigma"][params["z"]])


@mle.model(share=mle.Interval(0, 1, shape=(2, 3)), z=mle.Discrete(2, by="person"))
def answers(params: Any, data: Any) -> Any:
    p = params["share"][params["z"], data["item"].astype(int)]
    return jnp.where(data["yes"] == 1, jnp.log(p), jnp.log1p(-p))


# cell probabilities (2 + t)/4, (1 - t)/4, (1 - t)/4, t/4 are a mixture of two known laws, in the shares 1 - t and t
@mle.model(z=mle.Discrete(2))
def linkage(params: Any, data: Any) -> Any:
    cells = jnp.array([[0.5, 0.25, 0.25, 0.0], [0.75, 0.0, 0.0, 0.25]])
    return jnp.log(cells[params["z"], data["cell"].astype(int)])


@pytest.fixture(scope="module")
def deaths() -> mle.Results:
    return counts.fit(DEATHS, weights="w", weight_kind="frequency")


@pytest.fixture(scope="module")
def waiting() -> mle.Results:
    return normals.fit(WAITING)


def people() -> pd.DataFrame:
    """Answers of 60 people to three questions, of two kinds of people; some did not answer all."""
    rng = np.random.default_rng(3)
    kind = rng.random(60) < 0.4
    yes = rng.random((60, 3)) < np.where(kind[:, None], [0.9, 0.8, 0.7], [0.2, 0.3, 0.1])
    table = pd.DataFrame(
        {"person": np.repeat(np.arange(60), 3), "item": np.tile(np.arange(3), 60), "yes": yes.ravel() * 1.0}
    )
    return table.drop(index=[4, 50, 51])


def test_deaths_of_hasselblad(deaths: mle.Results) -> None:
    """Hasselblad (1969), J. Am. Stat. Assoc. 64, 1459: shares and rates to the digits printed; errors against 50 digits."""
    assert deaths.verdict.code == "verified"
    want = {"rate[0]": 1.256095, "rate[1]": 2.663404, "z_probs[0]": 0.359885}
    for name, value in want.items():
        assert deaths.params[name] == pytest.approx(value, abs=2e-6)
    assert deaths.llf == pytest.approx(-1989.94586, abs=1e-5)

    def loglik(t: Any) -> Any:
        return sum(
            int(w) * mp.log(t[2] * high_precision.poisson(y, t[0]) + (1 - t[2]) * high_precision.poisson(y, t[1]))
            for y, w in zip(DEATHS["y"], DEATHS["w"], strict=True)
        )

    at = [deaths.params[name] for name in ("rate[0]", "rate[1]", "z_probs[0]")]
    assert deaths.llf == pytest.approx(float(loglik(at)), rel=1e-13)
    errors = high_precision.errors(loglik, at)
    np.testing.assert_allclose(deaths.bse[["rate[0]", "rate[1]", "z_probs[0]"]], errors, rtol=1e-8)
    assert np.abs(high_precision.score(loglik, at) * errors).max() < 1e-7


def test_linkage_of_rao() -> None:
    """Counts 125, 18, 20, 34: a root of 197 t^2 - 15 t - 68; Louis (1982), J. R. Stat. Soc. B 44, 226: information 377.5."""
    data = {"cell": np.arange(4), "w": np.array([125, 18, 20, 34])}
    res = linkage.fit(data, weights="w", weight_kind="frequency")
    t = (15 + np.sqrt(15**2 + 4 * 197 * 68)) / (2 * 197)
    assert res.params["z_probs[1]"] == pytest.approx(t, rel=1e-12)
    information = 125 / (2 + t) ** 2 + 38 / (1 - t) ** 2 + 34 / t**2
    assert float(res.information.iloc[0, 0]) == pytest.approx(information, rel=1e-12)
    assert t == pytest.approx(0.62682149, abs=1e-8)
    assert information == pytest.approx(377.517, abs=5e-4)
    assert res.bse["z_probs[1]"] == pytest.approx(0.0514673, abs=5e-8)
    assert res.bse["z_probs[1]"] == pytest.approx(information**-0.5, rel=1e-12)


def test_waiting_times_of_old_faithful(waiting: mle.Results) -> None:
    """The reference of the case (R, numDeriv), which writes the sum over the classes by hand."""
    order = ["z_probs[0]", "mu[0]", "sigma[0]", "mu[1]", "sigma[1]"]
    want = np.array([float(CASE.estimates[name]) for name in ("w", "mu1", "sigma1", "mu2", "sigma2")])
    errors = np.array([float(CASE.se("oim")[name]) for name in ("w", "mu1", "sigma1", "mu2", "sigma2")])
    assert waiting.llf == pytest.approx(CASE.llf, rel=1e-12)
    np.testing.assert_allclose((waiting.params[order] - want) / errors, 0.0, atol=1e-6)
    np.testing.assert_allclose(waiting.bse[order], errors, rtol=1e-6)
    robust = normals.fit(WAITING, cov_type="HC0", start=waiting.params_tree)
    scores = waiting.score_obs[["mu[0]", "mu[1]", "sigma[0]", "sigma[1]", "z_probs[0]"]].to_numpy()
    bread = np.linalg.inv(waiting.information.to_numpy())
    np.testing.assert_allclose(
        robust.bse.iloc[:5], np.sqrt((bread @ (scores.T @ scores) @ bread).diagonal()), rtol=1e-8
    )


def test_probabilities_of_the_classes(waiting: mle.Results) -> None:
    """Bayes' theorem, row by row."""
    p, y = waiting.params, WAITING["y"]
    joint = np.stack([p[f"z_probs[{k}]"] * np.asarray(norm.pdf(y, p[f"mu[{k}]"], p[f"sigma[{k}]"])) for k in (0, 1)], 1)
    found = waiting.latent()
    np.testing.assert_allclose(found[["z[0]", "z[1]"]], joint / joint.sum(axis=1, keepdims=True), rtol=1e-5, atol=1e-7)
    assert (found["z"] == joint.argmax(axis=1)).all()
    assert waiting.integration is not None
    assert waiting.integration.points == 0
    assert "Latent z by row: integrated out exactly, by a sum over its values." in str(waiting.summary())
    mean = waiting.predict(lambda q, d: q["mu"][q["z"]] + 0.0 * d["y"], {"y": [0.0]})["estimate"][0]
    assert mean == pytest.approx(y.mean(), rel=1e-8)  # at the maximum of a normal mixture with free means and shares


def test_classes_of_units_with_rows_missing() -> None:
    """Log-likelihood and errors against 50 digits; one contribution a person."""
    table = people()
    res = answers.fit(table, start={"share": [[0.8] * 3, [0.2] * 3]})
    rows = [(g["item"].tolist(), g["yes"].tolist()) for _, g in table.groupby("person")]

    def loglik(t: Any) -> Any:
        share, total = (t[:3], t[3:6]), mp.mpf(0)
        for items, yes in rows:
            one = [mp.fprod(s[i] if a else 1 - s[i] for i, a in zip(items, yes, strict=True)) for s in share]
            total += mp.log(t[6] * one[0] + (1 - t[6]) * one[1])
        return total

    assert res.verdict.code == "verified"
    assert res.n_units == 60
    at = res.params.to_numpy()[:7]
    assert res.llf == pytest.approx(float(loglik(at)), rel=1e-12)
    np.testing.assert_allclose(res.bse.to_numpy()[:7], high_precision.errors(loglik, at), rtol=1e-7)
    assert list(res.latent().columns) == ["person", "z", "z[0]", "z[1]"]
    twice = pd.concat([table, table.assign(person=table["person"] + 100)])
    both = answers.fit(twice, start=res.params_tree)
    weighted = answers.fit(table.assign(w=2), weights="w", weight_kind="frequency", start=res.params_tree)
    np.testing.assert_allclose(weighted.bse, both.bse, rtol=1e-7)
    with pytest.raises(mle.DataError, match="covariates of z_probs"):
        answers.regress(z_probs="item").fit(table)


def test_regressed_parameters() -> None:
    """A mixture of regressions by formulas equals the one written out; the probabilities of the classes may have covariates."""
    rng = np.random.default_rng(1)
    x, z = rng.normal(size=200), rng.random(200) < 0.4
    data = {"x": x, "y": np.where(z, 1 + 2 * x, 3 - x) + 0.5 * rng.normal(size=200)}

    @mle.model(beta=mle.Real(shape=(2, 2)), sigma=mle.Positive(shape=2), z=mle.Discrete(2))
    def written(params: Any, data: Any) -> Any:
        mean = params["beta"][params["z"], 0] + params["beta"][params["z"], 1] * data["x"]
        return norm.logpdf(data["y"], mean, params["sigma"][params["z"]])

    start = {"beta": [[1.0, 2.0], [3.0, -1.0]], "sigma": [0.5, 0.5]}
    by_hand = written.fit(data, start=start)
    names = [f"mu[{k}][{name}]" for k in (0, 1) for name in ("Intercept", "x")]
    by_formula = normals.regress(mu="x").fit(data, start=dict(zip(names, [1.0, 2.0, 3.0, -1.0], strict=True)))
    assert by_formula.llf == pytest.approx(by_hand.llf, rel=1e-12)
    np.testing.assert_allclose(by_formula.params, by_hand.params, rtol=1e-6)
    np.testing.assert_allclose(by_formula.bse, by_hand.bse, rtol=1e-6)


def test_the_function_is_still_a_plain_function() -> None:
    params = {"rate": jnp.array([1.0, 3.0]), "z": jnp.array([0, 1])}
    np.testing.assert_allclose(
        counts(params, {"y": jnp.array([2.0, 2.0])}), poisson.logpmf(2, params["rate"]), rtol=1e-6
    )
    assert "z_probs=Simplex(shape=(2,)), z=Discrete(2)" in repr(counts)
    assert pickle.loads(pickle.dumps(counts)) is counts


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: mle.Discrete(1), "from 2 to 50"),
        (lambda: mle.Discrete(2, by=3), "expected a name"),
        (lambda: mle.model(z=mle.Discrete(2), unit="g")(counts.__wrapped__), "Leave out unit="),
        (lambda: mle.model(z=mle.Discrete(2), rowwise=False)(counts.__wrapped__), "Leave out rowwise="),
        (lambda: mle.model(z=mle.Discrete(2), u=mle.Latent(by="g"))(counts.__wrapped__), "with the latent variable"),
        (lambda: mle.model(z=mle.Discrete(2), z_probs=mle.Real())(counts.__wrapped__), "give your parameter another name"),
        (lambda: mle.model(z=mle.Discrete(2, probs="w"), w=mle.Real())(counts.__wrapped__), r"mle.Simplex\(shape=2\)"),
        (lambda: counts.fit(DEATHS, bias_reduction="jeffreys"), "not supported for models with latents"),
        (lambda: counts.fit(DEATHS, integrate="laplace"), "models with an mle.Latent"),
        (lambda: counts.fit(np.arange(3.0)), "data with column names"),
    ],
)
def test_what_is_refused(declare: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        declare()
