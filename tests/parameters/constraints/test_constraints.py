"""Linear equality constraints: equal to the reparametrised model, kept exactly, refused where they could leave a support."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.scipy.stats import norm
from scipy import stats

import mlejax as mle
from mlejax.parameters.constraints.ties import REAL, Support, range_of, solve_ties, support_of
from tests.cases import Case
from tests.zoo import MULTINOMIAL, REGRESSION

SEED = 13
POSITIVE, UNIT, CLOSED = Support(0.0, math.inf), Support(0.0, 1.0), Support(0.0, 1.0, True, True)


@mle.model(mu=mle.Real(shape=3, labels=["a", "b", "c"]), s=mle.Positive(shape=2))
def cells(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["mu"][data["k"]], params["s"][data["h"]])


@mle.model(first=mle.Real(), c=mle.Real(), scale=mle.Positive())
def reparametrised(params: Any, data: Any) -> Any:
    """mu[a] = mu[b] = first and s[1] = 2 s[0] = 2 scale, written into the model."""
    mu = jnp.where(data["k"] == 2, params["c"], params["first"])
    return norm.logpdf(data["y"], mu, params["scale"] * (1.0 + data["h"]))


@functools.cache
def data() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    k, h = rng.integers(0, 3, 90), rng.integers(0, 2, 90)
    y = np.array([1.0, 1.2, 3.0])[k] + np.array([1.0, 2.0])[h] * rng.normal(size=90)
    return {"y": y, "k": k, "h": h, "g": np.arange(90) % 11}


@functools.cache
def free() -> mle.Results:
    return cells.fit(data())


@functools.cache
def tied() -> mle.Results:
    return cells.fit(data(), constraints="mu[a] = mu[b], s[1] = 2*s[0]")


@functools.cache
def written() -> mle.Results:
    return reparametrised.fit(data())


# ---- a constraint is a reparametrisation


@pytest.mark.parametrize(
    ("kind", "options"),
    [("nonrobust", None), ("HC0", None), ("HC1", None), ("opg", None), ("cluster", {"groups": "g"})],
)
def test_a_constraint_equals_the_reparametrised_model(kind: str, options: Any) -> None:
    one, other = tied().with_cov(kind, options), written().with_cov(kind, options)
    T = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 2.0]])
    np.testing.assert_allclose(one.params, T @ other.params, rtol=1e-8)
    np.testing.assert_allclose(one.cov_params(), T @ other.cov_params() @ T.T, rtol=1e-7, atol=1e-12)
    assert one.params["mu[a]"] == one.params["mu[b]"]
    assert one.params["s[1]"] == pytest.approx(2 * one.params["s[0]"], rel=1e-14)


def test_what_a_constrained_fit_reports() -> None:
    one, other = tied(), written()
    for name in ("llf", "aic", "bic", "df_model", "nobs"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-10), name
    assert one.verdict.code == "verified"
    assert list(one.information.index) == ["mu[a]", "mu[c]", "s[0]"]
    np.testing.assert_allclose(one.information, other.information, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(one.score_obs.sum(), 0.0, atol=1e-5)
    assert "mu[a] = mu[b], s[1] = 2*s[0]" in " ".join(str(one.summary()).split())
    test = free().lr_test(one)
    assert test.df == 2
    assert test.statistic == pytest.approx(2 * (free().llf - one.llf), rel=1e-9)
    np.testing.assert_allclose(one.conf_int().loc["s[0]"], other.conf_int().loc["scale"], rtol=1e-7)
    difference = one.nlcom(lambda p: p["mu"][0] - p["mu"][1] + p["mu"][2])
    assert float(difference.frame()["std_error"].iloc[0]) == pytest.approx(other.bse["c"], rel=1e-7)
    assert "no" in one.wald_test("mu[a] = mu[b]").reason
    assert one.wald_test("mu[c] = 1").statistic == pytest.approx(other.wald_test("c = 1").statistic, rel=1e-7)


def test_restricted_least_squares() -> None:
    """beta_r = beta - (X'X)^-1 R' (R (X'X)^-1 R')^-1 (R beta - r), with its covariance; and a value that is fixed by it."""
    d = REGRESSION.make(SEED)
    res = REGRESSION.plain.fit(d, start=REGRESSION.start, constraints="beta[0] + beta[1] + beta[2] = 2")
    X, y, R = d["X"], d["y"], np.ones((1, 3))
    inverse = np.linalg.inv(X.T @ X)
    beta = inverse @ X.T @ y
    middle = np.linalg.inv(R @ inverse @ R.T)
    restricted = beta - (inverse @ R.T @ middle @ (R @ beta - 2)).ravel()
    sigma2 = np.mean((y - X @ restricted) ** 2)
    cov = sigma2 * (inverse - inverse @ R.T @ middle @ R @ inverse)
    np.testing.assert_allclose(res.params[:3], restricted, rtol=1e-8)
    np.testing.assert_allclose(res.cov_params().iloc[:3, :3], cov, rtol=1e-6, atol=1e-10)
    assert res.params[:3].sum() == pytest.approx(2.0, rel=1e-14)


def test_a_constant_is_a_value_held_fixed() -> None:
    one = cells.fit(data(), constraints="mu[c] = 1")
    other = cells.fit(data(), fixed={"mu[c]": 1.0})
    np.testing.assert_allclose(one.params, other.params, rtol=1e-9)
    np.testing.assert_allclose(one.bse, other.bse, rtol=1e-9)
    assert math.isnan(one.bse["mu[c]"])
    assert "(fixed)" in str(one.summary())
    assert one.df_model == other.df_model == 4


def test_constraints_upon_fixed_values_weights_and_clusters() -> None:
    """mu[c] follows from a value held fixed; the rest is a weighted fit of the written model."""
    w = 1 + np.arange(90) % 3
    options: dict[str, Any] = {
        "weights": w,
        "weight_kind": "frequency",
        "cov_type": "cluster",
        "cov_kwds": {"groups": "g"},
    }
    one = cells.fit(
        data(),
        fixed={"mu[a]": 1.0},
        constraints=["mu[b] - mu[a] = 0", "mu[c] = 2*mu[a] + 1", "s[1] = 2*s[0]"],
        **options,
    )
    other = reparametrised.fit(data(), fixed={"first": 1.0, "c": 3.0}, **options)
    np.testing.assert_allclose(one.params, [1.0, 1.0, 3.0, other.params["scale"], 2 * other.params["scale"]], rtol=1e-9)
    assert one.bse["s[1]"] == pytest.approx(2 * other.bse["scale"], rel=1e-8)
    assert one.nobs == w.sum()


@pytest.mark.slow
def test_ties_across_supports_and_edges() -> None:
    one = cells.fit(data(), constraints="mu[a] = s[0]")  # a real parameter follows from a positive one
    assert one.params["mu[a]"] == one.params["s[0]"]
    assert one.bse["mu[a]"] == pytest.approx(one.bse["s[0]"], rel=1e-12)
    assert math.isfinite(one.tvalues["mu[a]"])
    above = cells.fit(data(), constraints="s[0] = 1 + s[1]")
    assert above.params["s[0]"] == pytest.approx(1 + above.params["s[1]"], rel=1e-12)
    assert above.verdict.code == "verified"

    @mle.model(t=mle.NonNegative(shape=2), mu=mle.Real())
    def shifted(params: Any, data: Any) -> Any:
        return norm.logpdf(data["y"], params["mu"] + params["t"][0] * data["x"] + params["t"][1] * data["z"], 1.0)

    x = np.linspace(-1, 1, 40)
    res = shifted.fit({"y": -x, "x": x, "z": x**3}, constraints="t[0] = t[1]")
    assert res.verdict.code == "boundary"
    assert (res.params[["t[0]", "t[1]"]] == 0).all()
    assert res.bse[["t[0]", "t[1]"]].isna().all()


@pytest.mark.slow
def test_a_simplex_beside_the_constraint() -> None:
    """A mixture of two normals with equal spreads, against the same written with one spread."""
    y = np.asarray(next(iter(Case("faithful_mix2").data.values())), float)

    def mixture(params: Any, data: Any) -> Any:
        parts = norm.logpdf(data["y"][:, None], params["mu"], params["s"]) + jnp.log(params["p"])
        return jnp.logaddexp(parts[:, 0], parts[:, 1])

    declared = {"p": mle.Simplex(shape=2), "mu": mle.Ordered(shape=2)}
    two = mle.model(params={**declared, "s": mle.Positive(shape=2)})(mixture)
    one = mle.model(params={**declared, "s": mle.Positive()})(mixture)
    start = {"p": [0.4, 0.6], "mu": [y.min() + 0.2, y.max() - 0.5]}
    res = two.fit({"y": y}, start={**start, "s": [0.3, 0.3]}, constraints="s[0] = s[1]")
    want = one.fit({"y": y}, start={**start, "s": 0.3})
    assert res.llf == pytest.approx(want.llf, rel=1e-10)
    np.testing.assert_allclose(res.params[:5], want.params, rtol=1e-6)
    np.testing.assert_allclose(res.bse[:5], want.bse, rtol=1e-5)


def test_everything_determined() -> None:
    res = cells.fit(data(), constraints="mu = 1, s = 2")
    assert res.df_model == 0
    assert res.llf == pytest.approx(stats.norm.logpdf(data()["y"], 1.0, 2.0).sum(), rel=1e-12)
    assert "mu[a] = 1" in " ".join(str(res.summary()).split())


# ---- remarks


def test_redundant_constraints_are_said() -> None:
    res = cells.fit(data(), constraints="mu[a] = mu[b], s[1] = 2*s[0], 2*mu[b] = 2*mu[a]")
    np.testing.assert_allclose(res.params, tied().params, rtol=1e-10)
    assert res.df_model == 3
    text = " ".join(str(res.summary()).split())
    assert "Constraint 2*mu[b] = 2*mu[a] follows from the others" in text
    assert "Constraints: mu[a] = mu[b], s[1] = 2*s[0] " in text + " "


def test_a_start_that_breaks_them_is_moved_and_said() -> None:
    start = {"mu": [0.0, 5.0, 1.0], "s": [1.0, 2.0]}
    res = cells.fit(data(), start=start, constraints="mu[a] = mu[b], s[1] = 2*s[0]")
    np.testing.assert_allclose(res.params, tied().params, rtol=1e-8)
    assert "start= does not satisfy the constraints" in str(res.summary())
    again = cells.fit(data(), start=res.params_tree, constraints="mu[a] = mu[b], s[1] = 2*s[0]")
    assert "does not satisfy" not in str(again.summary())
    later = cells.fit(data(), start=[None, start], constraints="mu[a] = mu[b], s[1] = 2*s[0]")
    assert "start= does not satisfy the constraints" in str(later.summary())


# ---- refusals


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        ("mu[a] = 1, mu[a] = 2", r"'mu\[a\] = 2' contradicts the others"),
        ("mu[a] + mu[b] = 1, mu[b] + mu[a] = 0", "contradicts the others"),
        ("s[0] = -1", r"s\[0\] = -1, but s\[0\] is declared Positive"),
        ("s[0] = -s[1]", r"s\[1\] = - s\[0\], which can leave the support.*fixed="),
        ("s[0] + s[1] = 1", r"s\[1\] = 1 - s\[0\], which can leave the support"),
        ("mu > 1", "only equalities"),
        ("mu[a] * mu[b] = 1", "not linear"),
        ("mu[d] = 1", r"no parameter 'mu\[d\]'"),
        ("", "empty"),
        ("1 = 1", "no parameter"),
    ],
)
def test_constraints_that_make_no_sense(constraints: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        cells.fit(data(), constraints=constraints)
    assert "constraints=" in str(caught.value)


def test_fixed_values_may_contradict_or_fulfil() -> None:
    with pytest.raises(ValueError, match=r"contradicts the others \(or fixed=\)"):
        cells.fit(data(), fixed={"mu[a]": 1.0}, constraints="mu[a] = 2")
    with pytest.raises(ValueError, match=r"entry of Simplex.*depend on one another"):
        MULTINOMIAL.plain.fit(MULTINOMIAL.make(SEED), start=MULTINOMIAL.start, constraints="pi[0] = pi[1]")


# ---- the algebra


@given(
    st.lists(st.lists(st.integers(-3, 3), min_size=5, max_size=5), min_size=1, max_size=6),
    st.lists(st.floats(-2, 2), min_size=5, max_size=5),
)
@settings(deadline=None)
def test_solutions_satisfy_real_restrictions(rows: list[list[int]], point: list[float]) -> None:
    """Restrictions that a point satisfies: as many coordinates follow as they have rank, and all their points are solutions."""
    A = np.array(rows, float)
    b = A @ np.array(point)
    labels, names = [str(i) for i in range(len(rows))], list("abcde")
    ties, redundant = solve_ties(A, b, labels, names, [REAL] * 5, ["Real"] * 5)
    rank = int(np.linalg.matrix_rank(A)) if A.any() else 0
    assert len(redundant) == len(rows) - rank
    if ties is None:
        assert rank == 0
        return
    assert len(ties.kept) == 5 - rank
    for free_values in (np.zeros(5 - rank), np.array(point)[ties.index]):
        theta = ties.offset + ties.matrix @ free_values
        np.testing.assert_allclose(A @ theta, b, atol=1e-8)
        np.testing.assert_allclose(theta[ties.index], free_values, atol=1e-12)


@pytest.mark.parametrize(
    ("target", "row", "constant", "supports", "inside"),
    [
        (POSITIVE, [1.0], 0.0, [POSITIVE], True),
        (POSITIVE, [2.0, 0.5], 0.0, [POSITIVE, POSITIVE], True),
        (POSITIVE, [1.0, -1.0], 0.0, [POSITIVE, POSITIVE], False),
        (POSITIVE, [1.0], 1.0, [CLOSED], True),
        (POSITIVE, [1.0], 0.0, [CLOSED], False),
        (POSITIVE, [1.0], 0.0, [REAL], False),
        (CLOSED, [1.0], 0.0, [UNIT], True),
        (UNIT, [1.0], 0.0, [CLOSED], False),
        (UNIT, [-1.0], 1.0, [UNIT], True),
        (UNIT, [0.5, 0.5], 0.0, [UNIT, UNIT], True),
        (UNIT, [1.0, 1.0], 0.0, [UNIT, UNIT], False),
        (REAL, [5.0, -3.0], 2.0, [POSITIVE, UNIT], True),
        (POSITIVE, [0.0], 0.0, [REAL], False),
        (CLOSED, [0.0], 1.0, [REAL], True),
    ],
)
def test_ranges(target: Support, row: list[float], constant: float, supports: list[Support], inside: bool) -> None:
    assert target.contains(range_of(np.array(row), constant, supports)) is inside


def test_supports_of_declarations() -> None:
    wanted = {
        mle.Real(): REAL,
        mle.Positive(): POSITIVE,
        mle.NonNegative(): Support(0.0, math.inf, True, False),
        mle.Interval(0, 1): UNIT,
        mle.Interval(0, 1, closed="both"): CLOSED,
        mle.Interval(0, 1, closed="left"): Support(0.0, 1.0, True, False),
        mle.Interval(0, 1, closed="right"): Support(0.0, 1.0, False, True),
        mle.Simplex(shape=2): None,
    }
    for declared, support in wanted.items():
        assert support_of(declared.transform) == support
