r"""Profile-likelihood intervals and curves of one fit.

The profile log-likelihood of a function psi of the parameters is :math:`l_p(c) = \max\{l(\theta): \psi(\theta) = c\}`.  The
interval of coverage 1 - alpha holds the values c with :math:`2(\hat l - l_p(c)) \le \chi^2_{1, 1-\alpha}`.  It does not depend
on how the model is parametrised, and stays inside the support.

Venzon & Moolgavkar (1988), *A method for computing profile-likelihood-based confidence intervals*, Applied Statistics 37;
Self & Liang (1987) on bounds; Rotnitzky & Jewell (1990) on ``adjusted``; Heinze & Schemper (2002) on bias-reduced fits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mlejax.covariance import CovarianceResult
from mlejax.execution import float64, progress_line
from mlejax.fit import Fit
from mlejax.inference.normal import check_alpha
from mlejax.inference.profiles.ends.constrained_fits import Asks, constrained_fit, side_by_side
from mlejax.inference.profiles.ends.crossings import Points, solve
from mlejax.inference.profiles.ends.descriptions import described, natural_slope, natural_value
from mlejax.inference.profiles.ends.walks import Beyond, beyond
from mlejax.inference.profiles.paths import Paths
from mlejax.inference.profiles.profile import Curve, Profile, chi2_cut, higher_maximum
from mlejax.inference.profiles.profiled import Ends, Profiled, find_ends, make_paths, profiled_fit, refused
from mlejax.inference.profiles.targets import Target, entry_targets, function_target
from mlejax.objective.error_bars import ErrorBars, error_bars
from mlejax.parameters import Space
from mlejax.shapes import Bool, Float, Host, Int

INSIDE = (0.25, 0.5, 0.75)  # points of a curve, as shares of the way to an end
OUTSIDE = (1.12, 1.25)  # and beyond it
BEYOND = np.concatenate(
    [np.arange(1.4, 4.1, 0.3), [5.0, 6.0, 8.0, 11.0, 16.0, 23.0, 32.0]]
)  # where further pieces are looked for


class Adjustment(NamedTuple):
    """How the likelihood-ratio statistic is adjusted.

    Attributes:
        wanted: True if it is multiplied by V_model / V_robust.
        model, robust: model-based and robust covariance of theta (p, p); empty if not ``wanted``.
    """

    wanted: bool
    model: Float[Host, "p p"]
    robust: Float[Host, "p p"]

    def factor(self, gradient: Float[Host, " p"]) -> float:
        """Return V_robust / V_model of a function of theta with this gradient (p,); 1 if no adjustment is wanted.

        Raises:
            ValueError: the ratio is not positive and finite.
        """
        if not self.wanted:
            return 1.0
        found = float(gradient @ self.robust @ gradient) / float(gradient @ self.model @ gradient)
        if not (np.isfinite(found) and found > 0):
            raise ValueError(
                f"adjusted=True needs a positive ratio of robust to model variance, got {found:.4g}; use the Wald interval, "
                "res.conf_int()"
            )
        return found


def adjustment(fit: Fit, cov: CovarianceResult, adjusted: bool) -> Adjustment:
    """Return how likelihood-ratio statistics of a fit are adjusted.

    Args:
        fit: the fit.
        cov: its covariance; kinds other than "nonrobust" count as robust, and so do sampling and importance weights.
        adjusted: the user's option; without a robust covariance or such weights it changes nothing.

    Raises:
        ValueError: the covariance is robust, or there are sampling or importance weights, but ``adjusted`` is False.
    """
    pseudo = fit.weight_kind in ("sampling", "importance")
    robust = cov.kind not in ("nonrobust",) or pseudo
    if robust and not adjusted:
        what = f"{fit.weight_kind} weights" if pseudo else f"cov_type={cov.kind!r}"
        raise ValueError(
            f"with {what} the likelihood ratio is not chi-squared, so that its quantile gives no interval.  adjusted=True "
            "multiplies the statistic by the ratio of the model's variance to the robust one (Rotnitzky & Jewell 1990); "
            "or use res.conf_int(), the Wald interval" + ("" if pseudo else "; or res.with_cov('nonrobust') first")
        )
    if not robust:
        return Adjustment(False, np.zeros((0, 0)), np.zeros((0, 0)))
    assert fit.information is not None
    free = fit.interior
    model = np.zeros_like(fit.information)
    model[np.ix_(free, free)] = np.linalg.inv(fit.information[np.ix_(free, free)])
    return Adjustment(True, model, np.nan_to_num(cov.matrix))


@dataclass(frozen=True, eq=False)
class Profiling:
    """A fit prepared for profiles, with alpha and the adjustment of the cut.

    Attributes:
        fit: the fit.
        fits: the same fit, prepared for evaluation at many points.
        alpha: 1 - coverage.
        adjust: adjustment of the likelihood-ratio statistic.
    """

    fit: Fit
    fits: Profiled
    alpha: float
    adjust: Adjustment

    @staticmethod
    def of(fit: Fit, cov: CovarianceResult, alpha: float, adjusted: bool) -> Profiling:
        """Prepare a fit for profiles of coverage 1 - ``alpha``; ``adjusted``: adjust the cut by the robust covariance ``cov``.

        Raises:
            ValueError: alpha is not in (0, 0.5], or the fit has no profile likelihood (`refused`, `adjustment`).
        """
        check_alpha(alpha)
        why = refused(fit)
        if why:
            raise ValueError(f"no profile likelihood: {why}")
        adjust = adjustment(fit, cov, adjusted)
        return Profiling(fit, profiled_fit(fit), alpha, adjust)

    @property
    def space(self) -> Space:
        """The parameter space of the fit."""
        return self.fit.spec.space

    def rounding(self, u: Float[Host, " p"]) -> float:
        """Return a bound of the rounding error of the log-likelihood at u (p,), in the optimiser's units; 0 if no bound is
        known.
        """
        bars = error_bars(self.fit.spec, self.fit.loaded.problem.data, u, self.fit.fixed)
        return bars.loglik if isinstance(bars, ErrorBars) else 0.0

    def factors(self, targets: Sequence[Target]) -> Float[Host, " t"]:
        """Return V_robust / V_model of each target at the estimates (t,); 1 without adjustment."""
        if not self.adjust.wanted:
            return np.ones(len(targets))
        assert self.fit.jacobian is not None
        inverse = np.linalg.inv(self.fit.jacobian)
        return np.array([self.adjust.factor(t.at(self.fit.u[None]).gradients[0] @ inverse) for t in targets])

    def ends(self, targets: Sequence[Target]) -> tuple[Paths, Ends]:
        """Return the paths of all targets and their confidence limits; 2k is the lower and 2k + 1 the upper side of target
        k.
        """
        n = len(targets)
        which = np.repeat(np.arange(n), 2)[:, None]
        drop = np.repeat(self.factors(targets), 2) * chi2_cut(self.alpha) / (2.0 * self.fits.scale[0])
        signs = np.tile([-1.0, 1.0], n)[:, None]
        paths = make_paths(self.fits, targets, which, np.zeros(2 * n, np.int64), signs, drop)
        return paths, find_ends(paths)


def free_entries(space: Space) -> Int[Host, " k"]:
    """Return the positions, among the entries that tables show, of those that are not fixed (k,)."""
    return np.flatnonzero(~space.reported_fixed)


def profile_intervals(
    fit: Fit, cov: CovarianceResult, alpha: float = 0.05, adjusted: bool = False
) -> tuple[Float[Host, " r"], Float[Host, " r"], list[str], list[str]]:
    """Return profile-likelihood intervals of all reported entries.

    Returns:
        Lower limits and upper limits (r,), natural scale, NaN for fixed entries; status strings of the lower and of the upper
        limits, r each.

    Raises:
        ValueError: the fit has no profile likelihood (`Profiling.of`), or a profile rises above the fit's log-likelihood.
    """
    at = Profiling.of(fit, cov, alpha, adjusted)
    with progress_line(None, f"profile intervals of {fit.spec.likelihood.name}"), float64():
        entries = free_entries(at.space)
        targets = entry_targets(at.space, fit.fixed, entries)
        ends = described(*at.ends(targets), alpha, at.rounding)
    n = at.space.n_reported
    low, high, below, above = np.full(n, np.nan), np.full(n, np.nan), ["fixed"] * n, ["fixed"] * n
    higher = [t.label for k, t in enumerate(targets) if any("higher" in e.status for e in ends[2 * k : 2 * k + 2])]
    if higher:
        raise ValueError(f"conf_int(method='profile'): {higher_maximum(higher, f'res.profile({higher[0]!r}).better')}")
    for k, entry in enumerate(entries.tolist()):
        one, other = ends[2 * k : 2 * k + 2]
        low[entry], high[entry], below[entry], above[entry] = one.value, other.value, one.status, other.status
    return low, high, below, above


def profile(
    fit: Fit,
    cov: CovarianceResult,
    what: str | Callable[[Any], Any],
    alpha: float = 0.05,
    adjusted: bool = False,
    fit_from_u: Callable[[Float[Host, " p"]], Any] | None = None,
    progress: bool | None = None,
) -> Profile:
    """Compute the profile likelihood of one entry or of a smooth function of ``params``: its interval and curve.

    Unlike :meth:`conf_int` it also searches beyond the limits, for further intervals above the cut and for a higher maximum.

    Args:
        what: the name of an entry, or a function of ``params`` (the user's structure, or entry names) that returns one
            number, in JAX.
        alpha: one minus the coverage.
        adjusted: needed with a robust covariance, sampling or importance weights: multiplies the statistic by V_model / V_robust.
        progress: True shows a line of progress, False none; None shows it in a terminal.

    Returns:
        :class:`mlejax.inference.Profile`, natural scale: ``lower`` and ``upper`` with their statuses, ``conf_int()``,
        ``frame()``, ``pieces``, ``plot()``, ``plot_root()``; ``better`` is a new fit from a point with a higher
        log-likelihood, if one was found.

    Raises:
        AddressError: there is no such entry; the message lists similar names.
        ValueError: the fit has no profile likelihood (not converged, penalised, bias reduction other than "jeffreys", no free
            parameter or more than 500, a robust covariance or sampling or importance weights without ``adjusted``); ``alpha`` is
            not in (0, 0.5]; or ``what`` is not one number, is fixed, or has a derivative at the estimate that is 0 or not finite.
        TypeError: ``what`` is neither a name nor a function, or its function cannot be differentiated.

    Example:
        >>> import mlejax as mle
        >>> from jax.scipy.stats import norm
        >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
        ... def gaussian(params, data):
        ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
        >>> res = gaussian.fit({"y": [1.0, 2.0, 6.0, 3.0]})
        >>> low, high = res.profile(lambda p: p["mu"] / p["sigma"]).conf_int()
        >>> round(low, 3), round(high, 3)
        (0.199, 3.149)
    """
    at = Profiling.of(fit, cov, alpha, adjusted)
    with progress_line(progress, f"profile of {fit.spec.likelihood.name}"), float64():
        target = target_of(at, what)
        paths, ends = at.ends([target])
        low, high = described(paths, ends, alpha, at.rounding)
        found, higher, pieces = _further(paths, ends)
        reached = [Points(*(a[k : k + 1] for a in ends.points)) for k in (0, 1) if np.isfinite(ends.points.loglik[k])]
        if higher is None:
            higher = next((p for p, s in zip(reached, ends.status, strict=False) if s == "higher maximum found"), None)
        curve = _curve(at, paths, ends, found)
        natural = [sorted((natural_value(target, a), natural_value(target, b))) for a, b in pieces]
    own = [(low.value, high.value)] if low.known and high.known else []
    slope, factor = natural_slope(target, float(paths.origin[0, 0])), float(at.factors([target])[0])
    std_err = abs(float(paths.direction[0, 0]) * slope) * np.sqrt(factor / at.fits.scale[0])
    return Profile(
        label=target.label,
        params=natural_value(target, float(paths.origin[0, 0])),
        bse=std_err if (paths.farthest > 0).all() else float("nan"),
        lower=low,
        upper=high,
        alpha=float(alpha),
        llf=float(at.fits.loglik[0] * at.fits.scale[0]),
        factor=factor,
        curve=curve,
        pieces=tuple(sorted([*own, *((a, b) for a, b in natural)])),
        entries=at.space.labels,
        better=None if higher is None or fit_from_u is None else fit_from_u(higher.u[0]),  # from a point in u
    )


def target_of(at: Profiling, what: str | Callable[[Any], Any]) -> Target:
    """Return the target of a profile from the name of an entry or a function of params.

    Raises:
        AddressError: there is no such entry; the message lists similar names.
        ValueError: the name selects several entries, or a fixed one; or a function without a profile (`function_target`).
        TypeError: ``what`` is neither a string nor a function, or its function cannot be differentiated.
    """
    space = at.space
    if callable(what):
        return function_target(
            what, space, at.fit.theta, at.fit.fixed, [p.name for p in at.fit.spec.likelihood.predictors]
        )
    if not isinstance(what, str):
        raise TypeError(
            f"profile: expected the name of an entry, such as {space.labels[0]!r}, or a function of params, such as "
            f"lambda p: p[{space.leaves[0].name!r}] ** 2; got {what!r}"
        )
    entries = space.resolve(what)
    if len(entries) != 1:
        names = ", ".join(space.labels[k] for k in entries[:6]) + (", ..." if len(entries) > 6 else "")
        raise ValueError(
            f"profile: expected one entry, but {what!r} has {len(entries)}: {names}.  Name one of them; "
            "res.conf_int(method='profile') gives the intervals of all"
        )
    if space.reported_fixed[entries[0]]:
        raise ValueError(f"profile: expected an estimated entry, but {what!r} is fixed; fit without it in fixed=")
    return entry_targets(space, at.fit.fixed, entries)[0]


def _further(paths: Paths, ends: Ends) -> tuple[list[Points], Points | None, list[tuple[float, float]]]:
    """Search the profile of one target beyond its finite limits.

    Returns:
        The points that were computed; one with a log-likelihood above that of the estimate, or None; and further intervals
        above the cut, (low, high) on the scale of the target, in which an interval that does not end has an infinite limit.
    """
    asks: dict[int, Asks[Beyond]] = {}
    for k in (0, 1):
        if ends.status[k] == "finite":
            end = Points(*(a[k : k + 1] for a in ends.points))
            asks[k] = beyond(paths.of(np.array([k])), end, BEYOND * float(end.rho[0]))
    found = side_by_side(asks, paths.evaluate, paths.sets)
    points, pieces = list[Points](), list[tuple[float, float]]()
    higher = None
    for k, seen in found.items():
        points += seen.points
        higher = higher or seen.higher
        for near, stop in seen.pieces:
            far = np.inf if stop.status == "infinite" or stop.point is None else float(stop.point.rho[0])
            low, high = (float(paths.origin[k, 0] + r * paths.direction[k, 0]) for r in (float(near.rho[0]), far))
            pieces.append((low, high))
    return points, higher, pieces


class CurvePoint(NamedTuple):
    """One point of the curve of a profile.

    Attributes:
        value: the target's value, on the scale on which it is profiled.
        loglik: the highest log-likelihood with this value, divided by the scale of the weights.
        gap: ``loglik`` minus the cut, at limits that are finite; else NaN.
        decrement: Newton decrement of the constrained maximum, in the same units.
        kind: "estimate", "end" (a confidence limit), "curve" (between the limits) or "beyond".
        u: the parameters there, (p,).
    """

    value: float
    loglik: float
    gap: float
    decrement: float
    kind: str
    u: Float[Host, " p"]


def _curve(at: Profiling, paths: Paths, ends: Ends, further: list[Points]) -> Curve:
    """Return the curve of one target: the estimate, the limits ``ends``, points between them, and the points ``further``, found
    beyond them.
    """
    c, p = float(paths.origin[0, 0]), ends.points
    rows = [CurvePoint(c, float(paths.loglik0[0]), np.nan, 0.0, "estimate", paths.u0[0])]
    for k in np.flatnonzero(np.isfinite(p.loglik)).tolist():
        gap = float(p.loglik[k] - paths.level[k]) if ends.status[k] == "finite" else np.nan
        kind = "end" if ends.status[k] in ("finite", "on the boundary") else "beyond"
        value = c + float(p.rho[k] * paths.direction[k, 0])
        rows.append(CurvePoint(value, float(p.loglik[k]), gap, float(p.decrement[k]), kind, p.u[k]))
    between = _between_ends(paths, ends)
    for point, kind in [*((q, "curve") for q in between), *((q, "beyond") for q in further)]:
        value = float(paths.constraints(np.broadcast_to(point.u, paths.u0.shape)).values[0, 0])
        rows.append(CurvePoint(value, float(point.loglik[0]), np.nan, float(point.decrement[0]), kind, point.u[0]))
    target, scale = paths.targets[0], float(at.fits.scale[0])
    natural = target.natural(np.array([r.value for r in rows]))
    order = np.argsort(natural, kind="stable")
    loglik, gaps, decrements = (np.array([r[j] for r in rows])[order] for j in (1, 2, 3))
    ratio = np.maximum(2.0 * scale * (paths.loglik0[0] - loglik) / at.factors([target])[0], 0.0)
    side = np.sign(natural[order] - natural[0])
    names = {-1.0: "lower", 0.0: "estimate", 1.0: "upper"}
    kinds = tuple(
        names[s] if rows[i].kind == "end" else rows[i].kind for i, s in zip(order, side.tolist(), strict=True)
    )
    space, fixed = at.space, at.fit.fixed
    params = np.array([space.reported(space.params_from_u(rows[i].u, fixed)) for i in order])
    root = side * np.sqrt(ratio)
    return Curve(natural[order], scale * loglik, root, scale * gaps, scale * decrements, kinds, params)


def _between_ends(paths: Paths, ends: Ends) -> list[Points]:
    """Return points of the profile at 1/4, 1/2 and 3/4 of the way from the estimate to each limit, and at 1.12 and 1.25 times
    the way to a finite limit; those that cannot be computed are left out.
    """
    positions, rho, guess = list[int](), list[float](), list[Any]()
    z = np.sqrt(2.0 * (paths.loglik0 - paths.level))
    for k in (0, 1):
        far = float(ends.points.rho[k])
        if not far > 0:
            continue
        far = min(far, 3.0 * float(z[k])) if ends.status[k] != "finite" else far
        shares = INSIDE + (OUTSIDE if ends.status[k] == "finite" else ())
        for share in shares:
            if share * far <= paths.farthest[k]:
                positions.append(k)
                rho.append(share * far)
                step = (ends.points.u[k] - paths.u0[k]) * (share * far / float(ends.points.rho[k]))
                guess.append(np.clip(paths.u0[k] + step, paths.lower, paths.upper))
    if not positions:
        return []
    some = paths.of(np.array(positions))
    points = solve(some, np.array(guess), np.array(rho))
    missing: Bool[Host, " m"] = ~points.reached
    asks = {i: constrained_fit(some.of(np.array([i])), rho[i], guess[i]) for i in np.flatnonzero(missing).tolist()}
    fitted = side_by_side(asks, some.evaluate, some.sets)
    out = [Points(*(a[i : i + 1] for a in points)) if i not in fitted else fitted[i] for i in range(len(positions))]
    return [p for p in out if p is not None and p.reached[0]]
