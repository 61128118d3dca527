"""Margins: predictions, slopes and contrasts averaged over the rows of data, with delta-method errors.

For a function g(theta, x) of a row, the margins are weighted means over rows of

    predictions          g(theta, x)
    slopes               d g / d x_j                    of a numeric column
    contrasts            g(theta, x with l) - g(theta, x with the first level)     of a column of levels
    elasticities         slopes times x, over g, or both

with the other columns as they are, or at values of ``at=``.  Slopes are exact derivatives of the function along those of the
design (:mod:`.column_slopes`); those of all margins by theta are exact.

References: Williams (2012), Stata Journal 12, 308; Dowd, Greene & Norton (2014), Health Services Research 49, 731.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlejax import misuse
from mlejax.companions import companion, registered
from mlejax.covariance import CovarianceResult
from mlejax.data import ingest
from mlejax.data.formulas import Design, DesignValues
from mlejax.execution import float64
from mlejax.fit import Fit, refuse_effects
from mlejax.inference.intervals import DeltaResult, Linearised, nlcom
from mlejax.inference.prediction.averages import Average, contrast, predicted, sloped, unconditional_covariance
from mlejax.inference.prediction.column_slopes import design_slope
from mlejax.inference.prediction.latents import over_latents
from mlejax.inference.prediction.row_functions import InParts, in_parts
from mlejax.inference.prediction.row_tables import (
    changed,
    column_of,
    combinations_of,
    grouped_rows,
    joined_tables,
    levels_in,
    mean_row,
    rows_of,
    taken_rows,
)
from mlejax.inference.row_effects import ByRow, Random, row_effects
from mlejax.plot import bands
from mlejax.shapes import Data, Float, Host, Int

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Elasticity = Literal["eyex", "dyex", "eydx"]
STACKED = 1_000_000  # rows of one table, up to which predictions at several values are evaluated together
FACTOR = re.compile(r"C\((?P<name>.+)\)")


@misuse.doors
@dataclass(frozen=True, eq=False, repr=False)
class Margins(DeltaResult):
    """Margins with delta-method standard errors; prints as a table.

    Attributes:
        where: for each margin the variable, the contrast, the group of ``over=`` and the values of ``at=``.
    """

    where: tuple[dict[str, Any], ...] = ()

    def frame(self) -> pd.DataFrame:
        """One row a margin: where it was taken, then broom's columns, as those of `Estimates`."""
        import pandas as pd

        return pd.concat([pd.DataFrame(list(self.where)), super().frame().reset_index(drop=True)], axis=1)

    def plot(self, ax: Axes | None = None, *, x: str | None = None) -> Axes:
        """The margins with their intervals over the values of a column; other columns make lines of their own.

        Without ``at=`` and ``over=`` they are a list, a row each.

        Args:
            ax: matplotlib axes; made if left out.
            x: the column; of those of ``over=`` and ``at=`` that with most values by default.

        Returns:
            The axes.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: no column of that name.
        """
        frame = self.frame()
        columns = [c for c in frame.columns[: frame.columns.get_loc("estimate")] if frame[c].nunique() > 1]
        ylabel = f"margin, with {100 * (1 - self.alpha):g} % interval"
        if x is None and columns in ([], ["margin"]):
            return bands.listed(frame, ax, ylabel)
        x = max(columns, key=lambda c: frame[c].nunique()) if x is None else x
        if x not in frame.columns:
            raise ValueError(f"x={x!r}: expected one of the columns of the margins, {columns}")
        others = [c for c in columns if c != x]
        return bands.margins(frame, x, others, ax, ylabel)


class _Margin(NamedTuple):
    """One margin: its description, the rows whose predictions are averaged less those of other ones, or a slope's column."""

    where: dict[str, Any]
    rows: Host
    less: Host | None = None
    column: str = ""


class _Term(NamedTuple):
    """A margin with the numbers of the rows that it averages and their weights."""

    margin: _Margin
    rows: Int[Host, " n"]
    weights: Float[Host, " n"]


def margins(
    fit: Fit,
    cov: CovarianceResult,
    variables: str | Sequence[str] | None = None,
    of: Callable[..., Any] | None = None,
    *,
    data: Data = None,
    at: Mapping[str, Any] | None = None,
    over: str | Sequence[str] | None = None,
    at_means: bool = False,
    elasticity: Elasticity | None = None,
    unconditional: bool = False,
    random: Random = "integrate",
    alpha: float = 0.05,
    reason: str = "",
) -> Margins:
    """Average predictions, slopes, contrasts of levels and elasticities of any function of the parameters and a row.

    Args:
        variables: columns whose effect is wanted: the slope of a numeric one; of a column of text, levels or booleans, or
            asked for as ``"C(treated)"``, the contrast of each level with the first.  None: predictions.
        of: whose margins: ``f(params, data)`` -> (n,), pure JAX; the name of a regressed parameter; or ``"mean"``,
            which the model declares.  Default: the declared mean, else the regressed parameter, if there is one.
        data: rows to average over; default those of the fit, with its weights.
        at: column -> value or values that all rows get; all combinations of several.
        over: columns whose groups of rows are averaged separately.
        at_means: one row with the (weighted) means of the numeric columns instead of an average over rows.
        random: of models with random effects: ``"integrate"``, averaged over their law; ``"mode"``, at the modes of the units
            of the fit, errors with the variance that their effects have given the data; or ``"zero"``, at effects of 0.
        elasticity: ``"eyex"`` d log y / d log x, ``"dyex"`` dy / d log x, ``"eydx"`` d log y / dx, in place of slopes.
        unconditional: the rows are a sample too: errors allow for its averages being others in another one.  For ``"HC0"``,
            ``"HC1"`` and clusters, of which it takes the factor (Stata's ``vce(unconditional)``).
        alpha: one minus the coverage.

    Returns:
        `Margins`: natural scale of the function; ``params``, ``bse``, ``conf_int()``, ``frame()``, ``plot()``.  The standard
        errors hold the rows fixed, if not ``unconditional``; they are robust or clustered where the fit's are.

    Raises:
        ValueError: no such column, nothing to take margins of, an elasticity of levels.
        DataError: a level that the data of the fit did not have.

    Example:
        >>> import mlejax as mle
        >>> import jax
        >>> @mle.model(p=mle.Interval(0, 1))
        ... def bernoulli(params, data):
        ...     return jax.numpy.log(jax.numpy.where(data["y"] == 1, params["p"], 1 - params["p"]))
        >>> res = bernoulli.regress(p="x").fit({"y": [0, 1, 0, 1, 1, 0], "x": [0.0, 1.0, 2.0, 3.0, 4.0, 0.5]})
        >>> res.margins("x").params.round(4).tolist()
        [0.1867]
    """
    if elasticity not in (None, "eyex", "dyex", "eydx"):
        raise ValueError(f"elasticity={elasticity!r}: expected 'eyex', 'dyex' or 'eydx'")
    if unconditional and (data is not None or at_means):
        raise ValueError("margins(unconditional=True) averages over the rows of the fit: leave out data= and at_means=")
    if unconditional:
        refuse_effects(fit.spec.likelihood, "margins(unconditional=True)", "leave it out: errors hold the rows fixed")
    table, weights = rows_of(fit, data)
    if random == "mode" and (unconditional or at_means):
        what, why = "unconditional", "the units of the fit are given, not a sample"
        if at_means:
            what, why = "at_means", "a row of means belongs to no unit"
        raise ValueError(f"margins(random='mode', {what}=True): {why}; leave out {what}=, or take random='integrate'")
    function = function_of(fit, of, random)
    of_rows = _OfRows(fit, function, random)
    terms: list[_Term] = []
    for group, rows in grouped_rows(table, over):
        part, w = taken_rows(table, rows), weights[rows]
        part, w = mean_row(part, w) if at_means else (part, w)
        for values in combinations_of(at or {}, table):
            for one in _margins_of(changed(part, values, table), table, variables, elasticity):
                terms.append(_Term(one._replace(where={**one.where, **group, **values}), rows, w / w.sum()))
    where = tuple(term.margin.where for term in terms)
    labels = tuple(", ".join(str(v) if k == "margin" else f"{k} = {v}" for k, v in x.items()) for x in where)
    options: dict[str, Any] = {"alpha": alpha, "labels": labels, "reason": reason, "df": cov.df}
    found = _estimated(fit, cov, of_rows, terms, table, elasticity, unconditional, options)
    parts = {f.name: getattr(found, f.name) for f in fields(DeltaResult)}
    kind = "Predictions" if variables is None else "Marginal effects"
    averaged = "at the means" if at_means else f"averaged over {len(weights):,} rows"
    how = "rows as a sample" if unconditional else "delta method"
    return Margins(**{**parts, "title": f"{kind}, {averaged} ({how})"}, where=where)


# ---- what is averaged


class _OfRows(NamedTuple):
    """The function whose margins are taken, of params and rows."""

    fit: Fit
    function: Callable[..., Any]
    random: Random

    @property
    def effects(self) -> bool:
        """Rows have effects of their own, which are estimates too."""
        return self.random == "mode" or self.fit.loaded.effects is not None

    def opened(self, d: Any) -> tuple[InParts, ByRow | None]:
        """The function at the rows ``d``, and their effects, if there are any."""
        fit, own = self.fit, row_effects(self.fit, ingest(d), self.random)
        at = (lambda _: {}) if own is None else (lambda t: own.at(jnp.append(t, jnp.zeros(own.n_more))))
        params_at = lambda theta: fit.spec.space.params_from_theta(theta, fit.fixed)
        return in_parts(self.function, d, params_at, fit.theta, fit.loaded.designs, at), own


def _estimated(
    fit: Fit,
    cov: CovarianceResult,
    of_rows: _OfRows,
    terms: list[_Term],
    whole: Data,
    elasticity: Elasticity | None,
    sampled: bool,
    options: dict[str, Any],
) -> DeltaResult:
    """All margins with their errors."""
    opened = of_rows.opened
    plain = not of_rows.effects and all(term.margin.less is None and not term.margin.column for term in terms)
    with float64():
        if plain and not sampled and len(terms) > 1 and sum(t.weights.size for t in terms) <= STACKED:
            # predictions at many values are evaluated together, as rows of one table: one program, not many
            o, _ = opened(joined_tables([t.margin.rows for t in terms]))
            weights = np.concatenate([t.weights for t in terms])
            which = np.repeat(np.arange(len(terms)), [t.weights.size for t in terms])
            together = lambda t: jax.ops.segment_sum(
                weights * jnp.ravel(o.call(t, o.made, o.leaves)), which, len(terms)
            )
            return nlcom(together, fit.theta, cov.full, **options)
        found: list[Average] = []
        last: tuple[Any, Any] = (None, None)
        for one, _, w in terms:
            last = (
                last if last[0] is one.rows else (one.rows, opened(one.rows))
            )  # slopes of all columns share one table
            if one.column:
                x, moved = _moved(fit, last[1][0], one, whole)
                found.append(sloped(fit, last[1][0], w, one.column, x, moved, elasticity, last[1][1]))
            else:
                here = predicted(fit, last[1][0], last[1][1], w)
                found.append(here if one.less is None else contrast(here, predicted(fit, *opened(one.less), w)))
        values, gradients = np.array([one.value for one in found]), np.array([one.gradient for one in found])
        if sampled:
            spread = unconditional_covariance(fit, cov, found, [t.rows for t in terms], [t.weights for t in terms])
            return nlcom(lambda v: v, values, spread, **options)
        root = np.zeros((len(found), 0))
        if found[0].own is not None:  # the effects' own errors: further coordinates, of variance 1
            root = np.asarray(np.linalg.qr(np.array([one.own for one in found]).T, mode="r")).T
        more = root.shape[1]
        theta, spread = (fit.theta, cov.full) if not more else (np.append(fit.theta, np.zeros(more)), _widened(cov.full, more))
        known = Linearised(values, np.hstack([gradients, root]), options["labels"])
        return nlcom(None, theta, spread, **options, at=known)


def _widened(cov: Any, more: int) -> Float[Host, "k k"]:
    """The covariance with further coordinates, which are independent, of variance 1."""
    wide = np.pad(np.asarray(cov), (0, more))
    wide[-more:, -more:] = np.eye(more)
    return wide


def _moved(fit: Fit, o: InParts, one: _Margin, whole: Data) -> tuple[Float[Host, " n"], dict[str, DesignValues]]:
    """The values of the column of a slope, and the derivatives of the designs by it."""
    x, everywhere = (column_of(rows, one.column).astype(float) for rows in (one.rows, whole))
    designs = () if fit.loaded.designs is None else fit.loaded.designs.designs

    def moved(design: Design, values: DesignValues, rows: Host) -> DesignValues:
        parts = (part for part in (design.piece, design.offset, design.random) if part is not None)
        names = list(dict.fromkeys(name for part in parts for name in part.columns))
        some = one.rows[names] if hasattr(one.rows, "columns") else {name: one.rows[name] for name in names}
        return design.again(ingest(changed(taken_rows(some, rows), {one.column: values}, one.rows)), None)

    return x, {
        d.predictor.name: design_slope(d, o.made[d.predictor.name], one.column, x, everywhere, moved) for d in designs
    }


def _margins_of(
    base: Data, table: Data, variables: str | Sequence[str] | None, elasticity: Elasticity | None
) -> Iterator[_Margin]:
    """The margins at the rows of ``base``; the levels of columns are those in the whole ``table``."""
    if variables is None:
        yield _Margin({"margin": "prediction"}, base)
        return
    for variable in [variables] if isinstance(variables, str) else variables:
        asked = FACTOR.fullmatch(variable)
        name = asked["name"] if asked else variable
        column = column_of(table, name)
        if asked or column.dtype.kind not in "iuf":
            if elasticity is not None:
                raise ValueError(f"elasticity={elasticity!r}: {name!r} is a column of levels, which has contrasts only")
            first, *others = levels_in(table, name)
            lowest = changed(base, {name: first}, table)
            for level in others:
                yield _Margin({"margin": f"{name}: {level} - {first}"}, changed(base, {name: level}, table), lowest)
            continue
        what = {
            None: name,
            "eyex": f"d log y / d log {name}",
            "dyex": f"dy / d log {name}",
            "eydx": f"d log y / d {name}",
        }
        yield _Margin({"margin": what[elasticity]}, base, column=name)


def function_of(fit: Fit, of: Callable[..., Any] | None, random: str) -> Callable[[Any, Any], Any]:
    """The function of a row whose margins are taken."""
    likelihood, designs = fit.spec.likelihood, fit.loaded.designs
    regressed = [] if designs is None else [d.predictor.name for d in designs.designs]
    if callable(of):
        return over_latents(of, likelihood, random)
    if of == "mean" or (of is None and registered(likelihood, "mean") is not None):
        return over_latents(companion(likelihood, "mean", "margins"), likelihood, random)
    if of is None and likelihood.joint is not None and len(regressed) != 1:
        raise ValueError(
            f"margins: say of what, since {likelihood.name} has latents and declares no mean: of=lambda params, data: ..., a "
            "function of the latents too, over whose law it is averaged"
        )
    if of is None and len(regressed) != 1:
        what = f"the regressed parameters are {', '.join(regressed)}" if regressed else "no parameter is regressed"
        raise ValueError(
            f"margins: say of what, of=lambda params, data: ..., since {likelihood.name} declares no mean and {what}"
        )
    name = regressed[0] if of is None else of
    if name not in regressed:
        raise ValueError(f"of={of!r}: expected a function, 'mean', or a regressed parameter (there are: {regressed})")
    predictor = next(d.predictor for d in designs.designs if d.predictor.name == name)  # type: ignore[union-attr]
    if predictor.random is None and random == "integrate":
        return _value_of(name)
    return over_latents(_value_of(name), likelihood, random)


@lru_cache(maxsize=64)
def _value_of(name: str) -> Callable[[Any, Any], Any]:
    """The parameter of that name, the same function each time, so that it is compiled once."""
    return lambda params, data: params[name]


# ---- rows and columns
