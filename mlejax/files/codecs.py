"""Which classes a file may hold, by name, and how each is made of its fields: the only table that loading looks up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from mlejax import transforms
from mlejax.covariance import CovarianceResult
from mlejax.data import Fingerprint, Weights
from mlejax.data.formulas import Design
from mlejax.files import formulas
from mlejax.files.container import FileError
from mlejax.files.values import Codec, of_dataclass
from mlejax.fit import Remembered
from mlejax.fit.penalties import Penalised
from mlejax.fit.start import Mode
from mlejax.fit.training import History
from mlejax.parameters import Group, Leaf, Linear, Link, Parameter, Predictor, Space
from mlejax.parameters.linear import LINKS
from mlejax.parameters.ties import Ties
from mlejax.verdict import Verdict

MAX_NUMBERS = 1 << 28


class Unsaved(NamedTuple):
    """What could not go into the file, and why; using it says so."""

    what: str
    why: str


def _number(value: Any, name: str) -> int:
    if type(value) is not int or not 0 <= value < MAX_NUMBERS:
        raise FileError(f"{name}: {str(value)[:40]} is no number of things")
    return value


# ---- the structure of params


def skeleton(tree: Any) -> Any:
    """A structure of leaf numbers as plain lists; TypeError for classes other than dict, list, tuple and None.

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


def from_skeleton(value: Any, depth: int = 0) -> Any:
    """The inverse of :func:`skeleton`."""
    if type(value) is int:
        return value
    if not isinstance(value, list) or not value or depth > 50:
        raise FileError("the structure of the parameters is damaged")
    kind, *inside = value
    if kind == "none" and not inside:
        return None
    if kind == "dict" and all(isinstance(p, list) and len(p) == 2 and isinstance(p[0], str) for p in inside):
        return {k: from_skeleton(v, depth + 1) for k, v in inside}
    if kind in ("list", "tuple"):
        made = [from_skeleton(v, depth + 1) for v in inside]
        return made if kind == "list" else tuple(made)
    raise FileError("the structure of the parameters is damaged")


def _group_fields(group: Group) -> dict[str, Any]:
    if group.treedef is None:
        return {"name": group.name, "tree": None, "n_leaves": group.n_leaves}
    numbers = jax.tree.unflatten(group.treedef, range(group.n_leaves))
    try:
        tree = skeleton(numbers)
    except TypeError:  # the user's own classes: their arrays in order
        tree = ["list", *range(group.n_leaves)]
    return {"name": group.name, "tree": tree, "n_leaves": group.n_leaves}


def _group(name: Any, tree: Any, n_leaves: Any) -> Group:
    n = _number(n_leaves, "n_leaves")
    if tree is None:
        return Group(name, None, n)
    leaves, treedef = jax.tree.flatten(from_skeleton(tree))
    if leaves != list(range(n)):
        raise FileError("the structure of the parameters is damaged")
    return Group(name, treedef, n)


def _leaf(**fields: Any) -> Leaf:
    leaf = Leaf(**fields)
    sizes = [_number(s, f"shape of {leaf.name!s:.40}") for s in leaf.shape]
    if not isinstance(leaf.name, str) or not isinstance(leaf.shape, tuple) or np.prod(sizes, dtype=float) > MAX_NUMBERS:
        raise FileError("a parameter without name or shape, or too large")
    if leaf.free is not None and (len(leaf.free) != leaf.size or not all(type(f) is bool for f in leaf.free)):
        raise FileError(f"{leaf.name}: its entries that are free do not fit its shape")
    if leaf.labels is not None and leaf.entries is None and (not leaf.shape or len(leaf.labels) != leaf.shape[-1]):
        raise FileError(f"{leaf.name}: its labels do not fit its shape")
    if not isinstance(leaf.transform, _TRANSFORMS):
        raise FileError(f"{leaf.name}: it has no transform")
    leaf.transform.n_free(leaf.working_shape)
    return leaf


def _space(groups: Any, leaves: Any, ties: Any) -> Space:
    space = Space(tuple(groups), tuple(leaves), ties)
    if not all(isinstance(g, Group) for g in groups) or not all(isinstance(leaf, Leaf) for leaf in leaves):
        raise FileError("the layout of the parameters is damaged")
    if sum(g.n_leaves for g in groups) != len(leaves):
        raise FileError("the layout of the parameters is damaged")
    return space


def _ties(kept: Any, offset: Any, matrix: Any) -> Ties:
    n, q = np.shape(matrix)
    if np.shape(offset) != (n,) or len(kept) != q or not all(type(k) is int and 0 <= k < n for k in kept):
        raise FileError("the constraints are damaged")
    flat = np.ascontiguousarray(matrix, np.float64)
    return Ties(tuple(kept), np.ascontiguousarray(offset, np.float64).tobytes(), flat.tobytes(), n)


# ---- data, links, formulas


def _weights_fields(w: Weights) -> dict[str, Any]:
    return {"kind": w.kind, "name": w.name, "scale": w.scale, "said": w.statement()}


def _weights(kind: str, name: str, scale: float, said: str) -> Weights:
    return Weights(str(kind), str(name), np.zeros(0), float(scale), str(said))


def _link_fields(link: Link) -> dict[str, Any]:
    return {"name": link.name, "lo": link.lo, "hi": link.hi, "baseline": link.baseline, "own": link.pair is not None}


def _link(own: bool, **fields: Any) -> Link:
    if fields.get("name") not in (*LINKS, "custom"):
        raise FileError(f"{str(fields.get('name'))[:40]!r} is no link")
    return Link(**fields, pair=(_own_link, _own_link) if own else None)


def _own_link(_: Any) -> Any:
    raise ValueError("the link is a pair of functions of the user's own, which a file does not hold")


def _parameter_fields(p: Parameter) -> dict[str, Any]:
    names = ("kind", "transform", "shape", "columns", "labels", "arguments")
    return {name: getattr(p, name) for name in names}


def _linear_fields(linear: Linear) -> dict[str, Any]:
    fields = {name: getattr(linear, name) for name in ("formula", "link", "offset", "exposure", "baseline")}
    own = isinstance(linear.link, tuple)
    return fields | {"link": None if own else linear.link, "own": own}


def _linear(own: bool, link: Any, **fields: Any) -> Linear:
    return Linear(link=(_own_link, _own_link) if own else link, **fields)


def _predictor(name: Any, parameter: Any, linear: Any, link: Any) -> Predictor:
    if not (isinstance(parameter, Parameter) and isinstance(linear, Linear) and isinstance(link, Link)):
        raise FileError(f"the predictor of {str(name)[:40]} is damaged")
    return Predictor(str(name), parameter, linear, link)


def _design_fields(design: Design) -> dict[str, Any]:
    offset = None if design.offset is None else formulas.piece_fields(design.offset)
    return {
        "predictor": design.predictor,
        "piece": formulas.piece_fields(design.piece),
        "offset": offset,
        "constant": np.asarray(design.constant),
        "mean_offset": np.asarray(design.mean_offset),
    }


def _design(trusted: bool, predictor: Any, piece: Any, offset: Any, constant: Any, mean_offset: Any) -> Design:
    if not isinstance(predictor, Predictor) or not isinstance(piece, dict):
        raise FileError("a formula is damaged")
    made = None if offset is None else formulas.piece_of(offset, trusted)
    return Design(predictor, formulas.piece_of(piece, trusted), made, constant, mean_offset)


_TRANSFORMS = (
    transforms.Identity,
    transforms.Log,
    transforms.Logit,
    transforms.Box,
    transforms.HalfOpen,
    transforms.Simplex,
    transforms.Ordered,
    transforms.Covariance,
    transforms.Correlation,
)
_PLAIN = (*_TRANSFORMS, Verdict, CovarianceResult, Fingerprint, Mode, History, Penalised, Remembered)


def codecs(trusted: bool = False) -> tuple[Codec, ...]:
    """All classes that a file may hold; ``trusted`` takes formulas whatever they call."""
    return (
        *(of_dataclass(cls) for cls in _PLAIN),
        Codec("Unsaved", Unsaved, lambda u: u._asdict(), Unsaved),
        Codec("Group", Group, _group_fields, _group),
        Codec("Leaf", Leaf, of_dataclass(Leaf).fields, _leaf),
        Codec("Space", Space, lambda s: {"groups": s.groups, "leaves": s.leaves, "ties": s.ties}, _space),
        Codec("Ties", Ties, lambda t: {"kept": t.kept, "offset": t.offset, "matrix": t.matrix}, _ties),
        Codec("Weights", Weights, _weights_fields, _weights),
        Codec("Link", Link, _link_fields, _link),
        Codec("Parameter", Parameter, _parameter_fields, of_dataclass(Parameter).make),
        Codec("Predictor", Predictor, of_dataclass(Predictor).fields, _predictor),
        Codec("Linear", Linear, _linear_fields, _linear),
        Codec("Design", Design, _design_fields, lambda **fields: _design(trusted, **fields)),
    )


def by_name(trusted: bool = False) -> Mapping[str, Codec]:
    """The table for reading."""
    return {codec.name: codec for codec in codecs(trusted)}
