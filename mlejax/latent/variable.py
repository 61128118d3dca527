"""Declarations of latent variables, and how they are integrated out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlejax import transforms
from mlejax.parameters import Declaration, Parameter

MOST_LATENT = 8  # numbers of a unit: small systems are solved entry by entry
MOST_DIMENSIONS = 3  # of quadrature, whose points are a grid
MOST_POINTS = 201


@dataclass(frozen=True, eq=False, repr=False)
class Latent:
    """Declare a variable that is not observed, one value (or vector) for each level of a column; it is integrated out.

    Beside the parameters of a model by rows, ``u=mle.Latent(by="patient")`` stands for u ~ N(0, 1), one a patient,
    independent of one another.  The function reads ``params["u"]``, an array with one entry (or vector) per row, the
    same in all rows of a patient, and multiplies it by a standard deviation of its own.  The log-likelihood of a patient is

        log int prod_j f(y_j | params, u) phi(u) du,

    one contribution of the model: weights, clusters and resampling are by patient.

    Args:
        shape: ``()``, or the length of a vector, at most 8.
        by: the column that says which rows share a value; or several, ``by=("school", "class")``: one value for each pair of
            their values that occurs, a class within its school.  Latents of different ``by=`` may be nested or crossed; then
            they are integrated out by Laplace's approximation, and the contributions of the model are the parts of the data
            that no latent connects: the schools, or all rows together where persons and items are crossed.
        law: ``"normal"``: independent standard normal entries.  A function ``law(u, params)`` -> log density of one value,
            pure JAX.  None: the density is among the values that the function returns.
        cov: the name of a parameter that gives a vector its covariance: ``mle.Covariance(shape=q)``, or
            ``mle.Cholesky(shape=q)``, the lower factor, whose diagonal may end at 0, or ``mle.NonNegative(shape=q)``, standard
            deviations of independent entries.  ``params["u"]`` is then the factor times standard normal entries.  None: the
            identity.
        labels: names of the entries of a vector, for tables.

    Raises:
        ValueError, TypeError: a shape, column, law or covariance that is none, or one that is not offered.

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
                f"Latent: at most {MOST_LATENT} numbers for each level of by= are integrated out, got shape={shape}"
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

    def __repr__(self) -> str:
        shape = f"{self.shape[0]}, " if self.shape else ""
        law = "" if self.law == "normal" else f", law={self.law if self.law is None else '...'}"
        return f"Latent({shape}by={self.by!r}{law}{'' if self.cov is None else f', cov={self.cov!r}'})"

    @property
    def factor(self) -> tuple[str, ...]:
        """The columns of its levels."""
        return self.by if isinstance(self.by, tuple) else (self.by,)

    @property
    def size(self) -> int:
        """The number of entries."""
        return math.prod(self.shape)

    def addresses(self, name: str) -> list[str]:
        """``u``, or ``u[Intercept]``, ``u[visit]``."""
        return [f"{name}[{label}]" for label in self.labels or range(self.shape[0])] if self.shape else [name]


@dataclass(frozen=True)
class Quadrature:
    """Adaptive Gauss-Hermite quadrature with a given number of points, for ``fit(integrate=mle.Quadrature(15))``.

    The points of each unit lie around the mode of its integrand, on the scale of the curvature there (Pinheiro & Bates 1995).
    The estimates are the maximum of this approximation, points moving with the parameters.

    Args:
        points: for each dimension, 1 to 201; the integrand of q latent numbers is evaluated at ``points ** q``.

    Raises:
        ValueError: another number of points.

    Example:
        >>> import mlejax as mle
        >>> mle.Quadrature(15)
        Quadrature(points=15)
    """

    points: int
    held: bool = field(default=False, repr=False)  # derivatives leave out how the points move

    def __post_init__(self) -> None:
        if isinstance(self.points, bool) or not isinstance(self.points, (int, np.integer)):
            raise ValueError(f"Quadrature: expected a whole number of points, got {self.points!r}")
        if not 1 <= self.points <= MOST_POINTS:
            raise ValueError(f"Quadrature: expected 1 to {MOST_POINTS} points, got {self.points}")
        object.__setattr__(self, "points", int(self.points))


LAPLACE = Quadrature(1)  # one point, at the mode: the same number
DEFAULT = {1: Quadrature(15), 2: Quadrature(9), 3: Quadrature(7)}  # by number of latents, where no check chooses


def factors_of(latents: Mapping[str, Latent]) -> tuple[tuple[str, ...], ...]:
    """The different columns, or sets of columns, that latents belong to, in order."""
    return tuple(dict.fromkeys(latent.factor for latent in latents.values()))


def unit_of(latents: Mapping[str, Latent]) -> str:
    """What the contributions of a model belong to: a column in which all levels of latents are nested, or a name for parts."""
    factors = factors_of(latents)
    if len(factors) == 1:
        return ":".join(factors[0])
    outer = [factor[0] for factor in factors if len(factor) == 1 and all(factor[0] in other for other in factors)]
    return outer[0] if outer else " and ".join(":".join(factor) for factor in factors)


def check_latents(
    latents: Mapping[str, Latent], parameters: Mapping[str, Declaration], rowwise: bool, unit: str | None
) -> None:
    """Raise ValueError for latents of a model that is not by rows, or with a covariance that is none."""
    name, first = next(iter(latents.items()))
    if unit is not None:
        raise ValueError(
            f"unit={unit!r} and {name}=mle.Latent(by={first.by!r}) exclude one another: a model with latents is a function of "
            "rows, and the levels of by= are its units.  Leave out unit=, and return one value per row"
        )
    if not rowwise:
        raise ValueError(
            f"rowwise=False and {name}=mle.Latent(...) exclude one another: given the latents, rows are independent; return "
            "one value per row"
        )
    for other, latent in latents.items():
        if latent.law != "normal" and len(factors_of(latents)) > 1:
            raise ValueError(
                f"{other}: latents that are nested or crossed, here of {unit_of(latents)}, have law='normal', got {latent!r}"
            )
        if latent.cov is not None:
            _check_covariance(other, latent, parameters)
    total = sum(latent.size for latent in latents.values())
    if total > MOST_LATENT:
        raise ValueError(
            f"{', '.join(latents)}: at most {MOST_LATENT} latent numbers for each row are integrated out, got {total}"
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
