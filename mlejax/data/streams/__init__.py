"""Tables larger than memory: their sources, their division into chunks, and passes over them."""

from mlejax.data.streams.cutting import FILTER, Cut, Seen, has_rows, joined, naming
from mlejax.data.streams.passes import Engine, Streamed, Threads
from mlejax.data.streams.sorted_rows import GroupedRows, Groups, check_whole, groups_of, whole_groups
from mlejax.data.streams.sources import Parquet, Partition, RowGroup, Source, Stream, StreamBatch

__all__ = [
    "FILTER",
    "Cut",
    "Engine",
    "GroupedRows",
    "Groups",
    "Parquet",
    "Partition",
    "RowGroup",
    "Seen",
    "Source",
    "Stream",
    "StreamBatch",
    "Streamed",
    "Threads",
    "check_whole",
    "groups_of",
    "has_rows",
    "joined",
    "naming",
    "whole_groups",
]
