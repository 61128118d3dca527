"""Names ("addresses") of parameters and their entries: ``mu``, ``beta[2]``, ``beta[age]``, ``Sigma[1,0]``,
``net.layer0.w[3,1]``, ``net``.

A name without brackets is the whole parameter; a dotted prefix is all arrays below it; brackets contain indices (negative ones
count from the end) or labels.  For a vector with a formula, ``beta[2][age]`` is one coefficient and ``beta[2]`` all coefficients
of entry 2.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from mlejax import transforms
from mlejax.misuse import linked
from mlejax.parameters.leaf import Leaf
from mlejax.shapes import Params, PyTree

if TYPE_CHECKING:
    from mlejax.parameters.space import Space

_LABEL_LIMIT = 20_000

Located = list[tuple[int, "np.ndarray | None"]]


class AddressError(ValueError):
    """A name such as ``beta[2]`` that is neither a parameter of the model nor an entry of one."""


def locate(leaves: Sequence[Leaf], address: str) -> Located:
    """Return, for each array that an address names, (its position in ``leaves``, positions of the entries in the flattened
    array, or None for all of it).

    Raises:
        AddressError: there is no parameter or entry of this name; the message lists similar names.
    """
    text = str(address).strip()
    whole = [i for i, leaf in enumerate(leaves) if leaf.name == text or leaf.name.startswith(text + ".")]
    if whole:
        return [(i, None) for i in whole]
    for i, leaf in enumerate(leaves):
        if text.startswith(leaf.name + "[") and text.endswith("]"):
            inner = text[len(leaf.name) + 1 : -1]
            if leaf.entries is not None:
                found = _coefficients(leaf, inner)
                if found is not None:
                    return [(i, found)]
                continue
            flat = _entry(leaf, inner)
            if flat is not None:
                return [(i, np.array([flat]))]
    names = [leaf.name for leaf in leaves]
    entries = [label for leaf in leaves if leaf.size <= _LABEL_LIMIT for label in leaf.entry_labels]
    known = list(dict.fromkeys(entries + names))
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    raise linked(AddressError(f"no parameter {text!r}{near(text, known)}; the parameters are {shown}"), "no-parameter")


def _entry(leaf: Leaf, inner: str) -> int | None:
    """Return the position, in the flattened array ``leaf``, of the entry that ``inner``, the text between brackets, names by
    labels or indices; None if tables show no such entry. Of a symmetric or triangular matrix the indices may come in either
    order.
    """
    if not leaf.shape:
        return None
    parts = _tight(inner).split(",")
    square = isinstance(leaf.transform, transforms.Triangular)
    orders = [parts, parts[:-2] + parts[-2:][::-1]] if square and len(parts) >= 2 else [parts]
    for order in orders:
        label = f"[{','.join(order)}]"
        if leaf.labels is not None and leaf.size <= _LABEL_LIMIT:
            for i in leaf.reported_index:
                if _tight(leaf.suffix(int(i))) == label:
                    return int(i)
        try:
            index = tuple(int(x) for x in order)
        except ValueError:
            continue
        sizes = leaf.shape
        if len(index) == len(sizes) and all(-s <= i < s for i, s in zip(index, sizes, strict=True)):
            flat = int(np.ravel_multi_index(tuple(i % s for i, s in zip(index, sizes, strict=True)), sizes))
            if flat in leaf.reported_index:
                return flat
    return None


def _coefficients(leaf: Leaf, inner: str) -> np.ndarray | None:
    """Return the positions, in the flattened array ``leaf`` of the coefficients of an array with a formula, of those that
    ``inner``, the text between the outer brackets, names: ``2`` (all of an entry), ``2][age`` or ``2,age`` (one); None if there
    are none.
    """
    assert leaf.entries is not None
    assert leaf.labels is not None
    text, k = _tight(inner), leaf.shape[-1]
    for e, entry in enumerate(leaf.entries):
        if text == entry:
            return np.arange(e * k, (e + 1) * k)
        rest = next((text[len(entry) + len(s) :] for s in ("][", ",") if text.startswith(entry + s)), None)
        if rest is None:
            continue
        for j, label in enumerate(leaf.labels):
            if rest == _tight(label):
                return np.array([e * k + j])
        if re.fullmatch(r"-?\d+", rest) and -k <= int(rest) < k:
            return np.array([e * k + int(rest) % k])
    return None


def _tight(text: str) -> str:
    """Return a string without blanks around commas and at its ends."""
    return re.sub(r"\s*,\s*", ",", text.strip())


def near(text: str, known: Sequence[str]) -> str:
    """Return `` (did you mean ...?)`` with up to three known names: those that end with ``[text]``, if there are any, else the
    most similar; an empty string if no name is similar.
    """
    inside = [name for name in known if text and name.endswith(f"[{text}]")][:3]  # a covariate by its name alone
    matches = inside or (difflib.get_close_matches(text, known, n=3, cutoff=0.5) if text else [])
    return f" (did you mean {' or '.join(matches)}?)" if matches else ""


def n_required(function: Callable[..., Any]) -> int:
    """Return the number of arguments without a default that a function takes; 0 if Python does not know its signature.

    >>> n_required(lambda params, data, scale=1.0: 0)
    2
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a function written in C
        return 0
    return sum(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


def with_addresses(
    function: Callable[[Any], Any], space: Space, regressed: Collection[str] = ()
) -> Callable[[Any], Any]:
    """Return a function that calls ``function`` with params that also accept names of entries, ``params["mu[age]"]``: a number
    for one entry, else a vector of the entries.

    Args:
        function: function of params.
        space: the parameter space of the params.
        regressed: names of the parameters with a formula, which cannot be read as a whole: in the log-likelihood such a
            parameter has one value for each row, here it would be its coefficients.

    Raises:
        TypeError: ``function`` is not callable; when it is called, it reads ``params[0]``.
        ValueError: when it is called, it reads a parameter of ``regressed`` as a whole.
        AddressError: when it is called, it reads a name that is no parameter or entry.
    """
    if not callable(function):
        raise TypeError(
            f"expected a function of params, such as lambda p: p[{space.leaves[0].name!r}] ** 2, got {function!r}"
        )
    if n_required(function) > 1:
        raise TypeError(
            f"expected a function of params alone, such as lambda p: p[{space.leaves[0].name!r}] ** 2, got one of "
            f"{n_required(function)} arguments; for a function of params and data use res.predict(f, data) or res.margins(of=f)"
        )

    def call(params: PyTree) -> Params:
        given = {k: v for k, v in params.items() if k not in regressed} if regressed else params
        while True:
            try:
                return function(given)
            except KeyError as error:
                address = error.args[0] if error.args else None
                if not isinstance(params, dict) or not isinstance(address, str) or address in given:
                    if isinstance(params, dict) and isinstance(address, int):
                        raise TypeError(
                            f"params[{address}]: expected the name of a parameter or entry, such as params[{space.labels[0]!r}]"
                        ) from None
                    raise
                if address in regressed:
                    raise _regressed(next(leaf for leaf in space.leaves if leaf.name == address)) from None
                leaves = space.split(params)
                entries = [
                    jnp.ravel(leaves[i]) if flat is None else jnp.ravel(leaves[i])[np.asarray(flat)]
                    for i, flat in space.locate(address)
                ]
                value = jnp.concatenate(entries)
                given = {**given, address: value[0] if value.size == 1 else value}

    return call


def _regressed(leaf: Leaf) -> ValueError:
    return linked(
        ValueError(
            f"params[{leaf.name!r}] has a formula: the log-likelihood gets one value of it for each row, and here it would be "
            f"its {leaf.size} coefficients. Write params[{leaf.entry_labels[-1]!r}] for a coefficient; for values by row use "
            "res.predict(f, data), for their average res.margins(of=f)"
        ),
        "rows-of-regressed",
    )
