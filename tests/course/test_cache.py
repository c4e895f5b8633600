"""What a result depends on, and what it does not; entries that are damaged, old, or of other text."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from course.execution import cache as module
from course.execution.cache import Cache
from course.manifest import load
from course.notebook import read_notebook
from course.outcome import Result

WITHIN = {
    "utils/__init__.py": "",
    "utils/results.py": "import json\n",
    "utils/plots.py": "from .style import colours\n",
    "utils/style.py": "colours = 1\n",
    "utils/unused.py": "",
    "utils/data/__init__.py": "from . import sources\nfrom .. import results\n",
    "utils/data/sources.py": "def late():\n    from utils.data.loading import load\n",
    "utils/data/loading.py": "",
    "utils/pretrained/__init__.py": "",
    "utils/pretrained/glyphs.npz": "weights",
    "utils/pretrained/glyphs.json": "{}",
    "utils/pretrained/more/shapes.npz": "weights",
    "utils/pretrained/train.py": "import utils.unused\n",
    "utils/architectures/__init__.py": "import importlib\n\ndef build(name):\n    return importlib.import_module('.' + "
    "name, __name__)\n",
    "utils/architectures/vgg.py": "",
    "utils/loop/__init__.py": "from utils.loop import one\n",
    "utils/loop/one.py": "from utils.loop import two\nimport utils.loop.two as again\n",
    "utils/loop/two.py": "from . import one\n",
    "requirements.lock": "numpy==2\n",
}


@pytest.fixture
def course(mini, monkeypatch):
    """The mini course with a `utils` of its own; its first lecture, and a cache."""
    for name in (*module.DATA_FOLDERS, "KERAS_BACKEND"):
        monkeypatch.delenv(name, raising=False)
    for name, content in WITHIN.items():
        path = mini / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    manifest = load(mini)
    notebook = manifest.select(["01/lecture"])[0]
    return mini, notebook, Cache(mini, manifest.profile("smoke"))


def names(root: Path, cache: Cache, *cells: str) -> set[str]:
    found = cache.dependencies(root / "lectures", cells)
    return {path.relative_to(root).as_posix().removeprefix("utils/") for path in found}


@pytest.mark.parametrize(
    ("cell", "files"),
    [
        ("import numpy, utilsx", set()),
        ("import utils.results", {"__init__.py", "results.py"}),
        ("from utils import results", {"__init__.py", "results.py"}),
        ("from utils import plots as p", {"__init__.py", "plots.py", "style.py"}),
        ("from utils.style import colours", {"__init__.py", "style.py"}),
        ("def f():\n    import utils.style", {"__init__.py", "style.py"}),
        ("%matplotlib inline\n!ls\n%time import utils.style", {"__init__.py", "style.py"}),
        ("x = !ls\nimport utils.style", None),
        ("importlib.import_module('utils.style')", {"__init__.py", "style.py"}),
        ("importlib.import_module('utils.' + name)", None),
        (
            "from utils.data import load",
            {"__init__.py", "data/__init__.py", "data/sources.py", "data/loading.py", "results.py"},
        ),
        (
            "from utils.pretrained import load",
            {
                "__init__.py",
                *("pretrained/__init__.py", "pretrained/glyphs.npz", "pretrained/glyphs.json"),
                "pretrained/more/shapes.npz",
            },
        ),
        ("import utils.pretrained.train", "pretrained/train.py unused.py"),
        (
            "from utils.data import *",
            {"__init__.py", "data/__init__.py", "data/sources.py", "data/loading.py", "results.py"},
        ),
        (
            "from utils.architectures import build",
            {"__init__.py", "architectures/__init__.py", "architectures/vgg.py"},
        ),
        ("import utils.loop", {"__init__.py", "loop/__init__.py", "loop/one.py", "loop/two.py"}),
    ],
)
def test_the_files_that_a_cell_imports(course, cell, files):
    root, _, cache = course
    found = names(root, cache, cell)
    if files is None:  # not to be told: everything
        files = {name.removeprefix("utils/") for name in WITHIN if name.startswith("utils/")}
    if isinstance(files, str):
        assert set(files.split()) <= found
    else:
        assert found == files


@pytest.fixture
def known(course):
    """The file of what is imported where, written; the cell and the files that it was written for."""
    root, _, cache = course
    cell = "from utils.data import load"
    files = names(root, cache, cell)
    path = root / "build" / "cache" / "imports.json"
    assert path.is_file()
    return path, cell, files


def test_code_is_parsed_once_for_all_runs(course, known, monkeypatch):
    root, _, cache = course
    path, cell, files = known

    def parsed(*_):
        raise AssertionError("parsed again")

    with monkeypatch.context() as patch:
        patch.setattr(module, "_imported", parsed)
        assert names(root, Cache(root, cache.profile), cell) == files
    (root / "utils" / "data" / "loading.py").write_text("import utils.style\n")
    assert names(root, Cache(root, cache.profile), cell) == files | {"style.py"}
    written = path.stat().st_mtime_ns
    names(root, Cache(root, cache.profile), cell)
    assert path.stat().st_mtime_ns == written, "nothing is new"


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b'{"rules": "RULES", "known": {"x": 1}}', b'{"known": {}}'])
def test_damaged_notes_of_imports_are_made_anew(course, known, content):
    root, _, cache = course
    path, cell, files = known
    good = json.loads(path.read_bytes())
    path.write_bytes(content.replace(b"RULES", good["rules"].encode()))
    assert names(root, Cache(root, cache.profile), cell) == files
    assert json.loads(path.read_bytes()) == good


def test_notes_of_imports_by_other_rules_do_not_count(course, known):
    root, _, cache = course
    path, cell, files = known
    other = json.loads(path.read_bytes())
    path.write_text(json.dumps({"rules": "older", "known": {digest: [] for digest in other["known"]}}))
    assert names(root, Cache(root, cache.profile), cell) == files


def test_notes_of_imports_that_cannot_be_written_cost_nothing_but_time(course, known):
    root, _, cache = course
    path, cell, files = known
    path.unlink()
    path.mkdir()
    assert names(root, Cache(root, cache.profile), cell) == files


def test_notes_of_imports_do_not_grow_for_ever(course, known, monkeypatch):
    root, _, cache = course
    path = known[0]
    monkeypatch.setattr(module._Imports, "MOST", 3)
    names(root, Cache(root, cache.profile), "import utils.style")
    assert len(json.loads(path.read_bytes())["known"]) == 3, "the cell, and two files"


def test_a_file_beside_the_notebook_comes_first(course):
    root, _, cache = course
    (root / "lectures" / "style.py").write_text("import utils.results\n")
    assert names(root, cache, "import style") == {"lectures/style.py", "__init__.py", "results.py"}


# ------------------------------------------------------------------------------------------------------------ keys


def edit(notebook, change) -> None:
    document = read_notebook(notebook.path)
    change(document["cells"])
    notebook.path.write_text(json.dumps(document))


def code_cells(cells: list[dict]) -> list[dict]:
    return [cell for cell in cells if cell["cell_type"] == "code"]


def key(root: Path, notebook, parameters=None, **profile) -> str:
    chosen = replace(load(root).profile("smoke"), **profile)
    return Cache(root, chosen).key(notebook, {"repeats": 2} if parameters is None else parameters).name


def use(root: Path, notebook) -> None:
    """Let the lecture import what it needs for the cases below."""
    edit(notebook, lambda cells: code_cells(cells)[-1].update(source="from utils import plots, pretrained\ntotal"))


def touch(path: Path, content: str = "other") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


CHANGES = {
    "code": lambda root, nb, _: edit(nb, lambda cells: code_cells(cells)[-1].update(source="import utils.plots\n1")),
    "a cell less": lambda root, nb, _: edit(nb, lambda cells: cells.remove(code_cells(cells)[3])),
    "a telling tag": lambda root, nb, _: edit(
        nb, lambda cells: code_cells(cells)[3].update(metadata={"tags": ["raises-exception"]})
    ),
    "an imported file": lambda root, nb, _: touch(root / "utils/plots.py"),
    "a file that an imported file imports": lambda root, nb, _: touch(root / "utils/style.py"),
    "weights": lambda root, nb, _: touch(root / "utils/pretrained/glyphs.npz", "WEIGHTS"),
    "new weights": lambda root, nb, _: touch(root / "utils/pretrained/other.npz"),
    "the lock": lambda root, nb, _: touch(root / "requirements.lock"),
    "the backend": lambda root, nb, patch: patch.setenv("KERAS_BACKEND", "jax"),
    "another version": lambda root, nb, patch: patch.setattr(module, "_versions", lambda: {"python": "4"}),
    "an archive": lambda root, nb, _: touch(root / "archives/more.zip"),
    "an archive of the same name and size": lambda root, nb, _: os.utime(root / "archives/clothing.zip", (1, 1)),
    "weights of Keras": lambda root, nb, _: touch(root / "home/models/vgg.h5"),
    "another folder of archives": lambda root, nb, patch: patch.setenv("COURSE_DATA", str(root / "utils")),
}
NOTHING = {
    "nothing": lambda root, nb, _: None,
    "text": lambda root, nb, _: edit(nb, lambda cells: cells[0].update(source="# New title")),
    "a tag for people": lambda root, nb, _: edit(
        nb, lambda cells: code_cells(cells)[3].update(metadata={"tags": ["thumbnail"]})
    ),
    "outputs": lambda root, nb, _: edit(nb, lambda cells: code_cells(cells)[3].update(outputs=[])),
    "a file that is not imported": lambda root, nb, _: touch(root / "utils/unused.py"),
    "bytecode": lambda root, nb, _: touch(root / "utils/pretrained/__pycache__/x.pyc"),
    "time of a source": lambda root, nb, _: os.utime(root / "utils/plots.py", (1, 1)),
}


@pytest.mark.parametrize("name", [*CHANGES, *NOTHING])
def test_the_key_changes_with_what_the_result_depends_on_and_with_nothing_else(course, monkeypatch, name):
    root, notebook, _ = course
    use(root, notebook)
    touch(root / "archives/clothing.zip")
    touch(root / "home/keras.json")
    monkeypatch.setenv("COURSE_DATA", str(root / "archives"))
    monkeypatch.setenv("KERAS_HOME", str(root / "home"))
    before = key(root, notebook)
    {**CHANGES, **NOTHING}[name](root, notebook, monkeypatch)
    assert (key(root, notebook) != before) == (name in CHANGES)


def test_the_key_changes_with_parameters_and_threads(course):
    root, notebook, _ = course
    keys = [key(root, notebook), key(root, notebook, {"repeats": 3}), key(root, notebook, {})]
    keys += [key(root, notebook, {"repeats": 2.0}), key(root, notebook, threads=7)]
    assert len(set(keys)) == 5
    assert key(root, notebook, about="other words", jobs=9) == keys[0]


def test_a_folder_given_as_a_parameter_counts_with_its_files(course, tmp_path):
    root, notebook, _ = course
    pictures = {"source": str(tmp_path / "pictures")}
    before = key(root, notebook, pictures)
    touch(tmp_path / "pictures" / "cat" / "1.png")
    assert key(root, notebook, pictures) != before
    assert key(root, notebook, {"source": "x" * 5000}) != key(root, notebook, {"source": "\0"})


def test_what_the_run_itself_downloads_changes_only_the_key_of_the_data(course, monkeypatch):
    root, notebook, cache = course
    monkeypatch.setenv("KERAS_HOME", str(root / "home"))
    before = cache.key(notebook, {})
    touch(root / "home/models/vgg.h5")
    after = cache.key(notebook, {})
    assert after.content == before.content and after.data != before.data and after.name != before.name


# --------------------------------------------------------------------------------------------------------- entries


def executed(notebook, parameters: bool = True) -> dict:
    """As papermill leaves it."""
    document = json.loads(notebook.path.read_text())
    for number, cell in enumerate(code_cells(document["cells"])):
        printed = {"output_type": "stream", "name": "stdout", "text": [f"output {number}\n"]}
        cell.update(outputs=[printed], execution_count=number + 1)
        cell["metadata"]["papermill"] = {"status": "completed"}
    if parameters:
        place = next(i for i, cell in enumerate(document["cells"]) if "parameters" in cell["metadata"].get("tags", []))
        injected = {"cell_type": "code", "id": "injected", "metadata": {"tags": ["injected-parameters"]}}
        injected |= {"source": ["repeats = 2"], "outputs": [], "execution_count": 99}
        document["cells"].insert(place + 1, injected)
    return document


def as_bytes(document: dict) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()


@pytest.fixture
def stored(course):
    root, notebook, cache = course
    result = Result(str(notebook.path), "passed", metrics={"total": 6.0}, cpu_seconds=3.0)
    document = executed(notebook)
    name = cache.key(notebook, {})
    cache.put(notebook, name, result, as_bytes(document), 1000.0)
    (entry,) = (root / "build" / "cache" / "runs").rglob("*.json")
    return root, notebook, cache, name, document, entry


def test_what_is_put_is_got(stored):
    _, notebook, cache, name, document, _ = stored
    entry = cache.get(notebook, name)
    assert entry.notebook == as_bytes(document)
    assert (entry.result.metrics, entry.result.cpu_seconds, entry.when) == ({"total": 6.0}, 3.0, 1000.0)
    assert cache.get(notebook, replace(name, content="other")) is None
    assert cache.get(load(stored[0]).select(["01/solution"])[0], name) is None


def test_an_entry_found_has_the_text_of_today(stored):
    _, notebook, cache, name, document, _ = stored

    def change(cells):
        cells[0]["source"] = "# New title"
        code_cells(cells)[3]["metadata"]["tags"] = ["thumbnail"]
        cells.insert(4, {"cell_type": "markdown", "id": "new", "metadata": {}, "source": "new text"})

    edit(notebook, change)
    found = json.loads(cache.get(notebook, name).notebook)["cells"]
    assert found[0]["source"] == "# New title"
    assert "new text" in [cell["source"] for cell in found]
    assert len(found) == len(document["cells"]) + 1
    ran = code_cells(found)
    assert [cell["execution_count"] for cell in ran] == [1, 2, 99, 3, 4, 5, 6]
    assert ran[2]["id"] == "injected" and found.index(ran[2]) == found.index(ran[1]) + 1
    assert ran[4]["metadata"] == {"tags": ["thumbnail"], "papermill": {"status": "completed"}}


@pytest.mark.parametrize("status", ["failed", "timeout", "died", "flooded", "cancelled"])
def test_only_successes_are_stored(course, status):
    root, notebook, cache = course
    cache.put(notebook, cache.key(notebook, {}), Result("", status), as_bytes(executed(notebook)), 0.0)
    assert not (root / "build" / "cache" / "runs").exists()


DAMAGE = {
    "cut off": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "one byte other": lambda data: data[:-20] + bytes([data[-20] ^ 1]) + data[-19:],
    "not text": lambda data: b"\xff\xfe" + data,
    "no JSON": lambda data: digest(b"{"),
    "another JSON": lambda data: digest(b"[]"),
    "an older form": lambda data: digest(
        b'{"result": {"notebook": "x", "status": "passed", "old": 1}, "notebook": {}, "when": 1}'
    ),
    "without cells": lambda data: digest(
        b'{"result": {"notebook": "x", "status": "passed"}, "notebook": {}, "when": 1}'
    ),
}


def digest(body: bytes) -> bytes:
    import hashlib

    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_entry_is_none(stored, name):
    _, notebook, cache, found, _, path = stored
    path.write_bytes(DAMAGE[name](path.read_bytes()))
    assert cache.get(notebook, found) is None
    cache.put(notebook, found, Result("", "passed"), as_bytes(executed(notebook)), 0.0)
    assert cache.get(notebook, found) is not None


def test_an_entry_that_cannot_be_opened_is_none(stored):
    _, notebook, cache, found, _, path = stored
    path.unlink()
    path.mkdir()
    assert cache.get(notebook, found) is None


def test_an_entry_whose_code_is_another_is_none(stored):
    _, notebook, cache, found, *_ = stored
    edit(notebook, lambda cells: cells.append({"cell_type": "code", "metadata": {}, "source": "1", "id": "x"}))
    assert cache.get(notebook, found) is None
    edit(notebook, lambda cells: (cells.pop(), cells.remove(code_cells(cells)[-1])))
    assert cache.get(notebook, found) is None


def test_the_newest_three_are_kept_and_use_makes_new(stored):
    _, notebook, cache, first, document, path = stored
    for number in range(5):
        for entry in path.parent.iterdir():
            os.utime(entry, (entry.stat().st_mtime - 100,) * 2)
        os.utime(path, (1, 1))
        assert cache.get(notebook, first) is not None, "it has just been used"
        cache.put(notebook, replace(first, data=str(number)), Result("", "passed"), as_bytes(document), 0.0)
    assert len(list(path.parent.iterdir())) == module.KEPT
    assert cache.get(notebook, replace(first, data="4")) is not None
    assert cache.get(notebook, replace(first, data="0")) is None
