"""Cross-validation: the log-likelihood of every row (unit, group) at the estimates from the other folds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from jax import lax

from mlejax import misuse
from mlejax.data import Prepared
from mlejax.execution import compiled, float64
from mlejax.fit import Fit, effects_evaluator_of
from mlejax.fit.common import check_count, objective_of
from mlejax.inference.resampling.draws import pool_of
from mlejax.inference.resampling.refitting import Draws, check_fit, check_separable, refit_weights
from mlejax.inference.row_effects import Random, check_random
from mlejax.latent import at_zero, marginal_of
from mlejax.notebook import CellText, Text, in_notebooks
from mlejax.objective import EffectsEvaluator, Spec
from mlejax.shapes import Device, Either, Float, Host
from mlejax.verdict import ConvergenceWarning

if TYPE_CHECKING:
    import pandas as pd

NUMBERS_AT_ONCE = 10_000_000


@in_notebooks
@dataclass(frozen=True, eq=False, repr=False)
class CrossValidation:
    """Out-of-sample log-likelihoods of a k-fold cross-validation; prints as a table.

    Attributes:
        k: number of folds.
        seed: seed of the assignment to folds.
        what: what is kept together in a fold: "rows", "units" or "clusters".
        fold: fold of every term of the log-likelihood (n,), -1 for terms of weight 0.
        by_contribution: out-of-sample log-likelihood of every term, times its weight (n,); NaN if the fold's refit failed, 0
            for terms of weight 0.
        weights: weight of every term, 1 without weights (n,).
        in_sample: log-likelihood of the fit to all data, summed.
        good: True if the refit without the fold ended at a maximum (k,).
        model: name of the model.
        random: ``"integrate"``: random effects are integrated out; ``"zero"``: they are set to 0, in sample too.
    """

    k: int
    seed: int
    what: str
    fold: np.ndarray
    by_contribution: np.ndarray
    weights: np.ndarray
    in_sample: float
    good: np.ndarray
    model: str
    random: Random = "integrate"

    def frame(self) -> pd.DataFrame:
        """Return a DataFrame with one row for each fold, its number in the index (``fold``).

        Returns:
            Columns ``n``, number of terms (sum of their weights, if there are any); ``llf``, out-of-sample log-likelihood;
            ``mean``, llf / n; ``converged``, whether the refit without the fold ended at a maximum.
        """
        import pandas as pd

        inside = self.fold >= 0
        count = np.bincount(self.fold[inside], self.weights[inside], minlength=self.k)
        total = np.bincount(self.fold[inside], self.by_contribution[inside], minlength=self.k)
        return pd.DataFrame(
            {"n": count, "llf": total, "mean": total / count, "converged": self.good},
            index=pd.RangeIndex(self.k, name="fold"),
        )

    @property
    def llf(self) -> float:
        """Out-of-sample log-likelihood, summed over the folds; NaN if the refit without one of them failed."""
        return float(np.sum(self.by_contribution[self.fold >= 0]))

    @property
    def llf_mean(self) -> float:
        """Out-of-sample log-likelihood per term: ``llf`` divided by the sum of the weights."""
        return self.llf / float(np.sum(self.weights))

    @property
    def llf_bse(self) -> float:
        """Standard error of :attr:`llf`, from the variance of its terms as if they were independent, which they are only
        nearly; NaN if ``llf`` is.
        """
        mine = self.by_contribution[self.fold >= 0]
        return float(np.sqrt(len(mine) * np.var(mine, ddof=1)))

    def __repr__(self) -> str:
        lines = [
            f"{self.k}-fold cross-validation of {self.model}, {int((self.fold >= 0).sum())} contributions, "
            f"{self.what} kept together{', effects of 0' if self.random == 'zero' else ''}, seed {self.seed}",
            f"Out-of-sample log-likelihood {self.llf:.4f} (std err {self.llf_bse:.3g}), {self.llf_mean:.5g} each; "
            f"in-sample {self.in_sample:.4f}",
        ]
        bad = np.flatnonzero(~self.good)
        if bad.size:
            lines.append(
                f"{bad.size} of {self.k} refits did not end at a maximum (folds {', '.join(map(str, bad[:10].tolist()))}), "
                "so that the total is NaN"
            )
        if self.k <= 20:
            table = self.frame().round(4)
            cells = [("fold", *table.columns), *(tuple(map(str, row)) for row in table.itertuples())]
            lines += ["", CellText(self.frame().to_string(float_format=lambda x: f"{x:.4f}"), cells)]
        return Text(lines)


@partial(compiled, static=("spec",))
def _contributions(
    spec: Spec, points: Float[Either, "k p"], data: Prepared, fixed: Either | None
) -> Float[Device, "k n"]:
    objective = objective_of(spec, data, fixed, None)
    return lax.map(objective.all_contributions, points)


def cross_validate(
    fit: Fit,
    k: int = 10,
    *,
    seed: int = 0,
    groups: Any = None,
    random: Random = "integrate",
    memory_limit: float | None = None,
    progress: bool | None = None,
) -> CrossValidation:
    """Return the out-of-sample log-likelihood: rows (units, groups) are split into k folds, each evaluated at a fit to the
    others.

    Args:
        k: number of folds; as many as there are rows (units) means leave-one-out.
        seed: seed of the assignment to folds.
        groups: keep whole groups in one fold: a column's name, or one label for each row.
        random: for models with random effects, whose folds consist of whole units: ``"integrate"``, the log-likelihood of a
            unit with its effects integrated out; ``"zero"``, with effects of 0.  ``"mode"`` is not supported.
        memory_limit: most bytes of data on the device at a time; by default a quarter of the free memory.
        progress: True shows a progress bar, False none; None shows one in a terminal.

    Rows left out of a refit have the effects of ``mle.Real(by=...)`` of the other rows of their levels; each level needs such
    rows.  Design matrices are those of all rows (levels, knots, means of transforms).  The equal rows that a frequency weight
    counts are kept in one fold.

    Returns:
        :class:`mlejax.inference.CrossValidation`: prints as a table; ``llf``, ``llf_bse``, ``frame()``,
        ``by_contribution``.  If a refit fails, there is a warning, and ``llf`` is NaN.

    Raises:
        ValueError: the fit has no maximum, is from a file, or has no free parameter or more than 2,000; the model has
            ``rowwise=False``, random effects of several columns that connect all rows, or an intercept beside effects of
            ``mle.Real(by=...)``, or is an extended likelihood; fewer than 2 folds or more than rows; a level with all of its
            rows in one fold; ``random="mode"``, ``"zero"`` with ``law=None``, or another option that is not valid.
        DataError: labels in ``groups`` that do not fit the rows, or fewer than two rows, units or groups.

    Example:
        >>> import mlejax as mle
        >>> from jax.scipy.stats import norm
        >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
        ... def gaussian(params, data):
        ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
        >>> res = gaussian.fit({"y": [1.0, 2.0, 6.0, 3.0, 5.0, 4.0]})
        >>> round(res.cross_validate(k=3).llf, 2) < round(res.llf, 2)
        True
    """
    k, seed = check_count("k", k, 2), check_count("seed", seed, 0)
    what = "cross_validate()"
    check_fit(fit, what)
    _check_random(fit, random)
    check_separable(fit, what, "Fit a part of the data and evaluate the rest with model(params, data)")
    pool = pool_of(fit, groups, by_level=False)
    if k > pool.m:
        raise ValueError(f"k={k}: expected at most as many folds as there are {pool.what}, {pool.m}; use a smaller k")
    order = np.random.default_rng(seed).permutation(pool.m)
    of_thing = np.empty(pool.m, np.int64)
    of_thing[order] = np.arange(pool.m) % k
    fold = np.where(pool.codes < 0, -1, of_thing[np.maximum(pool.codes, 0)])

    def weights(numbers: np.ndarray) -> np.ndarray:
        return np.where(fold[None, :] == numbers[:, None], 0.0, pool.base[None, :])

    whole = None if fit.loaded.levels is None else _all_levels_in_folds(fit, fold, k)
    refits, done = refit_weights(fit, weights, k, False, memory_limit, progress)
    scale = fit.loaded.scale
    found = np.full(len(fold), np.nan)
    data = fit.loaded.problem.data
    step = max(NUMBERS_AT_ONCE // data.n_padded, 1)
    with float64():
        for first in range(0, k, step):
            points = np.resize(done.u[first : first + step], (min(step, k), done.u.shape[1]))
            if whole is None:
                values = _terms(fit, points, random)
            else:
                values = _with_effects(whole, fit, points[: k - first], weights, first)
            for i in range(first, min(first + step, k)):
                if refits.good[i]:
                    found[fold == i] = values[i - first, : len(fold)][fold == i]
    with np.errstate(invalid="ignore"):
        found = np.where(fold >= 0, found * pool.base * scale, 0.0)
    if not refits.good.all():
        misuse.warn(
            f"cross_validate: {int((~refits.good).sum())} of {k} refits did not end at a maximum, so that the total is NaN; "
            "frame() shows which: use fewer folds, or a simpler model",
            ConvergenceWarning,
            "failed-folds",
            stacklevel=4,
        )
    in_sample = fit.llf if random == "integrate" else float(_terms(fit, fit.u[None], random)[0, : len(fold)] @ pool.base) * scale
    weights_used = pool.base * scale if fit.loaded.weights is not None else np.where(fold >= 0, 1.0, 0.0)
    return CrossValidation(
        k, seed, pool.what, fold, found, weights_used, in_sample, refits.good, fit.spec.likelihood.name, random
    )


def _all_levels_in_folds(fit: Fit, fold: Host, k: int) -> EffectsEvaluator:
    """Return the evaluator of all rows of a model with effects of ``mle.Real(by=...)``.

    ``fold``: fold of every row, -1 for rows of weight 0; ``k``: number of folds.

    Raises:
        ValueError: a level has all of its rows in one fold, so that a refit without it gives the level no effect.
    """
    levels, inside = fit.loaded.levels, fold >= 0
    assert levels is not None
    folds = np.zeros((len(levels), k), bool)
    folds[levels.codes[inside], fold[inside]] = True
    alone = levels.labels[folds.sum(axis=1) == 1].tolist()
    if alone:
        shown, by = ", ".join(map(str, alone[:5])) + (", ..." if len(alone) > 5 else ""), fit.spec.likelihood.effects[0].by
        raise ValueError(
            f"cross_validate(): {len(alone)} levels of {by} have all of their rows in one fold, and "
            f"no effect without it: {shown}. Leave out the rows of levels with few rows, leave out groups=, or use aic or bic"
        )
    return effects_evaluator_of(fit.spec, fit.loaded, fit.fixed)


def _with_effects(
    whole: EffectsEvaluator, fit: Fit, points: Float[Host, "m p"], weights: Draws, first: int
) -> Float[Host, "m n"]:
    """Return the log-likelihood of every row (m, n) at the estimates from the rows outside each of m folds.

    Args:
        whole: evaluator of all rows.
        fit: the fit.
        points: estimates u without each fold (m, p); the effects of ``mle.Real(by=...)`` are estimated here.
        weights: function from the numbers of folds to the weights of the rows outside of them.
        first: number of the first of the m folds.
    """
    out = []
    for i, u in enumerate(points, first):
        one = whole.weighted(weights(np.array([i]))[0])
        effects = dict(zip(one.levels.labels.tolist(), one.eliminated(u).effects, strict=True))
        values = np.array([effects.get(label, 0.0) for label in whole.levels.labels.tolist()])
        out.append(np.asarray(_contributions(fit.spec.plain, u[None], whole.at_effects(values), fit.fixed))[0])
    return np.stack(out)


def _terms(fit: Fit, points: Float[Host, "k p"], random: Random) -> Float[Host, "k n"]:
    """Return every term of the log-likelihood at several points u (k, n), with random effects integrated out or 0."""
    data = fit.loaded.problem.data
    with float64():
        if random == "zero":
            return np.stack([at_zero(fit.spec.plain, u, data, fit.fixed) for u in points])
        return np.asarray(_contributions(fit.spec.plain, points, data, fit.fixed))


def _check_random(fit: Fit, random: Random) -> None:
    """Raise ValueError for a ``random`` that is not valid, is "mode", or is "zero" for effects whose density is part of the
    function (``law=None``).
    """
    likelihood, what = fit.spec.likelihood, f"cross_validate(random={random!r})"
    check_random(random, likelihood)
    marginal = marginal_of(likelihood)
    if random == "mode":
        raise ValueError(
            f"{what}: folds consist of whole units ({likelihood.unit}), so that a unit left out has no rows in the refit and no "
            "mode; use random='integrate' to average over its effects, or random='zero' for effects of 0"
        )
    if random == "zero" and marginal is not None and any(latent.law is None for latent in marginal.latents.values()):
        raise ValueError(
            f"{what}: with law=None {likelihood.name} returns the density of the effects together with that of the rows, so that "
            "effects cannot be set to 0; use random='integrate'"
        )
