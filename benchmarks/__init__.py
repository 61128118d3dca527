"""Measurements behind the tables of the documentation, one script each; ``python benchmarks/NAME.py --write`` renews a record."""
