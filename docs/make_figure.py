"""Draws docs/summary.svg: the README's quickstart and what it prints when this script runs it.

    python docs/make_figure.py

Plain SVG on a light panel of its own, so that it reads the same on light and dark pages. Each line is stretched to a
fixed grid: columns stay aligned whatever monospaced font the reader has.
"""

import contextlib
import io
import os
from html import escape
from pathlib import Path

ROOT = Path(__file__).parent.parent
FONT = "monospace"
ADVANCE, LINE, MARGIN = 7.8, 17.0, 22.0  # of a character, of a line, around the text; in units of a 13-unit font
PANEL, EDGE, RULE, TEXT, FAINT, VERDICT = "#f6f8fa", "#8c959f", "#d0d7de", "#1f2328", "#57606a", "#116329"


def quickstart() -> str:
    """The first Python block of the README."""
    return (ROOT / "README.md").read_text().split("```python\n", 1)[1].split("```", 1)[0]


def output(code: str) -> str:
    """What the code prints, run in the root of the project."""
    caught = io.StringIO()
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        with contextlib.redirect_stdout(caught):
            exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
    finally:
        os.chdir(before)
    return caught.getvalue()


def shown_code(code: str) -> list[str]:
    """The code without its imports."""
    lines = code.rstrip().splitlines()
    first = next(i for i, line in enumerate(lines) if line and not line.startswith(("import ", "from ")))
    return lines[first:]


def draw(code: list[str], printed: list[str]) -> str:
    """The SVG."""
    width = 2 * MARGIN + ADVANCE * max(map(len, code + printed))
    height = 2 * MARGIN + LINE * (len(code) + 1 + len(printed))
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}"'
        f' viewBox="0 0 {width:.1f} {height:.1f}"'
        f' font-family="{FONT}" font-size="13" role="img" aria-label="A model in mlejax and the table it prints">',
        f'<rect x="0.5" y="0.5" width="{width - 1:.1f}" height="{height - 1:.1f}" rx="8" fill="{PANEL}" stroke="{EDGE}"/>',
    ]
    y, verdict = MARGIN + 0.75 * LINE, False
    for number, line in enumerate([*code, "", *printed]):
        if number == len(code):
            out.append(
                f'<line x1="{MARGIN}" x2="{width - MARGIN:.1f}" y1="{y - 4:.1f}" y2="{y - 4:.1f}" stroke="{RULE}"/>'
            )
        verdict = verdict or line.startswith("Verdict:")
        text = line.strip()
        if text:
            rule = set(text) <= {"=", "-"}
            colour = FAINT if rule else VERDICT if verdict else TEXT
            x = MARGIN + ADVANCE * (len(line) - len(line.lstrip()))
            out.append(
                f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" textLength="{ADVANCE * len(text):.1f}"'
                f' lengthAdjust="spacingAndGlyphs" xml:space="preserve">{escape(text, quote=False)}</text>'
            )
        y += LINE
    return "\n".join([*out, "</svg>"]) + "\n"


def main() -> None:
    """Run, draw, write."""
    code = quickstart()
    drawn = draw(shown_code(code), output(code).rstrip().splitlines())
    (ROOT / "docs" / "summary.svg").write_text(drawn)


if __name__ == "__main__":
    main()
