"""Effects by index: the same model with dummies, pyfixest's numbers, and what has no effect or no maximum."""

import json
import pickle
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm, poisson

import mlejax as mle
from mlejax.data import DataError
from mlejax.fit.prepare.loading import load
from mlejax.objective import EffectsEvaluator, Spec

REFERENCES = Path(__file__).parents[2] / "references"
FRAME = pd.read_csv(REFERENCES / "effects.csv")
FIRMS = np.unique(FRAME["firm"])
DUMMIES = {**FRAME.to_dict("list"), "D": (FRAME["firm"].to_numpy()[:, None] == FIRMS).astype(float)}


def slopes(params, data):
    return data["x1"] * params["beta"][0] + data["x2"] * params["beta"][1]


def poisson_of(eta, params, data):
    return poisson.logpmf(data["y"], jnp.exp(eta))


def logit_of(eta, params, data):
    return jax.nn.log_sigmoid(jnp.where(data["z"] == 1, eta, -eta))


def normal_of(eta, params, data):
    return norm.logpdf(data["y"], eta, params["sigma"])


def negbin_of(eta, params, data):
    return mle.special.nb2_logpmf(data["y"], jnp.exp(eta), params["dispersion"])


def both(density, **more):
    """The model with effects by index, and the same with a coefficient of a dummy for each firm."""
    beta = mle.Real(columns=["x1", "x2"])

    @mle.model(beta=beta, **more, alpha=mle.Real(by="firm"))
    def by_index(params, data):
        return density(slopes(params, data) + params["alpha"], params, data)

    @mle.model(beta=beta, **more, alpha=mle.Real(shape=len(FIRMS), labels=FIRMS))
    def by_dummies(params, data):
        return density(slopes(params, data) + data["D"] @ params["alpha"], params, data)

    return by_index, by_dummies


PAIRS = {
    "poisson": both(poisson_of),
    "logit": both(logit_of),
    "normal": both(normal_of, sigma=mle.Positive()),
    "negbin": both(negbin_of, dispersion=mle.Positive()),
}
POISSON, POISSON_DUMMIES = PAIRS["poisson"]


@mle.model(constant=mle.Real(), beta=mle.Real(columns=["x1", "x2"]), alpha=mle.Real(by="firm"))
def with_constant(params, data):
    return poisson_of(params["constant"] + slopes(params, data) + params["alpha"], params, data)


@mle.model(beta=mle.Real(columns=["x1", "x2"]), tau=mle.Real(by="year"), alpha=mle.Real(by="firm"))
def two_ways(params, data):
    return poisson_of(slopes(params, data) + params["alpha"] + params["tau"], params, data)


@pytest.fixture(scope="module")
def counts():
    return POISSON.fit(FRAME)


@pytest.fixture(scope="module")
def of_both():
    return two_ways.fit(FRAME)


def agree(found, wanted, tolerance=1e-8):
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n == "negbin" else n for n in PAIRS])
def test_it_is_the_model_with_dummies(name):
    """Estimates, errors, log-likelihood, criteria and effects of the same model in a whole information matrix."""
    data = FRAME.assign(y=np.where(FRAME["x1"] > 1, 3 * FRAME["y"], FRAME["y"]))  # more spread than a Poisson has
    res, dense = (m.fit(d) for m, d in zip(PAIRS[name], (data, {**DUMMIES, "y": data["y"].to_numpy()}), strict=True))
    assert res.verdict.code == dense.verdict.code == "verified"
    common = list(res.params.index)
    agree(res.params, dense.params[common])
    agree(res.bse, dense.bse[common])
    agree(res.cov_params(), dense.cov_params().loc[common, common])
    agree([res.llf, res.aic, res.bic, res.df_model], [dense.llf, dense.aic, dense.bic, dense.df_model])
    effects = res.effects().loc[FIRMS]
    labels = [f"alpha[{firm}]" for firm in FIRMS]
    agree(effects["estimate"], dense.params[labels])
    agree(effects["std_error"], dense.bse[labels])
    some = [*common, labels[3], labels[0]]
    agree(res.cov_params(some), dense.cov_params().loc[some, some])
    for kind, options in (("HC0", None), ("HC1", None), ("cluster", {"groups": "year"})):
        agree(res.with_cov(kind, options).bse, dense.with_cov(kind, options).bse[common])


@pytest.mark.parametrize("kind", ["frequency", "sampling", "importance"])
def test_weights_are_those_of_the_model_with_dummies(kind):
    weights = np.arange(len(FRAME)) % 4
    weights[FRAME["firm"] == FIRMS[2]] = 0  # a firm that nothing is known of
    rest = FIRMS[FIRMS[2] != FIRMS]
    data = {**DUMMIES, "D": (FRAME["firm"].to_numpy()[:, None] == np.append(rest, "none")).astype(float)}
    res = POISSON.fit(FRAME, weights=weights, weight_kind=kind)
    dense = POISSON_DUMMIES.fit(data, fixed={f"alpha[{FIRMS[-1]}]": 0.0}, weights=weights, weight_kind=kind)
    agree(res.params, dense.params[:2])
    agree(res.bse, dense.bse[:2])
    assert res.nobs == dense.nobs
    assert set(res.effects().index) == set(rest)
    cluster = "cluster", {"groups": "firm"}
    agree(res.with_cov(*cluster).bse, dense.with_cov(*cluster).bse[:2])


@pytest.mark.parametrize("name", ["poisson", "logit"])
def test_pyfixest_has_the_same_errors(name):
    """references/effects.py: pyfixest 0.60, its small-sample corrections, to the tolerance of its own iterations."""
    wanted = json.loads((REFERENCES / "effects.json").read_text())[name]
    res = PAIRS[name][0].fit(FRAME)
    agree(res.params, wanted["params"], 1e-7)
    agree(res.with_cov("HC1").bse, wanted["hetero"], 1e-6)
    for kind, groups in (("firm", "firm"), ("year", "year"), ("two", ("firm", "year"))):
        agree(res.with_cov("cluster", {"groups": groups, "correction": "ssc"}).bse, wanted[kind], 1e-6)


def test_two_ways_have_pyfixests_errors(of_both):
    """The smaller factor has coefficients; two-way clusters have the smaller number of clusters in their factor."""
    wanted = json.loads((REFERENCES / "effects.json").read_text())["poisson two ways"]
    assert of_both.verdict.code == "verified"
    agree(of_both.params[:2], wanted["params"], 1e-7)
    agree(of_both.with_cov("HC1").bse[:2], wanted["hetero"], 1e-6)
    for kind, groups in (("firm", "firm"), ("year", "year"), ("two", ("firm", "year"))):
        agree(of_both.with_cov("cluster", {"groups": groups, "correction": "ssc"}).bse[:2], wanted[kind], 1e-6)


def by_statsmodels(frame, references):
    """The Poisson regression with dummies for all levels but these years."""
    import statsmodels.api as sm

    X = pd.get_dummies(frame.drop(columns=["y", "z"]), columns=["firm", "year"], dtype=float)
    X = X.drop(columns=[f"year_{year}" for year in references])
    return sm.GLM(frame["y"], X, family=sm.families.Poisson()).fit(tol=1e-14, maxiter=100)


def test_two_ways_are_the_model_with_dummies(of_both):
    dense = by_statsmodels(FRAME, [2000])
    years = [name for name in dense.params.index if name.startswith("year")]
    agree(of_both.params, dense.params[["x1", "x2", *years]])
    agree(of_both.bse, dense.bse[["x1", "x2", *years]])
    firms = [f"firm_{firm}" for firm in FIRMS]
    agree(of_both.effects().loc[FIRMS, "estimate"], dense.params[firms])
    agree(of_both.effects().loc[FIRMS, "std_error"], dense.bse[firms])
    agree([of_both.llf, of_both.df_model], [dense.llf, len(dense.params)])
    assert "effects of year, differences from 2000" in str(of_both.summary())
    eta = lambda p, d: slopes(p, d) + p["alpha"] + p["tau"]
    found = of_both.predict(eta, FRAME.iloc[[3, 50, 200]])
    agree(found["estimate"], np.log(dense.fittedvalues[[3, 50, 200]]))
    with pytest.raises(DataError, match="column 'year': levels that were not in the data of the fit: '1999'"):
        of_both.predict(eta, FRAME.head(2).assign(year=1999))


def test_sets_of_levels_that_no_row_connects():
    """One level of each set is the reference; rows that are left out may cut sets apart, and take levels with them."""
    number = FRAME["firm"].str[1:].astype(int)
    apart = FRAME.assign(year=np.where(number < 12, 2000 + FRAME["year"] % 4, 2004 + FRAME["year"] % 4))
    last = apart["firm"] == "f24"
    linked = apart.assign(year=np.where(last, np.where(np.arange(400) % 2, 2001, 2005), apart["year"]))
    gone = linked.assign(y=np.where(last, 0, linked["y"]))
    for frame, kept, references in (
        (apart, apart, (2000, 2004)),
        (linked, linked, (2000,)),
        (gone, gone[~last], (2000, 2004)),
    ):
        res, dense = two_ways.fit(frame), by_statsmodels(kept, references)
        assert res.verdict.code == "verified"
        agree(res.params[:2], dense.params[:2])
        agree(res.bse[:2], dense.bse[:2])
        agree([res.llf, res.df_model], [dense.llf, len(dense.params)])
    assert "1 level of firm" in res.verdict.statement


def test_the_score_and_the_information_are_derivatives(counts):
    """Of the log-likelihood at its best effects, by central differences, away from the maximum."""
    fit = counts._fit
    with jax.enable_x64(True):
        data = EffectsEvaluator(fit.spec, fit.loaded.problem.data, None, levels=fit.loaded.levels)
        u, step = np.array([-0.4, 0.7]), 1e-5
        at = data.evaluate(u[None])
        lines = [data.evaluate((u + s * e)[None]) for e in step * np.eye(2) for s in (1, -1)]
        value = np.array([one.loglik[0] for one in lines]).reshape(2, 2)
        score = np.array([one.score[0] for one in lines]).reshape(2, 2, 2)
    agree(at.score[0], (value[:, 0] - value[:, 1]) / (2 * step), 1e-6)
    agree(at.information[0], -(score[:, 0] - score[:, 1]) / (2 * step), 1e-6)


def test_partialled_scores_sum_to_zero_and_to_the_information(counts):
    scores = counts.score_obs
    assert scores.shape == (400, 2)
    agree(scores.sum(), 0.0, 1e-7)
    agree(counts.information, np.linalg.inv(counts.cov_params()))


def test_levels_without_a_finite_effect():
    """Firms whose outcomes are all zero: left out, and no other number changes; all-one outcomes of a logit likewise."""
    empty = FRAME["firm"].isin(FIRMS[[1, 5]])
    data = FRAME.assign(y=np.where(empty, 0, FRAME["y"]), z=np.where(empty, 1, FRAME["z"]))
    for model, sign in ((POISSON, -np.inf), (PAIRS["logit"][0], np.inf)):
        res, without = model.fit(data), model.fit(data[~empty])
        agree(res.params, without.params)
        agree(res.bse, without.bse)
        agree(res.llf, without.llf)
        assert res.verdict.code == "verified"
        assert f"2 levels of firm ({empty.sum()} rows) without a finite effect were left out" in res.verdict.statement
        assert res.nobs == 400 - empty.sum()
        assert res.n_dropped == empty.sum()
        effects = res.effects()
        assert (effects["estimate"].loc[FIRMS[[1, 5]]] == sign).all()
        clustered = res.with_cov("cluster", {"groups": "year"})
        agree(clustered.bse, without.with_cov("cluster", {"groups": "year"}).bse)
    quiet = POISSON.fit(data, separated="drop")
    assert "left out" not in quiet.verdict.statement
    assert "left out" in str(quiet.summary())
    with pytest.raises(DataError, match="2 of 25 levels of firm"):
        POISSON.fit(data, separated="raise")
    with pytest.raises(DataError, match="No level is left"):
        POISSON.fit(FRAME.assign(y=0))


def test_a_level_beside_an_intercept_is_redundant(counts):
    res = with_constant.fit(FRAME)
    assert res.verdict.code == "verified"
    agree(res.params[1:], counts.params)
    agree(res.bse[1:], counts.bse)
    agree([res.llf, res.df_model], [counts.llf, counts.df_model])
    first = counts.effects().loc["f00"]
    agree([res.params["constant"], res.bse["constant"]], first[["estimate", "std_error"]].astype(float))
    effects = res.effects()
    assert effects["estimate"]["f00"] == 0.0
    agree(effects["estimate"] + res.params["constant"], counts.effects()["estimate"])
    assert "the effect of firm f00 is fixed at 0" in str(res.summary()).replace("\n", " ")


@pytest.mark.filterwarnings("ignore::mlejax.ConvergenceWarning")
def test_a_covariate_that_is_constant_within_levels_is_not_identified(counts):
    data = FRAME.assign(x2=FRAME.groupby("firm")["x2"].transform("mean"))
    res = POISSON.fit(data)
    assert res.verdict.code == "not_identified"
    assert res.verdict.statement.startswith("beta[x2] is not identified: collinear with the effects of firm")
    assert np.isnan(res.bse["beta[x2]"])
    assert np.isfinite(res.bse["beta[x1]"])


@pytest.mark.filterwarnings("ignore::mlejax.ConvergenceWarning")
def test_a_collinear_covariate_that_no_step_moves_is_not_identified():
    """A search that has no reason to move the coefficient ends at its start in it: no rise is claimed along a way of length 0."""
    rng = np.random.default_rng(3)
    firm = rng.integers(30, size=400)
    x, size = rng.normal(size=400), rng.normal(size=30)[firm]
    y = rng.poisson(np.exp(0.4 * x + 0.6 * size - 0.5))
    res = POISSON.fit(pd.DataFrame({"y": y, "x1": x, "x2": size, "firm": [f"f{i:02d}" for i in firm]}))
    assert res.verdict.code == "not_identified"
    assert res.verdict.statement.startswith("beta[x2] is not identified: collinear with the effects of firm")


def test_constraints_and_penalties_on_the_other_parameters():
    tied = POISSON.fit(FRAME, constraints="beta[x1] = beta[x2]")
    dense = POISSON_DUMMIES.fit(DUMMIES, constraints="beta[x1] = beta[x2]")
    agree(tied.params, dense.params[:2])
    agree(tied.bse, dense.bse[:2])
    held = POISSON.fit(FRAME, fixed={"beta[x2]": 0.1})
    agree(held.llf, POISSON_DUMMIES.fit(DUMMIES, fixed={"beta[x2]": 0.1}).llf)
    shrunk = POISSON.fit(FRAME, penalty=mle.l2(30.0, "beta"))
    dense = POISSON_DUMMIES.fit(DUMMIES, penalty=mle.l2(30.0, "beta"))
    agree(shrunk.params, dense.params[:2])
    agree(shrunk.bse, dense.bse[:2])


def test_predictions_have_the_errors_of_the_model_with_dummies(counts):
    dense = POISSON_DUMMIES.fit(DUMMIES)
    few = FRAME.iloc[[3, 50, 200]]
    found = counts.predict(lambda p, d: jnp.exp(slopes(p, d) + p["alpha"]), few)
    wanted = dense.predict(
        lambda p, d: jnp.exp(slopes(p, d) + d["D"] @ p["alpha"]),
        {k: np.asarray(v)[few.index] for k, v in DUMMIES.items()},
    )
    agree(found.to_numpy(float), wanted.to_numpy(float))
    with pytest.raises(DataError, match="levels that were not in the data of the fit: 'elsewhere', in 1 rows"):
        counts.predict(lambda p, d: p["alpha"], few.assign(firm=["elsewhere", "f01", "f02"]))


def test_the_bootstrap_draws_levels(counts):
    """Random weights of firms: the refits of the model with dummies; drawn and left out: those of rows drawn by hand."""
    dense = POISSON_DUMMIES.fit(DUMMIES)
    boot, wanted = (m.bootstrap(4, "bayesian", groups=FRAME["firm"].to_numpy(), seed=3) for m in (counts, dense))
    agree(boot.replicates, wanted.replicates.iloc[:, :2], 1e-7)
    boot = counts.bootstrap(4, seed=1)
    assert boot.drawn == "25 levels of firm"
    by_number = counts.bootstrap(4, "cluster", groups=pd.factorize(FRAME["firm"])[0], seed=1)
    agree(boot.replicates, by_number.replicates)
    left_out = counts.jackknife()
    first = pd.unique(FRAME["firm"])[:2]
    agree(left_out.replicates.iloc[:2], [POISSON.fit(FRAME[FRAME["firm"] != firm]).params for firm in first], 1e-7)
    with pytest.raises(ValueError, match="does not support an intercept together with effects of firm"):
        with_constant.fit(FRAME).bootstrap(4)


@POISSON.mean
@POISSON.variance
def _(params, data):
    return jnp.exp(slopes(params, data) + params["alpha"])


@POISSON.saturated
def _(params, data):
    return poisson.logpmf(data["y"], jnp.maximum(data["y"], 1e-300) * 1.0)


@POISSON.cdf
def _(params, data):
    return poisson.cdf(data["y"], jnp.exp(slopes(params, data) + params["alpha"]))


@POISSON_DUMMIES.mean
def _(params, data):
    return jnp.exp(slopes(params, data) + data["D"] @ params["alpha"])


def test_margins_have_the_errors_of_the_model_with_dummies():
    """Predictions, slopes and contrasts of the mean over rows, with the errors of the effects."""
    res, dense = POISSON.fit(FRAME), POISSON_DUMMIES.fit({**DUMMIES, "D": DUMMIES["D"]})
    at = {"x2": [0.0, 1.0]}
    for found, wanted in (
        (res.margins(at=at), dense.margins(at=at)),
        (res.margins(["x1", "x2"]), dense.margins(["x1", "x2"])),
        (res.margins("x1", elasticity="eyex"), dense.margins("x1", elasticity="eyex")),
    ):
        agree(found.params, wanted.params)
        agree(found.bse, wanted.bse)
    with pytest.raises(ValueError, match="unconditional=True"):
        res.margins("x1", unconditional=True)


def test_residuals_are_statsmodels():
    glm = by_statsmodels(FRAME.drop(columns="year").assign(year=0), [0])
    res = POISSON.fit(FRAME)
    agree(res.residuals("response", response="y").values, glm.resid_response)
    agree(res.residuals("pearson", response="y").values, glm.resid_pearson)
    agree(res.residuals("deviance", response="y").values, glm.resid_deviance, 1e-7)
    from scipy.stats import norm as normal
    from scipy.stats import poisson as law

    found, mu = res.residuals(response="y"), np.asarray(glm.fittedvalues)
    assert (found.uniform >= law.cdf(FRAME["y"] - 1, mu) - 1e-9).all()
    assert (found.uniform <= law.cdf(FRAME["y"], mu) + 1e-9).all()
    agree(found.values, normal.ppf(found.uniform))


def test_formulas_beside_effects(counts):
    """The coefficients of a formula, its intercept beside a redundant level, tests between two fits, and pickles."""

    @mle.model(mu=mle.Real(), alpha=mle.Real(by="firm"))
    def poisson_model(params, data):
        return poisson_of(params["mu"] + params["alpha"], params, data)

    res = poisson_model.regress(mu="x1 + x2").fit(FRAME)
    agree(res.params[1:], counts.params)
    agree(res.bse[1:], counts.bse)
    smaller = POISSON_DUMMIES.fit(DUMMIES, fixed={"beta[x2]": 0.0})
    test = res.lr_test(poisson_model.regress(mu="x1").fit(FRAME))
    agree(test.statistic, 2.0 * (counts.llf - smaller.llf), 1e-7)
    again = pickle.loads(pickle.dumps(counts))
    pd.testing.assert_frame_equal(again.effects(), counts.effects())


def test_few_rows_a_level_are_spoken_of(counts):
    assert "conditional logit" not in str(counts.summary())
    few = PAIRS["logit"][0].fit(FRAME.iloc[:120])
    said = " ".join(str(few.summary()).split())
    assert "with so few the errors of the effects bias other parameters" in said
    assert "conditional logit" in said


def test_labels_may_be_text_numbers_or_missing(counts):
    numbered = POISSON.fit(FRAME.assign(firm=FRAME["firm"].str[1:].astype(int)))
    agree(numbered.params, counts.params)
    assert numbered.effects().index.dtype == np.int64
    gaps = FRAME.assign(firm=FRAME["firm"].where(FRAME["firm"] != "f03"))
    with pytest.raises(DataError, match="firm"):
        POISSON.fit(gaps)
    agree(POISSON.fit(gaps, missing="drop").params, POISSON.fit(FRAME[FRAME["firm"] != "f03"]).params)


def test_influence_is_that_of_the_model_with_dummies(counts):
    """Of rows and of years: estimates without them, and their log-likelihood there, to first order."""
    dense = POISSON_DUMMIES.fit(DUMMIES)
    for groups in (None, "year"):
        found, wanted = counts.influence(groups), dense.influence(groups)
        agree(found.dfbeta, wanted.dfbeta[:, :2], 1e-7)
        agree(found.loglik_out, wanted.loglik_out, 1e-7)
    with pytest.raises(ValueError, match="influence\\(leverage=True\\) is not supported with alpha"):
        counts.influence(leverage=True)


def test_held_out_rows_have_the_effects_of_the_other_rows_of_their_levels(counts):
    """The folds of the model with dummies, whose coefficients are the effects."""
    found, wanted = counts.cross_validate(5, seed=2), POISSON_DUMMIES.fit(DUMMIES).cross_validate(5, seed=2)
    agree(found.by_contribution, wanted.by_contribution, 1e-7)
    with pytest.raises(ValueError, match="levels of firm have all of their rows in one fold"):
        counts.cross_validate(5, groups="firm")


def test_saved_with_their_effects(counts, of_both, tmp_path):
    zeros = POISSON.fit(FRAME.assign(y=np.where(FRAME["firm"] == FIRMS[1], 0, FRAME["y"])))
    for res in (counts, of_both, zeros):
        res.save(tmp_path / "effects.json")
        again = mle.load(tmp_path / "effects.json")
        assert str(again.summary()) == str(res.summary())
        pd.testing.assert_frame_equal(again.effects(), res.effects())
        some = ["beta[x1]", f"alpha[{FIRMS[3]}]"]
        agree(again.cov_params(some), res.cov_params(some))
        assert again.aic == res.aic


def test_what_is_refused_is_named(counts):
    for options in (
        {"method": "lbfgs"},
        {"bias_reduction": "jeffreys"},
        {"n_starts": 3},
        {"start": {"alpha[f01]": 1.0}},
        {"fixed": {"alpha[f01]": 1.0}},
    ):
        with pytest.raises(ValueError, match="effects of firm"):
            POISSON.fit(FRAME, **options)
    with pytest.raises(ValueError, match="constraints= on alpha"):
        POISSON.fit(FRAME, constraints="alpha[f01] = alpha[f02]")
    for refused in (
        lambda: counts.influence(leverage=True), counts.diagnose, lambda: counts.bootstrap(kind="parametric"),
        lambda: counts.profile("beta[x1]"),
        lambda: counts.contour("beta[x1]", "beta[x2]"), lambda: counts.conf_int(method="profile"),
        lambda: counts.score_test("beta[x1] = 0"), lambda: counts.vuong_test(counts), counts.information_matrix_test,
        lambda: counts.lr_test(counts, bootstrap=9), lambda: counts.subset_errors("beta"),
        lambda: POISSON.fit_groups(FRAME, by="year"), lambda: POISSON.prepare(FRAME),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="is not supported with alpha"):
            refused()
    with pytest.raises(ValueError, match="cov_type='opg' does not support effects of firm"):
        counts.with_cov("opg")
    for kind in ("CR2", "CR3"):
        with pytest.raises(ValueError, match=f"cov_type='{kind}' does not support effects of firm: the leverage of a cluster"):
            counts.with_cov(kind, {"groups": "year"})
    with pytest.raises(ValueError, match="separated='drop' sets what to do with levels"):
        POISSON_DUMMIES.fit(DUMMIES, separated="drop")
    with pytest.raises(ValueError, match="two for the same column"):
        mle.model(b=mle.Real(), a=mle.Real(by="firm"), t=mle.Real(by="firm"))(lambda params, data: data["y"])
    with pytest.raises(ValueError, match="rowwise=False"):
        mle.model(b=mle.Real(), a=mle.Real(by="firm"), rowwise=False)(lambda params, data: data["y"])
    with pytest.raises(ValueError, match="shape"):
        mle.Real(3, by="firm")


def test_matrices_that_depend_on_the_effects_are_no_data():
    """An effect that multiplies a design, and one that enters through a scale, have right second derivatives too."""

    @mle.model(beta=mle.Real(shape=2), alpha=mle.Real(by="firm"))
    def scaled(params, data):
        X = jnp.stack([data["x1"], data["x2"]], axis=1)
        eta = (X * jnp.exp(params["alpha"])[:, None]) @ params["beta"]
        return norm.logpdf(data["y"], eta, jnp.exp(0.5 + 0.1 * params["alpha"]))

    with jax.enable_x64(True):
        loaded = load(scaled.likelihood, FRAME, None, "raise")
        data = EffectsEvaluator(
            Spec(scaled.likelihood, loaded.problem.space), loaded.problem.data, None, levels=loaded.levels
        )
        u, step = np.array([0.3, -0.2]), 1e-5
        at = data.eliminated(u)
        near = [data.eliminated(u + s * e).effects for e in step * np.eye(2) for s in (1, -1)]
    moved = np.array(near).reshape(2, 2, -1)
    settled = ~at.open
    assert settled.sum() > 15
    agree(-at.arrow.lever[settled], ((moved[:, 0] - moved[:, 1]) / (2 * step)).T[settled], 1e-4)


def test_effects_count_where_every_other_parameter_is_fixed():
    """The model with dummies has the same log-likelihood, criteria and degrees of freedom."""
    fixed = {"beta[x1]": 0.1, "beta[x2]": -0.1}
    none, dense = POISSON.fit(FRAME, fixed=fixed), POISSON_DUMMIES.fit({**DUMMIES, "y": FRAME["y"].to_numpy()}, fixed=fixed)
    agree([none.llf, none.aic, none.bic, none.df_model], [dense.llf, dense.aic, dense.bic, dense.df_model])
    agree(none.effects().loc[FIRMS, "estimate"], dense.params[[f"alpha[{firm}]" for firm in FIRMS]])
    assert POISSON.fit(FRAME).lr_test(none).df == 2
