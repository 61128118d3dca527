"""Restrictions given as text, terms of formulas or matrices; z tests of linear combinations."""
