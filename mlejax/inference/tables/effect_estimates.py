"""Effects of ``mle.Real(by=...)`` after a fit: their table, covariances with other parameters, and variance in predictions.

With h_g the curvature of the log-likelihood in a level's effect and l_g minus the derivative of the effect in theta,

    Cov(alpha_g, alpha_k) = [g = k] / h_g + l_g V l_k',    Cov(alpha_g, theta) = -l_g V,

with V the covariance of theta: entries of the inverse of the whole information, which is never computed.  Sandwiches have
further terms (:mod:`mlejax.inference.effect_errors`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mlejax import data as data_room
from mlejax.covariance import CovarianceResult
from mlejax.fit import Effects, Fit
from mlejax.inference.covariances.combinations import linear_covariance
from mlejax.inference.effect_errors import EffectErrors, effect_errors, why_without
from mlejax.inference.intervals import DeltaResult
from mlejax.inference.normal import critical_value, z_tests
from mlejax.inference.tables.entries import Entries
from mlejax.parameters import looked_up, near
from mlejax.shapes import Either, Float, Host, Int

if TYPE_CHECKING:
    import pandas as pd

MOST_ENTRIES = 5000  # of a covariance
REDUNDANT = "fixed at 0: a constant added to every effect equals a change of another parameter"
LEFT_OUT = "no finite effect: its rows were left out"


def _of(fit: Fit) -> Effects:
    effects = fit.loaded.effects
    if effects is None:
        what = "this result from a file" if fit.loaded.remembered is not None else fit.spec.likelihood.name
        raise ValueError(
            f"{what} has no effects of mle.Real(by=...); declare a parameter as mle.Real(by=...), and fit again"
        )
    return effects


def _lever(fit: Fit) -> Float[Host, "levels p"]:
    """Return minus the derivative of the effects in theta (G, p), 0 for parameters at a bound, which count as fixed there."""
    return np.where(fit.interior, _of(fit).lever, 0.0)


def effect_variances(fit: Fit, cov: CovarianceResult) -> Float[Host, " levels"]:
    """Return the variances of the effects of all levels (G,) under the kind of ``cov``, with the other parameters estimated.

    NaN for an effect fixed at 0.  NaN for all if a parameter inside its support has no covariance, or if `effect_errors` is
    None: for two-way clusters, lags, refits and surveys, and for other sandwiches if the rows are not in memory.
    """
    effects, errors = _of(fit), effect_errors(fit, cov)
    if errors is None:
        return np.full(len(effects.values), np.nan)
    (crossed, own), lever = errors.of_levels(), _lever(fit)
    inside = np.where(fit.interior[:, None] & fit.interior, cov.matrix, 0.0)
    with np.errstate(all="ignore"):
        found = own / effects.curvature + np.einsum("gi,ij,gj->g", lever, inside, lever)
        found = found - 2.0 * np.einsum("gi,gi->g", lever, crossed) / np.sqrt(effects.curvature)
    return np.where(effects.given, np.nan, np.maximum(found, 0.0))


def effects_table(fit: Fit, cov: CovarianceResult) -> pd.DataFrame:
    """Return the effects of ``mle.Real(by=...)`` as a DataFrame: one row for each level, in the order of first appearance.

    Returns:
        Columns ``estimate``, ``std_error`` (of the ``cov_type`` of the result, with the other parameters estimated; NaN without
        a covariance, and for kinds that do not cover the effects: two-way clusters, "HAC", "bootstrap", and sandwiches of rows
        that are not in memory), ``rows`` and ``note``; the index holds the levels.  Levels without a finite effect come last,
        with an estimate of inf or -inf.  An effect that is fixed at 0 because of an intercept has a note; neither of these has
        a standard error.

    Raises:
        ValueError: the model has no such effects, or the result was saved without them.

    Example:
        >>> import jax.numpy as jnp, mlejax as mle
        >>> from jax.scipy.stats import poisson
        >>> @mle.model(beta=mle.Real(), alpha=mle.Real(by="firm"))
        ... def counts(params, data):
        ...     return poisson.logpmf(data["y"], jnp.exp(params["beta"] * data["x"] + params["alpha"]))
        >>> firms = {"y": [1, 4, 2, 3, 6, 2, 0, 0], "x": [0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 1.0, 2.0], "firm": list("aaabbbcc")}
        >>> counts.fit(firms).effects().round(3)[["estimate", "std_error", "rows"]]
              estimate  std_error  rows
        firm
        a        0.847      0.476     3
        b        1.299      0.417     3
        c         -inf        NaN     2
    """
    import pandas as pd

    effects = _of(fit)
    labels, signs, rows = effects.left_out
    error = np.sqrt(effect_variances(fit, cov))
    notes = np.where(effects.given, REDUNDANT, "").astype(object).tolist() + [LEFT_OUT] * len(labels)
    with np.errstate(invalid="ignore"):
        estimate = np.concatenate([effects.values, np.where(signs > 0, np.inf, -np.inf)])
    return pd.DataFrame(
        {
            "estimate": estimate,
            "std_error": np.concatenate([error, np.full(len(labels), np.nan)]),
            "rows": np.concatenate([effects.counts, rows]).astype(np.int64),
            "note": notes,
        },
        index=pd.Index(list(effects.levels.labels) + list(labels), name=effects.key.by),
    )


def covariance_of_some(entries: Entries, subset: Sequence[str]) -> tuple[Float[Host, "k k"], list[str]]:
    """Return the covariance of some entries of ``params`` and some effects (k, k), and their labels; NaN for fixed entries,
    for effects fixed at 0, and for entries without a covariance.

    Args:
        entries: the entries of the fit.
        subset: names of entries or of whole parameters, or one name; ``alpha[acme]`` is the effect of level acme.

    Raises:
        ValueError: more than 5,000 entries, a name that no entry or level has (AddressError for an entry), effects that are not
            named one by one, or effects that the kind of covariance does not cover.
    """
    fit, cov, names = entries.fit, entries.cov, [subset] if isinstance(subset, str) else list(subset)
    effects, rows, own, labels = fit.loaded.effects, [], [], []
    by_label = (
        {} if effects is None else {f"{effects.key.parameter}[{x}]": i for i, x in enumerate(effects.levels.labels)}
    )
    lever = np.zeros((0, 0)) if effects is None else _lever(fit)
    for name in names:
        if name in by_label and effects is not None:
            i = by_label[name]
            rows.append(np.full(fit.theta.size, np.nan) if effects.given[i] else -lever[i])
            own.append(i)
            labels.append(name)
            continue
        if effects is not None and name == effects.key.parameter:
            raise ValueError(f"cov_params({name!r}): name the effects one by one, such as {next(iter(by_label))!r}")
        if effects is not None and name.partition("[")[0] == effects.key.parameter:
            raise ValueError(
                f"cov_params({name!r}): no such level of {effects.key.by}{near(name, list(by_label)[:MOST_ENTRIES])}"
            )
        for j in fit.spec.space.resolve(name):
            rows.append(np.where(fit.spec.space.reported_fixed[j], np.nan, fit.spec.space.reported_matrix[j]))
            own.append(-1)
            labels.append(entries.labels[j])
    if len(rows) > MOST_ENTRIES:
        raise ValueError(f"cov_params: expected at most {MOST_ENTRIES} entries, got {len(rows)}; name fewer of them")
    R, at = np.array(rows).reshape(len(rows), fit.theta.size), np.array(own, np.int64)
    if not (at >= 0).any():
        return linear_covariance(R, cov.full).cov, labels
    assert effects is not None
    errors = effect_errors(fit, cov)
    if errors is None:
        raise ValueError(f"cov_params({labels[int(np.argmax(at >= 0))]!r}): {why_without(fit, cov.kind)}")
    levels, which = np.unique(at[at >= 0], return_inverse=True)
    weights = np.zeros((len(at), len(levels)))
    weights[np.flatnonzero(at >= 0), which] = 1.0 / np.sqrt(effects.curvature[at[at >= 0]])
    root, wide = errors.only(levels).widened(np.asarray(cov.full), weights)
    found = linear_covariance(np.hstack([R, root]), wide).cov
    return found, labels


def levels_of_rows(effects: Effects, table: data_room.Table) -> Int[Host, " n"]:
    """Return for each row of new data the number of its level among the effects, (n,).

    Raises:
        MissingColumnError: the data lack the column of the levels.
        DataError: levels that were not in the fit, or that have no finite effect.
    """
    known = {label: i for i, label in enumerate(effects.levels.labels.tolist())}
    return _numbers_of_rows(effects.key.by, known, table, set(effects.left_out[0].tolist()))


def _codes_of_rows(one: data_room.Coded, table: data_room.Table) -> Int[Host, " n"]:
    """Return for each row of new data the level code, (n,), of effects that are coefficients in theta: 0 for a reference
    level, j + 1 for coefficient j; errors as in `levels_of_rows`.
    """
    known = dict.fromkeys(one.key.references, 0) | {label: j + 1 for j, label in enumerate(one.key.labels)}
    return _numbers_of_rows(one.key.by, known, table, set(), text=True)


def _numbers_of_rows(
    by: str, known: Mapping[Any, int], table: data_room.Table, left_out: set[Any], text: bool = False
) -> Int[Host, " n"]:
    """Return the number of each row's level, (n,).

    Args:
        by: name of the column of levels.
        known: level -> number.
        table: the rows.
        left_out: levels of the fit without a finite effect, which the message mentions.
        text: compare levels as strings.

    Raises:
        MissingColumnError: there is no column ``by``.
        DataError: a level that is not in ``known``.
    """
    if by not in table:
        raise data_room.MissingColumnError(f"the data lack the column {by!r}, whose levels have effects; add it", by)
    found = data_room.levels_of(table.column(by), by)
    if text:
        found = replace(found, labels=np.array([str(label) for label in found.labels.tolist()], object))
    numbers = np.array([known.get(label, -1) for label in found.labels.tolist()], np.int64)
    unknown = [label for label, i in zip(found.labels.tolist(), numbers, strict=True) if i < 0]
    if unknown:
        without = left_out & set(unknown)
        why = "have no finite effect" if without == set(unknown) else "were not in the data of the fit"
        why += " or have no finite effect" if without and without != set(unknown) else ""
        shown = ", ".join(map(repr, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
        rows = int(np.isin(found.codes, np.flatnonzero(numbers < 0)).sum())
        raise data_room.DataError(
            f"column {by!r}: levels that {why}: {shown}, in {rows} rows. An effect is known for the levels of the fit only "
            "(res.effects() lists them); leave these rows out"
        )
    return numbers[found.codes]


class RowEffects:
    """Effects of ``mle.Real(by=...)`` of the rows of new data, as a function of theta and of a common shift.

    The effects change with theta to first order as their maximum-likelihood values do.  The shift is an extra coordinate of
    variance 0, whose derivative is each row's derivative with respect to its own effect.

    Args:
        fit: the fit.
        table: new data, with the columns of the levels.

    Raises:
        DataError, MissingColumnError: as in `levels_of_rows`.

    Attributes:
        rows: number of each row's level (n,).
        codes: parameter -> level code of each row, of the effects that are coefficients in theta.
    """

    n_more = 1

    def __init__(self, fit: Fit, table: data_room.Table) -> None:
        self.effects, self.theta, self.fit, self.lever = _of(fit), fit.theta, fit, _lever(fit)
        self.rows = levels_of_rows(self.effects, table)
        self.codes = {one.key.parameter: _codes_of_rows(one, table) for one in fit.loaded.coded}

    @property
    def values(self) -> dict[str, Any]:
        """Parameter -> effect of each row (n,) at the estimates; effects that are coefficients in theta are left out."""
        return {self.effects.key.parameter: self.effects.values[self.rows]}

    def chained(self, by_row: Mapping[str, Float[Host, " n"]]) -> tuple[Float[Host, " p"], Float[Host, " levels"]]:
        """Apply the chain rule: from the derivatives of one number with respect to the rows' effects, parameter -> (n,), to
        those with respect to theta (p,) and to each level's standardised effect (G,).
        """
        sums = np.bincount(self.rows, by_row[self.effects.key.parameter], len(self.effects.values))
        own = np.where(self.effects.given, 0.0, sums)
        return -self.lever.T @ own, own / np.sqrt(self.effects.curvature)

    def at(self, extended: Either) -> dict[str, Any]:
        """Return parameter -> effect of each row (n,) at theta and the shift, concatenated (p + 1,); all effects are in it."""
        lever, values = self.lever[self.rows], self.effects.values[self.rows]
        eliminated = values - lever @ (extended[:-1] - self.theta) + extended[-1]
        params = self.fit.spec.space.params_from_theta(extended[:-1], self.fit.fixed) if self.codes else {}
        beside = {name: looked_up(params[name], codes) for name, codes in self.codes.items()}
        return {self.effects.key.parameter: eliminated, **beside}

    def with_own_variance(self, found: DeltaResult, alpha: float, errors: EffectErrors) -> DeltaResult:
        """Return predictions with the variance of each row's own effect, and its covariance with theta, added to their standard
        errors, and with tests and intervals of coverage 1 - alpha from these standard errors.

        Args:
            found: the predictions, of theta and the shift.
            alpha: one minus the coverage.
            errors: how the effects vary.

        Raises:
            ValueError: the function did not return one value (or one array) for each row.
        """
        per_row, extra = found.jacobian[:, -1], len(found.params) // max(len(self.rows), 1)
        given, curvature = (np.repeat(a[self.rows], extra) for a in (self.effects.given, self.effects.curvature))
        if len(per_row) != len(given):
            raise ValueError(
                f"predict with effects of {self.effects.key.by} expects a function with one value for each row "
                f"({len(self.rows)}), got {len(per_row)}: average in NumPy, or use margins"
            )
        crossed, own = (np.repeat(a[self.rows], extra, axis=0) for a in errors.of_levels())
        size = np.where(given, 0.0, per_row / np.sqrt(curvature))
        along = np.einsum("ij,ij->i", found.jacobian[:, :-1], crossed)
        error = np.sqrt(np.maximum(found.bse**2 + 2.0 * size * along + size**2 * own, 0.0))
        reach, tests = critical_value(alpha, found.df), z_tests(found.params, error, found.null_value, df=found.df)
        return replace(
            found,
            bse=error,
            tvalues=tests[0],
            pvalues=tests[1],
            conf_low=found.params - reach * error,
            conf_high=found.params + reach * error,
        )
