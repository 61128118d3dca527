"""Latents that take a few values: classes and hidden Markov chains."""
