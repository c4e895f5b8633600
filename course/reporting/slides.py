"""An executed lecture as a slide show: reveal.js, one file, nothing fetched.

nbconvert's own slides load a formula renderer and four scripts from elsewhere, and cut off what is higher than the
screen. Here the cells pass the renderer of the report, which makes MathML and embeds the pictures, and a script of a
few lines packs the pieces into slides by their measured heights: whatever does not fit goes on the next slide below.

The rhythm comes from the headings: those of level 1 and 2 begin a slide to the right, those below begin one underneath.
`slide="..."` in a cell's header says otherwise, with the words of `course.notebook.SLIDES`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from course.errors import CourseError
from course.manifest import Manifest, Notebook
from course.notebook import SLIDE, read_notebook, tags
from course.reporting import report
from course.reporting.pages import Context, render

ASIDE = {"setup", "parameters", "injected-parameters"}  # cells that no audience reads
BADGE = re.compile(r"\n?\[!\[Open In Colab\][^\n]*\n")
BEGINS = {"h1": "slide", "h2": "slide", "h3": "subslide", "h4": "subslide"}


@dataclass(frozen=True)
class Piece:
    """What is not divided: a paragraph, a list, a formula, a cell's code, one of its outputs.

    `start`: "slide" or "subslide" where the piece begins one, "fragment" where it appears by a further key, else "".
    `cell`: number of its cell. `thought`: number of the markdown cell that it belongs to: its own, or the one above its
    code. Pieces of one cell, and of one thought, stand on one slide if a slide can hold them.
    """

    start: str
    cell: int
    thought: int
    markup: str


def pieces(notebook: Mapping[str, Any], context: Context) -> list[Piece]:
    """The pieces of an executed notebook, in order.

    Args:
        notebook: as `read_notebook` gives it.
        context: for its links and pictures.
    """
    from bs4 import BeautifulSoup

    found: list[Piece] = []
    thought = 0
    for index, cell in enumerate(notebook["cells"]):
        thought = index if cell["cell_type"] == "markdown" else thought
        chosen = str(cell["metadata"].get(SLIDE, ""))
        if chosen == "skip" or ASIDE & set(tags(cell)):
            continue
        shown = {**cell, "source": BADGE.sub("\n", cell["source"])}
        soup = BeautifulSoup(render({"cells": [shown]}, context).body, "html.parser")
        around = soup.select(".cell.prose") or soup.select(".cell > .output")
        parts = [
            *soup.select(".cell > .input"),
            *(part for holder in around for part in holder.find_all(recursive=False)),
        ]
        for number, part in enumerate(parts):
            start = BEGINS.get(part.name, "")
            if chosen and (number == 0 or chosen == "fragment"):
                start = chosen
            found.append(Piece(start, index, thought, str(part)))
    return found


def slide_show(manifest: Manifest, notebook: Notebook, profile: str, reveal: Path) -> str:
    """The slide show of a lecture as one HTML page.

    Args:
        manifest: of the course.
        notebook: the lecture; its last run in `profile` is shown.
        profile: name of the profile.
        reveal: folder of reveal.js's package, with `dist/reveal.js` and `dist/reveal.css`.

    Raises:
        CourseError: the lecture has no run to its end, or the folder is not reveal.js's.
    """
    path = report.passed(manifest, notebook, profile)
    context = Context(notebook.path.parent, manifest.root, lambda to: report.link(manifest, notebook, {}, to))
    try:
        script, style = ((reveal / "dist" / f"reveal.{kind}").read_text(encoding="utf-8") for kind in ("js", "css"))
    except OSError as error:
        raise CourseError(f"{error.filename}: expected reveal.js's package there (`make slides` fetches it)") from None
    notice = manifest.profile(profile).notice
    return (
        report.page_templates(manifest)
        .get_template("slides.html")
        .render(
            title=f"{notebook.topic.number:02d} {notebook.topic.title}",
            notice=notice,
            pieces=pieces(read_notebook(path), context),
            reveal={"script": script.replace("</script", "<\\/script"), "style": style},
            packing=(report.TEMPLATES / "slides.js").read_text(encoding="utf-8"),
            look=(report.TEMPLATES / "slides.css").read_text(encoding="utf-8"),
        )
    )
