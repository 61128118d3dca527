"""How large the code is: statements of mlejax/ without docstrings, room by room, and how many annotations say nothing.

    python benchmarks/statements.py

Lines can be joined and comments cut; a statement cannot be hidden.  An annotation counts as bare where all of it is ``Any``.
"""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "mlejax"


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


def main() -> None:
    rooms: Counter[str] = Counter()
    types: Counter[bool] = Counter()
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        rooms[path.relative_to(PACKAGE).parts[0].removesuffix(".py")] += statements(tree)
        types.update(annotation == "Any" for annotation in annotations(tree))
    for room, n in rooms.most_common():
        print(f"{n:7,}  {room}")
    print(f"{rooms.total():7,}  statements")
    print(f"{types[True] / types.total():7.1%}  of {types.total():,} annotations are bare Any")


if __name__ == "__main__":
    main()
