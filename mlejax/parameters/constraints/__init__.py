"""Equality constraints: coordinates that are kept, and those that follow from them."""
