"""Sets that TensorFlow Datasets prepares once and that are read from its files; nothing here imports it before it is
needed.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from utils.data import archives
from utils.data.description import Description
from utils.data.errors import DataUnavailable


@dataclass(frozen=True, eq=False)
class Recipe:
    """What a builder of TensorFlow Datasets has to know of a set (`utils.data.builders.builder_class`).

    Attributes:
        name: of the set.
        version: of what the files hold: raise it whenever that changes, since prepared files are kept.
        about: a description.
        splits: names of the splits.
        features: function of `tensorflow_datasets` that returns the dict of features; with configurations, of the
            configuration's name too.
        examples: function of a split that yields (key, dict of features); with configurations, of the configuration's
            name too.
        citation: whom to name.
        in_order: whether the examples stand in the order in which they are made, and not in one that their keys decide.
        configs: titles of the configurations, by name; {} without.
    """

    name: str
    version: str
    about: str
    splits: tuple[str, ...]
    features: Callable
    examples: Callable
    citation: str = ""
    in_order: bool = False
    configs: dict[str, str] = field(default_factory=dict)


class Prepared:
    """A source read from a builder's prepared files.

    Args:
        description: a `Description`.
        recipe: a `Recipe`.
        config: name of its configuration, or None.
    """

    pictures = ("image",)  # the features that stay encoded until `decode`

    def __init__(self, description, recipe, config=None):
        self.description, self.targets = description, description.targets
        self._recipe, self._config = recipe, config

    @functools.cached_property
    def builder(self):
        """The builder, prepared on first use and looked over."""
        from utils.data import builders

        builder = builders.prepared(builders.builder_class(self._recipe), self._config)
        found = {split: info.num_examples for split, info in builder.info.splits.items()}
        if found != self.description.splits:
            raise DataUnavailable(
                f"{builder.data_dir} holds {found}, not {self.description.splits}: delete it and run again"
            )
        return builder

    @functools.cache  # noqa: B019 - a source lives as long as the process
    def _encoded(self, split):
        """The examples of a split, their images still encoded."""
        return list(self.records(split, 0, self.description.splits[split]).as_numpy_iterator())

    def labels(self, split):
        return np.array([example["label"] for example in self._encoded(split)], np.int32)

    def images(self, split, indices):
        import tensorflow as tf

        decode = self.builder.info.features["image"].decode_example
        with tf.device("CPU"):
            for index in indices:
                yield decode(self._encoded(split)[index]["image"]).numpy()

    def records(self, split, start, stop):
        import tensorflow_datasets as tfds

        encoded = {name: tfds.decode.SkipDecoding() for name in self.pictures}
        read = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)  # one reader: a fixed order
        return self.builder.as_dataset(split=f"{split}[{start}:{stop}]", decoders=encoded, read_config=read)

    def decode(self, record):
        import tensorflow as tf

        example = {"image": self.picture(record)}
        for key in self.targets:
            example[key] = tf.cast(record[key], tf.int32) if key in ("label", "labels") else record[key]
        return example

    def picture(self, record, name="image"):
        """The decoded image of that name, (H, W, C), in a record."""
        return self.builder.info.features[name].decode_example(record[name])


def from_archive(name, what, **facts):
    """The `Description` of a set made from an archive.

    Args:
        name: of the set.
        what: what the archive holds, in words.
        facts: what the archive's entry does not say.
    """
    archive = archives.ARCHIVES[name]
    return Description(
        name=name,
        licence=archive.licence,
        citation=archive.citation,
        source=f"{archive.file}, {archive.bytes / 1e6:.1f} MB, from COURSE_DATA or {archive.url}; {what}",
        **facts,
    )
