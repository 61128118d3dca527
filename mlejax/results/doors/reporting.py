"""The contents of a result's tables: terms, header and footer, and its column in a comparison of results."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mlejax import inference, report, transforms
from mlejax.covariance import CovarianceResult
from mlejax.data import OBSERVED, Coded
from mlejax.data.formulas import MOST_COLUMNS
from mlejax.execution import device_kind, float64
from mlejax.fit import Fit, counts
from mlejax.inference import Entries

if TYPE_CHECKING:
    import pandas as pd

_OF_FACTOR = re.compile(r"([^\[]+\[[^\[:]+)\[T\.[^\]]*\]\]")
OF_FORMULAS = "formula "  # prefix, in the fingerprint, of the names of columns of formulas
FEW_ROWS = 10  # median rows of a level below which the table mentions the bias from incidental parameters


def terms(entries: Entries, alpha: float, eform: bool | Sequence[str] = False) -> list[report.Term]:
    """Return one line of the table for every parameter entry, with confidence intervals of coverage 1 - alpha.

    ``eform``: True exponentiates coefficients of formulas with a log, logit or softmax link, a list the entries that it names.
    """
    space = entries.space
    found = entries.intervals(alpha, "link")
    coef, error, low, high = inference.exponentiated(
        _exponentiated(entries, eform), entries.params, entries.bse, found.low, found.high
    )
    predictors = entries.fit.spec.likelihood.predictors
    group = [leaf.name if predictors else "" for leaf in space.leaves for _ in leaf.reported_index]
    (z, p), is_fixed = entries.tests, space.reported_fixed
    return [
        report.Term(
            name=name,
            coef=float(coef[i]),
            std_err=float(error[i]),
            z=float(z[i]),
            p=float(p[i]),
            low=float(low[i]),
            high=float(high[i]),
            note=entries.notes[i] or ("" if is_fixed[i] else found.notes[i]),
            fixed=bool(is_fixed[i]),
            group=group[i],
        )
        for i, name in enumerate(entries.labels)
    ]


def _exponentiated(entries: Entries, eform: bool | Sequence[str]) -> list[int]:
    """Return the positions of the entries that ``eform`` exponentiates, as in `terms`; empty if it is False.

    Raises:
        ValueError: True, but no formula has such a link; or a named entry has bounds, so that it is no logarithm.
        AddressError: ``eform`` has a name that no entry has.
    """
    if eform is False:
        return []
    space, predictors = entries.fit.spec.space, entries.fit.spec.likelihood.predictors
    names = [p.name for p in predictors if p.link.ratio] if eform is True else _listed(eform)
    if not names:
        some = predictors[0].name if predictors else str(space.groups[0].name)
        raise ValueError(
            "eform=True exponentiates coefficients of formulas with a log, logit or softmax link, and no parameter here has "
            f"one; name the coefficients that are logarithms of ratios, eform={[some]}"
        )
    found = [int(i) for name in names for i in space.resolve(name)]
    for i in found:
        if not isinstance(space.links[i], transforms.Identity):
            raise ValueError(
                f"eform: expected coefficients whose support is the real line, got {space.labels[i]}, which has bounds and so "
                "is not the logarithm of a ratio; leave it out"
            )
    return found


def _listed(names: Sequence[str]) -> list[str]:
    """Return the names as a list; a string is one name."""
    return [names] if isinstance(names, str) else list(names)


def _eform_statement(entries: Entries, eform: bool | Sequence[str]) -> str:
    if eform is not True:
        return f"exp(coef) of {', '.join(_listed(eform))}" if eform else ""
    ratios = [p for p in entries.fit.spec.likelihood.predictors if p.link.ratio]
    return ", ".join(f"exp(coef) of {p.name}: {p.ratio}" for p in ratios)


def outcome(fit: Fit) -> str:
    """Return the name of the outcome: the only column that the function reads besides those of formulas; empty if it reads
    none or several.
    """
    others = (OF_FORMULAS, OBSERVED)
    read = [name for name in fit.loaded.fingerprint.columns if not name.startswith(others)]
    return read[0] if len(read) == 1 else ""


def _header(entries: Entries, eform: bool | Sequence[str]) -> tuple[tuple[str, str], ...]:
    fit, cov = entries.fit, entries.cov
    nobs, n_units = counts(fit.loaded)
    dropped, on_bound = fit.loaded.rows.n_dropped, int((~fit.interior).sum())
    nearness = f"g'H^-1 g = {fit.decrement:.1e}" if fit.information is not None else "no Hessian was formed"
    pseudo = inference.pseudolikelihood(fit, cov)
    free = f"{inference.df_model(fit, cov)}" + (f" ({on_bound} at a bound)" if on_bound else "")
    if fit.n_effects:
        free += f" ({fit.n_effects} effects)"
    named = outcome(fit)
    header = [
        ("Model", fit.spec.likelihood.name),
        *([("Outcome", named)] if named else []),
        ("Method", fit.method),
        ("Covariance", cov.statement),
        ("Converged", f"{'yes' if fit.verdict.converged else 'NO'} ({nearness})"),
        ("Arithmetic", f"float64, {fit.backend or device_kind()}"),
        ("Log-pseudolikelihood" if pseudo else "Log-likelihood", _loglik_in_words(fit)),
        ("Observations", f"{nobs:g}" + (f" ({dropped} dropped)" if dropped else "")),
    ]
    if fit.loaded.problem.data.mode == "units":
        header.append(("Units", f"{int(n_units)}"))
    if fit.loaded.weights is not None:
        header.append(("Weights", fit.loaded.weights.statement()))
    header.append(("Free parameters", free))
    if fit.constraints:
        header.append(("Constraints", ", ".join(fit.constraints)))
    if fit.penalised is not None:
        header.append(("Penalty", f"{fit.penalised.name}, {fit.penalised.value:.6g} at the estimate"))
        header.append(("Penalised log-lik.", f"{inference.llf_penalized(fit):.6f}"))
        if not np.isnan(cov.edf):
            header.append(("Effective df", f"{cov.edf:.4g}"))
    if fit.spec.reduction is not None:
        header.append(("Bias reduction", f"{fit.spec.reduction.text}; adds {fit.reduced:.6g}"))
    header += [(name.upper(), f"{value:.4f}") for name, value in criteria(entries).items() if value is not None]
    if eform:
        header.append(("Shown", _eform_statement(entries, eform)))
    return tuple(header)


def _loglik_in_words(fit: Fit) -> str:
    """Return the log-likelihood as a string with 6 decimals, or the reason why there is no number to show."""
    if fit.verdict.code == "no_finite_maximum" and fit.verdict.supremum is None:
        return "rises without bound"
    return "lost in rounding or not finite" if np.isnan(fit.llf) else f"{fit.llf:.6f}"


def criteria(entries: Entries) -> dict[str, float | None]:
    """Return {"aic": ..., "bic": ...}; None for one that is not defined for this fit (BIC: also if it is penalised)."""
    fit, cov = entries.fit, entries.cov
    refused = bool(inference.no_criterion(fit, cov))
    none = {"aic": refused, "bic": refused or fit.penalised is not None}
    return {name: None if none[name] else inference.info_criterion(fit, cov, name) for name in none}


def summary(
    entries: Entries,
    alpha: float,
    eform: bool | Sequence[str] = False,
    presentation: report.Presentation | None = None,
    extra: Mapping[str, object] | None = None,
    null: bool = False,
) -> report.Summary:
    """Return the whole table: header of model and method, the estimates, notes, and the verdict; arguments as for
    `Results.summary`.
    """
    fit, space = entries.fit, entries.space
    wanted = presentation or report.Presentation()
    predictors = [f"{p} ({p.link.name} link)" for p in fit.spec.likelihood.predictors]
    large, long = entries.too_large, {} if wanted.keep is not None else _long_factors(entries)
    kept = _unfolded(entries, long)
    notes = (
        f"Formula{'s' * (len(predictors) > 1)}: {'; '.join(predictors)}." if predictors else "",
        inference.omnibus(entries),
        *(inference.null_statements(entries) if null else ()),
        report.STARS_SAID if wanted.stars else "",
        integration_statement(fit),
        _spreads(entries),
        _effects(fit),
        *(f"{name}: {len(at)} coefficients, which params lists; wald_test({name!r}) tests them." for name, at in long.items()),
        fit.note,
        _float32_columns(fit.loaded.rows.float32),
        *entries.cov.notes,
        f"{large[:1].upper()}{large[1:]}." if large else "",
    )
    label = "coef"
    if eform:
        label = "exp(coef)" if len(_exponentiated(entries, eform)) == space.n_reported else "estimate"
    return report.Summary(
        title=_title(fit),
        header=(*_header(entries, eform), *((str(name), str(value)) for name, value in (extra or {}).items())),
        terms=() if _summarised(kept) else wanted.terms([terms(entries, alpha, eform)[i] for i in kept]),
        notes=tuple(note for note in notes if note),
        footer=tuple(text for text in (f"Verdict: {fit.verdict}.", fit.verdict.advice) if text),
        alpha=alpha,
        coef_label=label,
        stat_label="z" if np.isinf(entries.cov.df) else "t",
        leaves=_leaves(entries, long),
        presentation=wanted,
    )


def integration_statement(fit: Fit) -> str:
    """Return one line on how latent variables were integrated out; empty for models without latent variables."""
    found = fit.integration
    if found is None:
        return ""
    where = fit.spec.likelihood.unit or "row"
    return f"Latent {', '.join(found.latents)} by {where}: integrated out {found.statement}."


def _spreads(entries: Entries) -> str:
    """Return one line with standard deviations and correlations of random effects, if some have a covariance matrix; else
    an empty string.
    """
    fit = entries.fit
    if not any(np.ndim(fit.params[str(v.cov)]) > 1 for v in inference.with_covariance(fit).values()):
        return ""
    found = inference.random_effects(fit, entries.cov, reason=entries.reason)
    pairs = zip(found.index, found["estimate"], found["std_error"], strict=True)
    texts = [f"{name} {value:.4g}" + ("" if np.isnan(error) else f" ({error:.2g})") for name, value, error in pairs]
    return f"Random effects (standard errors): {', '.join(texts)}."


def latent_table(fit: Fit, cov: CovarianceResult) -> pd.DataFrame:
    """Return the table of `Results.latent`: latent variables of every unit given its rows; of every level with several grouping
    columns; or the likeliest class and the probabilities of all classes, by row or by unit.

    Raises:
        ValueError: the model has no latent variables, or the fit is from a file.
    """
    import pandas as pd

    joint = fit.spec.likelihood.joint
    if joint is not None and joint.classes:
        classes = inference.class_values(fit)
        each = {f"{classes.name}[{k}]": p for k, p in enumerate(classes.probabilities.T)}
        index = fit.loaded.rows.index if len(classes.likeliest) == fit.loaded.rows.n else None
        return pd.DataFrame({**classes.labels, classes.name: classes.likeliest, **each}, index=index)
    if joint is not None and len(joint.factors) > 1:
        parts = inference.level_values(fit, cov)
        return pd.concat([pd.DataFrame({"latent": p.name, **p._asdict()}).drop(columns="name") for p in parts], ignore_index=True)
    found = inference.latent_values(fit, cov)
    names = [address for name, latent in found.latents.items() for address in latent.addresses(name)]
    columns = {fit.spec.likelihood.unit: np.repeat(found.labels, len(names)), "latent": names * len(found.labels)}
    columns |= {what: getattr(found, what).reshape(-1) for what in ("mode", "mean", "sd", "sd_all")}
    frame = pd.DataFrame(columns)
    return frame.drop(columns="latent") if len(names) == 1 else frame


def _effects(fit: Fit) -> str:
    """Return a note on the number of effects of ``mle.Real(by=...)``, and on bias if half of the levels have fewer than 10
    rows; empty if the model has no such effects.
    """
    effects = fit.loaded.effects
    if effects is None:
        return ""
    alone = int((effects.counts == 1).sum())
    singles = f", {alone:,} with one row" if alone else ""
    what = f"{effects.key.parameter}: {effects.n_free:,} effects of {effects.key.by}{singles}"
    median = float(np.median(effects.counts))
    few = (
        f" Half of the levels have at most {median:g} rows: with so few the errors of the effects bias other parameters, but not "
        "those of a Poisson model or the slopes of a normal one (a logit with two rows a level gives twice the slope); "
        f"conditional logit and a random effect, mle.Latent(by={effects.key.by!r}), do not have that bias."
    )
    beside = "".join(f" {one.key.parameter}: {_references(one)}." for one in fit.loaded.coded)
    return f"{what}; res.effects() lists them with their errors.{beside}" + (few if median < FEW_ROWS else "")


def _references(one: Coded) -> str:
    """Return a phrase that names the reference levels of effects that have coefficients."""
    first = one.key.references
    if len(first) == 1:
        return f"effects of {one.key.by}, differences from {first[0]}"
    shown = ", ".join(first[:4]) + (", ..." if len(first) > 4 else "")
    return f"effects of {one.key.by}, differences from one level in each of {len(first)} sets that no row connects: {shown}"


def _long_factors(entries: Entries) -> dict[str, list[int]]:
    """Return a dict from the names of factors with 20 coefficients or more, such as ``mu[C(region)]``, to the positions of their
    coefficients among the entries; effects of ``mle.Real(by=...)`` that have coefficients are included, whatever their number.
    """
    found: dict[str, list[int]] = {}
    for i, label in enumerate(entries.labels):
        of = _OF_FACTOR.fullmatch(label)
        if of is not None:
            found.setdefault(f"{of[1]}]", []).append(i)
    space = entries.space
    effects = {one.key.parameter for one in entries.fit.loaded.coded}
    found |= {
        leaf.name: list(range(at.start, at.stop))
        for leaf, at in zip(space.leaves, space.reported_slices, strict=True)
        if leaf.name in effects
    }
    return {name: at for name, at in found.items() if len(at) >= MOST_COLUMNS or (name in effects and at)}


def _unfolded(entries: Entries, long: Mapping[str, Any]) -> list[int]:
    """Return the positions of the entries that have a row of their own in the table: all but the coefficients of the factors
    ``long``, a dict as `_long_factors` returns it.
    """
    gone = {int(i) for at in long.values() for i in at}
    return [i for i in range(entries.space.n_reported) if i not in gone]


def _summarised(kept: Sequence[int]) -> bool:
    """True if the entries at the positions ``kept`` are more than 200, too many for a row each in the table."""
    return len(kept) > report.SUMMARISED_ABOVE


def _leaves(entries: Entries, long: Mapping[str, Any]) -> tuple[report.LargeArray, ...]:
    """Return a summary row for each parameter array if there are too many entries for one row each; otherwise for each factor
    in ``long``, a dict as `_long_factors` returns it.
    """
    space = entries.space
    if not _summarised(_unfolded(entries, long)):
        return tuple(report.leaf_row(name, entries.params[at]) for name, at in long.items())
    values = space.split(entries.fit.params)
    return tuple(report.leaf_row(leaf.name, v) for leaf, v in zip(space.leaves, values, strict=False))


def column(entries: Entries) -> report.ComparisonColumn:
    """Return the result as one column of a comparison of results, with 95 % intervals."""
    fit, cov = entries.fit, entries.cov
    penalised = fit.penalised is not None
    long = _long_factors(entries) if _summarised(_unfolded(entries, {})) else {}
    kept = _unfolded(entries, long)
    return report.ComparisonColumn(
        name=fit.spec.likelihood.name,
        terms=() if _summarised(kept) else tuple(terms(entries, 0.05)[i] for i in kept),
        facts=replace(inference.facts_of(fit, cov), df_model=inference.df_model(fit, cov)),
        cov=cov.kind,
        code=fit.verdict.code,
        statement="" if fit.verdict.code == "verified" else str(fit.verdict),
        n_units=int(counts(fit.loaded)[1]),
        no_criterion=inference.no_criterion(fit, cov),
        only_aic="of a penalised fit: its log-likelihood is not at its maximum" if penalised else "",
        edf=cov.edf if penalised else float("nan"),
        leaves=_leaves(entries, long),
    )


def _title(fit: Fit) -> str:
    if fit.spec.reduction is not None:
        return "Bias-reduced maximum likelihood"
    return "Maximum likelihood" if fit.penalised is None else "Penalised maximum likelihood"


def _float32_columns(names: tuple[str, ...]) -> str:
    """Return a note on the columns ``names`` that were given as float32; empty if there are none."""
    shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    digits = "came as float32 or a shorter type, numbers of at most about 7 digits; they were computed with in float64."
    return f"{shown} {digits}" if names else ""


def glance(entries: Entries) -> dict[str, Any]:
    """Return the properties of a fit, name -> number or string, as for `Results.glance`; criteria that are not defined are
    None.
    """
    fit, cov = entries.fit, entries.cov
    nobs, n_units = counts(fit.loaded)
    return {
        "nobs": nobs,
        "n_units": int(n_units),
        "df_model": inference.df_model(fit, cov),
        "llf": fit.llf,
        **criteria(entries),
        "converged": fit.verdict.converged,
        "verdict": fit.verdict.code,
        "n_steps": fit.n_steps,
        "cov_type": cov.kind,
    }


def modes(entries: Entries) -> pd.DataFrame:
    """Return the table of `Results.modes`: the points at which the starts of a fit ended, one row for a single start."""
    fit, space = entries.fit, entries.space
    kind = "maximum" if fit.verdict.converged else fit.verdict.code
    found = [(m.kind, fit.loaded.scale * m.llf, m.n_starts, m.copy_of, m.statement) for m in fit.modes]
    with float64():
        values = [space.reported(space.params_from_u(m.u, fit.fixed)) for m in fit.modes]
    return report.modes_table(
        found or [(kind, inference.llf_penalized(fit), 1, None, "")], values or [entries.params], entries.labels
    )
