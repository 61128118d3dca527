"""Log-likelihoods of units with random effects, and their first two derivatives, without differentiating an integral."""

from mlejax.latent.second_order.at_modes import Unit
from mlejax.latent.second_order.expansion import MOST_COMMON, SecondOrder

__all__ = ["MOST_COMMON", "SecondOrder", "Unit"]
