"""From the user's data to the arrays that compiled code takes.

The way of data::

    table = ingest(data)                           # as they came; nothing is checked yet
    reads = set()
    jax.eval_shape(lambda t: f(params, table.view(t, reads)), table.abstract(n_rows=8))
    rows = table.convert(reads)                    # the columns read: checked, float64 / int64 / bool
    prepared = pack(rows, weights)                 # padded to blocks, weight 0 in the padding; a JAX tree
    f(params, assemble(prepared.rows, prepared.shared, prepared.layout))

Users see `Shared`, `Static` and the three errors. Dropped rows are counted. Unusable data raise an error that names the
column and the rows and says what to do. No value is rounded without an error.
"""

from mlejax.data.crossing import Crossing, crossing
from mlejax.data.effects import (
    Coded,
    CodesKey,
    EffectKey,
    Levels,
    codes_keys,
    effect_position,
    levels_of,
    with_codes,
    with_effects,
)
from mlejax.data.errors import SHOWN_ROWS, DataError, DataTypeError, MissingColumnError, near_matches, rows_phrase
from mlejax.data.fingerprint import Fingerprint, fingerprint
from mlejax.data.formulas import DesignKey, LevelsKey, by_row, check_formula, design_labels, levels_key
from mlejax.data.observed import OBSERVED, OpenColumns, observed_in_sets, with_observed
from mlejax.data.packing.layout import Layout, Shared, Static, assemble
from mlejax.data.packing.padding import blocks, bucket, divisor, pad, row_blocks, size_class
from mlejax.data.packing.placeholders import OF_ROWS, Elsewhere
from mlejax.data.packing.prepared import Prepared, pack
from mlejax.data.packing.streamed import StreamedColumn
from mlejax.data.packing.times import check_steps
from mlejax.data.read import Gap, Rows, Table, View, column_labels, columns_of, ingest, like
from mlejax.data.units import TRACED_UNIT_LENGTH, Units, constant_within, group_codes, units
from mlejax.data.weights import Weights, check_weight_kind, check_weights, make_weights

__all__ = [
    "OBSERVED",
    "OF_ROWS",
    "SHOWN_ROWS",
    "TRACED_UNIT_LENGTH",
    "Coded",
    "CodesKey",
    "Crossing",
    "DataError",
    "DataTypeError",
    "DesignKey",
    "EffectKey",
    "Elsewhere",
    "Fingerprint",
    "Gap",
    "Layout",
    "Levels",
    "LevelsKey",
    "MissingColumnError",
    "OpenColumns",
    "Prepared",
    "Rows",
    "Shared",
    "Static",
    "StreamedColumn",
    "Table",
    "Units",
    "View",
    "Weights",
    "assemble",
    "blocks",
    "bucket",
    "by_row",
    "check_formula",
    "check_steps",
    "check_weight_kind",
    "check_weights",
    "codes_keys",
    "column_labels",
    "columns_of",
    "constant_within",
    "crossing",
    "design_labels",
    "divisor",
    "effect_position",
    "fingerprint",
    "group_codes",
    "ingest",
    "levels_key",
    "levels_of",
    "like",
    "make_weights",
    "near_matches",
    "observed_in_sets",
    "pack",
    "pad",
    "row_blocks",
    "rows_phrase",
    "size_class",
    "units",
    "with_codes",
    "with_effects",
    "with_observed",
]
