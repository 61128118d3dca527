"""Confidence regions of two parameters by profile likelihood."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlejax.covariance import CovarianceResult
from mlejax.execution import float64, progress_line
from mlejax.fit import Fit
from mlejax.inference.profiles.ends.descriptions import natural_slope, natural_value
from mlejax.inference.profiles.paths import Paths, newton
from mlejax.inference.profiles.profile import chi2_cut, higher_maximum
from mlejax.inference.profiles.profiled import at_estimates, find_ends, make_paths
from mlejax.inference.profiles.profiling import Profiling, target_of
from mlejax.inference.profiles.targets import Target
from mlejax.notebook import Text
from mlejax.plot import likelihoods
from mlejax.shapes import Float, Host

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

DIRECTIONS = 72


@dataclass(frozen=True, eq=False, repr=False)
class Contour:
    """Region of two parameters in which the profile log-likelihood is above the cut; prints its extent, and can be plotted.

    The boundary is the first crossing of the cut in each direction from the estimate, natural scale.

    Attributes:
        labels: names of the two parameters.
        params: estimates of the two parameters.
        x, y: boundary points, one for each direction (k,); NaN unless the status is ``finite`` or ``on the boundary``.
        status: status of each point (k,): ``finite`` (on the cut), ``on the boundary`` (of the support, above the cut),
            ``infinite`` (the profile levels off above the cut) or ``not computable``.
        gap: log-likelihood minus the cut at each point (k,).
        decrement: Newton decrement over the other parameters at each point, 0 at a maximum over them (k,).
        ellipse: boundary of the region in the quadratic approximation, two arrays (k,).
        alpha: 1 - coverage.
        joint: True: the cut is the quantile of chi-squared with 2 degrees of freedom (joint coverage); False: with 1.
    """

    labels: tuple[str, str]
    params: tuple[float, float]
    x: np.ndarray
    y: np.ndarray
    status: tuple[str, ...]
    gap: np.ndarray
    decrement: np.ndarray
    ellipse: tuple[np.ndarray, np.ndarray]
    alpha: float
    joint: bool

    def frame(self) -> pd.DataFrame:
        """Return the boundary as a DataFrame: columns of the two parameters, ``status``, ``gap`` and ``decrement``."""
        import pandas as pd

        head = {self.labels[0]: self.x, self.labels[1]: self.y}
        return pd.DataFrame({**head, "status": list(self.status), "gap": self.gap, "decrement": self.decrement})

    def plot(self, ax: Axes | None = None) -> Axes:
        """Plot the region, and its quadratic approximation dashed, on ``ax`` or new axes; return the axes.

        Raises:
            ImportError: matplotlib is not installed.
        """
        return likelihoods.contour(self, ax)

    def summary(self) -> Text:
        """Return as text the smallest and largest boundary value of each parameter, the accuracy of the points, and the number
        of directions of each status.
        """
        kind = "joint region (chi-squared 2)" if self.joint else "contour (chi-squared 1)"
        title = f"{100 * (1 - self.alpha):g} % profile-likelihood {kind} of {self.labels[0]} and {self.labels[1]}"
        lines = [title, "-" * len(title)]
        known = np.isfinite(self.x) & np.isfinite(self.y)
        for name, values, at in zip(self.labels, (self.x, self.y), self.params, strict=True):
            if known.any():
                lines.append(f"{name}  {values[known].min():.5g} to {values[known].max():.5g}, estimate {at:.5g}")
        finite = np.array([s == "finite" for s in self.status])
        if finite.any():
            worst = np.abs(self.gap[finite]).max(), np.abs(self.decrement[finite]).max()
            lines.append(
                f"{int(finite.sum())} of {len(self.status)} directions end at the cut: |l - cut| <= {worst[0]:.1e}, nuisance "
                f"decrement <= {worst[1]:.1e}"
            )
        others = sorted({s for s in self.status if s != "finite"})
        lines += [f"{self.status.count(s)} directions: {s}" for s in others]
        return Text(lines)

    def __repr__(self) -> str:
        return self.summary()


def contour(
    fit: Fit,
    cov: CovarianceResult,
    first: str | Callable[[Any], Any],
    second: str | Callable[[Any], Any],
    alpha: float = 0.05,
    joint: bool = True,
    n: int = DIRECTIONS,
    progress: bool | None = None,
) -> Contour:
    """Return the profile-likelihood region of two entries or functions of ``params``.

    Args:
        first, second: names of entries, or functions of ``params`` that return one number, in JAX.
        alpha: one minus the coverage.
        joint: True: the cut is the quantile of chi-squared with 2 degrees of freedom, for joint coverage of both; False: with 1,
            so that the extent of the region in each parameter is its profile interval.
        n: number of directions from the estimate in which a boundary point is computed.
        progress: True shows a line of progress, False none; None shows it in a terminal.

    Returns:
        :class:`mlejax.inference.Contour`: ``x``, ``y``, ``frame()``, ``plot()``.

    Raises:
        AddressError: there is no such entry; the message lists similar names.
        ValueError: fewer than 8 directions, twice the same parameter or functions of each other, a fit without profile
            likelihood, with a covariance other than "nonrobust" or with sampling or importance weights, a quantity that has no
            profile (see :meth:`profile`), or a log-likelihood above that of the estimates on the way; ``alpha`` is not in
            (0, 0.5].
        TypeError: a quantity is neither a name nor a function, or its function cannot be differentiated.

    Example:
        >>> import mlejax as mle
        >>> from jax.scipy.stats import norm
        >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
        ... def gaussian(params, data):
        ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
        >>> region = gaussian.fit({"y": [1.0, 2.0, 6.0, 3.0]}).contour("mu", "sigma")
        >>> len(region.x), set(region.status)
        (72, {'finite'})
    """
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 8:
        raise ValueError(f"contour: n= expected at least 8 directions, got {n!r}")
    weighted = fit.weight_kind in ("sampling", "importance")
    if weighted or cov.kind != "nonrobust":
        what = f"{fit.weight_kind} weights" if weighted else f"cov_type={cov.kind!r}"
        instead = "use cov_params()" if weighted else "use cov_params(), or res.with_cov('nonrobust').contour(...)"
        raise ValueError(f"contour: with {what} the likelihood ratio is not chi-squared, so that there is no region; {instead}")
    at = Profiling.of(fit, cov, alpha, False)
    with progress_line(progress, f"contour of {fit.spec.likelihood.name}"), float64():
        targets = (target_of(at, first), target_of(at, second))
        if targets[0].label == targets[1].label and first == second:
            raise ValueError(f"contour expected two different parameters, got {targets[0].label!r} twice")
        paths = _paths(at, targets, chi2_cut(alpha, 2 if joint else 1), n)
        ends = find_ends(paths)
        c = paths.at(np.where(np.isfinite(ends.points.rho), ends.points.rho, 0.0))
        bounded = np.array([s == "on the boundary" for s in ends.status])
        c[bounded] = paths.at(np.where(bounded, paths.farthest, 0.0))[bounded]
        usable = bounded | np.array([s == "finite" for s in ends.status])
        x, y = (np.where(usable, t.natural(c[:, k]), np.nan) for k, t in enumerate(targets))
        estimate = tuple(natural_value(t, float(paths.origin[0, k])) for k, t in enumerate(targets))
        flat = np.sqrt(2.0 * (paths.loglik0 - paths.level))[:, None] * paths.direction
        slopes = [natural_slope(t, float(paths.origin[0, k])) for k, t in enumerate(targets)]
        ellipse = tuple(estimate[k] + slopes[k] * flat[:, k] for k in (0, 1))
    labels = targets[0].label, targets[1].label
    if "higher maximum found" in ends.status:
        raise ValueError(f"contour: {higher_maximum(labels, f'res.profile({labels[0]!r}).better')}")
    scale = at.fits.scale[0]
    gap, decrement = scale * (ends.points.loglik - paths.level), scale * ends.points.decrement
    return Contour(
        labels, estimate, x, y, tuple(ends.status), gap, decrement, ellipse, float(alpha), bool(joint)  # type: ignore[arg-type]
    )  # fmt: skip


def _paths(at: Profiling, targets: tuple[Target, Target], cut: float, n: int) -> Paths:
    """Return one path for each of n directions from the estimate, evenly spaced on the ellipse of the quadratic approximation;
    ``cut``: twice the fall of the log-likelihood at the boundary of the region.
    """
    drop = cut / (2.0 * at.fits.scale[0])
    root = _root_of_covariance(at, targets)
    angle = 2.0 * np.pi * np.arange(n) / n
    direction = np.stack([np.cos(angle), np.sin(angle)], axis=1) @ root.T
    which = np.tile(np.array([[0, 1]]), (n, 1))
    return make_paths(at.fits, targets, which, np.zeros(n, np.int64), direction, np.full(n, drop))


def _root_of_covariance(at: Profiling, targets: tuple[Target, Target]) -> Float[Host, "2 2"]:
    """Return the Cholesky factor of the covariance of the two targets, (2, 2), from the information at the estimates.

    Raises:
        ValueError: the covariance is not positive definite.
    """
    which = np.tile(np.array([[0, 1]]), (2, 1))
    paths = make_paths(at.fits, targets, which, np.zeros(2, np.int64), np.eye(2), np.ones(2))
    equations = newton(paths, paths.u0, at_estimates(paths), paths.constraints(paths.u0))
    unit = np.abs(paths.direction).sum(axis=1)
    information = -equations.kappa1 / unit[:, None]
    try:
        return np.linalg.cholesky(np.linalg.inv(0.5 * (information + information.T)))
    except np.linalg.LinAlgError:
        raise ValueError(
            f"contour: the covariance of {targets[0].label} and {targets[1].label} is not positive definite at the estimate, so "
            "that there is no region; choose two parameters that are not functions of each other"
        ) from None
