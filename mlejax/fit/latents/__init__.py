"""Fits of models with random effects (automatic number of quadrature points) and with latent classes (their labels)."""
