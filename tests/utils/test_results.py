import json
import math
import subprocess
import sys

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from utils import results

pytestmark = pytest.mark.once


def test_a_notebook_shows_a_table_and_leaves_the_numbers(tmp_path):
    source = "import numpy as np\nfrom utils import results\nresults.record(accuracy=np.float32(.5), macs=15470264320)"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    (output,) = notebook.cells[0].outputs
    assert output.output_type == "display_data"
    assert output.data[results.MIME] == {"accuracy": 0.5, "macs": 15470264320}
    assert output.data["text/plain"] == "accuracy  0.5\nmacs      15,470,264,320"
    assert "<td" in output.data["text/html"] and "15,470,264,320" in output.data["text/html"]


def test_outside_a_notebook_it_prints(capsys):
    results.record(mean_iou=0.81234, steps=np.int64(617))
    assert capsys.readouterr().out == "mean_iou  0.8123\nsteps     617\n"


def test_importing_it_is_light():
    command = "import sys, utils.results; print(any(m in sys.modules for m in ('keras', 'IPython', 'matplotlib')))"
    assert (
        subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout == "False\n"
    )


@pytest.mark.parametrize("value", [np.float16(0.25), np.array(0.25), 0.25])
def test_numpy_scalars_become_numbers_that_json_writes(value):
    number = results._number("x", value)
    assert type(number) is float and json.dumps(number) == "0.25"


@pytest.mark.parametrize("value", ["0.9", True, np.True_, [0.9], np.array([0.9]), None, b"1", 1j])
def test_what_is_not_one_number_is_refused(value):
    with pytest.raises(TypeError, match="metric accuracy: expected one number"):
        results.record(accuracy=value)


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float32("-inf")])
def test_what_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match="metric accuracy: expected a finite number"):
        results.record(accuracy=value)


def test_names_are_identifiers_and_there_is_at_least_one():
    with pytest.raises(ValueError, match="'top-1'"):
        results.record(**{"top-1": 0.5})
    with pytest.raises(TypeError, match="at least one"):
        results.record()


@pytest.mark.parametrize(
    ("value", "text"), [(0.93126, "0.9313"), (41.0, "41"), (123456.7, "123,457"), (1e-7, "1e-07"), (1234, "1,234")]
)
def test_how_numbers_are_written(value, text):
    assert results._format(value) == text


def test_a_floor_is_judged_on_its_own_data_alone(capsys):
    assert results.reaches(0.8, 0.8) is True and results.reaches(np.float32(0.79), 0.8) is False
    assert capsys.readouterr().out == ""
    assert results.reaches(0.1, 0.8, judged=False) is True
    assert "0.1: not judged on other data" in capsys.readouterr().out
