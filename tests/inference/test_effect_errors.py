"""Errors of effects by index, and of predictions and margins with them, under sandwiches: those of a model with dummies.

The right numbers are sandwiches of the negative binomial log-likelihood with one coefficient for each firm, whose scores and
Hessians by all parameters at once JAX makes from the formula below, without elimination.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import mlejax as mle


@mle.model(b=mle.Real(shape=2), alpha=mle.NonNegative(), firm=mle.Real(by="firm"))
def counts(params, data):
    eta = params["b"][0] * data["x"] + params["b"][1] * data["z"] + params["firm"]
    return mle.special.nb2_logpmf(data["y"], jnp.exp(eta), params["alpha"])


def mean(params, data):
    return jnp.exp(params["b"][0] * data["x"] + params["b"][1] * data["z"] + params["firm"])


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(11)
    n, firms = 160, 14
    firm = np.arange(n) % firms
    x, z = rng.normal(size=n), rng.normal(size=n) + 0.3 * (firm % 5)
    mu = np.exp(0.8 + 0.5 * x - 0.3 * z + 0.6 * rng.normal(size=firms)[firm])
    made = {"y": rng.negative_binomial(2, 2 / (2 + mu)), "x": x, "z": z, "firm": [f"f{i}" for i in firm]}
    return pd.DataFrame(made | {"w": 1.0 + rng.integers(0, 3, size=n), "town": rng.integers(9, size=n)})


def dummies(table, p, weights):
    """Weighted scores (n, k) and inverse information (k, k) with one coefficient for each firm, k = 3 + 14."""
    codes, levels = pd.factorize(table["firm"])
    y, x, z = (jnp.asarray(table[c].to_numpy(), float) for c in "yxz")
    gammaln = jax.scipy.special.gammaln

    def rows(q):
        eta, a = q[0] * x + q[1] * z + q[3:][codes], q[2]
        common = gammaln(y + 1 / a) - gammaln(1 / a) - gammaln(y + 1)
        return common + y * (jnp.log(a) + eta) - (y + 1 / a) * jnp.log1p(a * jnp.exp(eta))

    scores, hessians = jax.jacfwd(rows)(p), jax.jacfwd(jax.jacfwd(rows))(p)
    at = np.zeros((len(table), len(levels)))
    at[np.arange(len(table)), codes] = 1.0
    slopes = np.column_stack([x, z, 0.0 * x, at]) * np.exp(np.asarray(p[0] * x + p[1] * z + p[3:][codes]))[:, None]
    information = -np.einsum("i,ijk->ijk", weights, np.asarray(hessians))
    return np.asarray(scores) * weights[:, None], information, slopes, levels


def by_group(scores, groups):
    out = np.zeros((groups.max() + 1, scores.shape[1]))
    np.add.at(out, groups, scores)
    return out


@pytest.mark.parametrize("weight_kind", [None, "sampling"])
def test_errors_of_effects_predictions_and_margins_are_those_with_dummies(table, weight_kind):
    chosen = {} if weight_kind is None else {"weights": "w", "weight_kind": weight_kind}
    fitted = counts.fit(table, cov_type="HC0", **chosen)
    w = np.ones(len(table)) if weight_kind is None else table["w"].to_numpy()
    with jax.enable_x64(True):
        effects = fitted.effects()["estimate"]
        p = np.concatenate([fitted.params.to_numpy(), effects.reindex(pd.unique(table["firm"])).to_numpy()])
        scores, information, slopes, levels = dummies(table, p, w)
    bread = np.linalg.inv(information.sum(axis=0))
    towns, n, k = by_group(scores, table["town"].to_numpy()), len(table), len(p)
    firms = by_group(scores, pd.factorize(table["firm"])[0])
    h = information @ bread
    left = [np.linalg.solve(np.eye(k) - h[i], scores[i]) for i in range(n)]
    meats = {
        ("HC0", None): scores.T @ scores,
        ("HC1", None): scores.T @ scores * n / (n - k),
        ("HC3", None): np.array(left).T @ np.array(left),
        ("cluster", "town"): towns.T @ towns * 9 / 8,
        ("cluster", "firm"): firms.T @ firms * 14 / 13,
    }
    of_mean = w @ slopes / w.sum()
    of_slope = p[0] * slopes
    of_slope[:, 0] += slopes[:, 3:].sum(axis=1)
    of_slope = w @ of_slope / w.sum()
    for (kind, groups), meat in meats.items():
        res = fitted.with_cov(kind, None if groups is None else {"groups": groups})
        full = bread @ meat @ bread
        np.testing.assert_allclose(res.bse, np.sqrt(np.diag(full))[:3], rtol=1e-6)
        np.testing.assert_allclose(res.effects()["std_error"].reindex(levels), np.sqrt(np.diag(full))[3:], rtol=1e-6)
        some = ["b[1]", "firm[f2]", "firm[f5]"]
        at = [1, 3 + levels.get_loc("f2"), 3 + levels.get_loc("f5")]
        np.testing.assert_allclose(res.cov_params(some), full[np.ix_(at, at)], rtol=1e-6, atol=1e-9)
        errors = np.sqrt(np.einsum("ij,jk,ik->i", slopes, full, slopes))
        np.testing.assert_allclose(res.predict(mean, table)["std_error"], errors, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(res.margins(of=mean).bse, np.sqrt(of_mean @ full @ of_mean), rtol=1e-6)
        np.testing.assert_allclose(res.margins("x", mean).bse, np.sqrt(of_slope @ full @ of_slope), rtol=1e-6)


@mle.model(b=mle.Real(shape=2), firm=mle.Real(by="firm"))
def poisson(params, data):
    return jax.scipy.stats.poisson.logpmf(data["y"], mean(params, data))


def test_without_overdispersion_errors_are_those_of_a_poisson_model(table):
    """Binomial counts vary less than a Poisson's: alpha is at its bound 0, and is fixed there in all errors."""
    rng = np.random.default_rng(3)
    data = table.assign(y=rng.binomial(6, 0.4, size=len(table)))
    for kind in ("nonrobust", "HC0"):
        res, wanted = counts.fit(data, cov_type=kind), poisson.fit(data, cov_type=kind)
        assert res.verdict.code == "boundary"
        assert res.params["alpha"] == 0.0
        np.testing.assert_allclose(res.bse[:2], wanted.bse, rtol=1e-8)
        np.testing.assert_allclose(res.effects()["std_error"], wanted.effects()["std_error"], rtol=1e-8)
        np.testing.assert_allclose(res.predict(mean, data)["std_error"], wanted.predict(mean, data)["std_error"], rtol=1e-8)
        np.testing.assert_allclose(res.margins("x", mean).bse, wanted.margins("x", mean).bse, rtol=1e-8)
        some = ["b[1]", "firm[f2]", "firm[f5]"]
        np.testing.assert_allclose(res.cov_params(some), wanted.cov_params(some), rtol=1e-7)


def test_kinds_that_do_not_cover_effects_give_no_errors_and_say_so(table, tmp_path):
    res = counts.fit(table, cov_type="HC0")
    res.save(tmp_path / "counts.mlejax")
    results = [res.with_cov("HAC"), res.with_cov("cluster", {"groups": ("town", "firm")})]
    for one in [*results, mle.load(tmp_path / "counts.mlejax")]:
        predicted, margin = one.predict(mean, table.head(3)), None
        if one in results:  # a file has no rows to average over
            margin = one.margins(of=mean).frame()
        assert one.bse.notna().all()
        assert one.effects()["std_error"].isna().all()
        for frame in (predicted, margin):
            if frame is not None:
                assert frame["estimate"].notna().all()
                assert frame["std_error"].isna().all()
                assert frame["note"].str.contains("does not cover the effects of firm here: 'HC0' to 'HC4'").all()
        with pytest.raises(ValueError, match=r"cov_params\('firm\[f2\]'\): cov_type='(HAC|cluster|HC0)' does not cover"):
            one.cov_params(["b[1]", "firm[f2]"])


def test_effects_are_no_part_of_hypotheses(table):
    with pytest.raises(mle.AddressError, match=r"no parameter 'firm\[f1\]'.*Effects of firm are not among them: res.effects\(\)"):
        poisson.fit(table).wald_test("firm[f1] = firm[f2]")


def test_outcomes_of_probability_zero_give_a_verdict_and_no_other_warning(table):
    with pytest.warns(mle.ConvergenceWarning, match=r"not finite at .*160 of 160 rows"):
        assert poisson.fit(table.assign(y=table["y"] + 0.5)).verdict.code == "not_computable"
