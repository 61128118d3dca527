"""Writes the lists of public names in docs/reference.md from their docstrings, and that of the files in docs/data.md, which pages
read: `python docs/make_reference.py`.
"""

import inspect
import json
import re
from pathlib import Path
from typing import Any

import mlejax as mle

PAGE = Path(__file__).parent / "reference.md"
REGION = re.compile(r"(<!-- names: .*? -->\n)(.*?)(<!-- end names -->)", re.DOTALL)
DATA = PAGE.with_name("data.md")
FILES = re.compile(r"(<!-- files: .*? -->\n)(.*?)(<!-- end files -->)", re.DOTALL)
EXAMPLES = PAGE.parent.parent / "examples" / "data"
WITH_MEMBERS = ("Model", "Results", "BatchResults", "Verdict", "Method")


def summary(thing: Any) -> str:
    """The first line of a docstring, for a cell of a table, with links of Sphinx as code."""
    paragraph = (inspect.getdoc(thing) or "").split("\n\n")[0]
    text = " ".join(paragraph.split())
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`").replace("|", "\\|")
    return text.replace("<", "&lt;") if "`" not in text else text


def attributes(owner: type) -> dict[str, str]:
    """The attributes in the docstring of a class, with what is said of each; of those described together each has the text."""
    section = (inspect.getdoc(owner) or "").partition("Attributes:\n")[2].partition("\n\n")[0]
    found = re.findall(r"^    (\w[\w, ]*): (.*(?:\n      .*)*)", section, re.MULTILINE)
    texts = {name: " ".join(text.split()).replace("``", "`") for names, text in found for name in names.split(", ")}
    return {name: text[:1].upper() + text[1:] for name, text in texts.items()}


def members(owner: type) -> list[tuple[str, Any]]:
    """Public attributes and methods that have a docstring, in the order of the source; those of its topics first."""
    topics = [c for c in owner.__mro__[:0:-1] if c.__module__.startswith(("mlejax.results.", "mlejax.model."))]
    return [(name, value) for c in (*topics, owner) for name, value in vars(c).items() if _shown(name, value)]


def _shown(name: str, value: Any) -> bool:
    return not name.startswith("_") and not isinstance(value, staticmethod | classmethod) and bool(inspect.getdoc(value))


def table(rows: list[tuple[str, str]]) -> str:
    """Names and what they are."""
    return "| name | |\n|---|---|\n" + "".join(f"| `{name}` | {text} |\n" for name, text in rows)


def written() -> str:
    """All lists."""
    public = [(f"mle.{name}", summary(getattr(mle, name))) for name in sorted(mle.__all__, key=str.lower)]
    parts = ["## Public names\n\n", table(public)]
    for name in WITH_MEMBERS:
        owner = getattr(mle, name)
        rows = []
        for member, value in members(owner):
            called = "()" if inspect.isfunction(value) else ""
            plain = isinstance(value, str | int | float | tuple | None)  # the default of a field: its type says nothing
            rows.append((f"{member}{called}", attributes(owner)[member] if plain else summary(value)))
        parts += [f"\n### Members of {name}\n\n", table(rows)] if rows else []
    drawn = [(f"mle.plot.{name}", summary(getattr(mle.plot, name))) for name in sorted(mle.plot.__all__)]
    parts += ["\n### Pictures\n\n", table(drawn)]
    special = [(f"mle.special.{name}", summary(getattr(mle.special, name))) for name in sorted(mle.special.__all__)]
    parts += ["\n### Special functions\n\n", table(special)]
    return "".join(parts)


def read_by() -> dict[str, list[str]]:
    """The data files that pages read, with links to these pages."""
    found: dict[str, list[str]] = {}
    for page in sorted(PAGE.parent.glob("**/*.md")):
        text, path = page.read_text(), page.relative_to(PAGE.parent).as_posix()
        for name in sorted(set(re.findall(r'"((?:examples/data|tests/cases)/[\w/]+\.csv)"', text))) * (page != DATA):
            found.setdefault(name, []).append(f"[{text.partition(chr(10))[0].lstrip('# ')}]({path})")
    return found


def files() -> str:
    """The files with what they hold, where they are from, and the pages that read them."""
    described = {}
    for line in (EXAMPLES / "README.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        described.update({f"examples/data/{name}": cells[2:] for name in re.findall(r"`([\w]+\.csv)`", cells[0])})
    lines = []
    for name, pages in sorted(read_by().items()):
        path = PAGE.parent.parent / name
        if name not in described:
            case = json.loads(path.with_name("reference.json").read_text())
            described[name] = [case["description"], case["source"]]
        n, (what, source) = len(path.read_text().splitlines()) - 1, (text.replace("|", "\\|") for text in described[name])
        lines.append(f"| [`{name}`](../{name}) | {n:,} | {what} | {source} | {', '.join(pages)} |\n")
    return "| file | rows | what | source | read by |\n|---|---|---|---|---|\n" + "".join(lines)


def main() -> None:
    """Replace what stands between the marks."""
    DATA.write_text(FILES.sub(lambda found: f"{found[1]}{files()}{found[3]}", DATA.read_text()))
    PAGE.write_text(REGION.sub(lambda found: f"{found[1]}{written()}{found[3]}", PAGE.read_text()))


if __name__ == "__main__":
    main()
