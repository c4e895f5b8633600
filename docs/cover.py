"""The README's picture, from figures of executed notebooks: `course run --profile cpu`, then `python docs/cover.py`."""

import base64
import io
import json
import tomllib
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
# For each figure: its notebook below build/run/cpu, and words of the code that draws it.
FIGURES = (
    ("lectures/01_convolution_arithmetic.ipynb", "nine = np.array"),
    ("lectures/01_convolution_arithmetic.ipynb", "plots.field_map("),
    ("lectures/06_transfer_learning.ipynb", "thumbnail"),
    ("solutions/06_transfer_learning.ipynb", "wrong = np.flatnonzero"),
)
WIDTH, GAP = 780, 24


def figure(name, words):
    """The first picture of the cell that is tagged with these words or contains them, on white, WIDTH pixels wide."""
    cells = json.loads((ROOT / "build/run/cpu" / name).read_text())["cells"]
    [cell] = [c for c in cells if words in c["metadata"].get("tags", []) or words in "".join(c["source"])]
    data = next(o["data"]["image/png"] for o in cell["outputs"] if "image/png" in o.get("data", {}))
    picture = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA")
    ground = Image.new("RGBA", picture.size, "white")
    ground.alpha_composite(picture)
    return ground.convert("RGB").resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.LANCZOS)


def main():
    pictures = [figure(*place) for place in FIGURES]
    rows = [pictures[:2], pictures[2:]]
    heights = [max(p.height for p in row) for row in rows]
    cover = Image.new("RGB", (2 * WIDTH + 3 * GAP, sum(heights) + 3 * GAP), "white")
    top = GAP
    for row, height in zip(rows, heights):
        for column, picture in enumerate(row):
            cover.paste(picture, (GAP + column * (WIDTH + GAP), top + (height - picture.height) // 2))
        top += height + GAP
    cover.quantize(256).save(ROOT / "docs/cover.png", optimize=True)
    title = tomllib.loads((ROOT / "course.toml").read_text())["course"]["title"]
    print(f"docs/cover.png: {title}, {(ROOT / 'docs/cover.png').stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
