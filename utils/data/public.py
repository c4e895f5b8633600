"""Public sets that TensorFlow Datasets can download and prepare, their examples put into the form of all the others."""

import functools
import os
import socket
import urllib.parse
import urllib.request
from dataclasses import dataclass

import numpy as np

from utils.data.archives import cache_folder
from utils.data.description import Description
from utils.data.errors import DataUnavailable
from utils.data.prepared import Prepared

TIMEOUT = 10  # seconds for a first answer


@dataclass(frozen=True)
class Public:
    """What is known of a public set before it is there.

    Attributes:
        dataset, config: what TensorFlow Datasets calls it.
        counts: images by its own splits.
        parts: our splits: (its split, first image, last image + 1).
        instead: the embedded set that serves when it cannot be had.
    """

    dataset: str
    config: str | None
    counts: dict[str, int]
    parts: dict[str, tuple[str, int, int]]
    instead: str

    @property
    def name(self):
        """Name and configuration, as `load` takes them."""
        return f"{self.dataset}/{self.config}" if self.config else self.dataset

    def splits(self):
        """Number of images by our splits."""
        return {split: stop - start for split, (_, start, stop) in self.parts.items()}


class Labelled(Prepared):
    """A public set with one label an image, too large to be kept in memory.

    Args:
        public: a `Public`.
        description: a `Description`.
    """

    def __init__(self, public, description):
        super().__init__(description, None)
        self.public = public

    @functools.cached_property
    def builder(self):
        builder = builder_of(self.public)
        found = {split: info.num_examples for split, info in builder.info.splits.items()}
        if found and any(found.get(split) != count for split, count in self.public.counts.items()):
            raise DataUnavailable(
                f"{builder.data_dir} holds {found}, not {self.public.counts}: delete it and run again"
            )
        return builder

    def records(self, split, start, stop, decoders=None):
        import tensorflow_datasets as tfds

        theirs, first, _ = self.public.parts[split]
        decoders = decoders or {name: tfds.decode.SkipDecoding() for name in self.pictures}
        read = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)  # one reader: a fixed order
        return self.builder.as_dataset(
            split=f"{theirs}[{first + start}:{first + stop}]", decoders=decoders, read_config=read
        )

    def labels(self, split):
        import tensorflow_datasets as tfds

        alone = tfds.decode.PartialDecoding({"label": True})
        records = self.records(split, 0, self.description.splits[split], alone)
        return np.array([record["label"] for record in records.as_numpy_iterator()], np.int32)

    def images(self, split, indices):
        import tensorflow as tf

        indices = np.asarray(indices)
        wanted, first = set(indices.tolist()), int(indices.min())
        records = self.records(split, first, int(indices.max()) + 1).as_numpy_iterator()
        encoded = {index: record["image"] for index, record in enumerate(records, first) if index in wanted}
        with tf.device("CPU"):
            for index in indices.tolist():
                yield self.picture({"image": encoded[index]}).numpy()


class Boxed(Labelled):
    """A set with boxes; those flagged as difficult or as a crowd are `ignored`, those without area are left out.

    Args:
        public, description: as for `Labelled`.
        flag: name of the feature that flags them.
        first: number of the first pixel, from which the set counts; 1 in VOC, whose boxes begin with their first
            pixel's number.
    """

    def __init__(self, public, description, flag, first):
        super().__init__(public, description)
        self.flag, self.first = flag, first

    def decode(self, record):
        import tensorflow as tf

        image, objects = self.picture(record), record["objects"]
        height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
        top, left, bottom, right = tf.unstack(objects["bbox"] * tf.stack([height, width, height, width]), axis=-1)
        boxes = tf.stack([left - self.first, top - self.first, right, bottom], axis=-1)
        boxes = tf.clip_by_value(boxes, 0, tf.stack([width, height, width, height]))
        # Here and not in `utils.boxes`: what runs in tf.data is TensorFlow's under every backend.
        keep = tf.reduce_min(boxes[:, 2:] - boxes[:, :2], axis=-1) > 0
        return {
            "image": image,
            "boxes": tf.ensure_shape(tf.boolean_mask(boxes, keep), (None, 4)),
            "labels": tf.cast(tf.boolean_mask(objects["label"], keep), tf.int32),
            "ignored": tf.boolean_mask(objects[self.flag], keep),
        }


def builder_of(public):
    """The builder of a public set: prepared in COURSE_DATA, in TensorFlow Datasets' own folder or in our cache before,
    else prepared now.

    Raises:
        DataUnavailable: it is not there and cannot be downloaded.
    """
    import pathlib

    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    from utils.data import builders

    builder_class = tfds.builder_cls(public.dataset)
    given = os.environ.get("COURSE_DATA")
    for folder in filter(None, (given, tfds.core.constants.DATA_DIR, cache_folder() / "tfds")):
        folder = pathlib.Path(folder).expanduser()
        place = builders.place_of(builder_class, folder, public.config)
        if builders.is_prepared(place):
            return opened(builder_class, folder, public.config, place)
    builder = builder_class(data_dir=folder, config=public.config)  # nothing is there, so it reads nothing
    try:
        reach(list(builder.url_infos or ()))
        return builders.prepared(builder_class, public.config, silent=False)
    except (OSError, DataUnavailable, tfds.download.DownloadError, NonMatchingChecksumError) as error:
        reason = " ".join(str(error).split())
        place = f"{public.name}/{builder.version}"
        raise DataUnavailable(
            f"{public.name} could not be downloaded and prepared ({reason}): try again, or prepare it on another "
            "machine with "
            f"tensorflow_datasets.load({public.name!r}), put the folder {place} that this makes into a folder and set "
            "COURSE_DATA to that "
            f"folder, or use the data set {public.instead!r} instead, which needs no file"
        ) from error


def opened(builder_class, folder, config, place):
    """The builder of a set that was prepared before.

    Raises:
        DataUnavailable: its description is damaged, or files are missing.
    """
    try:
        builder = builder_class(data_dir=folder, config=config)
        missing = [path for split in builder.info.splits.values() for path in split.filepaths if not path.exists()]
    except Exception as error:  # damaged files make protobuf, json and tfds raise errors of many kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataUnavailable(f"{place} is damaged ({reason}): delete it and run again") from error
    if missing:
        raise DataUnavailable(f"{place} is damaged ({missing[0].name} is not there): delete it and run again")
    return builder


def reach(urls):
    """Raises OSError if none of the hosts of these addresses is known here. TensorFlow Datasets would try for minutes
    before it says so.
    """
    if urllib.request.getproxies():
        return  # then it is the proxy that knows hosts
    hosts = {urllib.parse.urlsplit(url).hostname for url in urls}
    error = None
    for host in sorted(filter(None, hosts)):
        try:
            socket.getaddrinfo(host, 443)
            return
        except OSError as failure:
            error = OSError(f"{host}: {failure.strerror or failure}")
    if error is not None:
        raise error


def described(public, size, note="", **facts):
    """The `Description` of a public set; `size` is what is downloaded."""
    return Description(
        name=public.name,
        splits=public.splits(),
        image_shape=(None, None, 3),
        source=f"tensorflow_datasets.load({public.name!r}): downloads {size}",
        note=note,
        **facts,
    )


def names(text, separator=None):
    """The names in a text, as a tuple."""
    return tuple(text.split(separator))
