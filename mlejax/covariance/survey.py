r"""Survey designs: strata, primary sampling units, finite populations, replicate weights.

The covariance of the estimates is B G B, B the inverse information and G the covariance of the weighted scores. With z_hi the
scores of primary sampling unit i of stratum h summed, and f_h the share of the stratum's units that were sampled,

.. math:: G = \sum_h (1 - f_h) \frac{n_h}{n_h - 1} \sum_i (z_{hi} - \bar z_h)(z_{hi} - \bar z_h)',

which counts the first stage only (Binder 1983, *International Statistical Review* 51). With replicate weights the estimates are
made again under each of them, and their spread is scaled by the method: V = c sum_r c_r (b_r - b)(b_r - b)'.

References: Lumley (2010), *Complex Surveys*; Wolter (2007), *Introduction to Variance Estimation*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from mlejax.shapes import Float, Host, Int

Lonely: TypeAlias = Literal["raise", "certainty", "adjust"]
Replication: TypeAlias = Literal["JK1", "JKn", "BRR", "Fay", "bootstrap"]


@dataclass(frozen=True, eq=False)
class Survey:
    """How rows were sampled: ``model.fit(data, design=mle.Survey(weights="pw", strata="stratum", psu="school"))``.

    Args:
        weights: inverse probabilities of being sampled, a column or one number for each row.
        strata: column or labels; one stratum by default.
        psu: primary sampling units, column or labels, nested in strata; each row is one by default.
        fpc: for each row the size of its stratum's population (in primary units), or the share that was sampled, below 1.
        lonely: a stratum with one unit: ``"raise"``; ``"certainty"``: it adds nothing; ``"adjust"``: its distance from the mean
            of all units counts.
        subpop: a column of flags or flags: rows outside count for the design, but not for the estimates.
        replicates: replicate weights, names of columns or a matrix (n, R), in place of strata, psu and fpc.
        method: of replication: ``"JK1"``, ``"JKn"``, ``"BRR"``, ``"Fay"`` or ``"bootstrap"``.
        rho: of Fay's method, in [0, 1).
        rscales: a factor for each replicate, as ``"JKn"`` needs; ones by default.  The bootstrap of R's survey, n units a
            stratum, has n / (n - 1).
        mse: distances from the estimate, not from the mean of the replicates.

    Tests use Student's t with as many degrees of freedom as primary units minus strata (replicates: their rank minus 1).
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
                raise ValueError("method= says how replicate weights were made: give replicates= too")
            return
        if any(given is not None for given in (self.strata, self.psu, self.fpc)):
            raise ValueError("replicates= have strata, psu and fpc in them: leave these out")
        if self.method not in get_args(Replication):
            raise ValueError(f"method={self.method!r}: expected one of {', '.join(map(repr, get_args(Replication)))}")
        if self.method == "JKn" and self.rscales is None:
            raise ValueError("method='JKn' needs rscales=: (n_h - 1) / n_h of the stratum of each replicate")
        if not 0.0 <= self.rho < 1.0:
            raise ValueError(f"rho={self.rho!r}: expected a number in [0, 1)")

    @property
    def columns(self) -> list[str]:
        """The columns that are given by name."""
        replicates = [] if self.replicates is None or hasattr(self.replicates, "shape") else list(self.replicates)
        given = (self.weights, self.strata, self.psu, self.fpc, self.subpop, *replicates)
        return [name for name in given if isinstance(name, str)]

    def scale(self, n: int) -> float:
        """The factor of all n replicates."""
        return {
            "JK1": (n - 1.0) / n,
            "JKn": 1.0,
            "BRR": 1.0 / n,
            "Fay": 1.0 / (n * (1.0 - self.rho) ** 2),
            "bootstrap": 1.0 / (n - 1.0),
        }[str(self.method)]


class Meat(NamedTuple):
    """The covariance of the summed scores (p, p), and how many units and strata it is from."""

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
    """G of weighted scores.

    Args:
        scores: (n, p), 0 for rows that do not count.
        strata, psu: codes 0, 1, ... of each row; units of equal code in different strata are different units.
        fpc: sizes of populations, or shares below 1, constant in a stratum.
        lonely: as in `Survey`.

    Raises:
        ValueError: a stratum with one unit, populations smaller than their samples, or that vary within a stratum.

    >>> survey_meat(np.array([[1.0], [-1.0]]), np.zeros(2, int), np.arange(2), None)
    Meat(matrix=array([[4.]]), n_psu=2, n_strata=1)
    """
    _, first, unit = np.unique(strata * (int(psu.max()) + 1) + psu, return_index=True, return_inverse=True)
    z = np.zeros((len(first), scores.shape[1]))
    np.add.at(z, unit, scores)
    of_unit, share = strata[first], np.zeros(int(strata.max()) + 1)
    counts = np.bincount(of_unit, minlength=len(share)).astype(float)
    if fpc is not None:
        share = _shares(fpc, strata, counts)
    alone = counts == 1
    if lonely == "raise" and (alone & (share < 1.0)).any():
        raise ValueError(
            f"{int(alone.sum())} strata have one primary unit, from which no variance follows: join them with others, or say "
            "lonely='certainty' (it was sampled for certain) or 'adjust'"
        )
    means = np.zeros((len(counts), z.shape[1]))
    np.add.at(means, of_unit, z)
    means /= np.maximum(counts, 1.0)[:, None]
    means[alone] = z.mean(axis=0)
    factor = np.where(alone, float(lonely == "adjust"), counts / np.maximum(counts - 1.0, 1.0)) * (1.0 - share)
    moved = z - means[of_unit]
    return Meat((moved * factor[of_unit, None]).T @ moved, len(first), int((counts > 0).sum()))


def _shares(fpc: Float[Host, " n"], strata: Int[Host, " n"], counts: Float[Host, " H"]) -> Float[Host, " H"]:
    low, high = np.full(len(counts), np.inf), np.full(len(counts), -np.inf)
    np.minimum.at(low, strata, fpc)
    np.maximum.at(high, strata, fpc)
    if (low != high).any():
        raise ValueError("fpc= varies within a stratum; expected one number for each stratum, repeated in its rows")
    with np.errstate(divide="ignore"):
        share = np.where(high <= 1.0, high, counts / high)
    if (share > 1.0).any() or (high <= 0.0).any():
        raise ValueError(
            "fpc= is less than the number of primary units sampled in a stratum; expected the size of the population, or the "
            "share that was sampled"
        )
    return share
