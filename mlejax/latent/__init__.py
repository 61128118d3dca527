"""A joint log-likelihood in, an ordinary one out: latent variables are integrated out, unit by unit."""

from mlejax.latent.checks import conditional
from mlejax.latent.integral import grid
from mlejax.latent.marginal import Marginal, integrated, marginal_likelihood, marginal_of, quadrature_of
from mlejax.latent.variable import LAPLACE, Latent, Quadrature

__all__ = [
    "LAPLACE",
    "Latent",
    "Marginal",
    "Quadrature",
    "conditional",
    "grid",
    "integrated",
    "marginal_likelihood",
    "marginal_of",
    "quadrature_of",
]
