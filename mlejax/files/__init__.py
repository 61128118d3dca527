"""Results in plain files: JSON that any tool can read, that holds no code, and whose corruption is noticed."""

from mlejax.files.container import FORMAT_VERSION, FileError, read, write

__all__ = ["FORMAT_VERSION", "FileError", "read", "write"]
