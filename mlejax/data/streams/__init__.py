"""Tables larger than memory: their sources, their division into chunks, and passes over them."""

from mlejax.data.streams.cutting import FILTER, Cut, Seen, has_rows, joined, naming
from mlejax.data.streams.passes import Engine, Streamed, Threads
from mlejax.data.streams.sorted_rows import GroupedRows, whole_groups
from mlejax.data.streams.sources import Parquet, Partition, RowGroup, Source, Stream, StreamBatch

__all__ = [
    "FILTER",
    "Cut",
    "Engine",
    "GroupedRows",
    "Parquet",
    "Partition",
    "RowGroup",
    "Seen",
    "Source",
    "Stream",
    "StreamBatch",
    "Streamed",
    "Threads",
    "has_rows",
    "joined",
    "naming",
    "whole_groups",
]
