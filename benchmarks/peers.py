"""Eleven likelihoods in which a search can go wrong, and what other programs say of them at their ordinary settings.

Every program gets the same data and start, and exact derivatives from JAX in float64 where it takes them. Programs that
have bounds (iminuit, optimagic, scipy) get natural parameters within them; the others get logarithms of scales and the logit
of a probability. statsmodels fits its own Logit, Poisson
and MixedLM where the data set is one of these.
"""

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.nn import log_sigmoid
from jax.scipy.special import gammaln
from jax.scipy.stats import norm
from scipy import stats

from tests.cases import Case

ROOT = Path(__file__).parent.parent
Vector = np.ndarray


@dataclass(frozen=True)
class Said:
    """What one program says of one data set.

    Attributes:
        data_set, tool: which.
        says: in a word or two, by the program's own flag: "success", "failure", "valid", or a verdict's code.
        message: its own sentence, if it has one.
        warnings: what it warned of, first lines.
        estimate, se: of the parameter shown, natural scale; None where it gives none.
        params: all estimates.
    """

    data_set: str
    tool: str
    says: str
    message: str = ""
    warnings: list[str] = field(default_factory=list)
    estimate: float | None = None
    se: float | None = None
    params: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class DataSet:
    """One likelihood: entry i of `loglik(params, data)` is contribution i.

    Attributes:
        name, title: the key, and the row's label in the table.
        loglik, data: the likelihood.
        start: natural values, by name; a vector parameter is an array.
        supports: "positive", "nonnegative" or "unit" of the parameters that are not real.
        shown: the address of the parameter that stands for the fit in the table.
        truth: what there is to be seen.
    """

    name: str
    title: str
    loglik: Callable[[Any, Any], Any]
    data: dict[str, Vector]
    start: dict[str, Vector]
    supports: dict[str, str]
    shown: str
    truth: str

    @cached_property
    def addresses(self) -> list[str]:
        """One per entry of the flat vector."""
        return [
            address
            for name, value in self.start.items()
            for address in ([f"{name}[{i}]" for i in range(value.size)] if value.ndim else [name])
        ]

    @cached_property
    def support(self) -> list[str]:
        """Of each entry."""
        return [self.supports.get(address.split("[")[0], "real") for address in self.addresses]

    def tree(self, x: Any) -> dict[str, Any]:
        """The flat vector as parameters."""
        out, at = {}, 0
        for name, value in self.start.items():
            out[name] = jnp.reshape(x[at : at + value.size], value.shape)
            at += value.size
        return out


def at_the_limits() -> list[DataSet]:
    """Textbook formulas where they lose their digits, an edge on which the score is 0, and time in seconds since 1970.

    `benchmarks/results/limits.csv` holds the samples, drawn once by :func:`draw`.
    """
    columns = pd.read_csv(ROOT / "benchmarks" / "results" / "limits.csv")
    y = lambda name: {"y": columns[name].to_numpy(np.float64)}

    def negative_binomial(params: Any, data: Any) -> Any:
        r, mu, y = 1 / params["alpha"], params["mu"], data["y"]
        constant = gammaln(y + r) - gammaln(r) - gammaln(y + 1.0)
        return constant + r * jnp.log(r / (r + mu)) + y * jnp.log(mu / (r + mu))

    def student(params: Any, data: Any) -> Any:
        v, s = params["df"], params["s"]
        z = (data["y"] - params["m"]) / s
        constant = gammaln((v + 1) / 2) - gammaln(v / 2) - 0.5 * jnp.log(v * jnp.pi) - jnp.log(s)
        return constant - (v + 1) / 2 * jnp.log1p(z * z / v)

    def frontier(params: Any, data: Any) -> Any:
        e, sv, su = data["y"] - params["b"], params["sv"], params["su"]
        s = jnp.sqrt(sv**2 + su**2)
        return jnp.log(2.0) + norm.logpdf(e, 0.0, s) + norm.logcdf(-e * su / sv / s)

    def logit(params: Any, data: Any) -> Any:
        eta = params["beta"][0] + params["beta"][1] * data["time"]
        return log_sigmoid(jnp.where(data["y"] == 1, eta, -eta))

    one = np.array(1.0)
    edges = {"sv": "positive", "su": "nonnegative"}
    begin = {"b": np.array(0.0), "sv": one, "su": one}
    return [
        DataSet(
            "nb", "negative binomial, Poisson counts", negative_binomial, y("counts"),
            {"mu": one, "alpha": one}, {"mu": "positive", "alpha": "positive"}, "alpha",
            "no maximum: the log-likelihood rises to that of the Poisson as alpha goes to 0",
        ),
        DataSet(
            "t", "Student's t, normal data", student, y("normals"),
            {"m": np.array(0.0), "s": one, "df": np.array(5.0)}, {"s": "positive", "df": "positive"}, "df",
            "no maximum: the log-likelihood rises to that of the normal as df goes to infinity",
        ),
        DataSet(
            "frontier", "frontier, skewed as it should be", frontier, y("skewed"), begin, edges, "su",
            "an ordinary maximum, beside an edge on which the score is 0",
        ),
        DataSet(
            "wrong skew", "frontier, skewed the wrong way", frontier, y("wrong"), begin, edges, "su",
            "the maximum is at su = 0 (Waldman 1982)",
        ),
        DataSet(
            "time", "logit on Unix time", logit,
            {"time": columns["time"].to_numpy(np.float64), "y": columns["event"].to_numpy(np.float64)},
            {"beta": np.zeros(2)}, {}, "beta[1]",
            "an ordinary maximum: the slope and its error are those of time less its mean",
        ),
    ]  # fmt: skip


def draw() -> pd.DataFrame:
    """The samples of :func:`at_the_limits`: the first draws of each kind that are as it wants them."""
    rng, n = np.random.default_rng(1), 200
    first = lambda draw, wanted: next(y for y in (draw() for _ in range(1000)) if wanted(y))
    normal = lambda: rng.normal(size=n)
    residual = lambda: 1.0 + 0.5 * rng.normal(size=n) - np.abs(rng.normal(size=n))
    time = 1_700_000_000 + rng.integers(0, 6 * 3600, size=n)
    hours = (time - time.mean()) / 3600
    return pd.DataFrame({
        "counts": first(lambda: rng.poisson(3.0, size=n), lambda y: y.var() < y.mean()),
        "normals": first(normal, lambda y: stats.kurtosis(y) < 0).round(6),
        "skewed": first(residual, lambda y: stats.skew(y) < -0.2).round(6),
        "wrong": first(lambda: 1.0 + 0.6 * normal(), lambda y: stats.skew(y) > 0.1).round(6),
        "time": time,
        "event": (rng.random(n) < 1 / (1 + np.exp(-hours))).astype(int),
    })  # fmt: skip


def data_sets() -> list[DataSet]:
    """All, those at the limits last."""

    def case(
        name: str, title: str, folder: str, shown: str, truth: str, start: str | None = None, **supports: str
    ) -> DataSet:
        source = Case(folder)
        init = source.hard_inits[start] if start else source.init
        return DataSet(name, title, source.loglik, source.data, init, supports, shown, truth)

    def sum_of_two(params: Any, data: Any) -> Any:
        return norm.logpdf(data["height"], params["a"] + params["b"], params["sigma"])

    heights = pd.read_csv(ROOT / "examples" / "data" / "heights.csv")["height"].to_numpy()
    begin = {"a": np.array(100.0), "b": np.array(50.0), "sigma": np.array(10.0)}
    twice = DataSet(
        "sum",
        "mean a + b",
        sum_of_two,
        {"height": heights},
        begin,
        {"sigma": "positive"},
        "a",
        "only a + b is identified",
    )
    return [
        case("separation", "separated logit", "iris_separated", "beta[1]", "no maximum: the slope runs to infinity"),
        twice,
        case(
            "variance",
            "variance at 0",
            "dyestuff2_boundary",
            "sigma_u",
            "the maximum is at sigma_u = 0, where Wald errors do not hold",
            sigma_u="nonnegative",
            sigma="positive",
        ),
        case("zeros", "all counts 0", "constant_poisson_zero", "beta[0]", "no maximum: the rate runs to 0"),
        case(
            "cauchy",
            "two-mode Cauchy",
            "cauchy_location",
            "theta",
            "started near the lower mode, 2.817; the higher one is at -0.192",
            start="other_mode",
        ),
        case(
            "mixture",
            "mixture on a point",
            "faithful_mix2",
            "sigma1",
            "started near a spike: the likelihood is unbounded as sigma1 goes to 0",
            start="near_degenerate",
            w="unit",
            sigma1="positive",
            sigma2="positive",
        ),
        *at_the_limits(),
    ]


class Functions:
    """The likelihood of one data set as functions of a flat float64 vector, compiled: natural, or unbounded by
    logarithms and logits."""

    def __init__(self, data_set: DataSet, unbounded: bool) -> None:
        self.data_set, self.unbounded = data_set, unbounded
        data = {key: jnp.asarray(value) for key, value in data_set.data.items()}

        def rows(x: Any) -> Any:
            return data_set.loglik(data_set.tree(self.natural(x)), data)

        compiled = {
            "rows": rows,
            "row_scores": jax.jacfwd(rows),
            "value": lambda x: jnp.sum(rows(x)),
            "score": jax.grad(lambda x: jnp.sum(rows(x))),
            "hessian": jax.hessian(lambda x: jnp.sum(rows(x))),
        }
        self.traced_value = compiled["value"]
        self._compiled = {name: jax.jit(function) for name, function in compiled.items()}

    def __getattr__(self, name: str) -> Callable[[Vector], Any]:
        function = self._compiled[name]
        return lambda x: np.asarray(function(jnp.asarray(x, jnp.float64)), dtype=np.float64)

    def natural(self, x: Any) -> Any:
        """The optimiser's vector as natural values."""
        if not self.unbounded:
            return x
        kinds = self.data_set.support
        maps = {"real": lambda z: z, "positive": jnp.exp, "nonnegative": jnp.exp, "unit": jax.nn.sigmoid}
        return jnp.stack([maps[kind](x[i]) for i, kind in enumerate(kinds)])

    @property
    def start(self) -> Vector:
        """Where all programs start."""
        flat = np.concatenate([np.ravel(value) for value in self.data_set.start.values()])
        if not self.unbounded:
            return flat
        maps = {"real": lambda v: v, "unit": lambda v: np.log(v) - np.log1p(-v)}
        return np.array([maps.get(k, np.log)(v) for k, v in zip(self.data_set.support, flat, strict=True)])

    def bounds(self, positive: float) -> list[tuple[float, float]]:
        """(lower, upper) of each entry; `positive` stands for the open end at 0, where the density is not defined."""
        limits = {"real": (-np.inf, np.inf), "nonnegative": (0.0, np.inf), "positive": (positive, np.inf)}
        return [limits.get(kind, (positive, 1.0 - positive)) for kind in self.data_set.support]

    def said(self, tool: str, says: str, x: Vector, se: Vector | None, **more: Any) -> Said:
        """Estimates and standard errors at the natural scale, by the delta method if need be."""
        values = np.asarray(self.natural(jnp.asarray(x)))
        slopes = np.diag(np.asarray(jax.jacfwd(self.natural)(jnp.asarray(x)))).reshape(-1) if self.unbounded else 1.0
        names = self.data_set.addresses
        at = names.index(self.data_set.shown)
        error = None if se is None else float((slopes * np.asarray(se))[at])
        params = dict(zip(names, map(float, values), strict=True))
        return Said(self.data_set.name, tool, says, estimate=float(values[at]), se=error, params=params, **more)


def by_scipy(data_set: DataSet) -> Said:
    """`minimize` by its default for the problem: BFGS, with errors from its `hess_inv`, or L-BFGS-B where there are bounds."""
    from scipy.optimize import minimize

    f = Functions(data_set, unbounded=False)
    bounds = f.bounds(1e-8) if data_set.supports else None
    res = minimize(lambda x: -f.value(x), f.start, jac=lambda x: -f.score(x), bounds=bounds)
    errors = roots(res.hess_inv) if bounds is None else None
    return f.said("scipy", outcome(res.success), res.x, errors, message=str(res.message))


def by_iminuit(data_set: DataSet) -> Said:
    """MIGRAD, then HESSE, with the exact gradient."""
    from iminuit import Minuit

    f = Functions(data_set, unbounded=False)
    m = Minuit(lambda x: -float(f.value(x)), f.start, grad=lambda x: -f.score(x), name=data_set.addresses)
    m.errordef = Minuit.LIKELIHOOD
    m.limits = f.bounds(0.0)
    m.migrad()
    m.hesse()
    flags = {
        "parameters at limit": m.fmin.has_parameters_at_limit,
        "covariance forced positive definite": m.fmin.has_made_posdef_covar,
        "covariance not accurate": not m.accurate and not m.fmin.has_made_posdef_covar,
        "Hesse failed": m.fmin.hesse_failed,
        "EDM above goal": m.fmin.is_above_max_edm,
        "call limit": m.fmin.has_reached_call_limit,
    }
    errors = np.array(m.errors) if m.covariance is not None else None
    raised = "; ".join(flag for flag, is_set in flags.items() if is_set)
    return f.said("iminuit", "valid" if m.valid else "invalid", np.array(m.values), errors, message=raised)


def by_optimagic(data_set: DataSet) -> Said:
    """`estimagic.estimate_ml` (which the package optimagic holds), by scipy's L-BFGS-B, with its default errors (OPG)."""
    import optimagic as om
    from estimagic import estimate_ml

    f = Functions(data_set, unbounded=False)
    lower, upper = np.array(f.bounds(1e-8)).T
    res = estimate_ml(
        om.mark.likelihood(f.rows),
        f.start,
        {"algorithm": "scipy_lbfgsb", "jac": om.mark.scalar(f.score)},
        bounds=om.Bounds(lower, upper) if data_set.supports else None,
        jacobian=f.row_scores,
        hessian=f.hessian,
    )
    done = res.optimize_result
    return f.said("optimagic", outcome(done.success), res.params, np.asarray(res.se()), message=str(done.message))


def by_optimistix(data_set: DataSet) -> Said:
    """`minimise` by BFGS; it gives no standard errors."""
    import optimistix as optx

    f = Functions(data_set, unbounded=True)
    found = optx.minimise(
        lambda x, _: -f.traced_value(x), optx.BFGS(rtol=1e-8, atol=1e-8), jnp.asarray(f.start), throw=False
    )
    good = bool(found.result == optx.RESULTS.successful)
    message = "" if good else optx.RESULTS[found.result]
    return f.said("optimistix", outcome(good), np.asarray(found.value), None, message=message)


def by_statsmodels(data_set: DataSet) -> Said:
    """Logit, Poisson, MixedLM; GenericLikelihoodModel by BFGS for the rest."""
    import statsmodels.api as sm
    from statsmodels.base.model import GenericLikelihoodModel

    d = data_set.data
    if data_set.name == "separation":
        res = sm.Logit(d["versicolor"], sm.add_constant(d["petal_length"])).fit(disp=0)
    elif data_set.name == "zeros":
        res = sm.Poisson(d["y"], sm.add_constant(d["x"])).fit(disp=0)
    elif data_set.name == "time":
        res = sm.Logit(d["y"], sm.add_constant(d["time"])).fit(disp=0)
    elif data_set.name == "variance":
        mixed = sm.MixedLM(d["yield"], np.ones(len(d["yield"])), groups=d["batch"]).fit(reml=False)
        variance, error = float(mixed.cov_re.squeeze()), float(mixed.bse_re[0])  # of the variance, not of its root
        root = np.sqrt(variance)
        se = error / (2.0 * root) if root > 0 else float("nan")
        params = {"mu": float(mixed.fe_params[0]), "sigma_u": float(root), "sigma": float(np.sqrt(mixed.scale))}
        return Said(data_set.name, "statsmodels", outcome(mixed.converged), estimate=float(root), se=se, params=params)
    else:
        f = Functions(data_set, unbounded=True)

        class Model(GenericLikelihoodModel):
            loglike = lambda self, x: float(f.value(x))
            loglikeobs = lambda self, x: f.rows(x)
            score = lambda self, x: f.score(x)
            score_obs = lambda self, x: f.row_scores(x)
            hessian = lambda self, x: f.hessian(x)

        y, names = next(iter(d.values())), data_set.addresses
        model = Model(y, pd.DataFrame({names[0]: np.ones(len(y))}), extra_params_names=names[1:])
        res = model.fit(f.start, method="bfgs", disp=0)
        return f.said("statsmodels", outcome(res.mle_retvals["converged"]), res.params, np.asarray(res.bse))
    f = Functions(data_set, unbounded=False)
    return f.said("statsmodels", outcome(res.mle_retvals["converged"]), res.params, np.asarray(res.bse))


def outcome(success: Any) -> str:
    """The word for a flag."""
    return "success" if bool(success) else "failure"


def roots(covariance: Vector) -> Vector:
    """Standard errors; NaN for negative variances."""
    with np.errstate(invalid="ignore"):
        return np.sqrt(np.diag(covariance))


# Tool, the package asked for its version, and how it is run.
PEERS: dict[str, Callable[[DataSet], Said]] = {
    "statsmodels": by_statsmodels,
    "iminuit": by_iminuit,
    "optimagic": by_optimagic,
    "optimistix": by_optimistix,
    "scipy": by_scipy,
}


def ask(tool: str, data_set: DataSet) -> Said:
    """Run one program; what it warns of, or an exception it raises, is part of what it says."""
    try:
        version(tool)
        import_module(tool)
    except (PackageNotFoundError, ImportError):
        return Said(data_set.name, tool, "not installed")
    with warnings.catch_warnings(record=True) as seen, jax.enable_x64(True):
        warnings.simplefilter("always")
        try:
            said = PEERS[tool](data_set)
        except Exception as error:
            said = Said(data_set.name, tool, "error", message=f"{type(error).__name__}: {error}")
    texts = [f"{w.category.__name__}: {' '.join(str(w.message).split())}" for w in seen]
    kept = [text for text in dict.fromkeys(texts) if not text.startswith(("DeprecationWarning", "FutureWarning"))]
    return replace(said, warnings=kept)


def as_json(said: Said) -> dict[str, Any]:
    """Plain values; infinities and NaN as words, which JSON lacks."""

    def plain(value: Any) -> Any:
        if isinstance(value, float):
            return value if np.isfinite(value) else str(value)
        if isinstance(value, dict):
            return {key: plain(entry) for key, entry in value.items()}
        return value

    return {key: plain(value) for key, value in asdict(said).items()}
