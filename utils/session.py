"""How every notebook starts: seeds, deterministic operations, the style of the figures, one line that says what it runs
on.
"""

import os
import platform

import keras

from utils import plots
from utils.startup import quietly


def start(seed=0):
    """Make what follows repeatable, and print one line: backend, device, versions.

    Seeds Python, NumPy and the backend (`keras.utils.set_random_seed`) and asks the backend for deterministic
    operations, so that two runs with the same seed, machine and number of threads give the same numbers. (JAX is
    deterministic on a CPU by itself; on a GPU its switch, `XLA_FLAGS=--xla_gpu_deterministic_ops=true`, must be set
    before Python starts.) Under JAX and PyTorch the GPU is hidden from TensorFlow, which only reads data there and
    would otherwise take the whole memory of the card. The number of threads is left as the environment has it
    (OMP_NUM_THREADS, TF_NUM_INTRAOP_THREADS): threads change the order of sums.

    Args:
        seed: int in [0, 2^32). The same seed gives the same initial weights, shuffles, dropout masks.

    Raises:
        ValueError: the seed is not a whole number in that range.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be a whole number from 0 to 4294967295, got {seed!r}")
    backend = keras.backend.backend()
    if backend != "tensorflow":
        _hide_gpu_from_tensorflow()
    with quietly():
        keras.utils.set_random_seed(seed)
        version, device = _BACKENDS[backend]()
        keras.ops.zeros(1)  # the first operation opens the device
    plots.style()
    print(f"Keras {keras.__version__} on {version}, {device}, Python {platform.python_version()}, seed {seed}")


def _hide_gpu_from_tensorflow():
    try:
        import tensorflow as tf
    except ImportError:
        return
    # Too late once TensorFlow has opened the device; by then the second call of `start` has nothing left to hide.
    if tf.config.get_visible_devices("GPU"):
        tf.config.set_visible_devices([], "GPU")


def _tensorflow():
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    for gpu in tf.config.get_visible_devices("GPU"):
        # The card may be shared with another notebook: take memory as it is needed.
        if not tf.config.experimental.get_memory_growth(gpu):
            tf.config.experimental.set_memory_growth(gpu, True)
    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in gpus]
    threads = tf.config.threading.get_intra_op_parallelism_threads() or int(
        os.environ.get("TF_NUM_INTRAOP_THREADS") or 0
    )
    return f"TensorFlow {tf.__version__}", _device(names, threads or _processors())


def _jax():
    import jax

    names = [device.device_kind for device in jax.devices() if device.platform == "gpu"]
    return f"JAX {jax.__version__}", _device(names)


def _torch():
    import torch

    torch.use_deterministic_algorithms(True, warn_only=True)
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return f"PyTorch {torch.__version__}", _device(names, torch.get_num_threads())


_BACKENDS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}


def _device(gpus, threads=None):
    if gpus:
        return ", ".join(gpus)
    return f"CPU ({threads} thread{'s' if threads != 1 else ''})" if threads else "CPU"


def _processors():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
