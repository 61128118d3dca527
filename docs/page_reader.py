"""Pages as notebooks, for MyST-NB: each ```python block is a cell, which `make site` runs and shows with what it gives.

The text below a block is a copy of what it prints, for readers of the file (and tests/test_docs.py keeps it true); the site
shows the output itself and leaves the copy out, and so it does with pictures that the code saves. A first cell, not shown,
copies the data that pages read into the working folder, which is a temporary one, and lets no warning pass but those of fits,
whose verdicts are printed.
"""

from __future__ import annotations

import hashlib
import os
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```$(?:\n\n```text\n(?P<shown>.*?)^```$)?", re.MULTILINE | re.DOTALL)
SAVED = re.compile(r'\.savefig\("([\w.-]+)"\)')
FIRST = """\
import os, shutil, warnings
import matplotlib, mlejax
for folder in {folders}:
    shutil.copytree(os.path.join(os.environ["MLEJAX_PAGES"], folder), folder)
warnings.filterwarnings("error", module="__main__|mlejax")
warnings.filterwarnings("ignore", category=mlejax.ConvergenceWarning)
get_ipython().run_line_magic("config", "InlineBackend.figure_formats = ['svg']")
matplotlib.rcParams["svg.fonttype"] = "none"
# {digest}"""


@cache
def digest() -> str:
    """Of the package and its data: with another the cells run again, though their code is that of the cache."""
    found = hashlib.sha256()
    for path in sorted(p for folder in ("mlejax", "examples/data", "tests/cases") for p in (ROOT / folder).rglob("*.*")):
        if path.suffix != ".pyc":
            found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()


def read(text: str) -> NotebookNode:
    """The notebook of a page; its ``source_map`` has the line of the page at which each cell begins."""
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    folders = sorted({"examples/data", *re.findall(r'"(tests/cases/\w+)/', text)})
    cells, at, blocks = [], 0, list(BLOCK.finditer(text))
    if blocks:
        cells.append((0, new_code_cell(FIRST.format(folders=folders, digest=digest()), metadata={"tags": ["remove-cell"]})))
    for found in blocks:
        cells.append((at, new_markdown_cell(without_saved(text, text[at : found.start()]))))
        cells.append((found.start(), new_code_cell(found["code"].rstrip())))
        at = found.end()
    cells.append((at, new_markdown_cell(without_saved(text, text[at:]))))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    lines = [text[:at].count("\n") for at, _ in cells]
    return new_notebook(cells=[cell for _, cell in cells], metadata={"kernelspec": kernel, "source_map": lines})


def without_saved(page: str, words: str) -> str:
    """Without the pictures that the page's own code saves."""
    return re.sub(r"!\[[^]]*\]\(([\w.-]+)\)", lambda found: "" if found[1] in SAVED.findall(page) else found[0], words)


def without_code() -> list[str]:
    """Pages that need no kernel, as Sphinx names them."""
    pages = (p for p in Path(__file__).parent.rglob("*.md") if "_build" not in p.parts)
    return [p.relative_to(Path(__file__).parent).as_posix() for p in pages if not BLOCK.search(p.read_text())]


os.environ["MLEJAX_PAGES"] = str(ROOT)
