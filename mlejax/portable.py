"""How users' functions travel in pickles: by name where they can be imported, else by value through cloudpickle.

A function decorated by ``@mle.model`` is hidden behind its model, so that pickle's own rule (the object of that name is this
very function) fails for it; here the name may lead to the model as well.  ``__main__`` (a script, a notebook) is another
module in every process, so that its functions travel by value.
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
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakValueDictionary

__all__ = ["Absent", "AbsentError", "find", "key_of", "name_of", "portable", "recall", "restore", "travelling"]

_MAIN = ("__main__", "__mp_main__")
T = TypeVar("T")


class AbsentError(ValueError):
    """Something needs a function or data that did not come along with a saved or pickled result."""


@dataclass(frozen=True)
class Absent:
    """Stands where a function was that did not come along; calling it says so.

    Attributes:
        name: of the model.
        why: how the result came here without it.
        what: which function of the model it was.
        token: of one function that could not be pickled, so that two of them are not taken for one.
    """

    name: str
    why: str
    what: str = "log-likelihood"
    token: str = ""

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self, *_: object, **__: object) -> Any:
        """AbsentError."""
        raise AbsentError(
            f"this needs the {self.what} of {self.name}, but {self.why}.  Estimates, tables, intervals and tests are there; "
            "for what evaluates the likelihood again, fit the model anew"
        )


@dataclass(frozen=True)
class Named:
    """A function, or what it decorates, by module and qualified name."""

    module: str
    name: str


def name_of(function: object) -> Named | None:
    """The name under which a function, or the model around it, can be imported in any process; None if there is none."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or "<" in name or module in _MAIN:
        return None
    if _writing.travelling and not _installed(module):
        return None
    there = find(Named(module, name))
    inside = (there, getattr(there, "__wrapped__", None))
    return Named(module, name) if any(part is function for part in inside) else None


def find(named: Named) -> Any:
    """The object under a name, or None."""
    try:
        found = importlib.import_module(named.module)
        for part in named.name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return None
    return found


# ---- by value


def portable(function: object) -> Any:
    """A function as something that pickles: its name, its bytes, or an :class:`Absent` where it cannot be pickled.

    While cloudpickle writes a function, the functions inside of it are left to cloudpickle: a function may refer to a model
    that refers to it.
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
    """The inverse of :func:`portable`; an :class:`Absent` where the name leads nowhere here."""
    if isinstance(carried, bytes):
        return recall(_digest(carried), lambda: pickle.loads(carried))
    if isinstance(carried, tuple) and len(carried) == 2 and isinstance(carried[0], Named):
        named, name = carried
        found = find(named)
        function = getattr(found, "__wrapped__", found)
        return function if callable(function) else Absent(name, f"{named.module}.{named.name} cannot be imported here")
    return carried


@contextmanager
def travelling() -> Iterator[None]:
    """Functions of modules that are not installed travel by value: another machine may not have these modules."""
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
    """Whether a module is Python's own, or was installed as a package; mlejax itself is wherever it works."""
    top = module.partition(".")[0]
    if top == "mlejax" or top in sys.stdlib_module_names:
        return True
    where = getattr(sys.modules.get(module), "__file__", None)
    return where is None or "site-packages" in where or "dist-packages" in where


# ---- one object for one content


class _Writing(threading.local):
    """Whether cloudpickle is writing a function in this thread, and whether it is for another machine."""

    active = False
    travelling = False


_writing = _Writing()
_known: WeakValueDictionary[bytes, Any] = WeakValueDictionary()
_recent: deque[Any] = deque(maxlen=8)  # kept alive, so that the tasks of a worker share compiled programs


def key_of(value: object, parts: Any) -> bytes | None:
    """A key under which :func:`recall` finds ``value``, made of the ``parts`` that it is pickled as."""
    key = None if _writing.active else _digest(pickle.dumps(parts))
    if key is not None:
        _known[key] = value
    return key


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def recall(key: bytes | None, make: Callable[[], T]) -> T:
    """What was made under this key if it is still there, else what ``make`` returns."""
    found: T | None = None if key is None else _known.get(key)
    if found is None:
        found = make()
        _recent.append(found)
        if key is not None:
            with suppress(TypeError):  # an object without weak references
                _known[key] = found
    return found
