"""A finished fit with its covariance: estimates, standard errors, intervals, properties of the fit, and derivatives.

Names are those of statsmodels if it has them.  Values are NumPy float64 or pandas; nothing here refits or changes the fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from mlejax import fit as fit_room
from mlejax import inference, misuse, report
from mlejax.covariance import CovarianceKind, CovarianceResult, check_kind
from mlejax.fit import Fit, Integration, counts
from mlejax.misuse import linked
from mlejax.results.doors import reporting
from mlejax.results.doors.documented import documented_by
from mlejax.shapes import Params
from mlejax.verdict import Verdict

if TYPE_CHECKING:
    import pandas as pd

Scale = Literal["link", "natural"]
MANY_LABELS = 2000  # the pandas index of more labels is not cached


@misuse.doors
@dataclass(frozen=True, eq=False, repr=False)
class Fitted:
    """Estimates with their covariance, and the properties of their fit.

    Entries are labelled by names such as ``mu``, ``beta[2]`` or ``beta[age]``, on the natural scale; the
    log-likelihood is a sum over rows or units.

    Attributes:
        cov_type: the kind of covariance, ``"nonrobust"`` by default.
    """

    _model: Any
    cov_type: str
    _fit: Fit
    _cov: CovarianceResult

    @classmethod
    def make(
        cls, model: Any, fit: Fit, cov_type: str | None, cov_kwds: Mapping[str, Any] | None, strict: bool = True
    ) -> Self:
        """Return the result of a fit with the covariance of the given kind.

        Args:
            model: the model, for ``res.model``.
            fit: the finished fit.
            cov_type, cov_kwds: as in ``Model.fit``.
            strict: if False, too few clusters give NaN standard errors instead of an error.

        Raises:
            ValueError: this fit does not have a covariance of this kind.
        """
        kind, options = check_kind(cov_type, cov_kwds, fit.weight_kind, fit.penalised is not None)
        return cls(model, kind, fit, inference.covariance_of(fit, kind, options, strict))

    def with_cov(self, cov_type: CovarianceKind | None = None, cov_kwds: Mapping[str, Any] | None = None) -> Self:
        """Return the same fit with another covariance, without refitting.

        Args:
            cov_type, cov_kwds: as in ``Model.fit``.

        Raises:
            ValueError: this fit does not have a covariance of this kind, such as one that needs scores of rows that are not
                in memory.
        """
        return self.make(self._model, self._fit, cov_type, cov_kwds)

    @cached_property
    def model(self) -> Any:
        """The model that was fitted; its ``endog_names`` is the name of the only column that the function reads besides those of
        formulas (the model's name if it reads none or several), its ``exog_names`` are the names of the estimates.
        """
        outcome = reporting.outcome(self._fit) or self._model.likelihood.name
        return replace(self._model, endog_names=outcome, exog_names=self._fit.spec.space.labels)

    # ---- estimates

    @property
    def params_tree(self) -> Params:
        """Estimates in the structure of the user's parameters, natural scale; accepted by ``model(...)`` and ``start=``."""
        return self._fit.params

    @property
    def params(self) -> pd.Series:
        """Estimates, natural scale, with their names in the index: one row for each distinct number (a symmetric matrix has its
        lower triangle), fixed ones included; effects of ``mle.Real(by=...)`` that :meth:`effects` lists are not.
        """
        return self._series(self._entries.params, "coef")

    @property
    def bse(self) -> pd.Series:
        """Standard errors, natural scale; NaN for entries that are fixed, at a bound of their support, or without a
        covariance.

        Above 2,000 parameters this and all that needs standard errors raises ValueError: see :meth:`subset_errors`.
        """
        self._entries.refuse_large()
        return self._series(self._entries.bse, "std err")

    @property
    def tvalues(self) -> pd.Series:
        """z statistics of the hypothesis that the entry is 0; NaN without a standard error, and if 0 is not an interior point
        of the entry's support.
        """
        self._entries.refuse_large()
        return self._series(self._entries.tests[0], "z")

    @property
    def pvalues(self) -> pd.Series:
        """Two-sided p-values of ``tvalues``, NaN where these are; by the normal distribution, or Student's t if
        :attr:`use_t`.
        """
        self._entries.refuse_large()
        return self._series(self._entries.tests[1], "P>|z|")

    def conf_int(
        self,
        alpha: float = 0.05,
        scale: Scale = "link",
        *,
        method: Literal["wald", "profile"] | inference.Simultaneous = "wald",
        adjusted: bool = False,
    ) -> pd.DataFrame:
        """Return confidence intervals of all entries, natural scale.

        Args:
            alpha: one minus the coverage, at most 0.5.
            scale: the scale on which Wald intervals are computed.  ``"link"``: the unconstrained scale (log for positive
                parameters, ...), mapped back, so that they stay inside the support; ``"natural"``: estimate plus and minus z
                times the standard error, as R's ``confint.default``.
            method: ``"wald"``, or ``"profile"``: limits at which twice the fall of the profile log-likelihood is the quantile of
                chi-squared with 1 degree of freedom; :meth:`profile` gives details of one entry.  ``"bonferroni"``, ``"sidak"``,
                ``"scheffe"``, ``"max-z"``: simultaneous Wald intervals of all entries; for some entries use
                ``res.t_test([...]).conf_int``.
            adjusted: required for profile intervals under sampling or importance weights or a robust covariance: if True, the
                likelihood-ratio statistic is multiplied by the ratio of the model's variance to the robust one (Rotnitzky &
                Jewell 1990).

        Returns:
            One row for each entry, its name in the index, columns ``lower`` and ``upper``; Wald limits are NaN, with a note in
            :meth:`tidy`, without a standard error, and if the estimate is within 2 standard errors (z standard errors, if that
            is more) of a closed bound of the support.  Profile intervals also have
            ``lower_status`` and ``upper_status``: ``finite``, ``infinite``, ``on the boundary``, ``higher maximum found`` or
            ``not computable``; followed by ``, nuisance at a bound`` if another parameter is at a bound of its support there.

        Raises:
            ValueError: an option is not valid; there are more than 2,000 parameters (Wald intervals); the fit does not support
                profiles, or a profile rises above the log-likelihood of the estimates.

        Example:
            >>> import mlejax as mle
            >>> from jax.scipy.stats import norm
            >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
            ... def gaussian(params, data):
            ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
            >>> res = gaussian.fit({"y": [1.0, 2.0, 6.0, 3.0]})
            >>> res.conf_int(method="profile")[["lower", "upper"]].round(3)
                   lower  upper
            mu     0.624  5.376
            sigma  1.065  4.588
        """
        import pandas as pd

        if method == "profile":
            if scale != "link":
                raise linked(
                    ValueError("profile intervals are the same on every scale; leave out scale="), "profile-scale"
                )
            self._refuse_effects("a profile interval", "use method='wald'")
            low, high, below, above = inference.profile_intervals(self._fit, self._cov, alpha, adjusted)
            columns = {"lower": low, "upper": high, "lower_status": below, "upper_status": above}
            return pd.DataFrame(columns, index=self._entries.labels)
        if adjusted:
            raise ValueError("adjusted=True is for method='profile'; Wald intervals use the covariance as it is")
        entries = self._entries
        entries.refuse_large()
        if method != "wald":
            alpha = inference.pointwise_alpha(method, alpha, entries.covariance, self._cov.df)
        found = entries.intervals(alpha, scale)
        return pd.DataFrame({"lower": found.low, "upper": found.high}, index=self._entries.labels)

    def adjusted_pvalues(self, method: inference.Adjustment = "holm") -> pd.Series:
        """Return p-values adjusted for multiple testing of all entries, NaN where ``pvalues`` are; for some entries use
        ``res.t_test([...]).adjusted_pvalues``.

        Args:
            method: ``"holm"``, ``"bonferroni"``, ``"sidak"``, ``"scheffe"`` or ``"max-z"`` (multcomp's single-step).

        Raises:
            ValueError: another method, or more than 2,000 parameters.
        """
        self._entries.refuse_large()
        z, cov = self._entries.tests[0], self._entries.covariance
        return self._series(inference.adjusted_pvalues(method, z, cov, self._cov.df), f"p ({method})")

    @documented_by(inference.effects_table)
    def effects(self) -> pd.DataFrame:
        return inference.effects_table(self._fit, self._cov)

    def cov_params(self, subset: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the covariance matrix of the entries of ``params``, natural scale; NaN for entries without a standard error
        (see :attr:`bse`), singular if entries depend on one another (a simplex).

        Args:
            subset: names of some entries, including effects of ``mle.Real(by=...)``, ``["beta[x]", "alpha[acme]"]``; at
                most 5,000 entries.  None: all entries but those effects.

        Raises:
            ValueError: too many entries, or more than 2,000 parameters; a name that no entry has; or effects of
                ``mle.Real(by=...)`` with a ``cov_type`` other than "nonrobust".
        """
        if subset is not None:
            return self._frame(*inference.covariance_of_some(self._entries, subset))
        held = self._fit.spec.space.reported_fixed
        known = np.where(held[:, None] | held[None, :], np.nan, self._entries.covariance)
        return self._frame(known, self._entries.labels)

    # ---- facts

    @property
    def llf(self) -> float:
        """Log-likelihood at the estimates, summed over the data with their weights; without the penalty or the term of bias
        reduction.
        """
        return self._fit.llf

    @property
    def llf_penalized(self) -> float:
        """The maximised objective: the log-likelihood minus the penalty plus the term of bias reduction, as far as the fit has
        these; :attr:`llf` without them.
        """
        return inference.llf_penalized(self._fit)

    @property
    def edf(self) -> float:
        """Effective degrees of freedom: tr(H_P^-1 I) of a penalised fit (Gray 1992), with I the information and H_P the penalised
        one, NaN if it has no covariance; :attr:`df_model` for other fits.
        """
        return inference.effective_df(self._fit, self._cov)

    @property
    def verdict(self) -> Verdict:
        """The verdict on the estimates: ``code``, ``statement``, ``evidence``, ``advice``."""
        return self._fit.verdict

    @property
    def converged(self) -> bool:
        """True if the verdict is ``verified`` or ``boundary``."""
        return self.verdict.converged

    @property
    def modes(self) -> pd.DataFrame:
        """The points at which the starts of ``fit(..., n_starts=...)`` ended, maxima first, sorted by height; one row for a
        single start.

        Returns:
            Columns ``kind`` (``maximum``; ``copy``, a maximum with the labels of equally declared parameters exchanged;
            ``spike``, unbounded; ``plateau``, a supremum that is not attained; ``flat``; ``digits lost``; or the status of the
            optimiser; for a single start ``maximum`` or the code of the verdict), ``llf`` (with a
            penalty or bias reduction ``llf_penalized``), ``n_starts`` (number of starts that ended here),
            ``copy_of`` (row of the maximum that it copies), ``statement``, and the parameters, natural scale.
        """
        return reporting.modes(self._entries)

    @property
    def nobs(self) -> float:
        """Number of rows used; with ``rowwise=False``, of terms that the model returns.

        With frequency weights, the sum of the weights; rows of weight 0 are not counted.
        """
        return counts(self._fit.loaded)[0]

    @property
    def n_units(self) -> int:
        """Number of terms of the log-likelihood: rows, units, or the terms that a model with ``rowwise=False`` returns;
        weighted as :attr:`nobs`.
        """
        return int(counts(self._fit.loaded)[1])

    @property
    def n_dropped(self) -> int:
        """Number of rows left out by ``missing="drop"``."""
        return self._fit.loaded.rows.n_dropped

    @property
    def n_steps(self) -> int:
        """Number of steps of the optimiser."""
        return self._fit.n_steps

    @property
    def history(self) -> pd.DataFrame | None:
        """For a fit on minibatches, the mean log-likelihood per row (unit) by epoch; None for other fits.

        Column ``train`` is over the minibatches used in the epoch, at the changing parameters, minus the penalty divided by the
        sum of weights, if there is one; with ``validation=``, column ``validation`` is after the epoch, without penalty.
        ``kept`` is True for the epoch whose parameters were kept, from which any Newton steps began; False everywhere if those
        of the start were.
        """
        return None if self._fit.history is None else report.history(self._fit.history)

    @property
    def path(self) -> pd.Series:
        """The maximised objective (the log-likelihood, minus the penalty if there is one, plus the term of bias reduction) by
        step of the optimiser.

        Empty for a data set of a batch, and for a training on minibatches, which has :attr:`history`.

        Newton's method, BHHH and EM record every step, methods that run on the device only some steps; Newton steps that finish
        another method continue its numbering.
        """
        import pandas as pd

        steps, values = np.array(self._fit.path, float).reshape(-1, 2).T
        return pd.Series(values, index=pd.Index(steps.astype(int), name="step"), name="loglik")

    @property
    def df_model(self) -> int:
        """Number of free parameters, effects of ``mle.Real(by=...)`` and parameters at a bound included, less the number of
        directions that are not identified.
        """
        return inference.df_model(self._fit, self._cov)

    @property
    def df_resid(self) -> float:
        """``nobs - df_model``."""
        return self.nobs - self.df_model

    @property
    def aic(self) -> float:
        """Akaike's criterion, -2 llf + 2 df_model, with :attr:`edf` for penalised fits; see :meth:`info_criteria`."""
        return self.info_criteria("aic")

    @property
    def aicc(self) -> float:
        """AIC with the correction for small samples, which is exact for the mean of a normal linear model and approximate
        for others.  See :meth:`info_criteria`.
        """
        return self.info_criteria("aicc")

    @property
    def tic(self) -> float:
        """Takeuchi's criterion, -2 llf + 2 tr(I^-1 J), J the sum of outer products of scores: AIC that allows for a
        misspecified model.  See :meth:`info_criteria`.
        """
        return self.info_criteria("tic")

    @property
    def bic(self) -> float:
        """Schwarz's criterion, -2 llf + df_model log(nobs); see :meth:`info_criteria`."""
        return self.info_criteria("bic")

    @documented_by(inference.info_criterion)
    def info_criteria(
        self,
        name: Literal["aic", "aicc", "bic", "hqic", "tic"] = "aic",
        *,
        n: float | None = None,
        count: Literal["all", "interior"] = "all",
    ) -> float:
        return inference.info_criterion(self._fit, self._cov, name, n=n, count=count)

    @property
    def integration(self) -> Integration | None:
        """How latent variables were integrated out, and how accurate this is; None for models without latent variables.

        ``points``: quadrature points per dimension, 0 for discrete classes (exact sums). If the number was chosen automatically,
        also the change when it is doubled: of the estimates (``shift``, in standard errors), of the standard errors (``errors``,
        relative) and of the log-likelihood; and the unit with the largest error against a fixed grid (``worst``, ``off``).
        """
        return self._fit.integration

    # ---- derivatives at the estimates

    @property
    def information(self) -> pd.DataFrame:
        """Observed information: minus the Hessian of the summed log-likelihood, without penalty, in the free parameters,
        natural scale (p, p).

        Raises:
            ValueError: a first-order method fitted so many parameters that the Hessian was not computed.
        """
        if self._fit.information is None:
            raise linked(
                ValueError(
                    f"the Hessian is not available: a first-order method fitted {self._fit.spec.space.n_free} parameters without "
                    "it; use subset_errors for the standard errors of a few parameters"
                ),
                "no-hessian",
            )
        return self._frame(self._fit.information, list(self._fit.spec.space.theta_labels))

    @property
    def hessian(self) -> pd.DataFrame:
        """Hessian of the summed log-likelihood in the free parameters, natural scale (p, p); ValueError where
        :attr:`information` has one.
        """
        return -self.information

    @property
    def score_obs(self) -> pd.DataFrame:
        """Scores of all terms of the log-likelihood (rows, units) in the free parameters, natural scale, times their
        weights (n, p).

        The columns sum to the score of the log-likelihood, which is 0 at an interior maximum; effects of ``mle.Real(by=...)`` are
        partialled out, s - I_theta,alpha I_alpha^-1 s_alpha with s_alpha the score of the effects.  With weights, row i is w_i
        times the gradient of its log-likelihood (as in R's ``estfun``).  There is one row for each row (unit, term) of the data,
        0 for those of weight 0.

        Raises:
            ValueError: the rows are not in memory, or the model returns a single number.
        """
        import pandas as pd

        return pd.DataFrame(inference.weighted_scores(self._fit), columns=list(self._fit.spec.space.theta_labels))

    # ---- behind the doors

    def __getstate__(self) -> dict[str, Any]:
        return {"_model": self._model, "cov_type": self.cov_type, "_fit": self._fit, "_cov": self._cov}

    @cached_property
    def _entries(self) -> inference.Entries:
        return inference.Entries(self._fit, self._cov)

    def _refuse_effects(self, what: str, instead: str) -> None:
        fit_room.refuse_effects(self._fit.spec.likelihood, what, instead)

    @property
    def _facts(self) -> inference.FitFacts:
        return inference.facts_of(self._fit, self._cov)

    def _series(self, values: np.ndarray, name: str) -> pd.Series:
        import pandas as pd

        labels = self._fit.spec.space.labels
        # a view: a name given to the index of one table is no name of another's
        index = _index(labels).view() if len(labels) <= MANY_LABELS else self._entries.labels
        return pd.Series(np.array(values), index=index, name=name, copy=False)

    def _frame(self, values: np.ndarray, names: list[str]) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(np.array(values), index=names, columns=names)


@lru_cache(maxsize=64)
def _index(labels: tuple[str, ...]) -> pd.Index:
    """Return labels as a pandas index; the last 64 are cached, since making one takes longer than making the table."""
    import pandas as pd

    return pd.Index(list(labels))
