"""Wald and t tests against R, statsmodels and closed forms; singular, missing and impossible covariances."""

import numpy as np
import pytest

from mlejax.inference import standard_errors, t_test, wald_test

# R 4, library(MASS), budworm data of ?dose.p: fit <- glm(SF ~ sex + ldose - 1, family = binomial)
# b <- coef(fit); V <- vcov(fit)
THETA = np.array([-3.4731553070866998, -2.3724119440915503, 1.0642139699192437])
COV = np.array(
    [
        [0.219511212333241362, 0.120758436460768448, -0.052507473315858144],
        [0.120758436460768448, 0.148618561292899382, -0.039514121348949986],
        [-0.052507473315858144, -0.039514121348949986, 0.017181297912909142],
    ]
)
# R <- rbind(c(1,-1,0), c(0,0,1)); r <- c(0,1); W <- t(R%*%b-r) %*% solve(R%*%V%*%t(R)) %*% (R%*%b-r)
# pchisq(W, 2, lower.tail = FALSE)
R = np.array([[1.0, -1.0, 0.0], [0.0, 0.0, 1.0]])
r = np.array([0.0, 1.0])
W, P_CHI2 = 9.7195528284377435, 0.0077522169828717312

# A multinomial sample of 100 with counts 30, 50, 20: all K probabilities, covariance (diag(p) - pp')/n of rank 2.
P = np.array([0.3, 0.5, 0.2])
P_COV = (np.diag(P) - np.outer(P, P)) / 100


def test_chi2_against_r():
    test = wald_test(R, r, THETA, COV)
    assert test.statistic == pytest.approx(W, rel=1e-12)
    assert test.df == 2
    assert test.pvalue == pytest.approx(P_CHI2, rel=1e-12)


def test_far_tails_are_accurate():
    # R: pchisq(1000, 3, lower.tail = FALSE); 2 * pnorm(-20)
    eye, zero = np.eye(3), np.zeros(3)
    theta = np.sqrt(np.array([500.0, 300.0, 200.0]))
    assert wald_test(eye, zero, theta, eye).pvalue == pytest.approx(1.7994208765314476e-216, rel=1e-9)
    assert t_test([[1.0]], 0.0, [20.0], [[1.0]]).pvalues[0] == pytest.approx(5.5072482372124675e-89, rel=1e-9)


def test_all_probabilities_of_a_simplex():
    # Closed form: with all K probabilities the Wald statistic is n sum (p - p0)^2 / p on K - 1 degrees of freedom.
    # R agrees: MASS::ginv on all three 2.0833333333333322, solve() on two of them 2.0833333333333326;
    # pchisq(2.0833333333333326, 2, lower.tail = FALSE) = 0.35286608145884901
    p0 = np.array([0.25, 0.5, 0.25])
    whole = wald_test(np.eye(3), p0, P, P_COV)
    part = wald_test(np.eye(3)[:2], p0[:2], P, P_COV)
    assert whole.df == part.df == 2
    assert whole.statistic == pytest.approx(np.sum((P - p0) ** 2 / P) * 100, rel=1e-10)
    assert part.statistic == pytest.approx(whole.statistic, rel=1e-10)
    assert whole.pvalue == pytest.approx(0.35286608145884901, rel=1e-10)
    assert "1 of 3 restrictions follow" in whole.note
    assert part.note == ""


@pytest.mark.parametrize("K", [2, 10, 60])
def test_rank_of_large_simplexes(K):
    rng = np.random.default_rng(K)
    p = rng.dirichlet(np.full(K, 0.5)) * 0.999 + 0.001 / K
    # As a result makes it: the affine map of the covariance of the first K - 1.
    A = np.vstack([np.eye(K - 1), -np.ones(K - 1)])
    cov = A @ ((np.diag(p) - np.outer(p, p))[:-1, :-1] / 500) @ A.T
    p0 = np.full(K, 1 / K)
    test = wald_test(np.eye(K), p0, p, cov)
    assert test.df == K - 1
    assert test.statistic == pytest.approx(500 * np.sum((p - p0) ** 2 / p), rel=1e-7)


def test_impossible_under_the_model():
    test = wald_test(np.eye(3), 0.5, P, P_COV)
    assert test.statistic == np.inf
    assert test.pvalue == 0.0
    assert "contradicts a relation that holds exactly" in test.note


def test_typed_decimals_of_a_possible_hypothesis_are_not_a_contradiction():
    test = wald_test(np.eye(3), 0.3333333333, P, P_COV)
    assert np.isfinite(test.statistic)
    assert test.df == 2


def test_a_sum_known_exactly_has_nothing_to_test():
    test = wald_test(np.ones((1, 3)), 1.0, P, P_COV)
    assert np.isnan(test.statistic)
    assert "no" in test.reason
    assert "sampling variation" in test.reason


def test_restrictions_that_contradict_each_other():
    with pytest.raises(ValueError, match="contradict each other"):
        wald_test([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0]], [1.0, 3.0], THETA, COV)
    # Without 0 in the right-hand side it is the same restriction twice.
    assert wald_test([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0]], [1.0, 2.0], THETA, COV).df == 1


def test_repeated_restrictions_change_nothing():
    once = wald_test(R, r, THETA, COV)
    twice = wald_test(np.vstack([R, R, R[:1] + R[1:]]), np.concatenate([r, r, r[:1] + r[1:]]), THETA, COV)
    assert twice.df == 2
    assert twice.statistic == pytest.approx(once.statistic, rel=1e-9)


def test_nearly_collinear_is_not_singular():
    # Intercept and a year around 2000: correlation -0.999999...; scaled eigenvalue about 1e-8.
    year = np.arange(1990.0, 2011.0)
    X = np.column_stack([np.ones(21), year, year**2])
    cov = np.linalg.inv(X.T @ X / 4)
    test = wald_test(np.eye(3)[:2], 0.0, [1.0, 2.0, 0.0], cov)
    assert test.df == 2


@pytest.mark.parametrize("factor", [1e-12, 1.0, 1e12])
def test_the_statistic_does_not_depend_on_units(factor):
    D = np.diag([factor, 1.0, 1 / factor])
    test = wald_test(R @ np.linalg.inv(D), r, D @ THETA, D @ COV @ D)
    assert test.df == 2
    assert test.statistic == pytest.approx(W, rel=1e-8)


def test_nan_covariance_refuses_only_what_uses_it():
    cov = COV.copy()
    cov[2, :] = cov[:, 2] = np.nan
    refused = wald_test(R, r, THETA, cov, reason="ldose is not identified")
    assert np.isnan(refused.statistic)
    assert np.isnan(refused.pvalue)
    assert refused.reason == "ldose is not identified"
    assert "not identified" in repr(refused)
    assert "not identified" in refused.summary()
    allowed = wald_test(R[:1], r[:1], THETA, cov)
    assert allowed.statistic == pytest.approx(wald_test(R[:1], r[:1], THETA, COV).statistic, rel=1e-12)


def test_a_covariance_that_is_not_positive_semidefinite_is_refused():
    cov = np.array([[1.0, 2.0], [2.0, 1.0]])
    test = wald_test(np.eye(2), 0.0, [1.0, -1.0], cov)
    assert np.isnan(test.statistic)
    assert "positive semi-definite" in test.reason


def test_an_estimate_that_is_not_finite_is_refused():
    test = wald_test(R, r, [np.inf, 1.0, 1.0], COV)
    assert "not finite" in test.reason
    assert wald_test(R[1:], r[1:], [np.nan, 1.0, 1.0], COV).reason == ""


def test_wrong_shapes():
    with pytest.raises(ValueError, match=r"expected shape \(m, 3\)"):
        wald_test(np.eye(2), 0.0, THETA, COV)
    with pytest.raises(ValueError, match="scalar or 2 values"):
        wald_test(R, np.zeros(3), THETA, COV)
    with pytest.raises(ValueError, match=r"\(k, k\)"):
        wald_test(R, r, THETA, COV[:2])
    with pytest.raises(ValueError, match="not symmetric"):
        wald_test(R, r, THETA, np.triu(COV))
    with pytest.raises(ValueError, match="finite"):
        wald_test(R * np.nan, r, THETA, COV)


def test_t_test_against_statsmodels():
    sm = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(5)
    X = sm.add_constant(rng.normal(size=(40, 2)))
    y = X @ [1.0, 0.5, 0.0] + rng.normal(size=40)
    fit = sm.OLS(y, X).fit()
    restrictions = np.array([[0.0, 1.0, -1.0], [1.0, 2.0, 0.0]])
    theirs = fit.t_test((restrictions, np.array([0.5, 1.0])), use_t=False)
    ours = t_test(restrictions, [0.5, 1.0], fit.params, fit.cov_params())
    np.testing.assert_allclose(ours.params, theirs.effect, rtol=1e-12)
    np.testing.assert_allclose(ours.bse, theirs.sd.ravel(), rtol=1e-12)
    np.testing.assert_allclose(ours.tvalues, theirs.tvalue.ravel(), rtol=1e-12)
    np.testing.assert_allclose(ours.pvalues, theirs.pvalue, rtol=1e-10)
    np.testing.assert_allclose(ours.conf_int(), theirs.conf_int(), rtol=1e-12)
    wald = fit.wald_test((restrictions, np.array([0.5, 1.0])), use_f=False, scalar=True)
    joint = wald_test(restrictions, [0.5, 1.0], fit.params, fit.cov_params())
    assert joint.statistic == pytest.approx(float(wald.statistic), rel=1e-10)
    assert joint.pvalue == pytest.approx(float(wald.pvalue), rel=1e-10)


def test_a_null_value_on_an_edge_or_outside_the_support_has_no_test():
    """On an edge the estimate is not asymptotically normal (Self & Liang 1987): refused, as the table of estimates does."""
    support = (np.array([-np.inf, 0.0]), np.array([np.inf, np.inf]))
    for null in (0.0, -1.0):
        refused = wald_test([[0.0, 1.0]], null, [1.0, 2.0], np.eye(2), labels=[f"sigma = {null:g}"], support=support)
        assert np.isnan(refused.statistic)
        assert f"sigma = {null:g} is not an interior point of the support (0, inf)" in refused.reason
        each = t_test(np.eye(2), [0.0, null], [1.0, 2.0], np.eye(2), support=support)
        assert np.isnan(each.pvalues).tolist() == [False, True]
        assert "interior point" in each.notes[1]
    assert wald_test([[0.0, 2.0]], 2.0, [1.0, 2.0], np.eye(2), support=support).statistic == pytest.approx(1.0)


def test_t_test_says_what_is_missing_and_what_is_exact():
    cov = np.zeros((4, 4))
    cov[:3, :3] = P_COV
    cov[3, :] = cov[:, 3] = np.nan
    test = t_test([[1, 1, 1, 0], [0, 0, 0, 1], [1, -1, 0, 0]], 0.0, [*P, 7.0], cov, reason="flat")
    assert test.bse[0] == 0.0
    assert "known exactly" in test.notes[0]
    assert np.isnan(test.bse[1])
    assert test.notes[1] == "flat"
    # Var(p1 - p2) = (p1 + p2 - (p1 - p2)^2) / n
    assert test.bse[2] == pytest.approx(np.sqrt((0.8 - 0.04) / 100), rel=1e-12)
    assert np.isnan(test.pvalues).tolist() == [True, True, False]
    assert "flat" in test.summary()
    assert list(test.frame().columns)[:2] == ["estimate", "std_error"]


def test_a_negative_variance_has_no_standard_error():
    assert np.isnan(standard_errors([[1.0]], [[-1.0]])[0])


def test_reports_read_well():
    test = wald_test(R, r, THETA, COV, labels=["sexF = sexM", "ldose = 1"])
    assert repr(test) == "WaldTest(chi2(2) = 9.720, p = 0.0078)"
    assert test.summary().splitlines() == [
        "Wald test",
        "  (1)  sexF = sexM",
        "  (2)  ldose = 1",
        "",
        "  chi2(2) = 9.720    Prob > chi2 = 0.0078",
    ]
    many = wald_test(np.eye(30), 0.0, np.ones(30), np.eye(30)).summary()
    assert "10 more" in many
