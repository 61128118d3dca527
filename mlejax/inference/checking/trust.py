r"""How far a table of estimates can be trusted: Wald against profile intervals, robust against model errors, influential rows.

With u the optimiser's coordinates, I the information and v_j = I^{-1} e_j / se_j the direction of the profile of u_j,

* skewness: the third derivative of the log-likelihood along v_j; the profile interval is shifted from the Wald interval on the
  link scale by about skewness z^2 / 6 standard errors;
* profile: the largest distance between the limits of the 95 % profile and Wald intervals, in standard errors;
* ratio: sandwich standard error over model standard error, 1 if the density is right (White 1982);
* reversal: the Wald statistic u_j^2 / V_jj falls as u_j moves away from 0 (Hauck & Donner 1977, J. American Statistical
  Association 72, 851; Yee 2022), so that a large effect looks like none: use `lr_test` or a profile interval.

Derivatives of I are central differences of the exact one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlejax.covariance import CovarianceResult
from mlejax.execution import float64
from mlejax.fit import Fit
from mlejax.inference.checking.influence import Influence, influence
from mlejax.inference.covariances.covariances import covariance_of
from mlejax.inference.profiles import profile_intervals
from mlejax.inference.tables.entries import Entries
from mlejax.inference.tables.formatting import format_number, table
from mlejax.linalg import scaled_inverse
from mlejax.notebook import Text, in_notebooks
from mlejax.objective import ChunkedEvaluator
from mlejax.shapes import Float, Host

if TYPE_CHECKING:
    import pandas as pd

STEP = 0.02  # of the differences, in standard errors
MOST = 200  # parameters: four Hessians each
PROFILED = 20  # parameters: two limits of a profile each
FAR, SKEW, LARGE = 1.3, 0.5, 1e8  # beyond which a ratio, a skewness, a condition is remarked on


@in_notebooks
@dataclass(frozen=True, eq=False, repr=False)
class Trust:
    """Checks of one fit; prints as a table with remarks.

    Attributes:
        labels: names of the free parameter entries (p,).
        bse: standard errors from the observed information, natural scale (p,); NaN at a bound.
        ratio: sandwich (HC0) standard errors over ``bse`` (p,); NaN at a bound, and if there are no more terms than parameters.
        profile: largest distance between the limits of profile and Wald intervals (95 %), in standard errors (p,); inf where a
            profile has no finite limit, NaN where there is no Wald interval, and for all with more than 20 parameters or if any
            profile fails or finds a higher maximum.
        skewness: third derivative of the log-likelihood along each profile, in standard errors, unconstrained scale (p,); 0 at
            a bound.
        reversal: True for coefficients whose Wald statistic falls as they move away from 0 (p,).
        condition: condition number of the information scaled to unit diagonal.
        rows: influence of the rows (units) to first order; None for models with ``rowwise=False``.
        remarks: what deserves attention, in sentences.
    """

    labels: tuple[str, ...]
    bse: np.ndarray
    ratio: np.ndarray
    profile: np.ndarray
    skewness: np.ndarray
    reversal: np.ndarray
    condition: float
    rows: Influence | None
    remarks: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """Return a DataFrame with one row for each free entry, its name in the index (``term``): std_error, ratio, profile,
        skewness, reversal.
        """
        import pandas as pd

        names = ("ratio", "profile", "skewness", "reversal")
        columns = {"std_error": self.bse, **{name: getattr(self, name) for name in names}}
        return pd.DataFrame(columns, index=pd.Index(list(self.labels), name="term"))

    def __repr__(self) -> str:
        cells: list[tuple[str, ...]] = [("", "std err", "robust/model", "profile-Wald", "skewness", "Wald reversal")]
        numbers = zip(self.bse, self.ratio, self.profile, self.skewness, strict=True)
        for name, (error, *both, skew), turns in zip(self.labels, numbers, self.reversal, strict=True):
            shown = ("." if np.isnan(value) else f"{value:.2f}" for value in both)
            cells.append((name, format_number(float(error), 4), *shown, f"{skew:+.2f}", "yes" if turns else ""))
        lines = [f"Checks of the fit; condition of the scaled information {self.condition:.3g}", table(cells)]
        lines += [] if self.rows is None else ["", repr(self.rows)]
        return Text([*lines, *(f"- {remark}" for remark in self.remarks)])


def diagnose(fit: Fit) -> Trust:
    """Check the numbers of a table of estimates: robust against model-based standard errors, Wald against profile intervals,
    skewness of the log-likelihood, Wald statistics that fall as effects grow, influential rows.

    Returns:
        `Trust`: prints as a table; ``frame()``, ``remarks``, ``rows``.

    Raises:
        ValueError: the fit is no maximum, has a penalty, bias reduction or no Hessian, more than 200 parameters, or random
            effects of several columns that connect all rows; or its rows are not in memory.

    Example:
        >>> import jax.numpy as jnp, mlejax as mle
        >>> @mle.model(rate=mle.Positive())
        ... def exponential(params, data):
        ...     return jnp.log(params["rate"]) - params["rate"] * data["t"]
        >>> res = exponential.fit({"t": [1.0, 2.0, 6.0, 3.0]})
        >>> res.diagnose().skewness.round(3).tolist()  # -1 / sqrt(n), of log(rate)
        [-0.5]
    """
    if fit.loaded.remembered is not None or fit.loaded.stream is not None:
        raise ValueError("diagnose() needs the rows of the fit in memory; fit the model to a table in memory")
    if fit.penalised is not None or fit.spec.reduction is not None:
        raise ValueError(
            "diagnose() needs a maximum of the log-likelihood itself: fit without penalty= and bias_reduction="
        )
    if not fit.verdict.converged or fit.information is None:
        raise ValueError(
            f"diagnose() needs a maximum of the log-likelihood and its Hessian; the verdict is {fit.verdict.code}"
        )
    p = fit.spec.space.n_free
    if p > MOST:
        raise ValueError(
            f"diagnose(): expected at most {MOST} parameters, got {p}: it evaluates four Hessians for each; use "
            "bse of with_cov('HC0') and influence()"
        )
    skewness, reversal, bse = _curvature(fit)
    model, data = covariance_of(fit, "nonrobust", {}), fit.loaded.problem.data
    ratio = np.full(p, np.nan)
    if data.n_contributions > p:
        with np.errstate(invalid="ignore"):
            ratio = np.sqrt(np.diag(covariance_of(fit, "HC0", {}).matrix) / np.diag(model.matrix))
    rows = influence(fit) if data.mode != "whole" else None
    names = fit.spec.space.theta_labels
    remarks = _remarks(names, ratio, skewness, reversal, model.condition, rows)
    return Trust(names, bse, ratio, _profile_gap(fit, model), skewness, reversal, model.condition, rows, remarks)


def _profile_gap(fit: Fit, model: CovarianceResult) -> Float[Host, " p"]:
    """Return the larger distance between the limits of the 95 % profile and Wald intervals of each free entry, in standard
    errors (p,).

    NaN for all with more than 20 parameters, or if a profile fails or finds a higher maximum, and where there is no Wald
    interval; inf where a profile has no finite limit.
    """
    space = fit.spec.space
    nothing = np.full(space.n_free, np.nan)
    if space.n_free > PROFILED:
        return nothing
    try:
        low, high, *_ = profile_intervals(fit, model, 0.05)
    except ValueError:  # no profile, or a higher maximum, which conf_int(method="profile") reports
        return nothing
    entries = Entries(fit, model)
    wald = entries.intervals(0.05, "link")
    with np.errstate(invalid="ignore"):
        apart = np.maximum(np.abs(low - wald.low), np.abs(high - wald.high)) / entries.bse
    found = dict(zip(space.labels, apart, strict=True))
    return np.array([found.get(name, np.nan) for name in space.theta_labels])


def _curvature(fit: Fit) -> tuple[Float[Host, " p"], np.ndarray, Float[Host, " p"]]:
    """Return for each coordinate of u the third derivative of the log-likelihood along its profile, in standard errors (p,), and
    True if its Wald statistic falls as it moves away from 0 (p,); and standard errors in theta, NaN at a bound (p,).
    """
    space, free = fit.spec.space, np.flatnonzero(fit.interior)
    evaluator = ChunkedEvaluator(fit.spec, fit.loaded.problem.data, fit.fixed, fit.loaded.hyper)
    p = space.n_free

    def information(u: Float[Host, " p"]) -> Float[Host, "p p"]:
        found = evaluator.evaluate(u[None], 2).information
        assert found is not None
        return fit.loaded.scale * np.asarray(found[0])

    with float64():
        inverse = np.zeros((p, p))
        inverse[np.ix_(free, free)] = scaled_inverse(information(fit.u)[np.ix_(free, free)]).inverse
        skewness, reversal = np.zeros(p), np.zeros(p, bool)
        for j in free.tolist():
            se = np.sqrt(inverse[j, j])
            along, alone = inverse[j] / se, np.eye(p)[j] * se
            change = [
                (information(fit.u + STEP * d) - information(fit.u - STEP * d)) / (2 * STEP) for d in (along, alone)
            ]
            skewness[j] = -along @ change[0] @ along
            z = fit.u[j] / se
            # d log W / du_j = 2 / u_j - d log V_jj / du_j, in standard errors
            reversal[j] = abs(z) > 1.0 and z * (2.0 / z + along @ change[1] @ along) < 0.0
    coefficients = np.array([leaf.kind == "Coefficients" for leaf in space.leaves])[space.leaf_numbers]
    jacobian = np.eye(p) if fit.jacobian is None else fit.jacobian
    bse = np.sqrt(np.einsum("ij,jk,ik->i", jacobian, inverse, jacobian))
    return skewness, reversal & coefficients, np.where(fit.interior, bse, np.nan)


def _remarks(
    names: tuple[str, ...],
    ratio: Float[Host, " p"],
    skewness: Float[Host, " p"],
    reversal: np.ndarray,
    condition: float,
    rows: Influence | None,
) -> tuple[str, ...]:
    listed = lambda flags: ", ".join(n for n, f in zip(names, flags, strict=True) if f)
    out = []
    with np.errstate(invalid="ignore"):
        apart = (ratio > FAR) | (ratio < 1 / FAR)
    if apart.any():
        out.append(
            f"Robust and model errors differ by more than {100 * (FAR - 1):.0f} % for {listed(apart)}, "
            "where the two would agree if the density were right; information_matrix_test() tests it, "
            "cov_type='HC0' needs only the score to be right."
        )
    if (np.abs(skewness) > SKEW).any():
        out.append(
            f"The log-likelihood is skewed along {listed(np.abs(skewness) > SKEW)}: use conf_int(method='profile'), whose "
            "intervals need not be symmetric on the link scale."
        )
    if reversal.any():
        out.append(
            f"The Wald statistic of {listed(reversal)} falls as the effect grows (Hauck & Donner 1977): use lr_test."
        )
    if condition > LARGE:
        out.append(
            f"The information is badly conditioned ({condition:.2g}): some combination of parameters is hardly determined."
        )
    if rows is not None and (large := rows.cooks_distance > 1.0).any():
        out.append(f"Cook's distance is above 1 for {int(large.sum())} of the {rows.what}: each moves the estimates far.")
    return tuple(out) or ("Nothing to remark on.",)
