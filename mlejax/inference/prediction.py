"""Predictions by row with delta-method errors: of regressed parameters, or of any function of params and data.

For a regressed parameter with linear predictor eta = x' beta + offset and value g^-1(eta),

    se(value) = |d g^-1 / d eta| se(eta),    interval = g^-1( eta -+ z se(eta) ),

so that intervals stay inside the support; those of a simplex's entries are made on the logit scale of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from mlejax import data as data_room
from mlejax.data.formulas import Designs
from mlejax.inference.delta import DeltaResult, nlcom
from mlejax.inference.intervals import check_alpha, critical_value
from mlejax.parameters import Link

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ["estimate", "std_error", "conf_low", "conf_high"]
ParamsAt = Callable[[Any], Any]


def predict_function(
    function: Callable[[Any, Any], Any],
    data: Any,
    params_at: ParamsAt,
    theta: np.ndarray,
    cov: np.ndarray,
    designs: Designs | None,
    *,
    alpha: float = 0.05,
    reason: str = "",
) -> pd.DataFrame:
    """``function(params, data)`` at the estimates, one row for each value that it returns.

    Args:
        function: sees params as the log-likelihood does: regressed ones by row.
        data: new data; with the columns of the formulas, if there are any.
        params_at: theta -> params with coefficients.
        theta, cov: estimates (p,) and their covariance (p, p).
        designs: of the regressed parameters, or None.
        alpha: one minus the coverage.
        reason: why there is no covariance, if there is none.
    """
    source = data_room.ingest(data)
    with jax.enable_x64(True):
        if designs is None:
            reads: set[Any] = set()
            jax.eval_shape(lambda t, a: function(params_at(t), source.view(a, reads)), theta, source.abstract())
            tree = source.convert(reads).tree()
            found = nlcom(lambda t: function(params_at(t), tree), theta, cov, alpha=alpha, reason=reason)
        else:
            made = designs.again(source)
            call = _by_row(function, source, designs)
            found = nlcom(
                lambda t: call(params_at(t), designs.values(params_at(t), made)), theta, cov, alpha=alpha, reason=reason
            )
    return _table(found, data)


def _by_row(
    function: Callable[[Any, Any], Any], source: data_room.Source, designs: Designs
) -> Callable[[Any, dict[str, Any]], Any]:
    """How the function takes regressed parameters: as arrays by row, or row by row with their declared shape."""

    def abstract(n: int, lead: tuple[int, ...]) -> tuple[set[Any], Any]:
        reads: set[Any] = set()
        dtype = jnp.result_type(float)
        named = {d.predictor.name for d in designs.designs}
        params = {
            leaf.name: jax.ShapeDtypeStruct((*lead, *leaf.shape) if leaf.name in named else leaf.shape, dtype)
            for leaf in designs.natural.leaves
        }
        jax.eval_shape(lambda p, a: function(p, source.view(a, reads)), params, source.abstract(n))
        return reads, None

    n = data_room.n_rows(source)
    forms = ["array", "row"] if designs.view == "array" else ["row", "array"]
    first: Exception | None = None
    for form in forms:
        try:
            reads, _ = abstract(*((n, (n,)) if form == "array" else (1, ())))
            break
        except (data_room.DataError, data_room.DataTypeError, data_room.MissingColumnError):
            raise
        except Exception as error:
            first = first or error
    else:
        assert first is not None
        raise first
    if not reads:
        rows = None
    else:
        rows = source.convert(reads)

    def assembled(leaves: Sequence[Any]) -> Any:
        return {} if rows is None else data_room.assemble(leaves, rows.shared, rows.layout)

    def call(params: Any, values: dict[str, Any]) -> Any:
        leaves = () if rows is None else tuple(rows.leaves)
        if form == "array":
            return function({**params, **values}, assembled(leaves))
        one = lambda value, row: function({**params, **value}, assembled([a[None] for a in row]))
        out = jax.vmap(one)(values, leaves)
        return jax.tree.map(lambda a: a[:, 0] if a.ndim > 1 and a.shape[1] == 1 else a, out)

    return call


def predict_parameter(
    name: str | None,
    data: Any,
    params_at: ParamsAt,
    theta: np.ndarray,
    cov: np.ndarray,
    designs: Designs,
    *,
    scale: str = "natural",
    alpha: float = 0.05,
    reason: str = "",
) -> pd.DataFrame:
    """The value of a regressed parameter for every row of new data; arguments as in :func:`predict_function`.

    ``scale="link"`` gives linear predictors.  A vector or a simplex has one line for each row and entry.
    """
    check_alpha(alpha)
    if scale not in ("natural", "link"):
        raise ValueError(f"scale={scale!r}: expected 'natural' or 'link'")
    names = [d.predictor.name for d in designs.designs]
    if name is None and len(names) > 1:
        raise ValueError(f"predict: several parameters are regressed; choose one, param={names[0]!r} (or {names[1:]})")
    wanted = names[0] if name is None else name
    if wanted not in names:
        raise ValueError(f"predict: param={wanted!r} is not regressed; the regressed parameters are {', '.join(names)}")
    design = designs.designs[names.index(wanted)]
    p, source = design.predictor, data_room.ingest(data)
    with jax.enable_x64(True):
        matrix, offset = design.again(source, None)
        linear = nlcom(
            lambda t: p.linear_predictor(params_at(t)[wanted], matrix, offset), theta, cov, alpha=alpha, reason=reason
        )
        n = len(matrix)
        if scale == "link":
            leaf = designs.natural.leaves[[x.name for x in designs.natural.leaves].index(wanted)]
            labels = leaf.entry_labels if leaf.shape else ()
            if p.link.name == "softmax":
                last = np.arange(leaf.size).reshape(leaf.shape) % leaf.shape[-1]
                labels = tuple(x for x, j in zip(labels, last.ravel(), strict=True) if j != p.link.baseline)
            return _table(linear, data, n, labels)
        found = nlcom(lambda t: p.value(params_at(t)[wanted], matrix, offset), theta, cov, alpha=alpha, reason=reason)
        low, high = _limits(p.link, found, linear, alpha)
    leaf = designs.natural.leaves[[x.name for x in designs.natural.leaves].index(wanted)]
    table = _table(found, data, n, leaf.entry_labels if leaf.shape else ())
    table["conf_low"], table["conf_high"] = low, high
    return table


def _limits(link: Link, found: DeltaResult, linear: DeltaResult, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    z = critical_value(alpha, None)
    if link.name == "softmax":
        p, error = found.estimate, found.std_error
        with np.errstate(all="ignore"):
            center, reach = np.log(p) - np.log1p(-p), z * error / (p * (1.0 - p))
        return _expit(center - reach), _expit(center + reach)
    ends = [np.asarray(link.inverse(linear.estimate + s * z * linear.std_error)) for s in (-1.0, 1.0)]
    return np.minimum(*ends), np.maximum(*ends)


def _expit(x: np.ndarray) -> np.ndarray:
    return np.asarray(jax.nn.sigmoid(x))


def _table(found: DeltaResult, data: Any, n: int | None = None, labels: Sequence[str] = ()) -> pd.DataFrame:
    """Estimates with errors, in the order of the data's rows and with their index; the reason where there is no error."""
    import pandas as pd

    table = found.table()
    columns = [*_COLUMNS, "note"] if np.isnan(found.std_error).any() else _COLUMNS
    out = table[columns].reset_index(drop=True)
    index = data.index if hasattr(data, "index") else None
    if labels and n is not None:
        rows = index if index is not None else pd.RangeIndex(n)
        out.index = pd.MultiIndex.from_product([rows, list(labels)], names=[getattr(rows, "name", None), "entry"])
    elif index is not None and len(index) == len(out):
        out.index = index
    return out


def exponentiated(
    which: Sequence[int], coef: np.ndarray, error: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Some coefficients as ratios: exp(coef), exp(coef) times the standard error (delta method), exp of the limits.

    >>> exponentiated([1], np.zeros(2), np.full(2, 0.5), -np.ones(2), np.ones(2))[1]
    array([0.5, 0.5])
    """
    coef, error, low, high = (np.array(a, np.float64) for a in (coef, error, low, high))
    at = np.asarray(which, dtype=np.int64)
    with np.errstate(over="ignore"):
        coef[at], low[at], high[at] = np.exp(coef[at]), np.exp(low[at]), np.exp(high[at])
        error[at] = coef[at] * error[at]
    return coef, error, low, high
