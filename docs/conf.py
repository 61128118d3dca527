"""The website of these pages: `make site`."""

import os
import sys
from importlib import metadata

sys.path[:0] = [os.path.abspath(".."), os.path.abspath(".")]
os.environ["PYTHONPATH"] = os.path.abspath("..")  # of the kernels that run the pages
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.abspath("_build/.compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import page_reader  # noqa: E402

project = "mlejax"
author = "The mlejax authors"
try:
    release = version = metadata.version("mlejax")
except metadata.PackageNotFoundError:
    release = version = ""

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "index"
exclude_patterns = ["_build"]
nitpicky = True
nitpick_ignore_regex = [  # of other projects, of rooms that users do not enter, and arguments described together
    ("py:class", r"(numpy|collections\.abc|jaxtyping|jax\.jaxlib|mlejax\.\w+)\..*|.* .*|[a-z_]+|ChiSquared"),
    ("py:func", r"mlejax\.verdict\.judge"),
    ("py:data", "CODES"),
]

autodoc_typehints = "none"
napoleon_use_ivar = True
autodoc_member_order = "bysource"

myst_heading_anchors = 4  # page.md#heading, as GitHub has it
myst_links_external_new_tab = True

nb_custom_formats = {".md": ("page_reader.read", {}, False)}
nb_execution_mode = "cache"  # _build/.jupyter_cache: what did not change is not run again
nb_execution_excludepatterns = page_reader.without_code()
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_execution_timeout = 300  # seconds a cell
nb_merge_streams = True
nb_output_stderr = "remove"  # a progress bar; warnings are errors but for those of fits

html_theme = "pydata_sphinx_theme"
html_title = "mlejax"
html_show_sourcelink = False
html_theme_options = {"show_prev_next": False, "navigation_with_keys": False, "secondary_sidebar_items": ["page-toc"]}


def _prepare(app, what, name, obj, options, lines):
    """Keep napoleon from reading `Estimates: one row a data set.`, the docstring of a property, as a type and a text.

    The docstrings of the packages are for who opens the files.
    """
    if what == "module" and name not in ("mlejax.special", "mlejax.plot"):
        lines.clear()
    if what in ("property", "attribute"):
        lines[:0] = ["..", ""]


def setup(app):
    """Before napoleon, whose priority is 500."""
    app.connect("autodoc-process-docstring", _prepare, priority=400)
