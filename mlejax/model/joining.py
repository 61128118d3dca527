r"""Several data sets with parameters in common: one log-likelihood, the sum of theirs.

.. math:: \ell(\theta) = \sum_k \sum_i \ell_k(\theta_k; y_{ki}), \qquad \theta_k \text{ partly the same for all } k.

The rows of all data sets are concatenated into one table. In the columns of another model's data set a row has the values of a
row of that data set, and the log-likelihood of the other model is not evaluated for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from mlejax.data import Prepared, Shared
from mlejax.execution import cached
from mlejax.likelihood import Likelihood
from mlejax.misuse import door
from mlejax.model.doors import Model
from mlejax.parameters import Leaf, Parameter, near
from mlejax.shapes import Data, Device, Params, PyTree

if TYPE_CHECKING:
    from mlejax.fit import Problem
    from mlejax.results import Results


@dataclass(frozen=True, eq=False, repr=False)
class JointModel:
    """Models of several data sets that have parameters in common; made by :func:`joint`.

    Attributes:
        models: the models, one for each data set.
        shared: names of the common parameters.
    """

    models: tuple[Model, ...]
    shared: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<joint of {', '.join(map(repr, self.models))}, in common: {', '.join(self.shared)}>"

    def fit(self, data: Sequence[Any], *, weights: Sequence[Any] | None = None, **options: Any) -> Results:
        """Maximise the sum of the log-likelihoods.

        Args:
            data: one data set for each model, of any kind that ``Model.fit`` takes.
            weights: one array for each data set, a number for each row (unit); needs ``weight_kind=``.
            **options: options of ``Model.fit``.  In ``start=``, ``fixed=`` and ``constraints=``, as in the result, a parameter
                name that several models use without sharing it gets the number of its model, ``sigma_1``, ``sigma_2``.
                Clusters are given as labels of the rows of all data sets, one after the other.

        Returns:
            :class:`mlejax.Results` for the rows of all data sets, one after the other.

        Raises:
            ValueError: the number of data sets differs from that of the models, weights have other lengths than the data, or
                a common parameter belongs to fewer than two models or has different shapes, supports or labels.
        """
        listed = isinstance(data, (list, tuple))
        if not listed or len(data) != len(self.models):
            raise ValueError(
                f"joint.fit expected {len(self.models)} data sets in a list, one for each model, got "
                f"{len(data) if listed else type(data).__name__}"
            )
        problems = [model.prepare(one) for model, one in zip(self.models, data, strict=True)]
        names = self._names([problem.space.leaves for problem in problems])
        made = cached(
            self.models[0].likelihood,
            ("joint", tuple(m.likelihood for m in self.models), tuple(p.space for p in problems),
             tuple(p.data.statics for p in problems), self.shared),
            lambda: self._likelihood(problems, names),
        )  # fmt: skip
        if weights is not None:
            options["weights"] = _stacked_weights(weights, [int(p.data.n) for p in problems])
        return Model(made).fit(_stacked([p.data for p in problems]), **options)

    def _names(self, leaves: Sequence[Sequence[Leaf]]) -> list[dict[str, str]]:
        """Return for each model a dict from its parameter names to those in the joint model.

        A name that several models use without sharing it gets the number of its model, ``sigma_2``.  ``leaves``: the
        parameter arrays of each model.

        Raises:
            ValueError: a common parameter that fewer than two models have, or that they declare differently.
        """
        for name in self.shared:
            owners = [leaf for each in leaves for leaf in each if leaf.name == name]
            if len(owners) < 2:
                known = list(dict.fromkeys(leaf.name for each in leaves for leaf in each))
                raise ValueError(f"shared={name!r}: expected a parameter of two models or more{near(name, known)}")
            if any(
                (x.shape, x.transform, x.labels) != (owners[0].shape, owners[0].transform, owners[0].labels)
                for x in owners
            ):
                what = "; ".join(f"{x.kind} {', '.join(x.labels or ()) or x.shape}" for x in owners)
                raise ValueError(
                    f"shared={name!r}: the models declare it differently ({what}); leave it out of shared=, and make single "
                    f"coefficients equal by constraints={f'{name}_1[x] = {name}_2[x]'!r}"
                )
        counts = [leaf.name for each in leaves for leaf in each]
        alone = lambda name: name in self.shared or counts.count(name) == 1
        return [
            {leaf.name: leaf.name if alone(leaf.name) else f"{leaf.name}_{k}" for leaf in each}
            for k, each in enumerate(leaves, 1)
        ]

    def _likelihood(self, problems: Sequence[Problem], names: Sequence[Mapping[str, str]]) -> Likelihood:
        """Return the joint likelihood, a row-wise one over the concatenated rows (units).

        Args:
            problems: the prepared data of each model.
            names: for each model, a dict from its parameter names to those in the joint model.
        """
        likelihoods = [model.likelihood for model in self.models]
        layouts = [problem.data.statics for problem in problems]

        def function(params: Params, data: Data) -> Device:
            total = jnp.zeros(jnp.shape(data["data set"]))
            for k, (likelihood, layout, own) in enumerate(zip(likelihoods, layouts, names, strict=True), 1):
                mine = {name: params[there] for name, there in own.items()}
                rows, shared = _arrays(data, f"rows {k}"), _arrays(data, f"shared {k}")
                values = likelihood.contributions(mine, rows, shared, layout)
                total = total + jnp.where(data["data set"] == k, values, 0.0)
            return total

        function.__name__ = function.__qualname__ = f"joint of {' and '.join(x.name for x in likelihoods)}"
        declared = {
            own[leaf.name]: Parameter(
                leaf.kind, leaf.transform, leaf.shape, labels=leaf.labels, start=_start(m, leaf.name)
            )
            for m, problem, own in zip(self.models, problems, names, strict=True)
            for leaf in problem.space.leaves
        }
        return Likelihood(function, declared)


@door
def joint(models: Sequence[Model], shared: Sequence[str] | str) -> JointModel:
    """Combine models of several data sets that have parameters in common into one likelihood.

    Args:
        models: two or more models, row-wise or with ``unit=``, with or without formulas.
        shared: names of the common parameters; they must have the same declaration and, if they have formulas, the same terms.
            Other parameters belong to their own model; single coefficients can be made equal by
            ``fit(..., constraints="mu_1[x] = mu_2[x]")``.

    Returns:
        :class:`JointModel`: ``fit([data1, data2])`` gives ordinary :class:`mlejax.Results`, with all tests and intervals.
        Twice the difference between the sum of the separate fits' log-likelihoods and the joint log-likelihood is the
        likelihood-ratio statistic of the hypothesis that the common parameters are equal.

    Raises:
        TypeError: something in ``models`` is no model.
        ValueError: fewer than two models, no common parameter, or a model without declared parameters, with
            ``rowwise=False``, latents or effects of ``mle.Real(by=...)``, which are not supported.

    Example:
        >>> import jax.numpy as jnp, mlejax as mle
        >>> from jax.scipy.stats import norm, poisson
        >>> @mle.model(rate=mle.Positive())
        ... def counts(params, data):
        ...     return poisson.logpmf(data["k"], params["rate"] * data["hours"])
        >>> @mle.model(rate=mle.Positive())
        ... def waits(params, data):
        ...     return jnp.log(params["rate"]) - params["rate"] * data["t"]
        >>> both = mle.joint([counts, waits], shared=["rate"])
        >>> res = both.fit([{"k": [3, 5], "hours": [2.0, 3.0]}, {"t": [0.5, 1.0, 0.5]}])
        >>> round(float(res.params["rate"]), 6)  # (8 + 3) events in (5 + 2) hours
        1.571429
    """
    names = (shared,) if isinstance(shared, str) else tuple(shared)
    for i, one in enumerate(models):
        if not isinstance(one, Model):
            raise TypeError(f"joint expected models made by @mle.model, got {type(one).__name__} as number {i + 1}")
        likelihood = one.likelihood
        if (
            likelihood.parameters is None
            or likelihood.mode == "whole"
            or likelihood.joint is not None
            or likelihood.effects
        ):
            raise ValueError(
                f"joint expected row-wise models or models with unit=, with declared parameters, without latents and effects of "
                f"mle.Real(by=...), got {one!r}: write the sum of the log-likelihoods as one function"
            )
    if len(models) < 2 or not names:
        raise ValueError(
            "joint expected two models or more, and the names of parameters in common, shared=['beta'], got "
            f"{len(models)} models and shared={shared!r}"
        )
    return JointModel(tuple(models), names)


def _start(model: Model, name: str) -> PyTree:
    """Return the declared start of a parameter; None if none is declared, or if it has a formula."""
    regressed = {p.name for p in model.likelihood.predictors}
    declared = (model.likelihood.parameters or {}).get(name)
    return None if name in regressed else getattr(declared, "start", None)


def _stacked(parts: Sequence[Prepared]) -> dict[str, Any]:
    """Concatenate the rows (or units) of all data sets into one dict of columns, with the number of the data set of each row.

    The columns are ``"data set"`` (1, 2, ...) and, for data set k, ``"rows k"`` (its arrays by row) and ``"shared k"`` (its
    other arrays).  In the columns of the other data sets a row has the values of their first row.
    """
    sizes = [int(part.n) for part in parts]
    out: dict[str, Any] = {"data set": np.repeat(np.arange(1, len(parts) + 1), sizes)}
    for k, part in enumerate(parts, 1):
        own = out["data set"] == k
        at = np.where(own, np.cumsum(own) - 1, 0)
        if part.rows:
            out[f"rows {k}"] = {f"{j:04d}": np.asarray(leaf[: sizes[k - 1]])[at] for j, leaf in enumerate(part.rows)}
        if part.shared:
            out[f"shared {k}"] = {f"{j:04d}": Shared(leaf) for j, leaf in enumerate(part.shared)}
    return out


def _arrays(data: Data, key: str) -> tuple[Any, ...]:
    """Return the arrays that `_stacked` stored under one key, in order; empty if there is no such key."""
    return tuple(data[key][name] for name in sorted(data[key])) if key in data else ()


def _stacked_weights(weights: Sequence[Any], sizes: Sequence[int]) -> np.ndarray:
    """Concatenate the weights of all data sets; ValueError if their lengths are not ``sizes``."""
    given = [np.asarray(w, np.float64) for w in weights]
    if [w.shape for w in given] != [(n,) for n in sizes]:
        raise ValueError(
            f"weights= expected one array for each data set, of {', '.join(map(str, sizes))} numbers, one for each row (unit), "
            f"got shapes {[w.shape for w in given]}"
        )
    return np.concatenate(given)
