"""Likelihoods of many fields by their textbook formulas, for `benchmarks/textbook.py`."""

from benchmarks.textbook_kinds import laws, models
from benchmarks.textbook_kinds.kind import Textbook

KINDS: dict[str, Textbook] = {**laws.KINDS, **models.KINDS}
