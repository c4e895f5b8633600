"""What is held back of the standard error stream at start-up, and what is not. Each case is a process of its own: a
stream is global.
"""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.once

REMARKS = (
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1795260996.003680   24386 port.cc:153] oneDNN custom operations are on.",
    "I0000 00:00:1795260996.319135   24386 cpu_feature_guard.cc:227] This binary is optimized",
)
OTHERS = ("E0000 00:00:1795260996.0 1 cuda.cc:9] no device", "Illegal instruction", "port.cc:153] in the middle")


def run(code, *paths):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=paths[0] if paths else None)


@pytest.mark.parametrize("line", REMARKS)
def test_remarks_written_below_python_are_held_back(line):
    code = (
        f"import os\nfrom utils.startup import quietly\nwith quietly():\n    os.write(2, {(line + chr(10)).encode()!r})"
    )
    assert run(code).stderr == ""


@pytest.mark.parametrize("line", OTHERS)
def test_everything_else_comes_out(line):
    code = (
        f"import os\nfrom utils.startup import quietly\nwith quietly():\n    os.write(2, {(line + chr(10)).encode()!r})"
    )
    assert run(code).stderr == line + "\n"


def test_an_error_inside_passes_and_the_stream_is_as_before():
    code = (
        "import os\nfrom utils.startup import quietly\n"
        "try:\n    with quietly():\n        1 / 0\nexcept ZeroDivisionError:\n    os.write(2, b'after')"
    )
    assert run(code).stderr == "after"


def test_a_module_is_imported_quietly_wherever_its_import_stands(tmp_path):
    (tmp_path / "loud.py").write_text(f"import os\nos.write(2, {(REMARKS[0] + chr(10)).encode()!r})\nanswer = 42\n")
    code = (
        "import sys\nsys.path.insert(0, '.')\nfrom utils.startup import import_quietly\nimport_quietly('loud')\n"
        "before = len(sys.meta_path)\nimport loud\nimport importlib\nprint(loud.answer, before - len(sys.meta_path))\n"
        "importlib.reload(loud)"
    )
    done = run(code, tmp_path)
    assert done.stdout.split() == ["42", "1"]
    assert done.stderr == REMARKS[0] + "\n", "held back at the first import alone"


def test_a_module_that_is_not_there_is_the_usual_error():
    done = run("from utils.startup import import_quietly\nimport_quietly('nowhere')\nimport nowhere")
    assert "ModuleNotFoundError: No module named 'nowhere'" in done.stderr


def test_the_advice_on_retracing_is_left_out_and_other_warnings_are_not():
    code = (
        "import logging, utils\nlog = logging.getLogger('tensorflow')\n"
        "log.warning('5 out of the last %d calls to %s triggered tf.function retracing.', 13, 'f')\nlog.warning('else')"
    )
    assert run(code).stderr == "else\n"
