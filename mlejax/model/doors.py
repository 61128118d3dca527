"""A log-likelihood with its one-line doors to fitting, checking and simulation."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mlejax import data as data_room
from mlejax import engines, inference, misuse
from mlejax import fit as fit_room
from mlejax.covariance import CovarianceKind, Survey, check_kind
from mlejax.data import check_weight_kind
from mlejax.inference import parse_hypotheses
from mlejax.latent import Draws, Quadrature, Sobol, latents_of, without_random
from mlejax.likelihood import Likelihood
from mlejax.model.batch_doors import BatchDoors, Missing, WeightKind
from mlejax.model.companion_doors import CompanionDoors
from mlejax.notebook import Text, in_notebooks
from mlejax.optimize import MethodLike
from mlejax.parameters import Linear, Space
from mlejax.portable import Named, find, name_of
from mlejax.results import Results
from mlejax.shapes import Data, Either, PyTree, Reduced


@in_notebooks
@misuse.doors
@dataclass(frozen=True, eq=False, repr=False)
class Model(CompanionDoors, BatchDoors):
    """A log-likelihood that can be fitted; made by :func:`model`.

    Calling it calls the plain function, so it can be jitted, vmapped, differentiated and tested as before.

    Attributes:
        likelihood: the frozen declaration.
        endog_names, exog_names: of the model of a result: its outcome and the addresses of its estimates, as in statsmodels.
    """

    likelihood: Likelihood
    endog_names: str = ""
    exog_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in functools.WRAPPER_ASSIGNMENTS:
            if hasattr(self.likelihood.written, name):
                object.__setattr__(self, name, getattr(self.likelihood.written, name))
        object.__setattr__(self, "__wrapped__", self.likelihood.written)

    def __reduce__(self) -> Reduced:
        """Pickled by its name where that can be imported, else without what cannot be pickled."""
        return _unpickled, (name_of(self.likelihood.written), self.likelihood)

    def __call__(self, params: PyTree, data: Data) -> Either:
        """Evaluate the user's own function; a regressed model takes coefficients and data with the formulas' columns."""
        if self.likelihood.predictors:
            return fit_room.evaluate(self.likelihood, params, data)
        columns = self.likelihood.open_columns
        if columns.names and data_room.OBSERVED not in data:
            data = data_room.with_observed(data_room.ingest(data), columns).raw
        return self.likelihood.written(params, data)

    def __repr__(self) -> str:
        return f"<mlejax model {self.likelihood.name}({', '.join(self._inside())})>"

    def _shown(self) -> Text:
        return Text([f"mlejax model {self.likelihood.name}", *(f"  {part}" for part in self._inside())])

    def _inside(self) -> list[str]:
        declared = self.likelihood.parameters
        mode = {"rows": [], "units": [f"unit={self.likelihood.unit!r}"], "whole": ["rowwise=False"]}[
            self.likelihood.mode
        ]
        regressed = {p.name: str(p) for p in self.likelihood.predictors}
        if regressed:
            declared = without_random(self.likelihood).parameters or declared  # effects are said in their formulas
        written = {} if declared is None else {name: f"{name}={value!r}" for name, value in declared.items()}
        inside = ["structure from start="] if declared is None else [regressed.get(name, text) for name, text in written.items()]
        inside += [f"{key.parameter}=Real(by={key.by!r})" for key in self.likelihood.effects]
        if latents := latents_of(self.likelihood):
            mode = [f"{name}={latent!r}" for name, latent in latents.items() if "|" not in name]
        return [*inside, *mode]

    def fit(
        self,
        data: Data,
        start: PyTree = None,
        fixed: Mapping[str, Any] | None = None,
        *,
        constraints: Any = None,
        weights: Any = None,
        weight_kind: WeightKind | None = None,
        method: MethodLike = "newton",
        cov_type: CovarianceKind | None = None,
        cov_kwds: Mapping[str, Any] | None = None,
        penalty: Callable[..., Any] | None = None,
        hyper: PyTree = None,
        bias_reduction: Literal["jeffreys", "empirical"] | None = None,
        missing: Missing = "raise",
        n_starts: int | None = None,
        seed: int = 0,
        progress: bool | None = None,
        validation: Any = None,
        integrate: Literal["auto", "laplace"] | Quadrature | Sobol | Draws = "auto",
        resume: str | os.PathLike[str] | None = None,
        on: Any = None,
        separated: Literal["report", "drop", "raise"] = "report",
        design: Survey | None = None,
    ) -> Results:
        """Estimate the parameters by maximum likelihood.

        Maximises ``sum_i l_i(params)`` over the rows, units or entries of the model.

        Args:
            data: a dict of arrays, a table of any kind (pandas, polars, pyarrow, DuckDB, xarray), rows larger than memory
                (``mle.Parquet``, ``mle.Stream``), or any pytree with a leading row axis; ``mle.Shared`` and
                ``mle.Static`` mark values that are not per row.  Rows of more than 256 MB are not copied; later computations
                refuse arrays that were changed since.
            start: natural scale; a dict of names and addresses, ``{"mu": 1.0, "beta[2]": 0.5}``, or a whole
                ``params`` structure.  Parameters left out start from the declaration, or from a search scaled by the data.
            fixed: address -> value held fixed (natural scale), a whole parameter or single entries.
            constraints: linear equalities, ``"mu[a] = mu[b], mu[c] = 1"``, in the grammar of ``wald_test``, refused where they
                could leave a support; or a function of params (natural scale) whose values are to be 0,
                ``lambda p: p["beta"][0] * p["sigma"] - 1``; or a list of both.  They are kept exactly, and the covariance is the
                one that they imply (Aitchison & Silvey 1958).
            weights: a column, or one number >= 0 per row; constant within a unit; for ``rowwise=False`` one for each
                value returned.  A row of weight 0 is left out: the function never sees its values.
            weight_kind: needed with weights: ``"frequency"`` (a row stands for w equal rows: whole numbers),
                ``"sampling"`` (inverse probabilities of being sampled: a pseudolikelihood, sandwich errors) or
                ``"importance"`` (multiplies the log-likelihood of the row as given).
            method: ``"newton"``, ``"bhhh"``, ``"lbfgs"``, ``"adam"``, ``"em"`` (of models with a class), an object such as
                ``mle.Newton(tol=1e-12)``, or any optax ``GradientTransformation``.
            cov_type: ``"nonrobust"`` (default; HC0 under sampling weights), ``"expected"`` (information, as R's ``glm``),
                ``"opg"``, ``"HC0"`` to ``"HC4"``, ``"stata"``, ``"cluster"``; of few clusters ``"CR2"`` and ``"CR3"``, with t
                intervals; ``"HAC"`` (rows in the order of time); ``"bootstrap"``.
            cov_kwds: for ``"cluster"``: ``{"groups": column name or labels, "correction": "G" | "none" | "full"}``, a pair
                of groups for two-way clusters; ``groups`` for ``"CR2"``, ``"CR3"``, ``"stata"`` and ``"bootstrap"``, the last
                also ``"n"`` and ``"seed"``; for ``"HAC"``: ``{"maxlags": number}``; for ``"expected"``:
                ``{"outcomes": {"y": [0, 1]}}``, all values that an outcome can have, else what :meth:`expected_information`
                declares, else ``"n"`` (200) data sets drawn by the :meth:`simulator`.
            penalty: ``penalty(params)`` or ``penalty(params, hyper)``, natural scale, subtracted from the summed
                log-likelihood; ``mle.l2(strength, "beta")`` is one.  ``llf`` excludes it, ``llf_penalized`` includes it; the
                errors are Gray's, or ``cov_type="bayes"``.
            hyper: second argument of ``penalty``, numbers; another value compiles nothing anew, but another
                function does, a new lambda of the same text too.
            bias_reduction: ``"jeffreys"`` maximises l + log det I / 2 (Firth's estimates for canonical families; finite
                under separation), I being the observed information in the table's coordinates, or the expected one where
                :meth:`expected_information` declares it; ``"empirical"``: Kosmidis & Lunardon (2023).  Errors come from
                the information without the adjustment; ``llf`` excludes it, ``llf_penalized`` includes it.
            missing: ``"raise"``, or ``"drop"`` to leave out rows with a missing value in any column used.
            n_starts: run so many starts as one batch and keep the highest maximum; ``res.modes`` lists where they ended.
                The further starts are drawn around the first end and on the scale of the data.  ``start=[...]`` gives
                a list of one's own, to which drawn ones are added up to ``n_starts``.
            seed: of the candidates among starting values, and of the drawn starts.
            progress: a line on stderr that says what the fit is doing, its step and the rise of the log-likelihood that the
                curvature still promises; None shows it in a terminal, after two seconds.
            validation: with minibatches only (``mle.Adam(batch_size=...)``): a fraction of the rows (units), or data of the
                same form, that is held out. Training stops when their log-likelihood no longer rises, and keeps the
                parameters of the best epoch.
            integrate: of models with :class:`mlejax.Latent`: ``"auto"`` (adaptive Gauss-Hermite quadrature whose number of points
                chooses itself for up to three latent numbers a unit, Laplace's approximation for more), ``"laplace"``,
                ``mle.Quadrature(points)``, or by simulation ``mle.Sobol(draws)`` and ``mle.Draws(z)``.
            resume: a folder that keeps what each pass over a stream gave: a fit that was killed goes on from there.
            on: where to compute: a list of JAX devices or a ``Mesh``, over which rows in memory are divided; or what runs the
                passes over a stream: a ``distributed.Client``, the initialised module ``ray``, a ``SparkSession``.
            separated: of effects by index (``mle.Real(by=...)``): levels whose effect has no finite value, since all their
                outcomes are zero, or all one, are left out with their rows, which changes no other estimate.  ``"report"``: the
                verdict names them; ``"drop"``: a note counts them; ``"raise"``: DataError.
            design: how the rows were sampled, in place of ``weights``, ``weight_kind`` and ``cov_type``: :class:`mlejax.Survey`.

        Returns:
            :class:`mlejax.Results`.  Whether the estimates are a maximum is its ``verdict``; if they are not, a
            ``ConvergenceWarning`` says so too.

        Raises:
            ValueError, TypeError, KeyError: bad data, unknown addresses or options; the message says what to do.

        Example:
            >>> import jax.numpy as jnp, mlejax as mle
            >>> @mle.model(rate=mle.Positive())
            ... def exponential(params, data):
            ...     return jnp.log(params["rate"]) - params["rate"] * data["t"]
            >>> res = exponential.fit({"t": [1.0, 2.0, 6.0]})
            >>> round(float(res.params["rate"]), 6)
            0.333333
        """
        if design is not None:
            if weights is not None or weight_kind is not None or cov_type is not None or cov_kwds is not None:
                raise ValueError("design= has the weights and the covariance: leave out weights=, weight_kind=, cov_type=")
            weights, weight_kind = inference.survey_weights(design, data), "sampling"
            cov_type, cov_kwds = "survey", {"design": design}
        kind = check_weight_kind(weights, weight_kind)
        groups = check_kind(cov_type, cov_kwds, kind, penalty is not None)[1].get("groups", ())
        done = fit_room.fit(
            self.likelihood,
            engines.source_of(data, on),
            start=start,
            fixed=fixed,
            restrict=None
            if constraints is None
            else lambda space: _constraints(constraints, space, self.likelihood.effects),
            weights=weights,
            weight_kind=kind,
            method=method,
            missing=missing,
            n_starts=n_starts,
            seed=seed,
            progress=progress,
            groups=[name for name in (*groups, *(design.columns if design else ())) if isinstance(name, str)],
            penalty=penalty,
            hyper=hyper,
            bias_reduction=bias_reduction,
            validation=validation,
            integrate=integrate,
            resume=resume,
            on=on,
            engine=None if on is None else engines.engine_of(on),
            separated=separated,
        )
        return Results.make(self, done, cov_type, cov_kwds)

    def simulate(
        self, params: PyTree, data_or_n_rows: Any, seed: int = 0, *, random: inference.Random = "integrate"
    ) -> dict[Any, Any]:
        """One data set drawn from the model by its :meth:`simulator`.

        Args:
            params: natural scale, the whole structure (``res.params_tree``) or a dict of addresses.
            data_or_n_rows: data with the covariates, or the number of rows of a model without any.
            seed: of the draw.
            random: of models with random effects: ``"integrate"`` draws them from their law, ``"zero"`` leaves them at 0; those
                of units of a fit are in its own ``simulate(random="mode")``.

        Returns:
            The columns that the simulator makes, NumPy.

        Raises:
            CompanionError: the model has no simulator; the message shows the lines to add.
        """
        fit_room.refuse_effects(self.likelihood, "model.simulate", "simulate() of a result has those of its fit")
        return inference.simulate(self.likelihood, params, data_or_n_rows, seed, random)

    def check(
        self,
        data: Data,
        start: PyTree = None,
        fixed: Mapping[str, Any] | None = None,
        *,
        missing: Missing = "raise",
        seed: int = 0,
    ) -> inference.Check:
        """Find problems of this log-likelihood on these data without fitting.

        Looks for errors that ``fit`` would raise (bad columns, rows that depend on one another), a start that is not finite, a
        ``where`` whose unused branch spoils the score, parameters and combinations that the log-likelihood ignores, columns,
        constants and arithmetic in float32, arrays that the function closes over, and shapes that compile it again.

        Args:
            data, start, fixed, missing, seed: as in :meth:`fit`.

        Returns:
            A ``Check``: ``findings``, each with ``level``, ``code``, ``statement`` and ``advice``; ``ok``; prints as text.

        Example:
            >>> import jax.numpy as jnp, mlejax as mle
            >>> @mle.model(rate=mle.Positive(), spare=mle.Real())
            ... def exponential(params, data):
            ...     return jnp.log(params["rate"]) - params["rate"] * data["t"]
            >>> found = exponential.check({"t": [1.0, 2.0, 6.0]})
            >>> found.ok, found.codes
            (False, ('ignored_parameter',))
            >>> found.findings[0].statement
            'the log-likelihood does not depend on spare: its score is 0 in all 3 contributions'
        """
        fit_room.refuse_effects(self.likelihood, "check", "check the model with the effects as a column of the data")
        return inference.check(self.likelihood, data, start=start, fixed=fixed, missing=missing, seed=seed)

    def regress(self, regressions: Mapping[str, str | Linear] | None = None, /, **named: str | Linear) -> Model:
        """The same model with parameters that depend on covariates, row by row.

        In the function, ``params["mu"]`` is then the vector ``link^-1(X beta + offset)`` with one entry per row, and
        ``mu`` stands for the coefficients ``mu[Intercept]``, ``mu[age]``, ... everywhere else: in tables, ``start=``,
        ``fixed=``, tests.  Links follow from the supports: identity for ``Real``, log for ``Positive``, (scaled) logit
        for ``Interval``, baseline softmax for ``Simplex``.  A vector has coefficients for each entry,
        ``beta[2][age]``.  A row-wise function written for a vector of one shape is called row by row with that shape.

        Args:
            regressions: name -> formula; for names that are no keywords.
            **named: a formula (``"age + C(region)"``, in formulaic's grammar, with an intercept), the name of a design
                matrix in the data (taken as it is), or :class:`mlejax.Linear` with its own link, offset or exposure.

        Returns:
            A model with every method of this one.

        Raises:
            ValueError, TypeError: no such parameter, a formula with a left side, a link that does not fit.

        Example:
            >>> import mlejax as mle
            >>> from jax.scipy.stats import norm
            >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
            ... def gaussian(params, data):
            ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
            >>> reg = gaussian.regress(mu="x", sigma="x")
            >>> reg
            <mlejax model gaussian(mu ~ x, sigma ~ x)>
            >>> res = reg.fit({"y": [1.0, 2.0, 6.0, 3.0, 8.0, 4.0], "x": [0, 1, 2, 0, 1, 2]})
            >>> list(res.params.index)
            ['mu[Intercept]', 'mu[x]', 'sigma[Intercept]', 'sigma[x]']
        """
        if regressions is not None and not isinstance(regressions, Mapping):
            first = next(iter(self.likelihood.parameters or {"mu": None}))
            came = repr(regressions) if isinstance(regressions, str) else type(regressions).__name__
            raise TypeError(
                f"regress expected formulas by parameter, regress({first}='x'): the right side alone, since the log-likelihood "
                f"itself says what is explained; got {came}"
            )
        return Model(fit_room.regressed(self.likelihood, {**(regressions or {}), **named}))

    def prepare(self, data: Data, *, start: PyTree = None, missing: Missing = "raise") -> fit_room.Problem:
        """Data -> arrays for the pure core :func:`mlejax.solve`: checked, converted, padded.

        Args:
            data, missing: as in :meth:`fit`.
            start: only for a bare model, whose structure comes from it.
        """
        fit_room.refuse_effects(self.likelihood, "the pure core", "use fit")
        return fit_room.prepare(self.likelihood, data, start=start, missing=missing)


def _unpickled(named: Named | None, likelihood: Likelihood) -> Model:
    there = None if named is None else find(named)
    return there if isinstance(there, Model) and there.likelihood is likelihood else Model(likelihood)


def _constraints(constraints: Any, space: Space, effects: Any = ()) -> fit_room.Restrictions:
    """``constraints=`` as matrix, values and labels of the linear ones, and functions."""
    listed = list(constraints) if isinstance(constraints, (list, tuple)) else [constraints]
    functions = tuple(part for part in listed if callable(part))
    if functions:
        constraints = [part for part in listed if not callable(part)]
        if not constraints:
            return fit_room.Restrictions(np.zeros((0, space.n_reported)), np.zeros(0), (), functions)
        if not all(isinstance(part, str) for part in constraints):
            raise TypeError("constraints= expected a list of functions of params and texts such as 'mu[a] = mu[b]'")
    indexed = [key.parameter for key in effects if f"{key.parameter}[" in str(constraints)]
    if indexed:
        raise ValueError(
            f"constraints= on {indexed[0]}: effects by index are eliminated one level at a time, so that none of them can be "
            "bound to another; constrain the other parameters"
        )
    try:
        linear = parse_hypotheses(constraints, space.resolve, space.n_reported, names=list(space.labels))
    except ValueError as error:
        raise type(error)(f"constraints=: {error}") from error
    return fit_room.Restrictions(linear.R, linear.r, linear.labels, functions)
