"""Errors of public functions: unknown options are answered with the option to use instead, and tracebacks are shortened.

A traceback shows the caller's own lines: the call, and the line of the caller's function where there is one. The lines of this
package between them are left out, as JAX leaves out its own; ``JAX_TRACEBACK_FILTERING=off`` shows them.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FunctionType, TracebackType
from typing import Any, TypeVar

import jax

Class = TypeVar("Class", bound=type)
Error = TypeVar("Error", bound=Exception)
Function = TypeVar("Function", bound=Callable[..., Any])

_JAX = str(Path(jax.__file__).parent)
PACKAGE = str(Path(__file__).parent)
PAGE = "messages.html"  # of the documentation, whose source is docs/messages.md
IN_THE_DOCUMENTATION = "in the documentation of mlejax"
_SECTIONS = {
    **dict.fromkeys(("DataError", "DataTypeError", "MissingColumnError"), "errors-about-the-data"),
    **dict.fromkeys(("LikelihoodError", "CompanionError"), "errors-about-the-function"),
    "FileError": "kinds-of-errors",
}
_LIBRARIES = ("site-packages", "dist-packages", "<frozen", "/lib/python3")
_STEPS = "method=mle.METHOD(max_steps=100)"
_TOLERANCE = "method=mle.METHOD(tol=1e-12)"
_METHODS = {"newton": "Newton", "bhhh": "BHHH", "lbfgs": "LBFGS", "adam": "Adam", "em": "EM"}
_STEP_NAMES = ("maxiter", "max_iter", "maxit", "max_steps", "n_iter", "niter", "iterations", "iterate", "maxfun")
_TOLERANCE_NAMES = ("tol", "xtol", "gtol", "ftol", "rtol", "atol", "reltol", "tolerance", "pgtol", "epsilon")
_START_NAMES = ("x0", "p0", "init", "inits", "guess", "start_params", "starts", "initial", "startvals", "theta0", "value")
_OPTIONS = {  # of methods and declarations, and what others call them
    "max_steps": _STEP_NAMES,
    "tol": _TOLERANCE_NAMES,
    "learning_rate": ("lr", "learning_rate", "step_size", "stepsize", "eta"),
    "epochs": ("epochs", "n_epochs", "num_epochs", "epoch"),
    "batch_size": ("batch_size", "batchsize", "batch", "minibatch"),
    "memory": ("history", "history_size", "memory_size", "maxcor", "m"),
    "start": _START_NAMES,
    "n": ("reps", "r", "b", "nboot", "n_boot", "nrep", "replicates", "n_replicates", "n_resamples"),
    "data": ("newdata", "exog", "x_new", "df"),
}
_QUIET = "leave it out: a fit prints nothing, and progress=True shows a bar of a long one"
_ROBUST = 'cov_type="HC0" (robust), "cluster", "HAC", ...'
_CLUSTER = 'cov_type="cluster", cov_kwds={"groups": "the column"}'
_START = 'start={"mu": 1.0}, by name and on the natural scale'
_SUPPORT = "a support where the parameter is declared: mle.Positive(), mle.NonNegative(), mle.Interval(lo, hi)"
_WEIGHTS = 'weights="the column", weight_kind="frequency", "sampling" or "importance"'
_METHOD = 'method="newton", "bhhh", "lbfgs", "adam", or an object such as mle.Newton(tol=1e-12)'
_LINEAR = 'model.regress(mu=mle.Linear("x", offset="z")), or exposure="z"'
_INSTEAD = {
    **dict.fromkeys(_STEP_NAMES, _STEPS),
    **dict.fromkeys(_TOLERANCE_NAMES, _TOLERANCE),
    **dict.fromkeys(_OPTIONS["learning_rate"], "method=mle.Adam(learning_rate=0.01)"),
    **dict.fromkeys((*_OPTIONS["epochs"], *_OPTIONS["batch_size"]), "method=mle.Adam(batch_size=256, epochs=100)"),
    **dict.fromkeys(("disp", "verbose", "trace", "quiet", "full_output", "print_level", "log"), _QUIET),
    **dict.fromkeys(("robust", "vcov", "vce", "se", "se_type", "cov", "covariance", "use_correction"), _ROBUST),
    **dict.fromkeys(("cluster", "clusters", "clustvar", "groups", "cluster_var"), _CLUSTER),
    **dict.fromkeys(_START_NAMES[:-1], _START),
    **dict.fromkeys(("bounds", "lower", "upper", "limits", "constrain"), _SUPPORT),
    **dict.fromkeys(("min", "max", "lo", "hi", "low", "high"), "mle.Interval(lo, hi)"),
    **dict.fromkeys(("weight", "sample_weight", "freq_weights", "var_weights", "pweights", "fweights", "w"), _WEIGHTS),
    **dict.fromkeys(("optimizer", "optimiser", "algorithm", "solver", "minimizer", "technique"), _METHOD),
    **dict.fromkeys(("offset", "exposure"), _LINEAR),
    **dict.fromkeys(("level", "confidence", "confidence_level", "conf_level", "cl", "coverage"), "alpha=0.05 for 95 %"),
    **dict.fromkeys(("fix", "hold", "fix_params", "frozen"), 'fixed={"sigma": 1.0}'),
    **dict.fromkeys(("random_state", "rng", "key", "random_seed"), "seed=0"),
    **dict.fromkeys(("na_action", "nan_policy", "dropna"), 'missing="drop", which counts the rows left out'),
    "formula": 'model.regress(mu="x").fit(data): a formula of a parameter, without a left side',
    **dict.fromkeys(("strata", "psu", "fpc", "strataid"), 'design=mle.Survey(weights="w", strata="s", psu="id") of a survey'),
    **dict.fromkeys(("absorb", "fe", "fixed_effects", "entity_effects"), 'alpha=mle.Real(by="firm") beside the parameters'),
    "dydx": 'margins("x")',
    "weight_decay": "penalty=mle.l2(1.0), or penalty=mle.l2(1.0, 'beta') of some parameters",
    **dict.fromkeys(("device", "devices", "gpu"), 'on=jax.devices("gpu"); without it JAX\'s default device is used'),
    "eyex": 'margins("x", elasticity="eyex")',
    "subset": "the rows themselves: model.fit(data[data['x'] > 0])",
    "options": f"{_STEPS} or {_TOLERANCE}",
    "constraints": "a loop of model.fit(data, constraints=...): batches of fits do not offer it",
    "callback": "a method of your own (mle.Method), which sees every step; progress=True shows a bar",
    "family": "leave it out: the function is the log-likelihood, and so says which family it is",
    "link": 'model.regress(mu=mle.Linear("x", link="log"))',
}  # fmt: skip


def doors(cls: Class) -> Class:
    """Class decorator: apply :func:`door` to every public method that the class itself defines; properties, class methods
    and inherited methods are left as they are.
    """
    for name, method in list(vars(cls).items()):
        if isinstance(method, FunctionType) and not name.startswith("_"):
            setattr(cls, name, door(method))
    return cls


def constructor(cls: Class) -> Class:
    """Class decorator: apply :func:`door` to ``__init__``; messages on wrong arguments name the class, such as "Markov: missing
    by=".
    """
    made: Any = door(vars(cls)["__init__"], cls.__doc__)
    made.__qualname__ = f"{cls.__name__}.__init__"
    cls.__init__ = made  # type: ignore[misc]
    return cls


def door(function: Function, texts: str | None = None) -> Function:
    """Decorator: shorten the tracebacks of errors (`shortened`), and explain arguments that are unknown, missing or too many.

    A call that fails on the function's own signature raises the error of :func:`refused_call`.

    Args:
        function: the function.
        texts: the docstring that describes its arguments; default that of the function.
    """

    # in the closure, since the globals are those of the function
    short, refused = shortened, functools.partial(refused_call, function, texts)

    def call(*args: Any, **options: object) -> Any:
        try:
            return function(*args, **options)
        except Exception as error:
            bound = error.__traceback__ is not None and error.__traceback__.tb_next is not None
            problem = short(error) if bound else refused(args, options, error)
        raise problem

    # of the function's own module, where doctest looks for it
    plain: Any = function
    made: Any = FunctionType(call.__code__, plain.__globals__, plain.__name__, None, call.__closure__)
    functools.update_wrapper(made, function)
    return made


def warn(text: str, category: type[Warning], row: str, stacklevel: int = 2) -> None:
    """Give a warning as ``warnings.warn`` does, with the page and row of the documentation that explain the message appended.

    Args:
        text: the message.
        category: class of the warning.
        row: anchor of the message in docs/messages.md.
        stacklevel: as in ``warnings.warn``, counted from the caller.
    """
    warnings.warn(f"{text}  ({PAGE}#{row} {IN_THE_DOCUMENTATION})", category, stacklevel=stacklevel + 1)


def linked(error: Error, row: str = "") -> Error:
    """Add a note, which a traceback shows below the message, that names the page and row of the documentation; return the error.

    Args:
        error: the error that will be raised; not changed if it has such a note.
        row: anchor of the message in docs/messages.md; default the section for the class of the error.
    """
    if not _names_page(error):
        anchor = row or _SECTIONS.get(type(error).__name__, "errors-about-options")
        error.add_note(f"See {PAGE}#{anchor} {IN_THE_DOCUMENTATION}")
    return error


def _names_page(error: Exception) -> bool:
    """True if a note of the error names its row of docs/messages.md."""
    return any(PAGE in note for note in getattr(error, "__notes__", ()))


def refused_call(
    function: Callable[..., Any], texts: str | None, args: tuple[Any, ...], options: dict[str, Any], error: Exception
) -> Exception:
    """Return the error to raise for a call that failed on the function's signature.

    A TypeError about the first of these that the call has: unknown options, with what to write instead of each; required
    arguments that are missing, with what each one is; too many arguments without a name.  Otherwise ``error`` itself, without
    its traceback.

    Args:
        function: the function that was called.
        texts: the docstring that describes its arguments; None for that of the function.
        args: arguments of the call without a name.
        options: keyword arguments of the call.
        error: what Python raised.
    """
    parameters = inspect.signature(function).parameters
    if not isinstance(error, TypeError):
        return error.with_traceback(None)
    unnamed = [p for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    of_class = function.__name__ == "__init__"
    what = function.__qualname__.split(".")[-2] if of_class else function.__name__
    any_name = any(p.kind == p.VAR_KEYWORD for p in parameters.values())
    unknown = [] if any_name else [name for name in options if name not in parameters]
    if unknown:
        return _unknown_options(function, what, unknown, options)
    given = {p.name for p in unnamed[: len(args)]} | set(options)
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p for p in parameters.values() if p.default is p.empty and p.kind not in variable]
    missing = [p.name for p in needed if p.name not in given]
    if missing:
        text = inspect.cleandoc(texts or function.__doc__ or "")
        each = [f"{name}={meaning and f', {meaning}'}" for name in missing for meaning in [_meaning(text, name)]]
        call = f"{what}({', '.join(p.name for p in needed if p.name != 'self')})"
        return linked(TypeError(f"{what}: missing {'; '.join(each)}.  Expected {call}").with_traceback(None))
    if len(args) > len(unnamed):
        names = [p.name for p in unnamed if p.name != "self"]
        n = len(args) - len(unnamed) + len(names)
        plural = "s" * (len(names) != 1)
        most = f"expected at most {len(names)} argument{plural} without a name ({', '.join(names)})"
        return linked(TypeError(f"{what}: {most}, got {n}: write the others as name=value").with_traceback(None))
    return error.with_traceback(None)


def _meaning(text: str, name: str) -> str:
    """Return the first sentence on an argument in ``Args`` or ``Attributes`` of a docstring; empty if there is none.

    Args:
        text: the docstring, its indentation removed.
        name: name of the argument.

    >>> _meaning("Take the sum.\\n\\nArgs:\\n    x, y: numbers\\n        to add.  Both.\\n", "y")
    'numbers to add'
    """
    found = re.search(rf"^ +(?:\w+, )*{re.escape(name)}(?:, \w+)*: ((?:.+\n?)(?:^ {{6,}}.+\n?)*)", text, re.MULTILINE)
    said = " ".join(found.group(1).split()) if found else ""
    return re.split(r"[.;] |\.$", said)[0].replace("``", "")


def _unknown_options(
    function: Callable[..., Any], what: str, unknown: Sequence[str], options: dict[str, Any]
) -> Exception:
    """Return the TypeError that says for each unknown option what to write instead, or lists the options that there are.

    Args:
        function: the function that was called.
        what: its name in the message.
        unknown: names of the options that it does not have.
        options: all keyword arguments of the call.
    """
    known, of_class, lines = list(inspect.signature(function).parameters), function.__name__ == "__init__", []
    for name in unknown:
        near = difflib.get_close_matches(name, known, n=1)
        same = next((own for own, others in _OPTIONS.items() if name.lower() in others and own in known), "")
        instead = f"{same}=" if same and "method" not in known else _INSTEAD.get(name.lower(), "") if not of_class else ""
        instead = (instead or (f"{near[0]}=" if near else "")).replace("METHOD", _method_of(options))
        options_of = f"its options are {', '.join(k for k in known if k != 'self')}"
        advice = instead if not instead or instead.startswith("leave") else f"write {instead}"
        lines.append(f"{what} has no option {name}=; {advice or options_of}")
    return linked(TypeError(".  ".join(lines)).with_traceback(None), "unknown-option")


def _method_of(options: dict[str, Any]) -> str:
    """Return the name of the class of a call's ``method=``, or Newton."""
    method = options.get("method")
    name = method if isinstance(method, str) else getattr(method, "__name__", type(method).__name__)
    return _METHODS.get(name.lower().replace("-", "").replace("_", ""), "Newton")


def shortened(error: Exception) -> Exception:
    """Return the error, its traceback cut to the lines outside this package, if it is an error for the user.

    An error raised in this package is for the user if it is a ValueError, TypeError or KeyError or has a note that names its
    row of docs/messages.md; it gets such a note, and the lines of the user's function from its cause. An error raised elsewhere
    is for the user if its traceback has lines of the user. Others, possibly bugs of this package, are unchanged, and all errors
    are if ``jax_traceback_filtering`` is "off".
    """
    if getattr(jax.config, "jax_traceback_filtering") == "off":  # noqa: B009 - not known to type checkers
        return error
    if hasattr(error, "__notes__"):  # of these JAX says that it has left frames out, as is done here
        error.__notes__ = [note for note in error.__notes__ if "JAX_TRACEBACK_FILTERING" not in note]
    entries = list(_entries(error.__traceback__))
    raised_here = _is_ours(entries[-1])
    if raised_here and not isinstance(error, (ValueError, TypeError, KeyError)) and not _names_page(error):
        return error
    if raised_here:
        linked(error)
    cause = error.__cause__
    first = next((i for i, entry in enumerate(entries) if _is_ours(entry)), len(entries))
    own = [entry for i, entry in enumerate(entries) if not _is_ours(entry) and (i < first or _is_shown(entry, raised_here))]
    if raised_here and cause is not None:
        own += [entry for entry in _entries(cause.__traceback__) if _is_users(entry)]
        error.__cause__, error.__suppress_context__ = None, True
    if not raised_here and not any(map(_is_users, own)):
        return error
    short: TracebackType | None = None
    for entry in reversed(own):
        short = TracebackType(short, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return error.with_traceback(short)


def _entries(traceback: TracebackType | None) -> Iterator[TracebackType]:
    """Yield the entries of a traceback, outermost call first; none for None."""
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _is_ours(entry: TracebackType) -> bool:
    """True if this entry of a traceback is a line of mlejax."""
    return entry.tb_frame.f_code.co_filename.startswith(PACKAGE)


def _is_shown(entry: TracebackType, raised_here: bool) -> bool:
    """True if a traceback shows this entry below the call of this package: of an error raised in this package the user's lines,
    of another one also those of other libraries than JAX.
    """
    return _is_users(entry) or not (raised_here or _JAX in entry.tb_frame.f_code.co_filename)


def _is_users(entry: TracebackType) -> bool:
    """True if this entry of a traceback is a line neither of mlejax nor of an installed or standard library, nor the
    ``__init__`` that dataclasses write.
    """
    code = entry.tb_frame.f_code
    if code.co_filename == "<string>" and code.co_name == "__init__":
        return False
    return not _is_ours(entry) and not any(part in code.co_filename for part in _LIBRARIES)
