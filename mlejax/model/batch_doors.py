"""The methods of `Model` that fit many data sets: stacks of arrays, and the groups of a table."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from mlejax import misuse
from mlejax.covariance import CovarianceKind, check_kind
from mlejax.data import DataTypeError, check_weight_kind
from mlejax.data.errors import type_name
from mlejax.latent import Quadrature, integrated, quadrature_of
from mlejax.likelihood import Likelihood
from mlejax.optimize import MethodLike
from mlejax.shapes import Data, PyTree

if TYPE_CHECKING:
    from mlejax.results import BatchResults

WeightKind: TypeAlias = Literal["frequency", "sampling", "importance"]
Missing: TypeAlias = Literal["raise", "drop"]


@misuse.doors
class BatchDoors:
    """Methods of `Model` that fit many data sets, each with a verdict.

    Attributes:
        likelihood: the declaration of the model.
    """

    likelihood: Likelihood

    def fit_batch(
        self,
        data: Data,
        start: PyTree = None,
        fixed: Mapping[str, Any] | None = None,
        *,
        weights: Any = None,
        weight_kind: WeightKind | None = None,
        method: MethodLike = "newton",
        cov_type: CovarianceKind | None = None,
        cov_kwds: Mapping[str, Any] | None = None,
        penalty: Callable[..., Any] | None = None,
        hyper: PyTree = None,
        missing: Missing = "raise",
        n_starts: int | None = None,
        seed: int = 0,
        memory_limit: float | None = None,
        progress: bool | None = None,
        integrate: Literal["auto", "laplace"] | Quadrature = "auto",
    ) -> BatchResults:
        """Fit every data set of a stack, in one compiled program, with a verdict for each.

        The results are those of single fits, and a data set that cannot be fitted does not affect the others.

        Args:
            data: a dict or pytree of arrays (n_datasets, n_rows, ...); ``mle.Shared`` and ``mle.Static`` values are common to
                all data sets.
            start: as in :meth:`fit`, common to all data sets; or one for each, by values with a leading axis
                (n_datasets, ...) or a DataFrame such as ``res.params``; ``"pooled"`` starts every data set at the estimates
                from all together.  Without it a start is searched for every data set, which takes longer than the fit.
            fixed, method, cov_type, seed: as in :meth:`fit`, common to all data sets.
            weights: name of a column, or numbers (n_datasets, n_rows).
            weight_kind, penalty: as in :meth:`fit`.
            hyper: as in :meth:`fit`, common to all; or one for each data set, with a leading axis n_datasets in every array.
            cov_kwds: as in :meth:`fit`; for ``"cluster"``, ``groups`` is the name of a column or an array
                (n_datasets, n_rows).
            missing: ``"raise"``: a data set with a missing value is not fitted, and its verdict says so; ``"drop"`` leaves
                out its rows with a missing value.
            n_starts: number of starts for each data set, as in :meth:`fit`; the data sets are then fitted one by one.
            memory_limit: most bytes of data on the device at a time (default: a quarter of the free memory); larger batches
                are cut into chunks.
            progress: True shows a progress bar; None shows one in a terminal, after two seconds; False shows none.
            integrate: as in :meth:`fit`, but ``"auto"`` takes the same number of points for all data sets: 15 in each dimension
                for one latent variable per unit, 9 for two, 7 for three.

        Returns:
            :class:`mlejax.BatchResults`.  After Ctrl-C it holds the data sets finished so far.

        Raises:
            ValueError, TypeError, KeyError: errors that concern all data sets; an error of one data set is in its verdict.

        Example:
            >>> import numpy as np, jax.numpy as jnp, mlejax as mle
            >>> @mle.model(rate=mle.Positive())
            ... def exponential(params, data):
            ...     return jnp.log(params["rate"]) - params["rate"] * data["t"]
            >>> res = exponential.fit_batch({"t": np.array([[1.0, 2.0, 6.0], [1.0, 1.0, 2.0]])}, start={"rate": 1.0})
            >>> res.params["rate"].round(4).tolist(), res.verdict.tolist()
            ([0.3333, 0.75], ['verified', 'verified'])
        """
        from mlejax import batch as batch_room

        return self._fit_many(
            functools.partial(batch_room.stacked, self.likelihood, data), weights, weight_kind, cov_type, cov_kwds,
            memory_limit, progress, start=start, fixed=fixed, method=method, missing=missing, seed=seed, penalty=penalty,
            hyper=hyper, n_starts=n_starts, integrate=integrate,
        )  # fmt: skip

    def fit_groups(
        self,
        frame: Data,
        by: Any,
        start: PyTree = None,
        fixed: Mapping[str, Any] | None = None,
        *,
        weights: Any = None,
        weight_kind: WeightKind | None = None,
        method: MethodLike = "newton",
        cov_type: CovarianceKind | None = None,
        cov_kwds: Mapping[str, Any] | None = None,
        penalty: Callable[..., Any] | None = None,
        hyper: PyTree = None,
        missing: Missing = "raise",
        n_starts: int | None = None,
        seed: int = 0,
        memory_limit: float | None = None,
        progress: bool | None = None,
        integrate: Literal["auto", "laplace"] | Quadrature = "auto",
        on: Any = None,
    ) -> BatchResults:
        """Fit every group of one long table, with a verdict for each; groups may differ in size.

        Sizes are padded to 8, 32, 128, ..., each of which is compiled once (models with ``rowwise=False`` are never padded, and
        compile for every distinct length).

        Args:
            frame: a DataFrame or dict of columns; ``mle.Parquet`` or ``mle.Stream``, whose rows are sorted by group; or, with
                ``on=``, a Dask or Spark DataFrame or a Ray Dataset.
            by: name of the column of groups, a list of names, or one label per row.
            weights: name of a column, or one number per row.
            start and the further arguments: as in :meth:`fit_batch`; values for each group are in the order in which
                the groups first appear.
            on: a ``distributed.Client``, the initialised module ``ray``, or a ``SparkSession``, which divides its table by group
                and fits complete groups on its workers, many in a batch.

        Returns:
            :class:`mlejax.BatchResults`, labelled by group in order of first appearance (sorted by group with ``on=``).  For
            groups from a stream or an engine it does not hold the rows: estimates, standard errors by the covariance requested,
            verdicts and their tables are available, but ``res[label]`` raises DataError.

        Raises:
            ValueError, TypeError, KeyError: errors that concern all groups; an error of one group is in its verdict.
        """
        from mlejax import batch as batch_room
        from mlejax import engines
        from mlejax import fit as fit_room

        options = {
            "start": start, "fixed": fixed, "method": method, "missing": missing, "seed": seed, "penalty": penalty,
            "hyper": hyper, "n_starts": n_starts,
        }  # fmt: skip
        source = engines.source_of(frame, on, groups=True)
        if on is not None or fit_room.is_stream(source):
            return self._fit_stream(
                source, by, weights, weight_kind, cov_type, cov_kwds, memory_limit, integrate, on, options
            )
        return self._fit_many(
            functools.partial(batch_room.grouped, self.likelihood, frame, by), weights, weight_kind, cov_type, cov_kwds,
            memory_limit, progress, integrate=integrate, **options,
        )  # fmt: skip

    def _fit_stream(
        self, source: Data, by: Any, weights: Any, weight_kind: str | None,
        cov_type: CovarianceKind | None, cov_kwds: Mapping[str, Any] | None,
        memory_limit: float | None, integrate: Any, on: Any, options: dict[str, Any],
    ) -> BatchResults:  # fmt: skip
        """Fit the groups of a stream, in this process or by an engine, and warn if some did not reach a maximum; ``options`` and
        the other arguments are those of :meth:`fit_groups`.

        Raises:
            DataTypeError: ``source`` is a table in memory.
        """
        from mlejax import batch as batch_room
        from mlejax import engines
        from mlejax import fit as fit_room
        from mlejax.results import FitGroups, fit_streamed_groups

        if not fit_room.is_stream(source):
            raise DataTypeError(
                f"fit_groups with on= expected a table of the engine, got a {type_name(source)}; leave out on="
            )
        likelihood, kind, columns = self._batched(weights, weight_kind, cov_type, cov_kwds, integrate, options)
        covariance = (cov_type, cov_kwds)
        work = FitGroups(self, likelihood, by, columns, options, covariance, (weights, kind), memory_limit)
        made = fit_streamed_groups(work, source, None if on is None else engines.engine_of(on))
        batch_room.warn_of_failures(self.likelihood.name, made.verdict.to_numpy(str))
        return made

    def _batched(
        self,
        weights: Any,
        weight_kind: str | None,
        cov_type: CovarianceKind | None,
        cov_kwds: Mapping[str, Any] | None,
        integrate: Any,
        options: dict[str, Any],
    ) -> tuple[Likelihood, str | None, tuple[str, ...]]:
        """Return the likelihood with the method of integration that ``integrate`` asks for, the kind of weights (None without),
        and the names of cluster columns.

        Arguments are those of :meth:`fit_batch`; ``options``: further ones by name, with ``penalty``.

        Raises:
            ValueError: the model has effects of ``mle.Real(by=...)``, or an option is not valid.
        """
        from mlejax import fit as fit_room

        fit_room.refuse_effects(self.likelihood, "a batch of fits", "loop over the data sets with fit")
        how = quadrature_of(self.likelihood, integrate)
        kind = check_weight_kind(weights, weight_kind)
        columns = named_groups(cov_type, cov_kwds, kind, options["penalty"] is not None)
        return self.likelihood if how is None else integrated(self.likelihood, how), kind, columns

    def _fit_many(
        self, read: Any, weights: Any, weight_kind: str | None,
        cov_type: CovarianceKind | None, cov_kwds: Mapping[str, Any] | None, memory_limit: float | None,
        progress: bool | None, integrate: Any, **options: Any,
    ) -> BatchResults:  # fmt: skip
        """Read the data sets, fit them, and warn if some did not reach a maximum.

        ``read``: function of example params, ``missing=``, names of cluster columns, weights and their kind that returns
        the data sets; other arguments are those of :meth:`fit_batch`.
        """
        from mlejax import batch as batch_room
        from mlejax.results import BatchResults

        likelihood, kind, columns = self._batched(weights, weight_kind, cov_type, cov_kwds, integrate, options)
        sets = read(_structure(options["start"]), options["missing"], columns, weights, kind)
        cut = batch_room.budget(memory_limit, progress)
        done = batch_room.fit_many(likelihood, sets, budget=cut, columns=columns, **options)
        batch_room.warn_of_failures(self.likelihood.name, done.codes)
        return BatchResults.make(self, done, cov_type, cov_kwds)


def named_groups(
    cov_type: str | None, cov_kwds: Mapping[str, Any] | None, kind: str | None, penalised: bool
) -> tuple[str, ...]:
    """Return the names of the cluster columns in ``cov_kwds``; clusters given as arrays have none.

    ``kind`` is that of the weights.  ValueError, TypeError: ``cov_type`` and its options are not valid.
    """
    groups = check_kind(cov_type, cov_kwds, kind, penalised)[1].get("groups", ())
    return tuple(name for name in groups if isinstance(name, str))


def _structure(start: PyTree) -> PyTree:
    """Return ``start``, which gives a model without declared parameters its structure; None if it is a string
    ("pooled").
    """
    return None if isinstance(start, str) else start
