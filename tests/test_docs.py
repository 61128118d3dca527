"""The README tells the truth: its code runs, prints what is shown below it, and names what exists.

    python tests/test_docs.py --write     # run all blocks, paste what they print, and the table of agreement

Numbers may differ from those shown by two units in their last digit, and numbers below 1e-9 (a Newton decrement at the
maximum is rounding noise) by anything, because processors and versions of JAX round differently. All else is exact, but
for the amount of white space and the length of ruled lines.
"""

import contextlib
import io
import re
import shutil
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

import mlejax as mle

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```$(?:\n\n```text\n(?P<shown>.*?)^```$)?", re.MULTILINE | re.DOTALL)
AGREEMENT = re.compile(r"(<!-- agreement: .*? -->\n)(.*?)(<!-- end -->)", re.DOTALL)
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?![\w])")
NOISE = 1e-9


@dataclass(frozen=True)
class Block:
    """A Python block of the README, the line of its first statement, and the text block below it, if any."""

    code: str
    line: int
    shown: str | None


def blocks(text: str) -> list[Block]:
    """All Python blocks in order."""
    return [
        Block(found["code"], text[: found.start("code")].count("\n") + 1, found["shown"])
        for found in BLOCK.finditer(text)
    ]


def run(parts: list[Block], where: Path) -> Iterator[tuple[Block, str, list[str]]]:
    """Run blocks in one namespace in the folder `where`: what each prints, and its convergence warnings."""
    for folder in {"examples/data", *re.findall(r'"(tests/cases/\w+)/', README.read_text())}:
        shutil.copytree(ROOT / folder, where / folder)
    namespace = {"__name__": "__main__"}
    for block in parts:
        printed = io.StringIO()
        source = "\n" * (block.line - 1) + block.code  # so that a traceback shows the README's own line numbers
        with contextlib.chdir(where), contextlib.redirect_stdout(printed), warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("error")
            warnings.simplefilter("always", mle.ConvergenceWarning)
            exec(compile(source, str(README), "exec"), namespace)
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


def test_readme_blocks_print_what_is_shown(tmp_path: Path) -> None:
    """Every block, in order, in one namespace; only fits whose output says so may warn."""
    parts = blocks(README.read_text())
    assert len(parts) >= 10
    for block, printed, warned in run(parts, tmp_path):
        where = f"README.md, line {block.line}"
        assert block.shown is not None or not printed, f"{where}: prints, but nothing is shown"
        assert differences(block.shown or "", printed) == [], where
        codes = ("no_finite_maximum", "not_identified")  # of fits, not of a check's findings
        expected = [code for code in codes if re.search(rf"(?<!warning: ){code}:", printed)]
        assert [code in message for code, message in zip(expected, warned, strict=True)] == [True] * len(expected), (
            where
        )


def test_blocks_of_code_are_all_found() -> None:
    """No block is written in a way that the pattern above misses."""
    text = README.read_text()
    assert len(blocks(text)) == len(re.findall(r"```\s*py", text)) > 0
    assert sum(block.shown is not None for block in blocks(text)) == len(re.findall(r"```\s*text", text)) > 0


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_pages_name_what_exists(page: str) -> None:
    """Links, paths, anchors and make targets."""
    text = (ROOT / page).read_text()
    links = {link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link}
    paths = {link for link in links if not link.startswith("#")}
    paths |= set(re.findall(r"`((?:examples|tests|benchmarks|docs|mlejax)/[\w./-]*)`", text))
    paths |= set(re.findall(r'"((?:examples|tests)/[\w./-]+)"', text))
    assert sorted(path for path in paths if not (ROOT / path).exists()) == []
    headings = {
        re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-") for h in re.findall(r"^#+ (.+)$", text, re.M)
    }
    assert sorted(link for link in links if link.startswith("#") and link[1:] not in headings) == []
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^    |\.\w+ )make ([a-z-]+)", text, re.MULTILINE))
    assert named - targets == set()
    assert page != "README.md" or {"demo", "test", "bench"} <= named


def test_readme_names_public_things() -> None:
    """Every `mle.name` is public, and every attribute in the table of results exists."""
    text = README.read_text()
    assert {name for name in re.findall(r"\bmle\.([A-Za-z]\w*)", text) if not hasattr(mle, name)} == set()
    table = text.split("## Results")[1].split("##")[0]
    rows = [line for line in table.splitlines() if line.startswith("|")]
    named = set(re.findall(r"`(\w+)[`(]", "".join(rows)))
    assert len(named) > 25
    fields = set(mle.Results.__annotations__)
    assert {name for name in named if name not in fields and not hasattr(mle.Results, name)} == set()


def test_readme_lists_every_code() -> None:
    """Verdicts, covariances, methods and declarations: the tables are complete."""
    from mlejax.covariance import KINDS
    from mlejax.optimize.resolve import NAMES
    from mlejax.verdict import CODES

    text = README.read_text()
    rows = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    simple, structured = (
        ["Real", "Positive", "NonNegative", "Interval"],
        ["Simplex", "Ordered", "Covariance", "Correlation"],
    )
    wanted = [*(f"`{code}`" for code in CODES), *(f'`"{kind}"' for kind in KINDS), *(f'`"{name}"' for name in NAMES)]
    assert [
        word for word in [*wanted, *(f"`{name}(" for name in [*simple, *structured, "Free"])] if word not in rows
    ] == []


def test_figure_shows_the_quickstart() -> None:
    """The text in docs/summary.svg is the README's first block and the output below it."""
    drawn = [element.text or "" for element in ElementTree.parse(ROOT / "docs" / "summary.svg").iter() if element.text]
    lines = [line for line in drawn if line.strip()]
    first = blocks(README.read_text())[0]
    code = [line.strip() for line in first.code.splitlines() if line and not line.startswith(("import", "from"))]
    assert lines[: len(code)] == code
    assert differences(first.shown or "", "\n".join(lines[len(code) :])) == []


def agreement() -> str:
    """What benchmarks/agreement.py prints."""
    from benchmarks import agreement as script

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["agreement.py"])
        assert script.main() == 0
    return printed.getvalue()


@pytest.mark.slow
def test_agreement_table_is_what_the_script_prints() -> None:
    """Ours and R's to two units of the last of ten digits; statsmodels', which vary with its version, to 1e-6."""
    found = AGREEMENT.search(README.read_text())
    assert found
    shown, printed = (
        [[cell.strip() for cell in line.split("|")] for line in text.splitlines() if line.startswith("|")]
        for text in (found[2], agreement())
    )
    assert [row[:3] for row in shown] == [row[:3] for row in printed]
    for a, b in zip(shown, printed, strict=True):
        if len(a) == 7 and a[1] != "---" and "(" in a[1] and a[3] != "mlejax":
            assert differences(" ".join(a[3:5]), " ".join(b[3:5])) == [], a
            assert bool(a[5]) == bool(b[5])
            assert not a[5] or float(a[5]) == pytest.approx(float(b[5]), rel=1e-6), a


def write() -> None:
    """Paste what the blocks and the table of agreement print into the README."""
    import tempfile

    sys.path.insert(0, str(ROOT))
    text = README.read_text()
    with tempfile.TemporaryDirectory() as folder:
        printed = [out for _, out, _ in run(blocks(text), Path(folder))]
    outputs = iter(printed)

    def paste(found: re.Match[str]) -> str:
        out = next(outputs)
        below = "\n\n```text\n" + "\n".join(line.rstrip() for line in out.rstrip().splitlines()) + "\n```"
        return f"```python\n{found['code']}```" + (below if out.strip() else "")

    text = BLOCK.sub(paste, text)
    table = agreement()
    README.write_text(AGREEMENT.sub(lambda found: f"{found[1]}{table}{found[3]}", text))


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        raise SystemExit(__doc__)
    write()
