"""The evaluator of data that are read in passes over partitions, and the statistics that passes compute."""
