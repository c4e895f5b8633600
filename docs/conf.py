"""Sphinx's configuration of the site. `docs/gather.py` makes the folder that it reads, and sets the variables below."""

import json
import os
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
about = json.loads((HERE / "about.json").read_text(encoding="utf-8"))
sys.path.insert(0, about["root"])  # course's formulas, and `utils`, whose docstrings make the reference
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

project = about["title"]
author = "the authors of the course"
copyright = "the authors. Code: MIT. Text and figures: CC BY 4.0"
html_title = about["title"]

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "_extra"]
nb_execution_mode = "off"  # the notebooks come executed, from `course run`
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 4
# A notebook's prose may quote a heading of another one, and a docstring's "Args" may name what is no class here.
suppress_warnings = ["myst.header", "mystnb.unknown_mime_type", "ref.python"]

autodoc_typehints = "none"
autodoc_inherit_docstrings = False  # those of Keras belong to Keras
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "undoc-members": False, "show-inheritance": True}
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True  # attributes are documented once, by the class

html_theme = "sphinx_book_theme"
html_static_path = ["_static"]
html_extra_path = ["_extra"]  # the slide shows
html_css_files = ["site.css"]
html_last_updated_fmt = None
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "repository_url": about["repository"],
    "repository_branch": about["tag"],
    "path_to_docs": "",
    "use_repository_button": True,
    "use_download_button": False,
    "launch_buttons": {"colab_url": "https://colab.research.google.com"},
    "show_navbar_depth": 1,
    "home_page_in_toc": True,
    "toc_title": "On this page",
    "navbar_persistent": [],  # the search field stands in the sidebar
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_context = {"default_mode": "auto"}
html_math_renderer = "mathml"


# What would mean something else in reStructuredText; bold text means the same.
MARKS = re.compile(r"(?P<bold>\*\*[^*\s][^*]*\*\*)|[*|\\]|_(?!\w)")


def escaped(line):
    """A line of a docstring with its code in double backticks and all other signs as they are."""
    parts = re.split(r"`+", line)
    if len(parts) % 2 == 0:  # code that goes on in the next line
        return line
    for place in range(0, len(parts), 2):
        parts[place] = MARKS.sub(lambda found: found[0] if found["bold"] else "\\" + found[0], parts[place])
        if place and re.match(r"\w", parts[place]):  # as in `Model`s
            parts[place] = "\\ " + parts[place]
    return "``".join(parts)


def as_restructured_text(app, what, name, obj, options, lines):
    """Docstrings are plain text with code in single backticks, as editors and `help` show them: here they are marked up
    for Sphinx. Lists stand apart from the text before them, and tables and drawings are shown as they are.
    """
    marked, before, last, indent = [], "", "", 0
    for line in lines:
        text, depth = line.strip(), len(line) - len(line.lstrip())
        if not text:
            kind = ""
        elif text.startswith("|") or (depth >= 4 and not before and last.endswith(":")) or before == "shown":
            kind = "shown"
        elif text.startswith("- ") or (before == "list" and depth > indent):
            kind = "list"
        else:
            kind = "text"
        if kind != before:
            marked += [""] * bool(kind and before)
            marked += [" " * depth + "::", ""] if kind == "shown" else []
            indent = depth
        marked.append("    " + line if kind == "shown" else escaped(line))
        before, last = kind, text or last
    lines[:] = marked


# What the theme and MyST leave out for those who use a keyboard or hear the page; and no icon is asked for.
ACCESSIBLE = (
    (re.compile(r"<head>(?!<link)"), '<head><link rel="icon" href="data:,">'),
    (re.compile(r'<summary>(?=<span class="toctree-toggle")'), '<summary aria-label="Pages below">'),
    (
        re.compile(r'<div id="pst-primary-sidebar" (?!role)'),
        '<div id="pst-primary-sidebar" role="region" aria-label="Site" ',
    ),
    (re.compile(r"<table\b(?! tabindex)"), '<table tabindex="0"'),  # it may scroll
    (re.compile(r"<th((?: [^>]*)?)>(?:\s|&nbsp;|\xa0|</?p>)*</th>"), r"<td\1></td>"),  # the corner heads nothing
)


def accessible(app, exception):
    """Mend the written pages."""
    for path in [] if exception else sorted(Path(app.outdir).rglob("*.html")):
        if "shows" in path.relative_to(app.outdir).parts:
            continue
        before = after = path.read_text(encoding="utf-8")
        for pattern, text in ACCESSIBLE:
            after = pattern.sub(text, after)
        if after != before:
            path.write_text(after, encoding="utf-8")


def setup(app):
    """Formulas as MathML, which browsers draw by themselves: nothing is fetched, and no script runs."""
    app.connect("autodoc-process-docstring", as_restructured_text, priority=100)  # before napoleon reads the sections

    from docutils import nodes

    from course.reporting.pages import mathml

    def inline(translator, node):
        translator.body.append(mathml(node.astext()))
        raise nodes.SkipNode

    def display(translator, node):
        number = f'<span class="number">({node["number"]})</span>' if node.get("number") else ""
        formula = mathml(node.astext(), display=True)
        translator.body.append(f'<div class="math" tabindex="0">{number}{formula}</div>')
        raise nodes.SkipNode

    app.connect("build-finished", accessible)
    app.add_html_math_renderer("mathml", (inline, None), (display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
