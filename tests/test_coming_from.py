"""The tables of verbs for users of other programs: every call of mlejax exists, takes these arguments, and runs."""

from __future__ import annotations

import ast
import inspect
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

import mlejax as mle

FOLDER = Path(__file__).parent.parent / "docs" / "coming-from"
ROW = re.compile(r"^\| (?P<there>.*?) \| `(?P<here>[^|]*)` \|$", re.MULTILINE)
OBJECTS: dict[str, Any] = {
    "mle": mle,
    **dict.fromkeys(("model", "reg", "counts"), mle.Model),
    **dict.fromkeys(("res", "regres", "rates", "other", "mixed"), mle.Results),
}
PAGES = sorted(page for page in FOLDER.glob("*.md") if page.stem != "index")


def calls(page: Path) -> list[str]:
    """The right column of a page's table."""
    return [found["here"] for found in ROW.finditer(page.read_text())]


def resolve(node: ast.expr) -> Any:
    """What an expression such as ``res.wald_test`` names, or None beyond the first call."""
    if isinstance(node, ast.Name):
        return OBJECTS.get(node.id)
    if not isinstance(node, ast.Attribute) or (owner := resolve(node.value)) is None:
        return None
    there = getattr(owner, node.attr, AttributeError(f"{ast.unparse(node)} does not exist"))
    return there if callable(there) or inspect.ismodule(there) or isinstance(there, AttributeError) else None


def problems(code: str) -> list[str]:
    """Names that do not exist, and arguments that are not taken."""
    found = []
    for node in ast.walk(ast.parse(code, mode="eval")):
        if isinstance(node, ast.Attribute) and isinstance(there := resolve(node), AttributeError):
            found.append(str(there))
        if isinstance(node, ast.Call) and callable(there := resolve(node.func)):
            keywords = {keyword.arg: None for keyword in node.keywords}
            instance = isinstance(node.func, ast.Name)  # a model that is called
            there = there.__call__ if instance else there
            method = inspect.isfunction(there) and (instance or inspect.isclass(resolve(node.func.value)))
            myself = [None] if method else []
            try:
                inspect.signature(there).bind(*myself, *node.args, **keywords)
            except TypeError as error:
                found.append(f"{code}: {error}")
    return found


def test_problems_are_found() -> None:
    """The test below can fail."""
    assert problems("res.wald_tset('mu = 0')") == ["res.wald_tset does not exist"]
    assert problems("model.fit(data, weight='w')")
    assert problems("mle.Newton(tolerance=1)")
    assert problems("res.wald_test('mu = 0')") == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_call_resolves(page: Path) -> None:
    """Each row of the table has one call, with arguments that mlejax takes."""
    rows = [line for line in page.read_text().splitlines() if line.startswith("| ")][1:]
    assert len(calls(page)) == len(rows) > 15
    assert [problem for code in calls(page) for problem in problems(code)] == []


def test_there_are_many() -> None:
    """Sixty verbs and more, of Stata and R side by side."""
    rows = re.findall(r"^\| [^|]+ \| [^|]+ \| `[^|]+` \|$", (FOLDER / "stata-and-r.md").read_text(), re.MULTILINE)
    assert len(rows) == len(calls(FOLDER / "stata-and-r.md")) >= 60


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Small data and results to which every call applies."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import pandas as pd
    from jax.scipy.stats import norm, poisson

    rng = np.random.default_rng(0)
    x = rng.normal(size=60)
    columns = {
        "x": x,
        "z": rng.normal(size=60),
        "id": np.arange(60) % 4,
        "w": 1 + np.arange(60) % 3,
        "pop": np.ones(60),
    }
    y, k = 1 + 0.5 * x + rng.normal(size=60), rng.poisson(np.exp(0.3 * x))
    data = {"y": y, "k": k, "event": np.ones(60), **columns}

    @mle.model(mu=mle.Real(), sigma=mle.Positive())
    def model(params: Any, data: Any) -> Any:
        return norm.logpdf(data["y"], params["mu"], params["sigma"])

    @model.simulator
    def _(key: Any, params: Any, data: Any) -> Any:
        return {"y": params["mu"] + params["sigma"] * jax.random.normal(key, (data.n_rows,))}

    @mle.model(mu=mle.Positive())
    def counts(params: Any, data: Any) -> Any:
        return poisson.logpmf(data["k"], params["mu"])

    reg, intercepts = model.regress(mu="x"), model.regress(mu=mle.Linear("x", random="1 | id"))
    made = {
        "mle": mle, "jnp": jnp, "norm": norm, "data": data, "frame": pd.DataFrame(data), "model": model,
        "reg": reg, "counts": counts, "other": model.regress(mu="z").fit(data),
        "res": model.fit(data), "regres": reg.fit(data), "rates": counts.regress(mu="x").fit(data),
        "mixed": intercepts.fit(data), "pooled": intercepts.fit(data, fixed={"sd(mu|id)": [0.0]}),
        "restricted": model.fit(data, fixed={"mu": 0.0}), "path": tmp_path_factory.mktemp("saved") / "res.json",
    }  # fmt: skip
    made["res"].save(made["path"])
    return made


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_call_runs(page: Path, namespace: dict[str, Any]) -> None:
    """As written in the table."""
    import matplotlib

    matplotlib.use("Agg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nothing = [code for code in calls(page) if eval(code, dict(namespace)) is None]
    assert nothing in ([], ["res.save(path)"])
