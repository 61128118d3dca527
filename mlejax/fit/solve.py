r"""The pure core: one fit as a JAX function, for the user's own ``jit``, ``vmap`` and ``grad``.

Differentiable through the solution by the implicit function theorem: u*(data) solves score(u, data) = 0 for the
coordinates that are not at a bound, so that

    du* / d data = I_u^-1  d score / d data,

in forward and reverse mode, to any order (``lax.custom_root``).  Where I_u fails its check the derivatives are NaN.

Blondel et al. (2022), Efficient and modular implicit differentiation, NeurIPS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from mlejax import linalg, optimize
from mlejax.data import Prepared
from mlejax.fit.common import Problem, Solution
from mlejax.fit.finish.natural import off_bounds, to_theta
from mlejax.fit.maximise.maximise import POLISH_LIMIT, POLISH_STEPS, differenced
from mlejax.fit.prepare.penalties import bind_penalty
from mlejax.likelihood import missing_derivatives
from mlejax.objective import Spec, objective_of
from mlejax.optimize import Method, MethodLike
from mlejax.parameters import Space
from mlejax.parameters.fixed import fix
from mlejax.shapes import Device, Either, Params, PyTree
from mlejax.status import End

PRECISION = 1e-6  # largest decrement at a precision floor that still counts as converged


def solve(
    model: Any,
    prepared: Problem,
    start: PyTree,
    *,
    weights: ArrayLike | None = None,
    fixed: Mapping[str, Any] | None = None,
    hyper: PyTree = None,
    method: MethodLike | None = None,
    penalty: Callable[..., Any] | None = None,
) -> Solution:
    """Maximise the log-likelihood as a pure JAX function, for use under ``jit``, ``vmap``, ``grad``.

    It does not check data, make a verdict or search for a start: check ``converged``.  It computes in JAX's default
    precision, so call it inside ``with jax.enable_x64(True):`` or with x64 on: in float32 standard
    errors are easily wrong.

    ``jax.vmap`` over it fits many data sets, as a part of your own program.  To just fit many, prefer ``model.fit_batch`` or
    ``fit_groups``, which are several times faster and give the same estimates, with a search for starts and verdicts: under one
    large ``vmap`` every data set takes as many steps as the slowest, and the arrays do not fit the processor's cache.

    Args:
        model: a :class:`mlejax.model.Model` or its likelihood.
        prepared: ``model.prepare(data)``; may hold tracers or stacked arrays under ``vmap``.
        start: start of all parameters, in the structure of ``params``, natural scale, inside their supports; a dict may leave
            out those that are wholly fixed.
        weights: weights >= 0 that multiply the log-likelihood terms, (n,), or padded, (N,). None for those of ``prepared``. A
            row of weight exactly 0 is replaced by another one, so that the derivative by its weight is not its influence.
        fixed: name of a parameter or entry -> its fixed value, natural scale; the values may be tracers.
        hyper: second argument of ``penalty``.
        method: an optimiser object; default :class:`mlejax.Newton`.
        penalty: ``penalty(params)`` or ``penalty(params, hyper)``, subtracted from the log-likelihood.

    Returns:
        :class:`mlejax.Solution`, differentiable with respect to the arrays in ``prepared``, ``weights``, ``fixed`` and
        ``hyper``.  Parameters at a bound of their support have derivatives of 0; if the information is not positive definite,
        all derivatives are NaN.

    Raises:
        ValueError, TypeError: options, weights (unless traced), fixed values or a start that are not valid.
        LikelihoodError: a penalty that cannot be traced or does not return one number.

    Example:
        >>> import jax, jax.numpy as jnp, mlejax as mle
        >>> from jax.scipy.stats import norm
        >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
        ... def gaussian(params, data):
        ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
        >>> prepared = gaussian.prepare({"y": [1.0, 2.0, 6.0]})
        >>> with jax.enable_x64(True):
        ...     best = mle.solve(gaussian, prepared, {"mu": 0.0, "sigma": 1.0})
        ...     print(round(float(best.params["mu"]), 9), bool(best.converged))
        3.0 True
    """
    if not isinstance(prepared, Problem):
        raise TypeError(f"solve: expected the data as model.prepare(data) returns them, got {type(prepared).__name__}")
    algorithm = optimize.resolve("newton" if method is None else method)
    likelihood = getattr(model, "likelihood", model)
    penalty, hyper = bind_penalty(penalty, hyper, prepared.space)
    space, fixed_values = fix(prepared.space, fixed)
    data = prepared.data if weights is None else _with_weights(prepared.data, weights)
    data = jax.tree.map(jnp.asarray, data)
    u0 = off_bounds(space, space.u_from_params(_start_tree(space, start)))
    spec = Spec(likelihood, space, penalty)
    with missing_derivatives(likelihood):
        try:
            return _solution(spec, algorithm, data, u0, fixed_values, hyper)
        except NotImplementedError as error:
            return _solution(differenced(spec, error), algorithm, data, u0, fixed_values, hyper)


def _solution(spec: Spec, method: Method, data: Prepared, u0: Either, fixed_values: Either | None, hyper: PyTree) -> Solution:
    """Run the search with derivatives stopped, then one implicit step that defines the derivatives of the solution.

    Derivatives are NaN where the information is not positive definite; a coordinate at a bound has derivative 0.
    """
    space = spec.space
    lower = jnp.asarray(space.lower, jnp.result_type(float))
    upper = jnp.asarray(space.upper, jnp.result_type(float))
    u_found, facts = _search(spec, method, lax.stop_gradient((data, u0, fixed_values, hyper)))
    objective = objective_of(spec, data, fixed_values, hyper)
    on_bound = (u_found <= lower) | (u_found >= upper)

    def equation(u: Either) -> Device:
        gradient = objective.value_and_grad(u)[1]
        return jnp.where(on_bound, u - u_found, gradient)

    def tangent_solve(linear: Callable[[Any], Any], y: Device) -> Device:
        matrix = jax.vmap(linear)(jnp.eye(y.shape[0], dtype=y.dtype)).T
        matrix = jnp.where(on_bound[:, None] | on_bound[None, :], jnp.eye(y.shape[0], dtype=y.dtype), matrix)
        scaled, root, positive = linalg.unit_diagonal(0.5 * (matrix + matrix.T))
        x, ok = linalg.solve_spd(scaled, y / root)
        return x / root * jnp.where(ok & positive, 1.0, jnp.nan)  # a factor: the transpose of a `where` would be 0

    u = lax.custom_root(equation, u_found, lambda _, guess: guess, tangent_solve)
    value, gradient, hessian = objective.with_hessian(u)
    loglik, score, information = objective.in_loglik_units(value, gradient, hessian)
    at = to_theta(space, u, fixed_values, score, information)
    llf = objective.loglik(u) if spec.penalty is not None else loglik
    n_steps, status, decrement = facts
    return Solution(
        params=space.params_from_u(u, fixed_values),
        theta=at.theta,
        u=u,
        llf=llf,
        score=at.score,
        information=at.information,
        decrement=decrement,
        n_steps=n_steps,
        status=status,
        converged=(status == End.CONVERGED) | ((status == End.PRECISION_FLOOR) & (decrement <= PRECISION)),
    )


def _search(spec: Spec, method: Method, still: PyTree) -> tuple[Any, tuple[Any, Any, Any]]:
    """Run the optimiser, then up to ten Newton steps after any other method (p <= 500), as in ``fit``.

    Args:
        spec: the specification.
        method: the optimiser.
        still: (data, u0, fixed values, hyper-parameters), with derivatives stopped.

    Returns:
        The final point, (p,), and (number of steps, status, Newton decrement).
    """
    data, u0, fixed_values, hyper = still
    objective = objective_of(spec, data, fixed_values, hyper)

    def to_the_end(algorithm: Method, u: Either) -> PyTree:
        carry = optimize.begin(algorithm, u)
        turns = jnp.asarray(algorithm.max_steps + 2, jnp.int32)
        return optimize.advance(algorithm, objective, carry, spec.space.lower, spec.space.upper, objective.scale, turns)

    carry = to_the_end(method, u0)
    n_steps = carry.n_steps
    if not isinstance(method, optimize.Newton) and spec.space.n_free <= POLISH_LIMIT:
        carry = to_the_end(optimize.Newton(max_steps=POLISH_STEPS), carry.u)
        n_steps = n_steps + carry.n_steps
    return lax.stop_gradient((carry.u, (n_steps, carry.status, carry.decrements[-1])))


def _start_tree(space: Space, start: PyTree) -> Params:
    """Return ``start`` with zeros added for parameters that it lacks and that are wholly fixed; unchanged if it is not a dict.
    """
    if not isinstance(start, Mapping) or not any(leaf.all_fixed for leaf in space.leaves):
        return start
    complete = dict(start)
    for group in space.groups:
        if group.name is not None and group.name not in complete and group.treedef is None:
            leaf = next(leaf for leaf in space.leaves if leaf.name == group.name)
            if leaf.all_fixed:
                complete[group.name] = jnp.zeros(leaf.shape, jnp.result_type(float))
    return complete


def _with_weights(data: Prepared, weights: ArrayLike) -> Prepared:
    """Return the data with other weights; rows of weight 0 get the values of a row of positive weight (0 * inf is NaN).

    Raises:
        ValueError: the number of weights is neither that of the terms, n, nor the padded number, or a weight is negative or
            not finite.  If n is traced and there are too few weights, they become NaN, so that the solution does not converge.
    """
    given = jnp.asarray(weights, jnp.result_type(float))
    padded, n = data.weights.shape[0], data.n if data.mode != "whole" else data.weights.shape[0]
    known = None if isinstance(n, jax.core.Tracer) else int(n)
    length = given.shape[0] if given.ndim == 1 else -1
    if length < 1 or length > padded or (known is not None and length not in (known, padded)):
        text = f"at most {padded}" if known is None else f"{known}" + (f" (or {padded}, padded)" * (known != padded))
        raise ValueError(f"weights: expected one per row or unit, {text}, got shape {given.shape}")
    if not isinstance(weights, jax.core.Tracer):
        bad = ~np.isfinite(np.asarray(given)) | (np.asarray(given) < 0)
        if bad.any():
            at = int(np.flatnonzero(bad)[0])
            raise ValueError(f"weights: expected finite numbers >= 0, got {float(given[at])!r} at position {at}")
    full = jnp.concatenate([given, jnp.zeros((padded - length,), given.dtype)])
    if data.mode == "whole":
        return replace(data, weights=full)
    # padding weighs nothing, whatever was given for it
    full = jnp.where(jnp.arange(padded) < n, full, 0.0) * jnp.where(length < n, jnp.nan, 1.0)
    source = jnp.where(full > 0, jnp.arange(padded), jnp.argmax(full))
    return replace(data, weights=full, rows=jax.tree.map(lambda a: jnp.asarray(a)[source], data.rows))
