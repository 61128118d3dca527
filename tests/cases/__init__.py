"""Reference cases: real data, a log-likelihood in plain JAX, and answers from outside the project.

    from tests.cases import Case, all_cases, supports

    case = Case("affairs_tobit")
    model = mle.model(params=supports(case), rowwise=case.rowwise)(case.loglik)
    result = model.fit(case.data, start=case.init)
    error = (result.params - case.vector(case.estimates)) / case.vector(case.se("oim"))

Reading a case flips no flag and puts nothing on a device: data and numbers are NumPy float64. README.md tells where
they come from and what the fields of a reference mean.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

ROOT = Path(__file__).parent
Params = dict[str, np.ndarray]

_WORDS = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan, None: math.nan}


def _array(value: Any) -> np.ndarray:
    """A number, a word for one, or nested lists of them as float64; null is NaN."""
    if isinstance(value, list):
        return np.array([_array(entry) for entry in value], dtype=np.float64)
    return np.asarray(_WORDS.get(value, value) if isinstance(value, str) or value is None else value, dtype=np.float64)


def as_params(plain: dict[str, Any]) -> Params:
    """Plain JSON or Python parameters as float64 arrays, in their own order."""
    return {name: _array(value) for name, value in plain.items()}


@functools.cache
def _model(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tests.cases.{name}.model", ROOT / name / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def _reference(name: str) -> dict[str, Any]:
    return json.loads((ROOT / name / "reference.json").read_text())


@functools.cache
def _columns(name: str) -> dict[str, np.ndarray]:
    path = ROOT / name / "data.csv"
    with path.open() as lines:
        names = lines.readline().strip().split(",")
    table = np.genfromtxt(path, delimiter=",", skip_header=1, dtype=np.float64, ndmin=2).reshape(-1, len(names))
    columns = {column: np.ascontiguousarray(table[:, j]) for j, column in enumerate(names)}
    for values in columns.values():
        values.flags.writeable = False  # the cache is shared by all tests
    return columns


@dataclass(frozen=True)
class Case:
    """One reference case, read on first use. `name` is its folder."""

    name: str

    def __post_init__(self) -> None:
        if not (ROOT / self.name / "reference.json").exists():
            raise ValueError(f"no reference case {self.name!r}; there are {', '.join(_names())}")

    @property
    def data(self) -> dict[str, np.ndarray]:
        """The columns, each (n_rows,) float64, read-only."""
        return dict(_columns(self.name))

    @property
    def reference(self) -> dict[str, Any]:
        """The whole of reference.json."""
        return _reference(self.name)

    @property
    def kind(self) -> str:
        """`mle`, or what is wrong: `no_mle`, `not_identified`, `boundary`, `bad_data`."""
        return self.reference["kind"]

    @property
    def tags(self) -> tuple[str, ...]:
        """What the case stresses."""
        return tuple(self.reference["tags"])

    @property
    def rowwise(self) -> bool:
        """Whether entry i of the log-likelihood is row i's and uses row i only (a recursion's is not)."""
        return self.reference["unit"] == "row" and "time-series" not in self.tags

    @property
    def loglik(self) -> Callable[[Any, Any], Any]:
        """`loglik(params, data) -> (n_units,)`, pure JAX; works in whatever precision it is traced in."""
        return _model(self.name).loglik

    @property
    def joint_loglik(self) -> Callable[[Any, Any, Any], Any] | None:
        """`joint_loglik(params, latent, data) -> ()` of the cases with latent variables, else None."""
        return getattr(_model(self.name), "joint_loglik", None)

    @property
    def latent(self) -> dict[str, tuple[int, ...]] | None:
        """Names and shapes of the latent variables, or None."""
        return getattr(_model(self.name), "LATENT", None)

    @property
    def init(self) -> Params:
        """The start that a user would pick."""
        return as_params(_model(self.name).INIT)

    @property
    def hard_inits(self) -> dict[str, Params]:
        """Starts that have broken optimisers, by name."""
        return {label: as_params(start) for label, start in _model(self.name).HARD_INITS.items()}

    @property
    def constraints(self) -> dict[str, str | tuple[float, float]]:
        """Supports of the parameters that are not real: a word, or an open interval."""
        return dict(_model(self.name).CONSTRAINTS)

    @property
    def cluster(self) -> str | None:
        """The column of cluster labels behind `se("cluster")`, or None."""
        return getattr(_model(self.name), "CLUSTER", None)

    @property
    def estimates(self) -> Params:
        """The maximum-likelihood estimate (cases of kind `mle`, and the boundary's)."""
        return as_params(self.reference["reference"]["estimates"])

    @property
    def llf(self) -> float:
        """The log-likelihood at the estimate, with all constants."""
        return float(self.reference["reference"]["loglik"])

    def se(self, kind: str = "oim") -> Params:
        """Standard errors of a kind (`oim`, `opg`, `sandwich`, `cluster`, `expected`); NaN where none exists."""
        return as_params(self.reference["reference"]["se"][kind])

    @property
    def vcov(self) -> np.ndarray:
        """Inverse of minus the Hessian in natural parameters, (k, k), in the order of `vector`."""
        return _array(self.reference["reference"]["vcov_oim"])

    def vector(self, params: Params) -> np.ndarray:
        """Parameters as one flat vector, in the reference's order, (k,)."""
        order = list(dict.fromkeys(address.split("[")[0] for address in self.reference["param_order"]))
        return np.concatenate([np.ravel(params[name]) for name in order])


@functools.cache
def _names() -> tuple[str, ...]:
    return tuple(sorted(path.parent.name for path in ROOT.glob("*/reference.json")))


def all_cases(kind: str | None = None, *, tag: str | None = None, without: str | None = None) -> list[Case]:
    """Cases in alphabetical order, of one kind, with one tag, without another, as asked."""
    cases = [Case(name) for name in _names()]
    cases = [case for case in cases if kind is None or case.kind == kind]
    cases = [case for case in cases if tag is None or tag in case.tags]
    return [case for case in cases if without is None or without not in case.tags]


def supports(case: Case) -> dict[str, Any]:
    """The mlejax declaration of every parameter of a case, by name, without starts."""
    import mlejax as mle

    simple = {"positive": mle.Positive, "nonnegative": mle.NonNegative}
    declared: dict[str, Any] = {}
    for name, start in case.init.items():
        support = case.constraints.get(name)
        keywords = {"shape": start.shape} if start.shape else {}
        if support is None:
            declared[name] = mle.Real(**keywords)
        elif support == "ordered":
            declared[name] = mle.Ordered(**keywords)
        elif support == "unit_interval":
            declared[name] = mle.Interval(0.0, 1.0, **keywords)
        elif isinstance(support, tuple):
            declared[name] = mle.Interval(*support, **keywords)
        else:
            declared[name] = simple[support](**keywords)
    return declared
