"""Methods of results for functions of the estimates, profiles, predictions, checks and resampling."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from mlejax import files, inference, misuse
from mlejax import fit as fit_room
from mlejax.inference.resampling.bootstrap import BootstrapKind
from mlejax.results.doors import reporting
from mlejax.results.doors.documented import documented_by
from mlejax.results.doors.fitted import Fitted
from mlejax.shapes import Data

if TYPE_CHECKING:
    import pandas as pd


@misuse.doors
class Postestimation(Fitted):
    """Methods that use the estimates and the fitted model."""

    # ---- functions of the estimates, profiles, predictions

    def nlcom(self, function: Callable[[Any], Any], *, value: Any = 0.0, alpha: float = 0.05) -> inference.DeltaResult:
        """Return any function of ``params`` with its delta-method standard error.

        Args:
            function: pure JAX function from ``params`` (the user's structure, natural scale) to a number, an array, or a dict of
                them.  Names of entries work too: ``lambda p: p["mu[age]"] / p["sigma"]``.
            value: values under the null hypothesis of the z tests, 0 by default.
            alpha: one minus the coverage.

        Returns:
            :class:`mlejax.inference.DeltaResult`: prints as a table; ``params``, ``bse``, ``conf_int()``, ``wald_test()``.  A
            standard error that does not exist is NaN, with a note.

        Raises:
            ValueError: the function returns nothing, ``value`` has another size, or ``alpha`` is outside (0, 0.5].
            TypeError: it returns something that is not a number, or cannot be differentiated by JAX.

        Example:
            >>> import mlejax as mle
            >>> from jax.scipy.stats import norm
            >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
            ... def gaussian(params, data):
            ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
            >>> res = gaussian.fit({"y": [1.0, 2.0, 6.0, 3.0]})
            >>> ratio = res.nlcom(lambda p: {"signal": p["mu"] / p["sigma"]})
            >>> round(float(ratio.params[0]), 4)
            1.6036
        """
        return inference.nlcom_of(
            self._fit, self._cov.full, function, value=value, alpha=alpha, reason=self._entries.reason, df=self._cov.df
        )

    def latent(self) -> pd.DataFrame:
        """Return the latent variables of every unit given its rows, at the estimates, on the scale on which the user's
        function reads them.

        Returns:
            One row for each unit (and entry, in the column ``latent``; with several grouping columns for each of their levels):
            ``mode`` and ``mean`` of the latent variable given the unit's rows, its conditional standard deviation ``sd``, and
            ``sd_all``, which includes the error of the estimates (Kass & Steffey 1989): the square root of the conditional
            variance plus the delta-method variance of the mean.  For latent classes (:class:`mlejax.Discrete`) one row for each
            row or unit: the most probable class, and the probability of each class given the data.  For a hidden Markov chain
            (:class:`mlejax.Markov`) one row for each row: the state on the most probable path, and the probability of each state
            given the whole series.

        Raises:
            ValueError: the model has no latent variables, or the result was loaded from a file, which has no rows.

        Example:
            >>> import jax.numpy as jnp, mlejax as mle
            >>> from jax.scipy.stats import norm
            >>> @mle.model(mu=mle.Real(), sd=mle.NonNegative(), sigma=mle.Positive(), u=mle.Latent(by="g"))
            ... def one_way(params, data):
            ...     return norm.logpdf(data["y"], params["mu"] + params["sd"] * params["u"], params["sigma"])
            >>> res = one_way.fit({"y": [1.0, 2.0, 5.0, 6.0, 3.0, 3.5], "g": list("aabbcc")})
            >>> res.latent()[["g", "mean"]].round(3)
               g   mean
            0  a -1.129
            1  b  1.227
            2  c -0.098
        """
        return reporting.latent_table(self._fit, self._cov)

    @documented_by(inference.random_effects)
    def random_effects(self, alpha: float = 0.05) -> pd.DataFrame:
        return inference.random_effects(self._fit, self._cov, alpha, self._entries.reason)

    @documented_by(inference.profile)
    def profile(
        self,
        what: str | Callable[[Any], Any],
        alpha: float = 0.05,
        *,
        adjusted: bool = False,
        progress: bool | None = None,
    ) -> inference.Profile:
        note = "The search began at a point that was found while a profile was computed."
        self._refuse_effects("profile", "use conf_int() or wald_test")
        again = lambda u: self.make(self._model, fit_room.continued(self._fit, u, note), None, None)
        return inference.profile(self._fit, self._cov, what, alpha, adjusted, again, progress)

    @documented_by(inference.logdensity)
    def logdensity(self, prior: Callable[[Any], Any] | None = None) -> inference.LogDensity:
        self._refuse_effects("logdensity", "effects() lists them; a random effect is integrated out")
        return inference.logdensity(self._fit, prior)

    @documented_by(inference.contour)
    def contour(
        self,
        first: str | Callable[[Any], Any],
        second: str | Callable[[Any], Any],
        alpha: float = 0.05,
        *,
        joint: bool = True,
        n: int = 72,
        progress: bool | None = None,
    ) -> inference.Contour:
        self._refuse_effects("contour", "use wald_test")
        return inference.contour(self._fit, self._cov, first, second, alpha, joint, n, progress)

    @documented_by(inference.predict)
    def predict(
        self,
        function: Callable[..., Any] | None = None,
        data: Data = None,
        *,
        param: str | None = None,
        scale: Literal["natural", "link"] = "natural",
        support: tuple[float | None, float | None] | None = None,
        random: inference.Random = "integrate",
        errors: Literal["all", "last-layer"] = "all",
        layer: str | Sequence[str] | None = None,
        damping: float = 0.0,
        alpha: float = 0.05,
    ) -> Data:
        self._refuse_unsaved("predict")
        options: dict[str, Any] = {"param": param, "scale": scale, "support": support, "random": random, "alpha": alpha}
        reason = self._entries.reason if errors == "all" else ""
        options |= {"errors": errors, "layer": layer, "damping": damping}
        return inference.predict(self._fit, self._cov, function, data, **options, reason=reason)

    @documented_by(inference.margins)
    def margins(
        self,
        variables: str | Sequence[str] | None = None,
        of: Callable[..., Any] | None = None,
        *,
        data: Data = None,
        at: Mapping[str, Any] | None = None,
        over: str | Sequence[str] | None = None,
        at_means: bool = False,
        elasticity: inference.Elasticity | None = None,
        unconditional: bool = False,
        support: tuple[float | None, float | None] | None = None,
        random: inference.Random = "integrate",
        alpha: float = 0.05,
    ) -> inference.Margins:
        self._refuse_unsaved("margins")
        options: dict[str, Any] = {"data": data, "at": at, "over": over, "at_means": at_means, "elasticity": elasticity}
        options |= {"unconditional": unconditional, "support": support}
        options["random"] = random
        return inference.margins(
            self._fit, self._cov, variables, of, **options, alpha=alpha, reason=self._entries.reason
        )

    def _refuse_unsaved(self, method: str) -> None:
        """Raise ValueError if the result is from a file that could not hold the formulas of the model."""
        designs: Any = self._fit.loaded.designs
        if isinstance(designs, files.Unsaved):
            raise ValueError(f"{method} evaluates the formulas of the model on new data, but {designs.why}")

    # ---- checks

    @documented_by(inference.influence)
    def influence(self, groups: Any = None, *, leverage: bool = False) -> inference.Influence:
        return inference.influence(self._fit, groups, leverage=leverage)

    @documented_by(inference.diagnose)
    def diagnose(self) -> inference.Trust:
        self._refuse_effects("diagnose", "read verdict and effects()")
        return inference.diagnose(self._fit)

    @documented_by(inference.residuals)
    def residuals(
        self,
        kind: Literal["quantile", "pearson", "deviance", "response", "score"] = "quantile",
        *,
        response: str | None = None,
        discrete: bool | None = None,
        random: inference.Random = "integrate",
        seed: int = 0,
    ) -> Any:
        return inference.residuals(self._fit, kind, response=response, discrete=discrete, random=random, seed=seed)

    @documented_by(inference.subset_errors_of)
    def subset_errors(
        self,
        *addresses: str,
        others: Literal["given", "estimated"] = "given",
        damping: float = 0.0,
        tol: float = 1e-8,
        max_steps: int | None = None,
        alpha: float = 0.05,
    ) -> inference.SubsetErrors:
        self._refuse_effects(
            "subset_errors", "bse has the errors of all other parameters, effects() those of the effects"
        )
        return inference.subset_errors_of(
            self._fit, *addresses, others=others, damping=damping, tol=tol, max_steps=max_steps, alpha=alpha,
            cov_type=self.cov_type,
        )  # fmt: skip

    # ---- resampling

    @documented_by(inference.simulate_fit)
    def simulate(self, data: Data = None, seed: int = 0, *, random: inference.Random = "integrate") -> dict[Any, Any]:
        return inference.simulate_fit(self._fit, data, seed, random=random)

    @documented_by(inference.bootstrap)
    def bootstrap(
        self,
        n: int = 1000,
        kind: BootstrapKind = "case",
        *,
        seed: int = 0,
        groups: Any = None,
        approximate: Literal["one-step"] | None = None,
        random: inference.Random = "integrate",
        memory_limit: float | None = None,
        progress: bool | None = None,
    ) -> inference.Bootstrap:
        return inference.bootstrap(
            self._fit,
            n,
            kind,
            seed=seed,
            groups=groups,
            approximate=approximate,
            random=random,
            memory_limit=memory_limit,
            progress=progress,
        )

    @documented_by(inference.jackknife)
    def jackknife(
        self,
        groups: Any = None,
        *,
        approximate: Literal["one-step"] | None = None,
        memory_limit: float | None = None,
        progress: bool | None = None,
    ) -> inference.Jackknife:
        return inference.jackknife(
            self._fit, groups, approximate=approximate, memory_limit=memory_limit, progress=progress
        )

    @documented_by(inference.split_panel)
    def split_panel(self, time: str, n: int = 200, *, seed: int = 0) -> inference.SplitPanel:
        return inference.split_panel(self._fit, time, n, seed=seed)

    @documented_by(inference.cross_validate)
    def cross_validate(
        self,
        k: int = 10,
        *,
        seed: int = 0,
        groups: Any = None,
        random: inference.Random = "integrate",
        memory_limit: float | None = None,
        progress: bool | None = None,
    ) -> inference.CrossValidation:
        return inference.cross_validate(
            self._fit, k, seed=seed, groups=groups, random=random, memory_limit=memory_limit, progress=progress
        )
