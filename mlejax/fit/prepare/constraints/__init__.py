"""Constraints that are functions: checked, satisfied at a first point, and solved for some coordinates."""
