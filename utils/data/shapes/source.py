"""Scenes by name: `arrays` draws the ones that it needs, `load` reads the prepared ones, which are the same."""

import numpy as np

from utils.data.catalogue import register
from utils.data.description import Description
from utils.data.prepared import Prepared, Recipe
from utils.data.shapes import configs, scenes
from utils.data.shapes.scenes import scene
from utils.data.sources import encoded

TRUTH = ("mask", "boxes", "labels", "masks", "keypoints", "caption")
NOTES = {
    "default": "At least half of every object is visible.",
    "crowded": "Objects stand out of the image, and down to 35 % of one is visible.",
    "small": "Radii of 4 to 9 pixels: the smallest objects have some 20 pixels.",
    "shifted": "The same shapes in another style: woven ground, softer edges, no outlines, paler colours, other fills. "
    "A model trained on `shapes` "
    "meets here what it has never seen.",
    "pairs": "At most two objects, so that the caption tells the whole scene.",
    "biased": "In train and validation every class has a ground colour of its own; in test the ground's colour says "
    "nothing. A model that "
    "looks at the ground does well on validation and fails on test.",
}


def features(tfds, config):
    """The features of an example, as TensorFlow Datasets keeps it; `instances` is 0 for ground and n for the n-th
    object.
    """
    size = configs.CONFIGS[config].size
    return {
        "image": tfds.features.Image(shape=(size, size, 3), encoding_format="png"),
        "instances": tfds.features.Image(shape=(size, size, 1), encoding_format="png"),
        "boxes": tfds.features.Tensor(shape=(None, 4), dtype=np.float32),
        "labels": tfds.features.Sequence(tfds.features.ClassLabel(names=configs.CLASSES)),
        "keypoints": tfds.features.Tensor(shape=(None, len(configs.KEYPOINTS), 3), dtype=np.float32),
        "caption": tfds.features.Text(),
    }


def examples(split, config):
    """(key, features) of each example of a split, in the order of their indices."""
    for index in range(configs.CONFIGS[config].splits[split]):
        drawn = scene(index, split, config=configs.CONFIGS[config])
        numbers = np.arange(1, len(drawn.labels) + 1, dtype=np.uint8)[:, None, None]
        yield (
            index,
            {
                "image": encoded(drawn.image),
                "instances": encoded((drawn.masks * numbers).max(axis=0)),
                "boxes": drawn.boxes,
                "labels": drawn.labels.tolist(),
                "keypoints": drawn.keypoints,
                "caption": drawn.caption,
            },
        )


RECIPE = Recipe(
    "shapes",
    configs.VERSION,
    scenes.__doc__,
    configs.SPLITS,
    features,
    examples,
    in_order=True,
    configs={config.name: config.title for config in configs.CONFIGS.values()},
)


class Shapes(Prepared):
    """A source of scenes. A record holds a map of the numbers of its objects, from which all masks are made."""

    pictures = ("image", "instances")

    def labels(self, split):
        """Of the configurations whose classes take turns."""
        return np.arange(self.description.splits[split], dtype=np.int32) % len(configs.CLASSES)

    def images(self, split, indices):
        return (scene(int(index), split, config=self._config).image for index in indices)

    def examples(self, split, indices):
        for index in indices:
            drawn = scene(int(index), split, config=self._config)
            yield {key: drawn.labels[0] if key == "label" else getattr(drawn, key) for key in ("image", *self.targets)}

    def decode(self, record):
        import tensorflow as tf

        instances = tf.cast(self.picture(record, "instances")[..., 0], tf.int32)
        labels = tf.cast(record["labels"], tf.int32)
        example = {
            "image": self.picture(record),
            "label": labels[0],
            "mask": tf.gather(tf.cast(tf.concat([[0], labels + 1], 0), tf.uint8), instances),
            "boxes": record["boxes"],
            "labels": labels,
            "masks": tf.cast(instances == tf.range(1, tf.size(labels) + 1)[:, None, None], tf.uint8),
            "keypoints": record["keypoints"],
            "caption": record["caption"],
        }
        return {key: example[key] for key in ("image", *self.targets)}


@register("shapes")
def shapes(variant="default"):
    """Scenes of shapes with all their truth: 96 x 96, RGB."""
    targets = ("label", *TRUTH) if configs.CONFIGS[variant].balanced else TRUTH
    names = ("shapes", *(f"shapes/{name}" for name in NOTES if name != "default"))
    return _source("shapes", variant, variant, targets, names)


@register("shapes_crops")
def shapes_crops(variant="default"):
    """Single shapes for classification, with a mask of each: 48 x 48, RGB."""
    config = "crops" if variant == "default" else f"crops_{variant}"
    names = ("shapes_crops", "shapes_crops/shifted", "shapes_crops/biased")
    return _source("shapes_crops", variant, config, ("label", "mask"), names)


def _source(name, variant, config, targets, variants):
    chosen = configs.CONFIGS[config]
    boxes = "boxes" in targets
    description = Description(
        name=name if variant == "default" else f"{name}/{variant}",
        title=chosen.title,
        classes=configs.CLASSES,
        splits=chosen.splits,
        image_shape=(chosen.size, chosen.size, 3),
        licence="drawn here",
        citation="drawn here",
        source="utils.data.shapes",
        note="" if name == "shapes_crops" and variant == "default" else NOTES[variant],
        variants=variants,
        targets=targets,
        mask_classes=("background", *configs.CLASSES),
        max_objects=chosen.objects[1] if boxes else 0,
        keypoints=configs.KEYPOINTS if boxes else (),
    )
    return Shapes(description, RECIPE, config)
