"""A result as the tables show it: terms, header and footer, and its column in a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import jax
import numpy as np

from mlejax import inference, report, transforms
from mlejax.covariance import CovarianceResult
from mlejax.fit import Fit
from mlejax.verdict import Verdict

if TYPE_CHECKING:
    import pandas as pd


class Reportable(Protocol):
    """What a report reads of a result, whose attributes these are."""

    _fit: Fit
    _cov: CovarianceResult

    @property
    def _entries(self) -> inference.Entries: ...
    @property
    def _facts(self) -> inference.FitFacts: ...
    @property
    def model(self) -> Any: ...
    @property
    def cov_type(self) -> str: ...
    @property
    def nobs(self) -> float: ...
    @property
    def n_units(self) -> int: ...
    @property
    def n_dropped(self) -> int: ...
    @property
    def n_steps(self) -> int: ...
    @property
    def df_model(self) -> int: ...
    @property
    def llf(self) -> float: ...
    @property
    def llf_penalized(self) -> float: ...
    @property
    def edf(self) -> float: ...
    @property
    def aic(self) -> float: ...
    @property
    def bic(self) -> float: ...
    @property
    def converged(self) -> bool: ...
    @property
    def verdict(self) -> Verdict: ...


def terms(res: Reportable, alpha: float, eform: bool | Sequence[str] = False) -> list[report.Term]:
    """One line of the table for every reported entry, with intervals of coverage 1 - alpha."""
    space, entries = res._fit.spec.space, res._entries
    found = entries.intervals(alpha, "link")
    coef, error, low, high = inference.exponentiated(
        _exponentiated(res, eform), entries.params, entries.bse, found.low, found.high
    )
    predictors = res.model.likelihood.predictors
    group = [leaf.name if predictors else "" for leaf in space.leaves for _ in leaf.reported_index]
    (z, p), held = entries.tests, space.reported_fixed
    return [
        report.Term(
            name=name,
            coef=float(coef[i]),
            std_err=float(error[i]),
            z=float(z[i]),
            p=float(p[i]),
            low=float(low[i]),
            high=float(high[i]),
            note=entries.notes[i] or ("" if held[i] else found.notes[i]),
            fixed=bool(held[i]),
            group=group[i],
        )
        for i, name in enumerate(entries.labels)
    ]


def _exponentiated(res: Reportable, eform: bool | Sequence[str]) -> list[int]:
    """Which reported entries ``eform`` means."""
    if eform is False:
        return []
    space, predictors = res._fit.spec.space, res.model.likelihood.predictors
    names = [p.name for p in predictors if p.link.ratio] if eform is True else list(eform)
    if not names:
        raise ValueError(
            "eform=True exponentiates coefficients of a log, logit or softmax link, and no parameter here is regressed "
            "with one; name the coefficients that are logarithms of ratios, eform=['beta']"
        )
    found = [int(i) for name in names for i in space.resolve(name)]
    for i in found:
        if not isinstance(space.links[i], transforms.Identity):
            raise ValueError(f"eform: {space.labels[i]} is no coefficient on a log scale, so exp of it has no meaning")
    return found


def _eform_statement(res: Reportable, eform: bool | Sequence[str]) -> str:
    if eform is not True:
        return f"exp(coef) of {', '.join(eform)}" if eform else ""
    ratios = [p for p in res.model.likelihood.predictors if p.link.ratio]
    return ", ".join(f"exp(coef) of {p.name}: {p.ratio}" for p in ratios)


def _header(res: Reportable, eform: bool | Sequence[str]) -> tuple[tuple[str, str], ...]:
    fitted = res._fit
    rows = f"{res.nobs:g}" + (f" ({res.n_dropped} dropped)" if res.n_dropped else "")
    header = [
        ("Model", res.model.likelihood.name),
        ("Method", fitted.method),
        ("Covariance", res._cov.statement),
        ("Converged", f"{'yes' if res.converged else 'NO'} ({_nearness(fitted)})"),
        ("Arithmetic", f"float64, {fitted.backend or jax.default_backend()}"),
        ("Log-pseudolikelihood" if inference.pseudolikelihood(fitted, res._cov) else "Log-likelihood", f"{res.llf:.6f}"),
        ("Observations", rows),
    ]
    if fitted.loaded.problem.data.mode == "units":
        header.append(("Units", f"{res.n_units}"))
    if fitted.loaded.weights is not None:
        header.append(("Weights", fitted.loaded.weights.statement()))
    on_edge = int((~fitted.interior).sum())
    header.append(("Free parameters", f"{res.df_model}" + (f" ({on_edge} on an edge)" if on_edge else "")))
    if fitted.constraints:
        header.append(("Constraints", ", ".join(fitted.constraints)))
    if fitted.penalised is not None:
        header.append(("Penalty", f"{fitted.penalised.name}, {fitted.penalised.value:.6g} at the estimate"))
        header.append(("Penalised log-lik.", f"{res.llf_penalized:.6f}"))
        if not np.isnan(res.edf):
            header.append(("Effective df", f"{res.edf:.4g}"))
    if fitted.spec.reduction is not None:
        header.append(("Bias reduction", f"{fitted.spec.reduction.text}; adds {fitted.reduced:.6g}"))
    if not inference.no_criterion(fitted, res._cov):
        header.append(("AIC", f"{res.aic:.4f}"))
        if fitted.penalised is None:
            header.append(("BIC", f"{res.bic:.4f}"))
    if eform:
        header.append(("Shown", _eform_statement(res, eform)))
    return tuple(header)


def summary(res: Reportable, alpha: float, eform: bool | Sequence[str] = False) -> report.Summary:
    """The whole table: model and method, the estimates, the verdict."""
    fitted, space = res._fit, res._fit.spec.space
    large = space.n_reported > report.SUMMARISED_ABOVE
    regressed = "; ".join(f"{p} ({p.link.name} link)" for p in res.model.likelihood.predictors)
    footer = [f"Verdict: {res.verdict}."]
    if res.verdict.advice:
        footer.append(res.verdict.advice)
    values = space.split(fitted.params) if large else []
    return report.Summary(
        title=_title(fitted),
        header=_header(res, eform),
        terms=() if large else tuple(terms(res, alpha, eform)),
        notes=tuple(
            n
            for n in (
                regressed and f"Regressed: {regressed}.",
                fitted.note,
                _narrow(fitted.loaded.rows.float32),
                *res._cov.notes,
                _sentence(res._entries.too_large),
            )
            if n
        ),
        footer=tuple(footer),
        alpha=alpha,
        coef_label=("exp(coef)" if len(_exponentiated(res, eform)) == space.n_reported else "estimate")
        if eform
        else "coef",
        leaves=tuple(report.leaf_row(leaf.name, v) for leaf, v in zip(space.leaves, values, strict=False)),
    )


def column(res: Reportable) -> report.Column:
    """The result as one column of a comparison."""
    penalised = res._fit.penalised is not None
    large = res._fit.spec.space.n_reported > report.SUMMARISED_ABOVE
    return report.Column(
        name=res.model.likelihood.name,
        terms=() if large else tuple(terms(res, 0.05)),
        facts=replace(res._facts, df_model=res.df_model),
        cov=res.cov_type,
        code=res.verdict.code,
        statement="" if res.verdict.code == "verified" else str(res.verdict),
        n_units=res.n_units,
        no_criterion=inference.no_criterion(res._fit, res._cov),
        only_aic="of a penalised fit: its log-likelihood is not at its maximum" if penalised else "",
        edf=res.edf if penalised else float("nan"),
        leaves=summary(res, 0.05).leaves,
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "." if text else ""


def _nearness(done: Fit) -> str:
    return f"g'H^-1 g = {done.decrement:.1e}" if done.information is not None else "no Hessian was formed"


def _title(fitted: Fit) -> str:
    if fitted.spec.reduction is not None:
        return "Bias-reduced maximum likelihood"
    return "Maximum likelihood" if fitted.penalised is None else "Penalised maximum likelihood"


def _narrow(names: tuple[str, ...]) -> str:
    """A remark on columns that came as float32, or nothing."""
    shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    return f"{shown} came as float32: numbers of about 7 digits, computed with in float64." if names else ""


def glance(res: Reportable) -> dict[str, Any]:
    """The facts of a fit in one row; criteria that do not apply are None."""
    refused = bool(inference.no_criterion(res._fit, res._cov))
    return {
        "nobs": res.nobs,
        "n_units": res.n_units,
        "df_model": res.df_model,
        "llf": res.llf,
        "aic": None if refused else res.aic,
        "bic": None if refused or res._fit.penalised is not None else res.bic,
        "converged": res.converged,
        "verdict": res.verdict.code,
        "n_steps": res.n_steps,
        "cov_type": res.cov_type,
    }


def modes(res: Reportable) -> pd.DataFrame:
    """Where the starts of a fit ended, as `Results.modes` shows it."""
    fitted, space = res._fit, res._fit.spec.space
    kind = "maximum" if res.converged else res.verdict.code
    found = [(m.kind, fitted.loaded.scale * m.llf, m.n_starts, m.copy_of, m.statement) for m in fitted.modes]
    with jax.enable_x64(True):
        values = [space.reported(space.params_from_u(m.u, fitted.fixed)) for m in fitted.modes]
    return report.modes_table(
        found or [(kind, res.llf_penalized, 1, None, "")], values or [res._entries.params], list(space.labels)
    )
