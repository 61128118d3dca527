"""The table of the kinds of covariance: the formula of each, the options that it accepts, its line in the header."""

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
_WITHOUT_PENALTY = "replaces the information by products of scores, which leave out the penalty"


@dataclass(frozen=True)
class Kind:
    """A kind of covariance.

    Attributes:
        name: the value of ``cov_type=``.
        statement: its description in the header, a format string with ``{factor}``, ``{groups}``, ``{df}`` and ``{lags}``.
        form: ``"information"``: the inverse of the information; ``"penalised"``: the inverse of the penalised information;
            ``"products"``: the inverse of the sum of outer products of scores; ``"sandwich"``: that sum between two inverses of
            the information; ``"refits"``: the covariance of the estimates of refits.
        scores_of: which outer products of scores are summed: of ``"rows"`` (or units); of ``"clusters"``, whose scores are
            summed first; of rows and their ``"lags"``; None for a kind without such a sum, or with its own (surveys).
        leverage_exponent: function from each row's leverage divided by the mean leverage, (G,), to the exponent d: scores are
            divided by (1 - leverage)^d.  None: scores are not divided.
        small_sample_factor: function from the numbers of rows or units, (L, 1), and of free parameters, (L, 1), to the factor of
            the covariance, (L, 1); None: the factor is 1.
        options: keys that ``cov_kwds`` may have.
        aliases: names of this kind in other packages, in lower case, which messages suggest to replace by ``name``.
        refused_with_penalty: the reason why the kind is not supported with a penalty; empty if it is.
    """

    name: CovarianceKind
    statement: str
    form: Literal["information", "penalised", "products", "sandwich", "refits"] = "sandwich"
    scores_of: Literal["rows", "clusters", "lags"] | None = None
    leverage_exponent: Callable[[Float[Host, " G"]], Any] | None = None
    small_sample_factor: Callable[[Float[Host, "L 1"], Any], Any] | None = None
    options: frozenset[str] = frozenset()
    aliases: tuple[str, ...] = ()
    refused_with_penalty: str = ""

    @property
    def model_based(self) -> bool:
        """True if the covariance is the inverse of an information or of products of scores, which is valid only for a
        correctly specified model.
        """
        return self.form in ("information", "penalised", "products")

    def weighted_by_w(self, weight_kind: str | None) -> bool:
        """True if outer products of scores are weighted by the weights w of the terms; False if by w^2, or without weights.

        By w with frequency weights, except for sums by cluster, and for ``"opg"`` with weights of any kind.
        """
        weighted_information = weight_kind is not None and self.form == "products"
        return weighted_information or (weight_kind == "frequency" and self.scores_of != "clusters")

    @property
    def unadjusted_scores(self) -> bool:
        """True if the kind uses products of scores of rows or clusters that are not divided by leverages (opg included)."""
        return self.scores_of in ("rows", "clusters") and self.leverage_exponent is None

    @property
    def unadjusted_sandwich(self) -> bool:
        """True for a sandwich whose scores are not divided by leverages."""
        return self.unadjusted_scores and self.form == "sandwich"


def _options(*names: str) -> frozenset[str]:
    return frozenset(names)


_TABLE: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("nonrobust", "inverse observed information", "information", aliases=("oim", "classical")),
        Kind(
            "expected", "inverse expected information", "information", options=_options("outcomes", "n", "seed"),
            aliases=("eim", "fisher"), refused_with_penalty="is not supported with a penalty",
        ),
        Kind("opg", "inverse outer product of scores", "products", "rows", refused_with_penalty=_WITHOUT_PENALTY),
        Kind("HC0", "sandwich, no factor", scores_of="rows", aliases=("sandwich", "hc", "white", "huber")),
        Kind("HC1", "sandwich, n/(n-k) = {factor}", scores_of="rows", small_sample_factor=lambda n, k: n / (n - k)),
        Kind("HC2", "sandwich of scores over (1 - leverage)^1/2", scores_of="rows", leverage_exponent=lambda _: 0.5),
        Kind("HC3", "sandwich of scores over 1 - leverage", scores_of="rows", leverage_exponent=lambda _: 1.0),
        Kind(
            "HC4", "sandwich of scores over (1 - leverage)^(d/2), d = min(4, leverage over its mean)", scores_of="rows",
            leverage_exponent=lambda relative: np.minimum(4.0, relative) / 2.0,
        ),
        Kind(
            "cluster", "", scores_of="clusters", options=_options("groups", "correction"),
            aliases=("clustered", "cluster-robust"),
        ),
        Kind(
            "CR2", "{groups} clusters, scores over (1 - leverage)^1/2, t({df})", scores_of="clusters",
            leverage_exponent=lambda _: 0.5, options=_options("groups"),
        ),
        Kind(
            "CR3", "{groups} clusters, scores over (1 - leverage)^1, t({df})", scores_of="clusters",
            leverage_exponent=lambda _: 1.0, options=_options("groups"),
        ),
        Kind(
            "stata", "sandwich, n/(n-1) = {factor}", scores_of="rows", small_sample_factor=lambda n, k: n / (n - 1.0),
            options=_options("groups"),
        ),
        Kind(
            "HAC", "Bartlett, {lags}, no factor", scores_of="lags", options=_options("maxlags"), aliases=("newey-west", "nw"),
        ),
        Kind("bayes", "inverse penalised information", "penalised"),
        Kind("bootstrap", "", "refits", options=_options("groups", "n", "seed"), aliases=("boot",)),
        Kind("survey", "", options=_options("design")),
    )
}  # fmt: skip
KINDS: Mapping[str, Kind] = MappingProxyType(_TABLE)
