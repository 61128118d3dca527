r"""Survey designs: strata, primary sampling units, finite populations, replicate weights.

The covariance of the estimates is B G B, B the inverse information and G the covariance of the weighted scores. With z_hi the
scores of primary sampling unit i of stratum h summed, and f_h the share of the stratum's units that were sampled,

.. math:: G = \sum_h (1 - f_h) \frac{n_h}{n_h - 1} \sum_i (z_{hi} - \bar z_h)(z_{hi} - \bar z_h)',

which includes the first sampling stage only (Binder 1983, *International Statistical Review* 51). With replicate weights the
model is fitted again under each of them, and the variation of the estimates is scaled: V = c sum_r c_r (b_r - b)(b_r - b)'.

References: Lumley (2010), *Complex Surveys*; Wolter (2007), *Introduction to Variance Estimation*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from mlejax.covariance.sandwich import summed_by_cluster
from mlejax.misuse import constructor
from mlejax.shapes import Float, Host, Int

Lonely: TypeAlias = Literal["raise", "certainty", "adjust"]
Replication: TypeAlias = Literal["JK1", "JKn", "BRR", "Fay", "bootstrap"]


@constructor
@dataclass(frozen=True, eq=False)
class Survey:
    """A survey design, as in ``model.fit(data, design=mle.Survey(weights="pw", strata="stratum", psu="school"))``.

    Args:
        weights: inverse probabilities of being sampled: name of a column, or one number for each row.
        strata: strata: name of a column, or labels; default one stratum.
        psu: primary sampling units, nested in strata: name of a column, or labels; default each row.
        fpc: finite population correction, name of a column or one number for each row: the number of primary units in the
            population of the row's stratum, or the stratum's sampling fraction, at most 1.
        lonely: what to do with a stratum that has one primary unit: ``"raise"`` ValueError; ``"certainty"``: it adds no
            variance; ``"adjust"``: its deviation from the mean of all units is used.
        subpop: subpopulation: name of a boolean column, or booleans; rows outside count for the design, but not for the
            estimates.
        replicates: replicate weights, names of columns or a matrix (n, R), instead of strata, psu and fpc.
        method: replication method: ``"JK1"``, ``"JKn"``, ``"BRR"``, ``"Fay"`` or ``"bootstrap"``.
        rho: parameter of Fay's method, in [0, 1).
        rscales: a factor for each replicate, needed for ``"JKn"``; default 1.  The bootstrap of R's survey package, with n
            units per stratum, has n / (n - 1).
        mse: if True, use deviations from the estimate, else from the mean of the replicates.

    Tests use Student's t with degrees of freedom "primary units minus strata" (replicates: their rank minus 1).

    Raises:
        ValueError: an option is not one of those above; replicates together with strata, psu or fpc; ``method`` without
            replicates; or ``"JKn"`` without rscales.
    """

    weights: Any
    strata: Any = None
    psu: Any = None
    fpc: Any = None
    lonely: Lonely = "raise"
    subpop: Any = None
    replicates: Any = None
    method: Replication | None = None
    rho: float = 0.0
    rscales: Sequence[float] | None = None
    mse: bool = False

    def __post_init__(self) -> None:
        if self.lonely not in get_args(Lonely):
            raise ValueError(f"lonely={self.lonely!r}: expected one of {', '.join(map(repr, get_args(Lonely)))}")
        if self.replicates is None:
            if self.method is not None:
                raise ValueError("method= is the method of replicate weights: give replicates= too, or leave it out")
            return
        if any(given is not None for given in (self.strata, self.psu, self.fpc)):
            raise ValueError("replicates= already account for strata, psu and fpc: leave these out")
        if self.method not in get_args(Replication):
            raise ValueError(f"method={self.method!r}: expected one of {', '.join(map(repr, get_args(Replication)))}")
        if self.method == "JKn" and self.rscales is None:
            raise ValueError("method='JKn' needs rscales=: (n_h - 1) / n_h of the stratum of each replicate")
        if not 0.0 <= self.rho < 1.0:
            raise ValueError(f"rho={self.rho!r}: expected a number in [0, 1)")

    @property
    def columns(self) -> list[str]:
        """Names of the columns that the design uses; arrays given directly have none."""
        replicates = [] if self.replicates is None or hasattr(self.replicates, "shape") else list(self.replicates)
        given = (self.weights, self.strata, self.psu, self.fpc, self.subpop, *replicates)
        return [name for name in given if isinstance(name, str)]

    def scale(self, n: int) -> float:
        """Return the factor c of the sum over n replicates, by the replication method: (n - 1) / n for JK1, 1 for JKn, 1 / n
        for BRR, 1 / (n (1 - rho)^2) for Fay, 1 / (n - 1) for the bootstrap.
        """
        return {
            "JK1": (n - 1.0) / n,
            "JKn": 1.0,
            "BRR": 1.0 / n,
            "Fay": 1.0 / (n * (1.0 - self.rho) ** 2),
            "bootstrap": 1.0 / (n - 1.0),
        }[str(self.method)]


class Meat(NamedTuple):
    """The covariance of the summed scores under a survey design.

    Attributes:
        matrix: the covariance G, (p, p).
        n_psu: number of primary sampling units.
        n_strata: number of strata.
    """

    matrix: Float[Host, "p p"]
    n_psu: int
    n_strata: int


def survey_meat(
    scores: Float[Host, "n p"],
    strata: Int[Host, " n"],
    psu: Int[Host, " n"],
    fpc: Float[Host, " n"] | None,
    lonely: Lonely = "raise",
) -> Meat:
    """Return the covariance G of the sum of weighted scores under a survey design: over strata of n units, of which the share
    f was sampled, the sum of (1 - f) n / (n - 1) times the products of the units' deviations from their stratum's mean.

    Args:
        scores: weighted scores, (n, p), 0 for rows outside the subpopulation.
        strata, psu: numbers 0, 1, ... of each row's stratum and primary unit; units of equal number in different strata are
            different units.
        fpc: population sizes, or sampling fractions of at most 1, constant within a stratum, (n,); or None.
        lonely: for strata with one primary unit: "raise" an error, "certainty": no variance, "adjust": deviation from the mean
            of all units.

    Raises:
        ValueError: a stratum with one primary unit (unless ``lonely`` allows it, or the population was sampled completely), a
            population smaller than its sample, or fpc that varies in a stratum.

    >>> survey_meat(np.array([[1.0], [-1.0]]), np.zeros(2, int), np.arange(2), None)
    Meat(matrix=array([[4.]]), n_psu=2, n_strata=1)
    """
    _, first, unit = np.unique(strata * (int(psu.max()) + 1) + psu, return_index=True, return_inverse=True)
    z = summed_by_cluster(scores, unit)
    stratum, share = strata[first], np.zeros(int(strata.max()) + 1)
    counts = np.bincount(stratum, minlength=len(share)).astype(float)
    if fpc is not None:
        share = _shares(fpc, strata, counts)
    alone = counts == 1
    if lonely == "raise" and (alone & (share < 1.0)).any():
        n = int((alone & (share < 1.0)).sum())
        raise ValueError(
            f"{n} strata have one primary unit, from which no variance can be computed: merge them with others, "
            "or give lonely='certainty' (it was sampled with certainty) or lonely='adjust'"
        )
    means = np.zeros((len(counts), z.shape[1]))
    np.add.at(means, stratum, z)
    means /= np.maximum(counts, 1.0)[:, None]
    means[alone] = z.mean(axis=0)
    factor = np.where(alone, float(lonely == "adjust"), counts / np.maximum(counts - 1.0, 1.0)) * (1.0 - share)
    deviations = z - means[stratum]
    return Meat((deviations * factor[stratum, None]).T @ deviations, len(first), int((counts > 0).sum()))


def _shares(fpc: Float[Host, " n"], strata: Int[Host, " n"], counts: Float[Host, " H"]) -> Float[Host, " H"]:
    """Return the sampling fraction of each stratum, (H,), from ``fpc`` of the rows (sizes, or fractions up to 1) and the
    numbers of primary units sampled, ``counts``.

    Raises:
        ValueError: fpc varies in a stratum, is not positive, or is less than the number of units sampled.
    """
    low, high = np.full(len(counts), np.inf), np.full(len(counts), -np.inf)
    np.minimum.at(low, strata, fpc)
    np.maximum.at(high, strata, fpc)
    if (low != high).any():
        raise ValueError("fpc= varies within a stratum; expected one number for each stratum, repeated in its rows")
    with np.errstate(divide="ignore"):
        share = np.where(high <= 1.0, high, counts / high)
    expected = "expected the size of the population, or the share that was sampled"
    if (high <= 0.0).any():
        raise ValueError(f"fpc= is {high.min():g} in a stratum; {expected}, which are positive")
    if (share > 1.0).any():
        h = int(np.argmax(share))
        raise ValueError(f"fpc= is {high[h]:g} in a stratum of which {counts[h]:g} primary units were sampled; {expected}")
    return share
