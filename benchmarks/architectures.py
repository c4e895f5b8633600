"""Our networks against those of `keras.applications`: a forward pass, a training step, and building, in CPU seconds.

    python benchmarks/architectures.py
    python benchmarks/architectures.py vgg16 resnet50 --batch 4 --size 224 --repeats 10

Weights are copied from theirs to ours, and the outputs compared, before anything is measured. The two take turns. Build
times are of our networks with their random weights, and without (`architectures.outline`), at the paper's input.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "2")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "2")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from utils import architectures, training

DEFAULT = ["vgg16", "resnet50", "densenet121", "mobilenet", "mobilenet_v2", "mobilenet_v3_large", "xception"]
LARGEST = ["vgg19", "resnet152", "densenet201", "inception_resnet_v2", "densenet_bc250_24"]


def pair(name, size, classes):
    """(ours, Keras's) with the same options and input."""
    entry = architectures.describe(name)
    shape = (size, size, entry.input_shape[-1])
    options = dict(entry.application_options)
    if "conv_bias" in entry.options:
        options["conv_bias"] = True
    ours = architectures.build(name, shape, classes, **options)
    theirs = getattr(keras.applications, entry.application)(
        input_shape=shape, classes=classes, weights=None, classifier_activation=None, **entry.application_arguments
    )
    return ours, theirs


def alternate(functions, repeats):
    """Fewest CPU seconds of each function, called in turns after two calls each that do not count."""
    times = [[] for _ in functions]
    for repeat in range(repeats + 2):
        for function, seconds in zip(functions, times):
            start = time.process_time()
            function()
            if repeat >= 2:
                seconds.append(time.process_time() - start)
    return [min(seconds) for seconds in times]


def compare(name, size, batch, repeats, classes=1000):
    """Row of the table for one network."""
    models = pair(name, size, classes)
    architectures.copy_weights(models[1], models[0])
    x = np.random.default_rng(0).normal(size=(batch, size, size, 3)).astype("float32")
    y = np.arange(batch) % classes
    for model in models:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("sgd", loss, jit_compile=training.jit_compile())
    outputs = [model.predict_on_batch(x) for model in models]
    apart = np.abs(outputs[0] - outputs[1]).max() / np.abs(outputs[1]).max()
    if apart > 1e-3:
        raise SystemExit(f"{name}: the outputs differ by {apart:.1e} of the largest")
    forward = alternate([lambda model=model: model.predict_on_batch(x) for model in models], repeats)
    step = alternate([lambda model=model: model.train_on_batch(x, y) for model in models], repeats)
    return {
        "name": name,
        "forward_ms": 1e3 * forward[0],
        "forward_ratio": forward[0] / forward[1],
        "step_ms": 1e3 * step[0],
        "step_ratio": step[0] / step[1],
    }


def build_seconds(name):
    """(CPU seconds to build with random weights, without weights)."""
    seconds = []
    for build in (architectures.build, architectures.outline):
        keras.utils.clear_session()
        start = time.process_time()
        build(name)
        seconds.append(time.process_time() - start)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", default=DEFAULT)
    parser.add_argument("--size", type=int, default=128, help="side of the images, pixels")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--build", nargs="*", default=LARGEST, help="networks whose build is timed")
    parser.add_argument("--out", type=Path, help="file for the figures, JSON")
    arguments = parser.parse_args()
    rows, builds = [], []
    print(
        f"backend {keras.backend.backend()}, Keras {keras.version()}, batch {arguments.batch} of {arguments.size} "
        "pixels"
    )
    for name in arguments.names:
        row = compare(name, arguments.size, arguments.batch, arguments.repeats)
        print(
            f"{name:20} forward {row['forward_ms']:8.1f} ms, {row['forward_ratio']:.3f} of Keras's; "
            f"step {row['step_ms']:8.1f} ms, {row['step_ratio']:.3f}",
            flush=True,
        )
        rows.append(row)
        keras.utils.clear_session()
    for name in arguments.build:
        seconds, graph = build_seconds(name)
        print(f"{name:20} built in {seconds:.2f} s, {graph:.2f} s without weights", flush=True)
        builds.append({"name": name, "seconds": seconds, "graph_seconds": graph})
    if arguments.out:
        arguments.out.write_text(json.dumps({"rows": rows, "builds": builds}, indent=1) + "\n")


if __name__ == "__main__":
    main()
