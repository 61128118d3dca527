"""The attribute names by which statsmodels, maketables and marginaleffects read a result.

None of these packages is imported here.  statsmodels' ``summary_col`` reads ``params``, ``bse``, ``pvalues``, ``conf_int`` and
the names of ``res.model``; maketables reads the same or, for other packages, eight attributes ``__maketables_...__``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlejax import inference, misuse, report
from mlejax.results.doors import reporting
from mlejax.results.doors.fitted import Fitted

if TYPE_CHECKING:
    import pandas as pd

_ELSEWHERE = {
    **dict.fromkeys(("coef", "coefs", "coefficients", "coef_", "values", "x", "estimates"), "res.params"),
    **dict.fromkeys(("se", "std_err", "std_errors", "std_error", "stderr", "errors"), "res.bse"),
    **dict.fromkeys(("vcov", "cov", "covariance"), "res.cov_params()"),
    **dict.fromkeys(("loglik", "logLik", "log_likelihood", "ll", "fun", "fval"), "res.llf"),
    **dict.fromkeys(("confint", "ci"), "res.conf_int()"),
    **dict.fromkeys(("success", "valid", "status", "message"), "res.converged and res.verdict"),
    **dict.fromkeys(("p_values", "pvalue", "pval"), "res.pvalues"),
    **dict.fromkeys(("fitted", "fittedvalues", "fitted_values"), "res.predict(data)"),
    **dict.fromkeys(("resid", "resids"), "res.residuals()"),
    **dict.fromkeys(("predict_proba", "forward"), "res.predict(lambda params, data: ..., data)"),
    "ranef": "res.latent(), or res.random_effects()",
    "fixef": "res.params",
    "loss": "-res.llf",
    "summary2": "res.summary()",
    "anova": "res.wald_terms(), or res.lr_test(restricted)",
}  # fmt: skip
_STATISTICS = {"N": "Observations", "ll": "Log-likelihood", "aic": "AIC", "bic": "BIC", "df_model": "Free parameters"}


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """Predictions under statsmodels' names; returned by `Results.get_prediction`.  They are computed at each access.

    Attributes:
        table: function from alpha (one minus the coverage) to the table of predictions, as `Results.predict` returns it.
    """

    table: Callable[[float], Any]

    @property
    def predicted_mean(self) -> np.ndarray:
        """Predictions, natural scale (n,)."""
        return self.summary_frame()["mean"].to_numpy()

    @property
    def se_mean(self) -> np.ndarray:
        """Delta-method standard errors of the predictions (n,); NaN where there is none."""
        return self.summary_frame()["mean_se"].to_numpy()

    def conf_int(self, alpha: float = 0.05) -> np.ndarray:
        """Return confidence intervals of the predictions with coverage 1 - alpha (n, 2); not prediction intervals of new
        outcomes; ValueError if ``alpha`` is not above 0 and at most 0.5.
        """
        return self.summary_frame(alpha)[["mean_ci_lower", "mean_ci_upper"]].to_numpy()

    def summary_frame(self, alpha: float = 0.05) -> pd.DataFrame:
        """Return a DataFrame with one row per prediction: ``mean``, ``mean_se``, ``mean_ci_lower``, ``mean_ci_upper``.

        ``alpha`` is one minus the coverage of the intervals; ValueError unless it is above 0 and at most 0.5.
        """
        import pandas as pd

        found = self.table(alpha)
        theirs = {"estimate": "mean", "std_error": "mean_se", "conf_low": "mean_ci_lower", "conf_high": "mean_ci_upper"}
        return pd.DataFrame({name: np.asarray(found[ours]) for ours, name in theirs.items()}, index=getattr(found, "index", None))


@misuse.doors
class OtherNames(Fitted):
    """The attributes and methods of a result that other packages use."""

    if not TYPE_CHECKING:  # so that editors know the attributes

        def __getattr__(self, name: str) -> Any:
            """Raise AttributeError; if other packages use this name, the message says what to write here.  Python calls this
            for missing attributes only.
            """
            instead = f"; write {_ELSEWHERE[name]}" if name in _ELSEWHERE else ""
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{instead}", name=name, obj=self)

    @property
    def use_t(self) -> bool:
        """True if tests and intervals use Student's t ("CR2", "CR3", survey designs), False if the normal distribution."""
        return bool(np.isfinite(self._cov.df))

    def get_prediction(self, exog: Any = None, **options: Any) -> Prediction:
        """Return predictions as `predict` does, under statsmodels' names.

        Args:
            exog: new data; the rows of the fit by default.
            **options: options of `predict`, apart from ``alpha``, and ``function=``, its first argument.

        Example:
            >>> import mlejax as mle
            >>> from jax.scipy.stats import norm
            >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
            ... def gaussian(params, data):
            ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
            >>> res = gaussian.regress(mu="x").fit({"y": [1.0, 2.0, 6.0, 3.0], "x": [0, 1, 2, 0]})
            >>> res.get_prediction({"x": [3]}).summary_frame().round(3)
                mean  mean_se  mean_ci_lower  mean_ci_upper
            0  7.091    1.602          3.951         10.231
        """
        data = inference.rows_of(self._fit, None, "get_prediction", "exog=")[0] if exog is None else exog
        function, more = options.pop("function", None), dict(options)
        table = lambda alpha: inference.predict(
            self._fit, self._cov, function, data, **more, alpha=alpha, reason=self._entries.reason
        )
        return Prediction(table)

    def to_marginaleffects(self, of: Callable[..., Any] | None = None) -> Any:
        """Return a model for Python's marginaleffects: ``marginaleffects.avg_slopes(res.to_marginaleffects(),
        variables="x")``.

        Args:
            of: the quantity to predict, a function as for `margins`.

        Returns:
            An object of marginaleffects' class ``ModelAbstract``; its coefficients are the free parameters on the natural scale,
            and ``vcov=`` may name any kind of covariance that `with_cov` takes without options.  Importing marginaleffects sets
            JAX's flag ``jax_enable_x64``.

        Raises:
            ImportError: marginaleffects is not installed.
        """
        from mlejax.results.adapters.marginaleffects_model import adapted

        return adapted(self, of)

    # ---- maketables

    @property
    def __maketables_coef_table__(self) -> pd.DataFrame:
        theirs = ["Coefficient", "b", "se", "t", "p", "ci95l", "ci95u"]
        table = report.tidy(reporting.terms(self._entries, 0.05)).iloc[:, : len(theirs)]
        return table.set_axis(theirs, axis=1).set_index("Coefficient")

    def __maketables_stat__(self, key: str) -> Any:
        if key == "N":
            return int(self.nobs)
        known = {"ll": self.llf, "df_model": self.df_model, "df_resid": self.df_resid}
        return (reporting.criteria(self._entries) | known).get(key)

    @property
    def __maketables_depvar__(self) -> str:
        return self.model.endog_names

    @property
    def __maketables_fixef_string__(self) -> str | None:
        return "+".join(key.by for key in self._fit.spec.likelihood.effects) or None

    @property
    def __maketables_var_labels__(self) -> dict[str, str]:
        return report.readable(self._entries.labels)

    @property
    def __maketables_vcov_info__(self) -> dict[str, Any]:
        named = [group for group in self._cov.groups if isinstance(group, str)]
        return {"vcov_type": self.cov_type, "clustervar": "+".join(named) or None}

    @property
    def __maketables_stat_labels__(self) -> dict[str, str]:
        return _STATISTICS

    @property
    def __maketables_default_stat_keys__(self) -> list[str]:
        return ["N", "ll", *(name for name, value in reporting.criteria(self._entries).items() if value is not None)]
