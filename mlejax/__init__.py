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

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mlejax.companions import CompanionError
from mlejax.covariance import Survey
from mlejax.data import DataError, DataTypeError, MissingColumnError, Shared, Static
from mlejax.data.streams import Parquet, Stream
from mlejax.execution import enable_compilation_cache
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
from mlejax.verdict import ConvergenceWarning, Verdict

if TYPE_CHECKING:
    from mlejax import plot, special
    from mlejax.files import FileError
    from mlejax.fit import Problem, Solution, l2
    from mlejax.fit.solve import solve
    from mlejax.inference import simulation_study
    from mlejax.results import BatchResults, Results, compare, load, pool, stack
    from mlejax.scikit import sklearn

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

# names that declare no model: the room of each, which is imported when one of its names is first used
_LATER = {
    **dict.fromkeys(("BatchResults", "Results", "compare", "load", "pool", "stack"), "results"),
    **dict.fromkeys(("Problem", "Solution", "l2", "solve"), "fit"),
    "FileError": "files",
    "plot": "plot",
    "simulation_study": "inference",
    "sklearn": "scikit",
    "special": "special",
}


def __getattr__(name: str) -> Any:
    """Import a name of `_LATER` (PEP 562)."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room = importlib.import_module(f"{__name__}.{_LATER[name]}")
    globals()[name] = room if name == _LATER[name] else getattr(room, name)
    return globals()[name]


def __dir__() -> list[str]:
    """Return the public names; subpackages can be imported, but are not listed."""
    return __all__
