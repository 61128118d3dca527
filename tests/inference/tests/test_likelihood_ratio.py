"""Likelihood-ratio tests: numbers of R, and every pair that must not be compared."""

import dataclasses

import pytest
from scipy import stats

from mlejax.inference import FitFacts, data_differences, likelihood_ratio, lr_test

# R 4, budworm data of ?MASS::dose.p: full <- glm(SF ~ sex*ldose, binomial); null <- glm(SF ~ ldose, binomial)
# logLik(full); logLik(null); anova(null, full, test = "LRT")
FULL, NULL = -17.552064154518405, -23.547216834155684
DEVIANCE, P = 11.990305359274565, 0.0024907966506949645

DATA = {"rows": 12, "columns": {"SF": (111.0, 1625.0), "ldose": (30.0, 110.0)}}
full = FitFacts(FULL, 4, 12, DATA, label="interaction")
null = FitFacts(NULL, 2, 12, DATA, label="dose only")


def test_against_r():
    for test in (likelihood_ratio(FULL, 4, NULL, 2), lr_test(full, null)):
        assert test.statistic == pytest.approx(DEVIANCE, rel=1e-12)
        assert test.df == 2
        assert test.p_value == test.pvalue == pytest.approx(P, rel=1e-12)


def test_far_tail():
    # R: pchisq(1000, 3, lower.tail = FALSE)
    assert likelihood_ratio(-100.0, 5, -600.0, 2).p_value == pytest.approx(1.7994208765314476e-216, rel=1e-9)


def test_equal_log_likelihoods():
    test = likelihood_ratio(-10.0, 3, -10.0 + 5e-7, 2)
    assert test.statistic == 0.0
    assert test.p_value == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"converged": False}, "dose only fit did not converge"),
        ({"pseudolikelihood": True, "cov_type": "HC0"}, "pseudolikelihood .*'HC0'.*wald_test"),
        ({"penalised": True}, "penalised"),
        ({"nobs": 11}, "12 observations .interaction. against 11"),
        ({"df_model": 5}, "wrong way round"),
        ({"df_model": 4}, "neither is a restriction"),
        ({"llf": FULL + 1e-4}, "did not reach its maximum"),
        ({"llf": float("nan")}, "expected a finite number"),
        ({"fingerprint": DATA | {"columns": {"SF": (112.0, 1625.0)}}}, r"different data: columns.SF"),
    ],
)
def test_refused(change, message):
    with pytest.raises(ValueError, match=message):
        lr_test(full, dataclasses.replace(null, **change))


def test_the_full_fit_is_checked_too():
    with pytest.raises(ValueError, match="interaction fit did not converge"):
        lr_test(dataclasses.replace(full, converged=False), null)


def test_nested_models_may_read_different_columns():
    fewer = {"rows": 12, "columns": {"SF": (111.0 * (1 + 1e-14), 1625.0)}}
    assert lr_test(full, dataclasses.replace(null, fingerprint=fewer)).df == 2
    other = {"rows": 12, "columns": {"y": (111.0, 1625.0)}}
    with pytest.raises(ValueError, match="nothing in common, SF, ldose against y"):
        lr_test(full, dataclasses.replace(null, fingerprint=other))


def test_a_fingerprint_that_compares_itself():
    from mlejax.data import Fingerprint

    a = Fingerprint(2, {"x": (3.0, 5.0)})
    assert data_differences(a, Fingerprint(2, {"x": (3.0, 5.0), "z": (0.0, 2.0)})) == ()
    assert data_differences(a, Fingerprint(2, {"x": (4.0, 10.0)})) == ("column 'x' has different values",)
    assert data_differences(a, Fingerprint(3, {"x": (3.0, 5.0)})) == ("2 rows and 3 rows",)
    assert data_differences(a, Fingerprint(2, {"y": (3.0, 5.0)})) == ("columns: nothing in common, x against y",)


def test_differences_of_plain_fingerprints():
    assert data_differences(None, DATA) == ()
    assert data_differences("abc", "abc") == ()
    assert data_differences("abc", "abd") == ("data: 'abc' against 'abd'",)
    assert data_differences([1.0, 2.0], [1.0, 2.0, 3.0]) == ("data: shape (2,) against (3,)",)
    assert data_differences({"a": 1.0}, {"a": 1.0 + 1e-8}) == ("a: 1 against 1.00000001",)


def test_boundary_mixture():
    # Self & Liang (1987): a variance that may be 0 has half the p-value of chi2(1); with one more parameter,
    # half chi2(1) and half chi2(2).
    test = likelihood_ratio(-10.0, 3, -11.5, 2, boundary=1)
    assert test.p_value == pytest.approx(0.5 * stats.chi2.sf(3.0, 1), rel=1e-14)
    two = likelihood_ratio(-10.0, 4, -11.5, 2, boundary=1)
    assert two.p_value == pytest.approx(0.5 * stats.chi2.sf(3.0, 1) + 0.5 * stats.chi2.sf(3.0, 2), rel=1e-14)
    assert likelihood_ratio(-10.0, 3, -10.0, 2, boundary=1).p_value == 1.0
    assert "chibar2(0, 1)" in repr(test)
    assert "mixture" in test.summary()
    with pytest.raises(ValueError, match="bootstrap"):
        likelihood_ratio(-10.0, 4, -11.5, 2, boundary=2)


def test_summary_names_the_fits():
    text = lr_test(full, null).summary()
    assert "interaction  log-likelihood = -17.55206415" in text
    assert "chi2(2) = 11.990    Prob > chi2 = 0.0025" in text
