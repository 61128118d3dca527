"""Margins against statsmodels' analytic ones, closed forms, and differences of predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from jax.scipy.special import gammaln

import mlejax as mle

ROOT = Path(__file__).parents[3]


@mle.model(p=mle.Interval(0, 1))
def bernoulli(params: Any, data: Any) -> Any:
    return jnp.where(data["y"] == 1, jnp.log(params["p"]), jnp.log1p(-params["p"]))


@mle.model(mu=mle.Positive())
def poisson(params: Any, data: Any) -> Any:
    return data["y"] * jnp.log(params["mu"]) - params["mu"] - gammaln(data["y"] + 1.0)


@mle.model(beta=mle.Real(columns="X"))
def logit(params: Any, data: Any) -> Any:
    return jax.nn.log_sigmoid((2 * data["y"] - 1) * (data["X"] @ params["beta"]))


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    n = 400
    df = pd.DataFrame(
        {"x": rng.normal(1.0, 1.0, n), "z": rng.uniform(1.0, 3.0, n), "g": rng.choice(["a", "b", "c"], n)}
    )
    eta = -0.5 + 0.8 * df["x"] - 0.4 * df["z"] + df["g"].map({"a": 0.0, "b": 0.5, "c": -0.7})
    df["y"] = (rng.uniform(size=n) < 1 / (1 + np.exp(-eta))).astype(float)
    df["k"] = rng.poisson(np.exp(0.3 * df["x"] + 0.1)).astype(float)
    return df


@pytest.fixture(scope="module")
def fitted(frame: pd.DataFrame) -> mle.Results:
    return bernoulli.regress(p="x + z").fit(frame)


@pytest.mark.parametrize("at", ["overall", "mean"])
@pytest.mark.parametrize(
    ("elasticity", "method"), [(None, "dydx"), ("eyex", "eyex"), ("dyex", "dyex"), ("eydx", "eydx")]
)
def test_slopes_and_elasticities_are_those_of_statsmodels(
    frame: pd.DataFrame, fitted: mle.Results, at: str, elasticity: Any, method: str
) -> None:
    theirs = (
        sm.Logit(frame["y"], sm.add_constant(frame[["x", "z"]]))
        .fit(disp=0, tol=1e-12)
        .get_margeff(at=at, method=method)
    )
    ours = fitted.margins(["x", "z"], elasticity=elasticity, at_means=at == "mean")
    np.testing.assert_allclose(ours.params, theirs.margeff, rtol=1e-6)
    np.testing.assert_allclose(ours.bse, theirs.margeff_se, rtol=1e-6)


def test_a_regression_of_counts(frame: pd.DataFrame) -> None:
    theirs = sm.Poisson(frame["k"], sm.add_constant(frame[["x"]])).fit(disp=0, tol=1e-12, cov_type="HC0").get_margeff()
    res = poisson.regress(mu="x").fit(frame.rename(columns={"y": "other", "k": "y"}), cov_type="HC0")
    ours = res.margins("x")
    np.testing.assert_allclose([ours.params[0], ours.bse[0]], [theirs.margeff[0], theirs.margeff_se[0]], rtol=1e-6)


def test_levels_contrast_with_the_first(frame: pd.DataFrame) -> None:
    """As averages of predictions with the column set, whose errors come from the delta method by hand."""
    res = bernoulli.regress(p="x + g").fit(frame)
    found = res.margins("g")
    X = np.column_stack([np.ones(len(frame)), frame["g"] == "b", frame["g"] == "c", frame["x"]]).astype(float)
    names = ["p[Intercept]", "p[g[T.b]]", "p[g[T.c]]", "p[x]"]
    beta = res.params[names].to_numpy()
    V = res.cov_params().loc[names, names].to_numpy()

    def set_to(b: float, c: float) -> tuple[float, np.ndarray]:
        at = X.copy()
        at[:, 1], at[:, 2] = b, c
        p = 1 / (1 + np.exp(-at @ beta))
        return p.mean(), (p * (1 - p)) @ at / len(at)

    for i, one in enumerate([(1.0, 0.0), (0.0, 1.0)]):
        difference = set_to(*one)[0] - set_to(0.0, 0.0)[0]
        gradient = set_to(*one)[1] - set_to(0.0, 0.0)[1]
        assert found.params[i] == pytest.approx(difference, rel=1e-9)
        assert found.bse[i] == pytest.approx(np.sqrt(gradient @ V @ gradient), rel=1e-8)
    assert found.labels == ("g: b - a", "g: c - a")


def test_slopes_go_through_splines_and_polynomials(frame: pd.DataFrame) -> None:
    """d/dx of bs(x) by hand: where a formula stands between, its basis is moved too."""
    res = bernoulli.regress(p="bs(x, df=4) + poly(z, 2)").fit(frame)
    inner = frame[(frame["x"] > -1) & (frame["x"] < 3) & (frame["z"] > 1.1) & (frame["z"] < 2.9)]
    h = 1e-5
    for name in ("x", "z"):
        up, down = (res.predict(inner.assign(**{name: inner[name] + s * h}))["estimate"].mean() for s in (1, -1))
        assert res.margins(name, data=inner).params[0] == pytest.approx((up - down) / (2 * h), rel=1e-6)


def test_only_the_terms_of_a_column_are_moved(frame: pd.DataFrame) -> None:
    """Interactions with levels, offsets and terms that do not move, against differences of predictions."""
    res = bernoulli.regress(p=mle.Linear("bs(x, df=4):C(g) + log(z) + g + x:z", offset="0.1 * x * z")).fit(frame)
    inner, h = frame[(frame["x"] > -1) & (frame["x"] < 3)], 1e-5
    for name in ("x", "z"):
        up, down = (res.predict(inner.assign(**{name: inner[name] + s * h}))["estimate"].mean() for s in (1, -1))
        assert res.margins(name, data=inner).params[0] == pytest.approx((up - down) / (2 * h), rel=1e-6)


def test_numbers_that_a_formula_has_as_a_factor_have_contrasts(frame: pd.DataFrame) -> None:
    """C(k): not a slope, which no level between two has; as differences of mean predictions, in every spelling."""
    df = frame.assign(k=np.arange(len(frame)) % 3 + 1)
    res = bernoulli.regress(p="x + C(k)").fit(df)
    means = [res.predict(df.assign(k=k))["estimate"].mean() for k in (1, 2, 3)]
    for spelling in ("k", "C(k)"):
        np.testing.assert_allclose(res.margins(spelling).params, np.array(means[1:]) - means[0], rtol=1e-9)
    assert res.margins("x").params.shape == (1,)


def test_at_over_and_predictions(frame: pd.DataFrame, fitted: mle.Results) -> None:
    found = fitted.margins(at={"x": [0.0, 1.0], "z": 2.0}).frame()
    alone = fitted.predict(pd.DataFrame({"x": [0.0, 1.0], "z": [2.0, 2.0]}))
    np.testing.assert_allclose(found["estimate"], alone["estimate"], rtol=1e-9)
    np.testing.assert_allclose(found["std_error"], alone["std_error"], rtol=1e-9)
    groups = fitted.margins(over="g").frame().set_index("g")["estimate"]
    for g, part in frame.groupby("g"):
        assert groups[g] == pytest.approx(fitted.predict(part)["estimate"].mean(), rel=1e-9)


def test_any_function_of_a_model_written_by_hand(frame: pd.DataFrame) -> None:
    data = {
        "X": np.column_stack([np.ones(len(frame)), frame["x"]]),
        "y": frame["y"].to_numpy(),
        "x": frame["x"].to_numpy(),
    }
    res = logit.fit(data)
    of = lambda params, data: jax.nn.sigmoid(params["beta"][0] + params["beta"][1] * data["x"])
    b0, b1 = res.params
    p = 1 / (1 + np.exp(-b0 - b1 * data["x"]))
    assert res.margins("x", of).params[0] == pytest.approx((p * (1 - p)).mean() * b1, rel=1e-8)


def test_weights_count(frame: pd.DataFrame) -> None:
    w = np.random.default_rng(1).integers(1, 4, len(frame))
    weighted = bernoulli.regress(p="x").fit(frame, weights=w, weight_kind="frequency").margins("x")
    expanded = bernoulli.regress(p="x").fit(frame.loc[frame.index.repeat(w)].reset_index(drop=True)).margins("x")
    np.testing.assert_allclose([weighted.params, weighted.bse], [expanded.params, expanded.bse], rtol=1e-7)


def test_what_cannot_be_answered_is_refused_in_words(frame: pd.DataFrame, fitted: mle.Results) -> None:
    with pytest.raises(mle.MissingColumnError, match=r"margins: no column 'age' .*'x', 'z'"):
        fitted.margins("age")
    with pytest.raises(ValueError, match="expected a numeric column"):
        fitted.margins("g", elasticity="eyex")
    with pytest.raises(ValueError, match="expected 'eyex'"):
        fitted.margins("x", elasticity="xx")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="of=lambda"):
        logit.fit({"X": frame[["x", "z"]].to_numpy(), "y": frame["y"].to_numpy()}).margins("x")
    levels = bernoulli.regress(p="x + g").fit(frame)
    with pytest.raises(mle.MissingColumnError, match=r"'g' has levels and no mean; give its value, at=.'g'"):
        levels.margins("x", at_means=True)
    level = frame["g"].iloc[0]
    row = pd.DataFrame({"x": [frame["x"].mean()], "g": [level]})
    alone = levels.predict(row)["estimate"].item()
    assert levels.margins(at={"g": level}, at_means=True).params[0] == pytest.approx(alone, rel=1e-9)


@pytest.mark.parametrize("groups", [None, "c"])
def test_unconditional_errors_of_average_predictions_are_those_of_the_mean(frame: pd.DataFrame, groups: Any) -> None:
    """With an intercept and the canonical link the average prediction is the mean of y: its error is that of a mean, of sums of
    clusters with G / (G - 1); by groups of a saturated model too, and contrasts are differences of means."""
    df = frame.assign(c=np.arange(len(frame)) % 25)
    options = {} if groups is None else {"cov_kwds": {"groups": groups}}
    cov_type = "HC0" if groups is None else "cluster"

    def error(e: np.ndarray) -> float:
        sums = e if groups is None else np.bincount(df["c"], e)
        return float(np.sqrt((sums**2).sum() * (1.0 if groups is None else 25 / 24)))

    res = bernoulli.regress(p="x + z").fit(df, cov_type=cov_type, **options)
    found, n = res.margins(unconditional=True), len(df)
    assert found.bse[0] == pytest.approx(error((df["y"] - df["y"].mean()).to_numpy() / n), rel=1e-8)
    assert found.bse[0] > res.margins().bse[0]
    saturated = bernoulli.regress(p="g").fit(df, cov_type=cov_type, **options)
    influence = {}
    for g, part in df.groupby("g"):
        influence[g] = np.where(df["g"] == g, df["y"] - part["y"].mean(), 0.0) / len(part)
    np.testing.assert_allclose(
        saturated.margins(over="g", unconditional=True).bse, [error(influence[g]) for g in "abc"], rtol=1e-6
    )
    contrast = saturated.margins("g", unconditional=True)
    np.testing.assert_allclose(contrast.bse, [error(influence[g] - influence["a"]) for g in "bc"], rtol=1e-6)


@mle.model(b=mle.Real(shape=3))
def events(params, data):
    eta = params["b"][0] + params["b"][1] * data["x"] + params["b"][2] * data["z"]
    return jax.scipy.stats.poisson.logpmf(data["n"], jnp.exp(eta))


def test_unconditional_errors_of_a_penalised_fit_have_the_penalised_information() -> None:
    """By hand: scores x (y - m) times (X' M X + 20 I)^-1, and the deviations of the means of the rows; the information without
    penalty between them, or Gray's covariance in its place, gives a tenth more."""
    rng = np.random.default_rng(2)
    x, z = rng.normal(size=300), rng.exponential(size=300)
    n = rng.poisson(np.exp(0.3 + 0.5 * x - 0.2 * z))
    res = events.fit({"n": n, "x": x, "z": z}, penalty=mle.l2(20.0, "b"), cov_type="HC0")
    of = lambda p, d: jnp.exp(p["b"][0] + p["b"][1] * d["x"] + p["b"][2] * d["z"])
    X = np.column_stack([np.ones(300), x, z])
    m = np.exp(X @ res.params.to_numpy())
    bread = np.linalg.inv(X.T @ (X * m[:, None]) + 20.0 * np.eye(3))
    influence = (X * (n - m)[:, None]) @ bread @ (X * m[:, None]).mean(axis=0) + (m - m.mean()) / 300
    found = res.margins(of=of, unconditional=True)
    np.testing.assert_allclose(found.bse, np.sqrt(influence @ influence), rtol=1e-8)


def test_unconditional_needs_a_sandwich_and_the_rows_of_the_fit(frame: pd.DataFrame, fitted: mle.Results) -> None:
    with pytest.raises(ValueError, match=r"res.with_cov\('HC0'\)"):
        fitted.margins(unconditional=True)
    with pytest.raises(ValueError, match="leave out data= and at_means="):
        fitted.with_cov("HC0").margins(data=frame, unconditional=True)


def test_marginal_means_are_those_of_emmeans() -> None:
    """Averages over a balanced grid, on the scale of the response."""
    r = json.loads((ROOT / "tests/references/emmeans.json").read_text())
    d = pd.read_csv(ROOT / "examples/data/warpbreaks.csv").rename(columns={"breaks": "y"})
    d["tension"] = np.where(d["tension_m"] == 1, "M", np.where(d["tension_h"] == 1, "zH", "L"))
    res = poisson.regress(mu="wool_b * tension").fit(d)
    grid = pd.DataFrame([(w, t) for w in (0, 1) for t in ("L", "M", "zH")], columns=["wool_b", "tension"])
    means, contrasts = res.margins(over="tension", data=grid), res.margins("tension", data=grid)
    for found, values, errors in ((means, "means", "se"), (contrasts, "contrasts", "contrasts_se")):
        np.testing.assert_allclose(found.params, list(r[values].values()), rtol=1e-7)
        np.testing.assert_allclose(found.bse, list(r[errors].values()), rtol=1e-6)


def test_slopes_at_the_ends_of_a_spline(frame: pd.DataFrame) -> None:
    """Beyond its boundary knots a spline is not evaluated: rows there are differenced to one side, against a finer difference."""
    res = bernoulli.regress(p="bs(x, df=4)").fit(frame)
    low, high = frame["x"].min(), frame["x"].max()
    for end, sign in ((low, 1.0), (high, -1.0)):
        h, at = (
            1e-4,
            lambda k, end=end, sign=sign: res.predict(pd.DataFrame({"x": [end + sign * k * 1e-4]}))["estimate"][0],
        )
        one_sided = sign * (-25 * at(0) + 48 * at(1) - 36 * at(2) + 16 * at(3) - 3 * at(4)) / (12 * h)
        row = frame.loc[[frame["x"].idxmin() if sign > 0 else frame["x"].idxmax()]]
        several = pd.concat([row, frame.iloc[:20]])
        alone = 21 * res.margins("x", data=several).params[0] - 20 * res.margins("x", data=several.iloc[1:]).params[0]
        assert alone == pytest.approx(one_sided, rel=1e-4)


def test_the_picture(fitted: mle.Results) -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    ax = fitted.margins(at={"x": np.linspace(-1, 3, 9), "z": [1.0, 3.0]}).plot(x="x")
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["z = 1.0", "z = 3.0"]
    assert (ax.get_xlabel(), len(ax.lines)) == ("x", 2)
    plt.close("all")


# Stata's margins and margeff after logit, to the digits that statsmodels 0.15 keeps in discrete/tests/results/results_discrete.py
STATA = {
    ("psi", None, False): ([0.36258084688424, 0.01220841099085, 0.30517768382304], [0.1094412, 0.0177942, 0.0923796]),
    ("psi", None, True): ([0.53385885781692, 0.01797548988961, 0.44933926079386], [0.237038, 0.0262369, 0.1967626]),
    ("psi", "eydx", False): ([1.8546366266779, 0.06244722072812, 1.5610138123033], [0.847903, 0.0930901, 0.7146715]),
    ("psi", "eyex", False): ([5.4747106798973, 1.3173389907576, 0.44600395466634], [2.44682, 1.943525, 0.1567618]),
    ("psi", "eyex", True): ([6.5822977203268, 1.5597536538833, 0.77757191612739], [3.354433, 2.372543, 0.3990368]),
    ("taught", None, False): ([0.36258084688424, 0.01220841099085, 0.35751515254729], [0.1094412, 0.0177942, 0.1420034]),
}


@pytest.mark.parametrize(
    ("psi", "elasticity", "at_means"), [pytest.param(*key, marks=pytest.mark.slow if i else ()) for i, key in enumerate(STATA)]
)
def test_grades_of_spector_and_mazzeo_in_stata(psi: str, elasticity: Any, at_means: bool) -> None:
    """`taught` has the two levels of psi, as Stata's i.psi: a contrast."""
    grades = pd.read_csv(ROOT / "examples" / "data" / "spector.csv").rename(columns={"grade": "y"})
    grades["taught"] = np.where(grades["psi"] == 1, "new", "a")
    res = bernoulli.regress(p=f"gpa + tuce + {psi}").fit(grades)
    found = res.margins(["gpa", "tuce", psi], elasticity=elasticity, at_means=at_means)
    effects, errors = STATA[psi, elasticity, at_means]
    np.testing.assert_allclose(found.params, effects, rtol=1e-6)
    np.testing.assert_allclose(found.bse, errors, rtol=1e-5)


def test_intervals_of_predictions_stay_inside_their_support() -> None:
    """Of a share p = k / n the standard error is sqrt(p (1 - p) / n), and that of its logit 1 / sqrt(n p (1 - p))."""

    @mle.model(eta=mle.Real())
    def logit(params, data):
        return data["y"] * params["eta"] - jnp.logaddexp(0.0, params["eta"])

    n, k = 12, 1
    p = k / n
    res = logit.regress(eta="1").fit({"y": np.arange(n) < k})
    share = lambda params, data: jax.nn.sigmoid(params["eta"])
    plain = res.margins(of=share)
    assert plain.frame()["conf_low"].item() < 0.0
    inside = res.margins(of=share, support=(0, 1))
    assert inside.params.item() == pytest.approx(p, rel=1e-8)
    assert inside.bse.item() == pytest.approx(np.sqrt(p * (1 - p) / n), rel=1e-6)
    eta, reach = np.log(p / (1 - p)), 1.959963984540054 / np.sqrt(n * p * (1 - p))
    want = 1.0 / (1.0 + np.exp(-np.array([eta - reach, eta + reach])))
    np.testing.assert_allclose(inside.frame()[["conf_low", "conf_high"]].to_numpy()[0], want, rtol=1e-6)
    with pytest.raises(ValueError, match=r"value 0 of the function is 0\.0833"):
        res.margins(of=share, support=(0.5, 1))
    with pytest.raises(ValueError, match="support= is for predictions"):
        res.margins("y", share, support=(0, 1))
