"""A finished fit with its covariance: estimates, standard errors and intervals.

Names are those of statsmodels if it has them.  Values are NumPy float64 or pandas; nothing here refits or changes the fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from mlejax import fit as fit_room
from mlejax import inference, misuse
from mlejax.covariance import CovarianceKind, CovarianceResult, check_kind
from mlejax.fit import Fit
from mlejax.misuse import linked
from mlejax.results.doors import reporting
from mlejax.results.doors.documented import documented_by
from mlejax.shapes import Params

if TYPE_CHECKING:
    import pandas as pd

Scale = Literal["link", "natural"]
MANY_LABELS = 2000  # the pandas index of more labels is not cached


@misuse.doors
@dataclass(frozen=True, eq=False, repr=False)
class Estimated:
    """Estimates with their covariance.

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
                ``mle.Real(by=...)`` with a ``cov_type`` that does not cover them, such as "HAC".
        """
        if subset is not None and (isinstance(subset, str) or not isinstance(subset, Sequence | np.ndarray)):
            raise TypeError(f"cov_params: subset= expected a list of names of entries, got {subset!r:.60}")
        if subset is not None:
            return self._frame(*inference.covariance_of_some(self._entries, subset))
        is_fixed = self._fit.spec.space.reported_fixed
        known = np.where(is_fixed[:, None] | is_fixed[None, :], np.nan, self._entries.covariance)
        return self._frame(known, self._entries.labels)

    # ---- behind the doors

    def __getstate__(self) -> dict[str, Any]:
        return {"_model": self._model, "cov_type": self.cov_type, "_fit": self._fit, "_cov": self._cov}

    @cached_property
    def _entries(self) -> inference.Entries:
        return inference.Entries(self._fit, self._cov)

    def _refuse_effects(self, what: str, instead: str) -> None:
        fit_room.refuse_effects(self._fit.spec.likelihood, what, instead)

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
