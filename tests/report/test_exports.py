"""Exports and comparisons: what is refused, and that no name a user can give breaks a table."""

from __future__ import annotations

import re
import shutil
import subprocess
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mlejax as mle
from mlejax.data import Fingerprint
from mlejax.report import ComparisonColumn, Summary, Term, compare
from mlejax.report.comparison import merged
from tests.report.samples import SAMPLES
from tests.report.samples_comparison import COMPARISONS, LARGE, OTHER, SMALL
from tests.report.samples_comparison import facts as sample_facts
from tests.zoo import REGRESSION, truth

ANY = st.text(st.characters(codec="utf-8"), max_size=12)


def named(name: str) -> Summary:
    return Summary(name, ((name, name),), (Term(name, 1.0, 0.5, 2.0, 0.04, 0.0, 2.0, note=name),), (name,), (name,))


def cells_of_latex(line: str) -> int:
    return len(re.findall(r"(?<!\\)&", line)) + 1


def outside_code(line: str) -> str:
    return re.sub(r"(`+)(?:(?!`).|`(?!\1))*?\1(?!`)", "", line)


@given(ANY)
def test_any_name_is_safe_in_latex(name: str) -> None:
    lines = named(name).to_latex().split("\n")
    text = "\n".join(lines[1:]).replace("\\\\", "").replace("\\{", "").replace("\\}", "")
    depth = 0
    for c in text:
        depth += {"{": 1, "}": -1}.get(c, 0)
        assert depth >= 0
    assert depth == 0
    start = max(i for i, line in enumerate(lines) if line == r"\midrule")
    assert {cells_of_latex(line) for line in lines[start + 1 : start + 2]} == {7}
    body = "\n".join(lines[2:])
    assert re.search(r"(?<!\\)[#%_~^]", body.replace(r"\textasciicircum{}", "")) is None
    assert all(c.isprintable() or c == "\n" for c in body if ord(c) < 128)


@given(ANY)
def test_any_name_is_safe_in_markdown(name: str) -> None:
    text = named(name).to_markdown()
    rows = [line for line in text.split("\n") if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line.replace("\\\\", ""))) for line in rows[:3]} == {5}
    assert {len(re.findall(r"(?<!\\)\|", line.replace("\\\\", ""))) for line in rows[3:]} <= {8}
    for line in text.split("\n"):
        assert re.search(r"(?<!\\)[<*_](?!\*)", outside_code(line).replace("\\\\", "").strip("*")) is None


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles(tmp_path) -> None:
    parts = [s.to_latex() for s in SAMPLES.values()] + [c.to_latex() for c in COMPARISONS.values()]
    parts += [named(name).to_latex() for name in ("[x]", "*", "a\\b", "--", '"`', "$x^2$", "\n")]
    document = "\n".join([r"\documentclass{article}\usepackage{booktabs}\begin{document}", *parts, r"\end{document}"])
    (tmp_path / "all.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, errors="replace")
    assert run.returncode == 0, run.stdout[-2000:]


def test_label_and_caption() -> None:
    text = SAMPLES["year"].to_latex(caption="50% of them", label="tab:year")
    assert "\\caption{50\\% of them}\n\\label{tab:year}" in text
    assert "\\caption" not in SAMPLES["year"].to_latex(caption="")
    with pytest.raises(ValueError, match="label"):
        SAMPLES["year"].to_latex(label="a}b")


def test_a_new_name_follows_its_predecessor() -> None:
    assert merged([["const", "sigma"], ["const", "x", "sigma"], ["const", "x", "z", "sigma"]]) == [
        "const",
        "x",
        "z",
        "sigma",
    ]
    assert merged([["a"], ["b"]]) == ["a", "b"]


def test_what_compare_refuses() -> None:
    with pytest.raises(ValueError, match="two or more results"):
        compare([SMALL])
    with pytest.raises(ValueError, match="expected 2 names"):
        compare([SMALL, LARGE], names="ab")
    with pytest.raises(ValueError, match="differ"):
        compare([SMALL, LARGE], names=["a", "a"])
    with pytest.raises(ValueError, match="choose from aic"):
        compare([SMALL, LARGE], criteria=["waic"])
    with pytest.raises(ValueError, match=r"AIC cannot be compared: .*100 observations and 60"):
        compare([SMALL, OTHER], criteria="aic")
    assert compare([SMALL, OTHER], criteria=()).remark == ""
    with pytest.raises(TypeError, match="as argument 1"):
        mle.compare(SMALL, LARGE)


def test_values_of_a_shared_column_tell_data_apart() -> None:
    same_n = ComparisonColumn("b", SMALL.terms, sample_facts(-150.5, 2, fingerprint=Fingerprint(100, {"y": (1.5, 2.6)})))
    table = compare([SMALL, same_n])
    assert table.criteria == ()
    assert "AIC and BIC are not compared: small and b are fits of different data" in " ".join(str(table).split())
    assert "AIC  " not in str(table)


def test_results_side_by_side() -> None:
    """Numbers of the closed form; a restricted fit, other data, a robust covariance and a fit that did not converge."""
    data = REGRESSION.make(13)
    want = truth(REGRESSION, data)
    full = REGRESSION.plain.fit(data, start=REGRESSION.start)
    held = REGRESSION.plain.fit(data, start=REGRESSION.start, fixed={"beta[2]": 0.0})
    table = mle.compare(full, held, full.with_cov("HC0"), names=["full", "held", "robust"])
    glance = table.glance().set_index("model")
    assert glance.loc["full", "aic"] == pytest.approx(-2 * want.llf + 8, rel=1e-12)
    assert glance.loc["held", "bic"] == held.bic
    assert glance["df_model"].tolist() == [4, 3, 4]
    assert glance["aic"].isna().tolist() == [False, False, True]
    assert table.tidy().set_index(["model", "term"]).loc[("full", "sigma"), "estimate"] == full.params["sigma"]
    text = " ".join(str(table).split())
    assert "(fixed)" in text
    assert "robust: no AIC and BIC with cov_type='HC0'" in text
    ridge = REGRESSION.plain.fit(data, start=REGRESSION.start, penalty=mle.l2(2.0, "beta"))
    beside = mle.compare(full, ridge, names=["full", "ridge"])
    assert beside.glance()["aic"].tolist() == [full.aic, ridge.aic]
    assert beside.glance()["bic"].isna().tolist() == [False, True]
    assert "ridge: no BIC of a penalised fit" in " ".join(str(beside).split())
    assert f"{ridge.edf:.4g}" in str(beside)
    other = REGRESSION.plain.fit(REGRESSION.make(14), start=REGRESSION.start)
    with pytest.raises(ValueError, match="different data"):
        mle.compare(full, other, criteria=["bic"])
    assert "bic" not in mle.compare(full, other).glance()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mle.ConvergenceWarning)
        early = REGRESSION.plain.fit(data, start=REGRESSION.start, method=mle.Newton(max_steps=1))
    marked = mle.compare(full, early, names=["full", "early"])
    assert marked.glance()["verdict"].tolist() == ["verified", early.verdict.code]
    assert f"{early.verdict.code}^" in str(marked)
    assert f"early: {early.verdict.code}: " in " ".join(str(marked).split())
    for shown in (full.to_latex(caption="c"), table.to_latex()):
        assert r"\toprule" in shown
    assert "| `sigma` |" in full.to_markdown()
