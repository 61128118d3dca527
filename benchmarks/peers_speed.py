"""Other Python programs, and Newton's method written by hand for one model, as benchmarks/speed.py times them.

Each takes the arrays and gives estimates and standard errors; those by hand also how often they went over the rows.
"""

import warnings
from typing import Any

import numpy as np

Answer = tuple[np.ndarray, np.ndarray]  # estimates and standard errors
Data = dict[str, np.ndarray]


class Passes:
    """Counts how often a program by hand goes over the rows."""

    def __init__(self) -> None:
        self.n = 0


# ---- by hand: all rows at once, what a careful user of NumPy writes


def numpy_logit(d: Data, start: np.ndarray, passes: Passes) -> Answer:
    """Newton's method in beta."""
    X, y, beta = d["X"], d["y"], start
    passes.n = 0
    while True:
        passes.n += 1
        mean = 1.0 / (1.0 + np.exp(-(X @ beta)))
        information = (X * (mean * (1 - mean))[:, None]).T @ X
        score = X.T @ (y - mean)
        step = np.linalg.solve(information, score)
        beta = beta + step
        if score @ step < 1e-10:
            return beta, np.sqrt(np.diag(np.linalg.inv(information)))


def numpy_weibull(d: Data, start: np.ndarray, passes: Passes) -> Answer:
    """In (beta, log sigma); ``start`` holds sigma."""
    X, log_t, event = d["X"], np.log(d["t"]), d["d"]

    def derivatives(beta: np.ndarray, log_sigma: float) -> tuple[np.ndarray, np.ndarray]:
        s, p = np.exp(log_sigma), beta.size
        z = (log_t - X @ beta) / s
        e = np.exp(z)
        r = e - event
        cross = X.T @ (r + z * e) / s
        information = np.empty((p + 1, p + 1))
        information[:p, :p] = (X * (e / s**2)[:, None]).T @ X
        information[:p, p] = information[p, :p] = cross
        information[p, p] = np.sum(z * r + z * z * e)
        return np.concatenate([X.T @ r / s, [np.sum(r * z - event)]]), information

    return _newton(derivatives, start, passes)


def numpy_negbin(d: Data, start: np.ndarray, passes: Passes, tabulated: bool = False) -> Answer:
    """In (beta, log alpha); ``start`` holds alpha. ``tabulated``: digamma and trigamma once for every distinct count."""
    from scipy.special import digamma, polygamma

    X, y = d["X"], d["y"]
    counts, where = np.unique(y, return_inverse=True) if tabulated else (y, slice(None))

    def derivatives(beta: np.ndarray, log_alpha: float) -> tuple[np.ndarray, np.ndarray]:
        r, p = np.exp(-log_alpha), beta.size
        mu = np.exp(X @ beta)
        both = mu + r
        slope = (digamma(counts + r) - digamma(r))[where] + np.log(r) + 1.0 - np.log(both) - (y + r) / both
        bend = (polygamma(1, counts + r) - polygamma(1, r))[where] + 1 / r - 2 / both + (y + r) / both**2
        information = np.empty((p + 1, p + 1))
        information[:p, :p] = (X * (r * mu * (y + r) / both**2)[:, None]).T @ X
        information[:p, p] = information[p, :p] = r * (X.T @ (mu * (y - mu) / both**2))
        information[p, p] = -np.sum(r**2 * bend + r * slope)
        return np.concatenate([X.T @ (r * (y - mu) / both), [-r * np.sum(slope)]]), information

    return _newton(derivatives, start, passes)


def _newton(derivatives: Any, start: np.ndarray, passes: Passes) -> Answer:
    """Steps of at most 2 in (beta, logarithm of the last one), or along the gradient where there is no maximum near."""
    u = np.concatenate([start[:-1], [np.log(start[-1])]])
    passes.n = 0
    while True:
        passes.n += 1
        score, information = derivatives(u[:-1], u[-1])
        values, vectors = np.linalg.eigh(information)
        step = vectors @ ((vectors.T @ score) / np.maximum(np.abs(values), 1e-8 * values.max()))
        u = u + step * min(1.0, 2.0 / np.abs(step).max())
        if score @ step < 1e-10:
            error = np.sqrt(np.diag(np.linalg.inv(information)))
            scale = np.exp(u[-1])
            return np.concatenate([u[:-1], [scale]]), np.concatenate([error[:-1], [scale * error[-1]]])


# ---- packages


def sklearn_logit(solver: str, X: np.ndarray, y: np.ndarray) -> Answer:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=np.inf, solver=solver, fit_intercept=False, tol=1e-8, max_iter=500).fit(X, y)
    beta = model.coef_[0]
    mean = 1.0 / (1.0 + np.exp(-(X @ beta)))
    information = (X * (mean * (1 - mean))[:, None]).T @ X
    return beta, np.sqrt(np.diag(np.linalg.inv(information)))


def glum_logit(X: np.ndarray, y: np.ndarray) -> Answer:
    from glum import GeneralizedLinearRegressor

    model = GeneralizedLinearRegressor(family="binomial", alpha=0.0, fit_intercept=False, gradient_tol=1e-8)
    model.fit(X, y)
    return model.coef_, model.std_errors(X, y, robust=False, expected_information=True)


def statsmodels_fit(name: str, data: dict[str, np.ndarray], **kwds: Any) -> Answer:
    import statsmodels.api as sm

    res = getattr(sm, name)(data["y"], data["X"]).fit(disp=0, **kwds)
    return np.asarray(res.params), np.asarray(res.bse)


def statsmodels_weibull(data: dict[str, np.ndarray], start: np.ndarray) -> Answer:
    from statsmodels.base.model import GenericLikelihoodModel

    class Weibull(GenericLikelihoodModel):  # type: ignore[misc]
        def nloglikeobs(self, params: np.ndarray) -> np.ndarray:
            t, d = self.endog[:, 0], self.endog[:, 1]
            z = (np.log(t) - self.exog @ params[:-1]) / np.exp(params[-1])
            return -(d * (z - params[-1] - np.log(t)) - np.exp(z))

    model = Weibull(np.column_stack([data["t"], data["d"]]), data["X"], extra_params_names=["log_sigma"])
    res = model.fit(start_params=start, method="bfgs", gtol=1e-6, disp=0)
    estimate, error = np.array(res.params), np.array(res.bse)
    estimate[-1] = np.exp(estimate[-1])
    error[-1] *= estimate[-1]
    return estimate, error


def arch_garch(y: np.ndarray) -> Answer:
    from arch import arch_model

    res = arch_model(y, mean="Zero", vol="GARCH", p=1, q=1, rescale=False).fit(disp="off", options={"ftol": 1e-12})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classic = np.sqrt(np.diag(np.linalg.inv(_information(res))))
    return np.asarray(res.params), classic


def _information(res: Any) -> np.ndarray:
    """The observed information that `arch` computes for its covariances, by differences."""
    return np.linalg.inv(np.asarray(res.model.compute_param_cov(res.params, robust=False)))
