"""The results of many fits: arrays and DataFrames with a leading axis over data sets, and each fit as an ordinary result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mlejax import data as data_room
from mlejax import files, inference, misuse, plot
from mlejax.batch import Batch, single, statement
from mlejax.covariance import KINDS, CovarianceKind, Covariances, check_kind, entry_reason
from mlejax.data.errors import listing
from mlejax.inference.tables.formatting import format_quantiles, format_span
from mlejax.notebook import Text, in_notebooks
from mlejax.results.results import Results
from mlejax.shapes import Data, Float, Host, Int, Params, Shaped
from mlejax.status import CovarianceState

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@in_notebooks
@misuse.doors
@dataclass(frozen=True, eq=False, repr=False)
class BatchResults:
    """Estimates of many data sets, as returned by ``model.fit_batch`` and ``model.fit_groups``.

    ``res[label]`` is the ordinary :class:`mlejax.Results` of one data set, with all its methods.

    Attributes:
        model: the model that was fitted.
        cov_type: the kind of covariance.
    """

    model: Any
    cov_type: str
    _batch: Batch
    _cov: Covariances
    _cov_options: Mapping[str, Any]
    _absent: Int[Host, "m 2"] | None = None  # of groups without their rows: as `_unused`, found where the rows were

    @staticmethod
    def make(model: Any, batch: Batch, cov_type: str | None, cov_kwds: Mapping[str, Any] | None) -> BatchResults:
        """Return the results of a batch with the covariance of the given kind and options, as for ``Model.fit_batch``.

        Raises:
            ValueError: an option is not valid, or the covariance needs several terms and the model returns one number.
        """
        kind, options = check_kind(cov_type, cov_kwds, batch.weight_kind, batch.spec.adjusted)
        if KINDS[kind].scores_of and batch.sets.mode == "whole" and set(batch.sets.n_out.values()) == {1}:
            raise ValueError(inference.one_scalar(kind, model.likelihood.name))
        return BatchResults(model, kind, batch, inference.covariances_of(batch, kind, options), options)

    def with_cov(self, cov_type: CovarianceKind | None = None, cov_kwds: Mapping[str, Any] | None = None) -> BatchResults:
        """Return the same fits with another covariance, without refitting; arguments and errors as for
        :meth:`Results.with_cov`.
        """
        return BatchResults.make(self.model, self._batch, cov_type, cov_kwds)

    # ---- estimates

    @property
    def params(self) -> pd.DataFrame:
        """Estimates, natural scale: one row per data set, one column per parameter entry.

        NaN if the fit gave no estimates, and for entries on which the log-likelihood of the data set does not depend (such as a
        level that does not occur in it); ``failed`` and ``tidy()`` give the reason.
        """
        return self._frame(self._values)

    @property
    def params_tree(self) -> Params:
        """Estimates in the structure of the user's parameters, natural scale; every array has a leading axis (n_datasets, ...).
        Where :attr:`params` is NaN, this has the value at which the search ended.
        """
        return self._batch.params

    @property
    def bse(self) -> pd.DataFrame:
        """Standard errors, natural scale; NaN for entries that are fixed or at a bound of their support, and where there is no
        covariance (``tidy()`` gives the reason).
        """
        return self._frame(self._errors)

    @property
    def llf(self) -> pd.Series:
        """Log-likelihood at the estimates, summed over the data set with its weights, without a penalty."""
        return self._series(self._batch.llf, "llf")

    @property
    def converged(self) -> pd.Series:
        """For each data set, True if its verdict is ``verified`` or ``boundary``."""
        return self._series(self._batch.converged, "converged")

    @property
    def verdict(self) -> pd.Series:
        """The verdict's code for each data set."""
        return self._series(self._batch.codes.astype(object), "verdict")

    @property
    def nobs(self) -> pd.Series:
        """Number of rows used of each data set; with frequency weights, the sum of these.

        With ``rowwise=False`` it is the number of terms that the model returns, unless it returns a single one.
        """
        return self._series(self._batch.nobs, "nobs")

    @property
    def n_steps(self) -> pd.Series:
        """Number of steps of the optimiser."""
        return self._series(self._batch.ends.n_steps, "n_steps")

    @property
    def failed(self) -> pd.DataFrame:
        """The data sets whose verdict is neither ``verified`` nor ``boundary``: columns ``verdict`` and ``reason``."""
        import pandas as pd

        batch = self._batch
        where = np.flatnonzero(~batch.converged)
        return pd.DataFrame(
            {"verdict": batch.codes[where].astype(object), "reason": [statement(batch, int(i)) for i in where]},
            index=self._index[where],
        )

    @property
    def finished(self) -> bool:
        """False if the fit was interrupted (KeyboardInterrupt, Ctrl-C) before all data sets were done."""
        return self._batch.finished

    # ---- tables

    def tidy(self, alpha: float = 0.05) -> Data:
        """Return one row per data set and parameter entry: its label (``group``, or a column for each name in ``by=`` of
        ``fit_groups``), term, estimate, std_error, statistic, p_value, conf_low, conf_high, note.

        Numbers that do not exist are NaN, for the reason in ``note``; statistic and p_value also where 0 is not an interior point
        of the entry's support, without a note.

        Args:
            alpha: one minus the coverage of the intervals, which are made as in :meth:`Results.conf_int`.

        Returns:
            A polars, pyarrow or DuckDB table if the data were one, otherwise a pandas DataFrame.

        Raises:
            ValueError: ``alpha`` is not above 0 and at most 0.5.
        """
        return data_room.like(self._batch.sets.source, self._tidy(alpha))

    def _tidy(self, alpha: float) -> pd.DataFrame:
        import pandas as pd

        space, (n, r) = self._batch.spec.space, self._values.shape
        found = self._wald(alpha)
        df = np.repeat(self._cov.df, r).reshape(n, r)
        z, p = inference.z_tests(self._values, self._errors, testable=space.zero_is_interior, df=df)
        labels = {name: np.repeat(np.asarray(values), r) for name, values in self._label_columns().items()}
        numbers = (self._values.ravel(), self._errors.ravel(), z.ravel(), p.ravel(), found.low, found.high)
        names = ("estimate", "std_error", "statistic", "p_value", "conf_low", "conf_high")
        columns = dict(zip(names, numbers, strict=True))
        terms = {"term": np.tile(np.array(space.labels, dtype=object), n)}
        return pd.DataFrame({**labels, **terms, **columns, "note": self._notes(found.notes)})

    def conf_int(self, alpha: float = 0.05, *, method: Literal["wald", "profile"] = "wald") -> pd.DataFrame:
        """Return confidence intervals of all parameter entries of all data sets, natural scale.

        Args:
            alpha: one minus the coverage, at most 0.5.
            method: ``"wald"``, or ``"profile"`` as in :meth:`Results.conf_int`; the profiles of all data sets are computed
                together.

        Returns:
            One row per data set and entry, their names in the index (the label as in :meth:`tidy`, and ``term``): ``lower`` and
            ``upper``, NaN if there is no limit; for profile intervals also ``lower_status`` and ``upper_status``, which give the
            reason (the verdict, if the fit has no maximum).

        Raises:
            ValueError: another method, ``alpha`` is not in (0, 0.5], or the fits do not support profiles.
        """
        import pandas as pd

        if method not in ("wald", "profile"):
            raise ValueError(f"method= expected 'wald' or 'profile', got {method!r}")
        space = self._batch.spec.space
        if method == "profile":
            found = inference.profile_intervals_of_many(self._batch, alpha)
            columns = {name: values.ravel() for name, values in found._asdict().items()}
        else:
            wald = self._wald(alpha)
            columns = {"lower": wald.low, "upper": wald.high}
        labels = self._label_columns()
        each = pd.DataFrame({n: np.repeat(np.asarray(v), space.n_reported) for n, v in labels.items()})
        each["term"] = np.tile(np.array(space.labels, dtype=object), len(self))
        return pd.DataFrame(columns, index=pd.MultiIndex.from_frame(each))

    def _wald(self, alpha: float) -> Any:
        """Return Wald intervals of all entries, one data set after the other: ``low`` and ``high`` (L r,), and ``notes``; by
        Student's t where the degrees of freedom are finite.
        """
        df = np.repeat(self._cov.df, self._values.shape[1])
        errors = inference.stretched(self._errors.ravel(), alpha, df).reshape(self._values.shape)
        found = inference.entry_intervals(self._batch.spec.space, self._values, errors, alpha)
        notes, r = np.array(found.notes, object), self._values.shape[1]
        for i, own in self._own.items():
            for whole, name in ((found.low, "conf_low"), (found.high, "conf_high"), (notes, "note")):
                whole[i * r : (i + 1) * r] = own.tidy(alpha)[name]
        return replace(found, notes=tuple(notes))

    def glance(self) -> Data:
        """Return one row per data set, in a table of the same kind as the data: its label as in :meth:`tidy`, nobs, llf, aic
        (NaN where it is not defined), converged, verdict, n_steps.
        """
        return data_room.like(self._batch.sets.source, self._glance())

    def _glance(self) -> pd.DataFrame:
        import pandas as pd

        batch = self._batch
        k = self._cov.edf if batch.spec.penalty is not None else batch.spec.space.n_free - self._cov.nullity
        counts = batch.converged | (batch.codes == "not_identified")
        if not KINDS[self.cov_type].model_based or batch.weight_kind == "sampling":
            counts = np.zeros_like(counts)
        aic = np.where(counts, 2.0 * k - 2.0 * batch.llf, np.nan)
        aic[list(self._own)] = [own.aic for own in self._own.values()]
        return pd.DataFrame(
            {
                **self._label_columns(),
                "nobs": self._batch.nobs,
                "llf": batch.llf,
                "aic": aic,
                "converged": batch.converged,
                "verdict": batch.codes.astype(object),
                "n_steps": batch.ends.n_steps,
            }
        )

    def plot(self, term: str | None = None, ax: Axes | None = None, **options: Any) -> Axes:
        """Plot the estimates of one parameter entry over the data sets; arguments and return value as for
        :func:`mlejax.plot.estimates`.
        """
        return plot.estimates(self, term, ax, **options)

    def to_parquet(self, path: files.PathLike, alpha: float = 0.05) -> None:
        """Save one row per data set and parameter entry to a Parquet file: the columns of :meth:`tidy`, and llf, nobs, aic,
        converged, verdict, n_steps and reason.

        Args:
            path: the file; an existing file is replaced only when the new one is complete.
            alpha: as in :meth:`tidy`.

        Raises:
            ImportError: pyarrow is not installed.
            OSError: the folder does not exist, there is no permission, or the path is not that of a file.
            ValueError: as :meth:`tidy`.
        """
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            what = "to_parquet needs pyarrow: pip install 'mlejax[parquet]'; or write res.tidy().to_csv(path)"
            raise ImportError(what) from error
        table = self._tidy(alpha)
        r, glance = self._values.shape[1], self._glance()
        for name in ("nobs", "llf", "aic", "converged", "verdict", "n_steps"):
            table[name] = np.repeat(glance[name].to_numpy(), r)
        reasons = ["" if fine else statement(self._batch, i) for i, fine in enumerate(self._batch.converged)]
        table["reason"] = np.repeat(np.array(reasons, object), r)
        with files.replacing(path) as file:
            table.to_parquet(file)

    # ---- one data set

    def __len__(self) -> int:
        return len(self._batch.sets)

    def __iter__(self) -> Iterator[Hashable]:
        """Iterate over the labels of the data sets."""
        return iter(self._labels)

    def __contains__(self, label: Hashable) -> bool:
        return label in self._position

    def __getitem__(self, label: Hashable) -> Results:
        """Return the ordinary result of one data set, with all its methods.

        Raises:
            KeyError: there is no data set of this label; the message lists similar labels.
            DataError: its data cannot be used (the message is that of a fit of this data set alone), or its rows were not
                kept (groups of a stream or an engine).
        """
        if label not in self._position:
            near = data_room.near_matches(label, list(self._labels))
            instead = f"did you mean {near}?" if near else f"the labels are {listing(self._labels, 5)}"
            raise KeyError(f"no data set {listing([label])}; {instead}")
        i = self._position[label]
        if (why := self._batch.sets.bad.get(i)) is not None:
            raise data_room.DataError(f"data set {listing([label])}: {why}")
        options = inference.own_options(self._batch, self._cov_options, i)
        # too few clusters in this data set cost its errors, not its estimates
        return Results.make(self.model, single(self._batch, i), self.cov_type, options, strict=False)

    @cached_property
    def _own(self) -> dict[int, Results]:
        """Dict from position to result, of the data sets whose free coordinates differ from those of the other data sets."""
        return {i: self[self._labels[i]] for i in self._batch.closed}

    # ---- in words

    def summary(self) -> Text:
        """Return as text the counts of verdicts and, over the data sets with a maximum, 5, 50 and 95 % quantiles of the
        estimates of each entry (at most 200) and the median standard error.
        """
        batch, n = self._batch, len(self)
        lines = [
            f"Maximum likelihood, {n} data sets of {self.model.likelihood.name}",
            f"Rows: {int(np.nansum(self._batch.nobs))} in all, {format_span(self._batch.nobs)} a data set",
            f"Covariance: {self.cov_type}; converged: {int(batch.converged.sum())} of {n}",
        ]
        lines += [f"  {code}: {count}" for code, count in Counter(batch.codes.tolist()).most_common()]
        good = batch.converged
        if good.any():
            quantiles = format_quantiles(batch.spec.space.labels[:200], self._values[good], self._errors[good])
            lines += [quantiles, "over those that converged"]
        if not batch.finished:
            lines.append("Interrupted: data sets marked stopped_early were not finished.")
        return Text(lines)

    def __repr__(self) -> str:
        good, name = int(self._batch.converged.sum()), self.model.likelihood.name
        return f"<mlejax results of {len(self)} data sets of {name}: {good} converged>"

    # ---- behind the doors

    @cached_property
    def _labels(self) -> list[Any]:
        return list(self._batch.sets.labels)

    @cached_property
    def _position(self) -> dict[Any, int]:
        return {label: i for i, label in enumerate(self._labels)}

    @cached_property
    def _index(self) -> pd.Index:
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
    def _values(self) -> Float[Host, "L r"]:
        values = inference.reported(self._batch.spec.space, self._batch.params, len(self))
        values[~np.isfinite(self._batch.ends.u).all(axis=1)] = np.nan
        values[tuple(self._unused.T)] = np.nan
        return values

    @cached_property
    def _unused(self) -> Int[Host, "m 2"]:
        return inference.unused_entries_of(self._batch) if self._absent is None else self._absent

    @cached_property
    def _errors(self) -> Float[Host, "L r"]:
        errors = inference.standard_errors_of(self._batch.spec.space, self._cov.matrix)
        for i, own in self._own.items():
            errors[i] = own.bse
        return errors

    def _notes(self, of_intervals: tuple[str, ...]) -> Shaped[Host, " L*r"]:
        batch, space = self._batch, self._batch.spec.space
        out = np.array(of_intervals, dtype=object).reshape(self._values.shape)
        states = inference.entry_states(space, self._cov.state)
        for i, j in np.argwhere(states != CovarianceState.OK).tolist():
            out[i, j] = entry_reason(states[i, j], str(batch.codes[i]), self.cov_type)
        for i, j in self._unused.tolist():
            out[i, j] = "not identified: the log-likelihood of this data set does not depend on it"
        out[:, space.reported_fixed] = "fixed"
        return out.ravel()

    def _frame(self, values: np.ndarray) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(np.array(values), index=self._index, columns=list(self._batch.spec.space.labels))

    def _series(self, values: np.ndarray, name: str) -> pd.Series:
        import pandas as pd

        return pd.Series(np.array(values), index=self._index, name=name)
