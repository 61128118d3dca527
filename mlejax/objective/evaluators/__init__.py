"""Evaluators of data in memory: one data set in chunks, on several devices, or at many points; and many data sets."""
