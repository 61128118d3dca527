"""The larger model of a score test, evaluated at the estimates of the smaller one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.execution import float64
from mlejax.fit import Fit, evaluated, regressed
from mlejax.fit.prepare.arguments import fix_on_host
from mlejax.fit.prepare.loaded import Loaded
from mlejax.fit.prepare.loading import load
from mlejax.inference.intervals.link_scale import supports
from mlejax.inference.row_designs import designs_of
from mlejax.likelihood import Likelihood
from mlejax.parameters import COEFFICIENTS, Leaf, Predictor, Space
from mlejax.shapes import Device, Either, Float, Host, PyTree

SAME = 1e-7  # relative difference of two log-likelihoods that are the same model's


class Larger(NamedTuple):
    """The larger model of a test.

    Attributes:
        likelihood, loaded, space: its declaration, data and parameter space.
        fixed: vector with the values of its fixed entries, or None.
        text: its description for messages.
    """

    likelihood: Likelihood
    loaded: Loaded
    space: Space
    fixed: np.ndarray | None
    text: str


def at_restricted(full: Fit, restricted: Fit) -> tuple[Fit, Float[Host, "p q"]]:
    """Evaluate the larger of two models at the estimates of the smaller one.

    Parameters that the smaller model does not have are set to 0.

    Returns:
        The evaluated larger model, and the Jacobian (p, q) of its theta with respect to that of the smaller one.

    Raises:
        ValueError: the models are not nested: their parameters do not correspond, or their log-likelihoods differ there.
    """
    big = Larger(full.spec.likelihood, full.loaded, full.spec.space, full.fixed, full.spec.likelihood.name)
    mine = {leaf.name for leaf in restricted.spec.space.leaves}
    absent = {leaf.name: np.zeros(leaf.shape) for leaf in full.spec.space.leaves if leaf.name not in mine}
    return at_values(restricted, big, absent)


def at_values(fit: Fit, big: Larger, null: Mapping[str, Any]) -> tuple[Fit, Float[Host, "p q"]]:
    """Evaluate the larger model at the estimates of a fit; also return the Jacobian (p, q) of its theta with respect to the
    fit's theta.

    Args:
        fit: fit of the smaller model.
        big: the larger model.
        null: values of the parameters that the fit does not have, by name.

    Raises:
        ValueError: the larger model has no further free parameter, ``null`` lacks a parameter or has one that both models
            have, or the models are not nested.
    """
    if big.space.n_free <= fit.spec.space.n_free:
        raise ValueError(
            f"expected a model with more free parameters than this fit's {fit.spec.space.n_free}; {big.text} has "
            f"{big.space.n_free}"
        )
    with float64():
        params = _embedding(fit, big, null)
        values = [np.asarray(v, np.float64) for v in params(fit.theta)]
        to_theta = lambda t: _theta_of(big.space, params(t))
        tangent = np.asarray(jax.jacfwd(to_theta)(jnp.asarray(fit.theta))).reshape(big.space.n_free, fit.theta.size)
    at = evaluated(fit, big.likelihood, big.loaded, big.space, big.fixed, values)
    if not abs(at.llf - fit.llf) <= SAME * max(1.0, abs(fit.llf)):
        raise ValueError(
            f"the models are not nested: at the restricted estimates the log-likelihood of {big.text} is "
            f"{at.llf:.10g}, and that of this fit {fit.llf:.10g}"
        )
    return at, tangent


def met_on_a_bound(full: Fit, restricted: Fit) -> str:
    """Return the name of the only parameter of ``full`` that ``restricted`` lacks, if the models are equal at its lower bound
    (a share of zeros, a dispersion); else an empty string.

    That is found by evaluating ``full`` close to the bound, at the estimates of ``restricted``.
    """
    mine = {leaf.name for leaf in restricted.spec.space.leaves}
    space = full.spec.space
    more = [leaf for leaf in space.leaves if leaf.name not in mine]
    if len(more) != 1 or not mine < {leaf.name for leaf in space.leaves}:
        return ""
    return more[0].name if any(_meets(full, restricted, more[0], near) for near in (1e-8, 1e-30)) else ""


def _meets(full: Fit, restricted: Fit, leaf: Leaf, near: float) -> bool:
    """True if both log-likelihoods agree to 0.001 with the parameter ``leaf`` of ``full`` at distance ``near`` from its lower
    bound (its coefficients: intercept log(near), slopes 0); False if it has no lower bound, or the others do not correspond.
    """
    if leaf.kind == COEFFICIENTS:
        value = np.zeros(leaf.shape)
        value[..., 0] = np.log(near)
    elif np.isfinite(low := _low(leaf)):
        value = np.full(leaf.shape, low + near)
    else:
        return False
    big = Larger(full.spec.likelihood, full.loaded, full.spec.space, full.fixed, full.spec.likelihood.name)
    try:
        with float64():
            values = [
                np.asarray(v, np.float64) for v in _embedding(restricted, big, {leaf.name: value})(restricted.theta)
            ]
        at = evaluated(restricted, big.likelihood, big.loaded, big.space, big.fixed, values)
    except ValueError:  # the other parameters do not correspond
        return False
    return abs(at.llf - restricted.llf) < 1e-3


def _low(leaf: Leaf) -> float:
    """Return the lower bound of the support of the parameter ``leaf``, the largest over its entries; -inf if there is none,
    NaN for simplexes and covariances.
    """
    links = leaf.transform.interval_links(leaf.shape)
    return float(supports(links)[0].max(initial=-np.inf)) if len(links) == leaf.size else float("nan")


# ---- the larger model


def larger_model(fit: Fit, what: Any, param: str | None) -> Larger:
    """Return the larger model that the arguments ``what`` and ``param`` of `score_test` mean, with the rows of the fit.

    Raises:
        ValueError: terms without a formula to add them to; ``param`` without terms; names that no entry has (AddressError), or of
            entries that are not fixed; a fit without restrictions; or constraints with a larger model.
        TypeError: ``what`` is neither terms, a model, nor names.
    """
    likelihood = getattr(what, "likelihood", None)
    if isinstance(what, str) and what.lstrip().startswith("+"):
        likelihood = _with_terms(fit, what, param)
        return _loaded(fit, likelihood, f"the model with {what.strip()}")
    if param is not None:
        raise ValueError("param= needs terms to add, score_test('+ x2', param='mu'); leave it out")
    if isinstance(likelihood, Likelihood):
        return _loaded(fit, likelihood, likelihood.name)
    addresses = [what] if isinstance(what, str) else what
    if addresses is not None and not (
        isinstance(addresses, (list, tuple)) and all(isinstance(a, str) for a in addresses)
    ):
        raise TypeError(
            f"score_test expected terms to add ('+ x2'), a larger model, or names of entries that this fit fixes, got {what!r}"
        )
    fixed_values = fixed_by_name(fit)
    if addresses is not None:
        _check_fixed(fit.spec.space, addresses)
        freed = {i for a in addresses for i in fit.spec.space.resolve(a).tolist()}
        fixed_values = {a: v for a, v in fixed_values.items() if not set(fit.spec.space.resolve(a).tolist()) <= freed}
    elif not fixed_values and not fit.constraints:
        raise ValueError(
            "score_test() tests fixed= and constraints=, and this fit has neither: name terms to add, score_test('+ x2'), or "
            "give a larger model"
        )
    space, fixed = fix_on_host(fit.loaded.problem.space, fixed_values if addresses is not None else None)
    return Larger(fit.spec.likelihood, fit.loaded, space, fixed, "the model without the restrictions")


def _check_fixed(space: Space, addresses: Collection[str]) -> None:
    for address in addresses:
        loose = [space.labels[i] for i in space.resolve(address) if not space.reported_fixed[i]]
        if loose:
            raise ValueError(
                f"score_test({address!r}): expected entries that the fit has fixed, but {', '.join(loose)} is estimated; fit "
                "with fixed={...} first, or use wald_test"
            )


def fixed_by_name(fit: Fit) -> dict[str, Any]:
    """Return the fixed values of a fit as a dict for ``fixed=``: parameter -> array if all of its entries are fixed, else
    entry -> number.
    """
    out: dict[str, Any] = {}
    for leaf, value in zip(fit.spec.space.leaves, fit.spec.space.split(fit.params), strict=True):
        if leaf.all_fixed:
            out[leaf.name] = np.asarray(value)
        elif leaf.partly_fixed:
            free = set(leaf.free_index.tolist())
            out |= {leaf.name + leaf.suffix(i): v for i, v in enumerate(np.ravel(value)) if i not in free}
    return out


def _with_terms(fit: Fit, terms: str, param: str | None) -> Likelihood:
    """Return the likelihood of the fit with terms, ``"+ x2"``, added to the formula of one parameter.

    ``param``: its name; None: the only one with a formula.  A parameter without a formula gets the terms and an intercept.

    Raises:
        ValueError: None, but not exactly one parameter has a formula; or the parameter has a design matrix.
    """
    likelihood = fit.spec.likelihood
    names = [p.name for p in likelihood.predictors]
    if param is None and len(names) != 1:
        which = "several parameters have a formula" if names else "no parameter has a formula"
        raise ValueError(f"score_test({terms!r}): {which}; name the parameter that the terms are for, param='mu'")
    name = names[0] if param is None else param
    old = next((p.linear for p in likelihood.predictors if p.name == name), None)
    if old is None:
        return regressed(likelihood, {name: terms.strip().lstrip("+").strip()})
    if fit.loaded.designs is not None and any(
        d.predictor.name == name and d.piece.spec is None for d in fit.loaded.designs.designs
    ):
        raise ValueError(
            f"score_test({terms!r}): terms need a formula, and {name} has a design matrix; give the larger model, "
            "score_test(model.regress(...))"
        )
    return regressed(likelihood, {name: replace(old, formula=f"{old.formula} {terms.strip()}")})


def _loaded(fit: Fit, likelihood: Likelihood, text: str) -> Larger:
    """Return another likelihood with the rows, weights and fixed values of the fit; ``text``: its description for messages.

    Raises:
        ValueError: the fit has constraints.
    """
    if fit.constraints:
        raise ValueError("score_test of a larger model does not support constraints=; use score_test(), which tests them")
    loaded, weights = fit.loaded, fit.loaded.weights
    raw = loaded.source.raw if loaded.rows.kept is None else loaded.source.take(loaded.rows.kept)
    values = None if weights is None else weights.values
    if values is not None and loaded.unit_codes is not None:
        values = values[loaded.unit_codes]
    with float64():
        made = load(likelihood, raw, None, "raise", (), values, None if weights is None else weights.kind)
    space, fixed = fix_on_host(made.problem.space, fixed_by_name(fit))
    return Larger(likelihood, made, space, fixed, text)


# ---- where the smaller model lies in the larger one


def _embedding(fit: Fit, big: Larger, null: Mapping[str, Any]) -> Callable[[Any], list[Any]]:
    """Return a function from the fit's theta to the values of the larger model's parameters under which every parameter has in
    every row the value that it has in the fit.

    Raises:
        ValueError: a parameter of the larger model is neither in the fit nor in ``null``, one in ``null`` is in both models or
            in none, or the fit has a parameter that the larger model lacks.
    """
    small, leaves = fit.spec.space, big.space.leaves
    mine = {leaf.name: i for i, leaf in enumerate(small.leaves)}
    if unknown := [name for name in null if name in mine or name not in {leaf.name for leaf in leaves}]:
        raise ValueError(
            f"null= expected parameters of the larger model that this fit does not have, got {', '.join(map(repr, unknown))}"
        )
    if missing := [leaf.name for leaf in leaves if leaf.name not in mine and leaf.name not in null]:
        raise ValueError(
            f"{big.text} has {', '.join(missing)}, which this fit does not have; give the value under the null "
            f"hypothesis, null={{{missing[0]!r}: 0.0}}"
        )
    if lost := [name for name in mine if name not in {leaf.name for leaf in leaves}]:
        raise ValueError(
            f"the models are not nested: {big.text} has no parameter {', '.join(lost)}; compare them by aic or bic"
        )
    parts = [
        _constant(np.broadcast_to(np.asarray(null[leaf.name], float), leaf.shape))
        if leaf.name not in mine
        else _as_in_larger(fit, big, leaf, mine[leaf.name])
        for leaf in leaves
    ]

    def values(theta: Either) -> list[Any]:
        own = small.split(small.params_from_theta(theta, fit.fixed))
        return [part(own) for part in parts]

    return values


def _constant(value: Either) -> Callable[[Any], Any]:
    return lambda own: value


def _as_in_larger(fit: Fit, big: Larger, leaf: Leaf, i: int) -> Callable[[Any], Any]:
    """Return a function from the values of the fit's parameters to the value of the parameter ``leaf`` of the larger model,
    which is number i among those of the fit; with a formula, its coefficients by least squares.

    Raises:
        ValueError: it has a formula in the fit only.
    """
    old, new = predictor_of(fit.spec.likelihood, leaf.name), predictor_of(big.likelihood, leaf.name)
    if new is None:
        if old is not None:
            raise ValueError(
                f"the models are not nested: {leaf.name} has a formula in this fit and none in {big.text}"
            )
        return lambda own: own[i]
    design, offset = designs_of(big.loaded)[leaf.name][:2]
    n, own_rows = len(design), None if old is None else designs_of(fit.loaded)[leaf.name][:2]
    size = np.sqrt((design**2).sum(axis=0))
    size = np.where(size > 0, size, 1.0)
    solve = np.linalg.pinv(design / size, rcond=1e-12) / size[:, None]

    def coefficients(own: PyTree) -> Device:
        """Return the coefficients under the new formula whose linear predictor equals, or is closest by least squares to, that of
        the parameter in the smaller model.  ``own``: the values of all parameters of the smaller model, in order.
        """
        if old is None or own_rows is None:
            value = jnp.broadcast_to(own[i], (n, *jnp.shape(own[i])))
            eta = new.link.link(value)
        elif old.link == new.link:
            eta = old.linear_predictor(own[i], *own_rows)
        else:
            eta = new.link.link(old.value(own[i], *own_rows))
        if offset is not None:
            eta = eta - jnp.reshape(offset, (*offset.shape, *(1,) * (eta.ndim - offset.ndim)))
        return jnp.moveaxis(jnp.tensordot(solve, eta, axes=1), 0, -1)

    return coefficients


def predictor_of(likelihood: Likelihood, name: str) -> Predictor | None:
    """Return the linear predictor of a parameter; None if it has no formula."""
    return next((p for p in likelihood.predictors if p.name == name), None)


def _theta_of(space: Space, values: list[Any]) -> Device:
    """Return theta (p,) for one value of each parameter of the space, natural scale, in order."""
    parts = [
        jnp.ravel(leaf.transform.free(leaf.working(v)))
        for leaf, v in zip(space.leaves, values, strict=True)
        if leaf.n_free
    ]
    return jnp.concatenate(parts)
