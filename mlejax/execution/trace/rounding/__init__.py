"""Bounds of the rounding errors of a traced program: forward, by one reverse pass, and the rules of single operations."""
