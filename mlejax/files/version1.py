"""Conversion of files of format 1 (mlejax 0.1.0) to the content of the current format, which the schema then checks."""

from __future__ import annotations

import math
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
# the objects of format 1 and their fields under their present names; None for what is left out
_FIELDS: dict[str, dict[str, str | None]] = {
    "Group": {"n_leaves": "n_arrays"},
    "Leaf": {"transform": "support"},
    "Parameter": {"transform": "support", "columns": None, "arguments": None},
    "Link": {"lo": "lower", "hi": "upper", "own": None},
    "History": {"held_out": "validation"},
    "Weights": {"said": "statement"},
    "Remembered": {"versions": None},
    "Design": {"predictor": None, "piece": "formula", "constant": None, "mean_offset": None},
    "Space": {},
    "Ties": {},
    "Predictor": {},
    "Linear": {},
    "Unsaved": {"what": None},
    "Verdict": {},
    "Mode": {},
    "Penalised": {},
    "Fingerprint": {},
    "CovarianceResult": {},
}


def upgraded(content: Any) -> Json:
    """Return the content of a file of format 1 in the current format.

    Raises:
        FileError, KeyError, TypeError, ValueError, AttributeError: the content is not a result.
    """
    c = {key: _untagged(value, key) for key, value in content.items()}
    model, space, fit, data, designs = (c.pop(name) for name in ("model", "space", "fit", "data", "designs"))
    natural = {leaf["name"]: leaf for leaf in (designs or {}).get("natural", {}).get("leaves", ())}
    reduction, counts = c.pop("reduction"), data.pop("counts")
    out = {
        "made_with": c.pop("versions"),
        "regressions": [_regression(p, natural) for p in model.pop("predictors")],
        "parameters": space.pop("leaves"),
        "structure": space.pop("groups"),
        "estimates": [p["$array"]["data"] for p in content["params"]],
        "bias_reduction": reduction
        and {"kind": reduction[0], "information": "observed" if reduction[1] else "expected"},
        "designs": designs and _designs(designs),
        "covariance": c.pop("cov"),
        "model": model,
        "data": {"float32_columns": data.pop("float32"), **counts, **data},
        "fit": {"device": c.pop("backend"), **fit},
    }
    for new, old in {
        "bias_reduction_adds": "reduced",
        "starts": "modes",
        "penalty": "penalised",
        "training": "history",
    }.items():
        out["fit"][new] = out["fit"].pop(old)
    for left in ("params", "cov_type"):
        c.pop(left)
    out["fit"].pop("jacobian")
    out["fit"]["centred"] = out["fit"]["integration"] = out["covariance"]["factor"] = None
    out["fit"]["verdict"]["evidence"] = _untagged(_marked(content["fit"]["verdict"]["fields"]["evidence"]), "evidence")
    return out | space | c


def _untagged(value: Any, where: str) -> Any:
    """Return JSON of format 1 as plain JSON: tuples and arrays as lists, numbers as their strings, objects as dicts of their
    fields under present names.

    Raises:
        FileError: an object of an unknown type; the message has its position, which begins with ``where``.
    """
    if isinstance(value, list):
        return [_untagged(v, where) for v in value]
    if not isinstance(value, dict):
        return value
    tag = next(iter(value), "")
    inside: Any = value.get(tag)
    if tag in ("$tuple", "$float"):
        return _untagged(inside, where)
    if tag == "$dict":
        return {str(k): _untagged(v, where) for k, v in inside}
    if tag == "$array":
        return _rows(inside["shape"], inside["data"], where)
    if tag != "$object":
        return {k: _untagged(v, f"{where}.{k[:60]}") for k, v in value.items()}
    fields = {k: _untagged(v, f"{where}.{k[:60]}") for k, v in value["fields"].items()}
    if inside in _SUPPORTS:
        ends = {"lower": fields.pop("lo", None), "upper": fields.pop("hi", None), "closed": fields.pop("closed", None)}
        return {"name": _SUPPORTS[inside], **ends, **fields}
    if inside not in _FIELDS:
        raise FileError(f"{where}: objects of type {str(inside)[:60]!r} are not known")
    names = {k: _FIELDS[inside].get(k, k) for k in fields}
    return {new: fields[k] for k, new in names.items() if new is not None}


def _rows(shape: list[int], data: list[Json], where: str) -> list[Json]:
    """Return an array of this shape as a list of its numbers, a matrix as a list of its rows; FileError if the shape does not
    have the number of ``data``.
    """
    if math.prod(shape) != len(data) or max(shape, default=0) > max(len(data), 10_000):
        raise FileError(f"{where}: expected an array of shape {str(shape)[:60]}, got {len(data)} numbers; save the result again")
    if len(shape) != 2:
        return data
    return [data[i * shape[1] : (i + 1) * shape[1]] for i in range(shape[0])]


def _marked(value: Any) -> Any:
    """Return evidence of format 1 with {"number": "nan"} for {"$float": "nan"}, inside dicts and lists too."""
    if isinstance(value, dict):
        return {"number": value["$float"]} if set(value) == {"$float"} else {k: _marked(v) for k, v in value.items()}
    return [_marked(v) for v in value] if isinstance(value, list) else value


def _regression(p: dict[str, Any], natural: dict[str, Any]) -> dict[str, Any]:
    linear, link = p.pop("linear"), p.pop("link")
    own, given = linear.pop("own"), linear.pop("link")
    parameter, name = p.pop("parameter"), p.pop("name")
    plain = {"name": name, "free": None, "entries": None, **parameter, "shape": parameter["shape"] or []}
    declared = natural.get(name, plain)
    return {"declared": declared, **linear, **p, "given_link": "custom" if own else given, "link": link}


def _designs(designs: dict[str, Any]) -> dict[str, Any]:
    if "why" in designs:
        return {"view": "array", "missing": designs["why"], "evaluated": []}
    evaluated = [
        {"formula": _evaluated(d["formula"]), "offset": d["offset"] and _evaluated(d["offset"])}
        for d in designs["designs"]
    ]
    return {"view": designs["view"], "missing": "", "evaluated": evaluated}


def _evaluated(piece: dict[str, Any]) -> dict[str, Any]:
    kinds = piece.pop("kinds", {})
    rows = {
        name: {
            "values": column.get("values", column.get("texts", column.get("codes"))),
            "levels": column.get("levels"),
            "ordered": column.get("ordered", False),
        }
        for name, column in piece.pop("rows", [])
    }
    learnt, design = piece.pop("learnt", None), piece.pop("values", [])
    left = {"text", "n_rows"}
    return {k: v for k, v in piece.items() if k not in left} | {
        "learnt": learnt,
        "kinds": {name: kind for name, (kind, _) in kinds.items()},
        "levels": {name: levels for name, (_, levels) in kinds.items() if levels is not None},
        "rows": rows,
        "design": design,
    }
