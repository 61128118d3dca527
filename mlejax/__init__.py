"""mlejax: maximum likelihood for any log-likelihood that is a pure JAX function.

    import mlejax as mle
    from jax.scipy.stats import norm

    @mle.model(mu=mle.Real(), sigma=mle.Positive())
    def gaussian(params, data):
        return norm.logpdf(data["height"], params["mu"], params["sigma"])

    print(gaussian.fit(df).summary())

A fit maximises the log-likelihood by Newton's method (or BHHH, L-BFGS, Adam, any optax transformation) in float64, without
changing JAX's global flags.  It gives standard errors from the exact Hessian and scores, and a verdict on whether the
estimates are a maximum.
"""

from mlejax import plot, special
from mlejax.companions import CompanionError
from mlejax.covariance import Survey
from mlejax.data import DataError, DataTypeError, MissingColumnError, Shared, Static
from mlejax.data.streams import Parquet, Stream
from mlejax.execution import enable_compilation_cache
from mlejax.files import FileError
from mlejax.fit import Problem, Solution, l2, solve
from mlejax.inference import simulation_study
from mlejax.latent import Discrete, Draws, Latent, Markov, Quadrature, Sobol
from mlejax.likelihood import LikelihoodError
from mlejax.model import JointModel, Model, extended, joint, model
from mlejax.optimize import BHHH, EM, LBFGS, Adam, FirstOrder, Method, Newton, Step
from mlejax.parameters import (
    AddressError,
    Cholesky,
    Correlation,
    Covariance,
    Free,
    Interval,
    Linear,
    NonNegative,
    Ordered,
    Positive,
    Real,
    Simplex,
)
from mlejax.results import BatchResults, Results, compare, load, pool, stack
from mlejax.scikit import sklearn
from mlejax.verdict import ConvergenceWarning, Verdict

__version__ = "0.2.0"

__all__ = [
    "BHHH",
    "EM",
    "LBFGS",
    "Adam",
    "AddressError",
    "BatchResults",
    "Cholesky",
    "CompanionError",
    "ConvergenceWarning",
    "Correlation",
    "Covariance",
    "DataError",
    "DataTypeError",
    "Discrete",
    "Draws",
    "FileError",
    "FirstOrder",
    "Free",
    "Interval",
    "JointModel",
    "Latent",
    "LikelihoodError",
    "Linear",
    "Markov",
    "Method",
    "MissingColumnError",
    "Model",
    "Newton",
    "NonNegative",
    "Ordered",
    "Parquet",
    "Positive",
    "Problem",
    "Quadrature",
    "Real",
    "Results",
    "Shared",
    "Simplex",
    "Sobol",
    "Solution",
    "Static",
    "Step",
    "Stream",
    "Survey",
    "Verdict",
    "compare",
    "enable_compilation_cache",
    "extended",
    "joint",
    "l2",
    "load",
    "model",
    "plot",
    "pool",
    "simulation_study",
    "sklearn",
    "solve",
    "special",
    "stack",
]


def __dir__() -> list[str]:
    """Return the public names; subpackages can be imported, but are not listed."""
    return __all__
