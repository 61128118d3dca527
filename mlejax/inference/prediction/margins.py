"""Margins: predictions, slopes and contrasts averaged over the rows of data, with delta-method standard errors.

For a function g(theta, x) of a row, the margins are weighted means over rows of

    predictions          g(theta, x)
    slopes               d g / d x_j                    of a numeric column
    contrasts            g(theta, x with l) - g(theta, x with the first level)     of a column of levels
    elasticities         slopes times x, over g, or both

with the other columns as they are, or at values of ``at=``.  Slopes are exact derivatives of the function, by the chain rule
through the design (:mod:`.column_slopes`); derivatives of all margins with respect to theta are exact.

References: Williams (2012), Stata Journal 12, 308; Dowd, Greene & Norton (2014), Health Services Research 49, 731.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlejax import misuse
from mlejax.covariance import CovarianceResult
from mlejax.data import ingest
from mlejax.data.formulas import Design, DesignValues, category_columns, formula_columns
from mlejax.execution import float64
from mlejax.fit import Fit, refuse_effects
from mlejax.inference.effect_errors import EffectErrors, effect_errors, why_without
from mlejax.inference.intervals import DeltaResult, Linearised, nlcom
from mlejax.inference.prediction.averages import Average, contrast, predicted, sloped, unconditional_covariance
from mlejax.inference.prediction.column_slopes import design_slope
from mlejax.inference.prediction.predict import inside_support
from mlejax.inference.prediction.row_functions import InParts, function_of, in_parts
from mlejax.inference.prediction.row_tables import (
    changed,
    check_means,
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
        where: for each margin a dict: the variable or contrast, its group of ``over=`` and its values of ``at=``.
    """

    where: tuple[dict[str, Any], ...] = ()

    def frame(self) -> pd.DataFrame:
        """Return a DataFrame with one row for each margin (the index counts them) and the columns ``margin`` (the variable or
        contrast, or "prediction"), those of ``over=`` and ``at=``, estimate, std_error, statistic, p_value, conf_low, conf_high
        and note.
        """
        import pandas as pd

        return pd.concat([pd.DataFrame(list(self.where)), super().frame().reset_index(drop=True)], axis=1)

    def plot(self, ax: Axes | None = None, *, x: str | None = None) -> Axes:
        """Plot the margins with their intervals against the values of a column, one line for each combination of the others.

        Without ``at=`` and ``over=`` the margins are drawn below each other.

        Args:
            ax: matplotlib axes to draw on; new axes by default.
            x: the column on the horizontal axis; by default the column of ``over=`` and ``at=`` with the most values.

        Returns:
            The axes.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: the margins have no column of that name.
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
    """One margin.

    Attributes:
        where: the variable or contrast, its group and its values of ``at=``.
        rows: table to average over.
        less: for a contrast, the table whose average is subtracted; else None.
        column: for a slope, the column; else empty.
    """

    where: dict[str, Any]
    rows: Host
    less: Host | None = None
    column: str = ""


class _Term(NamedTuple):
    """A margin with the positions of the rows that it averages over, and their weights (sum 1)."""

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
    support: tuple[float | None, float | None] | None = None,
    random: Random = "integrate",
    alpha: float = 0.05,
    reason: str = "",
) -> Margins:
    """Return average predictions, slopes, contrasts of levels and elasticities of any function of the parameters and a row.

    Args:
        variables: columns whose effect is wanted: the slope of a numeric column; the contrast of each level with the first
            for a column of text, levels or booleans, one that a formula has as ``C(treated)``, or one that is named so here.
            None: predictions.
        of: the quantity: a function ``f(params, data)`` -> (n,), pure JAX; the name of a parameter with a formula; or ``"mean"``,
            the mean that the model declares.  Default: the declared mean, else the only parameter with a formula.
        data: rows to average over; default those of the fit, with its weights.
        at: dict from column to the value or values that all rows get; several columns give all combinations.  Other columns
            keep their values.
        over: columns that define groups of rows; margins are averaged in each group separately.
        at_means: one row with the (weighted) means of the numeric columns instead of an average over rows.
        random: for models with random effects: ``"integrate"`` averages over their distribution; ``"mode"`` uses the modes
            of the units of the fit, with their conditional variance in the standard errors; ``"zero"`` uses effects of 0.
        elasticity: ``"eyex"`` d log y / d log x, ``"dyex"`` dy / d log x, ``"eydx"`` d log y / dx, in place of slopes.
        unconditional: if True, the rows count as a random sample, and standard errors include the sampling variance of their
            covariates (Stata's ``vce(unconditional)``).  Needs ``"HC0"``, ``"HC1"``, ``"stata"`` or clusters by one column, and
            standard errors of all parameters; not with ``data``, ``at_means``, ``random="mode"`` or ``mle.Real(by=...)``.
        support: lower and upper bound of predictions, None for no bound: ``(0, 1)`` for a probability, ``(0, None)`` for a mean
            of counts.  Intervals are computed on the logit or log scale then, so that they stay inside; estimates, standard
            errors and the symmetric ``conf_int("max-z")`` are the same.
        alpha: one minus the coverage.

    Returns:
        `Margins`, on the scale of the function: ``params``, ``bse``, ``conf_int()``, ``frame()``, ``plot()``.  The standard
        errors take the rows as fixed, unless ``unconditional``; they are robust or clustered if the fit's are.

    Raises:
        ValueError: a column does not exist, or has levels but fewer than two; no quantity to average can be found; options that
            are not valid or exclude one another; a prediction outside of ``support``; an elasticity of a column of levels; or
            rows of the fit that are not in memory.
        CompanionError: ``of="mean"``, and the model declares no mean.
        MissingColumnError: the data lack a column that is read; or ``at_means=True``, and a column of levels, which has no mean,
            gets no value by ``at=``.
        DataError: a level, or with ``random="mode"`` a unit, that was not in the data of the fit.

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
    names = () if variables is None or isinstance(variables, str) else variables
    if not isinstance(names, Iterable):
        more = "; write margins(of=f) for the average of a function, margins('x', of=f) for its slope in column x"
        what = f"a function{more}" if callable(names) else f"{variables!r:.60}"
        raise TypeError(f"margins: variables= expected the name of a column, or a list of names, got {what}")
    if elasticity not in (None, "eyex", "dyex", "eydx"):
        raise ValueError(f"elasticity={elasticity!r}: expected 'eyex', 'dyex' or 'eydx'")
    if unconditional and (data is not None or at_means):
        raise ValueError("margins(unconditional=True) averages over the rows of the fit: leave out data= and at_means=")
    if unconditional:
        refuse_effects(fit.spec.likelihood, "margins(unconditional=True)", "leave it out: errors take the rows as fixed")
    if support is not None and variables is not None:
        raise ValueError("margins: support= is for predictions, and slopes and contrasts have bounds of their own; leave it out")
    table, weights = rows_of(fit, data)
    if random == "mode" and (unconditional or at_means):
        what, why = "unconditional", "the units of the fit are given, not a sample"
        if at_means:
            what, why = "at_means", "a row of means belongs to no unit"
        raise ValueError(f"margins(random='mode', {what}=True): {why}; leave out {what}=, or take random='integrate'")
    function = function_of(fit, of, random)
    of_rows = _OfRows(fit, function, random)
    terms: list[_Term] = []
    predictors = fit.spec.likelihood.predictors
    needed = formula_columns(predictors, ingest(table)) if at_means else ()
    factors = frozenset(category_columns(predictors, ingest(table))[0] if variables is not None and predictors else ())
    for group, rows in grouped_rows(table, over):
        part, w = taken_rows(table, rows), weights[rows]
        part, w = mean_row(part, w) if at_means else (part, w)
        for values in combinations_of(at or {}, table):
            if at_means:
                check_means(table, changed(part, values, table), needed)
            for one in _margins_of(changed(part, values, table), table, variables, factors, elasticity):
                terms.append(_Term(one._replace(where={**one.where, **group, **values}), rows, w / w.sum()))
    where = tuple(term.margin.where for term in terms)
    labels = tuple(", ".join(str(v) if k == "margin" else f"{k} = {v}" for k, v in x.items()) for x in where)
    options: dict[str, Any] = {"alpha": alpha, "labels": labels, "reason": reason, "df": cov.df}
    found = inside_support(_estimated(fit, cov, of_rows, terms, table, elasticity, unconditional, options), support)
    parts = {f.name: getattr(found, f.name) for f in fields(DeltaResult)}
    kind = "Predictions" if variables is None else "Marginal effects"
    averaged = "at the means" if at_means else f"averaged over {len(weights):,} rows"
    how = "rows as a sample" if unconditional else "delta method"
    return Margins(**{**parts, "title": f"{kind}, {averaged} ({how})"}, where=where)


# ---- what is averaged


class _OfRows(NamedTuple):
    """The function of params and rows whose margins are computed.

    Attributes:
        fit: the fit.
        function: ``function(params, data)`` -> (n,), without random effects, as `function_of` returns it.
        random: what became of random effects, as in `margins`.
    """

    fit: Fit
    function: Callable[..., Any]
    random: Random

    @property
    def effects(self) -> bool:
        """True if rows have effects of ``mle.Real(by=...)`` or random effects at modes, whose variances add to errors."""
        return self.random == "mode" or self.fit.loaded.effects is not None

    def opened(self, d: Any) -> tuple[InParts, ByRow | None]:
        """Return the function prepared for the rows of the table ``d``, and the effects of their levels or units, None without
        such effects; errors as in `row_effects`.
        """
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
    """Return all margins with standard errors.

    Args:
        fit, cov: the fit and its covariance.
        of_rows: the function whose margins they are.
        terms: the margins.
        whole: the table of all rows, whose columns give the range of values.
        elasticity, sampled: ``elasticity`` and ``unconditional`` of `margins`.
        options: ``alpha``, ``labels``, ``reason`` and ``df`` of `nlcom`.
    """
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
        root, spread = np.zeros((len(found), 0)), cov.full
        if found[0].own is not None:  # the effects' own errors: further coordinates
            weights = np.array([one.own for one in found])
            errors: EffectErrors | None = EffectErrors.under_model(weights.shape[1], fit.theta.size)
            if fit.loaded.effects is not None:
                errors = effect_errors(fit, cov)
            if errors is None:
                spread, options["reason"] = np.full_like(np.asarray(spread), np.nan), why_without(fit, cov.kind)
            else:
                root, spread = errors.widened(np.asarray(spread), weights)
        theta = np.append(fit.theta, np.zeros(root.shape[1]))
        known = Linearised(values, np.hstack([gradients, root]), options["labels"])
        return nlcom(None, theta, spread, **options, at=known)


def _moved(fit: Fit, o: InParts, one: _Margin, whole: Data) -> tuple[Float[Host, " n"], dict[str, DesignValues]]:
    """Return the values of the column of a slope (n,), and a dict, parameter with a formula -> derivatives of its design with
    respect to the column.

    ``whole``: table of all rows, in whose range of the column formulas are evaluated.
    """
    x, everywhere = (column_of(rows, one.column).astype(float) for rows in (one.rows, whole))
    designs = () if fit.loaded.designs is None else fit.loaded.designs.designs

    def moved(design: Design, values: DesignValues, rows: Host) -> DesignValues:
        parts = (part for part in (design.piece, design.offset, *design.random) if part is not None)
        names = list(dict.fromkeys(name for part in parts for name in part.columns))
        some = one.rows[names] if hasattr(one.rows, "columns") else {name: one.rows[name] for name in names}
        return design.again(ingest(changed(taken_rows(some, rows), {one.column: values}, one.rows)), None)

    return x, {
        d.predictor.name: design_slope(d, o.made[d.predictor.name], one.column, x, everywhere, moved) for d in designs
    }


def _margins_of(
    base: Data,
    table: Data,
    variables: str | Sequence[str] | None,
    factors: frozenset[str],
    elasticity: Elasticity | None,
) -> Iterator[_Margin]:
    """Yield the margins at the rows of ``base``: one prediction if ``variables`` is None, a slope for each numeric column, a
    contrast with the first level for each further level of other columns.

    Args:
        base: the rows, with the values of ``at=``.
        table: all rows, from which levels are taken.
        variables, elasticity: as in `margins`.
        factors: numeric columns that a formula has as a factor, which count as columns of levels.

    Raises:
        ValueError: an elasticity of a column of levels, or a column that does not exist.
    """
    if variables is None:
        yield _Margin({"margin": "prediction"}, base)
        return
    for variable in [variables] if isinstance(variables, str) else variables:
        asked = FACTOR.fullmatch(variable)
        name = asked["name"] if asked else variable
        column = column_of(table, name)
        if asked or name in factors or column.dtype.kind not in "iuf":
            if elasticity is not None:
                raise ValueError(
                    f"elasticity={elasticity!r}: expected a numeric column, and {name!r} has levels; leave elasticity= out"
                )
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
