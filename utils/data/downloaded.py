"""Three sets of `keras.datasets`, downloaded by Keras into its own folder (KERAS_HOME, else ~/.keras) or found there."""

import functools
import os
import pathlib
import zlib

import numpy as np

from utils.data.description import Description
from utils.data.errors import DataUnavailable
from utils.data.sources import InMemory, stratified

HELD_BACK = 500  # training images of each class that become the validation split
FILES = {
    "mnist": "mnist.npz",
    "fashion_mnist": "fashion-mnist/{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz (four files)",
    "cifar10": "cifar-10-batches-py-target_archive (cifar-10-python.tar.gz under that name)",
}
INSTEAD = {"mnist": "digits", "fashion_mnist": "digits", "cifar10": "shapes_crops"}


def mnist():
    """Handwritten digits: 28 x 28 grey, 0 is paper and 255 is ink."""
    return source(
        "mnist",
        title="Handwritten digits of MNIST",
        classes=tuple("0123456789"),
        image_shape=(28, 28, 1),
        licence="CC BY-SA 3.0",
        citation="Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits, 1998",
    )


def fashion_mnist():
    """Clothes: 28 x 28 grey, 0 is the ground."""
    return source(
        "fashion_mnist",
        title="Clothes of Fashion-MNIST",
        classes=(
            "t-shirt/top",
            "trouser",
            "pullover",
            "dress",
            "coat",
            "sandal",
            "shirt",
            "sneaker",
            "bag",
            "ankle boot",
        ),
        image_shape=(28, 28, 1),
        licence="MIT",
        citation="H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms, 2017",
    )


def cifar10():
    """Small photographs: 32 x 32 RGB."""
    return source(
        "cifar10",
        title="Small photographs of CIFAR-10",
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        image_shape=(32, 32, 3),
        licence="not stated",
        citation="A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
    )


def source(name, **facts):
    """The source of one of the three sets."""
    total = 50_000 if name == "cifar10" else 60_000
    held_back = HELD_BACK * len(facts["classes"])
    description = Description(
        name=name,
        splits={"train": total - held_back, "validation": held_back, "test": 10_000},
        source=f"keras.datasets.{name}, from KERAS_HOME or downloaded",
        note=f"Validation is {HELD_BACK} images of each class, drawn here from the training images; test is the authors'.",
        **facts,
    )
    return InMemory(description, functools.partial(splits, name))


def splits(name):
    """{split: (images, labels)}, train and validation cut from the authors' training images.

    Raises:
        DataUnavailable: no network and no copy, or a damaged one.
    """
    (images, labels), (test_images, test_labels) = read(name)
    labels = labels.reshape(-1).astype(np.int32)
    parts = stratified(labels, {"validation": HELD_BACK, "train": None}, seed=0)
    result = {split: (images[parts[split]], labels[parts[split]]) for split in ("train", "validation")}
    result["test"] = test_images, test_labels.reshape(-1).astype(np.int32)
    return {split: (images.reshape(*images.shape[:3], -1), labels) for split, (images, labels) in result.items()}


def read(name):
    """What `keras.datasets` gives; `DataUnavailable` where it can give nothing."""
    import keras

    home = pathlib.Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "datasets"
    try:
        return getattr(keras.datasets, name).load_data()
    except (OSError, EOFError, ValueError, KeyError, zlib.error) as error:
        # a file that is cut short or of another kind; an OSError may also be a full disk
        raise DataUnavailable(
            f"{name} cannot be read from {home} ({reason_of(error)}): delete {FILES[name]} there and run again to download it, or use the "
            f"data set {INSTEAD[name]!r} instead, which needs no file"
        ) from error
    except Exception as error:
        if "URL fetch failure" not in str(error):  # what Keras raises, as a plain Exception
            raise
        raise DataUnavailable(
            f"{name} could not be downloaded ({reason_of(error)}): try again, or put {FILES[name]} into {home}, or use the data set "
            f"{INSTEAD[name]!r} instead, which needs no file"
        ) from error


def reason_of(error):
    """An error in one line."""
    return " ".join(str(error).split()) or type(error).__name__
