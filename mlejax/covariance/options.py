"""``cov_type=`` and ``cov_kwds=``: the kinds of covariance, and the options that each accepts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mlejax.covariance.kinds import KINDS
from mlejax.covariance.survey import Survey

_SYNONYMS = {"robust": "HC0"}
CORRECTIONS = ("G", "none", "full", "ssc")
COVARIANCE_LIMIT = 2000  # largest number of parameters whose whole covariance matrix is computed


def check_kind(
    cov_type: str | None, cov_kwds: Mapping[str, Any] | None, weight_kind: str | None = None, penalised: bool = False
) -> tuple[str, dict[str, Any]]:
    """Check ``cov_type`` and ``cov_kwds``, and return them with defaults filled in (HC0 for sampling weights, else nonrobust).

    In the returned options ``groups`` is a tuple of one or two groupings, each the name of a column or an array of labels.
    ``"robust"`` becomes HC0, and ``"stata"`` with groups ``"cluster"``.

    Args:
        cov_type: kind of covariance, or None for the default.
        cov_kwds: its options, or None.
        weight_kind: "frequency", "sampling", "importance" or None.
        penalised: whether the fit has a penalty.

    Raises:
        ValueError: unknown kind or option, an option that the kind does not accept, or an invalid value of one; missing groups,
            or two-way groups for a kind other than ``"cluster"``; a model-based kind with sampling weights; ``"bayes"`` without
            a penalty, ``"opg"`` or ``"expected"`` with one; ``"survey"`` without a design.
    """
    sampled = weight_kind == "sampling"
    kind = ("HC0" if sampled else "nonrobust") if cov_type is None else str(cov_type)
    kind = _SYNONYMS.get(kind, kind)
    if kind not in KINDS:
        known = {word: k.name for k in KINDS.values() for word in (k.name.lower(), *k.aliases)}
        suggestion = known.get(kind.lower())
        raise ValueError(
            f"cov_type={cov_type!r} is not known; choose from {', '.join(KINDS)}"
            + (f" (did you mean {suggestion!r}?)" if suggestion else "")
        )
    properties = KINDS[kind]
    if sampled and properties.model_based:
        raise ValueError(
            f"cov_type={kind!r} is not supported with sampling weights, because its standard errors would change with the scale "
            "of the weights; use 'HC0' (the default with them), 'HC1', 'cluster' or 'HAC', or weight_kind='frequency' if the "
            "weights count rows"
        )
    if properties.form == "penalised" and not penalised:
        raise ValueError(
            f"cov_type={kind!r} is the inverse of the penalised information, but this fit has no penalty; use 'nonrobust', the "
            "inverse of the information"
        )
    if properties.refused_with_penalty and penalised:
        raise ValueError(f"cov_type={kind!r} {properties.refused_with_penalty}; use 'nonrobust', 'bayes' or 'HC0'")
    if cov_kwds is not None and not isinstance(cov_kwds, Mapping):
        raise ValueError(f"cov_kwds= expected a dict of options, {{'groups': 'firm'}}, got {cov_kwds!r}")
    options = dict(cov_kwds or {})
    unknown = set(options) - properties.options
    if unknown:
        raise ValueError(
            f"cov_kwds {sorted(unknown)} are not options of cov_type={kind!r}"
            + (f"; it takes {sorted(properties.options)}" if properties.options else "; it takes none")
        )
    if kind == "survey" and not (isinstance(options.get("design"), Survey) and sampled):
        raise ValueError("cov_type='survey' needs a design: fit(data, design=mle.Survey(weights=..., strata=..., psu=...))")
    if kind == "stata" and "groups" in options:
        kind = "cluster"  # its default factor, G / (G - 1), is that of Stata's ml
    if KINDS[kind].scores_of == "clusters" or "groups" in options:
        options["groups"] = _groupings(options.get("groups"), kind)
        if kind != "cluster" and len(options["groups"]) > 1:
            raise ValueError(f"cov_type={kind!r} supports one-way clusters only; for two-way clusters use cov_type='cluster'")
    if kind == "cluster":
        options.setdefault("correction", "G")
        if options["correction"] not in CORRECTIONS:
            raise ValueError(f"cov_kwds correction={options['correction']!r} is not known; choose from {CORRECTIONS}")
    _check_values(options)
    return kind, options


def _check_values(options: Mapping[str, Any]) -> None:
    """Raise ValueError unless each of these options that is given is valid: ``outcomes`` a dict, ``n`` a whole number of at
    least 20, ``seed`` a whole number of at least 0, ``maxlags`` one of at least 0 or None.
    """
    if "outcomes" in options and not isinstance(options["outcomes"], Mapping):
        raise ValueError(
            f"cov_kwds outcomes= expected a dict of a column and its values, {{'y': [0, 1]}}, got {options['outcomes']!r}"
        )
    for name, smallest in (("n", 20), ("seed", 0)):
        value = options.get(name, smallest)
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < smallest:
            raise ValueError(f"cov_kwds {name}={value!r}: expected a whole number of at least {smallest}")
    lags = options.get("maxlags")
    if lags is not None and (isinstance(lags, bool) or not isinstance(lags, (int, np.integer)) or not 0 <= lags < 2**53):
        raise ValueError(
            f"cov_kwds maxlags={lags!r:.40}: expected a whole number of lags >= 0, or None for 4 (n/100)^(2/9)"
        )


def _groupings(groups: Any, kind: str = "cluster") -> tuple[Any, ...]:
    """Return ``groups`` (a column name, labels, a pair of these, or a matrix of two columns) as a tuple of one or two groupings.

    Raises:
        ValueError: no groups, more than two, or a sparse matrix; ``kind`` is named in the message.
    """
    if groups is None and KINDS[kind].scores_of != "clusters":
        raise ValueError("cov_kwds groups=None: expected a column name or labels; without clusters leave it out")
    if groups is None:
        raise ValueError(
            f"cov_type={kind!r} needs cov_kwds={{'groups': ...}}: a column name or one label per row or unit"
            + ("; a pair of either for two-way clusters" if kind == "cluster" else "")
        )
    if isinstance(groups, str):
        return (groups,)
    parts: list[Any]
    if hasattr(groups, "toarray"):
        raise ValueError("cov_kwds groups: expected labels, got a sparse matrix; groups.toarray() makes an array of it")
    if isinstance(groups, (tuple, list)) and len(groups) <= 3 and all(isinstance(g, str) or np.ndim(g) for g in groups):
        parts = list(groups)
    elif np.ndim(groups) == 2:
        columns = groups.shape[1] if hasattr(groups, "shape") else len(groups[0])
        frame = groups.iloc if hasattr(groups, "iloc") else np.asarray(groups, object)
        parts = [frame[:, j] for j in range(columns)]
    else:
        return (groups,)
    if not 1 <= len(parts) <= 2:
        raise ValueError(
            f"cov_kwds groups: expected one or two ways of clustering, got {len(parts)}; give a column name or labels, or a pair "
            "of either"
        )
    return tuple(parts)
