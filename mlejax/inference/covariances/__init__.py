"""From finished fits to covariances of theta: every kind, survey designs, leverage, linear combinations."""
