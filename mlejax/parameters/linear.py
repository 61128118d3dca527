r"""Linear predictors: a declared parameter replaced by coefficients of covariates.

A regressed parameter has, for row i,

    value_i = link^-1( x_i' beta + offset_i ),

with the link that its support implies: identity on the real line, log for positive numbers, the (scaled) logit between
two ends, the baseline softmax for a simplex.  Coefficients live on the link scale, so that they are free reals; each
entry of a vector has coefficients of its own, a simplex of K entries K - 1 sets (against its baseline).

McCullagh & Nelder (1989), Generalized Linear Models; Rigby & Stasinopoulos (2005), Applied Statistics 54.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from mlejax import transforms
from mlejax.parameters.declare import Declaration, Parameter
from mlejax.parameters.leaf import COEFFICIENTS, Leaf
from mlejax.parameters.links import LINKS, Link, _pair
from mlejax.parameters.space import Space
from mlejax.portable import portable
from mlejax.shapes import Either, Float, Reduced


@dataclass(frozen=True)
class Linear:
    """A parameter's linear predictor, for ``model.regress(mu=mle.Linear("age", offset="log_pop"))``.

    Args:
        formula: the right-hand side of a formula (``"age + C(region)"``, an intercept included unless ``- 1``), or the
            name of a design matrix in the data, taken as it is.
        link: ``"identity"``, ``"log"``, ``"logit"``, ``"probit"``, ``"cloglog"`` (between 0 and 1, or the ends of the
            parameter's interval), ``"inverse"``, or a pair of functions ``(link, inverse)``; None for the link that
            the parameter's support implies.
        offset: a column, or an expression such as ``"log(pop)"``, added to the linear predictor with coefficient 1.
        exposure: a positive column; its logarithm is added (log link only).
        baseline: of a simplex, the entry (number or label) that the others are compared with; the first by default.
        random: random effects on the linear predictor, as in lme4: ``"1 | patient"`` (intercepts), ``"1 + visit | patient"``
            (correlated with slopes), ``"1 + visit || patient"`` (independent of them).  They are normal with mean 0, one vector
            a patient, and are integrated out, as those of :class:`mlejax.Latent` are.  Their standard deviation is
            ``sd(mu|patient)[Intercept]``; correlated ones have the lower factor ``chol(mu|patient)`` of their covariance, and
            ``res.random_effects()`` gives standard deviations and correlations.  ``"1 | school/class"`` stands for nested
            effects, of schools and of classes within them (``mu|school``, ``mu|school:class``), ``"1 | school:class"`` for the
            latter alone.

    Example:
        >>> import mlejax as mle
        >>> mle.Linear("age + C(region)", exposure="pop")
        Linear('age + C(region)', exposure='pop')
        >>> mle.Linear("treat * visit", random="1 + visit | patient")
        Linear('treat * visit', random='1 + visit | patient')
    """

    formula: str
    link: Any = None
    offset: str | None = None
    exposure: str | None = None
    baseline: int | str | None = None
    random: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.formula, str):
            raise TypeError(
                f"Linear expected a formula such as 'age + C(region)' or the name of a design matrix in the data, "
                f"got {type(self.formula).__name__}"
            )
        for name in ("offset", "exposure"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise TypeError(
                    f"Linear({self.formula!r}, {name}=...) expected the name of a column, got {type(value).__name__}; "
                    "make it a column of the data"
                )
        if self.offset is not None and self.exposure is not None:
            raise ValueError(
                f"Linear({self.formula!r}): give offset= or exposure=, not both: an exposure is the offset log(exposure)"
            )
        link = self.link
        pair = isinstance(link, tuple) and len(link) == 2 and all(callable(f) for f in link)
        if link is not None and link not in LINKS and not pair:
            raise ValueError(
                f"Linear({self.formula!r}): link={link!r}; expected one of {', '.join(LINKS)}, or a pair of functions "
                "(link, inverse)"
            )
        if self.random is not None:
            random_part(self.random)

    def __reduce__(self) -> Reduced:
        link = tuple(map(portable, self.link)) if isinstance(self.link, tuple) else self.link
        return _linear, (self.formula, link, self.offset, self.exposure, self.baseline, self.random)

    def __repr__(self) -> str:
        names = ("link", "offset", "exposure", "baseline", "random")
        given = [f"{n}={getattr(self, n)!r}" for n in names if getattr(self, n) is not None]
        return f"Linear({', '.join([repr(self.formula), *given])})"


class RandomPart(NamedTuple):
    """What ``random="formula | by"`` says.

    Attributes:
        formula: of the columns whose coefficients vary.
        by: the columns of the units: of one factor, or of each of several nested ones, ``(("a",), ("a", "b"))`` of ``a/b``.
        correlated: one bar; two make them independent.
    """

    formula: str
    by: tuple[tuple[str, ...], ...]
    correlated: bool


def random_part(text: str) -> RandomPart:
    """The parts of ``random="1 + visit | patient"``.

    Raises:
        ValueError, TypeError: another text.
    """
    if not isinstance(text, str):
        raise TypeError(f"random= expected a text such as '1 + visit | patient', got {type(text).__name__}")
    inside = text.strip()
    inside = inside[1:-1] if inside.startswith("(") and inside.endswith(")") else inside
    formula, *rest = (part.strip() for part in re.split(r"\|\|?", inside))
    by = rest[0] if rest else ""
    if not formula or not by:
        raise ValueError(f"random={text!r}: expected columns, a bar and the column of the units, '1 + visit | patient'")
    nested = [tuple(name.strip().strip("`") for name in part.split(":")) for part in by.split("/")]
    if len(rest) > 1 or re.search(r"[+*()]", by) or not all(all(part) for part in nested):
        raise ValueError(
            f"random={text!r}: expected the columns and the column of the units, '1 + visit | patient', or nested ones, "
            "'1 | school/class', or pairs, '1 | school:class'; crossed effects are those of latents, "
            "u=mle.Latent(by='person'), v=mle.Latent(by='item')"
        )
    factors = tuple(sum(nested[: i + 1], ()) for i in range(len(nested)))
    return RandomPart(formula, factors, "||" not in inside)


def _linear(formula: str, link: Any, *more: Any) -> Linear:
    return Linear(formula, _pair(link) if isinstance(link, tuple) else link, *more)


@dataclass(frozen=True, eq=False)
class Predictor:
    """One regressed parameter: its declaration, its formula and its link.

    Attributes:
        name: of the parameter.
        parameter: as declared.
        linear: formula, offset, exposure.
        link: resolved from the support where the user gave none.
    """

    name: str
    parameter: Parameter
    linear: Linear
    link: Link

    @property
    def scalar(self) -> bool:
        return self.parameter.shape == ()

    @property
    def random(self) -> RandomPart | None:
        """Its random effects."""
        return None if self.linear.random is None else random_part(self.linear.random)

    @property
    def ratio(self) -> str:
        """What exp(coefficient) is called, or nothing."""
        return "rate ratios" if self.linear.exposure is not None else self.link.ratio

    def __str__(self) -> str:
        more = [] if self.linear.link is None else [f"link {self.link.name}"]
        names = ("offset", "exposure", "random")
        more += [f"{n} {v}" for n in names if (v := getattr(self.linear, n)) is not None]
        return f"{self.name} ~ {self.linear.formula}" + (f" [{', '.join(more)}]" if more else "")

    def linear_predictor(
        self,
        coefficients: Float[Either, "*entries k"],
        design: Float[Either, "n k"],
        offset: Float[Either, "n ..."] | None,
    ) -> Float[Either, "n ..."]:
        """eta: coefficients (*entries, k), design (n, k), offset (n,) or (n, *entries) -> (n, *entries)."""
        eta = jnp.moveaxis(coefficients @ design.T, -1, 0) if jnp.ndim(coefficients) > 1 else design @ coefficients
        if offset is None:
            return eta
        return eta + jnp.reshape(offset, (*offset.shape, *(1,) * (eta.ndim - offset.ndim)))

    def value(
        self,
        coefficients: Float[Either, "*entries k"],
        design: Float[Either, "n k"],
        offset: Float[Either, "n ..."] | None,
        random: Float[Either, "n q"] | None = None,
    ) -> Float[Either, "n ..."]:
        """The parameter's value for every row, (n, *shape).

        With columns of random effects it is what their sum is made of: the linear predictor and these columns, (n, 1 + q).
        """
        eta = self.linear_predictor(coefficients, design, offset)
        return self.link.inverse(eta) if random is None else jnp.concatenate([eta[:, None], random], axis=1)


    def coded_value(
        self,
        coefficients: Float[Either, " k"],
        design: Float[Either, "n k_design"],
        offset: Float[Either, "n ..."] | None,
        levels: Float[Either, "n m"],
        places: Sequence[tuple[int, int]],
    ) -> Float[Either, " n"]:
        """The parameter's value for every row where m factors are known by their levels.

        Args:
            coefficients: all of them.
            design: the columns of the others.
            offset: of the linear predictor, or None.
            levels: 0 where a factor adds nothing, j for its j-th coefficient.
            places: of each factor the first of its coefficients, and how many there are.
        """
        rest, at = [], 0
        for start, count in sorted(places):
            rest.append(coefficients[at:start])
            at = start + count
        eta = self.linear_predictor(jnp.concatenate([*rest, coefficients[at:]]), design, offset)
        for j, (start, count) in enumerate(places):
            code = levels[:, j].astype(int)
            own = jnp.asarray(coefficients[start : start + count]).at[jnp.maximum(code - 1, 0)].get(mode="clip")
            eta = eta + jnp.where(code > 0, own, 0.0)
        return self.link.inverse(eta)


def predictor(name: str, declared: Mapping[str, Declaration], given: Any) -> Predictor:
    """What ``regress(name=given)`` means for a declared parameter.

    Raises:
        ValueError, TypeError: no such parameter, a structure that has no link, a link that does not fit.
    """
    linear = Linear(given) if isinstance(given, str) else given
    if not isinstance(linear, Linear):
        raise TypeError(
            f"regress({name}=...) expected a formula such as 'age + C(region)', the name of a design matrix, or "
            f"mle.Linear(...), got {type(given).__name__}"
        )
    parameter = declared[name]
    if not isinstance(parameter, Parameter) or isinstance(
        parameter.transform, (transforms.Ordered, transforms.Triangular)
    ):
        raise ValueError(
            f"regress({name}=...): {parameter!r} cannot be regressed; Real, Positive, NonNegative, Interval and Simplex "
            "can (for ordered cut points regress the location, for a covariance its standard deviations)"
        )
    return Predictor(name, parameter, linear, _link(name, parameter, linear))


def _link(name: str, parameter: Parameter, linear: Linear) -> Link:
    t = parameter.transform
    simplex = isinstance(t, transforms.Simplex)
    wanted = linear.link
    if simplex != (wanted == "softmax") and (wanted is not None):
        raise ValueError(
            f"regress({name}=...): a Simplex has the softmax link and nothing else has it; got link={wanted!r} for "
            f"{parameter!r}"
        )
    if linear.baseline is not None and not simplex:
        raise ValueError(f"regress({name}=...): baseline= is for a Simplex; {name} is declared {parameter!r}")
    lo, hi = float(getattr(t, "lo", 0.0)), float(getattr(t, "hi", math.inf))
    bounded = math.isfinite(lo) and math.isfinite(hi)
    if simplex:
        found = Link("softmax", baseline=_baseline(name, parameter, linear.baseline))
    elif isinstance(wanted, tuple):
        found = Link("custom", pair=wanted)
    else:
        positive = isinstance(t, transforms.Log) or (lo == 0.0 and isinstance(t, transforms.Box) and not bounded)
        plain = "log" if positive else "logit" if bounded else "identity"
        found = Link(wanted or plain, *((lo, hi) if bounded else ()))
    if linear.exposure is not None and found.name != "log":
        raise ValueError(
            f"regress({name}=...): exposure= adds log(exposure), which has a meaning with the log link only; {name} has the "
            f"{found.name} link.  Use offset= for a column that is added as it is"
        )
    return found


def _baseline(name: str, parameter: Parameter, given: int | str | None) -> int:
    if given is None:
        return 0
    labels, size = parameter.labels or (), parameter.shape[-1] if parameter.shape else None
    if isinstance(given, str) and given in labels:
        return labels.index(given)
    if isinstance(given, int) and size is not None and -size <= given < size:
        return given % size
    known = list(labels) if labels else f"0 to {size - 1}" if size else "the entries of a declared shape="
    raise ValueError(f"regress({name}=...): baseline={given!r} is no entry of {parameter!r}; expected one of {known}")


def coefficient_leaf(of: Predictor, natural: Leaf, labels: Sequence[str] | None, k: int) -> Leaf:
    """The layout of a regressed parameter's coefficients, (k,) or (*entries, k), from that of its natural value.

    Labels are those of the design's columns; for a vector, ``beta[2][age]``.
    """
    shown = tuple(labels) if labels is not None else None
    if not natural.shape:
        return Leaf(of.name, COEFFICIENTS, transforms.Identity(), (k,), shown)
    shape, suffixes = natural.shape, [natural.suffix(i)[1:-1] for i in range(natural.size)]
    if of.link.name == "softmax":
        keep = [i for i in range(shape[-1]) if i != of.link.baseline]
        suffixes = np.asarray(suffixes, dtype=object).reshape(shape)[..., keep].reshape(-1).tolist()
        shape = (*shape[:-1], shape[-1] - 1)
    shown = shown if shown is not None else tuple(str(j) for j in range(k))
    return Leaf(of.name, COEFFICIENTS, transforms.Identity(), (*shape, k), shown, entries=tuple(suffixes))


def with_coefficients(
    natural: Space, predictors: Sequence[Predictor], columns: Mapping[str, tuple[Sequence[str] | None, int]]
) -> Space:
    """The layout in which coefficients replace the regressed parameters.

    Args:
        natural: the layout of the parameters as declared.
        predictors: the regressed ones.
        columns: for each of them the labels (or None) and the number of columns of its design.
    """
    by_name = {p.name: p for p in predictors}
    leaves = tuple(
        coefficient_leaf(by_name[leaf.name], leaf, *columns[leaf.name]) if leaf.name in by_name else leaf
        for leaf in natural.leaves
    )
    return replace(natural, leaves=leaves)
