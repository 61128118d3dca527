"""The data room: from what users have to what compiled code takes.

The way of data through it::

    source = ingest(data)                          # as they came; nothing checked yet
    reads = set()
    jax.eval_shape(lambda t: f(params, source.view(t, reads)), source.abstract(n_rows=8))
    rows = source.convert(reads)                   # the columns read: checked, float64 / int64 / bool
    prepared = pack(rows, weights)                 # padded to blocks, weight 0 in the padding; a JAX tree
    f(params, assemble(prepared.rows, prepared.shared, prepared.layout))

Users see `Shared`, `Static` and the three errors. What is dropped is counted, what cannot be used is refused, with the
column, the rows and what to do; nothing is silently cast.
"""

from mlejax.execution import aligned

from .convert import Rows
from .designs import DesignKey, by_row
from .errors import SHOWN_ROWS, DataError, DataTypeError, MissingColumnError, near_matches, rows_phrase
from .fingerprint import Fingerprint, Taken, awaited_fingerprint, fingerprint
from .formulas import check_formula, n_rows
from .layout import Layout, Shared, Static, assemble
from .padding import blocks, bucket, check_weights, divisor, pad, replace_zero_weight
from .prepared import Prepared, pack
from .source import Source, column_labels, ingest
from .tall import STREAMED, Tall
from .units import TRACED_UNIT_LENGTH, Units, constant_within, group_codes, units
from .view import View
from .weights import Weights, check_weight_kind, make_weights

__all__ = [
    "SHOWN_ROWS",
    "STREAMED",
    "TRACED_UNIT_LENGTH",
    "DataError",
    "DataTypeError",
    "DesignKey",
    "Fingerprint",
    "Layout",
    "MissingColumnError",
    "Prepared",
    "Rows",
    "Shared",
    "Source",
    "Static",
    "Taken",
    "Tall",
    "Units",
    "View",
    "Weights",
    "aligned",
    "assemble",
    "awaited_fingerprint",
    "blocks",
    "bucket",
    "by_row",
    "check_formula",
    "check_weight_kind",
    "check_weights",
    "column_labels",
    "constant_within",
    "divisor",
    "fingerprint",
    "group_codes",
    "ingest",
    "make_weights",
    "n_rows",
    "near_matches",
    "pack",
    "pad",
    "replace_zero_weight",
    "rows_phrase",
    "units",
]
