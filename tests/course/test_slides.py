"""The slide show of a lecture: which pieces it has, where slides begin, and that it fetches nothing."""

import base64
import io
import json
import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from PIL import Image

from course.errors import CourseError
from course.manifest import load
from course.reporting.pages import Context
from course.reporting.slides import pieces, slide_show


def png():
    written = io.BytesIO()
    Image.new("RGB", (40, 20), "red").save(written, "PNG")
    return base64.b64encode(written.getvalue()).decode()


def markdown(source, **metadata):
    return {"cell_type": "markdown", "id": "m", "metadata": metadata, "source": source}


def code(source, *outputs, **metadata):
    return {
        **{"cell_type": "code", "id": "c", "metadata": metadata, "execution_count": 1},
        **{"source": source, "outputs": list(outputs)},
    }


PICTURE = {"output_type": "display_data", "data": {"image/png": png()}, "metadata": {}}
PRINTED = {"output_type": "stream", "name": "stdout", "text": "30\n"}


def words(*cells):
    """(start, cell, thought, text or name of the element) of each piece."""
    found = pieces({"cells": list(cells)}, Context(Path("."), Path(".")))
    parts = [(piece, BeautifulSoup(piece.markup, "html.parser").find()) for piece in found]
    return [(piece.start, piece.cell, piece.thought, part.get_text().strip() or part.name) for piece, part in parts]


def test_headings_begin_slides_and_every_block_is_a_piece():
    assert words(
        markdown("# 01 Addition\n\nWhy?\n\n- one\n- two"),
        markdown("It is short.\n\n## Sums\n\nOf two.\n\n### By hand\n\n#### Twice"),
    ) == [
        ("slide", 0, 0, "01 Addition"),
        ("", 0, 0, "Why?"),
        ("", 0, 0, "one\ntwo"),
        ("", 1, 1, "It is short."),
        ("slide", 1, 1, "Sums"),
        ("", 1, 1, "Of two."),
        ("subslide", 1, 1, "By hand"),
        ("subslide", 1, 1, "Twice"),
    ]


def test_code_and_its_outputs_belong_to_the_text_above():
    assert words(markdown("We expect 30."), code("print(total)", PRINTED, PICTURE), code("total")) == [
        ("", 0, 0, "We expect 30."),
        ("", 1, 0, "1print(total)"),  # the count of the cell, which the style hides
        ("", 1, 0, "30"),
        ("", 1, 0, "figure"),
        ("", 2, 0, "1total"),
    ]


def test_a_cell_says_where_it_stands():
    assert words(
        markdown("## Sums\n\nOf two.", slide="subslide"),
        code("draw()", PICTURE, slide="fragment"),
        code("import os", slide="skip"),
        code("a", slide="slide"),
    ) == [
        ("subslide", 0, 0, "Sums"),
        ("", 0, 0, "Of two."),
        ("fragment", 1, 0, "1draw()"),
        ("fragment", 1, 0, "figure"),
        ("slide", 3, 0, "1a"),
    ]


def test_nobody_reads_the_set_up_on_a_slide():
    cells = [code("import sys", tags=["setup"]), code("seed: int = 0", tags=["parameters"])]
    cells += [code("seed = 1", tags=["injected-parameters"])]
    badge = "[![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://example.org)"
    assert words(markdown(f"# 01 Addition\n\n{badge}\n\nWhy?"), *cells) == [
        ("slide", 0, 0, "01 Addition"),
        ("", 0, 0, "Why?"),
    ]


@pytest.fixture
def reveal(tmp_path):
    folder = tmp_path / "package"
    (folder / "dist").mkdir(parents=True)
    (folder / "dist" / "reveal.js").write_text("var Reveal = '</script>'")
    (folder / "dist" / "reveal.css").write_text(".reveal {}")
    return folder


def executed(root, *cells, status="passed"):
    notebook = load(root).select(["01/lecture"])[0]
    path = root / "build" / "run" / "smoke" / notebook.relative
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": list(cells)}))
    path.with_suffix(".json").write_text(json.dumps({"notebook": notebook.relative, "status": status, "error": None}))
    return notebook


def test_a_show_holds_all_that_it_shows(mini, reveal):
    harm = "<script>steal()</script><img src='https://example.org/x.png'>"
    notebook = executed(mini, markdown(f"# 01 Addition\n\n{harm}\n\n$a+b$"), code("draw()", PICTURE))
    page = BeautifulSoup(slide_show(load(mini), notebook, "smoke", reveal), "html.parser")
    assert page.title.get_text() == "01 Addition: slides"
    assert page.find("math") and page.find("img")["src"].startswith("data:image/png;base64,")
    assert not page.find_all(["link", "script"], src=True) and "steal" not in str(page)
    assert not re.search(r"https?://(?!www\.w3\.org)", re.sub(r'alttext="[^"]*"', "", str(page)))
    assert [tag["rel"] for tag in page.find_all("link")] == [["icon"]]
    policy = page.find("meta", attrs={"http-equiv": "Content-Security-Policy"})["content"]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert page.find_all("script")[0].string == r"var Reveal = '<\/script>'"


def test_what_a_show_needs_is_told_in_one_line(mini, reveal):
    notebook = executed(mini, markdown("# 01 Addition"), status="failed")
    with pytest.raises(
        CourseError, match=r"01_addition.ipynb has no run to its end in profile smoke: `course run 01/l"
    ):
        slide_show(load(mini), notebook, "smoke", reveal)
    path = mini / "build" / "run" / "smoke" / "lectures" / "01_addition.json"
    path.write_text(path.read_text().replace("failed", "passed"))
    (reveal / "dist" / "reveal.css").unlink()
    with pytest.raises(CourseError, match=r"reveal\.css: expected reveal.js's package there"):
        slide_show(load(mini), notebook, "smoke", reveal)
