"""Design matrices of regressed parameters in the rows of a fit."""

from __future__ import annotations

from mlejax.data.formulas import DesignValues
from mlejax.fit import Loaded


def designs_of(loaded: Loaded) -> dict[str, DesignValues]:
    """The columns of every regressed parameter."""
    return {} if loaded.designs is None else loaded.designs.in_rows(loaded.rows)
