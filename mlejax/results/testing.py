"""The doors of results to tests of hypotheses."""

from __future__ import annotations

from typing import Any

from mlejax import inference
from mlejax.results.fitted import Fitted


class Testing(Fitted):
    """Tests of the estimates."""

    def wald_test(self, hypothesis: Any, value: Any = None) -> inference.WaldTest:
        """Joint Wald test of linear restrictions on ``params``.

        Args:
            hypothesis: ``"mu[a] = mu[b], sigma = 1"``, a list of such strings, ``{address: value}``, or a matrix R.
            value: right-hand side for a matrix.
        """
        h, entries = self._hypotheses(hypothesis, value), self._entries
        return inference.wald_test(
            h.R, h.r, entries.params, entries.full_covariance, labels=h.labels, reason=entries.reason,
            support=inference.support_of(self._fit.spec.space), rank=entries.rank,
        )  # fmt: skip

    def t_test(self, hypothesis: Any, value: Any = None, alpha: float = 0.05) -> inference.TTest:
        """z tests of linear restrictions, one by one; arguments as in :meth:`wald_test`."""
        h, entries = self._hypotheses(hypothesis, value), self._entries
        return inference.t_test(
            h.R, h.r, entries.params, entries.full_covariance, alpha=alpha, labels=h.labels, reason=entries.reason,
            support=inference.support_of(self._fit.spec.space),
        )  # fmt: skip

    def lr_test(self, restricted: Fitted, boundary: int = 0) -> inference.LRTest:
        """Likelihood-ratio test of this fit against one nested in it, on the same data.

        Args:
            restricted: the smaller model's result.
            boundary: 1 if the restriction puts one parameter on a closed edge (a variance at 0): the null
                distribution is then a mixture of chi-squares (Self & Liang 1987).

        Raises:
            TypeError: the other one is not a result.
            ValueError: different data, not nested, not converged, or pseudolikelihoods.
        """
        if not isinstance(restricted, Fitted):
            raise TypeError(
                f"lr_test expected the result of a fit of the smaller model, got {restricted!r}: full.lr_test(restricted), with "
                "restricted = model.fit(data, fixed={...}) or the fit of a nested model; hypotheses in text are for wald_test"
            )
        return inference.lr_test(self._facts, restricted._facts, boundary=boundary)

    def _hypotheses(self, hypothesis: Any, value: Any) -> inference.Hypotheses:
        space = self._fit.spec.space
        return inference.parse_hypotheses(
            hypothesis, space.resolve, space.n_reported, r=value, names=self._entries.labels
        )
