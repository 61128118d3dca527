"""The pages tell the truth: their code runs, prints what is shown below it, and names what exists.

    python tests/test_docs.py --write [PAGE ...]     # run the blocks of all pages, or of these, and paste what they print

Pages are README.md and everything under docs/. Each is run by itself, in one namespace. Numbers may differ from those shown
by two units in their last digit, and numbers below 1e-9 (a Newton decrement at the maximum is rounding noise) by anything,
because processors and versions of JAX round differently. All else is exact, but for the amount of white space and the length
of ruled lines.
"""

import ast
import contextlib
import inspect
import io
import os
import re
import runpy
import shutil
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import jax.numpy as jnp
import matplotlib
import pytest

import mlejax as mle
from mlejax.verdict import CODES

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("**/*.md"))]
PAGES = [page for page in PAGES if "_build" not in page.parts]


def name(page: Path) -> str:
    """The path from the root of the project."""
    return page.relative_to(ROOT).as_posix()


_HEAVY = "bootstrap latents many-data-sets mixtures networks penalties profiles pure-core several-fits several-maxima tests units"
SLOW = {f"docs/how-to/{page}.md" for page in _HEAVY.split()}
SLOW |= {name(page) for page in PAGES if page.parent.name == "gallery"}
BLOCK = runpy.run_path(str(ROOT / "docs" / "page_reader.py"))["BLOCK"]
QUIET = re.compile(r";\s*(#.*)?$")
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?![\w])")
NOISE = 1e-9


def pages(with_code: bool = False) -> list:
    """One parameter a page; those that take long are slow."""
    chosen = [page for page in PAGES if not with_code or blocks(page.read_text())]
    marks = lambda page: [pytest.mark.slow] if with_code and name(page) in SLOW else []
    return [pytest.param(page, id=name(page), marks=marks(page)) for page in chosen]


@dataclass(frozen=True)
class Block:
    """A Python block of a page, the line of its first statement, and the text block below it, if any."""

    code: str
    line: int
    shown: str | None


def blocks(text: str) -> list[Block]:
    """All Python blocks in order."""
    return [
        Block(found["code"], text[: found.start("code")].count("\n") + 1, found["shown"])
        for found in BLOCK.finditer(text)
    ]


def run(page: Path, where: Path) -> Iterator[tuple[Block, str, list[str]]]:
    """Run a page's blocks in one namespace in the folder `where`: what each prints, and its convergence warnings.

    A last expression is printed, as in a notebook, unless a semicolon ends it.
    """
    text = page.read_text()
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": page.stem, "backend": "agg"})
    os.environ["SOURCE_DATE_EPOCH"] = "0"  # pictures of the same numbers are the same files
    for folder in {"examples/data", *re.findall(r'"(tests/cases/\w+)/', text)}:
        shutil.copytree(ROOT / folder, where / folder)
    namespace = {"__name__": "__main__"}
    for block in blocks(text):
        printed = io.StringIO()
        *body, last = ast.parse("\n" * (block.line - 1) + block.code).body  # a traceback shows the page's own line numbers
        shown = [last] if isinstance(last, ast.Expr) and not QUIET.search(block.code) else []
        with contextlib.chdir(where), contextlib.redirect_stdout(printed), warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("error")
            warnings.simplefilter("always", mle.ConvergenceWarning)
            exec(compile(ast.Module(body if shown else [*body, last], []), str(page), "exec"), namespace)
            for value in (eval(compile(ast.Expression(one.value), str(page), "eval"), namespace) for one in shown):
                print(end="" if value is None else f"{value!r}\n")
        yield block, printed.getvalue(), [str(warning.message) for warning in seen]


def places(number: str) -> float:
    """The value of one unit in the last digit of a printed number."""
    mantissa, _, exponent = number.partition("e")
    return 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


def differences(shown: str, printed: str, units: float = 2.0, noise: float = NOISE) -> list[str]:
    """How a text printed differs from the one shown, by the rules of the module's docstring."""
    words, numbers = [], []
    for text in (shown, printed):
        numbers.append(NUMBER.findall(text))
        bare = re.sub(r"([-=])\1{2,}", r"\1\1\1", NUMBER.sub("#", text))
        words.append(bare.split())
    if words[0] != words[1]:
        first = next(
            (i for i, pair in enumerate(zip(*words, strict=False)) if pair[0] != pair[1]), min(map(len, words))
        )
        return [
            f"shown: {' '.join(words[0][first : first + 12])!r}, printed: {' '.join(words[1][first : first + 12])!r}"
        ]
    return [
        f"shown: {a}, printed: {b}"
        for a, b in zip(*numbers, strict=True)
        if max(abs(float(a)), abs(float(b))) > noise
        and not abs(float(a) - float(b)) <= (units + 1e-6) * max(places(a), places(b))
    ]


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("coef 1.234", "coef   1.235", True),
        ("coef 1.234", "coef 1.238", False),
        ("-----\nz = 3.7e-25", "-------- z = 1.2e-27", True),
        ("z = 3.7e-25", "z = 3.7e-5", False),
        ("mu 1.0", "nu 1.0", False),
        ("mu 1.0", "mu 1.0 .", False),
        ("mu -0.5", "mu 0.5", False),
        ("beta[1] 2", "beta[12] 2", False),
    ],
)
def test_comparison_of_texts(shown: str, printed: str, same: bool) -> None:
    """The rules by which the other tests judge."""
    assert (not differences(shown, printed)) is same


@pytest.mark.parametrize("page", pages(with_code=True))
def test_blocks_print_what_is_shown(page: Path, tmp_path: Path) -> None:
    """Every block, in order, in one namespace; only fits whose output says so may warn."""
    for block, printed, warned in run(page, tmp_path):
        where = f"{name(page)}, line {block.line}"
        assert block.shown is not None or not printed, f"{where}: prints, but nothing is shown"
        assert differences(block.shown or "", printed) == [], where
        of_fits = lambda code, printed=printed: re.search(rf"(?<!warning: )\b{code}:", printed)  # and not of checks
        expected = [code for code in CODES[2:] if of_fits(code)]
        assert len(warned) == len(expected), (where, warned)
        assert all(code in message for code, message in zip(expected, warned, strict=True)), (where, warned)


@pytest.mark.parametrize("page", pages())
def test_blocks_of_code_are_all_found(page: Path) -> None:
    """No block is written in a way that the pattern above misses."""
    text = page.read_text()
    assert len(blocks(text)) == len(re.findall(r"```\s*py", text))
    assert sum(block.shown is not None for block in blocks(text)) == len(re.findall(r"```\s*text", text))


def test_readme_is_short() -> None:
    """A newcomer reads it whole; each page of docs/ can be reached from it or from an index."""
    assert len(README.read_text().splitlines()) <= 200
    linked = {README}
    for page in PAGES:
        links = re.findall(r"\]\(([^)#]+\.md)", page.read_text())
        linked |= {(page.parent / link).resolve() for link in links if "://" not in link}
    assert sorted(name(page) for page in PAGES if page not in linked) == []


def anchors(text: str) -> set[str]:
    """The anchors that GitHub and the site make of a page's headings."""
    code = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", code.sub("", text), re.MULTILINE)
    made = {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
    return made | set(re.findall(r'<a id="([\w-]+)"></a>', text))


@pytest.mark.parametrize(
    "page", [*pages(), *(pytest.param(ROOT / f"{p}.md", id=p) for p in ("CONTRIBUTING", "CHANGELOG"))]
)
def test_pages_name_what_exists(page: Path) -> None:
    """Links, paths, anchors and make targets."""
    text = page.read_text()
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    missing = []
    for link in links:
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            missing.append(link)
    paths = set(re.findall(r"`((?:examples|tests|benchmarks|docs|mlejax)/[\w./-]*)`", text))
    paths |= set(re.findall(r'"((?:examples|tests)/[\w./-]+)"', text))
    assert [*missing, *sorted(path for path in paths if not (ROOT / path).exists())] == []
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^    |\.\w+ )make ([a-z-]+)", text, re.MULTILINE))
    assert named - targets == set()
    assert page != README or {"demo", "test", "bench"} <= named


@pytest.mark.parametrize("page", pages())
def test_pages_name_public_things(page: Path) -> None:
    """Every `mle.name` and `mle.special.name` is public."""
    text = page.read_text()
    assert {found for found in re.findall(r"\bmle\.([A-Za-z]\w*)", text) if not hasattr(mle, found)} == set()
    special = re.findall(r"\bmle\.special\.([A-Za-z]\w*)", text)
    assert {found for found in special if not hasattr(mle.special, found)} == set()
    if page.parent.name != "coming-from":  # whose left columns are of others
        for name_of, owner in {"res": mle.Results, "many": mle.BatchResults, "model": mle.Model}.items():
            named = set(re.findall(rf"\b{name_of}\.([a-z]\w*)\(", text))
            assert {found for found in named if not hasattr(owner, found)} == set()


TASKS = {
    "sample selection": ("how-to/selection", "optional="), "frontier": ("gallery/frontier", "regress("),
    "mixed logit": ("gallery/mixed-logit", "mixed"), "margins and their picture": ("how-to/margins", ".plot(x="),
    "interval-censored Weibull": ("how-to/censoring", "def weibull"),
    "profile intervals": ("how-to/profiles", 'method="profile"'),
    "survival picture": ("how-to/pictures", "mle.plot.survival"), "residuals": ("how-to/checking", "residuals("),
    "forest": ("how-to/pictures", "ax = many.plot("), "mixture": ("how-to/mixtures", "mle.Discrete"),
    "extended likelihood": ("gallery/spectrum", "mle.extended"),
    "network with a band": ("how-to/networks", 'errors="last-layer"'),
    "hidden Markov chain": ("how-to/mixtures", "mle.Markov"), "50,000 curves": ("how-to/many-data-sets", "50_000"),
    "notebook": ("how-to/notebooks", "_repr_html_"), "polars": ("how-to/tables", "import polars"),
}  # fmt: skip


def test_daily_tasks_have_pages() -> None:
    """Each in code that runs, or in a table of calls, with the call that does it."""
    absent = [task for task, (page, call) in TASKS.items() if call not in (ROOT / "docs" / f"{page}.md").read_text()]
    assert absent == []
    assert all(blocks((ROOT / "docs" / f"{page}.md").read_text()) for page, _ in TASKS.values())


def table_rows(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if line.startswith("|"))


def test_tables_of_the_reference_are_complete() -> None:
    """Verdicts, covariances, methods and declarations; and every attribute in the table of results exists."""
    from mlejax.covariance import KINDS
    from mlejax.inference import Profile
    from mlejax.optimize.resolve import NAMES

    folder = ROOT / "docs"
    simple, structured = (
        ["Real", "Positive", "NonNegative", "Interval"],
        ["Simplex", "Ordered", "Covariance", "Correlation"],
    )
    wanted = {
        "explanation/verdicts.md": [f"`{code}`" for code in CODES],
        "messages.md": [f"`{code}`" for code in CODES],
        "explanation/covariances.md": [f'`"{kind}"' for kind in KINDS],
        "reference.md": [*(f'`"{m}"' for m in NAMES), *(f"`{d}(" for d in [*simple, *structured, "Free"])],
    }
    for page, words in wanted.items():
        rows = table_rows((folder / page).read_text())
        assert [word for word in words if word not in rows] == [], page
    table = table_rows((folder / "reference.md").read_text().split("## Results")[1].split("\n## ")[0])
    named = set(re.findall(r"`(\w+)[`(]", table))
    assert len(named) > 25
    known = {*mle.Results.__annotations__, *dir(mle.Results), *dir(Profile)}
    assert named - known == set()


def test_reference_lists_every_public_name() -> None:
    """As docs/make_reference.py writes it, and nothing left out."""
    script = runpy.run_path(str(ROOT / "docs" / "make_reference.py"))
    shown = script["REGION"].search((ROOT / "docs" / "reference.md").read_text())
    assert shown
    assert {name for name in mle.__all__ if f"| `mle.{name}` | " not in shown[2]} == set()
    assert re.findall(r"^.*\| *\|$", shown[2].replace("| name | |", ""), re.MULTILINE) == []
    assert shown[2] == script["written"](), "run docs/make_reference.py"


def test_data_that_pages_read_are_linked() -> None:
    """As docs/make_reference.py writes it: every file that a page reads, whose rows are counted, with its source."""
    script = runpy.run_path(str(ROOT / "docs" / "make_reference.py"))
    shown = script["FILES"].search((ROOT / "docs" / "data.md").read_text())
    assert shown
    assert shown[2] == script["files"](), "run docs/make_reference.py"
    texts = [page.read_text() for page in (ROOT / "docs").glob("**/*.md")]
    named = {name for text in texts for name in re.findall(r'"((?:examples|tests)/[\w/]+\.csv)"', text)}
    assert named == set(re.findall(r"\]\(\.\./([\w/.]+\.csv)\)", shown[2]))


def test_reference_shows_the_options_of_fit() -> None:
    """With their defaults, in order; and no attribute is described by the type of its default."""
    page = (ROOT / "docs" / "reference.md").read_text()
    shown = " ".join(re.search(r"`model\.fit\((data, .*?)\)`", page, re.DOTALL)[1].split())  # type: ignore[index]
    parameters = list(inspect.signature(mle.Model.fit).parameters.values())[2:]
    options = [f"{p.name}={p.default!r}".replace("'", '"') for p in parameters]
    assert shown.replace("*, ", "").split(", ") == ["data", *options]
    assert "Built-in" not in page
    assert "str(object" not in page


def texts_of_the_package() -> str:
    """All texts in the source, with … for what is filled in."""
    found = []
    for path in sorted((ROOT / "mlejax").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def test_messages_are_those_of_the_package() -> None:
    """The first cell of each row of docs/messages.md is part of a text in the source."""
    rows = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "messages.md").read_text(), re.MULTILINE)
    texts = texts_of_the_package()
    assert len(rows) > 30
    assert [row for row in rows if row not in texts] == []


def test_the_page_of_messages_is_complete() -> None:
    """Every warning in the source, every statement of a verdict, every end, state and class of errors has a row."""
    from mlejax.status import CovarianceState, End

    page = (ROOT / "docs" / "messages.md").read_text()
    rows = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    said = [said for path in sorted((ROOT / "mlejax").rglob("*.py")) for said in warned(ast.parse(path.read_text()))]
    verdicts = ast.walk(ast.parse((ROOT / "mlejax" / "verdict" / "rules.py").read_text()))
    rules = [n for n in verdicts if isinstance(n, ast.FunctionDef) and n.name in ("_rule", "_indefinite", "_curved", "_risen")]
    nodes = [n for rule in rules for statement in rule.body[1:] for n in ast.walk(statement)]  # without the docstring
    parts = {id(part) for n in nodes if isinstance(n, ast.JoinedStr) for part in n.values}
    said += [text for n in nodes if id(n) not in parts and len(text := written(n)) > 40]
    assert len(said) > 20
    assert [one for one in said if not any(row in one for row in rows)] == []
    errors = [n for n in mle.__all__ if isinstance(getattr(mle, n), type) and issubclass(getattr(mle, n), Exception)]
    words = [*(e.name for e in End), *(s.name for s in CovarianceState), *(n for n in errors if n != "ConvergenceWarning")]
    assert [word for word in words if f"| {word} |" not in page] == []


def test_messages_name_their_row() -> None:
    """The rows that warnings and errors of the source name are anchors of the page, and each anchor is of one, or a verdict."""
    page = (ROOT / "docs" / "messages.md").read_text()
    rows = re.findall(r'<a id="([\w-]+)"></a>', page)
    named = {"verified", *CODES}
    for path in sorted((ROOT / "mlejax").rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] in ("warn", "linked"):
                at = 2 if ast.unparse(call.func).endswith("warn") else 1
                named |= {str(row.value) for row in call.args[at : at + 1] if isinstance(row, ast.Constant)}
    assert len(rows) == len(set(rows)) > 35
    assert named == set(rows)
    sections = runpy.run_path(str(ROOT / "mlejax" / "misuse.py"))["_SECTIONS"]
    assert {"errors-about-options", *sections.values()} <= anchors(page)


def test_a_message_ends_with_its_row() -> None:
    """As a user meets them: below an error, at the end of a warning, in a verdict."""
    normal = mle.model(mu=mle.Real())(lambda p, d: -((d["y"] - p["mu"]) ** 2))
    with pytest.raises(mle.MissingColumnError) as error:
        normal.fit({"x": [1.0, 2.0]})
    assert error.value.__notes__ == ["See messages.html#no-column in the documentation of mlejax"]
    with pytest.raises(ValueError, match="no parameter") as other:
        normal.fit({"y": [1.0, 2.0]}, fixed={"nu": 1.0})
    assert other.value.__notes__ == ["See messages.html#no-parameter in the documentation of mlejax"]
    flat = mle.model(mu=mle.Real())(lambda p, d: -jnp.exp(p["mu"]) * d["y"])  # rises towards 0
    with pytest.warns(mle.ConvergenceWarning, match=r"messages\.html#no_finite_maximum"):
        assert flat.fit({"y": [1.0, 2.0]}).verdict.address == "messages.html#no_finite_maximum"


def written(node: ast.AST) -> str:
    """The text of a literal, with … for what is filled in; of other nodes nothing."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def warned(tree: ast.AST) -> list[str]:
    """The texts of all warnings of a file, but for the verdict's own."""
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) in ("misuse.warn", "warnings.warn")]
    return [text for call in calls if re.search("[a-z]", text := written(call.args[0]))]


def test_figure_shows_the_quickstart() -> None:
    """The text in docs/summary.svg is the README's first block and the output below it."""
    drawn = [element.text or "" for element in ElementTree.parse(ROOT / "docs" / "summary.svg").iter() if element.text]
    lines = [line for line in drawn if line.strip()]
    first = blocks(README.read_text())[0]
    code = [line.strip() for line in first.code.splitlines() if line and not line.startswith(("import", "from"))]
    assert lines[: len(code)] == code
    assert differences(first.shown or "", "\n".join(lines[len(code) :])) == []


@pytest.mark.slow
def test_agreement_table_is_what_the_script_prints() -> None:
    """Ours and R's to two units of the last of ten digits; statsmodels', which vary with its version, to 1e-6."""
    from benchmarks import agreement, tables

    text = agreement.compare()[0]
    shown, printed = (
        [[cell.strip() for cell in line.split("|")] for line in part.splitlines() if line.startswith("|")]
        for part in (tables.pasted("agreement"), text)
    )
    assert [row[:3] for row in shown] == [row[:3] for row in printed]
    for a, b in zip(shown, printed, strict=True):
        if len(a) == 7 and a[1] != "---" and "(" in a[1] and a[3] != "mlejax":
            assert differences(" ".join(a[3:5]), " ".join(b[3:5])) == [], a
            assert bool(a[5]) == bool(b[5])
            assert not a[5] or float(a[5]) == pytest.approx(float(b[5]), rel=1e-6), a


def test_tables_of_the_benchmarks_are_as_recorded() -> None:
    """Each page shows the numbers that its script kept."""
    from benchmarks import tables

    for table, shown in tables.TABLES.items():
        assert tables.pasted(table) == shown(tables.record(table)["rows"]), table


def write(page: Path) -> None:
    """Paste what the blocks print into a page, and put the pictures that they save beside it."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        outputs = iter([out for _, out, _ in run(page, Path(folder))])
        for picture in Path(folder).glob("*.svg"):
            lines = picture.read_text().splitlines()
            (page.parent / picture.name).write_text("\n".join(line.rstrip() for line in lines) + "\n")

    def paste(found: re.Match[str]) -> str:
        out = next(outputs)
        below = "\n\n```text\n" + "\n".join(line.rstrip() for line in out.rstrip().splitlines()) + "\n```"
        return f"```python\n{found['code']}```" + (below if out.strip() else "")

    page.write_text(BLOCK.sub(paste, page.read_text()))


if __name__ == "__main__":
    if sys.argv[1:2] != ["--write"]:
        raise SystemExit(__doc__)
    for chosen in [Path(given).resolve() for given in sys.argv[2:]] or PAGES:
        write(chosen)
