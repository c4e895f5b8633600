"""Notebooks on folders as strangers have them, from the first cell to the last, with nothing set but the folder.

The whole table takes half an hour: `make folders`. `make test` runs two of it.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from strangers import folder, many_classes

ROOT = Path(__file__).resolve().parents[1]

FOLDERS = {
    "classes, train and val": {"layout": "classes"},
    "classes, 12 each": {"layout": "classes", "splits": "whole", "count": 12},
    "classes, grey and tiny, one split": {
        "layout": "classes", "splits": "one", "count": 12, "grey": True, "size": (14, 10),
    },
    "classes, large, of many sizes": {"layout": "classes", "count": 30, "size": (200, 260), "sizes_differ": True},
    "pairs, train and val": {"layout": "pairs"},
    "pairs, grey, one split, of many sizes": {
        "layout": "pairs", "splits": "one", "count": 12, "grey": True, "sizes_differ": True,
    },
    "coco, train and val": {"layout": "coco"},
    "coco, not split": {"layout": "coco", "splits": "whole", "count": 12},
    "voc, train and val": {"layout": "voc"},
}  # fmt: skip
LABELS = {
    "02/lecture": ["dataset"],
    "02/solution": ["dataset"],
    "03/lecture": ["digits", "pictures"],
    "03/solution": ["dataset"],
    "04/lecture": ["pictures"],
    "04/solution": ["pictures"],
    "06/lecture": ["target", "distant"],
    "06/solution": ["target"],
}
MASKS = {"07/lecture": ["source", "rare"], "07/solution": ["source"]}
BOXES = {
    "08/lecture": ["source"],
    "08/solution": ["source"],
    "09/lecture": ["source"],
    "09/solution": ["source"],
    "10/lecture": ["source"],
    "10/solution": ["source"],
}
OUTLINES = {"11/lecture": ["source"], "11/solution": ["source"]}
QUICK = {("02/solution", "classes, 12 each"), ("06/solution", "classes, grey and tiny, one split")}


def cases():
    served = ((LABELS, ("classes",)), (MASKS, ("pairs", "coco")), (BOXES, ("coco", "voc")), (OUTLINES, ("coco",)))
    for notebooks, layouts in served:
        for notebook, parameters in notebooks.items():
            for kind, options in FOLDERS.items():
                if options["layout"] in layouts:
                    quick = (notebook, kind) in QUICK
                    yield pytest.param(notebook, parameters, kind, marks=[] if quick else pytest.mark.folders)


def course_run(notebook, parameters, where, tmp_path):
    """(exit status, what was printed, the notebook's result) of `course run` in smoke."""
    given = [part for name in parameters for part in ("-p", name, str(where))]
    command = [sys.executable, "-m", "course", "run", notebook, "--profile", "smoke", *given, "--fresh"]
    done = subprocess.run(
        [*command, "--junit", str(tmp_path / "junit.xml")], capture_output=True, text=True, cwd=ROOT, check=False
    )
    number, kind = notebook.split("/")
    (result,) = (ROOT / "build" / "run" / "smoke" / f"{kind}s").glob(f"{number}_*.json")
    return done.returncode, done.stdout + done.stderr, json.loads(result.read_text())


@pytest.mark.parametrize(("notebook", "parameters", "kind"), cases())
def test_a_notebook_reaches_its_end_on_a_strangers_folder(notebook, parameters, kind, tmp_path):
    where = folder(tmp_path / "own", **FOLDERS[kind])
    status, told, result = course_run(notebook, parameters, where, tmp_path)
    assert status == 0 and result["status"] == "passed", told[-3000:]
    assert "not judged on other data" in " ".join(told.split())


@pytest.mark.folders
@pytest.mark.parametrize("notebook", [*BOXES, *OUTLINES])
def test_a_folder_cut_from_coco_trains_and_is_evaluated(notebook, tmp_path):
    status, told, result = course_run(notebook, ["source"], many_classes(tmp_path / "own"), tmp_path)
    assert status == 0 and result["status"] == "passed", told[-3000:]


@pytest.mark.folders
@pytest.mark.parametrize(
    ("notebook", "parameter", "kind", "words"),
    [
        ("02/solution", "dataset", "pairs, train and val", "this notebook needs one label for each image"),
        ("03/lecture", "pictures", "coco, train and val", "this notebook needs one label for each image"),
        ("06/lecture", "target", "voc, train and val", "this notebook needs one label for each image"),
        ("07/solution", "source", "voc, train and val", "this notebook needs masks"),
        ("07/lecture", "source", "classes, train and val", "this notebook needs masks"),
        ("08/lecture", "source", "classes, train and val", "this notebook needs boxes"),
        ("08/solution", "source", "pairs, train and val", "this notebook needs boxes"),
        ("09/lecture", "source", "classes, train and val", "this notebook needs boxes"),
        ("10/lecture", "source", "classes, train and val", "this notebook needs boxes"),
        ("11/lecture", "source", "pairs, train and val", "this notebook needs boxes"),
        ("11/solution", "source", "voc, train and val", "this notebook needs a mask for each object"),
    ],
)
def test_a_folder_that_a_notebook_cannot_serve_is_told_in_one_line(notebook, parameter, kind, words, tmp_path):
    where = folder(tmp_path / "own", **FOLDERS[kind])
    status, told, result = course_run(notebook, [parameter], where, tmp_path)
    assert status == 1 and result["error"]["value"].startswith(words) and "\n" not in result["error"]["value"], told
