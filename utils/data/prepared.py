"""The sets that a builder of TensorFlow Datasets prepares once; nothing here imports TensorFlow before it is needed."""

import functools

import numpy as np

from utils.data import archives
from utils.data import clothing as clothes
from utils.data import glyphs as drawing
from utils.data.description import Description
from utils.data.errors import DataUnavailable


class Prepared:
    """A source read from a builder's prepared files.

    Args:
        description: a `Description`.
        builder: name of the class in `utils.data.builders`.
        config: name of its configuration, or None.
    """

    targets = ("label",)

    def __init__(self, description, builder, config=None):
        self.description = description
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

        encoded = {"image": tfds.decode.SkipDecoding()}
        read = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)  # one reader: a fixed order
        return self.builder.as_dataset(split=f"{split}[{start}:{stop}]", decoders=encoded, read_config=read)

    def decode(self, record):
        import tensorflow as tf

        image = self.builder.info.features["image"].decode_example(record["image"])
        return {"image": image, "label": tf.cast(record["label"], tf.int32)}


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
    archive = archives.ARCHIVES["clothing"]
    description = Description(
        name="clothing",
        title="Photographs of clothes",
        classes=clothes.CLASSES,
        splits=clothes.SPLITS,
        image_shape=(None, None, 3),
        licence=archive.licence,
        citation=archive.citation,
        source=f"{archive.file}, {archive.bytes / 1e6:.1f} MB, from COURSE_DATA or {archive.url}; a part of github.com/alexeygrigorev/"
        "clothing-dataset-small at short side 128",
        note="The labels are the contributors' and not always right: some shirts, longsleeves and t-shirts could be either.",
    )
    return Prepared(description, "Clothing")
