"""The frozen result of a fit, and its one-line doors to inference and report.

Names are statsmodels' where it has them.  Everything is NumPy float64 or pandas; nothing here refits or writes back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from mlejax import covariance as cov_room
from mlejax import files, inference, report
from mlejax.companions import companion
from mlejax.fit import COVARIANCE_LIMIT, Fit, counts, covariance_of, weighted_scores
from mlejax.results import tables
from mlejax.status import CovarianceState
from mlejax.verdict import Verdict

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class Results:
    """Estimates with their covariance: what ``model.fit`` returns.

    Entries are labelled by addresses such as ``mu``, ``beta[2]`` or ``beta[age]``, on the natural scale; the
    log-likelihood is summed over contributions and maximised.

    Attributes:
        model: the model that was fitted.
        cov_type: the kind of covariance, ``"nonrobust"`` by default.
    """

    model: Any
    cov_type: str
    _fit: Fit
    _cov: cov_room.CovarianceResult

    @staticmethod
    def make(model: Any, done: Fit, cov_type: str | None, cov_kwds: Mapping[str, Any] | None) -> Results:
        """A fit with the covariance that was asked for."""
        kind, options = cov_room.check_kind(cov_type, cov_kwds, done.weight_kind, done.penalised is not None)
        return Results(model, kind, done, covariance_of(done, kind, options))

    def with_cov(self, cov_type: str | None = None, cov_kwds: Mapping[str, Any] | None = None) -> Results:
        """The same fit with another covariance, without refitting.

        Args:
            cov_type, cov_kwds: as in ``Model.fit``.
        """
        return Results.make(self.model, self._fit, cov_type, cov_kwds)

    # ---- estimates

    @property
    def params_tree(self) -> Any:
        """Estimates in the user's own structure, natural scale; accepted by ``model(...)`` and ``start=``."""
        return self._fit.params

    @property
    def params(self) -> pd.Series:
        """Estimates, natural scale, one entry for each distinct number."""
        return self._series(self._values, "coef")

    @property
    def bse(self) -> pd.Series:
        """Standard errors, natural scale; NaN for what is fixed, on an edge or without a covariance.

        Refused (ValueError), as everything that needs them, above 2,000 parameters: see :meth:`subset_errors`.
        """
        self._refuse_large()
        return self._series(self._errors, "std err")

    @property
    def tvalues(self) -> pd.Series:
        """z statistics against 0; NaN where 0 is not an interior point of the support."""
        self._refuse_large()
        return self._series(self._tests[0], "z")

    @property
    def pvalues(self) -> pd.Series:
        """Two-sided p-values of ``tvalues`` by the normal distribution."""
        self._refuse_large()
        return self._series(self._tests[1], "P>|z|")

    def conf_int(self, alpha: float = 0.05, scale: str = "link") -> pd.DataFrame:
        """Wald intervals, natural units.

        Args:
            alpha: one minus the coverage.
            scale: ``"link"``: made on the scale of the support (log for positive parameters, ...) and mapped back;
                ``"natural"``: estimate plus and minus z times the standard error, as R's ``confint.default``.

        Returns:
            Columns ``lower`` and ``upper``; NaN with a note in :meth:`tidy` within 2 standard errors of a closed edge.
        """
        import pandas as pd

        self._refuse_large()
        found = self._intervals(alpha, scale)
        return pd.DataFrame({"lower": found.low, "upper": found.high}, index=self._index)

    def cov_params(self) -> pd.DataFrame:
        """Covariance of the entries of ``params``; singular where they are bound to one another (a simplex)."""
        return self._frame(self._reported_cov, self._index, self._index)

    # ---- facts

    @property
    def llf(self) -> float:
        """Log-likelihood at the estimates, summed; of a penalised fit without the penalty."""
        return self._fit.llf

    @property
    def llf_penalized(self) -> float:
        """What was maximised: the log-likelihood minus the penalty, or plus what reduces bias; else :attr:`llf`."""
        penalty = 0.0 if self._fit.penalised is None else self._fit.penalised.value
        return self._fit.llf - penalty + self._fit.reduced

    @property
    def edf(self) -> float:
        """Effective degrees of freedom: of a penalised fit tr(H_P^-1 I) (Gray 1992), else :attr:`df_model`."""
        return float(self.df_model) if self._fit.penalised is None else self._cov.edf

    @property
    def verdict(self) -> Verdict:
        """What the fit is worth: ``code``, ``statement``, ``evidence``, ``advice``."""
        return self._fit.verdict

    @property
    def converged(self) -> bool:
        """The verdict is ``verified`` or ``boundary``."""
        return self.verdict.converged

    @property
    def modes(self) -> pd.DataFrame:
        """Where the starts of ``fit(..., n_starts=...)`` ended, maxima first and highest first; one row for one start.

        Returns:
            Columns ``kind`` (``maximum``; ``copy``, a maximum with the labels of equally declared parameters exchanged;
            ``spike``, unbounded; ``plateau``, a supremum that is never reached; or the optimiser's end), ``llf`` (what was
            maximised: under a penalty or bias reduction ``llf_penalized``), ``n_starts``,
            ``copy_of`` (row of the maximum), ``statement``, and the parameters, natural scale.
        """
        fitted, space = self._fit, self._fit.spec.space
        kind = "maximum" if self.converged else self.verdict.code
        found = [(m.kind, fitted.loaded.scale * m.llf, m.n_starts, m.copy_of, m.statement) for m in fitted.modes]
        with jax.enable_x64(True):
            values = [space.reported(space.params_from_u(m.u, fitted.fixed)) for m in fitted.modes]
        return report.modes_table(
            found or [(kind, self.llf_penalized, 1, None, "")], values or [self._values], self._index
        )

    @property
    def nobs(self) -> float:
        """Number of rows, or of entries returned by a model with ``rowwise=False``.

        Under frequency weights their sum; rows of weight 0 are not counted.
        """
        return counts(self._fit.loaded)[0]

    @property
    def n_units(self) -> int:
        """Number of contributions to the log-likelihood: rows, units, or entries; weights count as in :attr:`nobs`."""
        return int(counts(self._fit.loaded)[1])

    @property
    def n_dropped(self) -> int:
        """Rows left out by ``missing="drop"``."""
        return self._fit.loaded.rows.n_dropped

    @property
    def n_steps(self) -> int:
        """Steps of the optimiser."""
        return self._fit.n_steps

    @property
    def history(self) -> pd.DataFrame | None:
        """Of a training on minibatches, epoch by epoch: mean log-likelihood per row (unit); None for other fits.

        Columns ``train`` (over the minibatches of the epoch, while the parameters moved) and, with ``validation=``,
        ``held_out``; ``kept`` marks the epoch whose parameters are the estimates.
        """
        return None if self._fit.history is None else report.history(self._fit.history)

    @property
    def df_model(self) -> int:
        """Number of free parameters that are identified and not on an edge of their support."""
        return int(self._fit.interior.sum()) - self._cov.nullity

    @property
    def df_resid(self) -> float:
        """``nobs - df_model``."""
        return self.nobs - self.df_model

    @property
    def aic(self) -> float:
        """Akaike's criterion, -2 llf + 2 edf, with edf = df_model of a fit without penalty.

        Refused (ValueError) under a sandwich covariance or without a maximum.
        """
        self._refuse_criterion("AIC")
        return float(inference.aic(self.llf, self.edf))

    def bic_n(self, n: float) -> float:
        """Schwarz's criterion with n of the user's choice, ``res.n_units`` say: -2 llf + df_model log(n)."""
        self._refuse_criterion("BIC")
        if self._fit.penalised is not None:
            raise ValueError(
                "BIC is refused for a penalised fit: its log-likelihood is not at its maximum; use aic, with effective degrees "
                "of freedom"
            )
        return float(inference.bic(self.llf, self.df_model, n))

    @property
    def bic(self) -> float:
        """Schwarz's criterion, -2 llf + df_model log(nobs).  Refused (ValueError) as for :attr:`aic`."""
        return self.bic_n(self.nobs)

    # ---- derivatives at the estimates

    @property
    def information(self) -> pd.DataFrame:
        """Observed information, minus the Hessian of the log-likelihood in free natural coordinates; (p, p)."""
        if self._fit.information is None:
            raise ValueError(
                f"no Hessian was formed for {self._fit.spec.space.n_free} parameters by a first-order method"
            )
        names = list(self._fit.spec.space.theta_labels)
        return self._frame(self._fit.information, names, names)

    @property
    def hessian(self) -> pd.DataFrame:
        """Hessian of the log-likelihood in free natural coordinates, summed; (p, p)."""
        return -self.information

    @property
    def score_obs(self) -> pd.DataFrame:
        """Score of every contribution in free natural coordinates, (n, p), times its weight.

        The columns sum to the score of the log-likelihood, which is 0 at an interior maximum.  With weights, row i is w_i
        times the gradient of its log-likelihood (as in R's ``estfun``), and 0 for a row of weight 0, whose values the
        function never sees.  There is one row for each row of the data (unit, entry), of weight 0 or not.
        """
        import pandas as pd

        return pd.DataFrame(weighted_scores(self._fit), columns=list(self._fit.spec.space.theta_labels))

    # ---- inference

    def wald_test(self, hypothesis: Any, value: Any = None) -> inference.WaldTest:
        """Joint Wald test of linear restrictions on ``params``.

        Args:
            hypothesis: ``"mu[a] = mu[b], sigma = 1"``, a list of such strings, ``{address: value}``, or a matrix R.
            value: right-hand side for a matrix.
        """
        h = self._hypotheses(hypothesis, value)
        rank = self._cov_rank
        if np.isfinite(rank) and np.linalg.matrix_rank(h.R) > rank:
            raise ValueError(
                f"{np.linalg.matrix_rank(h.R)} restrictions cannot be tested jointly with a covariance of rank {rank:g} "
                f"({self._cov.statement}): there are too few clusters; test fewer at a time"
            )
        return inference.wald_test(h.R, h.r, self._values, self._test_cov, labels=h.labels, reason=self._reason)

    def t_test(self, hypothesis: Any, value: Any = None, alpha: float = 0.05) -> inference.TTest:
        """z tests of linear restrictions, one by one; arguments as in :meth:`wald_test`."""
        h = self._hypotheses(hypothesis, value)
        return inference.t_test(
            h.R, h.r, self._values, self._test_cov, alpha=alpha, labels=h.labels, reason=self._reason
        )

    def lr_test(self, restricted: Results, boundary: int = 0) -> inference.LRTest:
        """Likelihood-ratio test of this fit against one nested in it, on the same data.

        Args:
            restricted: the smaller model's result.
            boundary: 1 if the restriction puts one parameter on a closed edge (a variance at 0): the null
                distribution is then a mixture of chi-squares (Self & Liang 1987).

        Raises:
            ValueError: different data, not nested, not converged, or pseudolikelihoods.
        """
        test = inference.lr_test(self._facts, restricted._facts, boundary=boundary)
        self._refuse_unnested(restricted)
        if not inference.same_rows(self._fit.loaded, restricted._fit.loaded):
            raise ValueError(
                "the fits are of different data: columns that both use have the same values, but not in the same rows (one of "
                "them, or the weights, was put in another order)"
            )
        return test

    def _refuse_unnested(self, restricted: Results) -> None:
        """ValueError where the restricted estimates break what this fit holds fixed, or its constraints."""
        if self._index != restricted._index:
            return
        held = self._fit.spec.space.reported_fixed
        apart = np.abs(self._values - restricted._values) > 1e-8 * np.maximum(1.0, np.abs(self._values))
        broken = [f"{self._index[i]} = {self._values[i]:g}" for i in np.flatnonzero(held & apart)]
        for text in self._fit.constraints:
            h = self._hypotheses(text, None)
            if (np.abs(h.R @ restricted._values - h.r) > 1e-6 * (1.0 + np.abs(h.r))).any():
                broken.append(text)
        if broken:
            raise ValueError(
                f"the fits are not nested: this one holds {', '.join(broken)}, and the estimates of the restricted one do not"
            )

    def subset_errors(
        self,
        *addresses: str,
        others: str = "given",
        damping: float = 0.0,
        tol: float = 1e-8,
        max_steps: int | None = None,
        alpha: float = 0.05,
    ) -> inference.SubsetErrors:
        r"""Standard errors of some parameters, where there are too many for those of all.

        With S the parameters chosen, O the others and I the observed information:

        * ``others="given"``: :math:`(I_{SS})^{-1}`, the errors that S would have if O were known. One Hessian-vector
          product for each parameter chosen.
        * ``others="estimated"``: :math:`(I_{SS} - I_{SO} I_{OO}^{-1} I_{OS})^{-1}`, the block of :math:`I^{-1}`, which
          accounts for the estimation of O and is never smaller. By conjugate gradients on Hessian-vector products, up
          to hundreds of these for each parameter; refused where they meet negative curvature.

        Whatever ``cov_type`` the fit has, these are errors from the information, and the table says so.

        At a point that is no maximum, which is where the training of a network ends, neither is the error of an
        estimator: the table says so, with g'I^-1 g of S. Weights of a network usually have many settings of the same
        likelihood, so that ``"estimated"`` needs ``damping`` there.

        Args:
            *addresses: parameters, subtrees or entries: ``"last"``, ``"sigma"``, ``"net.w[3,1]"``; up to 2,000 numbers.
            others: ``"given"`` or ``"estimated"``.
            damping: a ridge added to the information, as an l2 penalty of that strength adds it.
            tol: relative residual of conjugate gradients.
            max_steps: of conjugate gradients; by default twice the number of others, 10,000 at most.
            alpha: one minus the coverage.

        Returns:
            :class:`mlejax.inference.SubsetErrors`: prints as a table; ``std_error``, ``cov``, ``cov_given``, ``table()``.

        Raises:
            ValueError: not positive definite, negative curvature, no convergence, or too many parameters.

        Example:
            >>> import mlejax as mle
            >>> from jax.scipy.stats import norm
            >>> @mle.model(a=mle.Real(), b=mle.Real(), sigma=mle.Positive())
            ... def line(params, data):
            ...     return norm.logpdf(data["y"], params["a"] + params["b"] * data["x"], params["sigma"])
            >>> res = line.fit({"x": [0.0, 1.0, 2.0, 3.0], "y": [1.0, 3.0, 2.0, 5.0]})
            >>> res.subset_errors("b").std_error.round(3), res.subset_errors("b", others="estimated").std_error.round(3)
            (array([0.22]), array([0.367]))
            >>> round(float(res.bse["b"]), 3)
            0.367
        """
        found = inference.subset_of(
            self._fit, addresses, others=others, damping=damping, tol=tol, max_steps=max_steps, alpha=alpha
        )
        return found.with_remark(
            ""
            if self.cov_type == "nonrobust"
            else f"These are errors from the information alone, not those of cov_type={self.cov_type!r}, which bse has."
        )

    def nlcom(self, function: Callable[[Any], Any], *, value: Any = 0.0, alpha: float = 0.05) -> inference.DeltaResult:
        """Any function of ``params`` with its standard error by the delta method.

        Args:
            function: ``params`` (the user's structure) -> number, array, or a dict of them; pure JAX.
            value: null values of the z tests.
            alpha: one minus the coverage.

        Example:
            >>> import mlejax as mle
            >>> from jax.scipy.stats import norm
            >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
            ... def gaussian(params, data):
            ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
            >>> res = gaussian.fit({"y": [1.0, 2.0, 6.0, 3.0]})
            >>> ratio = res.nlcom(lambda p: {"signal": p["mu"] / p["sigma"]})
            >>> round(float(ratio.estimate[0]), 4)
            1.6036
        """
        return inference.nlcom(
            lambda theta: function(self._params_at(theta)),
            self._fit.theta,
            self._cov.matrix,
            value=value,
            alpha=alpha,
            reason=self._reason,
        )

    def predict(
        self,
        function: Any = None,
        data: Any = None,
        *,
        param: str | None = None,
        scale: str = "natural",
        alpha: float = 0.05,
    ) -> pd.DataFrame:
        """Predictions for the rows of new data, with delta-method errors.

        ``res.predict(data)`` gives the value of a regressed parameter, ``link^-1(x beta + offset)``, with the transforms
        and levels of the fit; ``res.predict(f, data)`` any function of params and data, in which regressed parameters
        vary by row as they do in the log-likelihood.

        Args:
            function: ``f(params, data)`` -> (n,), for instance the mean that the model implies; pure JAX.  ``"mean"`` or
                ``"cdf"``: what :meth:`Model.mean` or :meth:`Model.cdf` declares.  Left out, the first argument is the data.
            data: a dict of arrays or a DataFrame; its offsets and exposures count too.
            param: which regressed parameter, if there are several.
            scale: ``"natural"``, or ``"link"`` for linear predictors.
            alpha: one minus the coverage.

        Returns:
            Columns ``estimate``, ``std_error``, ``conf_low``, ``conf_high``, and ``note`` where an error is missing; one
            row for each row of ``data`` (and entry of a vector).  Intervals of parameters are made on the link scale.

        Raises:
            DataError: a level that the data of the fit did not have, missing values.

        Example:
            >>> import mlejax as mle
            >>> from jax.scipy.stats import norm
            >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
            ... def gaussian(params, data):
            ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
            >>> res = gaussian.regress(mu="x").fit({"y": [1.0, 2.0, 6.0, 3.0], "x": [0, 1, 2, 0]})
            >>> round(float(res.predict({"x": [3]})["estimate"].iloc[0]), 4)
            7.0909
        """
        if not callable(function) and not (isinstance(function, str) and function in ("mean", "cdf")) and data is None:
            function, data = None, function
        if isinstance(function, str):
            function = companion(self.model.likelihood, function, f"predict({function!r}, data)")
        if data is None:
            raise TypeError("predict expected new data: res.predict(data), or res.predict(f, data) for a function f")
        designs: Any = self._fit.loaded.designs
        if isinstance(designs, files.Unsaved):
            raise ValueError(f"predict evaluates the formulas of the model on new data, but {designs.why}")
        at = (data, self._params_at, self._fit.theta, self._cov.matrix)
        if function is not None:
            if param is not None or scale != "natural":
                raise TypeError("predict: param= and scale= go with res.predict(data), not with a function")
            return inference.predict_function(function, *at, designs, alpha=alpha, reason=self._reason)
        if designs is None:
            raise TypeError(
                f"predict: {self.model.likelihood.name} has no regressed parameter, so say what to predict: "
                "res.predict(lambda params, data: ..., data), or res.predict('mean', data) where the model declares its mean"
            )
        return inference.predict_parameter(param, *at, designs, scale=scale, alpha=alpha, reason=self._reason)

    # ---- resampling

    def bootstrap(
        self, n: int = 1000, kind: str = "case", *, seed: int = 0, groups: Any = None, approximate: str | None = None,
        memory_limit: float | None = None, progress: bool | None = None,
    ) -> inference.Bootstrap:  # fmt: skip
        """The bootstrap distribution of the estimates: n refits as one batch, each started at the estimate.

        Args:
            n: number of replicates.
            kind: ``"case"`` draws rows with replacement (units, where the model has units); ``"cluster"`` whole groups;
                ``"bayesian"`` gives rows (units, groups) Dirichlet weights (Rubin 1981); ``"parametric"`` draws data from
                the model at the estimates, by its :meth:`Model.simulator`.
            seed: of the draws; a replicate is the same whatever n is.
            groups: for ``"cluster"`` and ``"bayesian"``: a column's name, or one label for each row.
            approximate: ``"one-step"`` takes one Newton step from the estimate in the place of a refit: many times as fast,
                and marked as such.
            memory_limit, progress: as in :meth:`Model.fit_batch`.

        Refits climb from the estimate: where there are several maxima they stay in its neighbourhood.

        Weights: frequency weights are as many equal rows, which are drawn apart; sampling and importance weights stay with
        the rows that are drawn, and multiply how often each was.  Rows of weight 0 are not drawn.

        Returns:
            :class:`mlejax.inference.Bootstrap`: prints as a table; ``bse``, ``bias``, ``conf_int("percentile" | "basic" | "bca"
            | "normal")``, ``replicates``, ``function(f)``.  Refits that failed are counted, by reason, and left out.

        Raises:
            ValueError: a model with ``rowwise=False`` (other than parametric), no maximum, weights with ``"parametric"``.

        Example:
            >>> import mlejax as mle
            >>> from jax.scipy.stats import norm
            >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
            ... def gaussian(params, data):
            ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
            >>> res = gaussian.fit({"y": [1.0, 2.0, 6.0, 3.0, 5.0, 4.0, 7.0, 2.5]})
            >>> boot = res.bootstrap(2000, seed=1)
            >>> abs(float(boot.bse["mu"] / res.bse["mu"]) - 1) < 0.1, boot.n_failed
            (True, 0)
        """
        return inference.bootstrap(self._fit, n, kind, seed=seed, groups=groups, approximate=approximate,
                                   memory_limit=memory_limit, progress=progress)  # fmt: skip

    def jackknife(
        self, groups: Any = None, *, approximate: str | None = None, memory_limit: float | None = None,
        progress: bool | None = None,
    ) -> inference.Jackknife:  # fmt: skip
        """Estimates with every row (unit, or group) left out in turn: bias and standard errors.

        Args:
            groups: leave out whole groups: a column's name, or one label for each row.
            approximate, memory_limit, progress: as in :meth:`bootstrap`.

        Returns:
            :class:`mlejax.inference.Jackknife`: prints as a table; ``bias``, ``bse``, ``corrected``, ``influence``,
            ``replicates``.  A refit that fails leaves no bias and errors, and is counted.

        Example:
            >>> import mlejax as mle
            >>> from jax.scipy.stats import norm
            >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
            ... def gaussian(params, data):
            ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
            >>> res = gaussian.fit({"y": [1.0, 2.0, 6.0, 3.0]})
            >>> round(float(res.jackknife().bse["mu"]), 6)  # s / sqrt(n)
            1.080123
        """
        return inference.jackknife(
            self._fit, groups, approximate=approximate, memory_limit=memory_limit, progress=progress
        )

    def cross_validate(
        self, k: int = 10, *, seed: int = 0, groups: Any = None, memory_limit: float | None = None,
        progress: bool | None = None,
    ) -> inference.CrossValidation:  # fmt: skip
        """Out-of-sample log-likelihood: rows (units, groups) are cut into k folds, each judged by a fit of the others.

        Args:
            k: number of folds; as many as there are rows (units) leaves one out at a time.
            seed: of the draw of the folds.
            groups: keep whole groups in one fold: a column's name, or one label for each row.
            memory_limit, progress: as in :meth:`bootstrap`.

        Designs of formulas are those of all rows (levels, knots, means of transforms).  The copies that a frequency weight
        stands for are kept in one fold.

        Returns:
            :class:`mlejax.inference.CrossValidation`: prints as a table; ``llf``, ``std_error``, ``folds``,
            ``by_contribution``.

        Example:
            >>> import mlejax as mle
            >>> from jax.scipy.stats import norm
            >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
            ... def gaussian(params, data):
            ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
            >>> res = gaussian.fit({"y": [1.0, 2.0, 6.0, 3.0, 5.0, 4.0]})
            >>> round(res.cross_validate(k=3).llf, 2) < round(res.llf, 2)
            True
        """
        return inference.cross_validate(
            self._fit, k, seed=seed, groups=groups, memory_limit=memory_limit, progress=progress
        )

    # ---- reports

    def summary(self, alpha: float = 0.05, *, eform: bool | Sequence[str] = False) -> report.Summary:
        """The table; prints as text and shows as HTML in notebooks.

        Args:
            alpha: one minus the coverage.
            eform: True shows exp(coefficient) of regressed parameters with a log, logit or softmax link (ratios of rates
                or scales, odds ratios, relative-risk ratios), intercepts included; or the addresses of coefficients
                to be shown so.  Standard errors are exp(coef) times those of the coefficient, intervals exp of its ends;
                z and p still test a coefficient of 0, a ratio of 1.
        """
        return tables.summary(self, alpha, eform)

    def to_latex(
        self,
        alpha: float = 0.05,
        *,
        caption: str | None = None,
        label: str | None = None,
        eform: bool | Sequence[str] = False,
    ) -> str:
        r"""The table for LaTeX's booktabs package; ``caption`` is the title by default, ``label`` is for ``\ref``."""
        return tables.summary(self, alpha, eform).to_latex(caption=caption, label=label)

    def to_markdown(self, alpha: float = 0.05, *, eform: bool | Sequence[str] = False) -> str:
        """The table as Markdown of GitHub's flavour."""
        return tables.summary(self, alpha, eform).to_markdown()

    def tidy(self, alpha: float = 0.05, *, exponentiate: bool | Sequence[str] = False) -> pd.DataFrame:
        """One row a term, broom's columns: term, estimate, std_error, statistic, p_value, conf_low, conf_high, note.

        ``exponentiate``: as ``eform`` of :meth:`summary`.
        """
        return report.tidy(tables.terms(self, alpha, exponentiate))

    def glance(self) -> pd.DataFrame:
        """One row for the whole fit."""
        refused, penalised = bool(self._no_criterion), self._fit.penalised is not None
        return report.glance(
            {
                "nobs": self.nobs,
                "n_units": self.n_units,
                "df_model": self.df_model,
                "llf": self.llf,
                "aic": None if refused else self.aic,
                "bic": None if refused or penalised else self.bic,
                "converged": self.converged,
                "verdict": self.verdict.code,
                "n_steps": self.n_steps,
                "cov_type": self.cov_type,
            }
        )

    def save(self, path: Any) -> None:
        """Write the result to a plain file, which :func:`mlejax.load` reads on any machine, without data or model.

        A JSON document with a checksum (``docs/file-format.md``): estimates, covariance, information, verdict, labels, the
        text of formulas, versions; no code.  Of the data it holds a fingerprint, and for formulas the levels of categories
        and six rows, on which ``mle.load(path, model=reg)`` tries the formulas of your model.

        Args:
            path: a file there is replaced as a whole, once the new one is complete; its mode is kept and a symbolic link is
                followed.  Threads and processes may save to one path: one whole file is left.

        Raises:
            OSError: no such folder, no permission.
            FileError: something that a file cannot hold, such as more than 200,000 labels.

        Example:
            >>> import os, tempfile
            >>> import mlejax as mle
            >>> from jax.scipy.stats import norm
            >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
            ... def gaussian(params, data):
            ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
            >>> res = gaussian.fit({"y": [1.0, 2.0, 6.0, 3.0]})
            >>> path = os.path.join(tempfile.mkdtemp(), "gaussian.json")
            >>> res.save(path)
            >>> str(mle.load(path).summary()) == str(res.summary())
            True
        """
        files.save(path, self._parts())

    @property
    def saved_with(self) -> Mapping[str, str] | None:
        """Versions (mlejax, jax, numpy, formulaic, python) that made a loaded result; None of one made here."""
        known = self._fit.loaded.remembered
        return None if known is None else known.versions

    def __repr__(self) -> str:
        return f"<mlejax results of {self.model.likelihood.name}: {self.verdict.code}, llf = {self.llf:.6g}>"

    def _repr_html_(self) -> str:
        return report.render_html(tables.summary(self, 0.05))

    # ---- behind the doors

    def __getstate__(self) -> dict[str, Any]:
        return {"model": self.model, "cov_type": self.cov_type, "_fit": self._fit, "_cov": self._cov}

    def _parts(self) -> files.Parts:
        return files.Parts(self.model.likelihood.name, self.cov_type, self._fit, self._cov)

    @cached_property
    def _index(self) -> list[str]:
        return list(self._fit.spec.space.labels)

    @cached_property
    def _values(self) -> np.ndarray:
        return self._fit.spec.space.reported(self._fit.params)

    @cached_property
    def _reported_cov(self) -> np.ndarray:
        self._refuse_large()
        space = self._fit.spec.space
        out = np.array(self._test_cov)
        held = space.reported_fixed
        out[held, :] = np.nan
        out[:, held] = np.nan
        return out

    @property
    def _too_large(self) -> str:
        """Why there are no standard errors of all parameters, or nothing."""
        space = self._fit.spec.space
        if space.n_free <= COVARIANCE_LIMIT:
            return ""
        few = next(
            (leaf.name for leaf in space.leaves if leaf.size <= COVARIANCE_LIMIT), space.leaves[0].name + "[...]"
        )
        return (
            f"standard errors of all {space.n_free} parameters would take {inference.dense_cost(space.n_free)}; they are not "
            f"formed above {COVARIANCE_LIMIT}. res.subset_errors({few!r}) gives those of some"
        )

    def _refuse_large(self) -> None:
        if self._too_large:
            raise ValueError(self._too_large)

    @cached_property
    def _cov_rank(self) -> float:
        """Rank of the covariance of theta where the clusters bound it; inf where nothing does."""
        known = np.isfinite(np.diag(self._cov.matrix))
        part = self._cov.matrix[np.ix_(known, known)]
        if self.cov_type != "cluster" or not part.size:
            return float("inf")
        d = 1.0 / np.sqrt(np.diag(part))
        rank = int(np.linalg.matrix_rank(part * np.outer(d, d), tol=1e-10, hermitian=True))
        return float(rank) if rank < part.shape[0] else float("inf")

    @cached_property
    def _test_cov(self) -> np.ndarray:
        """Covariance of the reported entries in which those held fixed are known: 0, not NaN."""
        return inference.linear_covariance(self._fit.spec.space.reported_matrix, self._cov.matrix).cov

    @cached_property
    def _errors(self) -> np.ndarray:
        if self._fit.spec.space.n_free > COVARIANCE_LIMIT:
            return np.full(self._values.shape, np.nan)
        space = self._fit.spec.space
        if space.reported_as_theta is not None:
            with np.errstate(invalid="ignore"):
                return np.sqrt(self._cov.matrix.diagonal()[space.reported_as_theta])
        errors = np.array(inference.standard_errors(space.reported_matrix, self._cov.matrix))
        errors[space.reported_fixed] = np.nan
        return errors

    @cached_property
    def _tests(self) -> tuple[np.ndarray, np.ndarray]:
        lower = np.where(self._fit.spec.space.zero_is_interior, -np.inf, 0.0)
        return inference.z_tests(self._values, self._errors, lower=lower)

    def _intervals(self, alpha: float, scale: str) -> inference.Intervals:
        space = self._fit.spec.space
        lower, upper = space.closed_edges
        return inference.confidence_intervals(
            self._values, self._errors, links=space.links, lower_edge=lower, upper_edge=upper, alpha=alpha, scale=scale
        )

    @cached_property
    def _notes(self) -> list[str]:
        """For each reported entry the reason why it has no standard error, or nothing."""
        space = self._fit.spec.space
        notes = []
        affected = space.reported_matrix != 0.0 if space.n_free <= COVARIANCE_LIMIT else None
        for i, held in enumerate(space.reported_fixed):
            if held or affected is None:
                notes.append("" if held else "no standard error: too many parameters, see subset_errors")
                continue
            states = [CovarianceState(int(s)) for s in self._cov.state[affected[i]]]
            bad = [s for s in states if s != CovarianceState.OK]
            notes.append(self._note(bad[0]) if bad else "")
        return notes

    def _note(self, state: CovarianceState) -> str:
        if state == CovarianceState.ON_BOUNDARY:
            return "on the edge of its support: no Wald standard error"
        if state == CovarianceState.NOT_IDENTIFIED:
            return "not identified: no standard error"
        if state == CovarianceState.PENALTY_NOT_SMOOTH:
            return "no standard error: the penalty is not smooth at the estimate"
        if state == CovarianceState.NOT_CONVERGED:
            return f"no standard error: {self.verdict.code.replace('_', ' ')}"
        few = {CovarianceState.TOO_FEW_CLUSTERS: "cluster", CovarianceState.TOO_FEW_ROWS: "rows"}.get(state)
        return cov_room.TOO_FEW[few] if few else f"no standard error: {state.name.lower().replace('_', ' ')}"

    @property
    def _reason(self) -> str:
        return next((note for note in self._notes if note), "")

    def _params_at(self, theta: Any) -> Any:
        return self._fit.spec.space.params_from_theta(theta, self._fit.fixed)

    def _hypotheses(self, hypothesis: Any, value: Any) -> inference.Hypotheses:
        space = self._fit.spec.space
        return inference.parse_hypotheses(hypothesis, space.resolve, space.n_reported, r=value, names=self._index)

    @cached_property
    def _facts(self) -> inference.FitFacts:
        return inference.FitFacts(
            llf=self.llf,
            df_model=self._fit.spec.space.n_free,
            nobs=self.nobs,
            fingerprint=self._fit.loaded.fingerprint,
            converged=self.converged,
            cov_type=self.cov_type,
            penalised=self._fit.penalised is not None or self._fit.spec.reduction is not None,
            pseudolikelihood=self._pseudo,
            label=self.model.likelihood.name,
        )

    @property
    def _pseudo(self) -> bool:
        return self.cov_type in cov_room.SANDWICH or self._fit.weight_kind == "sampling"

    @property
    def _no_criterion(self) -> str:
        """Why information criteria do not apply, or nothing."""
        if self._fit.penalised is not None and np.isnan(self._cov.edf):
            return "because a penalised fit counts effective degrees of freedom, and there is no information to take them from"
        if self._fit.spec.reduction is not None:
            return "because bias-reduced estimates do not maximise the log-likelihood"
        if self._fit.weight_kind == "sampling":
            return "with sampling weights: the weighted sum is a pseudolikelihood, the log-likelihood of no sample that was drawn"
        if self.cov_type in cov_room.SANDWICH:
            return (
                f"with cov_type={self.cov_type!r}: a sandwich covariance says that the model may be wrong, and then the "
                "log-likelihood is a pseudolikelihood; res.with_cov('nonrobust') has it"
            )
        if not self.converged and self.verdict.code != "not_identified":
            return f"because the log-likelihood was not maximised ({self.verdict.code.replace('_', ' ')})"
        return ""

    def _refuse_criterion(self, what: str) -> None:
        if self._no_criterion:
            raise ValueError(f"{what} is refused {self._no_criterion}")

    def _series(self, values: np.ndarray, name: str) -> pd.Series:
        import pandas as pd

        labels = self._fit.spec.space.labels
        # a view: a name given to the index of one table is no name of another's
        index = _labels_of(labels).view() if len(labels) <= COVARIANCE_LIMIT else self._index
        return pd.Series(np.array(values), index=index, name=name, copy=False)

    def _frame(self, values: np.ndarray, rows: list[str], columns: list[str]) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(np.array(values), index=rows, columns=columns)


@lru_cache(maxsize=64)
def _labels_of(labels: tuple[str, ...]) -> pd.Index:
    """An index of addresses, which takes pandas longer to make than the table that gets it."""
    import pandas as pd

    return pd.Index(list(labels))
