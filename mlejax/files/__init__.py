"""Results in plain files: JSON that any tool can read, that holds no code, and whose corruption is noticed."""

from mlejax.files.codecs import Unsaved
from mlejax.files.container import FORMAT_VERSION, FileError
from mlejax.files.saved import Parts, load, save

__all__ = ["FORMAT_VERSION", "FileError", "Parts", "Unsaved", "load", "save"]
