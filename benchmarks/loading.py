"""Images a CPU second through `utils.data.load` and the augmentation layers, beside a plain `tf.data` pipeline and
Keras's RandAugment.

    python benchmarks/loading.py [--images 600] [--rounds 3]

Loading: pictures of 128 x 170 in PNG files' bytes are decoded, resized to 96 x 96 (stretched for classification;
letterboxed with boxes and masks) and batched. The peer is what one would write by hand: `tf.image.resize` with
antialiasing, without padding of objects, without masks.
Augmentation: batches of 32 images of 96 x 96, in a compiled function.
"""

import argparse
import io
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from utils.data import augmentation, catalogue, loading, sources
from utils.data.description import Description

SHAPE = (128, 170, 3)
SIZE = 96
BATCH = 32
OBJECTS = 4


def pictures(count):
    """PNG bytes of smooth pictures, and boxes (count, 4, 4), labels and masks of rectangles in them."""
    random = np.random.default_rng(0)
    encoded, boxes = [], np.zeros((count, OBJECTS, 4), np.float32)
    masks = np.zeros((count, OBJECTS, *SHAPE[:2]), np.uint8)
    for number in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (8, 10, 3), np.uint8))
        file = io.BytesIO()
        coarse.resize(SHAPE[1::-1], Image.Resampling.BICUBIC).save(file, "PNG", compress_level=1)
        encoded.append(file.getvalue())
        for slot in range(OBJECTS):
            x, y = random.integers(0, SHAPE[1] - 40), random.integers(0, SHAPE[0] - 40)
            boxes[number, slot] = x, y, x + 40, y + 40
            masks[number, slot, y : y + 40, x : x + 40] = 1
    labels = random.integers(0, 10, (count, OBJECTS)).astype(np.int32)
    return encoded, boxes, labels, masks


class Pictures:
    """A source of the pictures."""

    def __init__(self, content, targets):
        self.encoded, self.boxes, self.all_labels, self.masks = content
        self.targets = targets
        self.description = Description(
            name="pictures",
            title="",
            classes=tuple("0123456789"),
            splits={"train": len(self.encoded)},
            image_shape=SHAPE,
            licence="",
            citation="",
            source="",
            targets=targets,
            max_objects=OBJECTS,
        )

    def records(self, split, start, stop):
        truth = {
            "label": self.all_labels[:, 0],
            "boxes": self.boxes,
            "labels": self.all_labels,
            "masks": self.masks,
        }
        part = {key: truth[key][start:stop] for key in self.targets}
        return tf.data.Dataset.from_tensor_slices({"png": self.encoded[start:stop], **part})

    def decode(self, record):
        image = tf.ensure_shape(tf.io.decode_png(record["png"], 3), SHAPE)
        return {"image": image} | {
            key: tf.ensure_shape(record[key], sources.specification(key, self.description, OBJECTS)[1])
            for key in self.targets
        }


def by_hand(content):
    """The plain pipeline for classification."""
    encoded, _, labels, _ = content

    def finish(png, label):
        image = tf.image.resize(tf.io.decode_png(png, 3), (SIZE, SIZE), antialias=True)
        return tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8), label

    dataset = tf.data.Dataset.from_tensor_slices((encoded, labels[:, 0]))
    return dataset.map(finish, tf.data.AUTOTUNE, deterministic=True).batch(BATCH).prefetch(tf.data.AUTOTUNE)


def through(dataset):
    """Goes through a dataset once; returns the number of images."""
    return sum(int(tf.shape(batch["image"] if isinstance(batch, dict) else batch[0])[0]) for batch in dataset)


def in_turns(runs, rounds):
    """Images a CPU second of each of the functions (which return how many images they did), the best of the rounds
    after the first.

    CPU seconds of all threads, which other work on the machine hardly changes, unlike seconds on the clock.
    """
    best = dict.fromkeys(runs, 0.0)
    for number in range(rounds + 1):
        for name, run in runs.items():
            start = time.process_time()
            count = run()
            if number:
                best[name] = max(best[name], count / (time.process_time() - start))
    return best


def table(title, found, peer):
    print(f"\n{title}")
    for name, speed in found.items():
        ratio = "the peer" if name == peer else f"{speed / found[peer]:.2f} of the peer"
        print(f"  {name:<44}{speed:>10,.0f} images/CPU s   {ratio}")


def load_speed(content, rounds):
    made = {
        "load: labels, stretched": ("label",),
        "load: boxes, letterboxed": ("boxes", "labels"),
        "load: boxes and masks, letterboxed": ("boxes", "labels", "masks"),
    }
    find = catalogue.find
    runs = {"tf.data by hand: labels, stretched": by_hand(content)}
    try:
        for name, targets in made.items():
            source = Pictures(content, targets)
            catalogue.find = lambda name, on_error="raise", source=source: source
            target = "label" if targets == ("label",) else None
            runs[name] = loading.load("pictures", "train", image_size=SIZE, batch_size=BATCH, target=target)
    finally:
        catalogue.find = find
    (ours, _), (theirs, _) = (
        next(iter(runs["load: labels, stretched"])),
        next(iter(runs["tf.data by hand: labels, stretched"])),
    )
    apart = np.abs(ours.numpy().astype(int) - theirs.numpy())
    print(f"the two pipelines for labels differ by {apart.mean():.3f} of 255 in the mean, {apart.max()} at most")
    found = in_turns({name: lambda dataset=dataset: through(dataset) for name, dataset in runs.items()}, rounds)
    table("Loading", found, "tf.data by hand: labels, stretched")


def augmentation_speed(rounds):
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (BATCH, SIZE, SIZE, 3), np.uint8)
    masks = np.zeros((BATCH, OBJECTS, SIZE, SIZE), np.uint8)
    masks[:, :, 20:60, 30:70] = 1
    boxes = np.tile(np.array([30, 20, 70, 60], np.float32), (BATCH, OBJECTS, 1))
    scene = {"image": image, "boxes": boxes, "labels": np.zeros((BATCH, OBJECTS), np.int32), "masks": masks}
    layers = {"Keras RandAugment (images alone)": (keras.layers.RandAugment(seed=0), image)}
    for preset in ("light", "strong", "detection", "weather"):
        layers[f"augment({preset!r}), images alone"] = augmentation.augment(preset, seed=0), image
    layers["augment('detection'), boxes and masks"] = augmentation.augment("detection", seed=0), scene
    layers["keras.layers.RandomRotation"] = keras.layers.RandomRotation(0.05, seed=0), image
    layers["Affine(rotation=18)"] = augmentation.Affine(rotation=18, seed=0), image

    def run(layer, batch):
        batch = tf.nest.map_structure(tf.convert_to_tensor, batch)
        compiled = tf.function(lambda batch: layer(batch, training=True), autograph=False)

        def several():
            for _ in range(5):
                compiled(batch)
            return 5 * BATCH

        return several

    found = in_turns({name: run(layer, batch) for name, (layer, batch) in layers.items()}, rounds)
    table("Augmentation", found, "Keras RandAugment (images alone)")


def main():
    parser = argparse.ArgumentParser(description="Loading and augmentation beside their peers.")
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(2)
    tf.config.threading.set_inter_op_parallelism_threads(2)
    load_speed(pictures(arguments.images), arguments.rounds)
    augmentation_speed(arguments.rounds)


if __name__ == "__main__":
    main()
