"""Reading of data: from the user's table to checked columns of one length."""

from mlejax.data.read.checked import Gap, Rows, refuse_gaps, without_gaps
from mlejax.data.read.columns import NUMERIC, Column, is_pandas
from mlejax.data.read.foreign import columns_of, like
from mlejax.data.read.table import Table, column_labels, ingest
from mlejax.data.read.trees import is_column, map_columns
from mlejax.data.read.view import View

__all__ = [
    "NUMERIC",
    "Column",
    "Gap",
    "Rows",
    "Table",
    "View",
    "column_labels",
    "columns_of",
    "ingest",
    "is_column",
    "is_pandas",
    "like",
    "map_columns",
    "refuse_gaps",
    "without_gaps",
]
