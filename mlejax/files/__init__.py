"""Results saved in plain files: numbers, labels and strings in a public schema; reading a file runs no code."""

from __future__ import annotations

import os

from mlejax.files.container import FORMAT_VERSION, FileError, PathLike, read, replacing, write
from mlejax.files.content import ResultParts, content_of, parts_of
from mlejax.files.saved_designs import Unsaved
from mlejax.files.version1 import upgraded
from mlejax.likelihood import Likelihood

__all__ = ["FORMAT_VERSION", "FileError", "PathLike", "ResultParts", "Unsaved", "load", "replacing", "save"]


def save(path: PathLike, parts: ResultParts) -> None:
    """Write a result to a file, completely or not at all; an existing file is replaced.

    Raises:
        FileError: the result has a part that a file cannot store.
        OSError: the folder does not exist, there is no permission, or the path is not a regular file.
    """
    write(path, content_of(parts))


def load(path: PathLike, model: Likelihood | None = None) -> ResultParts:
    """Read a result from a file of this or an older format.

    ``model``: the user's model, whose formulas are evaluated in predictions for new data (those of a file never are); or None.

    Raises:
        FileError: the file is not one of mlejax, is damaged, too large or of a newer version, or ``model`` is another model.
        OSError: the file cannot be opened.
    """
    try:
        version, content = read(path)
        return parts_of(upgraded(content) if version == 1 else content, model)
    except OSError:
        raise
    except FileError as error:
        raise FileError(f"{os.fspath(path)}: {error}") from None
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        said = f"{type(error).__name__}: {str(error)[:200]}"
        raise FileError(f"{os.fspath(path)}: the content is not that of a result ({said}); save the result again") from None
