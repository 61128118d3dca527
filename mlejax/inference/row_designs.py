"""Design matrices of regressed parameters in the rows of a fit."""

from __future__ import annotations

from typing import Any

from mlejax.data import DesignKey
from mlejax.fit import Loaded


def designs_of(loaded: Loaded) -> dict[str, tuple[Any, Any]]:
    """Design (n, k) and offset (or None) of every regressed parameter."""
    if loaded.designs is None:
        return {}
    view, rows = loaded.designs.view, loaded.rows
    out: dict[str, tuple[Any, Any]] = {}
    for name in (design.predictor.name for design in loaded.designs.designs):
        beside = DesignKey(name, "offset", view)
        offset = rows[beside] if beside in rows.layout.keys else None
        out[name] = (rows[DesignKey(name, "design", view)], offset)
    return out
