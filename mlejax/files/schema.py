"""The content of a saved result, field by field: what is written and what is read.  ``docs/file-format.md`` explains it.

The names are public and stable, and none is the name of a class.  Any change of this schema needs a new format version.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

from mlejax import transforms
from mlejax.covariance import KINDS, CovarianceResult
from mlejax.data import Fingerprint, Weights
from mlejax.files.container import Json
from mlejax.files.fields import (
    Field,
    count,
    flag,
    label,
    list_of,
    mapping_of,
    matrix,
    number,
    one_of,
    optional,
    plain,
    record,
    require,
    text,
    to_json,
    vector,
)
from mlejax.files.saved_effects import EFFECTS
from mlejax.fit import Centred, Integration
from mlejax.fit.maximise.training import History
from mlejax.fit.prepare.penalties import Penalised
from mlejax.fit.start import Mode
from mlejax.parameters import Group, Leaf
from mlejax.parameters.constraints.ties import Ties
from mlejax.parameters.links import LINKS
from mlejax.shapes import PyTree
from mlejax.verdict import CODES, Verdict

# ---- parameters

SUPPORTS = {
    "real": transforms.Identity,
    "positive": transforms.Log,
    "interval": transforms.Logit,
    "closed_interval": transforms.Box,
    "half_open_interval": transforms.HalfOpen,
    "simplex": transforms.Simplex,
    "closed_simplex": transforms.ClosedSimplex,
    "ordered": transforms.Ordered,
    "covariance": transforms.Covariance,
    "cholesky": transforms.Cholesky,
    "correlation": transforms.Correlation,
}


def _support_made(name: str, **ends: Any) -> Any:
    return SUPPORTS[name](**{end: value for end, value in ends.items() if value is not None})


def _support_written(transform: Any, where: str) -> Json:
    name = next(name for name, cls in SUPPORTS.items() if type(transform) is cls)
    ends = {
        public: getattr(transform, end, None)
        for public, end in (("lower", "lo"), ("upper", "hi"), ("closed", "closed"))
    }
    ends |= {own: getattr(transform, own) for own in ("rest", "edges") if hasattr(transform, own)}
    return {"name": name, **{public: to_json(value) for public, value in ends.items()}}


_SUPPORT = record(
    _support_made,
    name=one_of(*SUPPORTS),
    lower=("lo", optional(number)),
    upper=("hi", optional(number)),
    closed=optional(one_of("left", "right")),
    rest=optional(list_of(count))._replace(absent=(None,)),
    edges=optional(list_of(count))._replace(absent=(None,)),
)
SUPPORT = Field(_SUPPORT.read, _support_written)


def _leaf(**fields: Any) -> Leaf:
    leaf = Leaf(**fields)
    size, last = math.prod(leaf.shape), leaf.shape[-1] if leaf.shape else None
    require(leaf.free is None or len(leaf.free) == size, f"{leaf.name}: shape and free entries")
    require(leaf.labels is None or len(leaf.labels) == last, f"{leaf.name}: shape and labels")
    if leaf.entries is not None:
        require(leaf.labels is not None and len(leaf.entries) * (last or 0) == size, f"{leaf.name}: shape and entries")
    return leaf


PARAMETER = record(
    _leaf,
    name=text,
    kind=text,
    support=("transform", SUPPORT),
    shape=list_of(count),
    labels=optional(list_of(text)),
    free=optional(Field(list_of(flag).read)),
    entries=optional(list_of(text)),
)


def skeleton(tree: PyTree) -> Json:
    """Return a pytree whose leaves are numbers of arrays as nested lists.

    Raises:
        TypeError: an inner node is no dict with string keys, list, tuple or None.

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


def from_skeleton(value: Any) -> Any:
    """Return the pytree from which :func:`skeleton` made the lists, which are given as tuples.

    Raises:
        FileError: an unknown kind of node.
    """
    if type(value) is int:
        return value
    kind, *inside = value
    if kind == "dict" and all(isinstance(k, str) for k, _ in inside):
        return {k: from_skeleton(v) for k, v in inside}
    if kind in ("list", "tuple"):
        return {"list": list, "tuple": tuple}[kind](map(from_skeleton, inside))
    require(value == ("none",), "the structure of the parameters and its parts")
    return None


def _structure_written(group: Group, where: str) -> Json:
    tree: Json = None
    if group.treedef is not None:
        try:
            tree = skeleton(jax.tree.unflatten(group.treedef, range(group.n_leaves)))
        except TypeError:  # the user's own classes: their arrays in order
            tree = ["list", *range(group.n_leaves)]
    return {"name": group.name, "tree": tree, "n_arrays": group.n_leaves}


def _group(name: str | None, tree: PyTree, n_arrays: int) -> Group:
    numbers, treedef = ([0], None) if tree is None else jax.tree.flatten(from_skeleton(tree))
    there = len(numbers) == n_arrays and numbers == list(range(n_arrays))
    require(there, "the structure of the parameters and the number of its arrays")
    return Group(name, treedef, n_arrays)


STRUCTURE = Field(record(_group, name=optional(text), tree=plain, n_arrays=count).read, _structure_written)


def _ties(kept: tuple[int, ...], offset: np.ndarray, matrix: np.ndarray) -> Ties:
    n = offset.size
    require(matrix.shape == (n, len(kept)) and all(k < n for k in kept), "the parts of the linear constraints")
    return Ties(kept, offset.tobytes(), matrix.tobytes(), n)


TIES = record(_ties, kept=list_of(count), offset=vector, matrix=matrix)

# ---- parameters with a formula

COLUMN = record(SimpleNamespace, values=list_of(label), levels=optional(list_of(label)), ordered=flag)
EVALUATED = record(
    SimpleNamespace,
    columns=list_of(text),
    labels=optional(list_of(text)),
    learnt=optional(mapping_of(plain)),
    kinds=mapping_of(one_of("unknown", "constant", "numerical", "categorical")),
    levels=mapping_of(list_of(label)),
    rows=mapping_of(COLUMN),
    design=matrix,
)
DESIGNS = record(
    SimpleNamespace,
    view=one_of("array", "row"),
    missing=text,
    evaluated=list_of(record(SimpleNamespace, formula=EVALUATED, offset=optional(EVALUATED))),
)
REGRESSION = record(
    SimpleNamespace,
    declared=PARAMETER,
    formula=text,
    offset=optional(text),
    exposure=optional(text),
    baseline=optional(label),
    random=optional(text)._replace(absent=(None,)),
    given_link=optional(one_of(*LINKS, "custom")),
    link=record(dict, name=one_of(*LINKS, "custom"), lower=("lo", number), upper=("hi", number), baseline=count),
)

# ---- the fit


def _evidence(value: Any, where: str) -> Json:
    """Return the evidence of a verdict as JSON: a number that is not finite becomes {"number": "nan"}, and an object that JSON
    does not have its string.
    """
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(k): _evidence(v, where) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_evidence(v, where) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"number": repr(value)}
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


VERDICT = record(
    Verdict,
    code=one_of(*CODES),
    statement=text,
    evidence=Field(mapping_of(plain).read, _evidence),
    advice=text,
)
FIT: Field[dict[str, Any]] = record(
    dict,
    method=text,
    n_steps=count,
    note=text,
    device=("backend", text),
    llf=number,
    decrement=number,
    u=vector,
    theta=vector,
    score=vector,
    information=optional(matrix),
    interior=Field(list_of(flag).read),
    fixed=optional(vector),
    constraints=list_of(text),
    bias_reduction_adds=("reduced", number),
    verdict=VERDICT,
    starts=(
        "modes",
        list_of(
            record(
                Mode,
                kind=text,
                llf=number,
                u=vector,
                n_starts=count,
                copy_of=optional(count),
                statement=text,
            )
        ),
    ),
    penalty=(
        "penalised",
        optional(record(Penalised, name=text, value=number, kinks=list_of(text), information=optional(matrix))),
    ),
    training=(
        "history",
        optional(record(History, train=list_of(number), validation=list_of(number), best=count)),
    ),
    path=list_of(list_of(number))._replace(absent=((),)),
    centred=optional(record(Centred, matrix=matrix, information=matrix, penalised=optional(matrix))),
    integration=optional(
        record(
            Integration,
            latents=list_of(text),
            points=count,
            tried=count,
            shift=number,
            errors=number,
            loglik=number,
            worst=text,
            off=number,
            accepted=flag,
            kind=one_of("quadrature", "simulation")._replace(absent=("quadrature",)),
            repeats=count._replace(absent=(0,)),
            monte_carlo=list_of(number)._replace(absent=((),)),
        )
    ),
)
COVARIANCE = record(
    CovarianceResult,
    kind=one_of(*KINDS),
    statement=text,
    notes=list_of(text),
    matrix=matrix,
    state=Field(list_of(count).read),
    smallest_eigenvalue=number,
    condition=number,
    nullity=count,
    edf=number,
    factor=optional(matrix),
    df=number._replace(absent=(float("inf"),)),
)

# ---- the data

_WEIGHTS = one_of("frequency", "sampling", "importance")


def _fingerprint(rows: int, columns: Any, weights: Any) -> Fingerprint:
    pairs = {name: (float(pair[0]), float(pair[1])) for name, pair in columns.items()}
    return Fingerprint(
        rows, pairs, None if weights is None else (str(weights[0]), float(weights[1]), float(weights[2]))
    )


def _fingerprint_to_json(value: Fingerprint, where: str) -> Json:
    columns = {name: list(pair) for name, pair in value.columns.items()}
    weights = None if value.weights is None else list(value.weights)
    return to_json({"rows": value.rows, "columns": columns, "weights": weights}, where)


FINGERPRINT = Field(
    record(_fingerprint, rows=count, columns=mapping_of(vector), weights=optional(list_of(label))).read,
    _fingerprint_to_json,
)


def _weights(kind: str, name: str, scale: float, said: str) -> Weights:
    return Weights(kind, name, np.zeros(0), scale, said)


DATA = record(
    SimpleNamespace,
    mode=one_of("rows", "units", "whole"),
    rows=count,
    n_dropped=count,
    float32_columns=list_of(text),
    nobs=number,
    n_units=number,
    weights=optional(record(_weights, kind=_WEIGHTS, name=text, scale=number, statement=("said", text))),
    fingerprint=FINGERPRINT,
)

# ---- all of it

CONTENT = record(
    SimpleNamespace,
    made_with=mapping_of(text),
    model=record(SimpleNamespace, name=text, rowwise=flag, unit=optional(text)),
    parameters=list_of(PARAMETER),
    structure=list_of(STRUCTURE),
    ties=optional(TIES),
    estimates=list_of(vector),
    hessian=one_of("autodiff", "differenced"),
    bias_reduction=optional(
        record(SimpleNamespace, kind=one_of("jeffreys", "empirical"), information=one_of("observed", "expected"))
    ),
    regressions=list_of(REGRESSION),
    designs=optional(DESIGNS),
    fit=FIT,
    covariance=COVARIANCE,
    data=DATA,
    effects=optional(EFFECTS)._replace(absent=(None,)),
)
