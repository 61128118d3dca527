"""Choose the start of a search: the given one, the first guess if it is acceptable, or the likeliest candidate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import jax
import numpy as np

from mlejax.data import Prepared
from mlejax.data.formulas import Designs
from mlejax.execution import compiled
from mlejax.fit.finish.natural import many_to_u, to_u
from mlejax.fit.maximise.maximise import POLISH_LIMIT
from mlejax.fit.start.candidates import acceptable, candidates, first_guess, natural_given
from mlejax.fit.start.given import Given
from mlejax.latent import LAPLACE, Quadrature, integrated, marginal_of
from mlejax.linalg import dense_each
from mlejax.objective import Evaluation, Evaluator, SingleEvaluator, Spec
from mlejax.parameters import Declaration
from mlejax.shapes import Either, Float, Host, Int, Params

N_RANKED = 512  # rows on which candidates are compared, at most


def choose(
    evaluator: Evaluator,
    which: Int[Host, " m"],
    given: Given,
    own: list[bool] | None = None,
    designs: Designs | None = None,
    declared: Mapping[str, Declaration] | None = None,
    seed: int = 0,
    n_ranked: int | None = N_RANKED,
    estimate: Float[Host, " p"] | None = None,
) -> tuple[Float[Host, "m p"], Evaluation | None]:
    """Choose the starts of m data sets, in u.

    Args:
        evaluator: evaluator of L data sets.
        which: numbers of the m data sets.
        given: for each leaf its given start, natural scale, or None.
        own: for each leaf whether its given start has a leading axis over all data sets; None if none has.
        designs, declared: designs of the parameters that have formulas, and the declarations of all.
        seed: seed of the random candidates.
        n_ranked: most rows on which candidates are compared; None for all rows, and then the first guess is not used.
        estimate: u of a rough estimate of one data set, (p,), to use as the first guess where `first_guess`
            makes none; or None.

    Returns:
        u, (m, p), NaN for data sets not done before Ctrl-C; and the evaluation at the first guess if all starts are that, else
        None.
    """
    space = evaluator.spec.space
    own = [False] * len(given) if own is None else own
    chosen = _given_whole(evaluator, which, given, own)
    if chosen is not None:
        return chosen, None
    u0, rest = np.full((len(which), space.n_free), np.nan), np.arange(len(which))
    guess = first_guess(space, given, designs, declared)
    if (guess is not None or estimate is not None) and n_ranked is not None and 0 < space.n_free <= POLISH_LIMIT:

        def guessed(some: Host, data: Prepared) -> np.ndarray:
            if guess is not None:
                return many_to_u(space, guess(data, len(some)))
            assert estimate is not None
            return estimate[None]

        try:
            found = evaluator.evaluate(guessed, 2, which)
        except NotImplementedError:  # JAX lacks a second derivative: the candidates do without
            pass
        else:
            score, information = np.asarray(found.score), dense_each(found.information)
            good = acceptable(score, information, evaluator.total_weights[which]) & np.isfinite(found.loglik)
            if good.all():
                return found.u, found
            u0[good] = found.u[good]
            rest = np.flatnonzero(~good)

    def ranked(some: Host, data: Prepared) -> np.ndarray:
        values = candidates(space, given, own, some, data, seed, designs, declared)
        flat = many_to_u(space, [v.reshape(v.shape[0] * v.shape[1], *v.shape[2:]) for v in values])
        return flat.reshape(len(some), -1, space.n_free)

    u0[rest] = _coarse(evaluator).best(ranked, which[rest], n_ranked)
    return u0, None


def rough_estimate(
    evaluator: SingleEvaluator, given: Given, designs: Designs | None, n_units: int
) -> Float[Host, " p"] | None:
    """Return u of a rough estimate from at most ``n_units`` units, (p,), for random effects in one linear predictor.

    None for other models, with starts that are given or declared, with fixed values, and where it is not finite.
    """
    spec = evaluator.spec
    if designs is None or marginal_of(spec.likelihood) is None or evaluator.fixed is not None:
        return None
    known = natural_given(designs, spec.likelihood.parameters or {}, given)
    if any(v is not None for v in (*given, *known)):
        return None
    params = _rough(spec.plain, np.zeros(spec.space.n_free), evaluator.sample(n_units))
    if params is None or not all(np.isfinite(a).all() for a in jax.tree.leaves(params)):
        return None
    return to_u(spec.space, spec.space.split(jax.tree.map(np.asarray, params)))


@partial(compiled, static=("spec",))
def _rough(spec: Spec, u: Either, data: Prepared) -> Params | None:
    """Return the estimates that `SecondOrder.first_estimate` gives from the units in ``data``; None for models that have no
    estimate of this kind. Of ``u`` only the shape is used.
    """
    likelihood, params, seen = spec.likelihood, spec.space.params_from_u(u, None), (data.shared, data.statics)
    known = likelihood.second_order(params, data.rows, *seen)
    if known is None:
        return None
    return known.first_estimate(params, lambda part: likelihood.seen(part, *seen), data.rows, data.weights)


def _coarse(evaluator: Evaluator) -> Evaluator:
    """Return the evaluator with Laplace's approximation in place of quadrature, by which starts are compared in a fifth of the
    time; unchanged for models without quadrature.
    """
    spec = evaluator.spec
    marginal = marginal_of(spec.likelihood)
    if marginal is None or not isinstance(marginal.how, Quadrature) or marginal.how == LAPLACE:
        return evaluator
    return evaluator.with_spec(replace(spec, likelihood=integrated(spec.likelihood, LAPLACE)))


def _given_whole(evaluator: Evaluator, which: Host, given: Given, own: list[bool]) -> np.ndarray | None:
    """Return u, (m, p), of the given starts of the data sets ``which``, if the user gave one for every free leaf; else None.

    ``own``: for each leaf whether its start has a leading axis over data sets.
    """
    space = evaluator.spec.space
    open_ = [v is None or np.isnan(v).any() for v in given]
    if any(missing and not leaf.all_fixed for missing, leaf in zip(open_, space.leaves, strict=True)):
        return None
    values = [np.zeros(leaf.shape) if v is None else v for v, leaf in zip(given, space.leaves, strict=True)]
    if not any(own):
        return np.repeat(to_u(space, values)[None], len(which), axis=0)
    return many_to_u(
        space,
        [
            v[which] if mine else np.broadcast_to(v, (len(which), *np.shape(v)))
            for v, mine in zip(values, own, strict=True)
        ],
    )
