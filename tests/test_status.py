"""Every code explains itself: what happened, causes (a) (b) (c), what to do."""

import enum
import re

import pytest

from mlejax.status import CovarianceState, End


@pytest.mark.parametrize("code", [*End, *CovarianceState], ids=lambda code: f"{type(code).__name__}.{code.name}")
def test_every_code_has_a_diagnosis(code: enum.IntEnum) -> None:
    advice = code.advice  # type: ignore[attr-defined]
    assert len(advice) > 60
    assert advice.endswith(".")
    assert "(a)" not in advice
    if code not in (End.RUNNING, End.CONVERGED, CovarianceState.OK):
        assert len(re.split(r"[.:] ", advice)) >= 2, "what it means, and what to do"


def test_codes_are_stable() -> None:
    """Numbers are stored with results: a new code is added at the end, an old one is never renumbered."""
    names = "RUNNING CONVERGED MAX_STEPS PRECISION_FLOOR STALLED DIVERGED SINGULAR SETTLED START_NOT_FINITE INTERRUPTED"
    assert " ".join(code.name for code in End) == names
    assert [int(code) for code in End] == list(range(len(End)))
    assert [int(code) for code in CovarianceState] == list(range(len(CovarianceState)))
