"""The kinds of covariance, one row each: what they are made of, which options they take, what is said of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import numpy as np

from mlejax.shapes import Float, Host

CovarianceKind: TypeAlias = Literal[
    "nonrobust", "expected", "opg", "HC0", "HC1", "HC2", "HC3", "HC4", "cluster", "CR2", "CR3", "stata", "HAC", "bayes",
    "bootstrap", "survey", "robust",
]  # fmt: skip
_UNPENALISED = "replaces the information by products of scores, which leave out the penalty"


@dataclass(frozen=True)
class Kind:
    """What a kind of covariance is.

    Attributes:
        name: as written in ``cov_type=``.
        statement: of the header, with ``{factor}``, ``{groups}``, ``{df}`` and ``{lags}``.
        form: ``"information"``, an inverse; ``"penalised"``, the inverse of the penalised information; ``"products"``, the
            inverse of the products of scores; ``"sandwich"``; ``"refits"``, the spread of estimates.
        over: whose scores are multiplied: of ``"rows"`` (or units), of ``"clusters"``, of rows and ``"lags"``; None: the kind
            has no such products, or products of its own.
        power: the power of one minus leverages that scores are divided by, from leverages relative to their mean (G,);
            None: scores as they are.
        factor: of small samples, from the numbers of contributions (L, 1) and of free parameters (L, 1); None: 1.
        options: of ``cov_kwds``.
        aliases: names of other packages, in lower case.
        unpenalised: why the kind is refused beside a penalty.
    """

    name: CovarianceKind
    statement: str
    form: Literal["information", "penalised", "products", "sandwich", "refits"] = "sandwich"
    over: Literal["rows", "clusters", "lags"] | None = None
    power: Callable[[Float[Host, " G"]], Any] | None = None
    factor: Callable[[Float[Host, "L 1"], Any], Any] | None = None
    options: frozenset[str] = frozenset()
    aliases: tuple[str, ...] = ()
    unpenalised: str = ""

    @property
    def model_based(self) -> bool:
        """Whether the errors are right only where the model is."""
        return self.form in ("information", "penalised", "products")

    @property
    def plain(self) -> bool:
        """Whether the scores of rows or clusters are multiplied as they are."""
        return self.over in ("rows", "clusters") and self.power is None

    @property
    def plain_sandwich(self) -> bool:
        """Whether such products stand between two inverses of the information."""
        return self.plain and self.form == "sandwich"


def _options(*names: str) -> frozenset[str]:
    return frozenset(names)


_TABLE: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("nonrobust", "inverse observed information", "information", aliases=("oim", "classical")),
        Kind(
            "expected", "inverse expected information", "information", options=_options("outcomes", "n", "seed"),
            aliases=("eim", "fisher"), unpenalised="is refused with a penalty",
        ),
        Kind("opg", "inverse outer product of scores", "products", "rows", unpenalised=_UNPENALISED),
        Kind("HC0", "sandwich, no factor", over="rows", aliases=("sandwich", "hc", "white", "huber")),
        Kind("HC1", "sandwich, n/(n-k) = {factor}", over="rows", factor=lambda n, k: n / (n - k)),
        Kind("HC2", "sandwich of scores over (1 - leverage)^1/2", over="rows", power=lambda _: 0.5),
        Kind("HC3", "sandwich of scores over 1 - leverage", over="rows", power=lambda _: 1.0),
        Kind(
            "HC4", "sandwich of scores over (1 - leverage)^(d/2), d = min(4, leverage over its mean)", over="rows",
            power=lambda relative: np.minimum(4.0, relative) / 2.0,
        ),
        Kind("cluster", "", over="clusters", options=_options("groups", "correction"), aliases=("clustered", "cluster-robust")),
        Kind(
            "CR2", "{groups} clusters, scores over (1 - leverage)^1/2, t({df})", over="clusters", power=lambda _: 0.5,
            options=_options("groups"),
        ),
        Kind(
            "CR3", "{groups} clusters, scores over (1 - leverage)^1, t({df})", over="clusters", power=lambda _: 1.0,
            options=_options("groups"),
        ),
        Kind(
            "stata", "sandwich, n/(n-1) = {factor}", over="rows", factor=lambda n, k: n / (n - 1.0), options=_options("groups"),
        ),
        Kind(
            "HAC", "Bartlett, {lags}, no factor", over="lags", options=_options("maxlags"), aliases=("newey-west", "nw"),
        ),
        Kind("bayes", "inverse penalised information", "penalised"),
        Kind("bootstrap", "", "refits", options=_options("groups", "n", "seed"), aliases=("boot",)),
        Kind("survey", "", options=_options("design")),
    )
}  # fmt: skip
KINDS: Mapping[str, Kind] = MappingProxyType(_TABLE)
