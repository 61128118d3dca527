"""Discrete latent variables: latent classes and hidden Markov chains."""
