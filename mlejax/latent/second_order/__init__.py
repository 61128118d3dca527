"""Value, score and Hessian of integrals over random effects, from derivatives of rows by their linear predictor."""

from mlejax.latent.second_order.expansion import SecondOrder, Unit

__all__ = ["SecondOrder", "Unit"]
