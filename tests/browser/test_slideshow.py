"""The slide shows: every piece of a lecture is on a slide, whole and large enough to read, with a page in the PDF."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "build" / "slides"
SMALLEST = 0.5  # of the size of letters and pictures; a long table or list of papers comes near it
# The pieces whose text or picture reaches beyond the sheet, which nothing scrolls on a slide: 1160 x 640 pixels from
# (60, 36) on, and the last piece's margin below.
CUT = """() => [...document.querySelectorAll('.piece')].flatMap(piece => {
    const range = document.createRange(), slide = piece.closest('.sheet').parentElement.getBoundingClientRect()
    range.selectNodeContents(piece)
    const part = range.getBoundingClientRect()
    const right = part.right - slide.left - 1220, bottom = part.bottom - slide.top - 676
    return right > 1 || bottom > 1 ? [[piece.textContent.slice(0, 60), right, bottom]] : []
})"""


@pytest.mark.parametrize("topic", ["01", "08", "12"])
def test_show(topic, page, served):
    found = list(FOLDER.glob(f"{topic}_*.html"))
    if not found:
        pytest.skip("no slides: `make slides` makes them")
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.set_viewport_size({"width": 1280, "height": 720})
    address = f"{served(FOLDER)}/{found[0].name}"
    page.goto(address)
    page.locator(".reveal.ready").wait_for()
    assert said == []
    assert [other for other in asked if other != address and not other.startswith("data:")] == []

    packed = page.evaluate("[...document.querySelectorAll('.sheet')].map(sheet => sheet.childElementCount)")
    written = len(re.findall(r'^<\w+ class="piece ', found[0].read_text(encoding="utf-8"), re.MULTILINE))
    assert sum(packed) == written and min(packed) > 0
    page.add_style_tag(content=".reveal .slides section { display: block !important; visibility: visible !important }")
    assert page.evaluate(CUT) == []
    zooms = page.evaluate("[...document.querySelectorAll('.sheet')].map(sheet => +getComputedStyle(sheet).zoom)")
    assert min(zooms) >= SMALLEST, f"slide {zooms.index(min(zooms)) + 1} is made too small: divide its cell"

    pages = re.findall(rb"/Type\s*/Page\b", found[0].with_suffix(".pdf").read_bytes())
    assert len(pages) == len(packed)
