"""`model.check`: find problems of a log-likelihood on given data without fitting it.

The function is traced once, and its values and scores are evaluated row by row at the start and at two random interior
points near it.  Nothing is optimised.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.data import Prepared
from mlejax.execution import float64
from mlejax.execution.trace.jaxprs import Closed, closed_over
from mlejax.fit import Loaded
from mlejax.fit.common import check_count
from mlejax.fit.diagnose.directions import movements
from mlejax.fit.diagnose.evidence import non_finite_terms
from mlejax.fit.prepare.arguments import fix_on_host, outside_transformations
from mlejax.fit.prepare.loading import load
from mlejax.fit.search import start_of_one
from mlejax.fit.start import given_values
from mlejax.likelihood import Likelihood, LikelihoodError, check_rows_once, missing_derivatives
from mlejax.notebook import Text, in_notebooks
from mlejax.objective import ChunkedEvaluator, SingleEvaluator, Spec, row_terms
from mlejax.parameters import AddressError
from mlejax.shapes import Data, Either, Float, Host, PyTree
from mlejax.verdict import ADVICE

if TYPE_CHECKING:
    import pandas as pd

CAPTURED = 256  # numbers in an array that the function closes over, above which it is named
NULL = 1e-10  # singular value of the scaled scores that counts as 0: columns far from 0 leave more
LEVELS = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One problem that `model.check` found.

    Attributes:
        level: ``"error"``: a fit cannot work; ``"warning"``: its numbers may be wrong or missing; ``"note"``: worth knowing.
        code: short name, such as ``"ignored_parameter"``.
        statement: what was observed, with the user's names.
        advice: what to change.
    """

    level: str
    code: str
    statement: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.level}: {self.code}: {self.statement}.  {self.advice}".rstrip()


@in_notebooks
@dataclass(frozen=True)
class Check:
    """What `model.check` found.

    Attributes:
        name: name of the model.
        findings: the findings, errors first.
    """

    name: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """True if there are no errors and no warnings (notes are allowed)."""
        return all(f.level == "note" for f in self.findings)

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of the findings, in their order."""
        return tuple(f.code for f in self.findings)

    def frame(self) -> pd.DataFrame:
        """Return a DataFrame with one row for each finding: level, code, statement and advice."""
        import pandas as pd

        return pd.DataFrame([asdict(f) for f in self.findings], columns=[f.name for f in fields(Finding)])

    def __str__(self) -> Text:
        if not self.findings:
            return Text([f"{self.name}: nothing found"])
        return Text([f"{self.name}: {'fine' if self.ok else 'found'}", *(f"  {f}" for f in self.findings)])

    def __repr__(self) -> str:
        return f"<mlejax check {self}>"


def check(
    likelihood: Likelihood,
    data: Data,
    *,
    start: PyTree = None,
    fixed: Mapping[str, Any] | None = None,
    missing: str = "raise",
    seed: int = 0,
) -> Check:
    """Find problems of a log-likelihood on data, without a fit.

    Errors that a fit would raise for the data, the options or the function become findings of level "error"; only a ``seed``
    that is not a whole number of at least 0 raises (ValueError or TypeError).

    Args:
        likelihood, data: the model and its data.
        start: starting values, natural scale; None: chosen as a fit does.
        fixed: values of parameters or entries that are not estimated.
        missing: "raise", or "drop" to leave out rows with missing values.
        seed: seed of the search for a start.
    """
    seed = check_count("seed", seed, 0)
    with float64(), outside_transformations():
        try:
            with missing_derivatives(likelihood):
                loaded = load(likelihood, data, start, missing)
                given = given_values(loaded.problem.space, likelihood.parameters, start)
                space, fixed_values = fix_on_host(loaded.problem.space, fixed)
                evaluator = ChunkedEvaluator(Spec(likelihood, space), loaded.problem.data, fixed_values)
                u0 = start_of_one(evaluator, loaded, given, seed)
                found = examine(evaluator, loaded, u0)
                try:
                    check_rows_once(likelihood, space, loaded.problem.data, u0, fixed_values, loaded.rows)
                except LikelihoodError as error:
                    found = [refused(error, "dependent_rows")]
        except (ValueError, TypeError, KeyError) as error:
            code = "data"
            if isinstance(error, (LikelihoodError, AddressError)):
                code = "likelihood" if isinstance(error, LikelihoodError) else "address"
            found = [refused(error, code)]
    return Check(likelihood.name, tuple(sorted(found, key=lambda f: LEVELS.index(f.level))))


def refused(error: Exception, code: str) -> Finding:
    """Return an error that a fit raises as a finding of level "error" with the given code; its message is the statement."""
    text = error.args[0] if isinstance(error, KeyError) and error.args else str(error)
    return Finding("error", code, str(text).rstrip("."))


def examine(evaluator: SingleEvaluator, loaded: Loaded, u0: np.ndarray) -> list[Finding]:
    """Return the findings on precision, arrays that the function closes over, compilation, values and scores, at the start
    u0 (p,) and at two random points near it.
    """
    spec, fixed = evaluator.spec, evaluator.fixed
    traced = _traced(spec, loaded)
    found = [*_precision(loaded, traced), *_captured(traced), *_compilations(loaded)]
    if u0.size == 0:
        return found
    rng = np.random.default_rng(0)
    near = [u0 + 0.1 * rng.standard_normal(u0.shape) * np.maximum(1.0, np.abs(u0)) for _ in range(2)]
    points = [u0, *(np.clip(u, spec.space.lower, spec.space.upper) for u in near)]
    each = [row_terms(evaluator, u)[:2] for u in points]
    finite = _finiteness(evaluator, loaded, points, each)
    return found + (finite or _scores(spec, fixed, points, each))


# ---- numbers


def _at(spec: Spec, fixed: Either | None, u: np.ndarray) -> str:
    theta = np.asarray(spec.space.theta_from_u(u, fixed))
    return ", ".join(f"{k} = {x:.6g}" for k, x in list(zip(spec.space.theta_labels, theta, strict=True))[:6])


def _finiteness(
    evaluator: SingleEvaluator, loaded: Loaded, points: list[np.ndarray], each: list[Any]
) -> list[Finding]:
    """Return at most one finding: the log-likelihood is not finite at the start, or at some point all its values are finite
    and a score is not (an unguarded branch of `where`).

    Args:
        evaluator, loaded: the model and its data.
        points: the start and points near it, unconstrained coordinates (p,) each.
        each: for each point, the values (n,) and scores (n, p) of all terms.
    """
    for k, (u, (values, scores)) in enumerate(zip(points, each, strict=True)):
        values_finite = bool(np.isfinite(values).all())
        if values_finite and np.isfinite(scores).all():
            continue
        if k > 0 and not values_finite:
            continue  # a random point outside the support of some row proves nothing
        text = non_finite_terms(evaluator, loaded, u, _at(evaluator.spec, evaluator.fixed, u))
        if values_finite:
            return [Finding("error", "where_guard", text, _WHERE)]
        return [Finding("error", "start_not_finite", f"at the start {text}", _START)]
    return []


_WHERE = (
    "The function needs finite derivatives there too. In jnp.where the derivative of the branch not taken is computed as well, "
    "and 0 times infinity is NaN: put a safe value inside the branch, jnp.where(x > 0, jnp.log(jnp.where(x > 0, x, 1.0)), 0.0)"
)
_START = (
    "Give start= inside the support of every row; or look at the rows named: a logarithm of zero, or a value outside the "
    "support"
)


def _scores(spec: Spec, fixed: Either | None, points: list[np.ndarray], each: list[Any]) -> list[Finding]:
    """Return findings on parameters in which the score of every term is 0 at all points, on combinations of parameters along
    which it is, and on fewer terms than parameters (combinations are not looked for then); arguments as in `_finiteness`.
    """
    scores = [s for _, s in each if np.isfinite(s).all()]
    n, p = scores[0].shape
    labels = spec.space.theta_labels
    ignored = np.all([np.abs(s).max(axis=0) == 0.0 for s in scores], axis=0) if n else np.zeros(p, bool)
    out = [
        Finding(
            "warning",
            "ignored_parameter",
            f"the log-likelihood does not depend on {labels[j]}: its score is 0 in all {n} contributions",
            "Use it in the function, fix it with fixed=, or drop it",
        )
        for j in np.flatnonzero(ignored)
    ]
    kept = np.flatnonzero(~ignored)
    if 1 < n < kept.size:
        advice = "Expect no finite maximum or no unique one; cov_type='opg' and sandwich standard errors are not available"
        out.append(Finding("warning", "few_rows", f"{n} contributions for {kept.size} parameters", advice))
    elif n > 1:
        for vector in _common_null(scores, kept):
            text, _ = movements.describe_flat(points[0], vector, spec.space, fixed)
            out.append(Finding("warning", "not_identified", text, ADVICE["not_identified"].rstrip(".")))
    return out


def _common_null(scores: list[Float[Host, "n p"]], kept: np.ndarray) -> list[Float[Host, " p"]]:
    """Return directions (p,) in u along which the score of every term is 0 at all points, largest entry 1.

    Args:
        scores: scores of the terms at each point.
        kept: positions of the coordinates in which some score is not 0.
    """
    p = scores[0].shape[1]
    stacked = np.concatenate([s[:, kept] for s in scores])
    size = np.sqrt((stacked**2).sum(axis=0))
    triangle = np.asarray(np.linalg.qr(stacked / size, mode="r"))
    _, values, vectors = np.linalg.svd(triangle)
    out = []
    for value, vector in zip(values[::-1], vectors[: values.size][::-1], strict=True):
        if value < NULL * kept.size:
            whole = np.zeros(p)
            whole[kept] = vector / size
            out.append(whole / np.abs(whole).max())
    return out


# ---- the function


def _traced(spec: Spec, loaded: Loaded) -> Closed:
    """Return the jaxpr of the user's function, traced with abstract float64 parameters and at most two rows or units of data
    (all rows if ``rowwise=False``).
    """
    data: Prepared = loaded.problem.data
    n = data.weights.shape[0] if data.mode == "whole" else min(2, data.weights.shape[0])

    def short(a: Either) -> jax.ShapeDtypeStruct:
        lead = a.shape[:1] if data.mode == "whole" else (n,)
        return jax.ShapeDtypeStruct((*lead, *a.shape[1:]), a.dtype)

    rows = tuple(short(a) for a in data.rows)
    shared = jax.tree.map(lambda a: jax.ShapeDtypeStruct(np.shape(a), np.asarray(a).dtype), data.shared)
    values = [jax.ShapeDtypeStruct(leaf.shape, jnp.result_type(float)) for leaf in spec.space.leaves]

    def run(values: PyTree, rows: PyTree, shared: PyTree) -> PyTree:
        return spec.likelihood.contributions(spec.space.build(values), rows, shared, data.statics)

    return jax.make_jaxpr(run)(values, rows, shared)


def _equations(jaxpr: Any) -> Iterator[Any]:
    """Yield all equations of a jaxpr, including those of inner functions and loops."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, (list, tuple)) else [value]:
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from _equations(inner)


def _narrow(dtype: np.dtype) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.floating)) and jnp.finfo(dtype).bits < 64


def _precision(loaded: Loaded, traced: Closed) -> list[Finding]:
    """Return findings on columns, on arrays that the function closes over, and on arithmetic, of floating-point numbers with
    fewer than 64 bits.  ``traced``: jaxpr of the function.
    """
    advice = "Read or convert it as float64 from its source; a conversion now does not bring the digits back"
    out = [
        Finding("warning", "float32_column", f"column {name!r} came with about 7 digits (float32 or less)", advice)
        for name in loaded.rows.float32
    ]
    advice = "Make it a NumPy float64 array, or pass it in the data (mle.Shared for an array that is not per row)"
    out += [
        Finding(
            "warning",
            "float32_constant",
            f"the function closes over a float32 array of shape {np.shape(constant)}, made outside the fit",
            advice,
        )
        for constant in closed_over(traced)
        if _narrow(np.asarray(constant).dtype)
    ]
    made = {
        str(equation.primitive)
        for equation in _equations(traced.jaxpr)
        for variable in equation.outvars
        if _narrow(variable.aval.dtype)
    }
    if made:
        text = f"the function computes in float32 ({', '.join(sorted(made)[:5])})"
        advice = "Leave out dtype=jnp.float32 and .astype(jnp.float32)"
        out.append(Finding("warning", "float32_arithmetic", text, advice))
    return out


def _captured(traced: Closed) -> list[Finding]:
    """Return a finding for each array of 256 numbers or more that the function, with this jaxpr, closes over."""
    advice = (
        "Pass it as a column, or as mle.Shared(array): a constant is compiled into the program, does not follow the rows "
        "when they are cut into blocks or resampled, and another array means another compilation"
    )
    found = [np.shape(constant) for constant in closed_over(traced) if np.size(constant) >= CAPTURED]
    text = "the function closes over an array of shape {} instead of reading it from the data"
    return [Finding("warning", "captured_array", text.format(shape), advice) for shape in found]


def _compilations(loaded: Loaded) -> list[Finding]:
    """Return notes on shapes of the data that cost compilations or work: ``rowwise=False``, units padded to 4 times their
    mean number of rows or more, and `Shared` arrays.
    """
    data: Prepared = loaded.problem.data
    found = []
    if data.mode == "whole":
        text = f"rowwise=False compiles anew for every length of the data, here {loaded.rows.n}"
        advice = (
            "If each contribution depends on its own row or unit alone, leave rowwise=False out, or give unit=: the data are "
            "then padded to one of a few lengths"
        )
        found.append(("compiles_per_length", text, advice))
    elif data.mode == "units":
        longest = int(np.asarray(data.rows[0]).shape[1])
        mean = loaded.rows.n / max(data.n_contributions, 1)
        if longest >= 4 * mean:
            text = f"units are padded to {longest} rows, and have {mean:.3g} on average"
            advice = "The work is that of the longest unit; split very long ones if the model allows it"
            found.append(("uneven_units", text, advice))
    if shapes := [np.shape(a) for a in data.shared]:
        text = f"the program is compiled for mle.Shared arrays of these shapes: {', '.join(map(str, shapes[:4]))}"
        found.append(("shared_shapes", text, "Another shape, or another mle.Static value, means another compilation"))
    return [Finding("note", *one) for one in found]
