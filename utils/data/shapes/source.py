"""Scenes by name: `arrays` draws the ones that it needs, `load` reads the prepared ones, which are the same."""

import numpy as np

from utils.data.description import Description
from utils.data.prepared import Prepared
from utils.data.shapes import configs
from utils.data.shapes.scenes import scene

TRUTH = ("mask", "boxes", "labels", "masks", "keypoints", "caption")
NOTES = {
    "default": "At least half of every object is visible.",
    "crowded": "Objects stand out of the image, and down to 35 % of one is visible.",
    "small": "Radii of 4 to 9 pixels: the smallest objects have some 20 pixels.",
    "shifted": "The same shapes in another style: woven ground, softer edges, no outlines, paler colours, other fills. A model trained on `shapes` "
    "meets here what it has never seen.",
    "pairs": "At most two objects, so that the caption tells the whole scene.",
    "biased": "In train and validation every class has a ground colour of its own; in test the ground's colour says nothing. A model that "
    "looks at the ground does well on validation and fails on test.",
}


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


def shapes(variant="default"):
    """Scenes of shapes with all their truth: 96 x 96, RGB."""
    targets = ("label", *TRUTH) if configs.CONFIGS[variant].balanced else TRUTH
    names = ("shapes", *(f"shapes/{name}" for name in NOTES if name != "default"))
    return _source("shapes", variant, variant, targets, names)


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
    return Shapes(description, "Shapes", config)
