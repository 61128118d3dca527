"""What an editor knows of a user's program: checked by mypy and basedpyright (`make lint`), not run."""

from collections.abc import Callable
from typing import Any, assert_type

import numpy as np
from jax.scipy.stats import norm

import mlejax as mle


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def gaussian(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["mu"], params["sigma"])


@mle.model
def bare(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["mu"])


DATA = {"y": np.array([1.0, 2.0, 4.0])}


def program() -> None:
    """Never called."""
    assert_type(gaussian, mle.Model)
    assert_type(bare, mle.Model)
    assert_type(mle.model(mu=mle.Real(), optional=["y"]), Callable[[Callable[[Any, Any], Any]], mle.Model])
    assert_type(gaussian.regress(mu="x"), mle.Model)

    res = gaussian.fit(DATA, method="lbfgs", cov_type="robust", missing="drop", integrate="laplace")
    assert_type(res, mle.Results)
    assert_type(res.llf, float)
    assert_type(res.converged, bool)
    assert_type(res.verdict, mle.Verdict)
    assert_type(res.verdict.code, str)
    assert_type(res.with_cov("HC1"), mle.Results)
    assert_type(gaussian.fit_batch({"y": np.ones((2, 3))}), mle.BatchResults)
    assert_type(gaussian.fit_groups(DATA, by=["a", "a", "b"])["a"], mle.Results)

    gaussian.fit(DATA, method=mle.Newton(tol=1e-12))
    gaussian.fit(DATA, method=mle.Adam(batch_size=2))
    res.conf_int(method="profile")
    res.predict(lambda params, data: params["mu"], DATA)

    # options that do not exist: both checkers must refuse each of these lines, or report an ignore that is not needed
    gaussian.fit(DATA, method="nelder-mead")  # type: ignore[arg-type]
    gaussian.fit(DATA, cov_type="hc7")  # type: ignore[arg-type]
    gaussian.fit(DATA, maxiter=100)  # type: ignore[call-arg]
    gaussian.fit(DATA, missing="ignore")  # type: ignore[arg-type]
    res.conf_int(level=0.95)  # type: ignore[call-arg]
