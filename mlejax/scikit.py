"""A model whose parameter depends on features, as an estimator of scikit-learn, which is imported when one is made."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from jax.typing import ArrayLike

from mlejax.model import Model

FEATURES = "features"


def sklearn(
    model: Model, X: str, y: str, *, fit_intercept: bool = True, options: Mapping[str, Any] | None = None
) -> Any:
    """A regressor for pipelines, cross-validation and grids: ``mle.sklearn(model, X="mu", y="height")``.

    Args:
        model: any model by rows; declared at the top of a module, so that copies of the estimator share what was compiled.
        X: the parameter that depends on the features, through its link.
        y: what the function calls the outcome.
        fit_intercept: a column of ones beside the features.
        options: of :meth:`Model.fit`, ``{"method": "lbfgs"}``.

    Returns:
        An estimator with ``fit(X, y)``, ``predict(X)`` and ``score(X, y)``: ``predict`` gives :meth:`Model.mean` where it is
        declared, else the parameter; ``result_`` is the :class:`Results` with its whole inference.

    Raises:
        ImportError: scikit-learn is not installed.

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
        raise TypeError(f"mle.sklearn expected a model, got {model!r}")
    return regressor()(model, X, y, fit_intercept, options)


@cache
def regressor() -> Any:
    """The class, whose bases are scikit-learn's."""
    try:
        from sklearn.base import BaseEstimator, RegressorMixin
        from sklearn.utils.validation import check_is_fitted, validate_data
    except ImportError as error:
        raise ImportError("mle.sklearn needs scikit-learn 1.6 or newer: pip install scikit-learn") from error

    class Regressor(RegressorMixin, BaseEstimator):
        """A regressed model as a regressor; made by :func:`mlejax.sklearn`."""

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
            """Maximise the likelihood."""
            X, y = validate_data(self, X, y, y_numeric=True, dtype=np.float64, ensure_min_samples=2)
            regressed = self.model.regress({self.X: FEATURES})
            self.result_ = regressed.fit({self.y: y, **self._design(X)}, **dict(self.options or {}))
            return self

        def predict(self, X: Any) -> Any:
            """The expected outcome, or the parameter that depends on the features."""
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
