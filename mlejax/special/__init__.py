"""Distribution functions whose derivatives JAX lacks, for likelihoods with censored or truncated rows.

``jax.scipy.special.gammainc`` has no second derivative in its shape, and ``betainc`` none at all in a and b, so that
the Hessian of a censored gamma, beta or Student t likelihood does not exist. These have derivatives of every order in
every argument, under ``jit``, ``vmap``, ``grad`` and ``hessian``, and ``log_`` versions for the tails. ``log_sigmoid`` and
``softplus``, ``gammaln`` and ``digamma`` JAX has too; here value and derivatives cost a fraction of what they do there.

The log-densities hold through their limits: ``nb2_logpmf`` at alpha = 0 is the Poisson distribution, ``t_logpdf`` at
df = inf the normal, ``gev_logpdf`` and ``gpd_logpdf`` at xi = 0 the Gumbel and exponential, with the derivatives there.
Their textbook formulas lose all digits near these limits.
"""

from mlejax.special.counts import nb2_logpmf
from mlejax.special.extremes import (
    gev_cdf,
    gev_logcdf,
    gev_logpdf,
    gev_logsf,
    gev_sf,
    gpd_cdf,
    gpd_logcdf,
    gpd_logpdf,
    gpd_logsf,
    gpd_sf,
)
from mlejax.special.gamma import digamma, gammaln
from mlejax.special.incomplete import (
    betainc,
    betaincc,
    gammainc,
    gammaincc,
    log_betainc,
    log_betaincc,
    log_gammainc,
    log_gammaincc,
)
from mlejax.special.logistic import log_sigmoid, softplus
from mlejax.special.student import log_stdtr, stdtr, t_logpdf, t_logpdf_inverse

__all__ = [
    "betainc",
    "betaincc",
    "digamma",
    "gammainc",
    "gammaincc",
    "gammaln",
    "gev_cdf",
    "gev_logcdf",
    "gev_logpdf",
    "gev_logsf",
    "gev_sf",
    "gpd_cdf",
    "gpd_logcdf",
    "gpd_logpdf",
    "gpd_logsf",
    "gpd_sf",
    "log_betainc",
    "log_betaincc",
    "log_gammainc",
    "log_gammaincc",
    "log_sigmoid",
    "log_stdtr",
    "nb2_logpmf",
    "softplus",
    "stdtr",
    "t_logpdf",
    "t_logpdf_inverse",
]
