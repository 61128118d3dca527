r"""Linear predictors: a declared parameter with a formula is replaced by coefficients of covariates.

A parameter with a formula has, for row i, the value

    value_i = link^-1( x_i' beta + offset_i ),

with the link that its support implies: identity on the real line, log for positive numbers, the (scaled) logit between
two ends, the baseline softmax for a simplex.  Coefficients are on the link scale and unconstrained; each entry of a vector
has its own coefficients, a simplex of K entries has K - 1 sets (against its baseline).

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
from jax import lax

from mlejax import transforms
from mlejax.misuse import constructor
from mlejax.parameters.declare import Declaration, Parameter
from mlejax.parameters.leaf import COEFFICIENTS, Leaf
from mlejax.parameters.links import LINKS, Link
from mlejax.parameters.space import Space
from mlejax.portable import reduced
from mlejax.shapes import Either, Float, Reduced


@constructor
@dataclass(frozen=True)
class Linear:
    """A formula for a parameter, for ``model.regress(mu=mle.Linear("age", offset="log_pop"))``.

    Args:
        formula: the right-hand side of a formula (``"age + C(region)"``, with an intercept unless ``- 1``), or the
            name of a design matrix in the data, used unchanged.
        link: ``"identity"``, ``"log"``, ``"logit"``, ``"probit"``, ``"cloglog"`` (between 0 and 1, or the ends of the
            parameter's interval), ``"inverse"``, or a pair of functions ``(link, inverse)``; None for the link that
            the parameter's support implies.
        offset: name of a column, or an expression such as ``"log(pop)"``, added to the linear predictor with coefficient 1.
        exposure: name of a positive column, whose logarithm is added to the linear predictor (log link only).
        baseline: for a simplex, the reference entry (position or label); the first by default.
        random: random effects on the linear predictor, as in lme4: ``"1 | patient"`` (intercepts), ``"1 + visit | patient"``
            (intercepts and correlated slopes), ``"1 + visit || patient"`` (independent slopes).  They are normal with mean 0, one
            vector for each patient, and are integrated out as a :class:`mlejax.Latent`.  The parameters are standard deviations
            ``sd(mu|patient)[Intercept]``, for correlated effects the Cholesky factor ``chol(mu|patient)`` of their covariance;
            ``res.random_effects()`` gives standard deviations and correlations.  ``"1 | school/class"`` are nested effects of
            schools and of classes within schools (``mu|school``, ``mu|school:class``), ``"1 | school:class"`` only the latter.
            Effects of several columns stand in parentheses, ``"(1 + age | person) + (1 | item)"``.

    Raises:
        TypeError: ``formula``, ``offset``, ``exposure`` or ``random`` is not a string.
        ValueError: both ``offset`` and ``exposure``, an unknown link, or ``random`` of another form.  Formulas are parsed by
            ``model.regress``.

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
            both = "give offset= or exposure=, not both: an exposure is the offset log(exposure)"
            raise ValueError(f"Linear({self.formula!r}): {both}")
        link = self.link
        pair = isinstance(link, tuple) and len(link) == 2 and all(callable(f) for f in link)
        if link is not None and link not in LINKS and not pair:
            raise ValueError(
                f"Linear({self.formula!r}): link={link!r}; expected one of {', '.join(LINKS)}, or a pair of functions "
                "(link, inverse)"
            )
        if self.random is not None:
            random_parts(self.random)

    def __reduce__(self) -> Reduced:
        return reduced(self, *(["link"] if isinstance(self.link, tuple) else []))

    def __repr__(self) -> str:
        names = ("link", "offset", "exposure", "baseline", "random")
        given = [f"{n}={getattr(self, n)!r}" for n in names if getattr(self, n) is not None]
        return f"Linear({', '.join([repr(self.formula), *given])})"


class RandomPart(NamedTuple):
    """The parsed parts of a string ``random="formula | by"`` (one bar: correlated effects) or ``"formula || by"`` (two bars:
    independent effects), or of one of the summands of ``random="(formula | by) + (formula | by)"``.

    Attributes:
        formula: formula of the columns whose coefficients vary.
        by: the columns of each grouping factor: one factor, or several nested ones, ``(("a",), ("a", "b"))`` for ``a/b``.
        correlated: True for one bar, False for two (independent effects).
    """

    formula: str
    by: tuple[tuple[str, ...], ...]
    correlated: bool


def random_parts(text: str) -> tuple[RandomPart, ...]:
    """Return the parsed parts of a string such as ``"1 + visit | patient"``, with or without parentheses around it; several of
    ``"(1 + visit | patient) + (1 | rater)"``.

    Raises:
        TypeError: ``text`` is not a string.
        ValueError: it does not have this form, or a grouping column has effects in two parts; formulas are not parsed.
    """
    if not isinstance(text, str):
        raise TypeError(f"random= expected a string such as '1 + visit | patient', got {type(text).__name__}")
    pieces = _summands(text)
    several = len(pieces) > 1 and all(piece.startswith("(") and piece.endswith(")") for piece in pieces)
    parts = tuple(_random_part(piece, text) for piece in (pieces if several else (text.strip(),)))
    factors = [factor for part in parts for factor in part.by]
    name = next((":".join(factor) for factor in factors if factors.count(factor) > 1), None)
    if name is not None:
        raise ValueError(
            f"random={text!r}: {name} has effects in two parts; expected all effects of a column in one, "
            f"'(1 + x | {name})', or independent ones, '(1 + x || {name})'"
        )
    return parts


def _summands(text: str) -> list[str]:
    """Return the summands of a formula that are not within parentheses."""
    out, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "+" and depth == 0:
            out.append("")
        else:
            out[-1] += letter
    return [piece.strip() for piece in out]


def _random_part(piece: str, text: str) -> RandomPart:
    """Return one parsed part of ``random=text``; errors as of `random_parts`."""
    inside = piece[1:-1] if piece.startswith("(") and piece.endswith(")") else piece
    formula, *rest = (part.strip() for part in re.split(r"\|\|?", inside))
    by = rest[0] if rest else ""
    if not formula or not by:
        raise ValueError(f"random={text!r}: expected a formula, a bar and a grouping column, '1 + visit | patient'")
    nested = [tuple(name.strip().strip("`") for name in part.split(":")) for part in by.split("/")]
    if len(rest) > 1 or re.search(r"[+*()]", by) or not all(all(part) for part in nested):
        raise ValueError(
            f"random={text!r}: expected a formula and a grouping column, '1 + visit | patient', nested ones, "
            "'1 | school/class', or pairs, '1 | school:class'; effects of several columns stand in parentheses, "
            "'(1 + visit | patient) + (1 | rater)'"
        )
    factors = tuple(sum(nested[: i + 1], ()) for i in range(len(nested)))
    return RandomPart(formula, factors, "||" not in inside)


@dataclass(frozen=True, eq=False)
class Predictor:
    """One parameter with a formula: its declaration, formula and link.

    Attributes:
        name: name of the parameter.
        parameter: its declaration.
        linear: its formula, offset, exposure and random effects.
        link: its link, from its support if the user gave none.
    """

    name: str
    parameter: Parameter
    linear: Linear
    link: Link

    @property
    def scalar(self) -> bool:
        return self.parameter.shape == ()

    @property
    def random(self) -> tuple[RandomPart, ...]:
        """The parsed ``random=`` of its formula, empty without."""
        return () if self.linear.random is None else random_parts(self.linear.random)

    @property
    def ratio(self) -> str:
        """The name of exp(coefficient): "rate ratios" with an exposure, else `Link.ratio`."""
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
        """Return the linear predictor (n, *entries) from coefficients (*entries, k), design (n, k) and offset (n,), (n,
        *entries) or None.
        """
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
        """Return the parameter's value for every row (n, *shape), natural scale.

        With columns of random effects (n, q) return (n, 1 + q) instead: the linear predictor without random effects, and these
        columns. Other arguments are those of `linear_predictor`.
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
        """Return the value of a scalar parameter for every row (n,), natural scale, if m factors have level codes in place of
        dummy columns.

        Args:
            coefficients: all coefficients (k,), those of the factors included.
            design: columns of the design without those of the factors.
            offset: offset of the linear predictor, or None.
            levels: level codes (n, m): 0 for the reference level, j for the j-th coefficient of the factor.
            places: for each factor, the position of its first coefficient, and their number.
        """
        rest, at = [], 0
        for start, count in sorted(places):
            rest.append(coefficients[at:start])
            at = start + count
        eta = self.linear_predictor(jnp.concatenate([*rest, coefficients[at:]]), design, offset)
        for j, (start, count) in enumerate(places):
            eta = eta + looked_up(coefficients[start : start + count], levels[:, j])
        return self.link.inverse(eta)


def looked_up(coefficients: Float[Either, " k"], codes: Float[Either, " n"]) -> Float[Either, " n"]:
    """Return the value of every row (n,) by its code: 0 for code 0, the j-th coefficient for code j, the last one for codes
    beyond k.
    """
    code = jnp.maximum(jnp.asarray(codes).astype(int), 0)
    own = jnp.asarray(coefficients)  # a 0 before them, and no choice after the look-up, is recognised as a linear predictor
    return lax.pad(own, jnp.zeros((), own.dtype), [(1, 0, 0)]).at[code].get(mode="clip")


def predictor(name: str, declared: Mapping[str, Declaration], given: Any) -> Predictor:
    """Return the `Predictor` that ``regress(name=given)`` defines for a declared parameter.

    Args:
        name: name of the parameter.
        declared: the declarations by name, which must contain it.
        given: a formula, or a `Linear`.

    Raises:
        TypeError: ``given`` is neither.
        ValueError: the parameter cannot have a formula; the link does not fit its support; ``baseline`` is no entry of a
            simplex; ``exposure`` with a link other than log.
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
            f"regress({name}=...): {parameter!r} cannot have a formula; Real, Positive, NonNegative, Interval and Simplex "
            "can (for ordered cut points use a formula for the location, for a covariance for its standard deviations)"
        )
    return Predictor(name, parameter, linear, _link(name, parameter, linear))


def _link(name: str, parameter: Parameter, linear: Linear) -> Link:
    t = parameter.transform
    simplex = isinstance(t, transforms.Simplex)
    wanted = linear.link
    if simplex != (wanted == "softmax") and (wanted is not None):
        raise ValueError(
            f"regress({name}=...): only a Simplex has the softmax link, and it has no other; got link={wanted!r} for "
            f"{parameter!r}: leave link= out"
        )
    if linear.baseline is not None and not simplex:
        raise ValueError(
            f"regress({name}=...): baseline= is for a Simplex, and {name} is declared {parameter!r}: leave baseline= out"
        )
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
            f"regress({name}=...): exposure= adds log(exposure), which makes sense with the log link only; {name} has the "
            f"{found.name} link. Use offset= for a column that is added as it is"
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
    raise ValueError(f"regress({name}=...): baseline={given!r} is not an entry of {parameter!r}; expected one of {known}")


def coefficient_leaf(of: Predictor, natural: Leaf, labels: Sequence[str] | None, k: int) -> Leaf:
    """Return the array of coefficients, (k,) or (*entries, k), that replaces a parameter with a formula, from the array of its
    natural value.

    Its labels are those of the design's columns (their numbers if ``labels`` is None); for a vector, ``beta[2][age]``. With a
    softmax link the baseline category has no coefficients, so that the last axis of ``entries`` is one shorter.

    Args:
        of: the predictor of the parameter.
        natural: the array of its natural value.
        labels, k: labels (or None) and number of the design's columns.
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
    """Return the parameter space in which coefficients, unconstrained, replace the parameters with a formula.

    Args:
        natural: the parameter space as declared.
        predictors: predictors of the parameters with a formula.
        columns: for each of them, the labels (or None) and the number of columns of its design.
    """
    by_name = {p.name: p for p in predictors}
    leaves = tuple(
        coefficient_leaf(by_name[leaf.name], leaf, *columns[leaf.name]) if leaf.name in by_name else leaf
        for leaf in natural.leaves
    )
    return replace(natural, leaves=leaves)
