"""Intervals and standard errors of single entries and of functions of the estimates."""

from mlejax.inference.intervals.delta import (
    DeltaResult,
    Linearised,
    exponentiated,
    linearise,
    nlcom,
    nlcom_of,
    with_addresses,
)
from mlejax.inference.intervals.link_scale import IntervalLink, Intervals, confidence_intervals, supports

__all__ = [
    "DeltaResult",
    "IntervalLink",
    "Intervals",
    "Linearised",
    "confidence_intervals",
    "exponentiated",
    "linearise",
    "nlcom",
    "nlcom_of",
    "supports",
    "with_addresses",
]
