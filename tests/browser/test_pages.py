"""The report and the site on a phone and on a screen: nothing too wide, nothing fetched, nothing that axe finds."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {"report": ROOT / "build" / "report", "site": ROOT / "build" / "site" / "html"}
HOW = {"report": "make course", "site": "make site"}
WIDTHS = (390, 1280)
# What stands for all: the longest pages have every kind of cell, and of the reference one page is as another.
PAGES = [
    ("report", "index.html"),
    ("report", "lectures/01_*.html"),
    ("report", "solutions/08_*.html"),
    ("report", "labs/07_*.html"),
    ("site", "index.html"),
    ("site", "topics/01_*.html"),
    ("site", "lectures/01_*.html"),
    ("site", "lectures/12_*.html"),
    ("site", "labs/07_*.html"),
    ("site", "solutions/08_*.html"),
    ("site", "glossary.html"),
    ("site", "figures.html"),
    ("site", "slides.html"),
    ("site", "instructors.html"),
    ("site", "reference/index.html"),
    ("site", "reference/utils.detection.evaluation.html"),
    ("site", "search.html"),
]
# The parts that reach beyond the page's right edge and do not lie in a part that scrolls by itself.
BEYOND = """() => [...document.body.querySelectorAll('*')].filter(part => {
    if (part.getBoundingClientRect().right <= innerWidth + 1 || !part.offsetParent) return false
    for (let around = part; around; around = around.parentElement)
        if (getComputedStyle(around).overflowX !== 'visible') return false
    return true
}).map(part => part.outerHTML.slice(0, 100))"""


@pytest.fixture(scope="module")
def addresses(served):
    return {name: served(folder) for name, folder in FOLDERS.items() if folder.is_dir()}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("kind", "pattern"), PAGES)
def test_page(kind, pattern, width, page, addresses):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="`make browser` installs axe").Axe()
    if kind not in addresses:
        pytest.skip(f"no {kind}: `{HOW[kind]}` makes it")
    [path] = FOLDERS[kind].glob(pattern)
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{addresses[kind]}/{path.relative_to(FOLDERS[kind])}", wait_until="networkidle")

    own = (addresses[kind], "data:", "blob:")
    assert [address for address in asked if not address.startswith(own)] == [], "asks another host"
    assert said == [], "the console has errors"
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= width, f"scrolls sideways by {wide - width} pixels: {page.evaluate(BEYOND)[:5]}"
    found = axe.run(page).response["violations"]
    told = [f"{each['id']} ({each['impact']}): {each['help']}: {each['nodes'][0]['html'][:200]}" for each in found]
    assert not found, json.dumps(told, indent=1)
