"""The sets that a builder of TensorFlow Datasets prepares once; nothing here imports TensorFlow before it is needed."""

import functools

from utils.data import glyphs as drawing
from utils.data.description import Description


class Prepared:
    """A source read from a builder's prepared files.

    Args:
        description: a `Description`.
        builder: name of the class in `utils.data.builders`.
        config: name of its configuration, or None.
    """

    def __init__(self, description, builder, config=None):
        self.description = description
        self._builder_class, self._config = builder, config

    @functools.cached_property
    def builder(self):
        """The builder, prepared on first use."""
        from utils.data import builders

        return builders.prepared(getattr(builders, self._builder_class), self._config)

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


def glyphs(alphabet="latin"):
    """Printed characters in the fonts of matplotlib: 32 x 32 grey."""
    if alphabet not in drawing.ALPHABETS:
        raise ValueError(f"unknown variant {alphabet!r} of glyphs: known: {', '.join(drawing.ALPHABETS)}")
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
        note="",
        variants=tuple(f"glyphs/{other}" for other in drawing.ALPHABETS),
    )
    return Glyphs(description, "Glyphs", alphabet)
