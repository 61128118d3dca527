"""Conversion of a result to the content of a file, and back.  Data and functions are left out; methods that need them raise
an error.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from mlejax import data as data_room
from mlejax.companions import INHERITED
from mlejax.covariance import COVARIANCE_LIMIT, CovarianceResult
from mlejax.data.formulas import Designs
from mlejax.execution import device_kind
from mlejax.files import saved_effects
from mlejax.files.container import FileError, Json
from mlejax.files.fields import require
from mlejax.files.saved_designs import Unsaved, designs_of, evaluated_of
from mlejax.files.schema import CONTENT
from mlejax.fit import Fit, Loaded, Problem, Remembered, counts
from mlejax.likelihood import Likelihood
from mlejax.objective import BiasReduction, Spec
from mlejax.parameters import CurvedTies, Leaf, Linear, Link, Parameter, Predictor, Space, Ties
from mlejax.portable import Absent
from mlejax.status import CovarianceState

WHY = "the file that it was loaded from contains neither the function nor the data"
PASS_MODEL = "a file contains no functions. Pass your own model: mle.load(path, model=...)"
NOT_EVALUATED = (
    "those of a file are shown and never evaluated. Pass your own model with these formulas: mle.load(path, model=reg)"
)


class ResultParts(NamedTuple):
    """The parts of a result.

    Attributes:
        name: name of the model.
        cov_type: kind of the covariance.
        fit: the fit.
        cov: the covariance.
    """

    name: str
    cov_type: str
    fit: Fit
    cov: CovarianceResult


# ---- writing


def content_of(parts: ResultParts) -> Json:
    """Return a result as the JSON content of a file, checked by the schema.

    Raises:
        FileError: the result has a part that a file cannot store; the message names it.
    """
    fit, loaded = parts.fit, parts.fit.loaded
    likelihood, space, reduction, weights = fit.spec.likelihood, fit.spec.space, fit.spec.reduction, loaded.weights
    nobs, n_units = counts(loaded)
    try:
        content = CONTENT.write(
            SimpleNamespace(
                made_with=versions() if loaded.remembered is None else loaded.remembered.versions,
                model=SimpleNamespace(name=parts.name, rowwise=likelihood.rowwise, unit=likelihood.unit),
                parameters=space.leaves,
                structure=space.groups,
                ties=_linear_ties(space, fit.theta),
                estimates=[np.asarray(value, np.float64).reshape(-1) for value in space.split(fit.params)],
                hessian=fit.spec.hessian,
                bias_reduction=reduction
                and SimpleNamespace(
                    kind=reduction.kind, information="observed" if reduction.expected is None else "expected"
                ),
                regressions=[_regression(p, loaded.designs) for p in likelihood.predictors],
                designs=_designs(loaded.designs),
                fit=replace(fit, backend=fit.backend or device_kind()),
                covariance=parts.cov,
                data=SimpleNamespace(
                    mode=loaded.problem.data.mode,
                    rows=loaded.rows.n,
                    n_dropped=loaded.rows.n_dropped,
                    float32_columns=loaded.rows.float32,
                    nobs=float(nobs),
                    n_units=float(n_units),
                    weights=weights and replace(weights, said=weights.statement()),
                    fingerprint=loaded.fingerprint,
                ),
                effects=saved_effects.written(loaded.effects, loaded.coded),
            ),
            "content",
        )
        CONTENT.read(content, "content")
    except (FileError, TypeError) as error:
        raise FileError(f"the result cannot be saved: {error}") from None
    return content


def _linear_ties(space: Space, theta: np.ndarray) -> Ties | None:
    """Return the linear constraints of a space, None without constraints; of nonlinear constraints, which a file cannot store,
    their tangent at ``theta``.
    """
    return space.ties.tangent_at(theta) if isinstance(space.ties, CurvedTies) else space.ties


def versions() -> dict[str, str]:
    """Return the versions of Python, mlejax, jax, numpy and formulaic here, "unknown" for a package without metadata."""
    found = {"python": platform.python_version()}
    for name in ("mlejax", "jax", "numpy", "formulaic"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def _regression(p: Predictor, designs: Designs | Unsaved | None) -> SimpleNamespace:
    natural = {leaf.name: leaf for leaf in designs.natural.leaves} if isinstance(designs, Designs) else {}
    declared = Leaf(p.name, p.parameter.kind, p.parameter.transform, p.parameter.shape or (), p.parameter.labels)
    linear = p.linear
    return SimpleNamespace(
        declared=natural.get(p.name, declared),
        formula=linear.formula,
        offset=linear.offset,
        exposure=linear.exposure,
        baseline=linear.baseline,
        random=linear.random,
        given_link="custom" if isinstance(linear.link, tuple) else linear.link,
        link=p.link,
    )


def _designs(designs: Designs | Unsaved | None) -> SimpleNamespace | None:
    if designs is None or isinstance(designs, Unsaved):
        return designs and designs.content
    evaluated, missing = [], ""
    try:
        for d in designs.designs:
            offset = None if d.offset is None else evaluated_of(d.offset)
            evaluated.append(SimpleNamespace(formula=evaluated_of(d.piece), offset=offset))
            if d.random:
                raise TypeError("a file cannot hold the distribution of random effects, over which predictions are averaged")
    except TypeError as error:
        evaluated, missing = [], str(error)
    return SimpleNamespace(view=designs.view, missing=missing, evaluated=evaluated)


# ---- reading


def parts_of(content: Json, model: Likelihood | None = None) -> ResultParts:
    """Return the parts of a result from the content of a file; the inverse of :func:`content_of`.

    Args:
        content: JSON of the current format.
        model: the user's model, whose formulas are evaluated in predictions; None: predictions from formulas raise an error.

    Raises:
        FileError: the content is not a result, or is one of another model.
    """
    c = CONTENT.read(content, "content")
    space = Space(c.structure, c.parameters, c.ties)
    require(sum(group.n_leaves for group in c.structure) == len(c.parameters), "the structure and the parameters")
    require(
        c.ties is None or c.ties.n == sum(leaf.n_free for leaf in c.parameters), "the constraints and the parameters"
    )
    predictors = tuple(_predictor(r) for r in c.regressions)
    if model is not None:
        _refuse_other(model, c.model, predictors, space)
        predictors = model.predictors
    name = c.model.name
    shell = Likelihood(
        Absent(name, WHY),
        None,
        c.model.rowwise,
        c.model.unit,
        predictors=predictors,
        companions={what: Absent(name, PASS_MODEL, what) for what in INHERITED},
    )
    reduction = None
    if c.bias_reduction is not None:
        expected = Absent(name, WHY, "expected information") if c.bias_reduction.information == "expected" else None
        reduction = BiasReduction(c.bias_reduction.kind, expected)
    designs = _loaded_designs(c, predictors, space, model is not None)
    loaded = _loaded(c.data, space, designs, c.made_with)
    if c.effects is not None:
        effects, coded = saved_effects.read(c.effects, space.n_free)
        loaded = replace(loaded, effects=effects, coded=coded)
    return ResultParts(
        name,
        c.covariance.kind,
        _fit(c, Spec(shell, space, None, c.hessian, reduction), loaded),
        _covariance(c.covariance, space.n_free),
    )


def _predictor(r: SimpleNamespace) -> Predictor:
    declared = r.declared
    own = (Absent(declared.name, WHY, "link"), Absent(declared.name, WHY, "link"))
    link = own if r.given_link == "custom" else r.given_link
    linear = Linear(r.formula, link, r.offset, r.exposure, r.baseline, r.random)
    parameter = Parameter(declared.kind, declared.transform, declared.shape, labels=declared.labels)
    return Predictor(declared.name, parameter, linear, Link(**r.link))


def _loaded_designs(
    c: SimpleNamespace, predictors: tuple[Predictor, ...], space: Space, own_model: bool
) -> Designs | Unsaved | None:
    require((c.designs is None) == (not predictors), "the formulas and their designs")
    if c.designs is None:
        return None
    if c.designs.missing:
        return Unsaved(f"those of this result could not be saved: {c.designs.missing}", c.designs)
    require(len(c.designs.evaluated) == len(predictors), "the formulas and their designs")
    if not own_model:
        return Unsaved(NOT_EVALUATED, c.designs)
    declared = {r.declared.name: r.declared for r in c.regressions}
    leaves = tuple(replace(declared.get(leaf.name, leaf), free=None) for leaf in space.leaves)
    return designs_of(c.designs, predictors, Space(space.groups, leaves))


def _refuse_other(model: Likelihood, saved: SimpleNamespace, predictors: tuple[Predictor, ...], space: Space) -> None:
    """Raise FileError unless the user's model agrees with the saved one in its formulas, parameters, supports, ``rowwise``
    and ``unit``.

    Args:
        model: the user's model; without declared parameters their names and supports are not compared.
        saved: ``rowwise`` and ``unit`` of the saved model.
        predictors, space: its formulas and parameters.
    """
    there: dict[Any, Any] = {leaf.name: leaf.transform for leaf in space.leaves}
    there = {g.name: there.get(g.name) for g in space.groups} | {p.name: p.parameter.transform for p in predictors}
    here = {name: getattr(p, "transform", None) for name, p in (model.parameters or {}).items()}
    for what, of_file, of_model in (
        ("formulas", _formulas(predictors), _formulas(model.predictors)),
        ("parameters", _supports(there), _supports(here) if model.parameters is not None else _supports(there)),
        ("rowwise= and unit=", f"{saved.rowwise}, {saved.unit}", f"{model.rowwise}, {model.unit}"),
    ):
        if of_file != of_model:
            raise FileError(
                f"mle.load(model=...) expected a model with the {what} of the file\n  file:  {of_file}\n  model: {of_model}"
            )


def _formulas(predictors: tuple[Predictor, ...]) -> str:
    baselines = ["" if p.linear.baseline is None else f" [baseline {p.linear.baseline}]" for p in predictors]
    return "; ".join(f"{p}{baseline}" for p, baseline in zip(predictors, baselines, strict=True)) or "none"


def _supports(of: Mapping[Any, Any]) -> str:
    return ", ".join(f"{name}: {'any structure' if support is None else support}" for name, support in of.items())


def _fit(c: SimpleNamespace, spec: Spec, loaded: Loaded) -> Fit:
    f, space, p = c.fit, spec.space, spec.space.n_free
    require([v.size for v in c.estimates] == [leaf.size for leaf in space.leaves], "the shapes and the estimates")
    for name in ("u", "theta", "score", "interior"):
        require(len(f[name]) == p, f"the {p} free parameters and {name}")
    centred = f["centred"] and (f["centred"].matrix, f["centred"].information, f["centred"].penalised)
    for matrix in (f["information"], f["penalised"] and f["penalised"].information, *(centred or ())):
        require(matrix is None or matrix.shape == (p, p), f"the {p} free parameters and the information")
    require(all(mode.u.size == p for mode in f["modes"]), f"the {p} free parameters and the starts")
    partly = any(leaf.free is not None for leaf in space.leaves)
    require(
        f["fixed"].size == space.n_values if f["fixed"] is not None else not partly,
        "the fixed values and the parameters",
    )
    values = [v.reshape(leaf.shape) for v, leaf in zip(c.estimates, space.leaves, strict=True)]
    given = f | {"interior": np.array(f["interior"], bool)}
    jacobian = None if f["information"] is None else np.zeros((0, 0))  # used with the data only
    return Fit(spec=spec, loaded=loaded, params=space.build(values), jacobian=jacobian, **given)


def _covariance(cov: CovarianceResult, p: int) -> CovarianceResult:
    shape = (p, p) if p <= COVARIANCE_LIMIT else (0, 0)
    require(cov.matrix.shape == shape and len(cov.state) == p, f"the {p} free parameters and the covariance")
    require(
        cov.factor is None or cov.factor.shape == shape, f"the {p} free parameters and the factor of the covariance"
    )
    if not set(cov.state) <= set(CovarianceState):
        raise FileError(f"covariance.state: expected numbers from 0 to {max(CovarianceState)}, got {max(cov.state)}")
    return replace(cov, state=np.array(cov.state, np.int64))


def _loaded(data: SimpleNamespace, space: Space, designs: Any, made_with: Mapping[str, str]) -> Loaded:
    layout, n = data_room.Layout("mapping", ()), np.asarray(int(data.n_units), np.int64)
    prepared = data_room.Prepared((), (), np.zeros(0), n, layout, data.mode, 1)
    rows = data_room.Rows((), (), layout, data.rows, n_dropped=data.n_dropped, float32=data.float32_columns)
    remembered = Remembered(data.nobs, data.n_units, made_with)
    source = data_room.Table("mapping", {}, ())
    return Loaded(
        Problem(prepared, space), rows, source, None, data.fingerprint, data.weights, designs, remembered=remembered
    )
