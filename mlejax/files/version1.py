"""Files of format 1 (mlejax 0.1.0) as content of the present format.  Nothing of them is evaluated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mlejax.files.container import FileError, Json

_SUPPORTS = {
    "Identity": "real",
    "Log": "positive",
    "Logit": "interval",
    "Box": "closed_interval",
    "HalfOpen": "half_open_interval",
    "Simplex": "simplex",
    "Ordered": "ordered",
    "Covariance": "covariance",
    "Correlation": "correlation",
}
_REASONS = (
    "ok",
    "not_positive_definite",
    "not_finite",
    "not_converged",
    "too_few_clusters",
    "no_scores",
    "on_boundary",
    "not_identified",
    "singular_scores",
    "penalty_not_smooth",
    "too_few_rows",
)


def upgraded(content: Any) -> Json:
    """The content of a file of format 1 in the present format; what is wrong with it is found by the schema.

    Raises:
        FileError: content that is not that of a result.
    """
    try:
        return _upgraded({key: _untagged(value) for key, value in content.items()}, content)
    except FileError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise FileError(f"the content is not that of a result ({type(error).__name__}: {str(error)[:200]})") from None


def _untagged(value: Any) -> Any:
    """Plain JSON: tuples as lists, objects as their fields with the name of their class under ``$object``."""
    if isinstance(value, list):
        return [_untagged(v) for v in value]
    if not isinstance(value, dict):
        return value
    tag = next(iter(value), "")
    inside = value.get(tag)
    if tag == "$tuple":
        return _untagged(inside)
    if tag == "$float":
        return inside
    if tag == "$dict":
        return {str(k): _untagged(v) for k, v in inside}
    if tag == "$object":
        return {"$object": inside} | {k: _untagged(v) for k, v in value["fields"].items()}
    if tag == "$array":
        return _rows(inside["shape"], inside["data"])
    return {k: _untagged(v) for k, v in value.items()}


def _rows(shape: list[int], data: list[Json]) -> list[Json]:
    """An array as a list of its numbers, a matrix as a list of its rows."""
    if math.prod(shape) != len(data) or max(shape, default=0) > 1 << 28:
        raise FileError(f"an array of shape {str(shape)[:60]} with {len(data)} numbers")
    if len(shape) != 2:
        return data
    n, k = shape if shape[1] else (min(shape[0], 10_000), 0)
    return [data[i * k : (i + 1) * k] for i in range(n)]


def _marked(value: Any) -> Any:
    """Evidence, in which a number that is not finite is marked as one."""
    if isinstance(value, dict):
        return {"number": value["$float"]} if set(value) == {"$float"} else {k: _marked(v) for k, v in value.items()}
    return [_marked(v) for v in value] if isinstance(value, list) else value


def _taken(of: Mapping[str, Any], *names: str, left: tuple[str, ...] = (), **renamed: str) -> dict[str, Any]:
    """Fields under the same name, and under another (new=old); ``left`` are left out, and any other is refused."""
    unknown = sorted(set(of) - {*names, *renamed.values(), *left, "$object"})
    if unknown:
        raise FileError(f"unknown fields: {', '.join(unknown)[:200]}")
    return {name: of[name] for name in names} | {new: of[old] for new, old in renamed.items()}


def _upgraded(c: Mapping[str, Any], raw: Mapping[str, Any]) -> dict[str, Any]:
    model, space, fit, designs, data = c["model"], c["space"], c["fit"], c["designs"], c["data"]
    top = ("versions", "params", "cov_type", "hessian", "reduction", "backend", "cov")
    _taken(c, "model", "space", "fit", "designs", "data", *top)
    natural = {leaf["name"]: leaf for leaf in designs["natural"]["leaves"]} if designs and "natural" in designs else {}
    estimates = [p["$array"]["data"] for p in raw["params"]]
    reduction = c["reduction"]
    return {
        "made_with": c["versions"],
        "model": _taken(model, "name", "rowwise", "unit", left=("predictors",)),
        "parameters": [
            {**_declared(leaf), "name": leaf["name"], "entries": leaf["entries"], "free": leaf["free"], "estimate": values}
            for leaf, values in zip(space["leaves"], estimates, strict=True)
        ],
        "structure": [_taken(group, "name", "tree", n_arrays="n_leaves") for group in space["groups"]],
        "regressions": [_regression(p, natural) for p in model["predictors"]],
        "designs": None if designs is None else _designs(designs),
        "fit": _taken(
            fit,
            *("method", "n_steps", "note", "llf", "decrement", "u", "theta", "score", "information", "interior"),
            "constraints",
            left=("jacobian", "fixed", "verdict", "modes", "reduced", "penalised", "history"),
        )
        | {
            "device": c["backend"],
            "hessian": c["hessian"],
            "ties": space["ties"] and _taken(space["ties"], "kept", "offset", "matrix"),
            "bias_reduction": reduction
            and {
                "kind": reduction[0],
                "information": "observed" if reduction[1] else "expected",
                "adds": fit["reduced"],
            },
            "penalty": fit["penalised"] and _taken(fit["penalised"], "name", "value", "kinks", "information"),
            "starts": [
                _taken(mode, "kind", "llf", "u", "n_starts", "copy_of", "statement") for mode in fit["modes"]
            ],
            "training": fit["history"] and _taken(fit["history"], "train", "best", validation="held_out"),
        },
        "verdict": _taken(fit["verdict"], "code", "statement", "advice", left=("evidence",))
        | {"evidence": _untagged(_marked(raw["fit"]["verdict"]["fields"]["evidence"]))},
        "covariance": _covariance(c["cov"]),
        "data": _taken(
            data, "mode", "rows", "n_dropped", float32_columns="float32", left=("counts", "fingerprint", "weights")
        )
        | _taken(data["counts"], "nobs", "n_units", left=("versions",))
        | {
            "weights": data["weights"] and _taken(data["weights"], "kind", "name", "scale", statement="said"),
            "fingerprint": _fingerprint(data["fingerprint"]),
        },
    }


def _declared(leaf: Mapping[str, Any]) -> dict[str, Any]:
    transform = leaf["transform"]
    support = {
        "name": _SUPPORTS[transform["$object"]],
        "lower": transform.get("lo"),
        "upper": transform.get("hi"),
        "closed": transform.get("closed"),
    }
    return {"kind": leaf["kind"], "support": support, "shape": leaf["shape"] or [], "labels": leaf["labels"]}


def _regression(p: Mapping[str, Any], natural: Mapping[str, Any]) -> dict[str, Any]:
    linear, link = p["linear"], _taken(p["link"], "name", "baseline", lower="lo", upper="hi", left=("own",))
    given = {"given_link": "custom" if linear["own"] else linear["link"]}
    taken = _taken(linear, "formula", "offset", "exposure", "baseline", left=("link", "own"))
    declared = _declared(natural.get(p["name"]) or p["parameter"])
    return {"parameter": p["name"], "declared": declared, **taken, **given, "link": link}


def _designs(designs: Mapping[str, Any]) -> dict[str, Any]:
    if designs.get("$object") == "Unsaved":
        return {"view": "array", "missing": designs["why"], "evaluated": []}
    evaluated = [
        {"formula": _evaluated(d["piece"]), "offset": d["offset"] and _evaluated(d["offset"])}
        for d in designs["designs"]
    ]
    return _taken(designs, "view", left=("designs", "natural")) | {"missing": "", "evaluated": evaluated}


def _evaluated(piece: Mapping[str, Any]) -> dict[str, Any]:
    out = _taken(piece, "columns", "labels", left=("text", "learnt", "kinds", "rows", "n_rows", "values"))
    if "learnt" not in piece:
        return out | {"learnt": None}
    return out | {
        "learnt": {
            "transforms": piece["learnt"],
            "factors": [{"name": name, "kind": kind, "levels": levels} for name, (kind, levels) in piece["kinds"].items()],
            "rows": [_column(name, column) for name, column in piece["rows"]],
            "design": piece["values"],
        }
    }


def _column(name: str, column: Mapping[str, Any]) -> dict[str, Any]:
    if "levels" in column:
        kind, values = "ordered" if column["ordered"] else "category", column["codes"]
        return {"name": name, "type": kind, "values": values, "levels": column["levels"]}
    values = column.get("values", column.get("texts"))
    kinds = {float: "float", int: "int", bool: "bool"}
    kind = kinds[type(values[0])] if "values" in column else "label"
    return {"name": name, "type": kind, "values": values, "levels": None}


def _covariance(cov: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("kind", "statement", "notes", "matrix", "smallest_eigenvalue", "condition", "nullity", "edf")
    missing = [
        {"reason": reason, "at": [i for i, state in enumerate(cov["state"]) if state == code]}
        for code, reason in enumerate(_REASONS)
        if code in cov["state"] and code
    ]
    return _taken(cov, *kept, left=("state",)) | {"missing": missing}


def _fingerprint(of: Mapping[str, Any]) -> dict[str, Any]:
    sums = ("sum", "sum_of_squares")
    columns = [{"name": name} | dict(zip(sums, pair, strict=True)) for name, pair in of["columns"].items()]
    weights = None if of["weights"] is None else dict(zip(("kind", *sums), of["weights"], strict=True))
    return {"rows": of["rows"], "columns": columns, "weights": weights}
