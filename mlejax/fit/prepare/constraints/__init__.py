"""Nonlinear constraints: check them, find a point that satisfies them, and solve them for some coordinates."""
