"""``@mle.model``: turn a log-likelihood function into a `Model`, which can be fitted."""

from mlejax.model.declaring import model
from mlejax.model.doors import Model
from mlejax.model.extending import extended
from mlejax.model.joining import JointModel, joint

__all__ = ["JointModel", "Model", "extended", "joint", "model"]
