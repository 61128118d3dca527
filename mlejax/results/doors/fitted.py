"""Properties of a finished fit, and derivatives of its log-likelihood at the estimates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from mlejax import inference, misuse, report
from mlejax.fit import Integration, counts
from mlejax.misuse import linked
from mlejax.results.doors import reporting
from mlejax.results.doors.documented import documented_by
from mlejax.results.doors.estimated import Estimated
from mlejax.verdict import Verdict

if TYPE_CHECKING:
    import pandas as pd


@misuse.doors
@dataclass(frozen=True, eq=False, repr=False)
class Fitted(Estimated):
    """Estimates with their covariance, and the properties of their fit.

    Entries are labelled by names such as ``mu``, ``beta[2]`` or ``beta[age]``, on the natural scale; the
    log-likelihood is a sum over rows or units.

    Attributes:
        cov_type: the kind of covariance, ``"nonrobust"`` by default.
    """

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
        """Number of rows used; with ``rowwise=False``, of terms that the model returns, unless it returns a single one.

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
        """Number of rows left out: by ``missing="drop"``, and those of levels of ``mle.Real(by=...)`` whose effect has no finite
        estimate.
        """
        return self._fit.loaded.rows.n_dropped

    @property
    def n_steps(self) -> int:
        """Number of steps of the optimiser, of all starts together."""
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

        Empty for a data set of a batch, and for a training on minibatches, which has :attr:`history`; of several starts that of
        the first.

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
        """AIC + 2 k (k + 1) / (n - k - 1), k = :attr:`df_model`, n = :attr:`nobs`: a correction for small samples, exact for the
        mean of a normal linear model and approximate for others.  See :meth:`info_criteria`.
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

        ``points``: quadrature points per dimension (1: Laplace's approximation), draws per unit of a simulation, 0 for discrete
        classes (exact sums). A number that was chosen automatically is 2 q + 1 for the q points (``tried``) with which it was
        compared: ``shift``, ``errors`` and ``loglik`` are the largest differences of estimates (in standard errors) and of
        standard errors (relative), and that of the log-likelihood; ``worst`` is the unit with the largest error against a fixed
        grid, ``off`` that error.
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

        The columns sum to the score of the log-likelihood, which is 0 at an interior maximum (in an extended likelihood to that
        of the rows alone: the last row, of the expected total, is 0); effects of ``mle.Real(by=...)`` are
        partialled out, s - I_theta,alpha I_alpha^-1 s_alpha with s_alpha the score of the effects.  With weights, row i is w_i
        times the gradient of its log-likelihood (as in R's ``estfun``).  There is one row for each row (unit, term) of the data,
        0 for those of weight 0.

        Raises:
            ValueError: the rows are not in memory, or the model returns a single number.
        """
        import pandas as pd

        return pd.DataFrame(inference.weighted_scores(self._fit), columns=list(self._fit.spec.space.theta_labels))

    @property
    def _facts(self) -> inference.FitFacts:
        return inference.facts_of(self._fit, self._cov)
