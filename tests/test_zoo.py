"""Estimates, information, every covariance and all counts against closed forms: free, fixed and bounded fits."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import mlejax as mle
from tests.zoo import REGRESSION, ZOO, Bounded, Member, Truth, truth

TOLERANCE = 1e-8
SEED = 3
NAMES = {member.name: member for member in ZOO}
QUICK = {
    "fixed": {("gaussian", 1), ("poisson", 0), ("regression", 0), ("bivariate", 1), ("net", 0)},
    "bounded": {("gaussian", 1), ("poisson", 0), ("geometric", 0), ("regression", 0), ("family", 0)},
}


def variants(what: str) -> list[Any]:
    """Every variant of every member; all but one of each sort are slow."""
    every = [(m.name, i) for m in ZOO for i in range(len(getattr(m, what)))]
    return [pytest.param(*v, marks=() if v in QUICK[what] else pytest.mark.slow) for v in every]


KINDS = [
    ("nonrobust", ""),
    ("opg", ""),
    ("HC0", ""),
    ("HC1", ""),
    ("cluster", "G"),
    ("cluster", "none"),
    ("cluster", "full"),
]


@functools.cache
def data_of(member: Member) -> dict[str, Any]:
    return member.make(SEED)


@functools.cache
def free_fit(name: str) -> tuple[mle.Results, Truth]:
    member = NAMES[name]
    return member.plain.fit(data_of(member), start=member.start), truth(member, data_of(member))


@functools.cache
def fixed_fit(name: str, i: int) -> tuple[mle.Results, Truth]:
    member = NAMES[name]
    fixed = member.fixed[i]
    res = member.plain.fit(data_of(member), start=member.start, fixed=fixed)
    return res, truth(member, data_of(member), fixed)


@functools.cache
def bounded_fit(name: str, i: int) -> tuple[mle.Results, Truth, Bounded]:
    member = NAMES[name]
    variant = member.bounded[i]
    data = variant.shift(data_of(member))
    model = member.model(**variant.declared) if variant.declared else member.plain
    start = without(member.start, variant.declared)
    return model.fit(data, start=start), truth(member, data, edge=variant.edge), variant


def without(start: Mapping[str, Any], addresses: Mapping[str, Any]) -> dict[str, Any]:
    """The start without these parameters, for which the library then finds one."""
    return {name: value for name, value in start.items() if name not in addresses}


def assert_close(got: Any, want: Any, scale: Any = None) -> None:
    """Equal to 1e-8 of ``scale`` (of the values themselves if not given), NaN where NaN is wanted."""
    got, want = np.asarray(got, float), np.asarray(want, float)
    assert got.shape == want.shape
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    size = np.abs(want) if scale is None else scale
    assert np.nanmax(np.abs(got - want) / np.where(size == 0, 1.0, size), initial=0.0) < TOLERANCE


def assert_matrix(got: Any, want: np.ndarray) -> None:
    """A covariance or information: relative to the geometric mean of the diagonal entries."""
    root = np.sqrt(np.abs(np.diag(want)))
    assert_close(got, want, np.outer(root, root))


def assert_fit(res: mle.Results, want: Truth) -> None:
    """Everything but the covariance."""
    member = want.member
    names = [n for n, held in zip(member.theta, want.held, strict=True) if not held]
    assert list(res.params.index) == list(member.labels)
    assert_close(res.params, want.values)
    assert res.llf == pytest.approx(want.llf, rel=1e-12)
    assert list(res.information.index) == names == list(res.score_obs.columns)
    assert_matrix(res.information, want.information)
    assert_close(res.score_obs, want.scores, np.abs(want.scores).max(axis=0, initial=1e-300))
    rows = len(want.data[next(iter(want.data))])
    k = len(names)  # parameters on an edge count too, as in R's lme4 and pscl
    assert (res.nobs, res.n_units, res.df_model, res.df_resid) == (rows, len(want.scores), k, rows - k)
    assert res.aic == pytest.approx(-2 * want.llf + 2 * k, rel=1e-12)
    interior = -2 * want.llf + 2 * int(want.open.sum())
    assert res.info_criteria("aic", count="interior") == pytest.approx(interior, rel=1e-12)
    assert res.bic == pytest.approx(-2 * want.llf + k * math.log(rows), rel=1e-12)
    assert res.info_criteria("bic", n=10.0) == pytest.approx(-2 * want.llf + k * math.log(10.0), rel=1e-12)


def assert_covariances(res: mle.Results, want: Truth) -> None:
    for kind, correction in KINDS:
        options = {"groups": "village", "correction": correction} if kind == "cluster" else None
        got = res.with_cov(kind, options)
        expected = want.covariance(kind, correction)
        assert_matrix(got.cov_params(), expected)
        assert_close(got.bse, np.sqrt(np.diag(expected)))
        assert (got.cov_type, got.llf) == (kind, res.llf)


# ---- the closed forms agree with one another


@pytest.mark.parametrize("name", list(NAMES))
@pytest.mark.parametrize("where", ["estimate", "elsewhere"])
def test_formulas_agree(name: str, where: str) -> None:
    """Scores and information are the differences of the log-likelihood, and the score vanishes at the estimate."""
    member = NAMES[name]
    data = data_of(member)
    best = truth(member, data)
    params = best.params if where == "estimate" else member.estimate(member.make(SEED + 1), {})
    if where == "estimate":
        size = np.abs(member.scores(params, data)).sum(axis=0)
        assert (np.abs(member.scores(params, data).sum(axis=0)) < 1e-11 * size).all()
    p = len(member.theta)
    step = 1e-5

    def moved(j: int, sign: int) -> dict[str, Any]:
        direction = np.eye(p)[j] * step * sign
        return shifted(member, params, direction if member.expand is None else member.expand @ direction)

    for j in range(p):
        up, down = moved(j, 1), moved(j, -1)
        slope = (member.loglik(up, data) - member.loglik(down, data)) / (2 * step)
        np.testing.assert_allclose(slope, member.scores(params, data)[:, j], rtol=1e-5, atol=1e-5)
        curve = (member.scores(up, data).sum(axis=0) - member.scores(down, data).sum(axis=0)) / (2 * step)
        want = -member.information(params, data)[j]
        np.testing.assert_allclose(curve, want, atol=1e-6 * np.abs(np.diag(member.information(params, data))).max())


def shifted(member: Member, params: dict[str, Any], change: np.ndarray) -> dict[str, Any]:
    """Params with the reported entries moved."""
    if member.name == "bivariate":
        s = member.vector(params) + change
        return {"mu": s[:2], "Sigma": np.array([[s[2], s[3]], [s[3], s[4]]])}
    if member.name == "net":
        s = member.vector(params) + change
        return {"net": {"bias": s[0], "weights": s[1:3]}, "sigma": s[3]}
    out, at = {}, 0
    for key, value in params.items():
        size = np.size(value)
        out[key] = np.asarray(value, float) + change[at : at + size].reshape(np.shape(value))
        at += size
    return out


def test_the_zoo_covers_what_it_should() -> None:
    assert len(ZOO) >= 12
    assert all(m.fixed for m in ZOO)
    kinds = {repr(d).partition("(")[0] for m in ZOO for d in m.declared.values()}
    assert kinds >= {"Real", "Positive", "Interval", "NonNegative", "Simplex", "Ordered", "Covariance", "Free"}
    assert {bool(b.edge) for m in ZOO for b in m.bounded} == {True, False}
    assert sum(len(m.bounded) for m in ZOO) >= 15


# ---- free


@pytest.mark.parametrize("name", list(NAMES))
def test_free_fit(name: str) -> None:
    res, want = free_fit(name)
    assert res.verdict.code == "verified", res.verdict
    assert_fit(res, want)


@pytest.mark.parametrize("name", list(NAMES))
def test_free_covariances(name: str) -> None:
    assert_covariances(*free_fit(name))


def test_labels_of_a_data_frame() -> None:
    """``columns=`` of a matrix with names labels the coefficients, which are the same numbers."""
    import pandas as pd

    data = data_of(REGRESSION)
    named = {**data, "X": pd.DataFrame(data["X"], columns=["one", "age", "height"])}
    res = REGRESSION.plain.fit(named, start=REGRESSION.start)
    assert list(res.params.index) == ["beta[one]", "beta[age]", "beta[height]", "sigma"]
    assert_close(res.params, truth(REGRESSION, data).values)


# ---- fixed


@pytest.mark.parametrize(("name", "i"), variants("fixed"))
def test_fixed_fit(name: str, i: int) -> None:
    res, want = fixed_fit(name, i)
    assert res.verdict.code == "verified", res.verdict
    assert_fit(res, want)
    assert_covariances(res, want) if want.open.any() else None
    notes = res.tidy().set_index("term")["note"]
    prefixes = tuple(a + c for a in want.member.fixed[i] for c in "[.")
    held = [label for label in want.member.labels if label in want.member.fixed[i] or label.startswith(prefixes)]
    assert held
    assert all("fixed" in notes[label] for label in held)
    assert res.bse[held].isna().all()
    assert res.bse.drop(held).notna().all()


# ---- bounded


@pytest.mark.parametrize(("name", "i"), variants("bounded"))
def test_bounded_fit(name: str, i: int) -> None:
    res, want, variant = bounded_fit(name, i)
    assert res.verdict.code == ("boundary" if variant.edge else "verified"), res.verdict
    assert res.converged
    assert_fit(res, want)
    if want.open.any():
        assert_covariances(res, want)
    for address, value in variant.edge.items():
        assert res.params[address] == value, "an estimate on its edge is exactly there"
        assert address in res.verdict.statement
        row = res.tidy().set_index("term").loc[address]
        assert "bound of its support" in row["note"]
        assert row[["std_error", "statistic", "p_value", "conf_low", "conf_high"]].isna().all()
    free = [n for n, is_open in zip(want.member.theta, want.open, strict=True) if is_open]
    assert res.bse[free].notna().all()


@pytest.mark.parametrize("name", ["family", pytest.param("regression", marks=pytest.mark.slow)])
def test_an_edge_is_the_fixed_fit(name: str) -> None:
    """Conditional on the edge: the same estimates and errors as with the parameter held there, one verdict apart."""
    i = next(i for i, b in enumerate(NAMES[name].bounded) if b.edge)
    res, want, variant = bounded_fit(name, i)
    held = NAMES[name].plain.fit(want.data, fixed=variant.edge, start=NAMES[name].start)
    assert held.verdict.code == "verified"
    assert_close(res.params, held.params)
    assert_close(res.bse, held.bse)
    assert res.df_model == held.df_model + 1, "a parameter on its edge was estimated"
