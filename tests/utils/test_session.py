import os
import random
import subprocess
import sys
import types

import keras
import matplotlib as mpl
import numpy as np
import pytest

from utils import session


def draw():
    layer = keras.layers.Dense(3)
    layer.build((None, 4))
    return random.random(), np.random.rand(), np.asarray(layer.kernel)


def test_one_line_names_backend_device_versions(capsys):
    session.start(7)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert out.startswith(f"Keras {keras.__version__} on ") and out.endswith("seed 7\n")
    assert {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}[keras.backend.backend()] in out
    assert "CPU" in out or "GPU" in out or "NVIDIA" in out


def test_the_same_seed_gives_the_same_numbers():
    session.start(3)
    first = draw()
    session.start(3)
    second = draw()
    session.start(4)
    third = draw()
    assert first[:2] == second[:2] and np.array_equal(first[2], second[2])
    assert first[:2] != third[:2] and not np.array_equal(first[2], third[2])


def test_it_sets_the_style():
    mpl.rcParams["axes.spines.top"] = True
    session.start()
    assert mpl.rcParams["axes.spines.top"] is False


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5, "0", True, None])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(ValueError, match="seed must be a whole number"):
        session.start(seed)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX does not tell its number of threads")
def test_it_takes_the_threads_from_the_environment():
    threads = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    command = [sys.executable, "-c", "from utils import session; session.start()"]
    done = subprocess.run(command, env={**os.environ, **threads}, capture_output=True, text=True, check=True)
    assert "CPU (1 thread)" in done.stdout or "GPU" in done.stdout or "NVIDIA" in done.stdout


def test_the_gpu_is_hidden_from_tensorflow_once(monkeypatch):
    """Under JAX and PyTorch, TensorFlow only reads data. The machine of the test may have no GPU, so TensorFlow is a
    stand-in.
    """
    visible, calls = ["GPU:0"], []
    config = types.SimpleNamespace(
        get_visible_devices=lambda kind: list(visible),
        set_visible_devices=lambda devices, kind: (calls.append((devices, kind)), visible.clear()),
    )
    monkeypatch.setitem(sys.modules, "tensorflow", types.SimpleNamespace(config=config))
    session._hide_gpu_from_tensorflow()
    session._hide_gpu_from_tensorflow()
    assert calls == [([], "GPU")]
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # not installed
    session._hide_gpu_from_tensorflow()
