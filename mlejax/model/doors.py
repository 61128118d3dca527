"""The class `Model`: a log-likelihood with methods that fit, check and simulate it."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mlejax import data as data_room
from mlejax import misuse
from mlejax.covariance import KINDS, CovarianceKind, Survey, check_kind
from mlejax.latent import Draws, Quadrature, Sobol, latents_of, regressed, without_random
from mlejax.likelihood import Likelihood
from mlejax.model.batch_doors import BatchDoors, Missing, WeightKind
from mlejax.model.companion_doors import CompanionDoors
from mlejax.notebook import Text, in_notebooks
from mlejax.optimize import MethodLike
from mlejax.parameters import Linear
from mlejax.portable import Named, find, name_of
from mlejax.shapes import Data, Either, PyTree, Reduced

if TYPE_CHECKING:
    from mlejax import fit as fit_room
    from mlejax import inference
    from mlejax.results import Results


@in_notebooks
@misuse.doors
@dataclass(frozen=True, eq=False, repr=False)
class Model(CompanionDoors, BatchDoors):
    """A log-likelihood that can be fitted; made by :func:`model`.

    Calling it calls the user's function, which can be jitted, vmapped, differentiated and tested as before.

    Attributes:
        likelihood: the declaration of the model.
        endog_names: for ``res.model``, the name of the outcome, as in statsmodels.
        exog_names: for ``res.model``, the names of the estimates, as in statsmodels.
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
        """Pickle the model by its name if that can be imported, else its likelihood."""
        return _unpickled, (name_of(self.likelihood.written), self.likelihood)

    def __call__(self, params: PyTree, data: Data) -> Either:
        """Evaluate the log-likelihood function: the terms of all rows, or what the user's function returns for ``data``.

        A model with formulas takes their coefficients in ``params``, and data with the columns of the formulas.
        """
        if self.likelihood.predictors:
            from mlejax import fit as fit_room

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

        Maximises ``sum_i l_i(params)``, the sum of the log-likelihood terms of the rows or units.

        Args:
            data: a dict of arrays, a table of any kind (pandas, polars, pyarrow, DuckDB, xarray), rows larger than memory
                (``mle.Parquet``, ``mle.Stream``), or any pytree with a leading row axis; ``mle.Shared`` and
                ``mle.Static`` mark values that are not per row.  Data of more than 256 MB are not copied; later computations
                raise DataError if their arrays were changed in place.
            start: natural scale; a dict of parameter or entry names, ``{"mu": 1.0, "beta[2]": 0.5}``, or a whole
                ``params`` structure.  Parameters left out start at their declared start, or at the best of several candidates
                made from the data.
            fixed: name of a parameter or entry -> value at which it is fixed (natural scale).
            constraints: linear equalities, ``"mu[a] = mu[b], mu[c] = 1"``, in the syntax of ``wald_test``, unless they could
                leave a parameter's support; or a function of params (natural scale) whose values must be 0,
                ``lambda p: p["beta"][0] * p["sigma"] - 1``; or a list of both.  The estimates satisfy them exactly, and the
                covariance takes them into account (Aitchison & Silvey 1958).
            weights: name of a column, or one number >= 0 per row; constant within a unit; for ``rowwise=False`` one for each
                value returned.  A row of weight 0 is left out: the function never sees its values.
            weight_kind: needed with weights: ``"frequency"`` (w identical rows; whole numbers),
                ``"sampling"`` (inverse probabilities of being sampled: a pseudolikelihood with sandwich standard errors) or
                ``"importance"`` (multiplies the log-likelihood of the row as given).
            method: ``"newton"``, ``"bhhh"``, ``"lbfgs"``, ``"adam"``, ``"em"`` (models with latent classes), an object such as
                ``mle.Newton(tol=1e-12)``, or any optax ``GradientTransformation``.
            cov_type: how standard errors are computed. ``"nonrobust"`` (the default, except under sampling weights): inverse
                observed information; ``"expected"``: inverse expected information, as R's ``glm``; ``"opg"``: inverse sum of
                outer products of scores; ``"HC0"`` (the default under sampling weights) to ``"HC4"`` and ``"stata"``: sandwich;
                ``"cluster"``: sandwich of scores summed by cluster; ``"CR2"``, ``"CR3"``: the same for few clusters, with t
                intervals; ``"HAC"``: sandwich for autocorrelated rows, given in the order of time; ``"bayes"``: inverse
                penalised information; ``"bootstrap"``: refits of resampled rows or clusters.
            cov_kwds: options of ``cov_type``, a dict. ``"cluster"``: ``"groups"``, a column name or labels, or a pair of these
                for two-way clusters, and ``"correction"``, one of "G", "none", "full", "ssc"; ``"CR2"``, ``"CR3"``,
                ``"stata"``: ``"groups"``; ``"bootstrap"``: ``"groups"``, ``"n"`` (number of refits), ``"seed"``; ``"HAC"``:
                ``"maxlags"``; ``"expected"``: ``"outcomes"``, such as ``{"y": [0, 1]}``, all values that an outcome can have.
                Without outcomes the information is that of :meth:`expected_information`, else the mean over ``"n"`` (200) data
                sets drawn by the :meth:`simulator` with ``"seed"``.
            penalty: ``penalty(params)`` or ``penalty(params, hyper)``, natural scale, subtracted from the summed
                log-likelihood; ``mle.l2(strength, "beta")`` is one.  ``llf`` excludes it, ``llf_penalized`` includes it; the
                standard errors are Gray's (1992), or those of ``cov_type="bayes"``.
            hyper: second argument of ``penalty``, numbers; changing it does not recompile, whereas changing the function
                does (also to a new lambda with the same text).
            bias_reduction: ``"jeffreys"`` maximises l + log det I / 2 (Firth's estimates for canonical families; finite
                under separation), I being the observed information with respect to the parameters of the table, or the expected
                one if :meth:`expected_information` declares it; ``"empirical"``: Kosmidis & Lunardon (2023).  Standard errors
                use the information without the adjustment; ``llf`` excludes it, ``llf_penalized`` includes it.
            missing: ``"raise"``, or ``"drop"`` to leave out rows with a missing value in any column used.
            n_starts: number of starts; the highest maximum is returned, and ``res.modes`` lists all final points.  Further
                starts are random, around the first final point and on the scale of the data.  ``start=[...]`` gives several
                starts, to which random ones are added up to ``n_starts``.
            seed: seed of the random start candidates and of the random starts.
            progress: True shows a line on stderr with the state of the fit: its step, log-likelihood, and the predicted
                distance to the maximum; None shows it in a terminal, after two seconds; False shows nothing.
            validation: with minibatches only (``mle.Adam(batch_size=...)``): a fraction of the rows (units) to hold out, or
                validation data of the same form. Training stops when their log-likelihood no longer rises, and returns the
                parameters of the best epoch.
            integrate: for models with :class:`mlejax.Latent`: ``"auto"`` (adaptive Gauss-Hermite quadrature with an automatic
                number of points for up to three random effects per unit, Laplace's approximation for more), ``"laplace"``,
                ``mle.Quadrature(points)``, or simulation by ``mle.Sobol(draws)`` or ``mle.Draws(z)``.
            resume: folder in which the result of each pass over a stream is stored, so that an interrupted fit can continue.
            on: where to compute: a list of JAX devices or a ``Mesh``, over which rows in memory are divided; or an engine that
                runs the passes over a stream: a ``distributed.Client``, the initialised module ``ray``, a ``SparkSession``.
            separated: for fixed effects (``mle.Real(by=...)``): levels whose effect has no finite estimate, since all their
                outcomes are zero, or all one, are left out with their rows, which changes no other estimate.  ``"report"``: the
                verdict names them; ``"drop"``: a note names them; ``"raise"``: raise DataError.
            design: how the rows were sampled, in place of ``weights``, ``weight_kind`` and ``cov_type``: :class:`mlejax.Survey`.

        Returns:
            :class:`mlejax.Results`.  Whether the estimates are a maximum is its ``verdict``; if they are not, a
            ``ConvergenceWarning`` says so too.

        Raises:
            ValueError, TypeError, KeyError: unusable data, unknown parameter names or options; the message says what to do.

        Example:
            >>> import jax.numpy as jnp, mlejax as mle
            >>> @mle.model(rate=mle.Positive())
            ... def exponential(params, data):
            ...     return jnp.log(params["rate"]) - params["rate"] * data["t"]
            >>> res = exponential.fit({"t": [1.0, 2.0, 6.0]})
            >>> round(float(res.params["rate"]), 6)
            0.333333
        """
        from mlejax import engines, inference
        from mlejax import fit as fit_room
        from mlejax.results import Results

        if design is not None:
            if weights is not None or weight_kind is not None or cov_type is not None or cov_kwds is not None:
                raise ValueError(
                    "design= contains the weights and the covariance: leave out weights=, weight_kind=, cov_type=, cov_kwds="
                )
            weights, weight_kind = inference.survey_weights(design, data), "sampling"
            cov_type, cov_kwds = "survey", {"design": design}
        kind = data_room.check_weight_kind(weights, weight_kind)
        kind_of_errors, options = check_kind(cov_type, cov_kwds, kind, penalty is not None)
        groups, errors = options.get("groups", ()), KINDS[kind_of_errors]
        done = fit_room.fit(
            self.likelihood,
            engines.source_of(data, on),
            start=start,
            fixed=fixed,
            restrict=None
            if constraints is None
            else lambda space: inference.parse_constraints(constraints, space, self.likelihood.effects),
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
            products=errors.weighted_by_w(kind) if errors.scores_of == "rows" and errors.unadjusted_scores else None,
        )
        return Results.make(self, done, cov_type, cov_kwds)

    def simulate(
        self, params: PyTree, data_or_n_rows: Any, seed: int = 0, *, random: inference.Random = "integrate"
    ) -> dict[Any, Any]:
        """Draw one data set from the model by its :meth:`simulator`.

        Args:
            params: parameters, natural scale, as a whole structure (``res.params_tree``) or a dict of parameter or entry names.
            data_or_n_rows: data with the predictors, or the number of rows of a model without predictors.
            seed: seed of the draw.
            random: for models with random effects: ``"integrate"`` draws them from their distribution, ``"zero"`` sets them to
                0; for the modes of the units of a fit use ``res.simulate(random="mode")``.

        Returns:
            The columns that the simulator makes, NumPy arrays by name.

        Raises:
            CompanionError: the model has no simulator; the message shows the lines to add.
            ValueError: the model has effects of ``mle.Real(by=...)``, or no random effects but ``random`` asks for them.
        """
        from mlejax import fit as fit_room
        from mlejax import inference

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
        """Look for problems of this log-likelihood with these data, without fitting.

        It reports errors that ``fit`` would raise (unusable columns, rows that depend on one another), a start where the
        log-likelihood is not finite, a ``where`` whose unused branch makes the score NaN, parameters and combinations on which
        the log-likelihood does not depend, float32 columns, constants and arithmetic, arrays that the function closes over, and
        shapes that cause recompilation.

        Args:
            data, start, fixed, missing, seed: as in :meth:`fit`.

        Returns:
            A ``Check`` with ``findings`` (each has ``level``, ``code``, ``statement`` and ``advice``) and ``ok`` (no errors and
            no warnings); it prints as text.

        Raises:
            ValueError: the model has effects of ``mle.Real(by=...)``.

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
        from mlejax import fit as fit_room
        from mlejax import inference

        fit_room.refuse_effects(self.likelihood, "check", "check the model with the effects as a column of the data")
        return inference.check(self.likelihood, data, start=start, fixed=fixed, missing=missing, seed=seed)

    def regress(self, regressions: Mapping[str, str | Linear] | None = None, /, **named: str | Linear) -> Model:
        """Return the same model with parameters that depend on predictors by formulas.

        In the function, ``params["mu"]`` is then the vector ``link^-1(X beta + offset)`` with one entry per row, and
        ``mu`` stands for the coefficients ``mu[Intercept]``, ``mu[age]``, ... everywhere else: in tables, ``start=``,
        ``fixed=``, tests.  Links follow from the supports: identity for ``Real``, log for ``Positive``, (scaled) logit
        for ``Interval``, softmax for ``Simplex``, by default with the first entry as reference.  A vector has coefficients
        for each entry, ``beta[2][age]``.  A row-wise function written for a vector of one shape is called row by row with
        that shape.

        Args:
            regressions: parameter name -> formula, for names that cannot be keywords.
            **named: a formula (``"age + C(region)"``, in formulaic's syntax, with an intercept), the name of a design
                matrix in the data (used unchanged), or :class:`mlejax.Linear` with its own link, offset or exposure.

        Returns:
            A model with every method of this one.

        Raises:
            ValueError: no such parameter, or one that cannot have a formula (ordered, or a matrix); a formula with a left side;
                the softmax link for another parameter than a simplex, or another link for a simplex; an exposure without
                the log link.  Other links are not compared with the support: ``link="identity"`` for ``Positive`` is accepted.
            TypeError: something else than a formula, a name or :class:`mlejax.Linear`.

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
                f"regress expected formulas by parameter, regress({first}='x'), without a left side, since the log-likelihood "
                f"function reads the outcome itself; got {came}"
            )
        return Model(regressed(self.likelihood, {**(regressions or {}), **named}))

    def prepare(self, data: Data, *, start: PyTree = None, missing: Missing = "raise") -> fit_room.Problem:
        """Check, convert and pad data into the `Problem` that the pure core :func:`mlejax.solve` takes.

        Args:
            data, missing: as in :meth:`fit`.
            start: example parameters, only for a model without declared parameters, whose structure it gives.

        Returns:
            :class:`mlejax.Problem`: the padded data and the parameter space.

        Raises:
            ValueError, TypeError, KeyError: data that cannot be used, or effects of ``mle.Real(by=...)``.
        """
        from mlejax import fit as fit_room

        fit_room.refuse_effects(self.likelihood, "the pure core", "use fit")
        return fit_room.prepare(self.likelihood, data, start=start, missing=missing)


def _unpickled(named: Named | None, likelihood: Likelihood) -> Model:
    """Return the model that can be imported under this name if it has this very likelihood, else a new model with it."""
    there = None if named is None else find(named)
    return there if isinstance(there, Model) and there.likelihood is likelihood else Model(likelihood)
