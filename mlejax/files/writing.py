"""A result as the content of a file: estimates, covariance, verdict, labels and formulas; no data and no functions."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any, NamedTuple

import jax
import numpy as np

from mlejax.covariance import CovarianceResult
from mlejax.data import Fingerprint, Weights
from mlejax.files.container import FileError, Json
from mlejax.files.designs import Unsaved, evaluated_of
from mlejax.files.fields import to_json
from mlejax.files.schema import CONTENT, REASONS, SUPPORTS
from mlejax.fit import Fit, Loaded, counts
from mlejax.fit.regression import Designs
from mlejax.parameters import Group, Leaf, Parameter, Predictor, Space


class Parts(NamedTuple):
    """What a result consists of.

    Attributes:
        name: of the model.
        cov_type: kind of covariance.
        fit: the fit.
        cov: the covariance.
    """

    name: str
    cov_type: str
    fit: Fit
    cov: CovarianceResult


def content_of(parts: Parts) -> Json:
    """A result as JSON that the schema accepts.

    Raises:
        FileError: a result that cannot be saved, with the place of what is wrong.
    """
    fit, likelihood, loaded = parts.fit, parts.fit.spec.likelihood, parts.fit.loaded
    verdict = fit.verdict
    try:
        content = to_json(
            {
                "made_with": versions() if loaded.remembered is None else loaded.remembered.versions,
                "model": {"name": parts.name, "rowwise": likelihood.rowwise, "unit": likelihood.unit},
                "parameters": _parameters(fit.spec.space, fit.params),
                "structure": [_structure(group) for group in fit.spec.space.groups],
                "regressions": [_regression(p, loaded.designs) for p in likelihood.predictors],
                "designs": _designs(loaded.designs),
                "fit": _fit(fit),
                "verdict": {
                    "code": verdict.code,
                    "statement": verdict.statement,
                    "advice": verdict.advice,
                    "evidence": evidence_of(verdict.evidence),
                },
                "covariance": _covariance(parts.cov),
                "data": _data(loaded),
            }
        )
        CONTENT(content, "content")
    except (FileError, TypeError) as error:
        raise FileError(f"the result cannot be saved: {error}") from None
    return content


def versions() -> dict[str, str]:
    """The versions of what made the result."""
    found = {"python": platform.python_version()}
    for name in ("mlejax", "jax", "numpy", "formulaic"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def evidence_of(value: Any) -> Any:
    """Evidence as plain values; anything else becomes its text, and a number that is not finite is marked as one."""
    if isinstance(value, Mapping):
        return {str(k): evidence_of(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray, np.generic)):
        return evidence_of(value.item()) if isinstance(value, np.generic) else [evidence_of(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"number": repr(value)}
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


# ---- parameters


def skeleton(tree: Any) -> Json:
    """A structure of leaf numbers as lists; TypeError for classes other than dict, list, tuple and None.

    >>> skeleton({"w": 0, "more": [1, None]})
    ['dict', ['more', ['list', 1, ['none']]], ['w', 0]]
    """
    if type(tree) is int:
        return tree
    if tree is None:
        return ["none"]
    if type(tree) is dict and all(isinstance(k, str) for k in tree):
        return ["dict", *([k, skeleton(tree[k])] for k in sorted(tree))]
    if type(tree) in (list, tuple):
        return [type(tree).__name__, *map(skeleton, tree)]
    raise TypeError(f"a {type(tree).__name__} among the parameters")


def _structure(group: Group) -> dict[str, Any]:
    tree: Json = None
    if group.treedef is not None:
        try:
            tree = skeleton(jax.tree.unflatten(group.treedef, range(group.n_leaves)))
        except TypeError:  # the user's own classes: their arrays in order
            tree = ["list", *range(group.n_leaves)]
    return {"name": group.name, "tree": tree, "n_arrays": group.n_leaves}


def _parameters(space: Space, params: Any) -> list[dict[str, Any]]:
    return [
        {
            **_declared(leaf),
            "name": leaf.name,
            "entries": leaf.entries,
            "free": leaf.free,
            "estimate": np.asarray(value, np.float64).reshape(-1),
        }
        for leaf, value in zip(space.leaves, space.split(params), strict=True)
    ]


def _declared(of: Leaf | Parameter) -> dict[str, Any]:
    return {"kind": of.kind, "support": _support(of.transform), "shape": of.shape or (), "labels": of.labels}


def _support(transform: Any) -> dict[str, Any]:
    name = next(name for name, cls in SUPPORTS.items() if type(transform) is cls)
    lower, upper, closed = (getattr(transform, part, None) for part in ("lo", "hi", "closed"))
    return {"name": name, "lower": lower, "upper": upper, "closed": closed}


def _regression(p: Predictor, designs: Designs | Unsaved | None) -> dict[str, Any]:
    natural = designs.natural.leaves if isinstance(designs, Designs) else ()
    declared = next((leaf for leaf in natural if leaf.name == p.name), p.parameter)
    given, link = p.linear.link, p.link
    return {
        "parameter": p.name,
        "declared": _declared(declared),
        "formula": p.linear.formula,
        "offset": p.linear.offset,
        "exposure": p.linear.exposure,
        "baseline": p.linear.baseline,
        "given_link": "custom" if isinstance(given, tuple) else given,
        "link": {"name": link.name, "lower": link.lo, "upper": link.hi, "baseline": link.baseline},
    }


def _designs(designs: Designs | Unsaved | None) -> Any:
    if designs is None:
        return None
    if isinstance(designs, Unsaved):
        return designs.content
    evaluated, missing = [], ""
    try:
        for d in designs.designs:
            offset = None if d.offset is None else evaluated_of(d.offset)
            evaluated.append({"formula": evaluated_of(d.piece), "offset": offset})
    except TypeError as error:
        evaluated, missing = [], str(error)
    return {"view": designs.view, "missing": missing, "evaluated": evaluated}


# ---- the fit


def _fit(fit: Fit) -> dict[str, Any]:
    plain = ("method", "n_steps", "note", "llf", "decrement", "u", "theta", "score", "information", "interior")
    reduction, penalised, history, ties = fit.spec.reduction, fit.penalised, fit.history, fit.spec.space.ties
    return {name: getattr(fit, name) for name in plain} | {
        "device": fit.backend or jax.default_backend(),
        "hessian": fit.spec.hessian,
        "constraints": fit.constraints,
        "ties": None if ties is None else {"kept": ties.kept, "offset": ties.offset, "matrix": ties.matrix},
        "bias_reduction": None
        if reduction is None
        else {
            "kind": reduction.kind,
            "information": "observed" if reduction.expected is None else "expected",
            "adds": fit.reduced,
        },
        "penalty": None
        if penalised is None
        else {
            "name": penalised.name,
            "value": penalised.value,
            "kinks": penalised.kinks,
            "information": penalised.information,
        },
        "starts": [
            {
                "kind": m.kind,
                "llf": m.llf,
                "u": m.u,
                "n_starts": m.n_starts,
                "copy_of": m.copy_of,
                "statement": m.statement,
            }
            for m in fit.modes
        ],
        "training": None
        if history is None
        else {"train": history.train, "validation": history.held_out, "best": history.best},
    }


def _covariance(cov: CovarianceResult) -> dict[str, Any]:
    state = np.asarray(cov.state)
    found = {name: np.flatnonzero(state == int(code)) for name, code in REASONS.items() if name != "ok"}
    return {
        "kind": cov.kind,
        "statement": cov.statement,
        "notes": cov.notes,
        "matrix": None if np.isnan(cov.matrix).all() else cov.matrix,
        "missing": [{"reason": name, "at": at} for name, at in found.items() if at.size],
        "smallest_eigenvalue": cov.smallest_eigenvalue,
        "condition": cov.condition,
        "nullity": cov.nullity,
        "edf": cov.edf,
    }


def _data(loaded: Loaded) -> dict[str, Any]:
    nobs, n_units = counts(loaded)
    return {
        "mode": loaded.problem.data.mode,
        "rows": loaded.rows.n,
        "n_dropped": loaded.rows.n_dropped,
        "nobs": float(nobs),
        "n_units": float(n_units),
        "float32_columns": loaded.rows.float32,
        "weights": _weights(loaded.weights),
        "fingerprint": _fingerprint(loaded.fingerprint),
    }


def _weights(w: Weights | None) -> dict[str, Any] | None:
    return None if w is None else {"kind": w.kind, "name": w.name, "scale": w.scale, "statement": w.statement()}


def _fingerprint(of: Fingerprint) -> dict[str, Any]:
    sums = ("sum", "sum_of_squares")
    return {
        "rows": of.rows,
        "columns": [{"name": name} | dict(zip(sums, pair, strict=True)) for name, pair in of.columns.items()],
        "weights": None if of.weights is None else dict(zip(("kind", *sums), of.weights, strict=True)),
    }
