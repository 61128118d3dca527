"""Declarations of discrete latent variables: classes of rows or units, and the states of a Markov chain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from mlejax.latent.variable import Latent
from mlejax.misuse import constructor
from mlejax.parameters import Declaration, Parameter, Simplex

MOST_CLASSES = 50


@constructor
@dataclass(frozen=True, eq=False, repr=False)
class Discrete:
    """Declare a latent class, one for each row or for each level of a column; the likelihood is summed over classes
    exactly.

    Declared like a parameter of a row-wise model, ``z=mle.Discrete(3)`` is a class 0, 1 or 2.  The user's function reads
    ``params["z"]``, one integer per row, takes the parameters of that class, ``params["mu"][params["z"]]``, and returns
    the log density of the row in that class.  The log-likelihood of a row, or of a unit if ``by=`` names a column, is

        log sum_k p_k prod_j f(y_j | params, z = k),

    one term of the log-likelihood: weights, clusters and resampling apply to units.  The probabilities p are a parameter of the
    model, ``z_probs``, in tables, ``start=``, ``fixed=``, and ``regress(z_probs="age")``; covariates of the classes of units must
    be constant within each unit.

    If the labels can be exchanged, classes are sorted by the first parameter with one value for each, also in a batch and in
    the refits of a bootstrap, unless ``start=`` is given.  If the search does not end at a maximum with proper classes, it is
    repeated from ten starts with distinct classes, unless ``start=`` or ``n_starts=`` is given.  If a probability is 0 at the
    maximum, the verdict is ``boundary``, in a batch too.

    Args:
        n: the number of classes, 2 to 50.
        by: the column of the units, whose rows share a class (latent class model); None: every row has a class of its own
            (mixture model).
        probs: the name of a parameter ``mle.Simplex(shape=n)`` of the model to use in place of ``z_probs``.

    Raises:
        ValueError, TypeError: an argument is not a valid number of classes, column name or parameter name.

    Example:
        >>> import mlejax as mle
        >>> from jax.scipy.stats import poisson
        >>> @mle.model(rate=mle.Positive(shape=2), z=mle.Discrete(2))
        ... def counts(params, data):
        ...     return poisson.logpmf(data["y"], params["rate"][params["z"]])
        >>> res = counts.fit({"y": [1, 0, 2, 1, 0, 1, 9, 12, 8, 11]})
        >>> res.params.round(2).to_dict()
        {'rate[0]': 0.83, 'rate[1]': 10.0, 'z_probs[0]': 0.6, 'z_probs[1]': 0.4}
        >>> res.latent()["z"].tolist()
        [0, 0, 0, 0, 0, 0, 1, 1, 1, 1]
    """

    n: int
    by: str | None = None
    probs: str | None = None

    def __init__(self, n: int, by: str | None = None, *, probs: str | None = None) -> None:
        _check_number("Discrete", n)
        _check_columns("Discrete", by=by, probs=probs)
        for name, value in (("n", int(n)), ("by", by), ("probs", probs)):
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return _text("Discrete", self.n, by=self.by, probs=self.probs)

    def declared(self, name: str, observed: Mapping[str, Declaration]) -> dict[str, Declaration]:
        """Return the parameters that the class called ``name`` adds to the model; none if ``probs=`` names one.

        ``observed``: the declarations of the user.

        Raises:
            ValueError: ``probs=`` names no parameter ``mle.Simplex(shape=n)``.
        """
        if self.probs is None:
            return {self.names(name)["probs"]: Simplex(shape=self.n)}
        there = observed.get(self.probs)
        if not isinstance(there, Parameter) or there.kind != "Simplex" or there.shape != (self.n,):
            raise ValueError(
                f"{name}: probs={self.probs!r} expected the name of a parameter declared mle.Simplex(shape={self.n}), got "
                f"{there!r}; leave it out for a parameter of its own"
            )
        return {}

    def names(self, name: str) -> dict[str, str]:
        """Return a dict, role -> name, of the parameters of the distribution of the class called ``name``: its probabilities.
        """
        return {"probs": self.probs or f"{name}_probs"}

    def square(self, name: str) -> frozenset[str]:
        """Return the names of those parameters of the class that have classes along two axes: none."""
        return frozenset()


@constructor
@dataclass(frozen=True, eq=False, repr=False)
class Markov:
    """Declare the state of a hidden Markov chain, one for each row, with transitions from row to row within a series.

    Declared like a parameter of a row-wise model, ``s=mle.Markov(2, by="person", time="t")`` has states 0 and 1; the user's
    function reads ``params["s"]``, one integer per row, and returns the log density of the row in that state.  The log-likelihood
    of a series, one term of the model, sums over all paths of states by the forward recursion.  It adds the parameters
    ``s_transition[j,k]``, the probability of a transition from state j to k, and ``s_initial`` if ``initial="free"``.

    Args:
        n: the number of states, 2 to 50.
        by: the column of the series; for a single series a constant column.
        time: a column of integers that increase by 1 from row to row of a series (or of dates in equal steps), which is
            checked; None: rows are in the order of the table.  Keep rows without an outcome, with a log density of 0
            (``optional=``).
        initial: distribution of the first state: ``"stationary"``, the stationary distribution of the transitions, or ``"free"``,
            estimated, which needs many series (with one series the maximum has probability 1 for one state).

    Raises:
        ValueError, TypeError: an argument is not a valid number of states, column name or option.

    Example:
        >>> import jax.numpy as jnp, mlejax as mle
        >>> from jax.scipy.stats import norm
        >>> @mle.model(mu=mle.Real(shape=2), sigma=mle.Positive(), s=mle.Markov(2, by="series", time="t"))
        ... def two_levels(params, data):
        ...     return norm.logpdf(data["y"], params["mu"][params["s"]], params["sigma"])
        >>> y = [0.1, -0.3, 0.2, 3.1, 2.8, 3.3, 2.9, 0.0, 0.3, -0.1, 3.2, 2.7, 0.2, 0.1]
        >>> res = two_levels.fit({"y": y, "t": range(14), "series": [0] * 14})
        >>> res.params.round(2).iloc[:3].tolist()
        [0.06, 3.0, 0.2]
        >>> res.latent()["s"].tolist()
        [0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 1, 1, 0, 0]
    """

    n: int
    by: str = ""
    time: str | None = None
    initial: Literal["stationary", "free"] = "stationary"

    def __init__(
        self, n: int, by: str, time: str | None = None, *, initial: Literal["stationary", "free"] = "stationary"
    ) -> None:
        _check_number("Markov", n)
        if by is None:
            raise TypeError("Markov: by= expected the name of a column, got None; for a single series use a constant column")
        _check_columns("Markov", by=by, time=time)
        if initial not in ("stationary", "free"):
            raise ValueError(f"Markov: initial= expected 'stationary' or 'free', got {initial!r}")
        for name, value in (("n", int(n)), ("by", by), ("time", time), ("initial", initial)):
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return _text("Markov", self.n, by=self.by, time=self.time, initial=None if self.stationary else "free")

    @property
    def stationary(self) -> bool:
        """True if the first state has the stationary distribution."""
        return self.initial == "stationary"

    def declared(self, name: str, observed: Mapping[str, Declaration]) -> dict[str, Declaration]:
        """Return the parameters that the state called ``name`` adds to the model; ``observed`` is not used."""
        shapes = {"transition": (self.n, self.n), "initial": (self.n,)}
        return {parameter: Simplex(shape=shapes[what]) for what, parameter in self.names(name).items()}

    def names(self, name: str) -> dict[str, str]:
        """Return a dict, role -> name, of the parameters of the distribution of the state called ``name``: "transition", and
        "initial" unless it is stationary.
        """
        first = {} if self.stationary else {"initial": f"{name}_initial"}
        return {"transition": f"{name}_transition", **first}

    def square(self, name: str) -> frozenset[str]:
        """Return the names of those parameters of the state that have states along two axes: the transitions."""
        return frozenset({f"{name}_transition"})


ClassLike: TypeAlias = Discrete | Markov


def _check_number(kind: str, n: int) -> None:
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or not 2 <= n <= MOST_CLASSES:
        what = "states" if kind == "Markov" else "classes"
        raise ValueError(f"{kind}: expected a number of {what} from 2 to {MOST_CLASSES}, got {n!r}")


def _check_columns(kind: str, **given: str | int | None) -> None:
    for what, value in given.items():
        if value is not None and (not isinstance(value, str) or not value):
            raise TypeError(f"{kind}: {what}= expected a name, got {value!r}")


def _text(kind: str, n: int, **given: str | int | None) -> str:
    return f"{kind}({', '.join([str(n), *(f'{k}={v!r}' for k, v in given.items() if v is not None)])})"


def check_classes(
    latents: Mapping[str, Latent | ClassLike], observed: Mapping[str, Declaration], rowwise: bool, unit: str | None
) -> tuple[str, ClassLike]:
    """Return the name and declaration of the only discrete latent variable of a model.

    ``observed``: the declarations of its parameters.

    Raises:
        ValueError: the model has another latent variable, is not row-wise, or has a parameter with the name of the class
            probabilities; or ``probs=`` names no parameter ``mle.Simplex(shape=n)`` of the model.
    """
    name, found = next((n, v) for n, v in latents.items() if isinstance(v, ClassLike))
    others = [n for n in latents if n != name]
    if others:
        raise ValueError(
            f"{name}={found!r} together with the latent variable {others[0]} is not supported: declare only one of them; "
            "two classes of the "
            "same rows or units can be written as one class with the product of their numbers"
        )
    if unit is not None or not rowwise:
        option = "rowwise=False" if unit is None else f"unit={unit!r}"
        raise ValueError(
            f"{option} and {name}={found!r} cannot be combined: rows must be independent given their class.  Leave out "
            f"{option.split('=')[0]}=, return one value per row, and give by= if several rows share a class"
        )
    taken = [n for n in found.declared(name, observed) if n in observed]
    if taken:
        raise ValueError(f"{taken[0]} is the name of the probabilities of {name}; give your parameter another name")
    return name, found
