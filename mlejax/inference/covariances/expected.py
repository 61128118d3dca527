r"""The expected information at the estimates, from which R's ``glm``, ``glm.nb`` and ``betareg`` take their standard errors.

.. math:: \mathcal I(\hat\theta) = \sum_i w_i \, E[ -\partial^2 \ell_i(Y_i; \hat\theta) / \partial\theta\,\partial\theta' ],

conditional on the covariates; computed in one of three ways:

* the sum over listed outcomes of P(y) times the observed information of y, exact if their probabilities sum to 1;
* the model's own expression, ``@model.expected_information``; with formulas J' I J, J the derivatives of the
  parameters of a row with respect to theta (further terms are scores, whose expectation is 0);
* else the mean over data sets drawn by the model's simulator, with its Monte Carlo error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from mlejax.companions import registered
from mlejax.data import Prepared
from mlejax.execution import float64
from mlejax.fit import Fit, evaluated
from mlejax.inference.row_designs import designs_of
from mlejax.linalg import scaled_inverse
from mlejax.objective import ChunkedEvaluator, row_terms
from mlejax.shapes import Device, Float, Host, Params, PyTree

SUM_TO_ONE = 1e-6
DRAWS = 200


def expected_information(fit: Fit, options: Mapping[str, Any]) -> tuple[Float[Host, "p p"], str]:
    """Return the expected information in theta (p, p), and a phrase that says how it was computed.

    Args:
        fit: fit of a row-wise model with the data in memory.
        options: ``outcomes``: dict from column to the values that the outcome can have; ``n`` (200) and ``seed`` (0) of the
            simulated data sets.

    Raises:
        ValueError: the model is not row-wise (it has units or random effects, or ``rowwise=False``), the rows are not in memory,
            or the fit has a penalty, latent classes or effects of ``mle.Real(by=...)``; the model gives no way to compute the
            information; outcomes are lists of unequal length, of a column that is not read, or their probabilities do not sum
            to 1; or the declared information has another shape.
    """
    loaded = fit.loaded
    if loaded.remembered is not None or loaded.stream is not None:
        raise ValueError("cov_type='expected' needs the rows of the fit in memory; fit a table in memory, or use 'nonrobust'")
    if loaded.problem.data.mode != "rows":
        raise ValueError("cov_type='expected' needs a log-likelihood with one term for each row; use 'nonrobust'")
    unsupported = {
        "effects of mle.Real(by=...)": loaded.effects is not None,
        "penalised fits": fit.penalised is not None,
        "latent classes": fit.spec.likelihood.joint is not None,
    }
    for what, there in unsupported.items():
        if there:
            raise ValueError(f"cov_type='expected' does not support {what}; use 'nonrobust'")
    if "outcomes" in options:
        return _over_outcomes(fit, options["outcomes"])
    likelihood = fit.spec.likelihood
    declared = likelihood.companions.get("expected_information")
    natural = None if likelihood.natural is None else likelihood.natural.companions.get("expected_information")
    if declared is None and natural is None:
        if registered(likelihood, "simulator") is None:
            raise ValueError(
                "cov_type='expected' needs one of three: the values that the outcome can have, "
                "cov_kwds={'outcomes': {'y': [0, 1]}}; "
                f"the formula, @{likelihood.name}.expected_information; or a simulator, @{likelihood.name}.simulator"
            )
        return _simulated(fit, int(options.get("n", DRAWS)), int(options.get("seed", 0)))
    return _declared(fit, declared, natural), "as the model declares it"


# ---- over the outcomes


def _over_outcomes(fit: Fit, outcomes: Host) -> tuple[Float[Host, "p p"], str]:
    """Return the information (p, p) summed over all outcomes a row can have, each weighted by its probability under the model at
    the estimate and by the row's weight; and how it was made, in words.

    ``outcomes``: column -> its values, lists of one length; outcome i has the i-th value of every column.

    Raises:
        ValueError: lists of different lengths, or probabilities that do not sum to 1 in a row of positive weight.
    """
    data = fit.loaded.problem.data
    columns = {name: np.asarray(values, np.float64) for name, values in dict(outcomes).items()}
    count = {values.shape for values in columns.values()}
    if len(count) != 1 or len(next(iter(count))) != 1:
        raise ValueError(f"cov_kwds outcomes= expected lists of one length, {{'y': [0, 1]}}, got {outcomes!r}")
    n, total, p = int(data.n), np.zeros(int(data.n)), fit.theta.size
    information = np.zeros((p, p))
    values = fit.spec.space.split(fit.params)
    for outcome in zip(*columns.values(), strict=True):
        at = replaced(data, dict(zip(columns, outcome, strict=True)))
        with float64(), np.errstate(over="ignore"):
            chance = np.exp(row_terms(ChunkedEvaluator(fit.spec.plain, at, fit.fixed), fit.u).values)
        total += chance
        possible = chance > 0
        weights = np.zeros_like(np.asarray(data.weights, np.float64))
        weights[:n] = np.where(possible, np.asarray(data.weights)[:n] * chance, 0.0)
        if not possible.any():
            continue
        at = replaced(data, dict(zip(columns, outcome, strict=True)), possible)
        information += _information(fit, replace(at, weights=weights), values)
    wrong = np.flatnonzero((np.abs(total - 1.0) > SUM_TO_ONE) & (np.asarray(data.weights)[:n] > 0))
    if wrong.size:
        i = int(wrong[0])
        raise ValueError(
            f"cov_type='expected': the probabilities of these outcomes sum to {total[i]:.6g} in "
            f"{fit.loaded.rows.phrase(wrong[:1])} (of {wrong.size} such rows), and not to 1: list all values that the outcome "
            "can have, or leave outcomes= out for a simulated expectation"
        )
    k = len(next(iter(columns.values())))
    return information, f"summed over {k} outcomes"


def replaced(data: Prepared, columns: Mapping[Any, Any], where: ArrayLike = True) -> Prepared:
    """Return the data with other values in some row-wise columns.

    Args:
        data: the data.
        columns: name -> values (n,), or one value for all rows.
        where: True for the rows that get the new values (n,); by default all.

    Raises:
        ValueError: a column that the function does not read, or that does not have one number for each row.
    """
    rows, n = list(data.rows), int(data.n)
    for name, value in columns.items():
        entry = next((e for e in data.statics.entries if e.key == name), None)
        if entry is None or entry.treedef is not None or entry.slots[0].source != "row":
            known = [e.key for e in data.statics.entries if isinstance(e.key, str)]
            raise ValueError(
                f"{name!r}: expected a column with one number for each row that the log-likelihood reads: {', '.join(known)}"
            )
        at = entry.slots[0].position
        new = np.array(rows[at])
        new[:n] = np.where(where, value, new[:n])
        rows[at] = new
    return replace(data, rows=tuple(rows))


def _information(fit: Fit, data: Prepared, values: PyTree) -> Float[Host, "p p"]:
    """Return the observed information in theta (p, p), summed over ``data`` in place of the data of the fit, at its
    estimates (``values``: one array for each parameter).
    """
    loaded = replace(fit.loaded, problem=replace(fit.loaded.problem, data=data))
    found = evaluated(fit, fit.spec.likelihood, loaded, fit.spec.space, fit.fixed, values)
    return np.asarray(found.information)


# ---- as declared


def _declared(fit: Fit, own: PyTree, natural: PyTree) -> Float[Host, "p p"]:
    """Return the expected information (p, p) from a function that the model declares, summed over the rows by weight.

    ``own``: such a function of the fitted model, over theta; else ``natural``, that of the model without formulas, over the
    parameters of one row, to which the chain rule is applied.

    Raises:
        ValueError: the result of ``natural`` does not have the shape (n, k, k), k parameters a row.
    """
    from mlejax.inference.prediction.row_functions import of_theta
    from mlejax.inference.prediction.row_tables import rows_of

    table, weights = rows_of(fit, None, "cov_type='expected'", "")
    space, designs = fit.spec.space, fit.loaded.designs
    params_at = lambda theta: space.params_from_theta(theta, fit.fixed)
    with float64():
        call = of_theta(own or natural, table, params_at, fit.theta, designs)
        each = np.asarray(call(jnp.asarray(fit.theta)))
        if own is not None:
            return np.tensordot(weights, each, axes=1)
        jacobian = np.asarray(jax.jacfwd(lambda t: _row_coordinates(fit, params_at(t)))(jnp.asarray(fit.theta)))
    if each.shape[1:] != (jacobian.shape[1],) * 2:
        raise ValueError(
            f"the expected information that {fit.spec.likelihood.name} declares should have shape "
            f"(n, {jacobian.shape[1]}, {jacobian.shape[1]}), over the parameters of a row, got {each.shape}"
        )
    return np.einsum("n,nka,nkl,nlb->ab", weights, jacobian, each, jacobian, optimize=True)


def _row_coordinates(fit: Fit, params: Params) -> Device:
    """Return the free natural coordinates of the parameters of each row, (n, k): those with a formula have the row's own
    value, all others the same value in every row.
    """
    likelihood, designs = fit.spec.likelihood, designs_of(fit.loaded)
    n, parts = fit.loaded.problem.data.n_contributions, []
    predictors = {p.name: p for p in likelihood.predictors}
    assert fit.loaded.designs is not None
    for leaf in fit.loaded.designs.natural.leaves:
        value = params[leaf.name]
        if leaf.name in predictors:
            rows = predictors[leaf.name].value(value, *designs[leaf.name][:3])
        else:
            rows = jnp.broadcast_to(jnp.asarray(value), (n, *leaf.shape))
        parts.append(jax.vmap(lambda v, leaf=leaf: jnp.ravel(leaf.transform.free(v)))(rows))
    return jnp.concatenate(parts, axis=1)


# ---- simulated


def _simulated(fit: Fit, n: int, seed: int) -> tuple[Float[Host, "p p"], str]:
    """Return the mean information (p, p) of n data sets simulated at the estimate; and in words their number and the largest
    relative Monte Carlo error of a standard error.

    Raises:
        CompanionError: the model has no simulator.
    """
    from mlejax.inference.simulation.simulated_data import simulator_of

    seen, sim = simulator_of(fit, "cov_type='expected'")
    if open_ones := [name for name in sim.made if name in fit.spec.likelihood.open_columns.names]:
        raise ValueError(
            f"cov_type='expected' does not support a simulator that draws a column of optional= or infinite=, here "
            f"{open_ones[0]!r}; use 'nonrobust'"
        )
    drawn = sim.draw(seen, seed, np.arange(n))
    data, values = fit.loaded.problem.data, fit.spec.space.split(fit.params)
    read = [name for name in sim.made if name in data.statics.keys]
    each = [_information(fit, replaced(data, {name: drawn[name][i] for name in read}), values) for i in range(n)]
    mean = np.mean(each, axis=0)
    found = scaled_inverse(mean)
    spread = np.array([np.diag(found.inverse @ one @ found.inverse) for one in each])
    with np.errstate(all="ignore"):
        error = 0.5 * spread.std(axis=0) / np.sqrt(n) / np.diag(found.inverse)
    return mean, f"{n} simulated data sets, standard errors right to {100 * np.nanmax(error, initial=0.0):.1g} %"
