"""Effects of ``mle.Real(by=...)`` in a file: levels, estimates, curvatures and derivatives in the other parameters."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from mlejax import data as data_room
from mlejax.files.fields import count, flag, label, list_of, matrix, number, record, require, text, vector
from mlejax.files.saved_designs import labels_of
from mlejax.fit import Effects
from mlejax.shapes import Host

EFFECTS = record(
    SimpleNamespace,
    parameter=text,
    by=text,
    levels=list_of(label),
    values=list_of(number),
    rows=list_of(count),
    given=list_of(flag),
    curvature=vector,
    lever=matrix,
    left_out=record(SimpleNamespace, levels=list_of(label), signs=vector, rows=list_of(count)),
    further=list_of(
        record(SimpleNamespace, parameter=text, by=text, levels=list_of(text), references=list_of(text))
    ),
)


def written(effects: Effects | None, coded: tuple[data_room.Coded, ...]) -> SimpleNamespace | None:
    """Return effects with the attributes of ``EFFECTS``; None if ``effects`` is None.

    Args:
        effects: the effects that were eliminated, at their estimates.
        coded: the effects that were estimated as coefficients; their levels are stored.

    Raises:
        TypeError: some levels are neither strings nor numbers (dates, for example).
    """
    if effects is None:
        return None
    levels, signs, rows = effects.left_out
    return SimpleNamespace(
        parameter=effects.key.parameter,
        by=effects.key.by,
        levels=labels_of(effects.levels.labels, effects.key.by),
        values=effects.values.tolist(),
        rows=effects.counts.astype(np.int64).tolist(),
        given=effects.given.tolist(),
        curvature=effects.curvature,
        lever=effects.lever,
        left_out=SimpleNamespace(
            levels=labels_of(levels, effects.key.by), signs=np.asarray(signs, np.float64), rows=[int(n) for n in rows]
        ),
        further=[
            SimpleNamespace(parameter=k.parameter, by=k.by, levels=k.labels, references=k.references)
            for k in (one.key for one in coded)
        ],
    )


def read(saved: SimpleNamespace, p: int) -> tuple[Effects, tuple[data_room.Coded, ...]]:
    """Convert the fields of ``EFFECTS`` back to effects; the inverse of :func:`written`, without the level of each row.

    ``p`` is the number of free parameters that are not effects.

    Raises:
        FileError: the lengths of the parts differ.
    """
    n, gone = len(saved.levels), saved.left_out
    sizes = {len(saved.values), len(saved.rows), len(saved.given), len(saved.curvature), len(saved.lever)}
    require(sizes == {n} and (p == 0 or n == 0 or saved.lever.shape[1] == p), "the levels of the effects and their estimates")
    require({len(gone.signs), len(gone.rows)} == {len(gone.levels)}, "the levels of effects that were left out")
    effects = Effects(
        data_room.EffectKey(saved.parameter, saved.by),
        data_room.Levels(np.zeros(0, np.int64), _labels(saved.levels)),
        np.array(saved.values, np.float64),
        np.array(saved.rows, np.int64),
        np.array(saved.given, bool),
        saved.curvature,
        saved.lever.reshape(n, p),
        (_labels(gone.levels), gone.signs, np.array(gone.rows, np.int64)),
    )
    none = data_room.Levels(np.zeros(0, np.int64), np.zeros(0, object))
    further = (data_room.CodesKey(f.parameter, f.by, f.levels, f.references) for f in saved.further)
    return effects, tuple(data_room.Coded(key, none) for key in further)


def _labels(values: tuple[object, ...]) -> Host:
    out = np.empty(len(values), object)
    out[:] = values
    return out
