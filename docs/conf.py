"""The documentation as a site: `make docs`. It is Markdown that GitHub shows as it is, too."""

import re
from pathlib import Path

_PACKAGE = Path(__file__).parents[1] / "toolkit" / "__init__.py"

project = "PokePicker Toolkit"
author = copyright = "The PokePicker Toolkit authors"
release = re.findall(r'^__version__ = "(.*)"$', _PACKAGE.read_text(encoding="utf-8"), re.MULTILINE)[0]

extensions = ["myst_parser"]
# Headings get the anchors that GitHub gives them.
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"{project} {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = False
