"""Formulas in files: the text, what its transforms have learnt, a few rows to try it on; and what may be evaluated.

A formula is Python where it is not a plain name, and formulaic evaluates it. So one that comes from a file is read first: it
may combine columns and constants by arithmetic and call formulaic's transforms and elementwise functions of NumPy, nothing
else. It is then evaluated on the few rows in the file, and has to give the columns that it gave when it was saved.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from mlejax.data import formulas
from mlejax.files.container import FileError


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TRANSFORMS = _words(
    "C I Q bs cr cs cc poly center scale standardize hashed lag log log10 log2 exp exp10 exp2 "
    "Treatment Sum Helmert Diff Poly abs float int round"
)
_CODINGS = _words("Treatment Sum Helmert Diff Poly")
_CONTRASTS = _words("treatment sum helmert diff poly SAS")
_NUMPY = _words(
    "abs absolute sqrt cbrt square exp exp2 expm1 log log2 log10 log1p sin cos tan arcsin arccos arctan arctan2 sinh cosh "
    "tanh arcsinh arccosh arctanh hypot floor ceil rint trunc sign maximum minimum fmax fmin clip where power mod remainder "
    "isfinite isnan logical_and logical_or logical_not deg2rad rad2deg pi e"
)
_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.BitAnd, ast.BitOr)
_QUOTED = re.compile(r"`[^`]*`")
MAX_LENGTH = 20_000


def text_of(piece: formulas.Piece) -> str:
    """What formulaic is given for a piece."""
    return f"`{piece.text}`" if piece.columns == (piece.text,) else piece.text


def refuse_unknown(text: str, columns: Collection[str], where: str) -> None:
    """FileError unless a formula does nothing but arithmetic, known transforms and elementwise functions of NumPy.

    A name that is not called has to be a column: a transform might call it (``hashed(g, hash_func=eval)``).

    >>> refuse_unknown("age + C(region) + np.log(x)", ["age", "region", "x"], "mu")
    >>> try:
    ...     refuse_unknown("age + {open('x').read()}", ["age"], "mu")
    ... except FileError as error:
    ...     print(error)
    mu: its formula "age + {open('x').read()}" calls open('x').read, which is no known transform. A formula is code: ...
    """
    import formulaic

    if len(text) > MAX_LENGTH:
        raise FileError(f"{where}: a formula of {len(text)} characters is not read")
    try:
        terms = list(formulaic.Formula(text))
        factors = [factor for term in terms for factor in term.factors]
        bad = [found for factor in factors if (found := _unknown(factor, columns)) is not None]
    except FileError:
        raise
    except Exception as error:
        raise FileError(f"{where}: its formula {text!r} cannot be read ({type(error).__name__})") from None
    if bad:
        raise FileError(
            f"{where}: its formula {text!r} {bad[0]}. A formula is code: if you know where the file comes from, "
            "mle.load(path, trust_formulas=True) takes it"
        )


def _unknown(factor: Any, columns: Collection[str]) -> str | None:
    method = factor.eval_method.value
    if method == "literal":
        return None
    if method == "lookup":
        return None if factor.expr in columns else f"uses {factor.expr}, which is none of its columns"
    quoted = [name for name in _QUOTED.findall(factor.expr) if name[1:-1] not in columns]
    if quoted:
        return f"uses {quoted[0]}, which is none of its columns"
    tree = ast.parse(_QUOTED.sub("_quoted_", factor.expr), mode="eval")
    return next((said for node in _walk(tree.body) if (said := _refused(node, columns)) is not None), None)


def _walk(node: ast.AST) -> list[ast.AST]:
    """All nodes but the names inside of what is called, which belong to the call."""
    if isinstance(node, ast.Call):
        inner = [*node.args, *(k.value for k in node.keywords)]
        return [node, *(n for part in inner for n in _walk(part))]
    if isinstance(node, ast.Attribute):
        return [node]
    children = [c for c in ast.iter_child_nodes(node) if isinstance(c, ast.expr)]
    return [node, *(n for child in children for n in _walk(child))]


def _refused(node: ast.AST, columns: Collection[str]) -> str | None:
    """What is wrong with one node of an expression, or None."""
    if isinstance(node, ast.Call):
        f = node.func
        known = isinstance(f, ast.Name) and f.id in _TRANSFORMS
        known = known or (isinstance(f, ast.Attribute) and _attribute(f))
        starred = any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords)
        return None if known and not starred else f"calls {ast.unparse(f)}, which is no known transform"
    if isinstance(node, ast.Attribute):
        return (
            None
            if _attribute(node, called=False)
            else f"uses {ast.unparse(node)}, which is no known constant or transform"
        )
    if isinstance(node, ast.BinOp):
        ok = isinstance(node.op, _OPERATORS) and not any(
            isinstance(side, (ast.List, ast.Tuple)) or (isinstance(side, ast.Constant) and isinstance(side.value, str))
            for side in (node.left, node.right)
        )
        if isinstance(node.op, ast.Pow):  # 9**9**9 would take for ever
            ok = ok and not isinstance(node.left, ast.Constant) and _small(node.right)
        return None if ok else f"contains {ast.unparse(node)}, which is no arithmetic on columns"
    if isinstance(node, ast.Name):
        known = node.id == "_quoted_" or node.id in columns or node.id in _CODINGS
        return None if known else f"uses {node.id}, which is none of its columns"
    if isinstance(node, (ast.UnaryOp, ast.Compare, ast.BoolOp, ast.List, ast.Tuple, ast.Dict)):
        return None
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float, str, bool, type(None))):
        return None
    return f"contains {ast.unparse(node)}, which is no arithmetic on columns"


def _attribute(node: ast.Attribute, called: bool = True) -> bool:
    owner = node.value
    if not isinstance(owner, ast.Name):
        return False
    numpy = _NUMPY if called else ("pi", "e")
    return (owner.id == "np" and node.attr in numpy) or (owner.id == "contr" and node.attr in _CONTRASTS)


def _small(node: ast.AST) -> bool:
    if isinstance(node, ast.UnaryOp):
        node = node.operand
    return isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and abs(node.value) <= 100


# ---- pieces


def piece_fields(piece: formulas.Piece) -> dict[str, Any]:
    """A piece as plain values.

    Raises:
        TypeError: levels that are neither text nor numbers (intervals of ``pd.cut``, dates).
    """
    fields: dict[str, Any] = {"text": piece.text, "columns": piece.columns, "labels": piece.labels}
    if piece.spec is None:
        return fields
    kinds = {}
    for factor, (kind, state) in piece.spec.encoder_state.items():
        levels = state.get("categories")
        kinds[factor] = (kind.value, None if levels is None else [_level(v, factor) for v in levels])
    rows = [(str(name), _column(piece.rows[name])) for name in piece.rows.columns]
    fields |= {"learnt": _plain(piece.spec.transform_state), "kinds": kinds}
    return fields | {"rows": rows, "n_rows": len(piece.rows), "values": np.asarray(piece.values)}


def _level(value: Any, factor: str) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    if not isinstance(value, (str, int, float, bool)):
        raise TypeError(f"the levels of {factor} are of type {type(value).__name__}; make them text or numbers")
    return str(value) if isinstance(value, str) else value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {(k.item() if isinstance(k, np.generic) else k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def _column(series: Any) -> dict[str, Any]:
    import pandas as pd

    if isinstance(series.dtype, pd.CategoricalDtype):
        levels = [_level(v, str(series.name)) for v in series.cat.categories]
        return {
            "levels": levels,
            "ordered": bool(series.cat.ordered),
            "codes": series.cat.codes.to_numpy().astype(np.int64),
        }
    values = series.to_numpy()
    if values.dtype.kind in "fiub":
        return {"values": values.astype({"f": "float64", "b": "bool"}.get(values.dtype.kind, "int64"))}
    return {"texts": [_level(v, str(series.name)) for v in values]}


def piece_of(fields: dict[str, Any], trusted: bool) -> formulas.Piece:
    """The inverse of :func:`piece_fields`; the formula has been found to give what it gave.

    Raises:
        FileError: a formula that is not known to be harmless, or that gives other columns here.
    """
    piece = formulas.Piece(str(fields["text"]), _texts(fields["columns"]), _texts_or_none(fields["labels"]))
    if "learnt" not in fields:
        return piece
    import formulaic
    import pandas as pd
    from formulaic.parser.types import Factor

    text = text_of(piece)
    if not trusted:
        refuse_unknown(text, piece.columns, "the model")
    state = {}
    for factor, (kind, levels) in dict(fields["kinds"]).items():
        state[factor] = (Factor.Kind(kind), {} if levels is None else {"categories": list(levels)})
    values = np.asarray(fields["values"], np.float64)
    n = int(fields["n_rows"])
    made = {str(name): _series(column, n) for name, column in fields["rows"]}
    if set(made) != set(piece.columns):  # a name that is no column after all could be anything
        raise FileError(f"the formula {text!r} uses other columns than there are rows of")
    rows = pd.DataFrame(made) if made else pd.DataFrame(index=range(n))
    spec = formulaic.ModelSpec(
        formula=formulaic.Formula(text),
        output="numpy",
        na_action="ignore",
        transform_state=dict(fields["learnt"]),
        encoder_state=state,
    )
    piece = formulas.Piece(piece.text, piece.columns, piece.labels, spec, rows, values)
    try:
        again = formulas.materialise(spec, rows, f"formula {text!r}")
    except Exception as error:
        raise FileError(f"the formula {text!r} cannot be evaluated here: {error}") from None
    found = tuple(map(str, again.model_spec.column_names))
    if found != piece.labels or not np.allclose(np.asarray(again), values, rtol=1e-9, atol=1e-12, equal_nan=True):
        raise FileError(
            f"the formula {text!r} gives other columns here than when it was saved (here {', '.join(found)}): formulaic "
            f"{formulaic.__version__} may read it differently"
        )
    return formulas.Piece(piece.text, piece.columns, piece.labels, again.model_spec, rows, values)


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(v) for v in value)


def _texts_or_none(value: Any) -> tuple[str, ...] | None:
    return None if value is None else _texts(value)


def _series(column: dict[str, Any], n: int) -> Any:
    import pandas as pd

    if "levels" in column:
        codes = np.asarray(column["codes"], np.int64)
        values: Any = pd.Series(
            pd.Categorical.from_codes(codes, list(column["levels"]), ordered=bool(column["ordered"]))
        )
    elif "texts" in column:
        values = pd.Series(list(column["texts"]), dtype=object)
    else:
        values = pd.Series(np.asarray(column["values"]))
    if len(values) != n:
        raise FileError(f"a column of {len(values)} rows among {n}")
    return values
