"""A result as a file's content, and back: everything that tables, intervals, tests and predictions need; no data, no code.

What is left out: the user's function, the data (but for their fingerprint and, of formulas, what the transforms have
learnt and six rows to try them on), penalties as functions. What evaluates the likelihood again says so.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import fields as fields_of
from dataclasses import replace
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np

from mlejax import data as data_room
from mlejax.covariance import COVARIANCE_LIMIT, CovarianceResult
from mlejax.data.formulas import Design, Designs
from mlejax.execution import device_kind
from mlejax.files.codecs import Unsaved, by_name, codecs
from mlejax.files.container import FileError, read, write
from mlejax.files.values import decode, encode
from mlejax.fit import Fit, Loaded, Problem, Remembered, counts
from mlejax.fit.penalties import Penalised
from mlejax.fit.start import Mode
from mlejax.fit.training import History
from mlejax.likelihood import Likelihood
from mlejax.objective import BiasReduction as Reduction
from mlejax.objective import Spec
from mlejax.parameters import Predictor, Space
from mlejax.portable import Absent
from mlejax.status import CovarianceState
from mlejax.verdict import CODES, Verdict

_DIRECT = (
    "theta",
    "u",
    "llf",
    "score",
    "information",
    "jacobian",
    "interior",
    "method",
    "n_steps",
    "decrement",
    "note",
)
_OBJECTS = ("fixed", "verdict", "modes", "constraints", "reduced", "penalised", "history")
WHY = "the file that it was loaded from holds neither the function nor the data"


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


def save(path: Any, parts: Parts) -> None:
    """Write a result to a file."""
    write(path, content_of(parts))


def load(path: Any, trust_formulas: bool = False) -> Parts:
    """Read a result from a file.

    Raises:
        FileError: see :func:`mlejax.files.container.read`; fields that are missing or of the wrong kind; formulas that
            call what is not known to be harmless.
    """
    try:
        return parts_of(read(path), trust_formulas)
    except FileError as error:
        prefix = f"{path}: "
        raise error if str(error).startswith(prefix) else FileError(f"{prefix}{error}") from None


# ---- writing


def content_of(parts: Parts) -> dict[str, Any]:
    """A result as JSON-able content.

    Raises:
        TypeError: something that cannot be in a file, with its place.
    """
    fit, table = parts.fit, codecs()
    loaded, likelihood = fit.loaded, fit.spec.likelihood
    nobs, n_units = counts(loaded)
    data = loaded.problem.data
    content: dict[str, Any] = {
        "versions": versions(),
        "model": {
            "name": parts.name,
            "rowwise": likelihood.rowwise,
            "unit": likelihood.unit,
            "predictors": likelihood.predictors,
        },
        "cov_type": parts.cov_type,
        "space": fit.spec.space,
        "params": fit.spec.space.split(fit.params),
        "hessian": fit.spec.hessian,
        "reduction": None
        if fit.spec.reduction is None
        else [fit.spec.reduction.kind, fit.spec.reduction.expected is None],
        "fit": {name: getattr(fit, name) for name in _DIRECT},
        "backend": fit.backend or device_kind(),
        "data": {
            "mode": data.mode,
            "rows": loaded.rows.n,
            "n_dropped": loaded.rows.n_dropped,
            "float32": loaded.rows.float32,
            "counts": Remembered(float(nobs), float(n_units), {}),
            "fingerprint": loaded.fingerprint,
            "weights": loaded.weights,
        },
        "cov": replace(parts.cov, state=np.asarray(parts.cov.state, np.int64)),
    }
    content["fit"] |= {name: getattr(fit, name) for name in _OBJECTS}
    content["fit"]["verdict"] = replace(fit.verdict, evidence=_plain(fit.verdict.evidence))
    made = {key: encode(value, table, key) for key, value in content.items()}
    try:
        made["designs"] = encode(_designs_fields(loaded.designs), table, "designs")
    except TypeError as error:
        made["designs"] = encode(Unsaved("the formulas of regressed parameters", str(error)), table)
    return made


def _designs_fields(designs: Any) -> Any:
    if designs is None or isinstance(designs, Unsaved):
        return designs
    return {"designs": designs.designs, "view": designs.view, "natural": designs.natural}


def _plain(value: Any) -> Any:
    """Evidence as plain values; what is none becomes its text."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(_plain(v) for v in value)
    if value is None or isinstance(value, (bool, int, float, str, np.bool_, np.integer, np.floating, np.ndarray)):
        return value
    return str(value)


def versions() -> dict[str, str]:
    """Of what made the result, for the reader."""
    found = {"python": platform.python_version()}
    for name in ("mlejax", "jax", "numpy", "formulaic"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


# ---- reading


def parts_of(content: Mapping[str, Any], trust_formulas: bool = False) -> Parts:
    """The inverse of :func:`content_of`.

    Raises:
        FileError: content that is not that of a result.
    """
    table = by_name(trust_formulas)
    try:
        found = {str(key): decode(value, table, str(key)) for key, value in content.items()}
        return _parts(found)
    except FileError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, ArithmeticError) as error:
        raise FileError(f"the content is not that of a result ({type(error).__name__}: {error})") from None


def _parts(c: dict[str, Any]) -> Parts:
    model, space, data = c["model"], _is(c["space"], Space), c["data"]
    predictors = tuple(_is(p, Predictor) for p in model["predictors"])
    name = _is(model["name"], str)
    shell = Likelihood(Absent(name, WHY), None, _is(model["rowwise"], bool), model["unit"], predictors=predictors)
    reduction = None if c["reduction"] is None else _reduction(*c["reduction"])
    spec = Spec(shell, space, None, _is(c["hessian"], str), reduction)
    fit = c["fit"]
    unknown = sorted(set(fit) - {f.name for f in fields_of(Fit)})
    if unknown:
        raise FileError(f"the fit has fields that are not known here: {', '.join(unknown)}")
    values = [np.asarray(v, np.float64) for v in c["params"]]
    made = Fit(
        **{key: value for key, value in fit.items() if key not in ("n_steps", "llf", "decrement")},
        spec=spec,
        loaded=_loaded(data, space, _designs(c["designs"]), c["versions"]),
        params=space.build(values),
        llf=float(fit["llf"]),
        decrement=float(fit["decrement"]),
        n_steps=int(fit["n_steps"]),
        backend=_is(c["backend"], str),
    )
    _check(made, values)
    cov = _is(c["cov"], CovarianceResult)
    p = space.n_free
    if np.shape(cov.matrix) != ((p, p) if p <= COVARIANCE_LIMIT else (0, 0)) or np.shape(cov.state) != (p,):
        raise FileError(f"a covariance of shape {np.shape(cov.matrix)} for {p} free parameters")
    if not set(np.asarray(cov.state).tolist()) <= {int(s) for s in CovarianceState}:
        raise FileError("the states of the covariance are damaged")
    _texts("the covariance", cov.kind, cov.statement, *_is(cov.notes, tuple))
    _numbers("the covariance", cov.smallest_eigenvalue, cov.condition, cov.nullity, cov.edf)
    return Parts(name, _is(c["cov_type"], str), made, cov)


def _is(value: Any, cls: type) -> Any:
    if not isinstance(value, cls):
        raise FileError(f"expected a {cls.__name__}, got a {type(value).__name__}")
    return value


def _reduction(kind: str, observed: bool) -> Reduction:
    return Reduction(_is(kind, str), None if observed else Absent("expected_information", WHY))


def _texts(where: str, *values: Any) -> None:
    for value in values:
        if not isinstance(value, str):
            raise FileError(f"{where}: expected text, got a {type(value).__name__}")


def _numbers(where: str, *values: Any) -> None:
    for value in values:
        if type(value) not in (int, float):
            raise FileError(f"{where}: expected a number, got a {type(value).__name__}")


def _all(where: str, cls: type, values: Any) -> None:
    if not isinstance(values, tuple) or not all(isinstance(v, cls) for v in values):
        raise FileError(f"{where}: expected a tuple of {cls.__name__}")


def _check(fit: Fit, values: list[np.ndarray]) -> None:
    """Shapes that belong together."""
    space, p = fit.spec.space, fit.spec.space.n_free
    if [v.shape for v in values] != [leaf.shape for leaf in space.leaves]:
        raise FileError("the parameters' values do not fit their shapes")
    for name in ("theta", "u", "score", "interior"):
        if np.shape(getattr(fit, name)) != (p,):
            raise FileError(f"{name}: expected shape ({p},), got {np.shape(getattr(fit, name))}")
    for name in ("information", "jacobian"):
        value = getattr(fit, name)
        if value is not None and np.shape(value) != (p, p):
            raise FileError(f"{name}: expected shape ({p}, {p}), got {np.shape(value)}")
    if fit.fixed is not None and np.shape(fit.fixed) != (space.n_values,):
        raise FileError("the values held fixed do not fit the parameters")
    if fit.fixed is None and any(leaf.free is not None for leaf in space.leaves):
        raise FileError("the values held fixed are missing")
    if not isinstance(fit.verdict, Verdict) or fit.verdict.code not in CODES:
        raise FileError("the verdict is damaged")
    _texts("the verdict", fit.verdict.statement, fit.verdict.advice)
    _texts("the fit", fit.method, fit.note, *_is(fit.constraints, tuple))
    _numbers("the fit", fit.reduced)
    _all("modes", Mode, fit.modes)
    if fit.penalised is not None:
        penalised = _is(fit.penalised, Penalised)
        _texts("the penalty", penalised.name, *_is(penalised.kinks, tuple))
        _numbers("the penalty", penalised.value)
    if fit.history is not None:
        history = _is(fit.history, History)
        _numbers("history", history.best, *_is(history.train, tuple), *_is(history.held_out, tuple))
    if fit.interior.dtype != bool:
        raise FileError("interior: expected flags")
    for leaf in space.leaves:
        _texts("a parameter", leaf.name, leaf.kind, *(leaf.labels or ()), *(leaf.entries or ()))


def _designs(found: Any) -> Any:
    if found is None or isinstance(found, Unsaved):
        return found
    rows = data_room.Rows((), (), data_room.Layout("mapping", ()), 0)
    made = tuple(_is(d, Design) for d in found["designs"])
    used = tuple(dict.fromkeys(c for d in made for p in (d.piece, d.offset) if p is not None for c in p.columns))
    return Designs(made, _is(found["view"], str), rows, _is(found["natural"], Space), used=used, extra={})


def _loaded(data: Mapping[str, Any], space: Space, designs: Any, versions_: Mapping[str, str]) -> Loaded:
    layout = data_room.Layout("mapping", ())
    known = _is(data["counts"], Remembered)
    n = int(known.n_units)
    prepared = data_room.Prepared((), (), np.zeros(0), np.asarray(n, np.int64), layout, _is(data["mode"], str), 1)
    rows = data_room.Rows(
        (), (), layout, int(data["rows"]), n_dropped=int(data["n_dropped"]), float32=tuple(data["float32"])
    )
    fingerprint = _is(data["fingerprint"], data_room.Fingerprint)
    weights = None if data["weights"] is None else _is(data["weights"], data_room.Weights)
    remembered = replace(known, versions=dict(versions_))
    source: Any = _Nothing()
    return Loaded(Problem(prepared, space), rows, source, None, fingerprint, weights, designs, remembered=remembered)


class _Nothing:
    """Stands where the data were."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ValueError(f"this needs the data of the fit, but {WHY}")
