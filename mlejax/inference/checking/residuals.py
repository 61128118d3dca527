r"""Residuals of any model: quantile, Pearson, deviance, response and score.

Randomised quantile residuals are Phi^-1(u) with u uniform between F(y-) and F(y), standard normal if the model is true, whatever
its distribution (Dunn & Smyth 1996, J. Computational and Graphical Statistics 5, 236).  Without a distribution function, u is
the rank of y among data drawn from the model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from jax.typing import ArrayLike

from mlejax.companions import companion, registered
from mlejax.data import Rows, ingest
from mlejax.data.errors import missing_column
from mlejax.execution import float64
from mlejax.fit import Fit, check_count, terms_of_rows
from mlejax.inference.covariances.products_of_scores import weighted_scores
from mlejax.inference.prediction.latents import over_latents
from mlejax.inference.prediction.row_functions import of_theta
from mlejax.inference.prediction.row_tables import changed, rows_of
from mlejax.inference.row_effects import Random, row_effects
from mlejax.inference.simulation.simulated_data import simulator_of
from mlejax.notebook import in_notebooks
from mlejax.plot import diagnostics
from mlejax.shapes import Bool, Data, Float, Host

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

ResidualKind = Literal["quantile", "pearson", "deviance", "response"]
BELOW = 1e-9  # relative; what is just below an outcome
DRAWS = 250


@in_notebooks
@dataclass(frozen=True, eq=False, repr=False)
class Residuals:
    """Residuals of a fit, in the order of its rows.

    Attributes:
        kind: ``"quantile"``, ``"pearson"``, ``"deviance"`` or ``"response"``.
        values: the residuals (n,).
        uniform: for quantile residuals, u (n,): F of the outcome, drawn at random within its jumps and beyond censoring points,
            uniform if the model is true; else None.
        index: labels of the rows (n,).
        note: how the residuals were computed.
    """

    kind: str
    values: np.ndarray
    uniform: np.ndarray | None
    index: np.ndarray
    note: str

    def frame(self) -> pd.DataFrame:
        """Return a DataFrame with one row for each row of the data: residual, and uniform (quantile residuals only)."""
        import pandas as pd

        columns = {"residual": self.values}
        return pd.DataFrame(columns if self.uniform is None else {**columns, "uniform": self.uniform}, index=self.index)

    def plot(self, kind: Literal["qq", "pit", "index"] = "qq", ax: Axes | None = None, *, x: ArrayLike | None = None) -> Axes:
        """Plot the residuals; return the axes.

        Args:
            kind: ``"qq"``: against normal quantiles, with the line on which they fall if the model is true; ``"pit"``: a
                histogram of u, flat if the model is true; ``"index"``: in the order of the rows, or against ``x``.
            ax: matplotlib axes to draw on; new axes by default.
            x: for ``kind="index"``, the horizontal positions (n,); ignored for the other kinds.

        Raises:
            ValueError: another kind, or ``"pit"`` for residuals that are not quantile residuals.
            ImportError: matplotlib is not installed.
        """
        if kind not in ("qq", "pit", "index"):
            raise ValueError(f"kind={kind!r}: expected 'qq', 'pit' or 'index'")
        if kind == "pit":
            if self.uniform is None:
                raise ValueError(f"kind='pit' needs quantile residuals, got {self.kind} residuals; use res.residuals('quantile')")
            return diagnostics.uniform(self.uniform, ax)
        name = f"{self.kind} residual"
        return diagnostics.quantiles(self.values, name, ax) if kind == "qq" else diagnostics.over(x, self.values, name, ax)

    def __repr__(self) -> str:
        v = self.values
        far = int((np.abs(v) > 3).sum())
        spread = f"mean {v.mean():.3g}, sd {v.std():.3g}, from {v.min():.3g} to {v.max():.3g}"
        beyond = f"; {far} beyond 3" if self.kind != "response" else ""
        return f"{v.size:,} {self.kind} residuals ({self.note}): {spread}{beyond}"


def residuals(
    fit: Fit,
    kind: str = "quantile",
    *,
    response: str | None = None,
    discrete: bool | None = None,
    random: Random = "integrate",
    seed: int = 0,
) -> Residuals | pd.DataFrame:
    """Return residuals, one for each row of the fit.

    Args:
        kind: ``"quantile"`` needs the model's :meth:`Model.cdf`, or its :meth:`Model.simulator`; ``"pearson"``, (y - mean) /
            sqrt(variance), its :meth:`Model.mean` and :meth:`Model.variance`; ``"deviance"``, sign(y - mean) sqrt(2 (saturated -
            log-likelihood)), its mean and :meth:`Model.saturated`; ``"response"``, y - mean; ``"score"``: the score of each term
            in theta, times its weight.
        response: the column of outcomes; needed only if the function reads several columns.
        discrete: True if outcomes are whole numbers of positive probability, so that u is drawn between F(y - 1) and F(y).
            None: True if all outcomes are whole numbers, unless the likelihoods of some rows are the derivative of F at the
            outcome, and those of all others F or 1 - F (censored rows).  If not discrete, positive probabilities at single values
            are found by evaluating F just below, and rows whose likelihood is 1 - F(y) or F(y) are right- or left-censored: their
            u is drawn above or below F(y).
        random: for models with random effects: ``"integrate"`` averages distribution, mean and variance of the outcome over
            the distribution of the effects; ``"mode"`` evaluates them at the modes of the unit's own effects; ``"zero"`` at
            effects of 0.
        seed: seed of random draws.

    Returns:
        `Residuals`: ``values``, ``uniform``, ``frame()``, ``plot("qq" | "pit" | "index")``; for ``"score"`` a DataFrame.

    Raises:
        CompanionError: the model lacks the function that the kind needs; the message shows the lines to add.
        ValueError: an unknown kind, or another option that is not valid; a column of outcomes that is not given and not clear,
            does not exist, or is not drawn by the simulator that is needed; deviance residuals of a model with units or
            ``rowwise=False``, or with a saturated log-likelihood below that of the fit; a cdf that decreases, is NaN, or gives a
            whole outcome probability 0; ``random="mode"`` with random effects of several grouping columns; or rows that are not
            in memory.

    Example:
        >>> import mlejax as mle
        >>> from jax.scipy.stats import norm
        >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
        ... def gaussian(params, data):
        ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
        >>> @gaussian.cdf
        ... def _(params, data):
        ...     return norm.cdf(data["y"], params["mu"], params["sigma"])
        >>> res = gaussian.fit({"y": [1.5, 2.0, 6.0, 3.0]})
        >>> res.residuals().values.round(3).tolist()  # (y - mu) / sigma
        [-0.931, -0.645, 1.647, -0.072]
    """
    if kind not in (*get_args(ResidualKind), "score"):
        raise ValueError(f"kind={kind!r}: expected 'quantile', 'pearson', 'deviance', 'response' or 'score'")
    if kind == "score":
        import pandas as pd

        return pd.DataFrame(weighted_scores(fit), columns=list(fit.spec.space.theta_labels))
    if fit.loaded.stream is not None:
        raise ValueError("residuals() needs all rows in memory, and the data of this fit are a stream; fit a table in memory")
    if fit.loaded.problem.data.mode != "rows" and kind == "deviance":
        raise ValueError(
            "deviance residuals need a model with one log-likelihood term for each row, not for units or whole data; use "
            "'quantile', 'pearson' or 'response'"
        )
    table, _ = rows_of(fit, None, "residuals", "")
    name = response or _response(fit)
    names = list(table.columns if hasattr(table, "columns") else table)
    if name not in names:
        raise missing_column(name, names, "response=")
    y = np.asarray(table[name], float)
    index = np.asarray(table.index) if hasattr(table, "index") else np.arange(y.size)
    value = lambda what, data: _companion_values(fit, what, data, f"residuals({kind!r})", random)
    if kind == "quantile":
        if registered(fit.spec.likelihood, "cdf") is not None:
            cdf = lambda v: value("cdf", changed(table, {name: v}, table))
            if np.issubdtype(np.asarray(table[name]).dtype, np.integer) and _indexes(cdf, y):
                if discrete is False:
                    raise ValueError(
                        f"residuals('quantile'): the declared cdf indexes by {name!r}, so that outcomes are whole numbers; leave "
                        "out discrete=False"
                    )
                at, discrete = cdf, True
                cdf = lambda v: at(np.round(v).astype(np.int64))
            own, dense = _likelihoods(fit, cdf, y)
            if discrete is None:
                discrete = bool((y == np.round(y)).all()) and not _continuous(own, dense, cdf(y))
            u, note = _between(cdf, y, discrete, seed, own, dense, fit.loaded.rows)
        else:
            u, note = _ranks(fit, name, y, random, seed)
        inside = np.clip(u, 1e-16, 1.0 - 1e-16)
        return Residuals(kind, np.array([NormalDist().inv_cdf(p) for p in inside]), u, index, note)
    gap = y - value("mean", table)
    if kind == "response":
        return Residuals(kind, gap, None, index, "outcome minus mean")
    if kind == "pearson":
        return Residuals(
            kind, gap / np.sqrt(value("variance", table)), None, index, "in standard deviations of the outcome"
        )
    return Residuals(kind, _deviance(fit, gap, value("saturated", table)), None, index, "signed roots of the deviance")


def _indexes(cdf: Callable[[Any], Any], y: Float[Host, " n"]) -> bool:
    """Return True if a cdf takes whole outcomes as integers alone: JAX refuses floats as an index."""
    try:
        cdf(y)
    except TypeError:
        return True
    return False


def _deviance(fit: Fit, gap: Float[Host, " n"], saturated: Float[Host, " n"]) -> Float[Host, " n"]:
    """Return sign(y - mean) sqrt(2 (saturated - log-likelihood)) for each row, (n,).

    Args:
        fit: the fit.
        gap: y - mean of each row.
        saturated: saturated log-likelihood of each row.

    Raises:
        ValueError: a saturated log-likelihood is below that of the fit by more than rounding.
    """
    own = _row_logliks(fit)
    lost = saturated - own
    if (below := lost < -1e-8 * np.maximum(1.0, np.abs(own))).any():
        raise ValueError(
            "residuals('deviance'): the declared saturated log-likelihood is below that of the fit in "
            f"{int(below.sum())} rows; correct it: it is the highest log-likelihood that any mean gives the row"
        )
    return np.asarray(np.sign(gap) * np.sqrt(2.0 * np.maximum(lost, 0.0)))


def _row_logliks(fit: Fit) -> Float[Host, " n"]:
    with float64():
        return terms_of_rows(fit.spec, fit.loaded, fit.fixed, fit.u).values


def _likelihoods(
    fit: Fit, cdf: Callable[[Any], Float[Host, " n"]], y: Float[Host, " n"]
) -> tuple[Float[Host, " n"], Bool[Host, " n"]]:
    """Return the likelihood of every row, (n,), and True where it is the derivative of the distribution function F at the
    row's outcome, to 1e-4, (n,); NaN and False for models with units or ``rowwise=False``.

    ``cdf``: function from outcomes (n,) to F (n,); ``y``: the outcomes.
    """
    if fit.loaded.problem.data.mode != "rows":
        return np.full(y.shape, np.nan), np.zeros(y.shape, bool)
    h = 1e-5 * np.maximum(1.0, np.abs(y))
    with np.errstate(over="ignore"):
        own = np.exp(_row_logliks(fit))
    return own, np.isclose((cdf(y + h) - cdf(y - h)) / (2.0 * h), own, rtol=1e-4, atol=1e-6)


def _continuous(own: Float[Host, " n"], dense: Bool[Host, " n"], at: Float[Host, " n"]) -> bool:
    """True if outcomes are continuous: some likelihoods are densities (``dense``), and all others are those of censored rows,
    F or 1 - F; ``own``: the likelihoods, ``at``: F of the outcomes.
    """
    return bool(dense.any() and (dense | _same(own, 1.0 - at) | _same(own, at)).all())


def _same(a: Float[Host, " n"], b: Float[Host, " n"]) -> Bool[Host, " n"]:
    return np.isclose(a, b, rtol=1e-6, atol=1e-12)


def _response(fit: Fit) -> str:
    """Return the name of the outcome column: the only column that the function reads by itself (not through a formula).

    Raises:
        ValueError: the function reads none or several such columns.
    """
    designs = fit.loaded.designs
    keys = designs.rows.layout.keys if designs is not None else fit.loaded.rows.layout.keys
    read = [key for key in keys if isinstance(key, str)]
    if len(read) != 1:
        raise ValueError(
            f"residuals: the function of {fit.spec.likelihood.name} reads {', '.join(map(repr, read)) or 'no column by name'}, "
            "so that the outcome is not clear; name its column, response='y'"
        )
    return read[0]


def _companion_values(fit: Fit, what: str, data: Data, why: str, random: str) -> Float[Host, " n"]:
    """Return the mean or variance of the outcome, its distribution function or its saturated log-likelihood in each row (n,),
    from a function that the model declares.

    The variance of a model with latent variables that are averaged over is the mean of the squares minus the square of the mean.

    Args:
        fit: the fit.
        what: "mean", "variance", "cdf" or "saturated".
        data: the rows.
        why: the feature that needs it, for the message.
        random: random effects are averaged over ("integrate"), at the modes of their units ("mode") or 0 ("zero").

    Raises:
        CompanionError: the model declares no such function.
    """
    likelihood = fit.spec.likelihood
    function, theta, more = companion(likelihood, what, why), fit.theta, {}
    space, fixed, k = fit.spec.space, fit.fixed, len(fit.theta)
    if what == "variance" and likelihood.joint is not None and random == "integrate":
        given, mean = function, companion(likelihood, "mean", why)  # the variance of the means is part of it
        function = lambda params, rows: given(params, rows) + mean(params, rows) ** 2
    function = over_latents(function, likelihood, random)
    by_row = row_effects(fit, ingest(data), random)
    if by_row is not None:
        theta, more = np.append(theta, np.zeros(by_row.n_more)), {"by_row": by_row.at}
    params_at = lambda t: space.params_from_theta(t[:k], fixed)
    with float64():
        found = of_theta(function, data, params_at, theta, fit.loaded.designs, **more)(theta)
    values = np.ravel(np.asarray(found, np.float64))
    if what == "variance" and likelihood.joint is not None and random == "integrate":
        values = values - _companion_values(fit, "mean", data, why, random) ** 2
    return values


def _between(
    cdf: Callable[[Any], Float[Host, " n"]],
    y: Float[Host, " n"],
    whole: bool,
    seed: int,
    own: Float[Host, " n"],
    dense: Bool[Host, " n"],
    rows: Rows,
) -> tuple[Float[Host, " n"], str]:
    """Return u between F(y-) and F(y), at random if they differ, (n,), and a note that says how.

    Args:
        cdf: function from outcomes (n,) to F (n,).
        y: the outcomes.
        whole: True if outcomes are whole numbers, so that F(y-) is F(y - 1).
        own, dense: likelihoods of the rows, and where they are densities (`_likelihoods`).  Unless ``whole``, a row whose
            likelihood is 1 - F(y) (censored) has u between F(y) and 1, one with F(y) between 0 and F(y).
        seed: seed of the random numbers.
        rows: the rows, for the message.

    Raises:
        ValueError: F decreases or is NaN at some outcomes; or, for whole outcomes, one has probability 0.
    """
    high = cdf(y)
    low = cdf(y - 1.0) if whole else cdf(y - BELOW * np.maximum(1.0, np.abs(y)))
    low = np.where(np.isfinite(low), low, 0.0)
    for wrong, what in ((np.isnan(high), "is NaN"), (high < low - 1e-9, "decreases")):
        if wrong.any():
            i = int(np.argmax(wrong))
            raise ValueError(f"residuals('quantile'): row {i}: the declared cdf {what} at {y[i]:g}: correct the function")
    if whole and (never := (high == low) & (low > 0) & (low < 1 - 1e-9)).any():
        i = int(np.argmax(never))
        raise ValueError(
            f"residuals('quantile'): {rows.phrase(np.flatnonzero(never)[:1])}: the declared cdf is {high[i]:.4g} at {y[i]:g} "
            f"and at {y[i] - 1:g}, so that {y[i]:g} would have probability 0. It has to be 0 below the smallest outcome; if "
            "outcomes are continuous, give discrete=False"
        )
    censored = np.zeros(y.shape, bool)
    if not whole:
        smooth = ~dense & (high - low <= 1e-6)
        above, below = smooth & _same(own, 1.0 - high), smooth & _same(own, high)
        censored = above | below
        low, high = np.where(above, high, np.where(below, 0.0, low)), np.where(above, 1.0, high)
    atom = (high - low > 1e-6) | whole
    v = np.random.default_rng(check_count("seed", seed, 0)).uniform(size=y.size)
    u = np.where(atom, low + v * (high - low), high)
    if not atom.any():
        return u, "exact"
    n_atoms = int((atom & ~censored).sum())
    kinds = [f"{n} {what}" for n, what in ((int(censored.sum()), "censored rows"), (n_atoms, "atoms")) if n]
    return u, f"randomised at {'whole outcomes' if whole else ' and '.join(kinds)}, seed {seed}"


def _ranks(fit: Fit, name: str, y: Float[Host, " n"], random: Random, seed: int) -> tuple[Float[Host, " n"], str]:
    """Return u from the rank of each outcome among those of 250 data sets simulated from the model, ties broken at random,
    (n,), and a note that says so.

    Raises:
        ValueError: the simulator does not draw the column ``name``.
    """
    seen, sim = simulator_of(fit, "residuals('quantile') without a cdf", random)
    if name not in sim.made:
        raise ValueError(
            f"residuals: the simulator of {fit.spec.likelihood.name} draws {', '.join(map(repr, sim.made))}, not {name!r}: "
            "let it return that column too, or declare the cdf of the model"
        )
    drawn = np.asarray(sim.draw(seen, check_count("seed", seed, 0), np.arange(DRAWS))[name], float)
    v = np.random.default_rng(seed).uniform(size=y.size)
    below, equal = (drawn < y).sum(axis=0), (drawn == y).sum(axis=0)
    return (below + v * (equal + 1.0)) / (DRAWS + 1.0), f"ranks among {DRAWS} simulated data sets, seed {seed}"
