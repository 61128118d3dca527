"""Evaluators of data in memory: one data set in chunks, on several devices, at many points; and many data sets."""
