"""Tests that compare two fits of the same data."""
