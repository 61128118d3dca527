r"""The delta method: standard errors of functions of the estimates.

For g(theta) with Jacobian J at the estimate, and covariance V of the estimates,

.. math:: Var\, g(\hat\theta) \approx J V J', \qquad J = \partial g / \partial\theta',

by forward-mode differentiation in float64. It is a first-order approximation: a derivative of exactly 0 gives a
standard error of exactly 0, which is right for a constant and wrong at a stationary point (theta squared at 0). The two
are told apart by a small change of theta; at a stationary point the error is NaN, with the reason.

Oehlert (1992), *A note on the delta method*, The American Statistician 46.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from mlejax.covariance import Factored
from mlejax.execution import evaluated, float64
from mlejax.fit import Fit
from mlejax.inference.covariances.combinations import linear_covariance, standard_errors
from mlejax.inference.normal import critical_value, z_tests
from mlejax.inference.tables.estimates import Estimates
from mlejax.inference.tests.wald import WaldTest, wald_test
from mlejax.parameters import with_addresses
from mlejax.shapes import Bool, Device, Float, Host, PyTree

if TYPE_CHECKING:
    import pandas as pd


class Linearised(NamedTuple):
    """Value and Jacobian of a function at one point theta.

    Attributes:
      values: all numbers that the function returns, concatenated, (m,).
      jacobian: their derivatives with respect to theta, (m, k).
      labels: m strings such as ``ratio``, ``ratio[1]``.
    """

    values: Float[Host, " m"]
    jacobian: Float[Host, "m k"]
    labels: tuple[str, ...]


def linearise(function: Callable[[Any], Any], theta: ArrayLike) -> Linearised:
    """Return values, Jacobian and labels of a function of theta, in float64.

    Args:
      function: maps theta (k,) to an array, a scalar, or a nested dict, list or tuple of them; differentiable by JAX.
      theta: the point (k,).

    Returns:
      `Linearised`. Dicts keep the order in which they were written.

    Raises:
      ValueError: the function returns nothing, or theta is not a vector.
      TypeError: the function returns something that is not a number, or needs concrete numbers (np.exp, math.exp, float()).

    >>> out = linearise(lambda t: {"ratio": t[0] / t[1], "both": t}, [1.0, 2.0])
    >>> out.labels, out.jacobian[0].tolist()
    (('ratio', 'both[0]', 'both[1]'), [0.5, -0.25])
    """
    point = np.asarray(theta, np.float64)
    if point.ndim != 1:
        raise ValueError(f"theta: expected a vector (k,), got shape {point.shape}")
    labels: list[str] = []

    def flat(t: Device) -> tuple[Any, Any]:
        leaves = list(_leaves(function(t), ""))
        labels[:] = [text for label, leaf in leaves for text in _entry_labels(label, np.shape(leaf))]
        vector = _vector(leaves)
        return vector, vector

    with float64():
        both = jax.jacfwd(flat, has_aux=True) if point.size else lambda t: (jnp.zeros((flat(t)[0].size, 0)), flat(t)[0])
        try:
            jacobian, values = _evaluated(both, jnp.asarray(point, jnp.float64))
        except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError) as error:
            raise TypeError(
                "the function cannot be differentiated: write jnp.exp and not np.exp or math.exp, and leave out float() "
                f"(import jax.numpy as jnp).  JAX said: {str(error).splitlines()[0]}"
            ) from error
        values, jacobian = np.asarray(values, np.float64), np.asarray(jacobian, np.float64)
    if values.size == 0:
        raise ValueError("the function returns no numbers: let it return an array or a dict of arrays")
    return Linearised(values, jacobian, tuple(labels))


def _evaluated(function: Callable[[Any], Any], t: Device) -> PyTree:
    """Return function(t), compiled by `execution.evaluated`; called without tracing if it needs concrete numbers
    (``if p["a"] > 1``).
    """
    try:
        return evaluated(function, t)
    except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError):
        return function(t)


def _vector(leaves: Sequence[tuple[str, Any]]) -> Device:
    return jnp.concatenate([jnp.ravel(leaf) for _, leaf in leaves]) if leaves else jnp.zeros(0)


def _leaves(tree: PyTree, label: str) -> Any:
    """Yield (label, float64 array) for each leaf of a tree of dicts, lists and tuples, dicts in the user's own order
    (jax.tree would sort them); None is skipped.

    ``label``: that of the tree itself, ``""`` at the top.  TypeError: a leaf is not numeric.
    """
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _leaves(value, f"{label}.{key}" if label else str(key))
    elif isinstance(tree, tuple) and hasattr(tree, "_fields"):
        for key, value in zip(tree._fields, tree, strict=True):
            yield from _leaves(value, f"{label}.{key}" if label else str(key))
    elif isinstance(tree, (list, tuple)):
        for i, value in enumerate(tree):
            yield from _leaves(value, f"{label}[{i}]")
    elif tree is None:
        return
    else:
        try:
            leaf = jnp.asarray(tree, jnp.float64)
        except (TypeError, ValueError) as error:
            kind = type(tree).__name__
            raise TypeError(f"the function must return numbers, got {kind}{f' at {label}' if label else ''}") from error
        yield label, leaf


def _entry_labels(label: str, shape: tuple[int, ...]) -> list[str]:
    if shape == ():
        return [label or "value"]
    return [f"{label}[{','.join(map(str, index))}]" for index in np.ndindex(*shape)]


@dataclass(frozen=True, eq=False, repr=False)
class DeltaResult(Estimates):
    """Functions of the estimates with delta-method standard errors; prints as a table.

    Attributes:
      jacobian: (m, k) derivatives with respect to theta.
      cov_theta: (k, k) covariance of theta, or its factor.
      null_value: values under the null hypotheses of the z tests, (m,).
      df: degrees of freedom of Student's t, inf for the normal distribution.
    """

    jacobian: np.ndarray
    cov_theta: np.ndarray | Factored
    null_value: np.ndarray
    df: float = np.inf

    def cov_params(self) -> pd.DataFrame:
        """Return the covariance J V J' of the values, (m, m); NaN for values without a standard error."""
        import pandas as pd

        return pd.DataFrame(np.asarray(self._cov()), index=list(self.labels), columns=list(self.labels))

    def _cov(self) -> Host | Factored:
        """Return the covariance of the values (m, m), or its factor if that of theta is known; NaN for values without a
        standard error.
        """
        good = np.isfinite(self.jacobian).all(axis=1) & ~np.isnan(self.bse)
        found = linear_covariance(np.where(good[:, None], self.jacobian, 0.0), self.cov_theta)
        if found.factor is not None:
            return Factored(np.where(good[:, None], found.factor, np.nan))
        return np.where(good[:, None] & good[None, :], found.cov, np.nan)

    def wald_test(self, value: ArrayLike | None = None) -> WaldTest:
        """Test jointly that every value equals its null value (Wald test).

        Args:
          value: scalar or (m,) null values; those of the z tests by default.

        Returns:
          `WaldTest`; its df is the rank of the covariance.  NaN, with a ``reason``, if a value has no standard error or none has
          any sampling variation.

        Raises:
          ValueError: ``value`` is neither one number nor (m,).
        """
        null = np.broadcast_to(self.null_value if value is None else np.asarray(value, np.float64), self.params.shape)
        labels = tuple(f"{name} = {v:g}" for name, v in zip(self.labels, null, strict=True))
        why = next((n for n, e in zip(self.notes, self.bse, strict=True) if n and np.isnan(e)), "")
        return wald_test(
            np.eye(self.params.size), null, self.params, self._cov(), labels=labels, reason=why, df=self.df
        )


def nlcom(
    function: Callable[[Any], Any] | None,
    theta: ArrayLike,
    cov: ArrayLike | Factored,
    *,
    value: ArrayLike = 0.0,
    alpha: float = 0.05,
    labels: Sequence[str] | None = None,
    reason: str = "",
    df: float = np.inf,
    at: Linearised | None = None,
) -> DeltaResult:
    """Return nonlinear combinations of the estimates, with standard errors, tests and intervals (delta method).

    Args:
      function: maps theta (k,) to an array or tree of arrays with m numbers in all; pure JAX.
      theta: estimates (k,), natural scale.
      cov: covariance of theta (k, k), or its factor; a NaN affects only values that depend on it.
      value: null values of the z tests, scalar or (m,).
      alpha: 1 - coverage of the intervals.
      labels: m names; by default from dict keys and indices.
      reason: why the covariance has NaN, if known; used in the notes.
      df: degrees of freedom of Student's t; inf for the normal distribution.
      at: values and Jacobian, if known; the function may be None then, and stationary points are not told apart.

    Returns:
      `DeltaResult`.  Where the derivative is 0 but the function is not constant, a value or derivative is not finite, or a
      covariance that is used is NaN, the standard error is NaN, with a note.

    Raises:
      ValueError: shapes or numbers of labels differ from those expected, the function returns nothing, or alpha is outside
          (0, 0.5].
      TypeError: the function returns something that is not a number, or cannot be traced.

    >>> out = nlcom(lambda t: {"ratio": t[0] / t[1]}, [1.0, 2.0], [[0.04, 0.0], [0.0, 0.04]])
    >>> out.labels, out.bse.round(4).tolist(), out.conf_low.round(4).tolist()
    (('ratio',), [0.1118], [0.2809])
    """
    reach = critical_value(alpha, df)
    if at is None:
        assert function is not None
        at = linearise(function, theta)
    m, k = at.jacobian.shape
    names = at.labels if labels is None else tuple(map(str, labels))
    if len(names) != m:
        raise ValueError(f"labels: expected {m}, one per value, got {len(names)}")
    null = np.asarray(value, np.float64)
    if null.size not in (1, m):
        raise ValueError(f"value: expected a scalar or {m} null values, got shape {null.shape}")
    null = np.broadcast_to(null.ravel(), m).copy()
    cov_ = np.asarray(cov, np.float64)
    if cov_.shape != (k, k):
        raise ValueError(f"cov: expected shape ({k}, {k}), the covariance of theta, got {cov_.shape}")
    good = np.isfinite(at.jacobian).all(axis=1) & np.isfinite(at.values)
    kept = cov if isinstance(cov, Factored) else cov_
    bse = np.where(good, standard_errors(np.where(good[:, None], at.jacobian, 0.0), kept), np.nan)
    still = np.zeros(m, bool) if function is None else _stationary(function, at, np.asarray(theta, np.float64), cov_)
    notes = _notes(at, still, bse, reason)
    bse = np.where(still, np.nan, bse)
    tests = z_tests(at.values, bse, null, df=df)
    limits = at.values - reach * bse, at.values + reach * bse
    title = "Functions of the estimates (delta method)"
    return DeltaResult(title, names, at.values, bse, *tests, *limits, notes, float(alpha), at.jacobian, kept, null, df)


def nlcom_of(fit: Fit, cov: Host | Factored, function: Callable[[Any], Any], **options: Any) -> DeltaResult:
    """Return `nlcom` of a function of a fit's params (natural scale), which it may also read by entry name, p["mu[age]"].

    ``cov``: covariance of theta (p, p), or its factor; ``options``: those of `nlcom`.
    """
    space, fixed = fit.spec.space, fit.fixed
    of_params = with_addresses(function, space, [p.name for p in fit.spec.likelihood.predictors])
    return nlcom(lambda theta: of_params(space.params_from_theta(theta, fixed)), fit.theta, cov, **options)


def _notes(at: Linearised, still: Bool[Host, " m"], bse: Float[Host, " m"], reason: str) -> tuple[str, ...]:
    """Return for each value why its standard error is missing or 0, "" if there is nothing to say.

    ``still``: True where the derivative is 0 but a second-order effect remains; ``reason``: why the parameters have no
    covariance, if known.
    """
    notes = []
    for i, value in enumerate(at.values):
        if not np.isfinite(value):
            notes.append("its value at the estimate is not finite")
        elif not np.all(np.isfinite(at.jacobian[i])):
            notes.append("its derivative at the estimate is not finite")
        elif still[i]:
            notes.append(
                "its derivative is 0 at the estimate, where the delta method does not apply: use res.bootstrap()"
            )
        elif not np.any(at.jacobian[i] != 0):
            notes.append("does not depend on the parameters: standard error 0")
        elif np.isnan(bse[i]):
            notes.append(reason or "the covariance of the parameters it uses is not available")
        else:
            notes.append("")
    return tuple(notes)


def _stationary(
    function: Callable[[Any], Any], at: Linearised, theta: Float[Host, " k"], cov: Float[Host, "k k"]
) -> Bool[Host, " m"]:
    """Return True for values whose derivative is 0 but which change when all of theta moves by 0.01 standard errors up or
    down (entries without a standard error: by 1e-4 (1 + |theta|)); (m,).

    Args:
        function: function of theta, with m numbers in all.
        at: its values and Jacobian at theta.
        theta, cov: estimates (k,) and their covariance.
    """
    changed = np.zeros(at.values.shape, bool)
    flat = ~np.any(at.jacobian != 0, axis=1)
    if not flat.any() or not theta.size:
        return changed
    with np.errstate(invalid="ignore"):
        error = np.sqrt(np.diag(cov))
    step = np.where(np.isfinite(error) & (error > 0), 0.01 * error, 1e-4 * (1.0 + np.abs(theta)))
    with float64():
        for sign in (-1.0, 1.0):
            moved = _evaluated(lambda t: _vector(list(_leaves(function(t), ""))), jnp.asarray(theta + sign * step))
            if moved.shape == changed.shape:
                changed |= np.isfinite(moved) & (moved != at.values)
    return changed & flat


def exponentiated(
    which: Sequence[int], coef: np.ndarray, error: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return estimates, standard errors, lower and upper limits (r,) in which those at positions ``which`` are ratios:
    exp(coef), exp(coef) times the error, exp of the limits.

    >>> exponentiated([1], np.zeros(2), np.full(2, 0.5), -np.ones(2), np.ones(2))[1]
    array([0.5, 0.5])
    """
    coef, error, low, high = (np.array(a, np.float64) for a in (coef, error, low, high))
    at = np.asarray(which, dtype=np.int64)
    with np.errstate(over="ignore"):
        coef[at], low[at], high[at] = np.exp(coef[at]), np.exp(low[at]), np.exp(high[at])
        error[at] = coef[at] * error[at]
    return coef, error, low, high
