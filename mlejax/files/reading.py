"""The content of a file as a result, without its data and functions; with ``model=`` also its predictions."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import jax
import numpy as np

from mlejax import data as data_room
from mlejax.companions import INHERITED
from mlejax.covariance import CovarianceResult
from mlejax.files.container import FileError, Json
from mlejax.files.designs import Unsaved, designs_of
from mlejax.files.fields import to_json
from mlejax.files.schema import CONTENT, REASONS, SUPPORTS
from mlejax.files.writing import Parts
from mlejax.fit import COVARIANCE_LIMIT, Fit, Loaded, Problem, Remembered
from mlejax.fit.multistart import Mode
from mlejax.fit.penalties import Penalised
from mlejax.fit.training import History
from mlejax.likelihood import Likelihood
from mlejax.objective import Spec
from mlejax.parameters import Group, Leaf, Linear, Link, Parameter, Predictor, Space
from mlejax.parameters.ties import Ties
from mlejax.portable import Absent
from mlejax.reduction import Reduction
from mlejax.verdict import Verdict

WHY = "the file that it was loaded from holds neither the function nor the data"
PASS_FUNCTIONS = "a file holds no functions. Pass your own model: mle.load(path, model=...)"
PASS_MODEL = (
    "the file shows the formulas and does not evaluate them. Pass your own model with these formulas: "
    "mle.load(path, model=reg)"
)


def parts_of(content: Json, model: Likelihood | None = None) -> Parts:
    """The inverse of :func:`mlejax.files.writing.content_of`.

    Args:
        content: JSON of the present format.
        model: the user's own declaration, for predictions.

    Raises:
        FileError: content that is not that of a result.
        ValueError: another model than that of the file.
    """
    c = CONTENT(content, "content")
    space = _space(c)
    declared = {r["parameter"]: _leaf({"name": r["parameter"], **r["declared"]}) for r in c["regressions"]}
    predictors = tuple(_predictor(r, declared[r["parameter"]]) for r in c["regressions"])
    if model is not None:
        _refuse_other_model(c, predictors, space, model)
        predictors = model.predictors
    name = c["model"]["name"]
    shell = Likelihood(
        Absent(name, WHY),
        None,
        c["model"]["rowwise"],
        c["model"]["unit"],
        predictors=predictors,
        companions={what: Absent(name, PASS_FUNCTIONS, what) for what in INHERITED},
    )
    fit = _fit(c, shell, space, _designs(c["designs"], predictors, space, declared, model is not None))
    cov = _covariance(c["covariance"], space.n_free)
    return Parts(name, cov.kind, fit, cov)


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise FileError(f"{what} do not fit together")


# ---- parameters


def from_skeleton(value: Any) -> Any:
    """The inverse of :func:`mlejax.files.writing.skeleton`, of tuples."""
    if type(value) is int:
        return value
    kind, *inside = value
    if kind == "none" and not inside:
        return None
    if kind == "dict" and all(isinstance(k, str) for k, _ in inside):
        return {k: from_skeleton(v) for k, v in inside}
    if kind in ("list", "tuple"):
        made = [from_skeleton(v) for v in inside]
        return made if kind == "list" else tuple(made)
    raise FileError("the structure of the parameters is damaged")


def _space(c: Mapping[str, Any]) -> Space:
    leaves = tuple(_leaf(p) for p in c["parameters"])
    groups = []
    for g in c["structure"]:
        numbers, treedef = [0], None
        if g["tree"] is not None:
            numbers, treedef = jax.tree.flatten(from_skeleton(g["tree"]))
        _require(numbers == list(range(g["n_arrays"])), "the structure and the number of arrays")
        groups.append(Group(g["name"], treedef, g["n_arrays"]))
    _require(sum(g.n_leaves for g in groups) == len(leaves), "the structure and the parameters")
    ties = c["fit"]["ties"]
    if ties is None:
        return Space(tuple(groups), leaves)
    kept, offset, matrix = ties["kept"], ties["offset"], ties["matrix"]
    n = sum(leaf.n_free for leaf in leaves)
    _require(offset.shape == (n,) and matrix.shape == (n, len(kept)) and all(k < n for k in kept), "the constraints")
    return Space(tuple(groups), leaves, Ties(kept, offset.tobytes(), matrix.tobytes(), n))


def _leaf(p: Mapping[str, Any]) -> Leaf:
    """One array of the parameters, its shape, labels and number of values checked."""
    support, shape, labels, name = p["support"], p["shape"], p["labels"], p["name"]
    given = {"lo": support["lower"], "hi": support["upper"], "closed": support["closed"]}
    transform = SUPPORTS[support["name"]](**{k: v for k, v in given.items() if v is not None})
    leaf = Leaf(name, p["kind"], transform, shape, labels, p.get("free"), p.get("entries"))
    size = list(accumulate(shape, lambda a, b: a * b, initial=1))
    _require("estimate" not in p or p["estimate"].size == size[-1], f"{name}: shape and estimate")
    _require(leaf.free is None or len(leaf.free) == size[-1], f"{name}: shape and free entries")
    _require(labels is None or (bool(shape) and len(labels) == shape[-1]), f"{name}: shape and labels")
    if leaf.entries is not None:
        _require(labels is not None and len(leaf.entries) * shape[-1] == size[-1], f"{name}: shape and entries")
    transform.n_free(leaf.working_shape)
    return leaf


# ---- regressed parameters


def _predictor(r: Mapping[str, Any], declared: Leaf) -> Predictor:
    own = (Absent(declared.name, WHY), Absent(declared.name, WHY))
    given = own if r["given_link"] == "custom" else r["given_link"]
    link = Link(r["link"]["name"], r["link"]["lower"], r["link"]["upper"], r["link"]["baseline"])
    parameter = Parameter(declared.kind, declared.transform, declared.shape, labels=declared.labels)
    return Predictor(
        declared.name, parameter, Linear(r["formula"], given, r["offset"], r["exposure"], r["baseline"]), link
    )


def _designs(
    content: Any, predictors: tuple[Predictor, ...], space: Space, declared: Mapping[str, Leaf], own_model: bool
) -> Any:
    _require((content is None) == (not predictors), "the formulas and their designs")
    if content is None:
        return None
    if content["missing"]:
        return Unsaved(f"the formulas could not be saved: {content['missing']}", to_json(content))
    _require(len(content["evaluated"]) == len(predictors), "the formulas and their designs")
    if not own_model:
        return Unsaved(PASS_MODEL, to_json(content))
    return designs_of(content, predictors, space, declared)


def _refuse_other_model(
    c: Mapping[str, Any], predictors: tuple[Predictor, ...], space: Space, model: Likelihood
) -> None:
    """ValueError unless the user's model has the formulas, parameters, supports and rows of the file."""
    told = [_told(predictors), _told(model.predictors)]
    if told[0] != told[1]:
        raise ValueError(
            f"mle.load(model=...): expected a model with the formulas of the file.\n  file:  {told[0]}\n  model: {told[1]}"
        )
    known = {} if model.parameters is None else dict(model.parameters)
    leaves, regressed = {leaf.name: leaf for leaf in space.leaves}, {p.name: p.parameter for p in predictors}
    here = {name: getattr(p, "transform", None) for name, p in known.items()}
    there = {g.name: getattr(regressed.get(str(g.name)) or leaves.get(str(g.name)), "transform", None) for g in space.groups}
    if model.parameters is not None and here != there:
        raise ValueError(
            f"mle.load(model=...): expected a model with the parameters of the file.\n  file:  {_listed(there)}\n"
            f"  model: {_listed(here)}"
        )
    if (model.rowwise, model.unit) != (c["model"]["rowwise"], c["model"]["unit"]):
        raise ValueError(
            f"mle.load(model=...): the file has rowwise={c['model']['rowwise']}, unit={c['model']['unit']!r}; the model has "
            f"rowwise={model.rowwise}, unit={model.unit!r}"
        )


def _told(predictors: tuple[Predictor, ...]) -> str:
    """The formulas with all their options, for comparison and for messages."""
    shown = []
    for p in predictors:
        baseline = "" if p.linear.baseline is None else f" [baseline {p.linear.baseline}]"
        shown.append(f"{p}{baseline}")
    return "; ".join(shown) or "no formulas"


def _listed(supports: Mapping[Any, Any]) -> str:
    return ", ".join(f"{name}: {transform}" for name, transform in supports.items())


# ---- the fit


def _fit(c: Mapping[str, Any], likelihood: Likelihood, space: Space, designs: Any) -> Fit:
    f, p = c["fit"], space.n_free
    for name in ("u", "theta", "score", "interior"):
        _require(len(f[name]) == p, f"the {p} free parameters and {name}")
    reduction, penalty, history = f["bias_reduction"], f["penalty"], f["training"]
    for matrix in (f["information"], penalty and penalty["information"]):
        _require(matrix is None or matrix.shape == (p, p), f"the {p} free parameters and the information")
    _require(all(s["u"].size == p for s in f["starts"]), f"the {p} free parameters and the starts")
    reduced = None
    if reduction is not None:
        expected = Absent("expected_information", WHY) if reduction["information"] == "expected" else None
        reduced = Reduction(reduction["kind"], expected)
    values = [q["estimate"].reshape(q["shape"]) for q in c["parameters"]]
    partly = any(leaf.free is not None for leaf in space.leaves)
    verdict = c["verdict"]
    return Fit(
        spec=Spec(likelihood, space, None, f["hessian"], reduced),
        loaded=_loaded(c["data"], space, designs, c["made_with"]),
        fixed=np.concatenate([_fixed(leaf, v) for leaf, v in zip(space.leaves, values, strict=True)]) if partly else None,
        **{name: f[name] for name in ("u", "theta", "llf", "score", "information", "method", "n_steps", "decrement", "note")},
        params=space.build(values),
        jacobian=None if f["information"] is None else np.zeros((0, 0)),
        interior=np.array(f["interior"], bool),
        verdict=Verdict(verdict["code"], verdict["statement"], verdict["evidence"], verdict["advice"]),
        modes=tuple(Mode(**s) for s in f["starts"]),
        constraints=f["constraints"],
        reduced=0.0 if reduction is None else reduction["adds"],
        penalised=None if penalty is None else Penalised(**penalty),
        history=None
        if history is None
        else History(tuple(history["train"].tolist()), tuple(history["validation"].tolist()), history["best"]),
        backend=f["device"],
    )


def _fixed(leaf: Leaf, value: np.ndarray) -> np.ndarray:
    """The fixed entries of one array, 0 for free ones."""
    free = np.ones(leaf.size, bool) if leaf.free is None else np.array(leaf.free, bool)
    return np.where(free, 0.0, value.reshape(-1))


def _covariance(cov: Mapping[str, Any], p: int) -> CovarianceResult:
    shape = (p, p) if p <= COVARIANCE_LIMIT else (0, 0)
    matrix = np.full(shape, np.nan) if cov["matrix"] is None else cov["matrix"]
    _require(matrix.shape == shape, f"the {p} free parameters and the covariance")
    state = np.zeros(p, np.int64)
    for reason in cov["missing"]:
        _require(all(i < p for i in reason["at"]), f"the {p} free parameters and the reasons for missing errors")
        state[list(reason["at"])] = int(REASONS[reason["reason"]])
    rest = {name: value for name, value in cov.items() if name not in ("matrix", "missing")}
    return CovarianceResult(matrix=matrix, state=state, **rest)


def _loaded(data: Mapping[str, Any], space: Space, designs: Any, versions: Mapping[str, str]) -> Loaded:
    layout, weights, found = data_room.Layout("mapping", ()), data["weights"], data["fingerprint"]
    n = np.asarray(int(data["n_units"]), np.int64)
    prepared = data_room.Prepared((), (), np.zeros(0), n, layout, data["mode"], 1)
    rows = data_room.Rows(
        (), (), layout, data["rows"], n_dropped=data["n_dropped"], float32=data["float32_columns"]
    )
    columns = {col["name"]: (col["sum"], col["sum_of_squares"]) for col in found["columns"]}
    moments = None if found["weights"] is None else tuple(found["weights"].values())
    source: Any = _Nothing()
    return Loaded(
        Problem(prepared, space),
        rows,
        source,
        None,
        data_room.Fingerprint(found["rows"], columns, moments),
        None
        if weights is None
        else data_room.Weights(weights["kind"], weights["name"], np.zeros(0), weights["scale"], weights["statement"]),
        designs,
        remembered=Remembered(data["nobs"], data["n_units"], versions),
    )


class _Nothing:
    """Stands where the data were."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ValueError(f"this needs the data of the fit, but {WHY}")
