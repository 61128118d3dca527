"""Declarations of continuous latent variables, and methods to integrate them out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlejax import transforms
from mlejax.misuse import constructor
from mlejax.parameters import Declaration, Parameter
from mlejax.portable import reduced
from mlejax.shapes import Reduced

MOST_LATENT = 8  # most latent variables of a unit, since small systems are solved entry by entry
MOST_DIMENSIONS = 3  # most dimensions of quadrature, whose points are a grid
MOST_POINTS = 201


@constructor
@dataclass(frozen=True, eq=False, repr=False)
class Latent:
    """Declare a latent variable, one value (or vector) for each level of a column; it is integrated out.

    Declared like a parameter of a row-wise model, ``u=mle.Latent(by="patient")`` is u ~ N(0, 1), independent between patients.
    The user's function reads ``params["u"]``, an array with one entry (or vector) per row, the same in all rows of a
    patient, and multiplies it by a standard deviation parameter.  The log-likelihood of a patient is

        log int prod_j f(y_j | params, u) phi(u) du,

    one term of the log-likelihood: weights, clusters and resampling apply to patients.

    Args:
        shape: ``()``, or the length of a vector, at most 8.
        by: the column whose levels have one value each; or several columns, ``by=("school", "class")``: one value for each
            combination that occurs, a class within its school.  Latent variables of different ``by=`` may be nested or crossed;
            then they are integrated out by Laplace's approximation, and the terms of the log-likelihood are the groups of rows
            that share no level: the schools, or all rows together if persons and items are crossed.
        law: distribution: ``"normal"``: independent standard normal entries.  A pure JAX function ``law(u, params)`` -> log
            density of one value (of declared shape).  None: the user's function includes the density in its values, once for
            each level.
        cov: the name of the parameter of a vector's covariance: ``mle.Covariance(shape=q)``, ``mle.Cholesky(shape=q)``
            (Cholesky factor, whose diagonal may be 0), or ``mle.NonNegative(shape=q)`` (standard deviations of independent
            entries), for ``law="normal"`` only.  ``params["u"]`` is then the Cholesky factor times standard normal entries.
            None: the identity matrix.
        labels: names of the entries of a vector, all different, for tables; None: their numbers.

    Raises:
        ValueError, TypeError: a shape, column, distribution or covariance is not valid or not supported.

    Example:
        >>> import jax.numpy as jnp, mlejax as mle
        >>> from jax.scipy.stats import poisson
        >>> @mle.model(mu=mle.Real(), sd=mle.NonNegative(), u=mle.Latent(by="site"))
        ... def counts(params, data):
        ...     return poisson.logpmf(data["y"], jnp.exp(params["mu"] + params["sd"] * params["u"]))
        >>> res = counts.fit({"y": [3, 4, 2, 9, 8, 11, 1, 1, 0, 5], "site": list("aaabbbcccd")})
        >>> res.params.round(3).tolist()
        [1.192, 0.832]
    """

    shape: tuple[int, ...] = ()
    by: Any = None
    law: str | Callable[..., Any] | None = "normal"
    cov: str | None = None
    labels: tuple[str, ...] | None = None

    def __init__(
        self,
        shape: int | Sequence[int] = (),
        *,
        by: str | Sequence[str],
        law: str | Callable[..., Any] | None = "normal",
        cov: str | None = None,
        labels: Sequence[str] | None = None,
    ) -> None:
        shape = (int(shape),) if isinstance(shape, (int, np.integer)) else tuple(shape)
        if len(shape) > 1 or any(s < 1 for s in shape):
            raise ValueError(f"Latent: expected shape=() or the length of a vector, got shape={shape}")
        if math.prod(shape) > MOST_LATENT:
            raise ValueError(
                f"Latent: expected at most {MOST_LATENT} entries for each level of by=, got shape={shape}"
            )
        by = tuple(by) if isinstance(by, (list, tuple)) and len(by) > 1 else by
        names = by if isinstance(by, tuple) else (by,)
        if not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
            raise TypeError(f"Latent: by= expected the name of a column, or different names of several, got {by!r}")
        if law is not None and law != "normal" and not callable(law):
            raise ValueError(f"Latent: law= expected 'normal', a function law(u, params), or None, got {law!r}")
        if cov is not None and (not isinstance(cov, str) or len(shape) != 1 or law != "normal"):
            raise ValueError(
                f"Latent: cov= names the covariance parameter of a normal vector, Latent(shape=2, by=..., cov='Sigma'); got "
                f"cov={cov!r} with shape={shape} and law={law!r}"
            )
        labels = None if labels is None else tuple(map(str, labels))
        if labels is not None and (not shape or len(set(labels)) != shape[0]):
            raise ValueError(f"Latent: labels= expected a different name for each entry of shape={shape}, got {labels}")
        given = {"shape": shape, "by": by, "law": law, "cov": cov, "labels": labels}
        for name, value in given.items():
            object.__setattr__(self, name, value)

    def __reduce__(self) -> Reduced:
        return reduced(self, *(["law"] if callable(self.law) else []))

    def __repr__(self) -> str:
        shape = f"{self.shape[0]}, " if self.shape else ""
        law = "" if self.law == "normal" else f", law={self.law if self.law is None else '...'}"
        return f"Latent({shape}by={self.by!r}{law}{'' if self.cov is None else f', cov={self.cov!r}'})"

    @property
    def factor(self) -> tuple[str, ...]:
        """Names of the columns whose combined values are the levels of the latent variable."""
        return self.by if isinstance(self.by, tuple) else (self.by,)

    @property
    def size(self) -> int:
        """Number of entries of the latent variable for one level."""
        return math.prod(self.shape)

    def addresses(self, name: str) -> list[str]:
        """Return the names of the entries of the latent variable called ``name``: ``u``, or for a vector ``u[Intercept]``,
        ``u[visit]`` by its labels, without labels ``u[0]``, ``u[1]``.
        """
        return [f"{name}[{label}]" for label in self.labels or range(self.shape[0])] if self.shape else [name]


@constructor
@dataclass(frozen=True)
class Quadrature:
    """Integrate by adaptive Gauss-Hermite quadrature with a given number of points, for
    ``fit(integrate=mle.Quadrature(15))``.

    The points of each unit are centred at the mode of its integrand and scaled by the curvature there (Pinheiro & Bates 1995).
    The estimates maximise this approximation, with points that change with the parameters.

    Args:
        points: number of points in each dimension, 1 to 201; with q latent variables the integrand is evaluated at
            ``points ** q`` points.

    Raises:
        ValueError: ``points`` is not an integer from 1 to 201.

    Example:
        >>> import mlejax as mle
        >>> mle.Quadrature(15)
        Quadrature(points=15)
    """

    points: int
    fixed_mode: bool = field(default=False, repr=False)  # derivatives treat the points as constants

    def __post_init__(self) -> None:
        if isinstance(self.points, bool) or not isinstance(self.points, (int, np.integer)):
            raise ValueError(f"Quadrature: expected a whole number of points, got {self.points!r}")
        if not 1 <= self.points <= MOST_POINTS:
            raise ValueError(f"Quadrature: expected 1 to {MOST_POINTS} points, got {self.points}")
        object.__setattr__(self, "points", int(self.points))


LAPLACE = Quadrature(1)  # quadrature with one point, at the mode, is Laplace's approximation
DEFAULT = {1: Quadrature(15), 2: Quadrature(9), 3: Quadrature(7)}  # by number of latent variables, if points are not chosen


def factors_of(latents: Mapping[str, Latent]) -> tuple[tuple[str, ...], ...]:
    """Return the grouping factors of latent variables, each as a tuple of columns, in order of first occurrence."""
    return tuple(dict.fromkeys(latent.factor for latent in latents.values()))


def unit_of(latents: Mapping[str, Latent]) -> str:
    """Return the column of units (terms of the log-likelihood), in which all levels are nested.

    If there is none, a name made of the factors, ``person and item``; for levels of one combination of columns
    ``school:class``.
    """
    factors = factors_of(latents)
    if len(factors) == 1:
        return ":".join(factors[0])
    outer = [factor[0] for factor in factors if len(factor) == 1 and all(factor[0] in other for other in factors)]
    return outer[0] if outer else " and ".join(":".join(factor) for factor in factors)


def check_latents(
    latents: Mapping[str, Latent], parameters: Mapping[str, Declaration], rowwise: bool, unit: str | None
) -> None:
    """Raise ValueError if a model cannot have these latent variables.

    The reasons are: the model has ``unit=`` or ``rowwise=False``; nested or crossed latent variables are not normal; a
    covariance parameter is not declared, or is of another kind or shape; or the latent variables have more than 8 entries in
    all.
    """
    name, first = next(iter(latents.items()))
    if unit is not None:
        raise ValueError(
            f"unit={unit!r} and {name}=mle.Latent(by={first.by!r}) cannot be combined: a model with latent variables is "
            "a function "
            "of rows, and the levels of by= are its units.  Leave out unit=, and return one value per row"
        )
    if not rowwise:
        raise ValueError(
            f"rowwise=False and {name}=mle.Latent(...) cannot be combined: rows must be independent given the latent variables; "
            "leave out rowwise=False, and return one value per row"
        )
    for other, latent in latents.items():
        if latent.law != "normal" and len(factors_of(latents)) > 1:
            raise ValueError(
                f"{other}: nested or crossed latents (here of {unit_of(latents)}) need law='normal', got {latent!r}"
            )
        if latent.cov is not None:
            _check_covariance(other, latent, parameters)
    total = sum(latent.size for latent in latents.values())
    if total > MOST_LATENT:
        raise ValueError(
            f"{', '.join(latents)}: expected at most {MOST_LATENT} latent variables for each row, got {total}"
        )


def _check_covariance(name: str, latent: Latent, parameters: Mapping[str, Declaration]) -> None:
    declared = parameters.get(str(latent.cov))
    q, kinds = latent.size, (transforms.Covariance, transforms.Cholesky, transforms.Box, transforms.Log)
    if not isinstance(declared, Parameter) or not isinstance(declared.transform, kinds):
        raise ValueError(
            f"{name}: cov={latent.cov!r} expected the name of a parameter declared mle.Covariance(shape={q}), "
            f"mle.Cholesky(shape={q}) or mle.NonNegative(shape={q}), got {declared!r}"
        )
    shape = (q, q) if isinstance(declared.transform, transforms.Triangular) else (q,)
    if declared.shape != shape:
        raise ValueError(f"{name}: {latent.cov} has shape {declared.shape}, expected {shape} for a vector of {q}")
