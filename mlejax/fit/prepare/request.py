"""The options of a fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlejax.data.streams import Engine
from mlejax.fit.prepare.constraints.constrained import Restrictions
from mlejax.fit.prepare.loaded import Loaded
from mlejax.parameters import Space
from mlejax.shapes import PyTree


@dataclass(frozen=True)
class Request:
    """The options of a fit; those not listed here are as in ``Model.fit``.

    Attributes:
        groups: names of cluster columns.
        restrict: (layout of the parameters) -> the constraints, or None.
        on: devices, or None.
        engine: engine that runs the passes over a stream, or None.
        products: of a stream: True if sums of products of scores weighted by w are needed, False if weighted by w^2, None if
            neither.
        arranged: (loaded data) -> data with further columns, or None.
        left_out: numbers in the user's data of separated rows that are left out; `RowOfLevel` objects for a stream.
    """

    start: PyTree = None
    fixed: Mapping[str, Any] | None = None
    weights: Any = None
    weight_kind: str | None = None
    method: Any = "newton"
    missing: str = "raise"
    seed: int = 0
    progress: bool | None = None
    groups: Sequence[str] = ()
    n_starts: int | None = None
    penalty: Any = None
    hyper: PyTree = None
    restrict: Callable[[Space], Restrictions] | None = None
    bias_reduction: str | None = None
    validation: Any = None
    resume: Any = None
    on: Any = None
    engine: Engine | None = None
    separated: str = "report"
    products: bool | None = None
    arranged: Callable[[Loaded], Loaded] | None = None
    left_out: Sequence[Any] = ()
