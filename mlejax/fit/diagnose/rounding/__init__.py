"""Rounding errors at the final point of a search, and what to do if they dominate the log-likelihood."""
