"""The report: what stands on its pages, that they load nothing, and that a failing one leaves the old one."""

import base64
import io
import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from course.errors import CourseError
from course.manifest import load
from course.reporting import pages as rendering
from course.reporting import report
from course.reporting.pages import Context, clean, coloured, mathml, place, terminal


def png(colour: str, size: tuple[int, int] = (40, 20)) -> str:
    written = io.BytesIO()
    Image.new("RGB", size, colour).save(written, "PNG")
    return base64.b64encode(written.getvalue()).decode()


def markdown(source: str, **more) -> dict:
    return {"cell_type": "markdown", "id": f"m{abs(hash(source)) % 10**6}", "metadata": {}, "source": source, **more}


def code(source: str, *outputs: dict, tags: tuple[str, ...] = (), id: str = "", **metadata) -> dict:
    return {
        "cell_type": "code",
        "id": id or f"c{abs(hash(source)) % 10**6}",
        "metadata": {"tags": list(tags), **metadata},
        "execution_count": 1,
        "source": source,
        "outputs": list(outputs),
    }


def shown(metadata: dict | None = None, **data) -> dict:
    mimes = {
        "png": "image/png",
        "html": "text/html",
        "plain": "text/plain",
        "svg": "image/svg+xml",
        "latex": "text/latex",
        "results": rendering.RESULTS,
        "widget": rendering.WIDGET,
    }
    bundle = {mimes[key]: value for key, value in data.items()}
    return {"output_type": "display_data", "data": bundle, "metadata": metadata or {}}


def printed(text: str, name: str = "stdout") -> dict:
    return {"output_type": "stream", "name": name, "text": text}


def notebook(*cells: dict, **metadata) -> dict:
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": list(cells)}


def result(status: str = "passed", **more) -> dict:
    return {
        "notebook": "lectures/01_addition.ipynb",
        "status": status,
        "error": None,
        "cpu_seconds": 60.0,
        "wall_seconds": 40.0,
        "peak_rss_bytes": 500_000_000,
        "cells": 9,
        "metrics": {"total": 30.0},
        "versions": {"python": "3.11.9", "keras": "3.13.0"},
        **more,
    }


def left(root: Path, executed: dict | str | None, said: dict | str | None, kind: str = "lecture") -> None:
    """What a run of profile cpu leaves of one notebook."""
    folder = root / "build" / "run" / "cpu" / f"{kind}s"
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, content in ((".ipynb", executed), (".json", said)):
        if content is not None:
            text = content if isinstance(content, str) else json.dumps(content)
            (folder / f"01_addition{suffix}").write_text(text, encoding="utf-8")


def written(root: Path) -> tuple[BeautifulSoup, BeautifulSoup | None]:
    """The overview and the lecture's page."""
    index = report.report(load(root), "cpu")
    assert index == root / "build" / "report" / "index.html"
    page = index.parent / "lectures" / "01_addition.html"
    return read(index), read(page) if page.exists() else None


def read(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def page_of(root: Path, *cells: dict, said: dict | None = None, **metadata) -> BeautifulSoup:
    left(root, notebook(*cells, **metadata), said or result())
    page = written(root)[1]
    assert page is not None
    return page


def fetched(soup: BeautifulSoup) -> list[str]:
    """Every address that a browser would load by itself; data addresses are part of the page."""
    found = [str(tag) for tag in soup.find_all(["script", "iframe", "object", "embed", "base"])]
    for tag in soup.find_all(True):
        for name in ("src", "srcset", "poster", "background", "data", "action", "xlink:href", "manifest"):
            if name in tag.attrs:
                found.append(str(tag[name]))
        if "href" in tag.attrs and tag.name not in ("a", "area"):
            found.append(str(tag["href"]))
        found += re.findall(r"url\(\s*['\"]?([^)'\"]*)", str(tag.get("style", "")))
    for style in soup.find_all("style"):
        found += re.findall(r"url\(\s*['\"]?([^)'\"]*)|(@import[^;]*)", style.get_text())
    return [address for address in found if not str(address).startswith("data:")]


# --------------------------------------------------------------------------------------------------------- the drawings


def test_a_value_in_the_middle_of_its_band_is_drawn_in_the_middle():
    # The axis reaches from -0.25 to 1.25: the band begins at 0.25 / 1.5 of it.
    drawn = place(0.5, 0, 1)
    assert (drawn.left, drawn.width, drawn.mark, drawn.inside) == (16.67, 66.66, 50, True)


def test_the_axis_reaches_to_a_value_outside():
    drawn = place(3, 0, 1)  # from -0.75 to 3.75
    assert (drawn.left, drawn.width, drawn.mark, drawn.inside) == (16.67, 22.22, 83.33, False)
    drawn = place(-1, 0, 1)  # from -1.5 to 1.5
    assert (drawn.left, drawn.width, drawn.mark, drawn.inside) == (50, 33.33, 16.67, False)


def test_the_ends_belong_to_the_band():
    assert place(0, 0, 1).inside and place(1, 0, 1).inside
    assert place(0, 0, 1).mark == place(0, 0, 1).left


def test_a_band_without_width_and_a_value_that_is_no_number():
    assert place(2, 2, 2).mark == 50 and place(2, 2, 2).inside
    assert place(0, 0, 0).mark == 50
    for value in (math.nan, math.inf, -math.inf):
        assert place(value, 0, 1).mark is None and not place(value, 0, 1).inside


@given(
    st.floats(-1e6, 1e6, allow_nan=False),
    st.floats(-1e6, 1e6, allow_nan=False),
    st.floats(0, 1e6, allow_nan=False),
)
def test_the_drawing_agrees_with_the_numbers(value, low, width):
    high = low + width
    drawn = place(value, low, high)
    assert drawn.mark is not None
    assert -0.01 <= drawn.left <= drawn.left + drawn.width <= 100.01 and 0 <= drawn.mark <= 100
    if drawn.inside:
        assert drawn.left - 0.011 <= drawn.mark <= drawn.left + drawn.width + 0.021
    else:
        assert drawn.mark <= drawn.left + 0.011 or drawn.mark >= drawn.left + drawn.width - 0.021


def test_the_band_as_svg():
    svg = BeautifulSoup(rendering.band_drawing("accuracy", 0.95, 0.9, 0.94), "html.parser").svg
    # From 0.8875 to 0.9625: the band from 1/6, for 8/15; the value at 5/6.
    band, mark = svg.find("rect", class_="band"), svg.find("line", class_="mark")
    assert (float(band["x"]), float(band["width"])) == (16.67, 53.33)
    assert float(mark["x1"]) == float(mark["x2"]) == 83.33
    assert "outside" in svg["class"]
    assert svg["aria-label"] == "accuracy 0.95, band 0.9 to 0.94: above the band"


def test_a_band_without_width_is_seen_and_said():
    svg = BeautifulSoup(rendering.band_drawing("pool", 212, 212, 212), "html.parser").svg
    assert (svg.rect["x"], svg.rect["width"], svg.find(class_="mark")["x1"]) == ("48.5", "3", "50")
    assert svg["aria-label"] == "pool 212, band exactly 212: in the band"
    assert report.Metric("pool", 212.0, (212.0, 212.0)).limits == "exactly"
    assert report.Metric("pool", 211.0, (212.0, 212.0)).limits == "exactly 212"


def test_usage_within_and_over_its_budget():
    def rects(svg):
        soup = BeautifulSoup(svg, "html.parser")
        return {rect["class"][0]: (float(rect["x"]), float(rect["width"])) for rect in soup.find_all("rect")}, soup

    within, soup = rects(report.Usage("time", 1, 2, "min").drawing)
    assert within["used"] == (0, 50) and "over" not in within
    assert float(soup.find("line", class_="limit")["x1"]) == 100
    over, soup = rects(report.Usage("time", 3, 2, "min").drawing)
    assert over["used"] == (0, 66.67) and over["over"] == (66.67, 33.33)
    assert float(soup.find("line", class_="limit")["x1"]) == 66.67
    assert soup.svg["aria-label"] == "time 3 of 2 min, over budget"


def test_numbers_and_quantities():
    assert [rendering.number(x) for x in (0.9431234, 15470264320, -3, 0.0, 12345.6)] == [
        "0.9431",
        "15,470,264,320",
        "−3",
        "0",
        "12,346",
    ]
    assert [rendering.quantity(x) for x in (0.04, 0.3, 1.26, 2.0, 120.4)] == ["0.04", "0.3", "1.3", "2", "120"]
    assert report.Usage("memory", 1.517, 1.5, "GB").shown == "1.517 of 1.5 GB"  # not "1.5 of 1.5 GB": it is over


# --------------------------------------------------------------------------------------------------------- the overview


def test_the_overview_of_a_course_that_ran(mini):
    left(mini, notebook(markdown("# 01 Addition"), code("1 + 1", shown(png=png("red")))), result())
    said = result(metrics={}, cpu_seconds=240.0, peak_rss_bytes=990_000_000)
    left(mini, notebook(markdown("# 01 Addition: solution")), said, "solution")
    index, _ = written(mini)
    assert index.html["lang"] == "en"
    assert [heading.get_text() for heading in index.find_all("h1")] == ["Mini course"]
    assert index.find("section", class_="topic").h2.get_text() == "Addition"
    assert index.find("p", class_="about").get_text() == "What adding two numbers does."
    lecture, solution = index.find_all("article")
    assert lecture.h3.a["href"] == "lectures/01_addition.html" and "passed" in lecture.h3.get_text()
    assert [" ".join(row.get_text(" ").split()) for row in lecture.find_all("div", class_="row")] == [
        "total 30 29 to 31",
        "time 0.5 of 1 min",
        "memory 0.5 of 1 GB",
    ]
    assert "1.0 of 1 GB" in solution.get_text()  # of 10^9 bytes
    assert "needs a look" in solution.h3.get_text() and "over budget" in solution.get_text()
    facts = " ".join(index.header.get_text(" ").split())
    assert "profile cpu" in facts and "python 3.11.9, keras 3.13.0" in facts and "cores" in facts
    assert "1 of 2 notebooks passed" in facts and "1 of 1 metrics in their bands" in facts
    assert "2.5 of 2 min" in facts and index.header.find("time")["datetime"]
    attention = index.find("section", class_="attention")
    assert [item.get_text(" ", strip=True) for item in attention.find_all("li")] == [
        "01/solution time over budget: 2 of 1 min"
    ]


def test_a_metric_outside_its_band_is_said_and_drawn(mini):
    left(mini, notebook(markdown("# x")), result(metrics={"total": 32.0}))
    index, _ = written(mini)
    row = index.article.find("div", class_="row")
    assert row.find("strong").get_text() == "above the band" and "outside" in row.svg["class"]
    assert "total 32 is above the band 29 to 31" in index.find("section", class_="attention").get_text()


def test_a_metric_that_was_not_recorded_and_one_that_is_not_declared(mini):
    left(mini, notebook(markdown("# x")), result(metrics={"other_thing": 1.5}))
    index, _ = written(mini)
    rows = [" ".join(row.get_text(" ").split()) for row in index.article.find_all("div", class_="row")]
    assert rows[:2] == ["total not recorded 29 to 31", "other thing 1.5 not declared"]
    assert [item.a.get_text() for item in index.find("section", class_="attention").find_all("li")] == [
        "total was not recorded",
        "other thing is not declared in course.toml",
    ]


def test_a_declared_metric_without_a_band_in_this_profile(mini):
    text = (mini / "course.toml").read_text(encoding="utf-8")
    (mini / "course.toml").write_text(
        text.replace("total = { cpu = [29, 31], smoke", "total = { smoke"), encoding="utf-8"
    )
    left(mini, notebook(markdown("# x")), result())
    row = written(mini)[0].article.find("div", class_="row")
    assert " ".join(row.get_text(" ").split()) == "total 30 no band" and row.svg is None


def test_the_judgement_is_that_of_the_run(mini):
    from course.outcome import Result, judge

    manifest = load(mini)
    lecture = manifest.select(["01/lecture"])[0]
    for more in (
        {},
        {"cpu_seconds": 121.0},
        {"peak_rss_bytes": 1_000_000_001},
        {"metrics": {}},
        {"metrics": {"total": 31.1}},
    ):
        said = result(**more)
        left(mini, notebook(markdown("# x")), said)
        problems = judge(lecture, manifest.profile("cpu"), Result(**said))
        index, _ = written(mini)
        assert len(index.select("section.attention li")) == len(problems), more


def test_parameters_that_are_not_the_profiles_are_said(mini):
    left(mini, notebook(markdown("# x")), result(parameters={"repeats": 3, "label": "total"}, when=1_700_000_000.0))
    index, _ = written(mini)
    assert 'other parameters than the profile\'s: repeats = 3, label = "total"' in index.article.get_text()
    assert index.header.find("time")["datetime"].startswith("2023-11-1")
    left(mini, notebook(markdown("# x")), result(parameters={}))
    assert "other parameters" not in written(mini)[0].article.get_text()


def test_the_tagged_picture_is_the_thumbnail_else_the_last(mini):
    red, blue = shown(png=png("red")), shown(png=png("blue"))
    for tags, expected in ((("thumbnail",), png("red")), ((), png("blue"))):
        left(mini, notebook(markdown("## Heading"), code("1", red, tags=tags), code("2", blue), code("3")), result())
        image = written(mini)[0].article.img
        assert image["src"] == f"data:image/png;base64,{expected}"
    assert image["alt"] == "Figure 2: Heading"


def test_a_large_thumbnail_is_made_smaller(mini):
    left(mini, notebook(code("1", shown(png=png("red", (2000, 1000))))), result())
    source = written(mini)[0].article.img["src"]
    kind, encoded = source.split(";base64,")
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as picture:
        assert kind == "data:image/webp" and picture.size == (720, 360)


def test_a_cached_result_and_changed_code_are_said(mini):
    built = json.loads((mini / "lectures" / "01_addition.ipynb").read_text(encoding="utf-8"))
    parameters = code("repeats = 2", tags=("injected-parameters",))
    built["cells"].insert(3, parameters)
    left(mini, built, result(cached=True))
    card = written(mini)[0].article
    assert "from the cache" in card.h3.get_text() and "has changed" not in card.get_text()
    built["cells"][-2]["source"] += "\n"
    changed = next(cell for cell in built["cells"] if cell["cell_type"] == "code")
    changed["source"] = "SETUP = 2"
    left(mini, built, result())
    assert "code has changed since this run" in written(mini)[0].article.get_text()


def test_nothing_has_run(mini):
    index, page = written(mini)
    assert page is None
    assert index.find(class_="notice").pre.get_text().splitlines() == [
        "course run --profile cpu",
        "course run 01 --profile cpu",
    ]
    assert [article.h3.get_text(" ", strip=True) for article in index.find_all("article")] == [
        "Lecture not run",
        "Solution not run",
    ]
    assert "course run 01/lecture --profile cpu" in index.article.get_text()


def test_a_result_without_its_notebook_and_a_notebook_without_its_result(mini):
    error = {"cell": None, "cell_id": None, "name": "DeadKernelError", "value": "Kernel died", "traceback": ""}
    left(mini, None, result("died", error=error))
    left(mini, notebook(markdown("# half")), None, "solution")
    index, page = written(mini)
    assert page is None
    lecture, solution = index.find_all("article")
    assert "its kernel died" in lecture.h3.get_text() and lecture.h3.a is None
    assert "not finished" in solution.h3.get_text() and solution.h3.a["href"] == "solutions/01_addition.html"


def test_links_are_relative_and_lead_to_files(mini):
    left(
        mini,
        notebook(markdown("# 01 Addition\n[lab](../labs/01_addition.ipynb) [other](#Summary)\n\n## Summary")),
        result(),
    )
    left(mini, notebook(markdown("# 01 Addition: solution")), result(metrics={}), "solution")
    index, _ = written(mini)
    folder = mini / "build" / "report"
    seen = set()
    for page in folder.rglob("*.html"):
        soup = read(page)
        for link in soup.find_all("a", href=True):
            path, _, anchor = link["href"].partition("#")
            if path.startswith("https://"):
                continue
            target = (page.parent / path).resolve() if path else page
            assert target.is_file() and target.is_relative_to(folder), link
            seen.add(target.name)
            if anchor:
                assert read(target).find(id=anchor), link
    assert seen == {"index.html", "01_addition.html", "01_addition.ipynb"}
    assert index.find(class_="lab").a["href"] == "labs/01_addition.html"
    assert "course start 01" in read(folder / "labs" / "01_addition.html").find(id="this-lab").parent.get_text()
    assert read(folder / "lectures" / "01_addition.html").find("a", string="lab")["href"] == "../labs/01_addition.html"
    assert (folder / "labs" / "01_addition.ipynb").read_bytes() == (mini / "labs" / "01_addition.ipynb").read_bytes()
    assert "2 gaps and 1 question, 4 points" in index.find(class_="lab").get_text()
    lecture = read(folder / "lectures" / "01_addition.html")
    assert lecture.find("a", rel="next")["href"] == "../solutions/01_addition.html"
    assert read(folder / "labs" / "01_addition.html").find("a", rel="prev")["href"] == "../solutions/01_addition.html"
    assert lecture.find("a", rel="prev") is None


# ------------------------------------------------------------------------------------------------------------ the pages


def test_the_failing_cell_is_marked_and_linked(mini):
    failing = code(
        "kernel(12)",
        {
            "output_type": "error",
            "ename": "ValueError",
            "evalue": "no <fit>",
            "traceback": ["\x1b[31mValueError\x1b[0m: no <fit>"],
        },
        id="abc",
    )
    mark = markdown("An Exception was encountered", metadata={"tags": ["papermill-error-cell-tag"]})
    added = code("n = 1", tags=("injected-parameters",))
    error = {"cell": 1, "cell_id": "abc", "name": "ValueError", "value": "no <fit>\nat all", "traceback": "..."}
    left(
        mini, notebook(mark, markdown("# 01"), added, failing, code("after")), result("failed", error=error, metrics={})
    )
    index, page = written(mini)
    # The second cell of the notebook as it was given: papermill's own do not count.
    problem = index.article.find("p", class_="problem")
    assert problem.a["href"] == "lectures/01_addition.html#cell-2"
    assert problem.get_text() == "cell 2: ValueError: no <fit> at all"
    assert index.find("section", class_="attention").a["href"] == problem.a["href"]
    cell = page.find(id="cell-2")
    assert "failed" in cell["class"] and "kernel(12)" in cell.get_text()
    assert "This cell failed. ValueError: no <fit> at all" in cell.get_text()
    assert cell.find("pre", class_="error").get_text() == "ValueError: no <fit>"
    assert page.find(class_="top").a["href"] == "#cell-2"
    assert "An Exception was encountered" not in page.get_text()
    assert len(page.find_all(class_="failed", id=True)) == 1


@pytest.mark.parametrize(
    ("error", "anchor"),
    [
        ({"cell": 1, "cell_id": "gone"}, "cell-2"),
        ({"cell": 0, "cell_id": "second"}, "cell-2"),
        ({"cell": 7}, None),
        ({"cell": None}, None),
    ],
)
def test_a_failing_cell_without_an_error_in_it(error, anchor):
    cells = [code("first", id="first"), code("second", id="second")]
    rendered = rendering.render(notebook(*cells), Context(Path("."), Path(".")), error={**error, "traceback": "lines"})
    assert rendered.failing == anchor
    assert ("lines" in rendered.body) == (anchor is not None)


def test_headings_make_the_contents_and_one_title(mini):
    page = page_of(
        mini,
        markdown("# 01 Addition\n\n## Adding `x` and $y^2$\n\n### Deeper\n\n## Adding `x` and $y^2$"),
        markdown("# A second title"),
    )
    assert [heading.get_text() for heading in page.find_all("h1")] == ["01 Addition"]
    contents = page.find("nav", attrs={"aria-label": "Contents"}).find("div", class_="wide").find_all("li")
    assert [item.a["href"] for item in contents] == [
        "#Adding-x-and-y^2",
        "#Deeper",
        "#Adding-x-and-y^2-2",
        "#A-second-title",
    ]
    assert contents[0].find("code").get_text() == "x" and contents[0].find("math")
    assert [page.find(id=item.a["href"][1:]).name for item in contents] == ["h2", "h3", "h2", "h2"]
    assert page.find("main") and page.find("header") and page.find("footer")


def test_a_notebook_without_a_title_gets_one(mini):
    assert page_of(mini, code("1")).h1.get_text() == "01 Addition: lecture"


def test_formulas_become_mathml(mini):
    page = page_of(mini, markdown(r"Of $\frac{n}{s}$, a `$` and" + "\n\n" + r"$$o = \left\lfloor n \right\rfloor$$"))
    inline, block = page.find_all("math")
    assert inline["display"] == "inline" and inline.find("mfrac").get_text() == "ns"
    assert inline["alttext"] == r"\frac{n}{s}"
    assert block["display"] == "block" and "⌊" in block.get_text()
    assert "$$" not in page.main.get_text() and page.find("code", string="$")


@pytest.mark.parametrize(
    ("latex", "text"),
    [
        (r"\begin{aligned} a &= b \\ c &= d \end{aligned}", "a=bc=d"),
        (r"\begin{equation} a \end{equation}", "a"),
        (r"\operatorname{softmax}(z)", "softmax(z)"),
        (r"10\%", "10%"),
    ],
)
def test_formulas_that_the_converter_needs_help_with(latex, text):
    formula = BeautifulSoup(mathml(latex, display=True), "html.parser").math
    assert re.sub(r"\s", "", formula.get_text()) == text


def test_aligned_formulas_have_a_row_for_each_line():
    formula = BeautifulSoup(mathml(r"\begin{aligned} a &= b \\ c &= d \end{aligned}"), "html.parser")
    assert len(formula.find_all("mtr")) == 2 and len(formula.find_all("mtd")) == 4


def test_lines_of_a_formula_without_an_environment_are_rows():
    assert len(BeautifulSoup(mathml(r"a = b \\ c = d", display=True), "html.parser").find_all("mtr")) == 2


def test_a_formula_brings_no_other_markup():
    assert BeautifulSoup(mathml('a < b, "c"'), "html.parser").math["alttext"] == 'a < b, "c"'
    for latex in (r"\text{<b>}", r"\text{<script>1</script>}", r"\text{<b></b>}"):
        kept = BeautifulSoup(mathml(latex), "html.parser")
        assert [tag.name for tag in kept.find_all(True)] == ["code"] and kept.get_text() == latex


@pytest.mark.parametrize("latex", [r"\frac{", r"\nosuchcommand x", "<b>"])
def test_a_formula_that_is_not_understood_stays_as_code(latex):
    shown_as = BeautifulSoup(mathml(latex), "html.parser")
    assert shown_as.find("b") is None
    if latex != "<b>":
        assert shown_as.code.get_text() == latex


def test_every_picture_has_alternative_text(mini):
    page = page_of(
        mini,
        markdown("# 01\n\n## Filters"),
        code("1", shown(png=png("red")), shown(png=png("blue"))),
        markdown("## Maps of $x$"),
        code("2", shown(svg="<svg xmlns='http://www.w3.org/2000/svg'/>")),
        code("3", shown(png=png("red"), metadata={"image/png": {"alt": "A dog", "width": 20}})),
        code("4", shown(html=f'<img src="data:image/png;base64,{png("red")}">')),
    )
    images = page.find_all("img")
    assert [image["alt"] for image in images] == [
        "Figure: Filters",
        "Figure 2: Filters",
        "Figure: Maps of x",
        "A dog",
        "Figure 2: Maps of x",
    ]
    assert (images[0]["width"], images[0]["height"]) == ("40", "20")
    assert (images[3]["width"], images[3]["height"]) == ("20", "10")


def test_what_the_reader_of_code_sees(mini):
    page = page_of(
        mini,
        code("SETUP = 1", tags=("setup",)),
        code("epochs = 1", tags=("injected-parameters",)),
        code("def add(a, b):\n    return a < b", gap="add"),
        code("assert add(2, 3)", check="add", points=2),
        code("x", printed("out\n"), printed("more\n"), printed("careful\n", "stderr")),
    )
    assert page.find("details", class_="input").summary.get_text() == "Set-up cell"
    assert [label.get_text() for label in page.find_all(class_="label")] == [
        "Parameters of the profile cpu",
        "Answer: add",
        "Check: add, 2 points",
    ]
    assert page.find("span", class_="k", string="def") and "a < b" in page.get_text()
    texts = page.find(id="cell-4").find_all("pre", class_="text")
    assert [text.get_text() for text in texts] == ["out\nmore", "careful"]
    assert "stderr" in texts[1]["class"]


def test_an_answer_in_prose_is_set_apart_and_its_marks_are_no_headings(mini):
    text = "## 3. Why\nWhy?\n\n### BEGIN SOLUTION\nBecause *it* does.\n\nAnd $x$.\n### END SOLUTION\nAfter."
    page = page_of(mini, markdown(text), markdown("### BEGIN SOLUTION\n### END SOLUTION"))
    answer = page.find("div", class_="answer")
    assert [part.get_text() for part in answer.find_all("p")] == ["Because it does.", "And x."]
    assert answer.find("em") and "After." not in answer.get_text() and "After." in page.get_text()
    assert "SOLUTION" not in page.get_text()


def test_many_warnings_are_folded(mini):
    page = page_of(mini, code("1", printed("one\ntwo\n", "stderr")), code("2", printed("line\n" * 6, "stderr")))
    assert page.find(id="cell-1").find("details") is None
    folded = page.find(id="cell-2").details
    assert folded.summary.get_text() == "6 lines on the error stream" and folded.pre.get_text() == "\n".join(
        ["line"] * 6
    )


def test_a_size_in_prose_does_not_break(mini):
    page = page_of(mini, markdown("## A 3 × 3 filter\n\nOf 3 × 3, 2 · 3, in `3 × 3`."))
    assert page.main.p.get_text() == "Of 3\u00a0×\u00a03, 2\u00a0· 3, in 3 × 3." and page.find(id="A-3-×-3-filter")


def test_a_table_scrolls_by_itself(mini):
    frame = (
        "<div><style scoped>.dataframe tbody tr th {vertical-align: top}</style>"
        '<table border="1"><tr><td>1</td></tr></table></div>'
    )
    page = page_of(mini, markdown("## Layers"), code("frame", shown(html=frame, plain="1")))
    table = page.find("div", class_="html").table
    assert table.parent["class"] == ["scroll"] and table.parent["tabindex"] == "0"
    assert table.parent["aria-label"] == "Table: Layers"
    assert "dataframe tbody" not in str(page)


@pytest.mark.parametrize("before", ["> ", "- a\n\n  "])
def test_a_table_within_a_quote_or_a_list_is_a_table(mini, before):
    space = before if before == "> " else "  "
    page = page_of(mini, markdown(before + f"\n{space}".join(["| n | f |", "|---|---|", "| 7 | 3 |"])))
    assert [cell.get_text() for cell in page.main.find_all("td")][:2] == ["7", "3"]


def test_recorded_metrics_are_a_table_with_their_bands(mini):
    page = page_of(
        mini, code("record()", shown(results={"total": 32, "new_one": 0.5}, html="<p>hidden</p>", plain="total = 32"))
    )
    rows = page.find("table", class_="results").tbody.find_all("tr")
    assert [[cell.get_text() for cell in row.find_all(["th", "td"])] for row in rows] == [
        ["total", "32", "", "above the band 29 to 31"],
        ["new one", "0.5", "", "no band"],
    ]
    assert float(rows[0].find("line", class_="mark")["x1"]) == 83.33
    assert "hidden" not in page.get_text()


def test_widgets_are_still_pictures(mini):
    state = {
        "box": {"state": {"children": ["IPY_MODEL_slider", "IPY_MODEL_out", "IPY_MODEL_box"]}},
        "slider": {"state": {"value": 3}},
        "out": {"state": {"outputs": [shown(png=png("green"))]}},
    }
    page = page_of(
        mini,
        code("1", shown(widget={"model_id": "box"}, plain="HBox(children=(IntSlider(value=3),))")),
        code("2", shown(widget={"model_id": "gone"}, plain="size = 3")),
        code("3", shown(widget={"model_id": "gone"}, png=png("red"))),
        widgets={rendering.WIDGET_STATE: {"state": state}},
    )
    first, second, third = (page.find(id=f"cell-{number}") for number in (1, 2, 3))
    assert first.img["src"].endswith(png("green")) and "HBox" not in first.get_text()
    assert second.find(class_="output").pre.get_text() == "size = 3"
    assert third.img["src"].endswith(png("red"))
    assert all("interactive control" in cell.get_text() for cell in (first, second, third))


def test_long_text_is_cut(mini):
    page = page_of(mini, code("1", printed("0123456789\n" * 20_000)))
    shown_text = page.find("pre", class_="long")
    assert 0 < len(shown_text.get_text()) <= rendering.TEXT_LIMIT
    assert re.search(r"10,\d+ further lines", page.find("p", class_="note").get_text())


def test_terminal_text():
    assert terminal("1/5\r2/5\r5/5 done\nnext\r\nlast") == "5/5 done\nnext\nlast"
    assert terminal("1/2 \x1b[32m━\x1b[0m\b\b\b\b\r\x1b[1m2/2\x1b[0m\n") == "\x1b[1m2/2\x1b[0m\n"
    red = 'a <span class="ansi-red-intense-fg ansi-bold">red</span> &lt;b&gt;'
    assert coloured("a \x1b[1;31mred\x1b[0m <b>\x1b[2K") == red
    assert coloured("\x1b[38;5;28mdef\x1b[39m \x1b[38;2;0;0;200mx\x1b[m\x1b[48;5;130my") == (
        '<span class="ansi-green-fg">def</span> <span class="ansi-blue-fg">x</span><span>y</span>'
    )
    assert coloured("a\x1b]8;;https://x.org\x07link\x1b]8;;\x1b\\b\x1b(Bc") == "alinkbc"
    assert "\x1b" not in coloured("\x1b[38;5m\x1b[38m\x1b[\x1b")


# ------------------------------------------------------------------------------------------- nothing loaded, nothing
# run

HOSTILE = """
<script>alert(1)</script><script src="https://cdn.example/x.js"></script>
<link rel="stylesheet" href="https://cdn.example/x.css"><iframe src="https://example.org"></iframe>
<img src="https://example.org/a.png" alt="A badge"><img src="//example.org/b.png"><img src=x onerror="alert(1)">
<img srcset="https://example.org/c.png 2x" src="data:image/png;base64,AAAA">
<a href="javascript:alert(1)">j</a><a href=" JaVaScRiPt:alert(1)" onclick="x()">k</a><a href="data:text/html,x">d</a>
<div style="background: url(https://example.org/d.png)">styled</div><style>@import "https://example.org/e.css";</style>
<style>b { background: u\\72l(https://example.org/f.png) }</style><video poster="https://example.org/g.png"></video>
<svg><image href="https://example.org/h.png"/><use xlink:href="https://example.org/i.svg#a"/><script>1</script></svg>
<form action="https://example.org"><input type="image" src="https://example.org/j.png"></form>
<object data="https://example.org/k.swf"></object><table background="https://example.org/l.png"><tr><td>t</td></tr></table>
<meta http-equiv="refresh" content="0;url=https://example.org"><base href="https://example.org/"><!-- <script> -->
</div></main><p>after
"""


def test_no_page_loads_or_runs_anything(mini):
    picture = "[![Open In Colab](https://colab.example/badge.svg)](https://colab.example/open)"
    left(
        mini,
        notebook(markdown(f"# 01\n{picture}\n\n{HOSTILE}"), code("1", shown(html=HOSTILE, plain="x"))),
        result(),
    )
    index, page = written(mini)
    for soup in (index, page):
        assert fetched(soup) == []
        policy = soup.find("meta", attrs={"http-equiv": "Content-Security-Policy"})["content"]
        assert policy.startswith("default-src 'none';") and "script" not in policy
        assert not [tag for tag in soup.find_all(True) for name in tag.attrs if name.startswith("on")]
        assert not [meta for meta in soup.find_all("meta") if meta.get("http-equiv") == "refresh"]
        links = [link["href"] for link in soup.find_all("a", href=True)]
        assert not [link for link in links if re.match(r"\s*(javascript|data|vbscript):", link, re.IGNORECASE)]
    assert page.find("a", href="https://colab.example/open").get_text() == "Open In Colab"
    assert "A badge" in page.get_text() and "alert(1)" not in page.get_text()
    assert not page.main.find_all(["form", "meta", "html", "body", "head"])
    assert len(page.find_all("main")) == 1 and page.find("footer").find_parent("main") is None


def test_the_detector_of_addresses_sees_them():
    assert len(fetched(BeautifulSoup(HOSTILE, "html.parser"))) >= 15


def test_text_is_escaped_wherever_it_comes_from(mini):
    evil = "<script>alert(1)</script>"
    text = (mini / "course.toml").read_text(encoding="utf-8")
    text = text.replace('title = "Mini course"', f'title = "{evil}"').replace(
        'title = "Addition"', f'title = "A {evil}"'
    )
    text = text.replace("What adding two numbers does.", f"About {evil}").replace("seconds", evil)
    (mini / "course.toml").write_text(text, encoding="utf-8")
    error = {"cell": 1, "cell_id": None, "name": evil, "value": f'"{evil}"', "traceback": evil}
    said = result("failed", error=error, metrics={evil: 1.0}, versions={evil: evil})
    page = page_of(
        mini,
        markdown("text"),
        code(f'print("{evil}")', printed(evil), shown(results={evil: 2}), gap=evil),
        said=said,
    )
    index = read(mini / "build" / "report" / "index.html")
    assert index.find("script") is None and page.find("script") is None
    assert index.h1.get_text() == evil and index.find("p", class_="about").get_text() == f"About {evil}"
    assert page.find("pre", class_="text").get_text() == evil
    assert evil in page.find("table", class_="results").get_text() and evil in index.find(class_="facts").get_text()


def test_pictures_of_markdown_are_embedded_from_inside_the_course_only(tmp_path):
    root = tmp_path / "course"
    (root / "lectures").mkdir(parents=True)
    for path in (root / "a b.png", tmp_path / "outside.png"):
        path.write_bytes(base64.b64decode(png("red")))
    context = Context(root / "lectures", root)
    embedded = f"data:image/png;base64,{png('red')}"
    assert BeautifulSoup(clean('<img src="../a%20b.png">', context), "html.parser").img["src"] == embedded
    assert "outside" in clean('<img src="../../outside.png" alt="outside">', context)
    assert BeautifulSoup(clean('<img src="../../outside.png">', context), "html.parser").img is None
    attached = clean('<img src="attachment:x.png">', context, {"x.png": {"image/png": png("red")}})
    assert BeautifulSoup(attached, "html.parser").img["src"] == embedded
    assert BeautifulSoup(clean('<img src="attachment:y.png">', context, {}), "html.parser").img is None


def test_styles_of_an_output_stay_in_it():
    kept = clean("<style>#T_1 td {color: red}</style><p>x</p>", Context(Path("."), Path(".")))
    assert "<style>@scope { #T_1 td {color: red} }</style>" in kept


@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        ("} body {color: red}", ""),
        ("#a {color: red} } body {display: none} {", "#a {color: red}"),
        ("#a {color: red}\n#b {color: blue", "#a {color: red} #b {color: blue}"),
        ("@media print { body {display: none} } #a {color: red}", "#a {color: red}"),
        ('#a::before {content: "}"} #b {color: red}', "#b {color: red}"),
        ("/* } */ #a {color: red}", "#a {color: red}"),
        ("#a {color: red; {}", ""),
        ("#a {background: url(x.png)} #b {color: red}", "#b {color: red}"),
    ],
)
def test_a_style_whose_braces_are_not_balanced_takes_nothing_with_it(rules, kept):
    shown = clean(f"<style>{rules}</style><p>x</p>", Context(Path("."), Path(".")))
    style = BeautifulSoup(shown, "html.parser").find("style")
    assert " ".join((style.get_text() if style else "").split()) == (f"@scope {{ {kept} }}" if kept else "")


def test_a_header_without_words_is_no_header():
    shown = clean(
        "<table><tr><th></th><th>a</th></tr><tr><th>0</th><td>1</td></tr></table>", Context(Path("."), Path("."))
    )
    assert [cell.name for cell in BeautifulSoup(shown, "html.parser").tr.find_all(["th", "td"])] == ["td", "th"]


def test_no_page_has_two_landmarks_of_one_name(mini):
    many = "\n".join(map(str, range(100)))
    left(
        mini,
        notebook(markdown("# A\n|a|\n|-|\n|1|\n\n|b|\n|-|\n|2|"), code("1", printed(many)), code("2", printed(many))),
        result(),
    )
    for page in written(mini):
        for name in ("region", "navigation"):
            labels = [part.get("aria-label") for part in page.find_all(attrs={"role": name})]
            assert len(labels) == len(set(labels))
        scrolled = page.find_all(class_=["scroll", "text"])
        assert all(part["tabindex"] == "0" for part in scrolled if part.name != "ul" and part.get("role"))


# ------------------------------------------------------------------------------------------------ failing, and the
# cache


def unfinished(root: Path) -> list[Path]:
    return list((root / "build").glob(".report*"))


@pytest.mark.parametrize(
    ("executed", "said", "message"),
    [
        ("{", result(), "build/run/cpu/lectures/01_addition.ipynb: expected a notebook in JSON"),
        ('{"cells": 3}', result(), "build/run/cpu/lectures/01_addition.ipynb: expected a notebook"),
        (
            {"cells": [{**code("1"), "outputs": 3}]},
            result(),
            "build/run/cpu/lectures/01_addition.ipynb: expected a notebook",
        ),
        (notebook(), "{", "build/run/cpu/lectures/01_addition.json: expected the result of a run in JSON"),
        (notebook(), "[]", "build/run/cpu/lectures/01_addition.json: expected the result of a run"),
    ],
)
def test_a_damaged_result_costs_one_entry(mini, executed, said, message):
    left(mini, executed, said)
    left(mini, notebook(markdown("# 01 Addition: solution")), result(metrics={}), "solution")
    index = read(report.report(load(mini), "cpu"))
    lecture, solution = index.find_all("article")
    assert lecture["class"] == ["card", "failed"] and solution["class"] == ["card", "passed"]
    [problem] = index.find(class_="attention").find_all("li")
    assert problem.get_text().startswith(f"01/lecture {message}")
    assert not (mini / "build/report/lectures/01_addition.html").exists()
    assert (mini / "build/report/solutions/01_addition.html").exists()
    assert unfinished(mini) == []


def test_a_broken_lab_costs_its_page(mini):
    (mini / "labs/01_addition.ipynb").write_text("{")
    left(mini, notebook(markdown("# 01 Addition")), result())
    index, _ = written(mini)
    assert index.find(class_="lab") is None and index.article["class"] == ["card", "passed"]


def test_a_profile_whose_figures_mean_nothing_says_so_on_every_page(mini):
    left(mini, notebook(markdown("# 01 Addition")), result())
    assert [page.find(class_="profile-notice") for page in written(mini)] == [None, None]
    listed = mini / "course.toml"
    listed.write_text(listed.read_text().replace('values"', 'values"\nnotice = "Hardly <trained>."'))
    index, page = written(mini)
    assert index.find(class_="profile-notice").strong.get_text() == "Hardly <trained>."
    assert "course run 01/lecture gives the real ones" in page.find(class_="profile-notice").get_text()


@pytest.mark.parametrize("step", ["_write", "_swap"])
def test_a_report_that_cannot_be_written_leaves_the_old_one(mini, monkeypatch, step):
    left(mini, notebook(markdown("# Good")), result())
    index, _ = written(mini)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report, step, full)
    with pytest.raises(CourseError, match="build/report: cannot be written: No space left on device"):
        report.report(load(mini), "cpu")
    assert read(mini / "build" / "report" / "index.html") == index and unfinished(mini) == []


def test_a_swap_that_fails_half_way_puts_the_old_report_back(mini, monkeypatch):
    left(mini, notebook(markdown("# Good")), result())
    index, _ = written(mini)
    rename = report.os.rename

    def refuse(source, target):
        if Path(target).name == "report" and not str(source).endswith("-old"):
            raise PermissionError(13, "Permission denied")
        rename(source, target)

    monkeypatch.setattr(report.os, "rename", refuse)
    with pytest.raises(CourseError, match="Permission denied"):
        report.report(load(mini), "cpu")
    assert read(mini / "build" / "report" / "index.html") == index and unfinished(mini) == []


def test_a_build_folder_that_is_none(mini):
    shutil.rmtree(mini / "build", ignore_errors=True)
    (mini / "build").write_text("a file", encoding="utf-8")
    with pytest.raises(CourseError, match="build/report: cannot be written"):
        report.report(load(mini), "cpu")


def test_an_unknown_profile(mini):
    with pytest.raises(CourseError, match="unknown profile 'cup'"):
        report.report(load(mini), "cup")


def test_pages_that_are_gone_are_gone(mini):
    left(mini, notebook(markdown("# Good")), result())
    assert written(mini)[1] is not None
    shutil.rmtree(mini / "build" / "run")
    assert written(mini)[1] is None


def test_an_unchanged_page_comes_from_the_cache(mini, monkeypatch):
    left(mini, notebook(markdown("# Good"), code("1", shown(png=png("red")))), result())
    first = written(mini)
    calls = []
    render = rendering.render
    monkeypatch.setattr(rendering, "render", lambda *given: calls.append(1) or render(*given))
    assert written(mini)[1] == first[1] and calls == []
    left(mini, notebook(markdown("# Better")), None)
    assert written(mini)[1].h1.get_text() == "Better" and calls == [1]
    for kept in (mini / "build" / "cache" / "pages").rglob("*.json"):
        kept.write_text("{", encoding="utf-8")
    assert written(mini)[1].h1.get_text() == "Better" and calls == [1, 1, 1], "the page of the lab too"


# -------------------------------------------------------------------------------------------------------- in a browser


def test_a_browser_shows_the_pages_without_a_complaint(mini, tmp_path):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no chromium on this machine: the pages were not opened in a browser")
    left(
        mini,
        notebook(markdown(f"# 01\n$x^2$\n\n{HOSTILE}"), code("1", shown(html=HOSTILE), shown(png=png("red")))),
        result(),
    )
    written(mini)
    for page in ("index.html", "lectures/01_addition.html"):
        picture = tmp_path / "page.png"
        picture.unlink(missing_ok=True)
        command = [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--v=0", "--window-size=800,600"),
            *(f"--screenshot={picture}", (mini / "build" / "report" / page).as_uri()),
        ]
        said = subprocess.run(command, capture_output=True, text=True, timeout=120).stderr
        assert [line for line in said.splitlines() if "CONSOLE" in line] == []
        with Image.open(picture) as image:
            assert image.size == (800, 600) and len(image.convert("L").getcolors() or []) > 8
