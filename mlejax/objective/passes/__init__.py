"""The evaluator of data that are read in passes over partitions, and what passes collect."""
