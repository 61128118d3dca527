"""The website of these pages: `make site`."""

import os
import sys
from importlib import metadata

sys.path.insert(0, os.path.abspath(".."))

project = "mlejax"
author = "The mlejax authors"
try:
    release = version = metadata.version("mlejax")
except metadata.PackageNotFoundError:
    release = version = ""

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
root_doc = "index"
exclude_patterns = ["_build"]
nitpicky = True
nitpick_ignore_regex = [  # of other projects, of rooms that users do not enter, and arguments described together
    ("py:class", r"(numpy|collections\.abc|jaxtyping|jax\.jaxlib|mlejax\.\w+)\..*|.* .*|[a-z_]+|ChiSquared"),
    ("py:data", "CODES"),
]

autodoc_typehints = "none"
napoleon_use_ivar = True
autodoc_member_order = "bysource"

myst_heading_anchors = 4  # page.md#heading, as GitHub has it
myst_links_external_new_tab = True

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
