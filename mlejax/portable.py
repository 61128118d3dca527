"""Pickling of users' functions: by name where they can be imported, else by value through cloudpickle.

The name of a function decorated by ``@mle.model`` is bound to the model, so that pickle's own rule (the object of that name is
this very function) fails for it; here the name may be bound to the model as well.  ``__main__`` (a script, a notebook) differs
between processes, so that its functions are pickled by value.
"""

from __future__ import annotations

import hashlib
import importlib
import pickle
import secrets
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from mlejax.shapes import Reduced

__all__ = ["Absent", "AbsentError", "find", "key_of", "name_of", "portable", "recall", "reduced", "restore", "travelling"]

_MAIN = ("__main__", "__mp_main__")
T = TypeVar("T")


class AbsentError(ValueError):
    """A method of a saved or pickled result needs a function or data that were not stored with it."""


@dataclass(frozen=True)
class Absent:
    """Placeholder for a function of a model that was not stored with a result; calling it raises AbsentError.

    Attributes:
        name: name of the model.
        why: why the function is missing, for the message.
        what: which function of the model it was, such as "log-likelihood".
        token: random text that keeps the placeholders of different functions unequal; may be empty.
    """

    name: str
    why: str
    what: str = "log-likelihood"
    token: str = ""

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self, *_: object, **__: object) -> Any:
        """Raise AbsentError, whatever the arguments."""
        raise AbsentError(
            f"this needs the {self.what} of {self.name}, but {self.why}.  Estimates, tables, intervals and tests are available; "
            "to evaluate the likelihood again, fit the model again"
        )


@dataclass(frozen=True)
class Named:
    """Module and qualified name under which a function, or the model that it was decorated into, can be imported."""

    module: str
    name: str


def name_of(function: object) -> Named | None:
    """Return the name under which a function, or the model made from it, can be imported in any process; None if there is
    none: functions of ``__main__``, functions inside others, and, inside :func:`travelling`, of modules not installed.
    """
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or "<" in name or module in _MAIN:
        return None
    if _writing.travelling and not _installed(module):
        return None
    there = find(Named(module, name))
    inside = (there, getattr(there, "__wrapped__", None))
    return Named(module, name) if any(part is function for part in inside) else None


def find(named: Named) -> Any:
    """Import the object with this name and return it; None if its module or the name in it cannot be found."""
    try:
        found = importlib.import_module(named.module)
        for part in named.name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return None
    return found


# ---- by value


def portable(function: object) -> Any:
    """Return a picklable form of a function, for :func:`restore`.

    That is (Named, name) if it can be imported, else bytes from cloudpickle, else (if cloudpickle raises) :class:`Absent`.
    None and Absent are returned unchanged.  While cloudpickle writes a function, functions inside it are returned unchanged,
    for cloudpickle to write: a function may refer to a model that refers to it.
    """
    if function is None or isinstance(function, Absent):
        return function
    named, name = name_of(function), getattr(function, "__name__", type(function).__name__)
    if named is not None:
        return named, name
    if _writing.active:
        return function
    import cloudpickle

    _writing.active = True
    try:
        return cloudpickle.dumps(function)
    except Exception as error:
        why = f"its function could not be pickled ({type(error).__name__}: {str(error)[:200]})"
        return Absent(name, why, token=secrets.token_hex(8))
    finally:
        _writing.active = False


def restore(carried: Any) -> Any:
    """Return the function from which :func:`portable` made ``carried``.

    Bytes are unpickled, once as long as the function is in use; (Named, name) is imported, an :class:`Absent` if that fails;
    everything else is returned unchanged.
    """
    if isinstance(carried, bytes):
        return recall(_digest(carried), lambda: pickle.loads(carried))
    if isinstance(carried, tuple) and len(carried) == 2 and isinstance(carried[0], Named):
        named, name = carried
        found = find(named)
        function = getattr(found, "__wrapped__", found)
        return function if callable(function) else Absent(name, f"{named.module}.{named.name} cannot be imported here")
    return carried


def reduced(value: Any, *functions: str) -> Reduced:
    """Return what ``__reduce__`` of a dataclass returns if some of its fields are users' functions, or tuples of them.

    Args:
        value: the object to pickle; its constructor takes its fields by name.
        functions: names of these fields, which are pickled in the form that :func:`portable` makes.
    """
    parts = {own.name: getattr(value, own.name) for own in fields(value)}
    for name in functions:
        part = parts[name]
        parts[name] = [portable(one) for one in part] if isinstance(part, tuple) else portable(part)
    return _made_again, (type(value), parts, functions)


def _made_again(kind: Callable[..., T], parts: dict[str, Any], functions: tuple[str, ...]) -> T:
    """Return the object that :func:`reduced` took apart; a list of functions becomes a tuple."""
    for name in functions:
        part = parts[name]
        parts[name] = tuple(map(restore, part)) if isinstance(part, list) else restore(part)
    return kind(**parts)


@contextmanager
def travelling() -> Iterator[None]:
    """Context manager: inside, functions of modules that are not installed are pickled by value, since another machine may lack
    the modules.
    """
    import cloudpickle

    here = cloudpickle.cloudpickle.list_registry_pickle_by_value()
    own = [
        module
        for name, module in list(sys.modules.items())
        if getattr(module, "__name__", "") == name and name not in {*_MAIN, *here} and not _installed(name)
    ]
    for module in own:
        cloudpickle.register_pickle_by_value(module)
    before, _writing.travelling = _writing.travelling, True
    try:
        yield
    finally:
        _writing.travelling = before
        for module in own:
            cloudpickle.unregister_pickle_by_value(module)


def _installed(module: str) -> bool:
    """True if a module is of the standard library, of an installed package or of mlejax, or has no file."""
    top = module.partition(".")[0]
    if top == "mlejax" or top in sys.stdlib_module_names:
        return True
    where = getattr(sys.modules.get(module), "__file__", None)
    return where is None or "site-packages" in where or "dist-packages" in where


# ---- one object for one content


class _Writing(threading.local):
    """The state of pickling in this thread.

    Attributes:
        active: True while cloudpickle writes a function.
        travelling: True inside the context :func:`travelling`.
    """

    active = False
    travelling = False


_writing = _Writing()
_known: WeakValueDictionary[bytes, Any] = WeakValueDictionary()
_recent: deque[Any] = deque(maxlen=8)  # kept alive, so that the tasks of a worker share compiled programs


def key_of(value: object, parts: Any) -> bytes | None:
    """Register ``value`` for :func:`recall` and return its key, the SHA-256 of the pickled ``parts``.

    While cloudpickle writes a function, nothing is registered, and None is returned.
    """
    key = None if _writing.active else _digest(pickle.dumps(parts))
    if key is not None:
        _known[key] = value
    return key


def _digest(content: bytes) -> bytes:
    """Return the SHA-256 of the bytes, 32 bytes."""
    return hashlib.sha256(content).digest()


def recall(key: bytes | None, make: Callable[[], T]) -> T:
    """Return the object registered under ``key`` if it still exists, else call ``make``, register its result and return it.

    With ``key`` None, ``make`` is always called.
    """
    found: T | None = None if key is None else _known.get(key)
    if found is None:
        found = make()
        _recent.append(found)
        if key is not None:
            with suppress(TypeError):  # an object without weak references
                _known[key] = found
    return found
