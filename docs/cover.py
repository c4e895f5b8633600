"""The README's picture, from figures of executed notebooks: `course run 01 06 --profile cpu`, then this file."""

import base64
import io
import sys
from pathlib import Path

from PIL import Image

from course import manifest as course_manifest
from course.errors import CourseError
from course.notebook import pictures, read_notebook, tags
from course.reporting import report

ROOT = Path(__file__).resolve().parents[1]
# For each figure: its notebook, and words of the code that draws it, or the tag of its cell.
FIGURES = (
    ("01/lecture", "nine = np.array"),
    ("01/lecture", "plots.field_map("),
    ("06/lecture", "thumbnail"),
    ("06/solution", "wrong = np.flatnonzero"),
)
WIDTH, GAP = 780, 24


def figure(course, name, words):
    """The first picture of the cell that is tagged with these words or contains them, on white, WIDTH pixels wide."""
    [notebook] = course.select([name])
    cells = read_notebook(report.passed(course, notebook, "cpu"))["cells"]
    found = [cell for cell in cells if words in tags(cell) or words in cell["source"]]
    if len(found) != 1:
        raise CourseError(f"{notebook.relative}: expected one cell with `{words}`, got {len(found)}")
    data = next(pictures(found[0]))
    picture = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA")
    ground = Image.new("RGBA", picture.size, "white")
    ground.alpha_composite(picture)
    return ground.convert("RGB").resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.LANCZOS)


def main():
    course = course_manifest.load(ROOT)
    figures = [figure(course, *place) for place in FIGURES]
    rows = [figures[:2], figures[2:]]
    heights = [max(p.height for p in row) for row in rows]
    cover = Image.new("RGB", (2 * WIDTH + 3 * GAP, sum(heights) + 3 * GAP), "white")
    top = GAP
    for row, height in zip(rows, heights):
        for column, picture in enumerate(row):
            cover.paste(picture, (GAP + column * (WIDTH + GAP), top + (height - picture.height) // 2))
        top += height + GAP
    cover.quantize(256).save(ROOT / "docs/cover.png", optimize=True)
    print(f"docs/cover.png: {course.title}, {(ROOT / 'docs/cover.png').stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    try:
        main()
    except CourseError as error:
        sys.exit(f"docs/cover.py: {error}")
