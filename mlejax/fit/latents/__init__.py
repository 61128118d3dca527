"""Fits of models with latents: the number of points chooses itself, classes, and their labels."""
