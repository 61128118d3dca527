"""How large the code is: statements of mlejax/ without docstrings, room by room, and how many annotations say nothing.

    python benchmarks/statements.py

Lines can be joined and comments cut; a statement cannot be hidden.  An annotation counts as bare where all of it is ``Any``, or
``Any`` or None.
"""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "mlejax"
BARE = {"Any", "Any | None", "None | Any", "Optional[Any]"}


def is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def statements(tree: ast.Module) -> int:
    return sum(isinstance(node, ast.stmt) and not is_docstring(node) for node in ast.walk(tree))


def annotations(tree: ast.Module) -> Iterator[str]:
    """The annotations of arguments, results and attributes."""
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            found = getattr(node, name, None)
            if found is not None:
                yield ast.unparse(found)


def bare_share() -> tuple[int, int]:
    """How many annotations of the package are bare ``Any``, and how many there are."""
    found = [a in BARE for path in PACKAGE.rglob("*.py") for a in annotations(ast.parse(path.read_text()))]
    return sum(found), len(found)


def main() -> None:
    rooms: Counter[str] = Counter()
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        rooms[path.relative_to(PACKAGE).parts[0].removesuffix(".py")] += statements(tree)
    for room, n in rooms.most_common():
        print(f"{n:7,}  {room}")
    print(f"{rooms.total():7,}  statements")
    bare, n = bare_share()
    print(f"{bare / n:7.1%}  of {n:,} annotations are bare Any")


if __name__ == "__main__":
    main()
