"""A finished fit with its covariance: estimates, standard errors, intervals, facts and derivatives.

Names are statsmodels' where it has them.  Everything is NumPy float64 or pandas; nothing here refits or writes back.
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
MANY_LABELS = 2000  # more are not kept


@misuse.doors
@dataclass(frozen=True, eq=False, repr=False)
class Fitted:
    """Estimates with their covariance, and the facts of their fit.

    Entries are labelled by addresses such as ``mu``, ``beta[2]`` or ``beta[age]``, on the natural scale; the
    log-likelihood is summed over contributions and maximised.

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
        """A fit with the covariance that was asked for; not ``strict``: without errors where there are too few clusters."""
        kind, options = check_kind(cov_type, cov_kwds, fit.weight_kind, fit.penalised is not None)
        return cls(model, kind, fit, inference.covariance_of(fit, kind, options, strict))

    def with_cov(self, cov_type: CovarianceKind | None = None, cov_kwds: Mapping[str, Any] | None = None) -> Self:
        """The same fit with another covariance, without refitting.

        Args:
            cov_type, cov_kwds: as in ``Model.fit``.
        """
        return self.make(self._model, self._fit, cov_type, cov_kwds)

    @cached_property
    def model(self) -> Any:
        """The model that was fitted; its ``endog_names`` is the outcome, ``exog_names`` are the addresses of the estimates."""
        outcome = reporting.outcome(self._fit) or self._model.likelihood.name
        return replace(self._model, endog_names=outcome, exog_names=self._fit.spec.space.labels)

    # ---- estimates

    @property
    def params_tree(self) -> Params:
        """Estimates in the user's own structure, natural scale; accepted by ``model(...)`` and ``start=``."""
        return self._fit.params

    @property
    def params(self) -> pd.Series:
        """Estimates, natural scale, one entry for each distinct number."""
        return self._series(self._entries.params, "coef")

    @property
    def bse(self) -> pd.Series:
        """Standard errors, natural scale; NaN for entries that are fixed, on an edge or without a covariance.

        Refused (ValueError), as everything that needs them, above 2,000 parameters: see :meth:`subset_errors`.
        """
        self._entries.refuse_large()
        return self._series(self._entries.bse, "std err")

    @property
    def tvalues(self) -> pd.Series:
        """z statistics against 0; NaN where 0 is not an interior point of the support."""
        self._entries.refuse_large()
        return self._series(self._entries.tests[0], "z")

    @property
    def pvalues(self) -> pd.Series:
        """Two-sided p-values of ``tvalues`` by the normal distribution."""
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
        """Confidence intervals of all entries, natural units.

        Args:
            alpha: one minus the coverage, at most 0.5.
            scale: of Wald intervals.  ``"link"``: made on the scale of the support (log for positive parameters, ...) and
                mapped back, so that they stay inside the support; ``"natural"``: estimate plus and minus z times the
                standard error, as R's ``confint.default``.
            method: ``"wald"``, or ``"profile"``: where twice the fall of the profile log-likelihood is the quantile of
                chi-squared 1; :meth:`profile` tells more of one of them.  ``"bonferroni"``, ``"sidak"``, ``"scheffe"``,
                ``"max-z"``: Wald intervals that cover all entries together; of some of them, ``res.t_test([...]).conf_int``.
            adjusted: of profile intervals under sampling or importance weights or a robust covariance, without which they are
                refused: the statistic is multiplied by the ratio of the model's variance to the robust one (Rotnitzky & Jewell
                1990).

        Returns:
            Columns ``lower`` and ``upper``; Wald limits are NaN, with a note in :meth:`tidy`, within 2 standard errors (z, if
            that is more) of a closed edge.  Profile intervals come with ``lower_status`` and ``upper_status``: ``finite``,
            ``infinite``, ``on the boundary``, ``not computable``; and ``nuisance on an edge``.

        Raises:
            ValueError: a fit that has no profiles, or whose log-likelihood is exceeded on one of them.

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
        """p-values of all entries together, NaN where ``pvalues`` are; of some of them, ``res.t_test([...]).adjusted_pvalues``.

        Args:
            method: ``"holm"``, ``"bonferroni"``, ``"sidak"``, ``"scheffe"`` or ``"max-z"`` (multcomp's single-step).
        """
        self._entries.refuse_large()
        z, cov = self._entries.tests[0], self._entries.covariance
        return self._series(inference.adjusted_pvalues(method, z, cov, self._cov.df), f"p ({method})")

    @documented_by(inference.effects_table)
    def effects(self) -> pd.DataFrame:
        return inference.effects_table(self._fit, self._cov)

    def cov_params(self, subset: Sequence[str] | None = None) -> pd.DataFrame:
        """Covariance of the entries of ``params``; singular where they are bound to one another (a simplex).

        Args:
            subset: addresses of some of them, and of effects by index, ``["beta[x]", "alpha[acme]"]``; at most 5,000 entries.
        """
        if subset is not None:
            return self._frame(*inference.covariance_of_some(self._entries, subset))
        held = self._fit.spec.space.reported_fixed
        known = np.where(held[:, None] | held[None, :], np.nan, self._entries.covariance)
        return self._frame(known, self._entries.labels)

    # ---- facts

    @property
    def llf(self) -> float:
        """Log-likelihood at the estimates, summed; of a penalised fit without the penalty."""
        return self._fit.llf

    @property
    def llf_penalized(self) -> float:
        """The maximised objective: the log-likelihood minus the penalty, or plus the bias reduction; else :attr:`llf`."""
        return inference.llf_penalized(self._fit)

    @property
    def edf(self) -> float:
        """Effective degrees of freedom: of a penalised fit tr(H_P^-1 I) (Gray 1992), else :attr:`df_model`."""
        return inference.effective_df(self._fit, self._cov)

    @property
    def verdict(self) -> Verdict:
        """The verdict on the estimates: ``code``, ``statement``, ``evidence``, ``advice``."""
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
            ``spike``, unbounded; ``plateau``, a supremum that is never reached; or the optimiser's end), ``llf`` (of the
            objective: under a penalty or bias reduction ``llf_penalized``), ``n_starts``,
            ``copy_of`` (row of the maximum), ``statement``, and the parameters, natural scale.
        """
        return reporting.modes(self._entries)

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
    def path(self) -> pd.Series:
        """The objective along the search, log-likelihood units, by step; empty of one of many data sets.

        Newton's method, BHHH and EM keep every step, methods that run on the device one in several; Newton's steps at the end
        of another method count on.
        """
        import pandas as pd

        steps, values = np.array(self._fit.path, float).reshape(-1, 2).T
        return pd.Series(values, index=pd.Index(steps.astype(int), name="step"), name="loglik")

    @property
    def df_model(self) -> int:
        """Number of free parameters that are identified, those on an edge of their support included."""
        return inference.df_model(self._fit, self._cov)

    @property
    def df_resid(self) -> float:
        """``nobs - df_model``."""
        return self.nobs - self.df_model

    @property
    def aic(self) -> float:
        """Akaike's criterion, -2 llf + 2 df_model; of penalised fits with :attr:`edf`.  As :meth:`info_criteria`."""
        return self.info_criteria("aic")

    @property
    def aicc(self) -> float:
        """AIC with the correction for few rows, exact for the mean of a normal linear model and borrowed elsewhere."""
        return self.info_criteria("aicc")

    @property
    def tic(self) -> float:
        """Takeuchi's criterion, -2 llf + 2 tr(I^-1 J), J the products of scores: AIC where the model may be wrong."""
        return self.info_criteria("tic")

    @property
    def bic(self) -> float:
        """Schwarz's criterion, -2 llf + df_model log(nobs).  As :meth:`info_criteria`."""
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
        """How the latents of a model were integrated out; None for models without.

        ``points`` of quadrature, 0 where a class was summed over exactly; and, where their number chose itself, how far twice as
        many move the estimates (``shift``, standard errors), the standard errors (``errors``, relative) and the log-likelihood,
        and the unit that is farthest from its integral on a fixed grid (``worst``, ``off``).
        """
        return self._fit.integration

    # ---- derivatives at the estimates

    @property
    def information(self) -> pd.DataFrame:
        """Observed information, minus the Hessian of the log-likelihood in free natural coordinates; (p, p)."""
        if self._fit.information is None:
            raise linked(
                ValueError(
                    f"no Hessian was formed for {self._fit.spec.space.n_free} parameters by a first-order method"
                ),
                "no-hessian",
            )
        return self._frame(self._fit.information, list(self._fit.spec.space.theta_labels))

    @property
    def hessian(self) -> pd.DataFrame:
        """Hessian of the log-likelihood in free natural coordinates, summed; (p, p)."""
        return -self.information

    @property
    def score_obs(self) -> pd.DataFrame:
        """Score of every contribution in free natural coordinates, (n, p), times its weight.

        The columns sum to the score of the log-likelihood, which is 0 at an interior maximum; effects by index are partialled
        out (s - I_theta,alpha I_alpha^-1 s_alpha, the score by the effects).  With weights, row i is w_i
        times the gradient of its log-likelihood (as in R's ``estfun``), and 0 for a row of weight 0, whose values the
        function never sees.  There is one row for each row of the data (unit, entry), of weight 0 or not.
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
    """Labels as pandas wants them, which takes it longer to make than the table."""
    import pandas as pd

    return pd.Index(list(labels))
