"""Diagnosis of the final point of a search: whether it is a maximum, and if not, what the log-likelihood does around it.

If the log-likelihood is found to be higher at another point, the search continues from there.
"""

from mlejax.fit.diagnose.centring import Mapped, mapped
from mlejax.fit.diagnose.diagnosis import N_SCATTERED, diagnose
from mlejax.fit.diagnose.ends import clean, interior, is_clean, near_a_bound, on_nearest_bounds
from mlejax.fit.diagnose.evidence import evidence_at, explain
from mlejax.fit.diagnose.influential_rows import influential_rows
from mlejax.fit.diagnose.onward import search, search_centred
from mlejax.fit.diagnose.problems import TOGETHER, Diagnosed, Problems
from mlejax.fit.diagnose.rounding.digits import bars_of_end, lost, suspect, value_is_real

__all__ = [
    "N_SCATTERED",
    "TOGETHER",
    "Diagnosed",
    "Mapped",
    "Problems",
    "bars_of_end",
    "clean",
    "diagnose",
    "evidence_at",
    "explain",
    "influential_rows",
    "interior",
    "is_clean",
    "lost",
    "mapped",
    "near_a_bound",
    "on_nearest_bounds",
    "search",
    "search_centred",
    "suspect",
    "value_is_real",
]
