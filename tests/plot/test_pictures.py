"""Pictures show the numbers that they should, from loaded results too, and name their axes."""

import subprocess
import sys
import traceback
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm, poisson
from scipy import stats
from statsmodels.duration.survfunc import SurvfuncRight

import mlejax as mle

DATA = Path(__file__).parents[2] / "examples" / "data"
Y = np.random.default_rng(0).normal(2.0, 1.5, 60)


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def gaussian(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["mu"], params["sigma"])


@mle.model(rate=mle.Positive())
def exponential(params: Any, data: Any) -> Any:
    return data["event"] * jnp.log(params["rate"]) - params["rate"] * data["time"]


@exponential.cdf
def _(params: Any, data: Any) -> Any:
    return -jnp.expm1(-params["rate"] * data["time"])


@pytest.fixture(scope="module")
def res() -> mle.Results:
    return gaussian.fit({"y": Y})


@pytest.fixture(scope="module")
def lung() -> pd.DataFrame:
    return pd.read_csv(DATA / "lung.csv")


@pytest.fixture(scope="module")
def many() -> mle.BatchResults:
    y = Y.copy()
    y[-10:] = 3.0  # a density on one point
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mle.ConvergenceWarning)
        return gaussian.fit_groups({"g": np.repeat(list("abcdef"), 10), "y": y}, by="g")


def test_coefficients_are_those_of_the_table_from_a_file_too(res: mle.Results, tmp_path: Path) -> None:
    res.save(tmp_path / "res.json")
    loaded = mle.load(tmp_path / "res.json")
    ax = loaded.plot(alpha=0.1)
    assert "90 %" in ax.get_xlabel()
    points = ax.get_lines()[1]
    np.testing.assert_allclose(points.get_xdata(), res.params, rtol=1e-12)
    low, high = np.array([s[:, 0] for s in ax.collections[0].get_segments()]).T
    np.testing.assert_allclose(np.c_[low, high], res.conf_int(0.1), rtol=1e-12)
    both = mle.plot.coefficients([res, loaded], names=["made", "loaded"], keep=["mu"], rename={"mu": "mean"})
    assert [t.get_text() for t in both.get_yticklabels()] == ["mean"]
    assert [t.get_text() for t in both.get_legend().get_texts()] == ["made", "loaded"]
    one, two = both.get_lines()[1:]
    assert one.get_ydata()[0] < two.get_ydata()[0]


def test_what_has_no_interval_or_is_no_maximum_is_seen() -> None:
    frame = pd.DataFrame({"y": Y, "x": np.arange(60.0), "twice": 2 * np.arange(60.0)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mle.ConvergenceWarning)
        res = gaussian.regress(mu="x + twice").fit(frame)
    ax = res.plot()
    assert "not_identified" in ax.get_title()
    hollow = ax.get_lines()[-1]
    assert hollow.get_markerfacecolor() == "none"
    assert hollow.get_ydata().tolist() == [1, 2]  # mu[x], mu[twice]
    with pytest.raises(ValueError, match=r"no entry to draw; the entries are \['mu\[Intercept\]'"):
        res.plot(keep=["beta"])
    with pytest.raises(ValueError, match="expected 2 names"):
        mle.plot.coefficients([res, res], names=["one"])
    with pytest.raises(TypeError, match=r"results, as model\.fit returns them, got ndarray"):
        mle.plot.coefficients([Y])
    with pytest.raises(ValueError, match="x='z': expected a column of the data that has one number per row"):
        mle.plot.predictions(res, frame, "z")


def test_the_path_of_a_search_ends_at_its_maximum(res: mle.Results, tmp_path: Path) -> None:
    start = {"mu": 0.0, "sigma": 5.0}
    weights = np.where(Y > 2, 2.0, 1.0)
    for fit in (
        gaussian.fit({"y": Y}, start=start),
        gaussian.fit({"y": Y}, start=start, weights=weights, weight_kind="sampling"),
        gaussian.fit({"y": Y}, start=start, penalty=mle.l2(0.5, "mu"), method="bhhh"),
    ):
        path = fit.path
        weight = fit._fit.loaded.weights
        at_start = norm.logpdf(Y, 0.0, 5.0) * (1.0 if weight is None else weights)
        if fit._fit.penalised is None:
            assert path.iloc[0] == pytest.approx(float(at_start.sum()), rel=1e-6)
        assert path.iloc[-1] == pytest.approx(fit.llf_penalized, rel=1e-12)
        assert (np.diff(path) > -1e-9).all()
        assert path.index.tolist() == list(range(len(path)))
    fit.save(tmp_path / "res.json")
    pd.testing.assert_series_equal(mle.load(tmp_path / "res.json").path, fit.path)
    below = mle.plot.convergence(fit).get_lines()[0].get_ydata()
    np.testing.assert_allclose(below[:3], (path.max() - path)[:3])
    assert gaussian.fit({"y": Y}, start=start, method="lbfgs").path.iloc[-1] == pytest.approx(res.llf, rel=1e-12)


def test_a_training_is_drawn_by_epochs() -> None:
    with pytest.warns(mle.ConvergenceWarning):
        trained = gaussian.fit({"y": Y}, method=mle.Adam(batch_size=20, epochs=5), validation=0.3)
    ax = mle.plot.convergence(trained)
    assert trained.path.empty
    np.testing.assert_array_equal(ax.get_lines()[1].get_ydata(), trained.history["validation"])
    assert "mean log-likelihood" in ax.get_ylabel()


def test_searches_that_were_not_kept_are_refused(many: mle.BatchResults) -> None:
    with pytest.raises(ValueError, match=r"a record of its steps; this one has no record \(fits of many data sets"):
        mle.plot.convergence(many["a"])


def test_modes_are_listed(res: mle.Results) -> None:
    ax = mle.plot.modes(res)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["maximum, 1 start"]
    assert ax.collections[0].get_offsets()[0].tolist() == [pytest.approx(res.llf), 0.0]


def test_kaplan_meier_is_that_of_statsmodels(lung: pd.DataFrame) -> None:
    at, left = mle.plot.kaplan_meier(lung["time"], lung["event"])
    known = SurvfuncRight(lung["time"], lung["event"])
    np.testing.assert_array_equal(at, known.surv_times[np.isin(known.surv_times, at)])
    np.testing.assert_allclose(left, known.surv_prob[np.isin(known.surv_times, at)], rtol=1e-12)
    entry = lung["time"] * (lung["age"] % 3) / 4
    at, left = mle.plot.kaplan_meier(lung["time"], lung["event"], entry)
    known = SurvfuncRight(lung["time"], lung["event"], entry=entry)
    np.testing.assert_allclose(left, known.surv_prob[np.isin(known.surv_times, at)], rtol=1e-12)


def test_the_band_of_a_survival_curve_in_closed_form(lung: pd.DataFrame) -> None:
    """Of an exponential law log(-log S) = log(rate t), whose error is 1 / sqrt(deaths) at every t."""
    res = exponential.fit(lung)
    ax = mle.plot.survival(res, lung, "time", "event")
    rate, deaths = lung["event"].sum() / lung["time"].sum(), lung["event"].sum()
    drawn = lambda ax: [line for line in ax.get_lines() if len(line.get_xdata())]  # one is of the legend alone
    curve, steps = drawn(ax)
    t = curve.get_xdata()
    np.testing.assert_allclose(curve.get_ydata(), np.exp(-rate * t), rtol=1e-6)
    reach = np.exp(stats.norm.ppf(0.975) / np.sqrt(deaths))
    around = ax.collections[0].get_paths()[0].vertices
    for side in (np.exp(-rate * t[1:] * reach), np.exp(-rate * t[1:] / reach)):
        gap = np.abs(around[:, None, :] - np.c_[t[1:], side][None]).max(-1).min(0)
        assert gap.max() < 1e-6
    np.testing.assert_allclose(steps.get_ydata()[1:-1], mle.plot.kaplan_meier(lung["time"], lung["event"])[1])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time", "survival")
    groups = mle.plot.survival(res, lung, "time", "event", by="female")
    assert len(drawn(groups)) == 4
    with pytest.raises(KeyError, match="no column 'died'"):
        mle.plot.survival(res, lung, "time", "died")


def test_a_steep_survival_curve_is_drawn_at_the_times_observed() -> None:
    """A Weibull law of shape 1/2 falls to 0.9 at 0.011 of its scale; steps of a 61st of the longest time would miss that."""

    @mle.model(scale=mle.Positive())
    def weibull(params: Any, data: Any) -> Any:
        t = data["t"] / params["scale"]
        return -jnp.sqrt(t) - 0.5 * jnp.log(t) - jnp.log(params["scale"])

    data = {"t": np.random.default_rng(0).weibull(0.5, 100) * 30}
    res = weibull.fit(data)
    survival = lambda p, d: jnp.exp(-jnp.sqrt(d["t"] / p["scale"]))
    ax = mle.plot.survival(res, data, "t", of=survival)
    t, s = ax.get_lines()[0].get_data()
    scale = float(np.mean(np.sqrt(data["t"])) ** 2)  # its maximum likelihood estimate
    at = np.linspace(0.01, 0.2, 50) * scale
    np.testing.assert_allclose(np.interp(at, t, s), np.exp(-np.sqrt(at / scale)), atol=2e-3)
    around = ax.collections[0].get_paths()[0].vertices
    assert (around == [0.0, 1.0]).all(axis=1).any()
    few = {"t": np.array([0.5, 3.0, 4.0, 9.0])}
    assert {0.0, *few["t"]} <= set(mle.plot.survival(weibull.fit(few), few, "t", of=survival).get_lines()[0].get_xdata())


def test_densities_beside_histograms(res: mle.Results) -> None:
    ax = mle.plot.density(res, {"y": Y}, "y")
    line = ax.get_lines()[0]
    np.testing.assert_allclose(line.get_ydata(), stats.norm.pdf(line.get_xdata(), *res.params), rtol=1e-6)
    assert sum(p.get_height() * p.get_width() for p in ax.patches) == pytest.approx(1.0)
    with pytest.raises(mle.CompanionError, match="needs the cdf"):
        mle.plot.survival(res, {"y": Y}, "y")

    @mle.model(eta=mle.Real())
    def counts(params: Any, data: Any) -> Any:
        return poisson.logpmf(data["y"], jnp.exp(params["eta"]))

    y = np.array([0, 1, 1, 2, 5])
    fitted = counts.fit({"y": y})
    bars = mle.plot.density(fitted, {"y": y}, "y")
    points = bars.get_lines()[0]
    np.testing.assert_allclose(points.get_ydata(), stats.poisson.pmf(range(6), y.mean()), rtol=1e-6)
    assert [p.get_height() for p in bars.patches] == pytest.approx([0.2, 0.4, 0.2, 0.0, 0.0, 0.2])


def test_many_data_sets(many: mle.BatchResults) -> None:
    ax = many.plot("mu")
    assert [t.get_text() for t in ax.get_yticklabels()] == list("abcdef")
    assert {t.get_text() for t in ax.get_legend().get_texts()} == {"verified", "no finite maximum"}
    wide = many.conf_int().loc[(list("abcde"), "mu"), :]
    assert ax.get_xlim()[0] < wide["lower"].min()
    assert ax.get_xlim()[1] < 4 * wide["upper"].max()
    hist = many.plot("sigma", kind="hist")
    assert sum(p.get_height() for p in hist.patches) == 5
    assert "no finite maximum: 1 (1 not shown)" in [t.get_text() for t in hist.get_legend().get_texts()]
    with pytest.raises(mle.AddressError, match="name one of mu, sigma"):
        many.plot("tau")
    with pytest.raises(ValueError, match="expected 'forest' or 'hist'"):
        many.plot(kind="bar")


def test_pictures_without_matplotlib_say_what_to_install() -> None:
    script = (
        "import sys\nsys.modules['matplotlib'] = sys.modules['matplotlib.pyplot'] = None\n"
        "from mlejax.plot.canvas import new_axes\nnew_axes(None)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "pip install 'mlejax[plot]'" in run.stderr


def test_margins_are_a_list_or_points_by_level() -> None:
    """Columns of text; slopes and contrasts without at= are rows of a list, whose points are the margins."""
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"y": Y, "x": rng.normal(size=60), "size": rng.choice(["small", "large"], 60)})
    fit = gaussian.regress(mu="x + size").fit(frame)
    effects = fit.margins(["x", "size"])
    ax = effects.plot()
    assert [t.get_text() for t in ax.get_yticklabels()] == ["x", "size: small - large"]
    np.testing.assert_allclose(ax.get_lines()[0].get_xdata(), effects.params)
    by_level = fit.margins(over="size").plot()
    assert by_level.get_xlabel() == "size"
    assert [t.get_text() for t in by_level.get_xticklabels()] == ["large", "small"]
    with pytest.raises(ValueError, match="x='z': expected one of the columns of the margins") as error:
        effects.plot(x="z")
    assert all("inference" not in entry.filename for entry in traceback.extract_tb(error.value.__traceback__))


def test_a_contour_is_a_smooth_curve_through_its_points(res: mle.Results) -> None:
    region = res.contour("mu", "sigma", n=12)
    drawn = np.array(region.plot().get_lines()[0].get_data())
    far = np.abs(drawn[:, None, :] - np.array([region.x, region.y])[:, :, None]) / res.bse.to_numpy()[:, None, None]
    assert far.max(axis=0).min(axis=1).max() < 0.02


def test_events_are_zeros_and_ones(lung: pd.DataFrame) -> None:
    fit = exponential.fit(lung)
    with pytest.raises(ValueError, match=r"event='female'.*expected a column of 1 \(the event\) and 0 \(censored\), got 2, ..."):
        mle.plot.survival(fit, lung.assign(female=2), "time", "female")


def test_a_search_without_a_step_is_refused() -> None:
    still = SimpleNamespace(history=None, path=pd.Series([-3.0], index=[0]))
    with pytest.raises(ValueError, match="this one has no step, since the search ended at its start"):
        mle.plot.convergence(still)
