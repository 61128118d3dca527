r"""Standard errors of some parameters among very many, as a table that says what they mean.

From the information of the chosen parameters S alone (:mod:`mlejax.fit.curvature`):

* *given the others*: :math:`(I_{SS})^{-1}`, as if the other parameters were known;
* *the others estimated*: :math:`(I_{SS} - I_{SO} I_{OO}^{-1} I_{OS})^{-1}`, the block of :math:`I^{-1}`.

The difference of the two in the order of positive semidefinite matrices is what not knowing the others costs, so that the
first are never larger than the second.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mlejax.inference.contrasts import small_table
from mlejax.inference.intervals import confidence_intervals, z_tests
from mlejax.linalg import scaled_inverse

if TYPE_CHECKING:
    import pandas as pd

OTHERS = ("given", "estimated")


@dataclass(frozen=True, eq=False, repr=False)
class SubsetErrors:
    """Estimates of the chosen parameters with standard errors; prints as a table.

    Attributes:
        names: m addresses.
        estimate, std_error, statistic, p_value, conf_low, conf_high: (m,) each, natural scale.
        notes: m strings.
        cov: (m, m) covariance.
        cov_given: (m, m) covariance given the others, whatever was asked for.
        others: ``"given"`` or ``"estimated"``.
        decrement: g' I_SS^-1 g of the chosen parameters, log-likelihood units; 0 at a maximum.
        remarks: what the numbers mean, in sentences.
        n_others: number of other free parameters.
        alpha: 1 - coverage.
    """

    names: tuple[str, ...]
    estimate: np.ndarray
    std_error: np.ndarray
    statistic: np.ndarray
    p_value: np.ndarray
    conf_low: np.ndarray
    conf_high: np.ndarray
    notes: tuple[str, ...]
    cov: np.ndarray
    cov_given: np.ndarray
    others: str
    decrement: float
    remarks: tuple[str, ...]
    n_others: int
    alpha: float

    def table(self) -> pd.DataFrame:
        """One row a parameter: estimate, std_error, statistic, p_value, conf_low, conf_high, note."""
        import pandas as pd

        names = ("estimate", "std_error", "statistic", "p_value", "conf_low", "conf_high")
        columns: dict[str, Any] = {name: getattr(self, name) for name in names}
        return pd.DataFrame({**columns, "note": list(self.notes)}, index=pd.Index(list(self.names), name="term"))

    def with_remark(self, text: str) -> SubsetErrors:
        """The same with one sentence more below the table, if there is one."""
        return replace(self, remarks=(*self.remarks, text)) if text else self

    def summary(self) -> str:
        """The table as text, with what the errors mean below it."""
        how = "given the others" if self.others == "given" else "the others estimated"
        title = f"Standard errors of {len(self.names)} of {len(self.names) + self.n_others} parameters, {how}"
        rows = (self.estimate, self.std_error, self.conf_low, self.conf_high)
        text = small_table(title, self.names, rows, self.statistic, self.p_value, self.notes, self.alpha)
        said = [line for remark in self.remarks for line in textwrap.wrap(remark, 78)]
        return "\n".join([text, *said])

    def __repr__(self) -> str:
        return self.summary()


def check_others(others: Any) -> None:
    """ValueError unless ``others`` is one of :data:`OTHERS`.

    >>> check_others("given")
    """
    if others not in OTHERS:
        raise ValueError(
            f"others={others!r}: expected 'given' (the other parameters taken as known) or 'estimated' (accounting for them)"
        )


def subset_errors(
    names: Sequence[str],
    estimate: np.ndarray,
    block: np.ndarray,
    score: np.ndarray,
    lost: np.ndarray | None,
    *,
    links: Sequence[Any],
    edges: tuple[np.ndarray, np.ndarray],
    zero_is_interior: np.ndarray,
    n_others: int,
    remarks: Sequence[str] = (),
    alpha: float = 0.05,
) -> SubsetErrors:
    """The table from the information of the chosen parameters.

    Args:
        names: m addresses.
        estimate: (m,) natural scale.
        block: I_SS (m, m).
        score: score of the chosen parameters (m,).
        lost: I_SO I_OO^-1 I_OS (m, m), or None to take the others as given.
        links: m bijections for the intervals.
        edges: closed lower and upper edges of the supports (m,) each.
        zero_is_interior: flags (m,) of the entries whose z against 0 means something.
        n_others: number of other free parameters.
        remarks: sentences to put below the table after those on the kind of errors.
        alpha: 1 - coverage.

    Raises:
        ValueError: an information that is not positive definite.

    >>> import numpy as np
    >>> from mlejax.transforms import Identity
    >>> wide = (np.full(1, -np.inf), np.full(1, np.inf))
    >>> kinds = {"links": [Identity()], "edges": wide, "zero_is_interior": np.array([True]), "n_others": 1}
    >>> given = subset_errors(["b"], np.ones(1), np.array([[4.0]]), np.zeros(1), None, **kinds)
    >>> both = subset_errors(["b"], np.ones(1), np.array([[4.0]]), np.zeros(1), np.array([[3.0]]), **kinds)
    >>> given.std_error.tolist(), both.std_error.tolist()
    ([0.5], [1.0])
    """
    inside = scaled_inverse(block)
    if not inside.ok:
        raise ValueError(
            f"the information of these parameters given the others is not positive definite (smallest scaled eigenvalue "
            f"{inside.smallest:.2g}), so that it has no inverse: they are not identified (a softmax needs a class whose "
            "scores are 0, say), or this is far from a maximum. Choose fewer parameters, train longer, or give damping="
        )
    given = inside.inverse
    cov = given
    if lost is not None:
        found = scaled_inverse(block - lost)
        if not found.ok:
            raise ValueError(
                "accounting for the other parameters leaves no positive definite information of these (smallest scaled "
                f"eigenvalue {found.smallest:.2g}): this is no maximum, or the parameters are not identified. "
                "others='given' may do, or damping="
            )
        cov = found.inverse
    errors = np.sqrt(np.diag(cov))
    lower = np.where(zero_is_interior, -np.inf, 0.0)
    z, p = z_tests(estimate, errors, lower=lower)
    limits = confidence_intervals(estimate, errors, links=links, lower_edge=edges[0], upper_edge=edges[1], alpha=alpha)
    return SubsetErrors(
        names=tuple(names),
        estimate=np.asarray(estimate),
        std_error=errors,
        statistic=z,
        p_value=p,
        conf_low=limits.low,
        conf_high=limits.high,
        notes=tuple(limits.notes),
        cov=cov,
        cov_given=given,
        others="given" if lost is None else "estimated",
        decrement=float(score @ given @ score),
        remarks=tuple(remarks),
        n_others=n_others,
        alpha=float(alpha),
    )
