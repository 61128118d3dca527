"""Parameters on covariates: against R (numbers and scripts in ``tests/references``), closed forms, and by-hand models."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.special import gammaln
from jax.scipy.stats import norm, poisson

import mlejax as mle
from mlejax.objective import Spec, objective_of

ROOT = Path(__file__).parents[2]


def r_numbers(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "tests" / "references" / f"regress_{name}.json").read_text())


@functools.cache
def table(name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / "examples" / "data" / f"{name}.csv")


@mle.model(p=mle.Interval(0, 1))
def bernoulli(params: Any, data: Any) -> Any:
    return jnp.where(data["low"] > 0, jnp.log(params["p"]), jnp.log1p(-params["p"]))


@mle.model(rate=mle.Positive())
def counts(params: Any, data: Any) -> Any:
    return poisson.logpmf(data["incidents"], params["rate"])


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def weibull(params: Any, data: Any) -> Any:
    z = (jnp.log(data["time"]) - params["mu"]) / params["sigma"]
    return data["event"] * (z - jnp.log(params["sigma"] * data["time"])) - jnp.exp(z)


@mle.model(mu=mle.Positive(), theta=mle.Positive())
def negbin(params: Any, data: Any) -> Any:
    y, mu, theta = data["deaths"], params["mu"], params["theta"]
    constant = gammaln(y + theta) - gammaln(theta) - gammaln(y + 1.0)
    return constant + theta * jnp.log(theta / (theta + mu)) + y * jnp.log(mu / (theta + mu))


SATISFACTION = ("low", "medium", "high")


@mle.model(p=mle.Simplex(labels=SATISFACTION, shape=3))
def multinomial(params: Any, data: Any) -> Any:
    """Written for one vector of probabilities, without a thought of covariates."""
    return data["count"] * jnp.log(params["p"][data["level"]])


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def normal(params: Any, data: Any) -> Any:
    return norm.logpdf(data["dist"], params["mu"], params["sigma"])


def housing() -> pd.DataFrame:
    df = table("housing")
    return df.assign(level=df["satisfaction"].map({s: i for i, s in enumerate(SATISFACTION)}))


def known_offset() -> pd.DataFrame:
    df = table("birthwt")
    return df.assign(known=0.01 * (df["lwt"] - 130))


REGRESSIONS = {
    "logit": (bernoulli.regress(p=mle.Linear("age + C(race) + smoke", offset="known")), known_offset),
    "poisson": (
        counts.regress(rate=mle.Linear("type + C(year) + C(period)", offset="log(service)")),
        lambda: table("ships"),
    ),
    "weibull": (weibull.regress(mu="age + female + ph_ecog"), lambda: table("lung")),
    "weibull_scale": (weibull.regress(mu="age + female + ph_ecog", sigma="female"), lambda: table("lung")),
    "negbin": (negbin.regress(mu=mle.Linear("popden + rural + temp", exposure="drivers")), lambda: table("road")),
    "multinom": (
        multinomial.regress(p="C(influence) + C(type) + C(contact)"),
        housing,
    ),
    "scale": (normal.regress(mu="speed", sigma="speed"), lambda: table("cars")),
}


@functools.cache
def fitted(name: str) -> mle.Results:
    model, data = REGRESSIONS[name]
    return model.fit(data())


# ---- numbers


def in_r_order(name: str, label: str) -> str:
    """R's first level of a factor without its own order is the first by name, as formulaic's is."""
    label = label.replace("C(influence)", "influence").replace("C(type)", "type").replace("C(contact)", "contact")
    return label if name == "poisson" else label.replace("C(race)", "race")


@pytest.mark.parametrize("name", REGRESSIONS)
def test_agrees_with_r(name: str) -> None:
    """Estimates to 1e-6 standard errors, standard errors to 1e-6, the log-likelihood to 1e-10; from mlejax's own start."""
    res, r = fitted(name), r_numbers(name)
    ours = res.params.rename(lambda label: in_r_order(name, label))
    assert set(ours.index) == set(r["params"])
    want, errors = pd.Series(r["params"])[ours.index], pd.Series(r["se"])[ours.index]
    assert res.verdict.code == "verified"
    assert float(np.max(np.abs(ours - want) / errors)) < 1e-6
    assert float(np.max(np.abs(res.bse.to_numpy() / errors - 1))) < 1e-6
    assert res.llf == pytest.approx(r["loglik"], rel=1e-10)
    if "se_hc0" in r:
        robust = pd.Series(r["se_hc0"])[ours.index].to_numpy()
        assert np.max(np.abs(res.with_cov("HC0").bse.to_numpy() / robust - 1)) < 1e-6


def new_rows() -> pd.DataFrame:
    return pd.DataFrame(
        {"age": [20, 30], "race": ["white", "other"], "smoke": [1, 0], "known": [0.0, 0.2]}, index=["a", "b"]
    )


def test_predicted_values_agree_with_r() -> None:
    """``predict.glm(type = "response", se.fit = TRUE)``, offsets of the new data included."""
    got, r = fitted("logit").predict(new_rows()), r_numbers("logit_predicted")
    assert list(got.index) == ["a", "b"]
    np.testing.assert_allclose(got["estimate"], list(r["params"].values()), rtol=1e-7)
    np.testing.assert_allclose(got["std_error"], list(r["se"].values()), rtol=1e-5)  # R: last step's weights


def test_prediction_intervals_are_those_of_the_linear_predictor() -> None:
    got = fitted("logit").predict(new_rows(), alpha=0.1)
    link = fitted("logit").predict(new_rows(), alpha=0.1, scale="link")
    np.testing.assert_allclose(got["conf_low"], 1 / (1 + np.exp(-link["conf_low"])), rtol=1e-12)
    slope = got["estimate"] * (1 - got["estimate"])
    np.testing.assert_allclose(got["std_error"], slope * link["std_error"], rtol=1e-10)


def test_a_function_sees_regressed_parameters_by_row() -> None:
    res, new = fitted("logit"), new_rows()
    twice = res.predict(lambda params, data: params["p"] * data["smoke"], new)
    np.testing.assert_allclose(twice["estimate"], res.predict(new)["estimate"] * [1, 0], rtol=1e-14)
    p = fitted("multinom").predict(housing().iloc[:4])["estimate"].to_numpy().reshape(4, 3)
    one = fitted("multinom").predict(lambda params, data: params["p"][data["level"]], housing().iloc[:4])
    np.testing.assert_allclose(one["estimate"], p[np.arange(4), housing()["level"].iloc[:4]], rtol=1e-14)
    arrays = fitted("multinom").predict(lambda params, data: params["p"][:, 1], housing().iloc[:4])
    np.testing.assert_allclose(arrays["estimate"], p[:, 1], rtol=1e-14)
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-14)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"race": ["white", "martian"]}, "column 'race' has the level 'martian' in row 1.*its levels are 'black'"),
        ({"age": [np.nan, 1.0]}, "column 'age': 1 missing value"),
    ],
)
def test_new_data_are_refused_by_name(change: dict[str, Any], words: str) -> None:
    with pytest.raises(mle.DataError, match=words):
        fitted("logit").predict(new_rows().assign(**change))


def test_predict_says_what_it_needs() -> None:
    with pytest.raises(mle.MissingColumnError, match="no column 'race'"):
        fitted("logit").predict(new_rows().drop(columns="race"))
    with pytest.raises(ValueError, match="choose one: param='mu'"):
        fitted("scale").predict({"speed": [1.0]})
    with pytest.raises(ValueError, match="param='nu' has no formula"):
        fitted("scale").predict({"speed": [1.0]}, param="nu")


# ---- the functions that the design replaces


def by_hand(params: Any, data: Any) -> Any:
    return norm.logpdf(data["dist"], data["X"] @ params["mu"], jnp.exp(data["X"] @ params["sigma"]))


def test_equals_the_model_written_by_hand() -> None:
    """Same likelihood, same scores, same covariances; only the labels come from the formula."""
    cars = table("cars")
    X = np.column_stack([np.ones(50), cars["speed"]])
    hand = mle.model(mu=mle.Real(shape=2), sigma=mle.Real(shape=2))(by_hand)
    theirs = hand.fit({"dist": cars["dist"].to_numpy(), "X": X}, start={"mu": [0.0, 3.0], "sigma": [2.0, 0.0]})
    ours = fitted("scale")
    np.testing.assert_allclose(ours.params, theirs.params, rtol=1e-7)
    for kind in ("opg", "HC1"):
        np.testing.assert_allclose(ours.with_cov(kind).bse, theirs.with_cov(kind).bse, rtol=1e-6)
    np.testing.assert_allclose(ours.score_obs, theirs.score_obs, atol=1e-6)


def test_every_address_of_a_coefficient_works() -> None:
    model, cars = REGRESSIONS["scale"][0], table("cars")
    res = fitted("scale")
    held = model.fit(cars, fixed={"sigma[speed]": 0.0})
    assert np.isnan(held.bse["sigma[speed]"])
    assert held.params["mu[speed]"] == pytest.approx(np.polyfit(cars["speed"], cars["dist"], 1)[0], rel=1e-7)
    assert res.lr_test(held).statistic == pytest.approx(2 * (res.llf - held.llf))
    assert res.wald_test("sigma[speed] = 0").statistic == pytest.approx(res.tvalues["sigma[speed]"] ** 2)
    again = model.fit(cars, start={"mu[speed]": 3.0, "sigma": [2.0, 0.05]})
    np.testing.assert_allclose(again.params, res.params, rtol=1e-7)
    entry = fitted("multinom").wald_test("p[high][C(contact)[T.low]] = p[medium][C(contact)[T.low]]")
    assert 0 < entry.pvalue < 1
    assert fitted("multinom").wald_test("p[high] = 0").df == 7
    with pytest.raises(mle.AddressError, match=r"did you mean sigma\[speed\]"):
        model.fit(cars, fixed={"sigma[sped]": 0.0})


@pytest.mark.parametrize("option", ["start", "fixed"])
def test_one_number_is_no_start_for_several_coefficients(option: str) -> None:
    with pytest.raises(ValueError, match=r"mu has a formula; expected an array of its coefficients"):
        REGRESSIONS["scale"][0].fit(table("cars"), **{option: {"mu": 40.0}})


# ---- odds, rate and hazard ratios


def test_ratios_are_exp_of_coefficients() -> None:
    res = fitted("logit")
    ratios, plain = res.tidy(exponentiate=True), res.tidy()
    np.testing.assert_allclose(ratios["estimate"], np.exp(plain["estimate"]))
    np.testing.assert_allclose(ratios["std_error"], np.exp(plain["estimate"]) * plain["std_error"])
    for end in ("conf_low", "conf_high"):
        np.testing.assert_allclose(ratios[end], np.exp(plain[end]))
    pd.testing.assert_series_equal(ratios["p_value"], plain["p_value"])
    text = str(res.summary(eform=True))
    assert "exp(coef) of p: odds ratios" in text
    assert "odds" not in str(res.summary())


def test_only_coefficients_on_a_log_scale_are_exponentiated() -> None:
    scale = fitted("scale").tidy(exponentiate=True).set_index("term")["estimate"]
    assert scale["mu[speed]"] == fitted("scale").params["mu[speed]"]
    assert scale["sigma[speed]"] == np.exp(fitted("scale").params["sigma[speed]"])
    negbin = fitted("negbin")
    assert "rate ratios" in str(negbin.summary(eform=True))
    assert negbin.tidy(exponentiate=True).set_index("term")["estimate"]["theta"] == negbin.params["theta"]
    with pytest.raises(ValueError, match="no parameter here has one"):
        fitted("weibull").summary(eform=True)
    times = fitted("weibull").tidy(exponentiate=["mu"]).set_index("term")["estimate"]
    assert times["mu[age]"] == np.exp(fitted("weibull").params["mu[age]"])
    with pytest.raises(ValueError, match="got sigma, which has bounds"):
        fitted("weibull").tidy(exponentiate=["sigma"])


# ---- all that a model does


def births() -> pd.DataFrame:
    df = table("birthwt")
    return df.assign(ward=df["lwt"] % 4, copies=df["age"] % 3)


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def weight(params: Any, data: Any) -> Any:
    return norm.logpdf(data["bwt"], params["mu"], params["sigma"])


LINEAR = weight.regress(mu="age + race")


def ols(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    beta = np.linalg.lstsq(X, y, rcond=None)[0]
    return beta, float(np.sqrt(np.mean((y - X @ beta) ** 2)))


def dummies(df: pd.DataFrame) -> np.ndarray:
    return np.column_stack([np.ones(len(df)), df["age"], df["race"] == "other", df["race"] == "white"]).astype(float)


def test_frequency_weights_equal_the_expanded_rows() -> None:
    df = births()
    weighted = LINEAR.fit(df, weights="copies", weight_kind="frequency")
    expanded = df.loc[df.index.repeat(df["copies"])]
    beta, sigma = ols(dummies(expanded), expanded["bwt"].to_numpy())
    np.testing.assert_allclose(weighted.params, [*beta, sigma], rtol=1e-7)
    full = LINEAR.fit(expanded)
    assert weighted.llf == pytest.approx(full.llf, rel=1e-12)
    np.testing.assert_allclose(weighted.bse, full.bse, rtol=1e-8)


def test_missing_values_count_jointly() -> None:
    """In the outcome, in a number and in a category of the formula; formulaic itself never drops a row."""
    df = births()
    df["age"] = df["age"].where(df["age"] != 19)
    df["race"] = df["race"].where(df["lwt"] > 90)
    df["bwt"] = df["bwt"].astype(float).where(df["ui"] == 0)
    with pytest.raises(mle.DataError, match=r"column 'bwt': 28 missing.*column 'age': 16.*column 'race': 7"):
        LINEAR.fit(df)
    res = LINEAR.fit(df, missing="drop")
    complete = df.dropna(subset=["age", "race", "bwt"])
    assert (res.nobs, res.n_dropped) == (len(complete), len(df) - len(complete))
    beta, sigma = ols(dummies(complete), complete["bwt"].to_numpy())
    np.testing.assert_allclose(res.params, [*beta, sigma], rtol=1e-7)


def test_groups_share_levels_and_transforms() -> None:
    """Every ward as a fit of its own on the same columns; a value missing in one ward costs that ward only."""
    df = births()
    df.loc[3, "age"] = np.nan
    with pytest.warns(mle.ConvergenceWarning):
        found = LINEAR.fit_groups(df, by="ward")
    lost = df.loc[3, "ward"]
    for ward in (w for w in range(4) if w != lost):
        part = df[df["ward"] == ward]
        beta, sigma = ols(dummies(part), part["bwt"].to_numpy())
        np.testing.assert_allclose(found.params.loc[ward], [*beta, sigma], rtol=1e-6)
    with pytest.raises(mle.DataError, match=rf"^data set {lost}: column 'age': 1 missing.*index label 3\); missing='drop'"):
        found[lost]
    ward = next(w for w in range(4) if w != lost)
    assert len(found[ward].predict(births().head(2))) == 2


def test_the_pure_core_takes_a_prepared_regression() -> None:
    prepared, df = LINEAR.prepare(births()), births()
    beta, _ = ols(dummies(df), df["bwt"].to_numpy())
    with jax.enable_x64(True):
        start = {"mu": np.array([3000.0, 0.0, 0.0, 0.0]), "sigma": 700.0}
        best = jax.jit(lambda data: mle.solve(LINEAR, data, start))(prepared)
    np.testing.assert_allclose(best.params["mu"], beta, rtol=1e-7)


def test_calls_as_a_function_of_coefficients() -> None:
    df = births()
    params = {"mu": np.array([3000.0, -1.0, 2.0, 3.0]), "sigma": np.float64(700.0)}
    with jax.enable_x64(True):
        values = LINEAR(params, df)
        slope = jax.grad(lambda p: LINEAR(p, df).sum())(params)["mu"]
    np.testing.assert_allclose(values, norm_logpdf(df["bwt"], dummies(df) @ params["mu"], 700.0), rtol=1e-12)
    residual = (df["bwt"] - dummies(df) @ params["mu"]) / 700.0**2
    np.testing.assert_allclose(slope, dummies(df).T @ residual, rtol=1e-10)


def norm_logpdf(y: Any, mu: Any, sigma: float) -> Any:
    return -0.5 * ((y - mu) / sigma) ** 2 - np.log(sigma) - 0.5 * np.log(2 * np.pi)


def test_design_matrix_by_name() -> None:
    """Taken as it is, with the labels it has."""
    df = births()
    y, X = df["bwt"].to_numpy(), dummies(df)[:, :2]
    beta, sigma = ols(X, y)
    plain = weight.regress(mu="X").fit({"bwt": y, "X": X})
    assert list(plain.params.index) == ["mu[0]", "mu[1]", "sigma"]
    np.testing.assert_allclose(plain.params, [*beta, sigma], rtol=1e-7)
    labelled = weight.regress(mu="X").fit({"bwt": y, "X": pd.DataFrame(X, columns=["one", "years"])})
    assert list(labelled.params.index) == ["mu[one]", "mu[years]", "sigma"]
    assert labelled.predict({"X": np.array([[1.0, 30.0]])})["estimate"][0] == pytest.approx(beta @ [1.0, 30.0])


def test_vector_declared_by_columns_has_the_labels_of_the_frame() -> None:
    """``Real(columns="X")``, plain and regressed: the coefficients of every entry on the covariate."""
    df = births()
    X = pd.DataFrame(dummies(df)[:, :2], columns=["one", "years"])

    @mle.model(beta=mle.Real(columns="X"), sigma=mle.Positive())
    def model(params: Any, data: Any) -> Any:
        return norm.logpdf(data["bwt"], data["X"] @ params["beta"], params["sigma"])

    data = {"bwt": df["bwt"].to_numpy(), "X": X, "smoke": df["smoke"].to_numpy()}
    assert list(model.fit(data).params.index) == ["beta[one]", "beta[years]", "sigma"]
    res = model.regress(beta="smoke").fit(data)
    assert list(res.params.index)[:3] == ["beta[one][Intercept]", "beta[one][smoke]", "beta[years][Intercept]"]
    smoke = df["smoke"].to_numpy()[:, None]
    beta, _ = ols(np.column_stack([X, X * smoke])[:, [0, 2, 1, 3]], data["bwt"])
    np.testing.assert_allclose(res.params[:-1], beta, rtol=1e-6)
    assert res.wald_test("beta[years][smoke] = 0").pvalue == pytest.approx(res.pvalues["beta[years][smoke]"])
    assert res.wald_test("beta[one] = 0").df == 2


def test_units_and_whole_models() -> None:
    """Per unit the padded rows, and the whole series: a random intercept and an AR(1) against their own closed forms."""
    df = births().assign(doctor=births()["lwt"] % 30)

    @mle.model(unit="doctor", mu=mle.Real(), sigma=mle.Positive(), tau=mle.NonNegative())
    def intercepts(params: Any, data: Any) -> Any:
        r = jnp.where(data["mask"], data["bwt"] - params["mu"], 0.0)
        n, s2, t2 = jnp.sum(data["mask"]), params["sigma"] ** 2, params["tau"] ** 2
        log_det = (n - 1) * jnp.log(s2) + jnp.log(s2 + n * t2)
        shared = t2 / (s2 * (s2 + n * t2)) * jnp.sum(r) ** 2
        return -0.5 * (n * jnp.log(2 * jnp.pi) + log_det + jnp.sum(r**2) / s2 - shared)

    beta, sigma = ols(dummies(df), df["bwt"].to_numpy())
    none = intercepts.regress(mu="age + race").fit(df, fixed={"tau": 0.0})
    np.testing.assert_allclose(none.params[:-1], [*beta, sigma], rtol=1e-6)

    @mle.model(rowwise=False, mu=mle.Real(), sigma=mle.Positive())
    def series(params: Any, data: Any) -> Any:
        return norm.logpdf(data["bwt"] - params["mu"], 0.0, params["sigma"])

    np.testing.assert_allclose(series.regress(mu="age + race").fit(df).params, [*beta, sigma], rtol=1e-6)


def test_baseline_and_offsets_of_a_simplex() -> None:
    """Another baseline is the same model: coefficients are differences; one offset for each entry or for all."""
    data = housing()
    first, last = (
        fitted("multinom"),
        multinomial.regress(p=mle.Linear("C(influence) + C(type) + C(contact)", baseline="high")),
    )
    res = last.fit(data)
    assert res.llf == pytest.approx(first.llf, rel=1e-12)
    label = "[C(contact)[T.low]]"
    gap = first.params["p[medium]" + label] - first.params["p[high]" + label]
    assert res.params["p[medium]" + label] == pytest.approx(gap, rel=1e-6)
    shifts = np.column_stack([np.full(72, 0.5), np.full(72, -0.25)])
    columns = {name: data[name] for name in ("contact", "level", "count")}
    plain = multinomial.regress(p="contact").fit(columns)
    moved = multinomial.regress(p=mle.Linear("contact", offset="shifts")).fit({**columns, "shifts": shifts})
    assert moved.params["p[medium][Intercept]"] == pytest.approx(plain.params["p[medium][Intercept]"] - 0.5, rel=1e-6)
    assert moved.params["p[high][Intercept]"] == pytest.approx(plain.params["p[high][Intercept]"] + 0.25, rel=1e-6)
    with pytest.raises(mle.DataError, match=r"the offset 'shifts' has 3 columns.*shape \(2,\)"):
        multinomial.regress(p=mle.Linear("contact", offset="shifts")).fit({**columns, "shifts": np.ones((72, 3))})


def test_derivatives_through_predictors_are_those_of_the_function() -> None:
    """Value, score and Hessian of a function called row by row, with a coefficient held, an offset and another parameter."""

    @mle.model(p=mle.Simplex(shape=3), power=mle.Positive(), shift=mle.Real())
    def model(params: Any, data: Any) -> Any:
        tempered = jnp.stack([params["p"][0], params["p"][1], params["p"][2]]) ** params["power"]
        return jnp.log(tempered[data["level"]] / jnp.sum(tempered)) - 0.5 * (data["count"] - params["shift"]) ** 2

    reg = model.regress(p="contact + type", shift=mle.Linear("influence", offset="level"))
    with jax.enable_x64(True):
        problem = reg.prepare(housing())
        space = problem.space.fix(["p[1][type[T.tower]]", "shift[influence[T.low]]"])
        spec = Spec(reg.likelihood, space)
        u = 0.3 * jax.random.normal(jax.random.key(1), (space.n_free,), jnp.float64)
        held = 0.1 * jnp.arange(space.n_values, dtype=jnp.float64)
        objective = objective_of(spec, problem.data, held, None)
        found = jax.jit(objective.with_hessian)(u)
        plain = lambda t: (objective.value(t), jax.grad(objective.value)(t), jax.hessian(objective.value)(t))
        want = jax.jit(plain)(u)
    for ours, theirs in zip(found, want, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_intervals_of_predictions_cover() -> None:
    """95 % intervals of a rate at a new exposure and covariate, over 600 samples: within three standard errors of 0.95."""

    @mle.model(rate=mle.Positive())
    def model(params: Any, data: Any) -> Any:
        return poisson.logpmf(data["y"], params["rate"])

    reg = model.regress(rate=mle.Linear("x + g", exposure="time"))
    rng, new = np.random.default_rng(5), pd.DataFrame({"x": [1.5], "g": ["b"], "time": [2.0]})
    truth, inside = 2.0 * np.exp(0.2 + 0.4 * 1.5 - 0.5), []
    for _ in range(600):
        df = pd.DataFrame(
            {"x": rng.normal(size=150), "g": rng.choice(["a", "b"], 150), "time": rng.uniform(0.5, 3, 150)}
        )
        mean = df["time"] * np.exp(0.2 + 0.4 * df["x"] - 0.5 * (df["g"] == "b"))
        row = reg.fit(df.assign(y=rng.poisson(mean))).predict(new).iloc[0]
        inside.append(row["conf_low"] < truth < row["conf_high"])
    assert abs(np.mean(inside) - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 600)
