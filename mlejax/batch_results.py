"""The results of many fits: arrays and frames with a leading axis over data sets, and each fit as an ordinary result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mlejax import covariance as cov_room
from mlejax import data as data_room
from mlejax import files, inference
from mlejax.batch import Batch, single, statement
from mlejax.batch.covariances import covariances, own_options, standard_errors
from mlejax.results import Results

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class BatchResults:
    """Estimates of many data sets: what ``model.fit_batch`` and ``model.fit_groups`` return.

    ``res[label]`` is one data set's ordinary :class:`mlejax.Results`, with its whole inference.

    Attributes:
        model: the model that was fitted.
        cov_type: the kind of covariance.
    """

    model: Any
    cov_type: str
    _batch: Batch
    _cov: np.ndarray
    _reasons: dict[int, str]
    _cov_kwds: Mapping[str, Any] | None = None

    @staticmethod
    def make(model: Any, batch: Batch, cov_type: str | None, cov_kwds: Mapping[str, Any] | None) -> BatchResults:
        """A batch with the covariance that was asked for."""
        kind, options = cov_room.check_kind(cov_type, cov_kwds, batch.weight_kind, batch.spec.adjusted)
        if kind in cov_room.NEEDS_SCORES and batch.sets.mode == "whole" and set(batch.sets.n_out.values()) == {1}:
            raise ValueError(
                f"cov_type={kind!r} sums the scores of separate contributions, but {model.likelihood.name} returns one scalar; "
                "return one value per time point or group, or use cov_type='nonrobust'"
            )
        found, reasons = covariances(batch, kind, options)
        return BatchResults(model, kind, batch, found, reasons, cov_kwds)

    def with_cov(self, cov_type: str | None = None, cov_kwds: Mapping[str, Any] | None = None) -> BatchResults:
        """The same fits with another covariance, without refitting; arguments as in :meth:`Results.with_cov`."""
        return BatchResults.make(self.model, self._batch, cov_type, cov_kwds)

    # ---- estimates

    @property
    def params(self) -> pd.DataFrame:
        """Estimates, natural scale: one row a data set, one column an entry.

        NaN where nothing could be computed, and where the log-likelihood of a data set does not depend on an entry (a level
        of a formula that is absent in it); ``failed`` and ``tidy()`` say why.
        """
        return self._frame(self._values)

    @property
    def params_tree(self) -> Any:
        """Estimates in the user's own structure, every array with a leading axis (n_datasets, ...)."""
        return self._batch.params

    @property
    def bse(self) -> pd.DataFrame:
        """Standard errors, natural scale; NaN for what is fixed, on an edge, or without a maximum."""
        return self._frame(self._errors)

    @property
    def llf(self) -> pd.Series:
        """Log-likelihood at the estimates, summed."""
        return self._series(self._batch.llf, "llf")

    @property
    def converged(self) -> pd.Series:
        """Whether the verdict is ``verified`` or ``boundary``."""
        return self._series(self._batch.converged, "converged")

    @property
    def verdict(self) -> pd.Series:
        """The verdict's code for every data set."""
        return self._series(self._batch.codes.astype(object), "verdict")

    @property
    def nobs(self) -> pd.Series:
        """Rows used, or entries returned by a model with ``rowwise=False``."""
        return self._series(self._nobs, "nobs")

    @property
    def n_steps(self) -> pd.Series:
        """Steps of the optimiser."""
        return self._series(self._batch.ends.n_steps, "n_steps")

    @property
    def failed(self) -> pd.DataFrame:
        """The data sets without a maximum: their verdicts, and why."""
        import pandas as pd

        batch = self._batch
        where = np.flatnonzero(~batch.converged)
        return pd.DataFrame(
            {"verdict": batch.codes[where].astype(object), "reason": [statement(batch, int(i)) for i in where]},
            index=self._index[where],
        )

    @property
    def finished(self) -> bool:
        """Nothing was cut short by the keyboard."""
        return self._batch.finished

    # ---- tables

    def tidy(self, alpha: float = 0.05) -> pd.DataFrame:
        """One row a data set and term: group, term, estimate, std_error, statistic, p_value, conf_low, conf_high, note.

        Args:
            alpha: one minus the coverage of the intervals, which are made as in :meth:`Results.conf_int`.
        """
        import pandas as pd

        space = self._batch.spec.space
        n, r = self._values.shape
        lower, upper = space.closed_edges
        flat = lambda a: np.tile(np.asarray(a), n)
        found = inference.confidence_intervals(
            self._values.ravel(), self._errors.ravel(), links=list(space.links) * n, lower_edge=flat(lower),
            upper_edge=flat(upper), alpha=alpha,
        )  # fmt: skip
        z, p = inference.z_tests(
            self._values.ravel(), self._errors.ravel(), lower=flat(np.where(space.zero_is_interior, -np.inf, 0.0))
        )
        columns: dict[str, Any] = {
            name: np.repeat(np.asarray(values), r) for name, values in self._label_columns().items()
        }
        columns["term"] = np.tile(np.array(space.labels, dtype=object), n)
        columns |= {"estimate": self._values.ravel(), "std_error": self._errors.ravel(), "statistic": z, "p_value": p}
        columns |= {"conf_low": found.low, "conf_high": found.high, "note": self._notes(found.notes)}
        return pd.DataFrame(columns)

    def glance(self) -> pd.DataFrame:
        """One row a data set: group, nobs, llf, aic, converged, verdict, n_steps."""
        import pandas as pd

        batch = self._batch
        df: np.ndarray = batch.interior.sum(axis=1)
        if batch.spec.penalty is not None and batch.information.shape[-1]:
            df = np.einsum("lij,lji->l", batch.inverse, batch.information)  # effective degrees of freedom
        for i in batch.found:
            if batch.codes[i] == "not_identified":
                df[i] = batch.interior[i].sum() - _nullity(batch, i)
        counts = batch.converged | (batch.codes == "not_identified")
        aic = np.where(
            counts & (self.cov_type not in cov_room.SANDWICH) & (batch.weight_kind != "sampling"),
            2.0 * df - 2.0 * batch.llf,
            np.nan,
        )
        return pd.DataFrame(
            {
                **self._label_columns(),
                "nobs": self._nobs,
                "llf": batch.llf,
                "aic": aic,
                "converged": batch.converged,
                "verdict": batch.codes.astype(object),
                "n_steps": batch.ends.n_steps,
            }
        )

    def to_parquet(self, path: Any, alpha: float = 0.05) -> None:
        """Save one row a data set and term: the columns of :meth:`tidy`, with llf, nobs, converged and verdict.

        Args:
            path: the file; it is replaced as a whole, once the new one is complete.
            alpha: as in :meth:`tidy`.

        Raises:
            ImportError: pyarrow is not installed.
        """
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "to_parquet needs pyarrow: pip install 'mlejax[parquet]'; or write res.tidy().to_csv(path)"
            ) from error
        table = self.tidy(alpha)
        r = self._values.shape[1]
        glance = self.glance()
        for name in ("nobs", "llf", "aic", "converged", "verdict", "n_steps"):
            table[name] = np.repeat(glance[name].to_numpy(), r)
        reasons = np.full(len(self), "", dtype=object)
        for i in np.flatnonzero(~self._batch.converged).tolist():
            reasons[i] = statement(self._batch, i)
        table["reason"] = np.repeat(reasons, r)
        with files.replacing(path) as file:
            table.to_parquet(file)

    # ---- one data set

    def __len__(self) -> int:
        return len(self._batch.sets)

    def __iter__(self) -> Iterator[Hashable]:
        """The labels of the data sets."""
        return iter(self._labels)

    def __contains__(self, label: Any) -> bool:
        return label in self._position

    def __getitem__(self, label: Any) -> Results:
        """One data set's ordinary result, with its whole inference.

        Raises:
            KeyError: no such data set; the message lists near matches.
            DataError: its data cannot be used (what a fit of it alone would say).
        """
        if label not in self._position:
            near = data_room.near_matches(label, list(self._labels))
            raise KeyError(
                f"no data set {label!r}" + (f"; did you mean {near}?" if near else f"; there are {len(self)}")
            )
        i = self._position[label]
        batch = self._batch
        if i in batch.sets.bad:
            raise data_room.DataError(f"data set {label!r}: {batch.sets.bad[i]}")
        done = single(batch, i)
        try:
            return Results.make(self.model, done, self.cov_type, own_options(batch, self._cov_kwds, i))
        except cov_room.TooFewError as error:
            # asked for all data sets, and too much for this one: that costs its errors, not its estimates
            none = cov_room.refused(self.cov_type, batch.spec.space.n_free, error)
            return Results(self.model, self.cov_type, done, none)

    # ---- in words

    def summary(self) -> str:
        """Counts of verdicts and, for every entry, quantiles of the estimates and the median standard error."""
        batch = self._batch
        n = len(self)
        lines = [
            f"Maximum likelihood, {n} data sets of {self.model.likelihood.name}",
            f"Rows: {int(np.nansum(self._nobs))} in all, {_span(self._nobs)} a data set",
            f"Covariance: {self.cov_type}; converged: {int(batch.converged.sum())} of {n}",
        ]
        lines += [f"  {code}: {count}" for code, count in Counter(batch.codes.tolist()).most_common()]
        good = batch.converged
        if good.any():
            names = list(batch.spec.space.labels)
            width = max(len(name) for name in names)
            lines.append(
                f"{'':{width}}  {'5%':>10} {'median':>10} {'95%':>10} {'std err':>10}   (over those that converged)"
            )
            values, errors = self._values[good], self._errors[good]
            for j, name in enumerate(names[:200]):
                low, middle, high = np.quantile(values[:, j], [0.05, 0.5, 0.95])
                known = errors[:, j][np.isfinite(errors[:, j])]
                error = f"{np.median(known):10.4g}" if known.size else f"{'':>10}"
                lines.append(f"{name:{width}}  {low:10.4g} {middle:10.4g} {high:10.4g} {error}")
        if not batch.finished:
            lines.append("Interrupted: the data sets marked stopped_early were not finished.")
        return "\n".join(lines)

    def __repr__(self) -> str:
        good = int(self._batch.converged.sum())
        return f"<mlejax results of {len(self)} data sets of {self.model.likelihood.name}: {good} converged>"

    # ---- behind the doors

    @cached_property
    def _labels(self) -> list[Any]:
        return list(self._batch.sets.labels)

    @cached_property
    def _position(self) -> dict[Any, int]:
        return {label: i for i, label in enumerate(self._labels)}

    @cached_property
    def _index(self) -> Any:
        import pandas as pd

        names = self._batch.sets.label_names
        if len(names) > 1:
            return pd.MultiIndex.from_tuples(self._labels, names=names)
        return pd.Index(self._labels, name=names[0])

    def _label_columns(self) -> dict[str, Any]:
        names = self._batch.sets.label_names
        if len(names) > 1:
            return {name: [label[k] for label in self._labels] for k, name in enumerate(names)}
        return {"group" if names == ("dataset",) else names[0]: self._labels}

    @cached_property
    def _values(self) -> np.ndarray:
        space = self._batch.spec.space
        values = inference.reported(space, self._batch.params, len(self))
        unusable = ~np.isfinite(self._batch.ends.u).all(axis=1)
        values[unusable] = np.nan
        for i, j in self._unused:
            values[i, j] = np.nan
        return values

    @cached_property
    def _unused(self) -> list[tuple[int, int]]:
        """(data set, entry) where the log-likelihood does not depend on the entry: a level that is absent, say."""
        place = {name: j for j, name in enumerate(self._batch.spec.space.labels)}
        out = []
        for i in np.flatnonzero(self._batch.codes == "not_identified").tolist():
            for d in self._batch.found[i].directions:
                if d.behaviour == "flat" and len(d.names) == 1 and d.names[0] in place:
                    out.append((i, place[d.names[0]]))
        return out

    @cached_property
    def _errors(self) -> np.ndarray:
        space = self._batch.spec.space
        errors = standard_errors(space.reported_matrix, self._cov)
        errors[:, space.reported_fixed] = np.nan
        return errors

    @cached_property
    def _nobs(self) -> np.ndarray:
        sets = self._batch.sets
        if sets.mode == "whole":
            out = [sets.n_out.get(int(n), 1) for n in sets.lengths]
            return np.array([m if m > 1 else n for m, n in zip(out, sets.n_rows, strict=True)], np.int64)
        return sets.n_rows

    def _notes(self, of_intervals: tuple[str, ...]) -> np.ndarray:
        batch, space = self._batch, self._batch.spec.space
        n, r = self._values.shape
        out = np.array(of_intervals, dtype=object).reshape(n, r)
        missing = ~np.isfinite(self._errors) & ~space.reported_fixed[None, :]
        for i in np.flatnonzero(missing.any(axis=1)).tolist():
            if batch.converged[i]:
                text = self._reasons.get(i, "on the edge of its support: no Wald standard error")
            elif batch.codes[i] == "not_identified":
                text = "not identified: no standard error"
            else:
                text = f"no standard error: {batch.codes[i].replace('_', ' ')}"
            out[i, missing[i]] = text
        for i, j in self._unused:
            out[i, j] = "not identified: the log-likelihood of this data set does not depend on it"
        out[:, space.reported_fixed] = "fixed"
        return out.ravel()

    def _frame(self, values: np.ndarray) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(np.array(values), index=self._index, columns=list(self._batch.spec.space.labels))

    def _series(self, values: np.ndarray, name: str) -> pd.Series:
        import pandas as pd

        return pd.Series(np.array(values), index=self._index, name=name)


def _span(values: np.ndarray) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low}" if low == high else f"{low} to {high}"


def _nullity(batch: Batch, i: int) -> int:
    free = batch.interior[i]
    found = cov_room.covariance("nonrobust", batch.information[i], None, free=free, n=1.0, flat=True)
    return found.nullity
