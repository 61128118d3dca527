"""Distribution functions against mpmath: logarithms with first and second derivatives, and cdf and sf by the chain rule."""

from __future__ import annotations

from typing import Any

import jax
import mpmath as mp
import numpy as np
import pytest
from scipy import stats

from mlejax import special
from tests.special.densities.density_points import records
from tests.special.densities.density_reference import NOISE, load, misfits, unpacked
from tests.special.tail_points import DENSITIES, nb2, student

# Second derivatives that the docstrings name.
WIDER: dict[tuple[str, tuple[float, ...]], float] = {
    ("gengamma_logcdf", (0.05, 1.0, 1.5, 6.0)): 3e-9,
    ("nb2_logsf", (100.0, 93.0, 40.0)): 3e-12,
}
NAMES = sorted(name.removesuffix("_logcdf") for name in DENSITIES if name.endswith("_logcdf"))


def function(name: str) -> Any:
    return getattr(special, name)


def check(name: str, reference: dict[str, np.ndarray]) -> None:
    for k, found in enumerate(misfits(function(name), reference, 2)):
        bounds = [WIDER.get((name, tuple(point)), 0.0) for point in reference["points"].tolist()]
        allowed = np.maximum(1e-12, np.array(bounds) * (k == 2))
        worst = int(np.argmax(np.where(np.isnan(found), np.inf, found / allowed)))
        assert found[worst] <= allowed[worst], (name, k, tuple(reference["points"][worst]), found[worst])


SLOWLY = [pytest.param(name, marks=pytest.mark.slow) if name in ("nb2", "t") else name for name in NAMES]  # to compile


@pytest.mark.parametrize("tail", ["logcdf", "logsf"])
@pytest.mark.parametrize("name", SLOWLY)
def test_value_first_and_second_derivatives(name: str, tail: str) -> None:
    check(f"{name}_{tail}", load(f"{name}_{tail}", "tails.json"))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(DENSITIES))
def test_the_committed_references_are_those_of_the_formulas(name: str) -> None:
    known = load(name, "tails.json")
    points = [tuple(p) for p in known["points"][::8]]
    for key, value in unpacked(records(DENSITIES[name], points)).items():
        np.testing.assert_allclose(known[key][::8], value, rtol=1e-14, atol=1e-40)


@pytest.mark.parametrize("tail", ["cdf", "sf"])
@pytest.mark.parametrize("name", NAMES)
def test_cdf_and_sf_are_the_exponentials(name: str, tail: str) -> None:
    """Value and gradient; the gradient is the value times that of the logarithm."""
    reference = load(f"{name}_log{tail}", "tails.json")
    f, points = function(f"{name}_{tail}"), reference["points"]
    exact = np.exp(reference["value"])
    with jax.enable_x64(True):
        arguments = tuple(range(points.shape[1]))
        found, slopes = jax.jit(jax.vmap(jax.value_and_grad(f, arguments)))(*points.T)
        value, gradient = np.asarray(found), np.stack([np.asarray(a) for a in slopes], axis=1)
    # exp multiplies the rounding of its argument by its size
    size = exact * (1.0 + np.abs(reference["value"]))
    np.testing.assert_array_less(np.abs(value - exact), 1e-12 * size + 1e-300)
    slope = exact[:, None] * reference["gradient"]
    moved = np.abs(slope) + (np.abs(reference["hessian"] + reference["gradient"][:, :, None] * reference["gradient"][:, None, :])
                             * np.abs(points)[:, None, :]).sum(axis=-1) * exact[:, None]  # fmt: skip
    np.testing.assert_array_less(
        np.abs(gradient - slope), 1e-12 * (moved + size[:, None] * np.abs(reference["gradient"])) + NOISE
    )


def random_points(name: str) -> np.ndarray:
    rng = np.random.default_rng(17)
    if name == "t":
        df, scale, loc = np.exp(rng.uniform(-1.5, 9.0, 100)), np.exp(rng.normal(size=100)), rng.normal(0.0, 3.0, 100)
        return np.stack([loc + scale * rng.standard_t(np.minimum(df, 30.0)), df, loc, scale], axis=1)
    mu, alpha = np.exp(rng.uniform(-2.0, 5.0, 100)), np.exp(rng.uniform(-30.0, 3.0, 100))
    return np.stack([np.floor(mu * rng.exponential(1.0, 100)), mu, alpha], axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["t", "nb2"])
def test_cdf_and_sf_at_random_points(name: str) -> None:
    """Against mpmath, within 1e-12 (|v| + sum |a dv/da|) over the arguments a, for logarithms and for cdf and sf."""
    points = random_points(name)
    with mp.workdps(50 if name == "t" else 400):  # the upper tail of counts is 1 - cdf
        both = [{"t": student, "nb2": nb2}[name](*map(mp.mpf, point)) for point in points.tolist()]
        logs = np.array([[float(mp.log(v)) for v in pair] for pair in both])
        exact = np.array([[float(v) for v in pair] for pair in both])
    for k, tail in enumerate(("cdf", "sf")):
        for kind, right in ((tail, exact[:, k]), (f"log{tail}", logs[:, k])):
            f = jax.value_and_grad(function(f"{name}_{kind}"), tuple(range(points.shape[1])))
            with jax.enable_x64(True):
                found, slopes = jax.jit(jax.vmap(f))(*points.T)
                moved = np.abs(np.stack(slopes, axis=1) * points).sum(axis=1)
                error = np.abs(np.asarray(found) - right)
            np.testing.assert_array_less(error, 1e-12 * (np.abs(right) + moved) + 1e-300, err_msg=kind)


@pytest.mark.parametrize("name", NAMES)
def test_ends_of_the_support_and_illegal_parameters(name: str) -> None:
    low, high, parameters, illegal = ENDS[name]
    with jax.enable_x64(True):
        for kind, (below, above) in {
            "cdf": (0, 1),
            "sf": (1, 0),
            "logcdf": (-np.inf, 0),
            "logsf": (0, -np.inf),
        }.items():
            f = function(f"{name}_{kind}")
            np.testing.assert_array_equal(f(np.array([low, high]), *parameters), [below, above])
            assert np.isnan(f(1.0, *illegal))
            assert np.isnan(f(np.nan, *parameters))


ENDS: dict[str, tuple[float, float, tuple[float, ...], tuple[float, ...]]] = {
    "gengamma": (-1.0, np.inf, (0.0, 1.0, 0.5), (0.0, -1.0, 0.5)),
    "gev": (-9.0, np.inf, (0.0, 1.0, 0.2), (0.0, -1.0, 0.2)),
    "gpd": (-1.0, 9.0, (1.0, -0.2), (-1.0, 0.2)),
    "invgauss": (0.0, np.inf, (1.0, 1.0), (-1.0, 1.0)),
    "nb2": (-1.0, np.inf, (2.0, 0.5), (-2.0, 0.5)),
    "t": (-np.inf, np.inf, (3.0, 0.0, 1.0), (-3.0, 0.0, 1.0)),
    "weibull": (-1.0, np.inf, (2.0, 1.0), (2.0, -1.0)),
}


@pytest.mark.parametrize("kind", ["cdf", "sf", "logcdf", "logsf"])
def test_tails_of_the_extremes(kind: str) -> None:
    x = np.linspace(0.1, 4.0, 9)
    with jax.enable_x64(True):
        for xi in (-0.2, 0.0, 0.3):
            gpd, gev = function(f"gpd_{kind}"), function(f"gev_{kind}")
            np.testing.assert_allclose(gpd(x, 1.5, xi), getattr(stats.genpareto(xi, scale=1.5), kind)(x), rtol=1e-12)
            np.testing.assert_allclose(
                gev(x, 0.5, 1.5, xi), getattr(stats.genextreme(-xi, 0.5, 1.5), kind)(x), rtol=1e-12
            )
        below, above = {"cdf": (0, 1), "sf": (1, 0), "logcdf": (-np.inf, 0), "logsf": (0, -np.inf)}[kind]
        np.testing.assert_array_equal(function(f"gpd_{kind}")(np.array([-1.0, 9.0]), 1.0, -0.2), [below, above])
        assert function(f"gev_{kind}")(-9.0, 0.0, 1.0, 0.2) == below
        assert function(f"gev_{kind}")(9.0, 0.0, 1.0, -0.2) == above


@pytest.mark.parametrize("kind", ["cdf", "sf", "logcdf", "logsf"])
def test_the_others_against_scipy(kind: str) -> None:
    x, k = np.linspace(0.1, 4.0, 9), np.arange(8.0)
    with jax.enable_x64(True):
        for name, arguments, distribution, at in (
            ("weibull", (1.5, 2.0), stats.weibull_min(1.5, scale=2.0), x),
            ("invgauss", (1.2, 2.0), stats.invgauss(0.6, scale=2.0), x),
            ("gengamma", (0.3, 0.8, 0.0), stats.lognorm(0.8, scale=np.exp(0.3)), x),
            ("t", (4.0, 0.5, 2.0), stats.t(4.0, 0.5, 2.0), x),
            ("t", (np.inf, 0.5, 2.0), stats.norm(0.5, 2.0), x),
            ("nb2", (3.0, 0.0), stats.poisson(3.0), k),
            ("nb2", (3.0, 0.4), stats.nbinom(2.5, 1 / 2.2), k),
        ):
            np.testing.assert_allclose(
                function(f"{name}_{kind}")(at, *arguments), getattr(distribution, kind)(at), rtol=2e-12
            )


@pytest.mark.parametrize("q", [1.2, 5.0, 10.0])
def test_derivatives_of_the_generalised_gamma_where_its_variable_is_tiny(q: float) -> None:
    """At exp(q w) of 1e-154 and less the second derivatives were infinite; mpmath with 60 digits."""

    def reference(mu: Any, shape: Any) -> Any:
        a = 1 / shape**2
        return mp.log(mp.gammainc(a, 0, a * mp.exp(shape * (mp.mpf(-40) - mu / mp.mpf(0.3))), regularized=True))

    x, at = float(np.exp(-12.0)), (0.1, q)
    with mp.workdps(60), jax.enable_x64(True):
        for logcdf in (special.gengamma_logcdf, lambda x, m, s, q: special.gengamma_logsf(1 / x, -m, s, -q)):
            ours = lambda m, q, f=logcdf: f(x, m, 0.3, q)
            for i in (0, 1):
                exact = [float(mp.diff(reference, at, [n if j == i else 0 for j in (0, 1)])) for n in (0, 1, 2)]
                first = jax.grad(ours, i)
                found = [ours(*at), first(*at), jax.grad(first, i)(*at)]
                np.testing.assert_allclose(found, exact, rtol=1e-9, atol=1e-14)
