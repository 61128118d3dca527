"""The content of a saved result, field by field: what is written and what is read.  ``docs/file-format.md`` explains it.

The names are public and stable, and name no class of this package.  A change of :data:`CONTENT` is a new format version.
"""

from __future__ import annotations

from mlejax import transforms
from mlejax.covariance import KINDS
from mlejax.files.fields import (
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
    text,
    vector,
)
from mlejax.parameters.linear import LINKS
from mlejax.status import CovarianceState
from mlejax.verdict import CODES

# ---- parameters

SUPPORTS = {
    "real": transforms.Identity,
    "positive": transforms.Log,
    "interval": transforms.Logit,
    "closed_interval": transforms.Box,
    "half_open_interval": transforms.HalfOpen,
    "simplex": transforms.Simplex,
    "ordered": transforms.Ordered,
    "covariance": transforms.Covariance,
    "correlation": transforms.Correlation,
}

SUPPORT = record(
    name=one_of(*SUPPORTS), lower=optional(number), upper=optional(number), closed=optional(one_of("left", "right"))
)

DECLARED = {"kind": text, "support": SUPPORT, "shape": list_of(count), "labels": optional(list_of(text))}

PARAMETER = record(
    **DECLARED,
    name=text,
    entries=optional(list_of(text)),
    free=optional(list_of(flag)),
    estimate=vector,
)

STRUCTURE = record(name=optional(text), tree=plain, n_arrays=count)

# ---- regressed parameters

FACTOR = record(
    name=text, kind=one_of("unknown", "constant", "numerical", "categorical"), levels=optional(list_of(label))
)

COLUMN = record(
    name=text,
    type=one_of("float", "int", "bool", "label", "category", "ordered"),
    values=list_of(label),
    levels=optional(list_of(label)),
)

LEARNT = record(transforms=mapping_of(plain), factors=list_of(FACTOR), rows=list_of(COLUMN), design=matrix)

EVALUATED = record(columns=list_of(text), labels=optional(list_of(text)), learnt=optional(LEARNT))

REGRESSION = record(
    parameter=text,
    declared=record(**DECLARED),
    formula=text,
    offset=optional(text),
    exposure=optional(text),
    baseline=optional(label),
    given_link=optional(one_of(*LINKS, "custom")),
    link=record(name=one_of(*LINKS, "custom"), lower=number, upper=number, baseline=count),
)

DESIGNS = record(
    view=one_of("array", "row"),
    missing=text,
    evaluated=list_of(record(formula=EVALUATED, offset=optional(EVALUATED))),
)

# ---- the fit

FIT = record(
    method=text,
    n_steps=count,
    note=text,
    device=text,
    hessian=one_of("autodiff", "differenced"),
    llf=number,
    decrement=number,
    u=vector,
    theta=vector,
    score=vector,
    information=optional(matrix),
    interior=list_of(flag),
    constraints=list_of(text),
    ties=optional(record(kept=list_of(count), offset=vector, matrix=matrix)),
    bias_reduction=optional(
        record(kind=one_of("jeffreys", "empirical"), information=one_of("observed", "expected"), adds=number)
    ),
    penalty=optional(record(name=text, value=number, kinks=list_of(text), information=optional(matrix))),
    starts=list_of(
        record(kind=text, llf=number, u=vector, n_starts=count, copy_of=optional(count), statement=text)
    ),
    training=optional(record(train=vector, validation=vector, best=count)),
)

VERDICT = record(code=one_of(*CODES), statement=text, advice=text, evidence=mapping_of(plain))

REASONS = {state.name.lower(): state for state in CovarianceState}

COVARIANCE = record(
    kind=one_of(*KINDS),
    statement=text,
    notes=list_of(text),
    matrix=optional(matrix),
    missing=list_of(record(reason=one_of(*REASONS), at=list_of(count))),
    smallest_eigenvalue=number,
    condition=number,
    nullity=count,
    edf=number,
)

WEIGHT_KIND = one_of("frequency", "sampling", "importance")

DATA = record(
    mode=one_of("rows", "units", "whole"),
    rows=count,
    n_dropped=count,
    nobs=number,
    n_units=number,
    float32_columns=list_of(text),
    weights=optional(record(kind=WEIGHT_KIND, name=text, scale=number, statement=text)),
    fingerprint=record(
        rows=count,
        columns=list_of(record(name=text, sum=number, sum_of_squares=number)),
        weights=optional(record(kind=WEIGHT_KIND, sum=number, sum_of_squares=number)),
    ),
)

# ---- all of it

CONTENT = record(
    made_with=mapping_of(text),
    model=record(name=text, rowwise=flag, unit=optional(text)),
    parameters=list_of(PARAMETER),
    structure=list_of(STRUCTURE),
    regressions=list_of(REGRESSION),
    designs=optional(DESIGNS),
    fit=FIT,
    verdict=VERDICT,
    covariance=COVARIANCE,
    data=DATA,
)
