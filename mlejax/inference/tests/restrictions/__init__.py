"""Restrictions in the words of the user: text, terms of formulas, matrices; and z tests of linear combinations."""
