"""The examples run as they stand, and the five models of the table of agreement agree with R."""

import importlib.util
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As `python examples/NAME.py` would, warnings being errors; quickstart itself stops where it differs from R."""
    if path.stem == "numpyro_distributions":
        pytest.importorskip("numpyro")
    runpy.run_path(str(path), run_name="__main__")
    printed = capsys.readouterr().out
    assert "std err" in printed
    assert "nan" not in printed.lower().split()


@pytest.mark.skipif(importlib.util.find_spec("numpyro") is not None, reason="NumPyro is installed")
def test_the_example_with_numpyro_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / "examples" / "numpyro_distributions.py"), run_name="__main__")
    assert "skipped: this example needs NumPyro (pip install numpyro)" in capsys.readouterr().out


def test_examples_are_short() -> None:
    """A newcomer reads them whole."""
    assert len(EXAMPLES) >= 5
    assert {path.name: n for path in EXAMPLES if (n := len(path.read_text().splitlines())) >= 80} == {}


@pytest.mark.parametrize("name", ["tobit", "weibull", "logit", "poisson", "ologit"])
def test_model_agrees_with_r(name: str) -> None:
    """Estimates to 1e-7 standard errors, standard errors to 1e-9 (1e-8 where glm's own are no better)."""
    from benchmarks import agreement

    model, data = {entry[0]: entry[1:3] for entry in agreement.MODELS}[name]
    fit = model.fit(agreement.read(data))
    ours = agreement.Numbers(dict(fit.params), dict(fit.bse), float(fit.llf))
    r = agreement.from_r(name)
    assert set(ours.params) == set(r.params)
    estimates, errors, loglik = agreement.relative(ours, r)
    assert estimates < 1e-7
    assert errors < (1e-8 if name in ("logit", "poisson") else 1e-9)
    assert loglik < 1e-12
