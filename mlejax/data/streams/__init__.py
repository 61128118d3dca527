"""Tables larger than memory: their sources, their division into chunks, and passes over them."""

from mlejax.data.streams.checksums import Seen, joined
from mlejax.data.streams.cutting import FILTER, Cut, has_rows, naming
from mlejax.data.streams.kept_passes import KeptPasses
from mlejax.data.streams.level_codes import LevelCodes, Sizes, level_sizes, together
from mlejax.data.streams.passes import Engine, RowOfLevel, Streamed, Threads, UnitCounts
from mlejax.data.streams.sorted_rows import GroupedRows, Groups, check_whole, groups_of, whole_groups
from mlejax.data.streams.sources import Parquet, Partition, RowGroup, Source, Stream, StreamBatch
from mlejax.data.streams.unit_chunks import CutChunk, InUnits

__all__ = [
    "FILTER",
    "Cut",
    "CutChunk",
    "Engine",
    "GroupedRows",
    "Groups",
    "InUnits",
    "KeptPasses",
    "LevelCodes",
    "Parquet",
    "Partition",
    "RowGroup",
    "RowOfLevel",
    "Seen",
    "Sizes",
    "Source",
    "Stream",
    "StreamBatch",
    "Streamed",
    "Threads",
    "UnitCounts",
    "check_whole",
    "groups_of",
    "has_rows",
    "joined",
    "level_sizes",
    "naming",
    "together",
    "whole_groups",
]
