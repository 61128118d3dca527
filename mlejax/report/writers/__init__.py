"""Writers of reports: text, HTML, LaTeX, Markdown."""
