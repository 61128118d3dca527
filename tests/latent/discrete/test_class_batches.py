"""Classes and hidden Markov chains of many data sets, and under a bootstrap: each as a fit alone, labels in one order."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm

import mlejax as mle
from tests.fit.latents.test_class_search import WAITING, normals, quiet
from tests.latent.discrete.test_chains import QUAKES, two

RNG = np.random.default_rng(3)
KIND = RNG.random((10, 80)) < 0.3
Y = np.where(KIND, RNG.normal(0.0, 1.0, KIND.shape), RNG.normal(2.6, 1.0, KIND.shape))


@mle.model(mu=mle.Real(shape=2), sigma=mle.Positive(), z=mle.Discrete(2))
def overlapping(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["mu"][params["z"]], params["sigma"])


@pytest.fixture(scope="module")
def batch() -> mle.BatchResults:
    return overlapping.fit_batch({"y": Y})


def test_labels_of_all_data_sets_are_in_one_order(batch: mle.BatchResults) -> None:
    """Each log-likelihood, score and error by the mixture written out."""
    good = np.isin(batch.verdict, ["verified"])
    assert good.sum() >= 8
    assert (batch.params["mu[0]"] < batch.params["mu[1]"])[good].all()
    i = int(np.flatnonzero(good)[-1])
    p, y = batch.params.iloc[i], Y[i]

    def loglik(t: Any) -> float:
        phi = np.exp(-0.5 * ((y[:, None] - t[:2]) / t[2]) ** 2) / (t[2] * np.sqrt(2 * np.pi))
        return float(np.log(t[3] * phi[:, 0] + (1 - t[3]) * phi[:, 1]).sum())

    at, h = p[["mu[0]", "mu[1]", "sigma", "z_probs[0]"]].to_numpy(), 1e-4
    assert batch.llf.iloc[i] == pytest.approx(loglik(at), rel=1e-10)
    e = h * np.eye(4)
    curvature = [[loglik(at + a + b) - loglik(at + a - b) - loglik(at - a + b) + loglik(at - a - b) for a in e] for b in e]
    errors = np.sqrt(np.linalg.inv(-np.array(curvature) / (4 * h * h)).diagonal())
    np.testing.assert_allclose(batch.bse.iloc[i][["mu[0]", "mu[1]", "sigma", "z_probs[0]"]], errors, rtol=1e-4)


@pytest.mark.slow
def test_a_start_keeps_the_labels_of_its_own(batch: mle.BatchResults) -> None:
    own = overlapping.fit_batch({"y": Y}, start={"mu": [3.0, 0.0], "sigma": 1.0})
    good = np.isin(batch.verdict, ["verified"]) & np.isin(own.verdict, ["verified"])
    same = good & np.isclose(own.llf, batch.llf, rtol=1e-9)
    assert same.sum() >= 6
    np.testing.assert_allclose(own.params["mu[1]"][same], batch.params["mu[0]"][same], rtol=1e-5)
    np.testing.assert_allclose(own.bse["mu[1]"][same], batch.bse["mu[0]"][same], rtol=1e-5)


@pytest.mark.slow
def test_the_bootstrap_relabels() -> None:
    """Classes that overlap exchange their labels in some refits: all are put in the order of the estimate's."""
    res = overlapping.fit({"y": Y[0]})
    boot = res.bootstrap(200, seed=2)
    values = boot.replicates.dropna()
    assert (values["mu[0]"] <= values["mu[1]"]).all()


@pytest.mark.slow
def test_a_search_that_loses_a_class_begins_anew_in_a_batch() -> None:
    """The maxima are those of fits alone, which begin anew too."""
    many = overlapping.fit_batch({"y": Y})
    for i in range(0, len(Y), 3):
        alone = overlapping.fit({"y": Y[i]})
        if alone.verdict.code == "verified":
            assert many.llf.iloc[i] == pytest.approx(alone.llf, rel=1e-9)


@pytest.mark.slow
def test_classes_and_units_without_a_mode_are_named_in_batches() -> None:
    """In the words of the fit of one data set."""
    waits, start = np.asarray(WAITING["y"]), {"mu": [43.0, 70.0], "sigma": [0.01, 13.0]}
    collapsed = quiet(normals.fit_batch, {"y": np.stack([waits, waits])}, start=start)
    assert collapsed.verdict.tolist() == ["no_finite_maximum"] * 2
    assert collapsed.failed["reason"].str.startswith("the class 0 of z has collapsed on 1 row;").all()

    @mle.model(mu=mle.Real(), u=mle.Latent(by="g", law=None))
    def without_law(params: Any, data: Any) -> Any:
        eta = params["mu"] + params["u"]
        return mle.special.log_sigmoid(jnp.where(data["y"] == 1, eta, -eta))

    mixed = np.tile([0.0, 1.0, 0.0, 1.0, 1.0, 0.0], (5, 1))
    alike = np.where(np.arange(5)[:, None] == 2, 1.0, mixed)
    data = {"y": np.r_[alike.ravel(), mixed.ravel()], "g": np.tile(np.arange(5).repeat(6), 2), "s": np.arange(2).repeat(30)}
    units = quiet(without_law.fit_groups, data, "s")
    assert units.verdict[0] == "not_computable"
    assert units.failed["reason"][0].startswith("g 2: the joint log density of its rows")


@pytest.mark.slow
def test_chains_of_many_data_sets() -> None:
    """Each as a fit alone; times are checked within each data set."""
    short = QUAKES.assign(part=1).iloc[:60]
    table = pd.concat([short, QUAKES.assign(part=0)])
    many = two.fit_groups(table, by="part")
    for i, part in enumerate((short, QUAKES)):
        alone = two.fit(part)
        assert many.llf.iloc[i] == pytest.approx(alone.llf, rel=1e-12)
        np.testing.assert_allclose(many.params.iloc[i], alone.params, rtol=1e-7)
        np.testing.assert_allclose(many.bse.iloc[i], alone.bse, rtol=1e-7)
    with pytest.raises(mle.DataError, match="year goes from 1909 to 1911"):
        two.fit_groups(pd.concat([short.drop(index=10), QUAKES.assign(part=0)]), by="part")
    assert many.llf.iloc[1] == pytest.approx(-342.3183, abs=5e-5)
