"""Verdicts that change after they were judged."""

from mlejax.verdict import ADVICE, Facts, Verdict


def test_what_is_found_later_keeps_the_evidence() -> None:
    judged = Verdict("verified", "a local maximum", Facts({"decrement": 1e-20}), ADVICE["verified"])
    noted = judged.amended(note="the highest of 2 maxima", starts=False, facts={"error_bars": lambda: 0.001})
    assert str(noted) == "verified: a local maximum; the highest of 2 maxima"
    assert dict(noted.evidence) == {"decrement": 1e-20, "error_bars": 0.001}
    assert "n_starts" in judged.advice
    assert "n_starts" not in noted.advice
    other = noted.amended("stopped_early", "at a kink", "smooth it")
    assert (other.code, other.statement, other.advice, other.converged) == ("stopped_early", "at a kink", "smooth it", False)
    assert other.evidence["decrement"] == 1e-20
