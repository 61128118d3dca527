"""Information criteria against R and against their definitions."""

import math

import numpy as np
import pytest

from mlejax.inference.checking import aic, aicc, bic, hqic

# R 4: library(MASS); fit <- glm(SF ~ sex + ldose, binomial) on the budworm data of ?MASS::dose.p
# c(logLik(fit), AIC(fit), BIC(fit), nobs(fit))
LLF, K, N = -18.433732616822695, 3, 12
AIC_R, BIC_R = 42.867465233645390, 44.322185183009395


def test_against_r():
    assert aic(LLF, K) == pytest.approx(AIC_R, rel=1e-14)
    assert bic(LLF, K, N) == pytest.approx(BIC_R, rel=1e-14)


def test_aicc_and_hqic_by_hand():
    # 2*3*4/(12-3-1) = 3; log(log(12)) = 0.910235...
    assert aicc(LLF, K, N) == pytest.approx(AIC_R + 3.0, rel=1e-14)
    assert hqic(LLF, K, N) == pytest.approx(-2 * LLF + 6 * math.log(math.log(12)), rel=1e-14)


def test_criteria_broadcast_over_a_batch():
    llf = np.array([LLF, -20.0, np.nan])
    out = bic(llf, K, np.array([12, 24, 12]))
    assert out.shape == (3,)
    assert out[0] == pytest.approx(BIC_R)
    assert out[1] == pytest.approx(40 + 3 * math.log(24))
    assert np.isnan(out[2])


@pytest.mark.parametrize(("n", "defined"), [(4, False), (5, True), (3, False)])
def test_aicc_is_nan_where_the_correction_has_no_meaning(n, defined):
    assert math.isfinite(aicc(-1.0, 3, n)) == defined


def test_hqic_of_one_observation_is_nan():
    assert math.isnan(hqic(-1.0, 1, 1))


def test_nonsense_counts_are_refused():
    with pytest.raises(ValueError, match="n > 0"):
        bic(-1.0, 2, 0)
    with pytest.raises(ValueError, match="k >= 0"):
        aic(-1.0, -2)
