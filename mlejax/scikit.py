"""scikit-learn estimators made from models with a parameter that depends on features; scikit-learn is imported when needed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from jax.typing import ArrayLike

from mlejax.misuse import door
from mlejax.model import Model

FEATURES = "features"


@door
def sklearn(
    model: Model, X: str, y: str, *, fit_intercept: bool = True, options: Mapping[str, Any] | None = None
) -> Any:
    """Return a scikit-learn regressor for pipelines, cross-validation and grids: ``mle.sklearn(model, X="mu", y="height")``.

    Args:
        model: any row-wise model; declared at the top of a module, so that copies of the estimator share compiled programs.
        X: name of the parameter that depends on the features, through its link.
        y: name of the outcome column that the function reads.
        fit_intercept: if True, add a column of ones to the features.
        options: options of :meth:`Model.fit`, such as ``{"method": "lbfgs"}``.

    Returns:
        An estimator with ``fit(X, y)``, ``predict(X)`` and ``score(X, y)`` (R squared).  ``predict`` returns the expected
        outcome by :meth:`Model.mean` if that is declared, else the value of the parameter ``X``, natural scale, (n,);
        ``result_`` is the :class:`Results` of the fit.

    Raises:
        ImportError: scikit-learn is not installed, or older than 1.6.
        TypeError: ``model`` is not a model.

    Example:
        >>> import numpy as np, mlejax as mle
        >>> from jax.scipy.stats import norm
        >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
        ... def gaussian(params, data):
        ...     return norm.logpdf(data["height"], params["mu"], params["sigma"])
        >>> X, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([1.0, 3.1, 4.9, 7.0])
        >>> fitted = mle.sklearn(gaussian, X="mu", y="height").fit(X, y)
        >>> fitted.predict([[4.0]]).round(3), round(fitted.score(X, y), 4)
        (array([8.95]), 0.9991)
    """
    if not isinstance(model, Model):
        raise TypeError(f"mle.sklearn expected a model made by @mle.model, got {model!r}: give the model itself")
    return regressor()(model, X, y, fit_intercept, options)


@cache
def regressor() -> Any:
    """Return the estimator class, whose base classes come from scikit-learn; ImportError if that is not installed, or older
    than 1.6.
    """
    try:
        from sklearn.base import BaseEstimator, RegressorMixin
        from sklearn.utils.validation import check_is_fitted, validate_data
    except ImportError as error:
        raise ImportError("mle.sklearn needs scikit-learn 1.6 or newer: pip install scikit-learn") from error

    class Regressor(RegressorMixin, BaseEstimator):
        """A model with a parameter that depends on features, as a scikit-learn regressor; made by :func:`mlejax.sklearn`."""

        def __init__(
            self,
            model: Any = None,
            X: str = "",
            y: str = "",
            fit_intercept: bool = True,
            options: Mapping[str, Any] | None = None,
        ) -> None:
            self.model, self.X, self.y, self.fit_intercept, self.options = model, X, y, fit_intercept, options

        def fit(self, X: Any, y: ArrayLike) -> Any:
            """Maximise the likelihood for features X (n, p) and outcomes y (n,); return the estimator."""
            X, y = validate_data(self, X, y, y_numeric=True, dtype=np.float64, ensure_min_samples=2)
            regressed = self.model.regress({self.X: FEATURES})
            self.result_ = regressed.fit({self.y: y, **self._design(X)}, **dict(self.options or {}))
            return self

        def predict(self, X: Any) -> Any:
            """Return (n,) for features X (n, p): the expected outcome by `Model.mean` if that is declared, else the value of
            the parameter that depends on the features, natural scale.
            """
            check_is_fitted(self)
            data = self._design(validate_data(self, X, dtype=np.float64, reset=False))
            what = ("mean", data) if "mean" in self.model.likelihood.companions else (data,)
            return self.result_.predict(*what)["estimate"].to_numpy()

        def _design(self, X: Any) -> dict[str, Any]:
            import pandas as pd

            names = getattr(self, "feature_names_in_", [f"x{j}" for j in range(X.shape[1])])
            frame = pd.DataFrame(X, columns=list(names))
            if self.fit_intercept:
                frame.insert(0, "Intercept", 1.0)
            return {FEATURES: frame}

    Regressor.__module__, Regressor.__qualname__ = __name__, "Regressor"  # where pickle finds it
    return Regressor


def __getattr__(name: str) -> Any:
    if name == "Regressor":
        return regressor()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
