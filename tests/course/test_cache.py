"""What a result depends on, and what it does not; entries that are damaged, old, or of other text."""

import importlib.metadata
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from course.execution import cache as module
from course.execution.cache import Cache
from course.execution.worker import Request, spawn
from course.execution.worker import digest as digest_of
from course.manifest import load
from course.notebook import read_notebook
from course.outcome import Result

WITHIN = {
    "utils/__init__.py": "",
    "utils/plots.py": "from .style import colours\n",
    "utils/style.py": "colours = 1\n",
    "utils/unused.py": "",
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


def touch(path: Path, content: str = "other") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


CHANGES = {
    "code": lambda root, nb, _: edit(nb, lambda cells: code_cells(cells)[-1].update(source="import utils.plots\n1")),
    "a cell less": lambda root, nb, _: edit(nb, lambda cells: cells.remove(code_cells(cells)[3])),
    "a telling tag": lambda root, nb, _: edit(
        nb, lambda cells: code_cells(cells)[3].update(metadata={"tags": ["raises-exception"]})
    ),
    "a module beside it": lambda root, nb, _: touch(root / "lectures/style.py"),
    "a file named by a parameter's default": lambda root, nb, _: touch(root / "lectures/sum", "more"),
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
    "a file that only the kernel knows of": lambda root, nb, _: touch(root / "utils/plots.py"),
}


@pytest.mark.parametrize("name", [*CHANGES, *NOTHING])
def test_the_key_changes_with_what_the_result_depends_on_and_with_nothing_else(course, monkeypatch, name):
    root, notebook, _ = course
    touch(root / "lectures/sum", "x")
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


@pytest.mark.parametrize(
    ("code", "same"),
    [
        ("import tools\n\nx = tools.f(\n    1,\n)  # a comment", True),
        ("import tools\nx = tools.f(2)", False),
        ("import tools\nx = tools.f(1)\n%matplotlib inline", False),
        ("import tools\nx = tools.f(1)\n!pip install one", False),
    ],
)
def test_line_breaks_and_comments_change_the_content_and_not_its_meaning(course, code, same):
    _, notebook, cache = course
    cells = json.loads(notebook.path.read_text())

    def keyed(*sources):
        made = [{**next(c for c in cells["cells"] if c["cell_type"] == "code"), "source": text} for text in sources]
        notebook.path.write_text(json.dumps({**cells, "cells": made}))
        return cache.key(notebook, {})

    plain, other, split = keyed("import tools\nx = tools.f(1)"), keyed(code), keyed("import tools", "x = tools.f(1)")
    assert other.content != plain.content and (other.meaning == plain.meaning) == same
    assert (cache.content(other, []) == cache.content(split, [])) == same


def test_tags_that_change_what_is_executed_are_part_of_the_meaning(course):
    _, notebook, cache = course
    before = cache.key(notebook, {})
    document = json.loads(notebook.path.read_text())
    next(c for c in document["cells"] if c["cell_type"] == "code")["metadata"]["tags"] = ["skip-execution"]
    notebook.path.write_text(json.dumps(document))
    assert cache.key(notebook, {}).meaning != before.meaning


def test_lines_of_ipython_count_as_they_are(course):
    _, notebook, cache = course
    document, found = json.loads(notebook.path.read_text()), set()
    for line in ("!pip install one", "!pip install two", "%env X=1", "%env X=2"):
        next(c for c in document["cells"] if c["cell_type"] == "code")["source"] = f"x = 1\n{line}"
        notebook.path.write_text(json.dumps(document))
        found.add(cache.key(notebook, {}).meaning)
    assert len(found) == 4


def test_only_the_backend_in_use_counts(course, monkeypatch):
    root, notebook, _ = course
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    before = key(root, notebook)
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99" if name == "torch" else real(name))
    assert key(root, notebook) == before
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with_torch = key(root, notebook)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "98" if name == "torch" else real(name))
    assert key(root, notebook) != with_torch
    of_tensorflow = lambda name: "97" if name.startswith("tensorflow") else real(name)  # noqa: E731
    reads_data = key(root, notebook)
    monkeypatch.setattr(importlib.metadata, "version", of_tensorflow)
    assert key(root, notebook) != reads_data, "TensorFlow reads the data under every backend"


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
        assert cache.get(notebook, first) is not None, "it has just been used"
        cache.put(notebook, replace(first, data=str(number)), Result("", "passed"), as_bytes(document), 0.0)
    assert len(list(path.parent.iterdir())) == module.KEPT
    assert cache.get(notebook, replace(first, data="4")) is not None
    assert cache.get(notebook, replace(first, data="0")) is None


def test_a_clock_that_is_set_back_does_not_drop_what_is_new(stored, monkeypatch):
    _, notebook, cache, first, document, _ = stored
    monkeypatch.setattr(module.time, "time_ns", lambda: 10**9)
    for number in range(5):
        new = replace(first, data=str(number))
        cache.put(notebook, new, Result("", "passed"), as_bytes(document), 0.0)
        assert cache.get(notebook, new) is not None


# ------------------------------------------------------------------------------------ what the kernel says that it read


def test_an_entry_serves_while_the_files_are_what_they_were(course, tmp_path):
    root, notebook, cache = course
    table = tmp_path / "table.csv"
    name, document = cache.key(notebook, {}), as_bytes(executed(notebook))

    def put():
        files = {str(path): digest_of(path) for path in (table, tmp_path)}
        cache.put(notebook, name, Result("", "passed", files=files), document, 0.0)

    touch(table, "1,2")
    put()
    assert Cache(root, cache.profile).get(notebook, name) is not None
    os.utime(table, (1, 1))
    assert cache.get(notebook, name) is None, "the folder's listing tells times"
    put()
    touch(table, "1,3")
    assert cache.get(notebook, name) is None
    touch(table, "1,2")
    os.utime(table, (1, 1))
    assert cache.get(notebook, name) is not None
    table.unlink()
    assert cache.get(notebook, name) is None


def test_two_versions_of_a_file_have_an_entry_each(course, tmp_path):
    _, notebook, cache = course
    name, document = cache.key(notebook, {}), as_bytes(executed(notebook))
    for content in ("one", "two"):
        touch(tmp_path / "x", content)
        files = {str(tmp_path / "x"): digest_of(tmp_path / "x")}
        cache.put(notebook, name, Result("", "passed", files=files, metrics={content: 1.0}), document, 0.0)
    for content in ("one", "two"):
        touch(tmp_path / "x", content)
        assert cache.get(notebook, name).result.metrics == {content: 1.0}


READS = {
    "lectures/table.csv": "open('table.csv').read()",
    "lectures/deep/list.txt": "import os\nos.listdir('deep')",
    "lectures/script.py": "%run script.py",
    "lectures/beside.py": "import beside",
    "elsewhere/far.py": "import sys\nsys.path.append('../elsewhere')\nimport far",
    "lectures/package/part.py": "import importlib\nimportlib.import_module('.part', 'package')",
    "lectures/named.py": "load = __import__('importlib').import_module\nload('na' + 'med')",
}


def test_the_kernel_tells_what_the_notebook_reads(tmp_path):
    """Each kind of reading that no parser of the code would find."""
    for name in READS:
        touch(tmp_path / name, "x = 1\n")
    touch(tmp_path / "lectures/package/__init__.py", "")
    touch(tmp_path / "lectures/not_read.py", "")
    own = (
        "open('own', 'w').write('x')\nopen('own').read()\nimport tempfile\nopen(tempfile.mkdtemp() + '/x', 'w').close()"
    )
    cells = [
        {"cell_type": "code", "id": f"c{n}", "metadata": {}, "source": source, "outputs": [], "execution_count": None}
        for n, source in enumerate([*READS.values(), own])
    ]
    path = tmp_path / "lectures" / "x.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    result, _ = spawn(Request(str(path), threads=1))
    assert result.status == "passed", result.error
    assert all(result.files.values()), "each has its digest"
    read = {os.path.relpath(name, tmp_path) for name in result.files}
    expected = {name if "deep" not in name else "lectures/deep" for name in READS}
    assert expected <= read
    assert read - expected <= {"lectures/package", "lectures/package/__init__.py", "elsewhere"}
    cache = Cache(tmp_path, None)
    for name in READS:
        before, times = (tmp_path / name).read_text(), (tmp_path / name).stat()
        assert Cache(tmp_path, None).serves(result.files)
        touch(tmp_path / name, "x = 2222\n")
        assert not cache.serves(result.files), name
        touch(tmp_path / name, before)
        os.utime(tmp_path / name, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_file_that_changes_while_it_is_used_serves_nothing(tmp_path):
    touch(tmp_path / "table.csv", "1")
    source = "import os\nopen('table.csv').read()"
    later = "import subprocess\nsubprocess.run('echo 22 > table.csv', shell=True).returncode"
    cells = [
        {"cell_type": "code", "id": f"c{n}", "metadata": {}, "source": each, "outputs": [], "execution_count": None}
        for n, each in enumerate([source, later])
    ]
    path = tmp_path / "x.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    result, _ = spawn(Request(str(path), threads=1))
    assert result.files == {str(tmp_path / "table.csv"): ""}
    assert not Cache(tmp_path, None).serves(result.files)
