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

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "index"
exclude_patterns = ["_build"]
nitpicky = True

myst_heading_anchors = 4  # page.md#heading, as GitHub has it
myst_links_external_new_tab = True

html_theme = "pydata_sphinx_theme"
html_title = "mlejax"
html_show_sourcelink = False
html_theme_options = {"show_prev_next": False, "navigation_with_keys": False, "secondary_sidebar_items": ["page-toc"]}
