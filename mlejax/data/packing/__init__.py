"""From columns to the arrays of a compiled program: their structure, their padding, and large columns that are not copied."""
