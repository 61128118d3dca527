"""Design matrices of the parameters with a formula, for the rows of a fit."""

from __future__ import annotations

from mlejax.data.formulas import DesignValues
from mlejax.fit import Loaded


def designs_of(loaded: Loaded) -> dict[str, DesignValues]:
    """Return the design matrices of every parameter with a formula, by name, for the rows of the fit."""
    return {} if loaded.designs is None else loaded.designs.in_rows(loaded.rows)
