"""Batches without the rows of their data sets, from a stream or an engine: reduce a batch to its estimates, and join several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from mlejax.batch.fitting import statement
from mlejax.batch.judging import Batch
from mlejax.batch.sets import DataSets
from mlejax.data import DataError, Elsewhere
from mlejax.optimize import OptimizeResult

REFUSAL = (
    "this needs the rows of the groups, and they are not in memory. Groups that were fitted from a stream or by an engine "
    "have params, bse, llf, verdict, failed, tidy(), glance(), conf_int() and to_parquet(), with the covariance given to "
    "the fit; for one group's own result read its rows and fit them, "
    "model.fit(mle.Parquet(path, filters=[('group', '==', label)]))"
)
GONE = Elsewhere(REFUSAL)
_SETS = ("begins", "lengths", "sizes", "scale", "n_rows", "n_dropped")
_ARRAYS = ("u0", "theta", "interior", "codes")


def without_rows(batch: Batch) -> Batch:
    """Return a batch without its rows, scores, p x p matrices and evidence: with estimates, final points, and the statements of
    the verdicts of data sets without a maximum.

    In place of what was removed are placeholders (`Elsewhere`), whose entries and attributes raise DataError with the text
    `REFUSAL`; ``ends.information`` is None, and the weights are empty. The batch that is given is unchanged.
    """
    statements = {i: statement(batch, i) for i in np.flatnonzero(~batch.converged).tolist()}
    sets = batch.sets
    weighing = None if sets.weighing is None else replace(sets.weighing, values=np.zeros(0))
    rows: dict[str, Any] = dict.fromkeys(("leaves", "order", "weights", "table_rows", "reading"), GONE)
    rows["source"] = Elsewhere(REFUSAL, raw=None)
    none: dict[str, Any] = dict.fromkeys(("score", "information", "inverse", "jacobian", "found"), GONE)
    ends = batch.ends._replace(information=None)
    return replace(batch, sets=replace(sets, weighing=weighing, **rows), ends=ends, statements=statements, **none)


def joined(parts: Sequence[Batch], by_label: bool) -> tuple[Batch, np.ndarray]:
    """Join several batches of groups into one.

    Args:
        parts: batches from `without_rows`, at least one.
        by_label: if True, sort the data sets by their labels, if these can be compared; otherwise they follow one another.

    Returns:
        The batch, and for each of its data sets its number among those of all ``parts``, one after the other, (L,).

    Raises:
        DataError: a label occurs twice.
    """
    labels = [label for part in parts for label in part.sets.labels]
    _refuse_split(labels, parts[0].sets.label_names)
    order = _sorted(labels) if by_label else np.arange(len(labels))
    place, first = np.argsort(order), np.cumsum([0, *(len(part.sets) for part in parts)])

    def array(of: Callable[[Batch], Any], name: str) -> Any:
        found = [getattr(of(part), name) for part in parts]
        return None if found[0] is None else jax.tree.map(lambda *a: np.concatenate(a)[order], *found)

    def numbered(of: Callable[[Batch], Any], name: str) -> dict[int, Any]:
        each = zip(first, parts, strict=False)
        return {int(place[a + i]): v for a, part in each for i, v in getattr(of(part), name).items()}

    sets: dict[str, Any] = {name: array(lambda b: b.sets, name) for name in _SETS}
    lengths = {n: k for part in parts for n, k in part.sets.n_out.items()}
    together: DataSets = replace(
        parts[0].sets,
        labels=[labels[i] for i in order],
        bad=numbered(lambda b: b.sets, "bad"),
        n_out=lengths,
        **sets,
    )
    whole: dict[str, Any] = {name: array(lambda b: b, name) for name in (*_ARRAYS, "params", "plain")}
    dicts: dict[str, Any] = {name: numbered(lambda b: b, name) for name in ("statements", "notes", "modes", "closed")}
    ends = OptimizeResult.joined([part.ends for part in parts]).of(order)
    done = all(part.finished for part in parts)
    return replace(parts[0], sets=together, ends=ends, finished=done, **whole, **dicts), order


def _refuse_split(labels: list[Any], names: Sequence[str]) -> None:
    """Raise DataError if a label of a group occurs twice; ``names``, of the columns of groups, are for its message."""
    seen: set[Any] = set()
    for label in labels:
        if label in seen:
            what = ", ".join(names)
            raise DataError(
                f"fit_groups: the rows of group {label!r} are in several places: the rows of a stream have to be sorted by "
                f"{what} across all of its files or batches. Sort them, or load the columns in use into memory"
            )
        seen.add(label)


def _sorted(labels: list[Any]) -> np.ndarray:
    """Return the positions of the labels in sorted order, (L,); 0, 1, 2, ... if labels cannot be compared with one another."""
    try:
        return np.array(sorted(range(len(labels)), key=labels.__getitem__), np.int64)
    except TypeError:  # labels of several types
        return np.arange(len(labels))
