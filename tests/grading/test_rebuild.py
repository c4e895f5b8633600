"""What is taken out of a file: the answers, by id or by place; and what is told about everything else."""

import json
import os

import pytest

from course.grading import rebuild
from course.grading.release import Release

ADD = "def add(a, b):\n    return a + b\n"
DOUBLE = "def double(a):\n    return add(a, a)\n"


@pytest.fixture(scope="module")
def release(manifest, lab):
    return Release(manifest, lab)


@pytest.fixture
def read(release, tmp_path):
    def read(content, name="ada"):
        path = tmp_path / "submission.ipynb"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return rebuild.read(path, name, release, {"02_other": ["pool", "network", "dropout"]})

    return read


def cell_of(notebook, name, key="gap"):
    return next(cell for cell in notebook["cells"] if cell["metadata"].get(key) == name)


def test_answers_are_taken_by_their_ids(read, solved):
    submission = read(solved)
    assert submission.answers == {"add": ADD, "double": DOUBLE}
    assert submission.problem is None and submission.notes == [] and submission.gap_notes == {}


def test_an_untouched_lab_has_no_answer_and_no_warning(read, notebook):
    submission = read(notebook)
    assert submission.answers == {} and submission.untouched == ["add", "double"]
    assert submission.notes == [] and submission.gap_notes == {}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"PK\x03\x04 not a notebook", "archive"),
        (b"\x1f\x8b\x08", "archive"),
        (b"\xff\xfe{\x00", "not UTF-8"),
        (b"\x80\x81", "not UTF-8"),
        (b"print('hello')", "JSON is expected"),
        (b'{"cells": [', "JSON is expected"),
        (b"[" * 100_000, "nested deeper"),
        (b"[1, 2]", "without cells"),
        (b'{"cells": {}}', "without cells"),
        (b"null", "without cells"),
        (b'{"worksheets": [{"cells": []}], "nbformat": 3}', "nbformat 3"),
    ],
)
def test_what_is_no_notebook_is_told_in_one_line(read, content, problem):
    submission = read(content)
    assert problem in submission.problem and "\n" not in submission.problem
    assert submission.answers == {}


def test_a_notebook_without_cells_lacks_every_answer(read):
    submission = read({"cells": [], "nbformat": 4})
    assert submission.problem is None and submission.answers == {}
    assert "missing" in submission.gap_notes["add"][0]


def test_another_labs_notebook_is_recognised(read):
    cells = [{"cell_type": "code", "source": "x = 1", "metadata": {"gap": name}} for name in ("pool", "network")]
    assert "lab 02_other" in read({"cells": cells}).problem


def test_links_pipes_and_huge_files_are_not_opened(release, tmp_path, solved, monkeypatch):
    target = tmp_path / "real.ipynb"
    target.write_text(json.dumps(solved))
    (tmp_path / "link.ipynb").symlink_to(target)
    os.mkfifo(tmp_path / "pipe.ipynb")
    assert "link" in rebuild.read(tmp_path / "link.ipynb", "a", release).problem
    assert "not a file" in rebuild.read(tmp_path / "pipe.ipynb", "a", release).problem
    monkeypatch.setattr(rebuild, "LARGEST", 100)
    assert "clear the outputs" in rebuild.read(target, "a", release).problem
    assert "cannot be read" in rebuild.read(tmp_path / "nobody.ipynb", "a", release).problem


def test_colab_and_nbformat_4_0_have_no_ids(read, solved):
    for cell in solved["cells"]:
        cell.pop("id", None)
    assert read(solved).answers == {"add": ADD, "double": DOUBLE}


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(read, solved):
    text = json.dumps(solved).replace("return a + b\\n", "return a + b\\r\\n")
    assert read("\ufeff" + text).answers["add"] == ADD


def test_outputs_and_attachments_are_passed_over(read, solved):
    cell_of(solved, "add")["outputs"] = [{"output_type": "stream", "text": "x" * 3_000_000}, "nonsense"]
    solved["cells"][0]["attachments"] = {"image.png": {"image/png": "A" * 1_000_000}}
    assert read(solved).answers["add"] == ADD


def test_an_answer_without_id_is_found_by_what_it_defines(read, solved):
    cell = cell_of(solved, "add")
    cell["metadata"], cell["id"] = {}, "0123456789ab"
    submission = read(solved)
    assert submission.answers["add"] == ADD
    assert "missing" in submission.gap_notes["add"][0] and "defines the same names" in submission.gap_notes["add"][0]


def test_an_answer_retyped_beside_its_untouched_cell_is_found(read, notebook):
    notebook["cells"].append({"cell_type": "code", "source": ADD, "metadata": {}})
    submission = read(notebook)
    assert submission.answers == {"add": ADD} and "left as it was" in submission.gap_notes["add"][0]


def test_a_missing_answer_is_told(read, solved):
    solved["cells"].remove(cell_of(solved, "add"))
    submission = read(solved)
    assert "add" not in submission.answers and "missing" in submission.gap_notes["add"][0]


def test_of_doubled_cells_the_last_that_was_changed_counts(read, notebook, solved):
    solved["cells"].append(json.loads(json.dumps(cell_of(notebook, "add"))))  # the stub, copied to the end
    submission = read(solved)
    assert submission.answers["add"] == ADD and "2 cells" in submission.gap_notes["add"][0]
    solved["cells"].append({**cell_of(solved, "add"), "source": "def add(a, b):\n    return 0\n"})
    assert "return 0" in read(solved).answers["add"]


def test_a_copied_check_is_no_answer(read, solved):
    check = cell_of(solved, "add", "check")
    solved["cells"].append(json.loads(json.dumps(check)))
    assert read(solved).answers["add"] == ADD


def test_moved_cells_are_told(read, solved):
    solved["cells"].reverse()
    submission = read(solved)
    assert submission.answers == {"add": ADD, "double": DOUBLE}
    assert any("another order" in note for note in submission.notes)


def test_changed_and_missing_checks_are_told(read, solved):
    cell_of(solved, "add", "check")["source"] = "assert True"
    assert any("changed checks" in note and "add-check" in note for note in read(solved).notes)
    solved["cells"].remove(cell_of(solved, "add", "check"))
    assert any("missing checks" in note for note in read(solved).notes)


def test_a_check_turned_into_text_is_told(read, solved):
    check = cell_of(solved, "add", "check")
    check.update(cell_type="markdown", source="# gone")
    assert any("changed checks" in note for note in read(solved).notes)


def test_an_answer_turned_into_text_is_none(read, solved):
    cell_of(solved, "add")["cell_type"] = "markdown"
    submission = read(solved)
    assert "add" not in submission.answers and "no code cell" in submission.gap_notes["add"][0]


def test_cells_of_the_students_own_are_told(read, solved):
    solved["cells"].insert(3, {"cell_type": "code", "source": "helper = 3", "metadata": {}})
    assert any("cells of your own" in note and "4" in note for note in read(solved).notes)


@pytest.mark.parametrize(
    ("source", "note"),
    [
        ("def add(a, b)\n    return a + b", "no Python"),
        ("def add(a, b):\n\treturn a\n        return b", "no Python"),
        ("a\x00b", "Python"),
        ("%timeit 1\n!pip install torch\n" + ADD, "IPython"),
        ("%%time\n" + ADD, "IPython"),
        ("name = input()\n" + ADD, "input()"),
        ("def plus(a, b):\n    return a + b", "does not define add"),
        ("", "does not define add"),
    ],
)
def test_what_is_odd_in_an_answer_is_told(read, solved, source, note):
    cell_of(solved, "add")["source"] = source
    submission = read(solved)
    assert any(note in told for told in submission.gap_notes["add"])


def test_an_endless_answer_is_not_run(read, solved):
    cell_of(solved, "add")["source"] = "x = 1\n" * 100_000
    assert "add" not in read(solved).answers


def test_a_deep_answer_does_no_harm(read, solved):
    cell_of(solved, "add")["source"] = "x = " + "(" * 5000 + ")" * 5000
    assert any("Python" in told for told in read(solved).gap_notes["add"])


@pytest.mark.parametrize("cell", [7, None, [], {"source": 3}, {"source": {"a": 1}}])
def test_cells_that_are_none_are_left_out(read, solved, cell):
    solved["cells"].insert(0, cell)
    submission = read(solved)
    assert submission.answers["add"] == ADD and any("no cell" in note for note in submission.notes)


@pytest.mark.parametrize("metadata", [None, 3, {"nbgrader": 7}, {"nbgrader": {"grade_id": ["x"]}}, {"tags": 3}])
def test_odd_metadata_does_no_harm(read, solved, metadata):
    solved["cells"].insert(0, {"cell_type": "code", "source": "1", "metadata": metadata})
    assert read(solved).answers["add"] == ADD


def test_sources_may_be_lists(read, solved):
    cell_of(solved, "add")["source"] = ADD.splitlines(keepends=True)
    assert read(solved).answers["add"] == ADD


def test_half_a_surrogate_does_no_harm(read, solved):
    text = json.dumps(solved).replace("return a + b", "return a + b  # \\ud800")
    assert "?" in read(text).answers["add"]


def test_an_older_release_is_told(read, solved):
    solved["cells"][0]["source"] = (
        "[badge](https://colab.research.google.com/github/example/course/blob/v0/labs/01.ipynb)"
    )
    assert any("made from release v0" in note for note in read(solved).notes)


def test_an_open_question_is_kept_for_a_person(read, solved):
    cell_of(solved, "order", "question")["source"] = "Because it commutes."
    assert read(solved).questions == {"order": "Because it commutes."}


def test_the_rebuilt_notebook_is_the_lab_with_the_answers_and_no_outputs(release, read, solved):
    cell_of(solved, "add", "check")["source"] = "assert True"
    solved["cells"].append({"cell_type": "code", "source": "import os", "metadata": {}})
    rebuilt = rebuild.rebuilt(release, read(solved).answers)
    assert cell_of(rebuilt, "add")["source"] == ADD
    assert "assert add(2, 3) == 5" in cell_of(rebuilt, "add", "check")["source"]
    assert "range(most)" not in json.dumps(rebuilt), "the hidden tests stay hidden"
    assert not any("import os" in cell["source"] for cell in rebuilt["cells"])
    assert all(cell["outputs"] == [] for cell in rebuilt["cells"] if cell["cell_type"] == "code")
