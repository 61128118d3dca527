"""Methods of results for tests of hypotheses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from mlejax import inference, misuse
from mlejax.covariance import CovarianceKind
from mlejax.parameters import AddressError
from mlejax.results.doors.documented import documented_by
from mlejax.results.doors.fitted import Fitted


@misuse.doors
class Testing(Fitted):
    """Tests of hypotheses about the parameters."""

    def wald_test(self, hypothesis: Any, value: Any = None) -> inference.WaldTest:
        """Return the joint Wald test of restrictions on ``params``, linear or nonlinear.

        Args:
            hypothesis: ``"mu[a] = mu[b], sigma = 1"``, a list of such strings, ``{name: value}``, or a matrix R; a term of a
                formula, ``"C(region)"``, whose coefficients are all 0; or a function of ``params`` (as for :meth:`nlcom`) that
                is 0 under the hypothesis.  The test of a nonlinear restriction depends on how it is written (b1 b2 = 1, b1 =
                1/b2).
            value: right-hand side for a matrix or a function, 0 by default.

        Returns:
            :class:`mlejax.inference.WaldTest`: ``statistic``, ``pvalue``, ``df``; NaN with a ``reason`` if the covariance of a
            restriction does not exist, or a null value is at a bound of the support.  Restrictions that follow from others do
            not count in ``df``.

        Raises:
            ValueError: the hypothesis cannot be read, its restrictions contradict one another, or they are more than the rank
                of the covariance (few clusters).
            TypeError: a function that returns no numbers, or cannot be differentiated by JAX.
        """
        if callable(hypothesis):
            options: dict[str, Any] = {"reason": self._entries.reason, "df": self._cov.df}
            return inference.nlcom_of(self._fit, self._cov.full, hypothesis, **options).wald_test(value)
        h, entries = self._hypotheses(hypothesis, value), self._entries
        return inference.wald_test(
            h.R, h.r, entries.params, entries.full_covariance, labels=h.labels, reason=entries.reason,
            support=inference.support_of(self._fit.spec.space), rank=entries.rank, df=self._cov.df,
        )  # fmt: skip

    def wald_terms(self) -> inference.TermTests:
        """Return, for each term of the formulas, the joint Wald test that all its coefficients are 0 (as R's ``car::Anova``
        of type III).

        Returns:
            :class:`mlejax.inference.TermTests`: prints as a table; ``frame()``.

        Raises:
            ValueError: no parameter has a formula with terms besides the intercept.
        """
        terms = [t for t in inference.terms_of(self._fit) if t.text != "1"]
        if not terms:
            raise ValueError(
                "wald_terms tests the terms of formulas, but no parameter of this fit has a formula with terms besides the "
                "intercept; test parameters by wald_test('sigma = 1')"
            )
        eye = np.eye(self._fit.spec.space.n_reported)
        return inference.TermTests(tuple(t.label for t in terms), tuple(self.wald_test(eye[t.entries]) for t in terms))

    @documented_by(inference.score_test)
    def score_test(
        self,
        what: Any = None,
        *,
        param: str | None = None,
        null: Mapping[str, Any] | None = None,
        cov_type: CovarianceKind | None = None,
        cov_kwds: Mapping[str, Any] | None = None,
        bootstrap: int | None = None,
        seed: int = 0,
    ) -> inference.ScoreTest:
        self._refuse_effects("score_test", "fit the larger model and use wald_test")
        kind = self.cov_type if cov_type is None and self.cov_type in ("HC0", "HC1") else cov_type or "nonrobust"
        options: dict[str, Any] = {"cov_type": kind, "cov_kwds": cov_kwds, "bootstrap": bootstrap, "seed": seed}
        return inference.score_test(self._fit, what, param=param, null=null, **options)

    def t_test(self, hypothesis: Any, value: Any = None, alpha: float = 0.05) -> inference.TTest:
        """Return z tests (t tests if :attr:`use_t`) of linear restrictions, each by itself.

        Args:
            hypothesis, value: as for :meth:`wald_test`, functions excepted.
            alpha: one minus the coverage of the intervals.

        Returns:
            :class:`mlejax.inference.TTest`: one row for each restriction, NaN where the covariance of the restriction does not
            exist.

        Raises:
            ValueError: the hypothesis cannot be read, or ``alpha`` is not above 0 and at most 0.5.
        """
        h, entries = self._hypotheses(hypothesis, value), self._entries
        return inference.t_test(
            h.R, h.r, entries.params, entries.full_covariance, alpha=alpha, labels=h.labels, reason=entries.reason,
            support=inference.support_of(self._fit.spec.space), df=self._cov.df,
        )  # fmt: skip

    def lr_test(
        self, restricted: Fitted, boundary: int = 0, *, bootstrap: int | None = None, seed: int = 0
    ) -> inference.LRTest:
        """Return the likelihood-ratio test of this fit against a fit nested in it, on the same data.

        Args:
            restricted: the smaller model's result.
            boundary: number of restrictions that put a parameter at a closed bound of its support (a variance at 0): the null
                distribution is then a mixture of chi-squared distributions (Self & Liang 1987), with weights 1/2 and 1/2 for one
                such restriction and simulated weights for more.
            bootstrap: number B of data sets to draw from the restricted fit by its simulator; both models are fitted to each
                and p = (1 + number of larger statistics)/(B + 1).  Valid also if the null distribution is not known (such as
                one more latent class).
            seed: seed of the random draws.

        Raises:
            TypeError: ``restricted`` is not a result.
            ValueError: the fits have different data, are not nested, did not converge, or are pseudolikelihoods; or a parameter
                is fixed at a closed bound and neither ``boundary`` nor ``bootstrap`` is given; or the simulated refits fail.
            CompanionError: the restricted model has no simulator (with ``bootstrap``).
        """
        if not isinstance(restricted, Fitted):
            raise TypeError(
                f"lr_test expected the result of a fit of the smaller model, got {type(restricted).__name__}: "
                "full.lr_test(restricted), with restricted = model.fit(data, fixed={...}) or the fit of a nested model; "
                "for hypotheses as strings use wald_test"
            )
        if bootstrap is not None:
            self._refuse_effects("lr_test with bootstrap=", "leave out bootstrap=")
        return inference.lr_test(self._facts, restricted._facts, boundary=boundary, bootstrap=bootstrap, seed=seed)

    @documented_by(inference.vuong_test)
    def vuong_test(self, other: Fitted, correction: Literal["", "aic", "bic"] = "") -> inference.VuongTest:
        for one in (self, _other(other, "vuong_test")):
            one._refuse_effects("vuong_test", "compare aic or bic")
        return inference.vuong_test(self._facts, _other(other, "vuong_test")._facts, correction)

    @documented_by(inference.hausman_test)
    def hausman_test(
        self, other: Fitted, entries: str | Sequence[str] | None = None, groups: Any = None
    ) -> inference.HausmanTest:
        return inference.hausman_test(self._facts, _other(other, "hausman_test")._facts, entries, groups)

    @documented_by(inference.information_matrix_test)
    def information_matrix_test(self, bootstrap: int | None = 199, seed: int = 0) -> inference.InformationMatrixTest:
        self._refuse_effects("information_matrix_test", "compare bse with those of cov_type='HC0'")
        return inference.information_matrix_test(self._fit, bootstrap, seed)

    def _hypotheses(self, hypothesis: Any, value: Any) -> inference.Hypotheses:
        space = self._fit.spec.space
        known = {leaf.name for leaf in space.leaves}
        if isinstance(hypothesis, str) and hypothesis not in known:
            entries = inference.term_named(self._fit, hypothesis)
            hypothesis = hypothesis if entries is None else np.eye(space.n_reported)[entries]
        try:
            return inference.parse_hypotheses(
                hypothesis, space.resolve, space.n_reported, r=value, names=self._entries.labels
            )
        except AddressError as error:
            effects = self._fit.loaded.effects
            if effects is None or f"'{effects.key.parameter}[" not in str(error):
                raise
            raise AddressError(
                f"{error}. Effects of {effects.key.by} are not among them: res.effects() has their errors, and "
                "res.cov_params([...]) covariances of some of them"
            ) from None


def _other(result: object, test: str) -> Fitted:
    if not isinstance(result, Fitted):
        raise TypeError(f"{test} expected the result of another fit of the same data, got {type(result).__name__}")
    return result
