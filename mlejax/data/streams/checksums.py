"""Checksums of the values of a partition, by which a later pass knows that they have not changed.

The checksum of a chunk is the sum of the products of its values with fixed random numbers, so that a changed order of the rows
is detected too.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mlejax.shapes import Float, Host

RTOL = 1e-9  # relative tolerance of checksums: other processors add in another order


class Seen(NamedTuple):
    """The summary of a partition that is kept from the first pass, to detect changes.

    Attributes:
        n: number of rows.
        checksum: one number for each column and, last, the weights (k,).
        size: scale of the rounding errors of the checksums (k,); 0 in the summaries of later passes.
        moments: sum and sum of squares of each column and the weights (k, 2); 0 in the summaries of later passes.
    """

    n: int
    checksum: Float[Host, " k"]
    size: Float[Host, " k"]
    moments: Float[Host, "k 2"]

    def same(self, other: Seen) -> bool:
        """True if the number of rows and the checksums are the same, up to rounding: then values and their order are too.
        ``self`` must be from the first pass.
        """
        return self.n == other.n and bool((np.abs(self.checksum - other.checksum) <= RTOL * self.size).all())

def joined(a: Seen, b: Seen) -> Seen:
    """Return the summary of two chunks of a partition together, the sum of both."""
    return Seen(a.n + b.n, a.checksum + b.checksum, a.size + b.size, a.moments + b.moments)


def place_of(number: int) -> float:
    """Return the factor by which the checksum of chunk ``number`` of a partition is multiplied, so that chunks in another order
    have another sum.
    """
    return 1.0 + (number * 0.6180339887498949) % 1.0


def sums_of_column(values: Host, random: Float[Host, " n"], whole: bool) -> tuple[float, float, tuple[float, float]]:
    """Return the checksum of a column (n, ...), its size and its moments, as in `Seen`; the last two are 0 unless ``whole``."""
    n = len(random)
    flat = np.asarray(values, np.float64).reshape(n, -1)
    width = flat.shape[1]
    checksum = float(np.einsum("ij,i,j->", flat, random, 1.0 + np.arange(width)))
    if not whole:
        return checksum, 0.0, (0.0, 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        moments = float(flat.sum()), float(np.einsum("ij,ij->", flat, flat))
        return checksum, 4.0 * float(np.sqrt(n * moments[1] * width)) * width, moments
