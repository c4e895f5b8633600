"""The shape that every data set takes for `load` and `arrays`, and what is common to those that fit into memory or are
made one by one.

A source has

- `description`: a `Description`;
- `targets`: the keys of an example besides `image`, a part of `SPECIFICATION`;
- `records(split, start, stop)`: a `tf.data.Dataset` of dicts that are cheap to shuffle (not yet decoded);
- `decode(record)`: the finished dict of tensors, `image` first among them, made inside `tf.data`;
- if "label" is among its targets, `labels(split)`: (N,) int32, in the order of the split, and `images(split, indices)`:
  an iterable of (H, W, C) uint8, read as it is gone through;
- if it can give them without TensorFlow, `examples(split, indices)`: an iterable of the dicts that `decode` gives, in
  NumPy (caption: str). Without it, `arrays` goes by `records` and `decode`.

An example is not padded: `N` is its own number of objects. All that is left to `utils.data.loading`: resizing
everything together, padding to `description.max_objects`, static shapes. `boxes` are `xyxy` corners in pixels of the
image as it is; what has no area or lies outside is the source's to refuse, not `load`'s to repair. `ignored` is among
the targets of a data set only if it has such objects, or may have them (VOC, COCO); without the key, every object
counts. The pixels of an ignored object are 255 in `mask`.

| key | shape | type | |
|---|---|---|---|
| `image` | (H, W, C) | uint8 | C is 1 or 3, as `description.image_shape` says |
| `label` | () | int32 | 0 to C - 1 |
| `mask` | (H, W) | uint8 | 0 background, class c is c + 1, 255 is ignored |
| `boxes` | (N, 4) | float32 | pixel i covers [i, i + 1) |
| `labels` | (N,) | int32 | of the boxes |
| `ignored` | (N,) | bool | True for a crowd or a difficult object: finding it is neither right nor wrong |
| `masks` | (N, H, W) | uint8 | 0 or 1; one for each box |
| `keypoints` | (N, K, 3) | float32 | x, y, visibility (0 absent, 1 hidden, 2 visible), K = len(description.keypoints) |
| `caption` | () | string | |
"""

import functools
import io

import numpy as np

# key: (type, shape by letter; H, W, C of the image, N objects, K keypoints)
SPECIFICATION = {
    "image": ("uint8", "HWC"),
    "label": ("int32", ""),
    "mask": ("uint8", "HW"),
    "boxes": ("float32", "N4"),
    "labels": ("int32", "N"),
    "ignored": ("bool", "N"),
    "masks": ("uint8", "NHW"),
    "keypoints": ("float32", "NK3"),
    "caption": ("string", ""),
}


def specification(key, description, objects=None):
    """(type, shape) of one key of an example.

    Args:
        key: a key of `SPECIFICATION`.
        description: of the data set: gives heights, widths, channels and keypoints.
        objects: number of objects, None where it differs.

    Returns:
        name of the type, tuple of int and None.
    """
    dtype, letters = SPECIFICATION[key]
    height, width, channels = description.image_shape
    sides = {"H": height, "W": width, "C": channels, "N": objects, "K": len(description.keypoints)}
    return dtype, tuple(sides[letter] if letter in sides else int(letter) for letter in letters)


class OneByOne:
    """A source whose examples are made or read one at a time by a function in NumPy.

    Args:
        description: a `Description`.
        targets: keys besides `image`.
        example: function of (split, index) that returns the dict of one example, as described above (caption: str);
            safe to call from several threads.
        labels: function from a split to its labels (N,) int32; only where "label" is among the targets.
    """

    def __init__(self, description, targets, example, labels=None):
        self.description, self.targets = description, tuple(targets)
        self._example, self._labels = example, labels

    def labels(self, split):
        return self._labels(split)

    def images(self, split, indices):
        return (self._example(split, int(index))["image"] for index in indices)

    def examples(self, split, indices):
        return (self._example(split, int(index)) for index in indices)

    def records(self, split, start, stop):
        import tensorflow as tf

        return tf.data.Dataset.range(start, stop).map(lambda index: {"split": split, "index": index})

    def decode(self, record):
        import tensorflow as tf

        keys = ("image", *self.targets)
        found = [specification(key, self.description) for key in keys]

        def make(split, index):
            example = self._example(split.decode(), int(index))
            return [
                np.asarray(
                    example[key].encode() if dtype == "string" else example[key], None if dtype == "string" else dtype
                )
                for key, (dtype, _) in zip(keys, found)
            ]

        values = tf.numpy_function(
            make, [record["split"], record["index"]], [dtype for dtype, _ in found], stateful=False
        )
        return {key: tf.ensure_shape(value, shape) for key, value, (_, shape) in zip(keys, values, found)}


class InMemory:
    """A source whose splits are arrays.

    Args:
        description: a `Description`.
        splits: a function of no arguments that returns a dict from split to (images (N, H, W, C) uint8, labels (N,)
            int32).
    """

    targets = ("label",)

    def __init__(self, description, splits):
        self.description = description
        self._splits = functools.cache(splits)

    def labels(self, split):
        return self._splits()[split][1]

    def images(self, split, indices):
        return self._splits()[split][0][indices]

    def records(self, split, start, stop):
        import tensorflow as tf

        images, labels = self._splits()[split]
        return tf.data.Dataset.from_tensor_slices({"image": images[start:stop], "label": labels[start:stop]})

    def decode(self, record):
        return record


def by_class(labels, order):
    """For each class, its positions in `labels`, those first that come first in `order`.

    Args:
        labels: (N,) int.
        order: (N,) int, a permutation of the positions.

    Returns:
        list of int arrays.
    """
    return [order[labels[order] == label] for label in range(labels.max() + 1)]


def stratified(labels, counts, seed):
    """Splits positions so that every class gives each split its share.

    Args:
        labels: (N,) int.
        counts: dict from split to the number of positions that each class gives it; the split with None takes what is
            left.
        seed: int.

    Returns:
        dict from split to positions (n,) int, in random order, so that any part of it is a fair sample.
    """
    random = np.random.RandomState(seed)  # NumPy promises that this generator's permutations never change
    parts = {split: [] for split in counts}
    for positions in by_class(labels, random.permutation(len(labels))):
        for split, count in counts.items():
            count = len(positions) if count is None else count
            parts[split].append(positions[:count])
            positions = positions[count:]
    return {split: random.permutation(np.concatenate(part)) for split, part in parts.items()}


def encoded(image):
    """An (H, W) or (H, W, 3) uint8 image as the bytes of a PNG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=1)
    return file.getvalue()
