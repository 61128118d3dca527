"""Log-likelihood, estimates and errors of random-intercept models against brute-force quadrature, and against lme4."""

import functools
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import poisson

import mlejax as mle
from tests.cases import Case
from tests.latent import brute_force

HERE = Path(__file__).parent
LME4 = json.loads((HERE.parent / "references" / "glmer.json").read_text())


@mle.model(beta=mle.Real(columns="X"), sd=mle.NonNegative(), u=mle.Latent(by="unit"))
def counts(params: Any, data: Any) -> Any:
    return poisson.logpmf(data["y"], jnp.exp(data["X"] @ params["beta"] + params["sd"] * params["u"]))


@mle.model(beta=mle.Real(columns="X"), sd=mle.NonNegative(), u=mle.Latent(by="unit"))
def shares(params: Any, data: Any) -> Any:
    eta = data["X"] @ params["beta"] + params["sd"] * params["u"]
    return data["y"] * jax.nn.log_sigmoid(eta) + (data["size"] - data["y"]) * jax.nn.log_sigmoid(-eta)


class Example(NamedTuple):
    model: mle.Model
    data: dict[str, Any]
    truth: brute_force.Truth


def table(name: str) -> dict[str, np.ndarray]:
    folder = HERE.parent.parent / "examples" / "data" if name == "epil" else HERE / "data"
    lines = (folder / f"{name}.csv").read_text().split()
    columns = np.array([line.split(",") for line in lines[1:]]).T
    codes = lambda column: np.unique(column, return_inverse=True)[1]
    names = lines[0].split(",")
    return {key: (codes(c) if key == "ID" else c).astype(float) for key, c in zip(names, columns, strict=True)}


@functools.cache
def example(name: str) -> Example:
    if name == "epil":
        d = table("epil")
        columns = [np.ones_like(d["y"]), d["lbase"], d["trt"], d["lage"], d["V4"], d["lbase"] * d["trt"]]
        data = {"y": d["y"], "X": np.stack(columns, axis=1), "unit": d["subject"]}
        constant = -sum(math.lgamma(y + 1) for y in d["y"])
        family, model = brute_force.poisson(d["y"].astype(np.longdouble)), counts
    else:
        if name == "cbpp":
            d = Case("cbpp_laplace").data
            dummies = [d["period"] == k for k in (1, 2, 3)]
            y, size, unit, columns = d["incidence"], d["size"], d["herd"], [np.ones_like(d["size"]), *dummies]
        elif name == "bacteria":
            d = table("bacteria")
            y, unit, columns = d["y"], d["ID"], [np.ones_like(d["y"]), d["drug"], d["drugp"], d["w2"]]
            size = np.ones_like(y)
        else:
            d = table("toenail")
            y, unit, columns = d["y"], d["id"], [np.ones_like(d["y"]), d["trt"], d["time"], d["trt"] * d["time"]]
            size = np.ones_like(y)
        data = {"y": y, "size": size, "X": np.stack(columns, axis=1).astype(float), "unit": unit}
        family, model, constant = brute_force.binomial(y.astype(np.longdouble), size.astype(np.longdouble)), shares, 0.0
    truth = brute_force.maximum(family, data["X"], np.ones((len(data["y"]), 1)), data["unit"], np.array(LME4[name]), constant)
    return Example(model, data, truth)


def distance(res: mle.Results, truth: brute_force.Truth) -> tuple[float, float, float]:
    """Log-likelihood, relative; estimates, standard errors; standard errors, relative."""
    return (
        abs(res.llf / truth.loglik - 1.0),
        np.abs((res.params.to_numpy() - truth.estimates) / truth.errors).max(),
        np.abs(res.bse.to_numpy() / truth.errors - 1.0).max(),
    )


NAMES = [
    "epil",
    "cbpp",
    pytest.param("bacteria", marks=pytest.mark.slow),
    pytest.param("toenail", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("name", NAMES)
def test_many_points_are_the_integral(name: str) -> None:
    """41 points; of toenail 159, as seven binary outcomes and a standard deviation of 4 are more than the rule can do with 41."""
    case = example(name)
    res = case.model.fit(case.data, integrate=mle.Quadrature(159 if name == "toenail" else 41))
    loglik, estimates, errors = distance(res, case.truth)
    assert loglik < 1e-8
    assert estimates < 1e-4
    assert errors < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("points", [9, 41])
def test_points_are_those_of_the_textbook(points: int) -> None:
    """Toenail at the truth: the rule of Pinheiro & Bates (1995) written out; with 41 points it is 8.6e-7 from the integral."""
    data, truth = example("toenail").data, example("toenail").truth
    sd = truth.estimates[-1]
    t, w = np.polynomial.hermite.hermgauss(points)
    total = 0.0
    for unit in np.unique(data["unit"]):
        rows = data["unit"] == unit
        y, eta = data["y"][rows, None], (data["X"][rows] @ truth.estimates[:-1])[:, None]
        z, scale = 0.0, 1.0
        for _ in range(100):
            p = 1.0 / (1.0 + np.exp(-(eta + sd * z)))
            curvature = 1.0 + sd**2 * float((p * (1.0 - p)).sum())
            z, scale = z + 0.5 * (sd * float((y - p).sum()) - z) / curvature, curvature**-0.5
        at = z + np.sqrt(2.0) * scale * t
        e = eta + sd * at
        logs = (y * e - np.logaddexp(0.0, e)).sum(axis=0) - at**2 / 2 - np.log(2 * np.pi) / 2
        total += np.log(np.sqrt(2.0) * scale * np.sum(w * np.exp(logs + t * t)))
    fixed = {"beta": truth.estimates[:-1], "sd": sd}
    found = shares.fit(data, integrate=mle.Quadrature(points), fixed=fixed).llf
    assert found == pytest.approx(total, rel=1e-12)
    assert abs(found / truth.loglik - 1.0) == pytest.approx({9: 3.4188869e-4, 41: 8.5801e-7}[points], rel=1e-2)


@pytest.mark.parametrize("name", NAMES)
def test_the_number_of_points_chooses_itself(name: str) -> None:
    """Within 1e-3 standard errors of the truth, and so says `integration`."""
    case = example(name)
    res = case.model.fit(case.data)
    assert res.verdict.code == "verified"
    assert res.integration is not None
    assert res.integration.accepted
    assert res.integration.shift <= 1e-3
    _, estimates, errors = distance(res, case.truth)
    assert max(estimates, errors) < 1e-3
    assert "integrated out by adaptive quadrature" in str(res.summary())


@pytest.mark.parametrize("name", NAMES)
def test_lme4_stops_nearby(name: str) -> None:
    """The truth itself: lme4's optimiser stops at about 1e-4 standard errors."""
    truth = example(name).truth
    assert np.abs((np.array(LME4[name]) - truth.estimates) / truth.errors).max() < 2e-3


def test_laplace_and_its_errors_of_every_kind() -> None:
    """An independent program with Richardson derivatives (tests/cases/README.md)."""
    case, herds = Case("cbpp_laplace"), example("cbpp")
    for kind, cov_type in (("oim", "nonrobust"), ("opg", "opg"), ("sandwich", "HC0")):
        res = shares.fit(herds.data, integrate="laplace", cov_type=cov_type)
        np.testing.assert_allclose(res.bse, case.vector(case.se(kind)), rtol=1e-6)
    want = case.vector(case.estimates)
    np.testing.assert_allclose(res.params, want, atol=1e-6)
