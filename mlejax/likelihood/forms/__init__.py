"""Wrappers of the user's function: with formulas, with effects of levels, with an expected total, or with unit-level
columns.
"""
