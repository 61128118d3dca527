"""Latents of several columns, nested and crossed: closed forms of normal models, lme4 and glmmTMB, and what is refused."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm, poisson
from scipy.stats import multivariate_normal

import mlejax as mle

DATA = Path(__file__).parent / "data"
EXAMPLES = Path(__file__).parents[2] / "examples" / "data"
REFERENCE = json.loads((Path(__file__).parent.parent / "references" / "crossed.json").read_text())


@mle.model(
    mu=mle.Real(), sd=mle.NonNegative(shape=2), sigma=mle.Positive(), a=mle.Latent(by="plate"), b=mle.Latent(by="sample")
)
def diameters(params: Any, data: Any) -> Any:
    mean = params["mu"] + params["sd"][0] * params["a"] + params["sd"][1] * params["b"]
    return norm.logpdf(data["diameter"], mean, params["sigma"])


@mle.model(
    mu=mle.Real(),
    sd=mle.NonNegative(shape=2),
    sigma=mle.Positive(),
    batch=mle.Latent(by="batch"),
    cask=mle.Latent(by=("batch", "cask")),
)
def strengths(params: Any, data: Any) -> Any:
    mean = params["mu"] + params["sd"][0] * params["cask"] + params["sd"][1] * params["batch"]
    return norm.logpdf(data["strength"], mean, params["sigma"])


@pytest.fixture(scope="module")
def penicillin() -> mle.Results:
    return diameters.fit(pd.read_csv(EXAMPLES / "penicillin.csv"))


@pytest.fixture(scope="module")
def pastes() -> mle.Results:
    return strengths.fit(pd.read_csv(DATA / "pastes.csv"))


def covariance(table: pd.DataFrame, columns: list[list[str]], sds: Any, sigma: float) -> np.ndarray:
    """Of the rows of a normal model with intercepts of the levels of these columns."""
    out = sigma**2 * np.eye(len(table))
    for names, sd in zip(columns, sds, strict=True):
        label = table[names].astype(str).agg(":".join, axis=1).to_numpy()
        out += sd**2 * (label[:, None] == label)
    return out


@pytest.mark.parametrize("name", ["penicillin", "pastes"])
def test_normal_models_are_those_of_lme4(name: str, request: pytest.FixtureRequest) -> None:
    """lme4's estimates are right to its optimiser; its log-likelihood at its maximum is exact."""
    res, (llf, mu, first, second, sigma, error) = request.getfixturevalue(name), REFERENCE[name]
    assert res.llf == pytest.approx(llf, abs=1e-7)
    np.testing.assert_allclose((res.params - [mu, first, second, sigma]) / res.bse, 0.0, atol=1e-3)
    assert res.bse["mu"] == pytest.approx(error, rel=0.02)  # lme4 takes the variances for known
    assert res.verdict.code == "verified"


def test_levels_and_their_errors_are_those_of_the_closed_form(penicillin: mle.Results) -> None:
    table = pd.read_csv(EXAMPLES / "penicillin.csv")
    p = penicillin.params_tree
    plate, sample = (pd.get_dummies(table[name]).to_numpy(float) for name in ("plate", "sample"))
    z = np.hstack([p["sd"][0] * plate, p["sd"][1] * sample])
    inverse = np.linalg.inv(np.eye(z.shape[1]) + z.T @ z / p["sigma"] ** 2)
    mode = inverse @ z.T @ (table["diameter"] - p["mu"]) / p["sigma"] ** 2
    found = penicillin.latent()
    assert found["level"].tolist() == [*sorted(set(table["plate"])), *sorted(set(table["sample"]))]
    np.testing.assert_allclose(found["mode"], mode, atol=1e-9)
    np.testing.assert_allclose(found["sd"], np.sqrt(np.diag(inverse)), rtol=1e-9)
    assert (found["sd_all"] > found["sd"]).all()


def test_nested_levels_have_robust_errors_by_the_outer_column(pastes: mle.Results) -> None:
    """Scores of the ten batches by differences of their normal densities."""
    table = pd.read_csv(DATA / "pastes.csv")
    robust = strengths.fit(table, cov_type="HC0")
    assert robust.n_units == 10

    def by_batch(theta: np.ndarray) -> np.ndarray:
        parts = [part for _, part in table.groupby("batch")]
        full = [covariance(t, [["batch", "cask"], ["batch"]], theta[1:3], theta[3]) for t in parts]
        means = [np.full(len(t), theta[0]) for t in parts]
        return np.array([multivariate_normal.logpdf(t["strength"], m, v) for t, m, v in zip(parts, means, full, strict=True)])

    theta, h = pastes.params.to_numpy(), 1e-5
    steps = h * np.eye(4)
    scores = np.stack([(by_batch(theta + e) - by_batch(theta - e)) / (2 * h) for e in steps], axis=1)
    assert by_batch(theta).sum() == pytest.approx(pastes.llf, rel=1e-12)
    inverse = np.linalg.inv(pastes.information.to_numpy())
    np.testing.assert_allclose(robust.bse, np.sqrt(np.diag(inverse @ scores.T @ scores @ inverse)), rtol=1e-5)
    assert strengths.fit(table, cov_type="cluster", cov_kwds={"groups": "batch"}).bse["mu"] > 0
    labels = pastes.latent()
    assert labels["level"].tolist()[:11] == [*"ABCDEFGHIJ", "A:a"]


@pytest.mark.slow
def test_poisson_and_binary_models_are_those_of_glmmtmb() -> None:
    """Laplace's approximation by another program, whose standard deviations are in logarithms."""

    @mle.model(
        beta=mle.Real(shape=4), sd=mle.NonNegative(shape=2), b=mle.Latent(by="brood"), l=mle.Latent(by="location")
    )
    def ticks(params: Any, data: Any) -> Any:
        eta = data["X"] @ params["beta"] + params["sd"][0] * params["b"] + params["sd"][1] * params["l"]
        return poisson.logpmf(data["ticks"], jnp.exp(eta))

    @mle.model(
        mu=mle.Real(), sd=mle.NonNegative(shape=2), able=mle.Latent(by="person"), easy=mle.Latent(by="item")
    )
    def irt(params: Any, data: Any) -> Any:
        eta = params["mu"] + params["sd"][0] * params["able"] + params["sd"][1] * params["easy"]
        return mle.special.log_sigmoid(jnp.where(data["y"] == 1, eta, -eta))

    t = pd.read_csv(DATA / "grouseticks.csv")
    x = np.stack([np.ones(len(t)), t["year"] == 96, t["year"] == 97, t["height"]], axis=1).astype(float)
    both = [
        ("ticks", ticks.fit({**t[["ticks", "brood", "location"]].to_dict("series"), "X": x})),
        ("irt", irt.fit(pd.read_csv(EXAMPLES / "verbagg.csv"))),
    ]
    for name, res in both:
        llf, *estimates = REFERENCE[name]
        assert res.llf == pytest.approx(llf, abs=1e-6)
        np.testing.assert_allclose((res.params - estimates) / res.bse, 0.0, atol=1e-3)
        scale = np.where(res.params.index.str.startswith("sd"), res.params, 1.0)
        np.testing.assert_allclose(res.bse / scale, REFERENCE[f"{name}_errors"], rtol=1e-3)


def test_parts_that_no_latent_connects_are_contributions(penicillin: mle.Results) -> None:
    table = pd.read_csv(EXAMPLES / "penicillin.csv")
    other = table.assign(plate="x" + table["plate"], sample="x" + table["sample"])
    twice = diameters.fit(pd.concat([table, other]), cov_type="HC0")
    assert twice.n_units == 2
    assert twice.llf == pytest.approx(2.0 * penicillin.llf, rel=1e-12)
    np.testing.assert_allclose(twice.params, penicillin.params, rtol=1e-7)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda res, table: diameters.fit(table, cov_type="HC0").bse, "is not supported: latents of plate and sample"),
        (lambda res, table: res.bootstrap(10), "latents of plate and sample connect all rows"),
        (lambda res, table: res.influence(), "latents of plate and sample connect all rows"),
        (lambda res, table: res.jackknife(), "latents of plate and sample connect all rows"),
        (lambda res, table: res.cross_validate(3), "latents of plate and sample connect all rows"),
        (lambda res, table: diameters.fit(table, integrate=mle.Quadrature(5)), "by Laplace's approximation; leave out"),
    ],
)
def test_what_needs_several_contributions_is_refused_by_name(penicillin: mle.Results, ask: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask(penicillin, pd.read_csv(EXAMPLES / "penicillin.csv"))


@pytest.mark.slow
@pytest.mark.parametrize("crossed", [True, False])
def test_data_sets_of_a_batch_have_latents_of_their_own(crossed: bool) -> None:
    """The normal law of each data set's rows; the same labels in another data set are other levels."""
    rng, frames = np.random.default_rng(0), []
    columns = [["plate"], ["sample"]] if crossed else [["batch"], ["batch", "cask"]]
    for k in range(3):
        plate, sample = (a.ravel() for a in np.meshgrid(np.arange(6 + k).repeat(2), np.arange(5), indexing="ij"))
        a, b = rng.normal(size=6 + k), 1.2 * rng.normal(size=(1 if crossed else 6 + k, 5))
        y = 2.0 + 0.8 * a[plate] + b[0 if crossed else plate, sample] + 0.5 * rng.normal(size=len(plate))
        frames.append(pd.DataFrame({"set": k, "plate": plate, "sample": sample, "diameter": y}))
    table = pd.concat(frames).sample(frac=1.0, random_state=1)
    model = diameters if crossed else strengths
    table = table if crossed else table.rename(columns={"plate": "batch", "sample": "cask", "diameter": "strength"})
    batch = model.fit_groups(table, by="set")
    for k in range(3):
        own = table[table["set"] == k]

        def loglik(t: Any, own: pd.DataFrame = own) -> float:
            sds = t[1:3] if crossed else t[2:0:-1]
            mean = np.full(len(own), t[0])
            return float(multivariate_normal(mean, covariance(own, columns, sds, t[3])).logpdf(own.iloc[:, 3]))

        at, h = batch.params.loc[k].to_numpy(), 1e-5
        assert batch.verdict[k] == "verified"
        assert batch.llf[k] == pytest.approx(loglik(at), rel=1e-11)
        score = np.array([loglik(at + e) - loglik(at - e) for e in h * np.eye(4)]) / (2 * h)
        np.testing.assert_allclose(score * batch.bse.loc[k], 0.0, atol=1e-5)
    assert len(batch[2].latent()) == (8 + 5 if crossed else 8 + 40)


def test_pairs_of_columns_are_the_levels_of_one_latent() -> None:
    def strength(params: Any, data: Any) -> Any:
        return norm.logpdf(data["strength"], params["mu"] + params["sd"] * params["u"], params["sigma"])

    declared = {"mu": mle.Real(), "sd": mle.NonNegative(), "sigma": mle.Positive()}
    table = pd.read_csv(DATA / "pastes.csv")
    pairs = mle.model(**declared, u=mle.Latent(by=("batch", "cask")))(strength).fit(table, integrate="laplace")
    one = mle.model(**declared, u=mle.Latent(by="both"))(strength)
    joined = one.fit(table.assign(both=table["batch"] + table["cask"]), integrate="laplace")
    assert pairs.n_units == joined.n_units == 30
    assert pairs.llf == pytest.approx(joined.llf, rel=1e-12)
    assert pairs.latent().columns[0] == "batch:cask"
    assert len(pairs.influence().index) == 30


def test_clusters_have_to_contain_the_levels_of_all_latents(pastes: mle.Results) -> None:
    table = pd.read_csv(DATA / "pastes.csv")
    with pytest.raises(ValueError, match="a group must contain all rows of each level of all latents"):
        strengths.fit(table, cov_type="cluster", cov_kwds={"groups": "cask"}).bse  # noqa: B018


def test_simulated_data_share_the_latents_of_their_levels() -> None:
    @diameters.simulator
    def _(key: Any, params: Any, data: Any) -> Any:
        mean = params["mu"] + params["sd"][0] * params["a"] + params["sd"][1] * params["b"]
        return {"diameter": mean + params["sigma"] * jax.random.normal(key, (data.n_rows,))}

    table = pd.read_csv(EXAMPLES / "penicillin.csv")
    made = diameters.simulate({"mu": 0.0, "sd": [1.0, 2.0], "sigma": 1e-9}, table)["diameter"]
    grid = pd.Series(made).groupby([table["plate"], table["sample"]]).first().unstack()
    interaction = grid - grid.mean() - grid.mean(axis=1).to_numpy()[:, None] + grid.to_numpy().mean()
    np.testing.assert_allclose(interaction, 0.0, atol=1e-7)
    assert grid.mean().std() > 0.5
    assert grid.mean(axis=1).std() > 0.3
