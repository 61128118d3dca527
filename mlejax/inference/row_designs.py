"""Design matrices of regressed parameters in the rows of a fit."""

from __future__ import annotations

from mlejax.data import DesignKey
from mlejax.data.formulas import DesignValues
from mlejax.fit import Loaded


def designs_of(loaded: Loaded) -> dict[str, DesignValues]:
    """The columns of every regressed parameter."""
    if loaded.designs is None:
        return {}
    view, rows = loaded.designs.view, loaded.rows
    out = {}
    for name in (design.predictor.name for design in loaded.designs.designs):
        keys = (DesignKey(name, part, view) for part in ("design", "offset", "random"))
        out[name] = DesignValues(*(rows[key] if key in rows.layout.keys else None for key in keys))
    return out
