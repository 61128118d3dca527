"""Compilation of the library's own programs, and the cache of compiled programs on disk.

A first fit is mostly compilation.  Two things shorten it:

* `compiled` turns off XLA's newest generator of fused CPU kernels.  It takes about twice as long as the one before, for code of
  about the same speed (value, score and Hessian of six likelihoods: equal to the last bit, 0.5 to 0.6 of the compile time, 0.8
  to 1.2 of the run time).
* `enable_compilation_cache` makes JAX keep compiled programs on disk.

Functions of a few numbers are not compiled at all: `evaluated` and ``compiled(how="host")`` run them in NumPy.  JAX would make a
program for each kind of operation and shape, of 20 to 40 ms each.
"""

from __future__ import annotations

import functools
import inspect
import math
import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mlejax.shapes import PyTree

from .activity import compilation_begins, compilation_ends
from .caching import ByOwners
from .devices import check_process, on_cpu
from .limits import overriding_limits
from .precision import in_float64
from .trace.jaxprs import Program, called_program
from .trace.rounding.forward_rounding import RunningBound

__all__ = ["compiled", "enable_compilation_cache", "evaluated", "inlined"]

MOST_NUMBERS = 1_000_000  # up to which NumPy evaluates sooner than a program is compiled

_QUICK: dict[str, Any] = {"xla_cpu_use_fusion_emitters": False}
_OPTIONS: dict[str, dict[str, Any]] = {
    "quick": _QUICK,
    "hasty": {**_QUICK, "xla_backend_optimization_level": 1},
    "once": {**_QUICK, "xla_backend_optimization_level": 0},
    # By default XLA splits loops over rows into tasks for its pool of threads.  Where every core has a call of its own, the
    # tasks would only move between cores.
    "side by side": {
        **_QUICK,
        "xla_disable_hlo_passes": "cpu-parallel-task-assigner",
        "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
    },
    "careful": {},
}
_UNKNOWN: set[str] = set()  # options that this XLA has refused


def compiled(function: Callable[..., Any], *, static: tuple[str, ...] = (), how: str = "quick") -> Callable[..., Any]:
    """Return `jax.jit(function, static_argnames=static)` with compiler options that fit the work.

    There is one program for each value of the static arguments.  It is freed together with the functions and likelihoods among
    these (which `jax.jit` would keep alive).  Called inside a trace, it is an ordinary jitted function.

    Args:
        function: pure JAX function.
        static: names of its hashable arguments for each value of which a program is compiled.
        how: "quick", compiled in little time; "careful", XLA's defaults, for programs that run long; "hasty", for programs that
            hardly run: a tenth less compile time, a tenth to two fifths more run time, the same numbers up to rounding;
            "once", for programs of few rows that run once or a few times: a third to two thirds less compile time;
            "side by side", for programs of which the host runs one on every core: as "quick", and no loop is split
            among cores; "host", for small ones: in NumPy, with results in NumPy, where all operations are known there and their
            results have at most `MOST_NUMBERS` numbers in all, else "hasty".

    Example:
        >>> import jax.numpy as jnp
        >>> from mlejax.execution import compiled
        >>> float(compiled(lambda x: 2 * x)(jnp.ones(())))
        2.0
    """
    kind: Callable[..., Any] = _OnHost if how == "host" else partial(_Program, how=how)
    if not static:
        return kind(function)
    parameters = inspect.signature(function).parameters
    others = [name for name in parameters if name not in static]
    n_static = len(static)
    leading = tuple(parameters)[:n_static] == static
    programs: ByOwners[Callable[..., Any]] = ByOwners()

    def make() -> _Program:
        @functools.wraps(function)
        def traced(*args: PyTree, **kwargs: PyTree) -> PyTree:
            statics = zip(static, _in_progress.statics, strict=True)
            return function(**dict(statics), **dict(zip(others, args, strict=False)), **kwargs)

        return kind(traced)

    @functools.wraps(function)
    def call(*args: PyTree, **kwargs: PyTree) -> PyTree:
        if leading and len(args) >= n_static:
            statics, dynamic = args[:n_static], args[n_static:]
        else:
            given = dict(zip(parameters, args, strict=False)) | kwargs
            statics = tuple([given.pop(name, parameters[name].default) for name in static])
            dynamic, kwargs = (), given
        override = overriding_limits()
        program = programs.get(statics if override is None else (*statics, override), make)
        before, _in_progress.statics = _in_progress.statics, statics
        try:
            return program(*dynamic, **kwargs)
        finally:
            _in_progress.statics = before

    return call


class _InProgress(threading.local):
    """Static arguments of the current call in this thread, which the tracing of a program reads; the program does not keep them
    alive.
    """

    statics: tuple[Any, ...] = ()


_in_progress = _InProgress()
_lock = threading.Lock()


class _Program:
    """A jitted function with compiler options from `_OPTIONS`, without those that this version of XLA does not know."""

    def __init__(self, function: Callable[..., Any], how: str) -> None:
        @functools.wraps(function)
        def announced(*args: PyTree, **kwargs: PyTree) -> PyTree:
            self.tracing = True
            compilation_begins()  # after the tracing that comes now
            return function(*args, **kwargs)

        self.how, self.function, self.tracing = how, announced, False
        self.plain = jax.jit(announced)  # for calls inside a trace, where JAX refuses options
        self.current = self._jitted()

    def _jitted(self) -> Callable[..., Any]:
        options = {name: value for name, value in _OPTIONS[self.how].items() if name not in _UNKNOWN}
        return jax.jit(self.function, compiler_options=options) if options else self.plain

    def __call__(self, *args: PyTree, **kwargs: PyTree) -> PyTree:
        check_process()
        current = self.current
        try:
            result = current(*args, **kwargs)
            if self.tracing:
                self.tracing = False
                compilation_ends()
            return result
        except jax.errors.JaxRuntimeError as error:
            said = str(error)
            unknown = {name for name in _OPTIONS[self.how] if name in said}
            if not unknown or ("compile option" not in said and "setting option" not in said):
                raise
            with _lock:
                _UNKNOWN.update(unknown)
                if current is self.current:  # else another thread has done it
                    self.current = self._jitted()
        except ValueError as error:
            if "compiler_options" not in str(error):
                raise
            return self.plain(*args, **kwargs)
        except TypeError as error:
            if "No constant handler" not in str(error):
                raise
            raise NotImplementedError(  # in the words of JAX where a rule is missing
                "Differentiation rule of an operation keeps a value of another trace, as that of jax.scipy.special.expn does for "
                "second derivatives"
            ) from error
        return self(*args, **kwargs)


class _OnHost:
    """A function run in NumPy (by `RunningBound`), traced once for each structure, shapes and types of its arguments.

    A compiled program runs instead if an operation is not known in NumPy or the results have too many numbers.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.compiled = function, _Program(function, "hasty")
        self.known: dict[Any, Callable[[Any], Sequence[Any]]] = {}

    def __call__(self, *args: PyTree) -> PyTree:
        leaves, layout = jax.tree.flatten(args)
        if any(isinstance(a, jax.core.Tracer) for a in leaves):
            return self.compiled(*args)
        key = layout, in_float64(), *((np.shape(a), getattr(a, "dtype", type(a))) for a in leaves)
        if key not in self.known:
            self.known[key] = self._prepared(args)
        return self.known[key](leaves)

    def _prepared(self, args: tuple[PyTree, ...]) -> Callable[[Any], Any]:
        program, shape = jax.make_jaxpr(self.function, return_shape=True)(*args)
        treedef = jax.tree.structure(shape)
        if on_cpu() and _numbers(program.jaxpr) <= MOST_NUMBERS:
            in_numpy = RunningBound(program)
            if not in_numpy.unknown:
                return lambda leaves: jax.tree.unflatten(treedef, in_numpy(leaves).outputs)
        layout = jax.tree.structure(args)
        return lambda leaves: jax.tree.map(np.asarray, self.compiled(*jax.tree.unflatten(layout, leaves)))


def _numbers(program: Program) -> int:
    """Return the number of entries in the results of all operations of a program, inner programs included."""
    sizes = [math.prod(getattr(v.aval, "shape", ())) for eqn in program.eqns for v in eqn.outvars]
    return sum(sizes) + sum(
        _numbers(inner.program) for eqn in program.eqns if (inner := called_program(eqn)) is not None
    )


def evaluated(function: Callable[..., Any], *arguments: PyTree) -> PyTree:
    """Return ``function(*arguments)``, evaluated once, as a tree of NumPy arrays.

    Args:
        function: pure JAX function.
        arguments: trees of arrays.

    Example:
        >>> import jax.numpy as jnp
        >>> from mlejax.execution import evaluated
        >>> round(float(evaluated(lambda x: jnp.exp(x)[0], jnp.ones(3))), 6)
        2.718282
    """
    return _OnHost(function)(*arguments)


# with True, JAX 0.12 keeps the calls in traced programs, where earlier versions dissolve them
_IN_TRACES: Any = getattr(getattr(jax, "Inline", None), "JAX_EARLY", True)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that is traced once for each shape of its arguments, and whose operations become operations of the
    program of its caller, in which passes over that program see them.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from mlejax.execution import inlined
        >>> [eqn.primitive.name for eqn in jax.make_jaxpr(inlined(jnp.sin))(1.0).eqns]
        ['sin']
    """
    return jax.jit(function, inline=_IN_TRACES)


def enable_compilation_cache(path: str | os.PathLike[str] | None = None) -> str:
    """Keep compiled programs on disk, so that the next Python process does not compile them again.

    Sets JAX's own persistent cache, for all programs of this process, with thresholds at which it stores programs as small
    as those of a fit (by default it keeps only what took a second to compile).  Call it once, before the first fit; calling
    it again changes nothing.  Importing mlejax never does this by itself.

    Args:
        path: a directory, made if it does not exist.  None: the directory that JAX is configured with already
            (``jax_compilation_cache_dir`` or the environment's ``JAX_COMPILATION_CACHE_DIR``), else ``mlejax`` in the
            user's cache directory (``XDG_CACHE_HOME`` or ``~/.cache``).

    Returns:
        The directory in use.

    Raises:
        ValueError: JAX already uses another directory than ``path``.
        OSError: the directory cannot be made.

    Example:
        >>> import mlejax as mle
        >>> mle.enable_compilation_cache("programs")  # doctest: +SKIP
        '.../programs'
    """
    present: str | None = getattr(jax.config, "jax_compilation_cache_dir")  # noqa: B009 - not known to type checkers
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    wanted = present if path is None and present else str(Path(path or Path(home) / "mlejax").expanduser().absolute())
    if present and present != wanted and Path(present).expanduser().absolute() != Path(wanted):
        raise ValueError(
            f"JAX keeps compiled programs in {present} already, which is not {wanted}; leave out path= to use that "
            "directory, or change jax_compilation_cache_dir yourself"
        )
    if not present:
        Path(wanted).mkdir(parents=True, exist_ok=True)
        jax.config.update("jax_compilation_cache_dir", wanted)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return present or wanted
