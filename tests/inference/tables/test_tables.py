"""Tables to hand in: which rows under which names, null models against statsmodels and by hand, notebooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm
from scipy import optimize, stats

import mlejax as mle

sm = pytest.importorskip("statsmodels.api")


@mle.model(eta=mle.Real())
def logit(p: Any, d: Any) -> Any:
    return d["low"] * p["eta"] - jnp.logaddexp(0.0, p["eta"])


@mle.model(mu=mle.Real(), tau=mle.NonNegative())
def meta(p: Any, d: Any) -> Any:
    return norm.logpdf(d["y"], p["mu"], jnp.sqrt(p["tau"] ** 2 + d["se"] ** 2))


@pytest.fixture(scope="module")
def births() -> pd.DataFrame:
    return pd.read_csv("examples/data/birthwt.csv")


@pytest.fixture(scope="module")
def res(births: pd.DataFrame) -> mle.Results:
    return logit.regress(eta="age + C(race) + smoke").fit(births)


@pytest.fixture(scope="module")
def small(births: pd.DataFrame) -> mle.Results:
    return logit.regress(eta="age").fit(births)


def test_rows_are_chosen_ordered_and_named(res: mle.Results) -> None:
    shown = res.summary(
        keep=["eta[C(race)*", "eta[smoke]"], order="eta[smoke]", rename={"eta[smoke]": "Smokes"}, labels="readable"
    )
    assert shown.terms[0].name == "Smokes"
    assert all(t.name.startswith("race: ") for t in shown.terms[1:])
    assert len(shown.terms) == 3
    assert [t.name for t in res.summary(drop="eta[C(race)*").terms] == ["eta[Intercept]", "eta[age]", "eta[smoke]"]
    with pytest.raises(ValueError, match=r"drop='eta\[smok\]'.*did you mean \['eta\[smoke\]'"):
        res.summary(drop="eta[smok]")


def test_digits_columns_and_stars(res: mle.Results) -> None:
    text = str(res.summary(show="ci", digits=2, stars=True, extra={"Hospital": "Baystate"}, date=True))
    low, high = res.conf_int().loc["eta[smoke]"]
    assert f"{low:.2f}" in text
    assert f"{high:.2f}" in text
    assert "std err" not in text
    assert f"{res.params['eta[smoke]']:.2f}**" in text
    assert "*** p < 0.001" in text
    assert "Hospital:" in text
    assert "Date:" in text
    assert "Outcome:" in text
    for wrong in ({"digits": -1}, {"show": "p"}, {"labels": "short"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            res.summary(**wrong)  # type: ignore[arg-type]


def test_comparisons_take_the_same(res: mle.Results, small: mle.Results) -> None:
    both = mle.compare(
        small, res, names=["(1)", "(2)"], keep="eta", drop="eta[Intercept]", labels="readable", show="t", digits=3,
        extra={"Controls": ["no", "yes"]},
    )  # fmt: skip
    text = str(both)
    assert f"({res.tvalues['eta[age]']:.3f})" in text
    assert "Intercept" not in text
    assert "Controls" in text
    assert "Verdict" not in text  # all are clean
    with pytest.raises(ValueError, match="extra row 'a': expected 2 entries"):
        mle.compare(small, res, extra={"a": ["x"]})


def test_interactions_are_readable(births: pd.DataFrame) -> None:
    model = logit.regress(eta="C(race):age")
    names = [t.name for t in model.fit(births).summary(labels="readable").terms]
    assert all(" x age" in name and name.startswith("race: ") for name in names[1:])


def test_mcfadden_is_that_of_statsmodels(res: mle.Results, births: pd.DataFrame) -> None:
    x = pd.get_dummies(births[["age", "race", "smoke"]], columns=["race"], drop_first=True, dtype=float)
    want = sm.Logit(births["low"], sm.add_constant(x)).fit(disp=0, tol=1e-12)
    notes = " ".join(res.summary(null=True).notes)
    assert f"McFadden's R2: {want.prsquared:.4f}" in notes
    assert f"likelihood ratio {want.llr:.3f}, chi2(4), p = {want.llr_pvalue:.4f}" in notes


def test_fits_that_cannot_be_repeated_have_no_null_model(births: pd.DataFrame, tmp_path: Path) -> None:
    model = logit.regress(eta="age + smoke")
    tied = model.fit(births, constraints="eta[age] = eta[smoke]")
    said = "No likelihood-ratio test against intercepts alone: a fit {} cannot be repeated"
    assert said.format("under constraints=") in " ".join(tied.summary(null=True).notes)
    model.fit(births).save(tmp_path / "res.json")
    assert said.format("loaded from a file") in " ".join(mle.load(tmp_path / "res.json").summary(null=True).notes)


def test_edges_have_half_of_chi_squared() -> None:
    """The same two maxima by scipy."""
    rng = np.random.default_rng(3)
    se = rng.uniform(0.2, 0.6, 40)
    y = 1.0 + rng.normal(size=40) * np.sqrt(0.3**2 + se**2)

    def llf(tau: float) -> float:
        w = 1.0 / (tau**2 + se**2)
        mu = np.sum(w * y) / np.sum(w)
        return float(np.sum(stats.norm.logpdf(y, mu, 1.0 / np.sqrt(w))))

    best = optimize.minimize_scalar(lambda t: -llf(t), bounds=(0.0, 2.0), method="bounded", options={"xatol": 1e-10})
    ratio = 2.0 * (-best.fun - llf(0.0))
    notes = " ".join(meta.fit({"y": y, "se": se}).summary(null=True).notes)
    assert f"tau = 0: likelihood ratio {ratio:.3f}, half of chi2(1), p = {0.5 * stats.chi2.sf(ratio, 1):.4f}" in notes


@mle.model(mu=mle.Positive(), a=mle.NonNegative())
def counts(params, data):
    return mle.special.nb2_logpmf(data["y"], params["mu"], params["a"])


@mle.model(mu=mle.Positive(), a=mle.NonNegative(), zi=mle.Interval(0, 1, closed="left"))
def inflated(params, data):
    kind = params["mu"], params["a"]
    none = jnp.log(params["zi"] + (1 - params["zi"]) * jnp.exp(mle.special.nb2_logpmf(0.0, *kind)))
    return jnp.where(data["y"] == 0, none, jnp.log1p(-params["zi"]) + mle.special.nb2_logpmf(data["y"], *kind))


def test_at_an_edge_the_likelihood_ratio_is_0() -> None:
    """Binomial counts vary less than Poisson ones, so that the dispersion is 0 (Anscombe 1950, Biometrika 37, 358)."""
    y = {"y": np.random.default_rng(0).binomial(4, 0.5, 80).astype(float)}
    res, none = counts.fit(y), counts.fit(y, fixed={"a": 0.0})
    assert res.verdict.code == "boundary"
    assert "a = 0: likelihood ratio 0.000, p = 1, because the estimate is 0." in res.summary(null=True).notes
    test = res.lr_test(none, boundary=1)
    assert (test.statistic, test.pvalue) == (0.0, 1.0)
    assert not [note for note in none.summary(null=True).notes if "a = 0" in note]  # fixed there


def test_beside_another_parameter_at_its_bound_no_mixture_is_claimed() -> None:
    """Whether zi is truly 0 decides: if so, with the estimates' correlation of -0.73, P(LR > 2.706) is 0.016 (400,000 projections
    on the cone), where half of chi2(1) says 0.05.
    """
    y = {"y": np.random.default_rng(0).negative_binomial(4, 4 / 5.6, 120).astype(float)}
    res, none = inflated.fit(y), inflated.fit(y, fixed={"a": 0.0})
    assert res.params["zi"] == 0.0
    assert res.params["a"] > 0.1
    assert none.params["zi"] > 0.01  # the zeros of the dispersion, off its bound in the restricted fit
    with pytest.raises(ValueError, match=r"boundary=1: zi is at a bound as well, and not tested.*use bootstrap=999"):
        res.lr_test(none, boundary=1)
    with pytest.raises(ValueError, match=r"not chi-squared: bootstrap=999 compares it with drawn data"):
        res.lr_test(none)
    notes = res.summary(null=True).notes
    why = "the distribution of the likelihood ratio is not known, because zi is at a bound as well"
    assert f"a = 0: {why}; use lr_test(..., bootstrap=999)." in notes
    assert "zi = 0: likelihood ratio 0.000, p = 1, because the estimate is 0." in notes
    # both at their bounds: the ratio is 0, and p is 1 under any distribution
    few = {"y": np.random.default_rng(0).binomial(4, 0.5, 80).astype(float)}
    both = inflated.fit(few)
    assert both.params[["a", "zi"]].tolist() == [0.0, 0.0]
    assert both.lr_test(inflated.fit(few, fixed={"a": 0.0}), boundary=1).pvalue == 1.0


def test_a_half_open_interval_is_tested_at_its_closed_end() -> None:
    """The same two maxima by scipy."""
    y = np.where(np.random.default_rng(1).random(300) < 0.3, 0.0, np.random.default_rng(2).negative_binomial(3, 0.5, 300))

    def minus(t: np.ndarray, zi: float) -> float:
        p = 1.0 / (1.0 + np.exp(t[0] + t[1]))
        return -float(np.log(zi * (y == 0) + (1 - zi) * stats.nbinom.pmf(y, np.exp(-t[1]), p)).sum())

    how = {"method": "Nelder-Mead", "options": {"xatol": 1e-9, "fatol": 1e-11, "maxiter": 5000}}
    full = optimize.minimize(lambda t: minus(t, 1 / (1 + np.exp(-t[2]))), [1.0, -1.0, -1.0], **how)
    none = optimize.minimize(lambda t: minus(t, 0.0), [1.0, 0.0], **how)
    ratio = 2.0 * (none.fun - full.fun)
    p = 0.5 * stats.chi2.sf(ratio, 1)
    shown = f"{p:.4f}" if p >= 1e-4 else f"{p:.2e}"
    notes = " ".join(inflated.fit({"y": y}).summary(null=True).notes)
    assert f"zi = 0: likelihood ratio {ratio:.3f}, half of chi2(1), p = {shown}" in notes


def test_a_table_whose_tests_are_not_allowed_says_why(births: pd.DataFrame) -> None:
    model = logit.regress(eta="age + smoke")
    r2 = [note for note in model.fit(births).summary(null=True).notes if note.startswith("McFadden")]
    robust = model.fit(births, cov_type="HC0").summary(null=True)
    assert [note for note in robust.notes if note.startswith("McFadden")] == r2
    assert "No likelihood-ratio test against intercepts alone: the logit fit maximises a pseudolikelihood" in str(robust.notes)
    sampled = model.fit(births, weights=np.ones(len(births)), weight_kind="sampling").summary(null=True)
    assert "No likelihood-ratio test against intercepts alone: the logit fit maximises a pseudolikelihood" in str(sampled.notes)
    with pytest.warns(mle.ConvergenceWarning):
        stopped = model.fit(births, method=mle.Newton(max_steps=1)).summary(null=True)
    assert "No likelihood-ratio test against intercepts alone: the logit fit did not converge" in str(stopped.notes)
    assert "McFadden" not in str(stopped)
    of_counts = counts.fit({"y": np.arange(9.0)}, cov_type="HC0").summary(null=True)
    assert "No likelihood-ratio test of a = 0: the counts fit maximises a pseudolikelihood" in str(of_counts.notes)


def test_results_show_in_notebooks(res: mle.Results, small: mle.Results, births: pd.DataFrame) -> None:
    shown = (
        res, res.verdict, res.model, res.nlcom(lambda p: p["eta[age]"]), res.wald_test("eta[age] = 0"), res.lr_test(small),
        res.t_test("eta[age] = 0"), res.bootstrap(100), mle.compare(res, small), logit.regress(eta="age").check(births),
        logit.regress(eta="age").fit_groups(births, by="smoke"),
    )  # fmt: skip
    for one in shown:
        html = one._repr_html_()
        assert html.strip().startswith("<")
        assert "\\n" not in html
