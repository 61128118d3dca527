r"""The delta method: standard errors of functions of the estimates.

For g(theta) with Jacobian J at the estimate, and covariance V of the estimates,

.. math:: Var\, g(\hat\theta) \approx J V J', \qquad J = \partial g / \partial\theta',

by forward-mode differentiation in float64. It is a first-order approximation: a derivative of exactly 0 gives a
standard error of exactly 0, which is right for a constant and useless at a stationary point (theta squared at 0), so
the two are told apart by moving theta a little, and the second gets NaN with the reason.

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

from mlejax.inference.contrasts import small_table
from mlejax.inference.intervals import check_alpha, critical_value, two_sided_p
from mlejax.inference.wald import WaldTest, linear_covariance, standard_errors, wald_test

if TYPE_CHECKING:
    import pandas as pd

_CONSTANT = "does not depend on the parameters: standard error 0"
_STATIONARY = "its derivative is 0 at the estimate, where the delta method says nothing: use a profile or the bootstrap"
_NO_DERIVATIVE = "its derivative at the estimate is not finite"
_NOT_FINITE = "its value at the estimate is not finite"
_NO_COVARIANCE = "the covariance of the parameters it uses is not available"


class Linearised(NamedTuple):
    """A function at one point.

    Attributes:
      values: (m,) values, all leaves in order.
      jacobian: (m, k).
      labels: m strings such as ``ratio``, ``ratio[1]``.
    """

    values: np.ndarray
    jacobian: np.ndarray
    labels: tuple[str, ...]


def linearise(function: Callable[[Any], Any], theta: ArrayLike) -> Linearised:
    """Values, Jacobian and labels of a function of theta, in float64.

    Args:
      function: theta (k,) -> array, scalar, or nested dict, list or tuple of them; differentiable by JAX.
      theta: (k,) point.

    Returns:
      `Linearised`. Dicts keep the order in which they were written.

    Raises:
      ValueError: the function returns nothing, or theta is not a vector.
      TypeError: the function returns something that is not a number.

    >>> out = linearise(lambda t: {"ratio": t[0] / t[1], "both": t}, [1.0, 2.0])
    >>> out.labels, out.jacobian[0].tolist()
    (('ratio', 'both[0]', 'both[1]'), [0.5, -0.25])
    """
    point = np.asarray(theta, np.float64)
    if point.ndim != 1:
        raise ValueError(f"theta: expected a vector (k,), got shape {point.shape}")
    labels: list[str] = []

    def flat(t: Any) -> tuple[Any, Any]:
        leaves = list(_leaves(function(t), ""))
        labels[:] = [text for label, leaf in leaves for text in _entry_labels(label, np.shape(leaf))]
        vector = jnp.concatenate([jnp.ravel(leaf) for _, leaf in leaves]) if leaves else jnp.zeros(0)
        return vector, vector

    with jax.enable_x64(True):
        t = jnp.asarray(point, jnp.float64)
        if point.size:
            jacobian, values = jax.jacfwd(flat, has_aux=True)(t)
        else:
            values, jacobian = flat(t)[0], jnp.zeros((len(labels), 0))
        values, jacobian = np.asarray(values, np.float64), np.asarray(jacobian, np.float64)
    if values.size == 0:
        raise ValueError("the function returns no numbers: expected an array or a dict of arrays")
    return Linearised(values, jacobian, tuple(labels))


def _leaves(tree: Any, label: str) -> Any:
    """(label, float64 array) pairs; dicts in the user's own order, which jax.tree would sort."""
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
            raise TypeError(f"the function must return numbers: got {kind} at {label or 'the top'}") from error
        yield label, leaf


def _entry_labels(label: str, shape: tuple[int, ...]) -> list[str]:
    if shape == ():
        return [label or "value"]
    return [f"{label}[{','.join(map(str, index))}]" for index in np.ndindex(*shape)]


def delta_method(function: Callable[[Any], Any], theta: ArrayLike, cov: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Values of a function of the estimates, and their covariance J V J'.

    Args:
      function: theta (k,) -> array or tree of arrays with m numbers in all.
      theta: (k,) estimates, natural scale.
      cov: (k, k) covariance; a NaN spoils only what depends on it.

    Returns:
      (values (m,), covariance (m, m)), NumPy float64.

    Raises:
      ValueError: shapes that do not fit.

    >>> value, cov = delta_method(lambda t: t[0] / t[1], [1.0, 2.0], [[0.04, 0.0], [0.0, 0.04]])
    >>> value.tolist(), round(float(cov[0, 0]), 6)
    ([0.5], 0.0125)
    """
    at = linearise(function, theta)
    return at.values, _propagated(at.jacobian, cov)


def _checked_covariance(jacobian: np.ndarray, cov: ArrayLike) -> np.ndarray:
    cov_, k = np.asarray(cov, np.float64), jacobian.shape[1]
    if cov_.shape != (k, k):
        raise ValueError(f"cov: expected shape ({k}, {k}), the covariance of theta, got {cov_.shape}")
    return cov_


def _propagated(jacobian: np.ndarray, cov: ArrayLike) -> np.ndarray:
    cov_ = _checked_covariance(jacobian, cov)
    good = np.isfinite(jacobian).all(axis=1)
    result = linear_covariance(np.where(good[:, None], jacobian, 0.0), cov_).cov
    result[~good, :] = np.nan
    result[:, ~good] = np.nan
    return result


@dataclass(frozen=True, eq=False)
class DeltaResult:
    """Functions of the estimates with delta-method standard errors.

    Attributes:
      labels: m names, from dict keys and indices.
      estimate: (m,) values at the estimate.
      jacobian: (m, k) derivatives with respect to theta.
      cov_theta: (k, k) covariance of theta.
      std_error: (m,) standard errors.
      null_value: (m,) values that z tests against.
      statistic: (m,) z (or t) statistics; NaN where the standard error is NaN or 0.
      p_value: (m,) two-sided.
      conf_low: (m,) lower limits, symmetric on the natural scale.
      conf_high: (m,) upper limits.
      notes: m strings, empty where there is nothing to say.
      alpha: 1 - coverage.
      df: degrees of freedom of Student's t, or None for the normal distribution.
    """

    labels: tuple[str, ...]
    estimate: np.ndarray
    jacobian: np.ndarray
    cov_theta: np.ndarray
    std_error: np.ndarray
    null_value: np.ndarray
    statistic: np.ndarray
    p_value: np.ndarray
    conf_low: np.ndarray
    conf_high: np.ndarray
    notes: tuple[str, ...]
    alpha: float = 0.05
    df: float | None = None

    @property
    def cov(self) -> np.ndarray:
        """(m, m) covariance of the values, formed when asked for; NaN where it does not exist."""
        result = _propagated(self.jacobian, self.cov_theta)
        lost = np.isnan(self.std_error)
        result[lost, :] = np.nan
        result[:, lost] = np.nan
        return result

    def table(self) -> pd.DataFrame:
        """One row per value: estimate, std_error, z, p_value, conf_low, conf_high, note."""
        import pandas as pd

        columns: dict[str, Any] = {
            "estimate": self.estimate,
            "std_error": self.std_error,
            "z": self.statistic,
            "p_value": self.p_value,
            "conf_low": self.conf_low,
            "conf_high": self.conf_high,
            "note": list(self.notes),
        }
        return pd.DataFrame(columns, index=pd.Index(list(self.labels), name="term"))

    def wald_test(self, value: ArrayLike | None = None, *, df_denom: float | None = None) -> WaldTest:
        """Joint Wald test that every function equals its null value.

        Args:
          value: scalar or (m,) null values; the result's own `null_value` by default.
          df_denom: denominator degrees of freedom, for F instead of chi2.

        Returns:
          `WaldTest`; its df is the rank of the covariance.
        """
        null = np.broadcast_to(self.null_value if value is None else np.asarray(value, np.float64), self.estimate.shape)
        labels = tuple(f"{name} = {v:g}" for name, v in zip(self.labels, null, strict=True))
        why = next((n for n, e in zip(self.notes, self.std_error, strict=True) if n and np.isnan(e)), "")
        identity = np.eye(self.estimate.size)
        return wald_test(identity, null, self.estimate, self.cov, df_denom=df_denom, labels=labels, reason=why)

    def summary(self) -> str:
        """The table as text."""
        rows = (self.estimate, self.std_error, self.conf_low, self.conf_high)
        letter = "z" if self.df is None else "t"
        title = "Functions of the estimates (delta method)"
        return small_table(title, self.labels, rows, self.statistic, self.p_value, self.notes, self.alpha, letter)

    def __repr__(self) -> str:
        return self.summary()


def nlcom(
    function: Callable[[Any], Any],
    theta: ArrayLike,
    cov: ArrayLike,
    *,
    value: ArrayLike = 0.0,
    alpha: float = 0.05,
    labels: Sequence[str] | None = None,
    df: float | None = None,
    reason: str = "",
) -> DeltaResult:
    """Nonlinear combinations of the estimates, with standard errors, tests and intervals.

    Args:
      function: theta (k,) -> array or tree of arrays with m numbers in all.
      theta: (k,) estimates, natural scale.
      cov: (k, k) covariance; a NaN spoils only what depends on it.
      value: scalar or (m,) null values of the z tests.
      alpha: 1 - coverage of the intervals.
      labels: m names; from dict keys and indices by default.
      df: degrees of freedom of Student's t; None for the normal distribution.
      reason: why the covariance has NaN, if the caller knows.

    Returns:
      `DeltaResult`.

    Raises:
      ValueError: shapes or labels that do not fit, alpha outside (0, 1).

    >>> out = nlcom(lambda t: {"ratio": t[0] / t[1]}, [1.0, 2.0], [[0.04, 0.0], [0.0, 0.04]])
    >>> out.labels, out.std_error.round(4).tolist(), out.conf_low.round(4).tolist()
    (('ratio',), [0.1118], [0.2809])
    """
    check_alpha(alpha)
    at = linearise(function, theta)
    m = at.values.size
    names = at.labels if labels is None else tuple(map(str, labels))
    if len(names) != m:
        raise ValueError(f"labels: expected {m}, one per value, got {len(names)}")
    null = np.asarray(value, np.float64)
    if null.size not in (1, m):
        raise ValueError(f"value: expected a scalar or {m} null values, got shape {null.shape}")
    null = np.broadcast_to(null.ravel(), m).copy()
    cov_ = _checked_covariance(at.jacobian, cov)
    good = np.isfinite(at.jacobian).all(axis=1) & np.isfinite(at.values)
    error = np.where(good, standard_errors(np.where(good[:, None], at.jacobian, 0.0), cov_), np.nan)
    notes = _notes(function, at, np.asarray(theta, np.float64), cov_, error, reason)
    error = np.where([note == _STATIONARY for note in notes], np.nan, error)
    usable = np.isfinite(error) & (error > 0)
    statistic = np.where(usable, (at.values - null) / np.where(usable, error, 1.0), np.nan)
    reach = critical_value(alpha, df) * error
    low, high = at.values - reach, at.values + reach
    p_value = two_sided_p(statistic, df)
    numbers = (error, null, statistic, p_value, low, high)
    return DeltaResult(names, at.values, at.jacobian, cov_, *numbers, notes, float(alpha), df)


def _notes(
    function: Callable[[Any], Any],
    at: Linearised,
    theta: np.ndarray,
    cov: np.ndarray,
    error: np.ndarray,
    reason: str,
) -> tuple[str, ...]:
    flat = ~np.any(at.jacobian != 0, axis=1)
    moves = _moves(function, at, theta, cov) if flat.any() and theta.size else np.zeros(flat.shape, bool)
    notes = []
    for i, value in enumerate(at.values):
        if not np.isfinite(value):
            notes.append(_NOT_FINITE)
        elif not np.all(np.isfinite(at.jacobian[i])):
            notes.append(_NO_DERIVATIVE)
        elif flat[i]:
            notes.append(_STATIONARY if moves[i] else _CONSTANT)
        else:
            notes.append((reason or _NO_COVARIANCE) if np.isnan(error[i]) else "")
    return tuple(notes)


def _moves(function: Callable[[Any], Any], at: Linearised, theta: np.ndarray, cov: np.ndarray) -> np.ndarray:
    """Whether each value changes when theta moves by a hundredth of a standard error in either direction."""
    with np.errstate(invalid="ignore"):
        error = np.sqrt(np.diag(cov))
    step = np.where(np.isfinite(error) & (error > 0), 0.01 * error, 1e-4 * (1.0 + np.abs(theta)))
    changed = np.zeros(at.values.shape, bool)
    with jax.enable_x64(True):
        for sign in (-1.0, 1.0):
            tree = function(jnp.asarray(theta + sign * step, jnp.float64))
            moved = np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for _, leaf in _leaves(tree, "")])
            if moved.shape == changed.shape:
                changed |= np.isfinite(moved) & (moved != at.values)
    return changed
