"""Annotations say something: how many are bare ``Any`` only goes down."""

from benchmarks.statements import BARE, annotations, bare_share

ALLOWED = 0.04


def test_few_annotations_are_bare_any() -> None:
    bare, n = bare_share()
    assert bare / n < ALLOWED, f"{bare} of {n} annotations are bare Any: say what it is (mlejax/shapes.py has names)"
    assert bare / n > ALLOWED - 0.01, f"only {bare} of {n} annotations are bare Any now: lower ALLOWED in this test"


def test_bare_annotations_are_seen() -> None:
    import ast

    source = "def f(a: Any, b: int, *c: Any, d: Any | None = None, **e: list[Any]) -> Any: ...\nx: Any = 1"
    assert [a in BARE for a in annotations(ast.parse(source))].count(True) == 5
