"""The front door: ``@mle.model`` turns a log-likelihood into an object that fits."""

from mlejax.model.declaring import model
from mlejax.model.doors import Model
from mlejax.model.extending import extended
from mlejax.model.joining import JointModel, joint

__all__ = ["JointModel", "Model", "extended", "joint", "model"]
