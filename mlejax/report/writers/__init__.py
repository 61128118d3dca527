"""A page written out: text, HTML, LaTeX, Markdown."""
