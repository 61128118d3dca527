r"""Integrals over latent variables by simulation: importance sampling with randomised Sobol points, or draws of the user.

    log int exp f(z) dz  ~  log (1/D) sum_d exp f(z_d) / g(z_d),

with z_d drawn from the density g: Student's t with 4 degrees of freedom in every direction, centred at the mode of f and scaled
by the curvature there, so that the ratio is bounded if f has normal tails.  The points are scrambled Sobol points in independent
repeats, with digital shifts for every unit.  They do not change with the parameters.
Owen (2023), Practical quasi-Monte Carlo integration; Shaw (2006), J. Comput. Finance 9(4), for the quantiles.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from mlejax.latent.mode import Integrand
from mlejax.misuse import constructor
from mlejax.shapes import Device, Float, Host

POINTS = ("mlejax", "points")  # key of the column with the points of each unit (D, q), and minus log (D g) as a last entry
MOST_DRAWS = 1 << 20


@constructor
@dataclass(frozen=True)
class Sobol:
    """Integrate by randomised Sobol points around the mode of each unit's integrand, for
    ``fit(integrate=mle.Sobol(1000))``.

    For more latent variables per unit than quadrature supports.  The fit starts at the estimates of Laplace's approximation.
    ``res.integration`` has the Monte Carlo error of every estimate, which includes the bias of a simulated log-likelihood
    (minus half the sum over units of Var(f_i) / f_i^2 for estimates f_i of their integrals); draws are doubled until that
    error is at most ``within`` standard errors.

    Args:
        draws: number of draws for each unit, over all repeats, 2 to 2^20; rounded up to ``repeats`` times a power of two.
        repeats: number of independent randomisations, 2 to 2^19, from whose variance the error is computed.
        seed: seed of the randomisation, 0 or more.
        within: the largest Monte Carlo error of an estimate, in standard errors; None: do not increase ``draws``.

    Raises:
        ValueError: an argument is not an integer in its range, or ``within`` is not positive.

    Example:
        >>> import mlejax as mle
        >>> mle.Sobol(1000)
        Sobol(draws=1000, repeats=8, seed=0, within=0.05)
    """

    draws: int
    repeats: int = 8
    seed: int = 0
    within: float | None = 0.05

    def __post_init__(self) -> None:
        for name, least, most in (("draws", 2, MOST_DRAWS), ("repeats", 2, MOST_DRAWS // 2), ("seed", 0, 2**63)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not least <= value <= most:
                raise ValueError(f"Sobol: {name}= expected a whole number from {least} to {most}, got {value!r}")
        if self.within is not None and not self.within > 0.0:
            raise ValueError(f"Sobol: within= expected a positive number of standard errors or None, got {self.within!r}")

    @property
    def each(self) -> int:
        """The number of points of one repeat: ``draws / repeats``, rounded up to a power of two."""
        return 1 << max(-(-int(self.draws) // int(self.repeats)) - 1, 0).bit_length()


@constructor
@dataclass(frozen=True, eq=False, repr=False)
class Draws:
    """Integrate over given draws of standard normal latent variables, for ``fit(integrate=mle.Draws(z))``: the plain
    simulated log-likelihood.

        log (1/D) sum_d prod_j f(y_j | params, z_d)

    The Monte Carlo errors in ``res.integration`` assume independent draws, which is conservative for Halton and Sobol points.

    Args:
        values: z (units, D, latent variables of a unit): units in order of first appearance in the data; latent variables in
            the order of their declaration, entries of vectors one after the other.

    Raises:
        ValueError: ``values`` does not have three axes and at least 2 draws, or has entries that are not finite.

    Example:
        >>> import numpy as np, mlejax as mle
        >>> mle.Draws(np.zeros((59, 100, 2)))
        Draws(59 units, 100 draws of 2)
    """

    values: np.ndarray

    def __init__(self, values: ArrayLike) -> None:
        z = np.array(values, np.float64)
        if z.ndim != 3 or z.shape[1] < 2:
            raise ValueError(
                "Draws: expected standard normal draws of shape (units, at least 2 draws, latent variables of a unit), got "
                f"shape {z.shape}"
            )
        if not np.isfinite(z).all():
            raise ValueError(
                f"Draws: expected finite standard normal draws, got {int((~np.isfinite(z)).sum())} that are NaN or infinite"
            )
        z.flags.writeable = False
        object.__setattr__(self, "values", z)

    def __repr__(self) -> str:
        return "Draws({} units, {} draws of {})".format(*self.values.shape)


@dataclass(frozen=True)
class Simulated:
    """Integration as a mean over points in the data: number of points for each unit, and of independent repeats among them."""

    points: int
    repeats: int


def log_mean(f: Integrand, points: Device, repeats: int = 1) -> Device:
    """Return the log of the integral of exp f estimated by each repeat (repeats,).

    ``points``: (D, q + 1), repeat by repeat, with minus log (D g(z)) as a last entry, where g is the density they are drawn from.
    """
    values = jax.vmap(lambda one: f(one[:-1]) + one[-1])(points)
    return jax.nn.logsumexp(jnp.reshape(values, (repeats, -1)), axis=1) + np.log(repeats)


def of_law(draws: Draws) -> Float[Host, "n d q1"]:
    """Return given standard normal draws as D points for each unit, with minus the log of D times their density as a last entry,
    an array (n, D, q + 1).
    """
    z = draws.values
    log_g = -0.5 * (z**2).sum(axis=2) - 0.5 * z.shape[2] * np.log(2.0 * np.pi)
    return np.concatenate([z, -log_g[:, :, None] - np.log(z.shape[1])], axis=2)


def around(how: Sobol, mode: Float[Host, "n q"], factor: Float[Host, "n q q"]) -> Float[Host, "n d q1"]:
    """Return D Sobol points around the mode of each unit, with minus the log of D times their density as a last entry, an array
    (n, D, q + 1).

    Args:
        how: number of points and seed.
        mode: mode of each unit's integrand (n, q).
        factor: A of each unit (n, q, q), with A A' the inverse of the curvature at the mode.
    """
    n, q = mode.shape
    t, log_g = _student(_uniform(how, n, q))
    z = mode[:, None] + np.einsum("nij,ndj->ndi", factor, t)
    log_g -= np.linalg.slogdet(factor)[1][:, None]
    return np.concatenate([z, -log_g[:, :, None] - np.log(how.repeats * how.each)], axis=2)


def _uniform(how: Sobol, n: int, q: int) -> Float[Host, "n d q"]:
    """Return randomised Sobol points (n, repeats * each, q) in the unit cube of q dimensions, for each of n units.

    Each repeat of ``how`` has a scrambling of its own, and each unit a digital shift in each repeat, from the seed ``how.seed``.
    """
    from scipy.stats import qmc

    out = np.empty((n, how.repeats, how.each, q))
    scale, bits = float(1 << 30), int(how.each).bit_length() - 1
    for r, own in enumerate(np.random.SeedSequence(int(how.seed)).spawn(int(how.repeats))):
        rng = np.random.default_rng(own)
        base = np.asarray(qmc.Sobol(q, scramble=True, seed=rng).random_base2(bits) * scale, np.uint32)
        shifts = rng.integers(1 << 30, size=(n, 1, q), dtype=np.uint32)
        out[:, r] = ((base ^ shifts) + rng.random((n, 1, q))) / scale
    return out.reshape(n, -1, q)


def _student(u: Float[Host, "n d q"]) -> tuple[Float[Host, "n d q"], Float[Host, "n d"]]:
    """Return the quantiles (n, d, q) of Student's t with 4 degrees of freedom at the probabilities u (n, d, q), and the log of
    their density (n, d), summed over the q entries.
    """
    alpha = np.clip(4.0 * u * (1.0 - u), 1e-300, 1.0)
    size = 4.0 * np.cos(np.arccos(np.sqrt(alpha)) / 3.0) / np.sqrt(alpha) - 4.0
    t = np.sign(u - 0.5) * np.sqrt(np.maximum(size, 0.0))
    return t, (np.log(0.375) - 2.5 * np.log1p(0.25 * t * t)).sum(axis=2)
