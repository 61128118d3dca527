"""Models with latent variables: a joint log-likelihood becomes an ordinary one, since latent variables are integrated out
unit by unit.
"""

from mlejax.latent.checks import at_zero, by_level, conditional, conditional_at, modes
from mlejax.latent.crossed import LEVELS, THERE
from mlejax.latent.discrete.classes import ClassLike, Discrete, Markov
from mlejax.latent.discrete.mixture import (
    Mixture,
    completed,
    latents_of,
    mixture_in,
    mixture_likelihood,
    mixture_of,
    posterior,
    random_posterior,
    with_posterior,
)
from mlejax.latent.integral import grid
from mlejax.latent.marginal import (
    Marginal,
    integrated,
    marginal_in,
    marginal_likelihood,
    marginal_of,
    quadrature_of,
    way_of,
)
from mlejax.latent.random_effects import regressed, without_random
from mlejax.latent.simulation import POINTS, Draws, Simulated, Sobol, around, of_law
from mlejax.latent.variable import LAPLACE, Latent, Quadrature

__all__ = [
    "LAPLACE",
    "LEVELS",
    "POINTS",
    "THERE",
    "ClassLike",
    "Discrete",
    "Draws",
    "Latent",
    "Marginal",
    "Markov",
    "Mixture",
    "Quadrature",
    "Simulated",
    "Sobol",
    "around",
    "at_zero",
    "by_level",
    "completed",
    "conditional",
    "conditional_at",
    "grid",
    "integrated",
    "latents_of",
    "marginal_in",
    "marginal_likelihood",
    "marginal_of",
    "mixture_in",
    "mixture_likelihood",
    "mixture_of",
    "modes",
    "of_law",
    "posterior",
    "quadrature_of",
    "random_posterior",
    "regressed",
    "way_of",
    "with_posterior",
    "without_random",
]
