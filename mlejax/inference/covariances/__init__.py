"""Covariances of theta from finished fits: every kind, survey designs, leverage, linear combinations."""
