"""The sets of `keras.datasets`, downloaded by Keras into its own folder (KERAS_HOME, else ~/.keras) or found there."""

import os
import pathlib
import zlib

import numpy as np

from utils.data.description import Description
from utils.data.errors import DataUnavailable
from utils.data.sources import InMemory, stratified

HELD_BACK = 500  # training images of each class that become the validation split


class Downloaded(InMemory):
    """A set of `keras.datasets`.

    Args:
        name: of the function's module there.
        file: what the set is called in Keras's folder, in words.
        instead: the embedded set that serves when it cannot be had.
        description: a `Description`.
    """

    def __init__(self, name, file, instead, description):
        super().__init__(description, self.read_splits)
        self.name, self.file, self.instead = name, file, instead

    def read_splits(self):
        """{split: (images, labels)}, train and validation cut from the authors' training images.

        Raises:
            DataUnavailable: no network and no copy, or a damaged one.
        """
        (images, labels), (test_images, test_labels) = self.read()
        labels = labels.reshape(-1).astype(np.int32)
        parts = stratified(labels, {"validation": HELD_BACK, "train": None}, seed=0)
        found = {split: (images[parts[split]], labels[parts[split]]) for split in ("train", "validation")}
        found["test"] = test_images, test_labels.reshape(-1).astype(np.int32)
        return {split: (images.reshape(*images.shape[:3], -1), labels) for split, (images, labels) in found.items()}

    def read(self):
        """What `keras.datasets` gives; `DataUnavailable` where it can give nothing."""
        import keras

        home = pathlib.Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "datasets"
        instead = f"or use the data set {self.instead!r} instead, which needs no file"
        try:
            return getattr(keras.datasets, self.name).load_data()
        except (OSError, EOFError, ValueError, KeyError, zlib.error) as error:
            # a file that is cut short or of another kind; an OSError may also be a full disk
            raise DataUnavailable(
                f"{self.name} cannot be read from {home} ({reason_of(error)}): delete {self.file} there and run again "
                "to "
                f"download it, {instead}"
            ) from error
        except Exception as error:
            if "URL fetch failure" not in str(error):  # what Keras raises, as a plain Exception
                raise
            raise DataUnavailable(
                f"{self.name} could not be downloaded ({reason_of(error)}): try again, or put {self.file} into {home}, "
                f"{instead}"
            ) from error


def source(name, file, instead, training, **facts):
    """The source of a set of `keras.datasets`: `training` is the number of the authors' training images, the rest as
    for `Downloaded`.
    """
    held_back = HELD_BACK * len(facts["classes"])
    description = Description(
        name=name,
        splits={"train": training - held_back, "validation": held_back, "test": 10_000},
        source=f"keras.datasets.{name}, from KERAS_HOME or downloaded",
        note=f"Validation is {HELD_BACK} images of each class, drawn here from the training images; test is the "
        "authors'.",
        **facts,
    )
    return Downloaded(name, file, instead, description)


def reason_of(error):
    """An error in one line."""
    return " ".join(str(error).split()) or type(error).__name__
