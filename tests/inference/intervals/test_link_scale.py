"""Intervals on both scales, edges, and z tests only where they mean something."""

import math

import numpy as np
import pytest

import mlejax as mle
from mlejax.inference import confidence_intervals, z_tests
from mlejax.inference.intervals import supports
from mlejax.inference.normal import critical_value, two_sided_p
from mlejax.transforms import Identity, Log, Logit

Z = 1.9599639845400536  # R: qnorm(0.975)


def test_critical_values():
    assert critical_value(0.05) == pytest.approx(Z, rel=1e-14)
    # R: qnorm(5e-11, lower.tail = FALSE), which 1 - alpha/2 would only know to six digits
    assert critical_value(1e-10) == pytest.approx(6.4669510872405156, rel=1e-12)
    for alpha in (0, 1, -0.1, 95, math.nan):
        with pytest.raises(ValueError, match="alpha"):
            critical_value(alpha)
    with pytest.raises(
        ValueError, match=r"alpha=0\.95 would be an interval of 0\.05 coverage; for 0\.95 coverage write alpha=0\.05"
    ):
        critical_value(0.95)


def test_link_scale_closed_forms():
    estimate, error = np.array([1.5, 2.0, 0.8, 0.3]), np.array([0.5, 0.6, 0.1, 0.2])
    links = [Identity(), Log(), Logit(0, 1), Logit(-1, 1)]
    ci = confidence_intervals(estimate, error, links=links)
    # exp(log x -+ z se/x); expit(logit p -+ z se/(p(1-p))); tanh(atanh r -+ z se/(1-r^2))
    logit, se = math.log(4), 0.1 / 0.16
    for sign, got in ((-1, ci.low), (1, ci.high)):
        expected = [
            1.5 + sign * Z * 0.5,
            2.0 * math.exp(sign * Z * 0.3),
            1 / (1 + math.exp(-(logit + sign * Z * se))),
            math.tanh(math.atanh(0.3) + sign * Z * 0.2 / 0.91),
        ]
        np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert ci.notes == ("",) * 4
    assert ci.low.dtype == np.float64


def test_natural_scale_and_no_links():
    natural = confidence_intervals([2.0], [1.5], links=[Log()], scale="natural", alpha=0.1)
    # R: qnorm(0.95) = 1.6448536269514722
    assert natural.low[0] == pytest.approx(2 - 1.5 * 1.6448536269514722, rel=1e-12)
    assert natural.notes == ("leaves the support",)
    np.testing.assert_array_equal(confidence_intervals([2.0], [1.5]).low, [2.0 - critical_value(0.05) * 1.5])


def test_intervals_stay_inside_the_support():
    ci = confidence_intervals([1e-3, 0.999], [10.0, 10.0], links=[Log(), Logit(0, 1)])
    assert 0 <= ci.low[0] < ci.high[0]
    assert 0 <= ci.low[1] < ci.high[1] <= 1


@pytest.mark.parametrize("scale", ["link", "natural"])
def test_no_interval_near_a_closed_edge(scale):
    ci = confidence_intervals(
        [0.3, 0.5, 0.9, 0.0, 0.5],
        [0.2, 0.2, 0.2, 0.1, 0.2],
        links=[Identity()] * 5,
        lower_bound=[0, 0, 0, 0, -np.inf],
        upper_bound=[np.inf, np.inf, 1, np.inf, np.inf],
        scale=scale,
    )
    assert np.isnan(ci.low).tolist() == np.isnan(ci.high).tolist() == [True, False, True, True, False]
    assert ci.notes[0] == "within 2 standard errors of its bound 0: use conf_int(method='profile')"
    assert ci.notes[2] == "within 2 standard errors of its bound 1: use conf_int(method='profile')"
    assert ci.notes[1] == ""


def test_missing_errors_give_missing_limits():
    ci = confidence_intervals([1.0, 1.0, np.nan, 1.0], [np.nan, np.inf, 1.0, -1.0], links=[Log()] * 4, lower_bound=0.0)
    assert np.isnan(ci.low).all()
    assert np.isnan(ci.high).all()


def test_an_estimate_on_an_open_edge_says_so():
    ci = confidence_intervals([0.0, 1.0], [0.1, 0.1], links=[Log(), Logit(0, 1)])
    assert np.isnan(ci.low).all()
    assert all("bound of its support" in note for note in ci.notes)


def test_standard_error_zero_is_a_point():
    ci = confidence_intervals([2.0], [0.0], links=[Log()])
    assert ci.low[0] == pytest.approx(2.0, rel=1e-14)
    assert ci.high[0] == pytest.approx(2.0, rel=1e-14)


def test_misuse():
    with pytest.raises(ValueError, match="scale"):
        confidence_intervals([1.0], [1.0], scale="log")
    with pytest.raises(ValueError, match="one per entry"):
        confidence_intervals([1.0, 2.0], [1.0, 1.0], links=[Log()])
    with pytest.raises(ValueError, match=r"two \(m,\) arrays"):
        confidence_intervals([1.0, 2.0], [1.0])


def test_supports():
    lower, upper = supports([Identity(), Log(), Logit(-1, 1), Logit(0, 1)])
    np.testing.assert_allclose(lower, [-np.inf, 0, -1, 0], atol=1e-300)
    np.testing.assert_allclose(upper, [np.inf, np.inf, 1, 1], rtol=1e-14)


def test_z_only_where_zero_is_interior():
    lower, upper = supports([Identity(), Log(), Logit(-1, 1), Logit(0, 1), Logit(-1, 0)])
    z, p = z_tests([1.0, 2.0, 0.4, 0.4, -0.4], [0.5, 0.5, 0.2, 0.2, 0.2], testable=(lower < 0) & (upper > 0))
    np.testing.assert_allclose(z, [2.0, np.nan, 2.0, np.nan, np.nan])
    # R: 2 * pnorm(-2) = 0.045500263896358424
    np.testing.assert_allclose(p, [0.045500263896358424, np.nan, 0.045500263896358424, np.nan, np.nan], rtol=1e-13)


def test_z_of_missing_and_exact_errors():
    z, p = z_tests([1.0, 1.0, np.nan], [np.nan, 0.0, 1.0])
    assert np.isnan(z).all()
    assert np.isnan(p).all()


def test_p_values_keep_their_tail():
    # R: 2 * pnorm(-20)
    assert float(two_sided_p(-20.0)) == pytest.approx(5.5072482372124675e-89, rel=1e-9)


@pytest.mark.parametrize("support", [mle.NonNegative(), mle.Interval(0, 1, closed="both")])
def test_intervals_stay_in_a_closed_support_at_every_alpha(support):
    """A normal mean of 0.5 with se 1/sqrt(20) = 0.2236, 2.236 errors above its edge: Wald limits leave it for z > 2.236."""
    from jax.scipy.stats import norm

    @mle.model(a=support)
    def mean(params, data):
        return norm.logpdf(data["y"], params["a"], 1.0)

    z = np.random.default_rng(0).normal(size=20)
    res = mean.fit({"y": z - z.mean() + 0.5})
    for alpha in (0.3, 0.05, 0.01, 0.001):
        low, high = res.conf_int(alpha=alpha).loc["a"]
        reach = critical_value(alpha) / math.sqrt(20)
        if critical_value(alpha) < 0.5 * math.sqrt(20):
            assert (low, high) == pytest.approx((0.5 - reach, 0.5 + reach), rel=1e-6)
        else:
            assert math.isnan(low)
            assert math.isnan(high)
            assert "standard errors of its bound" in res.tidy(alpha=alpha).loc[0, "note"]
